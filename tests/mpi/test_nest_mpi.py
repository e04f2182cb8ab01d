"""With a NEST built with MPI (`make nest-mpi`): networks over ranks, and chunks on ranks of their own.

Run by `make test-nest-mpi`; AUTOMFM_MPI_PYTHON names the Python of the environment that has this NEST.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr

PYTHON = os.environ.get("AUTOMFM_MPI_PYTHON", str(Path(__file__).parents[2] / ".venv-mpi" / "bin" / "python"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path(PYTHON).exists(), reason="make nest-mpi was not run")]


def launch(ranks: int, *arguments: str) -> str:
    mpirun = os.environ.get("AUTOMFM_MPIRUN") or shutil.which("mpirun.openmpi")  # not the mpich of this environment
    assert mpirun, "name the launcher of that NEST's MPI in AUTOMFM_MPIRUN"
    command = [mpirun, "--allow-run-as-root", "--oversubscribe", "-n", str(ranks), PYTHON, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_same_spikes_on_1_2_and_4_ranks():
    script = str(Path(__file__).with_name("spread_network.py"))
    found = [json.loads(launch(n, script).split("DIGESTS ")[1]) for n in (1, 2, 4)]
    assert found[0]["GrC"][0] > 1000
    assert found[0] == found[1] == found[2]


def test_chunks_on_ranks_with_kernels_of_their_own(tmp_path):
    options = ["--points", "4", "--precision", "0.3", "--budget", "90"]
    for n in (1, 2, 4):
        launch(1, "-m", "automfm_hpc", "plan", "cerebellum", "--out", str(tmp_path / str(n)), *options)
        launch(n, "-m", "mpi4py", "-m", "automfm_hpc", "simulate", str(tmp_path / str(n)))
    one = zarr.open_group(tmp_path / "1" / "rates.zarr", mode="r")
    for n in (2, 4):
        other = zarr.open_group(tmp_path / str(n) / "rates.zarr", mode="r")
        for population in ("GrC", "GoC", "BC", "SC", "PC"):
            for name in ("rate", "rate_sem", "adaptation", "cv"):
                np.testing.assert_array_equal(one[population][name][...], other[population][name][...])


def test_validation_of_networks_spread_over_ranks(tmp_path):
    """From the command line: the same trials on 1, 2 and 4 ranks; and a job that stopped goes on with other ranks."""
    network = str(Path(__file__).parents[1] / "data" / "two_cells.yaml")
    made, command = tmp_path / "made", ["-m", "mpi4py", "-m", "automfm_hpc"]
    options = ["--points", "4", "--precision", "0.3", "--budget", "90", "--working-points", "network", "--no-dynamics"]
    launch(2, *command, "run", network, "--out", str(made), *options, "--distribute", "4",
           "--catalog", str(tmp_path / "catalog"))
    found = {}
    for n in (1, 2, 4):
        run = tmp_path / str(n)
        shutil.copytree(made, run)
        launch(n, *command, "validate", str(run), "--protocols", "constant", "--seeds", "2", "--distribute", "4")
        assert json.loads((run / "validation.json").read_text())["processes"] == 4
        found[n] = trials(run)
    assert found[1]["rate"].min() >= 0 and found[1]["rate"].max() > 1.0
    for n in (2, 4):
        for name in ("rate", "activity", "cv"):
            np.testing.assert_array_equal(found[1][name], found[n][name])
    again = tmp_path / "4"
    store = next((again / "validation").glob("constant_*.zarr"))
    group = zarr.open_group(store, mode="r+")
    group["status"][0, 0] = group["status"][1, 1] = 0
    group["rate"][0, 0] = np.nan
    launch(2, *command, "validate", str(again), "--protocols", "constant", "--seeds", "2", "--distribute", "4")
    np.testing.assert_array_equal(trials(again)["rate"], found[1]["rate"])


def trials(run: Path) -> dict[str, np.ndarray]:
    store = next((run / "validation").glob("constant_*.zarr"))
    group = zarr.open_group(store, mode="r")
    return {name: group[name][...] for name in ("rate", "activity", "cv")}
