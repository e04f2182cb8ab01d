"""The stage that measures how fast cells answer, in real NEST: what it leaves, resuming, failures, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from automfm_hpc import MeanField, Network, stages
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.dynamics_plan import ResponsePlan
from automfm_hpc.errors import MeanFieldError, SimulationError, StoreError
from automfm_hpc.measured_dynamics import measure_dynamics, table
from automfm_hpc.plan import make_plan
from automfm_hpc.pools import Serial
from automfm_hpc.run_folder import Run
from automfm_hpc.store import ResponseStore

FILE = Path(__file__).parent / "data" / "two_cells.yaml"
LABELS = ["Grain<-mossy", "Grain<-Golgi", "Golgi<-Grain"]


def quiet(text: str) -> None:
    """Log of stages whose words are not looked at."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    run = Run(tmp_path_factory.mktemp("runs") / "two")
    plan = make_plan(Network.load(FILE), points=4)
    stages.write_plan(run, replace(plan, sampling=replace(plan.sampling, precision=0.05, budget=80.0)))
    stages.simulate(run, Serial(), quiet)
    stages.fit(run, Serial(), quiet)
    measure_dynamics(run, Serial(), quiet)
    return run


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """A copy that may be damaged."""
    shutil.copytree(finished.folder, tmp_path / "two")
    return Run(tmp_path / "two")


def everything(run: Run) -> list[bytes]:
    store = ResponseStore.open(run.response)
    return [v.tobytes() for task in store.responses.tasks for v in (store.values(task) or {}).values()]


def test_the_model_has_dynamics_and_the_folder_what_they_come_from(finished):
    told = json.loads(finished.dynamics.read_text("utf-8"))
    model, plan = MeanField.load(finished.folder), finished.read_plan()
    cell = model.dynamics.cell
    assert list(told["populations"]) == list(model.populations) == ["Grain", "Golgi"]
    for i, name in enumerate(model.populations):
        rows = told["populations"][name]
        assert cell.knots[i].tolist() == [row["rate"] for row in rows]
        assert cell.lag[i].tolist() == [row["lag"] for row in rows]
        axes = plan.parameters.cell(name).axes
        points = [[plan.network.working_points[a][k] for a in axes] for k in range(2)]
        assert model.transfer_functions[i](points) == pytest.approx(cell.knots[i])
    synapses = Dynamics.of_synapses(plan.parameters)
    assert model.dynamics.delay.tolist() == synapses.delay.tolist()
    assert model.dynamics.tau_syn.tolist() == synapses.tau_syn.tolist()
    assert "Golgi" in table(told)


def test_responses_are_those_of_these_cells(finished):
    """Low-frequency gains are the slopes of transfer functions fitted to other simulations; signs are the synapses';
    Golgi cells adapt, so they answer more to fast changes than to slow ones."""
    data = ResponseStore.open(finished.response).dataset()
    assert list(data["axis"].values) == LABELS
    assert data["response_real"].attrs["units"] == "1"
    found = json.loads(finished.dynamics.read_text("utf-8"))["populations"]
    for rows in found.values():
        for row in rows:
            assert all(0.5 < g < 1.6 for g in row["gain"].values()), row  # a coarse plan: slopes are rough
            assert 0.05 <= row["lag"] <= 20.0 and 0.1 < row["irregularity"] < 1.6
    assert found["Golgi"][-1]["adaptation"] > 1.3
    low = data["response_real"].isel(frequency=0, point=-1)
    assert low.sel(axis="Grain<-mossy") > 0 > low.sel(axis="Grain<-Golgi")
    for task in ResponseStore.open(finished.response).responses.tasks:
        values = ResponseStore.open(finished.response).values(task)
        assert values["rate"] == pytest.approx(task.target, rel=0.2, abs=4 * float(values["rate_sem"]))
        assert values["neuron_seconds"] <= 4 * 80.0 + 300.0


def test_the_model_can_be_solved_with_its_dynamics(finished):
    model = MeanField.load(finished.folder)
    still = model.solve({"mossy": 30.0}, duration=0.5, order=1)["rate"].isel(time=-1)
    bare = replace(model, dynamics=None).solve({"mossy": 30.0}, duration=0.5, order=1)["rate"].isel(time=-1)
    assert still.values == pytest.approx(bare.values, rel=1e-3)  # filters leave the stationary state as it is
    found = model.realizations({"mossy": 30.0}, duration=0.2, trials=2)
    assert found["activity"].values.min() > -1e9 and found["rate"].values.min() >= 0.0


