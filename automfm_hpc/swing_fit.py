"""From isolated cells under the network's swings to the numbers of `cell_response` that hold for large changes.

The courses that the sources had are given to the model's equations, one population at a time, and lags and lateness,
adaptation, its time constant and its bound, the pause, and what the spread of each source counts are fitted to the mean
course of the isolated cells. What was measured with small changes (`cell_response_fit`) is the prior: where a network
does not swing, or few cells say little, it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from automfm_hpc.cell_response import (
    BOUND,
    FIELDS,
    OF_AXES,
    OWN,
    Cells,
    at_rest,
    follow,
    forgotten,
)
from automfm_hpc.cell_response_fit import LAGS, RHOS, SLOWS
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.filters import Filters, Memory, advance, filters_of, memory_of, read
from automfm_hpc.mesoscopic import FASTEST
from automfm_hpc.response import Response, System, compiled, empty_response, respond_into
from automfm_hpc.spikes import smooth
from automfm_hpc.spread import LONG, heard_at_rest, settling, spread_factor

FloatArray = NDArray[np.float64]
STEP = 0.5  # ms
KERNEL = 3.0  # ms, of the Gaussian behind which it is told how much a fit explains
PASSED = 0.05  # of an amplitude: swings of which no target's synapses pass that much are nobody's business
FASTEST_SWING, UNHEARD = 300.0, 100.0  # Hz: what steps and bins can resolve; judged of populations that send nothing
PRIOR_RHO, PRIOR_LAG = 0.3, 0.5  # standard deviations; the latter of ln T
PRIOR_BOUND, BOUNDS = 0.5, (0.1, 5.0)
PRIOR_LATE, LATES = 1.0, (0.0, 2.0)  # of 0, as of the pause: where nothing tells of them there are none
PRIOR_PAUSE, PAUSES = 3.0, (0.0, 20.0)  # ms
SOME = 0.5  # lateness of fits that begin elsewhere
OWN_NUMBERS = 8  # of a population, beside kappa of its sources
PRIOR_SPREAD, MOST_SPREAD = 1.0, 3.0
PRIOR_OFFSET, MOST_OFFSET = 0.3, 1.0
PRIOR_DRAW, MOST_DRAW = 0.05, 0.3  # of ln F: draws of the network have presynaptic cells of other rates
MODEL_ERROR = 0.1  # of the course's standard deviation: what these equations cannot follow
BROAD = 50.0  # Hz, the band over which that error is thought to spread
MEAN_ERROR = 0.003  # of the mean rate under each kind of input, which the equations should have right before all else


class Known(NamedTuple):
    """What small changes showed: lag (ms), adaptation, its time constant (ms), and the error of its logarithm."""

    lag: float
    adaptation: float
    slow: float
    slow_error: float


class Course(NamedTuple):
    """One trial: activities of all sources (n_bin, M) in Hz, run-up included, and the isolated cells' (n_window,)."""

    sent: FloatArray
    target: FloatArray


@dataclass(frozen=True, eq=False)
class Numbers:
    """What the equations of one population need at one working point.

    Parameters
    ----------
    lag, rising, slow, pause : float
        ms.
    adaptation, bound, depth, lateness : float
    spread, offset : (n_axis,) arrays
        kappa and lambda.
    """

    lag: float
    rising: float
    adaptation: float
    slow: float
    bound: float
    depth: float
    lateness: float
    pause: float
    spread: FloatArray
    offset: FloatArray


@dataclass(frozen=True, eq=False)
class FittedSwing(Numbers):
    """The numbers of one population at one working point, and how good they are.

    Parameters
    ----------
    rate : float
        Of the isolated cells (Hz).
    error : float
        Mean rate of the equations over the isolated cells' minus 1.
    explained, before : float
        Part of the variance of the isolated cells' course that the equations explain, both smoothed with KERNEL, and
        the part that they explained with the numbers of small changes.
    """

    rate: float
    error: float
    explained: float
    before: float


