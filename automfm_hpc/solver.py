"""Compiled stepping of the master equation: rates (order 1), rates and covariances (order 2).

Rows of the state are the populations, then the external inputs; both are 'sources' of the transfer
functions. With y = h/T and a = exp(-y), a step of either method is

    rate        <- a rate + (weights that sum to 1 - a) times driven rates in [0, 1/T)
    covariance  <- A covariance A^T + sources of covariance (positive semi-definite)

so rates stay in [0, 1/T) and covariances positive semi-definite whatever the step: no projection is
needed. Methods: 'euler' (first order), 'heun' (second order, two evaluations of all transfer functions
per step), 'adams' (second order, one evaluation: driven rates and J are extrapolated to the step's middle from
this and the last step, covariance sources are those of both ends). The driven rate F + 1/2 sum c d2F is clipped to [0, 1/T), a variance to 1/(4 T^2) (the largest
a rate in [0, 1/T) can have); each such event is counted.

Numba's disk cache notices changes of this file only: after changing `transfer_function` or
`published_template` in place, touch this file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from automfm_hpc import published_template, rate_models, transfer_function

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EULER, HEUN, ADAMS = 0, 1, 2
METHODS = {"adams": ADAMS, "heun": HEUN, "euler": EULER}
COUNT, FIRST, LAST, EXTREME = range(4)  # columns of an event table
_LIMIT = 1.0 - 1e-9  # rates stay below this fraction of 1/T
_tf_evaluate = transfer_function.evaluate
_published_evaluate = published_template.evaluate
_rate_evaluate = rate_models.evaluate
_PUBLISHED, _RATE = published_template.CODE, min(rate_models.CODES.values())


_compiled = njit(cache=True, nogil=True, error_model="numpy")


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
    hessian: FloatArray  # flat, one population after the other
    F: FloatArray  # (P,) Hz
    J: FloatArray  # (P, M) dF/dnu
    half: FloatArray  # (P,) 1/2 sum_jk c_jk d2F/dnu_j dnu_k, Hz


class _Scheme(NamedTuple):
    """Constants of a step h: y = h/T, a = exp(-y), all (M,)."""

    y: FloatArray
    a: FloatArray
    root: FloatArray  # exp(-y/2)
    limit: FloatArray  # largest rate, Hz
    late: FloatArray  # weight of the change of the driven rate within a step
    weight: FloatArray  # its square is the weight of a covariance source


class _State(NamedTuple):
    """Rates (M,), covariance (M, M), driven rates (P,), now and at the other stage, and scratch matrices."""

    rate: FloatArray
    c: FloatArray
    G: FloatArray
    rate_other: FloatArray
    c_other: FloatArray
    G_other: FloatArray
    A: FloatArray
    B: FloatArray


@intrinsic
def _pointer(typing_context, address):
    """An address as a pointer."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.uintp), generate


@_compiled
def _floats(array):
    """The same array without reference counting, which costs more than the arithmetic of a small system.

    Only for arrays that the caller of the compiled code keeps alive.
    """
    return carray(_pointer(array.ctypes.data), array.shape, np.float64)


@_compiled
def _integers(array):
    return carray(_pointer(array.ctypes.data), array.shape, np.int64)


@_compiled
def _bare_system(s):
    return System(_integers(s.ints), _integers(s.int_start), _floats(s.floats), _integers(s.float_start),
                  _integers(s.axes), _integers(s.axis_start), _floats(s.domain), _floats(s.T), _floats(s.N))  # fmt: skip


@_compiled
def _bare_work(w):
    return _Work(_floats(w.nu), _floats(w.gradient), _floats(w.hessian), _floats(w.F), _floats(w.J), _floats(w.half))


@_compiled
def _bare_scheme(s):
    return _Scheme(_floats(s.y), _floats(s.a), _floats(s.root), _floats(s.limit), _floats(s.late), _floats(s.weight))


