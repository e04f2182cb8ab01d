"""From measured frequency responses of isolated cells to lag and adaptation (`cell_response`).

At a working point the response to source s, divided by that of its synapses and by dF/dnu_s, is modelled as

    A_s H,    H as in `cell_response.shape_of` without a pause,

with one rho, tau, T for all sources: excitation and inhibition pass the same cell. The gains A_s should be 1; they are
fitted, because a slope of the transfer function that is a few percent wrong must not bend the dynamics, held near 1,
because noisy responses must not pass for adaptation, and told. Where the data say little (tau of cells that do not
adapt, T of cells that answer at once) weak priors decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from automfm_hpc.cell_response import shape_of
from automfm_hpc.errors import FitError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
LAGS, SLOWS, RHOS = (0.05, 20.0), (3.0, 1000.0), (0.3, 10.0)  # ms, ms, 1: what a fit may find
PRIOR_LAG = (1.0, 1.5)  # ms; standard deviation of its logarithm
PRIOR_RHO = (1.0, 1.0)
PRIOR_GAIN = 0.1  # of A_s around 1: slopes of fitted transfer functions are that good
PRIOR_SLOW = 1.0  # standard deviation of log tau around the cells' own slow time constant
GAINS = (0.2, 5.0)
BAND = 60.0  # Hz: faster responses are those of single spikes
MODEL_ERROR = 0.03  # of a response, added to its standard error: three numbers cannot follow everything


@dataclass(frozen=True, eq=False)
class FittedResponse:
    """One population at one working point.

    Parameters
    ----------
    lag, slow : float
        ms.
    adaptation : float
        rho.
    gain : (n_axis,) array
        Measured over the slope of the transfer function, at low frequency; NaN where nothing was measured.
    chi2 : float
        Squared residuals over squared errors, per number measured.
    slow_error : float
        Standard deviation of ln tau, all other numbers being free.
    """

    lag: float
    adaptation: float
    slow: float
    gain: FloatArray
    chi2: float
    slow_error: float


def fit_response(frequency: FloatArray, response: ComplexArray, error: FloatArray, slow: float) -> FittedResponse:
    """Fit one working point.

    Parameters
    ----------
    frequency : (n_frequency,) array
        Hz.
    response : (n_axis, n_frequency) array
        Response beyond the synapses over dF/dnu of each source; NaN where nothing was measured.
    error : (n_axis, n_frequency) array
        Standard error of its real and of its imaginary part.
    slow : float
        The cells' slowest time constant (ms), where tau is looked for first.

    Raises
    ------
    FitError
        If no source was measured.
    """
    use = frequency <= BAND
    known = np.isfinite(response).all(axis=1) & np.isfinite(error).all(axis=1)
    if not known.any():
        raise FitError("no source of it was measured at a working point", where="cell response")
    data, weight = response[known][:, use], 1.0 / np.hypot(error[known], MODEL_ERROR * np.abs(response[known]))[:, use]
    n = len(data)

    def residuals(p: FloatArray) -> FloatArray:
        shape = shape_of(frequency[use], np.exp(p[2]), p[0], np.exp(p[1]))[:, 0]
        away = (data - p[3:, None] * shape) * weight
        prior = [(p[0] - PRIOR_RHO[0]) / PRIOR_RHO[1], (p[1] - np.log(slow)) / PRIOR_SLOW,
                 (p[2] - np.log(PRIOR_LAG[0])) / PRIOR_LAG[1]]
        return np.concatenate([away.real.ravel(), away.imag.ravel(), prior, (p[3:] - 1.0) / PRIOR_GAIN])

    low = np.array([RHOS[0], np.log(SLOWS[0]), np.log(LAGS[0])] + [GAINS[0]] * n)
    high = np.array([RHOS[1], np.log(SLOWS[1]), np.log(LAGS[1])] + [GAINS[1]] * n)
    starts = [[rho, np.log(part * slow), 0.0] + [1.0] * n for rho in (1.2, 2.5) for part in (0.5, 2.0)]
    inside = [np.clip(s, low + 1e-6, high - 1e-6) for s in starts]
    best = min((least_squares(residuals, s, bounds=(low, high)) for s in inside), key=lambda r: float(r.cost))
    gain = np.full(len(response), np.nan)
    gain[known] = best.x[3:]
    chi2 = float(np.sum(residuals(best.x)[: 2 * data.size] ** 2)) / (2 * data.size)
    slow_error = float(np.sqrt(np.linalg.inv(best.jac.T @ best.jac)[1, 1]))
    return FittedResponse(float(np.exp(best.x[2])), float(best.x[0]), float(np.exp(best.x[1])), gain, chi2, slow_error)
