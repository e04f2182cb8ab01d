"""LIF theory against NNMT 1.3.0 in one process: times, ratios, agreement.

OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/lif.py --json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402

from automfm_hpc import lif  # noqa: E402

BARS = {"response": 200.0, "rates": 50.0, "f_I": 10.0, "many": 3.0}


def best(task: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest of several timings (s) after one warm-up, and the result."""
    result = task() if repeats > 1 else None
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = task()
        times.append(time.perf_counter() - start)
    return min(times), result


def entry(bar: str, ours: float, theirs: float, difference: float, note: str) -> dict[str, Any]:
    """One line of the report."""
    return {
        "automfm_ms": 1e3 * ours, "nnmt_ms": 1e3 * theirs, "ratio": theirs / ours, "bar": BARS[bar],
        "passed": theirs / ours >= BARS[bar], "worst_relative_difference": difference, "note": note,
    }  # fmt: skip


def response(exp: Any, frequencies: int) -> dict[str, Any]:
    """Microcircuit frequency response, 8 populations."""
    net = lif.LIFNetwork.load("microcircuit")
    point = lif.working_point(net)
    f = np.linspace(1.0, 1000.0, frequencies)
    ours, H = best(lambda: lif.responses(net, point, f, synaptic_filter=True, delayed_reset=False), 5)
    theirs, T = best(
        lambda: exp._transfer_function(
            point.mean * 1e-3, point.sd * 1e-3, 10e-3, 0.5e-3, 2e-3, 15e-3, 0.0, 2 * np.pi * f
        ),
        1,
    )
    note = f"8 populations x {frequencies} frequencies, 1 to 1000 Hz; the variant without exp(-i omega t_ref), as NNMT"
    return entry("response", ours, theirs, float(np.abs(H / (T * 1e-3) - 1).max()), note)


def rates(exp: Any) -> dict[str, Any]:
    """Self-consistent rates of the microcircuit, default settings of both."""
    net = lif.LIFNetwork.load("microcircuit")
    jext, kext = np.diag(net.J_ext) * 1e-3, np.diag(net.K_ext)
    ours, found = best(lambda: lif.self_consistent_rates(net), 50)
    theirs, nu = best(
        lambda: exp._firing_rates(net.J * 1e-3, net.K, 0.0, 15e-3, 10e-3, 2e-3, 0.5e-3, jext, kext, 8.0), 5
    )
    return entry("rates", ours, theirs, float(np.abs(found.rates / nu - 1).max()), "NNMT stops at 1e-7")


def many(count: int = 500) -> dict[str, Any]:
    """Self-consistent rates of many microcircuits in one call against one by one, both by this program."""
    net = lif.LIFNetwork.load("microcircuit")
    nu_ext = np.random.default_rng(1).uniform(6.0, 12.0, (count, 8))
    together, found = best(lambda: lif.rates_of_many(net, nu_ext=nu_ext), 5)
    one_by_one, each = best(lambda: [lif.self_consistent_rates(net.replace(nu_ext=row)).rates for row in nu_ext], 2)
    difference = float(np.abs(found.rates / np.array(each) - 1).max())
    result = entry("many", together, one_by_one, difference, f"{count} drives; the other column is one by one")
    result["converged"] = int(found.converged.sum())
    return result


def f_I(exp: Any, low: float, high: float, sd: float) -> dict[str, Any]:
    """Rate over 1e5 means, exponential synapses by shift."""
    mean = np.linspace(low, high, 100_000)
    noise = np.full(mean.size, sd)
    cell = {"V_th": 15.0, "V_reset": 0.0, "tau_m": 10.0, "t_ref": 2.0, "tau_syn": 0.5}
    ours, a = best(lambda: lif.firing_rate(mean, noise, **cell), 20)
    theirs, b = best(
        lambda: exp._firing_rates_for_given_input(mean * 1e-3, noise * 1e-3, 0.0, 15e-3, 10e-3, 2e-3, 0.5e-3), 10
    )
    return entry(
        "f_I", ours, theirs, float(np.abs(a / b - 1).max()), f"1e5 means from {low:g} to {high:g} mV, sd {sd:g} mV"
    )


def main() -> None:
    """Run everything and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--frequencies", type=int, default=1000, help="frequencies for the response (NNMT: 3.5 ms each)"
    )
    options = parser.parse_args()
    import nnmt

    exp = nnmt.lif.exp
    report = {
        "response_8x1000": response(exp, options.frequencies),
        "self_consistent_rates": rates(exp),
        "f_I_0_40_sd5": f_I(exp, 0.0, 40.0, 5.0),
        "f_I_0_40_sd10": f_I(exp, 0.0, 40.0, 10.0),
        "f_I_-20_100_sd5": f_I(exp, -20.0, 100.0, 5.0),
        "f_I_0_60_sd1": f_I(exp, 0.0, 60.0, 1.0),
        "rates_of_many_500": many(),
    }
    if options.json:
        print(json.dumps({"nnmt": "1.3.0", "numpy": np.__version__, "results": report}, indent=2))
        return
    for name, line in report.items():
        print(f"{name:24s} {line['automfm_ms']:10.3f} ms  NNMT {line['nnmt_ms']:10.1f} ms  x{line['ratio']:.1f}"
              f"  (bar {line['bar']:g})  difference {line['worst_relative_difference']:.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
