"""Micro to meso: from a network description to the parameters of a mean field.

Nothing is scaled by hand: the in-degree K is the mean number of connected pairs per target cell, the
quantal conductance Q is the weight of one synapse times the synapses of a pair (they arrive together),
and the spreads of both are kept, because a convex transfer function of the mean in-degree is not the
mean of the transfer functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import NetworkError, suggest
from automfm_hpc.network import Distribution, Network, Projection, excites
from automfm_hpc.neurons import NeuronModel, neuron_model

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Channel:
    """One pathway onto one target cell, as the transfer function sees it.

    Parameters
    ----------
    name : str
        Source and pathway: ``GrC/aa``.
    source : str
        Presynaptic population or input, whose rate drives the channel.
    projections : tuple of str
        Names of the projections it stands for.
    indegree, synapses : Distribution
        Connected pairs per target cell; synapses per pair.
    weight : float
        Peak conductance (nS), current (pA) or step (mV) of one synapse.
    tau_syn, E_rev : float or None
        ms, mV.
    delay : float
        ms.
    """

    name: str
    source: str
    projections: tuple[str, ...]
    indegree: Distribution
    synapses: Distribution
    weight: float
    tau_syn: float | None
    E_rev: float | None
    delay: float

    @property
    def K(self) -> float:
        """In-degree: mean connected pairs per target cell."""
        return self.indegree.mean

    @property
    def Q(self) -> float:
        """Quantal conductance (nS, peak) of one presynaptic spike: weight x synapses per pair."""
        return self.weight * self.synapses.mean

    @property
    def excitatory(self) -> bool:
        return excites(self.E_rev, self.weight)


@dataclass(frozen=True, eq=False)
class CellInputs:
    """What each of some cells receives, shape (n_cell, n_channel).

    Parameters
    ----------
    pairs : array
        Connected pairs (in-degree) of each cell.
    events : array
        Effective in-degree: independent trains, each as fast as one presynaptic cell.
    quantum : array
        Effective quantal size (nS, pA or mV) of one arrival.
    """

    pairs: FloatArray
    events: FloatArray
    quantum: FloatArray

    def of(self, chosen: slice | NDArray[np.int64]) -> CellInputs:
        return CellInputs(self.pairs[chosen], self.events[chosen], self.quantum[chosen])


@dataclass(frozen=True)
class Cell:
    """A target cell with its input channels: all a transfer function depends on.

    Parameters
    ----------
    population : str
    model : str
        NEST's name of the neuron model.
    parameters : Mapping
        NEST's parameter names -> values (mV, ms, pF, nS, pA).
    channels : tuple of Channel
    real : CellInputs, optional
        What the population's own cells receive, where the network's true connections are known.
    axes : tuple of str
        The distinct sources, in order of first appearance: the arguments of the transfer function.
    """

    population: str
    model: str
    parameters: Mapping[str, float]
    channels: tuple[Channel, ...]
    real: CellInputs | None = None

    @property
    def neuron(self) -> NeuronModel:
        return neuron_model(self.model, self.population)

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c.source for c in self.channels))

    @property
    def channel_axis(self) -> NDArray[np.int64]:
        """Index into `axes` for each channel, shape (n_channel,)."""
        return np.array([self.axes.index(c.source) for c in self.channels], dtype=np.int64)

    def array(self, attribute: str) -> FloatArray:
        """`K`, `Q`, `tau_syn` (ms), `E_rev` (mV) ... of all channels, shape (n_channel,); NaN where absent."""
        values = [getattr(c, attribute) for c in self.channels]
        return np.array([np.nan if v is None else v for v in values], dtype=float)


@dataclass(frozen=True)
class MeanFieldParameters:
    """Parameters of the mean field, indexed [target, channel].

    Parameters
    ----------
    network : str
        Name of the network.
    populations, inputs, channels : tuple of str
        Targets; external inputs; sources with their pathway.
    channel_sources : tuple of str
        The population or input each channel belongs to.
    K : (n_target, n_channel) array
        In-degree: mean number of connected pairs per target cell; 0 where there is no projection.
    K_sd : (n_target, n_channel) array
        Its standard deviation over cells.
    Q : (n_target, n_channel) array
        Quantal conductance (nS, peak); NaN where there is no projection, as are E and tau_syn.
    E : (n_target, n_channel) array
        Reversal potential (mV).
    tau_syn : (n_target, n_channel) array
        Synaptic time constant (ms).
    delay : (n_target, n_channel) array
        ms.
    N : (n_target + n_input,) array
        Cells, and independent sources of each input (infinite: every synapse has its own).
    T : float
        Time constant of the master equation (ms).
    cells : tuple of Cell
        One per population, with the distributions.
    """

    network: str
    populations: tuple[str, ...]
    inputs: tuple[str, ...]
    channels: tuple[str, ...]
    channel_sources: tuple[str, ...]
    K: FloatArray
    K_sd: FloatArray
    Q: FloatArray
    E: FloatArray
    tau_syn: FloatArray
    delay: FloatArray
    N: FloatArray
    T: float
    cells: tuple[Cell, ...]

    def cell(self, population: str) -> Cell:
        if population not in self.populations:
            raise NetworkError(f"no population '{population}'", where=self.network,
                               remedy=suggest(population, self.populations))
        return self.cells[self.populations.index(population)]

    def by_projection(self) -> dict[str, dict[str, float | None]]:
        """K, Q, tau_syn, E, delay per projection name, for records and search."""
        return {
            "+".join(c.projections): {"K": c.K, "K_sd": c.indegree.sd, "Q": c.Q, "tau_syn": c.tau_syn,
                                      "E": c.E_rev, "delay": c.delay}
            for cell in self.cells for c in cell.channels
        }  # fmt: skip


def remap(network: Network, variant: str | None = None, merge: bool = False) -> MeanFieldParameters:
    """Mean-field parameters of a network.

    Parameters
    ----------
    network : Network
    variant : str, optional
        Name of one of the network's variants.
    merge : bool, default False
        Merge parallel pathways (same source, target, tau_syn and E_rev): in-degrees add, Q is their
        K-weighted mean, so the total conductance is kept. Default: they stay separate channels.

    Raises
    ------
    NetworkError
        Unknown variant, or pathways that cannot be merged because their synapses differ.
    """
    network = network.with_variant(variant)
    cells = tuple(_cell(network, name, merge) for name in network.population_names)
    channels = tuple(dict.fromkeys(c.name for cell in cells for c in cell.channels))
    sources = {c.name: c.source for cell in cells for c in cell.channels}
    shape = (len(cells), len(channels))
    K, K_sd = np.zeros(shape), np.zeros(shape)
    Q, E, tau_syn, delay = (np.full(shape, np.nan) for _ in range(4))
    for i, cell in enumerate(cells):
        for c in cell.channels:
            j = channels.index(c.name)
            K[i, j], K_sd[i, j], Q[i, j], delay[i, j] = c.K, c.indegree.sd, c.Q, c.delay
            E[i, j] = np.nan if c.E_rev is None else c.E_rev
            tau_syn[i, j] = np.nan if c.tau_syn is None else c.tau_syn
    N = np.array([p.size for p in network.populations] + [i.sources or np.inf for i in network.inputs], float)
    return MeanFieldParameters(
        network=network.name, populations=network.population_names, inputs=network.input_names,
        channels=channels, channel_sources=tuple(sources[c] for c in channels),
        K=K, K_sd=K_sd, Q=Q, E=E, tau_syn=tau_syn, delay=delay, N=N, T=network.T, cells=cells,
    )  # fmt: skip


def _cell(network: Network, name: str, merge: bool) -> Cell:
    population = network.population(name)
    channels = tuple(_channel(p) for p in network.onto(name) if p.indegree.mean > 0)
    if not channels:
        raise NetworkError("every projection onto it has in-degree 0", where=f"{network.name}: {name}")
    if merge:
        channels = _merged(channels, f"{network.name}: {name}")
    real = None if merge or network.connections is None else _real_inputs(network, population.size, channels)
    return Cell(name, population.model, population.parameters, channels, real)


def _real_inputs(network: Network, n: int, channels: tuple[Channel, ...]) -> CellInputs:
    """What the cells of one population receive through their true connections."""
    from automfm_hpc.wiring import arrivals, true_wiring

    wiring = true_wiring(network)
    pairs, events, quantum = (np.zeros((n, len(channels))) for _ in range(3))
    for j, channel in enumerate(channels):
        name = channel.projections[0]
        if name not in wiring.pairs:  # private sources: every cell has as many
            pairs[:, j], events[:, j], synapses = channel.K, channel.K, np.full(n, channel.synapses.mean)
        else:
            pairs[:, j] = np.bincount(wiring.pairs[name].post, minlength=n)
            events[:, j], synapses = arrivals(wiring, name, n)
        quantum[:, j] = channel.weight * synapses
    return CellInputs(pairs, events, quantum)


def _channel(p: Projection) -> Channel:
    return Channel(p.channel, p.source, (p.name,), p.indegree, p.synapses, p.weight, p.tau_syn, p.E_rev, p.delay)


def _merged(channels: tuple[Channel, ...], where: str) -> tuple[Channel, ...]:
    by_source: dict[str, list[Channel]] = {}
    for c in channels:
        by_source.setdefault(c.source, []).append(c)
    return tuple(_merge(group, where) for group in by_source.values())


def _merge(group: list[Channel], where: str) -> Channel:
    first = group[0]
    if len(group) == 1:
        return first
    if len({(c.tau_syn, c.E_rev) for c in group}) > 1:
        raise NetworkError(f"the pathways from {first.source} have different tau_syn or E_rev", where=where,
                           remedy="Leave them separate (merge=False).")
    K = sum(c.K for c in group)
    Q = sum(c.K * c.Q for c in group) / K
    sd = float(np.sqrt(sum(c.indegree.sd**2 for c in group)))  # independent pathways: variances add
    return replace(
        first, name=first.source, projections=tuple(p for c in group for p in c.projections),
        indegree=Distribution(K, sd), synapses=Distribution(1.0), weight=Q,
        delay=sum(c.K * c.delay for c in group) / K,
    )  # fmt: skip
