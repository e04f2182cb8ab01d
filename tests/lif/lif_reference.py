"""Independent references for the tests of the LIF theory: mpmath at 50 digits, straight from the definitions."""

from __future__ import annotations

import mpmath as mp
import numpy as np

CELL = {"V_th": 15.0, "V_reset": 0.0, "tau_m": 10.0, "t_ref": 2.0}
ALPHA = mp.sqrt(2) * abs(mp.zeta(mp.mpf(1) / 2))


def limits(mean, sd, tau_syn=0.0, cell=CELL):
    """Shifted limits (y_th, y_r) of Siegert's integral."""
    shift = ALPHA / 2 * mp.sqrt(mp.mpf(tau_syn) / mp.mpf(cell["tau_m"]))
    return tuple((mp.mpf(cell[v]) - mp.mpf(mean)) / mp.mpf(sd) + shift for v in ("V_th", "V_reset"))


def integrand(u):
    return mp.exp(u * u) * mp.erfc(-u)


def area(y):
    """int_0^y exp(u^2) (1 + erf u) du by a hypergeometric function, or its asymptotic series for y < -30."""
    y = mp.mpf(y)
    if y < -30:
        total, term, k = mp.log(-2 * y) + mp.euler / 2, mp.mpf(1), 1
        while k < 200:
            term *= -(2 * k - 1) / (2 * y * y)
            total -= term / (2 * k)
            k += 1
            if abs(term) < mp.mpf(10) ** (-mp.mp.dps - 5):
                break
        return -total / mp.sqrt(mp.pi)
    with mp.workdps(mp.mp.dps + 20 + int(y * y / 2.3)):
        return mp.sqrt(mp.pi) / 2 * mp.erfi(y) + y * y / mp.sqrt(mp.pi) * mp.hyp2f2(1, 1, mp.mpf(3) / 2, 2, y * y)


def siegert(mean, sd, tau_syn=0.0, cell=CELL):
    """Rate in Hz from the closed form of the first-passage time."""
    high, low = limits(mean, sd, tau_syn, cell)
    return 1000 / (cell["t_ref"] + cell["tau_m"] * mp.sqrt(mp.pi) * (area(high) - area(low)))


def mellin(s, x):
    """M(s, x) = int_0^inf t^(s-1) exp(x t - t^2/2) dt from its power series in x (two Kummer functions)."""
    s, x = mp.mpc(s), mp.mpf(x)
    with mp.workdps(mp.mp.dps + 20 + int(x * x / 2.3) + int(abs(s))):
        even = mp.gamma(s / 2) * mp.hyp1f1(s / 2, mp.mpf(1) / 2, x * x / 2)
        odd = mp.sqrt(2) * x * mp.gamma((s + 1) / 2) * mp.hyp1f1((s + 1) / 2, mp.mpf(3) / 2, x * x / 2)
        return mp.mpf(2) ** (s / 2 - 1) * (even + odd)


def response(frequency, mean, sd, tau_syn=0.0, cell=CELL, delayed=True):
    """Frequency response without synaptic filter, Hz/mV, from parabolic cylinder functions."""
    high, low = (mp.sqrt(2) * y for y in limits(mean, sd, tau_syn, cell))
    s = 2j * mp.pi * mp.mpc(frequency) * mp.mpf(cell["tau_m"]) / 1000
    late = mp.exp(-s * mp.mpf(cell["t_ref"]) / mp.mpf(cell["tau_m"])) if delayed else 1
    top = mellin(s + 1, high) - mellin(s + 1, low)
    bottom = mellin(s, high) - late * mellin(s, low)
    return siegert(mean, sd, tau_syn, cell) * mp.sqrt(2) / mp.mpf(sd) / (1 + s) * top / bottom


def relative(value, reference):
    """|value/reference - 1| as a float."""
    return float(abs(mp.mpmathify(complex(value)) / reference - 1))


def working_points(count, seed, sd=(1.0, 12.0), mean=(-10.0, 40.0)):
    """Random (mean, sd) pairs in mV."""
    rng = np.random.default_rng(seed)
    return rng.uniform(*mean, count), rng.uniform(*sd, count)


def _half_moments(highest, b):
    """int_0^inf q^(3/2 + m) exp(-q^2/2 + b q) dq for m = 0..highest, by a recurrence stable for the sign of b."""
    half = mp.mpf(1) / 2

    def one(p):
        return mp.gamma(p + 1) * mp.exp(b * b / 4) * mp.pcfu(p + half, -b)

    if b >= 0:
        out = [one(3 * half), one(5 * half)]
        for m in range(2, highest + 1):
            out.append(b * out[-1] + (3 * half + m - 1) * out[-2])
        return out
    out = [mp.mpf(0)] * (highest + 1)
    out[highest], out[highest - 1] = one(3 * half + highest), one(3 * half + highest - 1)
    for m in range(highest - 2, -1, -1):
        out[m] = (out[m + 2] - b * out[m + 1]) / (3 * half + m + 1)
    return out


def exit_moments(drift, size=16):
    """Mean and variance of the current over sqrt(2) at crossings under a constant drift; see lif.boundaries."""
    a, root = mp.mpf(-abs(drift)), mp.sqrt(2)
    hermite = [[mp.mpf(1)], [mp.mpf(0), mp.mpf(1)]]
    for k in range(1, size):
        following = [mp.mpf(0), *hermite[k]]
        for i, value in enumerate(hermite[k - 1]):
            following[i] -= k * value
        hermite.append(following)
    plain = _half_moments(size + 2, -root * a)
    matrix, right = mp.matrix(size + 1, size + 1), mp.matrix(size + 1, 1)
    right[0] = 1
    for m in range(size + 1):
        matrix[0, m] = plain[m] / plain[0]
    for n in range(1, size + 1):
        growth = a + mp.sqrt(a * a + 2 * n)
        shift = root * a - root * growth
        power = [mp.mpf(0)] * (n + 1)
        for k, value in enumerate(hermite[n]):
            for j in range(k + 1):
                power[j] += value * mp.binomial(k, j) * shift ** (k - j)
        moments = _half_moments(size + n, growth / root - root * a)
        row = [sum(power[j] * moments[m + j] for j in range(n + 1)) for m in range(size + 1)]
        for m in range(size + 1):
            matrix[n, m] = row[m] / max(abs(v) for v in row)
    found = mp.lu_solve(matrix, right)
    weights = plain if drift <= 0 else _half_moments(size + 2, mp.mpf(0))
    total, first, second = (sum(found[m] * weights[m + k] for m in range(size + 1)) for k in range(3))
    mean, square = first / total, second / total
    return float(mean / root + mp.mpf(drift)), float((square - mean * mean) / 2)
