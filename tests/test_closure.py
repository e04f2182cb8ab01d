"""Working points without a network: isolated cells that hear isolated cells, against a network and a fixed point."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray
from conftest import environment

from automfm_hpc import Network, closure
from automfm_hpc.cli import main
from automfm_hpc.closure import GAIN, LEAST, START, close, closure_experiment, state_before
from automfm_hpc.errors import SimulationError
from automfm_hpc.experiment import presynaptic_statistics, simulate_trial, working_experiment, working_points
from automfm_hpc.plan import Plan
from automfm_hpc.pools import Serial
from automfm_hpc.store import TrialStore

FILE = Path(__file__).parent / "data" / "two_cells.yaml"
NETWORK = Network.load(FILE)
DRIVES = [{"mossy": 30.0}]


def quiet(text: str) -> None:
    """Log of stages whose words are not looked at."""


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """The two cells at one drive: store, experiment, and what was drawn."""
    path = tmp_path_factory.mktemp("closure") / "closure.zarr"
    experiment = closure_experiment(NETWORK, sweeps=10, drives=DRIVES)
    return path, experiment, close(path, experiment, Serial(), quiet)


def test_what_cells_send_is_what_cells_hear(closed):
    """The state before one more sweep gives itself: rates, their spread and their regularity."""
    path, experiment, _ = closed
    last = state_before(TrialStore.open(path, experiment).dataset(), experiment, experiment.seeds)
    sweeps = [closure.simulate_sweep(closure_experiment(NETWORK, root=root, sweeps=1, drives=DRIVES), last,
                                     experiment.trials()[0]) for root in range(2, 6)]
    more = {key: np.mean([s[key] for s in sweeps], axis=0) for key in ("rate", "rate_sd", "cv", "fano")}
    sources = [experiment.names.index(n) for n in ("Grain", "Golgi")]
    assert more["rate"][sources] == pytest.approx(last.rates[0], rel=0.08)
    known = {s.source: s for s in last.statistics[0]}
    for i, name in zip(sources, ("Grain", "Golgi"), strict=True):
        counted = more["fano"][i] * more["rate"][i]  # in 1 s
        spread = np.sqrt(max(more["rate_sd"][i] ** 2 - counted, 0.0)) / more["rate"][i]
        assert spread == pytest.approx(known[name].rate_cv[0], abs=0.1)
        assert more["cv"][i] == pytest.approx(known[name].isi_cv[0], abs=0.05)
    assert known["Golgi"].isi_cv[0] < 0.8 and known["Golgi"].exemplars  # not the Poisson trains it began with


def test_rates_are_near_those_of_a_network(closed):
    """Four draws of the network in NEST: its correlations, which the closure lacks, are weak here."""
    _, experiment, drawn = closed
    found = working_points(drawn, experiment)
    network = working_experiment(NETWORK, DRIVES, seeds=4, scale=1.0)
    rates = np.mean([simulate_trial(network, t)["rate"] for t in network.trials()], axis=0)
    for name in ("Grain", "Golgi"):
        assert found[name][0] == pytest.approx(rates[network.names.index(name)], rel=0.2, abs=0.5)
    assert presynaptic_statistics(drawn, experiment)[0].source == "Grain"


def test_what_is_done_is_not_done_again(closed, tmp_path, monkeypatch):
    path, experiment, _ = closed
    shutil.copytree(path, tmp_path / "again.zarr")
    store, trial = TrialStore.open(tmp_path / "again.zarr", experiment), experiment.trials()[-1]
    before = store.dataset()["rate"].load()
    store.fail(trial, "killed")
    close(tmp_path / "again.zarr", experiment, Serial(), quiet)
    assert store.missing() == [] and store.dataset()["rate"].equals(before)
    monkeypatch.setattr(closure, "simulate_sweep", lambda *a, **k: pytest.fail("simulated again"))
    close(tmp_path / "again.zarr", experiment, Serial(), quiet)


def trials_of(rates, names):
    n = len(rates)
    return xarray.Dataset({"rate": (("protocol", "seed", "name"), np.array(rates)[None]),
                           **{k: (("protocol", "seed", "name"), np.ones((1, n, len(names))))
                              for k in ("rate_sd", "cv", "fano")}}, {"name": list(names)})


def test_rates_are_relaxed_in_their_logarithm():
    experiment = closure_experiment(NETWORK, sweeps=3, drives=DRIVES)
    fired = [[50.0, 0.0, np.nan], [8.0, 4.0, np.nan], [9.0, 9.0, np.nan]]
    trials = trials_of(fired, experiment.names)
    first = state_before(trials, experiment, 0)
    assert first.statistics == ((),) and (first.rates == START).all()
    expected = np.full(2, START)
    for row in fired[:2]:
        expected = expected ** (1.0 - GAIN) * np.maximum(row[:2], LEAST) ** GAIN
    assert state_before(trials, experiment, 2).rates[0] == pytest.approx(expected)


def test_rates_that_go_on_moving_are_refused():
    experiment = closure_experiment(NETWORK, sweeps=4, drives=DRIVES)
    moving = trials_of([[10.0, 20.0, 0.0], [10.0, 24.0, 0.0], [10.0, 30.0, 0.0], [10.0, 36.0, 0.0]], experiment.names)
    with pytest.raises(SimulationError, match=r"Golgi at constant mossy=30 went from 22 to 33 Hz.*network"):
        closure._check_settled(moving, experiment)
    closure._check_settled(trials_of([[10.0, 20.0, 0.0]] * 4, experiment.names), experiment)


def test_the_command_line_plans_with_it_on_any_number_of_ranks(mpiexec, tmp_path, monkeypatch, capsys):
    small = ("--points", "4", "--precision", "0.2", "--budget", "40", "--working-points", "closure")
    monkeypatch.setattr(closure, "SWEEPS", 1)  # here and on the ranks: the plan is what counts
    assert main(["plan", str(FILE), "--out", str(tmp_path / "one"), *small, "--draws", "2"]) == 2
    assert "--draws" in capsys.readouterr().err and not (tmp_path / "one").exists()
    done = subprocess.run([mpiexec, "-n", "2", sys.executable, "-m", "mpi4py", "-c", RANKS, str(FILE),
                           str(tmp_path / "two"), *small], capture_output=True, text=True, timeout=300, check=False,
                          env=environment())
    assert done.returncode == 0, done.stderr
    assert main(["plan", str(FILE), "--out", str(tmp_path / "one"), *small]) == 0
    plans = [Plan.read(tmp_path / name / "plan.json") for name in ("one", "two")]
    assert plans[0].id == plans[1].id and {p.source for p in plans[0].presynaptic} == {"Grain", "Golgi"}
    assert json.loads((tmp_path / "one" / "plan.json").read_text("utf-8"))["presynaptic"]


RANKS = """
import sys
from automfm_hpc import closure
from automfm_hpc.cli import main
closure.SWEEPS = 1
sys.exit(main(["plan", *sys.argv[1:2], "--out", *sys.argv[2:]]))
"""
