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
HEAD = 2  # ints: kind, n_axis, then coefficients per axis; floats: r0, r_max/r0, then PER_AXIS per axis
PER_AXIS = 4  # origin, step, upper end (all in x), scale (Hz)


@njit(cache=True)
def softplus(s: float) -> float:
    """log(1 + exp(s)) without overflow."""
    return max(s, 0.0) + math.log1p(math.exp(-abs(s)))


@njit(cache=True)
def logistic(s: float) -> float:
    """Derivative of softplus."""
    e = math.exp(-abs(s))
    return 1.0 / (1.0 + e) if s >= 0.0 else e / (1.0 + e)


@njit(cache=True)
def link(s: float, r0: float, top: float) -> tuple[float, float, float]:
    """Rate (Hz) and its first two derivatives by the spline's value s."""
    low = logistic(s)
    rate, slope, bend = softplus(s), low, low * (1.0 - low)
    if s > top - 700.0:
        high = logistic(s - top)
        rate, slope, bend = rate - softplus(s - top), slope - high, bend - high * (1.0 - high)
    return r0 * max(rate, 0.0), r0 * slope, r0 * bend


@njit(cache=True)
def coordinate(nu: float, scale: float) -> tuple[float, float, float]:
    """x = log(1 + nu/scale), its tangent at 0 for negative rates, and two derivatives by nu."""
    if nu < 0.0:
        return nu / scale, 1.0 / scale, 0.0
    slope = 1.0 / (scale + nu)
    return math.log1p(nu / scale), slope, -slope * slope


@njit(cache=True)
def basis(x: float, origin: float, step: float, upper: float, n: int, row: FloatArray) -> int:
    """The four B-splines that do not vanish at x: row[d, i] is the d-th derivative of spline first + i."""
    inside = min(max(x, origin), upper)
    t = (inside - origin) / step
    first = min(int(t), n - 4)
    u = t - first
    v = 1.0 - u
    row[0, 0], row[0, 3] = v * v * v / 6.0, u * u * u / 6.0
    row[0, 1] = (4.0 - 6.0 * u * u + 3.0 * u * u * u) / 6.0
    row[0, 2] = (4.0 - 6.0 * v * v + 3.0 * v * v * v) / 6.0
    row[1, 0], row[1, 3] = -0.5 * v * v / step, 0.5 * u * u / step
    row[1, 1], row[1, 2] = (1.5 * u - 2.0) * u / step, (2.0 - 1.5 * v) * v / step
    if x != inside:
        for i in range(4):
            row[0, i] += row[1, i] * (x - inside)
            row[2, i] = 0.0
        return first
    square = step * step
    row[2, 0], row[2, 3] = v / square, u / square
    row[2, 1], row[2, 2] = (3.0 * u - 2.0) / square, (3.0 * v - 2.0) / square
    return first


@njit(cache=True)
def evaluate_spline(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """Rate (Hz) at nu (n_axis,) Hz; fills the gradient (n_axis,) and Hessian (n_axis, n_axis) by nu."""
    S = ints[1]
    table, chain = np.empty((S, 3, 4)), np.empty((S, 2))
    offset, start = HEAD + PER_AXIS * S, 0
    for a in range(S):
        f = HEAD + PER_AXIS * a
        x, chain[a, 0], chain[a, 1] = coordinate(nu[a], floats[f + 3])
        first = basis(x, floats[f], floats[f + 1], floats[f + 2], ints[HEAD + a], table[a])
        start = start * ints[HEAD + a] + first
    buffer = np.empty((4 ** (S - 1), (S + 1) * (S + 2) // 2))
    _innermost(ints, floats, offset + start, table[S - 1], buffer)
    for done in range(1, S):
        _contract(table[S - 1 - done], done, 4 ** (S - 1 - done), buffer)
    sums, value = buffer[0], buffer[0, 0]
    for a in range(S):
        row = (S - a) * (S - a + 1) // 2
        gradient[a] = sums[row]
        for b in range(a, S):
            hessian[a, b] = hessian[b, a] = sums[row + S - b]
    rate, slope, bend = link(value, floats[0], floats[1])
    for a in range(S):
        for b in range(a):
            second = hessian[a, b] * slope + bend * gradient[a] * gradient[b]
            hessian[a, b] = hessian[b, a] = second * chain[a, 0] * chain[b, 0]
        second = hessian[a, a] * slope + bend * gradient[a] * gradient[a]
        hessian[a, a] = second * chain[a, 0] ** 2 + slope * gradient[a] * chain[a, 1]
    for a in range(S):
        gradient[a] *= slope * chain[a, 0]
    return rate


@njit(cache=True)
def _innermost(ints: NDArray[np.int64], floats: FloatArray, start: int, row: FloatArray, buffer: FloatArray) -> None:
    """Contract the last axis: value, first, second derivative by its x for each block of four coefficients."""
    S = ints[1]
    for block in range(buffer.shape[0]):
        position, stride, rest = start, ints[HEAD + S - 1], block
        for a in range(S - 2, -1, -1):
            position += (rest & 3) * stride
            stride *= ints[HEAD + a]
            rest >>= 2
        c0, c1, c2, c3 = floats[position], floats[position + 1], floats[position + 2], floats[position + 3]
        buffer[block, 0] = c0 * row[0, 0] + c1 * row[0, 1] + c2 * row[0, 2] + c3 * row[0, 3]
        buffer[block, 1] = c0 * row[1, 0] + c1 * row[1, 1] + c2 * row[1, 2] + c3 * row[1, 3]
        buffer[block, 2] = c0 * row[2, 0] + c1 * row[2, 1] + c2 * row[2, 2] + c3 * row[2, 3]


@njit(cache=True)
def _contract(row: FloatArray, done: int, blocks: int, buffer: FloatArray) -> None:
    """Contract one more axis in place.

    Column p (p + 1)/2 + q of the buffer is the derivative by the p-th and q-th contracted axis, counted
    from 1 at the last one; 0 stands for no derivative. New columns are written before old ones are
    overwritten, because they read them.
    """
    new = (done + 1) * (done + 2) // 2
    for block in range(blocks):
        four = buffer[4 * block : 4 * block + 4]
        for q in range(done + 1):
            buffer[block, new + q] = _dot(row[1], four, q * (q + 1) // 2)
        buffer[block, new + done + 1] = _dot(row[2], four, 0)
        for column in range(new):
            buffer[block, column] = _dot(row[0], four, column)


@njit(cache=True)
def _dot(weights: FloatArray, four: FloatArray, column: int) -> float:
    return (weights[0] * four[0, column] + weights[1] * four[1, column]
            + weights[2] * four[2, column] + weights[3] * four[3, column])  # fmt: skip


def design_matrix(x: ArrayLike, origin: float, step: float, upper: float, n: int) -> FloatArray:
    """B-splines of one axis at points x (n_point,), linear outside, shape (n_point, n)."""
    points = np.asarray(x, float)
    matrix, row = np.zeros((points.size, n)), np.empty((3, 4))
    for i, point in enumerate(points):
        first = basis(point, origin, step, upper, n, row)
        matrix[i, first : first + 4] = row[0]
    return matrix
