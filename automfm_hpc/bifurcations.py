"""Folds and Hopf bifurcations between two neighbouring points of a branch, located by bisection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

from automfm_hpc.branches import Point, Problem, between, growing_if_known, model_at, point_at
from automfm_hpc.linear_response import loop_determinant, marginal_frequency

FloatArray = NDArray[np.float64]
FOLD, HOPF = "fold", "Hopf"
_BISECTIONS = 60
_REAL = 1e-6  # 1/ms: a pair with a smaller imaginary part is not complex
_APART = 2.0**-12  # of a step: nearer changes of the number of growing modes are one


def _fold(point: Point) -> float:
    return float(point.tangent[-1])


def _hopf(order: int, point: Point) -> float:
    """Real part of the complex pair number `order`; NaN where there are not so many."""
    pairs = _pairs(point)
    return float(pairs[order].real) if order < pairs.size else float("nan")


def _pairs(point: Point) -> NDArray[np.complex128]:
    return point.eigenvalues[point.eigenvalues.imag > _REAL]


def special_points(problem: Problem, a: Point, b: Point) -> Iterator[Point]:
    """Folds and Hopf bifurcations between two neighbours, in their order along the branch."""
    tests: list[tuple[str, Callable[[Point], float]]] = [(FOLD, _fold)]
    found: list[Point] = []
    if model_at(problem, a.x)[1] is None:
        tests += [(HOPF, partial(_hopf, k)) for k in range(min(_pairs(a).size, _pairs(b).size))]
    else:
        found += _oscillating(problem, a, b)
    for label, test in tests:
        if test(a) * test(b) < 0.0:
            point = _located(problem, a, b, test, label)
            if point is not None:
                found.append(point)
    found.sort(key=lambda point: float((point.x - a.x) @ a.tangent))
    yield from found


def _located(problem: Problem, a: Point, b: Point, test: Callable[[Point], float], label: str) -> Point | None:
    """The zero of a test function between two points, by bisection along the chord."""
    low, high, value = 0.0, 1.0, test(a)
    point = None
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        x = between(problem, a, b, middle)
        if x is None:
            return None
        point = point_at(problem, x, a.tangent, label, a.growing)
        here = test(point)
        if not np.isfinite(here):
            return None
        low, high = (middle, high) if here * value > 0.0 else (low, middle)
        if high - low < 1e-12:
            break
    if point is not None and label == HOPF:
        pairs = _pairs(point)
        return replace(point, frequency=1000.0 * float(pairs[np.abs(pairs.real).argmin()].imag) / (2.0 * np.pi))
    return point


def _oscillating(problem: Problem, a: Point, b: Point) -> Iterator[Point]:
    """Hopf bifurcations between two neighbours of a model with dynamics."""
    for low, high, before, after in _changes(problem, a, b, (0.0, a.growing), (1.0, b.growing)):
        # One mode alone changes at a fold.
        point = _marginal(problem, a, b, low, high, before) if (after - before) % 2 == 0 else None
        if point is not None:
            yield point


def _changes(problem: Problem, a: Point, b: Point, low: tuple[float, int],
             high: tuple[float, int]) -> Iterator[tuple[float, float, int, int]]:
    """Parts of the way from a to b in which the number of growing modes changes, and that number before and after.

    `low`, `high`: a part of the way, and the modes that grow there.
    """
    if low[1] == high[1]:
        return
    middle = 0.5 * (low[0] + high[0])
    here = growing_if_known(problem, between(problem, a, b, middle)) if high[0] - low[0] > _APART else None
    if here is None:
        yield low[0], high[0], low[1], high[1]
    else:
        yield from _changes(problem, a, b, low, (middle, here))
        yield from _changes(problem, a, b, (middle, here), high)


def _marginal(problem: Problem, a: Point, b: Point, low: float, high: float, growing: int) -> Point | None:
    """The Hopf bifurcation in that part of the way from a to b: where det(I - L) is 0 at some frequency."""
    middle = between(problem, a, b, 0.5 * (low + high))
    if middle is None:
        return None
    near = marginal_frequency(*model_at(problem, middle))

    def at(part: float) -> FloatArray | None:
        return between(problem, a, b, low + part * (high - low))

    def wrong(u: FloatArray) -> tuple[float, float]:
        x = at(float(u[0]))
        if x is None:
            return 1.0, 1.0
        value = loop_determinant(*model_at(problem, x), frequency=near * float(u[1]))
        return value.real, value.imag

    found = root(wrong, [0.5, 1.0], tol=1e-12)
    good = found.success and -1.0 < found.x[0] < 2.0 and found.x[1] > 0.0
    part, times = map(float, found.x if good else (0.5, 1.0))
    x = at(part)
    return None if x is None else replace(point_at(problem, x, a.tangent, HOPF, growing), frequency=near * times)
