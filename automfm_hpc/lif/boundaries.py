r"""Limits of Siegert's integral for exponential synapses, to first and to second order in k = sqrt(tau_syn/tau_m).

In units of the noise, x = (V - mu)/sigma and w = y/sqrt(2), y the synaptic current over its standard deviation, obey
tau_m x' = -x + w/k and tau_syn w' = -w + white noise. The sum X = x + k w/(1 - k^2) is exactly a leaky integrator of
white noise, tau_m X' = -X + xi/(1 - k^2), so optional stopping at the threshold gives, without approximation,

    1/nu = t_ref + tau_m sqrt(pi) E[ S(x_th (1 - k^2) + k w_exit) - S(x_r (1 - k^2) + k w_in) ],  S' = erfcx(-u),

w_exit being the current at threshold crossings and w_in = e w_exit + fresh noise, e = exp(-t_ref/tau_syn), the one at
the end of the refractory time. Moments of w_exit close it. Near the threshold the drift is constant, and they are
functions of the one number a = k x_th: `exit_moments`. At a = 0 the mean is |zeta(1/2)|/sqrt(2) = ALPHA/2.

First order ("shift", Fourcaud & Brunel 2002, doi 10.1162/089976602320264015) is ALPHA k/2 added to both limits. For the
reset this holds for t_ref << tau_syn; the second-order limits have the factor e there. Expanding in k w and keeping two
moments gives the limits and the effective refractory time in `second_order`.

Exit moments: the crossing density of (w, drift a) is orthogonal to every exp(lambda w) He_n(y - sqrt(2) lambda),
lambda = a + sqrt(a^2 + 2n), n >= 1. Solved in a basis y^(3/2 + m) exp(-y^2/2) with 60 digits for a <= 0; crossings
against a drift a > 0 are those with the drift, weighted by exp(-2 a w). Good to 1e-6 below a = 2, to 2e-3 above, where
neurons are silent; tests/lif does it again.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math

import numpy as np
from scipy.special import zeta

from automfm_hpc.lif.compiled import jit

ALPHA = math.sqrt(2.0) * abs(float(zeta(0.5 + 0.0j).real))
_REACH = 4.0  # Chebyshev series on [-4, 4]; beyond, the limits of strong drift
_MEAN = np.array([
    1.8654503, 2.4533776, 0.71592307, -0.093682487, -0.089108105, 0.033444972, 0.020762927, -0.013271238,
    -0.0054200012, 0.0054394416, 0.0013625185, -0.0022375121, -0.0002847508, 0.00091136218, 2.4697968e-05,
    -0.0003671484, 2.110285e-05, 0.00014706946, -1.9097918e-05, -5.8995421e-05, 1.1276304e-05, 2.3857291e-05,
    -5.7696182e-06, -9.7761692e-06, 2.7639594e-06, 4.0721412e-06, -1.2826626e-06, -1.7260018e-06, 5.8697392e-07,
    7.4391332e-07, -2.6745197e-07, -3.2548315e-07, 1.2194142e-07,
])  # fmt: skip
_VARIANCE = np.array([
    0.32021473, -0.16024008, 0.044228106, 0.029679557, -0.025134498, -0.0063755546, 0.013003786, -8.4256102e-05,
    -0.0061975713, 0.0013987413, 0.0026878399, -0.0012119942, -0.0010417627, 0.00076726877, 0.0003488603,
    -0.00041688275, -9.1440893e-05, 0.00020504522, 1.054185e-05, -9.3831156e-05, 8.0004878e-06, 4.068804e-05,
    -8.4356633e-06, -1.6960695e-05, 5.4898594e-06, 6.8799335e-06, -3.0233691e-06, -2.7450736e-06, 1.5301652e-06,
    1.0875047e-06, -7.3808047e-07, -4.3119253e-07, 3.4617609e-07,
])  # fmt: skip
_MEAN_END, _VARIANCE_END = 0.89243976, 0.21168837  # of w_exit - a and of w_exit at a = 4


@jit
def _series(coefficients, a):
    """A Chebyshev series on [-4, 4] and its derivative."""
    t = a / _REACH
    b1 = b2 = d1 = d2 = 0.0
    for k in range(coefficients.size - 1, 0, -1):
        d1, d2 = 2.0 * t * d1 + 2.0 * b1 - d2, d1
        b1, b2 = 2.0 * t * b1 - b2 + coefficients[k], b1
    return t * b1 - b2 + coefficients[0], (b1 + t * d1 - d2) / _REACH


@jit
def exit_moments(a):
    """Mean and variance of w_exit, and their derivatives by the drift a (positive: away from the threshold)."""
    if a < -_REACH:
        return -0.5 / a, 0.5 - 0.25 / (a * a), 0.5 / (a * a), 0.5 / (a * a * a)
    if a > _REACH:
        return a + _MEAN_END, _VARIANCE_END, 1.0, 0.0
    mean, d_mean = _series(_MEAN, a)
    variance, d_variance = _series(_VARIANCE, a)
    return mean, variance, d_mean, d_variance


@jit
def second_order(x_th, x_r, tau_m, t_ref, tau_syn):
    """Limits (high, low) and effective refractory time (ms), each with its derivatives, to second order in k.

    Returns high, low, ref, then d high/d x_th, d low/d x_th, d low/d x_r, d ref/d x_th, then d high/dk, d low/dk,
    d ref/dk at fixed x_th, x_r, t_ref, tau_m, then d low/d t_ref, d ref/d t_ref, then d low/d tau_m, d ref/d tau_m at
    fixed k.
    """
    if tau_syn <= 0.0:
        return x_th, x_r, t_ref, 1.0, 0.0, 1.0, 0.0, 0.5 * ALPHA, 0.5 * ALPHA, 0.0, 0.0, 1.0, 0.0, 0.0
    k = math.sqrt(tau_syn / tau_m)
    q = tau_syn / tau_m
    e = math.exp(-t_ref / tau_syn)
    m, v, dm, dv = exit_moments(k * x_th)
    fresh = e * e * v + 0.5 * (1.0 - e * e)
    lost = (0.5 - v) * (1.0 - e * e)
    high = x_th * (1.0 - q + q * v) + k * m
    low = x_r * (1.0 - q + q * fresh) + k * e * m
    ref = t_ref - tau_syn * lost
    high_th = 1.0 - q + q * v + q * dm + q * k * x_th * dv
    low_th = q * e * dm + x_r * q * k * e * e * dv
    low_r = 1.0 - q + q * fresh
    ref_th = tau_syn * (1.0 - e * e) * k * dv
    # by k at fixed tau_m: tau_syn = k^2 tau_m, d e/dk = 2 e t_ref/(tau_syn k)
    e_k = 2.0 * e * t_ref / (tau_syn * k)
    high_k = x_th * (2.0 * k * (v - 1.0) + q * dv * x_th) + m + k * dm * x_th
    fresh_k = 2.0 * e * e_k * (v - 0.5) + e * e * dv * x_th
    low_k = x_r * (2.0 * k * (fresh - 1.0) + q * fresh_k) + e * m + k * e_k * m + k * e * dm * x_th
    lost_k = -dv * x_th * (1.0 - e * e) - (0.5 - v) * 2.0 * e * e_k
    ref_k = -2.0 * k * tau_m * lost - tau_syn * lost_k
    # by t_ref: d e/d t_ref = -e/tau_syn
    low_ref = -x_r * q * 2.0 * e * e * (v - 0.5) / tau_syn - k * e * m / tau_syn
    ref_ref = 1.0 - (0.5 - v) * 2.0 * e * e
    # by tau_m at fixed k: tau_syn = k^2 tau_m, d e/d tau_m = e t_ref/(tau_syn tau_m)
    e_tau = e * t_ref / (tau_syn * tau_m)
    low_tau = x_r * q * 2.0 * e * e_tau * (v - 0.5) + k * e_tau * m
    ref_tau = -q * lost + tau_syn * (0.5 - v) * 2.0 * e * e_tau
    return high, low, ref, high_th, low_th, low_r, ref_th, high_k, low_k, ref_k, low_ref, ref_ref, low_tau, ref_tau
