"""Network descriptions: read, written, varied, and refused with the place and the nearest known word."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from automfm_hpc import Network
from automfm_hpc.description import builtin_names, load
from automfm_hpc.errors import NetworkError
from automfm_hpc.network import Distribution
from automfm_hpc.neurons import MODELS
from automfm_hpc.units import parse, text
from automfm_hpc.variants import change_value

LIF = {"C_m": "250 pF", "tau_m": "20 ms", "E_L": "0 mV", "V_th": "20 mV", "V_reset": "10 mV", "t_ref": "2 ms"}
COND = {"C_m": "200 pF", "g_L": "10 nS", "E_L": "-65 mV", "V_th": "-50 mV", "V_reset": "-65 mV", "t_ref": "5 ms"}


def small():
    """Two populations, one with conductance synapses, and everything a description may hold."""
    synapse = {"indegree": {"mean": 10, "sd": 2}, "weight": "1 nS", "tau_syn": "5 ms", "E_rev": "0 mV"}
    return {
        "name": "small", "T": "4 ms", "groups": {"all": ["Exc", "Inh"]},
        "populations": {"Exc": {"size": 80, "model": "iaf_psc_delta", "parameters": dict(LIF)},
                        "Inh": {"size": 20, "model": "iaf_cond_exp", "parameters": dict(COND),
                                "rate_range": ["0 Hz", "50 Hz"]}},
        "inputs": {"ext": {"sources": "private", "rate": "20 Hz", "rate_range": ["0 Hz", "40 Hz"]}},
        "projections": {"ext->Exc": {"indegree": 1000, "weight": "0.1 mV"},
                        "Inh->Exc": {"indegree": {"mean": 50}, "weight": "-0.5 mV", "delay": "1.5 ms"},
                        "ext->Inh": copy.deepcopy(synapse), "Exc->Inh/far": copy.deepcopy(synapse)},
        "variants": {"weak": {"pathology": "p", "changes": {"Q[Exc->Inh/far]": "x0.5", "Exc.V_th": "18 mV"}}},
        "working_points": {"ext": ["10 Hz", "20 Hz"], "Exc": ["5 Hz", "9 Hz"]},
    }  # fmt: skip


def at(data, path, value):
    """A copy with the value at a path like 'populations.Exc.size' changed; None as value removes the key."""
    data = copy.deepcopy(data)
    *parents, key = path.split(".")
    place = data
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return data


# --- reading and writing --------------------------------------------------------------------------


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_networks_survive_yaml_and_dictionaries(name, tmp_path):
    network = load(name)
    assert Network.from_dict(network.to_dict()) == network
    file = tmp_path / "network.yaml"
    file.write_text(network.to_yaml(), "utf-8")
    assert Network.load(file) == network
    for variant in network.variants:
        varied = network.with_variant(variant)
        assert Network.from_dict(varied.to_dict()) == varied != network


def test_built_in_names():
    assert builtin_names() == ("adex_cortex", "brunel", "cerebellum")


def test_a_description_says_what_it_says():
    network = Network.from_dict(small())
    exc = network.population("Exc")
    assert (network.T, exc.size, exc.parameters["V_th"]) == (4.0, 80, 20.0)
    assert [p.name for p in network.onto("Inh")] == ["ext->Inh", "Exc->Inh/far"]
    far = network.projections[3]
    assert (far.source, far.target, far.channel) == ("Exc", "Inh", "Exc/far")
    assert (far.indegree, far.synapses, far.delay) == (Distribution(10, 2), Distribution(1.0), 1.0)
    assert network.projections[0].E_rev is None and network.projections[0].tau_syn is None
    assert network.inputs[0].sources is None
    assert network.working_points["Exc"] == (5.0, 9.0)


@pytest.mark.parametrize(("written", "unit", "value"), [
    ("250 pF", "pF", 250.0), ("0.25 nF", "pF", 250.0), ("0.005 s", "ms", 5.0), ("-70mV", "mV", -70.0),
    ("1 kHz", "Hz", 1000.0), ("0.22 nS/ms", "nS/ms", 0.22), ("0.3 1/ms", "1/ms", 0.3), ("300 1/s", "1/ms", 0.3),
])  # fmt: skip
def test_units_are_converted(written, unit, value):
    assert parse(written, unit, "here") == pytest.approx(value, rel=1e-15)


UNITS = sorted({unit for model in MODELS.values() for unit in (*model.units.values(), model.weight_unit)} | {"Hz"})


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(UNITS))
def test_quantities_are_written_as_they_are_read(value, unit):
    assert parse(text(value, unit), unit, "here") == value


POSITIVE = st.floats(1e-3, 1e3)


@st.composite
def networks(draw):
    """Networks of LIF cells with any numbers that make sense."""
    names = [f"P{k}" for k in range(draw(st.integers(1, 4)))]
    source = {"sources": draw(st.just("private") | st.integers(1, 99)), "rate": text(draw(POSITIVE), "Hz"),
              "rate_range": ["0 Hz", text(draw(POSITIVE), "Hz")]}  # fmt: skip
    data = {"name": "any", "T": text(draw(POSITIVE), "ms"), "populations": {}, "inputs": {"in": source},
            "projections": {}}  # fmt: skip
    for name in names:
        parameters = {**LIF, "C_m": text(draw(POSITIVE), "pF"), "V_reset": text(-draw(POSITIVE), "mV")}
        size = draw(st.integers(1, 10**6))
        data["populations"][name] = {"size": size, "model": "iaf_psc_delta", "parameters": parameters}
        for source in draw(st.lists(st.sampled_from([*names, "in"]), min_size=1, unique=True)):
            data["projections"][f"{source}->{name}"] = {
                "indegree": {"mean": draw(POSITIVE), "sd": draw(st.floats(0, 10))},
                "synapses_per_pair": {"mean": draw(POSITIVE), "sd": draw(st.floats(0, 10))},
                "weight": text(draw(st.floats(-10, 10)), "mV"), "delay": text(draw(POSITIVE), "ms")}  # fmt: skip
    return data


@given(networks())
def test_any_network_survives_yaml(data):
    network = Network.from_dict(data)
    again = Network.from_dict(yaml.safe_load(network.to_yaml()))
    assert again == network
    assert again.to_yaml() == network.to_yaml()


# --- errors ---------------------------------------------------------------------------------------

BAD = [  # path, value (None removes), words of the message
    ("popolations", {}, ["unknown key 'popolations'", "Did you mean 'populations'?"]),
    ("populations", None, ["needs the key 'populations'"]),
    ("projections", None, ["needs the key 'projections'"]),
    ("populations", [], ["net: populations", "must be a mapping, not list"]),
    ("populations.Exc", 3, ["net: populations.Exc", "must be a mapping, not int"]),
    ("populations.Exc.sise", 3, ["net: populations.Exc", "unknown key 'sise'", "'size'"]),
    ("populations.Exc.size", None, ["net: populations.Exc", "needs the key 'size'"]),
    ("populations.Exc.size", -80, ["populations.Exc.size", "-80 must be a whole number of at least 1"]),
    ("populations.Exc.size", 0, ["populations.Exc.size", "at least 1"]),
    ("populations.Exc.size", 1.5, ["populations.Exc.size", "whole number"]),
    ("populations.Exc.size", True, ["populations.Exc.size", "whole number"]),
    ("populations.Exc.size", "80", ["populations.Exc.size", "whole number"]),
    ("populations.Exc.model", "iaf_psc_dleta", ["populations.Exc.model", "unknown neuron model", "'iaf_psc_delta'"]),
    ("populations.Exc.parameters.tau_n", "2 ms", ["populations.Exc.parameters", "'tau_n'", "'tau_m'"]),
    ("populations.Exc.parameters.tau_m", None, ["populations.Exc.parameters", "needs the parameter(s) tau_m"]),
    ("populations.Exc.parameters.tau_m", "-20 ms", ["populations.Exc.parameters", "tau_m = -20 ms", "larger than 0"]),
    ("populations.Exc.parameters.C_m", "0 pF", ["populations.Exc.parameters", "C_m = 0 pF", "larger than 0"]),
    ("populations.Exc.parameters.t_ref", "-1 ms", ["populations.Exc.parameters", "t_ref = -1 ms"]),
    ("populations.Exc.parameters.tau_m", 20, ["parameters.tau_m", "20 has no unit", "'20 ms'"]),
    ("populations.Exc.parameters.tau_m", "20", ["parameters.tau_m", "'20' has no unit", "'20 ms'"]),
    ("populations.Exc.parameters.tau_m", "20 mV", ["parameters.tau_m", "'20 mV' is not in units of ms"]),
    ("populations.Exc.parameters.tau_m", "twenty ms", ["parameters.tau_m", "'twenty ms' is not"]),
    ("populations.Exc.parameters.tau_m", "nan ms", ["parameters.tau_m", "not a finite quantity"]),
    ("populations.Exc.parameters.tau_m", "1e400 ms", ["parameters.tau_m", "not a finite quantity"]),
    ("populations.Exc.parameters.tau_m", True, ["parameters.tau_m", "True has no unit"]),
    ("populations.Exc.parameters.V_reset", "20 mV", ["populations.Exc.parameters", "V_reset must lie below V_th"]),
    ("populations.Inh.rate_range", ["5 Hz"], ["populations.Inh.rate_range", "list of two quantities"]),
    ("populations.Inh.rate_range", ["9 Hz", "5 Hz"], ["populations.Inh.rate_range", "0 <= low < high, not 9 and 5 Hz"]),
    ("populations.Two words", {}, ["populations.Two words", "needs the key 'model'"]),
    ("inputs.ext.sources", 0, ["inputs.ext.sources", "at least 1"]),
    ("inputs.ext.sources", "shared", ["inputs.ext.sources", "'shared' must be a whole number"]),
    ("inputs.ext.relays", -2, ["inputs.ext.relays", "at least 1"]),
    ("inputs.ext.rate", "-1 Hz", ["inputs.ext.rate", "must not be negative"]),
    ("inputs.ext.rate_range", ["-1 Hz", "5 Hz"], ["inputs.ext.rate_range", "0 <= low"]),
    ("inputs.ext.rates", ["1 Hz"], ["inputs.ext", "unknown key 'rates'", "'rate'"]),
    ("inputs.Exc", {"sources": 1, "rate": "1 Hz", "rate_range": ["0 Hz", "1 Hz"]}, ["'Exc' names two things"]),
    ("inputs.a b", {"sources": 1, "rate": "1 Hz", "rate_range": ["0 Hz", "1 Hz"]},
     ["'a b' cannot be a name", "letters"]),
    ("projections.Exc->Inj", {}, ["projections.Exc->Inj", "unknown population 'Inj'", "'Inh'"]),
    ("projections.ecs->Inh", {}, ["projections.ecs->Inh", "unknown population 'ecs'"]),
    ("projections.Exc->ext", {}, ["projections.Exc->ext", "unknown population 'ext'"]),
    ("projections.Exc", {}, ["projections.Exc", "named 'source->target'"]),
    ("projections.ext->Inh.wieght", "1 nS", ["projections.ext->Inh", "unknown key 'wieght'", "'weight'"]),
    ("projections.ext->Inh.weight", None, ["projections.ext->Inh", "needs the key 'weight'"]),
    ("projections.ext->Inh.weight", "1 mV", ["projections.ext->Inh.weight", "not in units of nS"]),
    ("projections.ext->Inh.weight", "-1 nS", ["projections.ext->Inh.weight", "cannot be negative", "E_rev"]),
    ("projections.ext->Inh.tau_syn", None, ["projections.ext->Inh", "needs the key 'tau_syn'"]),
    ("projections.ext->Inh.tau_syn", "-5 ms", ["projections.ext->Inh.tau_syn", "-5 ms must be larger than 0"]),
    ("projections.ext->Inh.tau_syn", "0 ms", ["projections.ext->Inh.tau_syn", "larger than 0"]),
    ("projections.ext->Inh.delay", "0 ms", ["projections.ext->Inh.delay", "larger than 0"]),
    ("projections.ext->Inh.indegree", -1, ["projections.ext->Inh.indegree", "must not be negative"]),
    ("projections.ext->Inh.indegree", "many", ["projections.ext->Inh.indegree", "'many' is not a number"]),
    ("projections.ext->Inh.indegree", {"maen": 1}, ["projections.ext->Inh.indegree", "unknown key 'maen'", "'mean'"]),
    ("projections.ext->Inh.indegree", {"mean": 1, "sd": -1}, ["projections.ext->Inh.indegree.sd", "negative"]),
    ("projections.ext->Inh.indegree", {"mean": 0, "sd": 1}, ["projections.ext->Inh.indegree", "cannot have a spread"]),
    ("projections.ext->Inh.indegree", {"mean": float("nan")}, ["projections.ext->Inh.indegree.mean", "finite"]),
    ("projections.ext->Inh.tau_syn", "6 ms", ["populations.Inh", "one excitatory receptor", "2 different pairs"]),
    ("populations.Idle", {"size": 1, "model": "iaf_psc_delta", "parameters": LIF},
     ["populations.Idle", "no projection ends here", "Add a projection"]),
    ("groups.all", ["Exc", "Ihn"], ["groups.all", "unknown population 'Ihn'", "'Inh'"]),
    ("groups.all", "Exc", ["groups.all", "must be a list of populations"]),
    ("groups.all", 5, ["groups.all", "must be a list of populations"]),
    ("groups.Exc", ["Inh"], ["'Exc' names two things"]),
    ("working_points.Ecx", ["1 Hz"], ["working_points.Ecx", "unknown population 'Ecx'", "'Exc'"]),
    ("working_points.Exc", "5 Hz", ["working_points.Exc", "must be a list"]),
    ("working_points.Exc", ["5 Hz"], ["the same number of rates"]),
    ("working_points.Exc", ["5 Hz", "-9 Hz"], ["working_points.Exc", "must not be negative"]),
    ("working_points.Exc", ["5 Hz", 9], ["working_points.Exc", "9 has no unit"]),
    ("T", "-4 ms", ["net: T", "larger than 0"]),
    ("T", "4 Hz", ["net: T", "not in units of ms"]),
    ("variants.weak.chnages", {}, ["variants.weak", "unknown key 'chnages'", "'changes'"]),
    ("variants.weak.changes", None, ["variants.weak", "needs the key 'changes'"]),
    ("variants.weak.changes.Q[Exc->Inh]", "x0.5", ["Q[Exc->Inh]", "no projection 'Exc->Inh'", "'Exc->Inh/far'"]),
    ("variants.weak.changes.P[ext->Inh]", "x0.5", ["P[ext->Inh]", "quantity 'P'", "Known: E, K, N, Q, tau_syn"]),
    ("variants.weak.changes.Q[ext->Inh]", "x-1", ["Q[ext->Inh]", "must not be negative"]),
    ("variants.weak.changes.Q[ext->Inh]", "xhalf", ["Q[ext->Inh]", "'half' is not a number"]),
    ("variants.weak.changes.Q[ext->Inh]", "2", ["Q[ext->Inh]", "has no unit", "'2 nS'"]),
    ("variants.weak.changes.Q[ext->Inh]", ["x2"], ["changes.Q[ext->Inh]", "neither a quantity nor a factor"]),
    ("variants.weak.changes.K[ext->Inh]", "x-2", ["K[ext->Inh]", "must not be negative"]),
    ("variants.weak.changes.tau_syn[ext->Inh]", "x0", ["tau_syn[ext->Inh]", "larger than 0"]),
    ("variants.weak.changes.tau_syn[ext->Inh]", "x2", ["populations.Inh", "one excitatory receptor"]),
    ("variants.weak.changes.E[ext->Exc]", "1 mV", ["E[ext->Exc]", "has no E"]),
    ("variants.weak.changes.N[Exd]", 5, ["no population 'Exd'", "'Exc'"]),
    ("variants.weak.changes.N[Exc]", "x0.001", ["N[Exc]", "at least one cell"]),
    ("variants.weak.changes.N[Exc", 5, ["N[Exc", "is neither like"]),
    ("variants.weak.changes.Exc", "1 mV", ["changes", "is neither like 'Q[mf->GrC]' nor like 'GoC.I_e'"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words"), BAD, ids=[f"{p}={v}"[:60] for p, v, _ in BAD])
def test_each_mistake_is_named_with_its_place_and_remedy(path, value, words):
    with pytest.raises(NetworkError) as caught:
        Network.from_dict(at(small(), path, value), "net")
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    assert message.startswith(("net", "small"))


@pytest.mark.parametrize(("key", "change", "word"), [
    ("Exc.V_thr", "18 mV", "V_th"), ("Inh.E_K", "1 mV", "E_L"),
    ("Exc.tau_m", "x-1", "larger than 0"), ("Exc.V_th", "5 mV", "V_reset must lie below V_th"),
])  # fmt: skip
def test_mistakes_in_changed_parameters(key, change, word):
    with pytest.raises(NetworkError, match=word):
        change_value(Network.from_dict(small()), key, change, "here")


@pytest.mark.parametrize(("content", "words"), [
    ("name: a\nname: b\n", ["line 2", "key 'name' stands twice"]),
    ("populations:\n  X: {size: 1, size: 2}\n", ["line 2", "key 'size' stands twice"]),
    ("name: [a\n", ["is not valid YAML"]),
    ("", ["is empty"]),
    ("- a\n", ["must be a mapping, not list"]),
    ("populations:\n", ["populations: is empty"]),
    ("? [a, b]\n: c\n", ["line 1", "single word"]),
    (b"\xff\xfe", ["cannot be read as text"]),
])  # fmt: skip
def test_files_that_are_no_description(content, words, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NetworkError) as caught:
        load(file)
    for word in [str(file), *words]:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "word"), [
    ("cerebelum", "cerebellum"), ("adex", "adex_cortex"), ("no/file.yaml", "brunel"),
])  # fmt: skip
def test_missing_networks(name, word):
    with pytest.raises(NetworkError, match=f"neither a file nor a built-in network.*{word}"):
        load(name)


def test_a_mapping_may_be_reused_and_overridden():
    base = "{C_m: 250 pF, tau_m: 20 ms, E_L: 0 mV, V_th: 20 mV, V_reset: 10 mV, t_ref: 2 ms}"
    data = small()
    data["populations"]["Exc"]["parameters"] = "@"
    text_ = yaml.safe_dump(data).replace("'@'", f"{{<<: {base}, V_th: 15 mV}}")
    import automfm_hpc.description as module

    network = Network.from_dict(yaml.load(text_, module._Loader))
    assert network.population("Exc").parameters["V_th"] == 15.0


# --- variants -------------------------------------------------------------------------------------


def differences(one, other):
    a, b = one.to_dict(), other.to_dict()

    def flat(data, prefix=()):
        if isinstance(data, dict):
            return {k: v for key, value in data.items() for k, v in flat(value, (*prefix, key)).items()}
        return {prefix: data}

    a, b = flat(a), flat(b)
    return {".".join(k): b.get(k) for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)}


@pytest.mark.parametrize(("variant", "expected"), [
    ("ataxia", {"projections.GrC->PC/aa.indegree.mean": 92 * 0.759, "projections.GrC->PC/aa.indegree.sd": 24 * 0.759,
                "projections.GrC->PC/pf.indegree.mean": 1529 * 0.759, "projections.GrC->PC/pf.indegree.sd": 300 * 0.759,
                "projections.BC->PC.indegree.mean": 11.2 * 0.921, "projections.BC->PC.indegree.sd": 4.2 * 0.921,
                "projections.SC->PC.indegree.mean": 4.54 * 0.921, "projections.SC->PC.indegree.sd": 2.4 * 0.921,
                "variant": "ataxia", "pathology": "ataxia"}),
    ("schizophrenia-like", {"projections.mf->GrC.weight": "0.092 nS", "variant": "schizophrenia-like",
                            "pathology": "schizophrenia"}),
    ("autism-like", {"projections.mf->GrC.weight": "0.368 nS", "variant": "autism-like", "pathology": "autism"}),
])  # fmt: skip
def test_variants_change_only_what_they_say(variant, expected):
    network = load("cerebellum")
    found = differences(network, network.with_variant(variant))
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


def test_variants_do_not_touch_their_network_nor_each_other():
    network = load("cerebellum")
    before = network.to_yaml()
    network.with_variant("ataxia")
    assert network.to_yaml() == before
    assert network.with_variant(None) is network
    varied = network.with_variant("ataxia")
    assert varied.with_variant("ataxia") is varied
    with pytest.raises(NetworkError, match="is the variant 'ataxia' already"):
        varied.with_variant("autism-like")
    with pytest.raises(NetworkError, match=r"no variant 'ataksia'.*'ataxia'"):
        network.with_variant("ataksia")


@given(st.floats(0.01, 100), st.sampled_from(["K", "Q", "tau_syn", "E"]))
def test_factors_multiply_one_number(factor, quantity):
    network = load("cerebellum")
    changed = change_value(network, f"{quantity}[GoC->GrC]", f"x{factor!r}")
    old, new = network.onto("GrC")[1], changed.onto("GrC")[1]
    attribute = {"K": "indegree", "Q": "weight", "tau_syn": "tau_syn", "E": "E_rev"}[quantity]
    expected = getattr(old, attribute)
    if quantity == "K":
        expected = Distribution(pytest.approx(expected.mean * factor), pytest.approx(expected.sd * factor))
        assert new.indegree == expected
    else:
        assert getattr(new, attribute) == pytest.approx(expected * factor)
    assert replace(new, **{attribute: getattr(old, attribute)}) == old
    assert len(differences(network, changed)) == (2 if quantity == "K" else 1) or factor == 1.0


def test_replaced_values():
    network = load("cerebellum")
    assert change_value(network, "GoC.I_e", "20 pA").population("GoC").parameters["I_e"] == 20.0
    assert change_value(network, "N[GoC]", "x2").population("GoC").size == 142
    assert change_value(network, "K[mf->GrC]", 3).onto("GrC")[0].indegree == Distribution(3.0, 0.0)
