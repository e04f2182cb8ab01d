"""How isolated cells follow one source of the network alone, the others being constant, and how the equations do.

    python benchmarks/one_source.py runs/cerebellum --population GrC --source GoC [--cells 4096] [--json]

In the network's trials sources swing together, and what cells and equations make of each is hard to tell apart. Here
isolated cells in NEST hear one of them as a trial recorded it, its trains where they were kept, and the others at their
mean rates: in constant trials and those with a fluctuating input, at every working point. The equations are given the
same. Per band: amplitude of the cells over the equations', its error, and how many degrees they are ahead.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc.experiment import BIN, Experiment, Trial, varied_experiment
from automfm_hpc.mean_field import MeanField
from automfm_hpc.measured_swings import SEAM
from automfm_hpc.mesoscopic import driven
from automfm_hpc.presynaptic import statistics_of
from automfm_hpc.provenance import seed_for
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import activity
from automfm_hpc.swings import Heard, follow_courses, recorded_courses, recorded_trains, run_up, with_run_up

BANDS = (3.0, 7.0, 12.0, 17.0, 22.0, 27.0, 32.0, 40.0)  # Hz


def trials(run: Run) -> list[tuple[Experiment, Path, Trial]]:
    """Of the network, working point by working point."""
    working = Experiment.read(run.spiking, run.read_plan().network)
    kinds = [(working, run.spiking), (varied_experiment(working), run.varied)]
    return sorted(((e, path, t) for e, path in kinds for t in e.trials()), key=lambda job: job[2].protocol)


def follow(folder: Path, population: str, source: str, n: int, k: int) -> np.ndarray:
    """Rates (Hz) of n isolated cells and of the equations in the k-th of the `trials`, (2, n_bin)."""
    run, model = Run(folder), MeanField.load(folder)
    experiment, path, trial = trials(run)[k]
    plan = run.read_plan()
    cell = next(c for c in plan.parameters.cells if c.population == population)
    before, trains = run_up(plan), recorded_trains(path, experiment, trial)
    courses = {name: c if name == source else np.full_like(c, c.mean())
               for name, c in recorded_courses(path, experiment, trial).items()}
    sent = {name: with_run_up(courses[name], before) for name in (*model.populations, *model.inputs)}
    heard = Heard({name: sent[name] for name in cell.axes},
                  {source: with_run_up(trains[source], before)} if source in trains else {})
    seed = seed_for(plan.seed, "one source", population, source, path.name, trial.protocol, trial.seed)
    spikes = follow_courses(cell, heard, before, n, seed, plan.sampling.dt, None, plan.sampling.heterogeneous,
                            statistics_of(plan.presynaptic))
    equations = driven(model, sent, BIN)[:, model.populations.index(population)]
    return np.stack([activity(spikes, BIN), equations[-experiment.bins :]])


def compared(courses: list[np.ndarray]) -> dict[str, Any]:
    """Cells over equations in BANDS, all trials of a working point together."""
    heard = [c[:, round(SEAM / BIN) :] for c in courses]
    window = np.hanning(heard[0].shape[1])
    both = [np.fft.rfft((c - c.mean(axis=1, keepdims=True)) * window) for c in heard]
    frequency, rows = np.fft.rfftfreq(window.size, BIN / 1000.0), []
    for low, high in pairwise(BANDS):
        cells, equations = np.concatenate([b[:, (frequency >= low) & (frequency < high)] for b in both], axis=1)
        power = float((abs(equations) ** 2).sum())
        ratio = complex(equations.conj() @ cells) / power
        missed = float((abs(cells - ratio * equations) ** 2).mean())
        rows.append((abs(ratio), float(np.degrees(np.angle(ratio))), float(np.sqrt(missed / power))))
    mean = np.mean([c.mean(axis=1) for c in courses], axis=0)
    return {"rate_Hz": float(mean[0]), "equations_Hz": float(mean[1]), "bands_Hz": BANDS, "ratio_ahead_error": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--population", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--cells", type=int, default=4096)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    jobs = trials(Run(a.run))
    with ProcessPoolExecutor(a.processes, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(follow, a.run, a.population, a.source, a.cells), range(len(jobs))))
    points = groupby(zip(jobs, found, strict=True), key=lambda pair: pair[0][2].protocol)
    rows = [compared([course for _, course in group]) for _, group in points]
    if a.json:
        print(json.dumps(rows))
        return
    print(f"{a.population} hears {a.source}; cells / equations by band, from Hz\n{'rate Hz (equations)':<22}"
          + "".join(f"{b:18.0f}" for b in BANDS[:-1]))
    for row in rows:
        print(f"{row['rate_Hz']:6.1f} ({row['equations_Hz']:.1f})".ljust(22)
              + "".join(f"{r:10.2f}±{e:.2f}{p:+4.0f}" for r, p, e in row["ratio_ahead_error"]))


if __name__ == "__main__":
    main()
