"""How a population's rate follows its transfer function in time: a short lag, and adaptation to its own rate.

With f(t) what the present inputs would give in the long run, z the population's own recent rate, and q = LEAST_RATE,
below which nothing adapts,

    D          = (f + q) ((G + q)/(z + q))^((rho - 1) alpha)
    T/2 dm/dt  = ln D - m,    T/2 du/dt = m - u,    g = exp(u) - q
    T          = T_rise max(1, (nu_100 + q)/(g + q))^l, at most LATE/nu_100 and LATEST, where ln D > u, else T_fall;
                 of rises, too: times ((nu_100 + q)/D)^(1/2) where D > nu_100 + q
    a          = [(g + q) exp((rho - 1) (b tanh(x/b) - beta ln((z + q)/(Z + q)))) - q]_+,
                 x = ln((g + q)/(z + q)), with d for b where x < 0
    nu         = a (1 - p c)/(1 - p a)
    tau dz/dt  = nu - z,    2 tau dZ/dt = nu - Z,    0.3 tau dG/dt = f - G,    p/2 dc/dt = nu - c
    f          = F(y) exp(sum_k w_k [kappa_k (E_k - 1) + lambda_k s_k]),    w_k = (y_k/Y_k)^(1/2) nu_100/F
    E_k        = [(z_k + nu_0) r_k/y_k]^2

y_k being the rates of the sources behind delays and synapses, z_k and Y_k their means over the last 20 and 100 ms, r_k
what nu/(nu + nu_0) of the sources' rates nu is behind the same delays and synapses, s_k 1 where a source swings and 0
where it is calm, and nu_100 the population's own mean over the last 100 ms; alpha = 0.4, beta = 0.3. Fixed points are
those of F: nu = a = c = z = Z = G = g = f, E = 1, s_k = 0.

The lag. Near silence a membrane follows its input late, and cells fire with an exponential of what it has reached: so
the lag is one of ln f, and volleys come late and sharp; of f itself they would come late and blunt. A membrane that has
to come up to threshold is late, one that is pushed below it silences the cell at once: so rises are followed with a lag
of their own. What cells near silence show is late rather than weak (the phase of GrC at 3 Hz falls by 43 degrees at
27 Hz where the amplitude has not fallen at all), hence two low-passes and not one. How late a membrane comes up depends
on how far below threshold it is, and the rate tells: cells that fire with a tenth of their mean have been inhibited,
and have fired not long ago. So T_rise grows with a power l of mean over momentary rate, up to an eighth of a mean
interval, or 10 ms. With a T_rise that does not grow, Golgi cells begin the volleys of a strong wave 3 ms
early (docs/dynamics.md). And a strong drive brings a membrane up sooner than a weak one: T_rise falls with the root of
what f is above the mean. Without it Golgi cells are 2 ms late where the input steps up.

The pause. A cell that has just fired is out for p ms, and those that are out have fired p/2 ms ago, on average. Of a
population whose cells are all ready more fire at once than would in the long run, and after that fewer: of those that
the drive would make fire with the rate a, were they as ready as they are in the long run, (1 - p c)/(1 - p a) do. How
many spikes more that is, is what renewal theory says of cells with this dead time. The first volley after silence is
sharp, and ends itself.

Adaptation. A small sudden change of f shows rho-fold and decays to its own size as z follows: spike-triggered currents
answer the rate of the recent past, not the present one. A large sudden change shows at most
exp((rho - 1) b)-fold, or falls at most by exp((rho - 1) d): a cell that has been silent has no more to give than its
currents have let go, and each fires once or twice in a volley, whatever drives it. A power of the ratio that knew no
bound, or a logarithm, made Golgi cells answer all that goes on beside a wave 10 to 40 % too much; with one bound for
rises and falls they followed their own rhythm 5 % too little and its overtones 20 % too much (docs/dynamics.md).

What goes on for longer than a wave knows no such bound. In waves b and d are reached all the time, so that z, the
currents, hardly moved a volley: Golgi cells of such equations answered an input of 10 Hz beside their rhythm a tenth
too little, and one of 5 Hz 9 degrees late. Currents also act, as they do in a cell, on what drives it: f counts
(G/z)^((rho - 1) alpha)-fold. G is what f has asked for of late, averaged for less long than z, so that a sudden change
is answered once, and z = G where rates last. By how much z is above its own longer mean Z takes away from the rate once
more. The times of G and Z are parts and multiples of tau: populations whose tau is a few ms have nothing slow.

Around a rate the response is, with A = (rho - 1) alpha, B = (rho - 1) beta, T the mean of both lags, s = 2 pi i f,

    H(s) = P L rho [1 + A/(1 + 0.3 s tau)] / {1 + P [(L rho A + rho - 1 + B)/(1 + s tau) - B/(1 + 2 s tau)]},
    L    = 1/(1 + s T/2)^2,    P = (1 + s p/2)/[1 + (1 - p nu) s p/2]:

rho-fold at once and 1 in the long run; rho > 1 adapts, rho = 1 does not, rho < 1 facilitates.

The spread of what the cells of each source send, E_k, w_k and lambda_k: `spread`.

The numbers are measured in isolated cells at several rates (`modulated_cells`, `swings`); which hold is told by the
population's own mean rate over the last 100 ms, so that they stay as they are in a wave: fitted at one working point
and changed within its waves, they made Golgi cells at 12 Hz answer 10 to 17 degrees too early.

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
from automfm_hpc.response import compiled

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
LASTING = 100.0  # ms over which rates are averaged: of sources, for Y_k, and a population's own, for its numbers


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
    rising : (n_population, n_knot) array, optional
        T (ms) where ln(f + q) rises; without any `lag` holds for both.
    bound, depth : (n_population, n_knot) arrays, optional
        b of rates above and below the recent one; without any BOUND.
    lateness : (n_population, n_knot) array, optional
        l, 0 or more; without any 0.
    pause : (n_population, n_knot) array, optional
        p (ms), 0 or more; without any 0.
    spread : (n_axis, n_knot) array, optional
        kappa of each source, at the knots of the axis's population, axes as in `MeanField.axis_labels`; without any
        they are 0.
    offset : (n_axis, n_knot) array, optional
        lambda of each source; without any 0.
    """

    knots: FloatArray
    lag: FloatArray
    adaptation: FloatArray
    slow: FloatArray
    irregularity: FloatArray
    rising: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    bound: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    depth: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    lateness: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    pause: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    spread: FloatArray = field(default_factory=lambda: np.zeros((0, 1)))
    offset: FloatArray = field(default_factory=lambda: np.zeros((0, 1)))

    def __post_init__(self) -> None:
        if not np.size(self.rising):
            object.__setattr__(self, "rising", self.lag)
        for name, value in UNTOLD.items():
            if not np.size(getattr(self, name)):
                object.__setattr__(self, name, np.full(np.shape(self.lag), value))
        if not np.size(self.offset):
            object.__setattr__(self, "offset", np.zeros(np.shape(self.spread)))
        for name in (*FIELDS, *OF_AXES):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=float))
        shape = self.knots.shape
        good = len(shape) == 2 and all(getattr(self, name).shape == shape for name in FIELDS)
        _require(good, "all must have one shape (n_population, n_knot)")
        good = self.spread.ndim == 2 and (not self.spread.size or self.spread.shape[1:] == shape[1:])
        _require(good and self.offset.shape == self.spread.shape,
                 "spread and offset must have the shape (n_axis, n_knot)")
        finite = all(bool(np.isfinite(x).all()) for x in (self._all(), self.spread, self.offset))
        _require(finite, "numbers must be finite")
        _require(bool((np.diff(self.knots, axis=1) > 0).all()), "knots must increase")
        positive = [getattr(self, name) for name in FIELDS[1:] if name not in MAY_BE_0]
        _require(bool((np.stack(positive) > 0).all()), "lags, adaptation, slow, irregularity, bounds must be above 0")
        may_be_0 = np.stack([getattr(self, name) for name in MAY_BE_0])
        _require(bool((may_be_0 >= 0).all()), "lateness and pause must not be below 0")

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
        return np.array([self._at(rates, t) for t in (self.mean_lag, self.adaptation, self.slow, self.irregularity)])

    def _at(self, rates: FloatArray, table: FloatArray) -> FloatArray:
        return np.array([np.interp(r, k, row) for r, k, row in zip(rates, self.knots, table, strict=True)])

    def response(self, frequency: FloatArray, rates: FloatArray) -> ComplexArray:
        """H at frequencies (n_frequency,) in Hz and rates (n_population,) in Hz: (n_frequency, n_population).

        Of swings that rise as much as they fall, to first order in the difference of both lags.
        """
        pause = self._at(rates, self.pause)
        lag, rho, slow, _ = self.at(rates)
        out = np.array([out_of(p, rate) for p, rate in zip(pause, rates, strict=True)])
        return shape_of(frequency, lag, rho, slow, pause, out)

    def spreads(self, rates: FloatArray, axes: NDArray[np.int64]) -> FloatArray:
        """kappa of every axis at rates (n_population,) in Hz, (n_axis,), of `axes` (n_population,) axes each."""
        owner = np.repeat(np.arange(len(self.knots)), axes)
        if not self.spread.size:
            return np.zeros(owner.size)
        return np.array([np.interp(rates[i], self.knots[i], row) for i, row in zip(owner, self.spread, strict=True)])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        more = {name: getattr(self, name) for name in OF_AXES} if self.spread.size else {}
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
        if law != LAW:
            raise MeanFieldError(f"was measured for equations of version {law}, these are version {LAW}",
                                 where="cell response",
                                 remedy="Make the model again: `automfm fit RUN`, then `automfm dynamics RUN`; "
                                        "what was simulated is used again.")
        return CellResponse(**{name: np.asarray(arrays[name]) for name in (*FIELDS, *OF_AXES) if name in arrays})


