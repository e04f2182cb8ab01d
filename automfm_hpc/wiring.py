"""The connections of a described network, pair by pair, at any scale.

Drawn here rather than by NEST, so that the same seed gives the same network on any number of threads and ranks,
and so that in-degrees follow the description's distributions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.stats import truncnorm

from automfm_hpc.connections import Connections, load_connections
from automfm_hpc.errors import NetworkError
from automfm_hpc.network import Network, Projection
from automfm_hpc.provenance import seed_for

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Wiring:
    """A network's cells and connections.

    Parameters
    ----------
    sizes : Mapping
        Cells of each population; sources of each shared input.
    pairs : Mapping
        Projection name -> Connections; projections of private inputs are left out.
    notes : tuple of str
        What could not stay as described at this scale.
    delays : Mapping
        Projection name -> delay of each pair (ms), where they vary.
    """

    sizes: Mapping[str, int]
    pairs: Mapping[str, Connections]
    notes: tuple[str, ...] = ()
    delays: Mapping[str, FloatArray] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def n_pairs(self) -> int:
        return sum(p.pre.size for p in self.pairs.values())


def population_sizes(network: Network, scale: float) -> dict[str, int]:
    """Cells of each population at a scale; an imported network, with connections of its own, has only one."""
    if network.connections is not None:
        return {p.name: p.size for p in network.populations}
    return {p.name: max(1, round(p.size * scale)) for p in network.populations}


def draw_wiring(network: Network, scale: float = 1.0, seed: int = 1) -> Wiring:
    """Draw connections at random from the description's in-degrees and synapses per pair.

    Population sizes (and the relays of inputs) are multiplied by `scale`, in-degrees stay. Every target's partners
    are distinct, and nobody is connected to itself, unless the in-degree exceeds what a scaled source has:
    then partners are drawn with replacement and a note says so. An input's sources stay as many as they are.

    Raises
    ------
    NetworkError
        If `scale` is not positive, or an in-degree exceeds the source's size at full scale.
    """
    if not scale > 0:
        raise NetworkError(f"a scale of {scale:g} leaves no cells", where=network.name)
    sizes = population_sizes(network, scale)
    relays = {i.name: max(i.sources, round((i.relays or i.sources) * scale))
              for i in network.inputs if i.sources is not None}
    pairs: dict[str, Connections] = {}
    notes: list[str] = []
    for number, p in enumerate(network.projections):
        if p.source not in sizes and p.source not in relays:
            continue
        rng = np.random.default_rng([seed_for(seed, "wiring", p.name), number])
        available = relays.get(p.source, sizes.get(p.source, 0)) - (p.source == p.target)
        if p.indegree.mean > available and scale >= 1:
            raise NetworkError(f"in-degree {p.indegree.mean:g} is larger than the {available} cells of {p.source}",
                               where=f"{network.name}: {p.name}", remedy="Lower the in-degree or enlarge the source.")
        drawn, repeated = _draw(p, available, sizes[p.target], rng)
        if repeated:
            notes.append(f"{p.name}: in-degree {p.indegree.mean:g} (sd {p.indegree.sd:g}) of {available} cells: "
                         "some pairs stand more than once")
        pairs[p.name] = _through_relays(network, p, drawn, relays, seed)
    sources = {i.name: i.sources for i in network.inputs if i.sources is not None}
    delays = {p.name: draw_delays(p, pairs[p.name].pre.size, seed) for p in network.projections
              if p.name in pairs and p.delay_sd > 0}
    return Wiring(sizes | sources, pairs, tuple(notes), delays)


def draw_delays(p: Projection, n_pair: int, seed: int) -> FloatArray:
    """A delay (ms) for each pair: normal, truncated at zero."""
    rng = np.random.default_rng(seed_for(seed, "delays", p.name))
    law = truncnorm(-p.delay / p.delay_sd, np.inf, loc=p.delay, scale=p.delay_sd)
    return np.asarray(law.rvs(n_pair, random_state=rng))


def _draw(p: Projection, available: int, n_target: int, rng: np.random.Generator) -> tuple[Connections, bool]:
    K = _whole(p.indegree.mean, p.indegree.sd, n_target, rng)
    with_replacement = max(available, 0) < K
    chosen = [
        rng.integers(0, max(available, 1), k) if more else rng.choice(available, k, replace=False, shuffle=False)
        for k, more in zip(K, with_replacement, strict=True)
    ]
    pre = np.concatenate(chosen).astype(np.int64) if chosen else np.empty(0, np.int64)
    post = np.repeat(np.arange(n_target), K)
    if p.source == p.target and available > 0:
        pre = pre + (pre >= post)  # skip oneself
    synapses = 1 + whole_counts(p.synapses.mean - 1.0, p.synapses.sd, pre.size, rng)  # a pair has at least one
    return Connections(pre, post, synapses), bool(with_replacement.any())


def _whole(mean: float, sd: float, n: int, rng: np.random.Generator) -> IntArray:
    """Whole numbers of the given mean and spread; a mean that is no whole number is rounded up or down at random."""
    if sd == 0:
        return (np.floor(mean) + (rng.random(n) < mean % 1.0)).astype(np.int64)
    return np.maximum(np.rint(rng.normal(mean, sd, n)), 0).astype(np.int64)


def whole_counts(mean: float, sd: float, n: int, rng: np.random.Generator) -> IntArray:
    """Whole numbers from 0 with this mean, also where a normal law would be cut off, and nearly this spread.

    Far from 0: a rounded normal law. Near it: negative binomial if the variance exceeds the mean, else binomial.
    """
    if sd == 0 or mean <= 0 or mean > 4.0 * sd:
        return _whole(max(mean, 0.0), sd if mean > 0 else 0.0, n, rng)
    if sd**2 > mean:
        return rng.negative_binomial(mean**2 / (sd**2 - mean), mean / sd**2, n).astype(np.int64)
    trials = int(np.ceil(mean / (1.0 - sd**2 / mean) - 1e-9)) if sd**2 < mean else 10**6
    return rng.binomial(trials, mean / trials, n).astype(np.int64)


def _through_relays(network: Network, p: Projection, drawn: Connections, relays: Mapping[str, int],
                    seed: int) -> Connections:
    """Replace a relay by the source it repeats: cells that share a relay, or a source, share its spikes."""
    if p.source not in relays:
        return drawn
    sources = next(i.sources for i in network.inputs if i.name == p.source) or 1
    owner = relay_sources(relays[p.source], sources, seed, p.source)
    return Connections(owner[drawn.pre], drawn.post, drawn.synapses)


def relay_sources(n_relay: int, n_source: int, seed: int, name: str) -> IntArray:
    """Source of each relay, shape (n_relay,): at random, every source having at least one."""
    rng = np.random.default_rng([seed_for(seed, "relays", name), n_relay])
    owner = np.concatenate([np.arange(n_source), rng.integers(0, n_source, n_relay - n_source)])
    return rng.permutation(owner).astype(np.int64)


def true_wiring(network: Network) -> Wiring:
    """The true connections of an imported network, its relays replaced by the sources they repeat.

    Raises
    ------
    NetworkError
        If the description names no connections, or they are missing or damaged.
    """
    found, relays = load_connections(network)
    pairs = {}
    for p in network.projections:
        if p.name in found:
            c = found[p.name]
            pairs[p.name] = Connections(relays[p.source][c.pre], c.post, c.synapses) if p.source in relays else c
    sizes = {p.name: p.size for p in network.populations} | {i.name: i.sources for i in network.inputs if i.sources}
    return Wiring(sizes, pairs)


def arrivals(wiring: Wiring, projection: str, n_target: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What every cell receives through a projection, merged into one Poisson train with the same first two moments.

    With m_i the synapses a cell has from source i, sum(m_i)^2 / sum(m_i^2) trains of sum(m_i^2) / sum(m_i) synapses
    each have the mean and the variance of conductance of the true trains (Campbell's theorem).

    Returns
    -------
    events, synapses : (n_target,) arrays
        Number of trains, and synapses of each; a cell without input has 0 trains.
    """
    c = Connections.from_synapses(*(getattr(wiring.pairs[projection], k) for k in ("pre", "post", "synapses")))
    m = c.synapses.astype(float)
    first, second = (np.bincount(c.post, w, n_target) for w in (m, m * m))
    some = second > 0
    events = np.divide(first**2, second, out=np.zeros(n_target), where=some)
    return events, np.divide(second, first, out=np.ones(n_target), where=some)
