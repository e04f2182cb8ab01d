"""Stepping of the master equation: rates (order 1), rates and covariances (order 2), in compiled code.

Rows of the state are the populations, then the external inputs; both are 'sources' of the transfer
functions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from automfm_hpc.events import Events, bare_events, bound, driven_rates, empty_events, mark, watch_domain
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
    respond_into,
)
from automfm_hpc.schemes import (
    ADAMS,
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
        watch_domain(system, rate, k, events.outside)
        bad = respond_into(system, rate, now)
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
