"""Does a model stay whole at whatever it is driven with: random constants, steps, bumps and sinusoids of 0 to 300 Hz.

    python benchmarks/random_drives.py runs/cerebellum [--drives 10000] [--seconds 0.3] [--json]

Every drive is solved for the infinite populations (order 1) and realized for the finite ones. Counted are results that
are not finite or negative, and drives that leave what transfer functions cover of an input (their means over 100 ms,
as realizations judge them) without a word from the result: all three must be 0.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter

from automfm_hpc.mean_field import MeanField
from automfm_hpc.mesoscopic import MEMORY
from automfm_hpc.protocols import Protocol

HIGHEST, BUMP = 300.0, 150.0  # Hz
TOLD = ("constant", "step", "bump", "sine", "beyond the domain", "not finite", "negative", "not reported")


def random_drive(rng: np.random.Generator, seconds: float) -> tuple[str, Any, float]:
    """Its kind, a rate (Hz) or a table of times (s) and rates, and the highest mean over MEMORY."""
    kind, duration = str(rng.choice(["constant", "step", "bump", "sine"])), 1000.0 * seconds
    base, other = rng.uniform(0.0, HIGHEST, 2)
    if kind == "constant":
        return kind, float(base), float(base)
    if kind == "step":
        settings = {"start": rng.uniform(0.0, duration), "length": duration, "amplitude": other - base}
    elif kind == "bump":
        settings = {"amplitude": rng.uniform(0.0, BUMP), "sigma": rng.uniform(2.0, 100.0), "centre": 0.5 * duration}
        base = rng.uniform(0.0, 40.0)
    else:
        settings = {"amplitude": base * rng.uniform(0.0, 1.0), "frequency": rng.uniform(1.0, 100.0)}
    protocol = Protocol(kind, "input", {"input": base}, settings, duration=duration)
    rate = np.minimum(protocol.rate(), HIGHEST)
    kept = np.exp(-1.0 / MEMORY)
    mean, _ = lfilter([1.0 - kept], [1.0, -kept], rate, zi=[kept * rate[0]])
    return kind, np.column_stack([protocol.times() / 1000.0, rate]), float(mean.max())


def faults(result: Any, beyond: bool) -> list[str]:
    reported = any(event["status"] == "out_of_domain" for event in result.attrs["events"])
    found = {"not finite": not all(np.isfinite(values).all() for values in result.data_vars.values()),
             "negative": bool((result["rate"] < 0).any()), "not reported": beyond and not reported}
    return [name for name, there in found.items() if there]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--drives", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    model, rng = MeanField.load(a.run), np.random.default_rng(4)
    counted: Counter[str] = Counter()
    name, fixed = model.inputs[0], dict.fromkeys(model.inputs[1:], 1.0)
    heard = np.flatnonzero(model.system.axes == len(model.populations))  # axes of the first input
    covered = float(model.system.domain[heard, 1].min())
    for k in range(a.drives):
        kind, drive, highest = random_drive(rng, a.seconds)
        counted[kind] += 1
        beyond = highest > 1.01 * covered  # the mean is of the rate in each ms here, of steps of 0.2 ms there
        counted["beyond the domain"] += beyond
        given = {name: drive, **fixed}
        solved = model.solve(given, duration=a.seconds, order=1, every=10)
        realized = model.realizations(given, duration=a.seconds, trials=1, seed=k)
        for result in (solved, realized):
            counted.update(faults(result, beyond))
    told = {key: counted[key] for key in TOLD}
    print(json.dumps(told) if a.json else "\n".join(f"{key:<20}{value:8d}" for key, value in told.items()))


if __name__ == "__main__":
    main()