def fit_swing(system: System, dynamics: Dynamics, population: int, kinds: Sequence[Sequence[Course]], known: Known,
              few: Sequence[bool], bin_ms: float) -> FittedSwing:
    """Fit one population's numbers at one working point.

    Residuals are judged up to the frequency that the synapses of the population's targets pass: a fast inhibitory loop
    may swing at 200 Hz, where a lag of a millisecond decides how much, and behind slow synapses 50 Hz is much.

    Parameters
    ----------
    system : System
    dynamics : Dynamics
        Its synapses.
    population : int
    kinds : sequence of sequences of Course
        Trials under each kind of input, constant or not.
    known : Known
        The prior.
    few : sequence of bool, (n_axis,)
        Of which sources a cell hears so few that their spread may count.
    bin_ms : float
        ms.
    """
    first, last = system.axis_start[population], system.axis_start[population + 1]
    courses = [c for kind in kinds for c in kind]
    axes = slice(first, last)
    arriving = [arriving_rates(system, dynamics, c.sent, bin_ms) for c in courses]
    target = np.concatenate([c.target for c in courses])
    judge = _judge(kinds, fastest_heard(system, dynamics, population), bin_ms)
    variance = float(smooth(target, KERNEL, bin_ms).var())
    one, more, heard = alone(system, population), len(kinds) - 1, np.flatnonzero(few)
    kind_of, n = [k for k, kind in enumerate(kinds) for _ in kind], heard.size

    def numbers(p: FloatArray) -> Numbers:
        spread, offset = np.zeros((2, last - first))
        spread[heard], offset[heard] = np.split(p[OWN_NUMBERS : OWN_NUMBERS + 2 * n], 2)
        return _numbers(p, spread, offset)

    def course(p: FloatArray) -> FloatArray:
        draws = np.exp(np.append(0.0, p[OWN_NUMBERS + 2 * n :]))
        return np.concatenate([course_of(one, rates[:, axes], saturations[:, axes], numbers(p), bin_ms, draws[k])
                               [-c.target.size :]
                               for (rates, saturations), c, k in zip(arriving, courses, kind_of, strict=True)])

    # Parameters: OWN_NUMBERS, kappa and lambda of the sources that are few, and by how much ln F of the draws of the
    # network under each further kind of input differs from that of those under the first.
    rest = np.zeros(2 * n + more)
    prior = np.append(_own(known.lag, known.adaptation, known.slow, 0.0, 0.0), rest)
    known_to = np.concatenate([[PRIOR_LAG, PRIOR_RHO, known.slow_error, PRIOR_LAG, PRIOR_BOUND, PRIOR_BOUND, PRIOR_LATE,
                                PRIOR_PAUSE], np.full(n, PRIOR_SPREAD), np.full(n, PRIOR_OFFSET),
                               np.full(more, PRIOR_DRAW)])  # fmt: skip
    ends = np.array([np.log(LAGS), RHOS, np.log(SLOWS), np.log(LAGS), BOUNDS, BOUNDS, LATES, PAUSES])
    beyond = [[(-MOST_SPREAD, MOST_SPREAD)] * n, [(-MOST_OFFSET, MOST_OFFSET)] * n, [(-MOST_DRAW, MOST_DRAW)] * more]
    low, high = np.array([*map(tuple, ends), *(pair for part in beyond for pair in part)]).T

    def residuals(p: FloatArray) -> FloatArray:
        return np.concatenate([judge(course(p) - target), (p - prior) / known_to])

    start = np.clip(prior, low + 1e-6, high - 1e-6)
    others = (np.clip(np.append(p, rest), low + 1e-6, high - 1e-6) for p in _starts())
    other = min(others, key=lambda p: float((residuals(p) ** 2).sum()))  # there are several minima
    tried = [least_squares(residuals, s, bounds=(low, high), diff_step=1e-3, max_nfev=40) for s in (start, other)]
    found = min(tried, key=lambda fit: float(fit.cost)).x

    def explained(p: FloatArray) -> float:
        missed = smooth(course(p) - target, KERNEL, bin_ms)
        return 1.0 - float(missed.var()) / max(variance, 1e-12)

    error = float(course(found).mean() / max(target.mean(), 1e-9) - 1.0)
    return FittedSwing(**vars(numbers(found)), rate=float(target.mean()), error=error, explained=explained(found),
                       before=explained(start))


