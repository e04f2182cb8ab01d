"""The stage that measures how cells answer in time: responses on all ranks, then the model's dynamics.

Small sinusoids come first; their responses lie in ``response.zarr``. Where the network has been run, its isolated cells
then follow its own swings (`swings`), in ``isolated.zarr``. The fits and their judgement are in ``dynamics.json``, the
dynamics in ``model.zarr``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.cell_response import FIELDS, OF_AXES, UNTOLD, CellResponse
from automfm_hpc.cell_response_fit import FittedResponse, fit_response
from automfm_hpc.dynamics import Dynamics, instant_pathways
from automfm_hpc.dynamics_plan import POINTS, ResponsePlan, plan_responses
from automfm_hpc.errors import MeanFieldError, SimulationError
from automfm_hpc.measured_swings import fit_swings, irregularity, measure_swings
from automfm_hpc.network import Population
from automfm_hpc.plan import Plan
from automfm_hpc.provenance import write_json
from automfm_hpc.run_folder import Run, on_root
from automfm_hpc.stages import Log, known_rates, own_communicator, prepare_nest

if TYPE_CHECKING:
    from automfm_hpc.mean_field import MeanField

FloatArray = NDArray[np.float64]
T = TypeVar("T")
NO_ADAPTATION = 10.0  # ms: where tau is looked for in cells without adaptation
SLOW_ERROR, UNKNOWN_SLOW = 0.1, 0.5  # standard deviation of ln tau: the least and the most that is believed
# Of a population that was never measured.
SILENT = {"lag": 1.0, "adaptation": 1.0, "slow": NO_ADAPTATION, "irregularity": 1.0, "rising": 1.0} | UNTOLD


def measure_dynamics(run: Run, pool: Any, log: Log, points: int | None = None,
                     swings: bool = True) -> dict[str, Any] | None:
    """Make the missing measurements on all ranks; fit the filters and put them into the model.

    `points`: working points of each population; by default as many as were measured before, or POINTS. Without `swings`
    the model gets the numbers of small changes.

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
            before = ResponseStore.open(run.response).responses.points if run.response.exists() else POINTS
            responses = plan_responses(plan, model, _working_rates(run, plan, model), points or before)
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
            result = fit_dynamics(run, plan, store)
    followed = measure_swings(run, plan, pool, log) if swings else ()
    found = None
    if followed:
        known = pool.bcast(None if result is None else (cell_response(result), slow_errors(result)))
        found = fit_swings(run, plan, followed, known, pool)
    with on_root(pool) as root:
        if root:
            assert result is not None
            result |= {} if found is None else {"swings": found}
            write_json(run.dynamics, result)
            dynamics = replace(Dynamics.of_synapses(plan.parameters), cell=cell_response(result))
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


# --- from responses to dynamics -------------------------------------------------------------------------


def fit_dynamics(run: Run, plan: Plan, store: Any) -> dict[str, Any]:
    """Lag, adaptation and irregularity of every population at its working points, as plain data."""
    responses: ResponsePlan = store.responses
    frequency = np.array(responses.frequency)
    pathways = instant_pathways(plan.parameters, frequency)
    found, first = {}, 0
    for cell in plan.parameters.cells:
        axes, slow = range(first, first + len(cell.axes)), adaptation_time(plan.network.population(cell.population))
        rows = []
        for point, rate in sorted(responses.knots(cell.population).items(), key=lambda item: item[1]):
            tasks = {t.axis: t for t in responses.tasks if t.axis in axes and t.point == point}
            response, error = _beyond_synapses(store, tasks, axes, pathways)
            if np.isfinite(error).all(axis=1).any():
                fitted = fit_response(frequency, response, error, slow)
                cv = irregularity(run, cell.population, cell.axes, next(iter(tasks.values())).rates)
                rows.append(_row(rate, fitted, cv, cell.axes))
        found[cell.population] = rows
        first += len(cell.axes)
    return {"plan": plan.id, "axes": {c.population: list(c.axes) for c in plan.parameters.cells}, "populations": found}


def _beyond_synapses(store: Any, tasks: Mapping[int, Any], axes: range, pathways: Any) -> tuple[Any, FloatArray]:
    """Responses over those of the synapses and over dF/dnu, and their errors, (n_axis, n_frequency)."""
    error = np.full((len(axes), len(pathways)), np.nan)
    response = error.astype(complex)
    for k, axis in enumerate(axes):
        values = store.values(tasks[axis]) if axis in tasks else None
        if values is not None:
            scale = tasks[axis].slope * pathways[:, axis]
            response[k] = (values["response_real"] + 1j * values["response_imag"]) / scale
            error[k] = values["error"] / np.abs(scale)
    return response, error


def adaptation_time(population: Population) -> float:
    """Slow time constant (ms) of a population's cells."""
    p = population.parameters
    if "k_2" in p:
        return 1.0 / p["k_2"]
    return p["tau_w"] if p.get("a") or p.get("b") else NO_ADAPTATION


