"""What each ingredient of the equations in time buys: fitted to isolated cells, scored on a draw that no fit has seen.

    python benchmarks/response_laws.py runs/cerebellum [--populations GoC GrC] [--json]

The equations of `cell_response`, ingredient by ingredient, are fitted at every working point to the isolated cells of
all draws of the network but the last, and scored on the last: R2 of the course smoothed with 3 ms, and by how much the
mean is off. `without` has nothing: the transfer function at what arrives. `power` has lag and adaptation that knows no
bound (b = d = 5, nearly a power of the ratio); then come the bounds, the spread of presynaptic rates, the part of it
that F was sampled without (lambda), rises that are the later the less cells fire, and the pause of those that have
fired.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc import swing_fit
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.experiment import BIN, Experiment
from automfm_hpc.mean_field import MeanField
from automfm_hpc.measured_dynamics import cell_response, slow_errors
from automfm_hpc.measured_swings import Followed, course_at, spreads_that_count
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import smooth
from automfm_hpc.swing_fit import KERNEL, Known, Numbers, alone, arriving_rates, course_of, fit_swing

LAWS = ("without", "power", "bounds", "+ spread", "+ lambda", "+ late", "+ pause")  # each has what those before have
UNBOUNDED, AT_ONCE = 5.0, 0.05  # of b and d; ms
HELD, NONE = 1e-6, 1e-4  # standard deviation of a prior that does not let go; the most of what a law has not


@contextmanager
def restricted(law: str) -> Iterator[None]:
    """Fits within hold what the law has not: b and d at UNBOUNDED, lambda, lateness and pause next to 0."""
    order = LAWS.index(law)
    changed = {"BOUND": UNBOUNDED - 1e-3, "PRIOR_BOUND": HELD} if law == "power" else {}
    changed |= {"PRIOR_OFFSET": HELD} if order < LAWS.index("+ lambda") else {}
    changed |= {"LATES": (0.0, NONE)} if order < LAWS.index("+ late") else {}
    changed |= {"PAUSES": (0.0, NONE)} if order < LAWS.index("+ pause") else {}
    kept = {name: getattr(swing_fit, name) for name in changed}
    for name, value in changed.items():
        setattr(swing_fit, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(swing_fit, name, value)


def scored(folder: Path, task: tuple[str, int, str]) -> dict[str, Any]:
    """One population at one working point with one law."""
    name, k, law = task
    run, model = Run(folder), MeanField.load(folder)
    plan = run.read_plan()
    system, i = model.system, model.populations.index(name)
    working = Experiment.read(run.spiking, plan.network)
    followed = Followed(working, run.spiking, run.isolated)
    *fitted, judge = (course_at(followed, plan, model, i, t)
                      for t in followed.trials_at(working.protocols[k].background))
    small = json.loads(run.dynamics.read_text("utf-8"))
    small.pop("swings", None)
    known, dynamics, cell = cell_response(small), Dynamics.of_synapses(plan.parameters), plan.parameters.cell(name)
    lag, rho, slow, _ = known.at(np.mean([c.sent.mean(axis=0) for c in fitted], axis=0)[: len(known.knots)])[:, i]
    few = spreads_that_count(cell, model.inputs)
    axes = slice(system.axis_start[i], system.axis_start[i + 1])
    none = np.zeros(len(few))
    numbers = Numbers(AT_ONCE, AT_ONCE, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, none, none)
    if law != "without":
        with restricted(law):
            numbers = fit_swing(system, dynamics, i, [fitted], Known(lag, rho, slow, float(slow_errors(small)[i])),
                                few if law[0] == "+" else [False] * len(few), BIN)
    rates, roots = (x[:, axes] for x in arriving_rates(system, dynamics, judge.sent, BIN))
    course = course_of(alone(system, i), rates, roots, numbers, BIN)[-judge.target.size :]
    missed, wanted = (smooth(x, KERNEL, BIN) for x in (course - judge.target, judge.target))
    return {"population": name, "point": k, "law": law, "rate_Hz": float(judge.target.mean()),
            "r2": float(1.0 - missed.var() / wanted.var()), "mean": float(course.mean() / judge.target.mean() - 1.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--populations", nargs="+")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run = Run(a.run)
    working = Experiment.read(run.spiking, run.read_plan().network)
    if working.seeds < 2:
        raise SystemExit("the network was run with one draw: there is none to score on")
    names = a.populations or MeanField.load(a.run).populations
    tasks = [(name, k, law) for name in names for law in LAWS for k in range(len(working.protocols))]
    with ProcessPoolExecutor(a.processes, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(partial(scored, a.run), tasks))
    if a.json:
        print(json.dumps(rows))
        return
    for name in names:
        for law in LAWS:
            here = [row for row in rows if (row["population"], row["law"]) == (name, law)]
            print(f"{name:<6}{law:<16}" + "".join(f"{r['r2']:8.3f} ({100 * r['mean']:+5.1f} %)" for r in here))


if __name__ == "__main__":
    main()
