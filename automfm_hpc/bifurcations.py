"""Folds and Hopf bifurcations between two neighbouring points of a branch, located by bisection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

from automfm_hpc.branches import Point, Problem, corrected, growing_if_known, model_at, point_at
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
    chord = b.x - a.x
    low, high, value = 0.0, 1.0, test(a)
    point = None
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        found = corrected(problem, a.x + middle * chord, chord / np.linalg.norm(chord))
        if found is None:
            return None
        point = point_at(problem, found[0], a.tangent, label, a.growing)
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
    chord = b.x - a.x

    def between(part: float) -> FloatArray | None:
        found = corrected(problem, a.x + part * chord, chord / np.linalg.norm(chord))
        return None if found is None else found[0]

    def changes(low: float, before: int, high: float, after: int) -> Iterator[tuple[float, float, int, int]]:
        if before != after:
            middle = 0.5 * (low + high)
            here = growing_if_known(problem, between(middle)) if high - low > _APART else None
            if here is None:
                yield low, high, before, after
            else:
                yield from changes(low, before, middle, here)
                yield from changes(middle, here, high, after)

    for low, high, before, after in changes(0.0, a.growing, 1.0, b.growing):
        middle = between(0.5 * (low + high))
        if (after - before) % 2 == 0 and middle is not None:  # one mode alone changes at a fold
            first = marginal_frequency(*model_at(problem, middle))

            def wrong(u: FloatArray, low: float = low, high: float = high, first: float = first) -> tuple[float, float]:
                x = between(low + float(u[0]) * (high - low))
                if x is None:
                    return 1.0, 1.0
                value = loop_determinant(*model_at(problem, x), frequency=first * float(u[1]))
                return value.real, value.imag

            found = root(wrong, [0.5, 1.0], tol=1e-12)
            good = found.success and -1.0 < found.x[0] < 2.0 and found.x[1] > 0.0
            part, times = found.x if good else (0.5, 1.0)
            x = between(low + float(part) * (high - low))
            if x is not None:
                yield replace(point_at(problem, x, a.tangent, HOPF, before), frequency=first * float(times))
