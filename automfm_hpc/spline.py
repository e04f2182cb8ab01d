"""Tensor-product cubic B-splines on uniform knots, continued linearly outside their domain.

A rate nu (Hz) becomes x = log(1 + nu/scale), which spreads low rates and is smooth at 0; a spline s(x)
becomes a rate by r0 [softplus(s) - softplus(s - r_max/r0)]: exponential at very low rates, linear
above r0, and never beyond r_max. Everything has two continuous derivatives inside the domain; outside,
each axis continues along the tangent in x, so value and first derivatives stay continuous.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
INT_HEAD = 2  # kind, n_axis; then the coefficients per axis and the blocks' offsets
FLOAT_HEAD = 2  # r0 (Hz), r_max/r0; then per axis
PER_AXIS = 4  # origin, step, upper end (all in x), scale (Hz); then the coefficients


@njit(cache=True, nogil=True, error_model="numpy")
def softplus(s: float) -> float:
    """log(1 + exp(s)) without overflow."""
    return max(s, 0.0) + math.log1p(math.exp(-abs(s)))


@njit(cache=True, nogil=True, error_model="numpy")
def logistic(s: float) -> float:
    """Derivative of softplus."""
    e = math.exp(-abs(s))
    return 1.0 / (1.0 + e) if s >= 0.0 else e / (1.0 + e)


@njit(cache=True, nogil=True, error_model="numpy")
def link(s: float, r0: float, top: float) -> tuple[float, float, float]:
    """Rate (Hz) and its first two derivatives by the spline's value s."""
    low = logistic(s)
    rate, slope, bend = softplus(s), low, low * (1.0 - low)
    if s > top - 700.0:
        high = logistic(s - top)
        rate, slope, bend = rate - softplus(s - top), slope - high, bend - high * (1.0 - high)
    return r0 * max(rate, 0.0), r0 * slope, r0 * bend


@njit(cache=True, nogil=True, error_model="numpy")
def coordinate(nu: float, scale: float) -> tuple[float, float, float]:
    """x = log(1 + nu/scale), its tangent at 0 for negative rates, and two derivatives by nu."""
    if nu < 0.0:
        return nu / scale, 1.0 / scale, 0.0
    slope = 1.0 / (scale + nu)
    return math.log1p(nu / scale), slope, -slope * slope


