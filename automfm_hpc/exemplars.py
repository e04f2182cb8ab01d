"""A few cells that stand for a population that sends: their rates, and the shape of their intervals.

A recording of seconds holds ten or twenty intervals of a cell: too few to say how long its longest are. Cells are put
in order of their rates and into strata of equal numbers; a stratum is an exemplar, with the mean rate of its cells and
the intervals of all of them, each in units of its own cell's mean, and at least FEWEST of them: those of neighbours in
rate come in where they are fewer. Cells too slow to have intervals get those of the slowest that have some.

Two effects of short recordings are mended. A long interval fits into the window in fewer places: one of length x counts
1 / (T - x) in a window T. And intervals vary less around the mean of their own few than around the true one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gamma

from automfm_hpc.intervals import LEVELS, STRETCHES, quantiles_of
from automfm_hpc.presynaptic import Exemplars
from automfm_hpc.spikes import MIN_ISI, Spikes, cell_rates

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
EXEMPLARS = 14  # of one recording
FEWEST = 40  # intervals of an exemplar
LONGEST = 0.9  # of the window: longer intervals count no more than these
LEAST_CV = 0.02  # more regular cells are taken to be this regular
DECIMALS = 3
FINE = 4096  # values that a distribution given by a formula is made of


def exemplars(spikes: Spikes) -> FloatArray:
    """Rate (Hz) and interval quantiles of the exemplars, from slow to fast, shape (EXEMPLARS, 1 + n_level).

    Rows are NaN where there are fewer cells, quantiles where the population has too few intervals.
    """
    rates, found = cell_rates(spikes), np.full((EXEMPLARS, 1 + LEVELS.size), np.nan)
    strata = np.array_split(np.argsort(rates, kind="stable"), min(EXEMPLARS, spikes.size))
    interval, variance, weight, ends = _in_order(spikes, np.concatenate(strata))
    first = 0
    for row, stratum in zip(found, strata, strict=False):
        row[0] = rates[stratum].mean()
        begin, first = first, first + stratum.size
        if interval.size >= FEWEST:
            part = _at_least(int(ends[begin]), int(ends[first]), interval.size)
            w = weight[part]
            row[1:] = quantiles_of(interval[part], w, float(np.sqrt(w @ variance[part] / w.sum())))
    return found


def pooled(recordings: FloatArray, rate_cv: float, isi_cv: float) -> Exemplars:
    """Exemplars of several recordings at the same drive, each relative to the mean rate of its own.

    Parameters
    ----------
    recordings : (n_recording, EXEMPLARS, 1 + n_level) array
        As from `exemplars`; at least one of them with spikes.
    rate_cv : float
        The spread of the rates themselves, over their mean: counts of a short window spread more.
    isi_cv : float
        For exemplars without intervals, which get gamma-distributed ones.
    """
    mean = np.nanmean(recordings[..., 0], axis=1, keepdims=True)
    fires = (mean > 0) & np.isfinite(recordings[..., 0])
    relative = _spread_to((recordings[..., 0] / np.where(mean > 0, mean, 1.0))[fires], rate_cv)
    quantiles = recordings[..., 1:][fires]
    unknown = ~np.isfinite(quantiles).all(axis=1)
    if unknown.any():
        quantiles[unknown] = _gamma(max(isi_cv, LEAST_CV))
    return Exemplars(tuple(np.round(relative, DECIMALS).tolist()),
                     tuple(map(tuple, np.round(quantiles, DECIMALS).tolist())))


def _spread_to(relative: FloatArray, cv: float) -> FloatArray:
    """Numbers stretched about their mean to this coefficient of variation, and of mean 1; none is negative."""
    for _ in range(STRETCHES):
        mean, sd = relative.mean(), relative.std()
        relative = np.maximum(1.0 + (cv * mean / sd if sd > 0 else 0.0) * (relative / mean - 1.0), 0.0)
    return relative / relative.mean()


def _gamma(cv: float) -> FloatArray:
    x = gamma.ppf((np.arange(FINE) + 0.5) / FINE, cv**-2.0) * cv**2
    return quantiles_of(x, np.ones(FINE), cv)


def _at_least(a: int, b: int, size: int) -> slice:
    """The range a ... b of `size`, widened to FEWEST."""
    if b - a < FEWEST:
        a = min(max((a + b - FEWEST) // 2, 0), size - FEWEST)
        b = a + FEWEST
    return slice(a, b)


def _in_order(spikes: Spikes, order: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, IntArray]:
    """Intervals in units of their cell's mean, their squared deviation, weight, and how many the first k cells have.

    Cells come in the order given; those with fewer than MIN_ISI intervals are left out.
    """
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    by_cell = np.lexsort((spikes.times, rank[spikes.cells]))
    who, when = rank[spikes.cells][by_cell], spikes.times[by_cell]
    same = who[1:] == who[:-1]
    owner, interval = who[1:][same], np.diff(when)[same]
    n = np.bincount(owner, minlength=order.size)
    kept = n[owner] >= MIN_ISI
    owner, interval, n = owner[kept], interval[kept], np.where(n >= MIN_ISI, n, 0)
    weight = 1.0 / (1.0 - np.minimum(interval / spikes.duration, LONGEST))
    total = np.bincount(owner, weight, order.size)
    mean = np.bincount(owner, weight * interval, order.size) / np.maximum(total, 1.0)
    x = interval / mean[owner]
    variance = (x - 1.0) ** 2 * (n / np.maximum(n - 1.0, 1.0))[owner]
    return x, variance, weight, np.concatenate([[0], np.cumsum(n)])
