"""What reaches isolated cells: Poisson input as rates, and trains where presynaptic cells are few and known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.presynaptic import Drawn, PresynapticStatistics, Received, draw_trains
from automfm_hpc.remap import Cell, CellInputs
from automfm_hpc.wiring import whole_counts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
FEW_PAIRS = 64  # in-degree up to which presynaptic cells are simulated one by one
MORE_PAIRS = 512  # the same where they fire more regularly than REGULAR
REGULAR = 0.8  # coefficient of variation of interspike intervals, mean over working points


@dataclass(frozen=True, eq=False)
class Pairs:
    """Presynaptic cells of one channel that are simulated one by one, one per connected pair: shape (n_pair,).

    Parameters
    ----------
    owner : array of int
        Receiving cell.
    synapses : array
        Synapses of the pair.
    drawn : Drawn
        What the presynaptic cells are like.
    """

    owner: IntArray
    synapses: FloatArray
    drawn: Drawn

    def of(self, chosen: IntArray, size: int) -> Pairs:
        """Those of some of `size` cells, increasing, which are numbered anew."""
        number = np.full(size, -1)
        number[chosen] = np.arange(len(chosen))
        kept = number[self.owner] >= 0
        return Pairs(number[self.owner][kept], self.synapses[kept], self.drawn.of(kept))


@dataclass(frozen=True, eq=False)
class Senders:
    """Who sends to isolated cells: what differs from cell to cell and stays, before any spike is drawn.

    Parameters
    ----------
    arrivals : (n_cell, n_channel) array
        Rate (Hz) of the Poisson train of each cell and channel; 0 where presynaptic cells stand instead.
    pairs : Mapping
        Channel number -> Pairs.
    """

    arrivals: FloatArray
    pairs: Mapping[int, Pairs]

    def of(self, chosen: IntArray) -> Senders:
        """Who sends to some of the cells; their numbers must increase."""
        size = len(self.arrivals)
        return Senders(self.arrivals[chosen], {j: p.of(chosen, size) for j, p in self.pairs.items()})

    def without(self, channels: Iterable[int]) -> Senders:
        """All but the presynaptic cells of some channels."""
        left_out = set(channels)
        return Senders(self.arrivals, {j: p for j, p in self.pairs.items() if j not in left_out})

    @staticmethod
    def joined(parts: Sequence[Senders]) -> Senders:
        """One after the other."""
        first = np.cumsum([0, *(len(part.arrivals) for part in parts)])
        pairs = {}
        for j in parts[0].pairs:
            some = [part.pairs[j] for part in parts]
            owner = np.concatenate([p.owner + a for p, a in zip(some, first, strict=False)])
            synapses = np.concatenate([p.synapses for p in some])
            pairs[j] = Pairs(owner, synapses, Drawn.joined([p.drawn for p in some]))
        return Senders(np.concatenate([part.arrivals for part in parts]), pairs)

    def drive(self, cell: Cell, inputs: CellInputs) -> FloatArray:
        """Mean input of each cell and channel, peak size times arrivals per second, shape (n_cell, n_channel)."""
        total = self.arrivals * inputs.quantum
        for j, pairs in self.pairs.items():
            sent = np.bincount(pairs.owner, pairs.synapses * pairs.drawn.rate, len(total))
            total[:, j] = cell.channels[j].weight * sent
        return total


@dataclass(frozen=True, eq=False)
class Afferents:
    """What reaches isolated cells: the Poisson part as rates, the rest as trains.

    Parameters
    ----------
    arrivals : (n_cell, n_channel) array
        Rate (Hz) of the Poisson train of each cell and channel; 0 where trains stand instead.
    trains : Mapping
        Channel number -> Received.
    """

    arrivals: FloatArray
    trains: Mapping[int, Received]


def explicit(cell: Cell, presynaptic: Mapping[str, PresynapticStatistics]) -> list[int]:
    """Channels whose presynaptic cells get a train each: few cells of a source whose statistics are known.

    Many trains together are a Poisson train only over times shorter than their intervals. A membrane and adaptation
    look further: with 100 inhibitory and 400 excitatory cells of coefficient of variation 0.7, Poisson trains were
    seen to give rates up to 36 % higher.
    """
    most = {name: MORE_PAIRS if np.mean(p.isi_cv) < REGULAR else FEW_PAIRS for name, p in presynaptic.items()}
    return [j for j, c in enumerate(cell.channels) if most.get(c.source, 0) >= c.K]


def draw_senders(
    cell: Cell, inputs: CellInputs, rates: FloatArray, presynaptic: Mapping[str, PresynapticStatistics],
    rng: np.random.Generator,
) -> Senders:  # fmt: skip
    """Draw who sends to each cell.

    Presynaptic cells of known statistics are drawn one by one where `explicit` says so. Others are one Poisson train,
    whose rate varies from cell to cell by what the mean of so many presynaptic rates varies.

    Parameters
    ----------
    cell : Cell
    inputs : CellInputs
        Of n cells.
    rates : (n_cell, n_axis) array
        Mean rate (Hz) of each source.
    presynaptic : Mapping
        Source -> its statistics; sources without are Poisson trains of equal rates.
    rng : numpy.random.Generator
    """
    per_channel = rates[:, cell.channel_axis]
    arrivals, pairs = inputs.events * per_channel, {}
    single = explicit(cell, presynaptic)
    for j, channel in enumerate(cell.channels):
        if channel.source not in presynaptic:
            continue
        known = presynaptic[channel.source]
        if j in single:
            owner, synapses = _pairs(cell, inputs, j, rng)
            pairs[j] = Pairs(owner, synapses, known.draw(per_channel[owner, j], rng))
            arrivals[:, j] = 0.0
        else:
            rate_cv, _ = known.at(per_channel[:, j])
            spread = rate_cv / np.sqrt(np.maximum(inputs.pairs[:, j], 1.0))
            arrivals[:, j] *= np.maximum(1.0 + spread * rng.standard_normal(len(spread)), 0.0)
    return Senders(arrivals, pairs)


def send(senders: Senders, duration: float, dt: float, rng: np.random.Generator) -> Afferents:
    """Draw the trains of the presynaptic cells; duration and dt in ms."""
    trains = {j: draw_trains(p.drawn, p.synapses, p.owner, duration, dt, rng) for j, p in senders.pairs.items()}
    return Afferents(senders.arrivals, trains)


def afferents(
    cell: Cell, inputs: CellInputs, rates: FloatArray, presynaptic: Mapping[str, PresynapticStatistics],
    duration: float, dt: float, rng: np.random.Generator,
) -> Afferents:  # fmt: skip
    """Draw what reaches each cell: `draw_senders`, then `send`."""
    return send(draw_senders(cell, inputs, rates, presynaptic, rng), duration, dt, rng)


def _pairs(cell: Cell, inputs: CellInputs, j: int, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Receiving cell and synapses of each pair of a channel.

    Real cells are known by the merged trains they hear (`CellInputs.events`), drawn ones by their pairs.
    """
    channel, real = cell.channels[j], cell.real is not None
    number = (inputs.events if real else inputs.pairs)[:, j]
    K = np.floor(number + rng.random(len(number))).astype(np.int64)
    owner = np.repeat(np.arange(len(K)), K)
    synapses: FloatArray
    if real or channel.synapses.sd == 0:
        synapses = (inputs.quantum[:, j] / channel.weight)[owner]
    else:
        more = whole_counts(channel.synapses.mean - 1.0, channel.synapses.sd, owner.size, rng)
        synapses = 1.0 + more.astype(float)
    return owner.astype(np.int64), synapses
