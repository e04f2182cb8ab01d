"""The described network as a spiking network in NEST: built at any scale, driven by protocols, measured.

One trial is one protocol with one seed, which decides connections, initial states and noise. With a NEST from PyPI a
trial runs on one process with threads; with a NEST built with MPI also over all ranks. The number of virtual
processes is fixed by the caller, and NEST's results depend on that number alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import nest_models, spikes
from automfm_hpc.connections import Connections
from automfm_hpc.network import Input, Network, Population, Projection
from automfm_hpc.protocols import RESOLUTION, Protocol
from automfm_hpc.provenance import seed_for
from automfm_hpc.remap import Cell, remap
from automfm_hpc.simulate import builtin_parameters
from automfm_hpc.spikes import Spikes
from automfm_hpc.wiring import Wiring, draw_wiring

FloatArray = NDArray[np.float64]
SOURCE_DELAY = 1.0  # ms from generator to source: not less than the network's delays, or every step is exchanged


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of building and running, and the peak memory of this process (MiB)."""

    build: float
    connect: float
    presimulate: float
    simulate: float
    memory: float


@dataclass(frozen=True)
class Recording:
    """What one trial recorded: spikes of each population and input on this rank, and how long it took."""

    spikes: Mapping[str, Spikes]
    timing: Timing
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Built:
    """A network in NEST's kernel: its nodes by name, spike recorders, and generators by input."""

    nodes: Mapping[str, Any]
    recorders: Mapping[str, Any]
    generators: Mapping[str, tuple[Any, ...]]


def run_trial(
    network: Network,
    protocol: Protocol,
    seed: int,
    *,
    scale: float = 1.0,
    wiring: Wiring | None = None,
    dt: float = 0.1,
    processes: int = 1,
    communicator: int | None = None,
) -> Recording:
    """Build the network, drive it, and record all spikes after the presimulation.

    Parameters
    ----------
    network : Network
    protocol : Protocol
    seed : int
    scale : float
        Factor of the population sizes; ignored with `wiring`.
    wiring : Wiring, optional
        True connections; default: drawn from the description with this seed.
    dt : float
        Resolution (ms).
    processes : int
        Virtual processes: threads of this process, or threads times ranks of a NEST built with MPI.
    communicator : int, optional
        For a NEST built with MPI: Fortran handle of the communicator the network is spread over.
    """
    if wiring is None:
        wiring = draw_wiring(network, scale, seed)
    nest = start_kernel(seed_for(seed, "nest"), dt, processes, communicator)
    clock = [time.perf_counter()]
    built = create(nest, network, wiring)
    clock.append(time.perf_counter())
    connect(nest, network, wiring, built)
    clock.append(time.perf_counter())
    apply_protocol(nest, network, protocol, built)
    nest.Simulate(protocol.presimulation)
    clock.append(time.perf_counter())
    nest.Simulate(protocol.whole)
    clock.append(time.perf_counter())
    recorded = {name: _collect(built, name, protocol) for name in built.recorders}
    parts = dict(zip(("build", "connect", "presimulate", "simulate"), map(float, np.diff(clock)), strict=True))
    return Recording(recorded, Timing(**parts, memory=_peak_memory()), wiring.notes)


def start_kernel(seed: int, dt: float, processes: int, communicator: int | None = None) -> Any:
    """A fresh kernel with that many virtual processes, over the ranks of `communicator` if NEST has MPI."""
    nest = nest_models.import_nest()
    if communicator is not None:
        nest_models.use_communicator(communicator)
    nest.ResetKernel()
    if nest_models.find_nest().has_mpi:
        nest.set(resolution=dt, total_num_virtual_procs=processes)
        if nest.num_processes > 1 and nest.local_num_threads == 1:
            # Seen with NEST 3.10: after a ResetKernel, compressed spikes reach connections that are no more and end in
            # a segmentation fault. With one thread per rank there is nothing to compress; the spikes are the same.
            nest.use_compressed_spikes = False
    else:
        nest.set(resolution=dt, local_num_threads=processes)
    nest.set(rng_seed=seed, print_time=False, overwrite_files=True)
    return nest


# --- nodes ----------------------------------------------------------------------------------------


def create(nest: Any, network: Network, wiring: Wiring) -> Built:
    """Cells with random initial potentials, sources of shared inputs as relays of generators, recorders."""
    cells = {cell.population: cell for cell in remap(network).cells}
    nodes: dict[str, Any] = {}
    for cell in cells.values():  # NEST loads modules into an empty kernel only
        if cell.neuron.multireceptor:
            nest_models.install(len(cell.channels))
    for population in network.populations:
        nodes[population.name] = create_cells(nest, population, cells[population.name], wiring.sizes[population.name])
    for source in network.inputs:
        if source.sources is not None:
            nodes[source.name] = nest.Create("parrot_neuron", source.sources)
    recorders = {name: nest.Create("spike_recorder") for name in nodes}
    for name, recorder in recorders.items():
        nest.Connect(nodes[name], recorder)
    return Built(nodes, recorders, {i.name: _create_generators(nest, network, i, nodes) for i in network.inputs})


def create_cells(nest: Any, population: Population, cell: Cell, n: int) -> Any:
    """n cells of a population, their initial potentials drawn between reset and threshold."""
    p = population.parameters
    # NEST's own random numbers belong to virtual processes, so they do not depend on how ranks share the nodes.
    parameters: dict[str, Any] = {"V_m": nest.random.uniform(p["V_reset"], p["V_th"])}
    if not population.neuron.multireceptor:
        return nest.Create(population.model, n, params=parameters | builtin_parameters(cell))
    parameters |= dict(p)
    for k, channel in enumerate(cell.channels, start=1):
        parameters |= {f"tau_syn{k}": channel.tau_syn, f"E_rev{k}": channel.E_rev}
    return nest.Create(nest_models.model_name(len(cell.channels)), n, params=parameters)


