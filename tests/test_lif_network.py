"""LIF networks as general descriptions and back, varying delays, and the theory from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from automfm_hpc import MeanField, Network, lif, lif_report
from automfm_hpc.cli import main
from automfm_hpc.errors import LIFError, NetworkError
from automfm_hpc.library import Library, publish
from automfm_hpc.lif_mean_field import fit_documents, lif_mean_field
from automfm_hpc.lif_network import lif_plan, spiking_network, theory_network
from automfm_hpc.network import Distribution
from automfm_hpc.protocols import constant
from automfm_hpc.records import make_record
from automfm_hpc.spiking import measure, run_trial
from automfm_hpc.wiring import draw_wiring


@pytest.mark.parametrize("name", ["microcircuit", "bos2016", "brunel2000"])
def test_there_and_back_nothing_changes(name):
    net = lif.LIFNetwork.load(name)
    described = spiking_network(net)
    assert Network.from_dict(described.to_dict()) == described  # also through YAML, delays with their spread
    back = theory_network(described)
    point, again = lif.working_point(net), lif.working_point(back)
    np.testing.assert_allclose(again.rates, point.rates, rtol=1e-12)
    f = [10.0, 60.0]
    ours, theirs = (lif.effective_connectivity(n, p, f) for n, p in ((net, point), (back, again)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_theory_of_a_built_in_description_is_the_papers():
    rates = lif.self_consistent_rates(theory_network(Network.load("brunel"))).rates
    assert rates == pytest.approx([37.9497, 37.9497], abs=1e-3)  # 37.7 Hz in Brunel 2000, figure 1C
    with pytest.raises(LIFError, match="GrC is made of eglif_cond_alpha_multisyn cells"):
        theory_network(Network.load("cerebellum"))


def test_parallel_pathways_keep_mean_and_variance():
    base = Network.load("brunel").to_dict()
    base["projections"]["E->E/b"] = {**base["projections"]["E->E"], "weight": "0.3 mV", "indegree": {"mean": 200}}
    base["projections"]["E->I"]["synapses_per_pair"] = {"mean": 2.0, "sd": 1.0}
    net = theory_network(Network.from_dict(base))
    assert net.K[0, 0] * net.J[0, 0] == pytest.approx(1000 * 0.1 + 200 * 0.3)
    assert net.K[0, 0] * net.J[0, 0] ** 2 == pytest.approx(1000 * 0.01 + 200 * 0.09)
    assert net.K[1, 0] * net.J[1, 0] == pytest.approx(1000 * 0.2)
    assert net.K[1, 0] * net.J[1, 0] ** 2 == pytest.approx(1000 * 0.01 * 5.0)


def test_what_cannot_be_described_is_refused():
    net = lif.LIFNetwork.load("microcircuit")
    with pytest.raises(LIFError, match="needs the population sizes N"):
        spiking_network(net.replace(N=None))
    with pytest.raises(LIFError, match="unknown indegrees"):
        spiking_network(net, indegrees="random")
    with pytest.raises(LIFError, match="delta and exponential synapses cannot be mixed"):
        spiking_network(net.replace(tau_syn_ext=np.zeros(8)))
    with pytest.raises(LIFError, match="lognormal"):
        spiking_network(net.replace(delay_dist="lognormal"))
    with pytest.raises(NetworkError, match="one excitatory receptor"):
        spiking_network(net.replace(tau_syn_ext=np.full(8, 2.0)))


def test_delays_are_drawn_as_described():
    base = Network.load("brunel").to_dict()
    base["projections"]["E->E"]["delay"] = {"mean": "1.5 ms", "sd": "0.75 ms"}
    network = Network.from_dict(base)
    wiring = draw_wiring(network, 0.11, seed=3)
    assert set(wiring.delays) == {"E->E"}
    delays = wiring.delays["E->E"]
    assert delays.size == wiring.pairs["E->E"].pre.size and delays.min() > 0
    # Normal of mean 1.5 and sd 0.75 cut at zero, two standard deviations below the mean.
    cut = np.exp(-2.0) / np.sqrt(2 * np.pi) / 0.97724987
    assert delays.mean() == pytest.approx(1.5 + 0.75 * cut, abs=4 * 0.75 / np.sqrt(delays.size))
    assert delays.std() == pytest.approx(0.75 * np.sqrt(1 - 2 * cut - cut**2), rel=0.005)
    np.testing.assert_array_equal(delays, draw_wiring(network, 0.11, seed=3).delays["E->E"])
    with pytest.raises(NetworkError, match="must not be negative"):
        base["projections"]["E->E"]["delay"] = {"mean": "1.5 ms", "sd": "-1 ms"}
        Network.from_dict(base)


def sparse(scale=1.0):
    """Two populations of exponential synapses, sparse and inhibition dominated, with delays that vary."""
    jump = 0.2
    return lif.LIFNetwork(
        populations=("E", "I"), K=[[200.0, 50.0], [200.0, 50.0]], J=[[jump, -6 * jump]] * 2, V_th=15.0, V_reset=0.0,
        tau_m=10.0, t_ref=2.0, tau_syn=0.5, K_ext=[[1000.0], [1000.0]], J_ext=[[jump], [jump]], nu_ext=[10.0],
        tau_syn_ext=[0.5], mean_ext=0.0, N=[2000 * scale, 500 * scale], delay=1.5, delay_sd=0.75,
        delay_dist="truncated_gaussian", label="sparse",
    )  # fmt: skip


def test_nest_fires_at_the_theorys_rate():
    net = sparse()
    recorded = run_trial(spiking_network(net), constant({"ext1": 10.0}, 600.0, 200.0), seed=1)
    assert recorded.notes == ()
    found = measure(recorded, ["E", "I"])
    assert found["rate"] == pytest.approx(lif.working_point(net, method="second_order").rates, rel=0.03)
    assert (np.abs(found["correlation"]) < 0.05).all()


@pytest.mark.slow
def test_the_microcircuit_in_nest_is_near_theory():
    """A tenth of the cells, their in-degrees kept and drawn with the spread of a random network; minutes."""
    net = lif.LIFNetwork.load("microcircuit")
    network = spiking_network(net, indegrees="poisson")
    recorded = run_trial(network, constant({i.name: i.rate for i in network.inputs}, 1000.0, 300.0), 1, scale=0.1)
    rate = measure(recorded, net.populations)["rate"]
    theory = lif.self_consistent_rates(net).rates
    # Few cells share most of their inputs: layers 2/3 and 5 swing together and fire more than large networks do.
    quiet = [net.index(p) for p in ("4E", "4I", "6E", "6I")]
    assert rate[quiet] == pytest.approx(theory[quiet], rel=0.15)
    assert np.abs(rate - theory).max() < 3.5


def test_a_poisson_description_spreads_in_degrees():
    described = spiking_network(sparse(), indegrees="poisson")
    assert {p.name: p.indegree for p in described.projections}["E->E"] == Distribution(200.0, np.sqrt(200.0))
    assert {p.name: p.indegree for p in described.projections}["ext1->E"].sd == 0.0


# --- mean field, library, command line --------------------------------------------------------------


def test_published_it_is_found_and_loaded_the_same(tmp_path):
    network = Network.load("brunel")
    net = theory_network(network)
    model = lif_mean_field(net, network=network)
    assert model.inputs == ("ext",) and model.metadata["theory"] == "Siegert, shift"
    model.save(tmp_path / "model.zarr")
    plan = lif_plan(network, lif.self_consistent_rates(net).rates)
    record = make_record(plan, {"fits": fit_documents(model)}, {"references": {}})
    identity = publish(tmp_path / "library", record, tmp_path / "model.zarr")
    found = Library.open(tmp_path / "library").search(network="brunel", Q={"I->E": (-0.6, -0.4)})
    assert found.ids == (identity,) and found.show(identity)["transfer_functions"]["E"]["kind"] == "lif"
    again = MeanField.load(found.model_path(identity))
    x = np.array([[20.0, 38.0, 38.0]])
    for a, b in zip(model.transfer_functions, again.transfer_functions, strict=True):
        np.testing.assert_array_equal(a.derivatives(x)[0], b.derivatives(x)[0])


def test_the_command_line_says_rates_spectra_and_stability(capsys, tmp_path):
    assert main(["lif", "microcircuit", "--json", "--spectra", "--frequencies", "1", "100", "100"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rates_Hz"] == pytest.approx([0.754, 2.794, 4.440, 5.823, 7.154, 8.470, 1.160, 7.756], abs=6e-4)
    assert said["stable"] and len(said["fixed_points"]) == 1 and said["fixed_points_complete"]
    assert [m["frequency_Hz"] > 159 for m in said["growing_modes"]] == [True, True]
    assert len(said["spectra"]["power_Hz"]["23E"]) == 100 and said["spectral_peaks"]["4I"][0]["frequency_Hz"] == 81.0
    assert any("grows by" in w for w in said["warnings"])
    assert main(["lif", "brunel"]) == 0
    assert "37.950" in capsys.readouterr().out
    path = tmp_path / "mine.yaml"
    path.write_text(spiking_network(sparse()).to_yaml())
    assert main(["lif", str(path), "--method", "second_order"]) == 0
    assert "sparse" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint", "code"),
    [
        (["brunell"], "Did you mean 'brunel'", 1),
        (["nothing.yaml"], "nothing.yaml", 1),
        (["cerebellum"], "eglif_cond_alpha_multisyn", 1),
        (["microcircuit", "--variant", "x"], "has no variants", 1),
        (["brunel", "--method", "shfit"], "Did you mean 'shift'", 1),
        (["brunel", "--publish"], "needs --out RUN", 2),
        (["brunel", "--frequencies", "5", "1", "10"], "--frequencies", 2),
    ],
)
def test_mistakes_are_named(words, complaint, code, capsys):
    assert main(["lif", *words]) == code
    captured = capsys.readouterr()
    assert complaint in captured.err and captured.out == "" and len(captured.err.splitlines()) == 1


@pytest.mark.slow
def test_kept_as_a_run_it_is_solved_published_and_validated(tmp_path, capsys):
    run, catalog = str(tmp_path / "run"), str(tmp_path / "catalog")
    assert main(["lif", "brunel", "--out", run, "--publish", "--catalog", catalog, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)["record"]
    assert main(["solve", run, "--drive", "ext=20", "--order", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rates"]["E"] == pytest.approx(37.9497, abs=1e-3)
    assert main(["library", "search", "network=brunel", "--catalog", catalog]) == 0
    assert record in capsys.readouterr().out
    assert main(["validate", run, "--protocols", "constant", "--seeds", "1", "--order", "1", "--scale", "0.15",
                 "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)["protocols"]
    assert len(scored) == 5
    for row in (row for s in scored for row in s["populations"].values()):
        # At this scale cells share two thirds of their inputs, which makes them faster than the theory.
        assert -0.2 * row["network"] < row["error"] < 0.05 * row["network"]


def test_warnings_tell_the_error_of_the_first_order():
    net = lif.LIFNetwork.load("microcircuit")
    said = lif_report.report(net)["warnings"]
    assert any("first order in sqrt(tau_syn/tau_m) is off by up to" in w for w in said)
    assert not any("first order" in w for w in lif_report.report(net, method="second_order")["warnings"])
