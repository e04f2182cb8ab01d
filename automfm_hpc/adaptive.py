"""Solutions of the master equation with steps as long as a tolerance allows, in compiled code; steps: `rosenbrock`.

Steps end where a drive jumps or bends, see `batch.stops_of`; rates and covariances at the samples in between are cubic
and quadratic in time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from automfm_hpc.events import Events, bare_events, bound, driven_rates, mark
from automfm_hpc.response import (
    FloatArray,
    IntArray,
    System,
    bare_floats,
    bare_integers,
    bare_system,
    compiled,
    correct,
    respond_at,
)
from automfm_hpc.rosenbrock import LIMIT, Tolerance, Workspace, attempt, bare_workspace, take_over, tendency
from automfm_hpc.starts import find_start, rest_covariance

_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 4.0
_FIRST_STEP, _SHORTEST = 0.25, 1e-5  # ms; the shortest is taken whatever its error


class Course(NamedTuple):
    """The drive of one solution: piecewise linear rates of its inputs, and where steps must end."""

    start: IntArray  # (n_input + 1,) where the knots of each input begin
    time: FloatArray  # (n_knot,) ms
    rate: FloatArray  # (n_knot,) Hz
    stops: FloatArray  # (n_stop,) ms, increasing


@compiled
def set_drive(course: Course, cursor: IntArray, t: float, P: int, rate: FloatArray) -> None:
    """Rates of the inputs at t (ms) into rate[P:]; `cursor` (n_input,) is the last knot not after an earlier time."""
    for m in range(cursor.size):
        k, last = cursor[m], course.start[m + 1] - 1
        while k < last and course.time[k + 1] <= t:
            k += 1
        value = course.rate[k]
        if k < last and t > course.time[k]:
            part = (t - course.time[k]) / (course.time[k + 1] - course.time[k])
            value += part * (course.rate[k + 1] - value)
        rate[P + m] = value


@compiled
def _set_inputs(course: Course, cursor: IntArray, t: float, arrival: float, w: Workspace) -> None:
    """Rates of the inputs at the step's end, their bow, and how far their knots lie off that parabola."""
    P, h = w.G.size, arrival - t
    set_drive(course, cursor, 0.5 * (t + arrival), P, w.bow)
    set_drive(course, cursor, arrival, P, w.ahead)
    for m in range(cursor.size):
        start, end, k = w.rate[P + m], w.ahead[P + m], cursor[m] + 1
        bow, off = w.bow[P + m] - 0.5 * (start + end), 0.0
        while k < course.start[m + 1] and course.time[k] < arrival:
            s = (course.time[k] - t) / h
            if s > 0.0:
                off = max(off, abs(course.rate[k] - start - s * (end - start) - 4.0 * bow * s * (1.0 - s)))
            k += 1
        w.bow[P + m], w.off[P + m] = bow, off


@compiled
def _watch(system: System, rate: FloatArray, row: int, end: int, step: float, events: Events) -> None:
    """Rates of sources number `row` to `end` against the domains of the transfer functions."""
    for axis in range(system.axes.size):
        source = system.axes[axis]
        if row <= source < end:
            low, high, value = system.domain[axis, 0], system.domain[axis, 1], rate[source]
            slack = 1e-6 * (high - low)
            if value > high + slack:
                mark(events.outside, axis, step, value, 1)
            elif value < low - slack:
                mark(events.outside, axis, step, value, -1)


@compiled
def _advance(
    system: System, course: Course, cursor: IntArray, t: float, unit: float, knot: FloatArray, events: Events
) -> None:
    """Move the cursors to t; watch the knots on the way, where a drive is highest or lowest."""
    P = system.axis_start.size - 1
    for m in range(cursor.size):
        k, last = cursor[m], course.start[m + 1] - 1
        while k < last and course.time[k + 1] <= t:
            k += 1
            if course.time[k] < t:
                knot[P + m] = course.rate[k]
                _watch(system, knot, P + m, P + m + 1, course.time[k] / unit, events)
        cursor[m] = k


@compiled
def _accept(system: System, w: Workspace, h: float, step: float, order: int, limit: FloatArray, events: Events) -> None:
    """Rates ahead become the corrected ones, and F follows them along its slope; what happened is counted."""
    P, shift = w.G.size, w.vectors[7]
    for i in range(P):
        shift[i] = w.vectors[6, i] - w.ahead[i]
    for i in range(P):
        w.ahead[i] += shift[i]
        for j in range(P):
            w.then.F[i] += w.then.J[i, j] * shift[j]
    if order == 2 and _bounded(system, w.c_ahead, step, events):
        correct(system, w.c_ahead, w.then)
        tendency(system, w.then, w.ahead, w.c_ahead, w.matrices[5])
    for i in range(P):
        w.trend[i] = (w.then.half[i] - w.now.half[i]) / h
    driven_rates(w.then, limit, step, events, w.G_ahead)
    _watch(system, w.ahead, 0, w.ahead.size, step, events)


