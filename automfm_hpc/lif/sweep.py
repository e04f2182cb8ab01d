r"""Siegert's rate for long columns of inputs, without branches, so that the compiler uses vector instructions.

With G(y) = exp(-y^2) sqrt(pi) int_0^y f for y > 0 and the plain integral for y <= 0, f(u) = erfcx(-u), the
dimensionless passage time from low <= 0 to high is (G(high) - exp(-max(high, 0)^2) G(low)) exp(max(high, 0)^2). G is
read from one table, the exponential from a table of powers of two and a polynomial. Points outside the table, without
noise, with a reset above the mean or with limits close together are marked and left to `rates`.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numpy as np

from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit, jit_finite
from automfm_hpc.lif.special import SQRT_PI, _fit_pieces, dawsn, erfcx_area

BLOCK = 4096
_LOW, _HIGH = -64.0, 27.0
_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # their sum is log 2, the first is short
_POWERS = 2.0 ** -np.arange(1060.0)
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12 = (1.0 / math.factorial(k) for k in range(2, 13))
_1, _2, _3, _4, _5, _6, _7, _8 = (np.uint64(k) for k in range(1, 9))


def _table() -> np.ndarray:
    """Nine coefficients per interval of 1/8 of G from -64 to 28."""
    left = _fit_pieces(lambda v: -erfcx_area(v), -_LOW).reshape(-1, 9)
    left = left[::-1] * np.where(np.arange(9) % 2, -1.0, 1.0)  # a piece read from right to left
    right = _fit_pieces(lambda y: 2 * SQRT_PI * dawsn(y) - np.exp(-y * y) * erfcx_area(y), _HIGH + 1.0)
    return np.concatenate([left.reshape(-1), right])


_TABLE = _table()


@jit
def _read(y, out):
    for i in range(out.size):
        place = (y[i] - _LOW) * 8.0
        piece = np.int64(place)
        t = 2.0 * (place - piece) - 1.0
        k = np.uint64(piece) * np.uint64(9)
        t2 = t * t
        low = (_TABLE[k] + _TABLE[k + _1] * t) + t2 * (_TABLE[k + _2] + _TABLE[k + _3] * t)
        high = (_TABLE[k + _4] + _TABLE[k + _5] * t) + t2 * (
            (_TABLE[k + _6] + _TABLE[k + _7] * t) + t2 * _TABLE[k + _8]
        )
        out[i] = low + t2 * t2 * high


@jit
def _exp_minus(z, out):
    """exp(-z) for 0 <= z < 730."""
    for i in range(out.size):
        n = np.int64(z[i] * _LOG2_E + 0.5)
        r = (z[i] - n * _LN2_HIGH) - n * _LN2_LOW
        r2 = r * r
        r4 = r2 * r2
        a = (1.0 - r) + r2 * (_C2 - _C3 * r)
        b = (_C4 - _C5 * r) + r2 * (_C6 - _C7 * r)
        c = (_C8 - _C9 * r) + r2 * (_C10 - _C11 * r)
        out[i] = _POWERS[np.uint64(n)] * (a + r4 * (b + r4 * (c + r4 * _C12)))


@jit_finite
def _limits(mean, sd, V_th, V_reset, shift, high, low, square, left):
    """Limits, those that are not for the table replaced and marked; max(high, 0)^2."""
    for i in range(high.size):
        inverse = 1.0 / sd[i]
        y = (V_th[i] - mean[i]) * inverse + shift[i]
        x = (V_reset[i] - mean[i]) * inverse + shift[i]
        apart = (y - x) >= max(0.1, -0.02 * y)
        good = (sd[i] > 0.0) & (y < _HIGH) & (y > _LOW) & (x <= 0.0) & (x > _LOW) & apart
        left[i] = 0.0 if good else 1.0
        y = y if good else 0.0
        x = x if good else -1.0
        high[i] = y
        low[i] = x
        up = max(y, 0.0)
        square[i] = up * up


@jit
def _rates(small, high, low, t_ref, tau_m, out):
    for i in range(out.size):
        out[i] = 1e3 * small[i] / (t_ref[i] * small[i] + tau_m[i] * (high[i] - small[i] * low[i]))


def sweep(columns: list[Array], shift: Array, out: Array) -> Array:
    """Fill `out` with rates (Hz) and return the indices of the points that are left to the careful program.

    Parameters
    ----------
    columns : list of (n,) or (1,) arrays
        mean, sd, V_th, V_reset (mV), tau_m, t_ref (ms).
    shift : (n,) or (1,) array
        Added to both limits.

    Each step is a compiled loop of its own: joined, the compiler no longer finds the vector instructions.
    """
    size = min(BLOCK, out.size)
    constant = [np.full(size, c[0]) if c.size == 1 else None for c in (*columns, shift)]
    work = np.empty((6, size))
    left = []
    for start in range(0, out.size, size):
        stop = min(start + size, out.size)
        mean, sd, V_th, V_reset, tau_m, t_ref, move = (
            c[start:stop] if whole is None else whole[: stop - start]
            for c, whole in zip((*columns, shift), constant, strict=True)
        )
        high, low, small, area, other, skipped = work[:, : stop - start]
        _limits(mean, sd, V_th, V_reset, move, high, low, other, skipped)
        _exp_minus(other, small)
        _read(high, area)
        _read(low, other)
        _rates(small, area, other, t_ref, tau_m, out[start:stop])
        left.append(start + np.flatnonzero(skipped))
    return np.concatenate(left)
