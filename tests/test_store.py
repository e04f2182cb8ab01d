"""The rate store under damage and kills, packed and unpacked; models written and read back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray

from automfm_hpc import folders
from automfm_hpc.errors import PlanError, StoreError
from automfm_hpc.plan import Plan
from automfm_hpc.store import VARIABLES, RateStore, layout, read_model, write_model

sys.path.insert(0, str(Path(__file__).parent / "mpi"))
from chunks import chunk, small_plan

ROOT = Path(__file__).parent.parent
PLAN = replace(small_plan(), grids=small_plan().grids[:2])  # GrC: 4 chunks, GoC: 16


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def fill(store: RateStore) -> list[str]:
    """Compute what is missing; the names of those chunks."""
    tasks = store.missing()
    for task in tasks:
        store.write(task, chunk(store.plan, task))
    return [f"{t.population}/{t.chunk}" for t in tasks]


def contents(store: RateStore) -> dict[str, bytes]:
    return {f"{g.population}/{name}": store.grid(g.population)[name].values.tobytes()
            for g in store.plan.grids for name in (*VARIABLES, "status", "checksum")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RateStore:
    store = RateStore.create(tmp_path_factory.mktemp("whole") / "rates.zarr", PLAN)
    fill(store)
    return store


@pytest.fixture
def store(tmp_path: Path, whole: RateStore) -> RateStore:
    shutil.copytree(whole.path, tmp_path / "run" / "rates.zarr")
    return RateStore.open(tmp_path / "run" / "rates.zarr", PLAN)


@pytest.fixture(scope="module")
def expected(whole: RateStore) -> dict[str, bytes]:
    return contents(whole)


def test_a_new_store_has_everything_to_do(tmp_path):
    store = RateStore.create(tmp_path / "rates.zarr", PLAN)
    assert store.missing() == list(PLAN.tasks())
    assert (store.progress().total, store.progress().todo) == (20, 20)
    assert np.isnan(store.grid("GrC").rate).all()


def test_xarray_shows_axes_coordinates_and_units(store):
    with _no_warnings():
        data = xarray.open_zarr(store.path, group="GoC")
    assert data.rate.dims == ("mf", "GoC", "GrC")
    assert tuple(data.GoC.values) == PLAN.grid("GoC").coordinates[1]
    assert data.mf.attrs["units"] == data.rate.attrs["units"] == "Hz"
    assert data.adaptation.attrs["units"] == "pA"
    assert all({"units", "long_name"} <= set(data[v].attrs) for v in VARIABLES)
    assert data.rate.sel(mf=0.0).shape == (4, 4)


def test_create_again_keeps_what_is_there(store, expected):
    again = RateStore.create(store.path, PLAN)
    assert again.missing() == []
    assert contents(again) == expected


def test_the_store_knows_its_plan(store):
    assert RateStore.open(store.path).plan == PLAN
    assert RateStore.open(store.path).plan.id == PLAN.id


def test_another_plan_is_refused(store):
    for opening in (RateStore.create, RateStore.open):
        with pytest.raises(StoreError, match=r"not of plan .* Choose another output folder"):
            opening(store.path, replace(PLAN, seed=2))
    assert store.missing() == []


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no such store"):
        RateStore.open(tmp_path / "rates.zarr")
    (tmp_path / "rates.zarr").mkdir()
    with pytest.raises(StoreError, match="is not a store of rates"):
        RateStore.create(tmp_path / "rates.zarr", PLAN)
    (tmp_path / "rates.zarr" / "zarr.json").write_text('{"attributes":')
    with pytest.raises(StoreError, match="is not a store of rates"):
        RateStore.open(tmp_path / "rates.zarr")


def test_values_are_checked_before_anything_is_written(tmp_path):
    store = RateStore.create(tmp_path / "rates.zarr", PLAN)
    task = PLAN.tasks()[0]
    values = chunk(PLAN, task)
    with pytest.raises(StoreError, match="missing or unknown variables: rate, rates"):
        store.write(task, {"rates" if k == "rate" else k: v for k, v in values.items()})
    with pytest.raises(StoreError, match="'cv' has shape"):
        store.write(task, {**values, "cv": np.zeros(7)})
    assert store.progress().todo == 20


def test_an_input_named_like_a_variable_is_refused(tmp_path):
    data = PLAN.to_dict()
    data["grids"][0]["axes"] = ["rate", "GoC"]
    with pytest.raises(StoreError, match="'rate' is the name of an input and of a stored variable"):
        RateStore.create(tmp_path / "rates.zarr", Plan.from_dict(data))
    assert list(tmp_path.iterdir()) == []


def test_unknown_population(store):
    with pytest.raises(PlanError, match="Did you mean 'GrC'"):
        store.grid("GrCC")


def test_failures_are_kept_and_tried_again(tmp_path, expected):
    store = RateStore.create(tmp_path / "rates.zarr", PLAN)
    task = store.missing()[5]
    store.fail(task, "NEST: Größe")
    fill_others = [t for t in store.missing() if t != task]
    for other in fill_others:
        store.write(other, chunk(PLAN, other))
    assert store.missing() == [task]
    assert store.missing(retry_failed=False) == []
    assert [(f.task, f.message) for f in store.failed()] == [(task, "NEST: Größe")]
    store.finish()
    assert [(f.task, f.message) for f in store.failed()] == [(task, "NEST: Größe")]
    store = RateStore.create(store.path, PLAN)
    assert fill(store) == [f"{task.population}/{task.chunk}"]
    assert store.failed() == []
    assert contents(store) == expected


# --- damage -----------------------------------------------------------------------------------------


def files(store: RateStore, variable: str) -> list[Path]:
    return sorted((store.path / "GoC" / variable).glob("c.*"))


@pytest.mark.parametrize("variable", ["rate", "converged", "checksum", "status"])
@pytest.mark.parametrize("size", [0, -1, None])
def test_a_truncated_or_lost_file_costs_its_chunk(store, expected, variable, size):
    file = files(store, variable)[7]
    file.unlink() if size is None else file.write_bytes(file.read_bytes()[:size])
    store = RateStore.create(store.path, PLAN)
    known = variable == "status" and size is not None  # the checksum tells that the chunk was done
    assert len(fill(store)) == (0 if known else 1)
    assert store.missing() == []
    assert contents(store) == expected


def test_every_flipped_byte_is_found(store):
    file = files(store, "rate")[3]
    good = file.read_bytes()
    for k in range(len(good)):
        file.write_bytes(good[:k] + bytes([good[k] ^ (1 << k % 8)]) + good[k + 1:])
        assert len(store.missing()) == 1, f"byte {k}"
    file.write_bytes(good)
    assert store.missing() == []


def test_a_valid_file_in_the_wrong_place_is_found(store):
    first, second = files(store, "rate")[:2]
    second.write_bytes(first.read_bytes())
    assert len(store.missing()) == 1


def test_a_damaged_chunk_is_an_error_where_it_is_read(store):
    pytest.importorskip("automfm_hpc.fit")
    grid = store.rate_grid("GoC")
    assert grid.axes == ("mf", "GoC", "GrC")
    assert grid.rate.tobytes() == store.grid("GoC").rate.values.tobytes()
    files(store, "rate")[3].write_bytes(b"")
    with pytest.raises(StoreError, match="computes damaged chunks anew"):
        store.rate_grid("GoC")


def test_damaged_coordinates_are_written_again(store):
    file, = files(store, "mf")
    file.write_bytes(b"x")
    store = RateStore.create(store.path, PLAN)
    assert tuple(store.grid("GoC").mf.values) == PLAN.grid("GoC").coordinates[0]


# --- packed -----------------------------------------------------------------------------------------


def test_packing_keeps_everything_in_few_files(store, expected):
    before = sum(p.is_file() for p in store.path.rglob("*"))
    store.finish()
    after = sum(p.is_file() for p in store.path.rglob("*"))
    assert after < before / 2
    assert store.packed
    assert store.missing() == []
    assert contents(store) == contents(RateStore.create(store.path, PLAN)) == expected
    assert [p.name for p in store.path.parent.iterdir()] == ["rates.zarr"]
    store.finish()
    with pytest.raises(StoreError, match="is packed"):
        store.write(PLAN.tasks()[0], chunk(PLAN, PLAN.tasks()[0]))


def test_an_unfinished_store_is_not_packed(tmp_path):
    store = RateStore.create(tmp_path / "rates.zarr", PLAN)
    with pytest.raises(StoreError, match="20 chunks are not done"):
        store.finish()
    assert not store.packed


@pytest.mark.parametrize(("variable", "redone"), [("rate", 16), ("checksum", 16), ("status", 0)])
def test_damage_in_a_packed_store_costs_what_the_file_held(store, expected, variable, redone):
    store.finish()
    file, = files(store, variable)
    file.write_bytes(file.read_bytes()[:-3])
    store = RateStore.create(store.path, PLAN)
    assert len(fill(store)) == redone
    store.finish()
    assert contents(store) == expected


def test_a_packed_store_may_have_several_files_per_array(tmp_path, expected, monkeypatch):
    monkeypatch.setattr(layout, "PACKED_POINTS", 8)
    store = RateStore.create(tmp_path / "rates.zarr", PLAN)
    fill(store)
    store.finish()
    assert len(files(store, "rate")) == 8
    assert contents(store) == expected
    files(store, "rate")[2].write_bytes(b"damaged")
    store = RateStore.create(store.path, PLAN)
    assert len(fill(store)) == 2
    assert contents(store) == expected


# --- kills ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code may catch it and tidy up."""


