"""What is installed, what would fail, and the line that mends it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from automfm_hpc.errors import AutomfmError

# distribution, module, what it is for, least version (major, minor, patch), whether the main job needs it
PACKAGES = (
    ("nest-simulator", "nest", "simulating", (3, 8, 0), True),
    ("nestml", "pynestml", "the E-GLIF neuron", (8, 0, 0), True),
    ("numba", "numba", "solving", (0, 60, 0), True),
    ("zarr", "zarr", "stores that survive a kill", (3, 1, 3), True),
    ("xarray", "xarray", "labelled arrays", (2024, 7, 0), True),
    ("dask", "dask", "fitting", (2024, 7, 0), True),
    ("intake", "intake", "the catalog", (2, 0, 7), True),
    ("matplotlib", "matplotlib", "figures", (3, 8, 0), True),
    ("mpi4py", "mpi4py", "several ranks", (4, 0, 0), False),
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    optional: bool = False


def examine() -> list[Finding]:
    """Look at everything the program needs, without simulating."""
    findings = [_python(), *(_package(*p) for p in PACKAGES)]
    return findings + [_guarded(name, look) for name, look in
                       (("NEST build", _nest), ("C++ compiler", _compiler), ("compiled models", _compiled),
                        ("MPI launcher", _launcher), ("cores", _cores))]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, sys.version.split()[0], "" if ok else "Use Python 3.11 or newer.")


def _package(name: str, module: str, purpose: str, least: tuple[int, ...], needed: bool) -> Finding:
    wanted = ".".join(map(str, least))
    mend = f"pip install '{name}>={wanted}'"
    if util.find_spec(module) is None:
        return Finding(name, False, f"missing ({purpose})", mend, optional=not needed)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, True, f"installed ({purpose}), version unknown")
    numbers = tuple(int(w) for w in version.split(".")[:3] if w.isdigit())
    ok = numbers >= least
    return Finding(name, ok, f"{version} ({purpose})", "" if ok else mend, optional=not needed)


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except AutomfmError as error:
        return Finding(name, False, error.what, error.remedy)


def _nest() -> Finding:
    from automfm_hpc.nest_models import find_nest

    nest = find_nest()
    kind = "with MPI (networks may span ranks)" if nest.has_mpi else "without MPI (one kernel per rank)"
    return Finding("NEST build", True, f"{nest.version} {kind}")


def _compiler() -> Finding:
    from automfm_hpc.nest_models import check_headers, compiler, find_nest

    command = " ".join(compiler(find_nest()))
    check_headers()
    return Finding("C++ compiler", True, f"{command}, finds the headers of NEST and Boost")


def _compiled() -> Finding:
    from automfm_hpc.nest_models import cache_folder, module_path

    ready = [str(n) for n in range(1, 9) if module_path(n).is_file()]
    text = f"E-GLIF with {', '.join(ready)} receptors" if ready else "none yet: the first run compiles, 15 s each"
    return Finding("compiled models", True, f"{text}; in {cache_folder()}")


def _launcher() -> Finding:
    """A launcher beside this Python, or any; MPI is not loaded, for that could abort outside a launcher."""
    beside = Path(sys.executable).parent / "mpiexec"
    path = str(beside) if beside.exists() else shutil.which("mpiexec")
    if path is None:
        return Finding("MPI launcher", False, "none: one rank only", "pip install mpi4py mpich", optional=True)
    return Finding("MPI launcher", True, path)


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("cores", True, f"{count}: mpiexec -n {count} python -m mpi4py -m automfm_hpc run ...")
