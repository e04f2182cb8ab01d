r"""Populations whose cells differ: rates averaged over distributed thresholds and inputs.

Thresholds and mean inputs vary from cell to cell as independent Gaussians, so the distance from mean input to
threshold has the variance s_th^2 + s_mu^2, and the reset moves with the mean input only. In a random network
the spread of the mean input follows from the rates themselves (Roxin et al. 2011,
doi 10.1523/JNEUROSCI.1677-11.2011):

    s_mu,i^2 = tau_m^2 sum_j K_ij J_ij^2 (<nu_j^2> - b <nu_j>^2),

b = 1 for fixed in-degrees, 0 for Poisson-distributed ones. Averages are Gauss-Hermite sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.inputs import effective_tau_syn, mean_input, sd_input
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import firing_rate

INDEGREES = ("fixed", "poisson")
_Z, _P = np.polynomial.hermite_e.hermegauss(48)
_P = _P / _P.sum()


@dataclass(frozen=True, eq=False)
class DistributedRates:
    """Rates over the cells of each population.

    Attributes
    ----------
    mean, sd : array
        Mean and standard deviation over cells, Hz.
    input_spread : array
        Standard deviation over cells of the mean input, mV.
    """

    mean: Array
    sd: Array
    input_spread: Array


def distributed_rate(
    mean: ArrayLike, sd: ArrayLike, *, input_spread: ArrayLike = 0.0, threshold_spread: ArrayLike = 0.0,
    V_th: ArrayLike, V_reset: ArrayLike, tau_m: ArrayLike, t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0,
    method: str = "shift",
) -> DistributedRates:  # fmt: skip
    """Mean and spread of the rate over cells with Gaussian mean inputs and thresholds (mV); all broadcast.

    Raises
    ------
    LIFError
        Negative spreads, a threshold spread that reaches the reset (4 standard deviations), and as
        `firing_rate`.
    """
    where = "distributed_rate"
    s_mu = checks.at_least(input_spread, "input_spread", where=where)[..., None, None]
    s_th = checks.at_least(threshold_spread, "threshold_spread", where=where)[..., None, None]
    high, low = (v[..., None, None] for v in checks.potentials(V_th, V_reset, where=where))
    if (high - 4.0 * s_th <= low).any():
        raise LIFError("thresholds are spread down to the reset", where=where, remedy="Reduce threshold_spread.")
    wide = (np.asarray(v, dtype=float)[..., None, None] for v in (mean, sd, tau_m, t_ref, tau_syn))
    mu, sigma, tau, ref, syn = wide
    z = np.maximum(_Z[None, :], (low - high) * 0.999 / np.where(s_th > 0, s_th, np.inf))
    rate = firing_rate(
        mu + s_mu * _Z[:, None], sigma, V_th=high + s_th * z, V_reset=low, tau_m=tau, t_ref=ref, tau_syn=syn,
        method=method,
    )  # fmt: skip
    weights = _P[:, None] * _P[None, :]
    first = (rate * weights).sum(axis=(-2, -1))
    second = (rate**2 * weights).sum(axis=(-2, -1))
    spread = np.broadcast_to(np.asarray(input_spread, dtype=float), np.shape(first))
    return DistributedRates(first, np.sqrt(np.maximum(second - first**2, 0.0)), np.array(spread))


def distributed_working_point(
    net: LIFNetwork, *, threshold_spread: ArrayLike = 0.0, indegrees: str = "fixed",
    external_indegrees: str | None = None, method: str = "shift", tolerance: float = 1e-10, max_steps: int = 5000,
) -> DistributedRates:  # fmt: skip
    """Self-consistent mean and spread of the rates of a random network, by damped iteration from silence.

    Parameters
    ----------
    net : LIFNetwork
    threshold_spread : array_like
        Standard deviation of the thresholds within each population, mV.
    indegrees : {"fixed", "poisson"}
        Whether every cell has exactly K inputs or a Poisson number of mean K.
    external_indegrees : {"fixed", "poisson"} or None
        The same for K_ext; None: as `indegrees`.
    method : {"shift", "expansion", "second_order"}
        Treatment of exponential synapses, as in `firing_rate`.

    Raises
    ------
    LIFError
        Unknown word, negative spread, no convergence.
    """
    where = "distributed_working_point"
    share = _share_kept(indegrees, "indegrees", where)
    share_ext = share if external_indegrees is None else _share_kept(external_indegrees, "external_indegrees", where)
    gain = (1e-3 * net.tau_m[:, None] * net.J) ** 2 * net.K
    outer = ((1e-3 * net.tau_m[:, None] * net.J_ext * net.nu_ext) ** 2 * net.K_ext).sum(axis=1) * (1.0 - share_ext)
    nu, square, step, last = np.zeros(net.size), np.zeros(net.size), 0.3, np.inf
    for _ in range(max_steps):
        spread = np.sqrt(np.maximum(gain @ (square - share * nu**2) + outer, 0.0))
        found = distributed_rate(
            mean_input(net, nu), sd_input(net, nu), input_spread=spread, threshold_spread=threshold_spread,
            **net.neuron(), tau_syn=effective_tau_syn(net, nu), method=method,
        )  # fmt: skip
        change = found.mean - nu
        error = float((np.abs(change) / (found.mean + 1e-6)).max())
        drift = float((np.abs(found.sd**2 + found.mean**2 - square) / (square + 1e-6)).max())
        if max(error, drift) <= tolerance:
            return found
        step = min(0.5, 1.05 * step) if error < last else max(1e-3, 0.6 * step)
        last = error
        square = square + step * (found.sd**2 + found.mean**2 - square)
        nu = nu + step * change
    raise LIFError(f"no convergence (relative residual {last:.2g})", where=where, remedy="Allow more steps.")


def _share_kept(indegrees: str, name: str, where: str) -> float:
    """b of the module docstring."""
    return 1.0 if checks.one_of(indegrees, INDEGREES, name, where=where) == "fixed" else 0.0
