"""Weighted least squares for each kind of transfer function."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from scipy.optimize import least_squares
from scipy.special import erfc, erfcinv, expit

from automfm_hpc.moments import RATE_FLOOR, Membrane, Moments, moments
from automfm_hpc.spline import design_matrix
from automfm_hpc.template import COEFFICIENTS, regressors
from automfm_hpc.transfer_function import Spline, Template, TransferFunction

FloatArray = NDArray[np.float64]

MOST_COEFFICIENTS = 600  # of a spline: a solve then takes milliseconds
SMOOTHING = tuple(10.0 ** np.arange(2.0, -6.1, -0.5))  # tried, from stiff to loose
_WORSE = 1.5  # times the best score on the path: looser ones need not be tried
SCALES = (0.05, 0.25, 2.0)  # of the highest rate of an axis, tried for the axis's logarithm
_PATIENCE, _TOLERANCE, _COARSE = 60, 1e-8, 1e-5  # steps; relative change at the end; while comparing smoothings
_STEEPEST = 1e-8  # ridge relative to the smoothing: decides what neither data nor smoothness do


@dataclass(frozen=True, eq=False)
class Points:
    """Measured rates of one population.

    Parameters
    ----------
    population : str
    axes : tuple of str
    nu : (n_point, n_axis) array
        Input rates (Hz).
    rate : (n_point,) array
        Output rate (Hz).
    weight : (n_point,) array
        1/variance, of mean 1.
    levels : tuple of int
        Distinct coordinates per axis.
    t_ref : float
        Refractory time (ms).
    """

    population: str
    axes: tuple[str, ...]
    nu: FloatArray
    rate: FloatArray
    weight: FloatArray
    levels: tuple[int, ...]
    t_ref: float

    @property
    def domain(self) -> FloatArray:
        """Lowest and highest rate per axis (Hz), shape (n_axis, 2)."""
        return np.column_stack([self.nu.min(axis=0), self.nu.max(axis=0)])

    def only(self, which: NDArray[np.bool_]) -> Points:
        return replace(self, nu=self.nu[which], rate=self.rate[which], weight=self.weight[which])


@dataclass(frozen=True, eq=False)
class Regression:
    """A transfer function fitted to points.

    Parameters
    ----------
    transfer_function : TransferFunction
    covariance : (n_coefficient, n_coefficient) array
        Of the coefficients, scaled to the residuals.
    freedom : float
        Effective number of coefficients.
    converged : bool
    message : str
    smoothing : float
        Weight of the roughness of a spline; 0 for templates.
    """

    transfer_function: TransferFunction
    covariance: FloatArray
    freedom: float
    converged: bool
    message: str
    smoothing: float = 0.0


def regress(kind: str, m: Membrane, points: Points, like: Regression | None = None) -> Regression:
    """Fit one kind; `like`, a fit to more points, gives the start and a spline's knots and smoothing."""
    if kind == "spline":
        return refit_spline(points, like) if like else fit_spline(points)
    return fit_template(kind, m, points, like)


# --- template -----------------------------------------------------------------------------------


def fit_template(
    kind: str, m: Membrane, points: Points, like: Regression | None = None, alpha: float = 1.0
) -> Regression:
    """Levenberg-Marquardt with the exact Jacobian, from the regression of the inverted threshold."""
    at = moments(m, np.maximum(points.nu, 0.0) + RATE_FLOOR)
    X, root = regressors(kind, m, at), np.sqrt(points.weight)
    if len(X) <= X.shape[1]:
        return _template_result(kind, m, points, np.zeros(X.shape[1]), X, at, alpha, False,
                                f"{len(X)} points do not determine {X.shape[1]} coefficients")

    def residual(P: FloatArray) -> FloatArray:
        return np.asarray(root * (_template_rate(X, at, P, alpha)[0] - points.rate))

    def jacobian(P: FloatArray) -> FloatArray:
        return np.asarray(root[:, None] * _template_rate(X, at, P, alpha)[1][:, None] * X)

    starts = _starts(X, at, points, alpha) if like is None else [_values(like)]
    found = [least_squares(residual, P, jacobian, method="lm", x_scale="jac", max_nfev=2000, xtol=1e-12, ftol=1e-12,
                           gtol=1e-12) for P in starts]
    best = min(found, key=lambda one: float(one.cost))
    return _template_result(kind, m, points, best.x, X, at, alpha, bool(best.success), str(best.message))