def test_nothing_is_measured_twice_and_what_is_lost_comes_out_the_same(run):
    whole = everything(run)
    stamps = {p: p.stat().st_mtime_ns for p in run.response.rglob("*") if p.is_file()}
    before = run.dynamics.read_bytes()
    measure_dynamics(run, Serial(), quiet)
    assert stamps == {p: p.stat().st_mtime_ns for p in run.response.rglob("*") if p.is_file()}
    chunk = run.response / "error" / "c.0.1.0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    (run.response / "status" / "c.2.0").unlink()
    store = ResponseStore.open(run.response)
    assert {(t.axis, t.point) for t in store.missing()} == {(0, 1), (2, 0)}
    measure_dynamics(run, Serial(), quiet)
    assert everything(run) == whole
    assert run.dynamics.read_bytes() == before


def test_a_failed_measurement_is_recorded_and_tried_again(run):
    store = ResponseStore.open(run.response)
    lost = next(t for t in store.responses.tasks if t.axis == 1 and t.point == 0)
    store.fail(lost, "NEST says no")
    assert store.failures() == [(lost, "NEST says no")]
    assert store.missing() == [lost]
    assert store.values(lost) is None
    measure_dynamics(run, Serial(), quiet)  # tried again
    assert ResponseStore.open(run.response).failures() == []


def test_what_nest_refuses_is_told(run):
    plan = run.read_plan()
    bad = replace(plan, sampling=replace(plan.sampling, dt=0.3))  # NEST's delays of 1 ms are no multiples of it
    run.plan.unlink()
    shutil.rmtree(run.response)
    stages.write_plan(run, bad)
    told: list[str] = []
    with pytest.raises(SimulationError, match="all 6 measurements failed"):
        measure_dynamics(run, Serial(), told.append)
    assert sum("failed: " in line for line in told) == 5
    assert len(ResponseStore.open(run.response).failures()) == 6


def test_another_number_of_points_and_another_plan_are_refused(run):
    with pytest.raises(StoreError, match=r"at 3 working points, not of .* at 1"):
        measure_dynamics(run, Serial(), quiet, points=1)
    store = ResponseStore.open(run.response)
    with pytest.raises(StoreError, match="holds responses of plan"):
        ResponseStore.create(run.response, replace(store.responses, plan_id="other"))
    (run.response / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match="not a store of responses"):
        ResponseStore.open(run.response)


def test_without_a_number_of_points_it_is_as_before(run):
    shutil.rmtree(run.response)
    measure_dynamics(run, Serial(), quiet, points=1)
    measured = len(ResponseStore.open(run.response).responses.tasks)
    measure_dynamics(run, Serial(), quiet)
    assert ResponseStore.open(run.response).responses.points == 1
    assert len(ResponseStore.open(run.response).responses.tasks) == measured


def test_plan_of_the_responses_survives_the_disk(finished):
    responses = ResponseStore.open(finished.response).responses
    again = ResponsePlan.from_dict(json.loads(json.dumps(responses.to_dict())), "here")
    assert again == responses
    assert again.id == responses.id
    with pytest.raises(StoreError, match="of this version"):
        ResponsePlan.from_dict({**responses.to_dict(), "format": 0}, "here")


def test_a_run_without_a_model_is_refused(tmp_path):
    run = Run(tmp_path / "run")
    stages.write_plan(run, make_plan(Network.load(FILE), points=4))
    with pytest.raises(MeanFieldError, match="automfm fit"):
        measure_dynamics(run, Serial(), quiet)


def test_the_command_prints_a_table_or_one_document(run, automfm_here):
    done = automfm_here("dynamics", run.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3].startswith("Grain")
    done = automfm_here("dynamics", run.folder, "--json")
    assert json.loads(done.stdout) == json.loads(run.dynamics.read_text("utf-8"))
    assert automfm_here("dynamics", run.folder, "--points", "0").returncode == 2
