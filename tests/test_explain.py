"""The ladder in real NEST: the replay is the network again, and each rung takes away what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from automfm_hpc import Network, lif, replay, stages
from automfm_hpc.errors import MeanFieldError, UsageError
from automfm_hpc.experiment import Experiment, Trial
from automfm_hpc.explain import experiments, parse_drives, read_explanation, results_file, run_explanation
from automfm_hpc.explain_table import table
from automfm_hpc.mean_field import MeanField
from automfm_hpc.plan import make_plan
from automfm_hpc.pools import Serial
from automfm_hpc.protocols import constant
from automfm_hpc.rate_models import RateModel
from automfm_hpc.remap import remap
from automfm_hpc.run_folder import Run
from automfm_hpc.rungs import RECORDED, RUNGS, Sampling, choose, climb, make_sources, restricted
from automfm_hpc.store import write_model
from automfm_hpc.trains import handed_on, summed
from automfm_hpc.wiring import draw_wiring

NAMES = [r.name for r in RUNGS]
LIF = "{C_m: 250 pF, tau_m: 20 ms, E_L: 0 mV, V_th: 20 mV, V_reset: 10 mV, t_ref: 2 ms}"

# A shared input, recurrent excitation and inhibition through NEST's own conductance-based cells, without noise.
RECURRENT = """
name: recurrent
description: deterministic cells of NEST's own model with shared sources
T: 5 ms
populations:
  E:
    size: 120
    model: aeif_cond_exp
    rate_range: [0 Hz, 80 Hz]
    parameters: &cell {C_m: 200 pF, g_L: 10 nS, E_L: -65 mV, V_th: -50 mV, V_reset: -65 mV, t_ref: 5 ms, a: 4 nS,
                       b: 20 pA, Delta_T: 2 mV, tau_w: 50 ms, V_peak: -40 mV}
  I: {size: 40, model: aeif_cond_exp, rate_range: [0 Hz, 80 Hz], parameters: *cell}
inputs:
  ext: {sources: 60, rate: 20 Hz, rate_range: [0 Hz, 40 Hz]}
projections:
  ext->E: {indegree: {mean: 20, sd: 4}, weight: 6 nS, tau_syn: 5 ms, E_rev: 0 mV, delay: 1 ms}
  ext->I: {indegree: {mean: 20, sd: 4}, weight: 6 nS, tau_syn: 5 ms, E_rev: 0 mV, delay: 1.5 ms}
  E->E: {indegree: {mean: 10, sd: 3}, synapses_per_pair: {mean: 2, sd: 0.5}, weight: 1 nS, tau_syn: 5 ms, E_rev: 0 mV,
         delay: 2 ms}
  E->I: {indegree: {mean: 10, sd: 3}, weight: 3 nS, tau_syn: 5 ms, E_rev: 0 mV, delay: 0.7 ms}
  I->E: {indegree: {mean: 8, sd: 2}, weight: 8 nS, tau_syn: 5 ms, E_rev: -80 mV, delay: 1 ms}
"""

# Every cell counts its Poisson sources; nobody else fires.
FORWARD = f"""
name: forward
description: cells that share Poisson sources and nothing else
T: 5 ms
populations:
  A: {{size: 150, model: iaf_psc_delta, rate_range: [0 Hz, 80 Hz], parameters: {LIF}}}
inputs:
  ext: {{sources: 500, rate: 30 Hz, rate_range: [20 Hz, 50 Hz]}}
projections:
  ext->A: {{indegree: {{mean: 160, sd: 24}}, weight: 0.2 mV, delay: 1 ms}}
"""

# One source makes all cells of P fire at once; ten of them make a cell of B fire, fewer do not.
SYNCHRONOUS = f"""
name: synchronous
description: coincidence detectors behind perfectly synchronous cells
T: 5 ms
populations:
  P: {{size: 40, model: iaf_psc_delta, rate_range: [0 Hz, 80 Hz], parameters: {LIF}}}
  B: {{size: 50, model: iaf_psc_delta, rate_range: [0 Hz, 80 Hz], parameters: {LIF}}}
