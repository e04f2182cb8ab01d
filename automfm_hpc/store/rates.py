"""Measured rates: one group per population, one Zarr chunk per task while ranks write.

No file is ever written by two ranks. For each chunk the data come first, then a checksum over all its
values, then the status; a chunk counts as done only if reading it gives the values whose checksum was
written. `RateStore.finish` packs a complete store into a few files.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from automfm_hpc import folders
from automfm_hpc.errors import StoreError
from automfm_hpc.plan import Grid, Plan, Task
from automfm_hpc.rate_grid import RateGrid
from automfm_hpc.store.layout import DAMAGE, DONE, FAILED, PER_CHUNK, TODO, VARIABLES, lay_out, root_attributes

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Progress:
    """Chunks in all, done, and failed."""

    total: int
    done: int
    failed: int

    @property
    def todo(self) -> int:
        return self.total - self.done - self.failed


@dataclass(frozen=True)
class Failure:
    """A chunk that could not be computed, and why."""

    task: Task
    message: str


class RateStore:
    """Measured rates of one plan. Made by `create` (one process) or `open` (any process)."""

    def __init__(self, path: str | os.PathLike[str], plan: Plan) -> None:
        self.path, self.plan = Path(path), plan
        self._opened: tuple[tuple[int, int], dict[str, dict[str, Any]]] | None = None

    @staticmethod
    def create(path: str | os.PathLike[str], plan: Plan) -> RateStore:
        """Make the store, or open it if it belongs to the same plan. For one process, before all others.

        A packed store in which chunks must be computed again is unpacked first, so that ranks can write.

        Raises
        ------
        StoreError
            If the folder holds something else, a damaged description, or the rates of another plan.
        """
        path = Path(path)
        folders.recover(path)
        folders.remove_leftovers(path)
        if not path.exists():
            folders.move(lay_out(path, plan, packed=False), path)
        store = RateStore.open(path, plan)
        store._mend()
        if store.packed and store.missing():
            store._unpack()
        return store

    @staticmethod
    def open(path: str | os.PathLike[str], plan: Plan | None = None) -> RateStore:
        """Open an existing store; without `plan`, with the plan it was made for.

        Raises
        ------
        StoreError
            If there is none, it is damaged, or it belongs to another plan.
        """
        path = Path(path)
        folders.recover(path)
        attributes = root_attributes(path)
        if plan is None:
            plan = Plan.from_dict(attributes["plan"], str(path))
        if attributes["plan_id"] != plan.id:
            raise StoreError(f"holds the rates of plan {attributes['plan_id']}, not of plan {plan.id}",
                             where=str(path), remedy="Choose another output folder, or delete this store.")
        return RateStore(path, plan)

    @property
    def packed(self) -> bool:
        """Whether the store is complete and packed into few files, which ranks must not write."""
        return bool(root_attributes(self.path)["packed"])

    # --- reading ----------------------------------------------------------------------------------

    def missing(self, retry_failed: bool = True) -> list[Task]:
        """Tasks to compute: never done, damaged since, and (if `retry_failed`) failed; in the plan's order."""
        states = {g.population: self._states(g) for g in self.plan.grids}
        wanted = (TODO, FAILED) if retry_failed else (TODO,)
        return [t for t in self.plan.tasks() if states[t.population][t.index] in wanted]

    def failed(self) -> list[Failure]:
        """Chunks recorded as failed, with their messages."""
        status = {g.population: self._status(g.population)[0] for g in self.plan.grids}
        return [Failure(t, self._message(t)) for t in self.plan.tasks() if status[t.population][t.index] == FAILED]

    def progress(self) -> Progress:
        """Count chunks by their status, without reading the data."""
        status = np.concatenate([self._status(g.population)[0].ravel() for g in self.plan.grids])
        return Progress(status.size, int(np.sum(status == DONE)), int(np.sum(status == FAILED)))

    def grid(self, population: str) -> xarray.Dataset:
        """One population's variables over its axes, lazily."""
        import xarray

        self.plan.grid(population)
        dataset: xarray.Dataset = xarray.open_zarr(self.path, group=population, chunks=None)
        return dataset

    def rate_grid(self, population: str) -> RateGrid:
        """What a fit needs of one population; NaN where a chunk is not done.

        Raises
        ------
        StoreError
            If a chunk has been damaged since it was written.
        """
        grid = self.plan.grid(population)
        arrays = self._arrays()[population]
        try:
            values = [arrays[name][...] for name in ("rate", "rate_sem", "adaptation")]
        except DAMAGE as error:
            raise StoreError(f"a chunk cannot be read ({error})", where=f"{self.path}: {population}",
                             remedy="Run `automfm simulate` again: it computes damaged chunks anew.") from None
        coordinates = tuple(np.asarray(c) for c in grid.coordinates)
        return RateGrid(population, grid.axes, coordinates, *values)

    # --- writing ----------------------------------------------------------------------------------

    def write(self, task: Task, values: Mapping[str, Any]) -> None:
        """Store a finished chunk.

        Parameters
        ----------
        task : Task
        values : mapping
            One array of the chunk's shape for each of `VARIABLES`.
        """
        blocks = _checked(task, values, str(self.path))
        arrays = self._writable(task)
        arrays["message"][task.index] = ""
        for name, block in blocks.items():
            arrays[name][_region(task)] = block
        arrays["checksum"][task.index] = _checksum(task, blocks.values())
        arrays["status"][task.index] = DONE

    def fail(self, task: Task, message: str) -> None:
        """Record that a chunk could not be computed."""
        arrays = self._writable(task)
        arrays["message"][task.index] = message[:2000]
        arrays["status"][task.index] = FAILED
        for name, variable in VARIABLES.items():
            arrays[name][_region(task)] = variable.fill

    def finish(self) -> None:
        """Pack a store with nothing left to do into a few files. For one process, after all others.

        The packed store is written aside, verified, and put in place; datasets opened before must be
        opened again.
        """
        if self.packed:
            return
        left = len(self.missing(retry_failed=False))
        if left:
            raise StoreError(f"{left} chunks are not done", where=str(self.path),
                             remedy="Run `automfm simulate` again.")
        aside = RateStore(lay_out(self.path, self.plan, packed=True), self.plan)
        for population, arrays in self._arrays().items():
            for name, array in arrays.items():
                aside._arrays()[population][name][...] = array[...]
        if aside.missing(retry_failed=False):
            raise StoreError("the packed copy does not equal the store", where=str(aside.path),
                             remedy="The disk is failing or full; the store itself is untouched.")
        folders.put_in_place(aside.path, self.path)

    def _unpack(self) -> None:
        """Go back to one Zarr chunk per task, keeping every chunk whose checksum holds."""
        aside = RateStore(lay_out(self.path, self.plan, packed=False), self.plan)
        for grid in self.plan.grids:
            states, arrays = self._states(grid), self._arrays()[grid.population]
            for task in grid.tasks(self.plan.seed):
                if states[task.index] == DONE:
                    aside.write(task, {name: arrays[name][_region(task)] for name in VARIABLES})
                elif states[task.index] == FAILED:
                    aside.fail(task, self._message(task))
        folders.put_in_place(aside.path, self.path)

    def _mend(self) -> None:
        """Write again what cannot be read but is known: coordinates from the plan, status from the checksums."""
        for grid in self.plan.grids:
            group: Any = zarr.open_group(self.path / grid.population, mode="r+")
            for axis, values in zip(grid.axes, grid.coordinates, strict=True):
                found = _read(group[axis], ...)
                if found is None or not np.array_equal(found, values):
                    group[axis][...] = np.asarray(values)
            if not self._status(grid.population)[1].all():
                group["status"][...] = self._states(grid)

    # --- inside -----------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, dict[str, Any]]:
        """The open arrays by population and name; opened anew after the store was replaced."""
        stat = os.stat(self.path / "zarr.json")
        stamp = (stat.st_ino, stat.st_mtime_ns)
        if self._opened is None or self._opened[0] != stamp:
            root: Any = zarr.open_group(self.path, mode="r+")
            names = (*VARIABLES, *PER_CHUNK, "message")
            self._opened = stamp, {g.population: {n: root[g.population][n] for n in names} for g in self.plan.grids}
        return self._opened[1]

    def _writable(self, task: Task) -> dict[str, Any]:
        arrays = self._arrays()[task.population]
        if arrays["status"].chunks != (1,) * len(task.index):
            raise StoreError("is packed, so ranks cannot write it", where=str(self.path),
                             remedy="Open it with RateStore.create, which unpacks what must be computed again.")
        return arrays

    def _status(self, population: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Status of each chunk (to do where unreadable), and where it could be read."""
        return _entries(self._arrays()[population]["status"])

    def _states(self, grid: Grid) -> NDArray[Any]:
        """Status of each chunk after verifying the data; a lost status is restored from the checksum."""
        status, readable = self._status(grid.population)
        verified = self._verified(grid, (status == DONE) | ~readable)
        states = np.where(verified, DONE, TODO)
        return np.where(readable & (status == FAILED), FAILED, states)

    def _verified(self, grid: Grid, candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Where the values that can be read have the checksum that was written."""
        arrays = self._arrays()[grid.population]
        tasks = [t for t in grid.tasks(self.plan.seed) if candidates[t.index]]
        sums: dict[int, int | None] = {t.chunk: _start(t) for t in tasks}
        for name in VARIABLES:
            whole = _read(arrays[name], ...) if tasks else None
            for t in tasks:
                block = whole[_region(t)] if whole is not None else _read(arrays[name], _region(t))
                sums[t.chunk] = _continued(sums[t.chunk], block)
        written, readable = _entries(arrays["checksum"])
        verified = np.zeros(grid.chunk_counts, bool)
        for t in tasks:
            verified[t.index] = bool(readable[t.index]) and sums[t.chunk] == int(written[t.index])
        return verified

    def _message(self, task: Task) -> str:
        text = _read(self._arrays()[task.population]["message"], task.index)
        return "its message has been lost" if text is None else str(np.asarray(text)[()])


# --- chunks -----------------------------------------------------------------------------------------


def _region(task: Task) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in task.slices)


