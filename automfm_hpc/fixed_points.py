"""Fixed points of the master equation at constant drive, with their stability."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, solve_continuous_lyapunov

from automfm_hpc.response import System, respond

FloatArray = NDArray[np.float64]
Driven = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
_TOLERANCE, _ITERATIONS, _HALVINGS = 1e-9, 60, 12  # Hz; Newton steps per start; halvings per step


@dataclass(frozen=True)
class FixedPoint:
    """One fixed point.

    Parameters
    ----------
    rates : (P,) array
        Hz.
    covariance : (P, P) array or None
        Hz^2; None at order 1.
    eigenvalues : array of complex
        Of the linearised dynamics (1/s): P of them at order 1; at order 2 also those of the covariances.
    stable : bool
        All eigenvalues have a negative real part.
    residual : float
        Largest |F + 1/2 sum c d2F - nu| (Hz).
    outside : tuple of str
        ``target<-source`` for every axis on which the point lies outside a transfer function's domain.
    """

    rates: FloatArray
    covariance: FloatArray | None
    eigenvalues: NDArray[np.complex128]
    stable: bool
    residual: float
    outside: tuple[str, ...] = ()


@dataclass(frozen=True)
class FixedPoints:
    """All fixed points found, lowest total rate first, and the starts that led nowhere.

    Parameters
    ----------
    populations : tuple of str
    points : tuple of FixedPoint
    failed : tuple of (start, reason)
        Starting rates (P,) Hz from which Newton's method did not converge, and why.
    n_start : int
        Starts tried.
    """

    populations: tuple[str, ...]
    points: tuple[FixedPoint, ...]
    failed: tuple[tuple[FloatArray, str], ...]
    n_start: int

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FixedPoint]:
        return iter(self.points)

    def __getitem__(self, index: int) -> FixedPoint:
        return self.points[index]

    @property
    def stable(self) -> tuple[FixedPoint, ...]:
        return tuple(point for point in self.points if point.stable)


def search(
    system: System, populations: tuple[str, ...], inputs: FloatArray, order: int, starts: FloatArray,
    labels: Sequence[str],
) -> FixedPoints:  # fmt: skip
    """All fixed points that Newton's method reaches from `starts`; see `MeanField.fixed_points`.

    Parameters
    ----------
    system : System
    populations : tuple of str
    inputs : (n_input,) array
        Constant rates (Hz).
    order : {1, 2}
    starts : (n_start, P) array
        Hz.
    labels : sequence of str
        Name of every axis, for `FixedPoint.outside`.
    """
    found, failed = _newton_from_all(system, inputs, 1, starts)
    if order == 2:
        found, failed = _newton_from_all(system, inputs, 2, [*found, *starts])
    points = [_describe(system, rates, inputs, order, labels) for rates in found]
    points.sort(key=lambda point: float(point.rates.sum()))
    return FixedPoints(populations, tuple(points), tuple(failed), len(starts))


def default_starts(system: System, n_start: int) -> FloatArray:
    """Starting rates (n_start, P): zero, then a diagonal and random points of the domains (fixed seed)."""
    P = system.axis_start.size - 1
    top = np.zeros(P)
    for row, (_, high) in zip(system.axes, system.domain, strict=True):
        if row < P:
            top[row] = max(top[row], high)
    limit = 1000.0 / system.T[:P]
    top = np.minimum(np.where(top > 0, top, 0.5 * limit), limit)
    diagonal = [np.zeros(P), 0.1 * top, 0.4 * top, 0.9 * top][:n_start]
    random = np.random.default_rng(0).random((max(n_start - len(diagonal), 0), P)) * top
    return np.vstack([*diagonal, random])


def _newton_from_all(
    system: System, inputs: FloatArray, order: int, starts: Sequence[FloatArray] | FloatArray
) -> tuple[list[FloatArray], list[tuple[FloatArray, str]]]:
    found: list[FloatArray] = []
    failed = []
    for start in starts:
        rates, reason = _newton(system, np.array(start, float), inputs, order)
        if reason:
            failed.append((np.array(start, float), reason))
        elif not any(np.allclose(rates, other, rtol=1e-6, atol=1e-6) for other in found):
            found.append(rates)
    return found, failed


def _newton(system: System, rates: FloatArray, inputs: FloatArray, order: int) -> tuple[FloatArray, str]:
    """Newton's method with step halving; returns the last rates and, on failure, the reason."""
    limit = (1 - 1e-9) * 1000.0 / system.T[: rates.size]
    wrong, slope = _mismatch(system, rates, inputs, order)
    for _ in range(_ITERATIONS):
        if not np.isfinite(wrong).all():
            return rates, "the transfer function is not finite"
        size = np.abs(wrong).max()
        if size < _TOLERANCE * (1.0 + rates.max()):
            return _accepted(system, rates, inputs, order)
        try:
            step = np.linalg.solve(slope, -wrong)
        except np.linalg.LinAlgError:
            return rates, "the Jacobian is singular"
        for halving in range(_HALVINGS):
            trial = np.clip(rates + step * 0.5**halving, 0.0, limit)
            wrong_trial, slope_trial = _mismatch(system, trial, inputs, order)
            if np.abs(wrong_trial).max() < size:
                break
        else:
            return rates, f"no step reduces the mismatch of {size:.3g} Hz"
        rates, wrong, slope = trial, wrong_trial, slope_trial
    return rates, f"a mismatch of {size:.3g} Hz is left after {_ITERATIONS} iterations"