inputs:
  ext: {{sources: 1, rate: 12 Hz, rate_range: [0 Hz, 40 Hz]}}
projections:
  ext->P: {{indegree: {{mean: 1, sd: 0}}, weight: 30 mV, delay: 1 ms}}
  P->B: {{indegree: {{mean: 10, sd: 0}}, weight: 2.5 mV, delay: 1 ms}}
"""

# The E-GLIF model of the cerebellum's basket cells, with a shared input and inhibition among themselves.
EGLIF = """
name: baskets
description: E-GLIF cells with escape noise
T: 3.5 ms
populations:
  BC:
    size: 80
    model: eglif_cond_alpha_multisyn
    rate_range: [0 Hz, 150 Hz]
    parameters: {C_m: 14.6 pF, tau_m: 9.125 ms, E_L: -68 mV, V_th: -53 mV, V_reset: -78 mV, t_ref: 1.59 ms,
                 k_adap: 2.025 nS/ms, k_1: 1.887 1/ms, k_2: 1.096 1/ms, A1: 5.953 pA, A2: 5.863 pA, I_e: 3.711 pA,
                 lambda_0: 1.8 1/ms, tau_V: 1.0 mV, V_min: -150 mV}
inputs:
  pf: {sources: 600, rate: 10 Hz, rate_range: [0 Hz, 30 Hz]}
projections:
  pf->BC: {indegree: {mean: 300, sd: 60}, weight: 0.08 nS, tau_syn: 0.64 ms, E_rev: 0 mV, delay: 1 ms}
  BC->BC: {indegree: {mean: 18, sd: 7.9}, synapses_per_pair: {mean: 99, sd: 4}, weight: 0.006 nS, tau_syn: 2.0 ms,
           E_rev: -80 mV, delay: 4 ms}
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")

    def load(text):
        path = folder / f"{text.split()[1]}.yaml"
        path.write_text(text)
        return Network.load(path)

    return load


def one_drive(network, duration=1000.0, before=200.0, **drive):
    return Experiment(network, (constant(drive, duration, before),))


# --- the replay -----------------------------------------------------------------------------------


def test_replayed_cells_without_noise_fire_the_networks_spikes(described):
    """Spike by spike, through every delay, weight and receptor: the same cells with the same inputs."""
    network = described(RECURRENT)
    wiring = draw_wiring(network, 1.0, 3)
    protocol = constant({"ext": 20.0}, 600.0, 100.0)
    record = replay.record_network(network, wiring, protocol, 5, 0.1)
    windows = {n: s.between(100.0, 700.0) for n, s in record.spikes.items()}
    sources = make_sources(record, windows, ("ext",), 100.0, 700.0, 0.1, 1)
    for cell in remap(network).cells:
        name = cell.population
        n = wiring.sizes[name]

        def arrivals(name=name, n=n):
            for p in network.onto(name):
                c = wiring.pairs[p.name]
                came = handed_on(sources.trains[RECORDED][p.source], c.pre)
                yield p.name, 0, summed(came, c.post, c.synapses, n, 7000)

        alone = replay.run_isolated(network, cell, record.potentials[name], arrivals(), protocol.background, 700.0, 9,
                                    0.1)
        there = record.spikes[name]
        assert there.cells.size > 20 * n / 4
        one, other = (set(zip(s.cells.tolist(), np.rint(s.times * 10).astype(int).tolist(), strict=True))
                      for s in (there, alone))
        assert len(one ^ other) <= 0.002 * len(one)  # sums in another order may move a spike by a step


