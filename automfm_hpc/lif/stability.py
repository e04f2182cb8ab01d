r"""Linear stability of networks with delays and space.

A perturbation exp(i k x + lambda t) of a rate model tau dr/dt = -r + w r(t - d) obeys
(1 + lambda tau) = c exp(-lambda d), c an eigenvalue of w times the profile at k, so

    lambda = -1/tau + W_b(c d/tau e^(d/tau))/d,   W_b: branch b of the Lambert function

(Helias et al. 2013, eq. 8; Senk et al. 2020, eq. 7). For any other kernel det(1 - M(lambda)) = 0 is solved by
Newton's method from a guess. All lambda are in 1/ms: growth rate + i angular frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.lowpass import LowPass, rate_weights
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.space import profile
from automfm_hpc.lif.spectra import effective_connectivity
from automfm_hpc.lif.working_point import WorkingPoint

Kernel = Callable[[complex], Array]


@dataclass(frozen=True)
class Mode:
    """The most unstable perturbation.

    Attributes
    ----------
    eigenvalue : complex
        1/ms.
    wave_number : float
        1/mm.
    branch : int
        Of the Lambert function.
    """

    eigenvalue: complex
    wave_number: float
    branch: int

    @property
    def frequency(self) -> float:
        """Temporal frequency, Hz."""
        return abs(self.eigenvalue.imag) * 1e3 / (2.0 * np.pi)

    @property
    def wave_length(self) -> float:
        """Spatial wave length, mm; infinite for k = 0."""
        return 2.0 * np.pi / self.wave_number if self.wave_number else float("inf")

    @property
    def stable(self) -> bool:
        """Whether it decays."""
        return self.eigenvalue.real < 0.0


def lambert_eigenvalues(connectivity: ArrayLike, tau: ArrayLike, delay: ArrayLike, branch: int = 0) -> Array:
    """Temporal eigenvalues (1/ms) of a rate model, one per non-zero eigenvalue of `connectivity`.

    Parameters
    ----------
    connectivity : (n, n) array_like
        Weights, times the profile at one wave number for spatial networks.
    tau, delay : float or array_like of equal entries
        ms, the same for all populations; for others see `solve_characteristic`.
    branch : int

    Returns
    -------
    (m,) complex array, most unstable first

    Raises
    ------
    LIFError
        Non-square connectivity, tau <= 0, delay < 0, or populations with different tau or delay.
    """
    where = "lambert_eigenvalues"
    matrix = checks.square(connectivity, "connectivity", where=where)
    t, d = (_single(value, name, where) for value, name in ((tau, "tau"), (delay, "delay")))
    if t <= 0.0 or d < 0.0:
        raise LIFError(f"tau must be positive and delay not negative, got {t:g} and {d:g} ms", where=where)
    c = np.linalg.eigvals(matrix).astype(complex)
    c = c[np.abs(c) > 1e-12 * max(1.0, float(np.abs(matrix).max()))]
    if c.size == 0:
        return np.array([-1.0 / t + 0.0j])
    if d == 0.0:
        return _sorted((c - 1.0) / t)
    return _sorted(-1.0 / t + lambertw(c * d / t * np.exp(d / t), branch) / d)


def _single(value: ArrayLike, name: str, where: str) -> float:
    every = np.unique(checks.real(value, name, where=where))
    if every.size != 1:
        raise LIFError(
            f"the Lambert solution needs one {name} for all populations, got {every.tolist()}", where=where,
            remedy="Use solve_characteristic with rate_kernel.",
        )  # fmt: skip
    return float(every[0])


def _sorted(values: Array) -> Array:
    return values[np.argsort(-values.real, kind="stable")]


def rate_kernel(weights: ArrayLike, tau: ArrayLike, delay: ArrayLike, space: ArrayLike = 1.0) -> Kernel:
    """M(lambda) = w p exp(-lambda d)/(1 + lambda tau) of a rate model; tau by target, p by source or pair."""
    w, t = checks.square(weights, "weights", where="rate_kernel"), checks.real(tau, "tau", where="rate_kernel")
    d = checks.at_least(delay, "delay", where="rate_kernel")
    p = checks.real(space, "space", where="rate_kernel")
    column = np.broadcast_to(t, w.shape[:1])[:, None]
    return lambda rate: w * p * np.exp(-rate * d) / (1.0 + rate * column)


def spiking_kernel(net: LIFNetwork, point: WorkingPoint, space: ArrayLike = 1.0) -> Kernel:
    """M(lambda) = W(lambda/(2 pi i)) p of the spiking network, W its effective connectivity."""
    p = checks.real(space, "space", where="spiking_kernel")
    return lambda rate: effective_connectivity(net, point, 1e3 * rate / (2j * np.pi)) * p


def mixed_kernel(first: Kernel, second: Kernel, share: float) -> Kernel:
    """(1 - share) first + share second: interpolation between a rate model and a spiking one."""
    return lambda rate: (1.0 - share) * first(rate) + share * second(rate)


def solve_characteristic(kernel: Kernel, guess: complex, *, tolerance: float = 1e-11, max_steps: int = 60) -> complex:
    """Solution lambda (1/ms) of det(1 - M(lambda)) = 0 nearest to `guess` in Newton's sense.

    Raises
    ------
    LIFError
        No convergence.
    """

    def det(rate: complex) -> complex:
        M = kernel(rate)
        return complex(np.linalg.det(np.eye(M.shape[0]) - M))

    z = complex(guess)
    for _ in range(max_steps):
        h = 1e-5 * max(abs(z), 1e-2)
        value = det(z)
        slope = (8.0 * (det(z + h) - det(z - h)) - (det(z + 2 * h) - det(z - 2 * h))) / (12.0 * h)
        if slope == 0.0 or not np.isfinite(slope) or not np.isfinite(value):
            break
        step = value / slope
        z -= step if abs(step) < 0.5 else 0.5 * step / abs(step)
        if abs(step) <= tolerance * max(1.0, abs(z)):
            return z
    raise LIFError(
        f"no eigenvalue found from the guess {guess:.4g} 1/ms", where="solve_characteristic",
        remedy="Start nearer, for example from lambert_eigenvalues of a fitted rate model.",
    )  # fmt: skip


def follow(first: Kernel, second: Kernel, start: complex, shares: ArrayLike) -> Array:
    """Eigenvalues (1/ms) along the interpolation between two kernels, each solved from the one before."""
    path = []
    z = complex(start)
    for share in np.atleast_1d(checks.real(shares, "shares", where="follow")):
        z = solve_characteristic(mixed_kernel(first, second, float(share)), z)
        path.append(z)
    return np.array(path)


def dispersion(
    net: LIFNetwork, fit: LowPass, k: ArrayLike, *, branches: Sequence[int] = (0,), kind: str = "boxcar"
) -> Array:
    """Most unstable eigenvalue (1/ms) of the fitted rate model per branch and wave number: (branches, k)."""
    waves = np.atleast_1d(checks.real(k, "k", where="dispersion"))
    return np.array([[_branch(net, fit, float(q), b, kind) for q in waves] for b in branches])


def _branch(net: LIFNetwork, fit: LowPass, k: float, branch: int, kind: str) -> complex:
    if net.width is None:
        raise LIFError("the network has no widths", where="dispersion", remedy="Add width to the description.")
    connectivity = rate_weights(net, fit) * profile(k, net.width, kind)
    tau = fit.tau if np.ptp(fit.tau) > 1e-9 * np.abs(fit.tau).max() else fit.tau[:1]
    return complex(lambert_eigenvalues(connectivity, tau, net.delay, branch)[0])


def most_unstable(
    net: LIFNetwork, fit: LowPass, k: ArrayLike, *, branches: Sequence[int] = (0,), kind: str = "boxcar"
) -> Mode:
    """Wave number and oscillation of the most unstable mode, from a scan over k (1/mm) and refined between."""
    waves = np.atleast_1d(checks.real(k, "k", where="most_unstable"))
    table = dispersion(net, fit, waves, branches=branches, kind=kind)
    b, place = (int(i) for i in np.unravel_index(int(np.argmax(table.real)), table.shape))
    low, high = waves[max(place - 1, 0)], waves[min(place + 1, waves.size - 1)]
    branch = branches[b]
    if high > low:
        found = minimize_scalar(
            lambda q: -_branch(net, fit, q, branch, kind).real, bounds=(low, high), method="bounded",
            options={"xatol": 1e-9},
        )  # fmt: skip
        best = float(found.x)
    else:
        best = float(waves[place])
    return Mode(_branch(net, fit, best, branch, kind), best, branch)
