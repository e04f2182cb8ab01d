"""What populations' activities do not say: the spread of the rates over presynaptic cells changes in time.

    python benchmarks/spread.py runs/cerebellum [--drive 20] [--target GrC --source GoC] [--seconds 2] [--json]
    python benchmarks/spread.py runs/cerebellum --drive 40 --frequency 10 --seconds 5

The network is run once. Isolated cells of the target then hear every source as active as it was, but with the shares
of its cells the same at all times. What the target does in the network beyond them is compared with the mean and with
the standard deviation, over the source's cells, of their rates smoothed over 40 ms. With a frequency, the input varies
by AMPLITUDE Hz around the drive, and gains and phase lags are told too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from automfm_hpc.experiment import BIN, Experiment, Trial, record
from automfm_hpc.presynaptic import statistics_of
from automfm_hpc.protocols import Protocol
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import Spikes, activity
from automfm_hpc.stages import prepare_nest
from automfm_hpc.swings import Heard, follow_courses, with_run_up
from automfm_hpc.validate import fourier, lag_of

SETTLE, SLOW, WIDTH, CELLS = 500.0, 15.0, 40.0, 6000  # ms, ms, ms
AMPLITUDE = 15.0  # Hz


def each(spikes: Spikes) -> np.ndarray:
    """Every cell's rate (Hz) smoothed over WIDTH: (n_cell, n_bin)."""
    n = round(spikes.duration / BIN)
    counts = np.zeros((spikes.size, n))
    np.add.at(counts, (spikes.cells, np.minimum((spikes.times / BIN).astype(int), n - 1)), 1000.0 / BIN)
    return gaussian_filter1d(counts, WIDTH / BIN, axis=1)


def compare(run: Run, drive: float, target: str, source: str, seconds: float, root: int,
            frequency: float | None) -> dict[str, float]:
    plan = run.read_plan()
    drives = dict.fromkeys(plan.network.input_names, drive)
    settings = {} if frequency is None else {"amplitude": AMPLITUDE, "frequency": frequency}
    protocol = Protocol("sine" if settings else "constant", plan.network.input_names[0], drives, settings, SETTLE,
                        1000.0 * seconds)
    experiment = Experiment(plan.network, (protocol,), root=root)
    spikes = record(experiment, Trial(0, 0)).spikes
    courses = {name: activity(s, BIN) for name, s in spikes.items()}
    cell = plan.parameters.cell(target)
    heard = Heard({name: with_run_up(courses.get(name, np.full(experiment.bins, drive)), SETTLE)
                   for name in cell.axes})
    alone = activity(follow_courses(cell, heard, SETTLE, CELLS, 1, plan.sampling.dt, None, plan.sampling.heterogeneous,
                                    statistics_of(plan.presynaptic)), BIN)  # fmt: skip
    network = courses[target]
    slow = gaussian_filter1d(network, SLOW / BIN)
    beyond = gaussian_filter1d(network - alone, SLOW / BIN)
    rates = each(spikes[source])
    mean, spread = rates.mean(axis=0), rates.std(axis=0)
    answers = {}
    if frequency is not None:
        for name, course in (("network", network), ("isolated", alone), ("spread", spread)):
            gain = complex(fourier(course, frequency, BIN)) / AMPLITUDE
            answers |= {f"{name}_gain": abs(gain), f"{name}_lag": lag_of(gain)}
    return {"drive": drive, "network_rate": float(network.mean()), "isolated_rate": float(alone.mean()),
            "slow_sd": float(slow.std()), "slow_sd_beyond": float(beyond.std()),
            "correlation_with_mean": float(np.corrcoef(beyond, mean)[0, 1]),
            "correlation_with_spread": float(np.corrcoef(beyond, spread)[0, 1]),
            "correlation_with_relative_spread": float(np.corrcoef(beyond, spread / mean)[0, 1]), **answers}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--drive", type=float, default=20.0, help="Hz, of all inputs alike")
    parser.add_argument("--target", default="GrC")
    parser.add_argument("--source", default="GoC")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--frequency", type=float, help="Hz, of a sinusoid around the drive (whole periods)")
    parser.add_argument("--root", type=int, default=3, help="of the seeds: another network")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run = Run(a.run)
    prepare_nest(run.read_plan().network, lambda text: None)
    found = compare(run, a.drive, a.target, a.source, a.seconds, a.root, a.frequency)
    print(json.dumps(found) if a.json else "\n".join(f"{k:<36}{v:8.3f}" for k, v in found.items()))


if __name__ == "__main__":
    main()
