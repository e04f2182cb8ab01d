r"""Networks resolved to single neurons: pairwise effective connectivity, its spectral bound, covariances.

w_ij = dnu_i/dr_j, r_j the rate of one synapse; integrated covariances of spike counts per time

    C = (1 - w)^-1 D (1 - w)^-T,   D diagonal such that C_ii = CV_i^2 nu_i

(linear response, spike trains taken as renewal processes; Layer et al. 2023 eqs. 9 and 11 as cited by NNMT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.rates import input_rate_derivative


def pairwise_effective_connectivity(
    mean: ArrayLike, sd: ArrayLike, weights: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike,
    tau_m: ArrayLike, t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0, method: str = "shift",
) -> Array:  # fmt: skip
    """Derivative of the rate of every neuron by that of every presynaptic one, dimensionless (n, n).

    Parameters
    ----------
    mean, sd : (n,) array_like
        Input of every neuron, mV.
    weights : (n, n) array_like
        mV, [target, source], zero where there is no synapse.
    V_th, V_reset, tau_m, t_ref, tau_syn : array_like
        One number or one per neuron.

    Raises
    ------
    LIFError
        Non-square weights, and as `firing_rate`.
    """
    J = checks.square(weights, "weights", where="pairwise_effective_connectivity")
    rows = [_column(value, J.shape[0]) for value in (mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn)]
    m, s, high, low, tau, ref, syn = rows
    return input_rate_derivative(m, s, J, V_th=high, V_reset=low, tau_m=tau, t_ref=ref, tau_syn=syn, method=method)


def _column(value: ArrayLike, n: int) -> Array:
    array = np.asarray(value, dtype=float)
    if array.ndim > 1 or array.size not in (1, n):
        raise LIFError(f"expected one number or {n}, one per neuron, got shape {array.shape}", where="pairwise")
    return np.broadcast_to(array.reshape(-1), (n,))[:, None]


def spectral_bound(connectivity: ArrayLike) -> float:
    """Largest real part of the eigenvalues of a pairwise effective connectivity; below 1 if stable."""
    return float(np.linalg.eigvals(checks.square(connectivity, "connectivity", where="spectral_bound")).real.max())


@dataclass(frozen=True, eq=False)
class Covariances:
    """Integrated covariances of the spike trains.

    Attributes
    ----------
    matrix : (n, n) array
        Hz; the diagonal holds the spike count variances per time.
    noise : (n,) array
        Strength D of each neuron's own noise, Hz.
    """

    matrix: Array
    noise: Array


def pairwise_covariances(connectivity: ArrayLike, rates: ArrayLike, cvs: ArrayLike) -> Covariances:
    """Covariances from pairwise effective connectivity (n, n), rates (n,) in Hz and CVs (n,).

    Raises
    ------
    LIFError
        Non-square connectivity, negative rates or CVs, sizes that differ, an unstable network (spectral
        bound of 1 or more), or CVs that no positive noise can give.
    """
    where = "pairwise_covariances"
    w = checks.square(connectivity, "connectivity", where=where)
    nu, irregular = checks.at_least(rates, "rates", where=where), checks.at_least(cvs, "cvs", where=where)
    if nu.shape != (w.shape[0],) or irregular.shape not in ((), nu.shape):
        raise LIFError(f"connectivity is {w.shape}, rates {nu.shape}, cvs {irregular.shape}", where=where)
    bound = spectral_bound(w)
    if bound >= 1.0:
        raise LIFError(
            f"the network is unstable (spectral bound {bound:.4g} >= 1)", where=where, remedy="Weaken the weights."
        )
    A = np.linalg.inv(np.eye(w.shape[0]) - w)
    noise = np.linalg.solve(A**2, np.broadcast_to(irregular, nu.shape) ** 2 * nu)
    if (noise < 0.0).any():
        raise LIFError(
            f"{int((noise < 0).sum())} neurons would need negative noise to have these CVs", where=where,
            remedy="Check CVs and rates, or weaken the weights.",
        )  # fmt: skip
    return Covariances((A * noise) @ A.T, noise)