def test_noisy_cells_have_the_networks_rates_on_the_replay(described):
    found = climb(one_drive(described(EGLIF), 1500.0, pf=12.0), Sampling())["populations"]["BC"]
    rungs = found["rungs"]
    assert found["size"] == found["cells"] == 80 and list(rungs) == NAMES
    assert rungs["network"]["sd"] > 5.0
    assert rungs["replay"]["correlation"] > 0.98
    assert abs(rungs["replay"]["cost"]) < 4 * rungs["replay"]["cost_sem"] + 0.01 * rungs["network"]["rate"]
    assert rungs["mean in-degree"]["sd"] < 0.5 * rungs["mean rates"]["sd"]


# --- what the rungs take away -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def forward(described):
    experiment = one_drive(described(FORWARD), ext=32.0)
    return experiment, climb(experiment, Sampling())


def test_without_correlations_rungs_are_equal_but_for_the_spread_of_in_degrees(forward):
    _, found = forward
    rungs = found["populations"]["A"]["rungs"]
    assert rungs["replay"]["rate"] == rungs["network"]["rate"] > 5.0  # no noise: exactly
    assert rungs["inhibition shifted"]["rate"] == rungs["replay"]["rate"]  # there is none
    for name in NAMES[2:-1]:
        assert abs(rungs[name]["cost"]) < 4 * rungs[name]["cost_sem"] + 0.1, name
    assert found["cv"] == {"A": pytest.approx(rungs["network"]["cv"], abs=0.1), "ext": 1.0}


def test_rates_are_those_of_theory_with_and_without_the_spread_of_in_degrees(forward):
    """Siegert's rate for each cell's own in-degree, and for the mean one."""
    experiment, found = forward
    rate = found["inputs"]["ext"]
    pairs = draw_wiring(experiment.network, 1.0, experiment.seed_of(Trial(0, 0))).pairs["ext->A"]
    K = np.bincount(pairs.post, minlength=150).astype(float)

    def siegert(K):
        mean, sd = 0.02 * K * 0.2 * rate, np.sqrt(0.02 * K * 0.04 * rate)
        return lif.firing_rate(mean, sd, V_th=20.0, V_reset=10.0, tau_m=20.0, t_ref=2.0)

    rungs = found["populations"]["A"]["rungs"]
    last = rungs["mean in-degree"]
    own = np.array([float(siegert(k)) for k in K])
    for name in ("network", "independent Poisson", "mean rates"):
        assert rungs[name]["rate"] == pytest.approx(own.mean(), rel=0.05)
        assert rungs[name]["sd"] == pytest.approx(own.std(), rel=0.1)
    equal = float(siegert(K.mean()))
    assert last["rate"] == pytest.approx(equal, rel=0.05)
    assert last["cost"] == pytest.approx(equal - own.mean(), abs=4 * last["cost_sem"])
    assert last["sd"] < 0.3 * own.std()


def test_shifted_trains_are_no_longer_synchronous(described):
    """Ten synchronous spikes of 2.5 mV pass 20 mV; independent ones hardly ever do (mean 6 mV, sd 2.5 mV)."""
    found = climb(one_drive(described(SYNCHRONOUS), ext=12.0), Sampling())
    rungs = found["populations"]["B"]["rungs"]
    assert rungs["network"]["rate"] == rungs["replay"]["rate"] == pytest.approx(found["inputs"]["ext"], rel=0.1)
    for name in NAMES[3:]:
        if name not in ("inhibition shifted", "population activity"):
            assert rungs[name]["rate"] < 0.05 * rungs["network"]["rate"], name
    assert rungs["excitation shifted"]["cost"] == pytest.approx(-rungs["network"]["rate"], rel=0.05)
    assert rungs["excitation apart"]["rate"] == rungs["network"]["rate"]  # together they stay synchronous
    assert rungs["population activity"]["rate"] == pytest.approx(rungs["network"]["rate"], rel=0.1)  # all there is


