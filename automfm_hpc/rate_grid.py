"""Measured rates on a grid: what the store hands to the fit, so that neither needs the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RateGrid:
    """Measured rates of one population on a grid of input rates; NaN where there is no measurement.

    Parameters
    ----------
    population : str
    axes : tuple of str
        Sources, one per dimension.
    coordinates : tuple of 1-D arrays
        Input rates (Hz) along each axis.
    rate : array of shape (len(coordinates[0]), ...)
        Output rate (Hz).
    rate_sem : array of the same shape, optional
        Its standard error (Hz); missing: all points weigh the same.
    adaptation : array of the same shape, optional
        Mean adaptation current (pA).
    """

    population: str
    axes: tuple[str, ...]
    coordinates: tuple[FloatArray, ...]
    rate: FloatArray
    rate_sem: FloatArray | None = None
    adaptation: FloatArray | None = None
