r"""Self-consistent rates nu = F(nu) of a network: one by relaxation, or all of them with their stability.

F(nu) is the stationary rate for the input that rates nu cause. A fixed point is called stable if the
relaxation d nu/dt = F(nu) - nu returns to it: every eigenvalue of the Jacobian dF/dnu has a real part below
1. (Oscillatory instabilities that need delays show in the spectra, not here.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import qmc

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.inputs import rates_of
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import EXPANSION, method_code, refuse_negative, refuse_slow
from automfm_hpc.lif.relaxation import Problem, evaluate, problem, relax, relax_many

SOLVERS = ("relaxation", "newton")
_CEILING = 1e4  # Hz, upper end of the search where neurons have no refractory time


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """Rates that reproduce themselves.

    Attributes
    ----------
    rates : (n,) array
        Hz.
    jacobian : (n, n) array
        dF_i/dnu_j at the fixed point, [target, source].
    stable : bool
        Whether the relaxation returns to it after a small push.
    growth : float
        Largest real part of the eigenvalues of jacobian - 1, per relaxation time; negative if stable.
    residual : float
        Largest |F - nu| relative to the rate.
    steps : int
        Steps the solver took.
    solver : str
        Name of the solver.
    """

    rates: Array
    jacobian: Array
    stable: bool
    growth: float
    residual: float
    steps: int
    solver: str


@dataclass(frozen=True, eq=False)
class FixedPoints:
    """All fixed points found, ordered by total rate.

    Attributes
    ----------
    points : tuple of FixedPoint
    index_sum : int
        Sum of the signs of det(1 - jacobian). F maps the box of possible rates into itself, so the true sum
        is 1 (Brouwer degree): another value proves that a fixed point is missing.
    """

    points: tuple[FixedPoint, ...]
    index_sum: int

    @property
    def complete(self) -> bool:
        """False if the index sum proves that a fixed point is missing."""
        return self.index_sum == 1

    @property
    def stable(self) -> tuple[FixedPoint, ...]:
        """The stable ones."""
        return tuple(p for p in self.points if p.stable)


def transfer(net: LIFNetwork, rates: ArrayLike, *, method: str = "shift") -> tuple[Array, Array]:
    """F(nu) in Hz (n,) and its Jacobian (n, n) at given rates (n,)."""
    code = method_code(method, where="transfer")
    nu = np.array(rates_of(net, rates, where="transfer"), ndmin=1)
    out, jacobian = np.empty(net.size), np.empty((net.size, net.size))
    evaluate(problem(net), nu, code, out, jacobian)
    return out, jacobian


def self_consistent_rates(
    net: LIFNetwork, *, start: ArrayLike | None = None, method: str = "shift", solver: str = "relaxation",
    tolerance: float = 1e-12, max_steps: int = 400,
) -> FixedPoint:  # fmt: skip
    """The fixed point that the network relaxes to.

    Parameters
    ----------
    net : LIFNetwork
    start : (n,) array_like, optional
        Initial rates, Hz; zero by default.
    method : {"shift", "expansion", "second_order"}
        Treatment of exponential synapses.
    solver : {"relaxation", "newton"}
        "relaxation" follows d nu/dt = F(nu) - nu from `start` and finishes with Newton steps; "newton" takes
        Newton steps at once, which is how unstable fixed points are reached.
    tolerance : float
        Largest |F - nu| / nu accepted.
    max_steps : int

    Returns
    -------
    FixedPoint
        With its stability; the rates solve the equation whether or not they are stable.

    Raises
    ------
    LIFError
        Unknown words, bad start, no convergence, or negative rates from the expansion.
    """
    where = "self_consistent_rates"
    code = method_code(method, where=where)
    refuse_slow(net.tau_syn.max(), net.tau_m.min(), code, where=where)
    checks.one_of(solver, SOLVERS, "solver", where=where)
    nu = np.zeros(net.size) if start is None else np.array(rates_of(net, start, where=where), ndmin=1)
    step, growth = (0.5, 2.0) if solver == "relaxation" else (1e12, 1.0)
    try:
        rates, jacobian, error, steps = relax(problem(net), nu, code, step, growth, tolerance, max_steps)
    except np.linalg.LinAlgError:
        raise LIFError("the Newton matrix is singular", where=where, remedy="Try another start.") from None
    # Weak couplings of huge in-degrees leave rounding noise above a tolerance near machine precision.
    if not error <= max(tolerance, 1e-9):
        raise LIFError(
            f"no convergence after {steps} steps (relative residual {error:.2g})",
            where=where,
            remedy="Try another start, solver='relaxation', or fixed_points(net) for all solutions.",
        )
    if code == EXPANSION:
        refuse_negative(rates, where=where)
    return _judged(rates, jacobian, error, steps, solver)


def _judged(rates: Array, jacobian: Array, error: float, steps: int, solver: str) -> FixedPoint:
    growth = float(np.linalg.eigvals(jacobian).real.max()) - 1.0
    return FixedPoint(rates, jacobian, growth < 0.0, growth, float(error), int(steps), solver)


def fixed_points(net: LIFNetwork, *, method: str = "shift", starts: int = 256, tolerance: float = 1e-12) -> FixedPoints:
    """All fixed points with their stability, by relaxation and Newton steps from many starts.

    Parameters
    ----------
    net : LIFNetwork
    method : {"shift", "expansion", "second_order"}
    starts : int
        Points of a Sobol sequence, logarithmic in the rates, doubled up to four times while `complete` is
        False.
    tolerance : float

    Returns
    -------
    FixedPoints

    Raises
    ------
    LIFError
        Unknown method, or not a single solution found.
    """
    where = "fixed_points"
    code = method_code(method, where=where)
    refuse_slow(net.tau_syn.max(), net.tau_m.min(), code, where=where)
    arrays = problem(net)
    ceiling = np.where(net.t_ref > 0.0, 1e3 / np.maximum(net.t_ref, 1e-3 * 1e3 / _CEILING), _CEILING)
    found = _search(arrays, _corners(ceiling), code, 0.5, 2.0, tolerance, [])
    for round_ in range(5):
        cloud = _cloud(starts * 2**round_, ceiling)
        for step in (1e12, 4.0):
            found = _search(arrays, cloud, code, step, 1.0 if step > 1e6 else 2.0, tolerance, found)
        points = _points(arrays, found, code)
        index = sum(int(np.sign(np.linalg.det(np.eye(net.size) - p.jacobian))) for p in points)
        if index == 1:
            break
    if not points:
        raise LIFError(
            "no fixed point found", where=where, remedy="Check the network; rates may diverge without t_ref."
        )
    return FixedPoints(tuple(sorted(points, key=lambda p: p.rates.sum())), index)


def _corners(ceiling: Array) -> Array:
    """All silent, all at the highest rate, and each population alone at it."""
    n = ceiling.size
    return np.vstack([np.zeros(n), ceiling, 0.01 * ceiling, 0.1 * ceiling, np.diag(0.5 * ceiling)])


def _cloud(count: int, ceiling: Array) -> Array:
    """Sobol points spread logarithmically over six decades below the ceiling."""
    power = int(np.ceil(np.log2(count)))
    unit = qmc.Sobol(ceiling.size, scramble=False).random_base2(power)
    return ceiling * 10.0 ** (-6.0 * unit[1:])


def _search(
    arrays: Problem, starts: Array, code: int, step: float, growth: float, tolerance: float, found: list[Array]
) -> list[Array]:
    """New solutions reached from the starts, appended to those found."""
    try:
        rates, errors = relax_many(arrays, starts, code, step, growth, tolerance, 120)
    except np.linalg.LinAlgError:
        return found
    found = list(found)
    for nu, error in zip(rates, errors, strict=True):
        good = error <= max(tolerance, 1e-10) and np.isfinite(nu).all() and (nu >= 0.0).all()
        if good and not any(np.allclose(nu, old, rtol=1e-6, atol=1e-12) for old in found):
            found.append(nu)
    return found


def _points(arrays: Problem, found: list[Array], code: int) -> list[FixedPoint]:
    points = []
    for nu in found:
        out, jacobian = np.empty_like(nu), np.empty((nu.size, nu.size))
        evaluate(arrays, nu, code, out, jacobian)
        error = float(np.max(np.abs(out - nu) / (nu + 1e-6)))
        points.append(_judged(nu, jacobian, error, 0, "search"))
    return points
