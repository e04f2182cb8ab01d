"""Real ranks under a real mpiexec: the same store from any number of them, through kills and failures."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from automfm_hpc.launchers import scrub_launcher_environment
from automfm_hpc.pools import Serial, map_tasks
from automfm_hpc.store import VARIABLES, RateStore

sys.path.insert(0, str(Path(__file__).parent))
from chunks import chunk, small_plan

ROOT = Path(__file__).parents[2]
BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec: pip install mpi4py mpich")


def environment() -> dict[str, str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    scrub_launcher_environment(env)
    return env


def start(ranks: int, *arguments: object, module: bool = True) -> subprocess.Popen[str]:
    python = [sys.executable, "-m", "mpi4py"] if module else [sys.executable]
    command = [str(MPIEXEC), "-n", str(ranks), *python, *map(str, arguments)]
    return subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(ranks: int, *arguments: object, module: bool = True) -> subprocess.CompletedProcess[str]:
    process = start(ranks, *arguments, module=module)
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def fill(ranks: int, store: Path, *options: object) -> list[str]:
    """Fill a store; the chunks that were computed."""
    log = fresh_log(store)
    done = run(ranks, ROOT / "tests/mpi/chunks.py", store, log, *options)
    assert done.returncode == 0, done.stderr
    return computed(log)


def fresh_log(store: Path) -> Path:
    log = store.with_suffix(".log")
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir(parents=True)
    return log


def computed(log: Path) -> list[str]:
    return [line for file in log.glob("rank*") for line in file.read_text().splitlines()[1:]]


def contents(path: Path) -> dict[str, bytes]:
    store = RateStore.open(path)
    return {f"{g.population}/{name}": store.grid(g.population)[name].values.tobytes()
            for g in store.plan.grids for name in (*VARIABLES, "status", "checksum")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("serial") / "rates.zarr"
    store = RateStore.create(path, small_plan())
    map_tasks(Serial(), lambda task: chunk(store.plan, task), store.missing(), store.write)
    return contents(path)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_make_the_same_store_as_one_process(ranks, tmp_path, expected):
    done = fill(ranks, tmp_path / "rates.zarr", "--pause", 0.01)
    assert sorted(done) == sorted(f"{t.population}/{t.chunk}" for t in small_plan().tasks())
    assert contents(tmp_path / "rates.zarr") == expected
    shares = [len(f.read_text().splitlines()) - 1 for f in (tmp_path / "rates.log").glob("rank*")]
    assert len(shares) == ranks
    assert min(shares) > 0


def test_a_killed_rank_costs_only_the_chunks_it_had_not_finished(tmp_path, expected):
    store, moment, done = tmp_path / "rates.zarr", random.Random(1), []
    for _ in range(3):
        log = fresh_log(store)
        job = start(2, ROOT / "tests/mpi/chunks.py", store, log, "--pause", 0.03)
        wanted = moment.randrange(1, 12)
        while len(computed(log)) < wanted:
            assert job.poll() is None
            time.sleep(0.002)
        time.sleep(moment.uniform(0, 0.03))
        os.kill(int((log / f"rank{moment.randrange(2)}").read_text().split()[0]), signal.SIGKILL)
        job.communicate(timeout=240)
        assert job.returncode != 0
        assert not set(done) & set(computed(log))
        done += computed(log)
        missing = [f"{t.population}/{t.chunk}" for t in RateStore.open(store).missing()]
        assert not set(done) & set(missing)
        assert 44 - len(done) - 2 <= len(missing) <= 44 - len(done)
    assert sorted(fill(2, store)) == sorted(missing)
    assert contents(store) == expected


def test_failed_chunks_are_recorded_and_the_others_go_on(tmp_path):
    assert len(fill(2, tmp_path / "rates.zarr", "--fail")) == 44 - 5
    store = RateStore.open(tmp_path / "rates.zarr")
    assert store.progress().failed == 5
    assert store.failed()[0].message.endswith("chunk 3: no spikes")
    assert len(fill(2, tmp_path / "rates.zarr")) == 5


@pytest.mark.parametrize("module", [True, False])
def test_a_bug_on_one_rank_ends_the_job_with_its_traceback(module, tmp_path):
    log = fresh_log(tmp_path / "rates.zarr")
    done = run(2, ROOT / "tests/mpi/chunks.py", tmp_path / "rates.zarr", log, "--pause", 0.01, "--break", 1,
               module=module)
    assert done.returncode != 0
    assert "rank 1 of 2 failed" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_failure_on_all_ranks_is_said_once(tmp_path):
    program = script(tmp_path / "fails.py", """
