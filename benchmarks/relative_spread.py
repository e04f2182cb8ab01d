"""What isolated cells do beyond their transfer function, and the spread of what their sources' cells send.

    python benchmarks/relative_spread.py runs/cerebellum [--target GrC --source GoC] [--json]

In every trial that the run was planned from, the kept trains of the source pass the target's synapse, cell by cell. u
is their variance over cells over their squared mean, moment by moment. Isolated cells of the target (`isolated.zarr`)
are held against the transfer function at what arrives, with no lag and no adaptation: ln of their ratio over u, slope,
where it is 0, and R2, and R2 of w times a line over u, with w of `spread`. Then u over its mean against E over its
mean, a line of each trial's own (slope and R2), and ln of the ratio against its w [kappa (E - 1) + lambda]. All ratios
are smoothed with 3 ms, u and E are not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.cell_response import LEAST_RATE, forgotten
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.experiment import BIN, Experiment, varied_experiment
from automfm_hpc.mean_field import MeanField
from automfm_hpc.measured_swings import Followed, course_at
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import smooth
from automfm_hpc.spread import evenness, felt, settling
from automfm_hpc.swing_fit import KERNEL, STEP, arriving_rates
from automfm_hpc.swings import recorded_trains, run_up, with_run_up

FloatArray = NDArray[np.float64]
EDGE = 50  # bins


def each_filtered(trains: FloatArray, dynamics: Dynamics, axis: int) -> FloatArray:
    """Rates (Hz) of every cell behind an axis's delay and synapse: (n_cell, n_bin)."""
    frequency = np.fft.rfftfreq(2 * trains.shape[1], BIN / 1000.0)
    passed = dynamics.pathways(frequency)[:, axis]
    return np.fft.irfft(np.fft.rfft(trains * 1000.0 / BIN, 2 * trains.shape[1]) * passed)[:, : trains.shape[1]]


def mean_so_far(y: FloatArray, fresh: float) -> FloatArray:
    """Before each step the mean of a course (n_step,), of which a step replaces the part `fresh`."""
    z, mean = float(y.mean()), np.empty(len(y))
    for s in range(len(y)):
        mean[s] = z
        z += fresh * (y[s] - z)
    return mean


def line(x: FloatArray, y: FloatArray) -> tuple[float, float, float]:
    """Slope, zero and R2 of y over x."""
    slope, zero = np.polyfit(x, y, 1)
    return float(slope), float(-zero / slope), float(1.0 - ((y - slope * x - zero) ** 2).mean() / y.var())


def through(x: FloatArray, y: FloatArray) -> tuple[FloatArray, float]:
    """Least squares of y over the columns of x, and R2."""
    found = np.linalg.lstsq(x, y, rcond=None)[0]
    return found, float(1.0 - ((y - x @ found) ** 2).mean() / y.var())


def followed(run: Run, target: str, source: str) -> list[dict[str, Any]]:
    plan, model = run.read_plan(), MeanField.load(run.folder)
    system, i, dynamics = model.system, model.populations.index(target), Dynamics.of_synapses(plan.parameters)
    axes = range(system.axis_start[i], system.axis_start[i + 1])
    axis = next(a for a in axes if system.axes[a] == model.populations.index(source))
    working, rows, forget = Experiment.read(run.spiking, plan.network), [], forgotten(STEP)
    kinds = {"constant": Followed(working, run.spiking, run.isolated)}
    if run.isolated_varied.exists():
        kinds["fluctuating"] = Followed(varied_experiment(working), run.varied, run.isolated_varied)
    tf = model.transfer_functions[i]
    for protocol in working.protocols:
        for kind, f in kinds.items():
            found = []
            for trial in f.trials_at(protocol.background):
                course = course_at(f, plan, model, i, trial)
                n = course.target.size
                trains = recorded_trains(f.recorded, f.experiment, trial).get(source)
                if trains is None:
                    raise SystemExit(f"no trains of {source} were kept: its cells are not heard one by one")
                rates, saturations = arriving_rates(system, dynamics, course.sent, BIN)
                F, y = tf(np.maximum(rates[:, list(axes)], 0.0)), rates[:, axis]
                settled, lasting = mean_so_far(y, settling(forget)), mean_so_far(y, forget)
                even = np.array([evenness(*x) for x in zip(saturations[:, axis], y, settled, strict=True)])
                own = course.target.mean()
                weight = np.array([felt(*x, own, f) for *x, f in zip(y, lasting, F, strict=True)])
                F, even, weight = (x.reshape(-1, round(BIN / STEP)).mean(axis=1)[-n:] for x in (F, even, weight))
                sent = each_filtered(with_run_up(np.asarray(trains, float), run_up(plan)), dynamics, axis)[:, -n:]
                u = sent.var(axis=0, ddof=1) / np.maximum(sent.mean(axis=0), LEAST_RATE) ** 2
                over = np.log((smooth(course.target, KERNEL, BIN) + LEAST_RATE) / (smooth(F, KERNEL, BIN) + LEAST_RATE))
                moves, _, known = line((even / even.mean())[EDGE:-EDGE], (u / u.mean())[EDGE:-EDGE])
                inner = [smooth(x, KERNEL, BIN)[EDGE:-EDGE] for x in (u, weight * u, weight * (even - 1.0), weight)]
                found.append((*inner, over[EDGE:-EDGE], u, moves, known))
            u, weight_u, weight_even, weight, over, raw = (np.concatenate([row[j] for row in found]) for j in range(6))
            slope, zero, r2 = line(u, over)
            _, felt_r2 = through(np.column_stack([weight_u, weight]), over)
            (kappa, offset), even_r2 = through(np.column_stack([weight_even, weight]), over)
            rows.append({"drive": dict(protocol.background), "kind": kind, "slope": slope, "zero": zero, "r2": r2,
                         "felt_r2": felt_r2, "u": float(raw.mean()), "u_slope": float(np.mean([x[6] for x in found])),
                         "u_r2": float(np.mean([x[7] for x in found])),
                         "kappa": float(kappa), "lambda": float(offset), "even_r2": even_r2})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", default="GrC")
    parser.add_argument("--source", default="GoC")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    rows = followed(Run(a.run), a.target, a.source)
    if a.json:
        print(json.dumps(rows))
        return
    print(f"ln of {a.target} over F against u of {a.source}; u against E; ln of the ratio against E")
    for row in rows:
        print(f"{row['drive']!s:<16}{row['kind']:<13}slope {row['slope']:5.2f}  0 at {row['zero']:5.2f}  R2 "
              f"{row['r2']:5.2f} ({row['felt_r2']:5.2f});  u {row['u']:5.2f}  slope {row['u_slope']:5.2f}  R2 "
              f"{row['u_r2']:5.2f};  kappa {row['kappa']:5.2f}  lambda {row['lambda']:5.2f}  R2 {row['even_r2']:5.2f}")


if __name__ == "__main__":
    main()
