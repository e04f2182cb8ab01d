"""The program's own NEST model, the E-GLIF neuron: written in NESTML, compiled for the NEST that is installed.

NESTML's own build step needs NEST's build folder, which a wheel does not have. Here NESTML only generates the
C++ files; they are compiled directly against the headers that every NEST installation carries.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources, util
from pathlib import Path
from typing import Any

from automfm_hpc.errors import SimulationError
from automfm_hpc.provenance import content_hash

MODEL = "eglif_cond_alpha_multisyn"
HEADERS = Path(__file__).parent / "headers"
LAUNCHER_VARIABLE = re.compile(r"^(PMI|PMIX|PRTE|OMPI|OPAL|MPICH|HYDRA|HYDI|SLURM_(PMI|STEP|PROCID|MPI))")

_SET_COMMUNICATOR = """
#include <mpi.h>
#include "kernel_manager.h"
#include "mpi_manager.h"
/* Called through ctypes: gives this process's NEST kernel a communicator of its own. */
extern "C" void automfm_set_communicator(int handle)
{
  nest::kernel().mpi_manager.set_communicator(MPI_Comm_f2c(handle));
}
"""


@dataclass(frozen=True)
class NestInstallation:
    """The NEST found, without importing it.

    Parameters
    ----------
    folder : Path
        Python package.
    include : Path
        Headers.
    version : str
    has_mpi : bool
    new_abi : bool
        Whether it was compiled with the C++11 ABI of std::string (the PyPI wheel was not).
    """

    folder: Path
    include: Path
    version: str
    has_mpi: bool
    new_abi: bool


@cache
def find_nest() -> NestInstallation:
    """Locate NEST, its headers, and how it was compiled.

    Raises
    ------
    SimulationError
        If NEST or its headers are missing.
    """
    spec = util.find_spec("nest")
    if spec is None or spec.origin is None:
        raise SimulationError("NEST is not installed", where="nest",
                              remedy="Install it: pip install nest-simulator nestml")
    folder = Path(spec.origin).parent
    include = _first(p for p in (folder / "include" / "nest", Path(sys.prefix) / "include" / "nest",
                                 *(parent / "include" / "nest" for parent in folder.parents))
                     if (p / "config.h").is_file())
    kernel = _first(folder.glob("nestkernel_api*.so"))
    if include is None or kernel is None:
        raise SimulationError("NEST was found, but not its headers or its kernel library", where=str(folder),
                              remedy="Install NEST from PyPI or conda-forge, or from source with headers.")
    config = (include / "config.h").read_text("utf-8", "replace")
    version = re.search(r'define NEST_VERSION "([^"]+)"', config)
    return NestInstallation(folder, include, version[1] if version else "unknown",
                            "\n#define HAVE_MPI 1" in config, _new_abi(kernel))


def _first(paths: Any) -> Path | None:
    return next(iter(paths), None)


def _new_abi(kernel: Path) -> bool:
    """Read the ABI off the mangled names: functions that take a `const std::string &`."""
    symbols = kernel.read_bytes()
    new = len(re.findall(rb"_ZNK?4nest\w*RKNSt7__cxx11", symbols))
    old = len(re.findall(rb"_ZNK?4nest\w*RKSs", symbols))
    return new >= old


def _search_path() -> str:
    return os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])


def without_launcher(environment: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without the MPI launcher's variables, for child processes that must not join the job."""
    environment = dict(os.environ if environment is None else environment)
    return {k: v for k, v in environment.items() if not LAUNCHER_VARIABLE.match(k)}


# --- source ---------------------------------------------------------------------------------------


def model_name(receptors: int) -> str:
    """NEST name of the E-GLIF model with that many receptors."""
    return f"{MODEL}_r{receptors}"


