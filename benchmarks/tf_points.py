"""Is a grid of few points enough? Fitted transfer functions against points that no fit has seen.

    python benchmarks/tf_points.py runs/cerebellum [--population GoC] [--points 60] [--budget 4000] [--json]

Random input rates within the domain are simulated anew, more precisely than the grid was. What the fit misses beyond
the noise of these points is its own error.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from automfm_hpc import MeanField
from automfm_hpc.plan import Grid, Plan, Task
from automfm_hpc.provenance import seed_for
from automfm_hpc.run_folder import Run
from automfm_hpc.simulate import simulate_chunk


def new_points(plan: Plan, population: str, n: int, budget: float, seed: int) -> dict[str, np.ndarray]:
    """Rates (n,) and standard errors at n random input rates (n, n_axis), drawn as densely as the grid lies."""
    grid, rng = plan.grid(population), np.random.default_rng(seed)
    places = [np.interp(rng.random(n) * (len(c) - 1), np.arange(len(c)), c) for c in grid.coordinates]
    nu = np.stack(places, axis=1)
    was = plan.sampling
    sampling = replace(was, budget=budget, precision=was.precision / 3, floor=was.floor / 3)
    found = []
    for k, point in enumerate(nu):
        one = Grid(population, grid.axes, tuple((float(v),) for v in point), (1,) * len(point))
        alone = replace(plan, sampling=sampling, grids=(one,), _parameters=[])
        task = Task(population, 0, (0,) * len(point), ((0, 1),) * len(point), seed_for(seed, population, k))
        found.append(simulate_chunk(alone, task))
    return {"nu": nu, **{k: np.array([f[k].ravel()[0] for f in found]) for k in ("rate", "rate_sem")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--population", default="GoC")
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--budget", type=float, default=4000.0, help="neuron-seconds per point")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    plan, model = Run(a.run).read_plan(), MeanField.load(a.run)
    tf = model.transfer_functions[model.populations.index(a.population)]
    found = new_points(plan, a.population, a.points, a.budget, a.seed)
    error = tf(found["nu"]) - found["rate"]
    noise = float(np.sqrt((found["rate_sem"] ** 2).mean()))
    rmse = float(np.sqrt((error**2).mean()))
    result = {"population": a.population, "grid points": int(np.prod(plan.grid(a.population).shape)),
              "new points": a.points, "RMSE (Hz)": rmse, "noise of the new points (Hz)": noise,
              "error of the fit (Hz)": float(np.sqrt(max(rmse**2 - noise**2, 0.0))),
              "mean error (Hz)": float(error.mean()),
              "mean rate (Hz)": float(found["rate"].mean()), "largest (Hz)": float(np.abs(error).max())}
    print(json.dumps(result) if a.json else "\n".join(f"{k:<32}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
