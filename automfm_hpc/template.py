r"""Semi-analytic template of a transfer function with exact first and second derivatives.

    F = alpha / (2 tau_V) erfc[(V_eff - mu_V) / (sqrt(2) sigma_V)]

(Zerlaut et al. 2018, doi 10.1007/s10827-017-0668-2), V_eff a polynomial in U = (mu_V + 60 mV)/10 mV,
S = (sigma_V - 4 mV)/6 mV, Theta = tau_V g_L/C_m - 1/2, and, in the linear kind, Lambda = log(mu_G/g_L).

Derivatives.  The static conductance x and M = mu_G depend on nu through one linear form; mu_V = L/M with
L linear.  Variance and power at frequency zero are sums over channels of nu times a function of x times
(E - mu_V)^2: their derivatives are collected by x, mu_V and the explicit nu, then joined by the chain
rule.  Functions of x alone carry (value, first, second derivative) through products and reciprocals.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from automfm_hpc.moments import CONDUCTANCE_FLOOR, DAMPING_FLOOR, RATE_FLOOR, SYNAPSES, Membrane, Moments

FloatArray = NDArray[np.float64]
Jet = tuple[float, float, float]
Sums = tuple[float, float, float, float, float, float]

COEFFICIENTS = {
    "template5": ("offset", "mu_V", "sigma_V", "tau_V", "log_mu_G"),
    "template10": ("offset", "mu_V", "sigma_V", "tau_V", "mu_V^2", "sigma_V^2", "tau_V^2",
                   "mu_V*sigma_V", "mu_V*tau_V", "sigma_V*tau_V"),
}  # fmt: skip
LINEAR = 0  # kind code of template5; any other is quadratic
_HEAD, _COEFFICIENT, _PER_CHANNEL = 5, 7, 5  # where the axes start in ints; the coefficients in floats
_AXES = _COEFFICIENT + 10  # where the slopes per axis start in floats
# Rows of the table of derivatives by nu; after variance and power follow their explicit derivatives by
# (nu, x) and (nu, mu_V).
_MEAN, _VARIANCE, _POWER, _SIGMA, _TAU, _Z = 0, 1, 4, 7, 8, 9
_ROOT2, _TWO_OVER_ROOT_PI = math.sqrt(2.0), 2.0 / math.sqrt(math.pi)


def pack(
    kind: int, m: Membrane, n_axis: int, coefficients: FloatArray, alpha: float
) -> tuple[NDArray[np.int64], FloatArray]:
    """The two flat arrays that `evaluate_template` reads."""
    ints = [kind, n_axis, m.K.size, SYNAPSES.index(m.synapse), int(m.driving_force), *m.axis]
    head = [alpha, m.capacitance, m.leak, m.conductance, m.current, m.k, m.shift]
    slopes = [np.bincount(m.axis, weights=w, minlength=n_axis) for w in (m.conductance_slope, m.current_slope)]
    channels = np.stack([m.K / 1000.0, m.reversal, m.area, m.beta, m.strength], axis=1)
    padded = np.zeros(10)
    padded[: coefficients.size] = coefficients
    return np.array(ints, np.int64), np.concatenate([head, padded, *slopes, channels.ravel()])


def regressors(kind: str, m: Membrane, at: Moments) -> FloatArray:
    """What each coefficient of V_eff multiplies, shape (n_point, n_coefficient)."""
    U, S = (at.mu_V + 60.0) / 10.0, (at.sigma_V - 4.0) / 6.0
    Theta, one = at.tau_V * m.leak / m.capacitance - 0.5, np.ones_like(at.mu_V)
    if kind == "template5":
        return np.stack([one, U, S, Theta, np.log(at.mu_G / m.leak)], axis=-1)
    return np.stack([one, U, S, Theta, U * U, S * S, Theta * Theta, U * S, U * Theta, S * Theta], axis=-1)


@njit(cache=True, nogil=True, error_model="numpy")
def evaluate_template(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """Rate (Hz) at nu (n_axis,) Hz; fills the gradient (n_axis,) and Hessian (n_axis, n_axis) by nu."""
    S = ints[1]
    g, L = floats[_AXES : _AXES + S], floats[_AXES + S : _AXES + 2 * S]
    x, drive = floats[3], floats[4]
    for a in range(S):
        rate = max(nu[a], 0.0) + RATE_FLOOR
        x += g[a] * rate
        drive += L[a] * rate
    M = _floor(x, CONDUCTANCE_FLOOR * floats[2])
    u = drive / M[0]
    table = np.zeros((10, S))
    for a in range(S):
        table[_MEAN, a] = (L[a] - u * M[1] * g[a]) / M[0]
    variance, power = _sums(ints, floats, nu, x, u, M, table)
    return _template(ints[0], floats, M, u, variance, power, table, gradient, hessian)


@njit(cache=True, nogil=True, error_model="numpy")
def _floor(x: float, lowest: float) -> Jet:
    """`moments.smooth_floor` with its derivatives."""
    if x >= lowest:
        return x, 1.0, 0.0
    y = 1.0 - x / lowest
    q = 1.0 + y + y * y
    odd = 1.0 + 2.0 * y
    return lowest / q, odd / (q * q), 2.0 * (odd * odd - q) / (q * q * q * lowest)


@njit(cache=True, nogil=True, error_model="numpy")
def _times(a: Jet, b: Jet) -> Jet:
    return a[0] * b[0], a[1] * b[0] + a[0] * b[1], a[2] * b[0] + 2.0 * a[1] * b[1] + a[0] * b[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _reciprocal(a: Jet) -> Jet:
    r = 1.0 / a[0]
    return r, -a[1] * r * r, (2.0 * a[1] * a[1] * r - a[2]) * r * r


@njit(cache=True, nogil=True, error_model="numpy")
def _plus(a: Jet, scale: float, b: Jet, constant: float) -> Jet:
    """a + scale b + constant."""
    return a[0] + scale * b[0] + constant, a[1] + scale * b[1], a[2] + scale * b[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled(a: Jet, scale: float) -> Jet:
    return a[0] * scale, a[1] * scale, a[2] * scale


@njit(cache=True, nogil=True, error_model="numpy")
def _integral(synapse: int, beta: float, b: Jet, over_b: Jet, c: Jet, ratio: Jet) -> Jet:
    """I_n of `moments` with its derivatives by the static conductance."""
    if synapse == 0:
        return _times(_scaled(over_b, 0.5), _plus(ratio, 0.0, ratio, 1.0))
    damped = _times(ratio, b)
    over_P = _reciprocal(_plus(c, beta, b, beta * beta))
    numerator = _times(_plus(ratio, 1.0 / beta, damped, 1.0), over_P)
    if synapse == 1:
        return _times(_scaled(over_b, 0.5), numerator)
    inner = _plus(_scaled(damped, 1.0 / (beta * beta)), 1.0, _times(numerator, _plus(b, 0.0, b, 2.0 * beta)), 0.0)
    return _times(_scaled(over_b, 0.25 / beta), _times(over_P, inner))


@njit(cache=True, nogil=True, error_model="numpy")
def _sums(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, x: float, u: float, M: Jet, table: FloatArray
) -> tuple[Sums, Sums]:
    """Variance and power; their gradients and explicit mixed derivatives go to the table."""
    C, k, S = floats[1], floats[5], ints[1]
    b = _floor((x - floats[6]) / C + k, DAMPING_FLOOR)
    b = (b[0], b[1] / C, b[2] / (C * C))
    over_b, over_M = _reciprocal(b), _reciprocal(M)
    c, ratio, square = _scaled(M, k / C), _scaled(over_M, k * C), _times(over_M, over_M)
    variance = power = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for channel in range(ints[2]):
        f, a = _AXES + 2 * S + _PER_CHANNEL * channel, ints[_HEAD + channel]
        force, bend = (floats[f + 1] - u, 1.0) if ints[4] else (1.0, 0.0)
        W = _scaled(_integral(ints[3], floats[f + 3], b, over_b, c, ratio), floats[f] * floats[f + 4])
        Y = _scaled(square, floats[f] * floats[f + 2] ** 2)
        D = (force * force, -2.0 * force * bend, 2.0 * bend)
        rate = max(nu[a], 0.0) + RATE_FLOOR
        variance, power = _added(variance, rate, D, W), _added(power, rate, D, Y)
        for quantity, jet in ((_VARIANCE, W), (_POWER, Y)):
            table[quantity, a] += D[0] * jet[0]
            table[quantity + 1, a] += D[0] * jet[1]
            table[quantity + 2, a] += D[1] * jet[0]
    g = floats[_AXES : _AXES + S]
    for a in range(S):
        table[_VARIANCE, a] += variance[1] * g[a] + variance[2] * table[_MEAN, a]
        table[_POWER, a] += power[1] * g[a] + power[2] * table[_MEAN, a]
    return variance, power


@njit(cache=True, nogil=True, error_model="numpy")
def _added(total: Sums, rate: float, D: Jet, W: Jet) -> Sums:
    """A sum over channels and its derivatives by x, u, xx, xu, uu, with rate D(u) W(x) added."""
    return (total[0] + rate * D[0] * W[0], total[1] + rate * D[0] * W[1], total[2] + rate * D[1] * W[0],
            total[3] + rate * D[0] * W[2], total[4] + rate * D[1] * W[1], total[5] + rate * D[2] * W[0])  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _second(total: Sums, table: FloatArray, quantity: int, g: FloatArray, i: int, j: int, u_ij: float) -> float:
    """Second derivative of a sum over channels by nu_i and nu_j."""
    u_i, u_j = table[_MEAN, i], table[_MEAN, j]
    by_x, by_u = table[quantity + 1], table[quantity + 2]
    explicit = by_x[i] * g[j] + by_x[j] * g[i] + by_u[i] * u_j + by_u[j] * u_i
    implicit = total[3] * g[i] * g[j] + total[4] * (g[i] * u_j + g[j] * u_i) + total[5] * u_i * u_j
    return explicit + implicit + total[2] * u_ij


@njit(cache=True, nogil=True, error_model="numpy")
def _threshold(
    kind: int, P: FloatArray, U: float, S: float, T: float, logarithm: float
) -> tuple[float, tuple[float, float, float, float], tuple[float, float, float, float, float, float]]:
    """V_eff (mV); derivatives by U, S, T, log mu_G; and by UU, SS, TT, US, UT, ST."""
    if kind == LINEAR:
        value = P[0] + P[1] * U + P[2] * S + P[3] * T + P[4] * logarithm
        return value, (P[1], P[2], P[3], P[4]), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    by_U = P[1] + 2.0 * P[4] * U + P[7] * S + P[8] * T
    by_S = P[2] + 2.0 * P[5] * S + P[7] * U + P[9] * T
    by_T = P[3] + 2.0 * P[6] * T + P[8] * U + P[9] * S
    value = P[0] + 0.5 * ((by_U + P[1]) * U + (by_S + P[2]) * S + (by_T + P[3]) * T)
    return value, (by_U, by_S, by_T, 0.0), (2.0 * P[4], 2.0 * P[5], 2.0 * P[6], P[7], P[8], P[9])


@njit(cache=True, nogil=True, error_model="numpy")
def _template(
    kind: int, floats: FloatArray, M: Jet, u: float, variance: Sums, power: Sums,
    table: FloatArray, gradient: FloatArray, hessian: FloatArray,
) -> float:  # fmt: skip
    """The template and its derivatives by nu, from the moments and theirs."""
    n_axis = gradient.size
    g, scale = floats[_AXES : _AXES + n_axis], floats[2] / floats[1]
    sigma, tau = math.sqrt(variance[0]), power[0] / (2.0 * variance[0])
    V, first, second = _threshold(
        kind, floats[_COEFFICIENT:_AXES], (u + 60.0) / 10.0, (sigma - 4.0) / 6.0, tau * scale - 0.5,
        math.log(M[0] / floats[2]),
    )  # fmt: skip
    z = (V - u) / (_ROOT2 * sigma)
    for a in range(n_axis):
        s = table[_VARIANCE, a] / variance[0]
        table[_SIGMA, a] = 0.5 * sigma * s
        table[_TAU, a] = tau * (table[_POWER, a] / power[0] - s)
        V_a = (first[0] / 10.0 * table[_MEAN, a] + first[1] / 6.0 * table[_SIGMA, a]
               + first[2] * scale * table[_TAU, a] + first[3] * M[1] * g[a] / M[0])  # fmt: skip
        table[_Z, a] = (V_a - table[_MEAN, a]) / (_ROOT2 * sigma) - z * 0.5 * s
    outer = 500.0 * floats[0] / tau
    tail, density = math.erfc(z), -_TWO_OVER_ROOT_PI * math.exp(-z * z)
    for i in range(n_axis):
        z_i, t_i = table[_Z, i], table[_TAU, i] / tau
        gradient[i] = outer * (density * z_i - tail * t_i)
        for j in range(i + 1):
            z_j, t_j = table[_Z, j], table[_TAU, j] / tau
            z_ij, t_ij = _bends(first, second, M, u, z, sigma, tau, scale, variance, power, table, g, i, j)
            value = density * (z_ij - 2.0 * z * z_i * z_j - z_i * t_j - z_j * t_i) + tail * (2.0 * t_i * t_j - t_ij)
            hessian[i, j] = hessian[j, i] = outer * value
    return outer * tail


@njit(cache=True, nogil=True, error_model="numpy")
def _bends(
    first: tuple[float, float, float, float], second: Sums, M: Jet, u: float, z: float, sigma: float, tau: float,
    scale: float, variance: Sums, power: Sums, table: FloatArray, g: FloatArray, i: int, j: int,
) -> tuple[float, float]:  # fmt: skip
    """Second derivatives by nu_i, nu_j of z = (V_eff - mu_V)/(sqrt2 sigma_V) and, over tau_V, of tau_V."""
    M_i, M_j, M_ij = M[1] * g[i] / M[0], M[1] * g[j] / M[0], M[2] * g[i] * g[j] / M[0]
    u_i, u_j = table[_MEAN, i], table[_MEAN, j]
    u_ij = -(u_i * M_j + u_j * M_i + u * M_ij)
    s_i, s_j = table[_VARIANCE, i] / variance[0], table[_VARIANCE, j] / variance[0]
    s_ij = _second(variance, table, _VARIANCE, g, i, j, u_ij) / variance[0]
    p_i, p_j = table[_POWER, i] / power[0], table[_POWER, j] / power[0]
    p_ij = _second(power, table, _POWER, g, i, j, u_ij) / power[0]
    sigma_ij = sigma * (0.5 * s_ij - 0.25 * s_i * s_j)
    t_ij = (p_i - s_i) * (p_j - s_j) + p_ij - p_i * p_j - s_ij + s_i * s_j
    U_i, U_j, S_i, S_j = u_i / 10.0, u_j / 10.0, table[_SIGMA, i] / 6.0, table[_SIGMA, j] / 6.0
    T_i, T_j = table[_TAU, i] * scale, table[_TAU, j] * scale
    linear = (first[0] / 10.0 * u_ij + first[1] / 6.0 * sigma_ij + first[2] * scale * tau * t_ij
              + first[3] * (M_ij - M_i * M_j))  # fmt: skip
    squares = second[0] * U_i * U_j + second[1] * S_i * S_j + second[2] * T_i * T_j
    mixed = (second[3] * (U_i * S_j + U_j * S_i) + second[4] * (U_i * T_j + U_j * T_i)
             + second[5] * (S_i * T_j + S_j * T_i))  # fmt: skip
    V_ij = linear + squares + mixed
    z_ij = (V_ij - u_ij) / (_ROOT2 * sigma) - 0.5 * (table[_Z, i] * s_j + table[_Z, j] * s_i) - z * sigma_ij / sigma
    return z_ij, t_ij
