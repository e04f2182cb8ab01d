r"""Transmission delays in the frequency domain: d(f) = E[exp(-s D)], s = 2 pi i f, for a random delay D.

With mean d and standard deviation e: sharp exp(-s d); Gaussian exp(-s d + s^2 e^2/2); Gaussian truncated at
zero, the same times Phi(d/e - s e)/Phi(d/e); lognormal by the trapezoidal rule through the saddle point of
exp(-s e^(m + v z) - z^2/2) in z, which is z = -W(s v^2 e^m)/v (W: Lambert function).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfc, lambertw, wofz

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.network import DELAY_KINDS, LIFNetwork


def sharp(s: Array, mean: Array, sd: Array) -> Array:
    """exp(-s d); the standard deviation has no effect."""
    return np.exp(-s * mean)


def gaussian(s: Array, mean: Array, sd: Array) -> Array:
    """exp(-s d + s^2 e^2/2)."""
    return np.exp(-s * mean + 0.5 * (s * sd) ** 2)


def truncated_gaussian(s: Array, mean: Array, sd: Array) -> Array:
    """Gaussian restricted to positive delays and renormalised."""
    s, mean, sd = np.broadcast_arrays(s, mean, sd)
    out = np.array(np.exp(-s * mean))
    wide = sd > 0.0
    s, d, e = s[wide], mean[wide], sd[wide]
    z = (s * e - d / e) / math.sqrt(2.0)
    front = np.exp(-0.5 * (d / e) ** 2)
    # 1/2 erfc(z) exp(z^2) exp(-d^2/2e^2), written with the Faddeeva function where it does not overflow.
    right = 0.5 * front * wofz(1j * np.where(z.real >= 0.0, z, -z))
    value = np.where(z.real >= 0.0, right, np.exp(-s * d + 0.5 * (s * e) ** 2) - right)
    out[wide] = value / (0.5 * erfc(-d / e / math.sqrt(2.0)))
    return out


def lognormal(s: Array, mean: Array, sd: Array) -> Array:
    """Lognormal delay of given mean and standard deviation; needs Re s >= 0."""
    s, mean, sd = np.broadcast_arrays(s, mean, sd)
    out = np.array(np.exp(-s * mean))
    wide = (sd > 0.0) & (mean > 0.0) & (s != 0.0)
    s, d, e = s[wide], mean[wide], sd[wide]
    v = np.sqrt(np.log1p((e / d) ** 2))
    m = np.log(d) - 0.5 * v**2
    if s.size and s.real.min() < 0.0:
        raise LIFError(
            "a lognormal delay has no transform for decaying time courses (Re s < 0)", where="lognormal delays",
            remedy="Use delay_dist='truncated_gaussian'.",
        )  # fmt: skip
    w = lambertw(s * v**2 * np.exp(m))
    z0 = -w / v
    reach = 9.0 / np.sqrt(np.maximum(1.0, np.abs(1.0 + w)))
    u = np.linspace(-1.0, 1.0, 193)
    step = (u[1] - u[0]) * reach
    total = np.zeros_like(z0)
    for x in u:
        shift = x * reach
        total += np.exp(z0 / v * np.exp(v * shift) - 0.5 * (z0 + shift) ** 2)
    out[wide] = total * step / math.sqrt(2.0 * math.pi)
    return out


_KINDS = {"none": sharp, "gaussian": gaussian, "truncated_gaussian": truncated_gaussian, "lognormal": lognormal}


def delay_factor(frequency: ArrayLike, mean: ArrayLike, sd: ArrayLike = 0.0, kind: str = "none") -> Array:
    """E[exp(-2 pi i f D)] of a random delay; all arguments broadcast.

    Parameters
    ----------
    frequency : array_like, real or complex
        Hz.
    mean, sd : array_like
        ms.
    kind : {"none", "gaussian", "truncated_gaussian", "lognormal"}

    Returns
    -------
    complex array

    Raises
    ------
    LIFError
        Negative times or unknown kind.
    """
    where = "delay_factor"
    checks.one_of(kind, DELAY_KINDS, "delay distribution", where=where)
    d, e = checks.at_least(mean, "mean", where=where), checks.at_least(sd, "sd", where=where)
    s = 2e-3j * np.pi * np.asarray(frequency, dtype=complex)
    return np.asarray(_KINDS[kind](s, d, e))[()]


def delay_factors(net: LIFNetwork, frequency: ArrayLike) -> Array:
    """Delay factors of every connection of a network: (..., n, n) for frequencies (...)."""
    f = np.asarray(frequency, dtype=complex)
    pairs, place = np.unique(np.stack([net.delay.ravel(), net.delay_sd.ravel()]), axis=1, return_inverse=True)
    distinct = np.asarray(delay_factor(f[..., None], pairs[0], pairs[1], net.delay_dist))
    return distinct[..., np.ravel(place)].reshape(*f.shape, net.size, net.size)
