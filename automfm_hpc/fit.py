"""Fits transfer functions to measured rates, judges them, and chooses a kind by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import FitError, suggest
from automfm_hpc.moments import Membrane, membrane
from automfm_hpc.provenance import seed_for
from automfm_hpc.rate_grid import RateGrid
from automfm_hpc.regression import Points, Regression, regress
from automfm_hpc.remap import Cell
from automfm_hpc.template import COEFFICIENTS
from automfm_hpc.transfer_function import KINDS, TransferFunction

FloatArray = NDArray[np.float64]
FOLDS = 5
FEWEST_POINTS = 4
SEM_FLOOR = 0.5  # of the lower quartile of the standard errors: a silent point has none of its own
LEAST_SPREAD = 0.5  # Hz: a population whose rate varies less need not be explained


@dataclass(frozen=True)
class Score:
    """Judgement of one kind.

    Parameters
    ----------
    kind : str
    cv, cv_sem : float
        Weighted root mean square error (Hz) at points left out of the fit; standard error over folds.
    rmse, weighted_rmse, max_error : float
        At the fitted points (Hz), all alike, weighted, and the largest.
    max_error_at : tuple of float
        Input rates (Hz) of the largest error.
    chi2 : float or None
        Mean squared error over squared standard error, per degree of freedom: 1 at the sampling noise.
    freedom : float
        Effective number of coefficients.
    converged : bool
    message : str
    """

    kind: str
    cv: float
    cv_sem: float
    rmse: float
    weighted_rmse: float
    max_error: float
    max_error_at: tuple[float, ...]
    chi2: float | None
    freedom: float
    converged: bool
    message: str


@dataclass(frozen=True, eq=False)
class FitResult:
    """The chosen transfer function and how it was judged.

    Parameters
    ----------
    transfer_function : TransferFunction
    scores : Mapping
        Kind -> Score, for every kind tried.
    coefficient_names : tuple of str
    covariance : (n_coefficient, n_coefficient) array
        Of the coefficients of the chosen kind; mV^2 for templates.
    n_points, n_missing, n_outside : int
        Points used; points without a rate; of those, the ones outside the domain of the fit.
    noise : float or None
        Root mean square of the standard errors (Hz).
    """

    transfer_function: TransferFunction
    scores: Mapping[str, Score]
    coefficient_names: tuple[str, ...]
    covariance: FloatArray
    n_points: int
    n_missing: int
    n_outside: int
    noise: float | None

    @property
    def kind(self) -> str:
        return self.transfer_function.kind

    @property
    def score(self) -> Score:
        """The judgement of the chosen kind."""
        return self.scores[self.kind]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: the judgement and, for templates, the coefficients with their covariance."""
        plain = {kind: {**vars(s), "max_error_at": list(s.max_error_at)} for kind, s in self.scores.items()}
        data: dict[str, Any] = {
            "population": self.transfer_function.population, "kind": self.kind,
            "axes": list(self.transfer_function.axes), "domain": self.transfer_function.domain.tolist(),
            "n_points": self.n_points, "n_missing": self.n_missing, "n_outside": self.n_outside,
            "noise": self.noise, "scores": {k: {n: _finite(v) for n, v in s.items()} for k, s in plain.items()},
        }  # fmt: skip
        if self.kind in COEFFICIENTS:
            data["coefficients"] = dict(self.transfer_function.coefficients)  # type: ignore[attr-defined]
            data["covariance"] = self.covariance.tolist()
        return data


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fit(
    cell: Cell, grid: RateGrid, *, kinds: Sequence[str] = KINDS, pool: Any = None, seed: int = 0
) -> FitResult:
    """Fit one population; see `fit_all`."""
    return fit_all((cell,), (grid,), kinds=kinds, scheduler=pool, seed=seed)[0]