@compiled
def _bounded(system: System, c: FloatArray, step: float, events: Events) -> bool:
    """Whether a variance was above its bound, to which it is then scaled."""
    for i in range(c.shape[0]):
        if c[i, i] > 250000.0 / system.T[i] ** 2:
            bound(system, c, step, events.variance)
            return True
    return False


@compiled
def _sample(
    system: System, w: Workspace, t: float, h: float, spacing: float, first: int, order: int, rates: FloatArray,
    covariances: FloatArray, unit: float, events: Events,
) -> int:  # fmt: skip
    """Samples from number `first` on that lie in (t, t + h]; the number of the next one."""
    P, T, k, end = w.G.size, system.T, first, t + h * (1.0 + 1e-12)
    if k >= rates.shape[0] or k * spacing > end:
        return k
    at, middle = w.vectors[8], w.matrices[0]
    if order == 2:
        _middle_point(w, h, middle)
    while k < rates.shape[0] and k * spacing <= end:
        s = min(max((k * spacing - t) / h, 0.0), 1.0)
        for i in range(P):
            f0, f1 = h * (w.G[i] - w.rate[i]) / T[i], h * (w.G_ahead[i] - w.ahead[i]) / T[i]
            value = ((1.0 + 2.0 * s) * w.rate[i] + s * f0) * (1.0 - s) ** 2
            value += ((3.0 - 2.0 * s) * w.ahead[i] - (1.0 - s) * f1) * s * s
            at[i] = rates[k, i] = min(max(value, 0.0), LIMIT * 1000.0 / T[i])
            if order == 2:
                for j in range(P):
                    covariances[k, i, j] = ((1.0 - s) ** 2 * w.c[i, j] + 2.0 * s * (1.0 - s) * middle[i, j]
                                            + s * s * w.c_ahead[i, j])  # fmt: skip
        if s < 1.0:
            _watch(system, at, 0, P, k * spacing / unit, events)
        k += 1
    return k


@compiled
def _middle_point(w: Workspace, h: float, middle: FloatArray) -> None:
    """Middle control point of c over a step with the slopes of both ends; their mean where it is not definite.

    With three positive semi-definite control points every c in between is so, too.
    """
    M, c0, c1, f0, f1, L = w.rate.size, w.c, w.c_ahead, w.matrices[4], w.matrices[5], w.matrices[1]
    for i in range(M):
        for j in range(M):
            middle[i, j] = 0.5 * (c0[i, j] + c1[i, j]) + 0.25 * h * (f0[i, j] - f1[i, j])
    if not _definite(middle, L):
        for i in range(M):
            for j in range(M):
                middle[i, j] = 0.5 * (c0[i, j] + c1[i, j])


@compiled
def _definite(c: FloatArray, L: FloatArray) -> bool:
    """Whether c is positive semi-definite, by Cholesky's factors; rows without variance must have no covariance."""
    for i in range(c.shape[0]):
        for j in range(i + 1):
            value = c[i, j]
            for k in range(j):
                value -= L[i, k] * L[j, k]
            if i == j:
                if value < 0.0:
                    return False
                L[i, i] = np.sqrt(value)
            elif L[j, j] > 0.0:
                L[i, j] = value / L[j, j]
            else:
                L[i, j] = 0.0
                if value != 0.0:
                    return False
    return True


@compiled
def _begin(
    system: System, w: Workspace, order: int, limit: FloatArray, rates: FloatArray, covariances: FloatArray,
    events: Events,
) -> bool:  # fmt: skip
    """Everything at t = 0, and the first sample; False where a transfer function is not finite."""
    P = w.G.size
    bad = respond_at(system, w.rate, w.now)
    for i in range(P):
        w.trend[i] = w.now.half[i] = 0.0
        rates[0, i] = w.rate[i]
    _watch(system, w.rate, 0, w.rate.size, 0.0, events)
    if order == 2:
        bound(system, w.c, 0, events.variance)
        for i in range(P):
            for j in range(P):
                covariances[0, i, j] = w.c[i, j]
    if bad >= 0:
        mark(events.broken, bad, 0.0, w.rate[bad], 1)
        return False
    if order == 2:
        correct(system, w.c, w.now)
        tendency(system, w.now, w.rate, w.c, w.matrices[4])
    driven_rates(w.now, limit, 0.0, events, w.G)
    return True