def test_a_private_input_stays_poisson_on_every_rung():
    """Without connections to replay, all rungs are one run."""
    brunel = Network.load("brunel")
    alone = replace(brunel, projections=tuple(p for p in brunel.projections if p.source == "ext"))
    found = climb(Experiment(alone, (constant({"ext": 22.0}, 500.0, 200.0),), scale=0.02), Sampling())
    rungs = found["populations"]["E"]["rungs"]
    expected = float(lif.firing_rate(44.0, np.sqrt(4.4), V_th=20.0, V_reset=10.0, tau_m=20.0, t_ref=2.0))
    assert found["inputs"] == {"ext": 22.0}
    for name in NAMES:
        assert rungs[name]["rate"] == pytest.approx(expected, rel=0.03)


# --- which cells --------------------------------------------------------------------------------------


def test_a_sample_of_the_cells_keeps_its_own_connections(described):
    network = described(RECURRENT)
    wiring = draw_wiring(network, 1.0, 3)
    record = replay.record_network(network, wiring, constant({"ext": 20.0}, 200.0, 0.0), 5, 0.1)
    sources = make_sources(record, record.spikes, ("ext",), 0.0, 200.0, 0.1, 1)
    cell = remap(network).cell("E")
    assert choose(cell, wiring, sources, Sampling(), 1).tolist() == list(range(120))
    few = choose(cell, wiring, sources, Sampling(solved=30), 1)  # of a model with an adaptive solver
    assert few.size == 30 and np.unique(few).size == 30 and few.max() < 120
    assert choose(cell, wiring, sources, Sampling(events=1, least=7), 1).size == 7
    pairs, mine = wiring.pairs["I->E"], restricted(wiring.pairs["I->E"], few, 120)
    for number, original in enumerate(few):
        assert sorted(mine.pre[mine.post == number]) == sorted(pairs.pre[pairs.post == original])
    assert (np.diff(mine.post) >= 0).all()


def test_the_deviation_of_sampled_cells_is_from_their_own_rate(described):
    found = climb(one_drive(described(FORWARD), 500.0, ext=32.0), Sampling(cells=25))["populations"]["A"]
    rungs = found["rungs"]
    assert (found["size"], found["cells"]) == (150, 25)
    assert rungs["replay"]["deviation"] == 0.0
    assert rungs["replay"]["rate"] != rungs["network"]["rate"]  # 25 of 150 cells
    last = rungs["mean in-degree"]
    assert last["deviation"] == pytest.approx(last["rate"] - rungs["network"]["rate"])


# --- drives -------------------------------------------------------------------------------------------


def test_drives_are_read_and_refused(described):
    network = described(FORWARD)
    assert parse_drives(None, network) == ({"ext": 21.2}, {"ext": 26.0}, {"ext": 38.0})
    assert parse_drives(["30", "ext=40", "30"], network) == ({"ext": 30.0}, {"ext": 40.0})
    for word, complaint in (("fast", "not a drive"), ("-3", "not possible"), ("mf=3", "no input 'mf'")):
        with pytest.raises(UsageError, match=complaint):
            parse_drives([word], network)
    two = replace(network, inputs=(*network.inputs, replace(network.inputs[0], name="other")))
    assert parse_drives(["other=3,ext=4"], two) == ({"ext": 4.0, "other": 3.0},)
    with pytest.raises(UsageError, match="no rate for other"):
        parse_drives(["ext=4"], two)
    with pytest.raises(UsageError, match="is not a drive"):
        parse_drives(["4"], two)


# --- the stage ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def explained(described, tmp_path_factory):
    """A run whose transfer function is the tangent to Siegert's rate."""
    run = Run(tmp_path_factory.mktemp("explained") / "run")
    network = described(FORWARD)
    stages.write_plan(run, make_plan(network, points=4))
    tf = RateModel("A", ("ext",), np.array([[0.0, 60.0]]), np.array([1.5]), -30.0, "linear")
    write_model(run.model, MeanField(("A",), ("ext",), (tf,), np.array([150.0, 500.0]), 5.0).to_document())
    said: list[str] = []
    result = run_explanation(run, Serial(), said.append, ["28", "36"], duration=400.0)
    return run, result, said


