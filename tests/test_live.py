"""The same network described, imported and read from a live NEST kernel has the same mean-field parameters."""

from __future__ import annotations

import numpy as np
import pytest

from automfm_hpc import Network, nest_models, remap
from automfm_hpc.description import load
from automfm_hpc.errors import NetworkError
from automfm_hpc.spiking import connect, create, start_kernel
from automfm_hpc.wiring import draw_wiring


def by_size(parameters):
    """K, Q, tau_syn and E of each source and target, pathways in the order of their conductance."""
    rows: dict = {}
    for cell in parameters.cells:
        for c in cell.channels:
            rows.setdefault((c.source, cell.population), []).append((c.Q, c.K, c.tau_syn, c.E_rev))
    return {k: np.array(sorted(v), dtype=float) for k, v in rows.items()}


@pytest.mark.parametrize("name, scale", [("cerebellum", 0.05), ("brunel", 0.15), ("adex_cortex", 0.08)])
def test_live_kernel_gives_the_parameters_that_were_wired(name, scale):
    network = load(name)
    wiring = draw_wiring(network, scale, seed=3)
    nest = start_kernel(1, 0.1, 1)
    built = create(nest, network, wiring)
    connect(nest, network, wiring, built)
    inputs = {i.name: built.nodes[i.name] for i in network.inputs if i.sources is not None}
    populations = {p.name: built.nodes[p.name] for p in network.populations}
    live = Network.from_nest(populations, inputs, name="live", T=network.T)
    found = by_size(remap(live))
    assert found
    for (source, target), rows in found.items():
        wired = []
        for p in network.onto(target):
            if p.source != source:
                continue
            c = wiring.pairs[p.name]
            # several relays of one source make one pair in the kernel, with the summed weight
            pairs = np.unique(np.stack([c.post, c.pre]), axis=1).shape[1]
            K, total = pairs / wiring.sizes[target], p.weight * c.synapses.sum() / wiring.sizes[target]
            wired.append((abs(total / K) if p.E_rev is not None else total / K, K, p.tau_syn, p.E_rev))
        np.testing.assert_allclose(rows, np.array(sorted(wired), dtype=float), rtol=1e-9)
    np.testing.assert_array_equal(remap(live).N[: len(populations)], [wiring.sizes[p] for p in populations])


def test_a_users_script_becomes_a_mean_field_in_two_lines():
    nest = start_kernel(1, 0.1, 1)
    cells = nest.Create("iaf_psc_exp", 50, {"tau_m": 10.0, "C_m": 250.0, "tau_syn_ex": 0.5, "tau_syn_in": 0.5})
    noise = nest.Create("poisson_generator", params={"rate": 8000.0})
    nest.Connect(noise, cells, syn_spec={"weight": 87.8, "delay": 1.5})
    nest.Connect(cells, cells, {"rule": "fixed_indegree", "indegree": 5, "allow_multapses": False},
                 {"weight": -300.0, "delay": 1.5})
    network = Network.from_nest({"I": cells}, {"noise": noise})
    parameters = remap(network)
    assert parameters.by_projection()["I->I"] == {"K": 5.0, "K_sd": 0.0, "Q": -300.0, "tau_syn": 0.5, "E": None,
                                                  "delay": 1.5}
    assert parameters.by_projection()["noise->I"]["Q"] == 87.8
    assert network.inputs[0].rate == 8000.0 and network.population("I").parameters["tau_m"] == 10.0


def test_what_cannot_be_described_is_refused():
    nest = start_kernel(1, 0.1, 1)
    mixed = nest.Create("iaf_psc_exp", 4, {"tau_m": [10.0, 10.0, 20.0, 20.0]})
    with pytest.raises(NetworkError, match=r"tau_m differs between its cells \(10 to 20\)"):
        Network.from_nest({"X": mixed})
    with pytest.raises(NetworkError, match="unknown neuron model 'izhikevich'"):
        Network.from_nest({"X": nest.Create("izhikevich", 2)})
    with pytest.raises(NetworkError, match="neither parrot neurons nor one Poisson generator"):
        Network.from_nest({"X": nest.Create("iaf_psc_exp")}, {"in": nest.Create("dc_generator")})
    with pytest.raises(NetworkError, match="no connections between these nodes"):
        Network.from_nest({"X": nest.Create("iaf_psc_exp", 3)}, {"in": nest.Create("parrot_neuron", 2)})


def test_eglif_keeps_its_public_name():
    nest = start_kernel(1, 0.1, 1)
    model = nest_models.install(1)
    cells, source = nest.Create(model, 3), nest.Create("parrot_neuron", 2)
    nest.Connect(source, cells, syn_spec={"weight": 0.5, "delay": 1.0, "receptor_type": 0})
    network = Network.from_nest({"X": cells}, {"in": source})
    assert network.population("X").model == "eglif_cond_alpha_multisyn"
    assert remap(network).K[0, 0] == 2.0
