r"""Networks of binary neurons: mean activity, working point, balanced threshold.

m = 1/2 erfc((theta - mu)/(sqrt(2) sigma)), mu = K J m + ..., sigma^2 = K J^2 m (1 - m) + ...
(van Vreeswijk & Sompolinsky 1998; Helias et al. 2014). Inputs, weights and thresholds share one arbitrary unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfc

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array


@dataclass(frozen=True, eq=False)
class BinaryNetwork:
    """Populations of binary neurons, indexed [target, source].

    Attributes
    ----------
    J, K : (n, n) array
        Weights and in-degrees.
    theta : (n,) array
        Thresholds.
    J_ext, K_ext : (n, m) array
        From external sources.
    m_ext : (m,) array
        Their mean activities, 0 to 1.
    """

    J: Array
    K: Array
    theta: Array
    J_ext: Array
    K_ext: Array
    m_ext: Array

    @classmethod
    def make(
        cls, J: ArrayLike, K: ArrayLike, theta: ArrayLike, J_ext: ArrayLike = 0.0, K_ext: ArrayLike = 0.0,
        m_ext: ArrayLike = 0.0,
    ) -> BinaryNetwork:  # fmt: skip
        """Check and broadcast: one-dimensional external weights mean one own source per population."""
        where = "BinaryNetwork"
        w = checks.square(J, "J", where=where)
        n = w.shape[0]
        k = checks.square(K, "K", where=where, size=n)
        outer_w, outer_k = checks.real(J_ext, "J_ext", where=where), checks.at_least(K_ext, "K_ext", where=where)
        activity = activities(m_ext, "m_ext", where=where)
        if outer_w.ndim < 2 and outer_k.ndim < 2:
            outer_w, outer_k = np.diag(np.broadcast_to(outer_w, (n,))), np.diag(np.broadcast_to(outer_k, (n,)))
            activity = np.broadcast_to(activity, (n,))
        if (k < 0).any():
            raise LIFError("K (in-degrees) must be zero or positive", where=where)
        threshold = np.broadcast_to(checks.real(theta, "theta", where=where), (n,))
        outer_w, outer_k = np.broadcast_arrays(outer_w, outer_k)
        return cls(w, k, threshold, outer_w, outer_k, np.broadcast_to(activity, outer_k.shape[1:]))


@dataclass(frozen=True, eq=False)
class BinaryWorkingPoint:
    """Mean activity, mean and standard deviation of the input of every population (n,)."""

    activity: Array
    mean: Array
    sd: Array


def activities(value: ArrayLike, name: str, *, where: str) -> Array:
    """`value` as activities between 0 and 1, or LIFError."""
    array = checks.at_least(value, name, where=where)
    if (array > 1.0).any():
        raise LIFError(f"{name} must be between 0 and 1, but holds {float(array.max()):g}", where=where)
    return array


def mean_activity(mean: ArrayLike, sd: ArrayLike, theta: ArrayLike) -> Array:
    """Mean activity for a given input; a step function for sd = 0. All arguments broadcast."""
    mu, sigma, threshold = np.broadcast_arrays(
        checks.real(mean, "mean", where="mean_activity"),
        checks.at_least(sd, "sd", where="mean_activity"),
        checks.real(theta, "theta", where="mean_activity"),
    )
    noisy = sigma > 0.0
    smooth = 0.5 * erfc((threshold - mu) / np.where(noisy, np.sqrt(2.0) * sigma, 1.0))
    return np.where(noisy, smooth, (mu >= threshold).astype(float))[()]


def mean_input(net: BinaryNetwork, activity: ArrayLike) -> Array:
    """K J m + K_ext J_ext m_ext, (n,)."""
    m = activities(activity, "activity", where="mean_input")
    return (net.K * net.J) @ m + (net.K_ext * net.J_ext) @ net.m_ext


def sd_input(net: BinaryNetwork, activity: ArrayLike) -> Array:
    """sqrt(K J^2 m (1 - m) + K_ext J_ext^2 m_ext (1 - m_ext)), (n,)."""
    m = activities(activity, "activity", where="sd_input")
    own = (net.K * net.J**2) @ (m * (1.0 - m))
    return np.sqrt(own + (net.K_ext * net.J_ext**2) @ (net.m_ext * (1.0 - net.m_ext)))


def working_point(
    net: BinaryNetwork, *, start: ArrayLike = 0.0, tolerance: float = 1e-12, max_steps: int = 20000
) -> BinaryWorkingPoint:
    """Self-consistent activities by damped iteration from `start` with a step that adapts to the residual.

    Raises
    ------
    LIFError
        No convergence: no fixed point is stable under damped iteration.
    """
    m = np.array(np.broadcast_to(activities(start, "start", where="working_point"), net.theta.shape))
    step, last = 0.5, np.inf
    for _ in range(max_steps):
        gap = mean_activity(mean_input(net, m), sd_input(net, m), net.theta) - m
        error = float(np.abs(gap).max())
        if error <= tolerance:
            return BinaryWorkingPoint(m, mean_input(net, m), sd_input(net, m))
        step = min(1.0, 1.1 * step) if error < last else max(1e-4, 0.7 * step)
        last = error
        m = np.clip(m + step * gap, 0.0, 1.0)
    raise LIFError(f"no convergence (residual {last:.2g})", where="working_point", remedy="Try another start.")


def balanced_threshold(J: ArrayLike, K: ArrayLike, activity: ArrayLike) -> Array:
    """Thresholds equal to the mean input at the wanted activities: K J m, (n,)."""
    w = checks.square(J, "J", where="balanced_threshold")
    k = checks.square(K, "K", where="balanced_threshold", size=w.shape[0])
    return (k * w) @ np.broadcast_to(activities(activity, "activity", where="balanced_threshold"), w.shape[:1])
