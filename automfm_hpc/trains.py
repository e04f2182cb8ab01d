"""Spike trains as grid steps: rotated in time, handed on through connections, or drawn anew.

What a cell receives through one projection is a pair of arrays: `owner`, the connected pair that an arrival came
through, and `step`, its time in steps of the resolution, from 1. `summed` makes of it the synapses that arrive at
each cell in each step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from automfm_hpc.spikes import Spikes, isi_cv

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Arrivals = tuple[IntArray, IntArray]
BLUR = 0.5  # ms: standard deviation of the kernel that makes an intensity of a population's spikes
RUN_UP = 50  # intervals from a renewal process's first event to its stationary part
LEAST_CV = 0.02  # more regular trains are taken to be this regular


@dataclass(frozen=True)
class Trains:
    """Spike trains of one population.

    Parameters
    ----------
    steps : (n_spike,) int64 array
        Times in steps, 1 ... n_step, cell by cell.
    first : (n_cell + 1,) int64 array
        Where each cell's spikes begin; the last number is n_spike.
    """

    steps: IntArray
    first: IntArray

    @staticmethod
    def of(cells: IntArray, steps: IntArray, size: int) -> Trains:
        """From spikes in any order."""
        order = np.argsort(cells, kind="stable")
        return Trains(steps[order], np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=size))]))

    @staticmethod
    def recorded(spikes: Spikes, dt: float) -> Trains:
        return Trains.of(spikes.cells, np.rint(spikes.times / dt).astype(np.int64), spikes.size)

    @property
    def counts(self) -> IntArray:
        """Spikes of each cell, shape (n_cell,)."""
        return np.diff(self.first)

    @property
    def cells(self) -> IntArray:
        """The cell of each spike, shape (n_spike,)."""
        return np.repeat(np.arange(self.counts.size), self.counts)


def rotated(trains: Trains, start: int, stop: int, offsets: IntArray) -> Trains:
    """Every train turned in a circle over the steps start+1 ... stop, by an offset (n_cell,) of its own.

    Its spikes there keep their number and, but for the one at the seam, their intervals. The steps before are
    filled with the turned train repeated, so that what is stationary after `start` is so from the first step.
    """
    length = stop - start
    inside = (trains.steps > start) & (trains.steps <= stop)
    cells = trains.cells[inside]
    turned = (trains.steps[inside] - start - 1 + offsets[cells]) % length
    copies = [turned + start + 1 - m * length for m in range(1 + -(-start // length))]
    steps = np.concatenate(copies)
    kept = steps >= 1
    return Trains.of(np.tile(cells, len(copies))[kept], steps[kept], trains.counts.size)


def handed_on(trains: Trains, pre: IntArray) -> Arrivals:
    """The trains of the presynaptic cells `pre` (n_pair,), one after the other."""
    counts = trains.counts[pre]
    owner = np.repeat(np.arange(pre.size), counts)
    begin = trains.first[pre] - np.concatenate([[0], np.cumsum(counts)[:-1]]) if pre.size else counts
    return owner, trains.steps[begin[owner] + np.arange(owner.size)]


@dataclass(frozen=True, eq=False)
class Clock:
    """Time as a population's activity has it: it runs fast where the population fires much.

    Parameters
    ----------
    passed : (n_step + 1,) array
        Part of all spikes that has been fired at the end of each step, from 0 to 1.
    cv : float
        Coefficient of variation of the cells' intervals in this time, cells weighted with their spikes.
    """

    passed: FloatArray
    cv: float

    def pace(self, start: int, stop: int) -> float:
        """How fast it runs from the end of step `start` to that of `stop`, over its mean."""
        share = float(self.passed[stop] - self.passed[start]) * (self.passed.size - 1) / (stop - start)
        return share if share > 0 else 1.0

    def read(self, step: IntArray, rng: np.random.Generator) -> IntArray:
        """The steps at which a train of the clock's own time, in as many steps, really fires."""
        part = (step - rng.random(step.size)) / (self.passed.size - 1)
        return np.clip(np.searchsorted(self.passed, part), 1, self.passed.size - 1).astype(np.int64)


def passed_by(activity: FloatArray, dt: float) -> FloatArray:
    """`Clock.passed` (n_step + 1,) of a population of this activity in steps of dt (ms), up to a factor."""
    density = gaussian_filter1d(activity, BLUR / dt, mode="nearest")
    passed = np.concatenate([[0.0], np.cumsum(density + 1e-9)])
    return np.asarray(passed / passed[-1], float)


def clock_of(trains: Trains, n_step: int, dt: float) -> Clock:
    """The clock of a recorded population; one that is silent has that of a wall."""
    steps = trains.steps[trains.steps <= n_step]
    if not steps.size:
        return Clock(np.linspace(0.0, 1.0, n_step + 1), 1.0)
    passed = passed_by(np.bincount(steps - 1, minlength=n_step).astype(float), dt)
    cells = trains.cells[trains.steps <= n_step]
    cv = isi_cv(cells, passed[steps], trains.counts.size)
    known = np.isfinite(cv)
    weights = np.bincount(cells, minlength=trains.counts.size)[known]
    return Clock(passed, float(np.average(cv[known], weights=weights)) if known.any() else 1.0)


def renewal(rates: FloatArray, cv: float, n_step: int, dt: float, rng: np.random.Generator) -> Arrivals:
    """Independent stationary renewal trains with gamma-distributed intervals; CV 1 is Poisson.

    One long process of unit rate is cut into pieces, one per train, as long as the spikes expected of it. The
    pieces lie in random order, because two that share an interval are not quite independent.

    Parameters
    ----------
    rates : (n_train,) array
        Hz.
    cv : float
        Coefficient of variation of the intervals.
    n_step : int
        Duration in steps.
    dt : float
        ms.
    """
    order = rng.permutation(rates.size)
    expected = rates[order] * (n_step * dt / 1000.0)
    ends = np.cumsum(expected)
    total = float(ends[-1]) if rates.size else 0.0
    shape = max(cv, LEAST_CV) ** -2.0
    events = np.full(1, -float(RUN_UP))
    while events[-1] < total:
        n = int(1.1 * (total - events[-1])) + 2 * RUN_UP
        gaps = rng.standard_exponential(n) if shape == 1.0 else rng.standard_gamma(shape, n) / shape
        events = np.concatenate([events, events[-1] + np.cumsum(gaps)])
    edges = np.searchsorted(events, np.concatenate([[0.0], ends]))
    counts = np.diff(edges)
    which = np.repeat(np.arange(rates.size), counts)
    phase = (events[edges[0] : edges[-1]] - (ends - expected)[which]) / expected[which]
    return order[which], np.clip((phase * n_step).astype(np.int64) + 1, 1, n_step)


def summed(arrivals: Arrivals, post: IntArray, synapses: IntArray | FloatArray, n_target: int,
           n_step: int) -> FloatArray:
    """Synapses that arrive at each target in each step, shape (n_target, n_step); column 0 is step 1.

    Parameters
    ----------
    arrivals : tuple of arrays
        Connected pair and step of each arrival.
    post, synapses : (n_pair,) arrays
        Target and number of synapses of each pair.
    """
    owner, step = arrivals
    weights = synapses.astype(float)[owner]
    flat = np.asarray(np.bincount(post[owner] * n_step + step - 1, weights, n_target * n_step), float)
    return flat.reshape(n_target, n_step)
