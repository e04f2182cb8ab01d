"""One process, what launchers say, one BLAS thread, and progress; ranks are in mpi/test_ranks.py."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from automfm_hpc.errors import SimulationError, UsageError
from automfm_hpc.launchers import Launcher, launcher, scrub_launcher_environment
from automfm_hpc.pools import Serial, map_tasks, open_pool
from automfm_hpc.progress import progress
from automfm_hpc.threads import limit_threads

ROOT = Path(__file__).parent.parent


def test_serial_does_every_task_in_order():
    results = []
    with open_pool("serial") as pool:
        assert (pool.rank, pool.size, pool.is_root) == (0, 1, True)
        assert map_tasks(pool, lambda t: t * t, range(5), lambda t, r: results.append((t, r))) == 5
        assert pool.bcast("x") == "x"
        pool.barrier()
    assert results == [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]


def test_expected_failures_go_to_on_failure_and_bugs_do_not():
    def fails(task):
        if task == 1:
            raise SimulationError("no spikes")
        if task == 3:
            raise ZeroDivisionError
        return task

    done, failed = [], []
    with pytest.raises(ZeroDivisionError):
        map_tasks(Serial(), fails, range(5), lambda t, r: done.append(t),
                  on_failure=lambda t, e: failed.append((t, str(e))))
    assert (done, failed) == ([0, 2], [(1, "no spikes")])
    with pytest.raises(SimulationError):
        map_tasks(Serial(), fails, range(5), lambda t, r: done.append(t))


LOST = """
import os, signal
from automfm_hpc.interruption import listen
from automfm_hpc.pools import Serial, map_tasks
class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(10))
def task(number):
    if number == 1:
        Finalized()
    return number
listen()
try:
    map_tasks(Serial(), task, range(4), lambda t, r: print(t))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_signal_that_a_finalizer_swallows_is_not_lost():
    """Python prints and drops what a finalizer raises, KeyboardInterrupt, too."""
    found = subprocess.run([sys.executable, "-c", LOST], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Exception ignored" in found.stderr and "KeyboardInterrupt" in found.stderr
    assert found.stdout.split() == ["0", "1", "interrupted"]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_dask_runs_where_the_pool_says(scheduler):
    dask = pytest.importorskip("dask")
    with Serial(scheduler).executor() as where:
        assert dask.compute(dask.delayed(sum)([1, 2]), scheduler=where) == (3,)


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, None),
    ({"PMI_RANK": "1", "PMI_SIZE": "4"}, Launcher("PMI", 1, 4)),
    ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "0"}, Launcher("Open MPI", 0, 2)),
    ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"}, Launcher("Slurm", 3, 8)),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),  # inside a batch script, before srun
    ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "PMI_RANK": "5", "PMI_SIZE": "16"}, Launcher("PMI", 5, 16)),
])  # fmt: skip
def test_the_innermost_launcher_counts(environment, expected):
    assert launcher(environment) == expected


def test_scrubbing_leaves_everything_else():
    environment = {"PMI_RANK": "0", "PMIX_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "HYDI_CONTROL_FD": "7",
                   "MPI_LOCALNRANKS": "2", "PATH": "/bin", "SLURM_JOB_ID": "1"}  # fmt: skip
    assert len(scrub_launcher_environment(environment)) == 5
    assert environment == {"PATH": "/bin", "SLURM_JOB_ID": "1"}


def test_unknown_pool_is_a_usage_error():
    with pytest.raises(UsageError, match="Did you mean 'serial'"):
        open_pool("seriel")


def test_one_thread_even_if_numpy_was_loaded_before():
    program = """
import ctypes, os, numpy
from automfm_hpc import threads as t
def threads():
    return [getattr(lib, f"scipy_openblas_get_num_threads{s}")() for lib in t.loaded("openblas")
            for s in ("", "64_") if hasattr(lib, f"scipy_openblas_get_num_threads{s}")]
before = threads()
t.limit_threads()
assert all(n == 1 for n in threads()), threads()
assert os.environ["OMP_NUM_THREADS"] == "1"
print(before)
"""
    env = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", program], env={**env, "PYTHONPATH": str(ROOT)}, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_limiting_threads_twice_is_harmless(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    limit_threads()
    limit_threads()
    assert os.environ["OMP_NUM_THREADS"] == "1"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal():
    pytest.importorskip("tqdm")
    out = Terminal()
    map_tasks(Serial(), lambda t: t, range(3), lambda t, r: None, report=progress("simulate", out))
    assert "3/3" in out.getvalue()


def test_progress_is_plain_lines_elsewhere():
    out = io.StringIO()
    report = progress("simulate", out, interval=0.0)
    for done in (0, 1, 2, 2):
        report(done, 2)
    lines = out.getvalue().splitlines()
    assert lines[0] == "simulate: 0 of 2, 0:00 spent"
    assert lines[1].startswith("simulate: 1 of 2, 0:00 spent, about 0:00 left")
    assert lines[2:] == ["simulate: 2 of 2, 0:00 spent"]


def test_no_line_before_the_interval_is_over():
    out = io.StringIO()
    report = progress("simulate", out, interval=3600.0)
    for done in range(100):
        report(done, 200)
    assert len(out.getvalue().splitlines()) == 1


def test_mpi_is_not_loaded_without_a_launcher():
    program = "import sys; from automfm_hpc.pools import open_pool; open_pool(); assert 'mpi4py' not in sys.modules"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    scrub_launcher_environment(env)
    subprocess.run([sys.executable, "-c", program], env=env, check=True)