LEAST_RATE = 0.5  # Hz: q, so that an answer to silence stays finite
CORNER = 1.5 * 2.0 * np.pi / 1000.0  # of both low-passes of the chance, times the rate in Hz: 1/ms
LEAST_CHANCE = 1e-6  # Hz: cells that fire less do so by the chance of this rate
LAW = 9  # of the equations above; before, the spread settled within 27 ms
BOUND = 1.0  # of b where nothing is known
UNTOLD = {"bound": BOUND, "depth": BOUND, "lateness": 0.0, "pause": 0.0}  # what small changes do not tell
LATE, LATEST = 0.12, 10.0  # of T where it grows: at most that part of a mean interval, and ms
DRIVEN, LASTED = 0.4, 0.3  # alpha and beta: what currents do to the drive, and what lasts of them
ASKED, LONGER = 0.3, 2.0  # time constants of G and Z over tau
SOONER = 0.5  # power of mean rate over f with which rises come sooner
AGE = 0.5  # of the pause: how long ago those that are out have fired, on average
MOST_OUT = 0.9  # of all cells: at most so many count as out, and rates that last stay those of F whatever they are
# Rows that `follow` remembers: z, m, u, LASTING mean, what m follows, c, G, Z.
RECENT, FIRST, SECOND, OWN, TARGET, OUT, WANTED, LONG_PAST = range(8)
FIELDS = ("knots", "lag", "adaptation", "slow", "irregularity", "rising", "bound", "depth", "lateness", "pause")
MAY_BE_0 = ("lateness", "pause")
OF_AXES = ("spread", "offset")


