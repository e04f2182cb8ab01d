"""Which launcher started this process, what to do where its MPI is another one, and its traces in the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from automfm_hpc.errors import LauncherError

_PREFIXES = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "HYDI_", "HYDRA_", "MPI_LOCAL")


@dataclass(frozen=True)
class Launcher:
    """What the launcher says in the environment."""

    name: str
    rank: int
    size: int


def launcher(environment: MutableMapping[str, str] | None = None) -> Launcher | None:
    """The launcher that started this process, the innermost one if they are nested; None without one."""
    env = os.environ if environment is None else environment
    for name, rank, size in (("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
                             ("PMI", "PMI_RANK", "PMI_SIZE"),
                             ("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if env.get(rank, "").isdigit() and env.get(size, "").isdigit():
            return Launcher(name, int(env[rank]), int(env[size]))
    return None


def refuse(started: Launcher, comm: Any) -> None:
    """Every process would do the whole work alone; one of them says so."""
    if started.rank > 0:
        raise SystemExit(1)
    from mpi4py import MPI

    library = MPI.Get_library_version().split(",")[0].splitlines()[0].strip()
    raise LauncherError(f"the launcher ({started.name}) started {started.size} processes, but MPI ({library}) sees "
                        f"{comm.size}", remedy=_remedy(started, library))


def _remedy(started: Launcher, library: str) -> str:
    kind = "pmix" if "Open MPI" in library else "pmi2"
    if started.name == "Slurm" or "SLURM_STEP_NUM_TASKS" in os.environ:
        return f"Start with: srun --mpi={kind} python -m mpi4py -m automfm_hpc ..."
    mpiexec = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    return f"Use the mpiexec of that MPI: {mpiexec} -n N python -m mpi4py -m automfm_hpc ..."


def scrub_launcher_environment(environment: MutableMapping[str, str] | None = None) -> list[str]:
    """Remove the launcher's variables, so that a NEST built without MPI can be imported; names removed.

    Only after MPI was initialised: before, MPI would not find its launcher.
    """
    env = os.environ if environment is None else environment
    names = sorted(name for name in env if name.startswith(_PREFIXES))
    for name in names:
        del env[name]
    return names
