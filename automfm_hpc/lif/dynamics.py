r"""Time-dependent rates of a network under time-dependent external input.

    tau_i dnu_i/dt = -nu_i + F_i(mu_i(t), sigma_i(t)),   tau_syn,j dy_ij/dt = -y_ij + nu_j(t - d_ij),

where mean and variance of the input follow the delayed and synaptically filtered rates y. At rest this is
the self-consistent solution, and near it the rate model of `lowpass` if tau is that of the low-pass fit.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.inputs import rates_of
from automfm_hpc.lif.lowpass import fit_low_pass
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import method_code, point
from automfm_hpc.lif.spectra import responses
from automfm_hpc.lif.working_point import WorkingPoint, working_point


@dataclass(frozen=True, eq=False)
class RateDynamics:
    """Rates over time.

    Attributes
    ----------
    time : (t,) array
        ms, from 0.
    rates : (t, n) array
        Hz.
    tau : (n,) array
        Time constants used, ms.
    """

    time: Array
    rates: Array
    tau: Array


@jit
def _integrate(
    by_mean,
    by_variance,
    outer_mean,
    outer_variance,
    root,
    V_th,
    V_reset,
    tau_m,
    t_ref,
    keep,
    pull,
    lag,
    method,
    rates,
):
    """Fill `rates` (t, n) from its first row: exponential Euler steps, delays in whole steps."""
    steps, n = rates.shape
    y = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            y[i, j] = rates[0, j]
    for k in range(steps - 1):
        for i in range(n):
            mean = outer_mean[k, i]
            variance = outer_variance[k, i]
            for j in range(n):
                past = rates[max(k - lag[i, j], 0), j]
                y[i, j] = past + (y[i, j] - past) * keep[j]
                mean += by_mean[i, j] * y[i, j]
                variance += by_variance[i, j] * y[i, j]
            sd = math.sqrt(variance) if variance > 0.0 else 0.0
            nu, _, _, _ = point(mean, sd, V_th[i], V_reset[i], tau_m[i], t_ref[i], root[i] * root[i], method)
            rates[k + 1, i] = rates[k, i] + (1e3 * nu - rates[k, i]) * pull[i]


def response_times(net: LIFNetwork, working: WorkingPoint) -> Array:
    """Time constants (ms) of the low-pass filters nearest to the responses of the populations, 1 to 200 Hz."""
    f = np.arange(1.0, 201.0)
    return np.abs(fit_low_pass(f, responses(net, working, f), target="complex").tau)


def rate_dynamics(
    net: LIFNetwork, duration: float, *, nu_ext: ArrayLike | None = None, dt: float = 0.1,
    start: ArrayLike | None = None, tau: ArrayLike | None = None, method: str = "shift",
) -> RateDynamics:  # fmt: skip
    """Integrate the rates of a network.

    Parameters
    ----------
    net : LIFNetwork
    duration, dt : float
        ms. Delays are rounded to whole steps. The error is of first order in dt.
    nu_ext : (t, m) or (m,) array_like, optional
        External rates, Hz, one row per step (duration/dt rows); those of the network by default.
    start : (n,) array_like, optional
        Rates at and before t = 0, Hz; by default the working point of the network.
    tau : (n,) array_like, optional
        Time constants of the rates, ms; by default `response_times` at the working point.
    method : {"shift", "expansion", "second_order"}

    Raises
    ------
    LIFError
        Times that are not positive, input of the wrong shape, unknown method.
    """
    where = "rate_dynamics"
    code = method_code(method, where=where)
    length, step = (
        float(checks.at_least(v, w, where=where, strict=True)) for v, w in ((duration, "duration"), (dt, "dt"))
    )
    steps = round(length / step)
    working = working_point(net, method=method)
    first = working.rates if start is None else rates_of(net, np.broadcast_to(start, (net.size,)), where=where)
    times = response_times(net, working) if tau is None else checks.at_least(tau, "tau", where=where, strict=True)
    times = np.array(np.broadcast_to(times, (net.size,)))
    outer = checks.at_least(net.nu_ext if nu_ext is None else nu_ext, "nu_ext", where=where)
    try:
        outer = np.broadcast_to(outer, (steps, net.nu_ext.size))
    except ValueError:
        raise LIFError(
            f"nu_ext has shape {outer.shape}, expected ({steps}, {net.nu_ext.size}) or ({net.nu_ext.size},)",
            where=where,
        ) from None
    scale = 1e-3 * net.tau_m
    rates = np.empty((steps + 1, net.size))
    rates[0] = first
    root = np.sqrt(working.tau_syn)
    _integrate(
        scale[:, None] * net.K * net.J, scale[:, None] * net.K * net.J**2,
        outer @ (net.K_ext * net.J_ext).T * scale + net.mean_ext, outer @ (net.K_ext * net.J_ext**2).T * scale,
        root, np.array(net.V_th), np.array(net.V_reset), np.array(net.tau_m), np.array(net.t_ref),
        np.exp(-step / np.maximum(net.tau_syn, 1e-3 * step)), -np.expm1(-step / times),
        np.rint(net.delay / step).astype(np.int64), code, rates,
    )  # fmt: skip
    return RateDynamics(step * np.arange(steps + 1), rates, times)
