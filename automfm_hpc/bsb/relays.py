"""Relays (glomeruli): cells that only repeat a source, collapsed onto the input they belong to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.bsb.files import SynapseSet
from automfm_hpc.connections import Connections
from automfm_hpc.errors import NetworkError

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Origin:
    """Where the spikes of one set of relays come from.

    Parameters
    ----------
    root : str
        Cell type of the sources.
    owner : (n_relay,) int64 array
        Source that each relay repeats; -1: none, the relay is silent.
    """

    root: str
    owner: IntArray


@dataclass(frozen=True)
class Ports:
    """All relays of one input, numbered through.

    Parameters
    ----------
    root : str
        Cell type of the sources.
    owner : (n_port,) int64 array
        Source of each relay, silent relays left out.
    number : Mapping
        Cell type -> (n_relay,) int64 array: number of each of its relays among the ports, -1 if silent.
    """

    root: str
    owner: IntArray
    number: Mapping[str, IntArray]


def origins(relays: Mapping[str, int], sets: Collection[SynapseSet], where: str) -> dict[str, Origin]:
    """Follow every set of relays (name -> size) back to its sources.

    Relays reached from nothing are sources themselves; relays reached only from cells are left out.

    Raises
    ------
    NetworkError
        A relay of two sources, or relays in a circle.
    """
    found: dict[str, Origin] = {}

    def follow(name: str, path: tuple[str, ...]) -> Origin | None:
        if name in path:
            raise NetworkError(f"relays in a circle: {' -> '.join((*path, name))}", where=where)
        incoming = [s for s in sets if s.target == name]
        if name not in found:
            if not incoming:
                found[name] = Origin(name, np.arange(relays[name]))
            above = [(s, o) for s in incoming if s.source in relays and (o := follow(s.source, (*path, name)))]
            if above:
                found[name] = _joined(name, relays[name], above, where)
        return found.get(name)

    for name in relays:
        follow(name, ())
    return found


def _joined(name: str, size: int, above: list[tuple[SynapseSet, Origin]], where: str) -> Origin:
    roots = {o.root for _, o in above}
    if len(roots) > 1:
        raise NetworkError(f"relays of several inputs ({', '.join(sorted(roots))})", where=f"{where}: {name}")
    pairs = Connections.from_synapses(np.concatenate([o.owner[s.pre] for s, o in above]) + 1,
                                      np.concatenate([s.post for s, _ in above]))
    several = int((pairs.indegrees(size) > 1).sum())
    if several:
        raise NetworkError(f"{several} of its cells repeat more than one source", where=f"{where}: {name}",
                           remedy="A relay repeats one source; give cells that join several a neuron model.")
    owner = np.full(size, -1)
    owner[pairs.post] = pairs.pre - 1
    return Origin(roots.pop(), owner)


def ports(found: Mapping[str, Origin], used: Collection[str]) -> dict[str, Ports]:
    """The relays from which projections start (`used` cell types), numbered through per input."""
    result = {}
    for root in dict.fromkeys(o.root for name, o in found.items() if name in used):
        owners, numbers, n = [], {}, 0
        for name in (name for name, o in found.items() if o.root == root and name in used):
            alive = found[name].owner >= 0
            numbers[name] = np.where(alive, n + np.cumsum(alive) - 1, -1)
            owners.append(found[name].owner[alive])
            n += int(alive.sum())
        result[root] = Ports(root, np.concatenate(owners), numbers)
    return result


def composed(first: SynapseSet, second: SynapseSet) -> Connections:
    """Pairs of cells joined through relays; synapses are counted over all ways from the one to the other."""
    a = Connections.from_synapses(first.pre, first.post)
    b = Connections.from_synapses(second.post, second.pre)  # ordered by relay
    low, high = (np.searchsorted(b.post, a.post, side) for side in ("left", "right"))
    ways = high - low
    rows = np.arange(int(ways.sum())) - np.repeat(np.cumsum(ways) - ways, ways) + np.repeat(low, ways)
    return Connections.from_synapses(np.repeat(a.pre, ways), b.pre[rows],
                                     np.repeat(a.synapses, ways) * b.synapses[rows])
