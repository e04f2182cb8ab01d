r"""Scaled error functions and the Siegert integral, compiled, for arguments of any size.

The one function everything rests on is f(y) = erfcx(-y) = exp(y^2) (1 + erf y), the integrand of the
mean first-passage time of a leaky integrate-and-fire neuron. It grows like 2 exp(y^2) to the right, so
every quantity here carries the factor exp(-y^2) for y > 0 and none for y <= 0, and nothing overflows.

For 0 <= |y| < 12 (left) and 0 <= y < 28 (right) the functions are read from piecewise polynomials of
degree 8 on intervals of 1/8, built once from SciPy's erfcx and Dawson functions; further left their
asymptotic series are used; further right the rate is below 1e-300 Hz.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import chebyshev, legendre
from scipy.special import dawsn, erfcx

from automfm_hpc.lif.compiled import jit

SQRT_PI = math.sqrt(math.pi)
_DEGREE = 8
_PIECES = 8.0  # per unit
_LEFT = 12.0  # beyond: asymptotic series
_RIGHT = 28.0  # beyond: exp(-y^2) underflows
_LOG_CONSTANT = 0.5 * np.euler_gamma + math.log(2.0)
_CLOSE_NODES, _CLOSE_WEIGHTS = legendre.leggauss(12)


def _fit_pieces(function, end: float) -> np.ndarray:
    """Monomial coefficients of `function` on [0, end], nine per interval of 1/8 (local variable -1..1)."""
    count = int(end * _PIECES)
    nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
    centres = (np.arange(count) + 0.5) / _PIECES
    values = function(centres[:, None] + nodes / (2 * _PIECES))
    fitted = np.linalg.solve(chebyshev.chebvander(nodes, _DEGREE), values.T)
    to_monomial = np.zeros((_DEGREE + 1, _DEGREE + 1))
    for k in range(_DEGREE + 1):
        to_monomial[: k + 1, k] = chebyshev.cheb2poly(np.eye(_DEGREE + 1)[k])
    return np.ascontiguousarray((to_monomial @ fitted).T).reshape(-1)


def _erfcx_slope(v: np.ndarray) -> np.ndarray:
    """-d erfcx/dv = (4/sqrt pi) int_0^inf t exp(-t^2 - 2 v t) dt, without the cancellation of 2/sqrt pi - 2 v erfcx."""
    nodes, weights = legendre.leggauss(120)
    t, w = 3.5 * (nodes + 1.0), 3.5 * weights
    return 4.0 / SQRT_PI * np.exp(-t * t - 2.0 * np.asarray(v)[..., None] * t) @ (w * t)


def erfcx_area(v: np.ndarray) -> np.ndarray:
    """sqrt(pi) int_0^v erfcx(u) du, v in [0, 64], from unit steps of Gauss-Legendre quadrature."""
    nodes, weights = legendre.leggauss(24)
    steps = np.arange(65)[:, None] + 0.5 * (nodes + 1.0)
    whole = np.concatenate([[0.0], np.cumsum(SQRT_PI * erfcx(steps) @ (0.5 * weights))])
    base = np.floor(v)
    inner = base[..., None] + 0.5 * (v - base)[..., None] * (nodes + 1.0)
    return whole[base.astype(int)] + 0.5 * (v - base) * SQRT_PI * (erfcx(inner) @ weights)


_ERFCX = _fit_pieces(erfcx, _LEFT)
_SLOPE = _fit_pieces(_erfcx_slope, _LEFT)
_AREA_LEFT = _fit_pieces(erfcx_area, _LEFT)
_AREA_RIGHT = _fit_pieces(lambda y: 2 * SQRT_PI * dawsn(y) - np.exp(-y * y) * erfcx_area(y), _RIGHT)


@jit
def _read(table, v):
    place = v * 8.0
    piece = np.int64(place)  # signed: one instruction each way; the unsigned index spares the check for negative ones
    t = 2.0 * (place - piece) - 1.0
    k = np.uint64(piece) * np.uint64(9)
    t2 = t * t
    low = (table[k] + table[k + np.uint64(1)] * t) + t2 * (table[k + np.uint64(2)] + table[k + np.uint64(3)] * t)
    high = (table[k + np.uint64(4)] + table[k + np.uint64(5)] * t) + t2 * (
        (table[k + np.uint64(6)] + table[k + np.uint64(7)] * t) + t2 * table[k + np.uint64(8)]
    )
    return low + t2 * t2 * high


@jit
def _area_tail(v):
    """sqrt(pi) int_0^v erfcx(u) du - log v - constant for v >= 12: DLMF 7.12.1 integrated term by term."""
    q = 0.5 / (v * v)
    return q * (0.5 - q * (0.75 - q * (2.5 - q * (13.125 - q * (94.5 - q * 866.25)))))


@jit
def area_left(v):
    """sqrt(pi) int_0^v erfcx(u) du for v >= 0."""
    if v < 12.0:
        return _read(_AREA_LEFT, v)
    return math.log(v) + _LOG_CONSTANT + _area_tail(v)


@jit
def area_right(y):
    """exp(-y^2) sqrt(pi) int_0^y erfcx(-u) du for 0 <= y < 28; its limit 1/y - ... is not needed beyond."""
    if y < 28.0:
        return _read(_AREA_RIGHT, y)
    return SQRT_PI * (1.0 / y + 0.5 / (y * y * y))


@jit
def left_derivatives(v):
    """erfcx(v), -erfcx'(v) and erfcx''(v) for v >= 0 (asymptotic series, DLMF 7.12.1, beyond v = 12)."""
    if v < 12.0:
        e = _read(_ERFCX, v)
        g = _read(_SLOPE, v)
        return e, g, 2.0 * e - 2.0 * v * g
    r = 1.0 / (v * v)
    scale = 1.0 / (SQRT_PI * v)
    term = 1.0
    e = g = h = 0.0
    for k in range(8):
        e += term
        g += term * (2 * k + 1)
        h += term * (2 * k + 1) * (2 * k + 2)
        term *= -0.5 * (2 * k + 1) * r
    return scale * e, scale * g / v, scale * h * r


