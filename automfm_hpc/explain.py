"""Why a mean field is off: the rungs between the spiking network and the mean field, at a few constant drives.

What NEST simulated of a drive is kept in ``RUN/explain`` as soon as it is there; the model's own rungs are computed
anew each time, so that a new fit is judged against the same simulations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automfm_hpc.errors import MeanFieldError, SimulationError, StoreError, UsageError, suggest
from automfm_hpc.experiment import Experiment, settling_time
from automfm_hpc.network import Network
from automfm_hpc.protocols import constant
from automfm_hpc.provenance import content_hash, write_json
from automfm_hpc.run_folder import Run, on_root
from automfm_hpc.rungs import ACTIVITY_BIN, RUNGS, Rung, Sampling, climb
from automfm_hpc.stages import Log, own_communicator, prepare_nest
from automfm_hpc.validation import resized
from automfm_hpc.validation_plan import scale_of

if TYPE_CHECKING:
    from automfm_hpc.mean_field import MeanField
    from automfm_hpc.plan import Plan

FRACTIONS = (0.04, 0.2, 0.6)  # of the inputs' ranges
DURATION = 2000.0  # ms recorded
TRANSFER, FIRST, SECOND = "transfer function", "mean field, order 1", "mean field, order 2"
DRIVEN = "model, driven by it"


def model_rungs(sampled: str, has_cell_response: bool = False) -> tuple[Rung, ...]:
    """The rungs below NEST's; the transfer functions stand on the one that they were sampled like."""
    own = Rung(DRIVEN, "population activity", "cells: transfer functions and their dynamics instead")
    return ((own,) if has_cell_response else ()) + (
        Rung(TRANSFER, sampled, "nothing more: sampling and fit"),
        Rung(FIRST, TRANSFER, "the network's rates: found together instead"),
        Rung(SECOND, FIRST, "nothing: fluctuations of the populations added"))


def sampled_like(plan: Plan) -> str:
    """The rung whose cells and inputs a plan's transfer functions were sampled with."""
    if not plan.sampling.heterogeneous:
        return "mean in-degree"
    known = plan.to_dict().get("presynaptic", [])
    if not any(x for p in known for x in p["rate_cv"]):
        return "mean rates"
    if any(e["intervals"] for p in known for e in p.get("exemplars", ())):
        return "all shifted"
    return "independent regular" if any(x < 1 for p in known for x in p["isi_cv"]) else "independent Poisson"


# --- what is asked --------------------------------------------------------------------------------


def parse_drives(words: Sequence[str] | None, network: Network) -> tuple[dict[str, float], ...]:
    """`['4', '20']` or, with several inputs, `['mf=4,cf=1']` -> rates (Hz) of all inputs; None: FRACTIONS.

    Raises
    ------
    UsageError
        Saying which word cannot be meant.
    """
    if not network.inputs:
        raise UsageError("has no input that could be driven", where=network.name)
    if words is None:
        return tuple({i.name: round(i.rate_range[0] + f * (i.rate_range[1] - i.rate_range[0]), 6)
                      for i in network.inputs} for f in FRACTIONS)
    drives = tuple(_drive(word, network.input_names) for word in words)
    return tuple({content_hash(d): d for d in drives}.values())


def _drive(word: str, inputs: tuple[str, ...]) -> dict[str, float]:
    terms = [f"{inputs[0]}={word}"] if "=" not in word and len(inputs) == 1 else word.split(",")
    drive: dict[str, float] = {}
    for term in terms:
        name, equals, value = term.partition("=")
        if equals and name not in inputs:
            raise UsageError(f"no input '{name}'", where="--drives", remedy=suggest(name, inputs))
        try:
            drive[name] = float(value)
        except ValueError:
            raise UsageError(f"'{word}' is not a drive", where="--drives",
                             remedy=f"Write {','.join(f'{i}=20' for i in inputs)}.") from None
        if not 0 <= drive[name] < float("inf"):
            raise UsageError(f"a rate of {value} Hz is not possible", where="--drives")
    missing = [i for i in inputs if i not in drive]
    if missing:
        raise UsageError(f"'{word}' has no rate for {', '.join(missing)}", where="--drives")
    return {i: drive[i] for i in inputs}


def experiments(network: Network, drives: Sequence[Mapping[str, float]], scale: float | None = None,
                duration: float = DURATION) -> tuple[Experiment, ...]:
    """One experiment of one trial per drive; `duration` in ms."""
    if not duration >= 100.0:
        raise UsageError(f"{duration / 1000.0:g} s: a rate needs time", where="--duration",
                         remedy="Give 0.1 s or more; 2 is usual.")
    factor, before = scale_of(network, scale), settling_time(network)
    return tuple(Experiment(network, (constant(d, duration, before),), 1, factor) for d in drives)


def kept_file(run: Run, experiment: Experiment, sampling: Sampling) -> Path:
    """Where the rungs of one drive are kept; another network, drive, scale or duration has another name."""
    ways = [[r.name, r.base, r.excitatory, r.inhibitory] for r in RUNGS]
    return run.folder / "explain" / f"{content_hash([experiment.id, asdict(sampling), ways])}.json"


def results_file(run: Run) -> Path:
    return run.folder / "explain.json"


# --- the stage ------------------------------------------------------------------------------------