def fit_all(
    cells: Sequence[Cell], grids: Sequence[RateGrid], *, kinds: Sequence[str] = KINDS,
    scheduler: Any = None, seed: int = 0,
) -> tuple[FitResult, ...]:  # fmt: skip
    """Fit every population with every kind and keep the kind that predicts best.

    The points are split at random into folds; each fold is predicted by a fit to the others, which
    keeps the knots and the smoothing of the fit to all points. The simplest kind wins whose error is
    not larger than the best one's by more than the standard error of their difference.

    Parameters
    ----------
    cells, grids : sequences
        In the same order.
    kinds : sequence of str
        Tried kinds, of `transfer_function.KINDS`.
    scheduler : optional
        What `dask.compute` takes: 'synchronous' (default), 'threads', a distributed Client, or a
        concurrent.futures executor. The result does not depend on it.
    seed : int
        Of the folds.

    Raises
    ------
    FitError
        Too few finite points, an unknown kind, axes that are not the cell's, or no fit that can be trusted.
    """
    import dask

    for kind in kinds:
        if kind not in KINDS:
            raise FitError(f"unknown kind '{kind}' of transfer function", where="fit", remedy=suggest(kind, KINDS))
    tried = [kind for kind in KINDS if kind in kinds]
    problems = [_Problem.of(cell, grid, seed) for cell, grid in zip(cells, grids, strict=True)]
    tasks = [_tasks(problem, tried) for problem in problems]
    (done,) = dask.compute(tasks, scheduler=scheduler or "synchronous", traverse=True)
    return tuple(_judge(problem, tried, results) for problem, results in zip(problems, done, strict=True))


@dataclass(frozen=True, eq=False)
class _Problem:
    """One population, ready to be sent to a worker."""

    membrane: Membrane
    points: Points
    sem: FloatArray | None
    folds: NDArray[np.int64]
    n_missing: int
    n_outside: int

    @staticmethod
    def of(cell: Cell, grid: RateGrid, seed: int) -> _Problem:
        nu, rate, sem = _flat(cell, grid)
        here = np.isfinite(rate)
        if here.sum() < FEWEST_POINTS:
            raise FitError(
                f"{here.sum()} of {rate.size} grid points have a finite rate, at least {FEWEST_POINTS} are needed",
                where=f"fit of {grid.population}", remedy="Simulate the missing points, or use a finer grid.",
            )  # fmt: skip
        error = _standard_errors(sem[here])
        weight = np.ones(int(here.sum())) if error is None else np.mean(error**-2.0) ** -1.0 * error**-2.0
        levels = tuple(np.unique(column).size for column in nu[here].T)
        points = Points(cell.population, cell.axes, nu[here], rate[here], weight, levels, cell.parameters["t_ref"])
        low, high = points.domain.T
        outside = ~np.all((nu >= low) & (nu <= high), axis=1)
        order = np.random.default_rng(seed_for(seed, "folds", cell.population)).permutation(len(points.rate))
        folds = order % min(FOLDS, len(order))
        return _Problem(membrane(cell), points, error, folds, int((~here).sum()), int(outside.sum()))


