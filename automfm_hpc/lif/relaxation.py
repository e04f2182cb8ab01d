"""The compiled core of the self-consistency problem nu = F(nu): residual, Jacobian, relaxation, Newton."""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from automfm_hpc.lif.boundaries import ALPHA
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import point

_BEND = 0.3  # error of a step, relative to the rates, above which it is taken again
_SHORTEST = 1e-3  # of the relaxation time


class Problem(NamedTuple):
    """A network as flat arrays: input = fixed part + matrix times rates (Hz), for mean, variance, and shift."""

    by_mean: Array  # (n, n) mV/Hz
    by_variance: Array  # (n, n) mV^2/Hz
    mean: Array  # (n,) mV
    variance: Array  # (n,) mV^2
    filtered: Array  # (n,) variance of external input times sqrt(tau_syn)
    root: Array  # (n,) sqrt(tau_syn) of the sources
    fallback: float  # sqrt(tau_syn) without any noise
    V_th: Array
    V_reset: Array
    tau_m: Array
    t_ref: Array


def problem(net: LIFNetwork) -> Problem:
    """The arrays of a network."""
    tau = 1e-3 * net.tau_m[:, None]
    first = net.K_ext * net.J_ext * net.nu_ext
    second = net.K_ext * net.J_ext**2 * net.nu_ext
    outer_root = np.sqrt(net.tau_syn_ext)
    root = np.sqrt(net.tau_syn)
    return Problem(
        tau * net.K * net.J,
        tau * net.K * net.J**2,
        (tau * first).sum(axis=1) + net.mean_ext,
        (tau * second).sum(axis=1),
        (tau * second * outer_root).sum(axis=1),
        root,
        float(max(root.max(), outer_root.max(initial=0.0))),
        np.array(net.V_th),
        np.array(net.V_reset),
        np.array(net.tau_m),
        np.array(net.t_ref),
    )


@jit
def evaluate(p, nu, method, rate, jacobian):
    """Fill `rate` with F(nu) in Hz and `jacobian` with dF_i/dnu_j."""
    n = nu.size
    for i in range(n):
        mean = p.mean[i]
        variance = p.variance[i]
        filtered = p.filtered[i]
        for j in range(n):
            mean += p.by_mean[i, j] * nu[j]
            part = p.by_variance[i, j] * nu[j]
            variance += part
            filtered += part * p.root[j]
        root = filtered / variance if variance > 0.0 else p.fallback
        sd = math.sqrt(variance) if variance > 0.0 else 0.0
        out, d_mean, d_variance, d_shift = point(
            mean, sd, p.V_th[i], p.V_reset[i], p.tau_m[i], p.t_ref[i], root * root, method
        )
        rate[i] = 1e3 * out
        for j in range(n):
            slope = d_mean * p.by_mean[i, j] + d_variance * p.by_variance[i, j]
            if p.root[j] != root and variance > 0.0:
                move = 0.5 * ALPHA / math.sqrt(p.tau_m[i]) * p.by_variance[i, j] * (p.root[j] - root) / variance
                slope += d_shift * move
            jacobian[i, j] = 1e3 * slope


@jit
def _size(residual, nu):
    """Largest residual relative to the rates (floor 1e-6 Hz)."""
    worst = 0.0
    for i in range(nu.size):
        value = abs(residual[i]) / (abs(nu[i]) + 1e-6)
        if not value <= worst:
            worst = value
    return worst


@jit
def _imbalance(rate, nu):
    """Sum of |F - nu| (Hz) relative to the sizes, each share bounded: steers the step, not fooled by silent cells."""
    total = 0.0
    for i in range(nu.size):
        total += abs(rate[i] - nu[i]) / (rate[i] + nu[i] + 1e-2)
    return total


@jit
def _misjudged(residual, predicted, nu, trial, step):
    """Error of the linearised step, relative to the rates: how far F bent away from its tangent."""
    worst = 0.0
    for i in range(nu.size):
        value = min(step, 1.0) * abs(residual[i] - predicted[i]) / (trial[i] + nu[i] + 1.0)
        worst = max(worst, value)
    return worst


@jit
def relax(p, start, method, step, growth, tolerance, limit):
    """Linearly implicit Euler steps of d nu/dt = F(nu) - nu: follows the relaxation, ends as Newton's method.

    The step grows while F stays near its tangent or the imbalance falls; otherwise it is taken again, shorter.
    Returns rates, Jacobian, relative residual and number of steps; step = 1e12 with growth 1 is Newton's method.
    """
    n = start.size
    nu, rate, trial_rate = start.copy(), np.empty(n), np.empty(n)
    jacobian, trial_jacobian, matrix = np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    evaluate(p, nu, method, rate, jacobian)
    error = _size(rate - nu, nu)
    before = _imbalance(rate, nu)
    for count in range(limit):
        for i in range(n):
            for j in range(n):
                matrix[i, j] = -jacobian[i, j]
            matrix[i, i] += 1.0 + 1.0 / step
        change = np.linalg.solve(matrix, rate - nu)
        trial = nu + change
        for i in range(n):
            if trial[i] < 0.1 * nu[i]:
                trial[i] = 0.1 * nu[i] if nu[i] > 1e-9 else max(trial[i], 0.0)
        evaluate(p, trial, method, trial_rate, trial_jacobian)
        now = _imbalance(trial_rate, trial)
        bend = _misjudged(trial_rate - trial, change / step, nu, trial, step)
        if growth > 1.0 and bend > _BEND and now > 0.7 * before and step > _SHORTEST:
            step = max(0.25 * step, _SHORTEST)
            continue
        moved = _size(trial - nu, trial)
        nu, rate, trial_rate = trial, trial_rate, rate
        jacobian, trial_jacobian = trial_jacobian, jacobian
        error = _size(rate - nu, nu)
        if np.isnan(error):
            return nu, jacobian, np.inf, count + 1
        if error <= tolerance and (moved <= 1e3 * tolerance or error == 0.0):
            return nu, jacobian, error, count + 1
        if bend < 0.5 * _BEND or now <= before:
            step *= growth
        before = now
    return nu, jacobian, error, limit


@jit
def relax_many(p, starts, method, step, growth, tolerance, limit):
    """`relax` from every row of `starts`; returns rates (k, n) and residuals (k,)."""
    out = np.empty_like(starts)
    errors = np.empty(starts.shape[0])
    for k in range(starts.shape[0]):
        nu, _, error, _ = relax(p, starts[k], method, step, growth, tolerance, limit)
        out[k] = nu
        errors[k] = error
    return out, errors
