"""Drives: rates of the external inputs as numbers, time courses or functions, tabulated at the solver's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import MeanFieldError, suggest

FloatArray = NDArray[np.float64]
Drive = Mapping[str, Any]


def tabulate(drive: Drive, inputs: Sequence[str], times: FloatArray) -> FloatArray:
    """Rates of all inputs at `times`.

    Parameters
    ----------
    drive : Mapping
        One entry per input: a rate (Hz); an (n, 2) array of times (s, increasing) and rates (Hz),
        interpolated linearly and held constant before the first and after the last time, or an
        `automfm_hpc.noise.OrnsteinUhlenbeck`, which is one; or a function
        of time (s) that returns a rate, called once with all times or, if it does not return as many
        rates, with each.
    inputs : sequence of str
    times : (n_time,) array
        s.

    Returns
    -------
    (n_time, n_input) array
        Hz.

    Raises
    ------
    MeanFieldError
        Unknown or missing inputs, rates that are negative or not finite, times that do not increase.
    """
    check_names(drive, inputs)
    table = np.empty((times.size, len(inputs)))
    for column, name in enumerate(inputs):
        table[:, column] = _course(drive[name], times, name)
        _check_rates(table[:, column], times, name)
    return table


def knots(drive: Drive, inputs: Sequence[str], times: FloatArray) -> list[FloatArray]:
    """The piecewise linear time course of every input: (n_knot, 2) arrays of times (s) and rates (Hz).

    As `tabulate`, which see, without interpolation: a constant has one knot, an array its own, and a function
    one at each of `times`.
    """
    check_names(drive, inputs)
    found = []
    for name in inputs:
        value = drive[name]
        table = not callable(value) and np.ndim(value) == 2
        at = np.asarray(value, float)[:, 0] if table else times if callable(value) else times[:1]
        course = _course(value, at, name)
        _check_rates(course, at, name)
        found.append(np.column_stack([at, course]))
    return found


def check_names(drive: Drive, inputs: Sequence[str]) -> None:
    """Raise MeanFieldError unless `drive` has exactly one entry per input."""
    for name in drive:
        if name not in inputs:
            raise MeanFieldError(f"no input '{name}'", where="drive", remedy=suggest(name, inputs))
    missing = [name for name in inputs if name not in drive]
    if missing:
        raise MeanFieldError(f"no rate for input {', '.join(missing)}", where="drive",
                             remedy=f"Give one, for example {missing[0]}=20 (Hz).")


def beyond(validity: Mapping[str, Any] | None, inputs: Sequence[str], table: FloatArray) -> tuple[str, ...]:
    """Sentences about inputs that leave the range in which the model agreed with the spiking network.

    Parameters
    ----------
    validity : Mapping or None
        What `automfm validate` found: `trusted`, for each input the lowest and highest rate (Hz), or None where the
        model agreed nowhere; `tolerance`. None: the model was not validated.
    inputs : sequence of str
    table : (n_time, n_input) array
        Hz.
    """
    if validity is None:
        return ()
    t = validity["tolerance"]
    close = (f"within {t['percent']:g} % or {t['hz']:g} Hz or {t['spreads']:g} seed-to-seed spreads "
             "of the spiking network")
    found = []
    for name, low, high in zip(inputs, table.min(axis=0), table.max(axis=0), strict=True):
        if name not in validity["trusted"]:
            continue
        trusted = validity["trusted"][name]
        rates = f"{name}: {low:g} Hz" if low == high else f"{name}: {low:g} to {high:g} Hz"
        if trusted is None:
            found.append(f"{rates}: at none of the rates tested was the model {close}")
        elif low < trusted[0] - 1e-9 or high > trusted[1] + 1e-9:
            found.append(f"{rates}: only from {trusted[0]:g} to {trusted[1]:g} Hz was the model {close}")
    return tuple(found)


def each(drives: Drive | Sequence[Drive], inputs: Sequence[str]) -> list[dict[str, Any]]:
    """Many drives as a list of single ones.

    Parameters
    ----------
    drives : sequence of drives, or one mapping
        In a mapping an input's (n_drive,) array means one constant rate per drive, an (n_drive, n, 2)
        array one time course per drive; anything else is shared by all drives.
    inputs : sequence of str

    Raises
    ------
    MeanFieldError
        No drives, or inputs with different numbers of them.
    """
    if not isinstance(drives, Mapping):
        singles = [dict(drive) for drive in drives]
        if not singles:
            raise MeanFieldError("no drives given", where="drive")
        return singles
    check_names(drives, inputs)
    counts = {name: len(value) for name, value in drives.items() if _is_batch(value)}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        sizes = ", ".join(f"{name}: {n}" for name, n in counts.items()) or "none"
        raise MeanFieldError(f"inputs must agree on the number of drives, found {sizes}", where="drive",
                             remedy="Give arrays (n_drive,) or (n_drive, n, 2) of one length.")
    n_drive = next(iter(counts.values()))
    return [{name: v[k] if name in counts else v for name, v in drives.items()} for k in range(n_drive)]


def _is_batch(value: Any) -> bool:
    return not callable(value) and np.ndim(value) in (1, 3)


def _course(value: Any, times: FloatArray, name: str) -> FloatArray:
    if callable(value):
        return _called(value, times, name)
    try:
        array = np.asarray(value, float)
    except (TypeError, ValueError):
        raise MeanFieldError(f"neither a rate, an array nor a function: {value!r}", where=f"drive '{name}'") from None
    if array.ndim == 0:
        return np.full(times.size, float(array))
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise MeanFieldError(f"an array of shape {array.shape}", where=f"drive '{name}'",
                             remedy="Give columns time (s) and rate (Hz): shape (n, 2).")
    if not np.all(np.diff(array[:, 0]) > 0):
        raise MeanFieldError("times must increase", where=f"drive '{name}'",
                             remedy="For a step give two times close to each other.")
    return np.interp(times, array[:, 0], array[:, 1])


def _called(function: Callable[[Any], Any], times: FloatArray, name: str) -> FloatArray:
    try:
        values = np.asarray(function(times), float)
        if values.shape == times.shape:
            return values
    except (TypeError, ValueError):
        pass  # a function of one time: `if`, math.sin ...
    try:
        return np.array([float(function(float(t))) for t in times])
    except (TypeError, ValueError) as error:
        raise MeanFieldError(f"the function does not return a rate: {error}", where=f"drive '{name}'") from error


def _check_rates(rates: FloatArray, times: FloatArray, name: str) -> None:
    bad = ~(np.isfinite(rates) & (rates >= 0))
    if bad.any():
        k = int(np.argmax(bad))
        raise MeanFieldError(f"{rates[k]:g} Hz at {times[k]:g} s is not a rate", where=f"drive '{name}'",
                             remedy="Rates are finite and not negative.")
