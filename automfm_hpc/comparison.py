"""Stationary rates of a mean field over drives, and how far they are from known rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.network import Network
from automfm_hpc.plan import Plan

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.mean_field import MeanField

FloatArray = NDArray[np.float64]
ORDERS = (1, 2)
APART, LEAST_APART = 0.1, 0.1  # orders that differ by more, relative and in Hz, are warned of
OWN = "spiking network"  # label of the rates of the run's own network, of which working points come
SILENT = 0.01  # Hz: errors of what fires less are no part of its rate


def stationary(model: MeanField, drives: Sequence[Mapping[str, float]], duration: float = 0.6,
               scheduler: Any = None) -> xarray.Dataset:
    """Rates at constant drive, averaged over the last half of a run, or over realizations (`mesoscopic.answer`).

    Parameters
    ----------
    model : MeanField
    drives : sequence of mappings
        Input name -> rate (Hz).
    duration : float
        s.
    scheduler : optional
        What `dask.compute` takes: 'synchronous' (default) or an executor. The result does not depend on it.

    Returns
    -------
    xarray.Dataset
        rate and sd (order, drive, population) in Hz, sd NaN at order 1; status and warnings (order, drive).
    """
    import dask
    import xarray

    from automfm_hpc.mesoscopic import answer

    solving = dask.delayed(answer)
    tasks = [[solving(model, dict(drive), duration, order, every=10) for drive in drives] for order in ORDERS]
    (answers,) = dask.compute(tasks, scheduler=scheduler or "synchronous", traverse=True)
    shape = (len(ORDERS), len(drives))
    rate, sd = (np.full((*shape, len(model.populations)), np.nan) for _ in range(2))
    status, warnings = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    for o, row in enumerate(answers):
        for d, found in enumerate(row):
            rate[o, d] = [found["rates"][name] for name in model.populations]
            sd[o, d] = [found["sd"].get(name, np.nan) for name in model.populations]
            status[o, d], warnings[o, d] = found["status"], "; ".join(found["warnings"])
    dims = ("order", "drive", "population")
    inputs = {f"drive_{name}": ("drive", [float(d[name]) for d in drives], {"units": "Hz"}) for name in model.inputs}
    return xarray.Dataset(
        {"rate": (dims, rate, {"units": "Hz"}), "sd": (dims, sd, {"units": "Hz"}),
         "status": (dims[:2], status.astype(str)), "warnings": (dims[:2], warnings.astype(str))},
        {"order": list(ORDERS), "population": list(model.populations), **inputs},
    )  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Known rates to compare with.

    Parameters
    ----------
    label : str
        Where they come from.
    drives : tuple of mappings
        Input name -> rate (Hz).
    rates : Mapping
        Population -> rates (Hz), one per drive.
    """

    label: str
    drives: tuple[Mapping[str, float], ...]
    rates: Mapping[str, tuple[float, ...]]


def described(network: Network) -> Reference | None:
    """The description's own working points, if it has them for all inputs."""
    known = network.working_points
    if not network.input_names or not all(name in known for name in network.input_names):
        return None
    rows = zip(*(known[name] for name in network.input_names), strict=True)
    drives = tuple(dict(zip(network.input_names, row, strict=True)) for row in rows)
    return Reference("description", drives, {n: known[n] for n in network.population_names if n in known})


def compare(network: Network, references: Sequence[Reference], rates: xarray.Dataset) -> dict[str, Any]:
    """Mean-field rates beside every reference, per population and group.

    Parameters
    ----------
    network : Network
    references : sequence of Reference
    rates : xarray.Dataset
        From `stationary`, for the drives of all references one after the other.

    Returns
    -------
    dict
        references: label -> drives, orders -> name -> rates, reference, mean_absolute_error (Hz), percent
        (None where the reference is silent); warnings.
    """
    result: dict[str, Any] = {"references": {}}
    start = 0
    for reference in references:
        part = rates.isel(drive=slice(start, start + len(reference.drives)))
        start += len(reference.drives)
        orders = {str(o): {name: _row(network, reference, part.sel(order=o), name)
                           for name in (*network.population_names, *network.groups)} for o in ORDERS}
        result["references"][reference.label] = {"drives": [dict(d) for d in reference.drives], "orders": orders}
    result["warnings"] = [str(w) for w in np.unique(rates["warnings"].values) if str(w)]
    result["warnings"] += fluctuations_matter(rates, _known(network, references))
    result["status"] = sorted({str(s) for s in np.unique(rates["status"].values)})
    return result


