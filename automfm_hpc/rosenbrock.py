"""One step of the master equation whose length is free, with an estimate of its error, in compiled code.

Rates follow an exponential Rosenbrock scheme (Hochbruck & Ostermann 2010, doi 10.1017/S0962492910000048). With
B = (J - I)/T and G the driven rate at the step's beginning

    predicted:  nu' = B (nu - nu_0) + (G_0 - nu_0)/T + s g            solved exactly over the step
    corrected:  the same, with the g and the bend s^2 that G at the predicted end asks for

g holds what the drive and the covariances add. One evaluation of the transfer functions per step; the difference
between both is the error estimate, of third order in the step, and the solution goes on from the corrected rates.
Constant or linearly changing input near a stable state allows steps longer than T.

Covariances follow c <- E c E^T + S with E the exponential of B over the step, for the mean J of both ends, and S the
integral of E(s) Q E(s)^T with the sources Q at both ends weighted as their linear change asks for: positive
semi-definite whatever the step, exact where nothing changes. The error estimate is the residual of the trapezoidal
rule.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from automfm_hpc.linear import exponential, flow, halvings, multiply_upper, row_norm
from automfm_hpc.response import (
    FloatArray,
    Response,
    System,
    bare_floats,
    bare_response,
    compiled,
    correct,
    empty_response,
    respond_at,
)
from automfm_hpc.schemes import congruence

LIMIT = 1.0 - 1e-9  # rates stay below this fraction of 1/T


class Tolerance(NamedTuple):
    """Numbers that govern the steps."""

    relative: float
    absolute: float  # Hz
    longest: float  # ms


class Workspace(NamedTuple):
    """Room for one solution at a time: two ends of a step, and scratch."""

    rate: FloatArray  # (M,)
    ahead: FloatArray  # (M,) rates at the step's end
    c: FloatArray  # (M, M)
    c_ahead: FloatArray
    now: Response
    then: Response
    G: FloatArray  # (P,) driven rates
    G_ahead: FloatArray
    trend: FloatArray  # (P,) change of the covariances' correction, Hz/ms
    bow: FloatArray  # (M,) how far an input's rate in the middle of the step is from the mean of both ends, Hz
    off: FloatArray  # (M,) how far it is from the parabola through these three, at most, Hz
    vectors: FloatArray  # (10, P)
    square: FloatArray  # (P, P) (J - I)/T, 1/ms
    again: FloatArray  # (P, P) its square
    matrices: FloatArray  # (6, M, M)


def empty_workspace(system: System) -> Workspace:
    P, M = system.axis_start.size - 1, system.T.size
    return Workspace(
        np.zeros(M), np.zeros(M), np.zeros((M, M)), np.zeros((M, M)), empty_response(system), empty_response(system),
        np.zeros(P), np.zeros(P), np.zeros(P), np.zeros(M), np.zeros(M), np.zeros((10, P)), np.zeros((P, P)),
        np.zeros((P, P)), np.zeros((6, M, M)),
    )  # fmt: skip


@compiled
def bare_workspace(w: Workspace) -> Workspace:
    return Workspace(bare_floats(w.rate), bare_floats(w.ahead), bare_floats(w.c), bare_floats(w.c_ahead),
                     bare_response(w.now), bare_response(w.then), bare_floats(w.G), bare_floats(w.G_ahead),
                     bare_floats(w.trend), bare_floats(w.bow), bare_floats(w.off), bare_floats(w.vectors),
                     bare_floats(w.square), bare_floats(w.again), bare_floats(w.matrices))  # fmt: skip


@compiled
def _source(system: System, work: Response, rate: FloatArray, weight: float, c: FloatArray) -> None:
    """c += weight [diag(F (1/T - F)/N) + (F - nu)(F - nu)^T]/T."""
    F, T, N, P = work.F, system.T, system.N, work.F.size
    for i in range(rate.size):
        top = 1000.0 / T[i]
        fired = min(max(F[i] if i < P else rate[i], 0.0), top)
        c[i, i] += weight * fired * (top - fired) / (N[i] * T[i])
    for i in range(P):
        away = weight * (F[i] - rate[i])
        for j in range(P):
            c[i, j] += away * (F[j] - rate[j]) / np.sqrt(T[i] * T[j])


@compiled
def tendency(system: System, work: Response, rate: FloatArray, c: FloatArray, out: FloatArray) -> None:
    """out <- dc/dt, Hz^2/ms."""
    axes, axis_start, T, J = system.axes, system.axis_start, system.T, work.J
    P, M = J.shape
    for i in range(M):
        for j in range(M):
            out[i, j] = -c[i, j] * (1.0 / T[i] + 1.0 / T[j])
    for i in range(P):
        for k in range(axis_start[i], axis_start[i + 1]):
            s = axes[k]
            slope = J[i, s] / T[i]
            for j in range(M):
                out[i, j] += slope * c[s, j]
                out[j, i] += slope * c[s, j]
    _source(system, work, rate, 1.0, out)


@compiled
def _step_covariance(system: System, w: Workspace, h: float) -> None:
    """c_ahead <- c after a step, from the transfer functions at both ends.

    E and S = int E(s) Q E(s)^T ds are made for a small part of the step, S by Simpson's rule, and doubled.
    """
    T, J0, J1, c = system.T, w.now.J, w.then.J, w.c_ahead
    P, M = J0.shape
    X, E, spare, S = w.matrices[0], w.matrices[1], w.matrices[2], w.matrices[3]
    for i in range(M):
        for j in range(M):
            X[i, j] = 0.25 * h / T[i] * (J0[i, j] + J1[i, j]) if i < P else 0.0
            S[i, j] = 0.0
        X[i, i] -= 0.5 * h / T[i]
    doublings = halvings(X, P, spare)
    scale = 0.5**doublings
    _add(X, scale - 1.0, X)
    exponential(X, P, E, spare)  # over half of the part
    early = _early(2.0 * h / T[0])  # only weights both ends: one T will do
    _source(system, w.now, w.rate, early * h * scale, S)
    _source(system, w.then, w.ahead, (1.0 - early) * h * scale, S)
    Q = X
    _copy(S, 1.0 / 6.0, Q)
    _copy(S, 1.0 / 6.0, S)
    congruence(E, P, S, spare)
    _add(Q, 4.0, S)
    congruence(E, P, S, spare)
    _add(Q, 1.0, S)
    _square(E, P, spare)
    for _ in range(doublings):
        _copy(S, 1.0, Q)
        congruence(E, P, S, spare)
        _add(Q, 1.0, S)
        _square(E, P, spare)
    _copy(w.c, 1.0, c)
    congruence(E, P, c, spare)
    _add(S, 1.0, c)


@compiled
def _copy(X: FloatArray, scale: float, out: FloatArray) -> None:
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            out[i, j] = scale * X[i, j]


@compiled
def _add(X: FloatArray, scale: float, out: FloatArray) -> None:
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            out[i, j] += scale * X[i, j]


@compiled
def _square(E: FloatArray, P: int, spare: FloatArray) -> None:
    multiply_upper(E, E, P, spare)
    for i in range(E.shape[0]):
        for j in range(E.shape[0]):
            E[i, j] = spare[i, j]


@compiled
def _early(x: float) -> float:
    """Share of the source at a step's beginning in what is left of a source that changes linearly.

    int_0^1 exp(-x (1 - s)) (1 - s) ds over the same without (1 - s).
    """
    if x < 1e-2:
        return 0.5 - x / 12.0
    decay = np.exp(-x)
    return 1.0 / x - decay / (1.0 - decay)


@compiled
def _free(F: float, half: float, limit: float) -> bool:
    """Whether the driven rate is cut off nowhere."""
    return 0.0 <= F + half <= limit


@compiled
def _pieces(w: Workspace, h: float) -> int:
    """Parts of a step for the Taylor series of `flow`, by the square of the matrix: see `halvings`."""
    return 1 + int(np.sqrt(row_norm(w.again)) * h)


@compiled
def _predict(system: System, w: Workspace, h: float) -> None:
    """Rates ahead from J, the drive's course and the trend of the correction; ahead[P:] is set already.

    The drive's part of the forcing, s g + s^2 bend with g and bend in vectors[1] and [9], is kept for the correction.
    """
    T, J, P = system.T, w.now.J, w.G.size
    f, g, bend, z, B = w.vectors[0], w.vectors[1], w.vectors[9], w.vectors[3], w.square
    slope = w.vectors[2]
    for i in range(P):
        free = _free(w.now.F[i], w.now.half[i], LIMIT * 1000.0 / T[i])
        f[i], g[i], bend[i] = (w.G[i] - w.rate[i]) / T[i], 0.0, 0.0
        for j in range(P):
            B[i, j] = J[i, j] / T[i] if free else 0.0
        B[i, i] -= 1.0 / T[i]
        if free:
            for m in range(P, w.rate.size):
                g[i] += J[i, m] * (w.ahead[m] - w.rate[m] + 4.0 * w.bow[m]) / (h * T[i])
                bend[i] -= J[i, m] * 4.0 * w.bow[m] / (h * h * T[i])
        slope[i] = g[i] + w.trend[i] / T[i] if free else 0.0
    multiply_upper(B, B, P, w.again)
    flow(B, f, slope, bend, h, _pieces(w, h), 6, z, w.vectors[4], w.vectors[5])
    for i in range(P):
        w.vectors[8, i] = w.rate[i] + z[i]
        w.ahead[i] = min(max(w.vectors[8, i], 0.0), LIMIT * 1000.0 / T[i])


@compiled
def _correct_rates(system: System, w: Workspace, h: float) -> None:
    """Rates ahead corrected, in vectors[6], from the driven rates at the predicted end."""
    T, J, P = system.T, w.now.J, w.G.size
    none, g, bend, z, B = w.vectors[0], w.vectors[1], w.vectors[2], w.vectors[3], w.square
    for i in range(P):
        free = _free(w.now.F[i], w.now.half[i], LIMIT * 1000.0 / T[i])
        rest = (w.G_ahead[i] - w.G[i]) / T[i]
        if free:
            shift = (w.then.half[i] - w.now.half[i]) / T[i]
            rest -= shift
            g[i] = shift / h - w.trend[i] / T[i]
            for j in range(w.rate.size):
                rest -= J[i, j] * (w.ahead[j] - w.rate[j]) / T[i]
        none[i], bend[i] = 0.0, rest / (h * h)
    flow(B, none, g, bend, h, _pieces(w, h), 3, z, w.vectors[4], w.vectors[5])
    for i in range(P):
        w.vectors[6, i] = min(max(w.vectors[8, i] + z[i], 0.0), LIMIT * 1000.0 / T[i])


@compiled
def _error(T: FloatArray, w: Workspace, order: int, h: float, tolerance: Tolerance) -> float:
    """Largest estimated error in units of the tolerance; a covariance's is that of a product of deviations.

    What a drive does off its parabola counts, because neither predicted nor corrected rates see it.
    The residual of the covariances is several times their error, which piles up over steps within T.
    """
    worst, P, M = 0.0, w.G.size, w.rate.size
    for i in range(P):
        size = tolerance.absolute + tolerance.relative * w.ahead[i]
        unseen = 0.0
        for m in range(P, M):
            unseen += 0.5 * abs(w.now.J[i, m]) * w.off[m] * min(h / T[i], 1.0)
        worst = max(worst, (abs(w.vectors[6, i] - w.ahead[i]) + unseen) / size)
    if order == 2:
        c0, c1, f0, f1, sd = w.c, w.c_ahead, w.matrices[4], w.matrices[5], w.matrices[3, 0]
        for i in range(M):
            sd[i] = np.sqrt(max(c1[i, i], 0.0))
        for i in range(M):
            for j in range(i + 1):
                a, b = sd[i], sd[j]
                e, d = tolerance.absolute + tolerance.relative * a, tolerance.absolute + tolerance.relative * b
                residual = c1[i, j] - c0[i, j] - 0.5 * h * (f0[i, j] + f1[i, j])
                piled = 0.25 * max(1.0, T[i] / h) * abs(residual)
                worst = max(worst, piled / (a * d + b * e + e * d))
    return worst


@compiled
def attempt(system: System, w: Workspace, h: float, order: int, tolerance: Tolerance) -> float:
    """One step; ahead[P:] is set already. The error in units of the tolerance, infinite where F is not finite."""
    T, P = system.T, w.G.size
    _predict(system, w, h)
    if respond_at(system, w.ahead, w.then) >= 0:
        return np.inf
    if order == 2:
        _step_covariance(system, w, h)
        correct(system, w.c_ahead, w.then)
        tendency(system, w.then, w.ahead, w.c_ahead, w.matrices[5])
    for i in range(P):
        w.G_ahead[i] = min(max(w.then.F[i] + w.then.half[i], 0.0), LIMIT * 1000.0 / T[i])
    _correct_rates(system, w, h)
    return _error(T, w, order, h, tolerance)


@compiled
def take_over(w: Workspace, order: int) -> None:
    """The step's end becomes the beginning of the next."""
    P, M, now, then, slopes, new = w.G.size, w.rate.size, w.now, w.then, w.matrices[4], w.matrices[5]
    for i in range(M):
        w.rate[i] = w.ahead[i]
        if order == 2:
            for j in range(M):
                w.c[i, j], slopes[i, j] = w.c_ahead[i, j], new[i, j]
    for i in range(P):
        w.G[i], now.F[i], now.half[i] = w.G_ahead[i], then.F[i], then.half[i]
        for j in range(M):
            now.J[i, j] = then.J[i, j]
