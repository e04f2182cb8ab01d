"""How a population's rate follows its transfer function in time: a short lag, and adaptation to its own rate.

With f(t) = F(y(t)) the rate that the present inputs would give in the long run, z the population's own recent rate, and
q = LEAST_RATE, below which nothing adapts,

    T/2 dm/dt  = ln(f + q) - m,    T/2 du/dt = m - u,    g = exp(u) - q,    T = T_rise where ln(f + q) > u, else T_fall
    nu         = [g + (rho - 1) (g + q) ln((g + q)/(z + q))]_+
    tau dz/dt  = nu - z

Fixed points are those of F: nu = z = g = f. A small sudden change of f shows rho-fold and decays to its own size as z
follows: spike-triggered currents answer the rate of the recent past, not the present one. Around a rate the response is

    H(s) = rho (1 + s tau) / [(rho + s tau)(1 + s T/2)^2],    s = 2 pi i f.

with T the mean of both lags, rho > 1 adapts, rho = 1 does not, rho < 1 facilitates. The numbers are measured in
isolated cells at several rates (`modulated_cells`, `swings`); which hold is told by the population's own mean rate over
the last 100 ms, so that they stay as they are in a wave: fitted at one working point and changed within its waves, they
made Golgi cells at 12 Hz answer 10 to 17 degrees too early. With escape noise and noisy synapses cells follow fast
inputs nearly at once: T is a fraction of a millisecond where they fire much, and a few ms where they are near silence.
What cells near silence show is late rather than weak (the phase of GrC at 3 Hz falls by 43 degrees at 27 Hz where the
amplitude has not fallen at all), hence two low-passes and not one, which would need a spurious rho of 1.9 to say so.

The logarithms. Near silence a membrane follows its input with a lag, and cells fire with an exponential of what it has
reached: so the lag is one of ln f, and volleys come late and sharp; of f itself they would come late and blunt. A
membrane that has to come up to threshold is late, one that is pushed below it silences the cell at once: so rises are
followed with a lag of their own, of some ms near silence, where falls are followed in a tenth of one. And small changes
do not tell how large ones add up. Driven with the activities of the network's own populations, which swing between
silence and three times their mean, the Golgi cells of the equations should swing as those of the network do. With
(rho - 1)(f - z), which does not know how far z is from 0, they swing 3 to 26 % too little at 4, 20 and 60 Hz of mossy
input, with f (f/z)^(rho - 1) up to 14 % too much; the logarithm lies between (docs/dynamics.md).

What such swings do to a cell is not what F says of the rates that they pass through: inhibition that comes together
inhibits less than the same spread out in time, and cells between two waves of it have no time to reach the rate that
its lasting absence would give them. F is therefore given

    y + (1 - sensitivity) (z_y - y)

in place of the arriving rate y of each source, z_y being the mean of y over the last 30 ms. It may differ for rises
and falls: a volley of inhibition silences a cell whatever its size, in a pause the cell has to come up first. With one
number for both, swings would have to shift the mean rate as the curvature of F has it, and granule cells at 30 Hz were
4 % too fast. Lasting rates pass as they are, and so do changes slower than that: fixed points do not know of it.
Sensitivities are measured in isolated cells (`swings`), under swings like those of the network; 1 where nothing was
measured.

N cells of rate nu do not fire nu N spikes a second, but as many as chance will have it: a Poisson number, less what
their regularity takes away from slow fluctuations. With w the excess of a Poisson number over its mean, relative to it,
the activity is A = nu [1 + w - (1 - CV) L w]. L are two low-passes with their corners at 1.5 nu, of the momentary rate:
what cells have fired too much they fire less in the spikes that follow, not in the time that follows, and silence
between two waves makes nobody forget. In stationary populations that is white noise of nu/N at high frequencies and
CV^2 of it at low ones, near the spectrum of gamma renewal processes whose rates differ. In a population that fires in
waves, chance that had to be made up for in time, however little was fired, gave Golgi cells at 12 Hz four to twelve
times the slow fluctuations that they have (docs/dynamics.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import MeanFieldError
from automfm_hpc.low_pass import two_low_passes
from automfm_hpc.response import System, compiled

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
HABIT = 30.0  # ms over which a source's rate is averaged to tell a swing from a lasting rate
OWN_HABIT = 100.0  # ms over which a population's own rate is averaged to tell which numbers hold


@dataclass(frozen=True, eq=False)
class CellResponse:
    """Numbers of each population at a few of its rates; between them linear, beyond them constant.

    Parameters
    ----------
    knots : (n_population, n_knot) array
        Rates (Hz), increasing.
    lag : (n_population, n_knot) array
        T (ms) where ln(f + q) falls.
    adaptation : (n_population, n_knot) array
        rho: immediate over lasting answer to a change.
    slow : (n_population, n_knot) array
        tau (ms).
    irregularity : (n_population, n_knot) array
        Coefficient of variation of the interspike intervals.
    sensitivity : (2, n_axis, n_knot) array, optional
        Part of a swing of each source that a transfer function is given, of rises and of falls, at the knots of the
        axis's population, axes as in `MeanField.axis_labels`; without any it is all of it. (n_axis, n_knot): the same
        for both.
    rising : (n_population, n_knot) array, optional
        T (ms) where ln(f + q) rises; without any `lag` holds for both.
    """

    knots: FloatArray
    lag: FloatArray
    adaptation: FloatArray
    slow: FloatArray
    irregularity: FloatArray
    sensitivity: FloatArray = field(default_factory=lambda: np.zeros((2, 0, 1)))
    rising: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        if not np.size(self.rising):
            object.__setattr__(self, "rising", self.lag)
        for name in (*FIELDS, "sensitivity"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=float))
        if self.sensitivity.ndim == 2:
            object.__setattr__(self, "sensitivity", np.stack([self.sensitivity, self.sensitivity]))
        shape = self.knots.shape
        good = len(shape) == 2 and all(getattr(self, name).shape == shape for name in FIELDS)
        _require(good, "all must have one shape (n_population, n_knot)")
        sides = self.sensitivity.shape
        of_axes = len(sides) == 3 and sides[0] == 2 and (self.sensitivity.size == 0 or sides[2:] == shape[1:])
        _require(of_axes, "sensitivity must have the shape (2, n_axis, n_knot)")
        _require(bool(np.isfinite(self._all()).all() and np.isfinite(self.sensitivity).all()), "numbers must be finite")
        _require(bool((self.sensitivity >= 0).all()), "sensitivity must not be negative")
        _require(bool((np.diff(self.knots, axis=1) > 0).all()), "knots must increase")
        _require(bool((self._all()[1:] > 0).all()), "lags, adaptation, slow and irregularity must be above 0")

    def _all(self) -> FloatArray:
        return np.stack([getattr(self, name) for name in FIELDS])

    @staticmethod
    def immediate(n_population: int) -> CellResponse:
        """Populations that follow their transfer function at once and do not adapt."""
        one = np.ones((n_population, 1))
        return CellResponse(one, 1e-3 * one, one, one, one)

    @property
    def mean_lag(self) -> FloatArray:
        """T (ms) of changes that rise as much as they fall, (n_population, n_knot)."""
        return np.asarray(0.5 * (self.lag + self.rising), float)

    def at(self, rates: FloatArray) -> FloatArray:
        """Mean lag (ms), adaptation, slow (ms), irregularity at rates (n_population,) in Hz: (4, n_population)."""
        return np.array([[np.interp(r, k, row) for r, k, row in zip(rates, self.knots, table, strict=True)]
                         for table in (self.mean_lag, self.adaptation, self.slow, self.irregularity)])

    def response(self, frequency: FloatArray, rates: FloatArray) -> ComplexArray:
        """H at frequencies (n_frequency,) in Hz and rates (n_population,) in Hz: (n_frequency, n_population).

        Of swings that rise as much as they fall, to first order in the difference of both lags.
        """
        return shape_of(frequency, *self.at(rates)[:3])

    def passed(self, frequency: FloatArray, rates: FloatArray, axes: NDArray[np.int64]) -> ComplexArray:
        """What F is given of each axis's rate at frequencies (n_frequency,) in Hz: (n_frequency, n_axis).

        Of swings that rise as much as they fall, to first order.

        Parameters
        ----------
        rates : (n_population,) array
            Hz.
        axes : (n_population,) array of int
            Number of axes of each population.
        """
        owner = np.repeat(np.arange(len(self.knots)), axes)
        if not self.sensitivity.size:
            return np.ones((len(frequency), owner.size), complex)
        part = np.array([np.interp(rates[i], self.knots[i], row)
                         for i, row in zip(owner, self.sensitivity.mean(axis=0), strict=True)])
        s = 2.0j * np.pi * np.asarray(frequency, float)[:, None] / 1000.0
        return np.asarray(part + (1.0 - part) / (1.0 + s * HABIT), complex)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        more = {"sensitivity": self.sensitivity} if self.sensitivity.size else {}
        return {name: getattr(self, name) for name in FIELDS} | more | {"law": np.array([LAW])}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> CellResponse:
        """What `to_arrays` gave.

        Raises
        ------
        MeanFieldError
            If the numbers were fitted to other equations.
        """
        law = int(np.asarray(arrays.get("law", [1])).ravel()[0])
        if law not in (LAW, ONE_LAG):
            raise MeanFieldError(f"was measured for equations of version {law}, these are version {LAW}",
                                 where="cell response",
                                 remedy="Make the model again: `automfm fit RUN`, then `automfm dynamics RUN`.")
        more = {"sensitivity": arrays["sensitivity"]} if "sensitivity" in arrays else {}
        known = {"rising": arrays["lag"]} | dict(arrays)
        return CellResponse(**{name: np.asarray(known[name]) for name in FIELDS}, **more)


LEAST_RATE = 0.5  # Hz: q, so that an answer to silence stays finite
CORNER = 1.5 * 2.0 * np.pi / 1000.0  # of both low-passes of the chance, times the rate in Hz: 1/ms
LEAST_CHANCE = 1e-6  # Hz: cells that fire less do so by the chance of this rate
LAW, ONE_LAG = 3, 2  # of the equations above, and with one lag; 1 had a lag of the rate, and its momentary numbers
RECENT, FIRST, SECOND, OWN, TARGET = 0, 1, 2, 3, 4  # rows that `follow` remembers: z, m, u, OWN_HABIT's mean, ln(f + q)
FIELDS = ("knots", "lag", "adaptation", "slow", "irregularity", "rising")


def shape_of(frequency: FloatArray, lag: Any, adaptation: Any, slow: Any) -> ComplexArray:
    """H at frequencies (n_frequency,) in Hz; the numbers (n,) or scalars: (n_frequency, n)."""
    s = 2.0j * np.pi * np.asarray(frequency, float)[:, None] / 1000.0
    rho, slowly = np.atleast_1d(adaptation), s * np.atleast_1d(slow)
    return np.asarray(rho * (1.0 + slowly) / ((rho + slowly) * (1.0 + 0.5 * s * np.atleast_1d(lag)) ** 2), complex)


class Cells(NamedTuple):
    """`CellResponse` for compiled code."""

    knots: FloatArray
    lag: FloatArray
    adaptation: FloatArray
    slow: FloatArray
    irregularity: FloatArray
    rising: FloatArray
    sensitivity: FloatArray


def cells_of(response: CellResponse) -> Cells:
    return Cells(**{name: getattr(response, name) for name in (*FIELDS, "sensitivity")})


@compiled
def place(knots: FloatArray, rate: float) -> tuple[int, int, float]:
    """The knots below and above a rate, and the part of the way between them; constant beyond the ends."""
    n, low = knots.size, 0
    if n == 1:
        return 0, 0, 0.0
    while low < n - 2 and rate >= knots[low + 1]:
        low += 1
    return low, low + 1, min(max((rate - knots[low]) / (knots[low + 1] - knots[low]), 0.0), 1.0)


@compiled
def between(row: FloatArray, at: tuple[int, int, float]) -> float:
    """Of numbers (n_knot,) the one at a `place`."""
    low, high, part = at
    return row[low] + part * (row[high] - row[low])


@compiled
def forgotten(h: float) -> tuple[float, float]:
    """Part that a step h (ms) replaces of the mean rate of a source, and of a population's own."""
    return 1.0 - np.exp(-h / HABIT), 1.0 - np.exp(-h / OWN_HABIT)


