"""The store of spiking trials: ``spiking.zarr``, one group per experiment, one Zarr chunk per trial and variable."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from automfm_hpc import folders
from automfm_hpc.errors import StoreError
from automfm_hpc.exemplars import EXEMPLARS
from automfm_hpc.experiment import BIN, MEASURES, VALUES, Experiment, Trial
from automfm_hpc.intervals import LEVELS
from automfm_hpc.store.layout import DAMAGE, DONE, FAILED, KEYS, TODO, Variable, codecs

if TYPE_CHECKING:
    import xarray

TIMING = ("build", "connect", "presimulate", "simulate", "memory")


class TrialStore:
    """Measured trials of one experiment. Made by `create` (one process) or `open` (any process)."""

    def __init__(self, path: str | os.PathLike[str], experiment: Experiment) -> None:
        self.path, self.experiment = Path(path), experiment
        self._group: Any = zarr.open_group(self.path, mode="r+")

    @staticmethod
    def create(path: str | os.PathLike[str], experiment: Experiment,
               kept: tuple[str, ...] = VALUES) -> TrialStore:
        """Make the store, or open it if it belongs to the same experiment.

        `kept` are the values of a trial that it holds, in the order of VALUES. A store that is there already goes
        on with what it holds, if that is no more.

        Raises
        ------
        StoreError
            If it is there and cannot be gone on with.
        """
        path = Path(path)
        folders.recover(path)
        folders.remove_leftovers(path)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.move(_lay_out(path, experiment, kept), path)
        store = TrialStore.open(path, experiment)
        if not set(store._names()) <= set(kept):
            raise StoreError("was made by an older version, which kept other things", where=str(path),
                             remedy="Delete this store and simulate again.")
        return store

    @staticmethod
    def open(path: str | os.PathLike[str], experiment: Experiment) -> TrialStore:
        """Open an existing store.

        Raises
        ------
        StoreError
            If there is none, it is damaged, or it belongs to another experiment.
        """
        path = Path(path)
        if not path.exists():
            raise StoreError("no such store", where=str(path), remedy="Run the spiking network first.")
        try:
            found = dict(zarr.open_group(path, mode="r").attrs)["experiment_id"]
        except (*DAMAGE, KeyError):
            raise StoreError("is not a store of trials, or its description is damaged", where=str(path),
                             remedy="Move it away and simulate again.") from None
        if found != experiment.id:
            raise StoreError(f"holds the trials of experiment {found}, not of {experiment.id}", where=str(path),
                             remedy="Choose another output folder, or delete this store.")
        return TrialStore(path, experiment)

    def missing(self) -> list[Trial]:
        """Trials to compute: never done, failed, or damaged since."""
        return [t for t in self.experiment.trials() if not self._is_done(t)]

    def failures(self) -> list[tuple[Trial, str]]:
        """Trials recorded as failed, with their messages."""
        return [(t, str(np.asarray(self._group["message"][t.protocol, t.seed])[()])) for t in self.experiment.trials()
                if self._status(t) == FAILED]

    def write(self, trial: Trial, values: Mapping[str, NDArray[Any]]) -> None:
        """Store a finished trial: every value that the store keeps; the status last."""
        at = (trial.protocol, trial.seed)
        for name in self._names():
            self._group[name][at] = values[name]
        self._group["checksum"][at] = _checksum([values[name] for name in self._names()])
        self._group["status"][at] = DONE

    def fail(self, trial: Trial, message: str) -> None:
        """Record that a trial could not be simulated."""
        self._group["message"][trial.protocol, trial.seed] = message[:2000]
        self._group["status"][trial.protocol, trial.seed] = FAILED

    def dataset(self) -> xarray.Dataset:
        """All variables over protocol, seed, name (population or input) and time, lazily."""
        import xarray

        data: xarray.Dataset = xarray.open_zarr(self.path, chunks=None, consolidated=False)
        return data.assign_coords(
            name=list(self.experiment.names), protocol=[p.name for p in self.experiment.protocols],
            seed=range(self.experiment.seeds),
            time=("time", (np.arange(self.experiment.bins) + 0.5) * BIN, {"units": "ms"}), timing_of=list(TIMING),
        )  # fmt: skip

    def _status(self, trial: Trial) -> int:
        try:
            return int(self._group["status"][trial.protocol, trial.seed])
        except DAMAGE:
            return TODO

    def _is_done(self, trial: Trial) -> bool:
        if self._status(trial) != DONE:
            return False
        at = (trial.protocol, trial.seed)
        try:
            values = [self._group[name][at] for name in self._names()]
            return _checksum(values) == int(self._group["checksum"][at])
        except DAMAGE:
            return False

    def _names(self) -> tuple[str, ...]:
        """What a trial holds."""
        return tuple(name for name in VALUES if name in self._group)


def _checksum(values: Iterable[NDArray[Any]]) -> int:
    total = 0
    for value in values:
        held = np.ascontiguousarray(value, dtype="|u1" if value.dtype == np.uint8 else "<f8")
        total = zlib.crc32(held.tobytes(), total)
    return total


def _lay_out(path: Path, experiment: Experiment, kept: tuple[str, ...]) -> Path:
    aside = folders.aside(path)
    try:
        group = zarr.create_group(aside, zarr_format=3, attributes={
            "experiment_id": experiment.id, "experiment": experiment.to_dict()})
        trials = (len(experiment.protocols), experiment.seeds)
        for name, (shape, dimensions, variable) in _arrays(experiment).items():
            if name in kept:
                _empty(group, name, (*trials, *shape), ("protocol", "seed", *dimensions), *variable)
        if "trains" in kept:
            group["trains"].attrs["cells"] = experiment.kept
        _empty(group, "checksum", trials, ("protocol", "seed"), "<u4", 0, "1", "CRC-32 over the trial's values")
        _empty(group, "status", trials, ("protocol", "seed"), "|u1", TODO, "1", "0 to do, 1 done, 2 failed")
        group.create_array("message", shape=trials, chunks=(1, 1), dtype=str, fill_value="", compressors=codecs(),
                           dimension_names=("protocol", "seed"), chunk_key_encoding=KEYS)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return aside


def _arrays(experiment: Experiment) -> dict[str, tuple[tuple[int, ...], tuple[str, ...], Variable]]:
    """What a store can keep of one trial: shape, dimensions and kind of number."""
    names, bins = len(experiment.names), experiment.bins
    found: dict[str, tuple[tuple[int, ...], tuple[str, ...], Variable]] = {
        name: ((names,), ("name",), Variable("<f8", np.nan, units, meaning))
        for name, (units, meaning) in MEASURES.items()}
    found["activity"] = (names, bins), ("name", "time"), Variable(
        "<f8", np.nan, "Hz", f"population rate in bins of {BIN:g} ms")
    found["exemplars"] = (names, EXEMPLARS, 1 + LEVELS.size), ("name", "exemplar", "number"), Variable(
        "<f8", np.nan, "Hz, then 1",
        f"cells from slow to fast: rate; quantiles of intervals over their mean at {LEVELS.tolist()}")
    found["trains"] = (sum(experiment.kept.values()), bins), ("train", "time"), Variable(
        "|u1", 0, "1", f"spikes in bins of {BIN:g} ms, the cells of one population after those of another")
    found["timing"] = (len(TIMING),), ("timing_of",), Variable(
        "<f8", np.nan, "s", "wall-clock seconds of each part; memory in MiB")
    return found


def _empty(group: Any, name: str, shape: tuple[int, ...], dimensions: tuple[str, ...], dtype: str, fill: float,
           units: str, meaning: str) -> None:
    group.create_array(name, shape=shape, chunks=(1, 1, *shape[2:]), dtype=dtype, fill_value=fill, compressors=codecs(),
                       dimension_names=dimensions, chunk_key_encoding=KEYS,
                       attributes={"units": units, "long_name": meaning})
