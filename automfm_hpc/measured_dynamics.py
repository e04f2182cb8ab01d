"""The stage that measures how fast cells answer: responses on all ranks, then the model's filters.

The responses lie in ``response.zarr``, the judgement of the fits in ``dynamics.json``, the filters in ``model.zarr``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.dynamics import Dynamics, instant_pathways
from automfm_hpc.dynamics_fit import GAIN_SPREAD, Filter, Measured, fit_filter, time_constants
from automfm_hpc.dynamics_plan import POINTS, ResponsePlan, plan_responses, slowest
from automfm_hpc.errors import MeanFieldError, SimulationError
from automfm_hpc.plan import Plan
from automfm_hpc.provenance import write_json
from automfm_hpc.stages import Log, Run, known_rates, on_root, own_communicator, prepare_nest

if TYPE_CHECKING:
    from automfm_hpc.mean_field import MeanField

FloatArray = NDArray[np.float64]
SHOWN = (2.5, 9.5, 19.5, 39.5)  # Hz, columns of the table


def measure_dynamics(run: Run, pool: Any, log: Log, points: int = POINTS) -> dict[str, Any] | None:
    """Make the missing measurements on all ranks; fit the filters and put them into the model.

    Returns
    -------
    dict or None
        On rank 0: what ``dynamics.json`` holds.
    """
    from automfm_hpc.mean_field import MeanField
    from automfm_hpc.modulated_cells import simulate_response
    from automfm_hpc.pools import map_tasks
    from automfm_hpc.progress import progress
    from automfm_hpc.store import ResponseStore

    plan, tasks = run.read_plan(), None
    with on_root(pool) as root:
        if root:
            if not run.model.exists():
                raise MeanFieldError("has no model", where=str(run.folder),
                                     remedy=f"Run `automfm fit {run.folder}` first.")
            model = MeanField.load(run.folder)
            responses = plan_responses(plan, model, _working_rates(run, plan, model), points)
            tasks = ResponseStore.create(run.response, responses).missing()
            log(f"dynamics: {len(tasks)} of {len(responses.tasks)} responses to measure on {pool.size} rank(s)")
            if tasks:
                prepare_nest(plan.network, log)
    tasks = pool.bcast(tasks)
    store = ResponseStore.open(run.response)
    map_tasks(pool, partial(simulate_response, plan, store.responses, communicator=own_communicator(pool)), tasks,
              store.write, on_failure=lambda task, error: store.fail(task, str(error)),
              report=progress("dynamics") if tasks else None)
    result = None
    with on_root(pool) as root:
        if root:
            _report_failures(store, log)
            model = MeanField.load(run.folder)
            dynamics, filters = fit_dynamics(plan, model, store)
            result = _judgement(plan, store.responses, dynamics, filters)
            write_json(run.dynamics, result)
            replace(model, dynamics=dynamics).save(run.model)
    return result


def _working_rates(run: Run, plan: Plan, model: MeanField) -> dict[str, Sequence[float]]:
    """Rates (Hz) of all populations and inputs at working points: known ones, or else the model's own."""
    names = plan.network.population_names
    references = known_rates(run, plan.network)
    for reference in references:
        if all(name in reference.rates for name in names):
            return _columns(reference.drives) | {name: tuple(map(float, reference.rates[name])) for name in names}
    drives = [drive for reference in references for drive in reference.drives]
    found = [(drive, model.fixed_points(drive).stable) for drive in drives]
    stable = [(drive, points[0].rates) for drive, points in found if points]
    if not stable:
        raise MeanFieldError("no working point is known, and the model has no stable one", where=str(run.folder),
                             remedy="Plan with `--working-points network`.")
    rates = np.array([rates for _, rates in stable])
    return _columns([drive for drive, _ in stable]) | {n: tuple(rates[:, i]) for i, n in enumerate(names)}


def _columns(drives: Sequence[Mapping[str, float]]) -> dict[str, Sequence[float]]:
    return {name: tuple(float(drive[name]) for drive in drives) for name in drives[0]}


def _report_failures(store: Any, log: Log) -> None:
    failed = store.failures()
    for task, message in failed[:5]:
        log(f"dynamics: {store.responses.labels[task.axis]} at working point {task.point} failed: {message}")
    if failed and len(failed) == len(store.responses.tasks):
        raise SimulationError(f"all {len(failed)} measurements failed; the first: {failed[0][1]}", where="dynamics")


# --- from responses to filters ----------------------------------------------------------------------


def fit_dynamics(plan: Plan, model: MeanField, store: Any) -> tuple[Dynamics, list[Filter]]:
    """The filters of a model, and how each axis was fitted."""
    responses: ResponsePlan = store.responses
    taus = time_constants(slowest(plan))
    knots = _knots(model.populations, responses)
    filters = [fit_filter(data, taus) for data in measured(plan, store, knots.shape[1], _spreads(model, responses))]
    synapses = Dynamics.of_synapses(plan.parameters)
    mixture = np.array([f.coefficients for f in filters])
    axis = 0
    for i, tf in enumerate(model.transfer_functions):
        n = max(len(responses.knots(model.populations[i])), 1)
        mixture[axis : axis + len(tf.axes), n:] = mixture[axis : axis + len(tf.axes), n - 1 : n]
        axis += len(tf.axes)
    return replace(synapses, time_constants=np.array(taus), knots=knots, mixture=mixture), filters


