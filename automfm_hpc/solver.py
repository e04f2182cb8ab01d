"""Compiled stepping of the master equation: rates (order 1), rates and covariances (order 2).

Rows of the state are the populations, then the external inputs; both are 'sources' of the transfer
functions. With y = h/T and a = exp(-y), a step of either method is

    rate        <- a rate + (weights that sum to 1 - a) times driven rates in [0, 1/T)
    covariance  <- A covariance A^T + sources of covariance (positive semi-definite)

so rates stay in [0, 1/T) and covariances positive semi-definite whatever the step: no projection is
needed. The driven rate F + 1/2 sum c d2F is clipped to [0, 1/T), a variance to 1/(4 T^2) (the largest
a rate in [0, 1/T) can have); each such event is counted.

Numba's disk cache notices changes of this file only: after changing `transfer_function` or
`published_template` in place, touch this file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from automfm_hpc import published_template, rate_models, transfer_function

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EULER, HEUN = 0, 1
METHODS = {"euler": EULER, "heun": HEUN}
COUNT, FIRST, LAST, EXTREME = range(4)  # columns of an event table
_LIMIT = 1.0 - 1e-9  # rates stay below this fraction of 1/T
_tf_evaluate = transfer_function.evaluate
_published_evaluate = published_template.evaluate
_rate_evaluate = rate_models.evaluate
_PUBLISHED, _RATE = published_template.CODE, min(rate_models.CODES.values())


class System(NamedTuple):
    """A mean field as flat arrays; P populations, M = P + inputs rows.

    Parameters
    ----------
    ints, floats : 1-D arrays
        The packed transfer functions, one after the other.
    int_start, float_start : (P + 1,) arrays
        Where each begins.
    axes : (n_axes,) array
        Row of each axis of each transfer function; axis_start (P + 1,) where each function's begin.
    domain : (n_axes, 2) array
        Hz.
    T : (M,) array
        ms.
    N : (M,) array
        Cells or sources; infinite: no fluctuation of its own.
    """

    ints: IntArray
    int_start: IntArray
    floats: FloatArray
    float_start: IntArray
    axes: IntArray
    axis_start: IntArray
    domain: FloatArray
    T: FloatArray
    N: FloatArray


class Events(NamedTuple):
    """What happened on the way; columns COUNT, FIRST (step), LAST (step), EXTREME (Hz or Hz^2)."""

    outside: FloatArray  # (n_axes, 4) a source's rate outside the domain of a transfer function
    above: FloatArray  # (P, 4) driven rate of 1/T or more
    below: FloatArray  # (P, 4) driven rate below 0
    variance: FloatArray  # (M, 4) variance above its bound
    broken: FloatArray  # (P, 4) transfer function not finite: stepping stopped


class Trace(NamedTuple):
    """Samples at every `every`-th step, the final state, and the events."""

    rate: FloatArray  # (n_sample, P) Hz
    covariance: FloatArray  # (n_sample, P, P) Hz^2; (0, P, P) at order 1
    final_rate: FloatArray  # (M,) Hz
    final_covariance: FloatArray  # (M, M) Hz^2
    events: Events


class _Work(NamedTuple):
    """Room for one evaluation of all transfer functions."""

    nu: FloatArray
    gradient: FloatArray
    hessian: FloatArray
    F: FloatArray  # (P,) Hz
    J: FloatArray  # (P, M) dF/dnu
    half: FloatArray  # (P,) 1/2 sum_jk c_jk d2F/dnu_j dnu_k, Hz


@njit(cache=True, nogil=True)
def _room(system):
    P, M = system.axis_start.size - 1, system.T.size
    S = 1
    for i in range(P):
        S = max(S, system.axis_start[i + 1] - system.axis_start[i])
    return _Work(np.zeros(S), np.zeros(S), np.zeros(S * S), np.zeros(P), np.zeros((P, M)), np.zeros(P))


@njit(cache=True, nogil=True)
def _one(ints, floats, nu, gradient, hessian):
    if ints[0] >= _RATE:
        return _rate_evaluate(ints, floats, nu, gradient, hessian)
    if ints[0] == _PUBLISHED:
        return _published_evaluate(ints, floats, nu, gradient, hessian)
    return _tf_evaluate(ints, floats, nu, gradient, hessian)


@njit(cache=True, nogil=True)
def _respond(system, rate, c, order, work):
    """Fill F, J and, at order 2, half of `work`; return the first population whose F is not finite, or -1."""
    for i in range(work.F.size):
        first, last = system.axis_start[i], system.axis_start[i + 1]
        S = last - first
        for s in range(S):
            work.nu[s] = rate[system.axes[first + s]]
        hessian = work.hessian[: S * S].reshape((S, S))
        value = _one(
            system.ints[system.int_start[i] : system.int_start[i + 1]],
            system.floats[system.float_start[i] : system.float_start[i + 1]],
            work.nu[:S], work.gradient[:S], hessian,
        )  # fmt: skip
        half = 0.0
        for s in range(S):
            j = system.axes[first + s]
            work.J[i, j] = work.gradient[s]
            if order == 2:
                half += 0.5 * c[j, j] * hessian[s, s]
                for t in range(s):
                    half += c[j, system.axes[first + t]] * hessian[s, t]
        if not np.isfinite(value + half):
            return i
        work.F[i] = value
        work.half[i] = half
    return -1


@njit(cache=True, nogil=True)
def respond(system, rate, c):
    """F (P,), J (P, M), 1/2 sum c d2F (P,) at rates (M,) and covariance (M, M); NaN where not finite."""
    work = _room(system)
    bad = _respond(system, rate, c, 2, work)
    if bad >= 0:
        work.F[bad] = np.nan
    return work.F, work.J, work.half


@njit(cache=True, nogil=True)
def _mark(table, row, step, value, sign):
    """Count an event; keep the largest (sign 1) or smallest (sign -1) value."""
    if table[row, COUNT] == 0:
        table[row, FIRST] = step
        table[row, EXTREME] = value
    elif sign * value > sign * table[row, EXTREME]:
        table[row, EXTREME] = value
    table[row, COUNT] += 1
    table[row, LAST] = step


@njit(cache=True, nogil=True)
def _watch_domain(system, rate, step, outside):
    for k in range(system.axes.size):
        value, low, high = rate[system.axes[k]], system.domain[k, 0], system.domain[k, 1]
        slack = 1e-6 * (high - low)
        if value > high + slack:
            _mark(outside, k, step, value, 1)
        elif value < low - slack:
            _mark(outside, k, step, value, -1)


@njit(cache=True, nogil=True)
def _driven(work, limit, step, events, out):
    """out <- F + 1/2 sum c d2F clipped to [0, limit]."""
    for i in range(out.size):
        value = work.F[i] + work.half[i]
        if value > limit[i]:
            _mark(events.above, i, step, value, 1)
            value = limit[i]
        elif value < 0.0:
            _mark(events.below, i, step, value, -1)
            value = 0.0
        out[i] = value


@njit(cache=True, nogil=True)
def _add_source(system, work, rate, weight, c):
    """c_ij += weight_i weight_j [diag(F (1/T - F)/N) + (F - nu)(F - nu)^T]_ij."""
    P = work.F.size
    for i in range(rate.size):
        top = 1000.0 / system.T[i]
        F = min(max(work.F[i] if i < P else rate[i], 0.0), top)
        c[i, i] += weight[i] ** 2 * F * (top - F) / system.N[i]
    for i in range(P):
        away = weight[i] * (work.F[i] - rate[i])
        for j in range(P):
            c[i, j] += away * weight[j] * (work.F[j] - rate[j])


@njit(cache=True, nogil=True)
def _congruence(A, P, c, B):
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


@njit(cache=True, nogil=True)
def _bound(system, c, step, table):
    """Scale c by a diagonal congruence where a variance exceeds 1/(4 T^2)."""
    for i in range(c.shape[0]):
        most = 250000.0 / system.T[i] ** 2
        if c[i, i] > most:
            _mark(table, i, step, c[i, i], 1)
            scale = np.sqrt(most / c[i, i])
            for j in range(c.shape[0]):
                c[i, j] *= scale
                c[j, i] *= scale


@njit(cache=True, nogil=True)
def _predict(system, work, rate, c, y, out):
    """out <- c after one explicit Euler step; good enough inside the second stage, where it enters linearly."""
    P, M = work.F.size, rate.size
    for i in range(M):
        for j in range(M):
            out[i, j] = c[i, j] * (1.0 - y[i] - y[j])
    for i in range(P):
        for k in range(system.axis_start[i], system.axis_start[i + 1]):
            s = system.axes[k]
            slope = y[i] * work.J[i, s]
            for j in range(M):
                out[i, j] += slope * c[s, j]
                out[j, i] += slope * c[s, j]
    _add_source(system, work, rate, np.sqrt(y), out)


@njit(cache=True, nogil=True)
def _euler_matrix(a, J, A):
    P, M = J.shape
    A[:] = 0.0
    for i in range(M):
        if i < P:
            for j in range(M):
                A[i, j] = (1.0 - a[i]) * J[i, j]
        A[i, i] += a[i]


@njit(cache=True, nogil=True)
def _heun_matrix(system, a, y, J0, J1, A):
    """E (I + (Y J0 + Y J1)/2 + Y J1 Y J0/2) E with Y = diag(y) and E = exp(-Y/2): second order in y."""
    P, M = J0.shape
    A[:] = 0.0
    for i in range(P):
        for j in range(M):
            A[i, j] = 0.5 * y[i] * (J0[i, j] + J1[i, j])
        for n in range(system.axis_start[i], system.axis_start[i + 1]):
            k = system.axes[n]
            if k < P:
                slope = 0.5 * y[i] * y[k] * J1[i, k]
                for m in range(system.axis_start[k], system.axis_start[k + 1]):
                    A[i, system.axes[m]] += slope * J0[k, system.axes[m]]
    for i in range(M):
        A[i, i] += 1.0
        for j in range(M):
            A[i, j] *= np.sqrt(a[i] * a[j])


@njit(cache=True, nogil=True)
def _empty_events(system):
    P, M, X = system.axis_start.size - 1, system.T.size, system.axes.size
    return Events(np.zeros((X, 4)), np.zeros((P, 4)), np.zeros((P, 4)), np.zeros((M, 4)), np.zeros((P, 4)))


@njit(cache=True, nogil=True)
def _save(k, every, rate, c, order, rates, covariances):
    P = rates.shape[1]
    row = k // every
    for i in range(P):
        rates[row, i] = rate[i]
        if order == 2:
            for j in range(P):
                covariances[row, i, j] = c[i, j]


@njit(cache=True, nogil=True)
def _set_inputs(rate, P, drive):
    for m in range(drive.size):
        rate[P + m] = drive[m]


@njit(cache=True, nogil=True, error_model="numpy")
def integrate(system, drive, start, start_c, h, order, method, every):
    """Step the master equation from t = 0.

    Parameters
    ----------
    system : System
    drive : (n_step + 1, M - P) array
        Rates of the inputs (Hz) at the steps' beginnings, and at the end.
    start : (P,) array
        Hz.
    start_c : (M, M) array
        Hz^2.
    h : float
        Step (ms).
    order, method : int
        1 or 2; EULER or HEUN.
    every : int
        Steps from one sample to the next.

    Returns
    -------
    Trace
        Where a transfer function is not finite stepping stops and later samples repeat the last state.
    """
    P, M, n_step = start.size, system.T.size, drive.shape[0] - 1
    rates = np.zeros((n_step // every + 1, P))
    covariances = np.zeros((n_step // every + 1 if order == 2 else 0, P, P))
    events = _empty_events(system)
    now, then = _room(system), _room(system)
    rate, rate_then = np.zeros(M), np.zeros(M)
    c, c_then, A, B = start_c.copy(), np.zeros((M, M)), np.zeros((M, M)), np.zeros((M, M))
    G, G_then = np.zeros(P), np.zeros(P)
    y = h / system.T
    a = np.exp(-y)
    limit = _LIMIT * 1000.0 / system.T
    late = (a - 1.0 + y) / y  # weight of the second stage
    weight = np.sqrt(0.5 * np.tanh(y)) if method == HEUN else np.sqrt(0.5 * (1.0 - a * a))
    rate[:P] = start
    for k in range(n_step + 1):
        _set_inputs(rate, P, drive[k])
        _watch_domain(system, rate, k, events.outside)
        if k % every == 0:
            _save(k, every, rate, c, order, rates, covariances)
        if k == n_step:
            break
        bad = _respond(system, rate, c, order, now)
        if bad < 0:
            _driven(now, limit, k, events, G)
            for i in range(P):
                rate_then[i] = a[i] * rate[i] + (1.0 - a[i]) * G[i]
            if method == HEUN:
                _set_inputs(rate_then, P, drive[k + 1])
                if order == 2:
                    _predict(system, now, rate, c, y, c_then)
                bad = _respond(system, rate_then, c_then, order, then)
        if bad >= 0:
            _mark(events.broken, bad, k, rate[bad], 1)
            for late_row in range(k // every + 1, rates.shape[0]):
                _save(late_row * every, every, rate, c, order, rates, covariances)
            break
        if method == HEUN:
            _driven(then, limit, k + 1, events, G_then)
        if order == 2:
            if method == HEUN:
                _heun_matrix(system, a, y, now.J, then.J, A)
                _add_source(system, now, rate, weight, c)
                _congruence(A, P, c, B)
                _add_source(system, then, rate_then, weight, c)
            else:
                _euler_matrix(a, now.J, A)
                _congruence(A, P, c, B)
                _add_source(system, now, rate, weight, c)
            _bound(system, c, k + 1, events.variance)
        for i in range(P):
            rate[i] = rate_then[i]
            if method == HEUN:
                rate[i] += late[i] * (G_then[i] - G[i])
    return Trace(rates, covariances, rate, c, events)
