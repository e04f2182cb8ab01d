"""From a BSB network and its simulation part to a network description with true connections."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from automfm_hpc.bsb.files import BsbFile, IntArray, SynapseSet
from automfm_hpc.bsb.relays import Origin, Ports, composed, origins, ports
from automfm_hpc.bsb.report import Report, Wired, report_cells, report_projections
from automfm_hpc.bsb.synapses import CellModel, Synapse, cell_model, number, synapse
from automfm_hpc.connections import Connections
from automfm_hpc.errors import NetworkError, suggest
from automfm_hpc.units import text

_SETTINGS = ("name", "description", "region", "species", "pathology", "T", "groups", "variants", "working_points")
_RECORDERS = ("spike_recorder", "multimeter", "voltmeter")


class Settings:
    """The block `automfm` of the configuration: what BSB has no place for."""

    def __init__(self, block: Any, where: str) -> None:
        self.block: Mapping[str, Any] = block if block is not None else {}
        known = (*_SETTINGS, "names", "pathways", "inputs", "through", "rate_ranges")
        if not isinstance(self.block, Mapping):
            raise NetworkError("must be a mapping", where=f"{where}: automfm")
        for key in self.block:
            if key not in known:
                raise NetworkError(f"unknown key '{key}'", where=f"{where}: automfm", remedy=suggest(key, known))
            if key in known[len(_SETTINGS):] and not isinstance(self.block[key], Mapping):
                raise NetworkError("must be a mapping", where=f"{where}: automfm.{key}")
        self.where = f"{where}: automfm"

    def part(self, key: str) -> Mapping[str, Any]:
        return self.block.get(key) or {}

    def name(self, cell_type: str) -> str:
        return str(self.part("names").get(cell_type, cell_type))

    def check(self, file: BsbFile, inputs: Collection[str]) -> None:
        """Raise NetworkError where two cell types share a name, or a key names nothing in the file."""
        names = [self.name(n) for n in file.sizes]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise NetworkError(f"two cell types are called {twice[0]}", where=f"{self.where}.names")
        for key, known in (("through", [*file.sets]), ("inputs", [self.name(i) for i in inputs])):
            for word in self.part(key):
                if word not in known:
                    raise NetworkError(f"no '{word}' in the file", where=f"{self.where}.{key}",
                                       remedy=suggest(word, known))


@dataclass(frozen=True)
class Parts:
    """Cell models of the file, by what they are."""

    cells: Mapping[str, CellModel]
    relays: Mapping[str, int]


def translate(file: BsbFile, simulation: Mapping[str, Any], settings: Settings,
              report: Report) -> tuple[dict[str, Any], dict[str, Connections], dict[str, IntArray]]:
    """Description (plain data), connections by projection name, and relays by input name."""
    parts = _parts(file, simulation, report)
    models = _connection_models(file, simulation, parts, report)
    sets = [s for s in file.sets.values() if s.tag in models]
    origin = origins(parts.relays, sets, file.path)
    carrying = {s.source for s in sets if s.source in origin and s.target in parts.cells}
    inputs = ports(origin, carrying)
    settings.check(file, inputs)
    wired = list(_wired(sets, models, parts, origin, inputs, settings, file, report))
    _relay_delays(sets, models, parts, report)
    projections, connections = _projections(wired, parts, file, settings)
    devices = simulation.get("devices") or {}
    described = {
        **{k: settings.block[k] for k in _SETTINGS if k in settings.block},
        "populations": {settings.name(n): _population(c, file.sizes[n], settings) for n, c in parts.cells.items()},
        "inputs": {settings.name(r): _input(r, p, file, parts, devices, settings) for r, p in inputs.items()},
        "projections": projections,
    }
    _devices(devices, parts, described, settings, file, report)
    names = {n: settings.name(n) for n in file.sizes}
    driven = {t for d in devices.values() for t in _background(d)}
    report_cells(file, parts.cells, inputs, wired, driven, names, report)
    report_projections(file, wired, names, report)
    return described, connections, {settings.name(r): p.owner for r, p in inputs.items()}


# --- cells ----------------------------------------------------------------------------------------


def _parts(file: BsbFile, simulation: Mapping[str, Any], report: Report) -> Parts:
    cells, relays = {}, {}
    for name, node in simulation["cell_models"].items():
        if not file.sizes.get(name):
            report.dropped.append(f"cell model {name}: the file has no such cells")
            continue
        model = cell_model(name, node, f"{file.path}: cell_models.{name}")
        if model.is_relay:
            relays[name] = file.sizes[name]
            continue
        cells[name] = model
        if model.left_out:
            report.dropped.append(f"{name}: {', '.join(model.left_out)} (start of a simulation, not of the cell)")
    for name, size in file.sizes.items():
        if name not in simulation["cell_models"]:
            report.dropped.append(f"{name}: {size} cells without a cell model in the simulation part")
    for name in file.labelled:
        report.dropped.append(f"{name}: labels of cells, all are taken as one population")
    if not cells:
        raise NetworkError("no cells: none of its cell types has a neuron model", where=file.path)
    return Parts(cells, relays)


def _population(cell: CellModel, size: int, settings: Settings) -> dict[str, Any]:
    data: dict[str, Any] = {"size": size, "model": cell.model, "parameters": cell.parameters()}
    span = settings.part("rate_ranges").get(settings.name(cell.name))
    return {**data, "rate_range": span} if span else data


def _input(root: str, port: Ports, file: BsbFile, parts: Parts, devices: Mapping[str, Any],
           settings: Settings) -> dict[str, Any]:
    name = settings.name(root)
    given = dict(settings.part("inputs").get(name) or {})
    rate = next((number(d.get("rate"), f"{file.path}: devices.{n}.rate") for n, d in devices.items()
                 if root in _background(d)), None)
    if "rate" not in given and rate is None:
        raise NetworkError(f"the rate of the input {name} is not given", where=file.path,
                           remedy=f"Add a poisson_generator on {root} to the simulation part, or "
                                  f"automfm: {{inputs: {{{name}: {{rate: 20 Hz}}}}}} to the configuration.")
    data = {"sources": parts.relays[root], "rate": text(rate or 0.0, "Hz"),
            "rate_range": ["0 Hz", text(max(100.0, 2 * (rate or 0.0)), "Hz")], **given}
    return data if set(port.number) == {root} else {**data, "relays": int(port.owner.size)}


def _background(device: Mapping[str, Any]) -> tuple[str, ...]:
    """Cell types that a lasting Poisson generator drives, as a whole."""
    aim = device.get("targetting")
    aim = aim if isinstance(aim, Mapping) else {}
    lasting = not device.get("start") and device.get("stop") is None
    whole = aim.get("strategy") == "cell_model" and aim.get("count") is None and aim.get("fraction") is None
    return tuple(aim.get("cell_models") or ()) if device.get("device") == "poisson_generator" and lasting and whole \
        else ()


def _devices(devices: Mapping[str, Any], parts: Parts, described: dict[str, Any], settings: Settings,
             file: BsbFile, report: Report) -> None:
    """Poisson generators on cells become private inputs; what else is no recorder is named as dropped."""
    for name, device in devices.items():
        targets = _background(device)
        for target in (t for t in targets if t in parts.cells):
            s = synapse({**device, "model": "static_synapse"}, parts.cells[target], f"{file.path}: devices.{name}")
            rate = number(device.get("rate"), f"{file.path}: devices.{name}.rate")
            described["inputs"][name] = {"sources": "private", "rate": text(rate, "Hz"),
                                         "rate_range": ["0 Hz", text(max(100.0, 2 * rate), "Hz")]}
            described["projections"][f"{name}->{settings.name(target)}"] = {
                "indegree": 1, **_synapse_data(s, parts.cells[target])}
        if not targets and device.get("device") not in _RECORDERS:
            report.dropped.append(f"device {name} ({device.get('device')}): not a lasting Poisson input of a whole "
                                  "cell type; give it as a protocol")


# --- connections ----------------------------------------------------------------------------------


def _connection_models(file: BsbFile, simulation: Mapping[str, Any], parts: Parts,
                       report: Report) -> dict[str, Any]:
    """Tag -> connection model of the sets that are kept."""
    models = {str(node.get("tag") or key): node for key, node in simulation["connection_models"].items()}
    for tag in models:
        if tag not in file.sets:
            report.dropped.append(f"connection model {tag}: the file has no such connections")
    kept = {}
    for tag, s in file.sets.items():
        reason = _unused(s, models.get(tag), parts)
        if reason:
            report.dropped.append(f"{tag} ({s.source} to {s.target}, {s.pre.size} synapses): {reason}")
        else:
            kept[tag] = models[tag]
    return kept


def _unused(s: SynapseSet, model: Any, parts: Parts) -> str:
    kinds = [str(n.get("model", "")) for n in (model or {}).get("synapses") or () if isinstance(n, Mapping)]
    if "gap_junction" in kinds:
        return "gap junctions, and the mean field knows chemical synapses only"
    if model is None:
        return "no connection model in the simulation part" + (
            "; gap junctions by its name" if s.tag.startswith("gap") else "")
    missing = [n for n in (s.source, s.target) if n not in parts.cells and n not in parts.relays]
    return f"no cell model for {' and '.join(dict.fromkeys(missing))}" if missing else ""


def _wired(sets: list[SynapseSet], models: Mapping[str, Any], parts: Parts, origin: Mapping[str, Origin],
           inputs: Mapping[str, Ports], settings: Settings, file: BsbFile, report: Report) -> Iterator[Wired]:
    for s in sets:
        if s.source in parts.cells and s.target in parts.relays:
            yield from _through(s, models, parts, settings, file, report)
        elif s.target in parts.cells and (s.source in parts.cells or s.source in origin):
            source, pairs = _start(s, parts, origin, inputs, report)
            yield Wired(s.tag, source, s.target, _synapses(s.tag, models, parts.cells[s.target], file), pairs)


def _start(s: SynapseSet, parts: Parts, origin: Mapping[str, Origin], inputs: Mapping[str, Ports],
           report: Report) -> tuple[str, Connections]:
    """Source of a set that ends at cells, and its pairs; relays are numbered as the input's relays."""
    if s.source in parts.cells:
        return s.source, Connections.from_synapses(s.pre, s.post)
    root = origin[s.source].root
    pre = inputs[root].number[s.source][s.pre]
    heard = pre >= 0
    if not heard.all():
        report.dropped.append(f"{s.tag}: {int((~heard).sum())} synapses of {s.source} cells that nothing drives")
    return root, Connections.from_synapses(pre[heard], s.post[heard])