@pytest.mark.parametrize("step", range(6))
def test_packing_may_be_killed_between_any_two_steps(store, expected, step, monkeypatch):
    calls = iter(range(100))

    def counted(function):
        def call(*arguments, **options):
            if next(calls) == step:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(folders.os, "rename", counted(os.rename))
        patch.setattr(folders.shutil, "rmtree", counted(folders.shutil.rmtree))
        with contextlib.suppress(Killed):
            store.finish()
    assert contents(RateStore.open(store.path)) == expected
    again = RateStore.create(store.path, PLAN)
    assert again.missing() == []
    assert contents(again) == expected
    assert [p.name for p in store.path.parent.iterdir()] == ["rates.zarr"]


WRITER = """
import sys
from dataclasses import replace
from chunks import chunk, small_plan
from automfm_hpc.store import RateStore
store = RateStore.create(sys.argv[1], replace(small_plan(), grids=small_plan().grids[:2]))
print("ready", flush=True)
while True:
    for task in store.plan.tasks():
        store.write(task, chunk(store.plan, task))
        print(f"{task.population}/{task.chunk}", flush=True)
"""


def test_kills_while_writing_tear_nothing(tmp_path, expected):
    random = np.random.default_rng(1)
    path, done = tmp_path / "rates.zarr", set()
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'mpi'}"}
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], env=env, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0.0, 0.4))
        writer.send_signal(signal.SIGKILL)
        done |= set(writer.stdout.read().split("\n")[:-1])
        writer.wait()
        missing = {f"{t.population}/{t.chunk}" for t in RateStore.open(path, PLAN).missing()}
        assert len(missing & done) <= 1  # the one that was being written again
        done -= missing
    store = RateStore.create(path, PLAN)
    fill(store)
    assert contents(store) == expected


