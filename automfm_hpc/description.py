"""Reading and writing network descriptions: YAML with units, every mistake named with its place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from automfm_hpc.errors import NetworkError, suggest
from automfm_hpc.network import Distribution, Input, Network, Population, Projection
from automfm_hpc.neurons import neuron_model
from automfm_hpc.units import parse, text
from automfm_hpc.variants import check_receptors, non_negative, plain_number


class _Loader(yaml.SafeLoader):
    """YAML reader that refuses a key given twice instead of keeping the last one silently."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise NetworkError("a key must be a single word", where=f"line {key_node.start_mark.line + 1}")
        if key_node.value in seen:
            raise NetworkError(f"key '{key_node.value}' stands twice", where=f"line {key_node.start_mark.line + 1}")
        seen.add(key_node.value)
    loader.flatten_mapping(node)  # keys merged by '<<' come first, so the mapping's own keys win
    return {loader.construct_object(k, deep=True): loader.construct_object(v, deep=True) for k, v in node.value}


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def builtin_names() -> tuple[str, ...]:
    """Names of the networks that come with the package."""
    folder = resources.files("automfm_hpc") / "networks"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))


def load(name_or_file: str | Path) -> Network:
    """Read a built-in network by name, or any network from a YAML file.

    Raises
    ------
    NetworkError
        Naming the file, the place in it, and what to write instead.
    """
    where = str(name_or_file)
    content = _content(where)
    try:
        data = yaml.load(content, _Loader)
    except yaml.YAMLError as error:
        raise NetworkError(f"is not valid YAML ({' '.join(str(error).split())})", where=where) from None
    except NetworkError as error:
        raise NetworkError(error.what, where=f"{where}, {error.where}") from None
    if isinstance(data, dict) and isinstance(data.get("connections"), str):
        beside = Path(where).parent / data["connections"]
        if not beside.is_file():
            raise NetworkError(f"no such file: {beside}", where=f"{where}: connections",
                               remedy="Put it beside the description, or run `automfm import-bsb` again.")
        data["connections"] = str(beside)
    return from_dict(data, where)


