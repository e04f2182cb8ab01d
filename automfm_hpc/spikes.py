"""What spike trains say: rates, regularity, variability, correlation, activity over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
MIN_ISI = 4  # interspike intervals a cell needs to count for the coefficient of variation


@dataclass(frozen=True)
class Spikes:
    """Spikes of one population in a window.

    Parameters
    ----------
    cells : (n_spike,) int array
        Index of the cell, 0 ... size - 1.
    times : (n_spike,) array
        ms since the window's start.
    size : int
        Cells.
    duration : float
        ms.
    """

    cells: IntArray
    times: FloatArray
    size: int
    duration: float

    def between(self, start: float, stop: float) -> Spikes:
        """The spikes with start < time <= stop (ms)."""
        inside = (self.times > start) & (self.times <= stop)
        return Spikes(self.cells[inside], self.times[inside] - start, self.size, stop - start)


def cell_rates(spikes: Spikes) -> FloatArray:
    """Rate (Hz) of every cell, silent ones included, shape (size,)."""
    return np.asarray(np.bincount(spikes.cells, minlength=spikes.size) * 1000.0 / spikes.duration, float)


def isi_cv(cells: IntArray, times: FloatArray, n: int) -> FloatArray:
    """Coefficient of variation of each cell's interspike intervals, shape (n,), NaN below MIN_ISI intervals."""
    order = np.lexsort((times, cells))
    who, when = cells[order], times[order]
    same = who[1:] == who[:-1]
    owner, interval = who[1:][same], np.diff(when)[same]
    count = np.bincount(owner, minlength=n)
    safe = np.maximum(count, 1)
    mean = np.bincount(owner, interval, n) / safe
    variance = np.bincount(owner, interval**2, n) / safe - mean**2
    cv = np.sqrt(np.maximum(variance, 0.0)) / np.where(mean > 0, mean, 1.0)
    return np.where(count >= MIN_ISI, cv, np.nan)


def activity(spikes: Spikes, bin_ms: float = 1.0) -> FloatArray:
    """Population rate (Hz) in bins of `bin_ms`, shape (duration / bin,)."""
    n = round(spikes.duration / bin_ms)
    index = np.minimum((np.maximum(spikes.times - 1e-6, 0.0) / bin_ms).astype(np.int64), n - 1)
    return np.asarray(np.bincount(index, minlength=n) * 1000.0 / (bin_ms * spikes.size), float)


def counts(spikes: Spikes, bin_ms: float, cells: int | None = None) -> FloatArray:
    """Spike counts (n_cell, n_bin); of the first `cells` cells."""
    size = min(spikes.size, cells or spikes.size)
    n = int(spikes.duration / bin_ms + 1e-9)
    index = (np.maximum(spikes.times - 1e-6, 0.0) / bin_ms).astype(np.int64)
    keep = (index < n) & (spikes.cells < size)
    flat = np.bincount(spikes.cells[keep] * n + index[keep], minlength=size * n)
    return flat.reshape(size, n).astype(float)


def fano_factor(spikes: Spikes, bin_ms: float = 100.0) -> float:
    """Variance over mean of the counts in windows, averaged over cells that fire; NaN if none does."""
    c = counts(spikes, bin_ms)
    if c.shape[1] < 2:
        return float("nan")
    mean = c.mean(axis=1)
    firing = mean > 0
    return float((c[firing].var(axis=1, ddof=1) / mean[firing]).mean()) if firing.any() else float("nan")


def pair_correlation(spikes: Spikes, bin_ms: float = 5.0, cells: int = 2000) -> float:
    """Mean correlation coefficient of the counts of two cells, from the variance of their sum; NaN if undefined."""
    c = counts(spikes, bin_ms, cells)
    if c.shape[1] < 2:
        return float("nan")
    sd = c.std(axis=1)
    firing = sd > 0
    if firing.sum() < 2:
        return float("nan")
    z = (c[firing] - c[firing].mean(axis=1, keepdims=True)) / sd[firing, None]
    n = int(firing.sum())
    return float((z.sum(axis=0).var() - n) / (n * (n - 1)))


def smooth(rate: FloatArray, sigma_ms: float, bin_ms: float = 1.0) -> FloatArray:
    """Gaussian kernel of `sigma_ms` over the last axis, ends reflected: the PSTH's stated kernel."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(rate, sigma_ms / bin_ms, axis=-1, mode="reflect"))
