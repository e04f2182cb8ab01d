"""The mean field against the very draws of the network that it was made from: what is left is not the draws' fault.

    python benchmarks/own_draws.py runs/cerebellum [--frequencies 10 20 30] [--json]

`automfm validate` judges by other draws of the connections, as it should; but draws differ, and where a network
resonates they differ much. Here the connections are those of the trials that the run was planned from, under sinusoids
as in `automfm validate`: gain of the mean field over the network's, phase lag less the network's, and what one draw's
gain differs from another's (standard deviation over the mean). A trial of the cerebellum takes some 25 s on one core.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc import validate
from automfm_hpc.experiment import BIN, Experiment
from automfm_hpc.mean_field import MeanField
from automfm_hpc.protocols import Protocol
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import activity
from automfm_hpc.stages import prepare_nest
from automfm_hpc.validation import solve_protocol
from automfm_hpc.validation_plan import DROPPED, experiments


def trial(folder: Path, protocol: Protocol, draw: int) -> np.ndarray:
    """Complex amplitudes (n_population,) in Hz of one draw of the run, its input and noise drawn anew."""
    from automfm_hpc.spiking import run_trial
    from automfm_hpc.wiring import draw_wiring, true_wiring

    run = Run(folder)
    network = run.read_plan().network
    working = Experiment.read(run.spiking, network)
    known = [t for t in working.trials() if t.seed == draw
             and working.protocols[t.protocol].background == protocol.background]  # fmt: skip
    if not known:
        raise SystemExit(f"{folder} was not planned from a drive of {dict(protocol.background)}")
    seed = working.seed_of(known[0])
    wiring = draw_wiring(network, working.scale, seed) if network.connections is None else true_wiring(network)
    recording = run_trial(network, protocol, seed + 1, scale=working.scale, wiring=wiring, dt=working.dt,
                          processes=working.processes)  # fmt: skip
    courses = np.array([activity(recording.spikes[name], BIN) for name in network.population_names])
    return validate.fourier(courses[:, round(DROPPED) :], protocol.setting("frequency"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--frequencies", type=float, nargs="+", default=[10.0, 20.0, 30.0], help="Hz")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, rows = Run(a.run), []
    network, model = run.read_plan().network, MeanField.load(a.run)
    draws = Experiment.read(run.spiking, network).seeds
    prepare_nest(network, lambda text: None)
    protocols = experiments(network, ("sine",))["sine"].protocols
    protocols = tuple(p for p in protocols if p.setting("frequency") in a.frequencies)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        found = [[pool.submit(trial, a.run, p, draw) for draw in range(draws)] for p in protocols]
        for p, waiting in zip(protocols, found, strict=True):
            there = np.array([w.result() for w in waiting])
            here = validate.fourier(solve_protocol(model, p, 2)[0][:, round(DROPPED) :], p.setting("frequency"))
            row: dict[str, Any] = {"protocol": p.name, "frequency": p.setting("frequency"), "populations": {}}
            for i, name in enumerate(model.populations):
                ratio, gains = here[i] / there[:, i].mean(), abs(there[:, i])
                row["populations"][name] = {"gain": float(abs(ratio) - 1.0), "lag": validate.lag_of(complex(ratio)),
                                            "draws": float(gains.std(ddof=1) / gains.mean()) if draws > 1 else None}
            rows.append(row)
            if not a.json:
                print(f"{p.setting('frequency'):g} Hz, {draws} draws")
                for name, one in row["populations"].items():
                    print(f"    {name:<6}gain {100 * one['gain']:+.0f} %  lag {one['lag']:+.0f}  draws {one['draws']}",
                          flush=True)
    if a.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
