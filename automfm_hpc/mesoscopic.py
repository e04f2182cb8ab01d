"""Finite populations: the mean field with the chance in its spikes, realized again and again.

Order 2 expands the effect of fluctuations around a state. Where a network resonates its fluctuations are as large as
its rates (the Golgi cells of the cerebellum swing between silence and three times their mean), and an expansion fails.
Here the same equations are stepped with the fluctuations themselves: shared inputs are so many Poisson sources,
populations so many cells (`cell_response.fire`), and what they send passes delays, synapses and transfer functions.
Means and covariances are those of the realizations. Mesoscopic models of this kind: Schwalger, Deger & Gerstner 2017
(doi 10.1371/journal.pcbi.1005507); theirs follows ages of cells, this one the measured response of `CellResponse`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from automfm_hpc.cell_response import (
    OWN,
    CellResponse,
    Cells,
    at_rest,
    cells_of,
    fire,
    follow,
    forgotten,
)
from automfm_hpc.drive import Drive, beyond, tabulate
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.events import Events, empty_events, mark, watch_domain
from automfm_hpc.filters import Filters, Memory, advance, bare_filters, bare_memory, filters_of, memory_of, read
from automfm_hpc.initial import starting_rates
from automfm_hpc.provenance import seed_for
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
from automfm_hpc.spread import heard_at_rest, spread_factors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray

    from automfm_hpc.mean_field import MeanField

STEP = 0.1  # ms of `driven`
DT = 0.2  # ms of realizations: as 0.05 ms within 0.2 % of every rate of the cerebellum
SETTLE = 300.0  # ms at the first drive before the clock starts
TRIALS = 20
MEMORY = 100.0  # ms of the means that are held against the transfer functions' domain
FASTEST = 1000.0  # Hz: no population fires faster; 1/T of the master equation is no limit of cells that answer faster


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
    # What arrives at a step's start moves the rate at its end: one step late, unless it arrives one step early.
    filters, P = filters_of(dynamics, system, h, early=h), start.size
    n_bin, settle = (len(drive) - 1) // bin_steps, round(SETTLE / h) if noise else 0
    table = np.concatenate([np.repeat(drive[:1], settle, axis=0), drive])
    limit, events = np.full(P, FASTEST), empty_events(system)
    activity, rate = np.zeros((len(seeds), n_bin, P)), np.zeros((n_bin, P))
    first = np.concatenate([start, drive[0]])
    for trial, seed in enumerate(seeds):
        _march(system, filters, memory_of(filters, system, first), cells_of(cells), empty_response(system), events,
               table, first, limit, h, settle, bin_steps, seed, noise, heard_at_rest(first[system.axes]),
               activity[trial], rate)
    return Realizations(activity, rate / len(seeds), events)


def driven(model: MeanField, activity: Mapping[str, FloatArray], bin_ms: float) -> FloatArray:
    """Rates (Hz) of every population whose sources are as active as given, (n_bin, n_population): no loop is closed.

    Parameters
    ----------
    model : MeanField
        With dynamics.
    activity : Mapping
        Hz in bins, (n_bin,), of every population and input.
    bin_ms : float
        ms, a multiple of STEP.

    Raises
    ------
    MeanFieldError
        If the model has no dynamics, or a transfer function is not finite there.
    """
    cells, dynamics = _parts(model)
    held = round(bin_ms / STEP)
    sent = np.column_stack([np.asarray(activity[name], float) for name in (*model.populations, *model.inputs)])
    mean, P = sent.mean(axis=0), len(model.populations)
    filters, rate = filters_of(dynamics, model.system, bin_ms / held), np.zeros((len(sent), P))
    bad = _follow_all(model.system, filters, memory_of(filters, model.system, mean), cells_of(cells),
                      empty_response(model.system), sent, mean[:P].copy(), np.full(P, FASTEST), bin_ms / held, held,
                      heard_at_rest(mean[model.system.axes]), rate)
    if bad >= 0:
        raise MeanFieldError("its transfer function is not finite at these activities", where=model.populations[bad],
                             remedy="Fit it over a domain that holds them.")
    return rate


@compiled
def _follow_all(
    system: System, filters: Filters, memory: Memory, cells: Cells, work: Response, sent: FloatArray, nu: FloatArray,
    limit: FloatArray, h: float, held: int, heard: FloatArray, rate: FloatArray,
) -> int:  # fmt: skip
    inner, lasting, forget, factor = at_rest(nu), heard, forgotten(h), np.ones(nu.size)
    for k in range(sent.shape[0] * held):
        advance(filters, memory, sent[k // held], k)
        read(memory, work.nu)
        bad = respond_into(system, work)
        if bad >= 0:
            return bad
        spread_factors(system, cells, work.F, inner, lasting, work.nu, memory.saturations, forget, factor)
        for i in range(nu.size):
            follow(cells, i, work.F[i] * factor[i], limit[i], h, nu, inner, forget)
            rate[k // held, i] += nu[i] / held
    return -1


@compiled
def _march(
    system: System, filters: Filters, memory: Memory, cells: Cells, work: Response, events: Events, drive: FloatArray,
    first: FloatArray, limit: FloatArray, h: float, settle: int, bin_steps: int, seed: int, noise: bool,
    heard: FloatArray, activity: FloatArray, rate: FloatArray,
) -> None:  # fmt: skip
    np.random.seed(seed)
    system, filters, memory, work = bare_system(system), bare_filters(filters), bare_memory(memory), bare_response(work)
    P, M = limit.size, system.T.size
    nu, sent, chance, mean = first.copy(), first.copy(), np.zeros((2, P)), first.copy()
    inner, lasting, forget, factor = at_rest(first[:P]), heard, forgotten(h), np.ones(P)
    n_bin = activity.shape[0]
    for k in range(settle + n_bin * bin_steps):
        for m in range(M - P):
            nu[P + m] = drive[k, m]
            sent[P + m] = _sources(drive[k, m], system.N[P + m], h) if noise else drive[k, m]
        for i in range(P):
            sent[i] = fire(cells, i, system.N[i], h, nu, inner[OWN, i], chance) if noise else nu[i]
        advance(filters, memory, sent, k)
        read(memory, work.nu)
        bad = respond_into(system, work)
        if bad >= 0:
            mark(events.broken, bad, k - settle, nu[bad], 1)
            return
        spread_factors(system, cells, work.F, inner, lasting, work.nu, memory.saturations, forget, factor)
        for i in range(P):
            aim = follow(cells, i, work.F[i] * factor[i], limit[i], h, nu, inner, forget)
            if aim > limit[i]:
                mark(events.above, i, k - settle, aim, 1)
        row = (k - settle) // bin_steps
        if k >= settle:
            for i in range(P):
                activity[row, i] += sent[i] / bin_steps
                rate[row, i] += nu[i] / bin_steps
        # The domain is a matter of rates, not of the swings around them: means over some 100 ms are watched.
        for s in range(M):
            mean[s] += h / MEMORY * (nu[s] - mean[s])
        if k >= settle and (k - settle) % bin_steps == 0:
            gather(system, mean, work)
            watch_domain(system, work.nu, k - settle, events.outside)


@compiled
def _sources(rate: float, N: float, h: float) -> float:
    """Mean rate (Hz) of N independent Poisson sources in a step h (ms)."""
    if not np.isfinite(N):
        return rate
    return np.random.poisson(rate * N * h / 1000.0) / (N * h / 1000.0)


# --- as labelled data -----------------------------------------------------------------------------


def realizations(
    model: MeanField, drive: Drive, duration: float = 1.0, trials: int = TRIALS, seed: int = 1, dt: float = DT,
    bin_ms: float = 1.0, noise: bool = True,
) -> xarray.Dataset:  # fmt: skip
    """The model's finite populations, realized several times; see `MeanField.realizations`."""
    from automfm_hpc import solution

    cells, dynamics = _parts(model)
    bin_steps, n_step = round(bin_ms / dt), round(1000.0 * duration / dt)
    if trials < 1 or bin_steps < 1 or n_step < bin_steps or abs(bin_steps * dt - bin_ms) > 1e-9:
        raise MeanFieldError(f"{trials} trials of {duration:g} s in bins of {bin_ms:g} ms and steps of {dt:g} ms",
                             where="realizations", remedy="Bins are whole steps; there is at least one of each.")
    table = tabulate(drive, model.inputs, np.arange(n_step + 1, dtype=float) * (dt / 1000.0))
    start = starting_rates(model.system, model.populations, table[0], None)
    seeds = [seed_for(seed, "realization", k) for k in range(trials)]
    found = realize(model.system, dynamics, cells, table, start, dt, bin_steps, seeds, noise)
    described = {name: solution.describe_drive(value) for name, value in drive.items()}
    untrusted = beyond(model.metadata.get("validity"), model.inputs, table)
    return _dataset(model, found, described, dt, bin_ms, untrusted)


