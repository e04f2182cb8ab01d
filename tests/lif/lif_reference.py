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
