"""The frozen description of a spiking network, and its reader and writer (YAML with units)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from automfm_hpc.errors import NetworkError, suggest
from automfm_hpc.neurons import NeuronModel, neuron_model
from automfm_hpc.units import parse, text

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Distribution:
    """Whole numbers that vary from cell to cell (in-degrees) or pair to pair (synapses).

    `sd` = 0 means the same number everywhere. Otherwise a normal law, rounded and never below 0.
    """

    mean: float
    sd: float = 0.0


@dataclass(frozen=True)
class Population:
    """Cells of one kind.

    Parameters
    ----------
    name : str
    size : int
        Number of cells.
    model : str
        NEST's name of the neuron model.
    parameters : Mapping
        NEST's parameter names -> values in mV, ms, pF, nS, pA.
    rate_range : tuple of float, optional
        Lowest and highest population rate (Hz) the transfer functions must cover where no working
        points are known.
    """

    name: str
    size: int
    model: str
    parameters: Mapping[str, float]
    rate_range: tuple[float, float] | None = None

    @property
    def neuron(self) -> NeuronModel:
        return neuron_model(self.model, self.name)


@dataclass(frozen=True)
class Input:
    """External Poisson sources.

    Parameters
    ----------
    name : str
    sources : int or None
        Number of independent sources shared by the targets; None: every synapse has its own.
    rate : float
        Usual rate (Hz) of one source.
    rate_range : tuple of float
        Lowest and highest rate (Hz) the model shall cover.
    relays : int, optional
        Number of relays (for example glomeruli), each repeating one source; projections start at
        relays, so cells that share a relay share its spikes.
    """

    name: str
    sources: int | None
    rate: float
    rate_range: tuple[float, float]
    relays: int | None = None


@dataclass(frozen=True)
class Projection:
    """All synapses of one kind from one population or input to one population.

    Parameters
    ----------
    name : str
        ``source->target`` or, for one of several pathways, ``source->target/pathway``.
    indegree : Distribution
        Connected pairs per target cell.
    synapses : Distribution
        Synapses per connected pair; they arrive together.
    weight : float
        Peak conductance (nS), current (pA), or potential step (mV) of one synapse.
    tau_syn, E_rev : float or None
        Synaptic time constant (ms), reversal potential (mV), where the synapse has them.
    delay : float
        ms.
    """

    name: str
    source: str
    target: str
    indegree: Distribution
    weight: float
    synapses: Distribution = Distribution(1.0)
    tau_syn: float | None = None
    E_rev: float | None = None
    delay: float = 1.0

    @property
    def channel(self) -> str:
        """Source and pathway without the target: ``GrC/aa``."""
        pathway = self.name.partition("/")[2]
        return f"{self.source}/{pathway}" if pathway else self.source

    @property
    def excitatory(self) -> bool:
        return self.E_rev > -50.0 if self.E_rev is not None else self.weight > 0


@dataclass(frozen=True)
class Network:
    """A spiking network: populations joined by projections and driven by inputs.

    `connections` is the file of its true connections, where they are known, and `connections_id` the hash of
    that file's content: what a network is depends on the content, not on the place.
    """

    name: str
    populations: tuple[Population, ...]
    inputs: tuple[Input, ...]
    projections: tuple[Projection, ...]
    T: float = 5.0
    description: str = ""
    region: str = ""
    species: str = ""
    pathology: str = "control"
    variant: str = "control"
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _EMPTY)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _EMPTY)
    working_points: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: _EMPTY)
    connections: str | None = field(default=None, compare=False)
    connections_id: str = ""

    @staticmethod
    def load(name_or_file: str | Path) -> Network:
        """Read a built-in network by name or a YAML file by path."""
        return load(name_or_file)

    @staticmethod
    def from_nest(populations: Mapping[str, Any], inputs: Mapping[str, Any] | None = None, **options: Any) -> Network:
        """Describe a network already in NEST's kernel; see `automfm_hpc.live.network_from_nest`."""
        from automfm_hpc.live import network_from_nest

        return network_from_nest(populations, inputs, **options)

    def population(self, name: str) -> Population:
        for population in self.populations:
            if population.name == name:
                return population
        raise NetworkError(f"no population '{name}'", where=self.name,
                           remedy=suggest(name, self.population_names))

    @property
    def population_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.populations)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(i.name for i in self.inputs)

    def onto(self, target: str) -> tuple[Projection, ...]:
        """The projections that end at `target`, in the order of the description."""
        return tuple(p for p in self.projections if p.target == target)

    def with_variant(self, name: str | None) -> Network:
        """The network with the few numbers of a named variant changed."""
        if name is None or name == self.variant:
            return self
        if name not in self.variants:
            raise NetworkError(f"no variant '{name}'", where=self.name, remedy=suggest(name, self.variants))
        if self.variant in self.variants:
            raise NetworkError(f"is the variant '{self.variant}' already", where=self.name,
                               remedy=f"Apply '{name}' to the network it was made from.")
        variant = self.variants[name]
        where, changed = f"{self.name}: variants.{name}.changes", self
        for key, change in variant.get("changes", {}).items():
            changed = change_value(changed, key, change, where=where)
        _check_receptors(changed, where)
        return replace(changed, variant=name, pathology=variant.get("pathology", self.pathology))

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, as written to YAML; `from_dict` reads it back to an equal network."""
        return to_dict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: str = "network") -> Network:
        return from_dict(data, where)

    def to_yaml(self) -> str:
        return yaml.safe_dump(to_dict(self), sort_keys=False, allow_unicode=True, width=110)


# --- variants -----------------------------------------------------------------------------------

_QUANTITIES = {"K": ("indegree", ""), "Q": ("weight", ""), "tau_syn": ("tau_syn", "ms"),
               "E": ("E_rev", "mV"), "N": ("size", "")}


def change_value(network: Network, key: str, change: object, where: str = "") -> Network:
    """One number changed: ``Q[mf->GrC]`` = '0.1 nS', ``K[GrC->PC/pf]`` = 'x0.76', ``GoC.I_e`` = '10 pA'.

    'x0.76' multiplies; anything else replaces. A changed K keeps the ratio of its spread to its mean.
    """
    here = f"{where}: {key}" if where else key
    head, bracket, name = key.partition("[")
    if bracket and name.endswith("]"):
        return _change_listed(network, head.strip(), name[:-1].strip(), change, here)
    population, dot, parameter = key.partition(".")
    if not dot:
        raise NetworkError("is neither like 'Q[mf->GrC]' nor like 'GoC.I_e'", where=here)
    old = network.population(population)
    if parameter not in old.neuron.units:
        raise NetworkError(f"unknown parameter of {old.model}", where=here,
                           remedy=suggest(parameter, old.neuron.units))
    value = _changed(old.parameters.get(parameter, 0.0), change, old.neuron.units[parameter], here)
    parameters = MappingProxyType({**old.parameters, parameter: value})
    old.neuron.check(parameters, here)
    return _with_population(network, replace(old, parameters=parameters))


def _change_listed(network: Network, quantity: str, name: str, change: object, where: str) -> Network:
    if quantity not in _QUANTITIES:
        raise NetworkError(f"unknown quantity '{quantity}'", where=where, remedy=suggest(quantity, _QUANTITIES))
    attribute, unit = _QUANTITIES[quantity]
    if quantity == "N":
        old = network.population(name)
        size = _changed(old.size, change, "", where)
        if round(size) < 1:
            raise NetworkError("a population needs at least one cell", where=where)
        network = replace(network, connections=None, connections_id="")
        return _with_population(network, replace(old, size=round(size)))
    names = [p.name for p in network.projections]
    if name not in names:
        raise NetworkError(f"no projection '{name}'", where=where, remedy=suggest(name, names))
    projection = network.projections[names.index(name)]
    if quantity == "Q":
        unit = network.population(projection.target).neuron.weight_unit
    before = getattr(projection, attribute)
    if quantity == "K":
        mean = _non_negative(_changed(before.mean, change, "", where), where)
        after: Any = Distribution(mean, before.sd * (mean / before.mean if before.mean else 0.0))
        network = replace(network, connections=None, connections_id="")  # the true ones no longer fit
    elif before is None:
        raise NetworkError(f"{projection.name} has no {quantity}", where=where)
    else:
        after = _changed(before, change, unit, where)
        if unit == "nS":
            _non_negative(after, where)
        if quantity == "tau_syn" and after <= 0:
            raise NetworkError(f"tau_syn = {after:g} ms must be larger than 0", where=where)
    changed = replace(projection, **{attribute: after})
    return replace(network, projections=tuple(changed if p is projection else p for p in network.projections))


def _with_population(network: Network, new: Population) -> Network:
    return replace(network, populations=tuple(new if p.name == new.name else p for p in network.populations))


def _changed(old: float, change: object, unit: str, where: str) -> float:
    if isinstance(change, str) and change.strip()[:1] == "x":
        return old * _number(change.strip()[1:], where)
    return parse(change, unit, where) if unit else _number(change, where)


# --- reading ------------------------------------------------------------------------------------


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
    _check_receptors(network, where)
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


def _number(value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise NetworkError(f"{value!r} is not a number", where=where) from None
    if isinstance(value, bool) or not np.isfinite(number):
        raise NetworkError(f"{value!r} is not a finite number", where=where)
    return number


def _non_negative(value: float, where: str) -> float:
    if value < 0:
        raise NetworkError(f"{value:g} must not be negative", where=where)
    return value


def _distribution(node: _Node) -> Distribution:
    if not isinstance(node.data, Mapping):
        return Distribution(_non_negative(_number(node.data, node.where), node.where))
    node.known("mean sd")
    mean, sd = (_non_negative(_number(node.get(k, 0.0), f"{node.where}.{k}"), f"{node.where}.{k}")
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
    rate = _non_negative(node.quantity("rate", "Hz"), f"{node.where}.rate")
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
    return Projection(
        name=name, source=source, target=target, weight=weight,
        indegree=_distribution(node.child("indegree")),
        synapses=_distribution(synapses) if synapses else Distribution(1.0),
        tau_syn=None if model.synapse == "delta" else node.quantity("tau_syn", "ms", positive=True),
        E_rev=node.quantity("E_rev", "mV") if model.weight_unit == "nS" else None,
        delay=node.quantity("delay", "ms", 1.0, positive=True),
    )  # fmt: skip


def _working_points(root: _Node, network: Network) -> Mapping[str, tuple[float, ...]]:
    points: dict[str, tuple[float, ...]] = {}
    known = network.population_names + network.input_names
    for name, node in root.items("working_points", optional=True):
        if name not in known:
            raise NetworkError(f"unknown population '{name}'", where=node.where, remedy=suggest(name, known))
        if not isinstance(node.data, list):
            raise NetworkError("must be a list of rates with units", where=node.where)
        points[name] = tuple(_non_negative(parse(v, "Hz", node.where), node.where) for v in node.data)
    if len({len(p) for p in points.values()}) > 1:
        raise NetworkError("working points need the same number of rates for every population", where=root.where)
    return MappingProxyType(points)


# --- checks over the whole description ------------------------------------------------------------


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


def _check_receptors(network: Network, where: str) -> None:
    """Every population needs input, and models with two receptors cannot take three time constants."""
    for population in network.populations:
        projections = network.onto(population.name)
        if not projections:
            raise NetworkError("no projection ends here", where=f"{where}: populations.{population.name}",
                               remedy="Add a projection or remove the population.")
        if population.neuron.multireceptor:
            continue
        for excitatory in (True, False):
            pairs = {(p.tau_syn, p.E_rev) for p in projections if p.excitatory == excitatory}
            if len(pairs) > 1:
                kind = "excitatory" if excitatory else "inhibitory"
                raise NetworkError(
                    f"{population.model} has one {kind} receptor, but its projections have "
                    f"{len(pairs)} different pairs of tau_syn and E_rev",
                    where=f"{where}: populations.{population.name}",
                )


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
    if projection.tau_syn is not None:
        data["tau_syn"] = text(projection.tau_syn, "ms")
    if projection.E_rev is not None:
        data["E_rev"] = text(projection.E_rev, "mV")
    return data