@_compiled
def _bare_state(s):
    return _State(_floats(s.rate), _floats(s.c), _floats(s.G), _floats(s.rate_other), _floats(s.c_other),
                  _floats(s.G_other), _floats(s.A), _floats(s.B))  # fmt: skip


@_compiled
def _bare_events(e):
    return Events(_floats(e.outside), _floats(e.above), _floats(e.below), _floats(e.variance), _floats(e.broken))


def _room(system: System) -> _Work:
    P, M = system.axis_start.size - 1, system.T.size
    axes = np.diff(system.axis_start)
    return _Work(np.zeros(axes.max()), np.zeros(axes.max()), np.zeros((axes**2).sum()), np.zeros(P), np.zeros((P, M)), np.zeros(P))


@_compiled
def _one(ints, floats, nu, gradient, hessian):
    if ints[0] >= _RATE:
        return _rate_evaluate(ints, floats, nu, gradient, hessian)
    if ints[0] == _PUBLISHED:
        return _published_evaluate(ints, floats, nu, gradient, hessian)
    return _tf_evaluate(ints, floats, nu, gradient, hessian)


@_compiled
def _respond(system, rate, work):
    """Fill F, J and the Hessians of `work`; return the first population whose F is not finite, or -1."""
    nu, gradient, F, J = work.nu, work.gradient, work.F, work.J
    ints, int_start, floats, float_start = system.ints, system.int_start, system.floats, system.float_start
    axes, axis_start = system.axes, system.axis_start
    address = work.hessian.ctypes.data
    for i in range(F.size):
        first, S = axis_start[i], axis_start[i + 1] - axis_start[i]
        for s in range(S):
            nu[s] = rate[axes[first + s]]
        F[i] = _one(ints[int_start[i] : int_start[i + 1]], floats[float_start[i] : float_start[i + 1]],
                    nu[:S], gradient[:S], carray(_pointer(address), (S, S), np.float64))  # fmt: skip
        if not np.isfinite(F[i]):
            return i
        for s in range(S):
            J[i, axes[first + s]] = gradient[s]
        address += 8 * S * S
    return -1


@_compiled
def _correct(system, c, work):
    """half <- 1/2 sum_jk c_jk d2F/dnu_j dnu_k from the Hessians of the last evaluation."""
    half, hessian, axes, axis_start = work.half, work.hessian, system.axes, system.axis_start
    k = 0
    for i in range(half.size):
        first, S = axis_start[i], axis_start[i + 1] - axis_start[i]
        total = 0.0
        for s in range(S):
            for t in range(s):
                total += c[axes[first + s], axes[first + t]] * hessian[k + t]
            total += 0.5 * c[axes[first + s], axes[first + s]] * hessian[k + s]
            k += S
        half[i] = total


