"""The command line on real ranks with real NEST: the same store from any number of them, and after kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import environment

from automfm_hpc import Network
from automfm_hpc.plan import make_plan
from automfm_hpc.run_folder import Run
from automfm_hpc.stages import write_plan
from automfm_hpc.store import VARIABLES, RateStore

FILE = Path(__file__).parents[1] / "data" / "two_cells.yaml"
SMALL = ("--points", "4", "--precision", "0.2", "--budget", "40", "--working-points", "description")


def start(mpiexec: str, ranks: int, *arguments: object) -> subprocess.Popen[str]:
    command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "mpi4py", "-m", "automfm_hpc", *map(str, arguments)]
    return subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(mpiexec: str, ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    process = start(mpiexec, ranks, *arguments)
    out, err = process.communicate(timeout=480)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def contents(path: Path) -> dict[str, bytes]:
    store = RateStore.open(path)
    return {f"{g.population}/{name}": store.grid(g.population)[name].values.tobytes()
            for g in store.plan.grids for name in (*VARIABLES, "status", "checksum")}


def planned(folder: Path) -> Run:
    """A plan of 20 chunks that take a good tenth of a second each."""
    network = Network.load(FILE)
    plan = make_plan(network, points=4)
    sampling = replace(plan.sampling, precision=0.02, budget=60.0)
    grids = tuple(replace(g, chunk_shape=(1,) * len(g.axes)) for g in plan.grids)
    write_plan(Run(folder), replace(plan, sampling=sampling, grids=grids))
    return Run(folder)


@pytest.fixture(scope="module")
def expected(automfm, tmp_path_factory) -> dict[str, bytes]:
    """The store that one process without a launcher makes."""
    made = planned(tmp_path_factory.mktemp("serial") / "run")
    done = automfm("simulate", made.folder)
    assert done.returncode == 0, done.stderr
    return contents(made.rates)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_any_number_of_ranks_makes_the_same_store(ranks, mpiexec, tmp_path, expected):
    made = planned(tmp_path / "run")
    done = run(mpiexec, ranks, "simulate", made.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20 of 20 chunks simulated")
    assert done.stdout.strip().endswith(f"on {ranks} rank(s)")
    assert contents(made.rates) == expected
    rate = np.frombuffer(expected["Grain/rate"])
    assert np.isfinite(rate).all()
    assert rate.max() > 10


def children(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of the ranks below a launcher."""
    found, todo = [], [process.pid]
    while todo:
        pid = todo.pop()
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                below = [int(p) for p in (task / "children").read_text().split()]
            except OSError:
                continue
            todo += below
            found += [p for p in below if b"automfm_hpc" in Path(f"/proc/{p}/cmdline").read_bytes()
                      and b"-n\0" not in Path(f"/proc/{p}/cmdline").read_bytes()]
    return found


def chunks_done(path: Path) -> set[tuple[str, int]]:
    """By their status, with as little reading as possible: ranks are writing."""
    if not (path / "zarr.json").exists():
        return set()
    store = RateStore.open(path)
    left = {(t.population, t.chunk) for t in store.missing()}
    return {(t.population, t.chunk) for t in store.plan.tasks()} - left


def test_killed_ranks_cost_only_what_they_had_not_finished(mpiexec, tmp_path, expected):
    made, moment = planned(tmp_path / "run"), random.Random(7)
    stamps: dict[tuple[str, int], int] = {}
    before: set[tuple[str, int]] = set()
    for _ in range(3):
        job = start(mpiexec, 2, "simulate", made.folder)
        wanted = min(len(before) + moment.randint(1, 3), 15)
        while len(chunks_done(made.rates)) < wanted:
            assert job.poll() is None, job.communicate()
            time.sleep(0.005)
        ranks = children(job)
        assert len(ranks) == 2
        os.kill(moment.choice(ranks), signal.SIGKILL)
        job.communicate(timeout=240)
        assert job.returncode != 0
        after = chunks_done(made.rates)
        assert before <= after <= set(chunks(made))
        for key, stamp in stamps.items():
            assert stamp == written(made, key), f"{key} was computed twice"
        stamps = {key: written(made, key) for key in after}
        before = after
        if len(after) == 20:  # on a busy machine the other rank may finish before the launcher ends it
            break
    done = run(mpiexec, 2, "simulate", made.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{20 - len(before)} of 20 chunks simulated")
    assert contents(made.rates) == expected


def chunks(made: Run) -> list[tuple[str, int]]:
    return [(t.population, t.chunk) for t in made.read_plan().tasks()]


def written(made: Run, key: tuple[str, int]) -> int:
    """When the chunk's rates were written."""
    task = next(t for t in made.read_plan().tasks() if (t.population, t.chunk) == key)
    name = "c." + ".".join(map(str, task.index))
    return (made.rates / key[0] / "rate" / name).stat().st_mtime_ns


def test_a_whole_run_on_two_ranks_equals_one_on_one(mpiexec, automfm, tmp_path):
    answers = []
    for ranks in (1, 2):
        out = tmp_path / f"run{ranks}"
        options = ("run", FILE, "--out", out, "--catalog", tmp_path / f"catalog{ranks}", *SMALL, "--json")
        done = automfm(*options) if ranks == 1 else run(mpiexec, ranks, *options)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))  # one document, from one rank
        assert done.stderr.count("plan: ") == 1
    assert contents(tmp_path / "run1" / "rates.zarr") == contents(tmp_path / "run2" / "rates.zarr")
    for name in ("fits.json", "dynamics.json"):
        assert (tmp_path / "run1" / name).read_text() == (tmp_path / "run2" / name).read_text()
    assert answers[0]["comparison"] == answers[1]["comparison"]
    assert answers[0]["id"] == answers[1]["id"]


@pytest.mark.parametrize(("arguments", "words", "code"), [
    (["simulate", "none"], "no run here", 1), (["run", "nosuch", "--out", "run"], "nosuch: is neither", 1),
    (["run", FILE, "--out", "run", "--points", "2"], "2 points per axis", 1), (["run", FILE], "--out", 2),
])  # fmt: skip
def test_a_mistake_ends_all_ranks_with_one_line(arguments, words, code, mpiexec, tmp_path):
    arguments = [tmp_path / a if a in ("none", "run") and n else a for n, a in enumerate(arguments)]
    done = run(mpiexec, 3, *arguments)
    assert done.returncode == code, done.stderr
    spoken = [line for line in done.stderr.splitlines() if line.startswith("automfm:")]
    assert len(spoken) == 1, done.stderr
    assert words in spoken[0]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_second_launcher_goes_on_where_the_first_was_interrupted(mpiexec, tmp_path, expected):
    """A stopped job of four ranks is finished by one of two: the number of ranks belongs to no plan."""
    made = planned(tmp_path / "run")
    job = start(mpiexec, 4, "simulate", made.folder)
    while len(chunks_done(made.rates)) < 3:
        assert job.poll() is None, job.communicate()
        time.sleep(0.005)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=240)
    assert job.returncode != 0
    done = run(mpiexec, 2, "simulate", made.folder)
    assert done.returncode == 0, done.stderr
    assert contents(made.rates) == expected
    shutil.rmtree(made.folder)
