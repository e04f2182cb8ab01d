"""The ladder from the spiking network down to isolated cells with mean inputs: one approximation per rung, in NEST.

What the rungs mean, and what the differences teach: docs/explain.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import replay, spikes
from automfm_hpc.connections import Connections
from automfm_hpc.experiment import Experiment, Trial
from automfm_hpc.network import Projection
from automfm_hpc.neurons import CONDUCTANCE
from automfm_hpc.provenance import seed_for
from automfm_hpc.remap import Cell, remap
from automfm_hpc.spikes import Spikes
from automfm_hpc.trains import Arrivals, Clock, Trains, clock_of, handed_on, renewal, rotated, summed
from automfm_hpc.wiring import Wiring, draw_wiring, true_wiring

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BLOCK = 10_000_000  # cells x steps whose arrivals are held at once
RECORDED, TOGETHER, TURNED = "recorded", "turned together", "turned one by one"
REGULAR, POISSON, MEAN, EQUAL = "regular", "Poisson", "mean rates", "mean in-degree"
ACTIVITY_BIN = 1.0  # ms
COMMON = "on the population's clock"


@dataclass(frozen=True)
class Rung:
    """One rung.

    Parameters
    ----------
    name : str
    base : str
        The rung it is compared with: from there to here one approximation is made.
    cost : str
        What that approximation leaves out.
    excitatory, inhibitory : str
        How the trains of such projections are made; empty for the network and for the mean field.
    """

    name: str
    base: str = ""
    cost: str = ""
    excitatory: str = ""
    inhibitory: str = ""


NETWORK = Rung("network")
RUNGS = (
    NETWORK,
    Rung("replay", "network", "nothing: the check of the method", RECORDED, RECORDED),
    Rung("excitation apart", "replay", "correlations of excitation with inhibition", TOGETHER, RECORDED),
    Rung("excitation shifted", "replay", "correlations of the excitatory inputs", TURNED, RECORDED),
    Rung("inhibition shifted", "replay", "correlations of the inhibitory inputs", RECORDED, TURNED),
    Rung("population activity", "replay", "all but when populations as a whole are active", COMMON, COMMON),
    Rung("all shifted", "replay", "all correlations between inputs", TURNED, TURNED),
    Rung("independent regular", "all shifted", "the order of the intervals, sources met twice", REGULAR, REGULAR),
    Rung("independent Poisson", "independent regular", "the regularity of the trains", POISSON, POISSON),
    Rung("mean rates", "independent Poisson", "the spread of the presynaptic rates", MEAN, MEAN),
    Rung("mean in-degree", "mean rates", "the spread of in-degrees and synapses per pair", EQUAL, EQUAL),
)
ISOLATED = RUNGS[1:]


@dataclass(frozen=True)
class Sampling:
    """How many cells of a population are isolated.

    Parameters
    ----------
    cells : int
        At most.
    solved : int
        At most, where NEST integrates the cell with an adaptive solver, which takes ten times as long.
    events : int
        Fewer cells if together they would receive more spikes, but not fewer than `least`.
    """

    cells: int = 1500
    solved: int = 400
    events: int = 15_000_000
    least: int = 100


@dataclass(frozen=True, eq=False)
class Sources:
    """The recorded network as a source of trains, by population or shared input.

    Parameters
    ----------
    trains : Mapping
        By way: as recorded, all turned by the same offset, each turned by its own.
    rates : Mapping
        (n_cell,) rates (Hz) in the window; for an input everywhere the mean, because its sources differ by chance.
    cv : Mapping
        Coefficient of variation of the interspike intervals; 1 for inputs.
    clocks : Mapping
        `Clock` of each source: how its activity runs, and how regular its cells are beside that.
    pace : Mapping
        How fast each clock runs in the window, over its mean.
    n_step : int
        Steps of the whole recording.
    dt : float
        ms.
    """

    trains: Mapping[str, Mapping[str, Trains]]
    rates: Mapping[str, FloatArray]
    cv: Mapping[str, float]
    clocks: Mapping[str, Clock]
    pace: Mapping[str, float]
    n_step: int
    dt: float


def climb(experiment: Experiment, sampling: Sampling, communicator: int | None = None) -> dict[str, Any]:
    """All rungs of NEST at the experiment's one constant drive.

    Returns
    -------
    dict
        inputs: mean recorded rate (Hz) of each input. cv: that of each source's trains on the regular rung.
        start: where the window begins (ms). activity: of each source in bins of ACTIVITY_BIN from time 0 on (Hz).
        populations: name -> size, cells (those isolated), rungs: name -> `describe`.
    """
    network, protocol, seed = experiment.network, experiment.protocols[0], experiment.seed_of(Trial(0, 0))
    wiring = draw_wiring(network, experiment.scale, seed) if network.connections is None else true_wiring(network)
    record = replay.record_network(network, wiring, protocol, seed_for(seed, "nest"), experiment.dt, communicator)
    start, stop = protocol.presimulation, protocol.presimulation + protocol.whole
    windows = {name: s.between(start, stop) for name, s in record.spikes.items()}
    sources = make_sources(record, windows, network.input_names, start, stop, experiment.dt, seed)
    found: dict[str, Any] = {}
    for cell in remap(network).cells:
        name = cell.population
        chosen = choose(cell, wiring, sources, sampling, seed)
        alone = _Isolated(experiment, cell, wiring, sources, chosen, record.potentials[name][chosen], communicator)
        measured = {NETWORK.name: among(windows[name], chosen)}
        measured |= {rung.name: alone.run(rung).between(start, stop) for rung in ISOLATED}
        found[name] = {"size": wiring.sizes[name], "cells": int(chosen.size),
                       "rungs": describe(measured, windows[name])}
    means = {i.name: float(sources.rates[i.name].mean()) if i.sources is not None else protocol.background[i.name]
             for i in network.inputs}
    activity = {name: np.round(spikes.activity(s, ACTIVITY_BIN), 3).tolist() for name, s in record.spikes.items()}
    return {"inputs": means, "cv": dict(sources.cv), "notes": list(wiring.notes), "start": start, "activity": activity,
            "populations": found}


# --- what the recording says ------------------------------------------------------------------------


def make_sources(record: replay.Record, windows: Mapping[str, Spikes], inputs: tuple[str, ...], start: float,
                 stop: float, dt: float, seed: int) -> Sources:
    """Trains, rates and regularity of everything recorded; `start` and `stop` of the window in ms."""
    a, b = round(start / dt), round(stop / dt)
    recorded = {name: Trains.recorded(s, dt) for name, s in record.spikes.items()}
    half = {name: np.full(t.counts.size, (b - a) // 2) for name, t in recorded.items()}
    own = {name: np.random.default_rng(seed_for(seed, "turned", name)).integers(0, b - a, t.counts.size)
           for name, t in recorded.items()}
    trains = {RECORDED: recorded} | {way: {name: rotated(t, a, b, offsets[name]) for name, t in recorded.items()}
                                     for way, offsets in ((TOGETHER, half), (TURNED, own))}
    rates = {name: spikes.cell_rates(s) for name, s in windows.items()}
    rates |= {name: np.full(rates[name].size, rates[name].mean()) for name in inputs if name in rates}
    cv = {name: 1.0 if name in inputs else regularity(s) for name, s in windows.items()}
    clocks = {name: clock_of(t, b, dt) for name, t in recorded.items()}
    # Sources of inputs are Poisson trains: their CV, known from few intervals each, is not measured but 1.
    clocks |= {name: replace(clocks[name], cv=1.0) for name in inputs if name in clocks}
    pace = {name: clock.pace(a, b) for name, clock in clocks.items()}
    return Sources(trains, rates, cv, clocks, pace, b, dt)


def regularity(window: Spikes) -> float:
    """CV of the interspike intervals, cells weighted with their spikes; 1 where no cell has enough of them."""
    cv = spikes.isi_cv(window.cells, window.times, window.size)
    known = np.isfinite(cv)
    weights = np.bincount(window.cells, minlength=window.size)[known]
    return float(np.average(cv[known], weights=weights)) if known.any() else 1.0


def choose(cell: Cell, wiring: Wiring, sources: Sources, sampling: Sampling, seed: int) -> IntArray:
    """The cells that are isolated, in order."""
    n = wiring.sizes[cell.population]
    received = sum(wiring.pairs[p].pre.size / n * sources.rates[c.source].mean()
                   for c in cell.channels for p in c.projections if p in wiring.pairs)
    each = received * sources.n_step * sources.dt / 1000.0
    solved = not cell.neuron.multireceptor and cell.neuron.weight_unit == CONDUCTANCE
    cells = sampling.solved if solved else sampling.cells
    most = min(n, cells, max(sampling.least, int(sampling.events / max(each, 1.0))))
    rng = np.random.default_rng(seed_for(seed, "chosen", cell.population))
    return np.sort(rng.choice(n, most, replace=False)).astype(np.int64)


def among(window: Spikes, chosen: IntArray) -> Spikes:
    """The spikes of some cells, numbered anew."""
    number = np.full(window.size, -1)
    number[chosen] = np.arange(chosen.size)
    mine = number[window.cells]
    return Spikes(mine[mine >= 0], window.times[mine >= 0], chosen.size, window.duration)


# --- isolated cells ---------------------------------------------------------------------------------


class _Isolated:
    """Some cells of one population, each rung's inputs given to them in turn."""

    def __init__(self, experiment: Experiment, cell: Cell, wiring: Wiring, sources: Sources, chosen: IntArray,
                 potentials: FloatArray, communicator: int | None) -> None:
        self._experiment, self._cell, self._sources = experiment, cell, sources
        self._potentials, self._communicator = potentials, communicator
        names = {name for channel in cell.channels for name in channel.projections} & set(wiring.pairs)
        self._projections = [p for p in experiment.network.onto(cell.population) if p.name in names]
        size = wiring.sizes[cell.population]
        self._own = {p.name: restricted(wiring.pairs[p.name], chosen, size) for p in self._projections}
        self._indegree = {p.name: wiring.pairs[p.name].pre.size / size for p in self._projections}
        self._synapses = {p.name: float(wiring.pairs[p.name].synapses.mean()) if wiring.pairs[p.name].pre.size else 1.0
                          for p in self._projections}
        self._seed = seed_for(experiment.seed_of(Trial(0, 0)), "isolated", cell.population)
        self._known: dict[tuple[str, ...], Spikes] = {}

    def run(self, rung: Rung) -> Spikes:
        """Spikes of the whole time; rungs that give these cells the same inputs share one run."""
        ways = tuple(rung.excitatory if p.excitatory else rung.inhibitory for p in self._projections)
        if ways not in self._known:
            e = self._experiment
            self._known[ways] = replay.run_isolated(
                e.network, self._cell, self._potentials, self._arrivals(ways), e.protocols[0].background,
                self._sources.n_step * e.dt, seed_for(self._seed, "nest"), e.dt, self._communicator)  # fmt: skip
        return self._known[ways]

    def _arrivals(self, ways: tuple[str, ...]) -> Iterator[replay.Block]:
        n, n_step = self._potentials.size, self._sources.n_step
        together = max(1, BLOCK // n_step)
        for p, way in zip(self._projections, ways, strict=True):
            pairs = self._equal(p) if way == EQUAL else self._own[p.name]
            for first in range(0, n, together):
                a, b = np.searchsorted(pairs.post, [first, min(first + together, n)])
                part = slice(int(a), int(b))
                rng = np.random.default_rng([seed_for(self._seed, p.name, way), first])
                came = self._trains(p, way, pairs.pre[part], rng)
                yield p.name, first, summed(came, pairs.post[part] - first, pairs.synapses[part],
                                            min(together, n - first), n_step)

    def _equal(self, p: Projection) -> Connections:
        """One pair per cell, which stands for a mean in-degree of pairs of mean synapses."""
        cells = np.arange(self._potentials.size)
        return Connections(np.zeros_like(cells), cells, np.full(cells.size, self._synapses[p.name]))

    def _trains(self, p: Projection, way: str, pre: IntArray, rng: np.random.Generator) -> Arrivals:
        s = self._sources
        if way in s.trains:
            return handed_on(s.trains[way][p.source], pre)
        rates = s.rates[p.source]
        if way == COMMON:
            clock = s.clocks[p.source]
            owner, step = renewal(rates[pre] / s.pace[p.source], clock.cv, s.n_step, s.dt, rng)
            return owner, clock.read(step, rng)
        mean = np.full(pre.size, rates.mean())
        rate = {REGULAR: rates[pre], POISSON: rates[pre], MEAN: mean, EQUAL: mean * self._indegree[p.name]}[way]
        return renewal(rate, s.cv[p.source] if way == REGULAR else 1.0, s.n_step, s.dt, rng)


def restricted(pairs: Connections, chosen: IntArray, n_target: int) -> Connections:
    """The pairs onto some cells, which are numbered anew, ordered by target."""
    number = np.full(n_target, -1)
    number[chosen] = np.arange(chosen.size)
    post = number[pairs.post]
    kept = np.flatnonzero(post >= 0)
    kept = kept[np.argsort(post[kept], kind="stable")]
    return Connections(pairs.pre[kept], post[kept], pairs.synapses[kept])


# --- what came out ----------------------------------------------------------------------------------


def describe(measured: Mapping[str, Spikes], network: Spikes) -> dict[str, dict[str, float]]:
    """Numbers of every rung of one population.

    Parameters
    ----------
    measured : Mapping
        Rung -> spikes of the isolated cells in the window.
    network : Spikes
        Of the whole population in the network.

    Returns
    -------
    dict
        Rung -> rate, sd (over cells; Hz), active (fraction that fired), cv (mean over cells), deviation (from the
        network's rate of the same cells; Hz), cost and cost_sem (from the rung's base, cell by cell; Hz),
        correlation (of the cells' rates with those in the network).
    """
    rates = {name: spikes.cell_rates(s) for name, s in measured.items()}
    everyone = spikes.cell_rates(network)
    result: dict[str, dict[str, float]] = {}
    for rung in RUNGS:
        own, s = (everyone, network) if rung is NETWORK else (rates[rung.name], measured[rung.name])
        cv = spikes.isi_cv(s.cells, s.times, s.size)
        row = {"rate": own.mean(), "sd": own.std(), "active": (own > 0).mean(),
               "cv": np.nanmean(cv) if np.isfinite(cv).any() else np.nan}
        if rung is not NETWORK:
            row |= _compared(rates, rung, float(everyone.mean()))
        result[rung.name] = {k: float(v) for k, v in row.items()}
    return result


def _compared(rates: Mapping[str, FloatArray], rung: Rung, everyone: float) -> dict[str, float]:
    """Deviation, cost and correlation; cells alike stand for the whole population, not for the chosen cells."""
    own, base, there = rates[rung.name], rates[rung.base], rates[NETWORK.name]
    alike = rung.excitatory == EQUAL
    deviation = own.mean() - (everyone if alike else there.mean())
    error = np.hypot(own.std(), base.std()) if alike else (own - base).std()
    moving = own.std() > 0 and there.std() > 0 and not alike
    return {"deviation": deviation, "cost": deviation - (base - there).mean(),
            "cost_sem": error / np.sqrt(own.size),
            "correlation": np.corrcoef(own, there)[0, 1] if moving else np.nan}
