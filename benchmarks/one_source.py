"""How isolated cells follow one source of the network alone, the others being constant, and how the equations do.

    python benchmarks/one_source.py RUN --population GrC --source GoC [--cells 4096] [--json]
    python benchmarks/one_source.py RUN --population GrC --source GoC --frequency 20 [--trains shuffled]

In the network's trials sources swing together, and what cells and equations make of each is hard to tell apart. Here
isolated cells in NEST hear one of them (or `all`) as a trial recorded it, its trains where they were kept, and the
others at their mean rates: in constant trials and those with a fluctuating input, at every working point. The equations
are given the same. Per band: amplitude of the cells over the equations', its error over frequencies and trials, and how
many degrees they are ahead.

With --frequency the network is under the sinusoid of `automfm validate` that has it (three draws of 4 s, some four
minutes on two cores, kept in RUN/one_source), and the band is the half Hz on both sides of it. --trains says what
becomes of recorded trains: `shuffled` ones keep the spikes of every bin and give each to a cell at random, `anew` are
regular trains on the clock of the recorded activity.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc.experiment import BIN, VALUES, Experiment, Trial, simulate_trial, varied_experiment
from automfm_hpc.mean_field import MeanField
from automfm_hpc.measured_swings import SEAM
from automfm_hpc.mesoscopic import driven
from automfm_hpc.presynaptic import statistics_of
from automfm_hpc.provenance import seed_for
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import activity
from automfm_hpc.stages import prepare_nest
from automfm_hpc.store import TrialStore
from automfm_hpc.swings import Heard, follow_courses, recorded_courses, recorded_trains, run_up, with_run_up
from automfm_hpc.validation_plan import experiments

BANDS = (3.0, 7.0, 12.0, 17.0, 22.0, 27.0, 32.0, 40.0)  # Hz
DRAWS, WINDOW = 3, 4000.0  # of the network under a sinusoid; ms
TRAINS = ("recorded", "shuffled", "anew")


def trials(run: Run, frequency: float | None) -> list[tuple[Experiment, Path, Trial]]:
    """Of the network, working point by working point, or under a sinusoid of that frequency (Hz)."""
    network = run.read_plan().network
    working = Experiment.read(run.spiking, network)
    kinds = [(working, run.spiking), (varied_experiment(working), run.varied)]
    if frequency is not None:
        sines = tuple(replace(p, duration=WINDOW) for p in experiments(network, ("sine",))["sine"].protocols
                      if p.setting("frequency") == frequency)
        if not sines:
            raise SystemExit(f"`automfm validate` has no sinusoid of {frequency:g} Hz")
        kinds = [(replace(working, protocols=sines, seeds=DRAWS), run.folder / "one_source" / f"{frequency:g}_Hz.zarr")]
    return sorted(((e, path, t) for e, path in kinds for t in e.trials()), key=lambda job: job[2].protocol)


def simulate(folder: Path, frequency: float, trial: Trial) -> dict[str, np.ndarray]:
    """One draw of the network under a sinusoid."""
    (experiment, _, _), *_ = trials(Run(folder), frequency)
    return simulate_trial(experiment, trial)


def keep_trials(folder: Path, frequency: float, processes: int) -> None:
    """Let the network run under a sinusoid, as far as it has not yet."""
    (experiment, path, _), *_ = trials(Run(folder), frequency)
    path.parent.mkdir(exist_ok=True)
    store = TrialStore.create(path, experiment, VALUES)
    missing = store.missing()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for trial, values in zip(missing, pool.map(partial(simulate, folder, frequency), missing), strict=True):
            store.write(trial, values)


def rearranged(trains: np.ndarray, how: str, rng: np.random.Generator) -> np.ndarray:
    """Spikes (n_cell, n_bin) with those of every bin given to cells at random, or as they were."""
    return rng.permuted(trains, axis=0) if how == "shuffled" else trains


def follow(folder: Path, population: str, source: str, n: int, frequency: float | None, how: str, k: int) -> np.ndarray:
    """Rates (Hz) of n isolated cells and of the equations in the k-th of the `trials`, (2, n_bin)."""
    run, model = Run(folder), MeanField.load(folder)
    experiment, path, trial = trials(run, frequency)[k]
    plan = run.read_plan()
    cell = next(c for c in plan.parameters.cells if c.population == population)
    heard_by = [name for name in cell.axes if source in (name, "all")]
    before, trains = run_up(plan), {} if how == "anew" else recorded_trains(path, experiment, trial)
    courses = {name: c if name in heard_by else np.full_like(c, c.mean())
               for name, c in recorded_courses(path, experiment, trial).items()}
    sent = {name: with_run_up(courses[name], before) for name in (*model.populations, *model.inputs)}
    rng, kept = np.random.default_rng(k), [name for name in heard_by if name in trains]
    heard = Heard({name: sent[name] for name in cell.axes},
                  {name: with_run_up(rearranged(trains[name], how, rng), before) for name in kept})
    seed = seed_for(plan.seed, "one source", population, source, path.name, trial.protocol, trial.seed)
    spikes = follow_courses(cell, heard, before, n, seed, plan.sampling.dt, None, plan.sampling.heterogeneous,
                            statistics_of(plan.presynaptic))
    equations = driven(model, sent, BIN)[:, model.populations.index(population)]
    return np.stack([activity(spikes, BIN), equations[-experiment.bins :]])


def compared(courses: list[np.ndarray], bands: tuple[float, ...]) -> dict[str, Any]:
    """Cells over equations between those frequencies (Hz), all trials of a working point together."""
    heard = [c[:, round(SEAM / BIN) :] for c in courses]
    window = np.hanning(heard[0].shape[1])
    both = [np.fft.rfft((c - c.mean(axis=1, keepdims=True)) * window) for c in heard]
    frequency, rows = np.fft.rfftfreq(window.size, BIN / 1000.0), []
    for low, high in pairwise(bands):
        cells, equations = np.concatenate([b[:, (frequency >= low) & (frequency < high)] for b in both], axis=1)
        power = float((abs(equations) ** 2).sum())
        ratio = complex(equations.conj() @ cells) / power
        missed = float((abs(cells - ratio * equations) ** 2).mean())
        rows.append((abs(ratio), float(np.degrees(np.angle(ratio))), float(np.sqrt(missed / power))))
    mean = np.mean([c.mean(axis=1) for c in courses], axis=0)
    return {"rate_Hz": float(mean[0]), "equations_Hz": float(mean[1]), "bands_Hz": bands, "ratio_ahead_error": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--population", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--cells", type=int, default=4096)
    parser.add_argument("--frequency", type=float, help="Hz: under a sinusoid of the input")
    parser.add_argument("--trains", choices=TRAINS, default=TRAINS[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, bands = Run(a.run), BANDS
    plan = run.read_plan()
    heard = {c.population: c.axes for c in plan.parameters.cells}
    if a.source not in (*heard.get(a.population, ()), "all"):
        raise SystemExit(f"{a.population} does not hear {a.source}: {heard}")
    if a.frequency is not None:
        prepare_nest(plan.network, lambda text: None)
        keep_trials(a.run, a.frequency, a.processes)
        bands = (a.frequency - 0.5, a.frequency + 0.5)
    jobs = trials(run, a.frequency)
    with ProcessPoolExecutor(a.processes, mp_context=get_context("spawn")) as pool:
        one = partial(follow, a.run, a.population, a.source, a.cells, a.frequency, a.trains)
        found = list(pool.map(one, range(len(jobs))))
    points = groupby(zip(jobs, found, strict=True), key=lambda pair: pair[0][2].protocol)
    rows = [compared([course for _, course in group], bands) for _, group in points]
    if a.json:
        print(json.dumps(rows))
        return
    print(f"{a.population} hears {a.source}; cells / equations by band, from Hz\n{'rate Hz (equations)':<22}"
          + "".join(f"{b:18.0f}" for b in bands[:-1]))
    for row in rows:
        print(f"{row['rate_Hz']:6.1f} ({row['equations_Hz']:.1f})".ljust(22)
              + "".join(f"{r:10.2f}±{e:.2f}{p:+4.0f}" for r, p, e in row["ratio_ahead_error"]))


if __name__ == "__main__":
    main()
