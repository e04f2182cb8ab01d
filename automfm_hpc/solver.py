"""Stepping of the master equation: rates (order 1), rates and covariances (order 2), in compiled code.

Rows of the state are the populations, then the external inputs; both are 'sources' of the transfer
functions. `integrate` steps the bare master equation, `integrate_filtered` the one whose transfer
functions see rates through delays, synapses and the cell's response (see `dynamics`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from automfm_hpc.cell_response import CellResponse, Cells, at_rest, cells_of, forgotten
from automfm_hpc.cell_response import follow as follow_cells
from automfm_hpc.events import (
    Events,
    bare_events,
    bound,
    bound_together,
    driven_rates,
    empty_events,
    mark,
    watch_domain,
)
from automfm_hpc.filters import Filters, Memory, advance, bare_filters, bare_memory, memory_of, read
from automfm_hpc.response import (
    FloatArray,
    Response,
    System,
    bare_floats,
    bare_response,
    bare_system,
    compiled,
    correct,
    correct_filtered,
    empty_response,
    gather,
    respond_into,
)
from automfm_hpc.schemes import (
    ADAMS,
    EULER,
    HEUN,
    Scheme,
    State,
    adams,
    add_source,
    bare_scheme,
    bare_state,
    euler,
    heun,
    scheme_of,
    set_inputs,
    state_of,
)
from automfm_hpc.spread import heard_at_rest, spread_factors


class Trace(NamedTuple):
    """Samples at every `every`-th step, the final state, and the events."""

    rate: FloatArray  # (n_sample, P) Hz
    covariance: FloatArray  # (n_sample, P, P) Hz^2; (0, P, P) at order 1
    final_rate: FloatArray  # (M,) Hz
    final_covariance: FloatArray  # (M, M) Hz^2
    events: Events


@compiled
def save(
    k: int, every: int, rate: FloatArray, c: FloatArray, order: int, rates: FloatArray, covariances: FloatArray,
) -> None:  # fmt: skip
    P = rates.shape[1]
    row = k // every
    for i in range(P):
        rates[row, i] = rate[i]
        if order == 2:
            for j in range(P):
                covariances[row, i, j] = c[i, j]


def integrate(
    system: System, drive: FloatArray, start: FloatArray, start_c: FloatArray, h: float, order: int, method: int,
    every: int,
) -> Trace:  # fmt: skip
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
    state, events = state_of(system, start, start_c), empty_events(system)
    now, other, table = empty_response(system), empty_response(system), np.ascontiguousarray(drive)
    _march(system, scheme_of(system, h, method), state, now, other, events, table, rates, covariances,
           order, method, every)  # fmt: skip
    return Trace(rates, covariances, state.rate, state.c, events)


@compiled
def _march(
    system: System, scheme: Scheme, state: State, now: Response, other: Response, events: Events, drive: FloatArray,
    rates: FloatArray, covariances: FloatArray, order: int, method: int, every: int,
) -> None:  # fmt: skip
    """All steps; everything is kept alive by the caller, so references need no counting."""
    system, scheme, state = bare_system(system), bare_scheme(scheme), bare_state(state)
    now, other, events = bare_response(now), bare_response(other), bare_events(events)
    drive, rates, covariances = bare_floats(drive), bare_floats(rates), bare_floats(covariances)
    rate, c, P, n_step = state.rate, state.c, now.F.size, drive.shape[0] - 1
    for k in range(n_step + 1):
        set_inputs(rate, P, drive[k])
        gather(system, rate, now)
        watch_domain(system, now.nu, k, events.outside)
        bad = respond_into(system, now)
        if bad < 0 and order == 2:
            if method == ADAMS and k > 0:
                add_source(system, now, rate, scheme.weight, c)
            bound(system, c, k, events.variance)
            correct(system, c, now)
        if k % every == 0:
            save(k, every, rate, c, order, rates, covariances)
        if bad < 0 and k < n_step:
            driven_rates(now, scheme.limit, k, events, state.G)
            if method == HEUN:
                bad = heun(system, scheme, state, now, other, drive[k + 1], k, order, events)
            elif method == ADAMS:
                adams(system, scheme, state, now, other, k == 0, order)
            else:
                euler(system, scheme, state, now, order)
        if bad >= 0:
            mark(events.broken, bad, k, rate[bad], 1)
            for row in range(k // every + 1, rates.shape[0]):
                save(row * every, every, rate, c, order, rates, covariances)
            break


class Fluctuations(NamedTuple):
    """What order 2 relaxes to, of a system with filters: stationary values at rates `at`, (M,) Hz.

    c : (M, M) covariance of the exponentially filtered activities; spread : covariances of the arguments of each
    transfer function, in the layout of `Response.hessian`. Both Hz^2. tau : ms in which they are approached.
    """

    at: FloatArray
    c: FloatArray
    spread: FloatArray
    tau: float = np.inf


def integrate_filtered(
    system: System, filters: Filters, cells: Cells | None, drive: FloatArray, start: FloatArray, h: float, method: int,
    every: int, stationary: Callable[[FloatArray], Fluctuations | None] | None = None, moved: float = 0.0,
    pause: float = 0.0,
) -> Trace:  # fmt: skip
    """As `integrate`, with filtered rates as arguments of the transfer functions; ADAMS or EULER.

    Filters start in their stationary state for `start` and the drive's first value.

    Parameters
    ----------
    filters : Filters
        For steps of h.
    cells : Cells, optional
        How rates follow the transfer functions; stepped to first order in h. None: with T of the master equation.
    stationary : function of rates (M,), optional
        For order 2: c and the covariances of the filtered rates follow what it returns, with the time constant that
        it returns; it is asked again whenever a rate has moved by `moved` times (1 Hz + its value), after `pause` (ms)
        at the earliest. Where it returns None, because there is no stationary value, they stay as they are, which is
        counted as an event.
    """
    M, order, n_spread = system.T.size, 1 if stationary is None else 2, int((np.diff(system.axis_start) ** 2).sum())
    rates, events = np.concatenate([start, drive[0]]), empty_events(system)
    rest = Fluctuations(rates, np.zeros((M, M)), np.zeros(n_spread))
    goal = rest if stationary is None else stationary(rates) or rest
    P, n_sample = start.size, (drive.shape[0] - 1) // every + 1
    samples, covariances = np.zeros((n_sample, P)), np.zeros((n_sample if order == 2 else 0, P, P))
    state, memory = state_of(system, start, goal.c), memory_of(filters, system, rates)
    scheme, table, spread = scheme_of(system, h, method), np.ascontiguousarray(drive), goal.spread.copy()
    now, other, k = empty_response(system), empty_response(system), 0
    immediate, inner, lasting = CellResponse.immediate(P), at_rest(start), heard_at_rest(memory.synaptic)
    while True:
        follow = 1.0 - float(np.exp(-h / goal.tau))
        k = _march_filtered(system, scheme, filters, memory, cells is not None, cells or cells_of(immediate), inner,
                            lasting, state, now, other, events, table, samples, covariances, order, method, every, k, h,
                            goal, spread, moved, round(pause / h), follow)  # fmt: skip
        if k < 0 or stationary is None:
            return Trace(samples, covariances, state.rate, state.c, events)
        rates = state.rate.copy()
        goal = stationary(rates) or Fluctuations(rates, state.c.copy(), spread.copy())


@compiled
def _move(
    scheme: Scheme, own: bool, cells: Cells, inner: FloatArray, system: System, state: State, now: Response,
    other: Response, method: int, first: bool, h: float, forget: float,
) -> None:  # fmt: skip
    """Rates one step on, by the cells' own response or by T."""
    if own:
        for i in range(state.G.size):
            follow_cells(cells, i, state.G[i], scheme.limit[i], h, state.rate, inner, forget)
    elif method == EULER:
        euler(system, scheme, state, now, 1)
    else:
        adams(system, scheme, state, now, other, first, 1)


