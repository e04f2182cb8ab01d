"""The rules of the house, over the syntax trees: imports point downwards, and worlds outside do not mix."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "automfm_hpc"
OUTSIDE = {"nest": "nest", "pynestml": "nest", "mpi4py": "mpi4py", "zarr": "zarr", "dask": "dask",
           "distributed": "dask", "intake": "intake", "tvb": "tvb", "bsb": "bsb",
           "matplotlib": "matplotlib"}  # fmt: skip
BLOCKED = ("nest", "pynestml", "mpi4py", "dask", "distributed", "intake", "zarr", "xarray", "numba", "tvb", "bsb",
           "matplotlib", "pandas")
FILES = sorted(PACKAGE.rglob("*.py"))
# These join the rooms: the command line and its stages call everything, late; a package's front door lists its rooms.
JOINTS = {"automfm_hpc.cli", "automfm_hpc.cli_queries", "automfm_hpc.stages", "automfm_hpc.__main__"}


def module_of(file: Path) -> str:
    parts = ["automfm_hpc", *file.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(f): f for f in FILES}


def imports(file: Path, late: bool = True) -> set[str]:
    """Full names of what a file imports at run time; with `late`, inside functions too."""
    found: set[str] = set()

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import) and (top or late):
                found.update(a.name for a in child.names)
            elif isinstance(child, ast.ImportFrom) and (top or late):
                assert child.level == 0, f"{file}: relative import"
                found.add(child.module or "")
                found.update(f"{child.module}.{a.name}" for a in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, top and not inside)

    visit(ast.parse(file.read_text("utf-8")), True)
    return found


def worlds(module: str) -> set[str]:
    """Which outside packages a module imports itself, at any level."""
    return {OUTSIDE[n.partition(".")[0]] for n in imports(MODULES[module]) if n.partition(".")[0] in OUTSIDE}


def test_the_reader_of_imports_sees_them(tmp_path):
    file = tmp_path / "m.py"
    file.write_text("import os.path\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zarr\n"
                    "class A:\n    import nest\n    def f(self):\n        from dask import delayed\n")
    assert imports(file) == {"os.path", "typing", "typing.TYPE_CHECKING", "nest", "dask", "dask.delayed"}
    assert imports(file, late=False) == {"os.path", "typing", "typing.TYPE_CHECKING", "nest"}


def test_the_modules_that_touch_the_outside_are_found():
    assert worlds("automfm_hpc.nest_models") == {"nest"}
    assert worlds("automfm_hpc.pools") == {"mpi4py"}
    assert "zarr" in worlds("automfm_hpc.store.rates")
    assert "dask" in worlds("automfm_hpc.fit")
    assert "intake" in worlds("automfm_hpc.intake_driver")
    assert worlds("automfm_hpc.network") == set()


@pytest.mark.parametrize("module", sorted(set(MODULES) - JOINTS))
def test_modules_that_touch_the_outside_never_import_one_another(module):
    mine = worlds(module)
    assert len(mine) <= 1, f"{module} touches {', '.join(sorted(mine))}"
    if not mine:
        return
    for other in sorted(imports(MODULES[module]) & set(MODULES) - JOINTS - {module}):
        theirs = worlds(other)
        assert theirs <= mine, f"{module} ({', '.join(mine)}) imports {other} ({', '.join(theirs)})"


@pytest.mark.parametrize("module", sorted(set(MODULES) - JOINTS))
def test_nobody_imports_those_above(module):
    above = imports(MODULES[module]) & {"automfm_hpc.cli", "automfm_hpc.stages"}
    users = ("closure", "explain", "measured_dynamics", "measured_swings", "plots", "report", "validation",
             "validation_raster")
    if module.rpartition(".")[2] in users:
        above -= {"automfm_hpc.stages"}  # they look at a whole run
    assert not above


def test_imports_have_no_circle():
    """At the top of modules, where a circle would break the import."""
    graph = {m: {n for n in imports(f, late=False) & set(MODULES) if not m.startswith(n)} for m, f in MODULES.items()}
    graph["automfm_hpc"] = set()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module):], module])
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("word", ["util", "helper", "base", "manager", "common", "misc"])
def test_no_module_is_named_for_nothing(word):
    assert not [m for m in MODULES if word in m.rpartition(".")[2].lower()]


BLOCK = f"""
import sys
class Without:
    # A finder that does not find some packages, as if they were not installed.
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {BLOCKED!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCK + code], env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
                          text=True, capture_output=True, check=False)


def test_the_package_imports_with_nothing_installed():
    done = python("""
import automfm_hpc
parameters = automfm_hpc.remap(automfm_hpc.Network.load("cerebellum"))
from automfm_hpc.plan import make_plan
print(len(make_plan(automfm_hpc.Network.load("brunel")).tasks()), parameters.K.sum() > 0)
import automfm_hpc.cli
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "True"


def test_the_block_blocks():
    done = python("import zarr")
    assert "No module named 'zarr'" in done.stderr


@pytest.mark.parametrize(("arguments", "code"), [
    (["network", "cerebellum"], 0), (["plan", "brunel", "--out", "RUN"], 0), (["doctor"], 1),
    (["run", "brunel", "--out", "NEW"], 1),
])  # fmt: skip
def test_commands_that_need_nothing_work_and_the_others_say_what_is_missing(arguments, code, tmp_path):
    words = [str(tmp_path / a) if a.isupper() else a for a in arguments]
    done = python(f"from automfm_hpc.cli import main\nsys.exit(main({words!r}))")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if arguments[0] == "doctor":
        assert "pip install 'nest-simulator>=" in done.stdout
    if arguments[0] == "run":
        assert "NEST is not installed" in done.stderr
        assert "pip install" in done.stderr
        assert not (tmp_path / "NEW").exists()


def test_late_imports_are_late():
    """Starting the command line loads neither MPI nor NEST nor anything slow."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", "import automfm_hpc.cli"], text=True,
                          capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)})
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "numpy" in loaded
    assert not loaded & {*BLOCKED, "pint"}
