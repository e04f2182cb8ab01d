r"""Error of the LIF rate theories for exponential synapses, against a simulation of the cell itself.

    python benchmarks/lif_colored.py --json

In units of the noise, tau_m x' = -x + w/k and tau_syn w' = -w + white noise, k = sqrt(tau_syn/tau_m). Both are Gaussian
over a step of any length, so steps are drawn exactly: X = x + k w/(1 - k^2) and w are leaky integrators of one white
noise. Far from the threshold steps are long (a crossing inside one would be an event of 6 standard deviations); near it
they are tau_syn/64, with x between their ends a cubic, which finds crossings and their times.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from automfm_hpc import lif

Array = NDArray[np.float64]
RUNS = 50  # independent cells, whose spread gives the statistical error
SURE = 6.0


def steps(tau_m: float, tau_syn: float, finest: float) -> Array:
    """One row per length of a step: h, decay of X and of w, the factors of the noise, sd of x, reach of w (w > 0)."""
    k = math.sqrt(tau_syn / tau_m)
    q = k / (1.0 - k * k)
    rows = []
    h = finest
    while h < 0.5 * tau_m:
        var_X = -0.5 * math.expm1(-2.0 * h / tau_m) / (1.0 - k * k) ** 2
        var_w = -0.5 * math.expm1(-2.0 * h / tau_syn)
        both = 1.0 / tau_m + 1.0 / tau_syn
        cov = -math.expm1(-h * both) / both / math.sqrt(tau_m * tau_syn) / (1.0 - k * k)
        a = math.sqrt(var_X)
        b = cov / a
        c = math.sqrt(max(var_w - b * b, 0.0))
        sd = math.sqrt(max((a - q * b) ** 2 + (q * c) ** 2, 0.0))
        reach = -math.expm1(-h / tau_syn) * k
        rows.append([h, math.exp(-h / tau_m), math.exp(-h / tau_syn), a, b, c, sd, reach])
        h *= 2.0
    return np.array(rows)


@njit(cache=True)
def crossing(x0, x1, v0, v1, level):  # type: ignore[no-untyped-def]
    """First place in (0, 1] where the cubic with these ends and slopes reaches the level from below, or -1."""
    c2, c3 = 3.0 * (x1 - x0) - 2.0 * v0 - v1, 2.0 * (x0 - x1) + v0 + v1
    stop = 1.0
    if x1 < level:
        if v0 <= 0.0 or v1 >= 0.0:
            return -1.0
        root = math.sqrt(max(c2 * c2 - 3.0 * c3 * v0, 0.0))
        stop = v0 / (root - c2)  # the maximum: v0 + 2 c2 t + 3 c3 t^2 = 0, falling
        if x0 + stop * (v0 + stop * (c2 + stop * c3)) < level:
            return -1.0
    low, high = 0.0, stop
    for _ in range(30):
        middle = 0.5 * (low + high)
        if x0 + middle * (v0 + middle * (c2 + middle * c3)) < level:
            low = middle
        else:
            high = middle
    return high


@njit(cache=True)
def spikes_per_ms(seed, duration, x_th, x_r, tau_m, t_ref, tau_syn, table):  # type: ignore[no-untyped-def]
    """Rate (1/ms) of one cell over `duration` ms, after 20 tau_m."""
    np.random.seed(seed)
    k = math.sqrt(tau_syn / tau_m)
    q = k / (1.0 - k * k)
    w, t, count, row = np.random.normal() * math.sqrt(0.5), -20.0 * tau_m, 0, 0
    X = x_r + q * w
    while t < duration:
        x = X - q * w
        gap, up, sag = x_th - x, max(w, 0.0), max(-x, 0.0)
        row = min(row + 1, table.shape[0] - 1)
        while row > 0 and gap < up * table[row, 7] + sag * (1.0 - table[row, 1]) + SURE * table[row, 6]:
            row -= 1
        h = table[row, 0]
        n1, n2 = np.random.normal(), np.random.normal()
        slope = h * (w / k - x) / tau_m
        X = table[row, 1] * X + table[row, 3] * n1
        w = table[row, 2] * w + table[row, 4] * n1 + table[row, 5] * n2
        y = X - q * w
        t += h
        if row > 0 and y < x_th:
            continue
        place = crossing(x, y, slope, h * (w / k - y) / tau_m, x_th)
        if place < 0.0:
            continue
        left = (1.0 - place) * h  # ms from the crossing to the end of the step
        if t - left > 0.0:
            count += 1
        wait = t_ref - left
        if wait <= 0.0:  # released within the step: the jump has decayed since
            X -= (x_th - x_r) * math.exp(-left / tau_m)
        else:
            e = math.exp(-wait / tau_syn)
            w = e * w + math.sqrt(0.5 * (1.0 - e * e)) * np.random.normal()
            X = x_r + q * w
            t += wait
        row = 0
    return count / t


def compare(cell: dict[str, float], spikes: float, fineness: float, seed: int) -> dict[str, Any]:
    """Rate of the simulated cell (Hz), its standard error and the relative errors of the theories, in percent."""
    if 0.0 < cell["t_ref"] < cell["tau_syn"] / fineness:
        raise SystemExit("lif_colored: a refractory time shorter than a step is not followed exactly")
    rate = {m: float(lif.firing_rate(**cell, method=m)) for m in ("shift", "second_order")}
    table = steps(cell["tau_m"], cell["tau_syn"], cell["tau_syn"] / fineness)
    limits = [(cell[v] - cell["mean"]) / cell["sd"] for v in ("V_th", "V_reset")]
    duration = spikes / RUNS / rate["second_order"] * 1e3
    start = time.perf_counter()
    found = np.array([
        1e3 * spikes_per_ms(RUNS * seed + i, duration, *limits, cell["tau_m"], cell["t_ref"], cell["tau_syn"], table)
        for i in range(RUNS)
    ])  # fmt: skip
    mean, error = float(found.mean()), float(found.std(ddof=1) / math.sqrt(RUNS))
    return {
        "tau_syn_ms": cell["tau_syn"], "t_ref_ms": cell["t_ref"], "simulated_Hz": round(mean, 4),
        "error_percent": round(100 * error / mean, 3),
        **{f"{m}_percent": round(100 * (r / mean - 1), 3) for m, r in rate.items()},
        "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def main() -> None:
    """Run all combinations and print a table or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mean", type=float, default=22.0, help="mV (default 22)")
    parser.add_argument("--sd", type=float, default=7.0, help="mV (default 7)")
    parser.add_argument("--tau-syn", type=float, nargs="+", default=[0.02, 0.1, 0.5, 1.0, 2.0], help="ms")
    parser.add_argument("--t-ref", type=float, nargs="+", default=[0.0, 2.0], help="ms")
    parser.add_argument("--spikes", type=float, default=4e5, help="per line (default 4e5)")
    parser.add_argument("--fineness", type=float, default=64.0, help="steps per tau_syn near the threshold")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    o = parser.parse_args()
    cells = [{"mean": o.mean, "sd": o.sd, "V_th": 15.0, "V_reset": 0.0, "tau_m": 10.0, "t_ref": ref, "tau_syn": syn}
             for ref in o.t_ref for syn in o.tau_syn]  # fmt: skip
    lines = [compare(cell, o.spikes, o.fineness, o.seed) for cell in cells]
    if o.json:
        print(json.dumps({"mean_mV": o.mean, "sd_mV": o.sd, "fineness": o.fineness, "results": lines}, indent=2))
        return
    print("  ".join(f"{name:>20}" for name in lines[0]))
    for line in lines:
        print("  ".join(f"{value:20g}" for value in line.values()))


if __name__ == "__main__":
    main()
