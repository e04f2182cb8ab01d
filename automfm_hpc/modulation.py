"""A presynaptic rate modulated by a sum of sinusoids, and what it reveals of a cell.

All frequencies are odd multiples of one over the period. What a cell does with the square of its input (sums and
differences of two of them, twice one of them) then lies at even multiples, where nothing is measured: only distortion
of the third order is left, which falls with the square of the amplitude. The phases keep the crest low, so that the
modulation is strong and the rate stays positive (Schoukens, Pintelon & Rolain 2012, doi 10.1002/9781118287422).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
WANTED = (0.1, 0.3, 0.5, 1.5, 2.5, 4.0, 6.0, 9.0, 13.0, 19.0, 27.0, 39.0, 56.0, 80.0)  # Hz
PERIOD = 2000.0  # ms; a multiple of it where cells adapt slowly
SLOW = 20.0  # a period is at least as many of the cells' slowest time constants
HOLD = 0.5  # ms for which the generators keep a rate
PHASE_DRAWS = 500
SWING = 0.2
DEEPEST = 0.8  # of the rate: the lowest momentary rate is 0.2 of the mean


@dataclass(frozen=True, eq=False)
class Multisine:
    """Rate nu (1 + sum_f depth_f cos(2 pi f t + phase_f)) of one source.

    Parameters
    ----------
    frequency : (n_frequency,) array
        Hz, odd multiples of 1000/period.
    depth : (n_frequency,) array
        Amplitudes, as a part of the rate.
    phase : (n_frequency,) array
        rad.
    period : float
        ms.
    """

    frequency: FloatArray
    depth: FloatArray
    phase: FloatArray
    period: float

    def __call__(self, time: FloatArray) -> FloatArray:
        """The rate at times (n,) in ms, as a multiple of its mean."""
        angle = 2e-3 * np.pi * np.multiply.outer(np.asarray(time, float), self.frequency) + self.phase
        return np.asarray(1.0 + np.cos(angle) @ self.depth)

    def held(self) -> tuple[FloatArray, FloatArray]:
        """The times (ms) of one period at which the held rate changes, and its values."""
        starts = np.asarray(np.arange(round(self.period / HOLD)) * HOLD, float)
        return starts, self(starts + 0.5 * HOLD)

    def input(self) -> ComplexArray:
        """Complex amplitudes of the held rate, as a part of the mean."""
        return np.asarray(self.depth * np.exp(1j * self.phase) * np.sinc(self.frequency * HOLD / 1000.0))


def period_for(slowest: float) -> float:
    """A period (ms) whose lowest frequency is slow for cells with that slowest time constant (ms)."""
    return float(PERIOD * np.ceil(max(1.0, SLOW * slowest / PERIOD)))


def odd_frequencies(period: float = PERIOD, wanted: tuple[float, ...] = WANTED) -> FloatArray:
    """The nearest odd multiples of 1000/period (Hz), each once."""
    odd = 2 * np.floor(np.asarray(wanted) * period / 2000.0).astype(np.int64) + 1
    return np.asarray(np.unique(odd) * (1000.0 / period), float)


def design(rate: float, slope: float, target: float, transmitted: ComplexArray, frequency: FloatArray, seed: int,
           period: float = PERIOD, swing: float = SWING) -> Multisine:
    """A modulation that is as deep as it may be without leaving the linear range.

    Parameters
    ----------
    rate, target : float
        Mean rates (Hz) of the source and of the cells driven.
    slope : float
        Expected d target / d rate.
    transmitted : (n_frequency,) array, complex
        Expected attenuation at each frequency: half of it (in decibels) is made up for by deeper modulation.
    frequency : (n_frequency,) array
        Hz.
    seed : int
        Of the phases.
    period : float
        ms.
    swing : float
        Wanted standard deviation over time of the output, as a part of its mean.
    """
    shape = 1.0 / np.sqrt(np.maximum(np.abs(transmitted), 0.05))
    phase = _flat_phases(shape, frequency, period, seed)
    unit = Multisine(frequency, shape, phase, period)
    crest = float(np.abs(unit.held()[1] - 1.0).max())
    effect = abs(slope) * rate * np.sqrt(0.5 * np.sum((shape * np.abs(transmitted)) ** 2))
    factor = DEEPEST / crest
    if effect * factor > swing * target:
        factor = swing * target / effect
    return Multisine(frequency, shape * factor, phase, period)


def _flat_phases(shape: FloatArray, frequency: FloatArray, period: float, seed: int) -> FloatArray:
    """Of random phases those with the lowest crest."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0.0, 2.0 * np.pi, (PHASE_DRAWS, frequency.size))
    time = np.arange(0.0, period, 250.0 / frequency.max())
    carrier = np.exp(2e-3j * np.pi * np.multiply.outer(frequency, time)) * shape[:, None]
    crest = np.abs((np.exp(1j * phases) @ carrier).real).max(axis=1)
    return np.asarray(phases[np.argmin(crest)])


def fourier(cells: NDArray[np.int64], times: FloatArray, n_cell: int, window: float,
            frequency: FloatArray) -> ComplexArray:
    """Complex amplitudes (Hz) of every cell's spike train over a window of whole periods, (n_cell, n_frequency).

    A rate a cos(2 pi f t + p) has the amplitude a exp(i p).

    Parameters
    ----------
    cells, times : (n_spike,) arrays
        Who spiked, and when (ms).
    window : float
        ms.
    frequency : (n_frequency,) array
        Hz.
    """
    out = np.empty((n_cell, frequency.size), complex)
    for k, f in enumerate(frequency):
        angle = 2e-3 * np.pi * f * times
        out[:, k] = np.bincount(cells, np.cos(angle), n_cell) - 1j * np.bincount(cells, np.sin(angle), n_cell)
    return np.asarray(out * (2000.0 / window), complex)
