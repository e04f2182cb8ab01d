"""The frozen description of a spiking network. Its reader and writer: `description`; its variants: `variants`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from automfm_hpc.errors import NetworkError, suggest
from automfm_hpc.neurons import NeuronModel, neuron_model

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
    delay, delay_sd : float
        Mean and standard deviation over pairs of the transmission delay, ms: a normal law truncated at zero. (That
        the truncation shifts the mean is left as it is, as in the published networks that draw delays so.)
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
    delay_sd: float = 0.0

    @property
    def channel(self) -> str:
        """Source and pathway without the target: ``GrC/aa``."""
        pathway = self.name.partition("/")[2]
        return f"{self.source}/{pathway}" if pathway else self.source

    @property
    def excitatory(self) -> bool:
        return excites(self.E_rev, self.weight)


def excites(E_rev: float | None, weight: float) -> bool:
    """Whether a synapse is excitatory: by its reversal potential (mV) if it has one, else by its weight's sign."""
    return E_rev > -50.0 if E_rev is not None else weight >= 0


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
        from automfm_hpc.description import load

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
        from automfm_hpc.variants import change_value, check_receptors

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
        check_receptors(changed, where)
        return replace(changed, variant=name, pathology=variant.get("pathology", self.pathology))

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary, as written to YAML; `from_dict` reads it back to an equal network."""
        from automfm_hpc.description import to_dict

        return to_dict(self)

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: str = "network") -> Network:
        """Check a description read from YAML or JSON and freeze it."""
        from automfm_hpc.description import from_dict

        return from_dict(data, where)

    def to_yaml(self) -> str:
        """The description as YAML with units."""
        import yaml

        return str(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=110))
