"""The stages of a run, in their order: each reads the run's folder, redoes only what is missing, and writes.

Every rank calls every stage; rank 0 alone plans, fits, solves and publishes, all ranks simulate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automfm_hpc.errors import FitError, MeanFieldError, PlanError, SimulationError
from automfm_hpc.experiment import VALUES, Experiment
from automfm_hpc.network import Network
from automfm_hpc.plan import Plan, difference
from automfm_hpc.provenance import versions, write_atomically, write_json
from automfm_hpc.run_folder import Run, on_root

if TYPE_CHECKING:
    from automfm_hpc.comparison import Reference

Log = Callable[[str], None]


# --- plan -----------------------------------------------------------------------------------------


def write_plan(run: Run, plan: Plan) -> bool:
    """Put the plan into the run's folder; False if it was there already.

    Raises
    ------
    PlanError
        If the folder holds another plan, or something else.
    """
    if run.plan.is_file():
        there = run.read_plan()
        if there.id != plan.id:
            raise PlanError(f"holds another plan ({there.id}, this one is {plan.id}): {difference(there, plan)}",
                            where=str(run.folder), remedy="Choose another --out, or repeat the first command to go on.")
        return False
    if run.folder.is_dir() and any(run.folder.iterdir()) and not run.network.is_file():
        raise PlanError("is not empty and holds no run", where=str(run.folder), remedy="Choose another --out.")
    with _writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(run.network, plan.network.to_yaml())
        write_json(run.plan, plan.to_dict())
    return True


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlanError(f"cannot be written ({error.strerror})", where=str(folder),
                        remedy="Choose another --out.") from None


# --- the spiking network ----------------------------------------------------------------------------


def prepare(run: Run, network: Network) -> None:
    """Make the run's folder with its network; PlanError if it belongs to another one."""
    if run.network.is_file():
        there = Network.load(run.network)
        if there != network:
            raise PlanError(f"holds a run of another network ({there.name}, variant {there.variant})",
                            where=str(run.folder), remedy="Choose another --out, or repeat the first command to go on.")
        return
    if run.folder.is_dir() and any(run.folder.iterdir()):
        raise PlanError("is not empty and holds no run", where=str(run.folder), remedy="Choose another --out.")
    with _writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(run.network, network.to_yaml())


def spike(run: Run, experiment: Experiment, pool: Any, log: Log, store: Path | None = None,
          distribute: bool = False, run_trial: Callable[..., Any] | None = None, what: str = "spiking network",
          kept: tuple[str, ...] = VALUES) -> Any:
    """Run the missing trials of an experiment; their dataset on every rank.

    Every rank runs trials of its own or, with `distribute`, all ranks run one trial after the other together.
    `run_trial` (by default `experiment.simulate_trial`) is given the experiment and a trial, and runs `what`; `kept`
    of its values are kept, by default all.

    Raises
    ------
    SimulationError
        If a trial failed.
    """
    from automfm_hpc.distributed import run_together
    from automfm_hpc.experiment import simulate_trial
    from automfm_hpc.pools import map_tasks
    from automfm_hpc.progress import progress
    from automfm_hpc.store import TrialStore

    path = store or run.spiking
    tasks: Any = []
    with on_root(pool) as root:
        if root:
            tasks = TrialStore.create(path, experiment, kept).missing()
            if tasks:
                log(f"{what}: {len(tasks)} of {len(experiment.trials())} trials to do")
                prepare_nest(experiment.network, log)
    tasks = pool.bcast(tasks)
    trials = TrialStore.open(path, experiment)
    report = progress(what) if tasks else None
    if distribute:
        run_together(experiment, tasks, pool, trials.write, report)
    else:
        one = partial(run_trial or simulate_trial, experiment, communicator=own_communicator(pool))
        map_tasks(pool, one, tasks, trials.write,
                  on_failure=lambda task, error: trials.fail(task, str(error)), report=report)
    failures = trials.failures()
    if failures:
        raise SimulationError(f"{len(failures)} trials failed; the first: {failures[0][1]}", where=str(path))
    return trials.dataset()


# --- simulate -------------------------------------------------------------------------------------


