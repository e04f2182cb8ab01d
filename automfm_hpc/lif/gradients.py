r"""Gradients of self-consistent rates and of spectra with respect to the parameters of a network.

nu = F(nu, p) gives dnu/dp = (1 - dF/dnu)^-1 dF/dp. dF/dp is analytic for connectivity and input (K, J, K_ext,
J_ext, nu_ext, mean_ext) where all synapses share one time constant; for the parameters of the cells it is a
Richardson-extrapolated central difference of F at fixed rates, good to about 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.fixed_points import transfer
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import rate_derivatives
from automfm_hpc.lif.spectra import power_spectra
from automfm_hpc.lif.working_point import WorkingPoint, working_point

INPUT_FIELDS = ("K", "J", "K_ext", "J_ext", "nu_ext", "mean_ext")
CELL_FIELDS = ("V_th", "V_reset", "tau_m", "t_ref", "tau_syn")
FIELDS = (*INPUT_FIELDS, *CELL_FIELDS)


def rate_gradient(net: LIFNetwork, point: WorkingPoint, field: str) -> Array:
    """dnu_i/dp for every entry of a field of the network: (n, *shape of the field), Hz per inner unit.

    A change of J or of a time constant is taken at fixed values of the other fields (J does not follow
    tau_syn).

    Raises
    ------
    LIFError
        Unknown field, or a network at a bifurcation.
    """
    checks.one_of(field, FIELDS, "field", where="rate_gradient")
    single = np.ptp(np.concatenate([net.tau_syn, net.tau_syn_ext])) == 0.0
    direct = _input_part(net, point, field) if field in INPUT_FIELDS and single else _numeric_part(net, point, field)
    response = np.eye(net.size) - point.fixed_point.jacobian
    try:
        flat = np.linalg.solve(response, direct.reshape(net.size, -1))
    except np.linalg.LinAlgError:
        raise LIFError("1 - dF/dnu is singular: the network is at a bifurcation", where="rate_gradient") from None
    return flat.reshape(direct.shape)


def _input_part(net: LIFNetwork, point: WorkingPoint, field: str) -> Array:
    """dF/dp at fixed rates for a field that enters through mean and variance of the input."""
    slope = rate_derivatives(point.mean, point.sd, **net.neuron(), tau_syn=point.tau_syn, method=point.method)
    if field == "mean_ext":
        return np.diag(slope.d_mean)
    mean, variance = (1e-3 * net.tau_m * d for d in (slope.d_mean, slope.d_variance))
    outer = field.endswith("_ext")
    K, J = (net.K_ext, net.J_ext) if outer else (net.K, net.J)
    nu = net.nu_ext if outer else point.rates
    if field == "nu_ext":
        return K * (J * mean[:, None] + J**2 * variance[:, None])
    if field.startswith("K"):
        rows = nu * (J * mean[:, None] + J**2 * variance[:, None])
    else:
        rows = K * nu * (mean[:, None] + 2.0 * J * variance[:, None])
    out = np.zeros((net.size, *K.shape))
    out[np.arange(net.size), np.arange(net.size)] = rows
    return out


def _numeric_part(net: LIFNetwork, point: WorkingPoint, field: str) -> Array:
    """dF/dp at fixed rates by Richardson-extrapolated central differences."""
    value = np.asarray(getattr(net, field))
    out = np.empty((net.size, *value.shape))
    for place in np.ndindex(value.shape):
        out[(slice(None), *place)] = _difference(
            lambda changed: transfer(changed, point.rates, method=point.method)[0], net, field, place
        )
    return out


def _difference(function: Callable[[LIFNetwork], Array], net: LIFNetwork, field: str, place: tuple[int, ...]) -> Array:
    """d function(net)/d net.field[place]; one-sided of second order where the field would turn negative."""
    value = np.asarray(getattr(net, field))

    def at(step: float) -> Array:
        changed = np.array(value)
        changed[place] += step
        return np.asarray(function(net.replace(**{field: changed})))

    h = 1e-3 * max(abs(float(value[place])), 1e-2)
    if field in ("t_ref", "K", "K_ext", "nu_ext", "tau_syn") and value[place] < 2.0 * h:
        h *= 1e-2
        return (-11.0 * at(0.0) + 18.0 * at(h) - 9.0 * at(2 * h) + 2.0 * at(3 * h)) / (6.0 * h)
    return (8.0 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12.0 * h)


def spectrum_gradient(
    net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike, field: str, place: tuple[int, ...]
) -> Array:
    """Derivative of the power spectra (f, n) by one entry of a field, the working point following.

    Raises
    ------
    LIFError
        Unknown field, or no sizes N.
    """
    checks.one_of(field, FIELDS, "field", where="spectrum_gradient")
    f = checks.real(frequency, "frequency", where="spectrum_gradient")

    def spectra(changed: LIFNetwork) -> Array:
        return power_spectra(changed, working_point(changed, method=point.method), f, check_stability=False)

    return _difference(spectra, net, field, place)
