"""What can go wrong on the way, counted in compiled code: tables with one row per axis or population."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from automfm_hpc.response import FloatArray, Response, System, bare_floats, compiled

COUNT, FIRST, LAST, EXTREME = range(4)  # columns of an event table


class Events(NamedTuple):
    """What happened on the way; columns COUNT, FIRST (step), LAST (step), EXTREME (Hz or Hz^2)."""

    outside: FloatArray  # (n_axes, 4) a source's rate outside the domain of a transfer function
    above: FloatArray  # (P, 4) driven rate of 1/T or more
    below: FloatArray  # (P, 4) driven rate below 0
    variance: FloatArray  # (M, 4) variance above its bound
    broken: FloatArray  # (P, 4) transfer function not finite: stepping stopped
    unsettled: FloatArray  # (1, 4) no stationary covariance at the present rates: a mode grows


@compiled
def bare_events(e: Events) -> Events:
    return Events(bare_floats(e.outside), bare_floats(e.above), bare_floats(e.below), bare_floats(e.variance),
                  bare_floats(e.broken), bare_floats(e.unsettled))  # fmt: skip


def empty_events(system: System) -> Events:
    P, M, X = system.axis_start.size - 1, system.T.size, system.axes.size
    return Events(*(np.zeros((rows, 4)) for rows in (X, P, P, M, P, 1)))


@compiled
def mark(table: FloatArray, row: int, step: float, value: float, sign: int) -> None:
    """Count an event; keep the largest (sign 1) or smallest (sign -1) value."""
    if table[row, COUNT] == 0:
        table[row, FIRST] = step
        table[row, EXTREME] = value
    elif sign * value > sign * table[row, EXTREME]:
        table[row, EXTREME] = value
    table[row, COUNT] += 1
    table[row, LAST] = step


@compiled
def watch_domain(system: System, nu: FloatArray, step: float, outside: FloatArray) -> None:
    """Arguments nu (n_axes,) of the transfer functions against their domains."""
    domain = system.domain
    for k in range(nu.size):
        value, low, high = nu[k], domain[k, 0], domain[k, 1]
        slack = 1e-6 * (high - low)
        if value > high + slack:
            mark(outside, k, step, value, 1)
        elif value < low - slack:
            mark(outside, k, step, value, -1)


@compiled
def driven_rates(work: Response, limit: FloatArray, step: float, events: Events, out: FloatArray) -> None:
    """out <- F + 1/2 sum c d2F clipped to [0, limit]."""
    F, half = work.F, work.half
    for i in range(out.size):
        value = F[i] + half[i]
        if value > limit[i]:
            mark(events.above, i, step, value, 1)
            value = limit[i]
        elif value < 0.0:
            mark(events.below, i, step, value, -1)
            value = 0.0
        out[i] = value


@compiled
def bound(system: System, c: FloatArray, step: float, table: FloatArray) -> None:
    """Scale c by a diagonal congruence where a variance exceeds 1/(4 T^2)."""
    T = system.T
    for i in range(c.shape[0]):
        most = 250000.0 / T[i] ** 2
        if c[i, i] > most:
            mark(table, i, step, c[i, i], 1)
            scale = np.sqrt(most / c[i, i])
            for j in range(c.shape[0]):
                c[i, j] *= scale
                c[j, i] *= scale


@compiled
def bound_together(system: System, c: FloatArray, spread: FloatArray, step: float, table: FloatArray) -> None:
    """As `bound`, with one factor for all covariances, those of the filtered rates among them."""
    T, scale = system.T, 1.0
    for i in range(c.shape[0]):
        most = 250000.0 / T[i] ** 2
        if c[i, i] > most:
            mark(table, i, step, c[i, i], 1)
            scale = min(scale, most / c[i, i])
    if scale < 1.0:
        c *= scale
        spread *= scale
