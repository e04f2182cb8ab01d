"""How much faster more ranks simulate the same plan, and whether they make the same store.

    python benchmarks/ranks.py [--json] [--ranks 1 2] [--network cerebellum] [--points 4] [--repeats 1]

The time is that of the simulations alone, from the first chunk handed out to the last one stored; starting
the processes and compiling the neuron model are reported apart. On a machine that does other work at the
same time the figures say little: the load is reported too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from automfm_hpc.launchers import scrub_launcher_environment
from automfm_hpc.store import VARIABLES, RateStore

BAR = 1.8  # 2 ranks against 1
SIMULATED = re.compile(r"(\d+) of \d+ chunks simulated in ([\d.]+) s")


def automfm(ranks: int, *arguments: object) -> str:
    """Output of a command of the program, on that many ranks (0: without a launcher)."""
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
    launcher = [mpiexec, "-n", str(ranks), sys.executable, "-m", "mpi4py"] if ranks else [sys.executable]
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    scrub_launcher_environment(environment)
    done = subprocess.run([*launcher, "-m", "automfm_hpc", *map(str, arguments)], env=environment, text=True,
                          capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"automfm {arguments[0]} failed on {ranks} rank(s):\n{done.stderr}")
    return done.stdout


def simulate(plan: Path, ranks: int) -> dict[str, float]:
    """Simulate a fresh copy of the run on that many ranks."""
    run = plan.with_name(f"ranks{ranks}")
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(plan, run)
    began = time.perf_counter()
    found = SIMULATED.search(automfm(ranks, "simulate", run))
    if found is None:
        sys.exit("automfm simulate did not say how long it took")
    return {"ranks": ranks, "chunks": int(found[1]), "seconds": float(found[2]),
            "with_start_seconds": round(time.perf_counter() - began, 2)}  # fmt: skip


def values(run: Path) -> dict[str, bytes]:
    store = RateStore.open(run / "rates.zarr")
    return {f"{g.population}/{name}": store.grid(g.population)[name].values.tobytes()
            for g in store.plan.grids for name in VARIABLES}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """The fastest of the repeats for each number of ranks, taken in turn."""
    plan = folder / "plan"
    automfm(0, "plan", options.network, "--out", plan, "--points", options.points, "--budget", options.budget)
    warm = folder / "warm"
    automfm(0, "plan", options.network, "--out", warm, "--points", 4, "--budget", 25, "--precision", 1)
    automfm(1, "simulate", warm)  # compiles the neuron model
    rows = [simulate(plan, ranks) for _ in range(options.repeats) for ranks in options.ranks]
    best = [min((r for r in rows if r["ranks"] == n), key=lambda r: r["seconds"]) for n in options.ranks]
    contents = [values(folder / f"ranks{n}") for n in options.ranks]
    for row in best:
        row["speedup"] = round(best[0]["seconds"] / row["seconds"], 3)
    return {"network": options.network, "points": options.points, "budget_s": options.budget, "runs": best,
            "identical": all(c == contents[0] for c in contents), "bar_2_ranks": BAR,
            "cores": os.cpu_count(), "load_before": options.load}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2], help="the first one is the reference")
    parser.add_argument("--network", default="cerebellum")
    parser.add_argument("--points", type=int, default=4, help="grid points per input axis")
    parser.add_argument("--budget", type=float, default=300.0, help="simulated seconds per point at most")
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    options.load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options)
    if options.json:
        print(json.dumps(figures))
        return
    for row in figures["runs"]:
        print(f"{row['ranks']:3d} rank(s): {row['chunks']} chunks in {row['seconds']:7.1f} s, "
              f"{row['speedup']:.2f} times as fast ({row['with_start_seconds']:.1f} s with start)")
    print(f"stores {'identical' if figures['identical'] else 'DIFFERENT'}; bar for 2 ranks: {BAR}; load before: "
          f"{options.load} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