def nestml_source(receptors: int) -> str:
    """NESTML text of the E-GLIF model with that many receptors."""
    if receptors < 1:
        raise SimulationError(f"{receptors} receptors: a driven cell needs at least one", where=MODEL)
    template = (resources.files("automfm_hpc") / "nestml" / f"{MODEL}.nestml").read_text("utf-8")
    numbers = range(1, receptors + 1)
    lines: list[str] = []
    run: list[str] = []
    for line in [*template.replace("{R}", str(receptors)).splitlines(), ""]:
        code = line.partition("#")[0].rstrip() if not line.startswith("#") else ""
        deeper = run and _indent(code) > _indent(run[0])
        if "{k}" in code or (deeper and code):
            run.append(code)
            continue
        lines += [r.replace("{k}", str(k)) for k in numbers for r in run]
        run = []
        lines.append(re.sub(r"\{\+(\w+)\}", lambda m: " + ".join(f"{m[1]}{k}" for k in numbers), code))
    return "\n".join(line for line in lines if line) + "\n"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


# --- compiling ------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where compiled modules are kept: $AUTOMFM_CACHE, else the user's cache folder."""
    root = os.environ.get("AUTOMFM_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "automfm_hpc"


def module_path(receptors: int) -> Path:
    """Where the compiled module with that many receptors is or will be.

    The folder's name holds all it depends on; NEST wants the file's name to be the module's.
    """
    nest = find_nest()
    key = content_hash([nestml_source(receptors), nest.version, nest.new_abi, nest.has_mpi, str(nest.include),
                        metadata.version("nestml"), _flags(nest), _SET_COMMUNICATOR, sys.version_info[:2]])
    return cache_folder() / key / f"eglif{receptors}module.so"


def _flags(nest: NestInstallation) -> list[str]:
    return ["-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-fopenmp", "-shared",
            f"-D_GLIBCXX_USE_CXX11_ABI={int(nest.new_abi)}"]  # fmt: skip


def compiler(nest: NestInstallation) -> list[str]:
    """C++ compiler: $CXX, else mpicxx for a NEST with MPI, else g++, c++ or clang++.

    Raises
    ------
    SimulationError
        If there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        if shutil.which(chosen[0], path=_search_path()) is None:
            raise SimulationError(f"the C++ compiler '{chosen[0]}' named by CXX does not exist", where="nest_models",
                                  remedy="Set CXX to one that does, or unset it.")
        return chosen
    names = ["mpicxx", "mpic++"] if nest.has_mpi else ["g++", "c++", "clang++"]
    for name in names:
        if shutil.which(name, path=_search_path()):
            return [name]
    package = "libopenmpi-dev" if nest.has_mpi else "g++"
    raise SimulationError(f"no C++ compiler found ({', '.join(names)})", where="nest_models",
                          remedy=f"Install one, for example: apt-get install {package}; or set CXX.")


def include_flags(nest: NestInstallation) -> list[str]:
    """Where the compiler finds the headers of NEST and Python, and those of Boost and libltdl, which NEST's include.

    The machine's own come first (``-idirafter``); the package `boost-headers` and this package's ``headers`` are for
    machines without.
    """
    flags = [f"-I{nest.include}", f"-I{sysconfig.get_path('include')}", "-idirafter", str(HEADERS)]
    if util.find_spec("boost_headers") is not None:
        import boost_headers

        flags += ["-idirafter", str(boost_headers.get_include())]
    return flags


def check_headers() -> None:
    """Let the compiler read NEST's headers, without compiling (a fraction of a second).

    Raises
    ------
    SimulationError
        If one of the files they include is missing.
    """
    nest = find_nest()
    with tempfile.TemporaryDirectory(prefix="automfm-") as folder:
        source = Path(folder) / "headers.cpp"
        source.write_text('#include "archiving_node.h"\n#include "nest_extension_interface.h"\n', "utf-8")
        _run([*compiler(nest), "-std=c++20", "-E", *include_flags(nest), str(source), "-o", os.devnull],
             "reading NEST's headers")


def compile_module(receptors: int) -> Path:
    """Path of the compiled module, compiling it first if the cache has none for this NEST (about 15 s).

    The file is written aside and renamed, so processes that compile at the same time do no harm.

    Raises
    ------
    SimulationError
        No compiler, no NESTML, or a failed compilation, with the compiler's first complaint.
    """
    target = module_path(receptors)
    if target.is_file():
        return target
    nest = find_nest()
    command = compiler(nest)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=target.parent) as build:
        _generate(receptors, Path(build))
        if nest.has_mpi:
            (Path(build) / "out" / "communicator.cpp").write_text(_SET_COMMUNICATOR, "utf-8")
        sources = sorted(map(str, (Path(build) / "out").glob("*.cpp")))
        aside = Path(build) / target.name
        _run([*command, *_flags(nest), f"-I{build}/out", *include_flags(nest), *sources, "-o", str(aside)],
             "compiling the E-GLIF model")
        os.replace(aside, target)
    return target


def _generate(receptors: int, build: Path) -> None:
    """Let NESTML write the C++ files, in a process of its own: it keeps global state and looks for NEST."""
    if util.find_spec("pynestml") is None:
        raise SimulationError("NESTML is not installed", where="nestml", remedy="Install it: pip install nestml")
    (build / "in").mkdir()
    (build / "in" / f"{model_name(receptors)}.nestml").write_text(nestml_source(receptors), "utf-8")
    code = (
        "from pynestml.codegeneration.nest_builder import NESTBuilder;"
        "NESTBuilder.build = lambda self: None;"  # generate only: its build step needs NEST's build folder
        "from pynestml.frontend.pynestml_frontend import generate_nest_target as g;"
        f"g(input_path={str(build / 'in')!r}, target_path={str(build / 'out')!r}, logging_level='ERROR',"
        f"module_name='eglif{receptors}module',"
        f"codegen_opts={{'numeric_solver': 'forward-Euler', 'nest_version': 'v{find_nest().version}'}})"
    )
    _run([sys.executable, "-c", code], "generating code with NESTML", cwd=build)


def _run(command: list[str], doing: str, cwd: Path | None = None) -> None:
    environment = without_launcher() | {"PATH": _search_path()}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        message = next((line for line in lines if "rror" in line), lines[-1] if lines else "no message")
        remedy = "Install Boost's headers: pip install boost-headers, or apt-get install libboost-dev."
        raise SimulationError(f"{doing} failed: {message}", where=Path(command[0]).name,
                              remedy=remedy if "boost/" in message else "")


# --- loading --------------------------------------------------------------------------------------


def import_nest() -> Any:
    """NEST, quiet.

    Raises
    ------
    SimulationError
        If NEST is missing, or a NEST without MPI would abort because the launcher's variables are still set.
    """
    installation = find_nest()
    if "nest" not in sys.modules:
        # A NEST without MPI aborts the process when it sees a launcher's variables, so look before importing.
        left = sorted(k for k in os.environ if re.match(r"^(PMI_RANK|PMIX_RANK|OMPI_COMM_WORLD_RANK)$", k))
        if left and not installation.has_mpi:
            raise SimulationError(f"this NEST has no MPI, but the launcher's {left[0]} is set", where="nest",
                                  remedy="Start through `python -m mpi4py -m automfm_hpc`, which clears it.")
    with _quiet():
        import nest
    nest.verbosity = nest.VerbosityLevel.ERROR
    return nest


@contextmanager
def nest_failures(where: str) -> Iterator[None]:
    """NEST's own complaints as SimulationError, so that one failed piece of work does not end the job."""
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith("NESTErrors"):
            raise
        raise SimulationError(" ".join(str(error).split()), where=where,
                              remedy="NEST refuses this; correct the description.") from error


class _quiet:
    """NEST prints a banner through C; keep stdout for results."""

    def __enter__(self) -> None:
        sys.stdout.flush()
        self._saved = os.dup(1)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        os.dup2(self._saved, 1)
        os.close(self._saved)


def install(receptors: int) -> str:
    """Load the E-GLIF model into the running kernel (again after each ResetKernel); returns its NEST name."""
    nest = import_nest()
    name = model_name(receptors)
    if name not in nest.node_models:
        with _quiet():
            nest.Install(str(compile_module(receptors)))
    return name


def use_communicator(handle: int) -> None:
    """Give this process's NEST a communicator (a Fortran handle, `comm.py2f()`) before `ResetKernel`.

    With a NEST built with MPI every rank of its communicator must make the same calls; with a communicator of
    one rank each, ranks work on different chunks. A NEST without MPI needs nothing.
    """
    if find_nest().has_mpi:
        import_nest()
        library = ctypes.CDLL(str(compile_module(1)))
        library.automfm_set_communicator(ctypes.c_int(handle))
