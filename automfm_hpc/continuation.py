"""Branches of fixed points along a parameter, with their stability, folds and Hopf bifurcations (order 1).

Pseudo-arclength continuation: a branch is a curve in (rates, parameter); each next point is predicted along its tangent
and corrected by Newton's method in the hyperplane across it, so a fold, where the parameter turns back, is a point
like any other. dF/dnu and the derivative by an input's rate are analytic, that by another parameter a difference.

Rates and parameter are measured in units of their ranges. A fold is a zero of the tangent's parameter component.
Without dynamics stability is that of (J - I)/T, and a Hopf bifurcation a complex pair of its eigenvalues on the
imaginary axis. A model's dynamics (delays, synapses, cell responses) move no fixed point, but can make one unstable:
with them the modes that grow are counted by the Nyquist criterion (`linear_response.unstable_modes`); a Hopf
bifurcation is where their number changes by two, and a zero of det(I - L) at its frequency. All are located by
bisection along the branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

from automfm_hpc import fixed_points
from automfm_hpc.drive import tabulate
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError, suggest
from automfm_hpc.linear_response import loop_determinant, marginal_frequency, unstable_modes
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
_APART = 2.0**-12  # of a step: nearer changes of the number of growing modes are one


class Model(NamedTuple):
    """A model at one value of the parameter: its equations, the rates (Hz) of all inputs, and dynamics, if any."""

    system: System
    inputs: FloatArray
    dynamics: Dynamics | None


class Problem(NamedTuple):
    """F(nu, p) - nu = 0; unknowns are scaled to about 1."""

    at: Callable[[float], Model]  # the model at a parameter
    column: int  # of J, of the input that is the parameter; -1: another parameter
    scale: FloatArray  # (P + 1,) Hz, then in units of the parameter
    start: float
    stop: float


@dataclass(frozen=True)
class Point:
    """One point of a branch.

    Parameters
    ----------
    x, tangent : (P + 1,) array
        Scaled rates and parameter; unit vector.
    eigenvalues : (P,) array of complex
        Of (J - I)/T (1/ms), largest real part first.
    growing : int
        Modes that grow, with dynamics if there are any.
    label : str
    frequency : float
        Of a Hopf bifurcation (Hz), else NaN.
    """

    x: FloatArray
    tangent: FloatArray
    eigenvalues: NDArray[np.complex128]
    growing: int
    label: str = ORDINARY
    frequency: float = float("nan")


def continue_input(
    model: MeanField, name: str, start: float, stop: float, drive: Mapping[str, float], dynamics: bool | None = None,
    **options: Any,
) -> xarray.Dataset:  # fmt: skip
    """Branches along an input's rate from `start` to `stop` (Hz); `drive`: rates of the other inputs. See `follow`."""
    if name not in model.inputs:
        raise MeanFieldError(f"no input '{name}'", where="continuation", remedy=suggest(name, model.inputs))
    base = tabulate({**drive, name: start}, model.inputs, np.zeros(1))[0]
    column, used = model.inputs.index(name), model.filters_used(dynamics)

    def at(p: float) -> Model:
        inputs = base.copy()
        inputs[column] = p
        return Model(model.system, inputs, used)

    return follow(model, at, len(model.populations) + column, start, stop, name, "Hz", **options)


def continue_family(
    family: Callable[[float], MeanField], start: float, stop: float, drive: Mapping[str, float],
    name: str = "parameter", unit: str = "", dynamics: bool | None = None, **options: Any,
) -> xarray.Dataset:  # fmt: skip
    """Branches along the parameter of a family of models: `family` returns the model at a value. See `follow`."""
    first = family(start)
    inputs = tabulate(drive, first.inputs, np.zeros(1))[0]

    def at(p: float) -> Model:
        model = family(p)
        return Model(model.system, inputs, model.filters_used(dynamics))

    return follow(first, at, -1, start, stop, name, unit, **options)


def follow(
    model: MeanField, at: Callable[[float], Model], column: int, start: float, stop: float, name: str, unit: str,
    step: float = 0.02, n_start: int = 24, most: int = 2000,
) -> xarray.Dataset:  # fmt: skip
    """All branches that begin at the fixed points found at `start` or end at those found at `stop`.

    Parameters
    ----------
    model : MeanField
        Populations, labels and domains.
    at : function
        The model at a value of the parameter.
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
        Along `point`: `parameter`, `rate` (point, population) in Hz, `eigenvalue` (point, mode) of (J - I)/T in 1/s,
        complex, `growing` (how many modes grow, with dynamics if the model has any and `dynamics` is not False; at a
        special point as before it), `stable` (none does), `inside` (the domains of the transfer functions), `branch`
        (number), `label`: 'fold', 'Hopf', 'end' of a branch, or '', and `frequency` of a Hopf bifurcation in Hz.
        Attributes: parameter, unit, warnings. Branches that close or do not reach `start` or `stop` (isolas) are not
        found, nor two Hopf bifurcations that undo one another within a step.
    """
    if not (np.isfinite([start, stop]).all() and start != stop and 0 < step <= 1):
        raise MeanFieldError(f"a continuation from {start:g} to {stop:g} in steps of {step:g}", where="continuation",
                             remedy="Give two different values, and a step between 0 and 1 of their distance.")
    P = len(model.populations)
    scale = np.append(_ranges(at(start).system), abs(stop - start))
    problem = Problem(at, column, scale, start, stop)
    branches: list[list[Point]] = []
    warnings: list[str] = []
    for end, sign in ((start, np.sign(stop - start)), (stop, np.sign(start - stop))):
        system, inputs, _ = at(end)
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
    system, inputs, _ = problem.at(parameter)
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


