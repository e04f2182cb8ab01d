"""One chunk of driven cells in NEST: the numerical transfer function at a few grid points.

Sampling goes on in rounds of new cells until the standard error of every point's rate is small enough or its budget is
spent. Points of a chunk share kernels. A chunk's result depends on the plan alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from automfm_hpc import nest_models
from automfm_hpc.afferents import Senders, draw_senders, explicit, send
from automfm_hpc.errors import SimulationError
from automfm_hpc.plan import Plan, Sampling, Task
from automfm_hpc.presynaptic import PresynapticStatistics, Received, statistics_of
from automfm_hpc.provenance import seed_for
from automfm_hpc.remap import Cell, CellInputs, Channel
from automfm_hpc.representative import CANDIDATES, Chosen, choose
from automfm_hpc.spikes import Spikes, isi_cv
from automfm_hpc.tally import Sample, Tally

FloatArray = NDArray[np.float64]
NOTHING_KNOWN: Mapping[str, PresynapticStatistics] = MappingProxyType({})
MAX_ROUNDS = 12
ROUND_CELLS = 512  # most cells in one kernel: what NEST keeps of them then fits into a core's cache
ROUND_EVENTS = 4e6  # most spikes given to one kernel, for the same reason
TRAIN_DELAY = 1.0  # ms: more than a step, or NEST exchanges spikes at every step
ADAPTATION_INTERVAL = 10.0  # ms


# --- what cells receive ---------------------------------------------------------------------------


def draw_inputs(cell: Cell, n: int, rng: np.random.Generator, heterogeneous: bool = True) -> CellInputs:
    """In-degrees and quantal sizes of n cells.

    In-degrees come from a Latin hypercube over the channels' distributions, so that a few dozen cells already
    represent them. Where the synapses of a pair vary, the cell's arrivals are merged into one Poisson train with
    the same first two moments: with m_i synapses of pair i, sum(m_i)^2 / sum(m_i^2) trains of sum(m_i^2) / sum(m_i)
    synapses each (Campbell's theorem). The m_i follow a gamma law: rounding a normal law to whole numbers of at
    least 1 would raise a mean of 1.5 to 1.6.

    Where the network's true connections are known, cells are its own, each as often as the others.
    """
    if cell.real is not None and heterogeneous:
        return cell.real.of(_own_cells(len(cell.real.pairs), n, rng))
    shape = (n, len(cell.channels))
    pairs, events, quantum = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for j, channel in enumerate(cell.channels):
        pairs[:, j] = _indegrees(channel, n, rng) if heterogeneous else channel.K
        if heterogeneous and channel.synapses.sd > 0:
            events[:, j], synapses = _merged_synapses(channel, pairs[:, j], rng)
        else:
            events[:, j], synapses = pairs[:, j], np.full(n, channel.synapses.mean)
        quantum[:, j] = channel.weight * synapses
    return CellInputs(pairs, events, quantum)


def _own_cells(size: int, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n of a population's cells, none once more often than another than needed."""
    rounds = [rng.permutation(size) for _ in range(-(-n // size))]
    return np.concatenate(rounds)[:n].astype(np.int64)


def _indegrees(channel: Channel, n: int, rng: np.random.Generator) -> FloatArray:
    distribution = channel.indegree
    if distribution.sd == 0:
        return np.full(n, distribution.mean)
    u = (rng.permutation(n) + rng.random(n)) / n
    return np.maximum(np.rint(norm.ppf(u, distribution.mean, distribution.sd)), 0.0)


def _merged_synapses(channel: Channel, pairs: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    mean, sd = channel.synapses.mean, channel.synapses.sd
    whole = np.ceil(pairs)  # a mean in-degree need not be a whole number: the last pair counts in part
    owner = np.repeat(np.arange(pairs.size), whole.astype(int))
    m = rng.gamma((mean / sd) ** 2, sd**2 / mean, owner.size)
    first = np.bincount(owner, m, pairs.size)
    second = np.bincount(owner, m * m, pairs.size)
    some = second > 0
    events = np.divide(first**2 * pairs, second * whole, out=np.zeros(pairs.size), where=some)
    return events, np.divide(second, first, out=np.full(pairs.size, mean), where=some)


# --- NEST -----------------------------------------------------------------------------------------


def reset_kernel(seed: int, dt: float, communicator: int | None = None) -> Any:
    """A fresh kernel of one thread; with an MPI-built NEST, on the communicator given."""
    nest = nest_models.import_nest()
    if communicator is not None:
        nest_models.use_communicator(communicator)
    nest.ResetKernel()
    nest.set(resolution=dt, rng_seed=seed, local_num_threads=1, print_time=False, overwrite_files=True)
    return nest


def drive_cells(cell: Cell, inputs: CellInputs, rates: FloatArray, sampling: Sampling, seed: int,
                communicator: int | None = None,
                presynaptic: Mapping[str, PresynapticStatistics] = NOTHING_KNOWN,
                senders: Senders | None = None) -> Sample:
    """Simulate isolated cells with independent inputs.

    Parameters
    ----------
    cell : Cell
    inputs : CellInputs
        Of n cells.
    rates : (n_cell, n_axis) array
        Mean rates (Hz) of each source's cells.
    sampling : Sampling
        Resolution, transient and window.
    seed : int
        NEST's `rng_seed`.
    communicator : int, optional
        For a NEST built with MPI: Fortran handle of a communicator of one rank.
    presynaptic : Mapping
        Source -> spread and regularity of its cells; other sources are Poisson trains of equal rates.
    senders : Senders, optional
        Who sends to the cells; default: drawn.
    """
    nest, nodes = _driven(cell, inputs, rates, sampling, seed, communicator, presynaptic, senders)
    recorder = _recorder(nest, nodes, sampling)
    meter = None
    if cell.neuron.adaptation:
        meter = nest.Create("multimeter", params={"record_from": [cell.neuron.adaptation], "start": sampling.transient,
                                                  "interval": ADAPTATION_INTERVAL})
        nest.Connect(meter, nodes)
    nest.Simulate(sampling.transient + sampling.window)
    return _measure(nodes, recorder, meter, cell.neuron.adaptation, sampling.window)


def isolated_spikes(cell: Cell, inputs: CellInputs, rates: FloatArray, sampling: Sampling, seed: int,
                    communicator: int | None = None,
                    presynaptic: Mapping[str, PresynapticStatistics] = NOTHING_KNOWN) -> Spikes:
    """What isolated cells fire in the window; parameters as for `drive_cells`."""
    nest, nodes = _driven(cell, inputs, rates, sampling, seed, communicator, presynaptic, None)
    recorder = _recorder(nest, nodes, sampling)
    nest.Simulate(sampling.transient + sampling.window)
    who, when = _recorded(nodes, recorder)
    return Spikes(who, when - sampling.transient, len(nodes), sampling.window)


def _driven(cell: Cell, inputs: CellInputs, rates: FloatArray, sampling: Sampling, seed: int, communicator: int | None,
            presynaptic: Mapping[str, PresynapticStatistics], senders: Senders | None) -> tuple[Any, Any]:
    """A kernel with the cells and all their inputs."""
    nest = reset_kernel(seed, sampling.dt, communicator)
    rng = np.random.default_rng(seed_for(seed, "afferents"))
    senders = senders or draw_senders(cell, inputs, rates, presynaptic, rng)
    reaching = send(senders, sampling.transient + sampling.window, sampling.dt, rng)
    nodes = build_cells(nest, cell, reaching.arrivals, inputs.quantum, sampling.dt)
    for channel, trains in reaching.trains.items():
        connect_trains(nest, cell, nodes, channel, trains, sampling.dt)
    return nest, nodes


def _recorder(nest: Any, nodes: Any, sampling: Sampling) -> Any:
    recorder = nest.Create("spike_recorder", params={"start": sampling.transient})
    nest.Connect(nodes, recorder)
    return recorder


def _recorded(nodes: Any, recorder: Any) -> tuple[NDArray[np.int64], FloatArray]:
    """Cell and time (ms) of every spike."""
    events = recorder.get("events")
    return np.asarray(events["senders"]).astype(np.int64) - nodes[0].global_id, np.asarray(events["times"], float)


def build_cells(nest: Any, cell: Cell, arrivals: FloatArray, quantum: FloatArray, dt: float) -> Any:
    """Cells with Poisson input: arrivals (Hz) of size quantum (nS, pA or mV), each (n_cell, n_channel)."""
    build = _eglif_cells if cell.neuron.multireceptor else _builtin_cells
    return build(nest, cell, arrivals, quantum, dt)


def _eglif_cells(nest: Any, cell: Cell, arrivals: FloatArray, quantum: FloatArray, dt: float) -> Any:
    """Cells that draw their Poisson input themselves, one receptor per channel."""
    if arrivals.max(initial=0.0) * dt / 1000.0 > 500.0:
        raise SimulationError(f"{arrivals.max():.3g} arrivals per second are too many for dt = {dt:g} ms",
                              where=cell.population, remedy="Lower the highest rate or dt.")
    parameters: dict[str, Any] = {**cell.parameters, "V_m": cell.parameters["E_L"]}
    for k, channel in enumerate(cell.channels, start=1):
        parameters |= {f"tau_syn{k}": channel.tau_syn, f"E_rev{k}": channel.E_rev,
                       f"poisson_rate{k}": arrivals[:, k - 1] / 1000.0, f"poisson_weight{k}": quantum[:, k - 1]}
    model = nest_models.install(len(cell.channels))
    return nest.Create(model, len(arrivals), params=parameters)


def _builtin_cells(nest: Any, cell: Cell, arrivals: FloatArray, quantum: FloatArray, dt: float) -> Any:
    """Cells of one of NEST's own models, each with a Poisson generator per channel."""
    nodes = nest.Create(cell.model, len(arrivals), params=builtin_parameters(cell))
    for j in range(len(cell.channels)):
        if arrivals[:, j].any():
            _, sign = receptor_of(cell, j)
            generators = nest.Create("poisson_generator", len(arrivals), params={"rate": arrivals[:, j]})
            nest.Connect(generators, nodes, "one_to_one",
                         {"weight": sign * quantum[:, j], "delay": 1.0})
    return nodes


def receptor_of(cell: Cell, j: int) -> tuple[int, float]:
    """NEST's receptor of a channel, and the sign that a weight takes there."""
    if cell.neuron.multireceptor:
        # NESTML numbers the ports from 1, but a model with a single port has no numbers: it takes 0.
        return (j + 1 if len(cell.channels) > 1 else 0), 1.0
    channel = cell.channels[j]
    return 0, -1.0 if channel.E_rev is not None and not channel.excitatory else 1.0


def connect_trains(nest: Any, cell: Cell, nodes: Any, channel: int, trains: Received, dt: float,
                   delay: float = TRAIN_DELAY) -> None:
    """Give every cell the spikes of its presynaptic cells through one receptor, `delay` ms later."""
    if not trains.cell.size:
        return
    receptor, sign = receptor_of(cell, channel)
    cut = np.searchsorted(trains.cell, np.arange(len(nodes) + 1))
    times, weights = np.round(trains.step * dt, 6), sign * cell.channels[channel].weight * trains.synapses
    some = [k for k in range(len(nodes)) if cut[k + 1] > cut[k]]
    generators = nest.Create("spike_generator", len(some), params=[
        {"spike_times": times[cut[k] : cut[k + 1]], "spike_weights": weights[cut[k] : cut[k + 1]]} for k in some])
    nest.Connect(generators, nodes[some], "one_to_one",
                 {"weight": 1.0, "delay": delay, "receptor_type": receptor})


def builtin_parameters(cell: Cell) -> dict[str, float]:
    """Parameters for `nest.Create` of NEST's models with one excitatory and one inhibitory receptor."""
    parameters = dict(cell.parameters)
    for channel in cell.channels:
        side = "ex" if channel.excitatory else "in"
        if channel.tau_syn is not None:
            parameters[f"tau_syn_{side}"] = channel.tau_syn
        if channel.E_rev is not None:
            parameters[f"E_{side}"] = channel.E_rev
    return parameters


def _measure(nodes: Any, recorder: Any, meter: Any, adaptation: str | None, window: float) -> Sample:
    n, first = len(nodes), nodes[0].global_id
    senders, times = _recorded(nodes, recorder)
    counts = np.bincount(senders, minlength=n)
    current: FloatArray = np.zeros(n)
    if meter is not None:
        logged = meter.get("events")
        who = np.asarray(logged["senders"]).astype(int) - first
        total = np.bincount(who, logged[adaptation], n)
        current = total / np.maximum(np.bincount(who, minlength=n), 1)
    cv = isi_cv(senders, times, n)
    return Sample(counts.astype(float) * 1000.0 / window, current, cv)


# --- one chunk ------------------------------------------------------------------------------------


def simulate_chunk(plan: Plan, task: Task, communicator: int | None = None) -> dict[str, NDArray[Any]]:
    """Sample every point of a chunk until it is known well enough.

    Returns
    -------
    dict
        Arrays of the chunk's shape: rate (Hz), rate_sem (Hz), rate_sd over cells (Hz), adaptation (pA), cv,
        n_cells, neuron_seconds, converged (0 or 1).
    """
    cell, sampling, presynaptic = plan.parameters.cell(task.population), plan.sampling, statistics_of(plan.presynaptic)
    points = plan.grid(task.population).points(task)
    tallies = [Tally(cell) for _ in points]
    wanted = np.full(len(points), min(sampling.first_cells, sampling.affordable))
    for round_number in range(MAX_ROUNDS):
        if not wanted.any():
            break
        with nest_models.nest_failures(task.population):
            _round(cell, sampling, points, tallies, wanted, seed_for(task.seed, round_number), communicator,
                   presynaptic)
        wanted = np.array([t.more_cells(sampling) for t in tallies])
    shape = tuple(b - a for a, b in task.slices)
    rows = [t.summary(sampling) for t in tallies]
    return {name: np.array([row[name] for row in rows]).reshape(shape) for name in rows[0]}


def _round(cell: Cell, sampling: Sampling, points: FloatArray, tallies: list[Tally], wanted: NDArray[np.int_],
           seed: int, communicator: int | None, presynaptic: Mapping[str, PresynapticStatistics]) -> None:
    """Add `wanted` new cells to each point, in as many kernels as memory asks for."""
    rng = np.random.default_rng(seed)
    some = np.flatnonzero(wanted)
    chosen = [_chosen(cell, points[k], int(wanted[k]), sampling.heterogeneous, presynaptic, rng) for k in some]
    inputs = CellInputs(*(np.concatenate([getattr(c.inputs, k) for c in chosen]) for k in
                          ("pairs", "events", "quantum")))  # fmt: skip
    senders, rates = Senders.joined([c.senders for c in chosen]), np.repeat(points, wanted, axis=0)
    at_once = cells_at_once(cell, inputs, rates, sampling, presynaptic)
    parts = []
    for a in range(0, len(rates), at_once):
        here = np.arange(a, min(a + at_once, len(rates)))
        parts.append(drive_cells(cell, inputs.of(here), rates[here], sampling, seed_for(seed, a), communicator,
                                 presynaptic, senders.of(here)))
    sample = Sample(*(np.concatenate([getattr(p, k) for p in parts]) for k in ("rate", "adaptation", "cv")))
    ends = np.cumsum(wanted[some])
    for k, own, end in zip(some, chosen, ends, strict=True):
        part = slice(end - wanted[k], end)
        tallies[k].add(own, Sample(sample.rate[part], sample.adaptation[part], sample.cv[part]))


def _chosen(cell: Cell, point: FloatArray, n: int, heterogeneous: bool,
            presynaptic: Mapping[str, PresynapticStatistics], rng: np.random.Generator) -> Chosen:
    """n cells that represent the population at one point."""
    inputs = draw_inputs(cell, n * CANDIDATES, rng, heterogeneous)
    senders = draw_senders(cell, inputs, np.tile(point, (n * CANDIDATES, 1)), presynaptic, rng)
    return choose(cell, inputs, senders, n, rng)


def cells_at_once(cell: Cell, inputs: CellInputs, rates: FloatArray, sampling: Sampling,
                   presynaptic: Mapping[str, PresynapticStatistics]) -> int:
    single = explicit(cell, presynaptic)
    spikes = (inputs.pairs * rates[:, cell.channel_axis])[:, single].sum() * sampling.seconds_per_cell
    return int(min(ROUND_CELLS, max(64, ROUND_EVENTS * len(rates) / max(spikes, 1.0))))
