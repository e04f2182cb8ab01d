"""Trains that a trial of the network keeps, for isolated cells to hear: spikes of every cell in every bin.

Trains made anew, of the same rates and intervals, that run on the clock of the population's activity, are not what a
cell of the network hears. In one wave of activity each presynaptic cell fires once rather than at random, and which of
them fire together is no matter of chance either. Kept are the populations that some target hears one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.afferents import MORE_PAIRS
from automfm_hpc.presynaptic import Received, merged
from automfm_hpc.remap import Cell
from automfm_hpc.spikes import Spikes
from automfm_hpc.trains import Trains, handed_on

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Counts = NDArray[np.uint8]
MOST_CELLS = 10_000  # of a population whose trains are kept: 10 MB a second, next to nothing when compressed


def kept_cells(sizes: Mapping[str, int], cells: Iterable[Cell]) -> dict[str, int]:
    """Populations whose trains are kept, in the order of `sizes`, with their numbers of cells."""
    heard = {c.source for cell in cells for c in cell.channels if c.K <= MORE_PAIRS}
    return {name: n for name, n in sizes.items() if name in heard and n <= MOST_CELLS}


def packed(spikes: Mapping[str, Spikes], kept: Mapping[str, int], bins: int, bin_ms: float) -> Counts:
    """Spikes of each cell in each bin, populations one after the other: (n_train, n_bin); 255 stands for more."""
    rows = [np.zeros((0, bins), np.uint8)]
    for name, n in kept.items():
        s = spikes[name]
        at = np.clip(np.ceil(s.times / bin_ms).astype(np.int64) - 1, 0, bins - 1)
        count = np.bincount(s.cells * bins + at, minlength=n * bins).reshape(n, bins)
        rows.append(np.minimum(count, 255).astype(np.uint8))
    return np.concatenate(rows)


def unpacked(counts: Counts, kept: Mapping[str, int]) -> dict[str, Counts]:
    """What `packed` put together, by population: (n_cell, n_bin) each."""
    ends = np.cumsum([0, *kept.values()])
    return {name: counts[a:b] for name, a, b in zip(kept, ends[:-1], ends[1:], strict=True)}


def as_trains(counts: Counts, bin_ms: float, dt: float, rng: np.random.Generator) -> Trains:
    """Trains with these spikes, each anywhere in its bin; what falls into one step of dt (ms) is one spike."""
    n, bins = counts.shape
    held = round(bin_ms / dt)
    cell, at = np.nonzero(counts)
    number = counts[cell, at].astype(np.int64)
    cell, first = np.repeat(cell, number), np.repeat(at, number) * held
    key = np.unique(cell * (bins * held) + first + rng.integers(0, held, first.size))
    return Trains.of(key // (bins * held), key % (bins * held) + 1, n)


def hear(trains: Trains, owner: IntArray, synapses: FloatArray, rng: np.random.Generator) -> Received:
    """Give every connected pair the train of some cell; a receiving cell hears none twice if there are enough.

    Parameters
    ----------
    trains : Trains
    owner : (n_pair,) array of int
        Receiving cell, not decreasing.
    synapses : (n_pair,) array
    rng : numpy.random.Generator
    """
    pair, step = handed_on(trains, _partners(owner, trains.counts.size, rng))
    return merged(owner[pair], step, synapses[pair])


def _partners(owner: IntArray, size: int, rng: np.random.Generator) -> IntArray:
    """A cell of `size` for every pair, distinct for each owner as far as they reach."""
    _, begin, number = np.unique(owner, return_index=True, return_counts=True)
    found = np.empty(owner.size, np.int64)
    for a, n in zip(begin, number, strict=True):
        rounds = [rng.permutation(size) for _ in range(n // size)] + [rng.choice(size, n % size, replace=False)]
        found[a : a + n] = np.concatenate(rounds)
    return found
