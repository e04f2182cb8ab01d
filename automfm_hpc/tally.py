"""What is known of one grid point so far, from the cells that were simulated at it, and how many more it takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.plan import LEAST_CELLS, Sampling
from automfm_hpc.remap import Cell
from automfm_hpc.representative import Chosen, estimate

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What was measured of each cell, shape (n_cell,): rate (Hz), mean adaptation current (pA), ISI CV."""

    rate: FloatArray
    adaptation: FloatArray
    cv: FloatArray


class Tally:
    """What is known of one grid point so far."""

    def __init__(self, cell: Cell) -> None:
        self._spread = np.array([c.indegree.sd > 0 for c in cell.channels])
        self._K, self._sd = cell.array("K"), np.array([c.indegree.sd or 1.0 for c in cell.channels])
        self._own_cells = cell.real is not None
        self._chosen: list[Chosen] = []
        self._samples: list[Sample] = []
        self._known: tuple[float, float] | None = None

    def add(self, chosen: Chosen, sample: Sample) -> None:
        self._chosen.append(chosen)
        self._samples.append(sample)
        self._known = None

    def rate(self) -> tuple[float, float]:
        """Mean rate (Hz) and its standard error (Hz).

        The candidates' in-degrees are a Latin hypercube, which integrates additive functions of them without error;
        what is left is the variance around an additive fit (Stein 1987, doi 10.1080/00401706.1987.10488205).
        A silent sample is no proof of silence, so the error is never below one spike in all the time counted.
        """
        if self._known is None:
            drive, candidates, pairs = (np.concatenate([getattr(c, k) for c in self._chosen])
                                        for k in ("drive", "candidates", "pairs"))
            found = estimate(self._all("rate"), self._weights(), drive, candidates)
            z = ((pairs - self._K) / self._sd)[:, self._spread]
            residual, freedom = (_within_cells if self._own_cells else _around_additive)(found.fitted, z)
            drawn = residual @ residual / max(freedom, 1) / len(z)
            self._known = max(found.mean, 0.0), float(np.sqrt(found.error**2 + drawn))
        return self._known

    def _all(self, name: str) -> FloatArray:
        return np.concatenate([getattr(s, name) for s in self._samples]) if self._samples else np.zeros(0)

    def _weights(self) -> FloatArray:
        """What each cell counts in means over cells, summing to 1."""
        weight = np.concatenate([c.weight * c.weight.size for c in self._chosen])
        return weight / weight.sum()

    def standard_error(self, window: float) -> float:
        """Hz; counted over `window` (ms) per cell."""
        return max(self.rate()[1], 1000.0 / (len(self._all("rate")) * window))

    def seconds(self, sampling: Sampling) -> float:
        return len(self._all("rate")) * sampling.seconds_per_cell

    def more_cells(self, sampling: Sampling) -> int:
        """New cells needed for the wanted standard error, within the budget; 0 if it is reached.

        At most as many as there are: the error falls faster than by the root of their number, because more cells
        carry a better regression.
        """
        n, error = len(self._all("rate")), self.standard_error(sampling.window)
        target = float(sampling.target(np.array(self.rate()[0])))
        affordable = sampling.affordable - n
        if error <= target or affordable < LEAST_CELLS:
            return 0
        needed = np.ceil(1.1 * n * (error / target) ** 2) - n
        return int(min(max(needed, LEAST_CELLS), max(n, LEAST_CELLS), affordable))

    def summary(self, sampling: Sampling) -> dict[str, float]:
        rate, cv, weight, mean = self._all("rate"), self._all("cv"), self._weights(), self.rate()[0]
        error, known = self.standard_error(sampling.window), np.isfinite(cv)
        variance = weight @ (rate - weight @ rate) ** 2 / (1.0 - weight @ weight)
        return {
            "rate": mean, "rate_sem": error, "rate_sd": float(np.sqrt(variance)),
            "adaptation": float(weight @ self._all("adaptation")),
            "cv": float(np.average(cv[known], weights=weight[known])) if known.any() else float("nan"),
            "n_cells": len(rate), "neuron_seconds": self.seconds(sampling),
            "converged": int(error <= float(sampling.target(np.array(mean)))),
        }  # fmt: skip


def _around_additive(rate: FloatArray, z: FloatArray) -> tuple[FloatArray, int]:
    """Residual of a fit that is additive and quadratic in the in-degrees, and its degrees of freedom."""
    design = np.column_stack([np.ones(len(rate)), z, z**2])
    return rate - design @ np.linalg.lstsq(design, rate, rcond=None)[0], len(rate) - design.shape[1]


def _within_cells(rate: FloatArray, z: FloatArray) -> tuple[FloatArray, int]:
    """Deviation from the mean of the same cell, if every own cell was used often enough; else from the mean of all."""
    _, who = np.unique(z, axis=0, return_inverse=True)
    count = np.bincount(who.ravel())
    if count.size > len(rate) / 2:
        return rate - rate.mean(), len(rate) - 1
    return rate - (np.bincount(who.ravel(), rate) / count)[who.ravel()], len(rate) - count.size
