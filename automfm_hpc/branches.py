"""Points of a branch of fixed points: how they are corrected, their tangent, and what grows there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.linear_response import unstable_modes
from automfm_hpc.response import System, respond

FloatArray = NDArray[np.float64]
ORDINARY, END = "", "end"
_TOLERANCE, _ITERATIONS = 1e-10, 12
_DIFFERENCE = 1e-6  # of the parameter's range


class Model(NamedTuple):
    """A model at one value of the parameter: its equations, the rates (Hz) of all inputs, and dynamics, if any."""

    system: System
    inputs: FloatArray
    dynamics: Dynamics | None


class Problem(NamedTuple):
    """F(nu, p) - nu = 0; unknowns are scaled to about 1."""

    at: Callable[[float], Model]  # the model at a parameter
    column: int  # of J, of the input that is the parameter; -1: another parameter
    scale: FloatArray  # (P + 1,) Hz, then in units of the parameter
    start: float
    stop: float


@dataclass(frozen=True)
class Point:
    """One point of a branch.

    Parameters
    ----------
    x, tangent : (P + 1,) array
        Scaled rates and parameter; unit vector.
    eigenvalues : (P,) array of complex
        Of (J - I)/T (1/ms), largest real part first.
    growing : int
        Modes that grow, with dynamics if there are any.
    label : str
    frequency : float
        Of a Hopf bifurcation (Hz), else NaN.
    """

    x: FloatArray
    tangent: FloatArray
    eigenvalues: NDArray[np.complex128]
    growing: int
    label: str = ORDINARY
    frequency: float = float("nan")


def _mismatch(problem: Problem, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """F - nu (P,) and its derivatives (P, P + 1), scaled; F is continued where it is negative or above 1/T."""
    F, J = _driven(problem, x)
    P = F.size
    if problem.column >= 0:
        by_parameter = J[:, problem.column]
    else:
        step = np.append(np.zeros(P), _DIFFERENCE)
        ahead, behind = (_driven(problem, x + e)[0] for e in (step, -step))
        by_parameter = (ahead - behind) / (2.0 * _DIFFERENCE * problem.scale[-1])
    slope = np.column_stack([J[:, :P] - np.eye(P), by_parameter])
    return F / problem.scale[:-1] - x[:-1], slope * problem.scale / problem.scale[:-1, None]


def _driven(problem: Problem, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """F (Hz) and its derivatives at x."""
    system, _, state = model_at(problem, x)
    F, J, _ = respond(system, state, np.zeros((state.size, state.size)))
    return F, J


def _tangent(slope: FloatArray, along: FloatArray) -> FloatArray:
    """Unit vector of the kernel of the slope (P, P + 1), in the direction of `along`."""
    vector = np.linalg.svd(slope)[2][-1]
    return np.asarray(vector * (1.0 if vector @ along >= 0 else -1.0))


def corrected(problem: Problem, guess: FloatArray, normal: FloatArray) -> tuple[FloatArray, int] | None:
    """The point of the curve in the hyperplane through `guess` across `normal`, and iterations; None: not found."""
    x = guess.copy()
    for iteration in range(_ITERATIONS):
        wrong, slope = _mismatch(problem, x)
        if not (np.isfinite(wrong).all() and np.isfinite(slope).all()):
            return None
        residual = np.append(wrong, normal @ (x - guess))
        if np.abs(residual).max() < _TOLERANCE:
            return x, iteration
        try:
            x = x - np.linalg.solve(np.vstack([slope, normal]), residual)
        except np.linalg.LinAlgError:
            return None
    return None


def point_at(problem: Problem, x: FloatArray, along: FloatArray, label: str = ORDINARY,
             growing: int | None = None) -> Point:
    """The point of a branch at x, its tangent in the direction of `along`; `growing`: if it need not be counted."""
    _, slope = _mismatch(problem, x)
    system, dynamics, rates = model_at(problem, x)
    P = x.size - 1
    J = slope[:, :P] * problem.scale[:-1, None] / problem.scale[:-1]  # J - I
    values = np.linalg.eigvals(J / system.T[:P, None]).astype(complex)
    if growing is None:
        growing = unstable_modes(system, dynamics, rates)
    return Point(x, _tangent(slope, along), values[np.lexsort((-values.imag, -values.real))], growing, label)


def between(problem: Problem, a: Point, b: Point, part: float) -> FloatArray | None:
    """Where a branch crosses the chord's hyperplane at a part of the way from a to b; None: not found."""
    chord = b.x - a.x
    found = corrected(problem, a.x + part * chord, chord / np.linalg.norm(chord))
    return None if found is None else found[0]


def model_at(problem: Problem, x: FloatArray) -> tuple[System, Dynamics | None, FloatArray]:
    """Equations, dynamics and rates (M,) of populations and inputs (Hz) at x."""
    values = x * problem.scale
    system, inputs, dynamics = problem.at(float(values[-1]))
    return system, dynamics, np.concatenate([values[:-1], inputs])


def growing_if_known(problem: Problem, x: FloatArray | None) -> int | None:
    """Modes that grow at x; None if there is no such point, or one mode neither grows nor decays."""
    try:
        return None if x is None else unstable_modes(*model_at(problem, x))
    except MeanFieldError:
        return None