@compiled
def _march_filtered(
    system: System, scheme: Scheme, filters: Filters, memory: Memory, own: bool, cells: Cells, inner: FloatArray,
    lasting: FloatArray, state: State, now: Response, other: Response, events: Events, drive: FloatArray,
    rates: FloatArray, covariances: FloatArray, order: int, method: int, every: int, begin: int, h: float,
    goal: Fluctuations, spread: FloatArray, moved: float, pause: int, follow: float,
) -> int:  # fmt: skip
    """Steps from `begin` on; return the step at which rates had moved away from the goal's, or -1 at the end."""
    system, scheme, state = bare_system(system), bare_scheme(scheme), bare_state(state)
    filters, memory = bare_filters(filters), bare_memory(memory)
    now, other, events = bare_response(now), bare_response(other), bare_events(events)
    drive, rates, covariances = bare_floats(drive), bare_floats(rates), bare_floats(covariances)
    at, c_goal, spread_goal = bare_floats(goal.at), bare_floats(goal.c), bare_floats(goal.spread)
    spread, rate, c, P, n_step = bare_floats(spread), state.rate, state.c, now.F.size, drive.shape[0] - 1
    set_inputs(rate, P, drive[begin])
    forget, factor = forgotten(h), np.ones(P)
    for k in range(begin, n_step + 1):
        read(memory, now.nu)
        watch_domain(system, now.nu, k, events.outside)
        bad = respond_into(system, now)
        if own:
            spread_factors(system, cells, now.F, inner, lasting, now.nu, memory.saturations, forget, factor)
            for i in range(P):
                now.F[i] *= factor[i]
        if order == 2:
            correct_filtered(system, spread, now)
        if k % every == 0:
            save(k, every, rate, c, order, rates, covariances)
        if bad >= 0:
            mark(events.broken, bad, k, rate[bad], 1)
            for row in range(k // every + 1, rates.shape[0]):
                save(row * every, every, rate, c, order, rates, covariances)
            return -1
        if k == n_step:
            return -1
        driven_rates(now, scheme.limit, k, events, state.G)
        _move(scheme, own, cells, inner, system, state, now, other, method, k == 0, h, forget)
        set_inputs(rate, P, drive[k + 1])
        advance(filters, memory, rate, k + 1)
        if order == 2:
            _relax(c, c_goal, follow)
            spread += follow * (spread_goal - spread)
            if follow == 0.0:
                mark(events.unsettled, 0, k, rate.max(), 1)
            bound_together(system, c, spread, k + 1, events.variance)
            if k + 1 >= begin + pause and _has_moved(rate, at, moved):
                return k + 1
    return -1


@compiled
def _relax(c: FloatArray, goal: FloatArray, follow: float) -> None:
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            c[i, j] += follow * (goal[i, j] - c[i, j])


@compiled
def _has_moved(rate: FloatArray, at: FloatArray, moved: float) -> bool:
    most = 0.0
    for i in range(rate.size):
        most = max(most, abs(rate[i] - at[i]) / (1.0 + at[i]))
    return most > moved
