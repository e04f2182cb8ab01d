"""A network description from the connections of a network already in NEST's kernel."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import NetworkError, suggest
from automfm_hpc.nest_models import MODEL, import_nest
from automfm_hpc.network import Distribution, Input, Network, Population, Projection
from automfm_hpc.neurons import MODELS, NeuronModel

FloatArray = NDArray[np.float64]
GENERATORS = ("poisson_generator", "inhomogeneous_poisson_generator")


def network_from_nest(
    populations: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    *,
    rate_ranges: Mapping[str, tuple[float, float]] | None = None,
    name: str = "nest",
    T: float = 5.0,
) -> Network:
    """Describe what `nest.GetConnections` finds between some nodes.

    Parameters
    ----------
    populations : Mapping
        Name -> NodeCollection of neurons of one model with the same parameters.
    inputs : Mapping, optional
        Name -> NodeCollection: parrot neurons (sources shared by their targets), or one Poisson generator, which
        gives every target a train of its own.
    rate_ranges : Mapping, optional
        Name -> lowest and highest rate (Hz) a model shall cover; default for inputs: up to twice the generator's
        rate, or 100 Hz.
    name : str
    T : float
        Time constant of the master equation (ms).

    Returns
    -------
    Network
        In-degrees are connected pairs per target cell with their spread; weights are means over pairs, several
        connections of a pair taken together. Where a source reaches a target through several receptors, each is a
        pathway ``source->target/receptor``.

    Raises
    ------
    NetworkError
        Unknown models, mixed parameters, or nodes that nothing connects.
    """
    nest = import_nest()
    ranges = dict(rate_ranges or {})
    cells = tuple(_population(key, nodes, ranges.get(key)) for key, nodes in populations.items())
    sources = tuple(_input(key, nodes, ranges.get(key)) for key, nodes in (inputs or {}).items())
    projections: list[Projection] = []
    for cell in cells:
        for key, nodes in {**(inputs or {}), **populations}.items():
            projections += _projections(nest, key, nodes, cell, populations[cell.name])
    if not projections:
        raise NetworkError("no connections between these nodes", where=name, remedy="Connect them first.")
    network = Network(name, cells, sources, tuple(projections), T=T)
    return Network.from_dict(network.to_dict(), name)  # with all checks of a description


def _model(nodes: Any, where: str) -> NeuronModel:
    names = np.unique(np.atleast_1d(nodes.get("model")))
    if names.size > 1:
        raise NetworkError(f"mixes the models {', '.join(map(str, names))}", where=where, remedy="Name each by itself.")
    model = str(names[0])
    if model.startswith(f"{MODEL}_r"):
        model = MODEL
    if model not in MODELS:
        raise NetworkError(f"unknown neuron model '{model}'", where=where, remedy=suggest(model, MODELS))
    return MODELS[model]


def _population(key: str, nodes: Any, rate_range: tuple[float, float] | None) -> Population:
    model = _model(nodes, key)
    parameters = {unit: _common(nodes, unit, key) for unit in model.units if unit in nodes[0].get()}
    return Population(key, len(nodes), model.name, MappingProxyType(parameters), rate_range)


def _common(nodes: Any, parameter: str, where: str) -> float:
    values = np.atleast_1d(np.asarray(nodes.get(parameter), float))
    if np.ptp(values) > 1e-9 * max(1.0, float(np.abs(values).max())):
        raise NetworkError(f"{parameter} differs between its cells ({values.min():g} to {values.max():g})", where=where,
                           remedy="Give each kind of cell its own population.")
    return float(values[0])


def _input(key: str, nodes: Any, rate_range: tuple[float, float] | None) -> Input:
    models = {str(m) for m in np.atleast_1d(nodes.get("model"))}
    if models == {"parrot_neuron"}:
        low, high = rate_range or (0.0, 100.0)
        return Input(key, len(nodes), 0.5 * (low + high), (low, high))
    if len(models) == 1 and models <= set(GENERATORS) and len(nodes) == 1:
        rate = float(nodes.get("rate")) if models == {"poisson_generator"} else float(np.mean(nodes.get("rate_values")))
        return Input(key, None, rate, rate_range or (0.0, 2.0 * rate))
    raise NetworkError("is neither parrot neurons nor one Poisson generator", where=key,
                       remedy="Put parrot neurons behind shared sources and name them.")


def _projections(nest: Any, key: str, sources: Any, cell: Population, targets: Any) -> list[Projection]:
    """One projection per receptor through which the sources reach the targets."""
    found = nest.GetConnections(sources, targets)
    if len(found) == 0:
        return []
    data = found.get(["source", "target", "weight", "delay", "receptor"])
    pre, post, receptor = (np.atleast_1d(np.asarray(data[k], np.int64)) for k in ("source", "target", "receptor"))
    weight, delay = (np.atleast_1d(np.asarray(data[k], float)) for k in ("weight", "delay"))
    # NESTML's receptors are numbered from 1, their ports from 0; NEST's models with two receptors tell them apart by
    # the sign of the weight.
    side = receptor + 1 if cell.neuron.multireceptor else np.where(weight < 0, -1, 1)
    kinds = np.unique(side)
    return [_projection(key, cell, targets, k, len(kinds) > 1,
                        *(v[side == k] for v in (pre, post, weight, delay))) for k in kinds]


def _projection(key: str, cell: Population, targets: Any, kind: int, several: bool, pre: NDArray[np.int64],
                post: NDArray[np.int64], weight: FloatArray, delay: FloatArray) -> Projection:
    pairs, which = np.unique(np.stack([post, pre]), axis=1, return_inverse=True)
    per_pair = np.bincount(which.ravel(), weight)
    indegree = np.bincount(pairs[0] - targets[0].global_id, minlength=len(targets))
    conductance = cell.neuron.weight_unit == "nS"
    tau, reversal = _receptor(cell, targets, int(kind))
    return Projection(
        f"{key}->{cell.name}" + (f"/{kind}" if several else ""), key, cell.name,
        Distribution(float(indegree.mean()), float(indegree.std())),
        float(np.abs(per_pair).mean() if conductance else per_pair.mean()),
        tau_syn=tau, E_rev=reversal, delay=float(delay.mean()),
    )  # fmt: skip


def _receptor(cell: Population, targets: Any, kind: int) -> tuple[float | None, float | None]:
    """Synaptic time constant (ms) and reversal potential (mV) behind a receptor number or a sign."""
    model = cell.neuron
    if model.multireceptor:
        return _common(targets, f"tau_syn{kind}", cell.name), _common(targets, f"E_rev{kind}", cell.name)
    side = "in" if kind < 0 else "ex"
    tau = None if model.synapse == "delta" else _common(targets, f"tau_syn_{side}", cell.name)
    return tau, _common(targets, f"E_{side}", cell.name) if model.weight_unit == "nS" else None
