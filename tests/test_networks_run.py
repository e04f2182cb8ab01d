"""Networks that are not the cerebellum go through the very same code: plan, simulate, fit, solve, publish."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from automfm_hpc import MeanField, Network, stages
from automfm_hpc.lif import firing_rate
from automfm_hpc.plan import make_plan
from automfm_hpc.pools import Serial
from automfm_hpc.run_folder import Run
from automfm_hpc.store import RateStore


def quiet(text: str) -> None:
    """Log of stages whose words are not looked at."""


def derive(name: str, folder, points: int, **sampling) -> Run:
    """The main job's stages on a small plan."""
    plan = make_plan(Network.load(name), points=points)
    plan = replace(plan, sampling=replace(plan.sampling, **sampling))
    run = Run(folder / name)
    stages.write_plan(run, plan)
    stages.simulate(run, Serial(), quiet)
    stages.fit(run, Serial(), quiet)
    stages.solve(run, Serial(), quiet)
    return run


@pytest.fixture(scope="module")
def brunel(tmp_path_factory) -> Run:
    return derive("brunel", tmp_path_factory.mktemp("brunel"), 5, precision=0.05, budget=20.0, transient=100.0, dt=0.2)


@pytest.fixture(scope="module")
def cortex(tmp_path_factory) -> Run:
    return derive("adex_cortex", tmp_path_factory.mktemp("cortex"), 4, precision=0.1, budget=16.0, transient=500.0,
                  window=500.0, dt=0.2)


def siegert(network: Network, rates: dict[str, float], population: str) -> float:
    """Diffusion theory of the LIF cell at given input rates (Hz)."""
    p = network.population(population).parameters
    onto = network.onto(population)
    nu = np.array([rates[c.source] for c in onto]) / 1000.0
    K, J = np.array([c.indegree.mean for c in onto]), np.array([c.weight for c in onto])
    mean, sd = p["tau_m"] * K @ (J * nu), np.sqrt(p["tau_m"] * K @ (J**2 * nu))
    return float(firing_rate(mean, sd, **{k: p[k] for k in ("V_th", "V_reset", "tau_m", "t_ref")}))


def test_brunel_is_simulated_as_siegert_says(brunel):
    """All points of the grid at once: driven rates against theory, where the cell fires well."""
    network, store = Network.load("brunel"), RateStore.open(brunel.rates)
    data = store.grid("E")
    theory = np.array([siegert(network, dict(zip(data["rate"].dims, nu)), "E") for nu in np.stack(
        np.meshgrid(*[data[a].values for a in data["rate"].dims], indexing="ij"), -1).reshape(-1, 3)])
    found, error = data["rate"].values.ravel(), data["rate_sem"].values.ravel()
    firm = theory > 30
    assert firm.sum() > 20
    assert (np.abs(found - theory)[firm] < 4 * error[firm] + 0.08 * theory[firm]).all()
    assert (found[theory < 1e-3] < 0.5).all()


def test_brunel_has_a_mean_field_with_its_stationary_state(brunel):
    """The self-consistent rate of the inhibition-dominated network, from the fits and from theory."""
    network, model = Network.load("brunel"), MeanField.load(brunel.folder)
    low, high = 0.1, 200.0
    for _ in range(60):  # bisection: with E = I the network is one equation
        middle = (low + high) / 2
        above = siegert(network, {"ext": 20.0, "E": middle, "I": middle}, "E") > middle
        low, high = (middle, high) if above else (low, middle)
    points = model.fixed_points({"ext": 20.0}).points
    nearest = min(abs(p.rates.mean() - low) for p in points)
    print(f"brunel at 20 Hz: theory {low:.1f} Hz, mean field {[np.round(p.rates, 1).tolist() for p in points]}")
    assert nearest < 0.1 * low
    comparison = json.loads(brunel.comparison.read_text())
    assert comparison["references"] or comparison["drives"]


def test_adex_cortex_goes_through_the_same_stages(cortex):
    store, model = RateStore.open(cortex.rates), MeanField.load(cortex.folder)
    assert model.populations == ("RS", "FS")
    rs, fs = store.grid("RS"), store.grid("FS")
    assert rs["rate"].dims == ("aff", "RS", "FS")
    assert np.isfinite(rs["rate"]).all()
    most = {"aff": -1, "RS": 0}
    assert rs["rate"].isel(**most, FS=0) > rs["rate"].isel(**most, FS=-1)  # fast-spiking cells inhibit
    assert (fs["rate"].mean() > rs["rate"].mean()).item()  # the others adapt
    spiking = rs["rate"].values > 5
    w = rs["adaptation"].values[spiking] / (20 * 0.5 * rs["rate"].values[spiking])  # of b tau_w nu
    assert (w > 0.6).all()  # it has not quite settled after one tau_w
    assert np.median(w) < 1.5
    assert np.abs(fs["adaptation"].values).max() < 1e-6


def test_adex_cortex_is_solved(cortex, tmp_path):
    model = MeanField.load(cortex.folder)
    for order in (1, 2):
        solution = model.solve({"aff": 4.0}, duration=0.5, order=order)
        assert solution.attrs["status"] in ("ok", "out_of_domain")
        assert np.isfinite(solution["rate"]).all()
        assert (solution["rate"] >= 0).all()
    identity = stages.publish(cortex, Serial(), quiet, tmp_path)
    record = json.loads((tmp_path / "library" / "records" / f"{identity}.json").read_text())
    assert record["network"] == "adex_cortex"
    assert record["Q"]["FS->RS"] == 5.0
    assert record["species"] == "rat"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["brunel", "adex_cortex"])
def test_the_command_line_derives_them_whole(name, automfm, tmp_path):
    """With the network's own working points, as a user would."""
    done = automfm("run", name, "--out", tmp_path / name, "--catalog", tmp_path / "catalog", "--points", 6,
                   "--precision", 0.05, "--budget", 60, "--json", timeout=3600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["comparison"]["status"] == ["ok"]
