"""The stages of a run, one after the other, in real NEST: each resumes, and none runs before its turn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from automfm_hpc import MeanField, Network, stages
from automfm_hpc.errors import AutomfmError, FitError, MeanFieldError, PlanError, SimulationError, StoreError
from automfm_hpc.plan import Plan, make_plan
from automfm_hpc.pools import Serial
from automfm_hpc.run_folder import Run, on_root
from automfm_hpc.store import VARIABLES, RateStore
from automfm_hpc.variants import change_value

FILE = Path(__file__).parent / "data" / "two_cells.yaml"
NETWORK = Network.load(FILE)


def small_plan(**changes) -> Plan:
    plan = make_plan(NETWORK, points=4, **changes)
    return replace(plan, sampling=replace(plan.sampling, precision=0.1, budget=40.0))


def quiet(text: str) -> None:
    """Log of stages whose words are not looked at."""


def arrays(run: Run) -> dict[str, bytes]:
    store = RateStore.open(run.rates)
    return {f"{g.population}/{v}": store.grid(g.population)[v].values.tobytes()
            for g in store.plan.grids for v in VARIABLES}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    run = Run(tmp_path_factory.mktemp("runs") / "two")
    stages.write_plan(run, small_plan())
    stages.simulate(run, Serial(), quiet)
    stages.fit(run, Serial(), quiet)
    stages.solve(run, Serial(), quiet)
    return run


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """A copy that may be damaged."""
    shutil.copytree(finished.folder, tmp_path / "two")
    return Run(tmp_path / "two")


def test_a_run_leaves_what_the_design_says(finished):
    names = {p.name for p in finished.folder.iterdir()}
    assert {"network.yaml", "plan.json", "rates.zarr", "fits.json", "model.zarr", "comparison.json"} <= names
    assert not [n for n in names if n.startswith(".")]
    assert Network.load(finished.network) == finished.read_plan().network == NETWORK


def test_rates_are_complete_and_labelled(finished):
    import xarray

    plan = finished.read_plan()
    for grid in plan.grids:
        data = xarray.open_zarr(finished.rates, group=grid.population, chunks=None)
        assert data["rate"].dims == grid.axes
        assert data["rate"].shape == grid.shape
        assert data["rate"].attrs["units"] == "Hz"
        assert np.isfinite(data["rate"]).all()
        assert (data["rate_sem"] > 0).all()
        assert (data["neuron_seconds"] <= plan.sampling.budget).all()
        assert (data["n_cells"] >= 16).all()
    rate = xarray.open_zarr(finished.rates, group="Grain", chunks=None)["rate"]
    assert rate.isel(mossy=-1, Golgi=0) > rate.isel(mossy=1, Golgi=0) > 0
    assert rate.isel(mossy=-1, Golgi=0) > rate.isel(mossy=-1, Golgi=-1)


def test_nothing_is_done_twice(run):
    before = arrays(run)
    stamps = {p: p.stat().st_mtime_ns for p in run.rates.rglob("*") if p.is_file()}
    assert stages.write_plan(run, small_plan()) is False
    counts = stages.simulate(run, Serial(), quiet)
    assert counts["simulated"] == 0
    assert counts["done_before"] == counts["chunks"] == len(small_plan().tasks())
    assert arrays(run) == before
    assert stamps == {p: p.stat().st_mtime_ns for p in run.rates.rglob("*") if p.is_file()}


def test_only_lost_chunks_are_simulated_again_and_give_the_same(run, tmp_path):
    plan, whole = run.read_plan(), arrays(run)
    again = Run(tmp_path / "again")
    stages.write_plan(again, plan)
    store = RateStore.create(again.rates, plan)
    done = RateStore.open(run.rates)
    for task in plan.tasks()[::2]:  # half of the chunks are there, and kept
        region = tuple(slice(a, b) for a, b in task.slices)
        store.write(task, {v: done.grid(task.population)[v].values[region] for v in VARIABLES})
    counts = stages.simulate(again, Serial(), quiet)
    assert counts["simulated"] == len(plan.tasks()) - len(plan.tasks()[::2])
    assert arrays(again) == whole


def test_a_failed_chunk_is_recorded_the_others_go_on_and_it_is_tried_again(run, tmp_path):
    """1500 Hz at a step of 1 ms is beyond the sampler: those chunks fail, the others do not."""
    plan = run.read_plan()
    golgi = replace(plan.grid("Golgi"), coordinates=((5.0, 4000.0), (5.0,)), chunk_shape=(1, 1),
                    axes=("Grain", "Golgi"))
    network = replace(NETWORK, projections=(*NETWORK.projections, replace(
        NETWORK.projections[1], name="Golgi->Golgi", target="Golgi")))
    sampling = replace(plan.sampling, dt=2.0)
    broken = Run(tmp_path / "broken")
    stages.write_plan(broken, Plan(network, 1, sampling, (golgi,)))
    said: list[str] = []
    for _ in range(2):
        counts = stages.simulate(broken, Serial(), said.append)
        store = RateStore.open(broken.rates)
        assert (store.progress().done, store.progress().failed) == (1, 1)
        assert "too many for dt" in store.failed()[0].message
    assert counts["simulated"] == 1  # the failed one alone
    assert any("chunk 1 of Golgi failed" in line for line in said)


def test_all_chunks_failing_is_a_failure(tmp_path):
    grid = replace(small_plan().grid("Golgi"), coordinates=((4000.0,),), chunk_shape=(1,))
    run = Run(tmp_path / "run")
    stages.write_plan(run, Plan(NETWORK, 1, replace(small_plan().sampling, dt=2.0), (grid,)))
    with pytest.raises(SimulationError, match=r"all 1 chunks failed; the first: Golgi: .* too many"):
        stages.simulate(run, Serial(), quiet)


# --- order of the stages --------------------------------------------------------------------------


def test_stages_before_their_turn(tmp_path):
    run = Run(tmp_path / "run")
    for stage in (stages.simulate, stages.fit):
        with pytest.raises(PlanError, match=r"no such plan.*automfm plan"):
            stage(run, Serial(), quiet)
    assert not run.folder.exists()
    stages.write_plan(run, small_plan())
    with pytest.raises(StoreError, match=r"rates.zarr"):
        stages.fit(run, Serial(), quiet)
    with pytest.raises(MeanFieldError, match=r"has no model.*automfm fit"):
        stages.solve(run, Serial(), quiet)
    RateStore.create(run.rates, small_plan())
    with pytest.raises(FitError, match=r"5 chunks are not simulated yet.*automfm simulate"):
        stages.fit(run, Serial(), quiet)
    assert {p.name for p in run.folder.iterdir()} == {"network.yaml", "plan.json", "rates.zarr"}


def test_publishing_wants_a_solved_run(run, tmp_path):
    run.comparison.unlink()
    with pytest.raises(MeanFieldError, match=r"lacks comparison.json.*automfm solve"):
        stages.publish(run, Serial(), quiet, tmp_path / "catalog")
    assert not (tmp_path / "catalog").exists()


def test_publishing_twice_makes_one_record(run, tmp_path):
    first, second = (stages.publish(run, Serial(), quiet, tmp_path / "catalog") for _ in range(2))
    assert first == second
    assert [p.stem for p in (tmp_path / "catalog" / "library" / "records").glob("*.json")] == [first]
    assert (tmp_path / "catalog" / "mfm.yaml").is_file()


# --- foreign folders ------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [
    small_plan(seed=2), small_plan(variant="weak"), make_plan(change_value(NETWORK, "Golgi.I_e", "17 pA"), points=4),
])  # fmt: skip
def test_the_folder_of_another_plan_is_refused_with_the_difference(run, plan):
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    with pytest.raises(PlanError, match=r"holds another plan \(.*->.*Choose another --out"):
        stages.write_plan(run, plan)
    assert before == {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}


def test_rates_of_another_plan_are_refused(run):
    data = json.loads(run.plan.read_text())
    run.plan.write_text(json.dumps({**data, "seed": 5}))
    for stage in (stages.simulate, stages.fit):
        with pytest.raises(StoreError, match="holds the rates of plan"):
            stage(run, Serial(), quiet)


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(PlanError, match="is not empty and holds no run"):
        stages.write_plan(Run(tmp_path), small_plan())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_as_folder(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(PlanError, match=r"file: cannot be written \(File exists\)"):
        stages.write_plan(Run(tmp_path / "file"), small_plan())
    with pytest.raises(PlanError, match=r"cannot be written \(Not a directory\)"):
        stages.write_plan(Run(tmp_path / "file" / "below"), small_plan())


# --- what comes out -------------------------------------------------------------------------------


def test_the_mean_field_has_the_runs_numbers(finished):
    model, parameters = MeanField.load(finished.folder), finished.read_plan().parameters
    assert model.populations == ("Grain", "Golgi")
    assert model.inputs == ("mossy",)
    assert model.T == 3.5
    assert model.N.tolist() == parameters.N.tolist() == [300, 20, 20]
    assert model.metadata["plan"] == finished.read_plan().id


def test_fits_follow_the_simulated_rates(finished):
    """Against the grid itself, within what its sampling can tell."""
    model, store = MeanField.load(finished.folder), RateStore.open(finished.rates)
    for tf in model.transfer_functions:
        data = store.grid(tf.population)
        points = np.stack(np.meshgrid(*[data[a].values for a in tf.axes], indexing="ij"), -1).reshape(-1, len(tf.axes))
        measured = data["rate"].transpose(*tf.axes).values.ravel()
        error = np.asarray(tf(points)) - measured
        assert np.sqrt(np.mean(error**2)) < 0.05 * measured.max()


def test_stationary_rates_are_those_of_the_fixed_point(finished):
    model = MeanField.load(finished.folder)
    comparison = json.loads(finished.comparison.read_text())
    assert comparison["status"] == ["ok"]
    drives, orders = _described(comparison)
    assert [d["mossy"] for d in drives] == [10.0, 40.0]
    for n, drive in enumerate(drives):
        stable = [p for p in model.fixed_points(drive).points if p.stable]
        rates = [orders["1"][name]["rates"][n] for name in model.populations]
        assert any(np.allclose(rates, p.rates, rtol=0.01, atol=0.05) for p in stable)


def _described(comparison):
    part = comparison["references"]["description"] if "references" in comparison else comparison
    return part["drives"], part["orders"]


def test_a_failure_on_rank_0_is_everybodys():
    with pytest.raises(AutomfmError, match="here: something"), on_root(Serial()) as root:
        assert root
        raise AutomfmError("something", where="here")
