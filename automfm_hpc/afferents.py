"""What reaches isolated cells: Poisson input as rates, and trains where presynaptic cells are few and known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.presynaptic import PresynapticStatistics, Received, draw_trains, spread_rates
from automfm_hpc.remap import Cell, CellInputs
from automfm_hpc.wiring import whole_counts

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
FEW_PAIRS = 64  # in-degree up to which presynaptic cells are simulated one by one


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
    """Channels whose presynaptic cells get a train each: few cells of a source whose statistics are known."""
    return [j for j, c in enumerate(cell.channels) if c.source in presynaptic and c.K <= FEW_PAIRS]


def afferents(
    cell: Cell, inputs: CellInputs, rates: FloatArray, presynaptic: Mapping[str, PresynapticStatistics],
    duration: float, dt: float, rng: np.random.Generator,
) -> Afferents:  # fmt: skip
    """Draw what reaches each cell.

    Few presynaptic cells of known statistics get trains of their own. Many are one Poisson train, whose rate varies
    from cell to cell by what the mean of so many presynaptic rates varies.

    Parameters
    ----------
    cell : Cell
    inputs : CellInputs
        Of n cells.
    rates : (n_cell, n_axis) array
        Mean rate (Hz) of each source.
    presynaptic : Mapping
        Source -> its statistics; sources without are Poisson trains of equal rates.
    duration, dt : float
        ms.
    rng : numpy.random.Generator
    """
    per_channel = rates[:, cell.channel_axis]
    arrivals, trains = inputs.events * per_channel, {}
    single = explicit(cell, presynaptic)
    for j, channel in enumerate(cell.channels):
        if channel.source not in presynaptic:
            continue
        rate_cv, isi_cv = presynaptic[channel.source].at(per_channel[:, j])
        if j in single:
            owner, synapses = _pairs(cell, inputs, j, rng)
            drawn = spread_rates(per_channel[owner, j], rate_cv[owner], rng)
            trains[j] = draw_trains(drawn, synapses, owner, isi_cv[owner], duration, dt, rng)
            arrivals[:, j] = 0.0
        else:
            spread = rate_cv / np.sqrt(np.maximum(inputs.pairs[:, j], 1.0))
            arrivals[:, j] *= np.maximum(1.0 + spread * rng.standard_normal(len(spread)), 0.0)
    return Afferents(arrivals, trains)


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
