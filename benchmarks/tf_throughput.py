"""Simulated neuron-seconds per CPU second of driven E-GLIF cells, Poisson inputs and kernel set-up included, one core.

    python benchmarks/tf_throughput.py [--json] [--cells 768] [--window 1000] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from automfm_hpc import Network, remap
from automfm_hpc.nest_models import compile_module, install
from automfm_hpc.plan import Sampling
from automfm_hpc.remap import Cell
from automfm_hpc.simulate import CellInputs, draw_inputs, drive_cells, reset_kernel

POPULATIONS = ("GrC", "PC")
MOSSY = 20.0  # Hz
BAR = 800.0  # simulated neuron-seconds per CPU second


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


def measure(cell: Cell, rates: dict[str, float], cells: int, sampling: Sampling, repeats: int) -> dict[str, float]:
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
    return {
        "neuron_seconds_per_cpu_second": seconds / whole, "cpu_s": whole, "neuron_seconds": seconds,
        "rate_Hz": float(found.rate.mean()), "arrivals_per_cell_Hz": float((inputs.events * arriving).sum(1).mean()),
        "ns_per_neuron_step": whole / steps * 1e9, "of_which_poisson_inputs_ns": (whole - quiet) / steps * 1e9,
        "setup_and_measuring_s": setup, "of_which_kernel_and_module_s": kernel,
    }  # fmt: skip


def _kernel(cell: Cell, dt: float) -> None:
    reset_kernel(1, dt)
    install(len(cell.channels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--cells", type=int, default=768, help="cells in one kernel: 12 points of 64 cells")
    parser.add_argument("--window", type=float, default=1000.0, help="ms counted per cell, after 250 ms")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    network = Network.load("cerebellum")
    rates, parameters = working_point(network), remap(network)
    sampling = Sampling(window=arguments.window)
    figures = {name: measure(parameters.cell(name), rates, arguments.cells, sampling, arguments.repeats)
               for name in POPULATIONS}
    if arguments.json:
        print(json.dumps({"benchmark": "tf_throughput", "unit": "simulated neuron-seconds per CPU second", "bar": BAR,
                          "cells": arguments.cells, "dt_ms": sampling.dt, "populations": figures}))
        return
    for name, row in figures.items():
        print(f"{name} at mf = {MOSSY:g} Hz")
        for key, value in row.items():
            print(f"  {key:32s} {value:12.4g}")


if __name__ == "__main__":
    main()
