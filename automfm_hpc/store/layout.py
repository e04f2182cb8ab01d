"""What a store of rates looks like on the disk: groups, arrays, chunks, codecs."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from automfm_hpc import folders
from automfm_hpc.errors import StoreError
from automfm_hpc.plan import Grid, Plan

FORMAT = 1
TODO, DONE, FAILED = 0, 1, 2
PACKED_POINTS = 1_000_000  # points per Zarr chunk of a packed store, 8 MB
KEYS: Any = {"name": "default", "separator": "."}  # c.0.3.1: no folder per chunk
DAMAGE = (OSError, RuntimeError, TypeError, ValueError)  # what Zarr raises on a chunk it cannot read


class Variable(NamedTuple):
    dtype: str
    fill: float
    units: str
    long_name: str


VARIABLES = {
    "rate": Variable("<f8", np.nan, "Hz", "stationary firing rate, mean over cells"),
    "rate_sem": Variable("<f8", np.nan, "Hz", "standard error of the rate"),
    "rate_sd": Variable("<f8", np.nan, "Hz", "standard deviation of the rate over cells"),
    "adaptation": Variable("<f8", np.nan, "pA", "adaptation current, mean over cells and time"),
    "cv": Variable("<f8", np.nan, "1", "coefficient of variation of the interspike intervals"),
    "n_cells": Variable("<i4", 0, "1", "simulated cells"),
    "neuron_seconds": Variable("<f8", np.nan, "s", "simulated time, summed over cells"),
    "converged": Variable("|i1", 0, "1", "1 if the standard error reached its target within the budget"),
}
PER_CHUNK = {
    "checksum": Variable("<u4", 0, "1", "CRC-32 over all values of the chunk"),
    "status": Variable("|u1", TODO, "1", "0 to do, 1 done, 2 failed"),
}


def lay_out(path: Path, plan: Plan, packed: bool) -> Path:
    """Write an empty store aside."""
    aside = folders.aside(path)
    try:
        root = zarr.create_group(aside, zarr_format=3, attributes={
            "format": FORMAT, "plan_id": plan.id, "plan": plan.to_dict(), "packed": packed})
        for grid in plan.grids:
            _lay_out_population(root, grid, packed)
        consolidate(aside, [g.population for g in plan.grids])
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def _lay_out_population(root: zarr.Group, grid: Grid, packed: bool) -> None:
    clash = set(grid.axes) & {*VARIABLES, *PER_CHUNK, "message"}
    if clash:
        raise StoreError(f"'{min(clash)}' is the name of an input and of a stored variable", where=grid.population,
                         remedy="Rename the input in the network description.")
    group = root.create_group(grid.population, attributes={"population": grid.population, "axes": list(grid.axes)})
    for axis, values in zip(grid.axes, grid.coordinates, strict=True):
        attributes: dict[str, Any] = {"units": "Hz", "long_name": f"firing rate of {axis}"}
        group.create_array(axis, data=np.asarray(values), chunks=(len(values),), dimension_names=[axis],
                           compressors=codecs(), chunk_key_encoding=KEYS, attributes=attributes)
    chunks = _packed_shape(grid) if packed else grid.chunk_shape
    for name, variable in VARIABLES.items():
        _empty(group, name, variable, grid.shape, chunks, grid.axes)
    counts = grid.chunk_counts
    entries = counts if packed else (1,) * len(counts)
    dimensions = tuple(f"{axis}_chunk" for axis in grid.axes)
    for name, variable in PER_CHUNK.items():
        _empty(group, name, variable, counts, entries, dimensions)
    group.create_array("message", shape=counts, chunks=entries, dtype=str, fill_value="", compressors=codecs(),
                       dimension_names=dimensions, chunk_key_encoding=KEYS,
                       attributes={"units": "1", "long_name": "why a chunk failed"})


def _empty(group: zarr.Group, name: str, variable: Variable, shape: tuple[int, ...], chunks: tuple[int, ...],
           dimensions: tuple[str, ...]) -> None:
    group.create_array(name, shape=shape, chunks=chunks, dtype=variable.dtype, fill_value=variable.fill,
                       dimension_names=dimensions, compressors=codecs(), chunk_key_encoding=KEYS,
                       attributes={"units": variable.units, "long_name": variable.long_name})


def codecs() -> tuple[ZstdCodec, Crc32cCodec]:
    """Compression, then a checksum over the stored bytes: a flipped bit anywhere is found on reading."""
    return ZstdCodec(level=3), Crc32cCodec()


def _packed_shape(grid: Grid) -> tuple[int, ...]:
    """Chunk shape grown over whole tasks, last axis first, to at most PACKED_POINTS points."""
    shape = list(grid.chunk_shape)
    for axis in reversed(range(len(shape))):
        others = int(np.prod(shape)) // shape[axis]
        tasks = max(1, PACKED_POINTS // (others * shape[axis]))
        shape[axis] = min(shape[axis] * tasks, max(grid.shape[axis], shape[axis]))
    return tuple(shape)


def consolidate(path: Path, groups: Iterable[str]) -> None:
    """Copy the metadata of all members into each group, so that opening reads one file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        for group in (*groups, ""):
            zarr.consolidate_metadata(path / group)


def root_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a rate store's root, read without opening its arrays."""
    if not path.exists():
        raise StoreError("no such store", where=str(path), remedy="Run `automfm simulate RUN` first.")
    try:
        attributes = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
        if attributes["format"] == FORMAT and {"plan", "plan_id", "packed"} <= set(attributes):
            return dict(attributes)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise StoreError("is not a store of rates of this version, or its description is damaged", where=str(path),
                     remedy="Move it away and simulate again.")
