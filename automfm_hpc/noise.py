"""Inputs that fluctuate: Ornstein-Uhlenbeck processes as drives.

    tau dx/dt = mean - x + sd sqrt(2 tau) xi(t)

in exact steps: x has the same mean, standard deviation and autocorrelation exp(-|t|/tau) at any dt.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import norm

from automfm_hpc.errors import MeanFieldError, suggest

FloatArray = NDArray[np.float64]
LAWS = ("clipped", "lognormal")


def fluctuation(n: int, dt: float, tau: float, seed: int) -> FloatArray:
    """Ornstein-Uhlenbeck process of mean 0 and standard deviation 1, begun in its stationary state, (n,).

    Parameters
    ----------
    n : int
        Samples, `dt` (ms) apart.
    dt, tau : float
        ms.
    seed : int
    """
    kicks, decay = np.random.default_rng(seed).standard_normal(n), np.exp(-dt / tau)
    kicks[1:] *= np.sqrt(1.0 - decay**2)
    return np.asarray(lfilter([1.0], [1.0, -decay], kicks), float)


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """A fluctuating rate, to be given to `MeanField.solve` and `solve_many` in the place of a time course.

    Parameters
    ----------
    mean, sd : float
        Hz.
    tau : float
        Correlation time (ms).
    duration : float
        s; the last rate is held afterwards.
    seed : int
        The same seed gives the same time course; there is no default, so that two inputs do not share it unawares.
    dt : float
        ms between samples, which are joined by straight lines; well below tau.
    law : {'clipped', 'lognormal'}
        clipped: negative rates become 0, which raises the mean to ``clipped_mean`` (by 0.4 % at mean = 2 sd, 8 % at
        mean = sd) and lowers the standard deviation. lognormal: the exponential of a process, positive, with exactly
        this mean and standard deviation; its autocorrelation decays from 1 as (q^exp(-t/tau) - 1)/(q - 1) with
        q = 1 + (sd/mean)^2, a little faster than exp(-t/tau).
    """

    mean: float
    sd: float
    tau: float
    duration: float
    seed: int
    dt: float = 1.0
    law: str = "clipped"

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise MeanFieldError(f"no law '{self.law}'", where="noise", remedy=suggest(self.law, LAWS))
        for name in ("tau", "duration", "dt"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise MeanFieldError(f"{name} = {getattr(self, name):g}", where="noise", remedy="It must be above 0.")
        for name in ("mean", "sd"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise MeanFieldError(f"{name} = {getattr(self, name):g} Hz", where="noise",
                                     remedy="It must not be negative.")
        if self.law == "lognormal" and self.mean == 0 < self.sd:
            raise MeanFieldError("a lognormal rate of mean 0 cannot fluctuate", where="noise")

    @cached_property
    def course(self) -> FloatArray:
        """Times (s) and rates (Hz), (n, 2)."""
        n = round(1000.0 * self.duration / self.dt) + 1
        z = fluctuation(n, self.dt, self.tau, self.seed)
        return np.column_stack([np.arange(n) * (self.dt / 1000.0), self._rates(z)])

    def _rates(self, z: FloatArray) -> FloatArray:
        if self.law == "clipped" or self.sd == 0:
            return np.maximum(self.mean + self.sd * z, 0.0)
        width = np.log1p((self.sd / self.mean) ** 2)
        return np.asarray(self.mean * np.exp(np.sqrt(width) * z - 0.5 * width), float)

    @property
    def clipped_mean(self) -> float:
        """Mean (Hz) of the rates after clipping."""
        if self.law == "lognormal" or self.sd == 0:
            return self.mean
        z = self.mean / self.sd
        return float(self.mean * norm.cdf(z) + self.sd * norm.pdf(z))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.course, dtype=dtype)

    def describe(self) -> dict[str, float | str]:
        """Everything that fixes the time course, for attributes."""
        return {"kind": "ornstein_uhlenbeck", **asdict(self)}
