"""Where a solution starts: the stable fixed point of lowest total rate, in compiled code, a thousand a second."""

from __future__ import annotations

import numpy as np

from automfm_hpc.linear import lyapunov, solve_in_place
from automfm_hpc.response import (
    FloatArray,
    Response,
    System,
    bare_floats,
    bare_response,
    bare_system,
    compiled,
    correct,
    empty_response,
    respond_at,
)

_TOLERANCE, _ITERATIONS, _HALVINGS = 1e-9, 60, 12  # Hz; Newton steps per start; halvings per step
_LIMIT = 1.0 - 1e-9  # of 1/T


def stationary_start(
    system: System, inputs: FloatArray, starts: FloatArray, order: int
) -> tuple[FloatArray, FloatArray]:
    """Rates (P,) and covariance (M, M) at which a solution with these first input rates (Hz) starts.

    Parameters
    ----------
    system : System
    inputs : (n_input,) array
        Hz.
    starts : (n_start, P) array
        Hz; Newton's method starts at each.
    order : int
        At order 2 the point of order 1 is moved to the near one of order 2, unless that does not converge.

    Returns
    -------
    tuple
        Rates of the stable fixed point of lowest total rate, 0 if none is found; their stationary covariance, 0 at
        order 1 or if there is none.
    """
    P, M = system.axis_start.size - 1, system.T.size
    rate = np.concatenate([np.zeros(P), np.asarray(inputs, float)])
    c, work, rows = np.zeros((M, M)), empty_response(system), np.ascontiguousarray(starts, dtype=float)
    find_start(system, rows, order, rate, c, work)
    return rate[:P], c


def start_covariance(system: System, rates: FloatArray, inputs: FloatArray) -> FloatArray:
    """Stationary covariance (M, M) Hz^2 for rates held at (P,) Hz; 0 if there is none."""
    M = system.T.size
    rate, c, work = np.concatenate([rates, inputs]).astype(float), np.zeros((M, M)), empty_response(system)
    rest_covariance(system, rate, c, work)
    return c


@compiled
def find_start(
    system: System, starts: FloatArray, order: int, rate: FloatArray, c: FloatArray, work: Response
) -> None:
    """See `stationary_start`; `rate` (M,) holds the inputs' rates already."""
    system, work, rate = bare_system(system), bare_response(work), bare_floats(rate)
    P, lowest = starts.shape[1], np.inf
    best, trial = np.zeros(P), rate.copy()
    for row in range(starts.shape[0]):
        trial[:P] = starts[row]
        if _newton(system, trial, work) and trial[:P].sum() < lowest and _stable(system, trial, work):
            best[:], lowest = trial[:P], trial[:P].sum()
    rate[:P] = best
    if order == 2:
        if lowest < np.inf:
            _refine(system, rate, c, work)
        rest_covariance(system, rate, c, work)


@compiled
def rest_covariance(system: System, rate: FloatArray, c: FloatArray, work: Response) -> bool:
    """c <- the covariance (M, M) at which its own equation rests for these rates; 0 and False if there is none."""
    c[:] = 0.0
    if respond_at(system, rate, work) >= 0:
        return False
    T, N, F = system.T, system.N, work.F
    P, M = work.J.shape
    Q = np.zeros((M, M))
    for i in range(M):
        top = 1000.0 / T[i]
        fired = min(max(F[i] if i < P else rate[i], 0.0), top)
        Q[i, i] = fired * (top - fired) / N[i] / T[i]
    for i in range(P):
        for j in range(P):
            Q[i, j] += (F[i] - rate[i]) * (F[j] - rate[j]) / np.sqrt(T[i] * T[j])
    stable, found = lyapunov(_relaxation(system, work.J), Q)
    if stable:
        c[:] = found
    return stable


@compiled
def _relaxation(system: System, J: FloatArray) -> FloatArray:
    """Linear dynamics of all rows (M, M), 1/ms: (J - I)/T, inputs relaxing alone."""
    P, M = J.shape
    A = np.zeros((M, M))
    for i in range(M):
        A[i, i] = -1.0 / system.T[i]
        if i < P:
            for j in range(M):
                A[i, j] += J[i, j] / system.T[i]
    return A


@compiled
def _stable(system: System, rate: FloatArray, work: Response) -> bool:
    if respond_at(system, rate, work) >= 0:
        return False
    stable, _ = lyapunov(_relaxation(system, work.J), np.zeros((rate.size, rate.size)))
    return stable


@compiled
def _wrong(system: System, rate: FloatArray, work: Response, out: FloatArray) -> float:
    """out <- F - nu, F clipped to [0, 1/T); its largest size, infinite where F is not finite."""
    if respond_at(system, rate, work) >= 0:
        return np.inf
    size = 0.0
    for i in range(out.size):
        out[i] = min(max(work.F[i], 0.0), _LIMIT * 1000.0 / system.T[i]) - rate[i]
        size = max(size, abs(out[i]))
    return size


@compiled
def _newton(system: System, rate: FloatArray, work: Response) -> bool:
    """Newton's method of order 1 with step halving; `rate` (M,) is moved. Whether it converged."""
    P = work.F.size
    wrong, start = np.empty(P), np.empty(P)
    slope, step = np.empty((P, P)), np.empty((P, 1))
    size = _wrong(system, rate, work, wrong)
    for _ in range(_ITERATIONS):
        if not size < np.inf:
            return False
        if size < _TOLERANCE * (1.0 + rate[:P].max()):
            return True
        for i in range(P):
            clipped = work.F[i] < 0.0 or work.F[i] > _LIMIT * 1000.0 / system.T[i]
            for j in range(P):
                slope[i, j] = 0.0 if clipped else work.J[i, j]
            slope[i, i] -= 1.0
            step[i, 0], start[i] = -wrong[i], rate[i]
        if not solve_in_place(slope, step):
            return False
        smaller, part = False, 1.0
        for _ in range(_HALVINGS):
            for i in range(P):
                rate[i] = min(max(start[i] + part * step[i, 0], 0.0), _LIMIT * 1000.0 / system.T[i])
            trial = _wrong(system, rate, work, wrong)
            if trial < size:
                smaller = True
                break
            part *= 0.5
        if not smaller:
            return False
        size = trial
    return False


@compiled
def _refine(system: System, rate: FloatArray, c: FloatArray, work: Response) -> None:
    """Move a fixed point of order 1 to the near one of order 2; unchanged where that does not converge.

    Newton steps with the Jacobian of order 1: less per step than Newton's own, because the correction by
    covariances is small.
    """
    P = work.F.size
    first, slope, wrong = rate.copy(), np.empty((P, P)), np.empty((P, 1))
    for _ in range(_ITERATIONS):
        if not rest_covariance(system, rate, c, work):
            break
        correct(system, c, work)
        size = 0.0
        for i in range(P):
            driven = min(max(work.F[i] + work.half[i], 0.0), _LIMIT * 1000.0 / system.T[i])
            wrong[i, 0] = driven - rate[i]
            size = max(size, abs(wrong[i, 0]))
            for j in range(P):
                slope[i, j] = (1.0 if i == j else 0.0) - work.J[i, j]
        if size < _TOLERANCE * (1.0 + rate[:P].max()):
            return
        if not size < np.inf or not solve_in_place(slope, wrong):
            break
        for i in range(P):
            rate[i] = min(max(rate[i] + wrong[i, 0], 0.0), _LIMIT * 1000.0 / system.T[i])
    rate[:] = first
