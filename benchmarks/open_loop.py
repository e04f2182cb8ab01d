"""How the model's equations follow the network's own activities, population by population, with no loop closed.

    python benchmarks/open_loop.py runs/cerebellum [--drives 4 20 60] [--seconds 3] [--json]

The network is run once per drive. What its populations do then goes, through delays and synapses, into the transfer
functions, and their output through three laws of adaptation with the same measured numbers: linear in the change
(f + (rho - 1)(f - z)), logarithmic (the model's) and a power of the ratio. Rate, standard deviation and explained
variance against the same population's activity in the network, both smoothed with a Gaussian of 1.5 ms.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numba
import numpy as np

from automfm_hpc import MeanField
from automfm_hpc.cell_response import LEAST_RATE, CellResponse, Cells, cells_of, place
from automfm_hpc.experiment import Experiment, Trial, record
from automfm_hpc.mesoscopic import FASTEST, driven
from automfm_hpc.protocols import constant
from automfm_hpc.spikes import activity, smooth
from automfm_hpc.stages import Run, prepare_nest

LAWS = ("linear", "logarithm", "power")
BIN, STEP, KERNEL, SETTLE = 1.0, 0.1, 1.5, 500.0  # ms


@numba.njit(cache=False)
def followed(c: Cells, i: int, F: np.ndarray, law: int, held: int, h: float) -> np.ndarray:
    """Rates (n_bin,) of population i for stationary rates F (n_bin,) in Hz."""
    nu = between = z = F.mean()
    out = np.zeros(F.size)
    for k in range(F.size * held):
        f = F[k // held]
        low, high, part = place(c.knots[i], z)
        rho = c.adaptation[i, low] + part * (c.adaptation[i, high] - c.adaptation[i, low])
        slow = c.slow[i, low] + part * (c.slow[i, high] - c.slow[i, low])
        ratio = max(f, LEAST_RATE) / max(z, LEAST_RATE)
        if law == 0:
            aim = f + (rho - 1.0) * (f - z)
        elif law == 1:
            aim = f * (1.0 + (rho - 1.0) * np.log(ratio))
        else:
            aim = f * ratio ** (rho - 1.0)
        aim = min(max(aim, 0.0), FASTEST)
        low, high, part = place(c.knots[i], max(aim, nu))
        step = 1.0 - np.exp(-2.0 * h / (c.lag[i, low] + part * (c.lag[i, high] - c.lag[i, low])))
        before, half = nu, between
        between += (aim - between) * step
        nu += (0.5 * (half + between) - nu) * step
        z += (0.5 * (before + nu) - z) * (1.0 - np.exp(-h / slow))
        out[k // held] += nu / held
    return out


def compare(model: MeanField, run: Run, drive: dict[str, float], seconds: float) -> list[dict[str, object]]:
    network = run.read_plan().network
    spikes = record(Experiment(network, (constant(drive, 1000.0 * seconds, SETTLE),)), Trial(0, 0)).spikes
    sent = {name: activity(s, BIN) for name, s in spikes.items()}
    assert model.dynamics is not None and model.dynamics.cell is not None
    cells = cells_of(model.dynamics.cell)
    bare = replace(model, dynamics=replace(model.dynamics, cell=CellResponse.immediate(len(model.populations))))
    F = driven(bare, sent, BIN)
    rows = []
    for i, name in enumerate(model.populations):
        there = smooth(sent[name][None], KERNEL, BIN)[0]
        row: dict[str, object] = {"drive": drive, "population": name, "rate": there.mean(), "sd": there.std(),
                                  "F": float(F[:, i].mean())}
        for law, title in enumerate(LAWS):
            found = followed(cells, i, np.ascontiguousarray(F[:, i]), law, round(BIN / STEP), STEP)
            course = smooth(found[None], KERNEL, BIN)[0]
            row[title] = {"rate": course.mean(), "sd": course.std(),
                          "r2": 1.0 - ((course - there) ** 2).mean() / there.var()}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--drives", type=float, nargs="+", default=[4.0, 20.0, 60.0], help="Hz, of all inputs alike")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    run, model = Run(a.run), MeanField.load(a.run)
    prepare_nest(run.read_plan().network, lambda text: None)
    rows = [row for d in a.drives for row in compare(model, run, dict.fromkeys(model.inputs, d), a.seconds)]
    if a.json:
        print(json.dumps(rows, indent=1, default=float))
        return
    for row in rows:
        laws = "  ".join(f"{t}: {r['rate']:6.2f} sd {r['sd']:5.1f} R2 {r['r2']:.3f}"
                         for t in LAWS for r in [row[t]])  # type: ignore[index]
        print(f"{next(iter(row['drive'].values())):4g} {row['population']:<5} network {row['rate']:6.2f} "  # type: ignore
              f"sd {row['sd']:5.1f}  {laws}")


if __name__ == "__main__":
    main()
