"""What presynaptic cells do that a Poisson train of the mean rate does not: they differ, and they fire regularly.

Cells of one population have different rates, and one that fires at 50 Hz with a coefficient of variation of 0.5 sends
far less noise than a Poisson train. A target that hears few of them feels both. `PresynapticStatistics` holds, for each
source, the spread of rates over cells and the CV as functions of its mean rate, as measured in the spiking network,
and some exemplars of its cells. `PresynapticStatistics.draw` takes one for each pair of cells, and `draw_trains` makes
independent renewal trains with their rates and intervals; without exemplars rates and intervals are gamma-distributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import PlanError
from automfm_hpc.intervals import LEVELS, moments, stationary
from automfm_hpc.trains import renewal

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
FEWEST_RATE = 1e-3  # Hz: below, a source is silent
GAMMA = -1  # shape of intervals of which no more than their CV is known


@dataclass(frozen=True)
class Exemplars:
    """Cells that stand for a source at one mean rate, all with the same probability.

    Parameters
    ----------
    rate : tuple of float
        In units of the mean rate; their mean is 1.
    intervals : tuple of tuple of float
        For each cell the quantiles at `intervals.LEVELS` of its interspike intervals, in units of their mean; empty:
        gamma-distributed.
    """

    rate: tuple[float, ...]
    intervals: tuple[tuple[float, ...], ...] = ()

    def problem(self) -> str | None:
        """What is wrong with the numbers, if anything."""
        numbers = np.array([*self.rate, *(q for row in self.intervals for q in row)])
        if not self.rate or not (np.isfinite(numbers).all() and (numbers >= 0).all()):
            return "exemplars must have rates, and no number may be negative or missing"
        wrong = any(len(q) != LEVELS.size for q in self.intervals)
        if wrong or (self.intervals and len(self.intervals) != len(self.rate)):
            return f"every exemplar needs {LEVELS.size} quantiles of its intervals"
        if any(np.any(np.diff(q) < 0) for q in self.intervals):
            return "quantiles must not decrease"
        means = [float(np.mean(self.rate)), *(float(moments(np.array(q))[0]) for q in self.intervals)]
        if max(abs(mean - 1.0) for mean in means) > 0.01:
            return "rates and intervals of exemplars must have the mean 1"
        return None


@dataclass(frozen=True, eq=False)
class Drawn:
    """Presynaptic cells, one per connected pair.

    Parameters
    ----------
    rate : (n_pair,) array
        Hz.
    isi_cv : (n_pair,) array
        Coefficient of variation of gamma-distributed intervals.
    shape : (n_pair,) array of int
        Row of `quantiles` that the intervals follow instead, or GAMMA.
    quantiles : (n_shape, n_level) array
    """

    rate: FloatArray
    isi_cv: FloatArray
    shape: IntArray
    quantiles: FloatArray

    def of(self, chosen: Any) -> Drawn:
        """Some of the pairs."""
        return Drawn(self.rate[chosen], self.isi_cv[chosen], self.shape[chosen], self.quantiles)

    @staticmethod
    def joined(parts: Sequence[Drawn]) -> Drawn:
        """One after the other; all of the same source."""
        rate, isi_cv, shape = (np.concatenate([getattr(p, k) for p in parts]) for k in ("rate", "isi_cv", "shape"))
        return Drawn(rate, isi_cv, shape, parts[0].quantiles)

    @staticmethod
    def gamma(rate: FloatArray, isi_cv: FloatArray) -> Drawn:
        """Cells of which no more is known than these."""
        return Drawn(rate, isi_cv, np.full(rate.shape, GAMMA), np.zeros((0, LEVELS.size)))


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
    exemplars : tuple of Exemplars
        At each mean rate; empty: gamma-distributed rates and intervals.
    """

    source: str
    rate: tuple[float, ...]
    rate_cv: tuple[float, ...]
    isi_cv: tuple[float, ...]
    exemplars: tuple[Exemplars, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.rate)
        numbers = np.array([*self.rate, *self.rate_cv, *self.isi_cv])
        if not n or len(self.rate_cv) != n or len(self.isi_cv) != n:
            raise PlanError("rate, rate_cv and isi_cv must be equally long, and not empty", where=self.source)
        if not (np.isfinite(numbers).all() and (numbers >= 0).all() and np.all(np.diff([0.0, *self.rate]) > 0)):
            raise PlanError("rates must increase from above 0; no number may be negative or missing", where=self.source)
        if self.exemplars and len(self.exemplars) != n:
            raise PlanError("there must be exemplars at every mean rate, or none", where=self.source)
        for problem in filter(None, (e.problem() for e in self.exemplars)):
            raise PlanError(problem, where=self.source)
        if len({bool(e.intervals) for e in self.exemplars}) > 1:
            raise PlanError("all exemplars must have intervals, or none", where=self.source)

    def at(self, rate: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`rate_cv` and `isi_cv` at mean rates (Hz), linear between what was measured, constant beyond."""
        return np.interp(rate, self.rate, self.rate_cv), np.interp(rate, self.rate, self.isi_cv)

    def only(self, spread: bool, regularity: bool) -> PresynapticStatistics:
        """The same with one of the two ingredients switched off."""
        n = len(self.rate)
        kept = tuple(Exemplars(e.rate if spread else (1.0,) * len(e.rate), e.intervals if regularity else ())
                     for e in self.exemplars)
        return PresynapticStatistics(self.source, self.rate, self.rate_cv if spread else (0.0,) * n,
                                     self.isi_cv if regularity else (1.0,) * n, kept)

    def draw(self, mean: FloatArray, rng: np.random.Generator) -> Drawn:
        """A presynaptic cell for each pair, where the source has these mean rates (Hz), shape (n_pair,).

        Between two mean rates exemplars of the one or the other are taken, with the probabilities of linear
        interpolation; beyond, those of the nearest.
        """
        rate_cv, isi_cv = self.at(mean)
        if not self.exemplars:
            return Drawn.gamma(spread_rates(mean, rate_cv, rng), isi_cv)
        place = np.interp(mean, self.rate, np.arange(len(self.rate))) + rng.random(mean.size)
        number = np.array([len(e.rate) for e in self.exemplars])
        at = np.minimum(place.astype(np.int64), number.size - 1)
        which = (np.cumsum(number) - number)[at] + (rng.random(mean.size) * number[at]).astype(np.int64)
        rates = np.concatenate([e.rate for e in self.exemplars])
        rows = [q for e in self.exemplars for q in e.intervals]
        if not rows:
            return Drawn.gamma(rates[which] * mean, isi_cv)
        return Drawn(rates[which] * mean, isi_cv, which, np.array(rows))

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        if not self.exemplars:  # plans without keep the identity they had before there were any
            del data["exemplars"]
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PresynapticStatistics:
        cells = (Exemplars(tuple(e["rate"]), tuple(map(tuple, e["intervals"]))) for e in data.get("exemplars", ()))
        rate, rate_cv, isi_cv = (tuple(data[k]) for k in ("rate", "rate_cv", "isi_cv"))
        return PresynapticStatistics(data["source"], rate, rate_cv, isi_cv, tuple(cells))


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
    drawn: Drawn, synapses: FloatArray, owner: IntArray, duration: float, dt: float, rng: np.random.Generator,
) -> Received:  # fmt: skip
    """Independent renewal processes in equilibrium, one per connected pair, merged for each receiving cell.

    Parameters
    ----------
    drawn : Drawn
        The presynaptic cells.
    synapses : (n_pair,) array
    owner : (n_pair,) array of int
        Receiving cell.
    duration, dt : float
        ms.
    rng : numpy.random.Generator
    """
    n_step, alive = round(duration / dt), drawn.rate > FEWEST_RATE
    known = np.flatnonzero(alive & (drawn.shape != GAMMA))
    which, step = stationary(drawn.rate[known], drawn.shape[known], drawn.quantiles, n_step, dt, rng)
    pairs, steps = [known[which]], [step]
    rest = alive & (drawn.shape == GAMMA)
    for cv in np.unique(drawn.isi_cv[rest]):  # as many as there are grid points in a chunk
        members = np.flatnonzero(rest & (drawn.isi_cv == cv))
        which, step = renewal(drawn.rate[members], float(cv), n_step, dt, rng)
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