@compiled
def _march(
    system: System, course: Course, cursor: IntArray, w: Workspace, order: int, duration: float, spacing: float,
    unit: float, tolerance: Tolerance, rates: FloatArray, covariances: FloatArray, events: Events,
) -> int:  # fmt: skip
    """All steps from the state in `w.rate` and `w.c` to `duration` (ms); how many evaluations they took.

    Samples lie `spacing` (ms) apart; events are counted in units of `unit` (ms).
    """
    limit = LIMIT * 1000.0 / system.T
    knot = np.zeros(w.rate.size)
    t, h, stop, sample, evaluations = 0.0, min(_FIRST_STEP, tolerance.longest), 0, 1, 1
    fine = _begin(system, w, order, limit, rates, covariances, events)
    while fine and t < duration * (1.0 - 1e-12):
        while stop < course.stops.size and course.stops[stop] <= t * (1.0 + 1e-14):
            stop += 1
        end = course.stops[stop] if stop < course.stops.size else duration
        size = min(h, tolerance.longest)
        last = t + size * (1.0 + 1e-9) >= end
        size = end - t if last else min(size, max(0.5 * (end - t), _SHORTEST))
        arrival = end if last else t + size
        _set_inputs(course, cursor, t, arrival, w)
        error = attempt(system, w, size, order, tolerance)
        evaluations += 1
        if not error < np.inf and size <= _SHORTEST:
            bad = max(respond_at(system, w.ahead, w.then), 0)
            mark(events.broken, bad, t / unit, w.rate[bad], 1)
            fine = False
            break
        factor = _GROW if error == 0.0 else _SAFETY * error ** (-1.0 / 3.0) if error < np.inf else 0.0
        factor = min(max(factor, _SHRINK), _GROW)
        if error > 1.0 and size > _SHORTEST:
            h = size * min(factor, 0.9)
            continue
        _accept(system, w, size, arrival / unit, order, limit, events)
        _advance(system, course, cursor, arrival, unit, knot, events)
        sample = _sample(system, w, t, size, spacing, sample, order, rates, covariances, unit, events)
        take_over(w, order)
        h = max(size * factor, h) if last and size < 0.5 * h else size * factor
        if last:
            w.trend[:] = 0.0
        t = arrival
    for k in range(sample, rates.shape[0]):
        rates[k] = rates[sample - 1]
        if order == 2:
            covariances[k] = covariances[sample - 1]
    return evaluations


class Members(NamedTuple):
    """Solutions to be computed one after the other, all of one model."""

    knot_start: IntArray  # (n_member * n_input + 1,) where the knots of each member's inputs begin
    time: FloatArray  # (n_knot,) ms
    rate: FloatArray  # (n_knot,) Hz
    stop_start: IntArray  # (n_member + 1,)
    stops: FloatArray  # ms
    initial: FloatArray  # (n_member, P) Hz; NaN: to be found


@compiled
def solve_members(
    system: System, members: Members, starts: FloatArray, w: Workspace, order: int, duration: float, spacing: float,
    unit: float, tolerance: Tolerance, rates: FloatArray, covariances: FloatArray, events: Events,
    evaluations: IntArray,
) -> None:  # fmt: skip
    """Fill rates (n_member, n_sample, P), covariances (n_member, n_sample, P, P) and events (n_member, rows, 4).

    Everything is kept alive by the caller, so references need no counting.
    """
    system, w, events = bare_system(system), bare_workspace(w), bare_events(events)
    knot_start, stop_start = bare_integers(members.knot_start), bare_integers(members.stop_start)
    time, rate, stops = bare_floats(members.time), bare_floats(members.rate), bare_floats(members.stops)
    rates, covariances = bare_floats(rates), bare_floats(covariances)
    P, n_input = w.G.size, w.rate.size - w.G.size
    for k in range(evaluations.size):
        course = Course(knot_start[k * n_input : (k + 1) * n_input + 1], time, rate,
                        stops[stop_start[k] : stop_start[k + 1]])  # fmt: skip
        cursor = course.start[:n_input].copy()
        set_drive(course, cursor, 0.0, P, w.rate)
        w.c[:] = 0.0
        if np.isnan(members.initial[k, 0]):
            find_start(system, starts, order, w.rate, w.c, w.now)
        else:
            w.rate[:P] = members.initial[k]
            if order == 2:
                rest_covariance(system, w.rate, w.c, w.now)
        here = Events(events.outside[k], events.above[k], events.below[k], events.variance[k], events.broken[k],
                      events.unsettled[k])  # fmt: skip
        some = covariances[k] if order == 2 else covariances[0]
        evaluations[k] = _march(system, course, cursor, w, order, duration, spacing, unit, tolerance, rates[k], some,
                                here)  # fmt: skip
