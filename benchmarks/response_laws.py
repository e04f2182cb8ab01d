"""Which equations follow isolated cells under a network's swings: laws of lag and adaptation, fitted and held out.

    python benchmarks/response_laws.py runs/cerebellum [--populations GoC GrC] [--laws logarithm sided] [--json]

Every law has numbers at each working point, which are fitted to the isolated cells of all draws of the network but the
last, all working points together, with the stepping that the model would have; it is scored on the last draw (R2 of the
course smoothed with 3 ms; mean rate; gain and phase of the equations over the cells from 13 to 50 Hz, a positive phase
leading). The laws:

    momentary   lag of the rate; numbers at the momentary rate: lag at what is aimed at, the rest at the recent rate z
    rate        lag of the rate; numbers at the population's mean rate over the last 100 ms
    logarithm   lag of the logarithm
    power       lag of the logarithm, adaptation as a power of the ratio
    second      lag of the logarithm, and a second recent rate with a time constant of its own
    sided       lag of the logarithm, another one where it rises than where it falls (the model's; it steps the lag
                exactly, the laws here take a step's target for all of it)
    recovering  as sided, times the part of the cells that have recovered from their last spike, over its mean: z2 of
                `second` with its time constant is the part that has not
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import csd, welch

from automfm_hpc.cell_response import LEAST_RATE, between, forgotten, place
from automfm_hpc.experiment import BIN, Experiment, Trial
from automfm_hpc.mean_field import MeanField
from automfm_hpc.measured_swings import Followed, course_at
from automfm_hpc.mesoscopic import FASTEST
from automfm_hpc.response import Response, System, compiled, empty_response, respond_into
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import smooth
from automfm_hpc.swing_fit import KERNEL, STEP, alone, arriving_rates, chance_of

LAWS = {"momentary": 0, "rate": 1, "logarithm": 2, "power": 3, "second": 4, "sided": 5, "recovering": 6}
# Rows of a table; then sensitivities to rises, to falls. LAG: of falls, where that of rises is another.
LAG, RHO, SLOW, SECOND_RHO, SECOND_SLOW, RISING, SIDES = range(7)
OF_LAWS = {SECOND_RHO: (4,), SECOND_SLOW: (4, 6), RISING: (5, 6)}  # which others do without
PRIOR = (0.5, 0.5, 0.5, 0.5, 0.7, 0.5)
PRIOR_SIDES, PRIOR_INPUT = 0.25, 0.03
SECOND_TIME, RECOVERY = 12.0, 3.0  # ms: where a second recent rate and recovery begin
LOW = (np.log(0.05), -0.9, np.log(3.0), -5.0, np.log(0.5), np.log(0.05))
HIGH = (np.log(20.0), 8.0, np.log(600.0), 8.0, np.log(1e3), np.log(20.0))


class Data(NamedTuple):
    """One population: its system, arriving rates and courses by (drive, draw), and whether axes are inputs."""

    one: System
    arriving: dict[tuple[int, int], np.ndarray]
    target: dict[tuple[int, int], np.ndarray]
    of_input: np.ndarray


@compiled
def step_law(one: System, law: int, knots: np.ndarray, table: np.ndarray, arriving: np.ndarray, work: Response,
             out: np.ndarray) -> None:
    n, h, q = arriving.shape[1], STEP, LEAST_RATE
    habit, forget = np.zeros(n), forgotten(h)
    for a in range(n):
        habit[a] = arriving[:, a].mean()
        work.nu[a] = habit[a]
    respond_into(one, work)
    nu = m = z = z2 = own = work.F[0]
    first = second = np.log(nu + q)
    for k in range(arriving.shape[0]):
        at = place(knots, z if law == 0 else own)
        for a in range(n):
            swing = arriving[k, a] - habit[a]
            side = SIDES + a if swing > 0.0 else SIDES + n + a
            work.nu[a] = max(habit[a] + between(table[side], at) * swing, 0.0)
            habit[a] += forget[0] * swing
        respond_into(one, work)
        f, rho = work.F[0], between(table[RHO], at)
        slow = np.exp(between(table[SLOW], at))
        slow2 = np.exp(between(table[SECOND_SLOW], at))
        lag = 1.0 - np.exp(-2.0 * h / np.exp(between(table[LAG], at)))
        before = nu
        if law < 2:
            aim = f + rho * (f + q) * (np.log(f + q) - np.log(z + q))
            if law == 0:
                at = place(knots, max(aim, nu))
                lag = 1.0 - np.exp(-2.0 * h / np.exp(between(table[LAG], at)))
            old = m
            m += (min(max(aim, 0.0), FASTEST) - m) * lag
            nu += (0.5 * (old + m) - nu) * lag
        else:
            if law >= 5 and np.log(f + q) > second:
                lag = 1.0 - np.exp(-2.0 * h / np.exp(between(table[RISING], at)))
            old = first
            first += (np.log(f + q) - first) * lag
            second += (0.5 * (old + first) - second) * lag
            g, x = np.exp(second), second - np.log(z + q)
            if law == 3:
                aim = g * np.exp(min(rho * x, 3.0)) - q
            else:
                aim = g - q + rho * g * x
                if law == 4:
                    aim += between(table[SECOND_RHO], at) * g * (second - np.log(z2 + q))
                elif law == 6:
                    aim *= max(1.0 - 1e-3 * slow2 * z2, 0.0) / (1.0 - min(1e-3 * slow2 * own, 0.8))
            nu = min(max(aim, 0.0), FASTEST)
        mean = 0.5 * (before + nu)
        z += (mean - z) * (1.0 - np.exp(-h / slow))
        z2 += (mean - z2) * (1.0 - np.exp(-h / slow2))
        own += (mean - own) * forget[1]
        out[k] = nu


def load(run: Run, name: str) -> tuple[Data, np.ndarray, np.ndarray]:
    """A population's data, its rate at each working point, and the table that fits start from."""
    plan, model = run.read_plan(), MeanField.load(run.folder)
    experiment = Experiment.read(run.spiking, plan.network)
    followed = Followed(experiment, run.spiking, run.isolated)
    dynamics, i = model.dynamics, model.populations.index(name)
    assert dynamics is not None and dynamics.cell is not None
    first, last = model.system.axis_start[i], model.system.axis_start[i + 1]
    arriving, target = {}, {}
    for k in range(len(experiment.protocols)):
        for s in range(experiment.seeds):
            course = course_at(followed, plan, model, i, Trial(k, s))
            rates = arriving_rates(model.system, dynamics, course.sent, BIN)
            arriving[k, s] = np.ascontiguousarray(rates[:, first:last])
            target[k, s] = course.target
    known = dynamics.cell
    knots = np.array([np.mean([target[k, s].mean() for s in range(experiment.seeds)])
                      for k in range(len(experiment.protocols))])  # fmt: skip
    at = [np.interp(knots, known.knots[i], row) for row in
          (np.log(known.mean_lag[i]), known.adaptation[i] - 1.0, np.log(known.slow[i]),
           *known.sensitivity[0, first:last], *known.sensitivity[1, first:last])]  # fmt: skip
    table = np.stack([*at[:3], 0.0 * knots, 0.0 * knots, at[0], *at[3:]])
    of_input = model.system.axes[first:last] >= len(model.populations)
    return Data(alone(model.system, i), arriving, target, of_input), knots, table


