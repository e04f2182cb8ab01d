"""Micro to meso: published values, merged pathways, and what no description may change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automfm_hpc import Network, remap
from automfm_hpc.description import builtin_names
from automfm_hpc.errors import NetworkError
from automfm_hpc.network import Distribution
from automfm_hpc.variants import change_value

CEREBELLUM = Network.load("cerebellum")
TABLE = {  # K, its sd, Q = weight x synapses per pair (nS), tau_syn (ms), E (mV), delay (ms): De Schepper et al. 2022
    "mf->GrC": (4.0, 0.0, 0.23, 5.8, 0, 1),
    "mf->GoC": (114, 31, 0.24, 0.23, 0, 1),
    "GoC->GrC": (3.5, 1.6, 0.24 * 1.5, 13.61, -80, 2),
    "GoC->GoC": (19.7, 7.8, 0.007 * 160, 10, -80, 4),
    "GrC->GoC/aa": (298, 110, 0.82, 0.5, 0, 2),
    "GrC->GoC/pf": (1062, 310, 0.05, 0.5, 0, 5),
    "GrC->PC/aa": (92, 24, 0.41, 1.1, 0, 2),
    "GrC->PC/pf": (1529, 300, 0.14, 1.1, 0, 5),
    "GrC->SC": (518, 160, 0.08, 0.64, 0, 5),
    "GrC->BC": (841, 140, 0.06, 0.64, 0, 5),
    "BC->BC": (18, 7.9, 0.006 * 99, 2.0, -80, 4),
    "SC->SC": (14, 5.1, 0.005 * 100, 2.0, -80, 4),
    "BC->PC": (11.2, 4.2, 0.8, 2.8, -80, 4),
    "SC->PC": (4.54, 2.4, 0.17 * 9.5, 2.8, -80, 5),
}
CELLS = {  # C_m tau_m E_L V_th V_reset t_ref k_adap k_1 k_2 A1 A2 I_e lambda_0 tau_V V_min: Geminiani et al. 2019
    "GrC": (7, 24.15, -62, -41, -70, 1.5, 0.022, 0.311, 0.041407868, 0.01, -0.94, -0.888, 1.0, 0.3, -150),
    "GoC": (145, 44, -62, -55, -75, 2, 0.217, 0.031, 0.023, 259.988, 178.01, 16.214, 0.15, 0.09, -150),
    "BC": (14.6, 9.125, -68, -53, -78, 1.59, 2.025, 1.887, 1.096, 5.953, 5.863, 3.711, 1.8, 1.0, -150),
    "SC": (14.6, 9.125, -68, -53, -78, 1.59, 2.025, 1.887, 1.096, 5.953, 5.863, 3.711, 1.8, 1.0, -150),
    "PC": (334, 47, -59, -43, -69, 0.5, 1.491, 0.195, 0.041, 157.622, 172.622, 700, 4.0, 3.5, -350),
}
NAMES = ("C_m", "tau_m", "E_L", "V_th", "V_reset", "t_ref", "k_adap", "k_1", "k_2", "A1", "A2", "I_e", "lambda_0",
         "tau_V", "V_min")  # fmt: skip


def test_the_cerebellum_has_the_published_connections():
    found = remap(CEREBELLUM).by_projection()
    assert set(found) == set(TABLE)
    for name, expected in TABLE.items():
        row = tuple(found[name][k] for k in ("K", "K_sd", "Q", "tau_syn", "E", "delay"))
        assert row == pytest.approx(expected, rel=1e-12), name


def test_the_cerebellum_has_the_published_cells():
    parameters = remap(CEREBELLUM)
    sizes = dict(zip((*parameters.populations, *parameters.inputs), parameters.N))
    assert sizes == {"GrC": 30420, "GoC": 71, "BC": 150, "SC": 302, "PC": 69, "mf": 117}
    assert CEREBELLUM.inputs[0].relays == 2340
    for cell in parameters.cells:
        assert dict(cell.parameters) == dict(zip(NAMES, map(float, CELLS[cell.population])))


def test_matrices_hold_what_the_cells_hold():
    p = remap(CEREBELLUM)
    assert p.channels == ("mf", "GoC", "GrC/aa", "GrC/pf", "GrC", "BC", "SC")
    assert p.channel_sources == ("mf", "GoC", "GrC", "GrC", "GrC", "BC", "SC")
    i, j = p.populations.index("PC"), p.channels.index("GrC/aa")
    assert (p.K[i, j], p.K_sd[i, j], p.Q[i, j], p.E[i, j], p.tau_syn[i, j], p.delay[i, j]) == (92, 24, 0.41, 0, 1.1, 2)
    absent = p.K == 0
    assert absent.sum() == p.K.size - len(TABLE)
    for name in ("Q", "E", "tau_syn", "delay"):
        assert np.array_equal(np.isnan(getattr(p, name)), absent)
    pc = p.cell("PC")
    assert pc.axes == ("GrC", "BC", "SC")
    assert pc.channel_axis.tolist() == [0, 0, 1, 2]


def test_private_sources_are_infinitely_many():
    p = remap(Network.load("brunel"))
    assert p.N.tolist() == [10000, 2500, np.inf]
    assert np.isnan(p.E).all() and np.isnan(p.tau_syn).all()


def test_published_zerlaut_values():
    p = remap(Network.load("adex_cortex"))
    rows = p.by_projection()
    for target in ("RS", "FS"):
        assert (rows[f"RS->{target}"]["K"], rows[f"RS->{target}"]["Q"]) == (400, 1.0)
        assert (rows[f"FS->{target}"]["K"], rows[f"FS->{target}"]["Q"], rows[f"FS->{target}"]["E"]) == (100, 5.0, -80)
        assert rows[f"RS->{target}"]["K_sd"] == pytest.approx(np.sqrt(8000 * 0.05 * 0.95), abs=0.01)
        assert rows[f"FS->{target}"]["K_sd"] == pytest.approx(np.sqrt(2000 * 0.05 * 0.95), abs=0.01)


def conductance(parameters, target):
    """Total K Q tau_syn of a target by source, what the mean conductance is proportional to."""
    total = {}
    for c in parameters.cell(target).channels:
        total[c.source] = total.get(c.source, 0.0) + c.K * c.Q * c.tau_syn
    return total


@pytest.mark.parametrize("name", builtin_names())
def test_merging_leaves_one_channel_per_source(name):
    merged = remap(Network.load(name), merge=True)
    for cell in merged.cells:
        assert len({c.source for c in cell.channels}) == len(cell.channels) == len(cell.axes)
    listed = [p for cell in merged.cells for c in cell.channels for p in c.projections]
    assert sorted(listed) == sorted(p.name for p in Network.load(name).projections)


@given(st.lists(st.tuples(st.floats(1, 2000), st.floats(0, 300), st.floats(0.001, 2), st.floats(1, 200)), min_size=2,
                max_size=5))
def test_merging_keeps_the_total_conductance(pathways):
    pf = next(p for p in CEREBELLUM.projections if p.name == "GrC->PC/pf")
    others = tuple(p for p in CEREBELLUM.projections if not p.name.startswith("GrC->PC"))
    new = tuple(replace(pf, name=f"GrC->PC/{n}", indegree=Distribution(K, sd), weight=w, synapses=Distribution(m))
                for n, (K, sd, w, m) in enumerate(pathways))
    network = replace(CEREBELLUM, projections=others + new)
    apart, merged = remap(network), remap(network, merge=True)
    assert conductance(merged, "PC") == pytest.approx(conductance(apart, "PC"), rel=1e-12)
    channel = next(c for c in merged.cell("PC").channels if c.source == "GrC")
    assert pytest.approx(sum(K for K, *_ in pathways)) == channel.K
    assert channel.indegree.sd == pytest.approx(np.sqrt(sum(sd**2 for _, sd, *_ in pathways)))
    least, most = min(w * m for *_, w, m in pathways), max(w * m for *_, w, m in pathways)
    assert least * (1 - 1e-12) <= channel.Q <= most * (1 + 1e-12)


def test_different_synapses_are_not_merged():
    network = change_value(CEREBELLUM, "tau_syn[GrC->PC/aa]", "x2")
    with pytest.raises(NetworkError, match=r"PC: the pathways from GrC have different tau_syn or E_rev.*merge=False"):
        remap(network, merge=True)


@given(st.floats(0.05, 20), st.sampled_from(sorted(TABLE)))
def test_a_variant_of_one_projection_changes_one_entry(factor, name):
    before, after = remap(CEREBELLUM), remap(change_value(CEREBELLUM, f"Q[{name}]", f"x{factor!r}"))
    source, target = name.split("->")[0], name.split("->")[1].split("/")[0]
    channel = source + ("/" + name.split("/")[1] if "/" in name else "")
    i, j = before.populations.index(target), before.channels.index(channel)
    assert after.Q[i, j] == pytest.approx(before.Q[i, j] * factor)
    after.Q[i, j] = before.Q[i, j]
    for quantity in ("K", "K_sd", "Q", "E", "tau_syn", "delay", "N"):
        assert np.array_equal(getattr(before, quantity), getattr(after, quantity), equal_nan=True)


def test_variants_reach_the_parameters():
    control, ataxia = remap(CEREBELLUM), remap(CEREBELLUM, "ataxia")
    pc = control.populations.index("PC")
    ratio = ataxia.K[pc] / np.where(control.K[pc] > 0, control.K[pc], np.nan)
    assert ratio[np.isfinite(ratio)] == pytest.approx([0.759, 0.759, 0.921, 0.921])
    others = [i for i in range(5) if i != pc]
    assert np.array_equal(control.K[others], ataxia.K[others])


def test_a_severed_projection_leaves_no_channel():
    network = change_value(CEREBELLUM, "K[GoC->GrC]", 0)
    assert remap(network).cell("GrC").axes == ("mf",)
    with pytest.raises(NetworkError, match="GrC: every projection onto it has in-degree 0"):
        remap(change_value(network, "K[mf->GrC]", 0))
    with pytest.raises(NetworkError, match=r"no population 'GRC'.*'GrC'"):
        remap(network).cell("GRC")