def shape_of(frequency: FloatArray, lag: Any, adaptation: Any, slow: Any, pause: Any = 0.0,
             out: Any = 0.0) -> ComplexArray:
    """H at frequencies (n_frequency,) in Hz; the numbers (n,) or scalars: (n_frequency, n).

    `out` is the part of the cells that is out, for `pause` ms each.
    """
    s = 2.0j * np.pi * np.asarray(frequency, float)[:, None] / 1000.0
    rho, tau = np.atleast_1d(adaptation), s * np.atleast_1d(slow)
    lagged, waits = 1.0 / (1.0 + 0.5 * s * np.atleast_1d(lag)) ** 2, s * AGE * np.atleast_1d(pause)
    ready = (1.0 + waits) / (1.0 + (1.0 - np.atleast_1d(out)) * waits)
    driven, lasted = (rho - 1.0) * DRIVEN, (rho - 1.0) * LASTED
    currents = (rho * lagged * driven + rho - 1.0 + lasted) / (1.0 + tau) - lasted / (1.0 + LONGER * tau)
    return np.asarray(ready * rho * lagged * (1.0 + driven / (1.0 + ASKED * tau)) / (1.0 + ready * currents), complex)


class Cells(NamedTuple):
    """`CellResponse` for compiled code."""

    knots: FloatArray
    lag: FloatArray
    adaptation: FloatArray
    slow: FloatArray
    irregularity: FloatArray
    rising: FloatArray
    bound: FloatArray
    depth: FloatArray
    lateness: FloatArray
    pause: FloatArray
    spread: FloatArray
    offset: FloatArray