def _flat(cell: Cell, grid: RateGrid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Input rates (n, n_axis) in the cell's order of axes, output rates and standard errors (n,)."""
    where = f"fit of {grid.population}"
    if sorted(grid.axes) != sorted(cell.axes):
        raise FitError(f"the grid has axes {', '.join(grid.axes)}, the cell has {', '.join(cell.axes)}", where=where,
                       remedy="Plan and simulate the grid again for this network.")
    shape = tuple(len(c) for c in grid.coordinates)
    if grid.rate.shape != shape or (grid.rate_sem is not None and grid.rate_sem.shape != shape):
        raise FitError(f"rates of shape {grid.rate.shape} on coordinates of shape {shape}", where=where)
    mesh = np.stack(np.meshgrid(*grid.coordinates, indexing="ij"), axis=-1).reshape(-1, len(shape))
    order = [grid.axes.index(axis) for axis in cell.axes]
    sem = np.full(shape, np.nan) if grid.rate_sem is None else grid.rate_sem
    return mesh[:, order].astype(float), grid.rate.ravel().astype(float), sem.ravel().astype(float)


def _standard_errors(sem: FloatArray) -> FloatArray | None:
    """Standard errors (Hz) with a floor, so that no point weighs infinitely; None where none is known."""
    positive = sem[np.isfinite(sem) & (sem > 0)]
    if positive.size == 0:
        return None
    known = np.where(np.isfinite(sem), sem, np.median(positive))
    return np.asarray(np.maximum(known, SEM_FLOOR * np.percentile(positive, 25)))


def _tasks(problem: _Problem, kinds: Sequence[str]) -> list[list[Any]]:
    """For each kind the fit to all points and the errors of each fold, as Dask tasks."""
    from dask import delayed

    tasks = []
    for kind in kinds:
        full = delayed(regress)(kind, problem.membrane, problem.points)
        folds = range(int(problem.folds.max()) + 1)
        tasks.append([full, *(delayed(_fold)(kind, problem, k, full) for k in folds)])
    return tasks


def _fold(kind: str, problem: _Problem, k: int, full: Regression) -> FloatArray:
    """Errors (Hz) at the points of fold k of a fit to the other folds."""
    left_out = problem.folds == k
    fitted = regress(kind, problem.membrane, problem.points.only(~left_out), full)
    predicted = fitted.transfer_function(problem.points.nu[left_out])
    return np.asarray(predicted - problem.points.rate[left_out])


def _judge(problem: _Problem, kinds: Sequence[str], results: list[list[Any]]) -> FitResult:
    """Scores of all kinds, the choice, and the refusal of what cannot be trusted."""
    fitted = {kind: result[0] for kind, result in zip(kinds, results, strict=True)}
    errors = {kind: _gathered(problem, result[1:]) for kind, result in zip(kinds, results, strict=True)}
    scores = {kind: _score(problem, kind, fitted[kind], errors[kind]) for kind in kinds}
    chosen = _choose(problem, scores, errors)
    tf = fitted[chosen].transfer_function
    names = COEFFICIENTS.get(chosen) or tuple(
        f"c[{','.join(map(str, index))}]" for index in np.ndindex(tf.coefficients.shape)
    )
    noise = None if problem.sem is None else float(np.sqrt(np.mean(problem.sem**2)))
    return FitResult(tf, scores, names, fitted[chosen].covariance, len(problem.points.rate), problem.n_missing,
                     problem.n_outside, noise)  # fmt: skip


def _gathered(problem: _Problem, folds: list[FloatArray]) -> FloatArray:
    """Errors of all folds in the order of the points."""
    errors = np.empty(len(problem.points.rate))
    for k, part in enumerate(folds):
        errors[problem.folds == k] = part
    return errors


def _score(problem: _Problem, kind: str, fitted: Regression, left_out: FloatArray) -> Score:
    points = problem.points
    error = np.asarray(fitted.transfer_function(points.nu)) - points.rate
    worst = int(np.argmax(np.abs(error)))
    squares = _fold_means(problem, points.weight * left_out**2)
    cv = math.sqrt(float(np.mean(points.weight * left_out**2)))
    sem = float(np.std(squares)) / math.sqrt(squares.size) / max(2.0 * cv, 1e-12)
    left = max(len(error) - fitted.freedom, 1.0)
    chi2 = None if problem.sem is None else float(np.sum((error / problem.sem) ** 2)) / left
    rmse, weighted = (math.sqrt(float(np.mean(w * error**2))) for w in (1.0, points.weight))
    return Score(
        kind, cv, sem, rmse, weighted, float(abs(error[worst])), tuple(points.nu[worst].tolist()), chi2,
        fitted.freedom, fitted.converged, fitted.message,
    )  # fmt: skip


def _fold_means(problem: _Problem, values: FloatArray) -> FloatArray:
    return np.bincount(problem.folds, values) / np.bincount(problem.folds)


def _choose(problem: _Problem, scores: Mapping[str, Score], errors: Mapping[str, FloatArray]) -> str:
    """The simplest of the kinds that predict as well as the best, or FitError with the numbers of all."""
    points = problem.points
    centre = np.average(points.rate, weights=points.weight)
    spread = math.sqrt(float(np.mean(points.weight * (points.rate - centre) ** 2)))
    trusted = [k for k, s in scores.items() if s.converged and s.cv <= max(spread, LEAST_SPREAD)]
    if not trusted:
        told = "; ".join(f"{k}: {s.message}, error {s.cv:.3g} Hz at points left out" for k, s in scores.items())
        raise FitError(f"no fit can be trusted (the rates themselves vary by {spread:.3g} Hz): {told}",
                       where=f"fit of {points.population}",
                       remedy="Simulate more points or longer, or allow the kind 'spline'.")  # fmt: skip
    best = min(trusted, key=lambda k: scores[k].cv)
    for kind in trusted:
        difference = _fold_means(problem, points.weight * (errors[kind] ** 2 - errors[best] ** 2))
        if np.mean(difference) <= np.std(difference) / math.sqrt(difference.size):
            return kind
    return best
