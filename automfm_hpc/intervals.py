"""Interspike intervals as a few quantiles: made from recorded ones, and trains drawn from them.

The coefficient of variation says how much noise a train carries at low frequencies, not how long its longest pauses
are, and it is in the pauses of its few inhibitory cells that a granule cell fires. So a cell's intervals are kept as
the quantiles at LEVELS of their distribution, in units of their mean; between them the quantile function is linear.
`stationary` draws renewal trains with such intervals, in equilibrium from the start: the interval that contains the
start is drawn in proportion to its length, the start anywhere in it (Cox, Renewal theory, 1962, chapter 5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
CLASSES = 64  # of equal probability, within which a quantile function is linear
LEVELS = np.array([0, 2, 6, 12, 20, 28, 36, 44, 52, 58, 61, 63, 64]) / CLASSES
WIDTHS = np.diff(LEVELS)
BLOCK = 65536  # intervals drawn at once: they fit into a core's cache
STRETCHES = 8  # steps in which a spread is reached, where intervals must not become negative


def quantiles_of(intervals: FloatArray, weights: FloatArray, cv: float) -> FloatArray:
    """Quantiles at LEVELS of intervals, shape (n_level,), with mean 1 and coefficient of variation `cv`.

    The outermost two are not the extremes of the sample, which grow with its size: they are where the means of the
    first and of the last class are right.
    """
    order = np.argsort(intervals, kind="stable")
    x, share = intervals[order], weights[order] / weights.sum()
    passed = np.cumsum(share)
    inner = np.interp(LEVELS[1:-1], passed - 0.5 * share, x)
    part = np.interp(LEVELS[[1, -2]], np.concatenate([[0.0], passed]), np.concatenate([[0.0], np.cumsum(share * x)]))
    shortest, longest = part[0] / WIDTHS[0], (share @ x - part[1]) / WIDTHS[-1]
    least = min(max(2.0 * shortest - inner[0], 0.0), inner[0])
    return spread_to(np.concatenate([[least], inner, [max(2.0 * longest - inner[-1], inner[-1])]]), cv)


def moments(quantiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and coefficient of variation of distributions given by quantiles at LEVELS, shape (..., n_level)."""
    a, b = quantiles[..., :-1], quantiles[..., 1:]
    mean = 0.5 * (a + b) @ WIDTHS
    variance = (a * a + a * b + b * b) @ WIDTHS / 3.0 - mean**2
    return mean, np.sqrt(np.maximum(variance, 0.0)) / np.where(mean > 0, mean, 1.0)


def spread_to(quantiles: FloatArray, cv: float) -> FloatArray:
    """The distribution stretched about its mean to this coefficient of variation, and of mean 1; none is negative."""
    for _ in range(STRETCHES):
        mean, found = moments(quantiles)
        factor = cv / found if found > 0 else 0.0
        quantiles = np.maximum(1.0 + factor * (quantiles / mean - 1.0), 0.0)
    return np.asarray(quantiles / moments(quantiles)[0], float)


def stationary(rates: FloatArray, shape: IntArray, quantiles: FloatArray, n_step: int, dt: float,
               rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Independent renewal trains in equilibrium: the train and the step, 1 ... n_step, of every spike.

    Parameters
    ----------
    rates : (n_train,) array
        Hz.
    shape : (n_train,) array of int
        Which of the distributions each train's intervals have.
    quantiles : (n_shape, n_level) array
        At LEVELS, in units of the mean interval, of mean 1.
    n_step : int
        Duration in steps.
    dt : float
        ms.
    """
    span = rates * (n_step * dt / 1000.0)  # in mean intervals
    tables, due = _tables(quantiles), _residual(shape, quantiles, rng)
    trains, steps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    cuts = np.flatnonzero(np.diff(np.cumsum(span + 2.0) // BLOCK)) + 1
    for block in np.split(np.arange(rates.size), cuts):
        active = block[due[block] < span[block]]
        while active.size:
            which, when, due[active] = _next(active, due[active], span[active], shape[active], tables, rng)
            trains.append(which)
            steps.append((when / span[which] * n_step).astype(np.int64) + 1)
            active = active[due[active] < span[active]]
    return np.concatenate(trains), np.minimum(np.concatenate(steps), n_step)


def _next(active: IntArray, due: FloatArray, span: FloatArray, shape: IntArray, tables: tuple[FloatArray, FloatArray],
          rng: np.random.Generator) -> tuple[IntArray, FloatArray, FloatArray]:
    """Spikes of some trains, from the one that is due, about as many as are left, and then the one that is due."""
    left = span - due
    number = (left + 0.5 * np.sqrt(left)).astype(np.int64) + 1
    last = np.cumsum(number)
    u = rng.random(int(last[-1])) * CLASSES
    column = u.astype(np.int64) + np.repeat(shape * CLASSES, number)
    passed = np.cumsum(tables[0][column] + tables[1][column] * u)
    ends = passed[last - 1]
    begins = np.concatenate([[0.0], ends[:-1]])
    when = np.empty_like(passed)  # of the spike before each interval
    when[1:] = passed[:-1]
    when[0] = 0.0
    when += np.repeat(due - begins, number)
    kept = when < np.repeat(span, number)
    return np.repeat(active, number)[kept], when[kept], due + (ends - begins)


def _tables(quantiles: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Offset and slope of the quantile functions over CLASSES times the level, each (n_shape * CLASSES,)."""
    slope = np.diff(quantiles, axis=1) / (WIDTHS * CLASSES)
    offset = quantiles[:, :-1] - slope * (LEVELS[:-1] * CLASSES)
    repeats = np.rint(WIDTHS * CLASSES).astype(np.int64)
    return np.repeat(offset, repeats, axis=1).ravel(), np.repeat(slope, repeats, axis=1).ravel()


def _residual(shape: IntArray, quantiles: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Time from the start to the first spike, in mean intervals."""
    a, b = quantiles[:, :-1], quantiles[:, 1:]
    covered = np.cumsum(0.5 * (a + b) * WIDTHS, axis=1)
    covered /= covered[:, -1:]
    segment = (rng.random(shape.size)[:, None] >= covered[shape, :-1]).sum(axis=1)
    low, high = a[shape, segment], b[shape, segment]
    length = np.sqrt(low**2 + rng.random(shape.size) * (high**2 - low**2))
    return np.asarray(length * rng.random(shape.size), float)
