"""Neuron models the program knows: NEST's name, its parameters with units, and its synapses.

Parameters keep NEST's names, so a description's dictionary goes straight into `nest.Create`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from automfm_hpc.errors import NetworkError, suggest

CONDUCTANCE, CURRENT, POTENTIAL = "nS", "pA", "mV"


@dataclass(frozen=True)
class NeuronModel:
    """What the program needs to know of one neuron model.

    Parameters
    ----------
    name : str
        NEST's name of the model.
    kind : {'eglif', 'adex', 'lif'}
        Family, which decides the sub-threshold dynamics (theory of the moments).
    units : Mapping
        Unit of each accepted parameter.
    required : frozenset
        Parameters without a default.
    synapse : {'alpha', 'exponential', 'delta'}
        Shape of the post-synaptic conductance, current, or potential step.
    weight_unit : {'nS', 'pA', 'mV'}
        Unit of a projection's weight.
    multireceptor : bool
        Whether every projection may have its own tau_syn and E_rev; otherwise one excitatory
        and one inhibitory pair.
    adaptation : str or None
        Recordable that holds the slow adaptation current (pA).
    positive : frozenset
        Parameters that must be larger than zero.
    """

    name: str
    kind: str
    units: Mapping[str, str]
    required: frozenset[str]
    synapse: str
    weight_unit: str
    multireceptor: bool = False
    adaptation: str | None = None
    positive: frozenset[str] = frozenset({"C_m", "tau_m", "g_L", "tau_w", "tau_V", "Delta_T", "lambda_0", "k_1", "k_2"})

    def check(self, parameters: Mapping[str, float], where: str) -> None:
        """Raise NetworkError for unknown, missing or non-physical parameters."""
        for key, value in parameters.items():
            if key not in self.units:
                raise NetworkError(
                    f"unknown parameter '{key}' of {self.name}", where=where, remedy=suggest(key, self.units)
                )
            if key in self.positive and value <= 0:
                raise NetworkError(f"{key} = {value:g} {self.units[key]} must be larger than 0", where=where)
            if key == "t_ref" and value < 0:
                raise NetworkError(f"t_ref = {value:g} ms must not be negative", where=where)
        missing = sorted(self.required - set(parameters))
        if missing:
            raise NetworkError(f"{self.name} needs the parameter(s) {', '.join(missing)}", where=where)
        if parameters["V_reset"] >= parameters["V_th"]:
            raise NetworkError("V_reset must lie below V_th", where=where)


def _model(name: str, kind: str, units: str, synapse: str, weight: str, **more: object) -> NeuronModel:
    """Build a model from 'name:unit' words; a name with a trailing ? is optional."""
    pairs = [word.split(":") for word in units.split()]
    return NeuronModel(
        name=name,
        kind=kind,
        units=MappingProxyType({key.rstrip("?"): unit for key, unit in pairs}),
        required=frozenset(key for key, _ in pairs if not key.endswith("?")),
        synapse=synapse,
        weight_unit=weight,
        **more,  # type: ignore[arg-type]
    )


_EGLIF = (
    "C_m:pF tau_m:ms E_L:mV V_th:mV V_reset:mV t_ref:ms k_adap:nS/ms k_1:1/ms k_2:1/ms "
    "A1:pA A2:pA I_e:pA lambda_0:1/ms tau_V:mV V_min?:mV"
)
_ADEX = (
    "C_m:pF g_L:nS E_L:mV V_th:mV V_reset:mV t_ref:ms a:nS b:pA Delta_T:mV tau_w:ms V_peak?:mV I_e?:pA"
)
_LIF_COND = "C_m:pF g_L:nS E_L:mV V_th:mV V_reset:mV t_ref:ms I_e?:pA"
_LIF_PSC = "C_m:pF tau_m:ms E_L:mV V_th:mV V_reset:mV t_ref:ms I_e?:pA"

MODELS: Mapping[str, NeuronModel] = MappingProxyType(
    {
        model.name: model
        for model in (
            _model("eglif_cond_alpha_multisyn", "eglif", _EGLIF, "alpha", CONDUCTANCE,
                   multireceptor=True, adaptation="I_adap"),
            _model("aeif_cond_exp", "adex", _ADEX, "exponential", CONDUCTANCE, adaptation="w"),
            _model("aeif_cond_alpha", "adex", _ADEX, "alpha", CONDUCTANCE, adaptation="w"),
            _model("iaf_cond_exp", "lif", _LIF_COND, "exponential", CONDUCTANCE),
            _model("iaf_cond_alpha", "lif", _LIF_COND, "alpha", CONDUCTANCE),
            _model("iaf_psc_exp", "lif", _LIF_PSC, "exponential", CURRENT),
            _model("iaf_psc_alpha", "lif", _LIF_PSC, "alpha", CURRENT),
            _model("iaf_psc_delta", "lif", _LIF_PSC, "delta", POTENTIAL),
        )
    }
)  # fmt: skip


def neuron_model(name: str, where: str = "") -> NeuronModel:
    """The model of that name, or NetworkError naming the nearest known one."""
    if name not in MODELS:
        raise NetworkError(f"unknown neuron model '{name}'", where=where, remedy=suggest(name, MODELS))
    return MODELS[name]


def leak_conductance(parameters: Mapping[str, float]) -> float:
    """Leak conductance g_L (nS), given as such or as C_m / tau_m."""
    return parameters["g_L"] if "g_L" in parameters else parameters["C_m"] / parameters["tau_m"]
