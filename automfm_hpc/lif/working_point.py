"""The working point of a network: rates that reproduce themselves with the inputs they cause, or wanted inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.fixed_points import FixedPoint, self_consistent_rates
from automfm_hpc.lif.inputs import input_statistics
from automfm_hpc.lif.irregularity import cv
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import firing_rate


@dataclass(frozen=True, eq=False)
class WorkingPoint:
    """Rates and inputs of every population.

    Attributes
    ----------
    rates : (n,) array
        Hz.
    mean, sd : (n,) array
        Input, mV.
    tau_syn : (n,) array
        Effective synaptic time constant of the input, ms.
    method : str
        "shift", "expansion" or "second_order".
    fixed_point : FixedPoint
        How the rates were found, and their stability.
    """

    rates: Array
    mean: Array
    sd: Array
    tau_syn: Array
    method: str
    fixed_point: FixedPoint


def working_point(net: LIFNetwork, *, method: str = "shift", fixed_point: FixedPoint | None = None) -> WorkingPoint:
    """Working point of a network, at the fixed point given or the one it relaxes to from silence.

    Raises
    ------
    LIFError
        As `self_consistent_rates`.
    """
    found = self_consistent_rates(net, method=method) if fixed_point is None else fixed_point
    stats = input_statistics(net, found.rates)
    return WorkingPoint(found.rates, stats.mean, stats.sd, stats.tau_syn, method, found)


def cvs(net: LIFNetwork, point: WorkingPoint) -> Array:
    """Coefficients of variation of the interspike intervals of every population (n,)."""
    return cv(point.mean, point.sd, **net.neuron(), tau_syn=point.tau_syn)


@dataclass(frozen=True, eq=False)
class ExternalRates:
    """External rates for a wanted working point.

    Attributes
    ----------
    nu_ext : (m,) array
        Hz.
    rates : (n,) array
        Rates of the populations at the wanted input, Hz.
    error : float
        Root mean square of (input reached - input wanted)/(input wanted), over means and variances.
    """

    nu_ext: Array
    rates: Array
    error: float


def external_rates(
    net: LIFNetwork, mean: ArrayLike, sd: ArrayLike, *, method: str = "shift", tolerance: float = 1e-6
) -> ExternalRates:
    r"""External rates (m,) that give every population the wanted mean and noise amplitude (mV).

    The recurrent input follows from the rates at the wanted input, the rest is linear in the external rates
    and solved by least squares over means and variances (Helias et al. 2013, eq. E1; Senk et al. 2020).

    Raises
    ------
    LIFError
        Where no non-negative external rates come closer than `tolerance`: the sources cannot do it.
    """
    where = "external_rates"
    mu = np.broadcast_to(checks.real(mean, "mean", where=where), (net.size,))
    sigma = np.broadcast_to(checks.at_least(sd, "sd", where=where, strict=True), (net.size,))
    tau = 1e-3 * net.tau_m[:, None]
    rates = firing_rate(mu, sigma, **net.neuron(), tau_syn=_root_mean_tau(net), method=method)
    wanted = np.concatenate([
        mu - net.mean_ext - (tau * net.K * net.J) @ rates,
        sigma**2 - (tau * net.K * net.J**2) @ rates,
    ])  # fmt: skip
    columns = np.vstack([tau * net.K_ext * net.J_ext, tau * net.K_ext * net.J_ext**2])
    scale = np.concatenate([np.maximum(np.abs(mu), sigma), sigma**2])
    nu_ext, *_ = np.linalg.lstsq(columns / scale[:, None], wanted / scale, rcond=None)
    error = float(np.sqrt(np.mean(((columns @ nu_ext - wanted) / scale) ** 2)))
    if error > tolerance or (nu_ext < -1e-9 * np.abs(nu_ext).max()).any():
        best, _ = nnls(columns / scale[:, None], wanted / scale)
        reached = float(np.sqrt(np.mean(((columns @ best - wanted) / scale) ** 2)))
        raise LIFError(
            f"no external rates >= 0 give this working point; the nearest, {np.round(best, 3).tolist()} Hz, "
            f"misses it by {reached:.2g} (relative)",
            where=where,
            remedy="Add an external source of the missing sign, or pass a larger tolerance.",
        )
    return ExternalRates(np.maximum(nu_ext, 0.0), rates, error)


def _root_mean_tau(net: LIFNetwork) -> float:
    """The one synaptic time constant of a network, or LIFError if there are several."""
    every = np.unique(np.concatenate([net.tau_syn, net.tau_syn_ext]))
    if every.size > 1:
        raise LIFError("external_rates needs one synaptic time constant", where="external_rates")
    return float(every[0])
