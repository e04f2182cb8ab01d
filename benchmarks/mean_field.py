"""CPU time of one simulated second of a five-population mean field (cerebellar axes, spline transfer functions).

With dynamics: the cerebellum's delays and synapses, and mixtures of three time constants for its cells.

    python benchmarks/mean_field.py [--json] [--repeats 9]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from automfm_hpc.dynamics import Dynamics
from automfm_hpc.mean_field import MeanField
from automfm_hpc.network import Network
from automfm_hpc.remap import remap
from automfm_hpc.transfer_function import Spline

AXES = {  # population: source: sign of its effect
    "GrC": {"mf": 1, "GoC": -1},
    "GoC": {"mf": 1, "GrC": 1, "GoC": -1},
    "BC": {"GrC": 1, "BC": -1},
    "SC": {"GrC": 1, "SC": -1},
    "PC": {"GrC": 1, "BC": -1, "SC": -1},
}
SIZES = (30420, 71, 150, 302, 69, 117)
BAR = 0.05  # CPU s per simulated second


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
    """The built-in cerebellum's delays and synapses, and cells of made-up mixtures."""
    parameters = remap(Network.load("cerebellum"))
    by_source = {(c.population, source): k for k, (c, source) in
                 enumerate((c, source) for c in parameters.cells for source in c.axes)}  # fmt: skip
    d = Dynamics.of_synapses(parameters)
    order = [by_source[name, source] for name, signs in AXES.items() for source in signs]
    rows = np.concatenate([np.flatnonzero(d.axis == k) for k in order])
    axis = np.concatenate([np.full((d.axis == k).sum(), new) for new, k in enumerate(order)])
    knots = np.tile(np.linspace(0.0, 150.0, 6), (len(AXES), 1))
    mixture = np.random.default_rng(0).uniform(-0.1, 0.1, (len(order), 6, 3))
    dynamics = Dynamics(axis, d.weight[rows], d.delay[rows], d.tau_syn[rows], d.poles[rows],
                        np.array([3.0, 10.0, 50.0]), knots, mixture)  # fmt: skip
    return replace(model, dynamics=dynamics)


def cpu(call: Callable[[], object], repeats: int) -> float:
    """Median CPU time (s) of a call."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return float(np.median(times))


def measure(repeats: int) -> dict[str, float]:
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
    rates = np.linspace(1.0, 80.0, 50)
    figures["order2_adams_batch_of_50_s_per_model"] = cpu(lambda: model.solve_many({"mf": rates}, every=100), 3) / 50
    figures["fixed_points_order1_s"] = cpu(lambda: model.fixed_points(drive), repeats)
    figures["fixed_points_order2_s"] = cpu(lambda: model.fixed_points(drive, order=2), repeats)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    figures = measure(arguments.repeats)
    if arguments.json:
        print(json.dumps({"benchmark": "mean_field", "simulated_s": 1.0, "dt_ms": 0.1, "bar_s": BAR, **figures}))
        return
    for name, value in figures.items():
        print(f"{name:40s} {value:.4f}")


if __name__ == "__main__":
    main()
