"""The command line: exit codes, one line of complaint, one JSON document, nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from automfm_hpc import nest_models
from automfm_hpc.arguments import build_parser, parse_drive
from automfm_hpc.errors import UsageError

FILE = Path(__file__).parent / "data" / "two_cells.yaml"
SMALL = ("--points", 4, "--precision", 0.2, "--budget", 40)
FROM_TEXT = ("--working-points", "description")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def complaint(done) -> str:
    """The one line on stderr; nothing on stdout."""
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("automfm: ")
    return lines[0]


@pytest.fixture(scope="module")
def finished(automfm, tmp_path_factory):
    """A whole small run, as a user makes it, with its catalog."""
    folder = tmp_path_factory.mktemp("cli")
    done = automfm("run", FILE, "--out", folder / "two", "--catalog", folder / "catalog", *SMALL, *FROM_TEXT, "--json")
    assert done.returncode == 0, done.stderr
    return folder / "two", folder / "catalog", done


@pytest.fixture
def run(finished, tmp_path) -> Path:
    shutil.copytree(finished[0], tmp_path / "two")
    return tmp_path / "two"


# --- what works -----------------------------------------------------------------------------------


def test_run_prints_one_document_and_leaves_a_run(finished):
    run, catalog, done = finished
    answer = json.loads(done.stdout)
    assert answer["run"] == str(run)
    assert (catalog / "library" / "records" / f"{answer['id']}.json").is_file()
    assert all(Path(f).stat().st_size > 5000 for f in answer["figures"])
    assert len(answer["figures"]) >= 3
    assert "Traceback" not in done.stderr
    assert "simulate: 5 of 5" in done.stderr


def test_running_again_does_nothing_again(finished, automfm):
    run, catalog, first = finished
    before = {p: p.stat().st_mtime_ns for p in (run / "rates.zarr").rglob("*") if p.is_file()}
    done = automfm("run", FILE, "--out", run, "--catalog", catalog, *SMALL, *FROM_TEXT, "--json")
    assert done.returncode == 0, done.stderr
    assert "simulate: 0 of 5 chunks to do" in done.stderr
    assert json.loads(done.stdout)["id"] == json.loads(first.stdout)["id"]
    assert before == {p: p.stat().st_mtime_ns for p in (run / "rates.zarr").rglob("*") if p.is_file()}


def test_the_default_asks_the_spiking_network_for_its_rates(automfm, tmp_path):
    done = automfm("plan", FILE, "--out", tmp_path / "run", "--points", 4, "--working-points", "network")
    assert done.returncode == 0, done.stderr
    assert "spiking network: 15 of 15 trials to do" in done.stderr
    assert (tmp_path / "run" / "spiking.zarr").is_dir()


def test_solve_answers_as_designed(finished, automfm):
    done = automfm("solve", finished[0], "--drive", "mossy=20", "--order", 2, "--duration", 0.5, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert set(answer) == {"status", "order", "drive", "rates", "sd", "warnings"}
    assert (answer["status"], answer["order"], answer["drive"]) == ("ok", 2, {"mossy": 20.0})
    assert set(answer["rates"]) == set(answer["sd"]) == {"Grain", "Golgi"}
    assert 0 < answer["rates"]["Grain"] < 100
    assert answer["sd"]["Golgi"] > 0
    first = automfm("solve", finished[0], "--drive", "mossy=20", "--order", 1, "--json")
    assert json.loads(first.stdout)["sd"] == {}


def test_json_is_one_document_everywhere(finished, automfm_here):
    run, catalog, done = finished
    identity = json.loads(done.stdout)["id"]
    for command in (["network", FILE, "--json"], ["network", "cerebellum", "--variant", "ataxia", "--json"],
                    ["library", "ls", "--catalog", catalog, "--json"], ["doctor", "--json", "--compile", "2"],
                    ["library", "search", "pathology=control", "--catalog", catalog, "--json"],
                    ["library", "search", "Q[mossy->Grain]=0.2:0.3", "--catalog", catalog, "--json"],
                    ["library", "show", identity[:8], "--catalog", catalog, "--json"], ["solve", run, "--json"]):
        answer = automfm_here(*command)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout), command


def test_stages_alone_give_the_same_as_run(finished, automfm_here, tmp_path):
    run = tmp_path / "stages"
    for command in (["plan", FILE, "--out", run, *SMALL], ["simulate", run], ["fit", run], ["solve", run],
                    ["publish", run, "--catalog", tmp_path / "catalog"], ["plot", run]):
        done = automfm_here(*command)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    for name in ("network.yaml", "plan.json", "fits.json"):
        assert (run / name).read_text() == (finished[0] / name).read_text()
    for population in ("Grain", "Golgi"):
        import xarray

        one, other = (xarray.open_zarr(r / "rates.zarr", group=population) for r in (run, finished[0]))
        assert one["rate"].values.tobytes() == other["rate"].values.tobytes()


def test_tables_are_readable(finished, automfm_here):
    lines = automfm_here("network", "cerebellum").stdout.splitlines()
    assert any(line.split()[:4] == ["GrC->PC/pf", "1529", "300", "0.14"] for line in lines)
    text = automfm_here("solve", finished[0]).stdout
    assert "stationary rates" in text
    assert "Golgi" in text
    assert "two_cells" in automfm_here("library", "ls", "--catalog", finished[1]).stdout
    assert "ok   C++ compiler" in automfm_here("doctor").stdout


def test_working_points_from_a_file(automfm_here, tmp_path):
    table = tmp_path / "rates.csv"
    table.write_text("mossy,Grain,Golgi\n10,5,18\n40,16,24\n")
    done = automfm_here("plan", FILE, "--out", tmp_path / "run", *SMALL, "--working-points", table)
    assert done.returncode == 0, done.stderr
    assert "Golgi 0 to 30 Hz (4)" in done.stdout
    assert "Grain 0 to 20 Hz (4)" in done.stdout


def test_help_of_every_verb(automfm):
    verbs = next(a for a in build_parser()._actions if a.dest == "verb").choices
    assert {"run", "plan", "simulate", "fit", "solve", "publish", "network", "library", "plot", "doctor"} <= set(verbs)
    for verb, parser in verbs.items():
        assert verb in parser.format_help()
        assert parser.description.endswith(".")
    assert automfm("--version").stdout.startswith("automfm 0.")
    assert automfm("run", "--help").returncode == 0


# --- wrong usage ----------------------------------------------------------------------------------

USAGE = [
    (["nosuch"], "does not know"), (["run"], "required: NETWORK, --out"), (["plan", "brunel"], "--out RUN is missing"),
    (["run", "brunel", "--out", "NEW", "--points", "many"], "invalid int value"),
    (["run", "brunel", "--out", "NEW", "--order", "3"], "invalid choice"),
    (["solve", "RUN", "--drive", "mosy=20"], "no input 'mosy'. Did you mean 'mossy'?"),
    (["solve", "RUN", "--drive", "mossy"], "'mossy' is not INPUT=HZ"),
    (["solve", "RUN", "--drive", "mossy=fast"], "'mossy=fast' is not INPUT=HZ"),
    (["solve", "RUN", "--drive", "mossy=-1"], "a rate of -1 Hz is not possible"),
    (["solve", "RUN", "--drive", "mossy=nan"], "not possible"),
    (["solve", "RUN", "--drive", "mossy=1", "mossy=2"], "'mossy' is given twice"),
    (["validate", "RUN", "--distribute", "some"], "invalid int value"),
    (["validate", "RUN", "--explain", "--distribute"], "--distribute: does not go with --explain"),
    (["plan", "cerebellum", "--out", "NEW", "--distribute"], "the spiking network, which is not run here"),
    (["plan", "cerebellum", "--out", "NEW", "--draws", "2"], "--draws: belongs to the spiking network"),
    (["run", "cerebellum", "--out", "NEW", "--draws", "0"], "--draws: must be 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_wrong_usage_exits_with_2(arguments, words, automfm_here, finished, tmp_path):
    places = {"RUN": finished[0], "NEW": tmp_path / "NEW"}
    done = automfm_here(*[places.get(a, a) for a in arguments])
    assert done.returncode == 2
    assert words in complaint(done)
    assert list(tmp_path.iterdir()) == []


def test_no_verb_prints_the_help(automfm):
    for command in ([], ["library"]):
        done = automfm(*command)
        assert done.returncode == 2
        assert "usage: automfm" in done.stdout


def test_every_input_needs_a_rate():
    assert parse_drive(["a=1", "b=2e1"], ("a", "b")) == {"a": 1.0, "b": 20.0}
    with pytest.raises(UsageError, match="needs a rate for b"):
        parse_drive(["a=1"], ("a", "b"))


# --- bad input ------------------------------------------------------------------------------------


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = FILE.read_text()
    assert old in text
    file = tmp_path / "bad.yaml"
    file.write_text(text.replace(old, new, 1))
    return file


@pytest.mark.parametrize(("old", "new", "words"), [
    ("Golgi->Grain:", "Gogli->Grain:", ["projections.Gogli->Grain", "unknown population 'Gogli'", "'Golgi'"]),
    ("tau_m: 44 ms", "tau_m: -44 ms", ["populations.Golgi.parameters", "tau_m = -44 ms", "larger than 0"]),
    ("tau_syn: 0.5 ms", "tau_syn: -0.5 ms", ["projections.Grain->Golgi.tau_syn", "larger than 0"]),
    ("size: 300", "size: -300", ["populations.Grain.size", "-300"]),
    ("rate_range: [0 Hz, 40 Hz]", "rate_rage: [0 Hz, 40 Hz]", ["unknown key 'rate_rage'", "'rate_range'"]),
    ("C_m: 145 pF", "C_m: 145 mV", ["parameters.C_m", "'145 mV' is not in units of pF"]),
])  # fmt: skip
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_bad_networks_leave_nothing(old, new, words, verb, automfm_here, tmp_path):
    done = automfm_here(verb, changed(tmp_path, old, new), "--out", tmp_path / "run", *SMALL)
    assert done.returncode == 1
    line = complaint(done)
    for word in ["bad.yaml", *words]:
        assert word in line
    assert [p.name for p in tmp_path.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(("options", "words"), [
    (["no_such.yaml"], "no_such.yaml: is neither a file nor a built-in network"),
    (["cerebelum"], "Did you mean 'cerebellum'?"),
    ([FILE, "--variant", "week"], "no variant 'week'. Did you mean 'weak'?"),
    ([FILE, "--points", 2], "2 points per axis are too few"),
    ([FILE, "--precision", -1], "sampling.precision: must be finite and larger than 0"),
    ([FILE, "--precision", "inf"], "sampling.precision: must be finite"),
    ([FILE, "--precision", "nan"], "sampling.precision: must be finite"),
    ([FILE, "--budget", 5], "sampling.budget: 5 s are too few for the 16 cells"),
    ([FILE, "--working-points", "none.csv"], "none.csv: cannot be read (No such file or directory)"),
])  # fmt: skip
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_bad_options_leave_nothing(options, words, verb, automfm_here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = automfm_here(verb, *options, "--out", "run")
    assert done.returncode == 1
    assert words in complaint(done)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(nest_models.find_nest().has_mpi, reason="this NEST has MPI")
def test_a_network_is_not_spread_without_mpi(finished, automfm_here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(finished[0])
    for command in (["run", FILE, "--out", "new"], ["validate", finished[0]]):
        done = automfm_here(*command, "--distribute")
        assert done.returncode == 1
        assert "--distribute: this NEST was built without MPI" in complaint(done)
        assert "make nest-mpi" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert contents(finished[0]) == before


@pytest.mark.parametrize(("table", "words"), [
    ("mossy,Grain,Golgi\nnan,nan,nan\n", "holds no finite rate"), ("Grain,Goldgi\n1,2\n", "unknown column 'Goldgi'"),
    ("mossy,Grain\n4,fast\n", "is not a table of rates"),
])  # fmt: skip
def test_working_points_without_rates_leave_nothing(table, words, automfm_here, tmp_path):
    (tmp_path / "rates.csv").write_text(table)
    done = automfm_here("run", FILE, "--out", tmp_path / "run", "--working-points", tmp_path / "rates.csv")
    assert done.returncode == 1
    assert words in complaint(done)
    assert [p.name for p in tmp_path.iterdir()] == ["rates.csv"]


def test_a_grid_without_finite_points_cannot_be_fitted(run, automfm_here):
    """All rates of one population lost, as by a damaged disk whose checksums were made anew."""
    from automfm_hpc.store import VARIABLES, RateStore

    store = RateStore.open(run / "rates.zarr")
    plan = store.plan
    shutil.rmtree(run / "rates.zarr")
    for name in ("fits.json", "model.zarr", "comparison.json"):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    fresh = RateStore.create(run / "rates.zarr", plan)
    for task in plan.tasks():
        shape = tuple(b - a for a, b in task.slices)
        fresh.write(task, {v: np.full(shape, 0 if v in ("n_cells", "converged") else np.nan) for v in VARIABLES})
    done = automfm_here("fit", run)
    assert done.returncode == 1
    line = complaint(done)
    assert "Golgi" in line or "Grain" in line
    assert not (run / "model.zarr").exists()
    assert not (run / "fits.json").exists()


@pytest.mark.parametrize("options", [["--points", 5], ["--seed", 2], ["--variant", "weak"], ["--mean-in-degree"]])
def test_the_folder_of_another_plan_stays_as_it_was(options, run, automfm_here):
    before = contents(run)
    done = automfm_here("run", FILE, "--out", run, *SMALL, *FROM_TEXT, *options)
    assert done.returncode == 1
    line = complaint(done)
    assert "holds another plan" in line
    assert "Choose another --out" in line
    assert contents(run) == before


def test_folders_that_are_no_run(automfm_here, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("text")
    for out in ("work", "work/thesis.tex"):
        for command in ("run", "plan"):
            done = automfm_here(command, FILE, "--out", tmp_path / out, *SMALL, *FROM_TEXT)
            assert done.returncode == 1
            assert "Choose another --out" in complaint(done)
    for verb in ("simulate", "fit", "publish", "plot", "solve"):
        done = automfm_here(verb, tmp_path / "work")
        assert done.returncode == 1
        assert "no run here" in complaint(done)
    assert list(contents(tmp_path)) == ["work/thesis.tex"]


def test_no_model_to_solve(automfm_here, tmp_path):
    done = automfm_here("solve", tmp_path / "none", "--drive", "mossy=20")
    assert done.returncode == 1
    assert "no such file or folder" in complaint(done)
    done = automfm_here("library", "ls", "--catalog", tmp_path / "none")
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changes", [{"CXX": "/no/such/compiler"}, {"PATH": "/no/such/folder"}], ids=["CXX", "PATH"])
@pytest.mark.parametrize("origin", ["network", "description"])
def test_no_compiler_leaves_nothing(changes, origin, automfm, tmp_path):
    beside = Path(sys.executable).parent
    if "PATH" in changes and any((beside / name).exists() for name in ("g++", "c++", "clang++")):
        pytest.skip("there is a compiler beside this Python")
    done = automfm("run", FILE, "--out", tmp_path / "run", *SMALL, "--working-points", origin,
                   AUTOMFM_CACHE=str(tmp_path / "cache"), **{**({} if "CXX" in changes else {"CXX": ""}), **changes})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("automfm: ")
    assert "compiler" in last
    assert not (tmp_path / "run").exists()
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


@pytest.mark.parametrize("variables", [
    {"PMI_SIZE": "2", "PMI_RANK": "0"}, {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
    {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
], ids=["PMI", "Open MPI", "Slurm"])  # fmt: skip
def test_a_launcher_of_another_mpi_is_refused(variables, automfm, tmp_path):
    pytest.importorskip("mpi4py")
    done = automfm("run", FILE, "--out", tmp_path / "run", *SMALL, **variables)
    assert done.returncode == 1
    line = complaint(done)
    assert "started 2 processes" in line
    assert "mpi4py -m automfm_hpc" in line
    assert not (tmp_path / "run").exists()


def test_a_reader_that_stops_reading_is_no_error(automfm):
    """`automfm network ... | head -1`: no traceback."""
    import subprocess

    from conftest import environment

    with subprocess.Popen([sys.executable, "-m", "automfm_hpc", "network", "cerebellum"], env=environment(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert "Traceback" not in error


def test_interrupted_by_the_user(tmp_path):
    """Ctrl-C: one line, and the same command goes on."""
    import signal
    import subprocess
    import time

    from conftest import environment

    command = [sys.executable, "-m", "automfm_hpc", "run", FILE, "--out", tmp_path / "run", "--points", "8",
               "--precision", "0.001", *FROM_TEXT]
    # A shell that runs the tests in its background has them ignore the signal; what is ignored is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([str(c) for c in command], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        while not (tmp_path / "run" / "rates.zarr").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=240)
    signal.signal(signal.SIGINT, before)
    assert process.returncode == 1, error
    assert error.splitlines()[-1] == "interrupted; run the same command again to go on"


def test_compiled_models_are_where_the_cache_says(automfm):
    assert nest_models.module_path(2).is_file() or os.environ.get("AUTOMFM_CACHE")
    findings = json.loads(automfm("doctor", "--json").stdout)
    found = next(f for f in findings if f["name"] == "compiled models")
    assert str(nest_models.cache_folder()) in found["found"]
