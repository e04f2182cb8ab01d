"""The built-in network at full scale against the rates its description gives, and what a simulated second costs.

    mpiexec -n 2 python -m mpi4py benchmarks/spiking_network.py --seeds 3 --out runs/reference     # table, resumable
    python benchmarks/spiking_network.py --profile --threads 2                                     # one second

The table compares populations and groups; the spread is the standard deviation over seeds. Networks without rates of
their own take --drives; --drawn forgets the true connections of an imported network and draws them from its in-degrees:

    automfm import-bsb tests/data/bsb_small.hdf5 --config tests/data/cerebellum_simulation.yaml -o runs/bsb/small.yaml
    python benchmarks/spiking_network.py --network runs/bsb/small.yaml --drives 4 20 40 60 80 --out runs/bsb/true
    python benchmarks/spiking_network.py --network runs/bsb/small.yaml --drives 4 20 40 60 80 --drawn --out runs/drawn
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc.comparison import Reference, described
from automfm_hpc.description import load
from automfm_hpc.experiment import working_experiment
from automfm_hpc.network import Network
from automfm_hpc.pools import open_pool
from automfm_hpc.protocols import constant
from automfm_hpc.run_folder import Run
from automfm_hpc.spiking import run_trial
from automfm_hpc.stages import spike


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def table(network: Network, drives: list[float], seeds: int, scale: float, folder: Path) -> dict[str, Any] | None:
    """Rates (Hz) per drive and population, with their spread over seeds, beside the description's; on rank 0."""
    reference = described(network)
    if drives:
        reference = Reference("none", tuple(dict.fromkeys(network.input_names, d) for d in drives), {})
    if reference is None:
        raise SystemExit(f"{network.name} gives no rates to compare with: say --drives")
    experiment = working_experiment(network, reference.drives, seeds=seeds, scale=scale)
    with open_pool() as pool:
        rates = spike(Run(folder), experiment, pool, log if pool.is_root else (lambda text: None))["rate"]
        if not pool.is_root:
            return None
    rows = {}
    for name in (*network.population_names, *network.groups):
        members = network.groups.get(name, (name,))
        sizes = np.array([network.population(m).size for m in members], float)
        weights = sizes / sizes.sum()
        found = sum(w * rates.sel(name=m).values for w, m in zip(weights, members, strict=True))
        mean = found.mean(axis=1)
        rows[name] = {"mean": mean.round(2).tolist()}
        if seeds > 1:
            rows[name]["spread"] = found.std(axis=1, ddof=1).round(2).tolist()
        if all(m in reference.rates for m in members):
            known = sum(w * np.array(reference.rates[m]) for w, m in zip(weights, members, strict=True))
            rows[name] |= {"reference": np.round(known, 2).tolist(),
                           "percent": (100 * (mean / known - 1)).round(1).tolist()}
    drives = [" ".join(f"{v:g}" for v in d.values()) for d in reference.drives]
    return {"network": network.name, "scale": scale, "seeds": seeds, "drives_Hz": drives, "rates_Hz": rows}


def profile(network: Network, threads: int, scale: float) -> dict[str, Any]:
    """Seconds of each part for half a second of presimulation and one simulated second."""
    protocol = constant({i.name: i.rate for i in network.inputs}, 1000.0, 500.0)
    timing = run_trial(network, protocol, 1, scale=scale, processes=threads).timing
    return {"network": network.name, "scale": scale, "threads": threads, **vars(timing)}


def as_text(result: dict[str, Any]) -> str:
    lines = [f"{'Hz':<12}" + "".join(f"{d:>9}" for d in result["drives_Hz"])]
    for name, row in result["rates_Hz"].items():
        for label, key in ((name, "mean"), ("  +-", "spread"), ("  described", "reference"), ("  percent", "percent")):
            if key in row:
                lines.append(f"{label:<12}" + "".join(f"{v:9.1f}" for v in row[key]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cerebellum")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--drives", type=float, nargs="*", default=[], help="rates of all inputs (Hz)")
    parser.add_argument("--drawn", action="store_true", help="draw connections instead of taking the true ones")
    parser.add_argument("--out", type=Path, default=Path("runs/reference"))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    network = load(arguments.network)
    if arguments.drawn:
        network = replace(network, connections=None, connections_id="")
    if arguments.profile:
        print(json.dumps(profile(network, arguments.threads, arguments.scale)))
        return
    result = table(network, arguments.drives, arguments.seeds, arguments.scale, arguments.out)
    if result is not None:
        print(json.dumps(result) if arguments.json else as_text(result))


if __name__ == "__main__":
    main()
