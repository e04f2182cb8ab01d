"""Branches of fixed points along a parameter, with their stability, folds and Hopf bifurcations (order 1).

Pseudo-arclength continuation: a branch is a curve in (rates, parameter); each next point is predicted along its tangent
and corrected by Newton's method in the hyperplane across it, so a fold, where the parameter turns back, is a point
like any other. dF/dnu and the derivative by an input's rate are analytic, that by another parameter a difference.

Rates and parameter are measured in units of their ranges. Stability is that of (J - I)/T. A fold is a zero of the
tangent's parameter component, a Hopf bifurcation a complex pair of eigenvalues on the imaginary axis; both are
located by bisection along the branch. A model's dynamics (delays, synapses) move no fixed point, but can make one
unstable; they are left out here, and `MeanField.fixed_points` judges with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import fixed_points
from automfm_hpc.drive import tabulate
from automfm_hpc.errors import MeanFieldError, suggest
from automfm_hpc.response import System, respond

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.mean_field import MeanField

FloatArray = NDArray[np.float64]
ORDINARY, FOLD, HOPF, END = "", "fold", "Hopf", "end"
_TOLERANCE, _ITERATIONS, _BISECTIONS = 1e-10, 12, 60
_GROW, _SHRINK, _EASY, _SMALLEST = 1.5, 0.5, 4, 1e-7  # of the step; iterations that were easy
_DIFFERENCE = 1e-6  # of the parameter's range
_REAL = 1e-6  # 1/ms: a pair with a smaller imaginary part is not complex


class Problem(NamedTuple):
    """F(nu, p) - nu = 0; unknowns are scaled to about 1."""

    system: Callable[[float], tuple[System, FloatArray]]  # the model and all inputs' rates at a parameter
    column: int  # of J, of the input that is the parameter; -1: another parameter
    scale: FloatArray  # (P + 1,) Hz, then in units of the parameter
    start: float
    stop: float


@dataclass(frozen=True)
class Point:
    """One point of a branch: scaled (rates, parameter), unit tangent, eigenvalues (1/ms), largest real part first."""

    x: FloatArray
    tangent: FloatArray
    eigenvalues: NDArray[np.complex128]
    label: str = ORDINARY


def continue_input(
    model: MeanField, name: str, start: float, stop: float, drive: Mapping[str, float], **options: Any
) -> xarray.Dataset:
    """Branches along an input's rate from `start` to `stop` (Hz); `drive`: rates of the other inputs. See `follow`."""
    if name not in model.inputs:
        raise MeanFieldError(f"no input '{name}'", where="continuation", remedy=suggest(name, model.inputs))
    base = tabulate({**drive, name: start}, model.inputs, np.zeros(1))[0]
    column = model.inputs.index(name)

    def at(p: float) -> tuple[System, FloatArray]:
        inputs = base.copy()
        inputs[column] = p
        return model.system, inputs

    return follow(model, at, len(model.populations) + column, start, stop, name, "Hz", **options)


def continue_family(
    family: Callable[[float], MeanField], start: float, stop: float, drive: Mapping[str, float],
    name: str = "parameter", unit: str = "", **options: Any,
) -> xarray.Dataset:  # fmt: skip
    """Branches along the parameter of a family of models: `family` returns the model at a value. See `follow`."""
    model = family(start)
    inputs = tabulate(drive, model.inputs, np.zeros(1))[0]
    return follow(model, lambda p: (family(p).system, inputs), -1, start, stop, name, unit, **options)


