"""Tensor-product cubic B-splines on uniform knots, continued linearly outside their domain.

A rate nu (Hz) becomes x = log(1 + nu/scale), which spreads low rates and is smooth at 0; a spline s(x)
becomes a rate by r0 [softplus(s) - softplus(s - r_max/r0)]: exponential at very low rates, linear
above r0, and never beyond r_max. Everything has two continuous derivatives inside the domain; outside,
each axis continues along the tangent in x, so value and first derivatives stay continuous.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
INT_HEAD = 2  # kind, n_axis; then the coefficients per axis and the blocks' offsets
FLOAT_HEAD = 2  # r0 (Hz), r_max/r0; then per axis
PER_AXIS = 4  # origin, step, upper end (all in x), scale (Hz); then the coefficients


def _stack_array(rows: int, columns: int) -> Any:
    """A compiled function that returns an array (rows, columns) on the stack of the function that calls it.

    It costs nothing, where an array on the heap costs as much as half a transfer function; it ends with the
    function that calls it.
    """

    def typed(typing_context: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            room = cgutils.alloca_once(builder, ir.ArrayType(ir.DoubleType(), rows * columns))
            return builder.bitcast(room, cgutils.voidptr_t)

        return types.voidptr(), generate

    address: Any = intrinsic(typed)

    def array() -> FloatArray:
        return carray(address(), (rows, columns), np.float64)

    return njit(array, nogil=True, inline="always")


stack_rows, stack_work = _stack_array(9, 6), _stack_array(4, 24)  # three axes


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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _first(
    S: int, ints: NDArray[np.int64], floats: FloatArray, start: int, groups: int, rows: FloatArray, work: FloatArray
) -> None:
    """Contract the last axis but one: value, first, second derivative by its x; one axis alone is copied."""
    if S == 1:
        for q in range(4):
            work[0, q] = floats[start + q]
        return
    r, k = 3 * (S - 2), INT_HEAD + S
    for group in range(groups):
        p0, p1 = start + ints[k + 4 * group], start + ints[k + 4 * group + 1]
        p2, p3 = start + ints[k + 4 * group + 2], start + ints[k + 4 * group + 3]
        for d in range(3):
            b0, b1, b2, b3 = rows[r + d, 0], rows[r + d, 1], rows[r + d, 2], rows[r + d, 3]
            for q in range(4):
                value = b0 * floats[p0 + q] + b1 * floats[p1 + q] + b2 * floats[p2 + q] + b3 * floats[p3 + q]
                work[group, 4 * d + q] = value


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _contract(r: int, done: int, groups: int, rows: FloatArray, work: FloatArray) -> None:
    """Contract one more axis in place: each four rows of `work` become one.

    Column p (p + 1)/2 + q, four numbers wide, is the derivative by the p-th and q-th contracted axis, counted
    from 1 at the last but one; 0 stands for no derivative. New columns are written before old ones are
    overwritten, because they read them.
    """
    new = (done + 1) * (done + 2) // 2
    for group in range(groups):
        for q in range(done + 1):
            _combine(rows, r + 1, 4 * group, q * (q + 1) // 2, work, group, new + q)
        _combine(rows, r + 2, 4 * group, 0, work, group, new + done + 1)
        for column in range(new):
            _combine(rows, r, 4 * group, column, work, group, column)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _combine(rows: FloatArray, r: int, four: int, column: int, work: FloatArray, out: int, target: int) -> None:
    """Four B-splines in row r times a column of four rows of `work`."""
    b0, b1, b2, b3 = rows[r, 0], rows[r, 1], rows[r, 2], rows[r, 3]
    for q in range(4 * column, 4 * column + 4):
        value = b0 * work[four, q] + b1 * work[four + 1, q] + b2 * work[four + 2, q] + b3 * work[four + 3, q]
        work[out, q + 4 * (target - column)] = value


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _along(rows: FloatArray, r: int, line: FloatArray, column: int) -> float:
    """Four B-splines of the last axis in row r times one column."""
    q = 4 * column
    total: float = rows[r, 0] * line[q] + rows[r, 1] * line[q + 1] + rows[r, 2] * line[q + 2] + rows[r, 3] * line[q + 3]
    return total


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _chain(
    S: int, floats: FloatArray, rows: FloatArray, line: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """From the columns over the last axis to derivatives of s by x, and on to those of the rate by nu."""
    last = 3 * (S - 1)
    rate, slope, bend = link(_along(rows, last, line, 0), floats[0], floats[1])
    for i in range(S):  # the axis i was contracted as number p
        p = S - 1 - i
        gradient[i] = _along(rows, last + 1, line, 0) if p == 0 else _along(rows, last, line, p * (p + 1) // 2)
    for i in range(S):
        p = S - 1 - i
        for j in range(i, S):
            q = S - 1 - j
            if p == 0:
                second = _along(rows, last + 2, line, 0)
            elif q == 0:
                second = _along(rows, last + 1, line, p * (p + 1) // 2)
            else:
                second = _along(rows, last, line, p * (p + 1) // 2 + q)
            value = (slope * second + bend * gradient[i] * gradient[j]) * rows[3 * i, 4] * rows[3 * j, 4]
            hessian[i, j] = hessian[j, i] = value
        hessian[i, i] += slope * gradient[i] * rows[3 * i, 5]
    for i in range(S):
        gradient[i] *= slope * rows[3 * i, 4]
    return rate


def _evaluator(axes: int) -> Any:
    """`evaluate_spline` for one number of axes, which makes every loop a constant to the compiler; 0: for any."""

    def evaluate(
        ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
    ) -> float:
        S = axes if axes > 0 else ints[1]
        groups = 1 << max(2 * (S - 2), 0)
        if axes > 0:
            rows, work = stack_rows(), stack_work()
        else:
            rows, work = np.empty((3 * S, 6)), np.empty((groups, 4 * max(S * (S + 1) // 2, 3)))
        start = 0
        for a in range(S):
            f = FLOAT_HEAD + PER_AXIS * a
            x, rows[3 * a, 4], rows[3 * a, 5] = coordinate(nu[a], floats[f + 3])
            n = ints[INT_HEAD + a]
            start = start * n + basis(x, floats[f], floats[f + 1], floats[f + 2], n, rows, 3 * a)
        _first(S, ints, floats, FLOAT_HEAD + PER_AXIS * S + start, groups, rows, work)
        for done in range(1, S - 1):
            groups >>= 2
            _contract(3 * (S - 2 - done), done, groups, rows, work)
        return _chain(S, floats, rows, work[0], gradient, hessian)

    return njit(evaluate, nogil=True, error_model="numpy")


_any, _one, _two, _three = _evaluator(0), _evaluator(1), _evaluator(2), _evaluator(3)


@njit(cache=True, nogil=True, error_model="numpy")
def evaluate_spline(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """Rate (Hz) at nu (n_axis,) Hz; fills the gradient (n_axis,) and Hessian (n_axis, n_axis) by nu.

    The last axis, along which coefficients lie side by side, is contracted last: until then everything is
    done to four numbers at once.
    """
    S = ints[1]
    if S == 2:
        rate = _two(ints, floats, nu, gradient, hessian)
    elif S == 3:
        rate = _three(ints, floats, nu, gradient, hessian)
    elif S == 1:
        rate = _one(ints, floats, nu, gradient, hessian)
    else:
        rate = _any(ints, floats, nu, gradient, hessian)
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
