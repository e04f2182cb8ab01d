"""Measured frequency responses: ``response.zarr``, one Zarr chunk per measurement and variable.

As in the other stores, the data of a measurement come first, then their checksum, then the status.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from automfm_hpc import folders
from automfm_hpc.dynamics_plan import ResponsePlan, ResponseTask
from automfm_hpc.errors import StoreError
from automfm_hpc.store.layout import DAMAGE, DONE, FAILED, KEYS, TODO, codecs

if TYPE_CHECKING:
    import xarray

PER_FREQUENCY = {
    "response_real": ("1", "real part of the response of the population's rate to the source's rate"),
    "response_imag": ("1", "imaginary part"),
    "error": ("1", "standard error of the real and of the imaginary part"),
}
PER_MEASUREMENT = {
    "rate": ("Hz", "mean rate of the cells"),
    "rate_sem": ("Hz", "its standard error"),
    "neuron_seconds": ("s", "simulated time, summed over cells"),
}
_KEY = "automfm_responses"


class ResponseStore:
    """Measured responses of one plan. Made by `create` (one process) or `open` (any process)."""

    def __init__(self, path: str | os.PathLike[str], responses: ResponsePlan) -> None:
        self.path, self.responses = Path(path), responses
        self._group: Any = zarr.open_group(self.path, mode="r+")

    @staticmethod
    def create(path: str | os.PathLike[str], responses: ResponsePlan) -> ResponseStore:
        """Make the store, or open the one that was made for the same run; its plan stays."""
        path = Path(path)
        folders.recover(path)
        folders.remove_leftovers(path)
        if not path.exists():
            folders.move(_lay_out(path, responses), path)
        store = ResponseStore.open(path)
        there = store.responses
        if (there.plan_id, there.points) != (responses.plan_id, responses.points):
            raise StoreError(f"holds responses of plan {there.plan_id} at {there.points} working points, not of "
                             f"{responses.plan_id} at {responses.points}", where=str(path),
                             remedy="Delete it, or ask for the same number of points.")
        return store

    @staticmethod
    def open(path: str | os.PathLike[str]) -> ResponseStore:
        """Open an existing store, with the plan it was made for."""
        path = Path(path)
        if not path.exists():
            raise StoreError("no such store", where=str(path), remedy="Run `automfm dynamics RUN` first.")
        try:
            data = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"][_KEY]
        except (OSError, ValueError, KeyError, TypeError):
            raise StoreError("is not a store of responses, or its description is damaged", where=str(path),
                             remedy="Delete it and run `automfm dynamics` again.") from None
        return ResponseStore(path, ResponsePlan.from_dict(data, str(path)))

    def missing(self) -> list[ResponseTask]:
        """Measurements to make: never made, failed, or damaged since."""
        return [t for t in self.responses.tasks if not self._is_done(t)]

    def failures(self) -> list[tuple[ResponseTask, str]]:
        """Measurements recorded as failed, with their messages."""
        return [(t, str(np.asarray(self._group["message"][_place(t)])[()])) for t in self.responses.tasks
                if self._status(t) == FAILED]

    def write(self, task: ResponseTask, values: Mapping[str, Any]) -> None:
        """Store a finished measurement: every variable; the status last."""
        for name in _names():
            self._group[name][_place(task)] = np.asarray(values[name], float)
        self._group["checksum"][_place(task)] = _checksum(values)
        self._group["status"][_place(task)] = DONE

    def fail(self, task: ResponseTask, message: str) -> None:
        """Record that a measurement could not be made."""
        self._group["message"][_place(task)] = message[:2000]
        self._group["status"][_place(task)] = FAILED

    def values(self, task: ResponseTask) -> dict[str, NDArray[Any]] | None:
        """What was measured; None if the measurement is not done."""
        if not self._is_done(task):
            return None
        return {name: np.asarray(self._group[name][_place(task)]) for name in _names()}

    def dataset(self) -> xarray.Dataset:
        """All variables over axis, working point and frequency, lazily."""
        import xarray

        data: xarray.Dataset = xarray.open_zarr(self.path, chunks=None, consolidated=False)
        return data.assign_coords(axis=list(self.responses.labels),
                                  frequency=("frequency", list(self.responses.frequency), {"units": "Hz"}))

    def _status(self, task: ResponseTask) -> int:
        try:
            return int(self._group["status"][_place(task)])
        except DAMAGE:
            return TODO

    def _is_done(self, task: ResponseTask) -> bool:
        if self._status(task) != DONE:
            return False
        try:
            values = {name: self._group[name][_place(task)] for name in _names()}
            return _checksum(values) == int(self._group["checksum"][_place(task)])
        except DAMAGE:
            return False


def _place(task: ResponseTask) -> tuple[int, int]:
    return task.axis, task.point


def _names() -> tuple[str, ...]:
    return (*PER_FREQUENCY, *PER_MEASUREMENT)


def _checksum(values: Mapping[str, Any]) -> int:
    total = 0
    for name in _names():
        total = zlib.crc32(np.ascontiguousarray(values[name], dtype="<f8").tobytes(), total)
    return total


def _lay_out(path: Path, responses: ResponsePlan) -> Path:
    aside = folders.aside(path)
    points = max([t.point for t in responses.tasks], default=0) + 1
    places = (len(responses.labels), points)
    try:
        group = zarr.create_group(aside, zarr_format=3, attributes={_KEY: responses.to_dict()})
        for name, described in PER_FREQUENCY.items():
            _empty(group, name, (*places, len(responses.frequency)), "<f8", np.nan, *described)
        for name, described in PER_MEASUREMENT.items():
            _empty(group, name, places, "<f8", np.nan, *described)
        _empty(group, "checksum", places, "<u4", 0, "1", "CRC-32 over the values of a measurement")
        _empty(group, "status", places, "|u1", TODO, "1", "0 to do, 1 done, 2 failed")
        group.create_array("message", shape=places, chunks=(1, 1), dtype=str, fill_value="", compressors=codecs(),
                           dimension_names=("axis", "point"), chunk_key_encoding=KEYS)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def _empty(group: Any, name: str, shape: tuple[int, ...], dtype: str, fill: float, units: str, meaning: str) -> None:
    group.create_array(name, shape=shape, chunks=(1, 1, *shape[2:]), dtype=dtype, fill_value=fill, compressors=codecs(),
                       dimension_names=("axis", "point", "frequency")[: len(shape)], chunk_key_encoding=KEYS,
                       attributes={"units": units, "long_name": meaning})
