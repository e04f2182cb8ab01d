r"""Spatial connectivity profiles in Fourier space, normalised to 1 at k = 0.

Boxcar of half width w: sin(k w)/(k w). Gaussian of standard deviation w: exp(-k^2 w^2/2). Exponential
exp(-|x|/w)/(2 w): 1/(1 + k^2 w^2).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array


def boxcar(k: ArrayLike, width: ArrayLike) -> Array:
    """sin(k w)/(k w); k in 1/mm, width in mm."""
    return np.sinc(_product(k, width, "boxcar") / np.pi)


def gaussian(k: ArrayLike, width: ArrayLike) -> Array:
    """exp(-k^2 w^2/2); k in 1/mm, width (standard deviation) in mm."""
    return np.exp(-0.5 * _product(k, width, "gaussian") ** 2)


def exponential(k: ArrayLike, width: ArrayLike) -> Array:
    """1/(1 + k^2 w^2); k in 1/mm, width (decay length) in mm."""
    return 1.0 / (1.0 + _product(k, width, "exponential") ** 2)


PROFILES = {"boxcar": boxcar, "gaussian": gaussian, "exponential": exponential}


def profile(k: ArrayLike, width: ArrayLike, kind: str = "boxcar") -> Array:
    """Profile of the given kind at wave numbers k (1/mm) for widths (mm).

    Raises
    ------
    LIFError
        Unknown kind or negative width.
    """
    checks.one_of(kind, PROFILES, "profile", where="profile")
    return PROFILES[kind](k, width)


def _product(k: ArrayLike, width: ArrayLike, where: str) -> Array:
    return checks.real(k, "k", where=where) * checks.at_least(width, "width", where=where)
