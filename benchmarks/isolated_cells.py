"""Isolated cells driven at the rates that a run's spiking network has: which knowledge of presynaptic cells counts.

    python benchmarks/isolated_cells.py RUN --cells 400        # RUN: a folder made by `automfm run` with its network

One line per drive and population: the network's rate (Hz), and the cells' with ever more known of their inputs.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from automfm_hpc import afferents
from automfm_hpc.experiment import Experiment
from automfm_hpc.plan import Sampling
from automfm_hpc.presynaptic import statistics_of
from automfm_hpc.run_folder import Run
from automfm_hpc.simulate import draw_inputs, drive_cells
from automfm_hpc.store import TrialStore

ALWAYS, FEW = 10**6, (afferents.FEW_PAIRS, afferents.FEW_PAIRS)
MORE = (afferents.FEW_PAIRS, afferents.MORE_PAIRS)
# what is known: own in-degrees, spread of rates, regularity, in-degrees up to which cells are drawn singly, exemplars
KNOWN = {
    "mean in-degree, Poisson": (False, False, False, FEW, False),
    "own in-degree, Poisson": (True, False, False, FEW, False),
    "spread of rates": (True, True, False, FEW, False), "regular up to 64": (True, True, True, FEW, False),
    "regular up to 128": (True, True, True, (afferents.FEW_PAIRS, 128), False),
    "regular up to 512": (True, True, True, MORE, False),
    "all regular": (True, True, True, (afferents.FEW_PAIRS, ALWAYS), False),
    "as the program does": (True, True, True, MORE, True),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--least", type=float, default=1.0, help="leave out drives where a population is slower (Hz)")
    arguments = parser.parse_args()
    plan, run = Run(arguments.run).read_plan(), Run(arguments.run)
    experiment = Experiment.read(run.spiking, plan.network)
    found = TrialStore.open(run.spiking, experiment).dataset()["rate"].mean("seed")
    sampling = Sampling(transient=max(300.0, 0.75 * plan.sampling.transient), window=1500.0)
    for k, protocol in enumerate(experiment.protocols):
        rates = {n: float(found.isel(protocol=k).sel(name=n)) for n in plan.network.population_names}
        if min(rates.values()) < arguments.least:
            continue
        at = dict(protocol.background) | rates
        for cell in plan.parameters.cells:
            print(f"{protocol.name} {cell.population}: network {rates[cell.population]:.2f}", flush=True)
            for name, (own, spread, regular, most, shapes) in KNOWN.items():
                afferents.FEW_PAIRS, afferents.MORE_PAIRS = most
                kept = [p if shapes else replace(p, exemplars=()) for p in plan.presynaptic]
                known = statistics_of(p.only(spread, regular) for p in kept) if spread or regular else {}
                inputs = draw_inputs(cell, arguments.cells, np.random.default_rng(3), own)
                points = np.tile([at[a] for a in cell.axes], (arguments.cells, 1))
                rate = drive_cells(cell, inputs, points, sampling, 5, presynaptic=known).rate
                print(f"    {name:<26}{rate.mean():8.2f} +- {rate.std() / np.sqrt(rate.size):.2f}", flush=True)


if __name__ == "__main__":
    main()