from automfm_hpc.errors import PlanError
from automfm_hpc.pools import open_pool
with open_pool() as pool:
    raise PlanError("no such plan", where="here")
""")
    done = run(2, program)
    assert done.returncode == 1
    assert done.stderr == "automfm: error: here: no such plan\n"


def test_a_failure_of_rank_0_beside_its_executor_reaches_everybody(tmp_path):
    program = script(tmp_path / "reaches.py", """
from automfm_hpc.errors import FitError
from automfm_hpc.pools import open_pool
if __name__ == "__main__":
    with open_pool() as pool:
        failure = None
        try:
            with pool.executor() as scheduler:
                if pool.is_root:
                    raise FitError("no finite point")
        except FitError as error:
            failure = error
        print(f"<{pool.bcast(failure)}>", flush=True)
""")
    done = run(2, program)
    assert done.stdout.count("<no finite point>") == 2, done.stderr


def test_waiting_ranks_sleep(tmp_path):
    program = script(tmp_path / "waits.py", """
import time
from automfm_hpc.pools import open_pool
with open_pool() as pool:
    used = time.process_time()
    if pool.is_root:
        time.sleep(1.0)
    assert pool.bcast(pool.rank) == 0
    assert time.process_time() - used < 0.2
""")
    done = run(2, program)
    assert done.returncode == 0, done.stderr


def test_dask_computes_on_the_ranks(tmp_path):
    program = script(tmp_path / "dasks.py", """
import os
from automfm_hpc.pools import open_pool
if __name__ == "__main__":
    import dask
    with open_pool() as pool, pool.executor() as scheduler:
        if pool.is_root:
            tasks = [dask.delayed(divmod)(n, 7) for n in range(20)]
            assert dask.compute(*tasks, scheduler=scheduler) == tuple(divmod(n, 7) for n in range(20))
            print("computed")
""")
    done = run(3, program)
    assert done.stdout.strip() == "computed", done.stderr


def test_a_serial_nest_can_be_imported_on_every_rank(tmp_path):
    pytest.importorskip("nest", reason="NEST is not installed")
    program = script(tmp_path / "nests.py", """
from automfm_hpc.pools import open_pool
with open_pool() as pool:
    import nest
    print(f"rank {pool.rank} of {pool.size}", flush=True)
    pool.barrier()
""")
    done = run(2, program)
    assert done.returncode == 0, done.stderr
    assert "rank 1 of 2" in done.stdout


@pytest.mark.parametrize(("variables", "remedy"), [
    ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, "mpiexec -n N"),
    ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, "srun --mpi=pmi2"),
])  # fmt: skip
def test_copies_of_one_rank_are_refused(variables, remedy, tmp_path):
    program = script(tmp_path / "copies.py", """
from automfm_hpc.errors import LauncherError
from automfm_hpc.pools import open_pool
try:
    open_pool()
except LauncherError as error:
    print(error)
""")
    alone = {"env": {**environment(), **variables}, "text": True, "capture_output": True}
    done = subprocess.run([sys.executable, str(program)], check=False, **alone)
    assert "started 4 processes" in done.stdout, done.stderr
    assert "sees 1" in done.stdout
    assert remedy in done.stdout or "Open MPI" in done.stdout
    others = {key: "2" if key.endswith(("RANK", "PROCID")) else value for key, value in variables.items()}
    alone["env"] = {**environment(), **others}
    done = subprocess.run([sys.executable, str(program)], check=False, **alone)
    assert (done.returncode, done.stdout) == (1, "")


def test_values_are_the_same_bits(expected):
    plan = small_plan()
    rates = np.frombuffer(expected["GrC/rate"]).reshape(plan.grid("GrC").shape)
    task = next(t for t in plan.tasks() if t.population == "GrC" and t.chunk == 2)
    assert (rates[tuple(slice(a, b) for a, b in task.slices)] == chunk(plan, task)["rate"]).all()
