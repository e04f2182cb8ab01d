"""What the transfer-function simulations cost, on one core: neuron-seconds per CPU second, and cells per grid point.

    python benchmarks/tf_throughput.py [--json] [--cells 512] [--window 1000] [--repeats 5] [--run runs/cerebellum]

Driven E-GLIF cells with Poisson inputs only, and, with the statistics of a run's spiking network, with the trains of
their presynaptic cells (gamma renewal processes), kernel set-up included. With a run also its chunks: a sample of them
is simulated as `automfm simulate` does, which says what all of them cost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc import Network, remap
from automfm_hpc.nest_models import compile_module, install
from automfm_hpc.plan import Plan, Sampling
from automfm_hpc.presynaptic import PresynapticStatistics, statistics_of
from automfm_hpc.remap import Cell
from automfm_hpc.run_folder import Run
from automfm_hpc.simulate import CellInputs, draw_inputs, drive_cells, reset_kernel, simulate_chunk

MOSSY = 20.0  # Hz
BAR = 800.0  # simulated neuron-seconds per CPU second, Poisson inputs
SAMPLED = 4  # chunks of each population


def working_point(network: Network) -> dict[str, float]:
    """Rates (Hz) of all populations and inputs at 20 Hz on the mossy fibres."""
    row = network.working_points["mf"].index(MOSSY)
    return {name: rates[row] for name, rates in network.working_points.items()}


def cpu(call: Callable[[], Any], repeats: int) -> float:
    """Median CPU time (s) of a call."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return float(np.median(times))


def silenced(inputs: CellInputs) -> CellInputs:
    return CellInputs(inputs.pairs, 0.0 * inputs.events, inputs.quantum)


def measure(cell: Cell, rates: dict[str, float], cells: int, sampling: Sampling, repeats: int,
            known: Mapping[str, PresynapticStatistics]) -> dict[str, float]:
    """Throughput of one population, and where the time goes."""
    inputs = draw_inputs(cell, cells, np.random.default_rng(1))
    nu = np.tile([rates[axis] for axis in cell.axes], (cells, 1))
    compile_module(len(cell.channels))
    found = drive_cells(cell, inputs, nu, sampling, 1)  # loads NEST and the module: not counted
    seconds = cells * (sampling.transient + sampling.window) / 1000.0
    whole = cpu(lambda: drive_cells(cell, inputs, nu, sampling, 2), repeats)
    quiet = cpu(lambda: drive_cells(cell, silenced(inputs), nu, sampling, 2), repeats)
    brief = replace(sampling, transient=1.0, window=1.0)
    setup = cpu(lambda: drive_cells(cell, inputs, nu, brief, 2), repeats)
    kernel = cpu(lambda: _kernel(cell, sampling.dt), repeats)
    steps, arriving = seconds * 1000.0 / sampling.dt, nu[:, cell.channel_axis]
    row = {
        "neuron_seconds_per_cpu_second": seconds / whole, "cpu_s": whole, "neuron_seconds": seconds,
        "rate_Hz": float(found.rate.mean()), "arrivals_per_cell_Hz": float((inputs.events * arriving).sum(1).mean()),
        "ns_per_neuron_step": whole / steps * 1e9, "of_which_poisson_inputs_ns": (whole - quiet) / steps * 1e9,
        "setup_and_measuring_s": setup, "of_which_kernel_and_module_s": kernel,
    }  # fmt: skip
    if known:
        trains = cpu(lambda: drive_cells(cell, inputs, nu, sampling, 2, None, known), repeats)
        row["with_trains_neuron_seconds_per_cpu_second"] = seconds / trains
    return row


def _kernel(cell: Cell, dt: float) -> None:
    reset_kernel(1, dt)
    install(len(cell.channels))


def chunks(plan: Plan, population: str, n: int) -> dict[str, float]:
    """Cost of a population's grid, from n of its chunks spread evenly over it."""
    tasks = [task for task in plan.tasks() if task.population == population]
    some = [tasks[k] for k in np.linspace(0, len(tasks) - 1, 2 * n + 1).astype(int)[1::2]]
    compile_module(len(plan.parameters.cell(population).channels))
    begin = time.process_time()
    found = [simulate_chunk(plan, task) for task in some]
    spent = time.process_time() - begin
    seconds, points = (sum(float(f["neuron_seconds"].sum()) for f in found), sum(f["rate"].size for f in found))
    return {"chunks": len(tasks), "sampled": len(some), "neuron_seconds_per_cpu_second": seconds / spent,
            "neuron_seconds_per_point": seconds / points, "cpu_s_of_all_chunks": spent / len(some) * len(tasks),
            "converged": float(np.mean([f["converged"].mean() for f in found]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--cells", type=int, default=512, help="cells in one kernel")
    parser.add_argument("--window", type=float, default=1000.0, help="ms counted per cell, after 250 ms")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--run", type=Path, help="a run with a plan: its statistics and its chunks")
    arguments = parser.parse_args()
    plan = Run(arguments.run).read_plan() if arguments.run else None
    network = plan.network if plan else Network.load("cerebellum")
    rates, parameters = working_point(network), remap(network)
    sampling, known = Sampling(window=arguments.window), statistics_of(plan.presynaptic) if plan else {}
    figures = {c.population: measure(c, rates, arguments.cells, sampling, arguments.repeats, known)
               for c in parameters.cells}
    whole = {c.population: chunks(plan, c.population, SAMPLED) for c in parameters.cells} if plan else {}
    if arguments.json:
        print(json.dumps({"benchmark": "tf_throughput", "unit": "simulated neuron-seconds per CPU second", "bar": BAR,
                          "cells": arguments.cells, "dt_ms": sampling.dt, "populations": figures, "chunks": whole}))
        return
    for title, table in ((f"at mf = {MOSSY:g} Hz", figures), ("grid", whole)):
        for name, row in table.items():
            print(f"{name} {title}")
            for key, value in row.items():
                print(f"  {key:44s} {value:12.4g}")


if __name__ == "__main__":
    main()