def _content(name_or_file: str) -> str:
    if name_or_file in builtin_names():
        return (resources.files("automfm_hpc") / "networks" / f"{name_or_file}.yaml").read_text("utf-8")
    if not Path(name_or_file).is_file():
        raise NetworkError("is neither a file nor a built-in network", where=name_or_file,
                           remedy=suggest(name_or_file, builtin_names()))
    try:
        return Path(name_or_file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NetworkError(f"cannot be read as text ({error})", where=name_or_file) from None


def from_dict(data: object, where: str = "network") -> Network:
    """Check a description read from YAML or JSON and freeze it."""
    root = _Node(data, where)
    root.known("name description region species pathology variant T groups populations inputs projections "
               "variants working_points connections connections_id")  # fmt: skip
    populations = tuple(_population(n, k) for k, n in root.items("populations"))
    inputs = tuple(_input(n, k) for k, n in root.items("inputs", optional=True))
    network = Network(
        name=str(root.get("name", Path(where).stem)),
        populations=populations,
        inputs=inputs,
        projections=(),
        T=root.quantity("T", "ms", 5.0, positive=True),
        description=str(root.get("description", "")),
        region=str(root.get("region", "")),
        species=str(root.get("species", "")),
        pathology=str(root.get("pathology", "control")),
        variant=str(root.get("variant", "control")),
        groups=MappingProxyType({k: _group(n) for k, n in root.items("groups", optional=True)}),
    )
    _check_names(network, where)
    network = replace(network, projections=tuple(_projection(n, k, network)
                                                 for k, n in root.items("projections")))
    check_receptors(network, where)
    connections, identity = _connections(root)
    network = replace(network, working_points=_working_points(root, network), connections=connections,
                      connections_id=identity)
    return _with_variants(network, root)


def _connections(root: _Node) -> tuple[str | None, str]:
    """File of the true connections, and the hash of its content; what a plan says of them holds without the file."""
    if root.get("connections") is None:
        return None, ""
    path, said = Path(str(root.get("connections"))).absolute(), str(root.get("connections_id", ""))
    where = f"{root.where}: connections"
    if not path.is_file() and not said:
        raise NetworkError(f"no such file: {path}", where=where,
                           remedy="Put it beside the description, or run `automfm import-bsb` again.")
    found = file_id(path) if path.is_file() else said
    if said and found != said:
        raise NetworkError(f"{path} is not the file it was ({found}, not {said})", where=where,
                           remedy="Run `automfm import-bsb` again.")
    return str(path), found


def file_id(path: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _with_variants(network: Network, root: _Node) -> Network:
    variants: dict[str, Mapping[str, Any]] = {}
    for name, node in root.items("variants", optional=True):
        node.known("pathology description changes")
        for _, change in node.items("changes"):
            if not isinstance(change.data, (str, int, float)):
                raise NetworkError("is neither a quantity nor a factor like 'x0.76'", where=change.where)
        variants[name] = MappingProxyType(dict(node.data))
    network = replace(network, variants=MappingProxyType(variants))
    if network.variant not in variants:
        for name in variants:
            network.with_variant(name)  # a variant that cannot be applied is an error of the description
    return network


def _group(node: _Node) -> tuple[str, ...]:
    if not isinstance(node.data, list) or not node.data:
        raise NetworkError("must be a list of populations, as [BC, SC]", where=node.where)
    return tuple(map(str, node.data))


@dataclass(frozen=True)
class _Node:
    """A piece of the description together with its place, for messages."""

    data: Any
    where: str

    def __post_init__(self) -> None:
        if self.data is None:
            raise NetworkError("is empty", where=self.where)

    def mapping(self) -> Mapping[Any, Any]:
        if not isinstance(self.data, Mapping):
            raise NetworkError(f"must be a mapping, not {type(self.data).__name__}", where=self.where)
        return self.data

    def known(self, words: str | Iterable[str]) -> None:
        accepted = words.split() if isinstance(words, str) else list(words)
        for key in self.mapping():
            if key not in accepted:
                raise NetworkError(f"unknown key '{key}'", where=self.where, remedy=suggest(key, accepted))

    def get(self, key: str, default: object = None) -> Any:
        return self.mapping().get(key, default)

    def child(self, key: str) -> _Node:
        if key not in self.mapping():
            raise NetworkError(f"needs the key '{key}'", where=self.where)
        return _Node(self.mapping()[key], f"{self.where}: {key}" if ":" not in self.where else f"{self.where}.{key}")

    def items(self, key: str, optional: bool = False) -> list[tuple[str, _Node]]:
        if optional and self.get(key) is None:
            return []
        node = self.child(key)
        return [(str(name), node.child(name)) for name in node.mapping()]

    def quantity(self, key: str, unit: str, default: float | None = None, positive: bool = False) -> float:
        if key not in self.mapping() and default is not None:
            return default
        node = self.child(key)
        value = parse(node.data, unit, node.where)
        if positive and value <= 0:
            raise NetworkError(f"{value:g} {unit} must be larger than 0", where=node.where)
        return value

    def interval(self, key: str, unit: str) -> tuple[float, float]:
        node = self.child(key)
        if not isinstance(node.data, list) or len(node.data) != 2:
            raise NetworkError(f"must be a list of two quantities, as [0 {unit}, 100 {unit}]", where=node.where)
        low, high = (parse(v, unit, node.where) for v in node.data)
        if not 0 <= low < high:
            raise NetworkError(f"needs 0 <= low < high, not {low:g} and {high:g} {unit}", where=node.where)
        return low, high

    def count(self, key: str) -> int:
        node = self.child(key)
        if isinstance(node.data, bool) or not isinstance(node.data, int) or node.data < 1:
            raise NetworkError(f"{node.data!r} must be a whole number of at least 1", where=node.where)
        return node.data


def _distribution(node: _Node) -> Distribution:
    if not isinstance(node.data, Mapping):
        return Distribution(non_negative(plain_number(node.data, node.where), node.where))
    node.known("mean sd")
    mean, sd = (non_negative(plain_number(node.get(k, 0.0), f"{node.where}.{k}"), f"{node.where}.{k}")
                for k in ("mean", "sd"))
    if mean == 0 and sd > 0:
        raise NetworkError("a mean of 0 cannot have a spread", where=node.where)
    return Distribution(mean, sd)


def _population(node: _Node, name: str) -> Population:
    node.known("size model parameters rate_range")
    model = neuron_model(str(node.child("model").data), f"{node.where}.model")
    given = node.child("parameters")
    for key in given.mapping():
        if key not in model.units:
            raise NetworkError(f"unknown parameter '{key}' of {model.name}", where=given.where,
                               remedy=suggest(key, model.units))
    parameters = {key: given.quantity(key, model.units[key]) for key in given.mapping()}
    model.check(parameters, given.where)
    rate_range = node.interval("rate_range", "Hz") if "rate_range" in node.mapping() else None
    return Population(name, node.count("size"), model.name, MappingProxyType(parameters), rate_range)


def _input(node: _Node, name: str) -> Input:
    node.known("sources relays rate rate_range")
    sources = None if node.get("sources") == "private" else node.count("sources")
    relays = node.count("relays") if "relays" in node.mapping() else None
    rate = non_negative(node.quantity("rate", "Hz"), f"{node.where}.rate")
    return Input(name, sources, rate, node.interval("rate_range", "Hz"), relays)


def _projection(node: _Node, name: str, network: Network) -> Projection:
    node.known("indegree synapses_per_pair weight tau_syn E_rev delay")
    pair, _, _ = name.partition("/")
    source, arrow, target = (s.strip() for s in pair.partition("->"))
    if not arrow:
        raise NetworkError("a projection is named 'source->target' or 'source->target/pathway'", where=node.where)
    sources = network.population_names + network.input_names
    for word, known in ((source, sources), (target, network.population_names)):
        if word not in known:
            raise NetworkError(f"unknown population '{word}'", where=node.where, remedy=suggest(word, known))
    model = network.population(target).neuron
    weight = node.quantity("weight", model.weight_unit)
    if model.weight_unit == "nS" and weight < 0:
        raise NetworkError(f"a conductance of {weight:g} nS cannot be negative", where=f"{node.where}.weight",
                           remedy="Inhibition is in E_rev.")
    synapses = node.child("synapses_per_pair") if "synapses_per_pair" in node.mapping() else None
    delay, delay_sd = _delay(node)
    return Projection(
        name=name, source=source, target=target, weight=weight,
        indegree=_distribution(node.child("indegree")),
        synapses=_distribution(synapses) if synapses else Distribution(1.0),
        tau_syn=None if model.synapse == "delta" else node.quantity("tau_syn", "ms", positive=True),
        E_rev=node.quantity("E_rev", "mV") if model.weight_unit == "nS" else None,
        delay=delay, delay_sd=delay_sd,
    )  # fmt: skip


def _delay(node: _Node) -> tuple[float, float]:
    """Mean and standard deviation (ms): one quantity, or a mapping with `mean` and `sd`."""
    if not isinstance(node.get("delay"), Mapping):
        return node.quantity("delay", "ms", 1.0, positive=True), 0.0
    spread = node.child("delay")
    spread.known("mean sd")
    return (spread.quantity("mean", "ms", positive=True),
            non_negative(spread.quantity("sd", "ms", 0.0), f"{spread.where}.sd"))


def _working_points(root: _Node, network: Network) -> Mapping[str, tuple[float, ...]]:
    points: dict[str, tuple[float, ...]] = {}
    known = network.population_names + network.input_names
    for name, node in root.items("working_points", optional=True):
        if name not in known:
            raise NetworkError(f"unknown population '{name}'", where=node.where, remedy=suggest(name, known))
        if not isinstance(node.data, list):
            raise NetworkError("must be a list of rates with units", where=node.where)
        points[name] = tuple(non_negative(parse(v, "Hz", node.where), node.where) for v in node.data)
    if len({len(p) for p in points.values()}) > 1:
        raise NetworkError("working points need the same number of rates for every population", where=root.where)
    return MappingProxyType(points)


def _check_names(network: Network, where: str) -> None:
    names = [*network.population_names, *network.input_names, *network.groups]
    for name in names:
        if not re.fullmatch(r"\w[\w+-]*", name):
            raise NetworkError(f"'{name}' cannot be a name", where=where, remedy="Use letters, digits, _, + and -.")
        if names.count(name) > 1:
            raise NetworkError(f"'{name}' names two things among populations, inputs and groups", where=where)
    for group, members in network.groups.items():
        for member in members:
            if member not in network.population_names:
                raise NetworkError(f"unknown population '{member}'", where=f"{where}: groups.{group}",
                                   remedy=suggest(member, network.population_names))


# --- writing ------------------------------------------------------------------------------------


def to_dict(network: Network) -> dict[str, Any]:
    """The description as plain data with units, equal after `from_dict`."""
    result: dict[str, Any] = {
        key: getattr(network, key) for key in ("name", "description", "region", "species", "pathology", "variant")
    }
    result["T"] = text(network.T, "ms")
    result["groups"] = {k: list(v) for k, v in network.groups.items()}
    result["populations"] = {p.name: _population_dict(p) for p in network.populations}
    result["inputs"] = {i.name: _input_dict(i) for i in network.inputs}
    result["projections"] = {p.name: _projection_dict(p, network) for p in network.projections}
    result["variants"] = {k: {**v, "changes": dict(v["changes"])} for k, v in network.variants.items()}
    result["working_points"] = {k: [text(r, "Hz") for r in v] for k, v in network.working_points.items()}
    result["connections"], result["connections_id"] = network.connections or "", network.connections_id
    return {k: v for k, v in result.items() if v not in ({}, "")}


def _population_dict(population: Population) -> dict[str, Any]:
    units = population.neuron.units
    data: dict[str, Any] = {"size": population.size, "model": population.model,
                            "parameters": {k: text(v, units[k]) for k, v in population.parameters.items()}}
    if population.rate_range:
        data["rate_range"] = [text(r, "Hz") for r in population.rate_range]
    return data


def _input_dict(source: Input) -> dict[str, Any]:
    data: dict[str, Any] = {"sources": source.sources or "private", "rate": text(source.rate, "Hz"),
                            "rate_range": [text(r, "Hz") for r in source.rate_range]}
    if source.relays:
        data["relays"] = source.relays
    return data


def _projection_dict(projection: Projection, network: Network) -> dict[str, Any]:
    unit = network.population(projection.target).neuron.weight_unit
    data: dict[str, Any] = {
        "indegree": {"mean": projection.indegree.mean, "sd": projection.indegree.sd},
        "synapses_per_pair": {"mean": projection.synapses.mean, "sd": projection.synapses.sd},
        "weight": text(projection.weight, unit),
        "delay": text(projection.delay, "ms"),
    }
    if projection.delay_sd:
        data["delay"] = {"mean": data["delay"], "sd": text(projection.delay_sd, "ms")}
    if projection.tau_syn is not None:
        data["tau_syn"] = text(projection.tau_syn, "ms")
    if projection.E_rev is not None:
        data["E_rev"] = text(projection.E_rev, "mV")
    return data