def prepare_nest(network: Network, log: Log) -> None:
    """Find NEST and compile the neuron models the network needs, before anything is written.

    Raises
    ------
    SimulationError
        NEST or the compiler is missing.
    """
    from automfm_hpc import nest_models

    counts = receptor_counts(network)
    if nest_models.find_nest().has_mpi:
        counts = tuple(sorted({1, *counts}))  # the smallest model carries `use_communicator`
    for receptors in counts:
        if not nest_models.module_path(receptors).is_file():
            log(f"compiling the neuron model with {receptors} receptors for this NEST")
        nest_models.compile_module(receptors)


def simulate(run: Run, pool: Any, log: Log, retry_failed: bool = True) -> dict[str, Any]:
    """Fill the missing chunks of ``rates.zarr`` on all ranks.

    Returns
    -------
    dict
        On every rank: chunks, done_before, simulated, seconds.
    """
    from automfm_hpc.pools import map_tasks
    from automfm_hpc.progress import progress
    from automfm_hpc.simulate import simulate_chunk
    from automfm_hpc.store import RateStore

    plan = run.read_plan()
    missing: list[int] = []
    total = len(plan.tasks())
    with on_root(pool) as root:
        if root:
            if not run.rates.exists():
                prepare_nest(plan.network, log)
            store = RateStore.create(run.rates, plan)
            wanted = {(t.population, t.chunk) for t in store.missing(retry_failed=retry_failed)}
            missing = [n for n, t in enumerate(plan.tasks()) if (t.population, t.chunk) in wanted]
            log(f"simulate: {len(missing)} of {total} chunks to do on {pool.size} rank(s)")
            if missing:
                prepare_nest(plan.network, log)
    missing = pool.bcast(missing)
    store = RateStore.open(run.rates, plan)
    tasks = [plan.tasks()[n] for n in missing]
    started = time.monotonic()
    map_tasks(pool, partial(simulate_chunk, plan, communicator=own_communicator(pool)), tasks, store.write,
              on_failure=lambda task, error: store.fail(task, str(error)),
              report=progress("simulate") if tasks else None)
    seconds = time.monotonic() - started
    with on_root(pool) as root:
        if root:
            _report_failures(store, log)
            store.finish()
    return {"chunks": total, "done_before": total - len(missing), "simulated": len(missing), "seconds": seconds}


def receptor_counts(network: Network) -> tuple[int, ...]:
    """Numbers of receptors for which the E-GLIF model is needed; empty for networks of NEST's own models."""
    counts = {len(network.onto(p.name)) for p in network.populations if p.neuron.multireceptor}
    return tuple(sorted(counts))


def own_communicator(pool: Any) -> int | None:
    """For a NEST built with MPI: a communicator of this rank alone, as a Fortran handle."""
    from automfm_hpc.nest_models import find_nest

    if not find_nest().has_mpi or pool.size == 1:
        return None
    from mpi4py import MPI

    return int(MPI.COMM_SELF.py2f())


def _report_failures(store: Any, log: Log) -> None:
    failed = store.failed()
    for failure in failed[:5]:
        log(f"simulate: chunk {failure.task.chunk} of {failure.task.population} failed: {failure.message}")
    if failed and len(failed) == len(store.plan.tasks()):
        raise SimulationError(f"all {len(failed)} chunks failed; the first: {failed[0].message}", where="simulate")


# --- fit ------------------------------------------------------------------------------------------


def fit(run: Run, pool: Any, log: Log) -> None:
    """Fit the transfer functions from ``rates.zarr``; write ``fits.json`` and ``model.zarr``.

    Raises
    ------
    FitError
        If chunks are missing, or a fit cannot be trusted.
    """
    from automfm_hpc.fit import fit_all
    from automfm_hpc.store import RateStore

    plan = run.read_plan()
    results: Any = None
    with on_root(pool) as root, pool.executor() as scheduler:
        if root:
            store = RateStore.open(run.rates, plan)
            left = store.progress().todo
            if left:
                raise FitError(f"{left} chunks are not simulated yet", where=str(run.rates),
                               remedy=f"Run `automfm simulate {run.folder}` first.")
            grids = [store.rate_grid(cell.population) for cell in plan.parameters.cells]
            results = fit_all(plan.parameters.cells, grids, scheduler=scheduler, seed=plan.seed)
            documents = {r.transfer_function.population: r.to_dict() for r in results}
            write_json(run.fits, {"plan": plan.id, "fits": documents})
            mean_field(plan, results).save(run.model)
            for r in results:
                log(f"fit: {r.transfer_function.population}: {r.kind}, RMSE {r.score.rmse:.2f} Hz, "
                    f"left-out points {r.score.cv:.2f} Hz, sampling noise {r.noise or 0.0:.2f} Hz")


