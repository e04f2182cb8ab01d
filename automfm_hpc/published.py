"""The published cerebellar mean field, under its own name, so that its numbers can be compared. Never a default.

Facts from the public code of Lorenzi et al. 2026 (doi 10.64898/2026.03.18.712631): four populations,
in-degrees already scaled by a phase-locking value, output gains, the factor e on the leak (see
`published_template`), and an input that is a fresh uniform random number in [0, f) at every step, so
that its mean is f/2 where the spiking network got f.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numba import njit
from numpy.typing import NDArray

from automfm_hpc.errors import MeanFieldError, suggest
from automfm_hpc.mean_field import MeanField
from automfm_hpc.published_template import PublishedTemplate, evaluate

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
SOURCE = "doi:10.64898/2026.03.18.712631"
POPULATIONS, INPUT = ("GrC", "GoC", "MLI", "PC"), "mf"
SIZES = (29916.0, 71.0, 452.0, 69.0, 2340.0)  # the last: mossy input
T = 3.5  # ms
DT = 0.1  # ms
INITIAL = (0.5, 5.0, 15.0, 38.0)  # Hz
INITIAL_COVARIANCE = 0.5  # Hz^2, every entry
MEMBRANES = {  # g_L (nS), C_m (pF), E_L (mV)
    "GrC": (0.2899, 7.0, -62.0),
    "GoC": (3.2955, 145.0, -62.0),
    "MLI": (1.6, 14.6, -68.0),
    "PC": (7.1064, 334.0, -59.0),
}
SYNAPSES = {  # target: source: K, Q (nS), tau_syn (ms), E (mV)
    "GrC": {"mf": (2.024, 0.23, 5.8, 0.0), "GoC": (1.77, 0.36, 13.61, -80.0)},
    "GoC": {"mf": (38.5, 0.24, 0.23, 0.0), "GrC": (590.03, 0.44, 0.875, 0.0), "GoC": (28.0, 1.12, 10.0, -80.0)},
    "MLI": {"GrC": (260.24, 0.07, 0.64, 0.0), "MLI": (6.71, 0.547, 2.0, -80.0)},
    "PC": {"GrC": (579.32, 0.275, 1.1, 0.0), "MLI": (4.07, 1.22, 2.8, -80.0)},
}
COEFFICIENTS = {  # P0 to P4 (mV)
    "GrC": (-366.616174, -14.7098398, 13.0445678, -0.116336069, -9.20345327),
    "GoC": (-141.7400031, 15.83456823, 47.97675334, -21.71192693, 22.83826843),
    "MLI": (-41.39813468, -16.48274287, -3.97610948, -417.9080392, -195.75463093),
    "PC": (-86.17938433, 10.83163501, 37.47388248, 66.47544397, 37.69867763),
}
GAINS: Mapping[str, tuple[float, ...]] = MappingProxyType({
    "used": (3.00, 2.51, 4.31, 9.24),
    "fit": (2.6, 1.9, 1.8, 1.8),
    "other": (2.1, 2.4, 1.6, 5.4),
    "other, ataxia": (2.1, 2.4, 1.6, 3.5),
})  # fmt: skip
RATES = {  # f (Hz): mean and spread over 100 runs of the published code, Hz, 0.1 to 0.5 s
    4.0: ((3.79, 10.86, 34.28, 97.54), (0.06, 0.06, 0.07, 0.17)),
    8.0: ((4.58, 11.76, 35.57, 100.24), (0.13, 0.13, 0.16, 0.39)),
    16.0: ((6.34, 13.88, 38.63, 107.29), (0.27, 0.29, 0.36, 0.92)),
    24.0: ((8.28, 16.36, 42.27, 116.29), (0.45, 0.47, 0.62, 1.58)),
    32.0: ((10.34, 19.10, 46.47, 126.82), (0.62, 0.67, 0.90, 2.26)),
}
_GRC, _GOC, _MLI, _PC = range(4)
_TOP = 300.0  # Hz: the published model states no domain; rates beyond are never meant


def model(gains: str = "used") -> MeanField:
    """The published mean field in general form, run by the same solver as every other.

    Parameters
    ----------
    gains : str
        A key of `GAINS`.
    """
    if gains not in GAINS:
        raise MeanFieldError(f"no gain set '{gains}'", where="published mode", remedy=suggest(gains, GAINS))
    functions = tuple(_transfer_function(name, gain) for name, gain in zip(POPULATIONS, GAINS[gains], strict=True))
    metadata = {"network": "cerebellum", "equations": "published", "gains": gains, "source": SOURCE,
                "variant": "ataxia" if "ataxia" in gains else "control"}  # fmt: skip
    metadata["pathology"] = metadata["variant"]
    return MeanField(POPULATIONS, (INPUT,), functions, np.array(SIZES), T, metadata)


def drive(f: float, duration: float = 0.5, dt: float = DT, seed: int = 0) -> FloatArray:
    """The published input: f times a fresh uniform random number in [0, 1) at every step.

    Parameters
    ----------
    f : float
        Hz; the mean of the input is f/2.
    duration : float
        s.
    dt : float
        ms.
    seed : int

    Returns
    -------
    (n_step + 1, 2) array
        Times (s) and rates (Hz), as `MeanField.solve` takes them.
    """
    times = np.arange(round(1000.0 * duration / dt) + 1) * (dt / 1000.0)
    return np.column_stack([times, f * np.random.default_rng(seed).random(times.size)])


def rates(f: float, seeds: int = 20, slips: bool = False) -> tuple[FloatArray, FloatArray]:
    """Mean and spread over runs of the rates between 0.1 and 0.5 s, by the published protocol.

    Explicit Euler steps of 0.1 ms for rates and covariances from the published initial values, as
    published; `model().solve` is the same equations with the solver of this package.

    Parameters
    ----------
    f : float
        Hz, see `drive`.
    seeds : int
        Number of runs, seeds 0, 1, ...
    slips : bool
        With two of the three slips of the published code: c(GrC,PC) for c(GrC,MLI) in the equation of
        c(GrC,PC), which changes no rate, and 0.4 for 1/2 in GoC's mean. Which term of that mean is not
        on record here; c(GrC,GrC) is taken, the one that brings the rates closest to `RATES`. The third,
        in the equation of c(GrC,GoC), is not known exactly enough.

    Returns
    -------
    mean, spread : (4,) arrays
        Hz.
    """
    system = model().system
    each = [
        _run(system.ints, system.int_start, system.floats, system.float_start, system.axes, system.axis_start,
             system.N, drive(f, seed=seed)[:, 1], slips)
        for seed in range(seeds)
    ]  # fmt: skip
    return np.mean(each, axis=0), np.std(each, axis=0)


def _transfer_function(name: str, gain: float) -> PublishedTemplate:
    synapses = SYNAPSES[name]
    domain = np.tile([0.0, _TOP], (len(synapses), 1))
    return PublishedTemplate(name, tuple(synapses), domain, *MEMBRANES[name], np.array(list(synapses.values())),
                             np.array(COEFFICIENTS[name]), gain)


@njit(cache=True, nogil=True)
def _run(
    ints: IntArray, int_start: IntArray, floats: FloatArray, float_start: IntArray, axes: IntArray,
    axis_start: IntArray, N: FloatArray, mossy: FloatArray, slips: bool,
) -> FloatArray:  # fmt: skip
    """Rates (4,) averaged over 0.1 to 0.5 s of one run."""
    P, M, n_step = 4, 5, mossy.size - 1
    rate = np.array([*INITIAL, 0.0])
    c = np.full((M, M), INITIAL_COVARIANCE)
    F, half, J = np.zeros(M), np.zeros(M), np.zeros((M, M))
    total, y = np.zeros(P), DT / T
    skip = n_step // 5
    for k in range(n_step):
        rate[P] = mossy[k]
        _evaluate_all(ints, int_start, floats, float_start, axes, axis_start, rate, c, F, J, half, slips)
        dc = _covariance_change(rate, c, F, J, N)
        if slips:
            dc[_GRC, _PC] += J[_PC, _MLI] * (c[_GRC, _PC] - c[_GRC, _MLI])
            dc[_PC, _GRC] = dc[_GRC, _PC]
        for i in range(P):
            rate[i] += y * (F[i] - rate[i] + half[i])
        c += y * dc
        if k >= skip:
            total += rate[:P]
    return total / (n_step - skip)


@njit(cache=True, nogil=True)
def _evaluate_all(
    ints: IntArray, int_start: IntArray, floats: FloatArray, float_start: IntArray, axes: IntArray,
    axis_start: IntArray, rate: FloatArray, c: FloatArray, F: FloatArray, J: FloatArray, half: FloatArray,
    slips: bool,
) -> None:  # fmt: skip
    """Fill F, J and 1/2 sum c d2F at the rates (5,) and covariances (5, 5)."""
    F[-1] = rate[-1]
    for i in range(F.size - 1):
        own = axes[axis_start[i] : axis_start[i + 1]]
        gradient, hessian = np.zeros(own.size), np.zeros((own.size, own.size))
        F[i] = evaluate(ints[int_start[i] : int_start[i + 1]], floats[float_start[i] : float_start[i + 1]], rate[own],
                        gradient, hessian)  # fmt: skip
        half[i] = 0.0
        for s in range(own.size):
            J[i, own[s]] = gradient[s]
            for t in range(own.size):
                share = 0.4 if slips and i == _GOC and own[s] == own[t] == _GRC else 0.5
                half[i] += share * c[own[s], own[t]] * hessian[s, t]


@njit(cache=True, nogil=True)
def _covariance_change(
    rate: FloatArray, c: FloatArray, F: FloatArray, J: FloatArray, N: FloatArray
) -> FloatArray:
    """T dc/dt of the general equation."""
    change = np.outer(F - rate, F - rate) - 2.0 * c
    for i in range(F.size):
        change[i, i] += F[i] * (1000.0 / T - F[i]) / N[i]
        for j in range(F.size):
            for k in range(F.size):
                change[i, j] += J[i, k] * c[k, j] + c[i, k] * J[j, k]
    return change
