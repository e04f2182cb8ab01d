"""The R2 that a mean field made of a few draws of a network can reach against others, from the stored trials.

    python benchmarks/ceilings.py runs/cerebellum [--json]

`automfm validate --cycles N` says how much of a PSTH is the trials' chance (its ceiling). But draws of the connections
also answer differently, and a model inherits what its own have: of the variance between trials, what cycles within them
do not explain is that of draws. With n trials of as many draws, a model of m draws, a PSTH of variance V, chance C of
one trial and variance D between draws:

    ceiling 1 - (C + D)/(n V),   attainable 1 - [(C + D)/n + D/m]/V
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from automfm_hpc import validate
from automfm_hpc.experiment import Experiment
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import smooth
from automfm_hpc.store import TrialStore
from automfm_hpc.validation_plan import replanned, results_file, store_of


def ceilings(activity: np.ndarray, cycles: int, made_of: int) -> dict[str, float]:
    """Of one population's activity (n_trial, n_bin) in Hz over all cycles, the first of which is left out."""
    each = smooth(activity.reshape(len(activity), cycles, -1)[:, 1:], validate.KERNEL)
    psth = each.mean(axis=1)
    variance, trials = psth.mean(axis=0).var(), psth.var(axis=0, ddof=1).mean()
    chance = each.var(axis=1, ddof=1).mean() / (cycles - 1)
    draws = max(trials - chance, 0.0)
    shared = trials / len(activity)
    return {"ceiling": float(1.0 - shared / variance), "attainable": float(1.0 - (shared + draws / made_of) / variance),
            "chance": float(chance / variance), "draws": float(draws / variance)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, rows = Run(a.run), []
    network = run.read_plan().network
    made_of = Experiment.read(run.spiking, network).seeds
    planned = replanned(network, json.loads(results_file(run).read_text("utf-8")))
    for kind, experiment in planned.items():
        trials = TrialStore.open(store_of(run, kind, experiment), experiment).dataset()["activity"]
        activity = trials.transpose("protocol", "name", "seed", "time").sel(name=list(network.population_names)).values
        for p, here in zip(experiment.protocols, activity, strict=True):
            if p.cycles < 3:
                continue
            found = {n: ceilings(x, p.cycles, made_of) for n, x in zip(network.population_names, here, strict=True)}
            rows.append({"protocol": p.name, "made_of": made_of, "populations": found})
            if not a.json:
                print(f"{p.name}: {here.shape[1]} draws, a model of {made_of}")
                for name, row in found.items():
                    print(f"    {name:<6}" + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if a.json:
        print(json.dumps(rows))
    elif not rows:
        print("no validated protocol has three cycles or more: automfm validate RUN --cycles 6 --protocols step,bursts")


if __name__ == "__main__":
    main()