def cells_of(response: CellResponse) -> Cells:
    return Cells(**{name: getattr(response, name) for name in (*FIELDS, *OF_AXES)})


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
def replaced(h: float, tau: float) -> float:
    """Part that a step h replaces of a mean over tau, both in ms."""
    return 1.0 - np.exp(-h / tau)


@compiled
def forgotten(h: float) -> float:
    """Part that a step h (ms) replaces of a mean over LASTING."""
    return replaced(h, LASTING)


@compiled
def out_of(pause: float, rate: float) -> float:
    """Part of the cells that is out: pause in ms, rate in Hz."""
    return min(pause * rate / 1000.0, MOST_OUT)


@compiled
def follow(c: Cells, i: int, f: float, limit: float, h: float, nu: FloatArray, inner: FloatArray,
           forget: float) -> float:
    """Move population i by one step h (ms) towards f; return its rate before it is clipped.

    `nu` (n_population,) are rates (Hz), `inner` (8, n_population) what `at_rest` makes, `forget` is
    `forgotten` in a step.
    """
    z, own, before = inner[RECENT, i], inner[OWN, i], nu[i]
    at = place(c.knots[i], own)
    rho, slow = between(c.adaptation[i], at), between(c.slow[i], at)
    recent = np.log(z + LEAST_RATE)
    inner[WANTED, i] += (max(f, 0.0) - inner[WANTED, i]) * replaced(h, ASKED * slow)
    more = DRIVEN * (np.log(inner[WANTED, i] + LEAST_RATE) - recent)
    # Taking the target's new value for the whole step would be early by half of it: a fit would make up for that with a
    # lag, and other steps would not.
    target = np.log(max(f, 0.0) + LEAST_RATE) + (rho - 1.0) * more
    if target > inner[SECOND, i]:
        lag, usual = between(c.rising[i], at), np.log(own + LEAST_RATE)
        below, over = usual - inner[SECOND, i], target - usual
        if below > 0.0:
            latest = min(1000.0 * LATE / max(own, LEAST_RATE), LATEST)
            lag = min(lag * np.exp(between(c.lateness[i], at) * below), max(lag, latest))
        if over > 0.0:
            lag *= np.exp(-SOONER * over)
    else:
        lag = between(c.lag[i], at)
    steps = 2.0 * h / lag
    left = np.exp(-steps)
    inner[FIRST, i], u = two_low_passes(target, inner[TARGET, i], inner[FIRST, i], inner[SECOND, i], left, steps * left,
                                        1.0 / steps)
    inner[TARGET, i], inner[SECOND, i] = target, u
    above = u - recent
    bound = between(c.bound[i], at) if above > 0.0 else between(c.depth[i], at)
    less = LASTED * (recent - np.log(inner[LONG_PAST, i] + LEAST_RATE))
    aim = np.exp(u + (rho - 1.0) * (bound * np.tanh(above / bound) - less)) - LEAST_RATE
    pause = between(c.pause[i], at)
    if pause > 0.0:
        aim *= (1.0 - out_of(pause, inner[OUT, i])) / (1.0 - out_of(pause, max(aim, 0.0)))
    nu[i] = min(max(aim, 0.0), limit)
    mean = 0.5 * (before + nu[i])
    inner[RECENT, i] += (mean - z) * replaced(h, slow)
    inner[LONG_PAST, i] += (mean - inner[LONG_PAST, i]) * replaced(h, LONGER * slow)
    inner[OWN, i] += (mean - own) * forget
    if pause > 0.0:
        inner[OUT, i] += (nu[i] - inner[OUT, i]) * replaced(h, AGE * pause)
    return aim


@compiled
def at_rest(nu: FloatArray) -> FloatArray:
    """`inner` of `follow` for populations that have fired at the rates nu (n_population,) in Hz for long."""
    inner = np.empty((8, nu.size))
    for row in (RECENT, OWN, OUT, WANTED, LONG_PAST):
        inner[row] = nu
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