def _create_generators(nest: Any, network: Network, source: Input, nodes: Mapping[str, Any]) -> tuple[Any, ...]:
    """One generator that gives every shared source its own train; or one per projection of a private input."""
    if source.sources is not None:
        generator = nest.Create("inhomogeneous_poisson_generator")
        nest.Connect(generator, nodes[source.name], syn_spec={"delay": SOURCE_DELAY})
        return (generator,)
    return tuple(nest.Create("inhomogeneous_poisson_generator") for p in network.projections if p.source == source.name)


# --- connections ----------------------------------------------------------------------------------


def connect(nest: Any, network: Network, wiring: Wiring, built: Built) -> None:
    """Connect pair by pair, the synapses of a pair as one connection of summed weight."""
    for p in network.projections:
        receptor, sign = receptor_and_sign(network, p.name)
        if p.name in wiring.pairs:
            _connect_pairs(nest, built.nodes[p.source], built.nodes[p.target], wiring.pairs[p.name],
                           sign * p.weight, _delays(nest, wiring, p), receptor)
    for source in network.inputs:
        if source.sources is None:
            mine = [p for p in network.projections if p.source == source.name]
            for p, generator in zip(mine, built.generators[source.name], strict=True):
                receptor, sign = receptor_and_sign(network, p.name)
                # The generator stands for all K sources of a cell: its rate is K times theirs (`apply_protocol`).
                nest.Connect(generator, built.nodes[p.target], syn_spec={
                    "weight": sign * p.weight * p.synapses.mean, "delay": p.delay, "receptor_type": receptor})


def receptor_and_sign(network: Network, projection: str) -> tuple[int, float]:
    """NEST's receptor type of a projection, and the sign its weight takes there."""
    p = next(p for p in network.projections if p.name == projection)
    model = network.population(p.target).neuron
    if model.multireceptor:
        names = [q.name for q in network.onto(p.target) if q.indegree.mean > 0]
        # NESTML numbers the ports from 1, but a model with a single port has no numbers: it takes 0.
        return (names.index(p.name) + 1 if p.name in names and len(names) > 1 else 0), 1.0
    return 0, -1.0 if model.weight_unit == "nS" and not p.excitatory else 1.0


def _connect_pairs(nest: Any, pre: Any, post: Any, pairs: Connections, weight: float, delay: float | FloatArray,
                   receptor: int) -> None:
    if not pairs.pre.size:
        return
    n = pairs.pre.size
    nest.Connect(
        pairs.pre + pre[0].global_id, pairs.post + post[0].global_id, "one_to_one",
        {"weight": weight * pairs.synapses, "delay": np.full(n, delay), "receptor_type": np.full(n, receptor)},
    )  # fmt: skip


def _delays(nest: Any, wiring: Wiring, p: Projection) -> float | FloatArray:
    """The delay of every pair (ms): as described, or as drawn and rounded to whole steps, at least one."""
    if p.name not in wiring.delays:
        return p.delay
    dt = float(nest.resolution)
    return np.maximum(np.rint(wiring.delays[p.name] / dt), 1.0) * dt


# --- driving and recording --------------------------------------------------------------------------


def apply_protocol(nest: Any, network: Network, protocol: Protocol, built: Built) -> None:
    """Give every generator its rate over the whole trial, starting at the kernel's present time."""
    now = float(nest.biological_time)
    course, starts = protocol.steps(), RESOLUTION * np.arange(round(protocol.whole / RESOLUTION))
    for source in network.inputs:
        base = protocol.background[source.name]
        varies = source.name == protocol.input and protocol.kind != "constant"
        # Spikes reach the sources SOURCE_DELAY late; start the course as much earlier.
        shift = SOURCE_DELAY if source.sources is not None else 0.0
        at = np.concatenate([[now + 0.1], now + protocol.presimulation + starts - shift])
        rates = np.concatenate([[base], course if varies else np.full(starts.size, base)])
        keep = np.concatenate([[True], rates[1:] != rates[:-1]])
        for generator, factor in zip(built.generators[source.name], _factors(network, source), strict=True):
            generator.set(rate_times=np.round(at[keep], 6), rate_values=factor * rates[keep])


def _factors(network: Network, source: Input) -> list[float]:
    if source.sources is not None:
        return [1.0]
    return [p.indegree.mean for p in network.projections if p.source == source.name]


def _collect(built: Built, name: str, protocol: Protocol) -> Spikes:
    nodes = built.nodes[name]
    events = built.recorders[name].get("events")
    cells = np.asarray(events["senders"]).astype(np.int64) - nodes[0].global_id
    end = protocol.presimulation + protocol.whole
    return Spikes(cells, np.asarray(events["times"], float), len(nodes), end).between(protocol.presimulation, end)


def _peak_memory() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


# --- measuring --------------------------------------------------------------------------------------


def measure(recording: Recording, names: Sequence[str]) -> dict[str, FloatArray]:
    """Numbers of one trial, each (n_name,), as `experiment.MEASURES` says."""
    each = [numbers_of(recording.spikes[name]) for name in names]
    return {key: np.array([numbers[key] for numbers in each]) for key in each[0]}


def numbers_of(s: Spikes) -> dict[str, float]:
    """The same of one population's spikes."""
    rates, cv = spikes.cell_rates(s), spikes.isi_cv(s.cells, s.times, s.size)
    return {"rate": float(rates.mean()), "rate_sd": float(rates.std()), "active": float((rates > 0).mean()),
            "cv": float(np.nanmean(cv)) if np.isfinite(cv).any() else np.nan, "fano": spikes.fano_factor(s),
            "correlation": spikes.pair_correlation(s)}
