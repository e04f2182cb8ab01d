"""Scores of a mean field against a spiking network: pure functions of arrays.

Activities of the network are population rates (Hz) in bins, shape (n_seed, n_bin), every cell counted. The mean
field's course is its rate (Hz) at the bins' centres, shape (n_bin,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.spikes import smooth

FloatArray = NDArray[np.float64]
KERNEL = 5.0  # ms: standard deviation of the Gaussian kernel of time courses


@dataclass(frozen=True)
class Tolerance:
    """Errors that are small enough: any one of the three suffices.

    Parameters
    ----------
    percent : float
        Of the network's rate.
    hz : float
    spreads : float
        In units of the network's seed-to-seed spread.
    """

    percent: float = 10.0
    hz: float = 1.0
    spreads: float = 2.0

    def accepts(self, error: float, network: float, spread: float) -> bool:
        """Whether an error (Hz) of a rate (Hz) with that seed-to-seed spread (Hz, may be NaN) is small enough."""
        allowed = max(self.hz, self.percent / 100.0 * network, self.spreads * spread if np.isfinite(spread) else 0.0)
        return bool(np.isfinite(error) and abs(error) <= allowed)

    def __str__(self) -> str:
        return f"{self.percent:g} % or {self.hz:g} Hz or {self.spreads:g} seed-to-seed spreads"


@dataclass(frozen=True)
class Stationary:
    """One population at constant drive.

    Parameters
    ----------
    network, spread : float
        Mean and standard deviation over seeds of the network's rate (Hz); the spread of one seed is NaN.
    mean_field, error : float
        The mean field's rate, and its difference from the network's (Hz).
    percent, spreads : float
        The error over the network's rate, and over the spread; NaN where that is zero or unknown.
    """

    network: float
    spread: float
    mean_field: float
    error: float
    percent: float
    spreads: float


def stationary(rates: FloatArray, mean_field: float) -> Stationary:
    """Error of a mean-field rate (Hz) against the network's rates (Hz) of every seed, shape (n_seed,)."""
    mean, spread = float(rates.mean()), _spread(rates)
    error = float(mean_field) - mean
    return Stationary(mean, spread, float(mean_field), error, 100.0 * _over(error, mean), _over(error, spread))


@dataclass(frozen=True)
class TimeCourse:
    """One population under a drive that varies; both sides smoothed with the same kernel.

    Parameters
    ----------
    network, mean_field : float
        Rates over the window (Hz).
    spread : float
        Root mean square over time of the standard deviation over seeds (Hz).
    error : float
        Root mean square difference from the mean over seeds (Hz).
    percent, spreads : float
        The error over the network's rate, and over the spread.
    r2, ceiling : float
        Fraction of the PSTH's variance that the mean field explains, negative if a constant would do better;
        and the most that anything can reach, because the PSTH itself is a mean of n noisy seeds:
        1 - (spread^2/n)/variance.
    """

    network: float
    mean_field: float
    spread: float
    error: float
    percent: float
    spreads: float
    r2: float
    ceiling: float


def time_course(activity: FloatArray, mean_field: FloatArray, sigma: float = KERNEL, bin_ms: float = 1.0) -> TimeCourse:
    """Error of a mean-field course against activities, after a Gaussian kernel of `sigma` (ms) on both."""
    trials, course = smooth(activity, sigma, bin_ms), smooth(mean_field, sigma, bin_ms)
    psth = trials.mean(axis=0)
    n = len(trials)
    noise = float(trials.var(axis=0, ddof=1).mean()) if n > 1 else float("nan")
    residual, variance = float(((psth - course) ** 2).mean()), float(psth.var())
    error, spread, rate = float(np.sqrt(residual)), float(np.sqrt(noise)), float(psth.mean())
    return TimeCourse(rate, float(course.mean()), spread, error, 100.0 * _over(error, rate), _over(error, spread),
                      1.0 - _over(residual, variance), max(1.0 - _over(noise / n, variance), 0.0))


# --- sinusoids ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Response:
    """Answer of one population to a sinusoid, network and mean field.

    Parameters
    ----------
    gain, gain_sem, gain_mean_field : float
        Amplitude of the rate over the amplitude of the input's rate (1).
    lag, lag_sem, lag_mean_field : float
        Phase (degrees, in (-180, 180]) by which the rate follows the input.
    noise : float
        Gain that chance alone gives without any response: the standard error of the complex coefficient.
        Phases of responses below about three times the noise mean nothing.
    """

    gain: float
    gain_sem: float
    gain_mean_field: float
    lag: float
    lag_sem: float
    lag_mean_field: float
    noise: float


def fourier(course: FloatArray, frequency: float, bin_ms: float = 1.0) -> NDArray[np.complex128]:
    """Complex amplitude at `frequency` (Hz) of bins over the last axis, which must hold whole periods.

    A sin(w t + p) at the bins' centres gives A exp(i p).
    """
    n = course.shape[-1]
    angle = 2.0 * np.pi * frequency * (np.arange(n) + 0.5) * bin_ms / 1000.0
    mean = course.mean(axis=-1, keepdims=True)
    return np.asarray(2.0j / n * ((course - mean) @ np.exp(-1j * angle)), complex)


