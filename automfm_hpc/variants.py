"""Variants: a network with a few numbers changed, and what must hold after a change as after reading."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from automfm_hpc.errors import NetworkError, suggest
from automfm_hpc.network import Distribution, Network, Population
from automfm_hpc.units import parse

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
        mean = non_negative(_changed(before.mean, change, "", where), where)
        after: Any = Distribution(mean, before.sd * (mean / before.mean if before.mean else 0.0))
        network = replace(network, connections=None, connections_id="")  # the true ones no longer fit
    elif before is None:
        raise NetworkError(f"{projection.name} has no {quantity}", where=where)
    else:
        after = _changed(before, change, unit, where)
        if unit == "nS":
            non_negative(after, where)
        if quantity == "tau_syn" and after <= 0:
            raise NetworkError(f"tau_syn = {after:g} ms must be larger than 0", where=where)
    changed = replace(projection, **{attribute: after})
    return replace(network, projections=tuple(changed if p is projection else p for p in network.projections))


def _with_population(network: Network, new: Population) -> Network:
    return replace(network, populations=tuple(new if p.name == new.name else p for p in network.populations))


def _changed(old: float, change: object, unit: str, where: str) -> float:
    if isinstance(change, str) and change.strip()[:1] == "x":
        return old * plain_number(change.strip()[1:], where)
    return parse(change, unit, where) if unit else plain_number(change, where)


def plain_number(value: object, where: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise NetworkError(f"{value!r} is not a number", where=where) from None
    if isinstance(value, bool) or not math.isfinite(number):
        raise NetworkError(f"{value!r} is not a finite number", where=where)
    return number


def non_negative(value: float, where: str) -> float:
    """The value, unless it is below 0."""
    if value < 0:
        raise NetworkError(f"{value:g} must not be negative", where=where)
    return value


def check_receptors(network: Network, where: str) -> None:
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