def _template_rate(X: FloatArray, at: Moments, P: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Rate (Hz) and its derivative by V_eff (Hz/mV) at every point."""
    width = math.sqrt(2.0) * at.sigma_V
    z = (X @ P - at.mu_V) / width
    outer = 500.0 * alpha / at.tau_V
    return outer * erfc(z), -outer * 2.0 / math.sqrt(math.pi) * np.exp(-z * z) / width


def _starts(X: FloatArray, at: Moments, points: Points, alpha: float) -> list[FloatArray]:
    """Coefficients that reproduce the threshold inverted from the rates, for wide to narrow selections."""
    share = points.rate * at.tau_V / (500.0 * alpha)
    starts = []
    for lowest in (1e-6, 1e-3, 1e-2):
        bounded = np.clip(share, lowest, 2.0 - lowest)
        inverted = at.mu_V + math.sqrt(2.0) * at.sigma_V * erfcinv(bounded)
        slope = np.exp(-erfcinv(bounded) ** 2) / (at.tau_V * at.sigma_V)
        for sure in (np.ones(len(X)), np.sqrt(points.weight) * slope):
            starts.append(np.linalg.lstsq(X * sure[:, None], inverted * sure, rcond=None)[0])
    return starts


def _values(fitted: Regression) -> FloatArray:
    template = fitted.transfer_function
    assert isinstance(template, Template)
    return np.array([template.coefficients[name] for name in COEFFICIENTS[template.kind]])


def _template_result(
    kind: str, m: Membrane, points: Points, P: FloatArray, X: FloatArray, at: Moments, alpha: float,
    converged: bool, message: str,
) -> Regression:  # fmt: skip
    rate, slope = _template_rate(X, at, P, alpha)
    J = np.sqrt(points.weight)[:, None] * slope[:, None] * X
    spread = float(np.sum(points.weight * (rate - points.rate) ** 2)) / max(len(X) - P.size, 1)
    named = dict(zip(COEFFICIENTS[kind], P.tolist(), strict=True))
    tf = Template(points.population, points.axes, points.domain, m, named, alpha)
    covariance = np.asarray(spread * np.linalg.pinv(J.T @ J, hermitian=True), float)
    return Regression(tf, covariance, float(P.size), converged, message)


# --- spline -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Setting:
    """A spline's knots with the matrices of its regression: s = B c, roughness c' D c, link parameters."""

    empty: Spline
    B: sparse.csr_array
    D: FloatArray


@dataclass(frozen=True, eq=False)
class _Solution:
    """Coefficients at one smoothing, with the factor of the last normal matrix."""

    c: FloatArray
    objective: float
    residual: float
    A: FloatArray
    factor: tuple[FloatArray, bool]
    converged: bool


def fit_spline(points: Points) -> Regression:
    """Penalised fit; smoothing and the axes' scale by leave-one-out cross-validation.

    Minimises sum w (y - F(B c))^2 + smoothing c' D c, with D the squared second differences of the
    coefficients along every axis, by Gauss-Newton steps that are halved while the sum grows.
    The error at a point left out is its residual over 1 - h, h the leverage: exact for a linear
    model, here for the linearised one. (Averaging h, as generalised cross-validation does, was seen to
    choose splines that swing between the points.)
    """
    tried: list[_Trial] = []
    for part in SCALES:
        setting, lowest = _setting(points, part), math.inf
        for smoothing, solution in _path(setting, points):
            score, error = _left_out(setting, points, solution)
            tried.append(_Trial(setting, smoothing, solution.c, score, error, solution.converged))
            lowest = min(lowest, score)
            if score > _WORSE * lowest:
                break
    chosen = _stiffest([trial for trial in tried if trial.converged] or tried)
    solution = _solve(chosen.setting, points, chosen.smoothing, chosen.c)
    return _spline_result(chosen.setting, points, chosen.smoothing, solution)


@dataclass(frozen=True, eq=False)
class _Trial:
    """One scale and smoothing with its error at points left out, and that error's own standard error."""

    setting: _Setting
    smoothing: float
    c: FloatArray
    score: float
    error: float
    converged: bool


def _stiffest(trials: list[_Trial]) -> _Trial:
    """The smoothest spline within one standard error of the best one on the same knots.

    Second derivatives of the transfer function enter the mean field, and noise in them is large.
    """
    best = min(trials, key=lambda trial: trial.score)
    same = [trial for trial in trials if trial.setting is best.setting]
    return max((t for t in same if t.score <= best.score + best.error), key=lambda t: t.smoothing)


def refit_spline(points: Points, like: Regression) -> Regression:
    """Fit with the knots and the smoothing of another fit, from its coefficients."""
    spline = like.transfer_function
    assert isinstance(spline, Spline)
    setting = _matrices(spline, points)
    solution = _solve(setting, points, like.smoothing, spline.coefficients.ravel())
    return _spline_result(setting, points, like.smoothing, solution)


def _setting(points: Points, part: float) -> _Setting:
    S = len(points.axes)
    most = max(4, int(MOST_COEFFICIENTS ** (1.0 / S) + 1e-9))
    shape = tuple(max(4, min(levels + 2, most)) for levels in points.levels)
    highest = np.maximum(points.domain[:, 1], 1.0)
    r0 = max(0.02 * float(points.rate.max()), 0.5)
    t_ref = points.t_ref if points.t_ref <= 0 else min(points.t_ref, 900.0 / max(float(points.rate.max()), 1e-9))
    empty = Spline(points.population, points.axes, points.domain, np.zeros(shape), part * highest, r0, t_ref)
    return _matrices(empty, points)


def _matrices(empty: Spline, points: Points) -> _Setting:
    shape = empty.coefficients.shape
    B = np.ones((len(points.rate), 1))
    for a, (origin, step, upper) in enumerate(empty.knots):
        along = design_matrix(np.log1p(points.nu[:, a] / empty.scale[a]), origin, step, upper, shape[a])
        B = (B[:, :, None] * along[:, None, :]).reshape(len(B), -1)
    return _Setting(empty, sparse.csr_array(B), _roughness(shape))


def _roughness(shape: tuple[int, ...]) -> FloatArray:
    """Sum over axes of squared second differences, and a trace of squared first differences."""
    total = sparse.csr_array((math.prod(shape), math.prod(shape)))
    for a, n in enumerate(shape):
        first, second = np.diff(np.eye(n), axis=0), np.diff(np.eye(n), 2, axis=0)
        along = sparse.csr_array(second.T @ second + _STEEPEST * first.T @ first)
        before, after = sparse.eye_array(math.prod(shape[:a])), sparse.eye_array(math.prod(shape[a + 1 :]))
        total = total + sparse.kron(sparse.kron(before, along), after)
    return np.asarray(total.toarray())


def _link(setting: _Setting, s: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rate and its derivative by s: `spline.link` for arrays."""
    r0, top = setting.empty.r0, setting.empty.packed()[1][1]
    beyond = s - min(top, 1e300)
    return r0 * (np.logaddexp(0.0, s) - np.logaddexp(0.0, beyond)), r0 * (expit(s) - expit(beyond))


def _path(setting: _Setting, points: Points) -> Iterator[tuple[float, _Solution]]:
    """Solutions from stiff to loose, each starting at the one before."""
    ratio = np.maximum(points.rate, 0.2 * setting.empty.r0) / setting.empty.r0
    s = ratio + np.log(-np.expm1(-ratio))
    slope = _link(setting, s)[1]
    A = (setting.B.T @ sparse.diags_array(points.weight * slope**2) @ setting.B).toarray()
    unit = float(np.trace(A)) / float(np.trace(setting.D))
    start = A + unit * setting.D
    c = linalg.solve(start, setting.B.T @ (points.weight * slope**2 * s), assume_a="pos")
    for relative in SMOOTHING:
        solution = _solve(setting, points, relative * unit, c, _COARSE)
        c = solution.c
        yield relative * unit, solution


def _solve(
    setting: _Setting, points: Points, smoothing: float, c: FloatArray, tolerance: float = _TOLERANCE
) -> _Solution:
    """Gauss-Newton at one smoothing, until the sum of squares changes by less than `tolerance` of itself."""
    objective, residual = _objective(setting, points, smoothing, c)
    converged = False
    for _ in range(_PATIENCE):
        A, factor, step = _newton(setting, points, smoothing, c)
        length, before = 1.0, objective
        while length > 1e-4:
            objective, residual = _objective(setting, points, smoothing, c + length * step)
            if objective <= before:
                break
            length /= 2.0
        else:
            objective, residual = _objective(setting, points, smoothing, c)
            converged = True  # no descent along the step: at the minimum to rounding
            break
        c = c + length * step
        converged = before - objective <= tolerance * (objective + 1e-12)
        if converged:
            break
    return _Solution(c, objective, residual, A, factor, converged)


def _objective(setting: _Setting, points: Points, smoothing: float, c: FloatArray) -> tuple[float, float]:
    """Penalised and plain weighted sum of squares."""
    error = points.rate - _link(setting, setting.B @ c)[0]
    residual = float(np.sum(points.weight * error**2))
    return residual + smoothing * float(c @ (setting.D @ c)), residual


def _newton(
    setting: _Setting, points: Points, smoothing: float, c: FloatArray
) -> tuple[FloatArray, tuple[FloatArray, bool], FloatArray]:
    """Normal matrix of the data, Cholesky factor with the penalty, and the step."""
    B, D = setting.B, setting.D
    rate, slope = _link(setting, B @ c)
    A = (B.T @ sparse.diags_array(points.weight * slope**2) @ B).toarray()
    penalised = A + smoothing * D
    penalised[np.diag_indices_from(penalised)] += 1e-12 * np.trace(penalised) / len(penalised)
    factor = linalg.cho_factor(penalised)
    pull = B.T @ (points.weight * slope * (points.rate - rate)) - smoothing * (D @ c)
    return A, factor, linalg.cho_solve(factor, pull)


def _left_out(setting: _Setting, points: Points, solution: _Solution) -> tuple[float, float]:
    """Weighted mean squared error of the points when each is left out of the fit; its standard error."""
    rate, slope = _link(setting, setting.B @ solution.c)
    B = setting.B.toarray()
    spread = linalg.cho_solve(solution.factor, B.T)
    leverage = points.weight * slope**2 * np.einsum("ij,ji->i", B, spread)
    squares = points.weight * ((points.rate - rate) / np.maximum(1.0 - leverage, 1e-6)) ** 2
    return float(squares.mean()), float(squares.std()) / math.sqrt(squares.size)


def _spline_result(setting: _Setting, points: Points, smoothing: float, solution: _Solution) -> Regression:
    freedom = float(np.trace(linalg.cho_solve(solution.factor, solution.A)))  # of the hat matrix
    spread = solution.residual / max(len(points.rate) - freedom, 1.0)
    covariance = spread * linalg.cho_solve(solution.factor, np.eye(solution.c.size))
    spline = replace(setting.empty, coefficients=solution.c.reshape(setting.empty.coefficients.shape))
    message = "converged" if solution.converged else f"still moving after {_PATIENCE} Gauss-Newton steps"
    return Regression(spline, covariance, freedom, solution.converged, message, smoothing)