def _through(s: SynapseSet, models: Mapping[str, Any], parts: Parts, settings: Settings, file: BsbFile,
             report: Report) -> Iterator[Wired]:
    """Cells that reach other cells through relays, where the settings say which set leads on."""
    onward = settings.part("through").get(s.tag)
    if onward is None:
        report.dropped.append(f"{s.tag} ({s.pre.size} synapses): cells onto relays; to keep it, name the set that "
                              f"leads on: automfm: {{through: {{{s.tag}: SET}}}}")
        return
    second = file.sets.get(onward)
    if second is None or second.source != s.target or second.target not in parts.cells:
        raise NetworkError(f"'{onward}' does not lead from {s.target} to cells", where=f"{file.path}: "
                           f"automfm.through.{s.tag}", remedy=suggest(onward, file.sets))
    yield Wired(s.tag, s.source, second.target, _synapses(s.tag, models, parts.cells[second.target], file),
                composed(s, second))


def _synapses(tag: str, models: Mapping[str, Any], target: CellModel, file: BsbFile) -> tuple[Synapse, ...]:
    where = f"{file.path}: connection_models.{tag}"
    nodes = models[tag].get("synapses")
    if not isinstance(nodes, list) or not nodes:
        raise NetworkError("needs a list of synapses", where=where)
    if models[tag].get("rule"):
        raise NetworkError(f"the rule '{models[tag]['rule']}' would replace the true connections", where=where,
                           remedy="Remove the rule.")
    return tuple(synapse(n, target, where) for n in nodes)


