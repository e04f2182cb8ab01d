r"""Mean and noise amplitude of the input of each population of a network, in the diffusion approximation.

    mu_i = tau_m (sum_j K_ij J_ij nu_j + sum_k K_ik J_ik nu_k) + R I,
    sigma_i^2 = tau_m (sum_j K_ij J_ij^2 nu_j + sum_k K_ik J_ik^2 nu_k),

j over populations, k over external ones (Amit & Brunel 1997). tau_m is that of the target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.network import LIFNetwork


@dataclass(frozen=True)
class InputStatistics:
    """Mean and noise amplitude of the input and the effective synaptic time constant, all (..., n).

    Attributes
    ----------
    mean, sd : array
        mV; sd is sqrt(2) times the standard deviation of the free membrane potential.
    tau_syn : array
        ms.
    """

    mean: Array
    sd: Array
    tau_syn: Array


def rates_of(net: LIFNetwork, rates: ArrayLike, *, where: str) -> Array:
    """Rates as a float array (..., n) with entries >= 0, or LIFError."""
    nu = checks.at_least(rates, "rates", where=where)
    if nu.ndim == 0 or nu.shape[-1] != net.size:
        raise LIFError(f"rates have shape {nu.shape}, expected {net.size} per network", where=where)
    return nu


def mean_contributions(net: LIFNetwork, rates: ArrayLike) -> Array:
    """Mean input (mV) of each target from each source: (..., n, n + m), external sources last."""
    nu = rates_of(net, rates, where="mean_contributions")
    own = net.K * net.J * nu[..., None, :]
    outer = np.broadcast_to(net.K_ext * net.J_ext * net.nu_ext, (*nu.shape, net.nu_ext.size))
    return 1e-3 * net.tau_m[:, None] * np.concatenate([own, outer], axis=-1)


def current_contributions(net: LIFNetwork, rates: ArrayLike) -> Array:
    """Mean input current (pA) of each target from each source, constant current apart: (..., n, n + m)."""
    if net.C_m is None:
        raise LIFError("currents need the membrane capacitance C_m", where="current_contributions")
    return mean_contributions(net, rates) * (net.C_m / net.tau_m)[:, None]


def variance_contributions(net: LIFNetwork, rates: ArrayLike) -> Array:
    """Variance of the input (mV^2) of each target from each source: (..., n, n + m), external sources last."""
    nu = rates_of(net, rates, where="variance_contributions")
    own = net.K * net.J**2 * nu[..., None, :]
    outer = np.broadcast_to(net.K_ext * net.J_ext**2 * net.nu_ext, (*nu.shape, net.nu_ext.size))
    return 1e-3 * net.tau_m[:, None] * np.concatenate([own, outer], axis=-1)


def mean_input(net: LIFNetwork, rates: ArrayLike) -> Array:
    """Mean input (mV) of every population for given rates (..., n) in Hz."""
    return mean_contributions(net, rates).sum(axis=-1) + net.mean_ext


def sd_input(net: LIFNetwork, rates: ArrayLike) -> Array:
    """Noise amplitude (mV) of the input of every population for given rates (..., n) in Hz."""
    return np.sqrt(variance_contributions(net, rates).sum(axis=-1))


def effective_tau_syn(net: LIFNetwork, rates: ArrayLike) -> Array:
    r"""Synaptic time constant (ms) whose shift of the threshold stands for a mixture of synapses: (..., n).

    sqrt(tau) = sum_k sigma_k^2 sqrt(tau_k) / sum_k sigma_k^2 over the sources k, exact for equal time
    constants. For a mixture it is an interpolation; tests/lif compares it with NEST.
    """
    variance = variance_contributions(net, rates)
    total = variance.sum(axis=-1)
    root = np.sqrt(np.concatenate([net.tau_syn, net.tau_syn_ext]))
    largest = root.max()
    return np.where(total > 0.0, (variance @ root) / np.where(total > 0.0, total, 1.0), largest) ** 2


def input_statistics(net: LIFNetwork, rates: ArrayLike) -> InputStatistics:
    """Mean, noise amplitude and effective synaptic time constant for given rates (..., n) in Hz."""
    return InputStatistics(mean_input(net, rates), sd_input(net, rates), effective_tau_syn(net, rates))
