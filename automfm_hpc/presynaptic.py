"""What presynaptic cells do that a Poisson train of the mean rate does not: they differ, and they fire regularly.

Cells of one population have different rates, and one that fires at 50 Hz with a coefficient of variation of 0.5 sends
far less noise than a Poisson train. A target that hears few of them feels both. `PresynapticStatistics` holds, for each
source, the spread of rates over cells and the CV as functions of its mean rate, as measured in the spiking network;
`draw_trains` makes independent trains with them: gamma renewal processes of gamma-distributed rates, one per pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import PlanError
from automfm_hpc.trains import renewal

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
FEWEST_RATE = 1e-3  # Hz: below, a source is silent


@dataclass(frozen=True)
class PresynapticStatistics:
    """Spread of rates over cells and regularity of one source, over its mean rate.

    Parameters
    ----------
    source : str
    rate : tuple of float
        Mean rates (Hz), increasing, above 0.
    rate_cv : tuple of float
        Standard deviation over cells of their rates, relative to the mean rate; 0: all alike.
    isi_cv : tuple of float
        Coefficient of variation of a cell's interspike intervals; 1: Poisson.
    """

    source: str
    rate: tuple[float, ...]
    rate_cv: tuple[float, ...]
    isi_cv: tuple[float, ...]

    def __post_init__(self) -> None:
        n = len(self.rate)
        numbers = np.array([*self.rate, *self.rate_cv, *self.isi_cv])
        if not n or len(self.rate_cv) != n or len(self.isi_cv) != n:
            raise PlanError("rate, rate_cv and isi_cv must be equally long, and not empty", where=self.source)
        if not (np.isfinite(numbers).all() and (numbers >= 0).all() and np.all(np.diff([0.0, *self.rate]) > 0)):
            raise PlanError("rates must increase from above 0; no number may be negative or missing", where=self.source)

    def at(self, rate: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`rate_cv` and `isi_cv` at mean rates (Hz), linear between what was measured, constant beyond."""
        return np.interp(rate, self.rate, self.rate_cv), np.interp(rate, self.rate, self.isi_cv)

    def only(self, spread: bool, regularity: bool) -> PresynapticStatistics:
        """The same with one of the two ingredients switched off."""
        n = len(self.rate)
        return PresynapticStatistics(self.source, self.rate, self.rate_cv if spread else (0.0,) * n,
                                     self.isi_cv if regularity else (1.0,) * n)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PresynapticStatistics:
        return PresynapticStatistics(data["source"], *(tuple(data[k]) for k in ("rate", "rate_cv", "isi_cv")))


@dataclass(frozen=True, eq=False)
class Received:
    """Spikes that reach some cells through one channel, on the simulation's grid.

    Parameters
    ----------
    cell : (n_event,) array
        Index of the receiving cell, not decreasing.
    step : (n_event,) array
        Time in steps, 1 or more, increasing for each cell.
    synapses : (n_event,) array
        Synapses that are active together.
    """

    cell: IntArray
    step: IntArray
    synapses: FloatArray


def draw_trains(
    rates: FloatArray, synapses: FloatArray, owner: IntArray, isi_cv: FloatArray, duration: float, dt: float,
    rng: np.random.Generator,
) -> Received:  # fmt: skip
    """Independent gamma renewal processes in equilibrium, one per connected pair, merged for each receiving cell.

    Parameters
    ----------
    rates, isi_cv : (n_pair,) array
        Hz; coefficient of variation of the intervals.
    synapses : (n_pair,) array
    owner : (n_pair,) array of int
        Receiving cell.
    duration, dt : float
        ms.
    rng : numpy.random.Generator
    """
    n_step, alive = round(duration / dt), rates > FEWEST_RATE
    rates, synapses, owner, isi_cv = rates[alive], synapses[alive], owner[alive], isi_cv[alive]
    pairs, steps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for cv in np.unique(isi_cv):  # as many as there are grid points in a chunk
        members = np.flatnonzero(isi_cv == cv)
        which, step = renewal(rates[members], float(cv), n_step, dt, rng)
        pairs.append(members[which])
        steps.append(step)
    pair = np.concatenate(pairs)
    return merged(owner[pair], np.concatenate(steps), synapses[pair])


def merged(cell: IntArray, step: IntArray, synapses: FloatArray) -> Received:
    """Sorted by cell, then time; what arrives in the same step arrives together."""
    span = int(step.max(initial=0)) + 1
    key = cell * span + step
    order = np.argsort(key, kind="stable")
    key, synapses = key[order], synapses[order]
    new = np.concatenate([[True], key[1:] != key[:-1]]) if key.size else np.zeros(0, bool)
    place = np.flatnonzero(new)
    together = np.add.reduceat(synapses, place) if place.size else synapses
    key = key[place]
    return Received(key // span, key % span, together)


def spread_rates(mean: FloatArray, rate_cv: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Rates (Hz) of presynaptic cells: gamma-distributed with these means and relative spreads."""
    cv2 = np.maximum(rate_cv, 1e-6) ** 2
    drawn = rng.standard_gamma(1.0 / cv2) * mean * cv2
    return np.where(rate_cv > 1e-3, drawn, mean)


def statistics_of(found: Iterable[PresynapticStatistics]) -> dict[str, PresynapticStatistics]:
    """By source."""
    return {s.source: s for s in found}