def _numbers(p: FloatArray, spread: FloatArray, offset: FloatArray) -> Numbers:
    """Of a fit's parameters.

    Falls are not later than rises: a membrane has to come up to threshold, where one pushed below it is silent at once.
    Left open, 32 of 33 fits gained nothing; one (RS of `adex_cortex` at 0.8 Hz, 0.013 of R2) made its loop too lively.
    """
    lag, rho, slow, rising, bound, depth, lateness, pause = p[:OWN_NUMBERS].tolist()
    return Numbers(float(np.exp(min(lag, rising))), float(np.exp(rising)), rho, float(np.exp(slow)), bound, depth,
                   lateness, pause, spread, offset)


def _own(lag: float, rho: float, slow: float, lateness: float, pause: float) -> FloatArray:
    """A fit's parameters but kappa and draws, with one lag, and a bound that nobody knows beforehand."""
    return np.array([np.log(lag), rho, np.log(slow), np.log(lag), BOUND, BOUND, lateness, pause])


def _starts() -> Iterator[FloatArray]:
    """OWN_NUMBERS of a fit to begin with."""
    for rho, lag, slow, pause in product((0.8, 1.0, 1.5, 2.5, 4.0), (0.3, 1.5, 5.0), (5.0, 15.0, 50.0), (1.0, 6.0)):
        yield _own(lag, rho, slow, SOME, pause)


def _judge(kinds: Sequence[Sequence[Course]], fastest: float, bin_ms: float) -> Callable[[FloatArray], FloatArray]:
    """What makes residuals of all courses, one after the other (Hz), numbers of standard deviation 1.

    Amplitudes up to `fastest` (Hz), beside chance and what the equations cannot follow, and the mean of every kind.
    """
    targets = [c.target for kind in kinds for c in kind]
    sizes = [sum(c.target.size for c in kind) for kind in kinds]
    ends, kind_ends = np.cumsum([t.size for t in targets])[:-1], np.cumsum(sizes)[:-1]
    joined, chance = np.concatenate(targets), float(np.mean([chance_of(t) for t in targets]))
    means = [max(float(t.mean()), 1e-9) * MEAN_ERROR for t in np.split(joined, kind_ends)]
    unfollowed = MODEL_ERROR**2 * max(float(joined.var()) - chance, 0.0) * 500.0 / bin_ms / BROAD
    scale = np.sqrt(max(chance + unfollowed, 1e-12))

    def judge(away: FloatArray) -> FloatArray:
        swings = [_up_to(fastest, part, bin_ms) / scale for part in np.split(away, ends)]
        bias = [part.mean() / mean for part, mean in zip(np.split(away, kind_ends), means, strict=True)]
        return np.concatenate([*swings, bias])

    return judge


def _up_to(fastest: float, course: FloatArray, bin_ms: float) -> FloatArray:
    """What a course (n_bin,) holds up to `fastest` (Hz) but for its mean; of white noise as large as each bin's."""
    n = max(round(fastest * course.size * bin_ms / 1000.0), 1)
    amplitude = np.fft.rfft(course)[1 : n + 1] * np.sqrt(2.0 / course.size)
    return np.concatenate([amplitude.real, amplitude.imag])


def fastest_heard(system: System, dynamics: Dynamics, population: int) -> float:
    """Frequency (Hz) up to which some target's synapses pass PASSED of a population's swing."""
    heard = np.flatnonzero(system.axes[dynamics.axis] == population)
    if not heard.size:
        return UNHEARD
    tau, poles = dynamics.tau_syn[heard], dynamics.poles[heard]
    if np.any((tau <= 0) | (poles == 0)):
        return FASTEST_SWING
    passed = np.sqrt(PASSED ** (-2.0 / poles) - 1.0) / tau * 1000.0 / (2.0 * np.pi)
    return min(float(passed.max()), FASTEST_SWING)