def _knots(populations: Sequence[str], responses: ResponsePlan) -> FloatArray:
    """Rates (Hz) of every population at its working points, (n_population, n_knot); going on where it has fewer."""
    rows = [[rate for _, rate in sorted(responses.knots(name).items())] or [0.0] for name in populations]
    n = max(map(len, rows))
    return np.array([row + [row[-1] + k + 1.0 for k in range(n - len(row))] for row in rows])


def _spreads(model: MeanField, responses: ResponsePlan) -> dict[str, float]:
    """How far slopes may be off, by population: where a fit misses points left out, its slopes are no better."""
    missed = {name: score["cv"] for name, score in model.metadata.get("scores", {}).items()}
    rate = {name: float(np.mean(list(responses.knots(name).values()) or [1.0])) for name in model.populations}
    return {name: math.hypot(GAIN_SPREAD, missed.get(name, 0.0) / rate[name]) for name in model.populations}


def measured(plan: Plan, store: Any, n_point: int, spread: Mapping[str, float]) -> list[Measured]:
    """What is known of every axis; `spread` by population, see `Measured`."""
    responses: ResponsePlan = store.responses
    frequency = np.array(responses.frequency)
    pathways = instant_pathways(plan.parameters, frequency)
    out = []
    for axis in range(len(responses.labels)):
        tasks = {t.point: t for t in responses.tasks if t.axis == axis}
        slope, T = np.ones(n_point), plan.parameters.T
        error = np.full((n_point, frequency.size), np.nan)
        response = error.astype(complex)
        for point, task in tasks.items():
            slope[point], T, values = task.slope, task.T, store.values(task)
            if values is not None:
                response[point] = values["response_real"] + 1j * values["response_imag"]
                error[point] = values["error"]
        population = responses.labels[axis].partition("<-")[0]
        out.append(Measured(frequency, pathways[:, axis], T, slope, response, error, spread[population]))
    return out


# --- what is told -----------------------------------------------------------------------------------


def _judgement(plan: Plan, responses: ResponsePlan, dynamics: Dynamics, filters: Sequence[Filter]) -> dict[str, Any]:
    axes = {}
    for number, (label, fitted) in enumerate(zip(responses.labels, filters, strict=True)):
        tasks = sorted((t for t in responses.tasks if t.axis == number), key=lambda t: t.point)
        chosen = [t.point for t in tasks]
        s = 2e-3j * np.pi * np.array(SHOWN)
        T = tasks[0].T if tasks else plan.parameters.T
        low = 1.0 / (1.0 + np.multiply.outer(s, dynamics.time_constants)) - 1.0
        cell = (1.0 + fitted.coefficients[chosen] @ low.T) / (1.0 + s * T)
        axes[label] = {
            "rates": [t.target for t in tasks], "gain": _plain(fitted.gain[chosen]),
            "gain_error": _plain(fitted.gain_error[chosen]), "misfit": _number(fitted.misfit),
            "chi2": _number(fitted.chi2), "freedom": fitted.freedom,
            "coefficients": fitted.coefficients[chosen].tolist(),
            "cell_gain": np.abs(cell).tolist(), "cell_phase": np.degrees(np.angle(cell)).tolist(),
        }  # fmt: skip
    return {"plan": plan.id, "time_constants": dynamics.time_constants.tolist(), "frequency": list(SHOWN), "axes": axes}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(values: FloatArray) -> list[float | None]:
    return [_number(v) for v in values]


def table(result: Mapping[str, Any]) -> str:
    """The filters as text: per axis and working point the cells' gain and phase beyond delays and synapses."""
    head = "".join(f"{f:>9g} Hz" for f in result["frequency"])
    lines = ["cells' response beyond delays and synapses: gain and phase (degrees), against dF/dnu",
             f"{'axis':<16}{'rate Hz':>8}{'low gain':>16}{head}   misfit"]
    for label, row in result["axes"].items():
        for k, rate in enumerate(row["rates"]):
            gain = "" if row["gain"][k] is None else f"{row['gain'][k]:.2f} +- {row['gain_error'][k]:.2f}"
            cells = "".join(f"{g:>6.2f}{p:>6.0f}" for g, p in zip(row["cell_gain"][k], row["cell_phase"][k],
                                                                 strict=True))
            misfit = "" if k or row["misfit"] is None else f"{100.0 * row['misfit']:7.1f} %"
            lines.append(f"{label if k == 0 else '':<16}{rate:8.1f}{gain:>16}{cells}{misfit}")
    return "\n".join(lines)
