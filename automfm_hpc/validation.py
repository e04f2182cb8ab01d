"""Mean field against spiking network: the same drives to both, then scores, a verdict, and a table.

The network's trials lie in ``RUN/validation``, one store per kind of protocol, and are resumed like all stores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import validate
from automfm_hpc.errors import MeanFieldError, StoreError
from automfm_hpc.experiment import BIN, VALUES, Experiment
from automfm_hpc.network import Network
from automfm_hpc.protocols import KINDS, Protocol
from automfm_hpc.provenance import write_json
from automfm_hpc.run_folder import Run, on_root
from automfm_hpc.stages import Log, spike
from automfm_hpc.validate import KERNEL, Tolerance
from automfm_hpc.validation_plan import DROPPED, SEEDS, experiments, replanned, results_file, store_of
from automfm_hpc.validation_raster import keep_raster

if TYPE_CHECKING:
    from automfm_hpc.mean_field import MeanField

FloatArray = NDArray[np.float64]
REALIZATIONS = {"constant": 60, "sine": 300}  # of finite populations, for one protocol
COURSES = 1000  # the same for other kinds, all cycles counted: chance in a course would count against the mean field
FEWEST = 12  # whatever the cycles
KEPT = tuple(name for name in VALUES if name != "trains")
RETURN = 300.0  # ms after a protocol in which the mean field must come back
DENSE = 0.2  # part of its source's cells that a cell of a reduced network may be connected to without a note


# --- both sides of one protocol -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Comparison:
    """Network and mean field under one protocol, in bins of `BIN` ms.

    Parameters
    ----------
    protocol : Protocol
    activity : (n_seed, n_population, n_bin) array
        Hz; of several cycles, the mean of all but the first.
    rates : (n_seed, n_population) array
        Rates over the whole protocol (Hz).
    mean_field, sd : (n_population, n_bin) array
        Rate, and standard deviation of the filtered rate (Hz; NaN at order 1), at the bins' centres.
    status : str
    warnings : tuple of str
    """

    protocol: Protocol
    activity: FloatArray
    rates: FloatArray
    mean_field: FloatArray
    sd: FloatArray
    status: str
    warnings: tuple[str, ...]


def resized(model: MeanField, network: Network, scale: float) -> MeanField:
    """The model of the network at another scale: population sizes change, inputs keep their sources.

    What the model says about where it can be trusted is left out: it is what is to be found.
    """
    N = model.N.copy()
    N[: len(model.populations)] = [max(1, round(network.population(n).size * scale)) for n in model.populations]
    metadata = {k: v for k, v in model.metadata.items() if k != "validity"}
    return replace(model, N=N, metadata=metadata)


def compare(model: MeanField, experiment: Experiment, trials: Any, order: int = 2) -> list[Comparison]:
    """Solve the mean field under every protocol of an experiment, beside the network's trials (their dataset)."""
    names = list(model.populations)
    picked = trials[["activity", "rate"]].sel(name=names).load()
    found = []
    for k, protocol in enumerate(experiment.protocols):
        rate, sd, solved = solve_protocol(model, protocol, order)
        activity = folded(picked["activity"].isel(protocol=k).transpose("seed", "name", "time").values, protocol)
        rates = picked["rate"].isel(protocol=k).transpose("seed", "name").values
        found.append(Comparison(protocol, activity, rates, rate, sd, str(solved["status"]), tuple(solved["warnings"])))
    return found


def folded(course: FloatArray, protocol: Protocol) -> FloatArray:
    """Bins of all cycles over the last axis, averaged over all cycles but the first, which starts from rest."""
    if protocol.cycles == 1:
        return course
    return np.asarray(course.reshape(*course.shape[:-1], protocol.cycles, -1)[..., 1:, :].mean(axis=-2), float)


def solve_protocol(model: MeanField, protocol: Protocol,
                   order: int) -> tuple[FloatArray, FloatArray, Mapping[str, Any]]:
    """Rates and standard deviations (n_population, n_bin) in Hz; status and warnings.

    Order 2 of a model whose cells' response in time is known means realizations of its finite populations.
    """
    drive = {name: _and_back(course, protocol.background[name]) for name, course in protocol.drive().items()}
    duration = (protocol.presimulation + protocol.whole + RETURN) / 1000.0
    if order == 2 and model.has_cell_response:
        return _realized(model, protocol, drive, duration)
    solution = model.solve(drive=drive, duration=duration, order=order, every=5)
    times, n_bin = solution["time"].values * 1000.0, round(protocol.whole / BIN)

    def at(values: FloatArray) -> FloatArray:
        bins = [validate.at_bins(times, row, protocol.presimulation, n_bin, BIN) for row in values.T]
        return folded(np.stack(bins), protocol)

    rate = at(solution["rate"].values)
    warnings = [*solution.attrs["warnings"], *_strayed(model, solution["rate"].values)]
    answer = {"status": solution.attrs["status"], "warnings": warnings}
    if "covariance" not in solution:
        return rate, np.full(rate.shape, np.nan), answer
    variance = np.diagonal(solution["covariance"].values, axis1=1, axis2=2)
    return rate, np.sqrt(np.maximum(at(variance), 0.0)), answer