# --- models -----------------------------------------------------------------------------------------


def document() -> dict:
    data = xarray.Dataset({"K": (("target", "channel"), [[4.0, np.nan]], {"units": "1"})},
                          {"target": ["GrC"], "channel": ["mf", "GrC/pf"]}, {"title": "a model"})
    function = {"kind": "template5", "population": "GrC", "axes": ["mf", "GoC"], "attributes": {"alpha": 1.0},
                "arrays": {"coefficients": np.arange(5.0), "names": np.array(["P_V", "P_sigma"])}}
    return {"attributes": {"order": 2, "inputs": ["mf"], "none": None}, "transfer_functions": [function] * 11,
            "arrays": {"scalar": np.array(3.0), "empty": np.zeros((0, 3)), "flags": np.array([True, False]),
                       "counts": np.arange(5), "rates": np.array([np.nan, -0.0, np.inf])}, "dataset": data}  # fmt: skip


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a.identical(b) if isinstance(a, xarray.Dataset) else a == b


def test_a_model_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "model.zarr"
    for _ in range(2):
        with _no_warnings():
            write_model(path, document())
    assert same(read_model(path), document())
    assert xarray.open_zarr(path).K.sel(target="GrC", channel="mf").compute() == 4.0
    bare = {k: v for k, v in document().items() if k != "dataset"}
    write_model(path, bare)
    assert same(read_model(path), bare)
    assert [p.name for p in tmp_path.iterdir()] == ["model.zarr"]


@pytest.mark.parametrize(("change", "message"), [
    ({"attributes": {"score": float("nan")}}, "Put numbers that may be NaN into arrays"),
    ({"arrays": {"a/b": np.zeros(2)}}, "cannot be the name of an array"),
    ({"arrays": {"a": np.array([None])}}, "arrays of object cannot be stored"),
])  # fmt: skip
def test_what_cannot_be_stored_leaves_the_old_model(tmp_path, change, message):
    write_model(tmp_path / "model.zarr", document())
    with pytest.raises(StoreError, match=message):
        write_model(tmp_path / "model.zarr", {**document(), **change})
    assert same(read_model(tmp_path / "model.zarr"), document())
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_model_is_an_error(tmp_path):
    path = tmp_path / "model.zarr"
    with pytest.raises(StoreError, match="no such model"):
        read_model(path)
    write_model(path, document())
    (path / "arrays" / "counts" / "c" / "0").write_bytes(b"x")
    with pytest.raises(StoreError, match="is not a model or is damaged"):
        read_model(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="is not a model or is damaged"):
        read_model(path)
