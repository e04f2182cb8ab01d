"""Schemes that step rates and covariances of the master equation; see `solver`.

With y = h/T and a = exp(-y), a step of each is

    rate        <- a rate + (weights that sum to 1 - a) times driven rates in [0, 1/T)
    covariance  <- A covariance A^T + sources of covariance (positive semi-definite)

so rates stay in [0, 1/T) and covariances positive semi-definite whatever the step: no projection is
needed. Methods: 'euler' (first order), 'heun' (second order, two evaluations of all transfer functions
per step), 'adams' (second order, one evaluation: driven rates and J are extrapolated to the step's
middle from this and the last step, covariance sources are those of both ends). The driven rate
F + 1/2 sum c d2F is clipped to [0, 1/T), a variance to 1/(4 T^2) (the largest a rate in [0, 1/T) can
have); each such event is counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from automfm_hpc.events import Events, driven_rates
from automfm_hpc.response import FloatArray, Response, System, bare_floats, compiled, correct, gather, respond_into

EULER, HEUN, ADAMS = 0, 1, 2
METHODS = {"adams": ADAMS, "heun": HEUN, "euler": EULER}
FILTERED = ("adams", "euler")  # for rates that reach the transfer functions through filters
_LIMIT = 1.0 - 1e-9  # rates stay below this fraction of 1/T


class Scheme(NamedTuple):
    """Constants of a step h: y = h/T, a = exp(-y), all (M,)."""

    y: FloatArray
    a: FloatArray
    root: FloatArray  # exp(-y/2)
    limit: FloatArray  # largest rate, Hz
    late: FloatArray  # weight of the change of the driven rate within a step
    weight: FloatArray  # its square is the weight of a covariance source


class State(NamedTuple):
    """Rates (M,), covariance (M, M), driven rates (P,), now and at the other stage, and scratch matrices."""

    rate: FloatArray
    c: FloatArray
    G: FloatArray
    rate_other: FloatArray
    c_other: FloatArray
    G_other: FloatArray
    A: FloatArray
    B: FloatArray


@compiled
def bare_scheme(s: Scheme) -> Scheme:
    return Scheme(bare_floats(s.y), bare_floats(s.a), bare_floats(s.root), bare_floats(s.limit),
                  bare_floats(s.late), bare_floats(s.weight))  # fmt: skip


@compiled
def bare_state(s: State) -> State:
    return State(bare_floats(s.rate), bare_floats(s.c), bare_floats(s.G), bare_floats(s.rate_other),
                 bare_floats(s.c_other), bare_floats(s.G_other), bare_floats(s.A), bare_floats(s.B))  # fmt: skip


@compiled
def add_source(system: System, work: Response, rate: FloatArray, weight: FloatArray, c: FloatArray) -> None:
    """c_ij += weight_i weight_j [diag(F (1/T - F)/N) + (F - nu)(F - nu)^T]_ij."""
    F, T, N = work.F, system.T, system.N
    P = F.size
    for i in range(rate.size):
        top = 1000.0 / T[i]
        fired = min(max(F[i] if i < P else rate[i], 0.0), top)
        c[i, i] += weight[i] ** 2 * fired * (top - fired) / N[i]
    for i in range(P):
        away = weight[i] * (F[i] - rate[i])
        for j in range(P):
            c[i, j] += away * (weight[j] * (F[j] - rate[j]))


@compiled
def congruence(A: FloatArray, P: int, c: FloatArray, B: FloatArray) -> None:
    """c <- A c A^T, symmetric by construction; rows of A from P on are diagonal."""
    M = c.shape[0]
    for i in range(P):
        for j in range(M):
            total = 0.0
            for k in range(M):
                total += A[i, k] * c[k, j]
            B[i, j] = total
    for i in range(P):
        for j in range(i, P):
            total = 0.0
            for k in range(M):
                total += B[i, k] * A[j, k]
            c[i, j] = total
            c[j, i] = total
        for j in range(P, M):
            c[i, j] = B[i, j] * A[j, j]
            c[j, i] = c[i, j]
    for i in range(P, M):
        for j in range(P, M):
            c[i, j] *= A[i, i] * A[j, j]


@compiled
def _predict(system: System, work: Response, rate: FloatArray, c: FloatArray, y: FloatArray, out: FloatArray) -> None:
    """out <- c after one explicit Euler step; good enough inside the second stage, where it enters linearly."""
    J, axes, axis_start = work.J, system.axes, system.axis_start
    P, M = J.shape
    for i in range(M):
        for j in range(M):
            out[i, j] = c[i, j] * (1.0 - y[i] - y[j])
    for i in range(P):
        for k in range(axis_start[i], axis_start[i + 1]):
            s = axes[k]
            slope = y[i] * J[i, s]
            for j in range(M):
                out[i, j] += slope * c[s, j]
                out[j, i] += slope * c[s, j]
    add_source(system, work, rate, np.sqrt(y), out)


@compiled
def _euler_matrix(a: FloatArray, J: FloatArray, A: FloatArray) -> None:
    P, M = J.shape
    A[:] = 0.0
    for i in range(M):
        if i < P:
            for j in range(M):
                A[i, j] = (1.0 - a[i]) * J[i, j]
        A[i, i] += a[i]


@compiled
def _middle_matrix(system: System, scheme: Scheme, J0: FloatArray, J1: FloatArray, A: FloatArray) -> None:
    """E (I + (Y J0 + Y J1)/2 + Y J1 Y J0/2) E with Y = diag(y) and E = exp(-Y/2): second order in y."""
    axes, axis_start, y, root = system.axes, system.axis_start, scheme.y, scheme.root
    P, M = J0.shape
    A[:] = 0.0
    for i in range(P):
        for n in range(axis_start[i], axis_start[i + 1]):
            k = axes[n]
            A[i, k] += 0.5 * y[i] * (J0[i, k] + J1[i, k])
            if k < P:
                slope = 0.5 * y[i] * y[k] * J1[i, k]
                for m in range(axis_start[k], axis_start[k + 1]):
                    A[i, axes[m]] += slope * J0[k, axes[m]]
    for i in range(M):
        A[i, i] += 1.0
        for j in range(M):
            A[i, j] *= root[i] * root[j]


@compiled
def set_inputs(rate: FloatArray, P: int, drive: FloatArray) -> None:
    for m in range(drive.size):
        rate[P + m] = drive[m]


def scheme_of(system: System, h: float, method: int) -> Scheme:
    y = h / system.T
    a = np.exp(-y)
    weight = np.sqrt(0.5 * (1.0 - a * a)) if method == EULER else np.sqrt(0.5 * np.tanh(y))
    return Scheme(y, a, np.exp(-0.5 * y), _LIMIT * 1000.0 / system.T, (a - 1.0 + y) / y, weight)


def state_of(system: System, start: FloatArray, start_c: FloatArray) -> State:
    P, M = start.size, system.T.size
    rate = np.concatenate([start, np.zeros(M - P)])
    c, c_other, A, B = np.array(start_c, float), np.zeros((M, M)), np.zeros((M, M)), np.zeros((M, M))
    return State(rate, c, np.zeros(P), np.zeros(M), c_other, np.zeros(P), A, B)


@compiled
def euler(system: System, scheme: Scheme, state: State, now: Response, order: int) -> None:
    """Exponential Euler: first order."""
    a, rate, G = scheme.a, state.rate, state.G
    if order == 2:
        _euler_matrix(a, now.J, state.A)
        congruence(state.A, G.size, state.c, state.B)
        add_source(system, now, rate, scheme.weight, state.c)
    for i in range(G.size):
        rate[i] = a[i] * rate[i] + (1.0 - a[i]) * G[i]


@compiled
def heun(
    system: System, scheme: Scheme, state: State, now: Response, then: Response, drive: FloatArray, step: int,
    order: int, events: Events,
) -> int:  # fmt: skip
    """Exponential Heun: second order, stages at both ends of the step; returns as `respond_into`."""
    a, late, rate, rate_other, G, G_other = scheme.a, scheme.late, state.rate, state.rate_other, state.G, state.G_other
    for i in range(G.size):
        rate_other[i] = a[i] * rate[i] + (1.0 - a[i]) * G[i]
    set_inputs(rate_other, now.F.size, drive)
    gather(system, rate_other, then)
    bad = respond_into(system, then)
    if bad >= 0:
        return bad
    if order == 2:
        _predict(system, now, rate, state.c, scheme.y, state.c_other)
        correct(system, state.c_other, then)
    driven_rates(then, scheme.limit, step + 1, events, G_other)
    if order == 2:
        _middle_matrix(system, scheme, now.J, then.J, state.A)
        add_source(system, now, rate, scheme.weight, state.c)
        congruence(state.A, now.F.size, state.c, state.B)
        add_source(system, then, rate_other, scheme.weight, state.c)
    for i in range(G.size):
        rate[i] = rate_other[i] + late[i] * (G_other[i] - G[i])
    return -1


@compiled
def adams(
    system: System, scheme: Scheme, state: State, now: Response, earlier: Response, first: bool, order: int,
) -> None:  # fmt: skip
    """Exponential Adams-Bashforth: second order; the source of c at the step's end is added at the next step.

    The last step's J stands in `earlier`, its driven rates in `G_other`.
    """
    a, late, limit, rate, G, old_G = scheme.a, scheme.late, scheme.limit, state.rate, state.G, state.G_other
    J, old_J = now.J, earlier.J
    if first:
        old_G[:], old_J[:] = G, J
    if order == 2:
        for i in range(J.shape[0]):
            for j in range(J.shape[1]):
                J_now = J[i, j]
                J[i, j] = 1.5 * J_now - 0.5 * old_J[i, j]
                old_J[i, j] = J_now
        _middle_matrix(system, scheme, J, J, state.A)
        add_source(system, now, rate, scheme.weight, state.c)
        congruence(state.A, G.size, state.c, state.B)
    for i in range(G.size):
        gain = late[i] / (1.0 - a[i])
        ahead = min(max(G[i] + gain * (G[i] - old_G[i]), 0.0), limit[i])
        rate[i] = a[i] * rate[i] + (1.0 - a[i]) * ahead
        old_G[i] = G[i]
