r"""Stationary firing rates of leaky integrate-and-fire neurons and their derivatives.

A neuron driven by Gaussian white noise of mean mu and standard deviation sigma,
tau_m dV/dt = -V + mu + sigma sqrt(tau_m) xi(t), fires at the inverse of Siegert's mean first-passage time

    1/nu = t_ref + tau_m sqrt(pi) int_{y_r}^{y_th} exp(u^2) (1 + erf u) du,   y = (V - mu)/sigma

(Siegert 1951; Amit & Brunel 1997). sigma is the noise amplitude: the free membrane potential has the
standard deviation sigma/sqrt(2). Fast exponential synapses with time constant tau_syn add
(alpha/2) sqrt(tau_syn/tau_m) to both limits, alpha = sqrt(2) |zeta(1/2)| (Fourcaud & Brunel 2002):
`method="shift"` does so, `method="expansion"` keeps the term of first order in sqrt(tau_syn/tau_m).
`method="second_order"` goes one order further and follows the synaptic current through the refractory time
(`boundaries`); it is the one nearest to simulations.

Potentials are in mV relative to the leak potential, times in ms, rates in Hz.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.boundaries import ALPHA, second_order
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.special import SQRT_PI, area_left, area_right, integrand, passage_area, passage_differences
from automfm_hpc.lif.sweep import sweep

METHODS = ("shift", "expansion", "second_order")
SHIFT, EXPANSION, SECOND_ORDER = range(3)  # as compiled code knows them
_FEW = 64  # points below which vector instructions do not pay
SLOWEST = 0.5  # tau_syn/tau_m up to which the second order means anything
_FAR = 1e7  # y below -_FAR: the noise changes the rate by less than 1e-14, use the noiseless limit


@jit
def _quiet(mean, V_th, V_reset, tau_m, t_ref):
    """Rate (1/ms) and its derivatives by mean and variance for vanishing noise."""
    if mean <= V_th:
        return 0.0, 0.0, 0.0
    up, down = mean - V_th, mean - V_reset
    rate = 1.0 / (t_ref + tau_m * math.log(down / up))
    slope = rate * rate * tau_m
    return rate, slope * (1.0 / up - 1.0 / down), 0.25 * slope * (1.0 / up**2 - 1.0 / down**2)


@jit
def _rate(mean, sd, V_th, V_reset, tau_m, t_ref, shift):
    """Rate in 1/ms; `shift` is added to both limits."""
    if sd <= 0.0:
        return _quiet(mean, V_th, V_reset, tau_m, t_ref)[0]
    inverse = 1.0 / sd
    high = (V_th - mean) * inverse
    low = (V_reset - mean) * inverse
    if high < -_FAR:
        return _quiet(mean, V_th, V_reset, tau_m, t_ref)[0]
    return _between(low + shift, high + shift, tau_m, t_ref)


@jit
def _between(low, high, tau_m, t_ref):
    """Rate in 1/ms for given limits."""
    if high <= 0.0:
        return 1.0 / (t_ref + tau_m * passage_area(low, high))
    if high > 27.0:
        return 0.0
    small = math.exp(-high * high)
    if low <= 0.0 and high - low > 0.5:
        return small / (t_ref * small + tau_m * (area_right(high) + small * area_left(-low)))
    return small / (t_ref * small + tau_m * passage_area(low, high))


@jit
def _rate_jet(mean, sd, V_th, V_reset, tau_m, t_ref, shift):
    """nu (1/ms), d/dmean, d/dvariance, d2/dmean2, d2/dmean dsd, d/dsd of the white-noise rate with shifted limits."""
    if sd <= 0.0 or V_th - mean < -_FAR * sd:
        nu, by_mean, by_variance = _quiet(mean, V_th, V_reset, tau_m, t_ref)
        if nu == 0.0:
            return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        up, down = mean - V_th, mean - V_reset
        bend = 2.0 * by_mean**2 / nu - nu * nu * tau_m * (1.0 / up**2 - 1.0 / down**2)
        return nu, by_mean, by_variance, bend, 0.0, 0.0
    high = (V_th - mean) / sd + shift
    low = (V_reset - mean) / sd + shift
    if high > 27.0:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    small = math.exp(-high * high) if high > 0.0 else 1.0
    df, dg, dyg, _ = passage_differences(low, high)
    big = 1.0 / (t_ref * small + tau_m * passage_area(low, high))  # nu exp(high^2)
    nu = small * big
    unit = tau_m * SQRT_PI / sd
    t_mean = -unit * df * big  # dT/dmean times nu
    t_sd = -unit * (0.5 * dg - shift * df) * big
    t_mean2 = unit / sd * dg * big
    t_mean_sd = unit / sd * (df + dyg - shift * dg) * big
    by_mean = -nu * t_mean
    by_sd = -nu * t_sd
    return (
        nu,
        by_mean,
        0.5 * by_sd / sd,
        nu * (2.0 * t_mean * t_mean - t_mean2),
        nu * (2.0 * t_mean * t_sd - t_mean_sd),
        by_sd,
    )


@jit
def _second(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn):
    """Rate (1/ms) to second order, and its derivatives by high, low and refractory time."""
    limits = second_order((V_th - mean) / sd, (V_reset - mean) / sd, tau_m, t_ref, tau_syn)
    high, low, ref = limits[0], limits[1], limits[2]
    if high > 27.0:
        return 0.0, 0.0, 0.0, 0.0, limits
    small = math.exp(-high * high) if high > 0.0 else 1.0
    big = 1.0 / (ref * small + tau_m * passage_area(low, high))  # nu exp(high^2)
    nu = small * big
    f1, _, _ = integrand(high)
    f0, _, _ = integrand(low)
    down = math.exp((low * low if low > 0.0 else 0.0) - (high * high if high > 0.0 else 0.0))
    unit = nu * big * tau_m * SQRT_PI
    return nu, -unit * f1, unit * down * f0, -nu * nu, limits


@jit
def _second_point(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn):
    """As `point`."""
    nu, by_high, by_low, by_ref, limits = _second(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn)
    by_th = by_high * limits[3] + by_low * limits[4] + by_ref * limits[6]
    by_r = by_low * limits[5]
    by_sd = -(by_th * (V_th - mean) + by_r * (V_reset - mean)) / (sd * sd)
    by_k = by_high * limits[7] + by_low * limits[8] + by_ref * limits[9]
    return nu, -(by_th + by_r) / sd, 0.5 * by_sd / sd, 2.0 / ALPHA * by_k


@jit
def point(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, method):
    """Rate (1/ms) of one neuron and its derivatives by mean, variance (mV^2) and shift of the limits."""
    if method == SECOND_ORDER and sd > 0.0 and V_th - mean > -_FAR * sd:
        return _second_point(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn)
    shift = 0.5 * ALPHA * math.sqrt(tau_syn / tau_m)
    if method != EXPANSION:
        nu, by_mean, by_variance, _, _, _ = _rate_jet(mean, sd, V_th, V_reset, tau_m, t_ref, shift)
        return nu, by_mean, by_variance, -sd * by_mean
    nu, by_mean, by_variance, bend, cross, by_sd = _rate_jet(mean, sd, V_th, V_reset, tau_m, t_ref, 0.0)
    move = shift * sd
    if sd <= 0.0:
        return nu, by_mean, by_variance, 0.0
    first = by_sd - shift * by_mean - move * cross
    return nu - move * by_mean, by_mean - move * bend, 0.5 * first / sd, -sd * by_mean


@jit
def _fill_rates(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, step, method, out):
    for i in range(out.size):
        out[i] = 1e3 * point(
            mean[i * step[0]], sd[i * step[1]], V_th[i * step[2]], V_reset[i * step[3]],
            tau_m[i * step[4]], t_ref[i * step[5]], tau_syn[i * step[6]], method,
        )[0]  # fmt: skip


@jit
def _fill_places(places, mean, sd, V_th, V_reset, tau_m, t_ref, shift, step, out):
    for i in places:
        out[i] = 1e3 * _rate(
            mean[i * step[0]], sd[i * step[1]], V_th[i * step[2]], V_reset[i * step[3]],
            tau_m[i * step[4]], t_ref[i * step[5]], shift[i * step[6]],
        )  # fmt: skip


def _shifted_rates(flat, step, out):
    """Rates (Hz) with shifted limits: long columns with vector instructions, what these leave over one by one."""
    shift = 0.5 * ALPHA * np.sqrt(flat[6] / flat[4])
    moves = np.append(step[:6], 0 if shift.size == 1 else 1)
    places = np.arange(out.size) if out.size < _FEW else sweep(flat[:6], shift, out)
    _fill_places(places, *flat[:6], shift, moves, out)


@jit
def _fill_derivatives(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, step, method, out):
    for i in range(out.shape[1]):
        nu, by_mean, by_variance, _ = point(
            mean[i * step[0]], sd[i * step[1]], V_th[i * step[2]], V_reset[i * step[3]],
            tau_m[i * step[4]], t_ref[i * step[5]], tau_syn[i * step[6]], method,
        )  # fmt: skip
        out[0, i] = 1e3 * nu
        out[1, i] = 1e3 * by_mean
        out[2, i] = 1e3 * by_variance


@dataclass(frozen=True)
class RateDerivatives:
    """Stationary rate and its derivatives, every field of the broadcast shape of the arguments.

    Attributes
    ----------
    rate : array
        Hz.
    d_mean : array
        Derivative by the mean input, Hz/mV.
    d_variance : array
        Derivative by the variance sigma^2 of the input, Hz/mV^2.
    """

    rate: Array
    d_mean: Array
    d_variance: Array


def neuron_columns(
    mean: ArrayLike, sd: ArrayLike, V_th: ArrayLike, V_reset: ArrayLike, tau_m: ArrayLike,
    t_ref: ArrayLike, tau_syn: ArrayLike, *, where: str,
) -> tuple[tuple[int, ...], list[Array], Array]:  # fmt: skip
    """Check the seven arguments of a working point and return shape, flat columns and strides."""
    high, low = checks.potentials(V_th, V_reset, where=where)
    return checks.columns([
        checks.real(mean, "mean", where=where),
        checks.at_least(sd, "sd", where=where),
        high,
        low,
        checks.at_least(tau_m, "tau_m", where=where, strict=True),
        checks.at_least(t_ref, "t_ref", where=where),
        checks.at_least(tau_syn, "tau_syn", where=where),
    ])  # fmt: skip


def firing_rate(
    mean: ArrayLike, sd: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike, tau_m: ArrayLike,
    t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0, method: str = "shift",
) -> Array:  # fmt: skip
    r"""Stationary firing rate for a given input; all arguments broadcast.

    Parameters
    ----------
    mean, sd : array_like
        Mean and noise amplitude of the input, mV (relative to the leak potential).
    V_th, V_reset : array_like
        Threshold and reset, mV relative to the leak potential.
    tau_m, t_ref, tau_syn : array_like
        Membrane, refractory and synaptic time constants, ms; tau_syn = 0 means delta synapses.
    method : {"shift", "expansion", "second_order"}
        Treatment of exponential synapses, without effect for tau_syn = 0.

    Returns
    -------
    array
        Rate in Hz, of the broadcast shape. Exactly the noiseless rate for sd = 0, and 0 where the rate
        is below the smallest float.

    Raises
    ------
    LIFError
        Negative times or sd, threshold not above reset, non-finite values, unknown method, a negative rate
        from the expansion, which is then outside its range of validity, or synapses too slow for the second order.
    """
    where = "firing_rate"
    code = method_code(method, where=where)
    shape, flat, step = neuron_columns(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, where=where)
    refuse_slow(tau_syn, tau_m, code, where=where)
    out = np.empty(math.prod(shape))
    if code == SHIFT:
        _shifted_rates(flat, step, out)
    else:
        _fill_rates(*flat, step, code, out)
    if code == EXPANSION:
        refuse_negative(out, where=where)
    return out.reshape(shape)[()]


def method_code(method: str, *, where: str) -> int:
    """Number of a method for compiled code, or LIFError with the nearest known word."""
    return METHODS.index(checks.one_of(method, METHODS, "method", where=where))


def refuse_slow(tau_syn: ArrayLike, tau_m: ArrayLike, code: int, *, where: str) -> None:
    """Raise LIFError if synapses are too slow for an expansion to second order."""
    if code == SECOND_ORDER and (np.asarray(tau_syn) > SLOWEST * np.asarray(tau_m)).any():
        raise LIFError(
            f"method='second_order' is for tau_syn up to {SLOWEST:g} tau_m", where=where,
            remedy="Simulate the cell: no expansion in sqrt(tau_syn/tau_m) holds here.",
        )  # fmt: skip


def refuse_negative(rate: Array, *, where: str) -> None:
    """Raise LIFError if the first-order expansion has left its range of validity."""
    if (rate < 0.0).any():
        raise LIFError(
            f"the expansion in sqrt(tau_syn/tau_m) gives a negative rate ({float(rate.min()):g} Hz)",
            where=where,
            remedy="Use method='shift' for this working point.",
        )


def rate_derivatives(
    mean: ArrayLike, sd: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike, tau_m: ArrayLike,
    t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0, method: str = "shift",
) -> RateDerivatives:  # fmt: skip
    """Rate with its derivatives by mean and variance of the input; arguments and errors as `firing_rate`.

    For sd = 0 the derivatives are those of the limit of weak white noise.
    """
    where = "rate_derivatives"
    code = method_code(method, where=where)
    shape, flat, step = neuron_columns(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, where=where)
    refuse_slow(tau_syn, tau_m, code, where=where)
    out = np.empty((3, math.prod(shape)))
    _fill_derivatives(*flat, step, code, out)
    if code == EXPANSION:
        refuse_negative(out[0], where=where)
    return RateDerivatives(*(row.reshape(shape)[()] for row in out))


def input_rate_derivative(
    mean: ArrayLike, sd: ArrayLike, weight: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike,
    tau_m: ArrayLike, t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0, method: str = "shift",
) -> Array:  # fmt: skip
    r"""Derivative of the rate by the rate of one input synapse of the given weight (mV), dimensionless.

    tau_m (J dnu/dmu + J^2 dnu/dsigma^2): an input of rate r adds tau_m J r to the mean and tau_m J^2 r to
    the variance (Helias et al. 2013, Appendix A).
    """
    jump = checks.real(weight, "weight", where="input_rate_derivative")
    slope = rate_derivatives(
        mean, sd, V_th=V_th, V_reset=V_reset, tau_m=tau_m, t_ref=t_ref, tau_syn=tau_syn, method=method
    )
    return 1e-3 * np.asarray(tau_m, dtype=float) * (jump * slope.d_mean + jump**2 * slope.d_variance)


def current_to_mean(current: ArrayLike, *, tau_m: ArrayLike, C_m: ArrayLike) -> Array:
    """Mean input (mV) of a constant current (pA): current tau_m / C_m."""
    resistance = checks.at_least(tau_m, "tau_m", where="current_to_mean") / checks.at_least(
        C_m, "C_m", where="current_to_mean", strict=True
    )
    return checks.real(current, "current", where="current_to_mean") * resistance
