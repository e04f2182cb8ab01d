"""Solutions as labelled data: samples over time, a status, and sentences about what went wrong where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.events import COUNT, EXTREME, FIRST, LAST, Events
from automfm_hpc.noise import OrnsteinUhlenbeck
from automfm_hpc.solver import Trace

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.mean_field import MeanField

_SINGLE: Mapping[str, int] = MappingProxyType({})
STATUSES = ("ok", "out_of_domain", "unsettled", "negative", "saturated", "diverged")  # from best to worst


@dataclass(frozen=True)
class Run:
    """One compiled run and how it was asked for; dt in ms; `untrusted`: sentences from `drive.beyond`."""

    trace: Trace
    order: int
    dt: float
    every: int
    method: str
    drive: dict[str, Any]
    untrusted: tuple[str, ...] = ()


def describe_drive(value: Any) -> float | str | dict[str, float | str]:
    """A constant rate as it is, noise as what fixes it; else a word, for attributes."""
    if isinstance(value, OrnsteinUhlenbeck):
        return value.describe()
    if callable(value):
        return "function"
    return float(value) if np.ndim(value) == 0 else "time course"


def events(model: MeanField, run: Run) -> list[dict[str, Any]]:
    """What happened in a run: status, where, first and last time (s), count of steps, extreme value, sentence."""
    return events_of(model, run.trace.events, run.dt)


def events_of(model: MeanField, found: Events, dt: float) -> list[dict[str, Any]]:
    """The same of event tables counted in steps of dt (ms)."""
    bounds = dict(zip(model.axis_labels, model.system.domain, strict=True))
    tops = dict(zip(model.sources, 1000.0 / model.system.T, strict=True))
    kinds = (
        ("out_of_domain", found.outside, model.axis_labels,
         lambda w: f"the transfer function of {w.partition('<-')[0]} covers {w.partition('<-')[2]} from "
                   f"{bounds[w][0]:g} to {bounds[w][1]:g} Hz only"),
        ("negative", found.below, model.populations, lambda w: f"the driven rate of {w} was cut off at 0"),
        ("saturated", found.above, model.populations,
         lambda w: f"the driven rate of {w} was cut off at 1/T = {tops[w]:g} Hz"),
        ("saturated", found.variance, model.sources, lambda w: f"the variance of {w} was cut off at 1/(4 T^2)"),
        ("unsettled", found.unsettled, ("network",),
         lambda w: "at the rates passed the linear response grows, so covariances have no stationary value; the last "
                   "one was kept"),
        ("diverged", found.broken, model.populations,
         lambda w: f"the transfer function of {w} is not finite; later samples repeat the last state"),
    )  # fmt: skip
    return [
        _event(status, where, table, sentence(where), dt)
        for status, rows, labels, sentence in kinds
        for where, table in zip(labels, rows, strict=True)
        if table[COUNT]
    ]


def _event(status: str, where: str, table: NDArray[np.float64], sentence: str, dt: float) -> dict[str, Any]:
    first, last = (float(table[column]) * dt / 1000.0 for column in (FIRST, LAST))
    value, count = float(table[EXTREME]), int(table[COUNT])
    span = f"at {first:.4g} s" if count == 1 else f"first at {first:.4g} s, last at {last:.4g} s, {count} steps"
    return {"status": status, "where": where, "first": first, "last": last, "count": count, "value": value,
            "message": f"{where}: {sentence}; reached {value:.4g} {span}"}  # fmt: skip


def status_of(happened: Sequence[dict[str, Any]]) -> str:
    """The worst status among events."""
    return max((event["status"] for event in happened), key=STATUSES.index, default="ok")


def dataset(model: MeanField, runs: Sequence[Run], lead: Mapping[str, int] = _SINGLE) -> xarray.Dataset:
    """Runs of equal shape as one dataset; `lead`: names and sizes of first dimensions over which the runs lie."""
    import xarray

    first, names = runs[0], list(model.populations)
    happened = [events(model, run) for run in runs]
    data: dict[str, Any] = {"rate": ((*lead, "time", "population"), _stack([r.trace.rate for r in runs], lead),
                                     {"units": "Hz"})}  # fmt: skip
    coords: dict[str, Any] = {"population": names}
    if first.order == 2:
        c = _stack([run.trace.covariance for run in runs], lead)
        data["covariance"] = ((*lead, "time", "population_i", "population_j"), c, {"units": "Hz^2"})
        coords |= {"population_i": names, "population_j": names}
    coords["time"] = ("time", np.arange(len(first.trace.rate)) * (first.dt * first.every / 1000.0), {"units": "s"})
    if lead:
        data["status"] = (tuple(lead), np.reshape([status_of(h) for h in happened], tuple(lead.values())))
    return xarray.Dataset(data, coords, _attributes(runs, happened, lead))


def _stack(arrays: Sequence[NDArray[np.float64]], lead: Mapping[str, int]) -> NDArray[np.float64]:
    return np.stack(arrays).reshape(*lead.values(), *arrays[0].shape) if lead else arrays[0]


def _attributes(
    runs: Sequence[Run], happened: list[list[dict[str, Any]]], lead: Mapping[str, int]
) -> dict[str, Any]:
    places = [dict(zip(lead, map(int, np.unravel_index(k, tuple(lead.values()))), strict=True)) if lead else {}
              for k in range(len(runs))]  # fmt: skip
    together = [event | place for place, some in zip(places, happened, strict=True) for event in some]
    said = [", ".join(f"{name} {k}" for name, k in place.items()) + (": " if place else "") + text
            for place, run, some in zip(places, runs, happened, strict=True)
            for text in (*(event["message"] for event in some), *run.untrusted)]  # fmt: skip
    return {
        "status": status_of(together), "warnings": said, "events": together, "order": runs[0].order,
        "method": runs[0].method, "dt_ms": runs[0].dt,
        "drive": [run.drive for run in runs[: lead["drive"]]] if lead else runs[0].drive,
    }  # fmt: skip


def summary(solved: xarray.Dataset) -> dict[str, Any]:
    """Status, drive, and rates and standard deviations (Hz) averaged over the last half of a single run.

    The standard deviation is the root of the mean variance; without order 2 there is none.
    """
    half = solved.isel(time=slice(solved.sizes["time"] // 2, None))
    names = [str(name) for name in solved.population.values]
    rates = half.rate.mean("time").values
    result = {"status": solved.attrs["status"], "order": solved.attrs["order"], "drive": solved.attrs["drive"],
              "rates": dict(zip(names, rates.tolist(), strict=True)), "sd": {}}  # fmt: skip
    if "covariance" in solved:
        variance = np.diagonal(half.covariance.mean("time").values)
        result["sd"] = dict(zip(names, np.sqrt(np.maximum(variance, 0.0)).tolist(), strict=True))
    return result | {"warnings": solved.attrs["warnings"]}
