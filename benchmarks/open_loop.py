"""How the model's equations follow the network's own activities, population by population, with no loop closed.

    python benchmarks/open_loop.py runs/cerebellum [--kinds sine bursts] [--json]

The activities of all sources in the stored trials of the last `automfm validate` go through delays and synapses into
the equations of every population, and what these do is held against what the population did in the network: in a loop
errors hide one another, here each is its own. Constant drives: mean rate, and the standard deviation of the course.
Sinusoids: gain over the network's, and phase lag less the network's. Others: R2 of the PSTH (5 ms), its mean rate and
standard deviation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc import validate
from automfm_hpc.mean_field import MeanField
from automfm_hpc.mesoscopic import driven
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import smooth
from automfm_hpc.store import TrialStore
from automfm_hpc.validation_plan import DROPPED, replanned, results_file, store_of


def followed(model: MeanField, experiment: Any, activity: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """What the equations did under one protocol, and what the network did: (n_seed, n_population, n_bin) each."""
    names = list(experiment.names)
    each = [driven(model, experiment.protocols[k].course() | dict(zip(names, trial, strict=True)), 1.0).T
            for trial in activity]
    return np.array(each), activity[:, [names.index(name) for name in model.populations]]


def scores(protocol: Any, here: np.ndarray, there: np.ndarray) -> dict[str, float]:
    """Of one population: (n_seed, n_bin) each."""
    if protocol.kind == "sine":
        window, f = slice(round(DROPPED) if protocol.cycles == 1 else 0, None), protocol.setting("frequency")
        ratio = validate.fourier(here[:, window], f).mean() / validate.fourier(there[:, window], f).mean()
        return {"gain": float(abs(ratio) - 1.0), "lag": validate.lag_of(complex(ratio))}
    if protocol.kind == "constant":
        a, b = smooth(here, 3.0), smooth(there, 3.0)
        return {"rate": float(a.mean() / b.mean() - 1.0), "sd": float(a.std(axis=1).mean() / b.std(axis=1).mean())}
    n, first = round(protocol.duration), min(1, protocol.cycles - 1)
    a, b = (smooth(x.reshape(len(x), protocol.cycles, n)[:, first:].mean(axis=(0, 1)), validate.KERNEL)
            for x in (here, there))
    return {"r2": float(1.0 - ((a - b) ** 2).mean() / b.var()), "rate": float(a.mean() / b.mean() - 1.0),
            "sd": float(a.std() / b.std())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--kinds", nargs="+", help="of protocols; default: all that were validated")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, model, rows = Run(a.run), MeanField.load(a.run), []
    planned = replanned(run.read_plan().network, json.loads(results_file(run).read_text("utf-8")))
    for kind in a.kinds or planned:
        experiment = planned[kind]
        trials = TrialStore.open(store_of(run, kind, experiment), experiment).dataset()["activity"]
        activity = trials.transpose("protocol", "seed", "name", "time")
        for k, protocol in enumerate(experiment.protocols):
            here, there = followed(model, experiment, activity[k].values, k)
            found = {name: scores(protocol, here[:, i], there[:, i]) for i, name in enumerate(model.populations)}
            rows.append({"protocol": protocol.name, "populations": found})
            if not a.json:
                print(protocol.name)
                for name, row in found.items():
                    print(f"    {name:<6}" + "  ".join(f"{key} {value:+.2f}" for key, value in row.items()), flush=True)
    if a.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
