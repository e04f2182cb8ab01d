"""CPU time of one simulated second of a five-population mean field (cerebellar axes, spline transfer functions).

With dynamics: the cerebellum's delays and synapses, and cells with a lag, adaptation and spreads that count.

    python benchmarks/mean_field.py [--json] [--repeats 9] [--batch 1000]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from automfm_hpc.batch import solve_batch
from automfm_hpc.cell_response import CellResponse
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.mean_field import MeanField
from automfm_hpc.mesoscopic import SETTLE
from automfm_hpc.network import Network
from automfm_hpc.remap import remap
from automfm_hpc.threads import limit_threads
from automfm_hpc.transfer_function import Spline

AXES = {  # population: source: sign of its effect
    "GrC": {"mf": 1, "GoC": -1},
    "GoC": {"mf": 1, "GrC": 1, "GoC": -1},
    "BC": {"GrC": 1, "BC": -1},
    "SC": {"GrC": 1, "SC": -1},
    "PC": {"GrC": 1, "BC": -1, "SC": -1},
}
SIZES = (30420, 71, 150, 302, 69, 117)
BAR = 0.02  # CPU s per simulated second


def cerebellum_like(per_axis: int = 8) -> MeanField:
    """Smooth made-up transfer functions of the shape and cost of fitted ones."""
    return MeanField(tuple(AXES), ("mf",), tuple(_spline(name, per_axis) for name in AXES), np.array(SIZES, float), 3.5)


def _spline(name: str, n: int) -> Spline:
    signs = list(AXES[name].values())
    grids = np.meshgrid(*[np.linspace(0.0, 1.0, n)] * len(signs), indexing="ij")
    coefficients = sum(6.0 * sign * grid for sign, grid in zip(signs, grids, strict=True)) - 1.0
    domain = np.tile([0.0, 150.0], (len(signs), 1))
    return Spline(name, tuple(AXES[name]), domain, coefficients, np.full(len(signs), 10.0), 5.0, 1.5)


def with_dynamics(model: MeanField) -> MeanField:
    """The built-in cerebellum's delays and synapses, and a made-up cell response."""
    parameters = remap(Network.load("cerebellum"))
    by_source = {(c.population, source): k for k, (c, source) in
                 enumerate((c, source) for c in parameters.cells for source in c.axes)}  # fmt: skip
    d = Dynamics.of_synapses(parameters)
    order = [by_source[name, source] for name, signs in AXES.items() for source in signs]
    rows = np.concatenate([np.flatnonzero(d.axis == k) for k in order])
    axis = np.concatenate([np.full((d.axis == k).sum(), new) for new, k in enumerate(order)])
    knots = np.tile(np.linspace(5.0, 150.0, 4), (len(AXES), 1))
    one = np.ones_like(knots)
    spread = np.full((sum(map(len, AXES.values())), knots.shape[1]), 0.2)
    cell = CellResponse(knots, 0.5 * one, 1.5 * one, 40.0 * one, 0.6 * one, spread=spread)
    dynamics = Dynamics(axis, d.weight[rows], d.delay[rows], d.tau_syn[rows], d.poles[rows], cell)
    return replace(model, dynamics=dynamics)


def cpu(call: Callable[[], object], repeats: int) -> float:
    """Median CPU time (s) of a call."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return float(np.median(times))


def courses(n: int) -> list[dict[str, Any]]:
    """Drives of one second, all different: constants, steps, bumps and sinusoids, as tables of 1 ms."""
    rng, t = np.random.default_rng(0), np.arange(0.0, 1.0005, 0.001)
    drives: list[dict[str, Any]] = []
    for k in range(n):
        low, high, at, width, frequency = rng.random(5) * [20.0, 60.0, 0.8, 0.1, 8.0] + [1.0, 1.0, 0.1, 0.02, 1.0]
        rates = (
            low + high,
            [[0.0, low], [at, low], [at + 1e-4, low + high]],
            np.column_stack([t, low + high * np.exp(-0.5 * ((t - at) / width) ** 2)]),
            np.column_stack([t, low * (1.0 + np.sin(2 * np.pi * frequency * t))]),
        )[k % 4]
        drives.append({"mf": rates})
    return drives


def wall(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure_batches(model: MeanField, n: int) -> dict[str, float]:
    """A thousand drives alone, together, on two threads, and spread over four variants; s per solution."""
    drives = courses(n)
    some = drives[: max(n // 20, 4)]
    few = {"every": 50}
    variants = [replace(model, N=model.N * scale) for scale in (1.0, 0.7, 0.5, 0.3)]
    model.solve_many(some, adaptive=True)
    for variant in variants:
        variant.system  # noqa: B018  flat arrays, made once
    fixed = cpu(lambda: [model.solve(drive, **few) for drive in some], 1) / len(some)
    single = cpu(lambda: [model.solve(drive, adaptive=True, **few) for drive in some], 1) / len(some)
    together = cpu(lambda: model.solve_many(drives, adaptive=True, **few), 3) / n
    quarter = drives[: n // 4]
    pairs = cpu(lambda: solve_batch(variants, quarter, **few), 3) / (4 * len(quarter))
    one, two = (min(wall(partial(model.solve_many, drives, adaptive=True, threads=k, **few)) for _ in range(3))
                for k in (1, 2))  # fmt: skip
    return {
        "single_fixed_s": fixed, "single_adaptive_s": single, f"batch_of_{n}_drives_s_per_solution": together,
        f"batch_of_{n}_model_drive_pairs_s_per_solution": pairs,
        "fixed_over_batch_of_drives": fixed / together, "fixed_over_batch_of_pairs": fixed / pairs,
        "adaptive_over_batch_of_drives": single / together,
        "batch_wall_one_thread_s_per_solution": one / n, "batch_wall_two_threads_s_per_solution": two / n,
        "two_threads_speedup": one / two,
    }  # fmt: skip


def measure(repeats: int, n: int) -> dict[str, float]:
    model, drive = cerebellum_like(), {"mf": 20.0}
    begin = time.process_time()
    model.solve(drive, duration=0.001)
    figures = {"first_call_s": time.process_time() - begin}
    for order in (1, 2):
        for method in ("adams", "heun", "euler"):
            options = {"order": order, "method": method}
            figures[f"order{order}_{method}_s"] = cpu(partial(model.solve, drive, **options), repeats)
    filtered, sine = with_dynamics(model), {"mf": lambda t: 20.0 + 10.0 * np.sin(2.0 * np.pi * 10.0 * t)}
    filtered.solve(drive, duration=0.001)
    for order in (1, 2):
        figures[f"dynamics_order{order}_constant_s"] = cpu(partial(filtered.solve, drive, order=order), repeats)
        figures[f"dynamics_order{order}_sine_s"] = cpu(partial(filtered.solve, sine, order=order), repeats)
    figures["realization_s"] = cpu(partial(filtered.realizations, drive, trials=1), repeats) / (1.0 + SETTLE / 1000.0)
    figures |= measure_batches(model, n)
    figures["fixed_points_order1_s"] = cpu(lambda: model.fixed_points(drive), repeats)
    figures["fixed_points_order2_s"] = cpu(lambda: model.fixed_points(drive, order=2), repeats)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=1000, help="solutions in a batch")
    arguments = parser.parse_args()
    limit_threads()
    figures = measure(arguments.repeats, arguments.batch)
    if arguments.json:
        print(json.dumps({"benchmark": "mean_field", "simulated_s": 1.0, "dt_ms": 0.1, "bar_s": BAR, **figures}))
        return
    for name, value in figures.items():
        print(f"{name:50s} {value:.5f}")


if __name__ == "__main__":
    main()