@compiled
def temper(c: Cells, i: int, first: int, last: int, recent: float, habit: FloatArray, rate: FloatArray,
           forget: tuple[float, float]) -> None:
    """Give axes first ... last - 1, those of population i, their part of a swing, in place, over one step.

    `rate` (n_axis,) are the arriving rates (Hz) and `habit` (n_axis,) their means so far, `forget` (`forgotten`) what a
    step takes from them; the population's own mean rate so far is `recent` (Hz).
    """
    if c.sensitivity.shape[1] == 0:
        return
    at = place(c.knots[i], recent)
    for a in range(first, last):
        swing = rate[a] - habit[a]
        felt = between(c.sensitivity[0 if swing > 0.0 else 1, a], at)
        rate[a] = max(habit[a] + felt * swing, 0.0)
        habit[a] += forget[0] * swing


@compiled
def temper_all(system: System, c: Cells, inner: FloatArray, habit: FloatArray, rate: FloatArray,
               forget: tuple[float, float]) -> None:
    """`temper` for every population; `inner` as in `follow`."""
    for i in range(inner.shape[1]):
        temper(c, i, system.axis_start[i], system.axis_start[i + 1], inner[OWN, i], habit, rate, forget)


@compiled
def follow(c: Cells, i: int, f: float, limit: float, h: float, nu: FloatArray, inner: FloatArray,
           forget: tuple[float, float]) -> float:
    """Move population i by one step h (ms) towards f; return its rate before it is clipped.

    `nu` (n_population,) are rates (Hz), `inner` (5, n_population) what `at_rest` makes, `forget` as for `temper`.
    """
    z, own, before = inner[RECENT, i], inner[OWN, i], nu[i]
    at = place(c.knots[i], own)
    rho, slow = between(c.adaptation[i], at), between(c.slow[i], at)
    # Taking the target's new value for the whole step would be early by half of it: a fit would make up for that with a
    # lag, and other steps would not.
    target = np.log(max(f, 0.0) + LEAST_RATE)
    lag = between(c.rising[i] if target > inner[SECOND, i] else c.lag[i], at)
    steps, slowly = 2.0 * h / lag, 1.0 - np.exp(-h / slow)
    left = np.exp(-steps)
    inner[FIRST, i], u = two_low_passes(target, inner[TARGET, i], inner[FIRST, i], inner[SECOND, i], left, steps * left,
                                        1.0 / steps)
    inner[TARGET, i], inner[SECOND, i] = target, u
    g = np.exp(u)
    aim = g - LEAST_RATE + (rho - 1.0) * g * (u - np.log(z + LEAST_RATE))
    nu[i] = min(max(aim, 0.0), limit)
    mean = 0.5 * (before + nu[i])
    inner[RECENT, i] += (mean - z) * slowly
    inner[OWN, i] += (mean - own) * forget[1]
    return aim


