"""Many solutions at once: models times drives, with steps as long as a tolerance allows, on several threads.

Every solution is computed alone, so the same numbers come out whatever else is in the batch and however many
threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from automfm_hpc import fixed_points, solution
from automfm_hpc.adaptive import Members, solve_members
from automfm_hpc.drive import Drive, beyond, each, knots
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.events import Events, empty_events
from automfm_hpc.initial import given_rates
from automfm_hpc.rosenbrock import Tolerance, empty_workspace
from automfm_hpc.solver import Trace

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.mean_field import MeanField

FloatArray = NDArray[np.float64]
LONGEST = 10.0  # ms, the longest step
_JUMP = 1e-3  # ms: a drive that changes within this time jumps
_SAMPLES, _TOGETHER = 10_000, 200_000  # largest default number of samples of a solution, and of all
_CHUNKS = 4  # pieces of the batch per thread


@dataclass(frozen=True)
class Steps:
    """What adaptive stepping is asked for.

    Parameters
    ----------
    duration : float
        s.
    order : {1, 2}
    dt : float
        ms: samples lie `every` times dt apart, and functions are tabulated at it.
    every : int
    rtol : float
        Error allowed in a step, relative to a rate or a standard deviation.
    atol : float
        Hz; added to it.
    longest : float
        Longest step (ms).
    """

    duration: float
    order: int
    dt: float
    every: int
    rtol: float = 1e-3
    atol: float = 1e-2
    longest: float = LONGEST

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise MeanFieldError(f"order {self.order!r}", where="mean field", remedy="Order is 1 or 2.")
        if self.every < 1:
            raise MeanFieldError("every must be 1 or more", where="solve")
        for name in ("rtol", "atol", "longest"):
            if not getattr(self, name) > 0:
                raise MeanFieldError(f"{name} = {getattr(self, name):g}", where="solve", remedy="It must be above 0.")

    @property
    def n_step(self) -> int:
        return n_steps(self.duration, self.dt)


def solve_batch(
    models: Sequence[MeanField], drives: Drive | Sequence[Drive], duration: float = 1.0, order: int = 2,
    dt: float = 0.1, every: int | None = None, initial: Mapping[str, float] | ArrayLike | None = None,
    rtol: float = 1e-3, atol: float = 1e-2, threads: int = 1, dynamics: bool | None = None,
    lead: Sequence[str] = ("model", "drive"),
) -> xarray.Dataset:  # fmt: skip
    """Every model under every drive, with adaptive steps.

    Parameters
    ----------
    models : sequence of MeanField
        Of the same populations and inputs, for example variants of one network.
    drives, duration, order, initial
        See `MeanField.solve_many`.
    dt, every : float, int
        Samples are every * dt (ms) apart; functions of time are tabulated at dt. Default of `every`: 1, or more so
        that there are at most 10000 samples, and 200000 in all.
    rtol, atol : float
        Error allowed in a step: relative to a rate or a standard deviation, plus atol (Hz). Errors of the solution
        are of about that size.
    threads : int
        Results do not depend on it.
    dynamics : bool, optional
        Must be False for models with dynamics: adaptive steps are those of the bare master equation.
    lead : sequence of str
        First dimensions.

    Returns
    -------
    xarray.Dataset
        As from `MeanField.solve`, with first dimensions `lead`; status is a variable over them.
    """
    if not models:
        raise MeanFieldError("no models given", where="solve_batch")
    first = models[0]
    for k, model in enumerate(models):
        if (model.populations, model.inputs) != (first.populations, first.inputs):
            raise MeanFieldError(f"model {k} has other populations or inputs than model 0", where="solve_batch",
                                 remedy="Solve models of different networks in batches of their own.")
        if model.filters_used(dynamics) is not None:
            raise MeanFieldError("adaptive steps are those of the bare master equation", where="solve",
                                 remedy="Give dynamics=False, or leave out adaptive=True.")
    singles = each(drives, first.inputs)
    if every is None:
        samples = min(_SAMPLES, max(_TOGETHER // (len(models) * len(singles)), 1))
        every = max(1, -(-n_steps(duration, dt) // samples))
    asked = Steps(float(duration), order, float(dt), int(every), float(rtol), float(atol))
    start = None if initial is None else given_rates(first.system, first.populations, initial)
    runs = [run for model in models for run in solve_adaptive(model, singles, asked, start, threads)]
    sizes = {"model": len(models), "drive": len(singles)}
    return solution.dataset(first, runs, {name: sizes[name] for name in lead})


def on_threads(work: Callable[[Drive], solution.Run], drives: Sequence[Drive], threads: int) -> list[solution.Run]:
    """`work` for every drive; compiled code holds no lock."""
    _check_threads(threads)
    if threads == 1:
        return [work(drive) for drive in drives]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, drives))


def n_steps(duration: float, dt: float) -> int:
    """Steps of dt (ms) in a duration (s)."""
    if not (np.isfinite(dt) and dt > 0 and np.isfinite(duration) and 1000.0 * duration >= dt * (1 - 1e-9)):
        raise MeanFieldError(f"duration {duration:g} s with steps of {dt:g} ms", where="solve",
                             remedy="dt (ms) must be above 0 and fit into the duration (s).")
    return max(1, round(1000.0 * duration / dt))


def _check_threads(threads: int) -> None:
    if threads < 1:
        raise MeanFieldError(f"threads = {threads}", where="solve", remedy="Give 1 or more.")


def solve_adaptive(
    model: MeanField, drives: Sequence[Drive], asked: Steps, initial: FloatArray | None = None, threads: int = 1
) -> list[solution.Run]:
    """One run per drive; `initial` (P,) Hz, or to be found."""
    _check_threads(threads)
    system, n, P = model.system, len(drives), len(model.populations)
    grid = np.arange(asked.n_step + 1, dtype=float) * (asked.dt / 1000.0)
    courses = [knots(drive, model.inputs, grid) for drive in drives]
    n_sample = asked.n_step // asked.every + 1
    rates = np.zeros((n, n_sample, P))
    covariances = np.zeros((n, n_sample, P, P) if asked.order == 2 else (1, 0, P, P))
    events = Events(*(np.zeros((n, *table.shape)) for table in empty_events(system)))
    evaluations = np.zeros(n, np.int64)
    starts = fixed_points.default_starts(system, 4)
    tolerance = Tolerance(float(asked.rtol), float(asked.atol), float(asked.longest))

    def work(part: slice) -> None:
        members = _members(courses[part], asked, float(system.T.min()), initial, P)
        room = empty_workspace(system)
        some = covariances[part] if asked.order == 2 else covariances
        solve_members(system, members, starts, room, asked.order, 1000.0 * asked.duration, asked.dt * asked.every,
                      asked.dt, tolerance, rates[part], some, Events(*(table[part] for table in events)),
                      evaluations[part])  # fmt: skip

    _spread(work, n, threads)
    validity = model.metadata.get("validity")
    found = []
    for k, drive in enumerate(drives):
        trace = Trace(rates[k], covariances[k] if asked.order == 2 else covariances[0], rates[k, -1], np.empty((0, 0)),
                      Events(*(table[k] for table in events)))  # fmt: skip
        described = {name: solution.describe_drive(value) for name, value in drive.items()}
        untrusted = beyond(validity, model.inputs, _extremes(courses[k], asked.duration))
        found.append(solution.Run(trace, asked.order, asked.dt, asked.every, "adaptive", described, untrusted))
    return found


def _spread(work: Callable[[slice], None], n: int, threads: int) -> None:
    """Call `work` with slices of n solutions, on `threads` threads; compiled code holds no lock."""
    if threads == 1 or n == 1:
        work(slice(0, n))
        return
    size = max(1, -(-n // (threads * _CHUNKS)))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [slice(k, min(k + size, n)) for k in range(0, n, size)]))


def _members(
    courses: Sequence[Sequence[FloatArray]], asked: Steps, T: float, initial: FloatArray | None, P: int
) -> Members:
    flat = [course for one in courses for course in one]
    every = np.concatenate(flat)
    stops = [stops_of(one, asked, T) for one in courses]
    return Members(
        np.concatenate([[0], np.cumsum([len(course) for course in flat])]).astype(np.int64),
        np.ascontiguousarray(1000.0 * every[:, 0]), np.ascontiguousarray(every[:, 1]),
        np.concatenate([[0], np.cumsum([len(s) for s in stops])]).astype(np.int64), np.concatenate(stops),
        np.tile(np.full(P, np.nan) if initial is None else initial, (len(courses), 1)),
    )  # fmt: skip


def stops_of(courses: Sequence[FloatArray], asked: Steps, T: float) -> FloatArray:
    """Times (ms) at which steps must end: where an input jumps, or bends more than a step may leave unseen.

    A kink that changes the slope by b (Hz/ms) within a step h moves rates by up to b h^2/(8 T). It is a stop if
    that exceeds the tolerance for h of the knots' distance: knots that sample a smooth curve closely are none.

    Parameters
    ----------
    courses : sequence of (n_knot, 2) array
        Times (s) and rates (Hz) of each input.
    asked : Steps
    T : float
        Shortest time constant (ms).
    """
    found = [np.zeros(0)]
    for course in courses:
        if len(course) > 1:
            time, gap = 1000.0 * course[:, 0], np.diff(1000.0 * course[:, 0])
            slope = np.concatenate([[0.0], np.diff(course[:, 1]) / gap, [0.0]])
            left, right = np.concatenate([[np.inf], gap]), np.concatenate([gap, [np.inf]])
            h = np.minimum(np.maximum(left, right), asked.longest)
            moved = np.abs(np.diff(slope)) * h**2 / (8.0 * T)
            jump = (np.minimum(left, right) < _JUMP) & (moved > 0)
            found.append(time[jump | (moved > asked.atol + asked.rtol * course[:, 1])])
    stops = np.unique(np.concatenate(found))
    return stops[(stops > 0.0) & (stops < 1000.0 * asked.duration)]


def _extremes(courses: Sequence[FloatArray], duration: float) -> FloatArray:
    """Lowest and highest rate of every input, (2, n_input)."""
    columns = []
    for course in courses:
        ends = np.interp([0.0, duration], course[:, 0], course[:, 1])
        inside = course[(course[:, 0] > 0.0) & (course[:, 0] < duration), 1]
        some = np.concatenate([ends, inside])
        columns.append([some.min(), some.max()])
    return np.array(columns).T