def response(activity: FloatArray, drive: FloatArray, mean_field: FloatArray, frequency: float,
             bin_ms: float = 1.0) -> Response:
    """Gain and phase lag at `frequency` (Hz) of activities and a mean field against their drive (Hz), all in bins.

    The complex coefficients of the seeds are averaged before the modulus is taken, so that noise averages out
    instead of adding to the gain. Half of the standard error's square lies along the coefficient (gain), half across
    it (phase).
    """
    given = complex(fourier(drive, frequency, bin_ms))
    each = fourier(activity, frequency, bin_ms) / given
    mean, solved = complex(each.mean()), complex(fourier(mean_field, frequency, bin_ms)) / given
    n = len(each)
    error = float(np.sqrt((np.abs(each - mean) ** 2).sum() / (n - 1) / n)) if n > 1 else float("nan")
    side = error / np.sqrt(2.0)
    lag_error = float(np.degrees(_over(side, abs(mean))))
    return Response(abs(mean), side, abs(solved), lag_of(mean), lag_error, lag_of(solved), error)


def lag_of(coefficient: complex) -> float:
    """Phase lag in degrees, in (-180, 180]."""
    lag = -float(np.degrees(np.angle(coefficient)))
    return lag + 360.0 if lag <= -180.0 else lag


def phase_difference(one: float, other: float) -> float:
    """one - other in degrees, in [-180, 180)."""
    return (one - other + 180.0) % 360.0 - 180.0


# --- second order ---------------------------------------------------------------------------------


def filtered_variance(activity: FloatArray, T: float, bin_ms: float = 1.0) -> float:
    """Variance (Hz^2) over time of activities filtered with exp(-t/T)/T: what c of the master equation stands for.

    Let A(t) be a population's activity: spikes of all N cells over N. To leading order in nu T its fluctuations are
    white, A = F(nu) + sqrt(F/N) xi. Filtered, T dnu/dt = A - nu, this is an Ornstein-Uhlenbeck process whose
    covariance obeys

        T dc/dt = F/(N T) + J c + c J^T - 2 c,

    the master equation's own form, with the source F (1/T - F)/N but for the F^2 of its binomial bins. So nu is the
    *exponentially filtered* activity and c its variance. Without recurrence (J = 0) c = F (1/T - F)/(2 N), half of
    the binomial variance of the rate in bins of T, as the exponential kernel passes half the power of such a bin:
    the integral of (exp(-t/T)/T)^2 is 1/(2T), that of (1/T)^2 over T is 1/T.

    Parameters
    ----------
    activity : (n_seed, n_bin) array
        Hz, in bins much shorter than T.
    T : float
        Time constant (ms).
    bin_ms : float
        ms.

    Returns
    -------
    float
        Mean over seeds of the variance around each seed's own mean. The first 5 T are left out; a window D takes a
        part of about 2T/D from it.
    """
    filtered = exponential(activity, T, bin_ms)
    settled = filtered[..., min(round(5.0 * T / bin_ms), filtered.shape[-1] // 2):]
    return float(settled.var(axis=-1).mean())


def exponential(activity: FloatArray, T: float, bin_ms: float = 1.0) -> FloatArray:
    """Bins over the last axis filtered with exp(-t/T)/T (causal), started from their mean."""
    from scipy.signal import lfilter

    keep = np.exp(-bin_ms / T)
    start = activity.mean(axis=-1, keepdims=True)
    filtered, _ = lfilter([1.0 - keep], [1.0, -keep], activity, axis=-1, zi=keep * start)
    return np.asarray(filtered, float)


# --- over drives ----------------------------------------------------------------------------------


def slope(drive: FloatArray, rate: FloatArray) -> FloatArray:
    """Least-squares slope (Hz per Hz) of rates (..., n_drive) against drives (n_drive,)."""
    x = drive - drive.mean()
    return np.asarray((rate @ x) / (x @ x), float)


def trusted_range(drives: Sequence[float], good: Sequence[bool]) -> tuple[float, float] | None:
    """Longest contiguous range of tested drives that are all good, from the first to the last of them; None: nowhere.

    Of ranges equally wide the lowest. Nothing is claimed beyond the drives tested.
    """
    order = np.argsort(drives)
    best: tuple[float, float] | None = None
    start: float | None = None
    for k in order:
        if not good[k]:
            start = None
            continue
        start = float(drives[k]) if start is None else start
        if best is None or drives[k] - start > best[1] - best[0]:
            best = (start, float(drives[k]))
    return best


def at_bins(times: FloatArray, values: FloatArray, start: float, n_bin: int, bin_ms: float = 1.0) -> FloatArray:
    """Values (n_time,) at times (ms), linearly interpolated at the centres of n_bin bins from `start` (ms) on."""
    return np.interp(start + (np.arange(n_bin) + 0.5) * bin_ms, times, values)


def _spread(values: FloatArray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _over(a: float, b: float) -> float:
    return a / b if b > 1e-9 else float("nan")  # less is rounding
