"""The second half of the dynamics stage: isolated cells follow the network's own swings, and what is fitted to that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.afferents import FEW_PAIRS
from automfm_hpc.cell_response import CellResponse
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.dynamics_plan import LEAST_RATE
from automfm_hpc.experiment import BIN, Experiment, Trial, varied_experiment
from automfm_hpc.plan import Plan
from automfm_hpc.remap import Cell
from automfm_hpc.run_folder import Run
from automfm_hpc.stages import Log, spike
from automfm_hpc.swing_fit import Course, FittedSwing, Known, fit_swing

if TYPE_CHECKING:
    from automfm_hpc.mean_field import MeanField
    from automfm_hpc.pools import Pool

FloatArray = NDArray[np.float64]
LEAST_CV = 0.05
SEAM = 100.0  # ms after the run-up, whose end the window does not go on from, that fits leave out
APART = 0.02  # working points whose rates are nearer than that part of them are one


@dataclass(frozen=True)
class Followed:
    """Trials of the network, and of the isolated cells that follow it.

    Parameters
    ----------
    experiment : Experiment
    recorded, alone : Path
        Stores of its trials.
    """

    experiment: Experiment
    recorded: Path
    alone: Path

    def trials_at(self, drive: Mapping[str, float]) -> list[Trial]:
        """Those with these mean rates (Hz) of the inputs."""
        return [t for t in self.experiment.trials() if self.experiment.protocols[t.protocol].background == drive]


def measure_swings(run: Run, plan: Plan, pool: Any, log: Log) -> tuple[Followed, ...]:
    """Let isolated cells follow every trial of the network on all ranks.

    Returns
    -------
    tuple of Followed
        At constant inputs, and with inputs that fluctuate where the network was run with such; nothing if it was
        never run.
    """
    there = pool.bcast((run.spiking.exists(), run.varied.exists()) if pool.is_root else None)
    if not there[0]:
        log("dynamics: no spiking network has been run; large swings are taken to be followed like small changes")
        return ()
    working = Experiment.read(run.spiking, plan.network)
    found = [Followed(working, run.spiking, run.isolated)]
    if there[1]:
        found.append(Followed(varied_experiment(working), run.varied, run.isolated_varied))
    for f in found:
        spike(run, f.experiment, pool, log, f.alone, run_trial=partial(_isolated, plan, f.recorded),
              what="isolated cells", kept=("activity",))
    return tuple(found)


def _isolated(plan: Plan, recorded: Path, experiment: Experiment, trial: Trial,
              communicator: int | None = None) -> dict[str, NDArray[Any]]:
    from automfm_hpc.swings import simulate_isolated

    return simulate_isolated(plan, recorded, experiment, trial, communicator)


def fit_swings(run: Run, plan: Plan, followed: Sequence[Followed], known: tuple[CellResponse, FloatArray],
               pool: Pool) -> dict[str, list[dict[str, Any]]]:
    """Lags, adaptation and what spreads count of every population under the network's swings, fitted on all ranks.

    `known` is what small changes showed, and how well they know ln tau of every population.

    Returns
    -------
    dict
        On rank 0: population -> rows of plain data; on the others without rows.
    """
    from automfm_hpc.mean_field import MeanField
    from automfm_hpc.pools import map_tasks

    cells, fitted, drives = plan.parameters.cells, [], len(followed[0].experiment.protocols)
    tasks = [(i, k) for k in range(drives) for i in range(len(cells))]
    map_tasks(pool, partial(_fitted, run, plan, MeanField.load(run.folder), followed, known), tasks,
              lambda task, row: fitted.append((task, row)))
    rows = {task: row for part in pool.gather(fitted) for task, row in part}
    each = ([rows.get((i, k)) for k in range(drives)] for i in range(len(cells)))
    return {cell.population: _apart([row for row in found if row]) for cell, found in zip(cells, each, strict=True)}


def _fitted(run: Run, plan: Plan, model: MeanField, followed: Sequence[Followed],
            known: tuple[CellResponse, FloatArray], task: tuple[int, int]) -> dict[str, Any] | None:
    """One population at one drive; None if it hardly fires there."""
    i, k = task
    cell, drive = plan.parameters.cells[i], followed[0].experiment.protocols[k].background
    kinds = [[course_at(f, plan, model, i, trial) for trial in f.trials_at(drive)] for f in followed]
    kinds = [kind for kind in kinds if kind]
    courses = [c for kind in kinds for c in kind]
    mean = np.mean([c.sent.mean(axis=0) for c in courses], axis=0)
    if min(mean[i], np.mean([c.target.mean() for c in courses])) < LEAST_RATE:
        return None
    small, slow_errors = known
    lag, rho, slow, _ = small.at(mean[: len(small.knots)])[:, i].tolist()
    prior = Known(lag, rho, slow, float(slow_errors[i]))
    few = spreads_that_count(cell, model.inputs)
    found = fit_swing(model.system, Dynamics.of_synapses(plan.parameters), i, kinds, prior, few, BIN)
    first, last = model.system.axis_start[i], model.system.axis_start[i + 1]
    cv = irregularity(run, cell.population, cell.axes, mean[model.system.axes[first:last]].tolist())
    return _row(found, cv, cell.axes)


def spreads_that_count(cell: Cell, inputs: Sequence[str]) -> list[bool]:
    """For which sources of a population kappa is fitted: those of which a cell hears FEW_PAIRS or less.

    Where there is none, for all but inputs. kappa then says nothing of a spread, but how large a part of fast swings
    is followed (below 0: less than F says), without which AdEx cells lose up to 12 % of their rate in the loop.
    """
    few = [name not in inputs and in_degree(cell, name) <= FEW_PAIRS for name in cell.axes]
    return few if any(few) else [name not in inputs for name in cell.axes]


def in_degree(cell: Cell, source: str) -> float:
    """Mean number of cells of a source that reach a cell, over all channels."""
    return float(sum(channel.K for channel in cell.channels if channel.source == source))


def course_at(f: Followed, plan: Plan, model: MeanField, i: int, trial: Trial) -> Course:
    """What the sources of population i did in one trial, and what its isolated cells did."""
    from automfm_hpc.store import TrialStore

    alone = TrialStore.open(f.alone, f.experiment).dataset()["activity"].isel(protocol=trial.protocol, seed=trial.seed)
    seam = round(min(SEAM / BIN, 0.2 * f.experiment.bins))
    return Course(_sent(f, plan, model, trial), alone.sel(name=model.populations[i]).values[seam:])


def _sent(f: Followed, plan: Plan, model: MeanField, trial: Trial) -> FloatArray:
    """Activities (Hz) of populations and inputs in one trial of the network, run-up included: (n_bin, M)."""
    from automfm_hpc.swings import recorded_courses, run_up, with_run_up

    courses = recorded_courses(f.recorded, f.experiment, trial)
    return np.column_stack([with_run_up(courses[name], run_up(plan)) for name in (*model.populations, *model.inputs)])


def irregularity(run: Run, population: str, axes: Sequence[str], rates: Sequence[float]) -> float:
    """CV of the intervals at the sampled grid point next to the input rates; too few intervals count as Poisson."""
    import xarray

    grid = xarray.open_zarr(run.rates, group=population, consolidated=False)
    cv = float(grid["cv"].sel(dict(zip(axes, rates, strict=True)), method="nearest"))
    return max(cv, LEAST_CV) if math.isfinite(cv) else 1.0


def _row(fitted: FittedSwing, cv: float, axes: Sequence[str]) -> dict[str, Any]:
    row = {"rate": fitted.rate, "lag": fitted.lag, "rising": fitted.rising, "adaptation": fitted.adaptation,
           "slow": fitted.slow, "irregularity": cv, "bound": fitted.bound, "depth": fitted.depth,
           "lateness": fitted.lateness, "pause": fitted.pause,
           "spread": dict(zip(axes, fitted.spread.tolist(), strict=True)),
           "offset": dict(zip(axes, fitted.offset.tolist(), strict=True)),
           "error": fitted.error, "explained": fitted.explained, "explained_before": fitted.before}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of their rates; of two that are nearly equal the lower one."""
    kept: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: float(row["rate"])):
        if not kept or row["rate"] > kept[-1]["rate"] * (1.0 + APART):
            kept.append(row)
    return kept