@njit(cache=True, nogil=True, error_model="numpy")
def basis(x: float, origin: float, step: float, upper: float, n: int, rows: FloatArray, r: int) -> int:
    """The four B-splines that do not vanish at x: rows[r + d, i] is the d-th derivative of spline first + i."""
    inside = min(max(x, origin), upper)
    t = (inside - origin) / step
    first = min(int(t), n - 4)
    u = t - first
    v, per, square = 1.0 - u, 1.0 / step, 1.0 / (step * step)
    rows[r, 0], rows[r, 3] = v * v * v / 6.0, u * u * u / 6.0
    rows[r, 1] = (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0
    rows[r, 2] = (4.0 - 6.0 * v * v + 3.0 * v * v * v) / 6.0
    rows[r + 1, 0], rows[r + 1, 3] = -0.5 * v * v * per, 0.5 * u * u * per
    rows[r + 1, 1], rows[r + 1, 2] = (1.5 * u - 2.0) * u * per, (2.0 - 1.5 * v) * v * per
    rows[r + 2, 0], rows[r + 2, 3] = v * square, u * square
    rows[r + 2, 1], rows[r + 2, 2] = (3.0 * u - 2.0) * square, (3.0 * v - 2.0) * square
    if x != inside:
        for i in range(4):
            rows[r, i] += rows[r + 1, i] * (x - inside)
            rows[r + 2, i] = 0.0
    return first


@njit(cache=True, nogil=True, error_model="numpy")
def evaluate_spline(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """Rate (Hz) at nu (n_axis,) Hz; fills the gradient (n_axis,) and Hessian (n_axis, n_axis) by nu."""
    S = ints[1]
    blocks, width = 1 << (2 * (S - 1)), (S + 1) * (S + 2) // 2
    work = np.empty((3 * S + blocks, max(width, 6)))  # rows of B-splines, then blocks of coefficients
    start = 0
    for a in range(S):
        f = FLOAT_HEAD + PER_AXIS * a
        x, work[3 * a, 4], work[3 * a, 5] = coordinate(nu[a], floats[f + 3])
        n = ints[INT_HEAD + a]
        start = start * n + basis(x, floats[f], floats[f + 1], floats[f + 2], n, work, 3 * a)
    _innermost(ints, floats, FLOAT_HEAD + PER_AXIS * S + start, blocks, work)
    for done in range(1, S):
        blocks >>= 2
        _contract(3 * (S - 1 - done), done, blocks, work, 3 * S)
    return _chain(S, floats, work, gradient, hessian)


@njit(cache=True, nogil=True, error_model="numpy")
def _innermost(ints: NDArray[np.int64], floats: FloatArray, start: int, blocks: int, work: FloatArray) -> None:
    """Contract the last axis: value, first, second derivative by its x for each block of four coefficients."""
    S = ints[1]
    r = 3 * (S - 1)
    for block in range(blocks):
        position, b = start + ints[INT_HEAD + S + block], 3 * S + block
        c0, c1, c2, c3 = floats[position], floats[position + 1], floats[position + 2], floats[position + 3]
        for d in range(3):
            work[b, d] = c0 * work[r + d, 0] + c1 * work[r + d, 1] + c2 * work[r + d, 2] + c3 * work[r + d, 3]


@njit(cache=True, nogil=True, error_model="numpy")
def _contract(r: int, done: int, blocks: int, work: FloatArray, first: int) -> None:
    """Contract one more axis in place: each four blocks from row `first` on become one.

    Column p (p + 1)/2 + q is the derivative by the p-th and q-th contracted axis, counted from 1 at the
    last one; 0 stands for no derivative. New columns are written before old ones are overwritten,
    because they read them.
    """
    new = (done + 1) * (done + 2) // 2
    for block in range(blocks):
        out, four = first + block, first + 4 * block
        for q in range(done + 1):
            work[out, new + q] = _dot(work, r + 1, four, q * (q + 1) // 2)
        work[out, new + done + 1] = _dot(work, r + 2, four, 0)
        for column in range(new):
            work[out, column] = _dot(work, r, four, column)


@njit(cache=True, nogil=True, error_model="numpy")
def _dot(work: FloatArray, r: int, four: int, column: int) -> float:
    """Four B-splines in row r times four blocks."""
    total: float = (work[r, 0] * work[four, column] + work[r, 1] * work[four + 1, column]
                    + work[r, 2] * work[four + 2, column] + work[r, 3] * work[four + 3, column])  # fmt: skip
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _chain(S: int, floats: FloatArray, work: FloatArray, gradient: FloatArray, hessian: FloatArray) -> float:
    """From derivatives of s by x to derivatives of the rate by nu."""
    b = 3 * S
    rate, slope, bend = link(work[b, 0], floats[0], floats[1])
    for i in range(S):
        row = (S - i) * (S - i + 1) // 2
        s_i = work[b, row]
        gradient[i] = slope * s_i * work[3 * i, 4]
        for j in range(i, S):
            second = slope * work[b, row + S - j] + bend * s_i * work[b, (S - j) * (S - j + 1) // 2]
            hessian[i, j] = hessian[j, i] = second * work[3 * i, 4] * work[3 * j, 4]
        hessian[i, i] += slope * s_i * work[3 * i, 5]
    return rate


def pack_spline(
    kind: int, r0: float, top: float, per_axis: FloatArray, coefficients: FloatArray
) -> tuple[NDArray[np.int64], FloatArray]:
    """The two flat arrays that `evaluate_spline` reads.

    After the shape follow, for the 4^(n_axis - 1) blocks around a point, their distances from the first.
    """
    shape = coefficients.shape
    corners = np.stack(np.meshgrid(*[np.arange(4)] * len(shape), indexing="ij"), axis=-1).reshape(-1, 4, len(shape))
    offsets = np.ravel_multi_index(tuple(corners[:, 0].T), shape)
    ints = np.concatenate([[kind, len(shape)], shape, offsets]).astype(np.int64)
    return ints, np.concatenate([[r0, top], per_axis.ravel(), coefficients.ravel()])


def design_matrix(x: ArrayLike, origin: float, step: float, upper: float, n: int) -> FloatArray:
    """B-splines of one axis at points x (n_point,), linear outside, shape (n_point, n)."""
    points = np.asarray(x, float)
    matrix, row = np.zeros((points.size, n)), np.empty((3, 4))
    for i, point in enumerate(points):
        first = basis(point, origin, step, upper, n, row, 0)
        matrix[i, first : first + 4] = row[0]
    return matrix