def follow(
    model: MeanField, at: Callable[[float], tuple[System, FloatArray]], column: int, start: float, stop: float,
    name: str, unit: str, step: float = 0.02, n_start: int = 24, most: int = 2000,
) -> xarray.Dataset:  # fmt: skip
    """All branches that begin at the fixed points found at `start` or end at those found at `stop`.

    Parameters
    ----------
    model : MeanField
        Populations, labels and domains.
    at : function
        System and input rates at a value of the parameter.
    column : int
        Column of J of the input that is the parameter, or -1.
    start, stop : float
    name, unit : str
        Of the parameter.
    step : float
        Longest step, as a fraction of the ranges of parameter and rates.
    n_start : int
        Starts of Newton's method at both ends, see `MeanField.fixed_points`.
    most : int
        Points of a branch, after which it is left with a warning.

    Returns
    -------
    xarray.Dataset
        Along `point`: `parameter`, `rate` (point, population) in Hz, `eigenvalue` (point, mode) in 1/s, complex,
        `stable`, `inside` (the domains of the transfer functions), `branch` (number) and `label`: 'fold', 'Hopf',
        'end' of a branch, or ''. Attributes: parameter, unit, warnings. Branches that close or do not reach `start`
        or `stop` (isolas) are not found.
    """
    if not (np.isfinite([start, stop]).all() and start != stop and 0 < step <= 1):
        raise MeanFieldError(f"a continuation from {start:g} to {stop:g} in steps of {step:g}", where="continuation",
                             remedy="Give two different values, and a step between 0 and 1 of their distance.")
    P = len(model.populations)
    scale = np.append(_ranges(at(start)[0]), abs(stop - start))
    problem = Problem(at, column, scale, start, stop)
    branches: list[list[Point]] = []
    warnings: list[str] = []
    for end, sign in ((start, np.sign(stop - start)), (stop, np.sign(start - stop))):
        system, inputs = at(end)
        found = fixed_points.search(system, model.populations, inputs, 1,
                                    fixed_points.default_starts(system, n_start), model.axis_labels)  # fmt: skip
        for fixed in found:
            x = np.append(fixed.rates, end) / scale
            if not any(_passes(branch, x) for branch in branches):
                branches.append(_branch(problem, x, float(sign), step, most, warnings, P))
    return _dataset(model, problem, branches, warnings, name, unit)


def _ranges(system: System) -> FloatArray:
    """Ranges of the populations' rates (Hz): the domains where they are sources, half of 1/T elsewhere."""
    P = system.axis_start.size - 1
    return np.maximum(fixed_points.default_starts(system, 4)[3] / 0.9, 1e-3 * 1000.0 / system.T[:P])


def _passes(branch: list[Point], x: FloatArray) -> bool:
    return any(np.abs(point.x - x).max() < 1e-6 for point in (branch[0], branch[-1])) if branch else False


# -- the curve ---------------------------------------------------------------------------------------------------