def _realized(model: MeanField, protocol: Protocol, drive: Mapping[str, Any],
              duration: float) -> tuple[FloatArray, FloatArray, Mapping[str, Any]]:
    trials = max(REALIZATIONS.get(protocol.kind, COURSES) // protocol.cycles, FEWEST)
    found = model.realizations(drive=drive, duration=duration, trials=trials, bin_ms=BIN)
    activity = found["activity"].transpose("population", "trial", "time").values
    first = round(protocol.presimulation / BIN)
    window = slice(first, first + round(protocol.whole / BIN))
    T = model.system.T
    sd = np.sqrt(folded(np.stack([validate.exponential(a, float(t), BIN).var(axis=0, ddof=1)[window]
                                  for a, t in zip(activity, T, strict=False)]), protocol))
    mean = activity.mean(axis=1)
    edges = np.stack([mean[:, :first].mean(axis=1), mean[:, -round(0.5 * RETURN / BIN):].mean(axis=1)])
    warnings = [*found.attrs["warnings"], *_strayed(model, edges)]
    return folded(mean[:, window], protocol), sd, {"status": found.attrs["status"], "warnings": warnings}


def _and_back(course: Any, background: float) -> Any:
    """A time course (s, Hz) that ends at the background."""
    return course if np.ndim(course) == 0 else np.concatenate([course, [[course[-1, 0] + 1e-6, background]]])


def _strayed(model: MeanField, rate: FloatArray) -> list[str]:
    """A sentence if, RETURN ms after the protocol, the mean field is not where it was before it."""
    before, after = rate[0], rate[-1]
    strayed = np.abs(after - before) > np.maximum(1.0, 0.1 * before)
    names = [f"{n} {b:.1f} -> {a:.1f} Hz" for n, b, a, s in
             zip(model.populations, before, after, strayed, strict=True) if s]
    return [f"the mean field did not come back, it has another stable state: {', '.join(names)}"] if names else []


# --- scores ---------------------------------------------------------------------------------------


def score(model: MeanField, comparison: Comparison, tolerance: Tolerance) -> dict[str, Any]:
    """Every population's scores under one protocol, as plain data."""
    p = comparison.protocol
    judge = {"constant": _constant, "sine": _sine}.get(p.kind, _course)
    rows = {name: judge(model, comparison, i, tolerance) for i, name in enumerate(model.populations)}
    return {"kind": p.kind, "name": p.name, "input": p.input, "background": dict(p.background),
            "settings": dict(p.settings), "status": comparison.status, "warnings": list(comparison.warnings),
            "populations": rows}


def _constant(model: MeanField, c: Comparison, i: int, tolerance: Tolerance) -> dict[str, Any]:
    half = c.mean_field.shape[1] // 2
    s = validate.stationary(c.rates[:, i], float(c.mean_field[i, half:].mean()))
    variance = validate.filtered_variance(c.activity[:, i], float(model.system.T[i]), BIN)
    return asdict(s) | {"within": tolerance.accepts(s.error, s.network, s.spread), "sd": float(np.sqrt(variance)),
                        "sd_mean_field": float(np.sqrt((c.sd[i, half:] ** 2).mean()))}


def _course(model: MeanField, c: Comparison, i: int, tolerance: Tolerance) -> dict[str, Any]:
    return _scored_course(c.activity[:, i], c.mean_field[i], tolerance)


def _scored_course(activity: FloatArray, mean_field: FloatArray, tolerance: Tolerance) -> dict[str, Any]:
    """Scores over time; the spread that counts is that of the PSTH, the mean over the seeds."""
    s = validate.time_course(activity, mean_field, KERNEL, BIN)
    return asdict(s) | {"within": tolerance.accepts(s.error, s.network, s.spread / np.sqrt(len(activity)))}


def _sine(model: MeanField, c: Comparison, i: int, tolerance: Tolerance) -> dict[str, Any]:
    window = slice(round(DROPPED / BIN) if c.protocol.cycles == 1 else 0, None)
    rate = c.protocol.rate()
    drive = (0.5 * (rate[1:] + rate[:-1]))[window]
    activity, course = c.activity[:, i, window], c.mean_field[i, window]
    r = validate.response(activity, drive, course, c.protocol.setting("frequency"), BIN)
    return _scored_course(activity, course, tolerance) | asdict(r)


def slopes(model: MeanField, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Slope of every population's rate against each input (Hz per Hz), with the network's standard error over seeds."""
    result: dict[str, Any] = {}
    for name in model.inputs:
        chosen = [comparisons[k] for k in varied_alone([c.protocol.background for c in comparisons], name)]
        drive = np.array([c.protocol.background[name] for c in chosen])
        each = validate.slope(drive, np.stack([c.rates for c in chosen], axis=-1))
        solved = validate.slope(drive, np.stack([c.mean_field.mean(axis=1) for c in chosen], axis=-1))
        n = len(each)
        error = each.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(each.shape[1], np.nan)
        result[name] = {p: {"network": float(each[:, i].mean()), "network_sem": float(error[i]),
                            "mean_field": float(solved[i])} for i, p in enumerate(model.populations)}
    return result


def varied_alone(backgrounds: Sequence[Mapping[str, float]], name: str) -> list[int]:
    """Which of some constant drives differ in one input only, the others having the value they have most often."""
    rest = {}
    for other in backgrounds[0]:
        values, counts = np.unique([b[other] for b in backgrounds], return_counts=True)
        rest[other] = float(values[np.argmax(counts)])
    return [k for k, b in enumerate(backgrounds) if all(b[i] == v for i, v in rest.items() if i != name)]


def verdict(scored: Sequence[Mapping[str, Any]], inputs: Sequence[str]) -> dict[str, Any]:
    """For each input the drives tested and the contiguous range of them where every population is within tolerance.

    Parameters
    ----------
    scored : sequence of mappings
        From `score`, of constant drives.
    inputs : sequence of str

    Returns
    -------
    dict
        Input -> tested (Hz), failing (populations at each of them), trusted ([lowest, highest] in Hz, or None).
    """
    result: dict[str, Any] = {}
    for name in inputs:
        chosen = [scored[k] for k in varied_alone([s["background"] for s in scored], name)]
        drives = [float(s["background"][name]) for s in chosen]
        failing = [[n for n, row in s["populations"].items() if not row["within"]] for s in chosen]
        trusted = validate.trusted_range(drives, [not f for f in failing])
        result[name] = {"tested": drives, "failing": failing, "trusted": list(trusted) if trusted else None}
    return result


# --- the stage ------------------------------------------------------------------------------------


def run_validation(run: Run, pool: Any, log: Log, kinds: Sequence[str] = tuple(KINDS), seeds: int = SEEDS,
                   scale: float | None = None, order: int = 2, tolerance: Tolerance | None = None,
                   distribute: int | None = None, cycles: int = 1) -> dict[str, Any] | None:
    """Run the missing trials on all ranks, score them, write ``validation.json``, and the verdict into the model.

    Parameters
    ----------
    cycles : int
        How often drives over time run in one trial; their scores are those of the mean over all but the first.
    distribute : int, optional
        Virtual processes of networks that all ranks run together; default: every rank runs trials of its own.

    Returns
    -------
    dict or None
        On rank 0: what ``validation.json`` holds.

    Raises
    ------
    MeanFieldError
        If the run has no model yet.
    """
    with on_root(pool) as root:
        if root and not run.model.exists():
            raise MeanFieldError("has no model", where=str(run.folder), remedy=f"Run `automfm fit {run.folder}` first.")
    network = run.read_plan().network
    how: dict[str, Any] = {"seeds": seeds, "scale": scale, "processes": distribute or 1, "cycles": cycles}
    planned = experiments(network, _with_earlier(run, network, kinds, how), **how)
    together = distribute is not None
    trials = {kind: spike(run, e, pool, log, store_of(run, kind, e), together, kept=KEPT)
              for kind, e in planned.items()}
    result: dict[str, Any] | None = None
    keep_raster(run, planned, pool, together)
    with on_root(pool) as root:
        if root:
            result = _judge(run, planned, trials, order, tolerance or Tolerance()) | {"cycles": cycles}
            write_json(results_file(run), result)
            if result["verdict"]:
                _keep_validity(run, result)
    return result


def _with_earlier(run: Run, network: Network, kinds: Sequence[str], how: Mapping[str, Any]) -> tuple[str, ...]:
    """Kinds of protocol, with those validated before in the same way (scale, seeds, ...), whose trials are kept."""
    first = next(iter(experiments(network, kinds[:1], **how).values()))
    try:
        earlier = json.loads(results_file(run).read_text("utf-8"))
        same = earlier.get("cycles", 1) == how["cycles"] and all(
            earlier.get(key, 1) == getattr(first, key) for key in ("scale", "seeds", "root", "processes"))
        again = experiments(network, earlier["kinds"] if same else (), **how)
        known = [k for k, e in again.items() if store_of(run, k, e).exists()]
    except (OSError, ValueError, KeyError):
        known = []
    return tuple(k for k in KINDS if k in kinds or k in known)


def _judge(run: Run, planned: Mapping[str, Experiment], trials: Mapping[str, Any], order: int,
           tolerance: Tolerance) -> dict[str, Any]:
    from automfm_hpc.mean_field import MeanField

    first = next(iter(planned.values()))
    model = resized(MeanField.load(run.folder), first.network, first.scale)
    compared = [c for kind, e in planned.items() for c in compare(model, e, trials[kind], order)]
    scored = [score(model, c, tolerance) for c in compared]
    constant = [c for c in compared if c.protocol.kind == "constant"]
    return _plain({
        "network": first.network.name, "variant": first.network.variant, "kinds": list(planned), "order": order,
        "scale": first.scale, "seeds": first.seeds, "root": first.root, "processes": first.processes, "kernel": KERNEL,
        "tolerance": asdict(tolerance), "sizes": _sizes(model), "notes": list(notes(first)), "protocols": scored,
        "slopes": slopes(model, constant) if constant else {},
        "verdict": verdict([s for s in scored if s["kind"] == "constant"], model.inputs) if constant else {},
    })  # fmt: skip


def _sizes(model: MeanField) -> dict[str, int]:
    return {name: int(n) for name, n in zip(model.populations, model.N, strict=False)}


def notes(experiment: Experiment) -> tuple[str, ...]:
    """What of the description could not stay at this scale: pairs that are repeated, sparse made dense."""
    from automfm_hpc.wiring import draw_wiring

    network, scale = experiment.network, experiment.scale
    if network.connections is not None:
        return ()
    sizes = {p.name: p.size for p in network.populations}
    parts = {p.name: p.indegree.mean / (sizes[p.source] * scale) for p in network.projections if p.source in sizes}
    dense = [f"{name} {100 * part:.0f} %" for name, part in parts.items() if part > DENSE and scale < 1]
    said = [f"at this scale cells are connected to a large part of their source ({', '.join(dense)}): their inputs are "
            "more correlated than at full scale, and rates differ from it"] if dense else []
    return (*draw_wiring(network, scale).notes, *said)


def _keep_validity(run: Run, result: Mapping[str, Any]) -> None:
    """Write the verdict into the model's metadata; all else stays as it is."""
    from automfm_hpc.store import read_model, write_model

    document = read_model(run.model)
    if "dataset" in document:
        document["dataset"] = document["dataset"].load()
    attributes = document["attributes"]
    validity = {"trusted": {name: v["trusted"] for name, v in result["verdict"].items()},
                **{k: result[k] for k in ("order", "scale", "seeds", "tolerance")}}
    metadata = {**attributes.get("metadata", {}), "validity": validity}
    write_model(run.model, {**document, "attributes": {**attributes, "metadata": metadata}})


# --- what was found, read again -------------------------------------------------------------------


def read_comparisons(run: Run) -> tuple[dict[str, Any], MeanField, list[Comparison]]:
    """The last validation of a run, its model at the network's scale, and both sides of every protocol.

    Raises
    ------
    StoreError
        If the run was not validated, or its trials are gone.
    """
    from automfm_hpc.mean_field import MeanField
    from automfm_hpc.store import TrialStore

    try:
        result = json.loads(results_file(run).read_text("utf-8"))
    except (OSError, ValueError):
        raise StoreError("holds no validation", where=str(run.folder),
                         remedy=f"Run `automfm validate {run.folder}` first.") from None
    network = run.read_plan().network
    planned = replanned(network, result)
    model = resized(MeanField.load(run.folder), network, result["scale"])
    compared = [c for kind, e in planned.items()
                for c in compare(model, e, TrialStore.open(store_of(run, kind, e), e).dataset(), result["order"])]
    return result, model, compared


def _plain(value: Any) -> Any:
    """Plain data without NaN: None instead."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
