"""Sinusoids longer than `automfm validate` has time for: the network's gains to a percent or two, and who is off.

    python benchmarks/sinusoids.py runs/cerebellum [--frequencies 10 20 30] [--amplitudes 5 10 15 20] [--draws 4]
                                                   [--seconds 5] [--own] [--json]

New draws of the connections (with `--own` those that the run was planned from) under the sinusoids of `automfm
validate`, or others as large as asked for (Hz). For every population: the network's gain with its standard error over
draws, and its phase lag; gain of the mean field over the network's and its lag less the network's; and the same for its
equations given the activities that all sources had in the network, where no loop is closed. A trial of the cerebellum
takes some 20 s of one core for every second, and one more second before the window.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc import validate
from automfm_hpc.experiment import BIN, Experiment
from automfm_hpc.mean_field import MeanField
from automfm_hpc.mesoscopic import driven
from automfm_hpc.protocols import Protocol
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import activity
from automfm_hpc.stages import prepare_nest
from automfm_hpc.validation import solve_protocol
from automfm_hpc.validation_plan import DROPPED, experiments

NEW = 770_000  # root of the seeds of new draws


def trial(folder: Path, protocol: Protocol, draw: int, own: bool) -> dict[str, np.ndarray]:
    """Activities (Hz in BIN) of populations and inputs; connections drawn anew, or `own` ones, input and noise anew."""
    from automfm_hpc.spiking import run_trial
    from automfm_hpc.wiring import draw_wiring, true_wiring

    run = Run(folder)
    network = run.read_plan().network
    working = Experiment.read(run.spiking, network)
    seed = own_seed(working, protocol, draw) if own else NEW + 1000 * draw + int(protocol.setting("frequency"))
    wiring = draw_wiring(network, working.scale, seed) if network.connections is None else true_wiring(network)
    recording = run_trial(network, protocol, seed + 1, scale=working.scale, wiring=wiring, dt=working.dt,
                          processes=working.processes)  # fmt: skip
    return protocol.course() | {name: activity(spikes, BIN) for name, spikes in recording.spikes.items()}


def own_seed(working: Experiment, protocol: Protocol, draw: int) -> int:
    """Of one draw of the network that the run was planned from, at the background of the protocol."""
    for t in working.trials():
        if t.seed == draw and working.protocols[t.protocol].background == protocol.background:
            return working.seed_of(t)
    raise SystemExit(f"the run was not planned from draw {draw} at a drive of {dict(protocol.background)}")


def compared(model: MeanField, protocol: Protocol, trials: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Of every population, what the module's text says; `protocol` is `automfm validate`'s, without the seconds."""
    f, window = protocol.setting("frequency"), slice(round(DROPPED / BIN), None)
    wave = np.array([validate.fourier(t[protocol.input][window], f) for t in trials])
    closed = validate.fourier(solve_protocol(model, protocol, 2)[0][:, window], f) / protocol.setting("amplitude")
    given = np.array([validate.fourier(driven(model, t, BIN)[window].T, f) for t in trials]) / wave[:, None]
    rows = {}
    for i, name in enumerate(model.populations):
        gain = np.array([validate.fourier(t[name][window], f) for t in trials]) / wave
        ratios = {"closed": closed[i] / gain.mean(), "open": given[:, i].mean() / gain.mean()}
        rows[name] = {"gain": float(abs(gain.mean())), "error": float(abs(gain).std(ddof=1) / np.sqrt(len(gain))),
                      "lag": validate.lag_of(complex(gain.mean()))}  # fmt: skip
        rows[name] |= {k: [float(abs(r) - 1.0), validate.lag_of(complex(r))] for k, r in ratios.items()}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--frequencies", type=float, nargs="+", default=[10.0, 20.0, 30.0], help="Hz")
    parser.add_argument("--amplitudes", type=float, nargs="+", help="Hz; without any that of `automfm validate`")
    parser.add_argument("--draws", type=int, default=4, help="at least 2")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each window")
    parser.add_argument("--own", action="store_true", help="the draws that the run was planned from")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, rows = Run(a.run), []
    network, model = run.read_plan().network, MeanField.load(a.run)
    draws = min(a.draws, Experiment.read(run.spiking, network).seeds) if a.own else a.draws
    prepare_nest(network, lambda text: None)
    protocols = [p for p in experiments(network, ("sine",))["sine"].protocols
                 if p.setting("frequency") in a.frequencies]
    if a.amplitudes:
        protocols = [replace(p, settings={**p.settings, "amplitude": size}) for p in protocols for size in a.amplitudes]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = [[pool.submit(trial, a.run, replace(p, duration=DROPPED + 1000.0 * a.seconds), draw, a.own)
                    for draw in range(draws)] for p in protocols]
        for p, trials in zip(protocols, waiting, strict=True):
            found = compared(model, p, [t.result() for t in trials])
            rows.append({"protocol": p.name, "frequency": p.setting("frequency"),
                         "amplitude": p.setting("amplitude"), "populations": found})
            if not a.json:
                print(f"{p.setting('frequency'):g} Hz, {p.setting('amplitude'):g} Hz large, {draws} draws, "
                      f"{a.seconds:g} s each")
                for name, r in found.items():
                    print(f"    {name:<6}network {r['gain']:.3f} +- {r['error']:.3f}, lag {r['lag']:+.0f};  mean field "
                          f"{100 * r['closed'][0]:+.0f} %, {r['closed'][1]:+.0f};  given the network's activities "
                          f"{100 * r['open'][0]:+.0f} %, {r['open'][1]:+.0f}", flush=True)
    if a.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
