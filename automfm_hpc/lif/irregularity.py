r"""Coefficient of variation of the interspike intervals of leaky integrate-and-fire neurons.

    CV^2 = 2 pi (nu tau_m)^2 int_{y_r}^{y_th} h(y) dy,   h(y) = e^(y^2) int_{-inf}^y e^(-z^2) f(z)^2 dz,

f(z) = erfcx(-z) (Brunel 2000, Appendix A.1), limits shifted for exponential synapses as for the rate.
h grows like 4 e^(2 y^2), so it is carried as h e^(-2 y^2) for y > 0; with z = y - u the inner integral is
int_0^inf e^(2 y u - u^2) f(y - u)^2 du.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike

from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.rates import _FAR, ALPHA, _rate, neuron_columns
from automfm_hpc.lif.special import left_derivatives

_X, _W = legendre.leggauss(20)


@jit
def _inner(y, low, high):
    """Scaled int over u in [low, high] of exp(2 y u - u^2) f(y - u)^2."""
    total = 0.0
    half = 0.5 * (high - low)
    for i in range(_X.size):
        u = low + half * (_X[i] + 1.0)
        z = y - u
        if z <= 0.0:
            e = left_derivatives(-z)[0]
            power = 2.0 * y * u - u * u - (2.0 * y * y if y > 0.0 else 0.0)
            total += _W[i] * e * e * math.exp(power)
        else:
            e = 2.0 - math.exp(-z * z) * left_derivatives(z)[0]
            total += _W[i] * e * e * math.exp(u * u - 2.0 * y * u)
    return half * total


@jit
def variance_density(y):
    """h(y) of the module docstring, times exp(-2 y^2) for y > 0."""
    if y <= 0.0:
        unit = 1.0 / max(1.0, -y)
        return (
            _inner(y, 0.0, unit)
            + _inner(y, unit, 3.0 * unit)
            + _inner(y, 3.0 * unit, 7.0 * unit)
            + _inner(y, 7.0 * unit, 19.0 * unit)
        )
    unit = min(y, 1.0 / max(1.0, y))
    total = _inner(y, 0.0, unit)
    low = unit
    while low < y:
        high = min(2.0 * low + unit, y)
        total += _inner(y, low, high)
        low = high
    for k in range(3):
        total += _inner(y, y + 2.0 * k, y + 2.0 * (k + 1))
    return total


@jit
def _panel(low, high, top):
    """exp(-2 max(top, 0)^2) int_low^high h(y) dy."""
    total = 0.0
    half = 0.5 * (high - low)
    scale = 2.0 * top * top if top > 0.0 else 0.0
    for i in range(_X.size):
        y = low + half * (_X[i] + 1.0)
        total += _W[i] * variance_density(y) * math.exp((2.0 * y * y if y > 0.0 else 0.0) - scale)
    return half * total


@jit
def _variance(low, high):
    """exp(-2 max(high, 0)^2) int_low^high h(y) dy, panels shrinking towards the upper limit where h is largest."""
    total = 0.0
    top = high
    while top > low:
        width = 0.5 / max(0.5, top) if top > 0.0 else max(1.0, -0.5 * top)
        bottom = max(low, top - width)
        part = _panel(bottom, top, high)
        total += part
        if high > 0.0 and part < 1e-18 * total:
            break
        top = bottom
    return total


@jit
def _fill(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, step, out):
    for i in range(out.size):
        m, s, th, re = mean[i * step[0]], sd[i * step[1]], V_th[i * step[2]], V_reset[i * step[3]]
        tau, ref, syn = tau_m[i * step[4]], t_ref[i * step[5]], tau_syn[i * step[6]]
        if s <= 0.0:
            out[i] = 0.0
            continue
        shift = 0.5 * ALPHA * math.sqrt(syn / tau)
        high, low = (th - m) / s + shift, (re - m) / s + shift
        rate = _rate(m, s, th, re, tau, ref, shift)
        if high > 20.0:
            out[i] = 1.0
        elif high < -_FAR:
            out[i] = rate * tau * s * math.sqrt(0.5 * (1.0 / (m - th) ** 2 - 1.0 / (m - re) ** 2))
        else:
            small = math.exp(high * high) if high > 0.0 else 1.0
            out[i] = math.sqrt(2.0 * math.pi * _variance(low, high)) * rate * tau * small


def cv(
    mean: ArrayLike, sd: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike, tau_m: ArrayLike,
    t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0,
) -> Array:  # fmt: skip
    """Coefficient of variation of the interspike intervals; arguments and errors as `firing_rate`.

    0 without noise; 1 (a Poisson process, to within 1e-150) far below threshold.
    """
    shape, flat, step = neuron_columns(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, where="cv")
    out = np.empty(math.prod(shape))
    _fill(*flat, step, out)
    return out.reshape(shape)[()]