def run_explanation(run: Run, pool: Any, log: Log, drives: Sequence[str] | None = None, scale: float | None = None,
                    duration: float = DURATION, sampling: Sampling | None = None) -> dict[str, Any] | None:
    """Climb the ladder at every drive, a drive per rank at a time; the result on rank 0, also in ``explain.json``.

    Raises
    ------
    MeanFieldError
        If the run has no model yet.
    SimulationError
        If a simulation failed.
    """
    from automfm_hpc.pools import map_tasks
    from automfm_hpc.progress import progress

    how = sampling or Sampling()
    network = run.read_plan().network
    asked = experiments(network, parse_drives(drives, network), scale, duration)
    tasks: list[int] = []
    with on_root(pool) as root:
        if root:
            if not run.model.exists():
                raise MeanFieldError("has no model", where=str(run.folder),
                                     remedy=f"Run `automfm fit {run.folder}` first.")
            tasks = [k for k, e in enumerate(asked) if _kept(kept_file(run, e, how)) is None]
            if tasks:
                log(f"explain: {len(tasks)} of {len(asked)} drives to do")
                prepare_nest(network, log)
    tasks = pool.bcast(tasks)
    failures: list[str] = []

    def keep(task: int, found: Mapping[str, Any]) -> None:
        write_json(kept_file(run, asked[task], how), plain(found))

    map_tasks(pool, partial(_climb, asked, how, own_communicator(pool)), tasks, keep,
              on_failure=lambda task, error: failures.append(str(error)),
              report=progress("explain") if tasks else None)
    result: dict[str, Any] | None = None
    with on_root(pool) as root:
        if root:
            result = _collect(run, asked, how, failures)
            write_json(results_file(run), result)
    return result


def _climb(asked: Sequence[Experiment], sampling: Sampling, communicator: int | None, task: int) -> dict[str, Any]:
    return climb(asked[task], sampling, communicator)


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _collect(run: Run, asked: Sequence[Experiment], sampling: Sampling, failures: Sequence[str]) -> dict[str, Any]:
    from automfm_hpc.mean_field import MeanField

    plan = run.read_plan()
    model = resized(MeanField.load(run.folder), plan.network, asked[0].scale)
    below = model_rungs(sampled_like(plan), model.has_cell_response)
    found = []
    for experiment in asked:
        kept = _kept(kept_file(run, experiment, sampling))
        if kept is None:
            raise SimulationError(failures[0] if failures else "a drive failed on another rank", where="explain",
                                  remedy="What is done is kept; run the same command again to go on.")
        found.append({"drive": dict(experiment.protocols[0].background), **with_model(kept, model, below)})
    first = asked[0]
    return {
        "network": plan.network.name, "variant": plan.network.variant, "scale": first.scale,
        "duration": first.protocols[0].duration, "presimulation": first.protocols[0].presimulation,
        "identity": content_hash([e.id for e in asked]), "sampling": asdict(sampling),
        "rungs": [{k: getattr(r, k) for k in ("name", "base", "cost")} for r in (*RUNGS, *below)],
        "drives": found,
    }  # fmt: skip


# --- the model's rungs ----------------------------------------------------------------------------


def with_model(found: Mapping[str, Any], model: MeanField, below: Sequence[Rung]) -> dict[str, Any]:
    """The rungs of one drive with the model's added: transfer functions at the network's rates, mean field.

    The inputs have the rate that their sources had in the recording, not the one asked for: else the chance of
    a few seconds would be counted as an error of the model.
    """
    from automfm_hpc.mesoscopic import answer, driven

    rates = dict(found["inputs"]) | {n: p["rungs"]["network"]["rate"] for n, p in found["populations"].items()}
    answers: dict[str, dict[str, float]] = {TRANSFER: {}}
    warnings: list[str] = []
    for tf in model.transfer_functions:
        nu = [rates[axis] for axis in tf.axes]
        answers[TRANSFER][tf.population] = float(tf(nu))
        if not tf.inside(nu):
            warnings.append(f"the network's rates lie outside what the transfer function of {tf.population} covers")
    if model.has_cell_response:
        kept = round(found["start"] / ACTIVITY_BIN)
        course = driven(model, found["activity"], ACTIVITY_BIN)[kept:]
        answers[DRIVEN] = dict(zip(model.populations, course.mean(axis=0).tolist(), strict=True))
    for order, name in ((1, FIRST), (2, SECOND)):
        solved = answer(model, found["inputs"], 1.0, order)
        answers[name] = solved["rates"]
        warnings += [f"order {order}: {w}" for w in solved["warnings"]]
    populations = {name: {**p, "rungs": _added(p["rungs"], {k: a[name] for k, a in answers.items()}, below)}
                   for name, p in found["populations"].items()}
    return {**found, "populations": populations, "warnings": warnings}


def _added(rows: Mapping[str, Any], answers: Mapping[str, float], below: Sequence[Rung]) -> dict[str, Any]:
    """Rungs of one population with the model's rates (Hz) added, each compared with its base."""
    result = dict(rows)
    for rung in below:
        deviation = answers[rung.name] - rows["network"]["rate"]
        result[rung.name] = {"rate": answers[rung.name], "deviation": deviation,
                             "cost": deviation - result[rung.base]["deviation"]}
    return result


def plain(value: Any) -> Any:
    """Plain data without NaN: None instead."""
    from automfm_hpc.validation import _plain

    return _plain(value)


def read_explanation(run: Run) -> dict[str, Any]:
    """The last explanation of a run.

    Raises
    ------
    StoreError
        If there is none.
    """
    found = _kept(results_file(run))
    if found is None:
        raise StoreError("holds no explanation", where=str(run.folder),
                         remedy=f"Run `automfm validate {run.folder} --explain` first.")
    return found
