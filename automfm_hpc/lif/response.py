r"""Frequency response: how a small modulation of the mean input modulates the firing rate.

With s = i omega tau_m, x = sqrt(2) (V - mu)/sigma and M of `cylinder`, a modulation mu + eps e^(i omega t)
of white-noise input modulates the rate nu by eps n(omega) e^(i omega t),

    n = nu sqrt(2)/sigma / (1 + s) * [M(s+1, x_th) - M(s+1, x_r)] / [M(s, x_th) - e^(-s t_ref/tau_m) M(s, x_r)].

This is the result of Brunel & Hakim (1999) and Lindner & Schimansky-Geier (2001) written with the Mellin
integral of the parabolic cylinder function: linearise the Fokker-Planck equation about its stationary
state, integrate against t^s exp(x t - t^2/2), and demand that the flux re-injected at the reset at time t
is the flux through the threshold at t - t_ref, hence the factor e^(-i omega t_ref). At omega = 0 it is
dnu/dmu. Exponential synapses shift both x by alpha sqrt(tau_syn/(2 tau_m)) (Schuecker et al. 2015), or
enter to first order in sqrt(tau_syn/tau_m); a modulated synaptic current (rather than a modulated mean)
is filtered by 1/(1 + i omega tau_syn).

The noiseless limit (sigma -> 0 above threshold) follows from M(s, x) -> Gamma(s) (-x)^(-s).
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import cmath
import math

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.cylinder import _expm1_over, mellin, mellin_pair, saddle
from automfm_hpc.lif.rates import (
    _FAR,
    ALPHA,
    EXPANSION,
    SECOND_ORDER,
    _rate,
    _rate_jet,
    method_code,
    neuron_columns,
    refuse_negative,
)

_SQRT2 = math.sqrt(2.0)


@jit
def _apart(s, high, low, rho, first, second):
    """N = M(s+1)|, D = M(s)|, N' = M(s+2)|, D' = M(s+1)| with the delayed reset term in D, scaled alike."""
    scale = mellin(s, high, first)
    small = cmath.exp(mellin(s, low, second) - scale)
    late = cmath.exp(-s * rho)
    if abs(s) < 1.0:
        flux = first[3] - late * small * second[3] + cmath.exp(-scale) * _expm1_over(s, rho)
    else:
        flux = (first[0] - late * small * second[0]) / s
    return (
        first[1] - small * second[1],
        flux,
        first[2] - small * second[2],
        first[1] - late * small * second[1],
    )


@jit
def _together(s, high, low, rho, work):
    """As `_apart`, for limits so close that the integrands are subtracted before integration."""
    mellin_pair(s, high, low, work)
    delay = _expm1_over(s, rho)
    return work[1], work[0] + delay * work[3], work[2], work[1] + delay * s * work[4]


@jit
def _continued(s, high, low, rho, first, second):
    """N, D, N', D' for Re s <= -1/2 by the recurrence V(s) = (s+1) V(s+2) - x V(s+1), V = M/Gamma."""
    steps = math.ceil(-0.5 - s.real)
    base = s + steps
    values = np.empty((2, 3), dtype=np.complex128)
    scale = mellin(base, high, first)
    small = cmath.exp(mellin(base, low, second) - scale)
    for side in range(2):
        source = first if side == 0 else second
        x = high if side == 0 else low
        v0, v1, v2 = source[0], source[1], source[2] / (base + 1.0)
        z = base
        for _ in range(steps):
            z = z - 1.0
            v0, v1, v2 = (z + 1.0) * v1 - x * v0, v0, v1
        values[side, 0], values[side, 1], values[side, 2] = v0, v1, v2
    late = cmath.exp(-s * rho)
    a, b = values[0], values[1]
    return (
        s * (a[1] - small * b[1]),
        a[0] - late * small * b[0],
        s * (s + 1.0) * (a[2] - small * b[2]),
        s * (a[1] - late * small * b[1]),
    )


@jit
def quotients(s, high, low, rho, first, second):
    """N/D, N'/D and D'/D of the module docstring (a prime is a joint derivative by both limits)."""
    mirror = s.imag < 0.0
    if mirror:
        s = s.conjugate()
    if s.real <= -0.5:
        if abs(s + 1.0) < 1e-7:
            s = s + 1e-7
        n, d, n1, d1 = _continued(s, high, low, rho, first, second)
    else:
        t, _ = saddle(s + 1.0, high)
        if (high - low) * abs(t) <= 2.0:
            n, d, n1, d1 = _together(s, high, low, rho, first)
        else:
            n, d, n1, d1 = _apart(s, high, low, rho, first, second)
    a, b, c = n / d, n1 / d, d1 / d
    if mirror:
        return a.conjugate(), b.conjugate(), c.conjugate()
    return a, b, c


@jit
def _quiet_response(s, mean, V_th, V_reset, tau_m, t_ref, rate):
    """Response (1/ms/mV) for vanishing noise; zero below threshold."""
    if mean <= V_th:
        return 0.0j
    up, span = mean - V_th, math.log((mean - V_reset) / (mean - V_th))
    numerator = (1.0 - cmath.exp(-(s + 1.0) * span)) / up
    denominator = _expm1_over(s, span + t_ref / tau_m)
    return rate / (1.0 + s) * numerator / denominator


@jit
def response_point(s, mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, expansion, delayed, first, second):
    """Response to a modulated mean in 1/ms/mV at s = i omega tau_m."""
    if sd <= 0.0 or V_th - mean < -_FAR * sd:
        rate = _rate(mean, sd, V_th, V_reset, tau_m, t_ref, 0.0)
        return _quiet_response(s, mean, V_th, V_reset, tau_m, t_ref, rate)
    shift = 0.5 * ALPHA * math.sqrt(tau_syn / tau_m)
    offset = 0.0 if expansion else shift
    high = _SQRT2 * ((V_th - mean) / sd + offset)
    low = _SQRT2 * ((V_reset - mean) / sd + offset)
    if high > 37.0:
        return 0.0j
    front = _SQRT2 / sd / (1.0 + s)
    n, n1, d1 = quotients(s, high, low, t_ref / tau_m if delayed else 0.0, first, second)
    if not expansion:
        return front * _rate(mean, sd, V_th, V_reset, tau_m, t_ref, shift) * n
    nu, by_mean, _, _, _, _ = _rate_jet(mean, sd, V_th, V_reset, tau_m, t_ref, 0.0)
    return front * ((nu - shift * sd * by_mean) * n + _SQRT2 * shift * nu * (n1 - n * d1))


@jit
def _fill(frequency, mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, step, expansion, filtered, delayed, out):
    first = np.empty(6, dtype=np.complex128)
    second = np.empty(6, dtype=np.complex128)
    for i in range(out.size):
        rate = 2e-3j * math.pi * frequency[i * step[0]]  # 1/ms
        tau, syn = tau_m[i * step[5]], tau_syn[i * step[7]]
        value = 1e3 * response_point(
            rate * tau, mean[i * step[1]], sd[i * step[2]], V_th[i * step[3]], V_reset[i * step[4]],
            tau, t_ref[i * step[6]], syn, expansion, delayed, first, second,
        )  # fmt: skip
        out[i] = value / (1.0 + rate * syn) if filtered else value


def frequency_response(
    frequency: ArrayLike, mean: ArrayLike, sd: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike,
    tau_m: ArrayLike, t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0, method: str = "shift",
    synaptic_filter: bool = True, delayed_reset: bool = True,
) -> Array:  # fmt: skip
    r"""Linear response of the rate to a modulation of the mean input; all arguments broadcast.

    Parameters
    ----------
    frequency : array_like, real or complex
        Hz; exp(2 pi i f t) modulates the input. A growth rate lambda (1/s) is f = lambda/(2 pi i).
    mean, sd, V_th, V_reset : array_like
        mV, as in `firing_rate`.
    tau_m, t_ref, tau_syn : array_like
        ms; tau_syn = 0 means delta synapses (white noise).
    method : {"shift", "expansion"}
        Treatment of exponential synapses.
    synaptic_filter : bool
        Include 1/(1 + i omega tau_syn): the response to a modulated synaptic current.
    delayed_reset : bool
        False leaves out exp(-i omega t_ref) on the re-injected flux, as some published results do. Only for
        comparison with them: the response then jumps at f = 0.

    Returns
    -------
    complex array
        Hz/mV, of the broadcast shape; at f = 0 the derivative of the rate by the mean input.

    Raises
    ------
    LIFError
        As `firing_rate`.
    """
    where = "frequency_response"
    expansion = response_code(method, where=where) == EXPANSION
    _, rest, _ = neuron_columns(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, where=where)
    f = np.asarray(frequency, dtype=complex)
    if not np.isfinite(f).all():
        raise LIFError("frequency is not finite", where=where, remedy="Remove NaN and infinite entries.")
    arrays = [np.asarray(a, dtype=float) for a in (mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn)]
    shape, flat, step = checks.columns([f, *arrays])
    out = np.empty(math.prod(shape), dtype=complex)
    if expansion:
        check_expansion(rest, where=where)
    _fill(*flat, step, expansion, synaptic_filter, delayed_reset, out)
    return out.reshape(shape)[()]


def response_code(method: str, *, where: str) -> int:
    """`rates.method_code` of a theory that has a response; LIFError for others."""
    code = method_code(method, where=where)
    if code == SECOND_ORDER:
        raise LIFError(
            "the response is known to first order in sqrt(tau_syn/tau_m) only", where=where,
            remedy="Use method='shift'; a working point takes it with dataclasses.replace(point, method='shift').",
        )  # fmt: skip
    return code


def check_expansion(columns: list[Array], *, where: str) -> None:
    """Raise LIFError if the expansion gives a negative rate at one of the working points (flat columns)."""
    from automfm_hpc.lif.rates import _fill_rates

    size = max(c.size for c in columns)
    rate = np.empty(size)
    _fill_rates(*columns, np.array([0 if c.size == 1 else 1 for c in columns]), EXPANSION, rate)
    refuse_negative(rate, where=where)