def respond(system: System, rate: FloatArray, c: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """F (P,), J (P, M), 1/2 sum c d2F (P,) at rates (M,) and covariance (M, M); F is NaN where not finite."""
    work = _room(system)
    bad = _respond_once(system, np.ascontiguousarray(rate), np.ascontiguousarray(c), work)
    if bad >= 0:
        work.F[bad] = np.nan
    return work.F, work.J, work.half


@_compiled
def _respond_once(system, rate, c, work):
    system, work = _bare_system(system), _bare_work(work)
    bad = _respond(system, _floats(rate), work)
    _correct(system, _floats(c), work)
    return bad


@_compiled
def _mark(table, row, step, value, sign):
    """Count an event; keep the largest (sign 1) or smallest (sign -1) value."""
    if table[row, COUNT] == 0:
        table[row, FIRST] = step
        table[row, EXTREME] = value
    elif sign * value > sign * table[row, EXTREME]:
        table[row, EXTREME] = value
    table[row, COUNT] += 1
    table[row, LAST] = step


@_compiled
def _watch_domain(system, rate, step, outside):
    axes, domain = system.axes, system.domain
    for k in range(axes.size):
        value, low, high = rate[axes[k]], domain[k, 0], domain[k, 1]
        slack = 1e-6 * (high - low)
        if value > high + slack:
            _mark(outside, k, step, value, 1)
        elif value < low - slack:
            _mark(outside, k, step, value, -1)


@_compiled
def _driven(work, limit, step, events, out):
    """out <- F + 1/2 sum c d2F clipped to [0, limit]."""
    F, half = work.F, work.half
    for i in range(out.size):
        value = F[i] + half[i]
        if value > limit[i]:
            _mark(events.above, i, step, value, 1)
            value = limit[i]
        elif value < 0.0:
            _mark(events.below, i, step, value, -1)
            value = 0.0
        out[i] = value


@_compiled
def _add_source(system, work, rate, weight, c):
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


@_compiled
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


@_compiled
def _bound(system, c, step, table):
    """Scale c by a diagonal congruence where a variance exceeds 1/(4 T^2)."""
    T = system.T
    for i in range(c.shape[0]):
        most = 250000.0 / T[i] ** 2
        if c[i, i] > most:
            _mark(table, i, step, c[i, i], 1)
            scale = np.sqrt(most / c[i, i])
            for j in range(c.shape[0]):
                c[i, j] *= scale
                c[j, i] *= scale


@_compiled
def _predict(system, work, rate, c, y, out):
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
    _add_source(system, work, rate, np.sqrt(y), out)


@_compiled
def _euler_matrix(a, J, A):
    P, M = J.shape
    A[:] = 0.0
    for i in range(M):
        if i < P:
            for j in range(M):
                A[i, j] = (1.0 - a[i]) * J[i, j]
        A[i, i] += a[i]


@_compiled
def _middle_matrix(system, scheme, J0, J1, A):
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


def _empty_events(system: System) -> Events:
    P, M, X = system.axis_start.size - 1, system.T.size, system.axes.size
    return Events(*(np.zeros((rows, 4)) for rows in (X, P, P, M, P)))


@_compiled
def _save(k, every, rate, c, order, rates, covariances):
    P = rates.shape[1]
    row = k // every
    for i in range(P):
        rates[row, i] = rate[i]
        if order == 2:
            for j in range(P):
                covariances[row, i, j] = c[i, j]


@_compiled
def _set_inputs(rate, P, drive):
    for m in range(drive.size):
        rate[P + m] = drive[m]


def _scheme(system: System, h: float, method: int) -> _Scheme:
    y = h / system.T
    a = np.exp(-y)
    weight = np.sqrt(0.5 * (1.0 - a * a)) if method == EULER else np.sqrt(0.5 * np.tanh(y))
    return _Scheme(y, a, np.exp(-0.5 * y), _LIMIT * 1000.0 / system.T, (a - 1.0 + y) / y, weight)


def _state(system: System, start: FloatArray, start_c: FloatArray) -> _State:
    P, M = start.size, system.T.size
    rate = np.concatenate([start, np.zeros(M - P)])
    c, c_other, A, B = np.array(start_c, float), np.zeros((M, M)), np.zeros((M, M)), np.zeros((M, M))
    return _State(rate, c, np.zeros(P), np.zeros(M), c_other, np.zeros(P), A, B)


@_compiled
def _euler(system, scheme, state, now, order):
    """Exponential Euler: first order."""
    a, rate, G = scheme.a, state.rate, state.G
    if order == 2:
        _euler_matrix(a, now.J, state.A)
        _congruence(state.A, G.size, state.c, state.B)
        _add_source(system, now, rate, scheme.weight, state.c)
    for i in range(G.size):
        rate[i] = a[i] * rate[i] + (1.0 - a[i]) * G[i]


@_compiled
def _heun(system, scheme, state, now, then, drive, step, order, events):
    """Exponential Heun: second order, stages at both ends of the step; returns as `_respond`."""
    a, late, rate, rate_other, G, G_other = scheme.a, scheme.late, state.rate, state.rate_other, state.G, state.G_other
    for i in range(G.size):
        rate_other[i] = a[i] * rate[i] + (1.0 - a[i]) * G[i]
    _set_inputs(rate_other, now.F.size, drive)
    bad = _respond(system, rate_other, then)
    if bad >= 0:
        return bad
    if order == 2:
        _predict(system, now, rate, state.c, scheme.y, state.c_other)
        _correct(system, state.c_other, then)
    _driven(then, scheme.limit, step + 1, events, G_other)
    if order == 2:
        _middle_matrix(system, scheme, now.J, then.J, state.A)
        _add_source(system, now, rate, scheme.weight, state.c)
        _congruence(state.A, now.F.size, state.c, state.B)
        _add_source(system, then, rate_other, scheme.weight, state.c)
    for i in range(G.size):
        rate[i] = rate_other[i] + late[i] * (G_other[i] - G[i])
    return -1


@_compiled
def _adams(system, scheme, state, now, earlier, first, order):
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
        _add_source(system, now, rate, scheme.weight, state.c)
        _congruence(state.A, G.size, state.c, state.B)
    for i in range(G.size):
        gain = late[i] / (1.0 - a[i])
        ahead = min(max(G[i] + gain * (G[i] - old_G[i]), 0.0), limit[i])
        rate[i] = a[i] * rate[i] + (1.0 - a[i]) * ahead
        old_G[i] = G[i]


def integrate(
    system: System, drive: FloatArray, start: FloatArray, start_c: FloatArray, h: float, order: int, method: int, every: int
) -> Trace:
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
        1 or 2; EULER, HEUN or ADAMS.
    every : int
        Steps from one sample to the next.

    Returns
    -------
    Trace
        Where a transfer function is not finite stepping stops and later samples repeat the last state.
    """
    P, n_sample = start.size, (drive.shape[0] - 1) // every + 1
    rates, covariances = np.zeros((n_sample, P)), np.zeros((n_sample if order == 2 else 0, P, P))
    state, events = _state(system, start, start_c), _empty_events(system)
    table = np.ascontiguousarray(drive)
    _march(system, _scheme(system, h, method), state, _room(system), _room(system), events, table, rates, covariances,
           order, method, every)  # fmt: skip
    return Trace(rates, covariances, state.rate, state.c, events)


@_compiled
def _march(system, scheme, state, now, other, events, drive, rates, covariances, order, method, every):
    """All steps; everything is kept alive by the caller, so references need no counting."""
    system, scheme, state = _bare_system(system), _bare_scheme(scheme), _bare_state(state)
    now, other, events = _bare_work(now), _bare_work(other), _bare_events(events)
    drive, rates, covariances = _floats(drive), _floats(rates), _floats(covariances)
    rate, c, P, n_step = state.rate, state.c, now.F.size, drive.shape[0] - 1
    for k in range(n_step + 1):
        _set_inputs(rate, P, drive[k])
        _watch_domain(system, rate, k, events.outside)
        bad = _respond(system, rate, now)
        if bad < 0 and order == 2:
            if method == ADAMS and k > 0:
                _add_source(system, now, rate, scheme.weight, c)
            _bound(system, c, k, events.variance)
            _correct(system, c, now)
        if k % every == 0:
            _save(k, every, rate, c, order, rates, covariances)
        if bad < 0 and k < n_step:
            _driven(now, scheme.limit, k, events, state.G)
            if method == HEUN:
                bad = _heun(system, scheme, state, now, other, drive[k + 1], k, order, events)
            elif method == ADAMS:
                _adams(system, scheme, state, now, other, k == 0, order)
            else:
                _euler(system, scheme, state, now, order)
        if bad >= 0:
            _mark(events.broken, bad, k, rate[bad], 1)
            for row in range(k // every + 1, rates.shape[0]):
                _save(row * every, every, rate, c, order, rates, covariances)
            break