@compiled
def at_rest(nu: FloatArray) -> FloatArray:
    """`inner` of `follow` for populations that have fired at the rates nu (n_population,) in Hz for long."""
    inner = np.empty((5, nu.size))
    inner[RECENT], inner[OWN] = nu, nu
    inner[FIRST] = np.log(nu + LEAST_RATE)
    inner[SECOND], inner[TARGET] = inner[FIRST], inner[FIRST]
    return inner


@compiled
def fire(c: Cells, i: int, N: float, h: float, nu: FloatArray, own: float, chance: FloatArray) -> float:
    """Activity (Hz) of population i in a step h (ms): what N cells of rate nu fire, by chance.

    `own` (Hz) is the population's mean rate so far, `chance` (2, n_population) what both low-passes hold.
    """
    if not np.isfinite(N):
        return nu[i]
    rate = max(nu[i], LEAST_CHANCE)
    mean = rate * N * h / 1000.0
    excess = np.random.poisson(mean) / mean - 1.0
    cv = between(c.irregularity[i], place(c.knots[i], own))
    passed = 1.0 - np.exp(-CORNER * rate * h)
    chance[0, i] += (excess - chance[0, i]) * passed
    chance[1, i] += (chance[0, i] - chance[1, i]) * passed
    return nu[i] + rate * (excess - (1.0 - cv) * chance[1, i])


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise MeanFieldError(what, where="cell response")
