r"""Derivatives of the frequency response by everything it depends on, in closed form.

With the notation of `response`, n = front nu Q, front = sqrt(2)/sd/(1+s), Q = N/D, and for the first-order expansion
n = front (nu_1 Q + sqrt(2) kappa nu_0 T), T = N'/D - Q D'/D, a prime being a joint derivative by both limits. N, D, N'
and D' are differences of M(s..s+3, x) between the limits, so that their derivatives by the limits are further orders
of M, and those by s the integrals of `cylinder_jet`. The rest is the chain rule through

    s = i omega tau_m,  x = sqrt(2) ((V - mu)/sd + kappa),  kappa = (alpha/2) sqrt(tau_syn/tau_m),  rho = t_ref/tau_m.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.lif import checks
from automfm_hpc.lif.boundaries import ALPHA
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.cylinder import _expm1_over
from automfm_hpc.lif.cylinder_jet import SIZE, bend, mellin_jet
from automfm_hpc.lif.partials import PARAMETERS, rate_partials
from automfm_hpc.lif.rates import _FAR, EXPANSION, neuron_columns
from automfm_hpc.lif.response import response_code

_SQRT2 = math.sqrt(2.0)
_SILENT = 37.0  # upper limit beyond which no cell fires


@jit
def _flux(s, rho, late, small, unit, h, w):
    """D and its derivatives by high, low, s and rho."""
    if abs(s) < 1.0:
        delay, by_order = _expm1_over(s, rho), -rho * rho * bend(s * rho)
        value = h[3] - late * small * w[3] + unit * delay
        slope = h[7] - late * small * (w[7] - rho * w[3]) + unit * by_order
    else:
        value = (h[0] - late * small * w[0]) / s
        slope = (h[4] - late * small * (w[4] - rho * w[0]) - value) / s
    return value, h[1], -late * small * w[1], slope, late * small * w[0]


@jit
def _jet(s, high, low, rho, h, w, out):
    """Q and its derivatives by high, low, s, rho, then the same for T."""
    scale = mellin_jet(s, high, h)
    small = cmath.exp(mellin_jet(s, low, w) - scale)
    late = cmath.exp(-s * rho)
    d, d_h, d_l, d_s, d_r = _flux(s, rho, late, small, cmath.exp(-scale), h, w)
    n, n_h, n_l, n_s = h[1] - small * w[1], h[2], -small * w[2], h[5] - small * w[5]
    third_h, third_l = (s + 1.0) * h[1] + high * h[2], small * ((s + 1.0) * w[1] + low * w[2])
    m, m_s = n_h + n_l, h[6] - small * w[6]  # N'
    e, e_h, e_l = h[1] - late * small * w[1], h[2], -late * small * w[2]  # D'
    e_s = h[5] - late * small * (w[5] - rho * w[1])
    e_r = s * late * small * w[1]
    q, r, c = n / d, m / d, e / d
    t = r - q * c
    out[0], out[5] = q, t
    for k in range(4):
        dd = (d_h, d_l, d_s, d_r)[k] / d
        dq = (n_h, n_l, n_s, 0.0j)[k] / d - q * dd
        dr = (third_h, -third_l, m_s, 0.0j)[k] / d - r * dd
        dc = (e_h, e_l, e_s, e_r)[k] / d - c * dd
        out[1 + k] = dq
        out[6 + k] = dr - dq * c - q * dc


@jit
def _fill(s, high, low, rho, step, out):
    h = np.empty(SIZE, dtype=np.complex128)
    w = np.empty(SIZE, dtype=np.complex128)
    for i in range(out.shape[1]):
        order = s[i * step[0]]
        mirror = order.imag < 0.0
        if mirror:
            order = order.conjugate()
        _jet(order, high[i * step[1]].real, low[i * step[2]].real, rho[i * step[3]].real, h, w, out[:, i])
        if mirror:
            out[:, i] = np.conj(out[:, i])


def _quotients(s: Array, high: Array, low: Array, rho: Array) -> Array:
    """Q, Q_high, Q_low, Q_s, Q_rho and the same of T: (10, *broadcast shape)."""
    shape, flat, step = checks.columns([np.asarray(a, dtype=complex) for a in (s, high, low, rho)])
    out = np.empty((10, math.prod(shape)), dtype=complex)
    _fill(*flat, step, out)
    return out.reshape(10, *shape)


def response_partials(
    frequency: ArrayLike, mean: ArrayLike, sd: ArrayLike, *, V_th: ArrayLike, V_reset: ArrayLike, tau_m: ArrayLike,
    t_ref: ArrayLike = 0.0, tau_syn: ArrayLike = 0.0, method: str = "shift",
) -> dict[str, Array]:  # fmt: skip
    """Response to a modulated mean (no synaptic filter) and its derivatives by every argument but the frequency.

    Parameters
    ----------
    frequency : array_like
        Hz, real.
    mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, method
        As `frequency_response`, with which they broadcast.

    Returns
    -------
    dict
        "response" (Hz/mV) and one complex array per name in PARAMETERS, of the broadcast shape. Without noise those by
        sd and tau_syn are 0. For tau_syn = 0 the one by tau_syn is infinite: the response depends on its root.

    Raises
    ------
    LIFError
        As `frequency_response`.
    """
    where = "response_partials"
    code = response_code(method, where=where)
    neuron_columns(mean, sd, V_th, V_reset, tau_m, t_ref, tau_syn, where=where)
    f = checks.real(frequency, "frequency", where=where)
    values = np.broadcast_arrays(f, *(np.asarray(a, dtype=float) for a in (mean, sd, V_th, V_reset, tau_m, t_ref,
                                                                           tau_syn)))  # fmt: skip
    p = dict(zip(("f", *PARAMETERS), (np.array(v) for v in values), strict=True))
    quiet = (p["sd"] <= 0.0) | (p["V_th"] - p["mean"] < -_FAR * p["sd"])
    out = {name: np.zeros(quiet.shape, dtype=complex) for name in ("response", *PARAMETERS)}
    for chosen, function in ((quiet, _without_noise), (~quiet, _with_noise)):
        if chosen.any():
            found = function({k: v[chosen] for k, v in p.items()}, code == EXPANSION)
            for name, value in found.items():
                out[name][chosen] = value
    return {name: value[()] for name, value in out.items()}


def _with_noise(p: dict[str, Any], expansion: bool) -> dict[str, Any]:
    """Flat columns with sd > 0; the response and its derivatives."""
    rate = 2e-3j * np.pi * p["f"]  # 1/ms
    sd, tau_m, s = p["sd"], p["tau_m"], rate * p["tau_m"]
    kappa = 0.5 * ALPHA * np.sqrt(p["tau_syn"] / tau_m)
    ends = [_SQRT2 * ((p[v] - p["mean"]) / sd + (0.0 if expansion else kappa)) for v in ("V_th", "V_reset")]
    fires = ends[0] <= _SILENT
    moved = _motions(p, rate, kappa, expansion)
    high, low = (np.where(fires, e, e - ends[0]) for e in ends)  # silent cells: any limits, the rate is zero
    jet = _quotients(s, high, low, p["t_ref"] / tau_m)
    cell = {k: p[k] for k in ("mean", "sd", "V_th", "V_reset", "tau_m", "t_ref")}
    nu = rate_partials(**cell, tau_syn=p["tau_syn"], method="expansion" if expansion else "shift")
    delta = p["tau_syn"] == 0.0
    nu["tau_syn"] = np.where(delta, 0.0, nu["tau_syn"])
    bare = rate_partials(**cell) if expansion else {}
    front = np.where(fires, _SQRT2 / sd / (1.0 + s), 0.0)
    inner = nu["rate"] * jet[0] + (_SQRT2 * kappa * bare["rate"] * jet[5] if expansion else 0.0)
    out = {"response": front * inner}
    for name in PARAMETERS:
        by_high, by_low, by_s, by_rho, by_kappa, by_front = moved[name]
        change = nu[name] * jet[0] + nu["rate"] * _along(jet[1:5], by_high, by_low, by_s, by_rho)
        if expansion:
            own = bare[name] if name != "tau_syn" else 0.0
            change = change + _SQRT2 * (
                (by_kappa * bare["rate"] + kappa * own) * jet[5]
                + kappa * bare["rate"] * _along(jet[6:10], by_high, by_low, by_s, by_rho)
            )
        out[name] = front * (change + by_front * inner)
    out["tau_syn"] = np.where(delta, np.inf, out["tau_syn"])
    return out


def _along(slopes: Array, *motions: Any) -> Any:
    return sum(slope * motion for slope, motion in zip(slopes, motions, strict=True))


def _motions(p: dict[str, Any], rate: Array, kappa: Array, expansion: bool) -> dict[str, tuple[Any, ...]]:
    """By every parameter: change of high, low, s, rho, kappa, and the relative change of the prefactor."""
    unit, tau_m = _SQRT2 / p["sd"], p["tau_m"]
    by_syn = np.divide(0.5 * kappa, p["tau_syn"], out=np.zeros_like(kappa), where=p["tau_syn"] > 0.0)
    by_tau = -0.5 * kappa / tau_m
    shifted = 0.0 if expansion else _SQRT2
    along = [-unit * (p[v] - p["mean"]) / p["sd"] for v in ("V_th", "V_reset")]
    return {
        "mean": (-unit, -unit, 0.0, 0.0, 0.0, 0.0),
        "sd": (*along, 0.0, 0.0, 0.0, -1.0 / p["sd"]),
        "V_th": (unit, 0.0, 0.0, 0.0, 0.0, 0.0),
        "V_reset": (0.0, unit, 0.0, 0.0, 0.0, 0.0),
        "tau_m": (shifted * by_tau, shifted * by_tau, rate, -p["t_ref"] / tau_m**2, by_tau,
                  -rate / (1.0 + rate * tau_m)),
        "t_ref": (0.0, 0.0, 0.0, 1.0 / tau_m, 0.0, 0.0),
        "tau_syn": (shifted * by_syn, shifted * by_syn, 0.0, 0.0, by_syn, 0.0) if shifted
        else (0.0, 0.0, 0.0, 0.0, by_syn, 0.0),
    }  # fmt: skip


def _without_noise(p: dict[str, Any], _: bool) -> dict[str, Any]:
    """Flat columns without noise: the limit of `response`; zero below threshold."""
    fires = p["mean"] > p["V_th"]
    rate = 2e-3j * np.pi * p["f"]
    tau_m, s = p["tau_m"], rate * p["tau_m"]
    up, down = np.where(fires, p["mean"] - p["V_th"], 1.0), p["mean"] - p["V_reset"]
    span = np.log(np.where(fires, down / up, 2.0))
    late, whole = np.exp(-(s + 1.0) * span), span + p["t_ref"] / tau_m
    nu = rate_partials(**{k: p[k] for k in ("mean", "V_th", "V_reset", "tau_m", "t_ref")}, sd=0.0)
    top = (1.0 - late) / up
    bottom, by_order, decay = _expm1_columns(s, whole)
    n = np.where(fires, nu["rate"] / (1.0 + s) * top / bottom, 0.0)
    zero = np.zeros_like(up)
    # by every parameter: up, span, t_ref/tau_m, s
    moved: dict[str, tuple[Any, ...]] = {
        "mean": (1.0, 1.0 / down - 1.0 / up, zero, 0.0), "V_th": (-1.0, 1.0 / up, zero, 0.0),
        "V_reset": (0.0, -1.0 / down, zero, 0.0), "tau_m": (0.0, zero, -p["t_ref"] / tau_m**2, rate),
        "t_ref": (0.0, zero, 1.0 / tau_m, 0.0),
    }  # fmt: skip
    out = {"response": n, "sd": 0.0 * n, "tau_syn": 0.0 * n}
    for name, (d_up, d_span, d_rho, d_s) in moved.items():
        d_top = -top * d_up / up + late * ((s + 1.0) * d_span + span * d_s) / up
        d_bottom = decay * (d_span + d_rho) + by_order * d_s
        relative = np.divide(nu[name], nu["rate"], out=np.zeros_like(up), where=fires)
        out[name] = n * (relative - d_s / (1.0 + s) + d_top / top - d_bottom / bottom)
    return out


def _expm1_columns(s: Array, length: Array) -> tuple[Array, Array, Array]:
    """(1 - exp(-s L))/s and its derivatives by s and L."""
    value = np.array([_expm1_over(a, b) for a, b in zip(s, length, strict=True)], dtype=complex)
    slope = np.array([-b * b * bend(a * b) for a, b in zip(s, length, strict=True)], dtype=complex)
    return value, slope, np.exp(-s * length)
