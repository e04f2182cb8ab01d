"""Order 2 of a mean field whose transfer functions see filtered rates: the covariances it relaxes to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from automfm_hpc.fixed_points import stationary_covariance
from automfm_hpc.response import FloatArray, System
from automfm_hpc.solver import Fluctuations

MOVED = 0.05  # part of 1 Hz + rate


def stationary(system: System, rates: FloatArray) -> Fluctuations:
    """Covariances at rates (M,) in Hz."""
    c = stationary_covariance(system, rates)
    if not np.isfinite(c).all() or np.linalg.eigvalsh(c).min() < -1e-9 * np.trace(c):
        c = np.zeros_like(c)  # no stationary value
    starts = system.axis_start
    rows = [system.axes[a:b] for a, b in pairwise(starts)]
    return Fluctuations(rates, c, np.concatenate([c[np.ix_(r, r)].ravel() for r in rows]))