def mean_field(plan: Plan, results: Any) -> Any:
    """The mean-field model of a plan and its fitted transfer functions."""
    from automfm_hpc.mean_field import MeanField

    p, network = plan.parameters, plan.network
    scores = {r.transfer_function.population: {"kind": r.kind, "rmse": r.score.rmse, "cv": r.score.cv} for r in results}
    metadata = {
        "network": network.name, "variant": network.variant, "pathology": network.pathology, "region": network.region,
        "species": network.species, "plan": plan.id, "versions": versions(),
        "groups": {k: list(v) for k, v in network.groups.items()}, "scores": scores,
    }  # fmt: skip
    return MeanField(p.populations, p.inputs, tuple(r.transfer_function for r in results), p.N, p.T, metadata)


# --- solve ----------------------------------------------------------------------------------------


def solve(run: Run, pool: Any, log: Log, duration: float = 0.6) -> dict[str, Any] | None:
    """Stationary rates over the working points, at order 1 and 2, added to ``model.zarr``.

    Returns
    -------
    dict or None
        On rank 0: the comparison with the description's working points, also in ``comparison.json``.
    """
    from automfm_hpc.comparison import compare, stationary, write_dataset
    from automfm_hpc.mean_field import MeanField

    result: dict[str, Any] | None = None
    with on_root(pool) as root, pool.executor() as scheduler:
        if root:
            if not run.model.exists():
                raise MeanFieldError("has no model", where=str(run.folder),
                                     remedy=f"Run `automfm fit {run.folder}` first.")
            plan, model = run.read_plan(), MeanField.load(run.folder)
            references = known_rates(run, plan.network)
            rates = stationary(model, [d for r in references for d in r.drives], duration, scheduler)
            write_dataset(run.model, model, plan, rates)
            result = compare(plan.network, references, rates)
            write_json(run.comparison, result)
            for line in result["warnings"]:
                log(f"solve: {line}")
    return result


def known_rates(run: Run, network: Network) -> list[Reference]:
    """The run's own spiking network, the description's working points, else an even spread of drives without rates."""
    from automfm_hpc.comparison import Reference, described

    references = []
    if run.spiking.exists():
        references.append(_simulated(run, network))
    given = described(network)
    if given is not None:
        references.append(given)
    if not references and network.inputs:
        spread = zip(*(np.linspace(*i.rate_range, 12)[1:-1] for i in network.inputs), strict=True)
        drives = tuple(dict(zip(network.input_names, map(float, row), strict=True)) for row in spread)
        references.append(Reference("no known rates", drives, {}))
    return references


def _simulated(run: Run, network: Network) -> Reference:
    from automfm_hpc.comparison import OWN, Reference
    from automfm_hpc.experiment import Experiment
    from automfm_hpc.store import TrialStore

    experiment = Experiment.read(run.spiking, network)
    rates = TrialStore.open(run.spiking, experiment).dataset()["rate"].mean("seed")
    drives = tuple(dict(p.background) for p in experiment.protocols)
    return Reference(OWN, drives, {n: tuple(rates.sel(name=n).values) for n in network.population_names})


# --- publish --------------------------------------------------------------------------------------


def publish(run: Run, pool: Any, log: Log, catalog: Path) -> str | None:
    """Put the model into the library of a catalog folder; the record's id on rank 0."""
    from automfm_hpc.library import publish as add
    from automfm_hpc.records import ensure_catalog, make_record

    identity: str | None = None
    with on_root(pool) as root:
        if root:
            for path, stage in ((run.fits, "fit"), (run.comparison, "solve")):
                if not path.exists():
                    raise MeanFieldError(f"lacks {path.name}", where=str(run.folder),
                                         remedy=f"Run `automfm {stage} {run.folder}` first.")
            record = make_record(run.read_plan(), json.loads(run.fits.read_text("utf-8")),
                                 json.loads(run.comparison.read_text("utf-8")))
            ensure_catalog(catalog)
            identity = add(catalog / "library", record, run.model)
            log(f"publish: {identity} in {catalog / 'library'}")
    return identity
