"""Cells and synapses of a BSB simulation part, in the program's terms: parameters, weights, receptors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automfm_hpc.errors import NetworkError
from automfm_hpc.neurons import NeuronModel, neuron_model
from automfm_hpc.units import text

RELAY = "parrot_neuron"
_STATIC = ("static_synapse", "static_synapse_hom_w")
_INITIAL = ("V_m", "w", "g_ex", "g_in", "I_adap", "I_dep")  # states and tolerances, not parameters
_SOLVER = ("gsl_error_tol",)


@dataclass(frozen=True)
class CellModel:
    """One cell model of the simulation part.

    Parameters
    ----------
    name : str
        Cell type in the file.
    model : str
        NEST's name.
    constants : Mapping
        NEST's parameters, receptors included -> numbers.
    """

    name: str
    model: str
    constants: Mapping[str, float]

    @property
    def is_relay(self) -> bool:
        return self.model == RELAY

    @property
    def neuron(self) -> NeuronModel:
        return neuron_model(self.model)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Constants that set the start of a simulation or its solver, not the cell."""
        return tuple(k for k in self.constants if k in _INITIAL + _SOLVER)

    def parameters(self) -> dict[str, str]:
        """Parameters with units; receptors belong to projections, unknown names are left for the check."""
        units = self.neuron.units
        return {k: text(v, units.get(k, "")).strip() for k, v in self.constants.items()
                if k not in self.left_out and not _is_receptor(k, self.neuron)}


def cell_model(name: str, node: Any, where: str) -> CellModel:
    """Read one entry of `cell_models`.

    Raises
    ------
    NetworkError
        Unknown NEST model, or a constant that is not one number.
    """
    if not isinstance(node, Mapping):
        raise NetworkError("must be a mapping", where=where)
    model = str(node.get("model", "iaf_psc_alpha"))  # BSB's default
    if model != RELAY:
        neuron_model(model, where)
    given = {**(node.get("constants") or {}), **(node.get("parameters") or {})}
    return CellModel(name, model, {k: number(v, f"{where}.{k}") for k, v in given.items()})


@dataclass(frozen=True)
class Synapse:
    """One synapse of a connection model: weight (nS, pA or mV), delay (ms), receptor of the target."""

    weight: float
    delay: float
    tau_syn: float | None
    E_rev: float | None


def synapse(node: Any, target: CellModel, where: str) -> Synapse:
    """Read one synapse onto a target cell.

    Raises
    ------
    NetworkError
        Plastic synapse, no weight, weight of wrong sign, delay that is not positive, unknown receptor.
    """
    if not isinstance(node, Mapping):
        raise NetworkError("must be a mapping", where=where)
    kind = str(node.get("model", _STATIC[0]))
    if kind not in _STATIC:
        raise NetworkError(f"a synapse of model '{kind}' changes its weight with activity", where=where,
                           remedy="Give static_synapse with the weight at the activity you want.")
    node = {**node, **(node.get("parameters") or {})}
    if "weight" not in node:
        raise NetworkError("has no weight", where=where)
    weight = number(node["weight"], f"{where}.weight")
    delay = number(node.get("delay", 1.0), f"{where}.delay")
    if delay <= 0:
        raise NetworkError(f"a delay of {delay:g} ms must be larger than 0", where=where)
    peak, tau_syn, E_rev = _receptor(weight, node.get("receptor_type"), target, where)
    return Synapse(peak, delay, tau_syn, E_rev)


def _receptor(weight: float, port: Any, target: CellModel, where: str) -> tuple[float, float | None, float | None]:
    """Weight, tau_syn (ms) and E_rev (mV) of the receptor that a synapse reaches."""
    neuron = target.neuron
    if neuron.synapse == "delta":
        return weight, None, None
    if neuron.multireceptor:
        if weight < 0:
            raise NetworkError(f"weight {weight:g} nS has the wrong sign: a conductance cannot be negative",
                               where=where, remedy="Inhibition is in the receptor's E_rev.")
        if isinstance(port, bool) or not isinstance(port, int) or port < 1:
            raise NetworkError(f"receptor_type {port!r} must be a whole number of at least 1", where=where)
        suffix, reversal = str(port), f"E_rev{port}"
    else:
        suffix = "_ex" if weight >= 0 else "_in"
        reversal = f"E{suffix}"
    tau = _constant(target, f"tau_syn{suffix}", where)
    if neuron.weight_unit != "nS":
        return weight, tau, None
    return abs(weight), tau, _constant(target, reversal, where)


def _constant(cell: CellModel, key: str, where: str) -> float:
    if key not in cell.constants:
        raise NetworkError(f"its receptor needs {key} among the constants of {cell.name}", where=where)
    return cell.constants[key]


def _is_receptor(key: str, neuron: NeuronModel) -> bool:
    if neuron.multireceptor:
        return any(key.startswith(word) and key[len(word):].isdigit() for word in ("tau_syn", "E_rev"))
    return key in ("tau_syn_ex", "tau_syn_in", "E_ex", "E_in")


def number(value: Any, where: str) -> float:
    """One finite number, as BSB writes it (no unit)."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = float("nan")
    if isinstance(value, bool) or not abs(found) < float("inf"):
        raise NetworkError(f"{value!r} is not one number", where=where,
                           remedy="Distributions and computed values cannot be imported.")
    return found