def _point(problem: Problem, x: FloatArray, along: FloatArray, label: str = ORDINARY,
           growing: int | None = None) -> Point:
    """The point of a branch at x, its tangent in the direction of `along`; `growing`: if it need not be counted."""
    _, slope = _mismatch(problem, x)
    P, model = x.size - 1, problem.at(float(x[-1] * problem.scale[-1]))
    J = slope[:, :P] * problem.scale[:-1, None] / problem.scale[:-1]  # J - I
    values = np.linalg.eigvals(J / model.system.T[:P, None]).astype(complex)
    if growing is None:
        growing = int((values.real >= 0).sum()) if model.dynamics is None else _growing(problem, x)
    return Point(x, _tangent(slope, along), values[np.lexsort((-values.imag, -values.real))], growing, label)


def _at(problem: Problem, x: FloatArray) -> tuple[System, Dynamics | None, FloatArray]:
    """Equations, dynamics and rates (M,) of populations and inputs (Hz) at x."""
    values = x * problem.scale
    system, inputs, dynamics = problem.at(float(values[-1]))
    return system, dynamics, np.concatenate([values[:-1], inputs])


def _growing(problem: Problem, x: FloatArray) -> int:
    return unstable_modes(*_at(problem, x))


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
    found: list[Point] = []
    if _at(problem, a.x)[1] is None:
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
        found = _corrected(problem, a.x + middle * chord, chord / np.linalg.norm(chord))
        if found is None:
            return None
        point = _point(problem, found[0], a.tangent, label, a.growing)
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
        found = _corrected(problem, a.x + part * chord, chord / np.linalg.norm(chord))
        return None if found is None else found[0]

    def changes(low: float, before: int, high: float, after: int) -> Iterator[tuple[float, float, int, int]]:
        if before != after:
            middle = 0.5 * (low + high)
            here = _growing_if_known(problem, between(middle)) if high - low > _APART else None
            if here is None:
                yield low, high, before, after
            else:
                yield from changes(low, before, middle, here)
                yield from changes(middle, here, high, after)

    for low, high, before, after in changes(0.0, a.growing, 1.0, b.growing):
        middle = between(0.5 * (low + high))
        if (after - before) % 2 == 0 and middle is not None:  # one mode alone changes at a fold
            first = marginal_frequency(*_at(problem, middle))

            def wrong(u: FloatArray, low: float = low, high: float = high, first: float = first) -> tuple[float, float]:
                x = between(low + float(u[0]) * (high - low))
                value = 1.0 + 1.0j if x is None else loop_determinant(*_at(problem, x), frequency=first * float(u[1]))
                return value.real, value.imag

            found = root(wrong, [0.5, 1.0], tol=1e-12)
            good = found.success and -1.0 < found.x[0] < 2.0 and found.x[1] > 0.0
            part, times = found.x if good else (0.5, 1.0)
            x = between(low + float(part) * (high - low))
            if x is not None:
                yield replace(_point(problem, x, a.tangent, HOPF, before), frequency=first * float(times))


def _growing_if_known(problem: Problem, x: FloatArray | None) -> int | None:
    """Modes that grow at x; None if there is no such point, or one mode neither grows nor decays."""
    try:
        return None if x is None else _growing(problem, x)
    except MeanFieldError:
        return None


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
            "growing": ("point", np.array([point.growing for point in points], int)),
            "stable": ("point", np.array([point.growing == 0 for point in points], bool)),
            "inside": ("point", np.array([_inside(problem, row) for row in x], bool)),
            "branch": ("point", np.array(number, int)),
            "label": ("point", np.array([point.label for point in points], dtype=str)),
            "frequency": ("point", np.array([point.frequency for point in points], float), {"units": "Hz"}),
        },
        {"population": list(model.populations)},
        {"parameter": name, "unit": unit, "start": problem.start, "stop": problem.stop, "warnings": warnings},
    )  # fmt: skip


def _inside(problem: Problem, row: FloatArray) -> bool:
    system, inputs, _ = problem.at(float(row[-1]))
    values, (low, high) = np.concatenate([row[:-1], inputs])[system.axes], system.domain.T
    slack = 1e-6 * (high - low)
    return bool(((values >= low - slack) & (values <= high + slack)).all())