def _parts(model: MeanField) -> tuple[CellResponse, Dynamics]:
    if model.dynamics is None:
        raise MeanFieldError("the model has no dynamics: delays, synapses and the cells' own response",
                             where="realizations", remedy="Measure them: automfm dynamics RUN.")
    return model.dynamics.cell or CellResponse.immediate(len(model.populations)), model.dynamics


def _dataset(model: MeanField, found: Realizations, drive: dict[str, Any], dt: float, bin_ms: float,
             untrusted: tuple[str, ...]) -> xarray.Dataset:
    import xarray

    from automfm_hpc import solution

    happened = solution.events_of(model, found.events, dt)
    n_trial, n_bin, _ = found.activity.shape
    return xarray.Dataset(
        {"activity": (("trial", "time", "population"), found.activity, {"units": "Hz"}),
         "rate": (("time", "population"), found.rate, {"units": "Hz"})},
        {"population": list(model.populations), "trial": range(n_trial),
         "time": ("time", (np.arange(n_bin) + 0.5) * bin_ms / 1000.0, {"units": "s"})},
        {"status": solution.status_of(happened), "warnings": [e["message"] for e in happened] + list(untrusted),
         "events": happened, "dt_ms": dt, "bin_ms": bin_ms, "drive": drive},
    )  # fmt: skip


