"""What all tests share: one thread per process, compiled models kept between runs, and the installed launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from automfm_hpc import nest_models
from automfm_hpc.pools import limit_threads

ROOT = Path(__file__).parents[1]
BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
Command = Callable[..., "subprocess.CompletedProcess[str]"]

limit_threads()
settings.register_profile("automfm", deadline=None, max_examples=50, database=None)
settings.load_profile("automfm")
# Also where a test changes the home folder; the key of a compiled model holds all it depends on.
os.environ.setdefault("AUTOMFM_CACHE", str(nest_models.cache_folder().parent))


def environment(**changes: str) -> dict[str, str]:
    """Environment of a child process that belongs to no MPI job."""
    return nest_models.without_launcher() | {"PYTHONPATH": str(ROOT)} | changes


def run_command(*arguments: object, timeout: float = 480.0, cwd: Path | None = None,
                **changes: str) -> subprocess.CompletedProcess[str]:
    """`automfm ARGUMENTS` in a process of its own; keywords are added to its environment."""
    command = [sys.executable, "-m", "automfm_hpc", *map(str, arguments)]
    return subprocess.run(command, env=environment(**changes), cwd=cwd, text=True, capture_output=True,
                          timeout=timeout, check=False)


@pytest.fixture(scope="session")
def automfm() -> Command:
    return run_command


@pytest.fixture
def automfm_here(capfd: pytest.CaptureFixture[str]) -> Command:
    """`automfm ARGUMENTS` in this process, which saves its start; what NEST prints through C is seen too."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        from automfm_hpc.cli import main

        command = [str(a) for a in arguments]
        capfd.readouterr()
        code = main(command)
        return subprocess.CompletedProcess(command, code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def mpiexec() -> str:
    if MPIEXEC is None:
        pytest.skip("no mpiexec: pip install mpi4py mpich")
    return MPIEXEC


@pytest.fixture(scope="session", autouse=True)
def _catalog_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test publishes into the repository's catalog."""
    os.environ["AUTOMFM_CATALOG"] = str(tmp_path_factory.mktemp("catalog"))