def _row(rate: float, fitted: FittedResponse, cv: float, axes: Sequence[str]) -> dict[str, Any]:
    gains = {a: float(g) if math.isfinite(g) else None for a, g in zip(axes, fitted.gain, strict=True)}
    return {"rate": rate, "lag": fitted.lag, "adaptation": fitted.adaptation, "slow": fitted.slow,
            "slow_error": fitted.slow_error, "irregularity": cv, "gain": gains, "chi2": fitted.chi2}


def slow_errors(result: Mapping[str, Any]) -> FloatArray:
    """How well small changes know ln tau of every population, (n_population,): its cells have it at every rate.

    Cells that adapt tell it within a few percent, cells that do not hardly at all.
    """
    known = [sum(row["slow_error"] ** -2.0 for row in rows) for rows in result["populations"].values()]
    return np.hypot(SLOW_ERROR, np.minimum(np.maximum(known, 1e-9) ** -0.5, UNKNOWN_SLOW))


def cell_response(result: Mapping[str, Any]) -> CellResponse:
    """What was found, as the model wants it: of large swings where they were measured, else of small changes.

    Populations with fewer points repeat their last.
    """
    swings = result.get("swings", {})
    chosen = {name: swings.get(name) or rows for name, rows in result["populations"].items()}
    most = max([1, *(len(rows) for rows in chosen.values())])
    tables: dict[str, list[list[float]]] = {name: [] for name in FIELDS}
    of_axes: dict[str, list[list[float]]] = {name: [] for name in OF_AXES}
    for name, found in chosen.items():
        rows = [{"rising": row["lag"]} | UNTOLD | row for row in found]  # small changes tell one lag
        rates = [row["rate"] for row in rows] or [1.0]
        tables["knots"].append(rates + [rates[-1] + k + 1.0 for k in range(most - len(rates))])
        for field, silent in SILENT.items():
            tables[field].append(_filled([row[field] for row in rows] or [silent], most))
        for axis in result["axes"][name]:
            for field, silent in (("spread", 0.0), ("offset", 0.0)):
                values = [row.get(field, {}).get(axis, silent) for row in rows] or [silent]
                of_axes[field].append(_filled(values, most))
    counted = any(np.any(rows) for rows in of_axes.values())
    more = {field: np.array(rows) for field, rows in of_axes.items()} if counted else {}
    return CellResponse(**{field: np.array(tables[field]) for field in FIELDS}, **more)


def _filled(values: list[T], n: int) -> list[T]:
    return values + values[-1:] * (n - len(values))


def table(result: Mapping[str, Any]) -> str:
    """The fits as text."""
    lines = ["how a population's rate follows its transfer function: lag T, adaptation rho with its time tau, CV;",
             "gain: measured at low frequency over the slope of the fitted transfer function, by source",
             f"{'population':<12}{'rate Hz':>8}{'T ms':>8}{'rho':>7}{'tau ms':>8}{'CV':>6}{'chi2':>7}  gain"]
    for name, rows in result["populations"].items():
        for k, row in enumerate(rows):
            gain = "  ".join(f"{a} {g:.2f}" for a, g in row["gain"].items() if g is not None)
            lines.append(f"{name if k == 0 else '':<12}{row['rate']:8.1f}{row['lag']:8.2f}{row['adaptation']:7.2f}"
                         f"{row['slow']:8.0f}{row['irregularity']:6.2f}{row['chi2']:7.1f}  {gain}")
        if not rows:
            lines.append(f"{name:<12}   never fires at the working points: taken to answer at once")
    return "\n".join([*lines, *_swings_table(result.get("swings", {}))])


def _swings_table(swings: Mapping[str, Any]) -> list[str]:
    if not swings:
        return []
    heads = (("rate Hz", 8), ("T rise", 8), ("T fall", 8), ("rho", 7), ("tau ms", 8), ("b", 7), ("d", 6), ("l", 6),
             ("p ms", 7), ("CV", 6), ("rate %", 8), ("R2", 7), ("above", 7))
    lines = ["", "the same under the network's own swings, which the model uses; b, d: bounds of adaptation; l: how",
             "much later rises are the less cells fire; p: for how long one that has fired is out; kappa: what the",
             "spread of sources heard one by one counts (lambda in brackets); R2: part of the isolated",
             "cells' course that the equations explain, and explained with the numbers above",
             f"{'population':<12}{''.join(f'{h:>{width}}' for h, width in heads)}  kappa (lambda)"]
    for name, rows in swings.items():
        for k, row in enumerate(rows):
            felt = "  ".join(f"{a} {s:.2f} ({row['offset'][a]:.2f})" for a, s in row["spread"].items() if s)
            lines.append(f"{name if k == 0 else '':<12}{row['rate']:8.1f}{row['rising']:8.2f}{row['lag']:8.2f}"
                         f"{row['adaptation']:7.2f}{row['slow']:8.0f}{row['bound']:7.2f}{row['depth']:6.2f}{row['lateness']:6.2f}"
                         f"{row['pause']:7.1f}{row['irregularity']:6.2f}{100.0 * row['error']:+8.1f}"
                         f"{row['explained']:7.2f}{row['explained_before']:7.2f}  {felt}")
    return lines
