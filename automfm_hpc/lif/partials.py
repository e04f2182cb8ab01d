r"""Derivatives of the stationary rate by everything it depends on, in closed form.

With T = 1/nu and the limits high and low, T = ref + tau_m sqrt(pi) int_low^high f, f(u) = erfcx(-u); a derivative of nu
is -nu^2 times that of T. For the first-order expansion nu - s sd dnu/dmean, s the shift, the second derivatives by the
mean enter. Everything carries exp(-max(high, 0)^2), as in `special`.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.lif.boundaries import ALPHA
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.rates import (
    _FAR,
    EXPANSION,
    SECOND_ORDER,
    _quiet,
    _second,
    method_code,
    neuron_columns,
    refuse_negative,
    refuse_slow,
)
from automfm_hpc.lif.special import SQRT_PI, integrand, passage_area, passage_differences

PARAMETERS = ("mean", "sd", "V_th", "V_reset", "tau_m", "t_ref", "tau_syn")


@jit
def _first(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, expansion, out):
    """`_fill` for white noise with shifted limits, or for the expansion about it."""
    k = math.sqrt(tau_syn / tau_m)
    shift = 0.5 * ALPHA * k
    offset = 0.0 if expansion else shift
    x_th, x_r = (V_th - mean) / sd, (V_reset - mean) / sd
    high, low = x_th + offset, x_r + offset
    if high > 27.0:
        return
    small = math.exp(-high * high) if high > 0.0 else 1.0
    down = math.exp((low * low if low > 0.0 else 0.0) - (high * high if high > 0.0 else 0.0))
    f1, g1, _ = integrand(high)
    f0, g0, _ = integrand(low)
    df, dg, dyg, _ = passage_differences(low, high)
    area = passage_area(low, high)
    big = 1.0 / (t_ref * small + tau_m * area)  # nu exp(high^2)
    nu = small * big
    unit = tau_m * SQRT_PI * big / sd
    # derivatives of T times nu
    t = np.zeros(7)
    t[0] = -unit * df
    t[1] = -unit * (x_th * f1 - down * x_r * f0)
    t[2] = unit * f1
    t[3] = -unit * down * f0
    t[4] = area * big
    t[5] = nu
    if not expansion:
        by_shift = unit * sd * df
        t[4] -= by_shift * 0.5 * shift / tau_m
        out[0] = nu
        for j in range(6):
            out[j + 1] = -nu * t[j]
        out[7] = -nu * by_shift * 0.5 * ALPHA / (2.0 * k * tau_m) if k > 0.0 else -nu * by_shift * math.inf
        return
    # second derivatives of T by the mean and p, times nu
    c = np.zeros(7)
    c[0] = unit / sd * dg
    c[1] = unit / sd * (df + dyg)
    c[2] = -unit / sd * g1
    c[3] = unit / sd * down * g0
    c[4] = t[0] / tau_m
    move = shift * sd
    by_mean = -nu * t[0]
    out[0] = nu - move * by_mean
    for j in range(6):
        out[j + 1] = -nu * t[j] - move * nu * (2.0 * t[0] * t[j] - c[j])
    out[2] -= shift * by_mean
    out[5] += 0.5 * move / tau_m * by_mean
    out[7] = -by_mean * sd * 0.5 * ALPHA / (2.0 * k * tau_m) if k > 0.0 else -by_mean * math.inf


@jit
def _next(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, out):
    """`_fill` to second order."""
    nu, by_high, by_low, by_ref, d = _second(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn)
    if nu == 0.0:
        return
    by_th = by_high * d[3] + by_low * d[4] + by_ref * d[6]
    by_r = by_low * d[5]
    by_k = by_high * d[7] + by_low * d[8] + by_ref * d[9]
    k = math.sqrt(tau_syn / tau_m)
    out[0] = nu
    out[1] = -(by_th + by_r) / sd
    out[2] = -(by_th * (V_th - mean) + by_r * (V_reset - mean)) / (sd * sd)
    out[3] = by_th / sd
    out[4] = by_r / sd
    # by tau_m: the prefactor of the passage time at fixed limits, the limits at fixed k, and k
    out[5] = -nu * (1.0 - nu * d[2]) / tau_m + by_low * d[12] + by_ref * d[13] - 0.5 * k / tau_m * by_k
    out[6] = by_low * d[10] + by_ref * d[11]
    out[7] = by_k / (2.0 * k * tau_m) if k > 0.0 else by_k * math.inf


@jit
def _quiet_partials(mean, V_th, V_reset, tau_m, t_ref, out):
    nu, by_mean, _ = _quiet(mean, V_th, V_reset, tau_m, t_ref)
    if nu == 0.0:
        return
    up, down = mean - V_th, mean - V_reset
    out[0], out[1] = nu, by_mean
    out[3] = -nu * nu * tau_m / up
    out[4] = nu * nu * tau_m / down
    out[5] = -nu * nu * math.log(down / up)
    out[6] = -nu * nu


@jit
def _fill(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, step, method, out):
    for i in range(out.shape[0]):
        m, s, th, re = mean[i * step[0]], sd[i * step[1]], V_th[i * step[2]], V_reset[i * step[3]]
        tau, ref, syn = tau_m[i * step[4]], t_ref[i * step[5]], tau_syn[i * step[6]]
        out[i] = 0.0
        if s <= 0.0 or th - m < -_FAR * s:
            _quiet_partials(m, th, re, tau, ref, out[i])
        elif method == SECOND_ORDER:
            _next(m, s, th, re, tau, ref, syn, out[i])
        else:
            _first(m, s, th, re, tau, ref, syn, method == EXPANSION, out[i])
        for j in range(8):
            out[i, j] *= 1e3


def rate_partials(
    mean: ArrayLike, sd: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike, tau_m: ArrayLike,
    t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0, method: str = "shift",
) -> dict[str, Array]:  # fmt: skip
    """Rate (Hz) and its derivatives by every argument; arguments and errors as `firing_rate`.

    Returns
    -------
    dict
        "rate" and one entry per name in PARAMETERS, in Hz, Hz/mV or Hz/ms, each of the broadcast shape. Without noise
        those by sd and tau_syn are 0. For tau_syn = 0 the one by tau_syn is infinite: the rate depends on its root.
    """
    where = "rate_partials"
    code = method_code(method, where=where)
    shape, flat, step = neuron_columns(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, where=where)
    refuse_slow(tau_syn, tau_m, code, where=where)
    out = np.empty((math.prod(shape), 8))
    _fill(*flat, step, code, out)
    if code == EXPANSION:
        refuse_negative(out[:, 0], where=where)
    names = ("rate", *PARAMETERS)
    return {name: out[:, j].reshape(shape)[()] for j, name in enumerate(names)}
