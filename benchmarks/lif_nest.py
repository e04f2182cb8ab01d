"""Rates of a LIF network: theory against NEST, the network built and run by this program.

    python benchmarks/lif_nest.py microcircuit --scale 0.1 --duration 5000 --json

The theory's description becomes a general one (`automfm_hpc.lif_network.spiking_network`), whose connections are drawn
by this program. Sizes are scaled, in-degrees, weights and delays are not. --indegrees poisson draws in-degrees whose
variance equals their mean; the theory beside it is then the one for distributed in-degrees.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from automfm_hpc import lif
from automfm_hpc.lif.heterogeneity import distributed_working_point
from automfm_hpc.lif_network import spiking_network
from automfm_hpc.protocols import constant
from automfm_hpc.spikes import Spikes, activity
from automfm_hpc.spiking import measure, run_trial


def peak(spikes: Spikes) -> list[float]:
    """Frequency (Hz, above 20) where the activity in bins of 1 ms has most power, and how much more than Poisson's."""
    segments = activity(spikes)[: len(activity(spikes)) // 250 * 250].reshape(-1, 250)
    power = (np.abs(np.fft.rfft(segments - segments.mean())) ** 2).mean(axis=0)[5:]
    flat = 250 * segments.mean() * 1e3 / spikes.size
    return [float(np.fft.rfftfreq(250, 1e-3)[5 + power.argmax()]), round(float(power.max() / flat), 1)]


def compare(name: str, scale: float, duration: float, indegrees: str, seed: int, threads: int) -> dict[str, Any]:
    """Rates (Hz), their standard errors over cells, and the CVs of both sides."""
    net = lif.LIFNetwork.load(name)
    network = spiking_network(net, indegrees=indegrees)
    drive = {i.name: i.rate for i in network.inputs}
    start = time.perf_counter()
    recorded = run_trial(network, constant(drive, duration, 300.0), seed, scale=scale, processes=threads)
    found = measure(recorded, net.populations)
    cells = np.array([recorded.spikes[p].size for p in net.populations])
    point = lif.working_point(net)
    spread = distributed_working_point(net, indegrees=indegrees)
    return {
        "network": name, "scale": scale, "cells": int(cells.sum()), "duration_ms": duration, "indegrees": indegrees,
        "populations": list(net.populations),
        "theory_Hz": point.rates.round(4).tolist(), "theory_distributed_Hz": spread.mean.round(4).tolist(),
        "nest_Hz": found["rate"].round(4).tolist(),
        "nest_error_Hz": (found["rate_sd"] / np.sqrt(cells)).round(4).tolist(),
        "theory_cv": lif.cvs(net, point).round(3).tolist(), "nest_cv": found["cv"].round(3).tolist(),
        "nest_peak_Hz_and_ratio_to_poisson": [peak(recorded.spikes[p]) for p in net.populations],
        "nest_correlation": found["correlation"].round(5).tolist(),
        "repeated_pairs": len(recorded.notes),
        "seconds": round(time.perf_counter() - start, 1), "memory_MiB": round(recorded.timing.memory),
        "timing": {k: round(v, 1) for k, v in vars(recorded.timing).items()},
    }  # fmt: skip


def main() -> None:
    """Run one comparison and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", default="microcircuit")
    parser.add_argument("--scale", type=float, default=0.1, help="factor of the population sizes (default 0.1)")
    parser.add_argument("--duration", type=float, default=5000.0, help="ms measured (default 5000)")
    parser.add_argument("--indegrees", choices=("fixed", "poisson"), default="fixed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    o = parser.parse_args()
    result = compare(o.network, o.scale, o.duration, o.indegrees, o.seed, o.threads)
    if o.json:
        print(json.dumps(result))
        return
    columns = ("theory_Hz", "theory_distributed_Hz", "nest_Hz", "nest_error_Hz", "theory_cv", "nest_cv")
    print(f"{'':8}" + "".join(f"{c:>22}" for c in columns))
    for i, name in enumerate(result["populations"]):
        print(f"{name:8}" + "".join(f"{result[c][i]:22.3f}" for c in columns))
    print(f"{result['cells']} cells, {result['seconds']} s, {result['memory_MiB']} MiB")


if __name__ == "__main__":
    main()
