"""Stationary rates of a mean field over drives, and how far they are from known rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.network import Network
from automfm_hpc.plan import Plan

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.mean_field import MeanField

ORDERS = (1, 2)


def stationary(model: MeanField, drives: Sequence[Mapping[str, float]], duration: float = 0.6) -> xarray.Dataset:
    """Rates averaged over the last half of a run at constant drive.

    Parameters
    ----------
    model : MeanField
    drives : sequence of mappings
        Input name -> rate (Hz).
    duration : float
        s.

    Returns
    -------
    xarray.Dataset
        rate and sd (order, drive, population) in Hz, sd NaN at order 1; status and warnings (order, drive).
    """
    import xarray

    shape = (len(ORDERS), len(drives))
    rate, sd = (np.full((*shape, len(model.populations)), np.nan) for _ in range(2))
    status, warnings = np.full(shape, "", dtype=object), np.full(shape, "", dtype=object)
    for o, order in enumerate(ORDERS):
        for d, drive in enumerate(drives):
            solution = model.solve(drive=drive, duration=duration, order=order, every=10)
            rate[o, d], sd[o, d] = summary(solution)
            status[o, d], warnings[o, d] = solution.attrs["status"], "; ".join(solution.attrs["warnings"])
    dims = ("order", "drive", "population")
    inputs = {f"drive_{name}": ("drive", [float(d[name]) for d in drives], {"units": "Hz"}) for name in model.inputs}
    return xarray.Dataset(
        {"rate": (dims, rate, {"units": "Hz"}), "sd": (dims, sd, {"units": "Hz"}),
         "status": (dims[:2], status.astype(str)), "warnings": (dims[:2], warnings.astype(str))},
        {"order": list(ORDERS), "population": list(model.populations), **inputs},
    )  # fmt: skip


def summary(solution: xarray.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean rate and standard deviation (Hz) of each population over the last half of a solution."""
    half = solution.isel(time=slice(solution.sizes["time"] // 2, None))
    rate = half["rate"].mean("time").values
    if "covariance" not in half:
        return rate, np.full(rate.shape, np.nan)
    variance = np.diagonal(half["covariance"].mean("time").values)[: rate.size]
    return rate, np.sqrt(np.maximum(variance, 0.0))


def compare(network: Network, rates: xarray.Dataset) -> dict[str, Any]:
    """Rates beside the description's working points, per population and group.

    Returns
    -------
    dict
        drives; per order and name: rates, reference, error (Hz), mean_absolute_error (Hz); warnings.
    """
    names = [*network.population_names, *network.groups]
    drives = [{i: float(rates[f"drive_{i}"][d]) for i in network.input_names} for d in range(rates.sizes["drive"])]
    orders = {
        str(order): {name: _row(network, rates.sel(order=order), name) for name in names} for order in ORDERS
    }
    texts = [str(w) for w in np.unique(rates["warnings"].values) if str(w)]
    return {"drives": drives, "orders": orders, "warnings": texts,
            "status": sorted({str(s) for s in np.unique(rates["status"].values)})}  # fmt: skip


def _row(network: Network, rates: xarray.Dataset, name: str) -> dict[str, Any]:
    members = network.groups.get(name, (name,))
    weights = np.array([network.population(m).size for m in members], float)
    weights /= weights.sum()
    mean = sum(w * rates["rate"].sel(population=m).values for w, m in zip(weights, members, strict=True))
    row: dict[str, Any] = {"rates": [round(float(r), 4) for r in mean]}
    points = network.working_points
    if all(m in points for m in members) and len(points[members[0]]) == len(mean):
        reference = sum(w * np.array(points[m]) for w, m in zip(weights, members, strict=True))
        row["reference"] = [round(float(r), 4) for r in reference]
        row["mean_absolute_error"] = float(np.nanmean(np.abs(mean - reference)))
    return row


def table(comparison: Mapping[str, Any], order: int = 2) -> str:
    """The comparison as text: a line per population, a column per drive."""
    rows = comparison["orders"][str(order)]
    drives = [" ".join(f"{v:g}" for v in d.values()) for d in comparison["drives"]]
    inputs = ", ".join(comparison["drives"][0]) if comparison["drives"] else ""
    head = f"{'Hz':<16}" + "".join(f"{d:>8}" for d in drives) + f"{'error':>9}"
    lines = [f"stationary rates, order {order}, no gain; columns: {inputs} (Hz)", head]
    for name, row in rows.items():
        error = f"{row['mean_absolute_error']:9.2f}" if "mean_absolute_error" in row else ""
        lines.append(f"{name:<16}" + "".join(f"{r:8.1f}" for r in row["rates"]) + error)
        if "reference" in row:
            lines.append(f"{'  known':<16}" + "".join(f"{r:8.1f}" for r in row["reference"]))
    return "\n".join(lines)


def write_dataset(path: Path, model: MeanField, plan: Plan, rates: xarray.Dataset) -> None:
    """Write the model again with its parameters and stationary rates as the store's root dataset."""
    from automfm_hpc.store import write_model

    p = plan.parameters
    grids = {name: (("target", "channel"), getattr(p, name), {"units": unit})
             for name, unit in (("K", "1"), ("Q", "nS"), ("tau_syn", "ms"), ("E", "mV"), ("delay", "ms"))}
    dataset = rates.assign(grids).assign_coords(target=list(p.populations), channel=list(p.channels))
    write_model(path, {**model.to_document(), "dataset": dataset})
