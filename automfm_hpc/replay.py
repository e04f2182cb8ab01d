"""The network with all its spikes kept, and its cells alone with inputs given spike by spike, in NEST.

An isolated cell has its population's model, parameters, receptors, weights and delays, and the initial potential it
had in the network. Only its presynaptic cells are gone: a generator of its own per projection sends what arrives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import nest_models, spiking
from automfm_hpc.network import Network
from automfm_hpc.protocols import Protocol
from automfm_hpc.remap import Cell
from automfm_hpc.spikes import Spikes
from automfm_hpc.wiring import Wiring

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
# projection, first of the cells, synapses (n_cell, n_step) that arrive at these cells in each step
Block = tuple[str, int, FloatArray]


@dataclass(frozen=True)
class Record:
    """One run of the network.

    Parameters
    ----------
    spikes : Mapping
        Population or shared input -> its spikes from time 0 on, presimulation included.
    potentials : Mapping
        Population -> (n_cell,) initial membrane potentials (mV).
    """

    spikes: Mapping[str, Spikes]
    potentials: Mapping[str, FloatArray]


def record_network(network: Network, wiring: Wiring, protocol: Protocol, seed: int, dt: float,
                   communicator: int | None = None) -> Record:
    """Run the network on one process and keep every spike."""
    nest = spiking.start_kernel(seed, dt, 1, communicator)
    with nest_models.nest_failures(network.name):
        built = spiking.create(nest, network, wiring)
        spiking.connect(nest, network, wiring, built)
        spiking.apply_protocol(nest, network, protocol, built)
        potentials = {name: np.atleast_1d(np.array(built.nodes[name].get("V_m"), float))
                      for name in network.population_names}
        duration = protocol.presimulation + protocol.whole
        nest.Simulate(duration)
        spikes = {name: _collect(built.nodes[name], recorder, duration) for name, recorder in built.recorders.items()}
    return Record(spikes, potentials)


def run_isolated(network: Network, cell: Cell, potentials: FloatArray, arrivals: Iterator[Block],
                 background: Mapping[str, float], duration: float, seed: int, dt: float,
                 communicator: int | None = None) -> Spikes:
    """Simulate unconnected cells of one population.

    Parameters
    ----------
    network : Network
    cell : Cell
        Of the population.
    potentials : (n_cell,) array
        Initial membrane potentials (mV).
    arrivals : iterator of blocks
        What arrives, as presynaptic spikes: the projection's delay is added here. Taken one block at a time.
    background : Mapping
        Rates (Hz) of the inputs; the private ones are independent Poisson trains.
    duration : float
        ms.
    seed : int
        NEST's seed: escape noise and private inputs.
    """
    nest = spiking.start_kernel(seed, dt, 1, communicator)
    with nest_models.nest_failures(cell.population):
        if cell.neuron.multireceptor:
            nest_models.install(len(cell.channels))
        nodes = spiking.create_cells(nest, network.population(cell.population), cell, potentials.size)
        nodes.set([{"V_m": v} for v in potentials.tolist()])
        recorder = nest.Create("spike_recorder")
        nest.Connect(nodes, recorder)
        _connect_private(nest, network, cell.population, nodes, background)
        for projection, first, synapses in arrivals:
            _connect_block(nest, network, projection, nodes[first : first + len(synapses)], synapses, dt)
        nest.Simulate(duration)
        return _collect(nodes, recorder, duration)


def _connect_private(nest: Any, network: Network, population: str, nodes: Any,
                     background: Mapping[str, float]) -> None:
    """Every cell's own Poisson train for each projection of an input whose sources are not shared."""
    private = {i.name for i in network.inputs if i.sources is None}
    for p in network.onto(population):
        if p.source in private and p.indegree.mean > 0:
            receptor, sign = spiking.receptor_and_sign(network, p.name)
            generator = nest.Create("poisson_generator", params={"rate": p.indegree.mean * background[p.source]})
            nest.Connect(generator, nodes, syn_spec={"weight": sign * p.weight * p.synapses.mean, "delay": p.delay,
                                                     "receptor_type": receptor})


def _connect_block(nest: Any, network: Network, projection: str, nodes: Any, synapses: FloatArray, dt: float) -> None:
    """A generator per cell whose spikes weigh as much as the synapses that arrive together."""
    receptor, sign = spiking.receptor_and_sign(network, projection)
    p = next(p for p in network.projections if p.name == projection)
    times = np.round(np.arange(1, synapses.shape[1] + 1) * dt, 6)
    trains = []
    for row in synapses:
        at = np.flatnonzero(row)
        trains.append({"spike_times": times[at], "spike_weights": row[at]})
    generators = nest.Create("spike_generator", len(trains), params=trains)
    nest.Connect(generators, nodes, "one_to_one",
                 {"weight": sign * p.weight, "delay": p.delay, "receptor_type": receptor})


def _collect(nodes: Any, recorder: Any, duration: float) -> Spikes:
    events = recorder.get("events")
    cells = np.asarray(events["senders"]).astype(np.int64) - nodes[0].global_id
    return Spikes(cells, np.asarray(events["times"], float), len(nodes), duration)