def _accepted(system: System, rates: FloatArray, inputs: FloatArray, order: int) -> tuple[FloatArray, str]:
    if order == 2:
        c = stationary_covariance(system, np.concatenate([rates, inputs]))
        if not np.isfinite(c).all() or np.linalg.eigvalsh(c).min() < -1e-9 * max(np.trace(c), 1e-300):
            return rates, "the covariance has no stationary value there"
    return rates, ""


def _mismatch(system: System, rates: FloatArray, inputs: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
    """Driven minus actual rates (P,) and their derivatives (P, P) by the rates."""
    P = rates.size
    state = np.concatenate([rates, inputs])
    driven, J = _driven(system, state, order)
    slope = J[:, :P].copy()
    if order == 2:  # 1/2 sum c d2F depends on the rates through c and third derivatives: differences of it
        base = driven - _driven(system, state, 1)[0]
        for j in range(P):
            moved = state.copy()
            moved[j] += (h := 1e-5 * (1.0 + state[j]))
            slope[:, j] += (_driven(system, moved, 2)[0] - _driven(system, moved, 1)[0] - base) / h
    limit = (1 - 1e-9) * 1000.0 / system.T[:P]
    slope[(driven < 0) | (driven > limit)] = 0.0
    return np.clip(driven, 0.0, limit) - rates, slope - np.eye(P)


def second_order(system: System, state: FloatArray) -> tuple[FloatArray, FloatArray]:
    """F + 1/2 sum c d2F (P,) with the stationary c at rates `state` (M,), and J (P, M)."""
    return _driven(system, state, 2)


def refine(system: System, rates: FloatArray, inputs: FloatArray, driven_at: Driven) -> FloatArray:
    """Move a fixed point of order 1 to the near one of order 2; unchanged where that does not converge.

    Newton steps with the Jacobian of order 1: less per step than Newton's own, because the correction
    by covariances is small. `driven_at`: driven rates (P,) and J (P, M) at rates (M,), as `second_order`.
    """
    moved, limit = rates, (1 - 1e-9) * 1000.0 / system.T[: rates.size]
    for _ in range(_ITERATIONS):
        driven, J = driven_at(np.concatenate([moved, inputs]))
        wrong = np.clip(driven, 0.0, limit) - moved
        if not np.isfinite(wrong).all():
            return rates
        if np.abs(wrong).max() < _TOLERANCE * (1.0 + moved.max()):
            return moved
        try:
            moved = np.clip(moved + np.linalg.solve(np.eye(rates.size) - J[:, : rates.size], wrong), 0.0, limit)
        except np.linalg.LinAlgError:
            return rates
    return rates


def _driven(system: System, state: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
    c = stationary_covariance(system, state) if order == 2 else np.zeros((state.size, state.size))
    F, J, half = respond(system, state, c)
    return F + half, J


def relaxation(system: System, J: FloatArray) -> FloatArray:
    """Linear dynamics of all rows (M, M), 1/ms: (J - I)/T, inputs relaxing alone."""
    P, M = J.shape
    full = np.zeros((M, M))
    full[:P] = J
    return (full - np.eye(M)) / system.T[:, None]


def covariance_source(system: System, state: FloatArray, F: FloatArray) -> FloatArray:
    """[diag(F (1/T - F)/N) + (F - nu)(F - nu)^T]/T at rates `state` (M,), shape (M, M), Hz^2/ms."""
    M, P, top = state.size, F.size, 1000.0 / system.T
    full = np.concatenate([F, state[P:]])
    inside = np.clip(full, 0.0, top)
    away = (full - state) / np.sqrt(system.T)
    return np.diag(inside * (top - inside) / system.N / system.T).reshape(M, M) + np.outer(away, away)


def stationary_covariance(system: System, state: FloatArray) -> FloatArray:
    """Covariance (M, M) Hz^2 at which its own equation rests, rates (M,) held; NaN where there is none."""
    F, J, _ = respond(system, state, np.zeros((state.size, state.size)))
    if not (np.isfinite(F).all() and np.isfinite(J).all()):
        return np.full((state.size, state.size), np.nan)
    try:
        c = solve_continuous_lyapunov(relaxation(system, J), -covariance_source(system, state, F))
    except (LinAlgError, ValueError):
        return np.full((state.size, state.size), np.nan)
    return 0.5 * (c + c.T)


def _tendency(system: System, state: FloatArray, c: FloatArray) -> tuple[FloatArray, FloatArray]:
    """d nu/dt (P,) and d c/dt (M, M), per ms."""
    F, J, half = respond(system, state, c)
    A = relaxation(system, J)
    P = F.size
    return (F + half - state[:P]) / system.T[:P], A @ c + c @ A.T + covariance_source(system, state, F)


def _describe(system: System, rates: FloatArray, inputs: FloatArray, order: int, labels: Sequence[str]) -> FixedPoint:
    state, P = np.concatenate([rates, inputs]), rates.size
    driven, J = _driven(system, state, order)
    c = stationary_covariance(system, state) if order == 2 else None
    matrix = relaxation(system, J)[:P, :P] if c is None else _second_order_matrix(system, state, c)
    eigenvalues = np.linalg.eigvals(1000.0 * matrix).astype(complex)
    values, (low, high) = state[system.axes], system.domain.T
    slack = 1e-6 * (high - low)
    left = (values < low - slack) | (values > high + slack)
    outside = tuple(label for label, out in zip(labels, left, strict=True) if out)
    return FixedPoint(
        rates, None if c is None else c[:P, :P], eigenvalues[np.argsort(-eigenvalues.real)],
        bool(eigenvalues.real.max() < 0), float(np.abs(driven - rates).max()), outside,
    )  # fmt: skip


def _second_order_matrix(system: System, state: FloatArray, c: FloatArray) -> FloatArray:
    """Jacobian (1/ms) of rates and the upper triangle of c, by central differences of the right-hand side."""
    P, upper = system.axis_start.size - 1, np.triu_indices(state.size)
    point = np.concatenate([state[:P], c[upper]])

    def flow(z: FloatArray) -> FloatArray:
        full = np.zeros_like(c)
        full[upper] = z[P:]
        full = full + full.T - np.diag(np.diag(full))
        rate, spread = _tendency(system, np.concatenate([z[:P], state[P:]]), full)
        return np.concatenate([rate, spread[upper]])

    columns = []
    for k, value in enumerate(point):
        step = np.zeros_like(point)
        step[k] = 1e-5 * (1.0 + abs(value))
        columns.append((flow(point + step) - flow(point - step)) / (2 * step[k]))
    return np.stack(columns, axis=1)