def fluctuations_matter(rates: xarray.Dataset, known: Mapping[str, FloatArray] | None = None) -> list[str]:
    """A sentence for every population whose rates at order 1 are not those at order 2, for `rates` as of `stationary`.

    First-order mean fields, with transfer functions at mean rates as of Zerlaut et al. (2018), fail there. Where rates
    (n_drive,) in Hz are `known`, NaN where not, and order 2 is far from them and order 1 is not, it is order 2 that is
    not to be trusted: its equations swing as the network does not.
    """
    found = []
    for name in rates["population"].values:
        first, second = (rates["rate"].sel(order=o, population=name).values for o in ORDERS)
        true = (known or {}).get(str(name), np.full(first.shape, np.nan))
        away = np.abs(second - true)
        misled = (away > np.maximum(2.0 * APART * true, LEAST_APART)) & (np.abs(first - true) < 0.5 * away)
        if misled.any():
            found.append(f"{name}: with fluctuations (order 2) it is {_off(rates, second, true, misled)}, without "
                         "(order 1) by less than half of that: its dynamics do not swing as the network does; use "
                         "order 1 there, or dynamics=False (automfm run --no-dynamics)")
        apart = (np.abs(first - second) > np.maximum(APART * second, LEAST_APART)) & ~misled
        if apart.any():
            found.append(f"{name}: without fluctuations (order 1) it would be {_off(rates, first, second, apart)}: use "
                         "order 2 there")
    return found


def _off(rates: xarray.Dataset, these: FloatArray, those: FloatArray, where: NDArray[np.bool_]) -> str:
    """How far rates (n_drive,) are off others at some of the drives, as text."""
    percent = 100.0 * (these[where] / np.maximum(those[where], SILENT) - 1.0)
    drives = ", ".join(f"{str(key).removeprefix('drive_')} {_span(c.values[where], 'g')} Hz"
                       for key, c in rates.coords.items() if str(key).startswith("drive_"))  # fmt: skip
    return f"off by {_span(percent, '+.0f')} % at {where.sum()} of {where.size} drives ({drives})"


def _known(network: Network, references: Sequence[Reference]) -> dict[str, FloatArray]:
    """What the run's own network knows of every population's rate (Hz), at the drives of all references."""
    def row(reference: Reference, name: str) -> FloatArray:
        own = reference.label == OWN and name in reference.rates
        return np.asarray(reference.rates[name] if own else np.full(len(reference.drives), np.nan), float)

    return {name: np.concatenate([row(r, name) for r in references]) for name in network.population_names}


def _span(values: Any, form: str) -> str:
    """The least and the greatest, as text."""
    low, high = format(np.min(values), form), format(np.max(values), form)
    return low if low == high else f"{low} to {high}"


def _row(network: Network, reference: Reference, rates: xarray.Dataset, name: str) -> dict[str, Any]:
    members = network.groups.get(name, (name,))
    sizes = np.array([network.population(m).size for m in members], float)
    weights = sizes / sizes.sum()
    mean = sum(w * rates["rate"].sel(population=m).values for w, m in zip(weights, members, strict=True))
    row: dict[str, Any] = {"rates": [round(float(r), 4) for r in mean]}
    if all(m in reference.rates for m in members):
        known = sum(w * np.array(reference.rates[m]) for w, m in zip(weights, members, strict=True))
        error = np.abs(mean - known)
        row["reference"] = [round(float(r), 4) for r in known]
        row["mean_absolute_error"] = float(error.mean())
        row["percent"] = [round(100.0 * float(e / k), 2) if k > SILENT else None
                          for e, k in zip(error, known, strict=True)]  # fmt: skip
    return row


def scores(comparison: Mapping[str, Any], order: int = 2) -> dict[str, float]:
    """Mean absolute error (Hz) by population and group, against the first reference that has one."""
    for block in comparison["references"].values():
        rows = block["orders"][str(order)]
        found = {name: row["mean_absolute_error"] for name, row in rows.items() if "mean_absolute_error" in row}
        if found:
            return found
    return {}


def table(comparison: Mapping[str, Any], order: int = 2) -> str:
    """The comparison as text: for each reference a line pair per population, a column per drive."""
    lines: list[str] = []
    for label, block in comparison["references"].items():
        rows, drives = block["orders"][str(order)], block["drives"]
        lines.append(f"stationary rates (Hz), order {order}, no gain, against: {label}")
        inputs = ", ".join(drives[0])
        lines.append(f"{inputs + ' (Hz)':<16}" + "".join(f"{' '.join(f'{v:g}' for v in d.values()):>8}" for d in drives)
                     + f"{'error':>9}")
        for name, row in rows.items():
            error = f"{row['mean_absolute_error']:9.2f}" if "mean_absolute_error" in row else ""
            lines.append(f"{name:<16}" + "".join(f"{r:8.1f}" for r in row["rates"]) + error)
            if "reference" in row:
                lines.append(f"{'  ' + label[:13]:<16}" + "".join(f"{r:8.1f}" for r in row["reference"]))
        lines.append("")
    return "\n".join(lines).rstrip()


def write_dataset(path: Path, model: MeanField, plan: Plan, rates: xarray.Dataset) -> None:
    """Write the model again with its parameters and stationary rates as the store's root dataset."""
    from automfm_hpc.store import write_model

    p = plan.parameters
    grids = {name: (("target", "channel"), getattr(p, name), {"units": unit})
             for name, unit in (("K", "1"), ("Q", "nS"), ("tau_syn", "ms"), ("E", "mV"), ("delay", "ms"))}
    dataset = rates.assign(grids).assign_coords(target=list(p.populations), channel=list(p.channels))
    write_model(path, {**model.to_document(), "dataset": dataset})
