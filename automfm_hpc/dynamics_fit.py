"""From measured frequency responses to the filters of `dynamics.Dynamics`.

The response of an isolated population to source s at working point k is modelled as

    R_k(f) = A_k P(f) / (1 + 2 pi i f T) [1 + sum_m r_km (1 / (1 + 2 pi i f tau_m) - 1)]

with fixed tau_m, which is linear in r. A_k, the gain at the lowest frequency, is measured, and shrunk to dF/dnu_s as
far as that can be trusted: the mean field takes its gain from the transfer function, and a slope that is a little
wrong must not bend the filter. (A fitted A_k trades with slow poles and comes out up to 30 % off.)

Where the data say nothing, coefficients are drawn to those of cells that follow their transfer function within the
shortest time constant tau_0 (r_0 = 1 - T / tau_0 turns 1 / (1 + s T) into 1 / (1 + s tau_0)), and to those of the
neighbouring working points. How strongly, is chosen by the error at frequencies left out. Real poles cannot follow
the resonance of regular firing at the cell's rate; MODEL_ERROR keeps it from bending the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
SHORTEST, LONGEST, RATIO = 1.0, 100.0, 3.3  # ms, ms, and most from one time constant to the next
GAIN_SPREAD = 0.1  # least part by which a slope of a transfer function may be off
MODEL_ERROR = 0.05  # of a response: added to its standard error
BAND = 50.0  # Hz, up to which the misfit is told
RIDGE = (0.01, 0.1, 1.0, 10.0, 100.0)
SMOOTHING = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


@dataclass(frozen=True, eq=False)
class Measured:
    """Responses of one axis.

    Parameters
    ----------
    frequency : (n_frequency,) array
        Hz.
    pathway : (n_frequency,) array
        P without delays, as the input was given without.
    T : float
        ms.
    slope : (n_point,) array
        dF/dnu_s.
    response : (n_point, n_frequency) array
        Complex; NaN where nothing was measured.
    error : (n_point, n_frequency) array
        Standard error of each part.
    spread : float
        How far, as a part of it, dF/dnu_s may be off.
    """

    frequency: FloatArray
    pathway: ComplexArray
    T: float
    slope: FloatArray
    response: ComplexArray
    error: FloatArray
    spread: float = GAIN_SPREAD

    @property
    def known(self) -> NDArray[np.bool_]:
        """Working points with a measurement, (n_point,)."""
        return np.asarray(np.isfinite(self.response).all(axis=1) & np.isfinite(self.error).all(axis=1))

    @property
    def weighing(self) -> FloatArray:
        """Errors that the fit goes by, (n_point, n_frequency)."""
        return np.asarray(np.hypot(self.error, MODEL_ERROR * np.abs(self.response)))

    @property
    def instant(self) -> ComplexArray:
        """What follows a source if cells answer at once: P / (1 + 2 pi i f T), (n_frequency,)."""
        return np.asarray(self.pathway / (1.0 + 2e-3j * np.pi * self.frequency * self.T))


@dataclass(frozen=True, eq=False)
class Filter:
    """The fitted filter of one axis.

    Parameters
    ----------
    coefficients : (n_point, n_basis) array
        r.
    gain, gain_error : (n_point,) array
        A over dF/dnu_s, and its standard error; NaN without a measurement.
    chi2 : float
        Squared residuals over squared standard errors (with MODEL_ERROR), per degree of freedom.
    freedom : float
        Effective number of coefficients.
    misfit : float
        Root mean square of the residuals beyond their standard errors, as a part of the response, up to BAND.
    ridge, smoothing : float
        The chosen strengths.
    """

    coefficients: FloatArray
    gain: FloatArray
    gain_error: FloatArray
    chi2: float
    freedom: float
    misfit: float
    ridge: float
    smoothing: float


def time_constants(slowest: float = 0.0) -> tuple[float, ...]:
    """Time constants (ms) for cells with that slowest one of their own (ms)."""
    longest = max(LONGEST, 2.0 * slowest)
    n = 1 + int(np.ceil(np.log(longest / SHORTEST) / np.log(RATIO)))
    return tuple(float(t) for t in np.geomspace(SHORTEST, longest, n))


def expected(T: float, taus: Sequence[float]) -> FloatArray:
    """Coefficients of cells that follow their transfer function within the shortest time constant, (n_basis,)."""
    r = np.zeros(len(taus))
    r[0] = min(0.0, 1.0 - T / taus[0])
    return r


def low_passes(frequency: FloatArray, taus: Sequence[float]) -> ComplexArray:
    """1 / (1 + 2 pi i f tau_m) - 1, (n_frequency, n_basis)."""
    s = 2e-3j * np.pi * frequency[:, None]
    return np.asarray(1.0 / (1.0 + s * np.asarray(taus)) - 1.0)


def fit_filter(data: Measured, taus: Sequence[float]) -> Filter:
    """Fit all working points of one axis together; without a measurement, cells answer at once (r = 0)."""
    n_point, n_basis = data.slope.size, len(taus)
    if not data.known.any():
        nothing = np.full(n_point, np.nan)
        return Filter(np.zeros((n_point, n_basis)), nothing, nothing, np.nan, 0.0, np.nan, np.nan, np.nan)
    prior = expected(data.T, taus)
    gain, gain_error = _gains(data)
    problem = _Problem.of(data, gain, prior, taus)
    ridge, smoothing = min(product(RIDGE, SMOOTHING), key=lambda pair: problem.left_out(*pair))
    r = problem.solve(ridge, smoothing).reshape(n_point, n_basis) + prior
    model = gain[:, None] * data.instant * (1.0 + r @ low_passes(data.frequency, taus).T)
    residual, freedom = (data.response - model)[data.known], problem.freedom(ridge, smoothing)
    chi2 = float(np.sum(np.abs(residual / data.weighing[data.known]) ** 2)) / max(2 * residual.size - freedom, 1.0)
    return Filter(r, np.where(data.known, gain / data.slope, np.nan),
                  np.where(data.known, gain_error / np.abs(data.slope), np.nan), chi2, freedom, _misfit(data, residual),
                  ridge, smoothing)


def _misfit(data: Measured, residual: ComplexArray) -> float:
    low = data.frequency <= BAND
    beyond = np.abs(residual[:, low]) ** 2 - 2.0 * data.error[data.known][:, low] ** 2
    return float(np.sqrt(max(np.sum(beyond), 0.0) / np.sum(np.abs(data.response[data.known][:, low]) ** 2)))


def _gains(data: Measured) -> tuple[FloatArray, FloatArray]:
    """A and its standard error, (n_point,): the lowest frequency, and the slope of the transfer function."""
    low = np.where(data.known, (data.response[:, 0] / data.instant[0]).real, data.slope)
    weight = np.where(data.known, (data.error[:, 0] / np.abs(data.instant[0])) ** -2.0, 0.0)
    extra = (data.spread * data.slope) ** -2.0
    return (weight * low + extra * data.slope) / (weight + extra), (weight + extra) ** -0.5


@dataclass(frozen=True, eq=False)
class _Problem:
    """Least squares for r - prior, in real and scaled rows: every measurement is a pair of rows."""

    design: FloatArray
    target: FloatArray
    shrink: FloatArray
    rough: FloatArray

    @staticmethod
    def of(data: Measured, gain: FloatArray, prior: FloatArray, taus: Sequence[float]) -> _Problem:
        n_point, basis = data.slope.size, low_passes(data.frequency, taus)
        n_basis = basis.shape[1]
        rows, target = [], []
        for k in np.flatnonzero(data.known):
            scale = gain[k] * data.instant / data.weighing[k]
            block = np.zeros((data.frequency.size, n_point * n_basis), complex)
            block[:, k * n_basis : (k + 1) * n_basis] = scale[:, None] * basis
            rows.append(block)
            target.append(data.response[k] / data.weighing[k] - scale * (1.0 + basis @ prior))
        design, wanted = np.concatenate(rows), np.concatenate(target)
        difference = np.diff(np.eye(n_point), axis=0)
        rough = np.asarray(np.kron(difference.T @ difference, np.eye(n_basis)), float)
        pair = np.stack([design.real, design.imag], axis=1).reshape(-1, n_point * n_basis)
        return _Problem(pair, np.stack([wanted.real, wanted.imag], axis=1).ravel(), np.eye(n_point * n_basis), rough)

    def _penalty(self, ridge: float, smoothing: float) -> FloatArray:
        return ridge * self.shrink + smoothing * self.rough

    def solve(self, ridge: float, smoothing: float) -> FloatArray:
        normal = self.design.T @ self.design + self._penalty(ridge, smoothing)
        return np.asarray(np.linalg.solve(normal, self.design.T @ self.target))

    def _hat(self, ridge: float, smoothing: float) -> FloatArray:
        normal = self.design.T @ self.design + self._penalty(ridge, smoothing)
        return np.asarray(self.design @ np.linalg.solve(normal, self.design.T))

    def freedom(self, ridge: float, smoothing: float) -> float:
        return float(np.trace(self._hat(ridge, smoothing)))

    def left_out(self, ridge: float, smoothing: float) -> float:
        """Mean squared error at measurements left out of the fit, both parts together (closed form)."""
        hat = self._hat(ridge, smoothing)
        residual = (self.target - hat @ self.target).reshape(-1, 2)
        n = len(residual)
        own = hat.reshape(n, 2, n, 2)[np.arange(n), :, np.arange(n), :]
        errors = np.linalg.solve(np.eye(2) - own, residual[:, :, None])
        return float(np.mean(errors**2))
