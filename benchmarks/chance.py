"""Chance in the spikes of finite populations: the network's, and what `cell_response.fire` makes of the same courses.

    python benchmarks/chance.py runs/cerebellum [--populations GoC BC] [--json]

The course of isolated cells that hear what a population hears in a trial is the population's rate without its own
chance (`swings`); the difference of the network's activity from it is that chance. Its power in bands, over that of
Poisson processes of the same rate and less what the isolated cells' own chance adds; below it that of chance realized
around the same course.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.signal import welch

from automfm_hpc.cell_response import Cells, cells_of, fire
from automfm_hpc.dynamics_plan import LEAST_RATE
from automfm_hpc.experiment import BIN, Experiment
from automfm_hpc.mean_field import MeanField
from automfm_hpc.measured_swings import SEAM
from automfm_hpc.mesoscopic import DT
from automfm_hpc.response import compiled
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import smooth
from automfm_hpc.store import TrialStore
from automfm_hpc.swings import isolated_cells

BANDS = (5.0, 12.0, 20.0, 28.0, 36.0, 48.0, 80.0, 150.0)  # Hz
TRIALS = 20  # of realized chance around each course


@compiled
def realized(c: Cells, i: int, rate: np.ndarray, N: float, own: float, held: int, seed: int) -> np.ndarray:
    np.random.seed(seed)
    nu, chance, out = np.zeros(i + 1), np.zeros((2, i + 1)), np.zeros(rate.size)
    for k in range(rate.size * held):
        nu[i] = rate[k // held]
        out[k // held] += fire(c, i, N, BIN / held, nu, own, chance) / held
    return out


def power(courses: np.ndarray, N: float, rate: float) -> list[float]:
    """Of activities (n_trial, n_bin) around their rate, over that of N Poisson processes, in BANDS."""
    f, found = welch(courses[:, round(SEAM / BIN) :], 1000.0 / BIN, nperseg=128)
    relative = found.mean(axis=0) / 2.0 * N / rate
    return [float(relative[(f >= low) & (f < high)].mean()) for low, high in pairwise(BANDS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--populations", nargs="+", help="default: all but those of more than 5000 cells")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, model = Run(a.run), MeanField.load(a.run)
    experiment = Experiment.read(run.spiking, run.read_plan().network)
    order = ("protocol", "seed", "name", "time")
    stored = TrialStore.open(run.spiking, experiment).dataset()
    there = stored["activity"].transpose(*order).values
    alone = TrialStore.open(run.isolated, experiment).dataset()["activity"].transpose(*order).values
    cells, rows = cells_of(model.dynamics.cell), []
    for name in a.populations or [p for p, n in zip(model.populations, model.system.N, strict=False) if n < 5000]:
        i, j = model.populations.index(name), list(experiment.names).index(name)
        N = float(model.system.N[i])
        for k in range(len(experiment.protocols)):
            course, rate = alone[k, :, j], float(alone[k, :, j].mean())
            if rate < LEAST_RATE:
                continue
            isolated = np.mean([isolated_cells(stored.isel(protocol=k, seed=s), experiment)[name]
                                for s in range(len(course))])  # fmt: skip
            smoothed = smooth(course, 1.0, BIN)
            made = [realized(cells, i, x, N, rate, round(BIN / DT), 100 * s + t) - x
                    for s, x in enumerate(smoothed) for t in range(TRIALS)]
            shared = 1.0 + N / isolated  # the isolated cells' own chance is in the difference, too
            rows.append({"population": name, "rate_Hz": rate, "bands_Hz": BANDS,
                         "network": [v / shared for v in power(there[k, :, j] - course, N, rate)],
                         "model": power(np.array(made), N, rate)})
    if a.json:
        print(json.dumps(rows))
        return
    print(f"{'from Hz':<16}" + "".join(f"{b:8.0f}" for b in BANDS[:-1]))
    for row in rows:
        for key in ("network", "model"):
            head = f"{row['population']} {row['rate_Hz']:.1f} Hz" if key == "network" else ""
            print(f"{head:<16}" + "".join(f"{v:8.2f}" for v in row[key]) + f"  {key}")


if __name__ == "__main__":
    main()