def course_of(data: Data, law: int, knots: np.ndarray, table: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    out = np.empty(len(data.arriving[key]))
    step_law(data.one, law, knots, np.ascontiguousarray(table), data.arriving[key], empty_response(data.one), out)
    return out.reshape(-1, round(BIN / STEP)).mean(axis=1)[-data.target[key].size :]


def fitted(data: Data, law: int, knots: np.ndarray, start: np.ndarray, keys: list[tuple[int, int]]) -> np.ndarray:
    """The table that follows the courses of some draws best."""
    rows = [r for r in range(len(start)) if law in OF_LAWS.get(r, (law,))]
    start = start.copy()
    start[SECOND_SLOW] = np.log(RECOVERY if law == LAWS["recovering"] else SECOND_TIME)
    sides = np.where(np.tile(data.of_input, 2), PRIOR_INPUT, PRIOR_SIDES)
    known_to = np.concatenate([PRIOR, sides])[rows, None] * np.ones(knots.size)
    width = 2.0 * np.sqrt(np.pi) * KERNEL / BIN
    scale = {key: np.sqrt(chance_of(data.target[key]) + 0.01 * width * smooth(data.target[key], KERNEL, BIN).var())
             for key in keys}

    def unpacked(p: np.ndarray) -> np.ndarray:
        table = start.copy()
        table[rows] = p.reshape(len(rows), -1)
        for r, (low, high) in enumerate(zip(LOW, HIGH, strict=True)):
            table[r] = np.clip(table[r], low, high)
        table[SIDES:] = np.clip(table[SIDES:], 0.0, 3.0)
        return table

    def residuals(p: np.ndarray) -> np.ndarray:
        table = unpacked(p)
        away = [smooth(course_of(data, law, knots, table, key) - data.target[key], KERNEL, BIN) / scale[key]
                for key in keys]
        return np.concatenate([*away, ((p.reshape(len(rows), -1) - start[rows]) / known_to).ravel()])

    found = least_squares(residuals, start[rows].ravel(), diff_step=1e-3, max_nfev=8, x_scale=known_to.ravel())
    return unpacked(found.x)


def scores(course: np.ndarray, target: np.ndarray) -> dict[str, float]:
    here, there = smooth(course, KERNEL, BIN), smooth(target, KERNEL, BIN)
    f, cross = csd(target, course, fs=1000.0 / BIN, nperseg=256)
    _, power = welch(target, fs=1000.0 / BIN, nperseg=256)
    band = (f > 13.0) & (f < 50.0)
    ratio = cross[band].sum() / power[band].sum()
    return {"rate": float(target.mean()), "error": float(course.mean() / target.mean() - 1.0),
            "r2": float(1.0 - (here - there).var() / there.var()), "gain": float(abs(ratio)),
            "phase": float(np.degrees(np.angle(ratio)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--populations", nargs="+", help="default: all")
    parser.add_argument("--laws", nargs="+", choices=list(LAWS), default=list(LAWS))
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in a.populations or MeanField.load(a.run).populations:
        data, knots, start = load(Run(a.run), name)
        last = max(s for _, s in data.target)
        for title in a.laws:
            law = LAWS[title]
            table = fitted(data, law, knots, start, [key for key in data.target if key[1] < last])
            for k in range(knots.size):
                course = course_of(data, law, knots, table, (k, last))
                rows.append({"population": name, "law": title} | scores(course, data.target[k, last]))
                if not a.json:
                    r = rows[-1]
                    print(f"{name:<5}{title:<11}{r['rate']:7.1f} Hz {100.0 * r['error']:+6.1f} %  R2 {r['r2']:.3f}  "
                          f"gain {r['gain']:.2f}  phase {r['phase']:+4.0f}", flush=True)
    if a.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
