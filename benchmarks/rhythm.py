"""Power of the populations' activities at one of a run's constant drives: network and realizations of the mean field.

    python benchmarks/rhythm.py RUN --drive 9.6 [--band 20] [--between 12 60] [--populations FS] [--scale 3] [--json]

Welch's estimate of the trials that the run was planned from (1 ms bins, Hz^2 per kHz, one-sided); `--drive` picks the
working point whose first input has this rate. With --scale two draws of the network are run anew with so many times
the cells, in-degrees as they are, beside a mean field of as many: chance is less, a rhythm of the network's own stays.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.signal import welch

from automfm_hpc.experiment import BIN, Experiment, Trial, simulate_trial
from automfm_hpc.mean_field import MeanField
from automfm_hpc.run_folder import Run
from automfm_hpc.stages import prepare_nest
from automfm_hpc.store import TrialStore

DRAWS = 2  # of the scaled network


def rhythm(courses: np.ndarray, between: tuple[float, float]) -> float:
    """Mean frequency (Hz) in a band, weighed with the square of the power, of activities (n_trial, n_bin)."""
    power = np.mean(np.abs(np.fft.rfft((courses - courses.mean(axis=1, keepdims=True)) * np.hanning(courses.shape[1])))
                    ** 2, axis=0)  # fmt: skip
    f = np.fft.rfftfreq(courses.shape[1], BIN / 1000.0)
    weight = power**2 * (f >= between[0]) * (f <= between[1])
    return float(f @ weight / weight.sum())


def scaled_trial(folder: Path, k: int, scale: float, seed: int) -> dict[str, np.ndarray]:
    """Activities (Hz), (n_bin,), of every population at the k-th working point, in a network of more cells."""
    run = Run(folder)
    experiment = Experiment.read(run.spiking, run.read_plan().network)
    larger = replace(experiment, scale=scale * experiment.scale, seeds=DRAWS)
    return dict(zip(larger.names, simulate_trial(larger, Trial(k, seed))["activity"], strict=True))


def scaled_activity(folder: Path, k: int, scale: float) -> dict[str, np.ndarray]:
    """The same of all draws, (n_draw, n_bin)."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, DRAWS), mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(scaled_trial, folder, k, scale), range(DRAWS)))
    return {name: np.array([trial[name] for trial in found]) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--drive", type=float, required=True, help="Hz")
    parser.add_argument("--band", type=float, default=20.0, help="Hz")
    parser.add_argument("--between", type=float, nargs=2, default=(5.0, 400.0), help="Hz, where a rhythm is looked for")
    parser.add_argument("--populations", nargs="+")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many cells as the network of the run")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, model = Run(a.run), MeanField.load(a.run)
    experiment = Experiment.read(run.spiking, run.read_plan().network)
    drives = [next(iter(p.background.values())) for p in experiment.protocols]
    if a.drive not in drives:
        raise SystemExit(f"{a.run} was planned from drives of {', '.join(f'{d:g}' for d in drives)} Hz")
    k = drives.index(a.drive)
    if a.scale == 1.0:
        stored = TrialStore.open(run.spiking, experiment).dataset()["activity"].isel(protocol=k)
        there = {name: stored.sel(name=name).transpose("seed", "time").values for name in experiment.names}
    else:
        if experiment.network.connections is not None:
            raise SystemExit(f"{experiment.network.name} has connections of its own, and one size")
        prepare_nest(experiment.network, lambda text: None)
        there = scaled_activity(a.run, k, a.scale)
        model.system.N[: len(model.populations)] *= a.scale  # inputs keep their sources, as in the network
    drive = dict(experiment.protocols[k].background)
    here = model.realizations(drive, duration=2.0, trials=10, bin_ms=BIN)["activity"]
    rows = {}
    for name in a.populations or model.populations:
        both = [there[name], here.sel(population=name).transpose("trial", "time").values]
        per_segment = round(2000.0 / BIN / a.band)
        (f, network), (_, field) = (welch(x, 1000.0 / BIN, nperseg=per_segment) for x in both)
        rows[name] = {"frequency_Hz": f[1:].tolist(), "network": (1000.0 * network.mean(axis=0)[1:]).tolist(),
                      "mean_field": (1000.0 * field.mean(axis=0)[1:]).tolist(),
                      "sd_Hz": [float(np.std(x, axis=1).mean()) for x in both],
                      "rhythm_Hz": [rhythm(x, tuple(a.between)) for x in both]}
        if not a.json:
            sd, at = rows[name]["sd_Hz"], rows[name]["rhythm_Hz"]
            print(f"{name}: standard deviation {sd[0]:.2f} Hz, mean field {sd[1]:.2f} Hz; "
                  f"rhythm at {at[0]:.1f} Hz, mean field {at[1]:.1f} Hz")
            for row in zip(*(rows[name][key][::2] for key in ("frequency_Hz", "network", "mean_field")), strict=True):
                print(f"{row[0]:8.0f} Hz {row[1]:10.1f} {row[2]:10.1f}")
    if a.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