def chance_of(course: FloatArray) -> float:
    """Variance (Hz^2) of what differs at random from bin to bin, from second differences: rates are smooth in a bin."""
    return float((np.diff(course, 2) ** 2).mean() / 6.0)


def alone(system: System, i: int) -> System:
    """The system of one population, whose inputs stand in the order of its axes."""
    n = system.axis_start[i + 1] - system.axis_start[i]
    part, numbers = (slice(s[i], s[i + 1]) for s in (system.int_start, system.float_start))
    ints, floats = np.ascontiguousarray(system.ints[part]), np.ascontiguousarray(system.floats[numbers])
    domain = np.ascontiguousarray(system.domain[system.axis_start[i] : system.axis_start[i + 1]])
    return System(ints, np.array([0, ints.size]), floats, np.array([0, floats.size]), np.arange(1, n + 1),
                  np.array([0, n]), domain, np.ones(n + 1), np.full(n + 1, np.inf))


def arriving_rates(system: System, dynamics: Dynamics, sent: FloatArray,
                   bin_ms: float) -> tuple[FloatArray, FloatArray]:
    """After each step what arrives behind synapses: rates (Hz) and saturations (`spread`), (n_step, n_axis) both."""
    filters = filters_of(dynamics, system, STEP, saturations=True)
    held = round(bin_ms / STEP)
    rates, saturations = np.empty((2, len(sent) * held, system.axes.size))
    memory = memory_of(filters, system, sent.mean(axis=0))
    _filter(filters, memory, np.ascontiguousarray(sent), held, rates, saturations)
    return rates, saturations


@compiled
def _filter(filters: Filters, memory: Memory, sent: FloatArray, held: int, rates: FloatArray,
            saturations: FloatArray) -> None:
    for k in range(rates.shape[0]):
        advance(filters, memory, sent[k // held], k)
        read(memory, rates[k])
        saturations[k] = memory.saturations


def course_of(one: System, rates: FloatArray, saturations: FloatArray, numbers: Numbers, bin_ms: float,
              draws: float = 1.0) -> FloatArray:
    """Rates (Hz) in bins of a population that is `alone`, whose sources arrive as given; run-up included.

    Parameters
    ----------
    rates, saturations : (n_step, n_axis) arrays
        What `arriving_rates` gives, of its axes.
    draws : float
        A factor of F.
    """
    table = {name: np.array([[getattr(numbers, name, 1.0)]]) for name in FIELDS}  # one knot, and no chance
    of_axes = {name: np.ascontiguousarray(getattr(numbers, name)[:, None]) for name in OF_AXES}
    cells, out = Cells(**table, **of_axes), np.empty(len(rates))
    rates, saturations = np.ascontiguousarray(rates), np.ascontiguousarray(saturations)
    _follow(one, cells, rates, saturations, heard_at_rest(rates.mean(axis=0)), empty_response(one), draws, out)
    return np.asarray(out.reshape(-1, round(bin_ms / STEP)).mean(axis=1), float)


@compiled
def _follow(one: System, cells: Cells, rates: FloatArray, saturations: FloatArray, lasting: FloatArray, work: Response,
            draws: float, out: FloatArray) -> None:
    n, nu = rates.shape[1], np.zeros(1)
    for a in range(n):
        work.nu[a] = lasting[LONG, a]
    respond_into(one, work)
    nu[0] = work.F[0]
    inner, forget = at_rest(nu), forgotten(STEP)
    soon = settling(forget)
    for k in range(rates.shape[0]):
        for a in range(n):
            work.nu[a] = rates[k, a]
        respond_into(one, work)
        factor = spread_factor(cells, 0, 0, n, work.F[0], inner[OWN, 0], lasting, work.nu, saturations[k], forget, soon)
        follow(cells, 0, work.F[0] * factor * draws, FASTEST, STEP, nu, inner, forget)
        out[k] = nu[0]
