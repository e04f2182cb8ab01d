"""The transfer function as published for the cerebellum, kept for comparison only.

Lorenzi et al. 2026 (doi 10.64898/2026.03.18.712631), equations as in that work's public code: the
factor e of the alpha synapse's area stands on the leak in mu_V but not in mu_G, and the output carries
a gain alpha. Derivatives are analytic: each quantity is carried as its value, gradient and Hessian
(a second-order jet), so every rule below is the chain or product rule once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from automfm_hpc.transfer_function import TransferFunction

FloatArray = NDArray[np.float64]
KIND, CODE = "published", 100
_NUMBERS = ("g_L", "C_m", "E_L", "gain", "adaptation")
_HEAD = 10  # floats before the synapses: g_L, C_m, E_L, adaptation, gain, P0..P4


@njit(cache=True, nogil=True)
def _chain(out: FloatArray, a: FloatArray, f: float, f1: float, f2: float, S: int) -> None:
    """out <- jet of f(a), given f and its two derivatives there."""
    for i in range(S):
        for j in range(S):
            k = 1 + S + i * S + j
            out[k] = f2 * a[1 + i] * a[1 + j] + f1 * a[k]
    for i in range(S):
        out[1 + i] = f1 * a[1 + i]
    out[0] = f


@njit(cache=True, nogil=True)
def _times(out: FloatArray, a: FloatArray, b: FloatArray, S: int) -> None:
    """out <- jet of a b; out must be neither."""
    out[0] = a[0] * b[0]
    for i in range(S):
        out[1 + i] = a[0] * b[1 + i] + b[0] * a[1 + i]
        for j in range(S):
            k = 1 + S + i * S + j
            out[k] = a[0] * b[k] + b[0] * a[k] + a[1 + i] * b[1 + j] + a[1 + j] * b[1 + i]


@njit(cache=True, nogil=True)
def _moments(floats: FloatArray, nu: FloatArray, W: FloatArray) -> None:
    """Rows of W <- jets of 0 mu_G (nS), 1 mu_V (mV), 2 sigma_V^2 (mV^2), 3 sum K nu (e U tau)^2 (mV^2 ms)."""
    S = nu.size
    g_L, C_m, E_L, synapse = floats[0], floats[1], floats[2], floats[_HEAD:]
    W[:] = 0.0
    W[0, 0], W[1, 0] = g_L, math.e * g_L * E_L - floats[3]
    for s in range(S):
        K, Q, tau, E = synapse[4 * s], synapse[4 * s + 1], synapse[4 * s + 2], synapse[4 * s + 3]
        area = 1e-3 * K * Q * tau
        W[0, 0] += area * nu[s]
        W[0, 1 + s] = area
        W[1, 0] += math.e * area * nu[s] * E
        W[1, 1 + s] = math.e * area * E
    G = W[0, 0]
    _chain(W[4], W[0], 1.0 / G, -1.0 / G**2, 2.0 / G**3, S)  # 1/mu_G
    W[5] = W[1]
    _times(W[1], W[5], W[4], S)
    for s in range(S):
        K, Q, tau, E = synapse[4 * s], synapse[4 * s + 1], synapse[4 * s + 2], synapse[4 * s + 3]
        W[5] = -W[1]
        W[5, 0] += E
        _times(W[6], W[5], W[4], S)  # (E - mu_V)/mu_G
        _times(W[5], W[6], W[6], S)
        W[5] *= (math.e * Q * tau) ** 2  # (e U tau)^2
        T_m = C_m * W[4, 0]
        r = 1.0 / (tau + T_m)
        # shape(T_m) = (2 T_m + tau)/(2 (tau + T_m))^2 as a function of 1/mu_G
        shape = 0.25 * (2.0 * T_m + tau) * r * r
        shape1 = -0.5 * T_m * r**3
        shape2 = -0.5 * (tau - 2.0 * T_m) * r**4
        _chain(W[6], W[4], shape, shape1 * C_m, shape2 * C_m**2, S)
        _times(W[7], W[5], W[6], S)
        W[8] = 0.0
        W[8, 0], W[8, 1 + s] = 1e-3 * K * nu[s], 1e-3 * K
        _times(W[6], W[8], W[7], S)
        W[2] += W[6]
        _times(W[6], W[8], W[5], S)
        W[3] += W[6]


@njit(cache=True, nogil=True)
def evaluate(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """F (Hz) at rates nu (S,) Hz; fills gradient (S,) and hessian (S, S) = (1/Hz)."""
    S = nu.size
    W = np.empty((9, 1 + S + S * S))
    _moments(floats, nu, W)
    variance = W[2, 0]
    if not variance > 1e-12:
        gradient[:] = 0.0
        hessian[:] = 0.0
        return 0.0
    root = math.sqrt(variance)
    _chain(W[4], W[2], 1.0 / variance, -1.0 / variance**2, 2.0 / variance**3, S)
    _times(W[5], W[3], W[4], S)
    W[5] *= 0.5  # T_V, ms
    _chain(W[6], W[2], root, 0.5 / root, -0.25 / root**3, S)  # sigma_V
    _chain(W[7], W[0], math.log(W[0, 0] / floats[0]), 1.0 / W[0, 0], -1.0 / W[0, 0] ** 2, S)
    W[8] = (floats[6] / 10.0 - 1.0) * W[1] + floats[7] / 6.0 * W[6] + floats[8] * floats[0] / floats[1] * W[5]
    W[8] += floats[9] * W[7]
    W[8, 0] += floats[5] + 6.0 * floats[6] - floats[7] * 4.0 / 6.0 - 0.5 * floats[8]  # V_eff - mu_V
    _chain(W[4], W[6], 1.0 / root, -1.0 / root**2, 2.0 / root**3, S)
    _times(W[7], W[8], W[4], S)
    W[7] *= math.sqrt(0.5)
    z = W[7, 0]
    slope = -2.0 / math.sqrt(math.pi) * math.exp(-z * z)
    _chain(W[6], W[7], math.erfc(z), slope, -2.0 * z * slope, S)
    T_V = W[5, 0]
    _chain(W[8], W[5], 1.0 / T_V, -1.0 / T_V**2, 2.0 / T_V**3, S)
    _times(W[4], W[8], W[6], S)
    half = 500.0 * floats[4]  # alpha/2, and kHz to Hz
    for i in range(S):
        gradient[i] = half * W[4, 1 + i]
        for j in range(S):
            hessian[i, j] = half * W[4, 1 + S + i * S + j]
    return half * W[4, 0]


@njit(cache=True, nogil=True)
def moments(floats: FloatArray, nu: FloatArray) -> tuple[float, float, float, float]:
    """mu_V (mV), sigma_V (mV), T_V (ms), mu_G (nS)."""
    W = np.empty((9, 1 + nu.size + nu.size**2))
    _moments(floats, nu, W)
    return W[1, 0], math.sqrt(W[2, 0]), 0.5 * W[3, 0] / W[2, 0] if W[2, 0] > 0 else 0.0, W[0, 0]


@dataclass(frozen=True, eq=False)
class PublishedTemplate(TransferFunction):
    """Published transfer function of one population.

    Parameters
    ----------
    population, axes, domain
        See `TransferFunction`.
    g_L, C_m, E_L : float
        nS, pF, mV.
    synapses : (S, 4) array
        K, Q (nS), tau_syn (ms), E (mV) of each source.
    coefficients : (5,) array
        P0 to P4 (mV) of 1, (mu_V+60)/10, (sigma_V-4)/6, T_V g_L/C_m - 0.5, ln(mu_G/g_L).
    gain : float
        alpha.
    adaptation : float
        Current w (pA).
    """

    g_L: float
    C_m: float
    E_L: float
    synapses: FloatArray
    coefficients: FloatArray
    gain: float = 1.0
    adaptation: float = 0.0

    @property
    def kind(self) -> str:
        return KIND

    def packed(self) -> tuple[NDArray[np.int64], FloatArray]:
        head = [self.g_L, self.C_m, self.E_L, self.adaptation, self.gain]
        floats = np.concatenate([head, self.coefficients, np.ravel(self.synapses)]).astype(float)
        return np.array([CODE, len(self.axes)], dtype=np.int64), floats

    def derivatives(self, nu: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Rate (...), gradient (..., S) and Hessian (..., S, S) at nu (..., S) in Hz."""
        points = np.asarray(nu, float)
        S, shape = len(self.axes), points.shape[:-1]
        F, g, H = np.empty(shape), np.empty((*shape, S)), np.empty((*shape, S, S))
        ints, floats = self.packed()
        for at in np.ndindex(shape):
            F[at] = evaluate(ints, floats, np.ascontiguousarray(points[at]), g[at], H[at])
        return F, g, H

    def moments(self, nu: ArrayLike) -> tuple[float, float, float, float]:
        """mu_V (mV), sigma_V (mV), T_V (ms), mu_G (nS) at rates (S,) in Hz."""
        return moments(self.packed()[1], np.asarray(nu, float))

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        data["arrays"] |= {"synapses": np.asarray(self.synapses), "coefficients": np.asarray(self.coefficients)}
        data["attributes"] = {name: float(getattr(self, name)) for name in _NUMBERS}
        return data


def from_dict(data: Mapping[str, Any]) -> PublishedTemplate:
    """The transfer function that `PublishedTemplate.to_dict` wrote."""
    domain, synapses, coefficients = (
        np.asarray(data["arrays"][name], float) for name in ("domain", "synapses", "coefficients")
    )
    g_L, C_m, E_L, gain, adaptation = (float(data["attributes"][name]) for name in _NUMBERS)
    return PublishedTemplate(data["population"], tuple(data["axes"]), domain, g_L, C_m, E_L, synapses, coefficients,
                             gain, adaptation)
