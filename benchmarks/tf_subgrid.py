"""How few points does a fit need? Published grids of 20 x 20 points, fitted on a part of them, scored on all.

    python benchmarks/tf_subgrid.py [--json]

Kept are the coordinates nearest to a sparser grid of the program's own spacing, first and last included. The published
fits (template with five coefficients and a gain) have errors of 1.80, 6.67 and 3.41 Hz on all 400 points.
"""

from __future__ import annotations

import argparse
import json
from importlib import resources

import numpy as np

from automfm_hpc import Network
from automfm_hpc.fit import fit
from automfm_hpc.network import Distribution
from automfm_hpc.plan import spaced
from automfm_hpc.rate_grid import RateGrid
from automfm_hpc.remap import Cell, Channel

INPUTS = {  # like which population; K, Q (nS), tau_syn (ms), E_rev (mV) of each input; published RMSE (Hz)
    "GrC": ("GrC", {"mf": (2.024, 0.23, 5.8, 0.0), "GoC": (1.77, 0.36, 13.61, -80.0)}, 1.80),
    "MLI": ("SC", {"GrC": (260.24, 0.07, 0.64, 0.0), "MLI": (6.71, 0.547, 2.0, -80.0)}, 6.67),
    "PC": ("PC", {"GrC": (579.32, 0.275, 1.1, 0.0), "MLI": (4.07, 1.22, 2.8, -80.0)}, 3.41),
}
SIZES = (20, 12, 8, 6)


def published(name: str) -> tuple[Cell, RateGrid]:
    like, inputs, _ = INPUTS[name]
    population, one = Network.load("cerebellum").population(like), Distribution(1.0)
    channels = tuple(Channel(s, s, (f"{s}->{name}",), Distribution(K), one, Q, tau, E, 1.0)
                     for s, (K, Q, tau, E) in inputs.items())  # fmt: skip
    with np.load(resources.files("automfm_hpc") / "data" / "published_tf.npz") as data:  # type: ignore[arg-type]
        grid = RateGrid(name, tuple(inputs), (data[f"{name}_fe"], data[f"{name}_fi"]), data[f"{name}_rate"].T)
    return Cell(name, population.model, dict(population.parameters), channels), grid


def kept(coordinates: np.ndarray, n: int) -> np.ndarray:
    """Indices of n coordinates, dense at the low end; all if there are no more."""
    if n >= len(coordinates):
        return np.arange(len(coordinates))
    wanted = spaced(float(coordinates[0]), float(coordinates[-1]), n)
    return np.unique([int(np.abs(coordinates - w).argmin()) for w in wanted])


def score(name: str, n: int) -> dict[str, float]:
    cell, grid = published(name)
    chosen = [kept(np.asarray(c), n) for c in grid.coordinates]
    part = RateGrid(name, grid.axes, tuple(np.asarray(c)[k] for c, k in zip(grid.coordinates, chosen, strict=True)),
                    grid.rate[np.ix_(*chosen)])
    tf = fit(cell, part, kinds=("spline",)).transfer_function
    nu = np.stack(np.meshgrid(*grid.coordinates, indexing="ij"), axis=-1).reshape(-1, 2)
    error = tf(nu) - grid.rate.ravel()
    return {"points": part.rate.size, "RMSE (Hz)": float(np.sqrt(np.mean(error**2))),
            "largest (Hz)": float(np.abs(error).max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    result = {name: {"published RMSE (Hz)": INPUTS[name][2], "grids": [score(name, n) for n in SIZES]}
              for name in INPUTS}
    if a.json:
        print(json.dumps(result))
        return
    for name, row in result.items():
        print(f"{name}: published fit {row['published RMSE (Hz)']} Hz")
        for one in row["grids"]:
            print("  " + ", ".join(f"{k} {v:.3g}" for k, v in one.items()))


if __name__ == "__main__":
    main()
