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

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import fixed_points
from automfm_hpc.bifurcations import special_points
from automfm_hpc.branches import END, Model, Point, Problem, corrected, growing_if_known, point_at
from automfm_hpc.drive import tabulate
from automfm_hpc.errors import MeanFieldError, suggest
from automfm_hpc.response import System

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.mean_field import MeanField

FloatArray = NDArray[np.float64]
_GROW, _SHRINK, _EASY, _SMALLEST = 1.5, 0.5, 4, 1e-7  # of the step; iterations that were easy
_BEFORE = 0.9  # of a step that ends on a bifurcation, where growing modes cannot be counted


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


def _branch(
    problem: Problem, x: FloatArray, sign: float, longest: float, most: int, warnings: list[str], P: int
) -> list[Point]:
    """From a point at one end until the parameter leaves the range."""
    low, high = sorted((problem.start / problem.scale[-1], problem.stop / problem.scale[-1]))
    along = np.zeros(P + 1)
    along[-1] = sign
    points = [point_at(problem, x, along, END)]
    h = 0.1 * longest
    while len(points) < most:
        last = points[-1]
        found = corrected(problem, last.x + h * last.tangent, last.tangent)
        new = None if found is None else point_at(problem, found[0], last.tangent, growing=0)
        far = new is None or new.tangent @ last.tangent < 0.9 or np.abs(new.x - last.x).max() > 2.0 * h
        growing = None if far or new is None else growing_if_known(problem, new.x)
        if found is None or new is None or growing is None:
            h *= _SHRINK if far else _BEFORE
            if h < _SMALLEST:
                rates = ", ".join(f"{v:.4g}" for v in last.x[:-1] * problem.scale[:-1])
                warnings.append(f"a branch could not be followed beyond {last.x[-1] * problem.scale[-1]:.6g} at rates "
                                f"{rates} Hz")
                return points
            continue
        new = replace(new, growing=growing)
        if not low <= new.x[-1] <= high:
            points += [*special_points(problem, last, end := _at_end(problem, last, new, low, high)), end]
            return points
        points += [*special_points(problem, last, new), new]
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
    found = corrected(problem, guess, normal)
    return point_at(problem, guess if found is None else found[0], last.tangent, END)


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
