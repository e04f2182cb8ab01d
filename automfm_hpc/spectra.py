"""Linear response of a mean field as labelled data: frequency responses, power spectra, covariances.

The equations: `linear_response`. The working point is the stable fixed point (order 1) of lowest total rate at the
drive, or rates that are given, for example a spiking network's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc import linear_response
from automfm_hpc.drive import tabulate
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError, suggest
from automfm_hpc.initial import starting_rates
from automfm_hpc.response import FloatArray

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.mean_field import MeanField

PerPopulation = float | Mapping[str, float] | ArrayLike
Rates = Mapping[str, float] | ArrayLike | None


def frequency_response(model: MeanField, drive: Mapping[str, float], frequencies: ArrayLike, rates: Rates = None,
                       dynamics: bool | None = None) -> xarray.Dataset:
    """Response of every population's rate to a small sinusoid of each input.

    Parameters
    ----------
    drive : Mapping
        Rate of every input (Hz).
    frequencies : (n_frequency,) array
        Hz.
    rates : Mapping or (n_population,) array, optional
        Working point (Hz).
    dynamics : bool, optional
        Whether transfer functions see rates through the model's filters. Default: if it has them.

    Returns
    -------
    xarray.Dataset
        response (frequency, population, input): complex, Hz per Hz; gain: its modulus; phase: its angle in degrees,
        negative where the population lags behind.

    Raises
    ------
    MeanFieldError
        If the working point is unstable, or there is none.
    """
    import xarray

    f, filters = _frequencies(frequencies), model.filters_used(dynamics)
    point = working_point(model, drive, rates, filters)
    response = linear_response.rate_response(model.system, filters, point, f)
    dims = ("frequency", "population", "input")
    data = {"response": (dims, response, {"units": "Hz/Hz"}), "gain": (dims, np.abs(response), {"units": "Hz/Hz"}),
            "phase": (dims, np.degrees(np.angle(response)), {"units": "degree"})}  # fmt: skip
    coords = {"population": list(model.populations), "input": list(model.inputs)}
    return xarray.Dataset(data, {"frequency": ("frequency", f, {"units": "Hz"})} | coords, _point(model, point))


def power_spectra(model: MeanField, drive: Mapping[str, float], frequencies: ArrayLike, cv: PerPopulation = 1.0,
                  rates: Rates = None, dynamics: bool | None = None) -> xarray.Dataset:
    """Cross-spectra of the populations' activities (spikes of all cells over their number).

    Parameters
    ----------
    drive, frequencies, rates, dynamics
        As for `frequency_response`.
    cv : float, Mapping or (n_population,) array
        Coefficient of variation of the cells' interspike intervals: they fire as gamma renewal processes. 1: Poisson.

    Returns
    -------
    xarray.Dataset
        spectrum (frequency, population_i, population_j): complex, two-sided, Hz^2/Hz; power (frequency, population):
        its diagonal. A Poisson population without inputs has rate/N at every frequency.
    """
    import xarray

    f, filters = _frequencies(frequencies), model.filters_used(dynamics)
    point = working_point(model, drive, rates, filters)
    P, names = len(model.populations), list(model.populations)
    S = linear_response.activity_spectra(model.system, filters, point, f, _per_population(model, cv))[:, :P, :P]
    units = {"units": "Hz^2/Hz"}
    data = {"spectrum": (("frequency", "population_i", "population_j"), S, units),
            "power": (("frequency", "population"), np.einsum("fii->fi", S).real, units)}  # fmt: skip
    coords = {"population": names, "population_i": names, "population_j": names}
    return xarray.Dataset(data, {"frequency": ("frequency", f, {"units": "Hz"})} | coords, _point(model, point))


def covariance(model: MeanField, drive: Mapping[str, float], T: PerPopulation | None = None, cv: PerPopulation = 1.0,
               rates: Rates = None, dynamics: bool | None = None) -> xarray.DataArray:
    """Stationary covariance (Hz^2) of activities filtered with exp(-t/T)/T: what c of the master equation stands for.

    Parameters
    ----------
    T : float, Mapping or (n_population,) array, optional
        ms. Default: the model's.
    drive, cv, rates, dynamics
        As for `power_spectra`.
    """
    import xarray

    filters, P, names = model.filters_used(dynamics), len(model.populations), list(model.populations)
    point = working_point(model, drive, rates, filters)
    kernel = model.system.T.copy()
    if T is not None:
        kernel[:P] = _per_population(model, T)
    c = linear_response.filtered_covariance(model.system, filters, point, kernel, _per_population(model, cv))
    return xarray.DataArray(c[:P, :P], {"population_i": names, "population_j": names}, name="covariance",
                            attrs={"units": "Hz^2"} | _point(model, point))


def working_point(model: MeanField, drive: Mapping[str, float], rates: Rates, filters: Dynamics | None) -> FloatArray:
    """Rates (M,) in Hz of populations and inputs, stable."""
    inputs = tabulate(drive, model.inputs, np.zeros(1))[0]
    if rates is None:
        found = model.fixed_points(drive, n_start=4)
        if not len(found):
            raise MeanFieldError("no fixed point was found at this drive", where="linear response",
                                 remedy="Give the working point: rates=...")
        chosen = (found.stable or found.points)[0].rates
    else:
        chosen = starting_rates(model.system, model.populations, inputs, rates)
    point = np.concatenate([chosen, inputs])
    linear_response.require_stable(model.system, filters, point)
    return point


def _frequencies(values: ArrayLike) -> FloatArray:
    f = np.atleast_1d(np.asarray(values, float))
    if f.ndim != 1 or not (np.isfinite(f).all() and (f >= 0).all()):
        raise MeanFieldError("frequencies must be numbers from 0 on (Hz)", where="linear response")
    return f


def _per_population(model: MeanField, value: PerPopulation) -> FloatArray:
    """(P,) numbers above 0."""
    if isinstance(value, Mapping):
        for name in value:
            if name not in model.populations:
                raise MeanFieldError(f"no population '{name}'", where="linear response",
                                     remedy=suggest(name, model.populations))
        missing = [name for name in model.populations if name not in value]
        if missing:
            raise MeanFieldError(f"no number for {', '.join(missing)}", where="linear response")
        value = [value[name] for name in model.populations]
    numbers = np.asarray(value, float)
    if numbers.shape not in ((), (len(model.populations),)) or not (np.isfinite(numbers).all() and (numbers > 0).all()):
        raise MeanFieldError("one number above 0, or one per population, is needed", where="linear response")
    return np.broadcast_to(numbers, len(model.populations)).astype(float)


def _point(model: MeanField, point: FloatArray) -> dict[str, Any]:
    names = list(model.sources)
    return {"working_point": dict(zip(names, point.tolist(), strict=True))}