def _relay_delays(sets: list[SynapseSet], models: Mapping[str, Any], parts: Parts, report: Report) -> None:
    for s in (s for s in sets if s.source in parts.relays and s.target in parts.relays):
        delay = next((n.get("delay") for n in models[s.tag].get("synapses") or () if isinstance(n, Mapping)), None)
        if delay:
            report.dropped.append(f"{s.tag}: its delay of {delay} ms, which shifts the whole input alike")


def _projections(wired: list[Wired], parts: Parts, file: BsbFile,
                 settings: Settings) -> tuple[dict[str, Any], dict[str, Connections]]:
    """Descriptions and connections by projection name; in-degrees as counted from the pairs."""
    described, connections = {}, {}
    for w in wired:
        indegree, per_pair = w.pairs.indegree(file.sizes[w.target]), w.pairs.per_pair()
        for i, s in enumerate(w.synapses):
            name = _projection_name(w, i, wired, settings)
            described[name] = {"indegree": asdict(indegree), "synapses_per_pair": asdict(per_pair),
                               **_synapse_data(s, parts.cells[w.target])}
            connections[name] = w.pairs
    return described, connections


def _projection_name(w: Wired, i: int, wired: list[Wired], settings: Settings) -> str:
    """``source->target``, with the pathway where there are several."""
    alike = sum(len(o.synapses) for o in wired if (o.source, o.target) == (w.source, w.target))
    pathway = str(settings.part("pathways").get(w.tag, w.tag)) + (f".{i + 1}" if len(w.synapses) > 1 else "")
    return f"{settings.name(w.source)}->{settings.name(w.target)}" + (f"/{pathway}" if alike > 1 else "")


def _synapse_data(s: Synapse, target: CellModel) -> dict[str, Any]:
    data = {"weight": text(s.weight, target.neuron.weight_unit), "delay": text(s.delay, "ms")}
    if s.tau_syn is not None:
        data["tau_syn"] = text(s.tau_syn, "ms")
    return data if s.E_rev is None else {**data, "E_rev": text(s.E_rev, "mV")}
