"""Finite populations: the mean field with the chance in its spikes, realized again and again.

Order 2 expands the effect of fluctuations around a state. Where a network resonates its fluctuations are as large as
its rates (the Golgi cells of the cerebellum swing between silence and three times their mean), and an expansion fails.
Here the same equations are stepped with the fluctuations themselves: shared inputs are so many Poisson sources,
populations so many cells (`cell_response.fire`), and what they send passes delays, synapses and transfer functions.
Means and covariances are those of the realizations. Mesoscopic models of this kind: Schwalger, Deger & Gerstner 2017
(doi 10.1371/journal.pcbi.1005507); theirs follows ages of cells, this one the measured response of `CellResponse`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from automfm_hpc.cell_response import CellResponse, Cells, cells_of, fire, follow
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.events import Events, empty_events, mark, watch_domain
from automfm_hpc.filters import Filters, Memory, advance, bare_filters, bare_memory, filters_of, memory_of, read
from automfm_hpc.response import (
    FloatArray,
    Response,
    System,
    bare_response,
    bare_system,
    compiled,
    empty_response,
    gather,
    respond_into,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLE = 300.0  # ms at the first drive before the clock starts


class Realizations(NamedTuple):
    """Activities (n_trial, n_bin, n_population) in Hz, rates averaged over trials (n_bin, n_population), events."""

    activity: FloatArray
    rate: FloatArray
    events: Events


def realize(
    system: System, dynamics: Dynamics, cells: CellResponse, drive: FloatArray, start: FloatArray, h: float,
    bin_steps: int, seeds: Sequence[int], noise: bool = True,
) -> Realizations:  # fmt: skip
    """Step finite populations from their stationary state, once per seed.

    Parameters
    ----------
    system : System
    dynamics : Dynamics
        Its pathways; the cells' own answer is in `cells`.
    cells : CellResponse
    drive : (n_step + 1, n_input) array
        Hz, from time 0 on; SETTLE ms at its first value come before.
    start : (n_population,) array
        Hz.
    h : float
        Step (ms).
    bin_steps : int
        Steps per bin of the output.
    seeds : sequence of int
    noise : bool
        False: infinite populations, the deterministic mean field of first order.
    """
    filters, P = filters_of(dynamics, system, h), start.size
    n_bin, settle = (len(drive) - 1) // bin_steps, round(SETTLE / h) if noise else 0
    table = np.concatenate([np.repeat(drive[:1], settle, axis=0), drive])
    limit, events = 1000.0 / system.T[:P], empty_events(system)
    activity, rate = np.zeros((len(seeds), n_bin, P)), np.zeros((n_bin, P))
    first = np.concatenate([start, drive[0]])
    for trial, seed in enumerate(seeds):
        _march(system, filters, memory_of(filters, system, first), cells_of(cells), empty_response(system), events,
               table, first, limit, h, settle, bin_steps, seed, noise, activity[trial], rate)
    return Realizations(activity, rate / len(seeds), events)


@compiled
def _march(
    system: System, filters: Filters, memory: Memory, cells: Cells, work: Response, events: Events, drive: FloatArray,
    first: FloatArray, limit: FloatArray, h: float, settle: int, bin_steps: int, seed: int, noise: bool,
    activity: FloatArray, rate: FloatArray,
) -> None:  # fmt: skip
    np.random.seed(seed)
    system, filters, memory, work = bare_system(system), bare_filters(filters), bare_memory(memory), bare_response(work)
    P, M = limit.size, system.T.size
    nu, sent, slow_noise, mean = first.copy(), first.copy(), np.zeros(P), first.copy()
    recent = first[:P].copy()
    n_bin = activity.shape[0]
    for k in range(settle + n_bin * bin_steps):
        for m in range(M - P):
            nu[P + m] = drive[k, m]
            sent[P + m] = _sources(drive[k, m], system.N[P + m], h) if noise else drive[k, m]
        for i in range(P):
            sent[i] = fire(cells, i, system.N[i], h, nu, slow_noise) if noise else nu[i]
        advance(filters, memory, sent, k)
        read(system, filters, memory, nu, work.nu)
        bad = respond_into(system, work)
        if bad >= 0:
            mark(events.broken, bad, k - settle, nu[bad], 1)
            return
        for i in range(P):
            aim = follow(cells, i, work.F[i], limit[i], h, nu, recent)
            if aim > limit[i]:
                mark(events.above, i, k - settle, aim, 1)
        row = (k - settle) // bin_steps
        if k >= settle:
            for i in range(P):
                activity[row, i] += sent[i] / bin_steps
                rate[row, i] += nu[i] / bin_steps
        # The domain is a matter of rates, not of the noise on them: their recent means are watched.
        for s in range(M):
            mean[s] += 0.005 * (nu[s] - mean[s])
        if k >= settle and (k - settle) % bin_steps == 0:
            gather(system, mean, work)
            watch_domain(system, work.nu, k - settle, events.outside)


@compiled
def _sources(rate: float, N: float, h: float) -> float:
    """Mean rate (Hz) of N independent Poisson sources in a step h (ms)."""
    if not np.isfinite(N):
        return rate
    return np.random.poisson(rate * N * h / 1000.0) / (N * h / 1000.0)