def answer(model: MeanField, drive: Drive, duration: float, order: int, dt: float | None = None,
           every: int | None = None, trials: int = TRIALS) -> dict[str, Any]:
    """Status, drive, mean rates and standard deviations (Hz) at a drive, as `solution.summary` gives them.

    `dt` (ms) is by default what `MeanField.solve` or `realizations` take.
    Order 2 of a model whose cells' response is known: over realizations of its finite populations. The standard
    deviation is that of activities filtered with exp(-t/T)/T, which is what c of the master equation stands for.
    """
    from automfm_hpc.mean_field import DT as SOLVE_DT
    from automfm_hpc.solution import summary
    from automfm_hpc.validate import filtered_variance

    if order == 1 or not model.has_cell_response:
        return summary(model.solve(drive=drive, duration=duration, order=order, dt=dt or SOLVE_DT, every=every))
    found = realizations(model, drive, duration, trials, dt=dt or DT)
    activity = found["activity"].transpose("population", "trial", "time").values
    bin_ms = found.attrs["bin_ms"]
    spread = {name: float(np.sqrt(filtered_variance(a, float(T), bin_ms)))
              for name, a, T in zip(model.populations, activity, model.system.T, strict=False)}
    return {"status": found.attrs["status"], "order": 2, "drive": found.attrs["drive"],
            "rates": dict(zip(model.populations, activity.mean(axis=(1, 2)).tolist(), strict=True)), "sd": spread,
            "warnings": found.attrs["warnings"]}