def _checked(task: Task, values: Mapping[str, Any], where: str) -> dict[str, NDArray[Any]]:
    shape = tuple(b - a for a, b in task.slices)
    wrong = sorted(set(VARIABLES) ^ set(values))
    if wrong:
        raise StoreError(f"missing or unknown variables: {', '.join(wrong)}", where=f"{where}: {task.population}")
    blocks = {name: np.ascontiguousarray(values[name], dtype=v.dtype) for name, v in VARIABLES.items()}
    for name, block in blocks.items():
        if block.shape != shape:
            raise StoreError(f"'{name}' has shape {block.shape}, not {shape}",
                             where=f"{where}: {task.population}, chunk {task.chunk}")
    return blocks


def _start(task: Task) -> int:
    return zlib.crc32(f"{task.population}/{task.chunk}".encode())


def _continued(checksum: int | None, block: NDArray[Any] | None) -> int | None:
    if checksum is None or block is None:
        return None
    return zlib.crc32(np.ascontiguousarray(block).tobytes(), checksum)


def _checksum(task: Task, blocks: Iterable[NDArray[Any]]) -> int:
    checksum = _start(task)
    for block in blocks:
        checksum = zlib.crc32(block.tobytes(), checksum)
    return checksum


def _read(array: Any, where: Any) -> NDArray[Any] | None:
    """Values, or None if they cannot be read."""
    try:
        return np.asarray(array[where])
    except DAMAGE:
        return None


def _entries(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """All entries (0 where unreadable), and where they could be read."""
    whole = _read(array, ...)
    if whole is not None:
        return whole, np.ones(array.shape, bool)
    values, readable = np.zeros(array.shape, array.dtype), np.zeros(array.shape, bool)
    for index in np.ndindex(*array.shape):
        entry = _read(array, index)
        if entry is not None:
            values[index], readable[index] = entry, True
    return values, readable