@jit
def integrand(y):
    """f, f', f'' of f(y) = erfcx(-y), each times exp(-y^2) when y > 0."""
    if y <= 0.0:
        return left_derivatives(-y)
    e, g, h = left_derivatives(y)
    small = math.exp(-y * y)
    return 2.0 - small * e, 4.0 * y + small * g, 4.0 + 8.0 * y * y - small * h


@jit
def _close(low, high):
    """Whether quadrature between the limits is safer than the difference of two antiderivatives."""
    if high > 0.0:
        return high - low < 1.0 / max(2.0, high)
    return high - low < 0.5 * max(1.0, -high)


@jit
def _area_close(low, high, scale):
    """exp(-scale) sqrt(pi) int_low^high erfcx(-u) du by Gauss-Legendre quadrature."""
    total = 0.0
    half = 0.5 * (high - low)
    for i in range(_CLOSE_NODES.size):
        y = low + half * (_CLOSE_NODES[i] + 1.0)
        f, _, _ = integrand(y)
        total += _CLOSE_WEIGHTS[i] * f * math.exp((y * y if y > 0.0 else 0.0) - scale)
    return SQRT_PI * half * total


@jit
def passage_area(low, high):
    r"""sqrt(pi) int_low^high erfcx(-u) du times exp(-max(high, 0)^2), for low <= high.

    The dimensionless mean first-passage time of Siegert's formula.
    """
    if high <= -12.0:
        return math.log1p((high - low) / -high) + _area_tail(-low) - _area_tail(-high)
    if (high - low) * max(1.0, high) < 0.1:
        return _area_close(low, high, high * high if high > 0.0 else 0.0)
    if high <= 0.0:
        return area_left(-low) - area_left(-high)
    if low <= 0.0:
        return area_right(high) + math.exp(-high * high) * area_left(-low)
    return area_right(high) - math.exp(low * low - high * high) * area_right(low)


@jit
def passage_differences(low, high):
    r"""f(high) - f(low), f'(high) - f'(low), (y f')(high) - (y f')(low), (y^2 f')(high) - (y^2 f')(low).

    All times exp(-max(high, 0)^2). They give every first and second derivative of the passage time.
    """
    f1, g1, _ = integrand(high)
    f0, g0, _ = integrand(low)
    scale = high * high if high > 0.0 else 0.0
    small = math.exp((low * low if low > 0.0 else 0.0) - scale)
    if not _close(low, high):
        return (
            f1 - small * f0,
            g1 - small * g0,
            high * g1 - small * low * g0,
            high * high * g1 - small * low * low * g0,
        )
    df = dg = dyg = dyyg = 0.0
    half = 0.5 * (high - low)
    for i in range(_CLOSE_NODES.size):
        y = low + half * (_CLOSE_NODES[i] + 1.0)
        _, g, h = integrand(y)
        weight = half * _CLOSE_WEIGHTS[i] * math.exp((y * y if y > 0.0 else 0.0) - scale)
        df += weight * g
        dg += weight * h
        dyg += weight * (g + y * h)
        dyyg += weight * (2.0 * y * g + y * y * h)
    return df, dg, dyg, dyyg