def test_the_models_rungs_follow_at_the_inputs_that_were_recorded(explained):
    _, result, said = explained
    assert said[0] == "explain: 2 of 2 drives to do"
    assert [r["name"] for r in result["rungs"]][-4:] == ["mean in-degree", "transfer function", "mean field, order 1",
                                                         "mean field, order 2"]
    for drive in result["drives"]:
        rungs, rate = drive["populations"]["A"]["rungs"], drive["inputs"]["ext"]
        assert rate == pytest.approx(drive["drive"]["ext"], rel=0.02) and rate != drive["drive"]["ext"]
        assert rungs["transfer function"]["rate"] == pytest.approx(1.5 * rate - 30.0)
        assert rungs["mean field, order 1"]["rate"] == pytest.approx(1.5 * rate - 30.0, rel=1e-4)
        # from one drive's network to the mean field the costs along the way add up
        way = ["replay", "all shifted", *NAMES[7:10], "transfer function", "mean field, order 1"]
        total = rungs["mean field, order 1"]["rate"] - rungs["network"]["rate"]
        assert sum(rungs[n]["cost"] for n in way) == pytest.approx(total)


def test_what_is_done_is_kept_and_a_new_model_is_judged_anew(explained):
    run, result, _ = explained
    files = {p: p.stat().st_mtime_ns for p in (run.folder / "explain").iterdir()}
    assert len(files) == 2
    said: list[str] = []
    again = run_explanation(run, Serial(), said.append, ["28", "36"], duration=400.0)
    assert again == result and said == [] and read_explanation(run) == json.loads(json.dumps(result, allow_nan=False))
    next(iter(files)).write_text("{")  # damaged: done again, the other is left
    assert run_explanation(run, Serial(), said.append, ["28", "36"], duration=400.0) == result
    assert said == ["explain: 1 of 2 drives to do"]
    untouched = list(files)[1]
    assert untouched.stat().st_mtime_ns == files[untouched]


def test_the_command_prints_a_table_draws_a_figure_and_speaks_json(explained, automfm_here):
    run, result, _ = explained
    options = ("--drives", "28", "36", "--duration", "0.4")
    done = automfm_here("validate", run.folder, "--explain", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("== ext 28 Hz (in the recording ext ") and table(result) in done.stdout
    assert "independent Poisson -> mean rates" in done.stdout and "nan" not in done.stdout
    done = automfm_here("validate", run.folder, "--explain", *options, "--json")
    answer = json.loads(done.stdout)
    assert Path(answer.pop("figures")[0]).stat().st_size > 5000
    assert answer == json.loads(json.dumps(result)) == json.loads(results_file(run).read_text("utf-8"))


@pytest.mark.parametrize(("options", "words"), [
    (("--explain", "--drives", "often"), "'often' is not a drive"), (("--drives", "4"), "belongs to --explain"),
    (("--explain", "--protocols", "constant"), "does not go with --explain"),
    (("--explain", "--scale", "0"), "leaves no cells"), (("--explain", "--duration", "0"), "needs time"),
])  # fmt: skip
def test_wrong_options_are_one_line(explained, automfm_here, options, words):
    done = automfm_here("validate", explained[0].folder, *options)
    assert done.returncode == 2 and words in done.stderr and done.stderr.strip().count("\n") == 0


def test_a_run_without_a_model_is_told_what_to_do(described, tmp_path):
    run = Run(tmp_path / "run")
    stages.write_plan(run, make_plan(described(FORWARD), points=4))
    with pytest.raises(MeanFieldError, match="automfm fit"):
        run_explanation(run, Serial(), lambda text: None)


def test_every_drive_has_a_seed_and_a_settled_start():
    network = Network.load("adex_cortex")
    asked = experiments(network, parse_drives(["4", "8"], network))
    assert {e.protocols[0].presimulation for e in asked} == {1500.0}  # three times tau_w
    assert asked[0].seed_of(Trial(0, 0)) != asked[1].seed_of(Trial(0, 0))
    assert all(e.scale == 0.35 for e in asked)
