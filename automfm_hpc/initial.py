"""Where a solution begins: given rates, or the fixed point at the drive's first value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import MeanFieldError, suggest
from automfm_hpc.fixed_points import Driven, default_starts, refine, search, stationary_covariance
from automfm_hpc.response import FloatArray, System


def starting_rates(
    system: System, populations: Sequence[str], inputs: FloatArray,
    given: Mapping[str, float] | ArrayLike | None, second_order: Driven | None = None,
) -> FloatArray:  # fmt: skip
    """Rates (P,) in Hz.

    Parameters
    ----------
    inputs : (n_input,) array
        The drive's first value (Hz).
    given : Mapping or (P,) array, optional
        Rates asked for. Default: the stable fixed point of lowest total rate; zero if none is found.
    second_order : function, optional
        For order 2: driven rates and J, see `fixed_points.refine`.
    """
    if given is not None:
        return given_rates(system, populations, given)
    found = search(system, tuple(populations), inputs, 1, default_starts(system, 4), [""] * system.axes.size)
    if not found.stable:
        return np.zeros(len(populations))
    rates = found.stable[0].rates
    return rates if second_order is None else refine(system, rates, inputs, second_order)


def starting_covariance(system: System, rates: FloatArray, order: int) -> FloatArray:
    """c (M, M) in Hz^2 of the bare master equation: stationary at rates (M,); 0 where there is none, or at order 1."""
    M = rates.size
    if order == 1:
        return np.zeros((M, M))
    c = stationary_covariance(system, rates)
    proper = np.isfinite(c).all() and np.linalg.eigvalsh(c).min() >= -1e-9 * np.trace(c)
    return c if proper else np.zeros((M, M))


def given_rates(system: System, populations: Sequence[str], given: Mapping[str, float] | ArrayLike) -> FloatArray:
    """Starting rates (P,) in Hz, checked."""
    if isinstance(given, Mapping):
        for name in set(given) - set(populations):
            raise MeanFieldError(f"no population '{name}'", where="initial", remedy=suggest(name, populations))
        missing = [name for name in populations if name not in given]
        _require(not missing, f"initial has no rate for {', '.join(missing)}")
        given = [given[name] for name in populations]
    rates, top = np.array(given, float), 1000.0 / system.T[: len(populations)]
    _require(rates.shape == top.shape, f"initial has shape {rates.shape}, one rate per population is needed")
    _require(bool(((rates >= 0) & (rates < top)).all()), "initial rates must lie in [0, 1/T)")
    return rates


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise MeanFieldError(what, where="mean field")
