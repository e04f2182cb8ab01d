r"""First-order low-pass fits of frequency responses, and the rate model that they define.

H(f) = h/(1 + 2 pi i f tau). The rate model tau_i dr_i/dt = -r_i + sum_j w_ij r_j(t - d) with
w_ij = h_i tau_m,i J_ij K_ij then responds like the spiking network (Senk et al. 2020, Sec. F).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.network import LIFNetwork

TARGETS = ("amplitude", "complex")


@dataclass(frozen=True, eq=False)
class LowPass:
    """Low-pass filters fitted to responses, one per column.

    Attributes
    ----------
    tau : (n,) array
        Time constants, ms.
    gain : (n,) array
        Response at f = 0, Hz/mV.
    error : (n,) array
        Relative standard error of the fit: square root of the summed squares of those of tau and gain.
    """

    tau: Array
    gain: Array
    error: Array

    def response(self, frequency: ArrayLike) -> Array:
        """H(f) in Hz/mV: (..., n) for frequencies (...) in Hz."""
        f = np.asarray(frequency)[..., None]
        return self.gain / (1.0 + 2e-3j * np.pi * f * self.tau)


def fit_low_pass(frequency: ArrayLike, response: ArrayLike, *, target: str = "amplitude") -> LowPass:
    """Least-squares fit of low-pass filters to responses (f, n).

    Parameters
    ----------
    frequency : (f,) array_like
        Hz.
    response : (f, n) or (f,) array_like
        Hz/mV.
    target : {"amplitude", "complex"}
        Fit |H| (as Senk et al. 2020), with the sign of tau from the phase at the highest frequency, or H.

    Raises
    ------
    LIFError
        Shapes that do not fit, fewer than three frequencies, or no convergence.
    """
    where = "fit_low_pass"
    checks.one_of(target, TARGETS, "target", where=where)
    f = checks.real(frequency, "frequency", where=where)
    data = np.asarray(response, dtype=complex)
    data = data[:, None] if data.ndim == 1 else data
    if f.ndim != 1 or f.size < 3 or data.shape[0] != f.size:
        raise LIFError(
            f"{f.shape} frequencies do not fit a response of shape {data.shape}; at least 3 are needed", where=where
        )
    fits = [_fit_one(2e-3 * np.pi * f, column, target) for column in data.T]
    return LowPass(*(np.array(values) for values in zip(*fits, strict=True)))


def _fit_one(omega: Array, data: Array, target: str) -> tuple[float, float, float]:
    """tau (ms), gain and relative error for one response; omega in 1/ms."""
    size = float(np.abs(data).max())
    if size == 0.0:
        raise LIFError("the response is zero: nothing to fit", where="fit_low_pass")
    sign = 1.0 if data[np.argmin(np.abs(omega))].real >= 0.0 else -1.0
    middle = max(float(np.abs(omega).max()) / 3.0, 1e-12)

    def residual(p: Array) -> Array:
        model = p[1] / (1.0 + 1j * omega * p[0] / middle)
        gap = np.abs(model) - np.abs(data) / size if target == "amplitude" else model - data / size
        return gap if target == "amplitude" else np.concatenate([gap.real, gap.imag])

    start = [1.0, 1.0 if target == "amplitude" else sign]
    found = least_squares(residual, start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    if not found.success:
        raise LIFError(f"the fit did not converge ({found.message})", where="fit_low_pass")
    spread = 2.0 * found.cost / max(found.fun.size - 2, 1) * np.linalg.pinv(found.jac.T @ found.jac)
    error = float(np.sqrt(np.sum(np.diag(spread) / found.x**2)))
    tau, gain = found.x[0] / middle, found.x[1] * size
    if target == "amplitude":
        tau, gain = abs(tau), abs(gain) * sign
        tau = -tau if data[np.argmax(omega)].imag * gain > 0.0 else tau
    return float(tau), float(gain), error


def rate_weights(net: LIFNetwork, fit: LowPass) -> Array:
    """Weights w_ij = h_i tau_m,i J_ij K_ij of the rate model, dimensionless (n, n)."""
    return 1e-3 * (fit.gain * net.tau_m)[:, None] * net.J * net.K