def _mismatch(problem: Problem, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """F - nu (P,) and its derivatives (P, P + 1), scaled; F is continued where it is negative or above 1/T."""
    values = x * problem.scale
    F, J = _driven(problem, values[:-1], float(values[-1]))
    P = F.size
    if problem.column >= 0:
        by_parameter = J[:, problem.column]
    else:
        d = _DIFFERENCE * problem.scale[-1]
        ahead, behind = (_driven(problem, values[:-1], float(values[-1]) + e)[0] for e in (d, -d))
        by_parameter = (ahead - behind) / (2.0 * d)
    slope = np.column_stack([J[:, :P] - np.eye(P), by_parameter])
    return (F - values[:-1]) / problem.scale[:-1], slope * problem.scale / problem.scale[:-1, None]


def _driven(problem: Problem, rates: FloatArray, parameter: float) -> tuple[FloatArray, FloatArray]:
    system, inputs = problem.system(parameter)
    state = np.concatenate([rates, inputs])
    F, J, _ = respond(system, state, np.zeros((state.size, state.size)))
    return F, J


def _tangent(slope: FloatArray, along: FloatArray) -> FloatArray:
    """Unit vector of the kernel of the slope (P, P + 1), in the direction of `along`."""
    vector = np.linalg.svd(slope)[2][-1]
    return np.asarray(vector * (1.0 if vector @ along >= 0 else -1.0))


def _corrected(problem: Problem, guess: FloatArray, normal: FloatArray) -> tuple[FloatArray, int] | None:
    """The point of the curve in the hyperplane through `guess` across `normal`, and iterations; None: not found."""
    x = guess.copy()
    for iteration in range(_ITERATIONS):
        wrong, slope = _mismatch(problem, x)
        if not (np.isfinite(wrong).all() and np.isfinite(slope).all()):
            return None
        residual = np.append(wrong, normal @ (x - guess))
        if np.abs(residual).max() < _TOLERANCE:
            return x, iteration
        try:
            x = x - np.linalg.solve(np.vstack([slope, normal]), residual)
        except np.linalg.LinAlgError:
            return None
    return None


def _point(problem: Problem, x: FloatArray, along: FloatArray, label: str = ORDINARY) -> Point:
    _, slope = _mismatch(problem, x)
    system, _ = problem.system(float(x[-1] * problem.scale[-1]))
    P = x.size - 1
    J = slope[:, :P] * problem.scale[:-1, None] / problem.scale[:-1]  # J - I
    values = np.linalg.eigvals(J / system.T[:P, None]).astype(complex)
    return Point(x, _tangent(slope, along), values[np.lexsort((-values.imag, -values.real))], label)


def _branch(
    problem: Problem, x: FloatArray, sign: float, longest: float, most: int, warnings: list[str], P: int
) -> list[Point]:
    """From a point at one end until the parameter leaves the range."""
    low, high = sorted((problem.start / problem.scale[-1], problem.stop / problem.scale[-1]))
    along = np.zeros(P + 1)
    along[-1] = sign
    points = [_point(problem, x, along, END)]
    h = 0.1 * longest
    while len(points) < most:
        last = points[-1]
        found = _corrected(problem, last.x + h * last.tangent, last.tangent)
        if found is not None:
            new = _point(problem, found[0], last.tangent)
        if found is None or new.tangent @ last.tangent < 0.9 or np.abs(new.x - last.x).max() > 2.0 * h:
            h *= _SHRINK
            if h < _SMALLEST:
                rates = ", ".join(f"{v:.4g}" for v in last.x[:-1] * problem.scale[:-1])
                warnings.append(f"a branch could not be followed beyond {last.x[-1] * problem.scale[-1]:.6g} at rates "
                                f"{rates} Hz")
                return points
            continue
        if not low <= new.x[-1] <= high:
            points += [*_special(problem, last, end := _at_end(problem, last, new, low, high)), end]
            return points
        points += [*_special(problem, last, new), new]
        h = min(longest, h * _GROW) if found[1] <= _EASY else h
    warnings.append(f"a branch was left after {most} points")
    return points


def _at_end(problem: Problem, last: Point, new: Point, low: float, high: float) -> Point:
    """The point between both where the parameter is at an end of its range."""
    end = high if new.x[-1] > high else low
    normal = np.zeros(last.x.size)
    normal[-1] = 1.0
    part = (end - last.x[-1]) / (new.x[-1] - last.x[-1])
    guess = last.x + part * (new.x - last.x)
    guess[-1] = end
    found = _corrected(problem, guess, normal)
    return _point(problem, guess if found is None else found[0], last.tangent, END)


# -- special points ----------------------------------------------------------------------------------------------


def _fold(point: Point) -> float:
    return float(point.tangent[-1])


def _hopf(order: int, point: Point) -> float:
    """Real part of the complex pair number `order`; NaN where there are not so many."""
    pairs = _pairs(point)
    return float(pairs[order].real) if order < pairs.size else float("nan")


def _pairs(point: Point) -> NDArray[np.complex128]:
    return point.eigenvalues[point.eigenvalues.imag > _REAL]


def _special(problem: Problem, a: Point, b: Point) -> Iterator[Point]:
    """Folds and Hopf bifurcations between two neighbours, in their order along the branch."""
    tests: list[tuple[str, Callable[[Point], float]]] = [(FOLD, _fold)]
    tests += [(HOPF, partial(_hopf, k)) for k in range(min(_pairs(a).size, _pairs(b).size))]
    found = []
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
        found = _corrected(problem, a.x + middle * chord, chord / np.linalg.norm(chord))
        if found is None:
            return None
        point = _point(problem, found[0], a.tangent, label)
        here = test(point)
        if not np.isfinite(here):
            return None
        low, high = (middle, high) if here * value > 0.0 else (low, middle)
        if high - low < 1e-12:
            break
    return point


def _dataset(
    model: MeanField, problem: Problem, branches: list[list[Point]], warnings: list[str], name: str, unit: str
) -> xarray.Dataset:
    import xarray

    points = [point for branch in branches for point in branch]
    number = [k for k, branch in enumerate(branches) for _ in branch]
    P = len(model.populations)
    x = np.array([point.x for point in points]).reshape(-1, P + 1) * problem.scale
    values = 1000.0 * np.array([point.eigenvalues for point in points]).reshape(-1, P)
    return xarray.Dataset(
        {
            "parameter": ("point", x[:, -1], {"units": unit, "name": name}),
            "rate": (("point", "population"), x[:, :-1], {"units": "Hz"}),
            "eigenvalue": (("point", "mode"), values, {"units": "1/s"}),
            "stable": ("point", (values.real < 0).all(axis=1)),
            "inside": ("point", np.array([_inside(problem, row) for row in x], bool)),
            "branch": ("point", np.array(number, int)),
            "label": ("point", np.array([point.label for point in points], dtype=str)),
        },
        {"population": list(model.populations)},
        {"parameter": name, "unit": unit, "start": problem.start, "stop": problem.stop, "warnings": warnings},
    )  # fmt: skip


def _inside(problem: Problem, row: FloatArray) -> bool:
    system, inputs = problem.system(float(row[-1]))
    values, (low, high) = np.concatenate([row[:-1], inputs])[system.axes], system.domain.T
    slack = 1e-6 * (high - low)
    return bool(((values >= low - slack) & (values <= high + slack)).all())
