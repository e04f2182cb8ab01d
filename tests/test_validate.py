"""Scores on synthetic data whose answer is known, the layout of a validation, and the stage with real NEST."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automfm_hpc import Network, lif, stages, validate
from automfm_hpc.description import builtin_names
from automfm_hpc.errors import AutomfmError, UsageError
from automfm_hpc.mean_field import MeanField
from automfm_hpc.plan import make_plan
from automfm_hpc.pools import Serial
from automfm_hpc.protocols import KINDS, Protocol
from automfm_hpc.rate_models import RateModel
from automfm_hpc.run_folder import Run
from automfm_hpc.store import TrialStore, read_model, write_model
from automfm_hpc.validate import Tolerance
from automfm_hpc.validation import (
    notes,
    read_comparisons,
    resized,
    run_validation,
    solve_protocol,
    varied_alone,
    verdict,
)
from automfm_hpc.validation_plan import (
    default_scale,
    experiments,
    parse_kinds,
    protocols,
    results_file,
    store_of,
)
from automfm_hpc.validation_table import table

T_MS = np.arange(1000) + 0.5

# --- scores ---------------------------------------------------------------------------------------


def test_a_stationary_error_is_given_in_hz_percent_and_spreads():
    s = validate.stationary(np.array([9.0, 10.0, 11.0]), 12.5)
    assert (s.network, s.spread, s.error, s.percent, s.spreads) == pytest.approx((10.0, 1.0, 2.5, 25.0, 2.5))
    silent = validate.stationary(np.zeros(3), 0.5)
    assert silent.error == 0.5 and np.isnan([silent.percent, silent.spreads]).all()
    assert np.isnan(validate.stationary(np.array([4.0]), 5.0).spread)


@pytest.mark.parametrize(("error", "network", "spread", "good"), [
    (0.9, 2.0, 0.0, True), (1.1, 2.0, 0.0, False), (4.9, 50.0, 0.0, True), (-5.1, 50.0, 0.0, False),
    (5.9, 20.0, 3.0, True), (6.1, 20.0, 3.0, False), (0.9, 2.0, np.nan, True), (np.nan, 2.0, 1.0, False),
])  # fmt: skip
def test_any_one_of_three_tolerances_suffices(error, network, spread, good):
    assert Tolerance().accepts(error, network, spread) is good


def noisy(course, n, sd, seed):
    return course + np.random.default_rng(seed).normal(0.0, sd, (n, course.size))


def test_the_right_course_explains_all_that_can_be_explained():
    course = 20.0 + 4.0 * np.exp(-0.5 * ((T_MS - 500.0) / 60.0) ** 2)
    reached = [validate.time_course(noisy(course, 5, 12.0, k), course) for k in range(40)]
    r2, ceiling = np.array([(t.r2, t.ceiling) for t in reached]).T
    assert 0.3 < ceiling.mean() < 0.9
    assert r2.mean() == pytest.approx(ceiling.mean(), abs=4 * (r2 - ceiling).std() / np.sqrt(40) + 0.005)
    kernel = np.sqrt(1.0 / (2.0 * np.sqrt(np.pi) * 5.0))  # sd of white noise after a Gaussian of 5 ms
    assert np.mean([t.spread for t in reached]) == pytest.approx(12.0 * kernel, rel=0.03)
    assert np.mean([t.error for t in reached]) == pytest.approx(12.0 * kernel / np.sqrt(5), rel=0.05)


def test_a_shifted_course_has_the_shift_as_error_and_a_constant_explains_nothing():
    course = 20.0 + 4.0 * np.sin(2 * np.pi * T_MS / 500.0)
    exact = np.tile(course, (3, 1))
    t = validate.time_course(exact, course - 3.0)
    assert (t.error, t.percent) == pytest.approx((3.0, 15.0), rel=1e-3)
    assert np.isnan(t.spreads)
    assert validate.time_course(exact, np.full(1000, course.mean())).r2 == pytest.approx(0.0, abs=1e-3)
    assert validate.time_course(exact, course).r2 == pytest.approx(1.0)


@pytest.mark.parametrize("frequency", [1.0, 5.0, 30.0])
def test_a_coefficient_is_amplitude_and_phase(frequency):
    course = 3.0 + 2.5 * np.sin(2 * np.pi * frequency * T_MS / 1000.0 + 0.7)
    assert validate.fourier(course, frequency) == pytest.approx(2.5 * np.exp(0.7j))
    assert abs(validate.fourier(course, frequency + 1.0)) < 1e-10


@pytest.mark.parametrize("frequency", [1.0, 5.0, 20.0])
def test_gain_and_lag_of_a_first_order_system_with_honest_errors(frequency):
    """T dy/dt = 2 x - y: gain 2/sqrt(1 + (w T)^2), lag atan(w T); noise as in 5 seeds, repeated 300 times."""
    w, T = 2 * np.pi * frequency / 1000.0, 12.0
    gain, lag = 2.0 / np.hypot(1.0, w * T), np.degrees(np.arctan(w * T))
    drive = 10.0 + 4.0 * np.sin(w * T_MS)
    course = 20.0 + 4.0 * gain * np.sin(w * T_MS - np.radians(lag))
    found = [validate.response(noisy(course, 5, 20.0, k), drive, course, frequency) for k in range(300)]
    for name, true in (("gain", gain), ("lag", lag)):
        values, errors = np.array([(getattr(r, name), getattr(r, f"{name}_sem")) for r in found]).T
        assert values.mean() == pytest.approx(true, abs=4 * values.std() / np.sqrt(300) + 0.02 * errors.mean())
        assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.15)
    assert (found[0].gain_mean_field, found[0].lag_mean_field) == pytest.approx((gain, lag))


def test_without_a_response_the_gain_is_the_noise():
    """Mean of squared gains over mean of squared noises is 1: both estimate the same variance."""
    drive = 10.0 + 4.0 * np.sin(2 * np.pi * 10.0 * T_MS / 1000.0)
    found = [validate.response(noisy(np.full(1000, 20.0), 5, 20.0, k), drive, drive, 10.0) for k in range(300)]
    ratio = np.mean([r.gain**2 for r in found]) / np.mean([r.noise**2 for r in found])
    assert ratio == pytest.approx(1.0, abs=0.25)
    one = validate.response(noisy(drive, 1, 1.0, 0), drive, drive, 10.0)
    assert np.isnan([one.noise, one.lag_sem]).all() and one.gain == pytest.approx(1.0, abs=0.1)


def test_phases_wrap():
    assert validate.lag_of(-1.0 + 0.0j) == 180.0 and validate.lag_of(-1j) == 90.0
    assert validate.phase_difference(170.0, -170.0) == pytest.approx(-20.0)
    assert validate.phase_difference(-175.0, 175.0) == pytest.approx(10.0)


def test_slopes_and_values_at_bins():
    x, rates = np.array([1.0, 2.0, 5.0]), np.array([[1.0, 4.0, 9.0], [0.0, 0.0, 3.0]])
    assert validate.slope(x, rates) == pytest.approx([np.polyfit(x, r, 1)[0] for r in rates])
    times = np.arange(0.0, 20.0, 0.5)
    assert validate.at_bins(times, 3.0 * times, 10.0, 5) == pytest.approx(3.0 * (10.5 + np.arange(5)))


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=9, unique_by=lambda p: p[0]))
def test_the_trusted_range_is_the_widest_without_a_bad_drive(points):
    drives, good = [float(d) for d, _ in points], [g for _, g in points]
    fine = sorted(d for d, g in points if g)
    bad = [d for d, g in points if not g]
    spans = [(a, b) for a in fine for b in fine if a <= b and not any(a < d < b for d in bad)]
    found = validate.trusted_range(drives, good)
    if not spans:
        assert found is None
    else:
        widest = max(b - a for a, b in spans)
        assert found == min((s for s in spans if s[1] - s[0] == widest), key=lambda s: s[0])


# --- second order ---------------------------------------------------------------------------------


def test_the_exponential_filter_is_causal_and_answers_a_step_like_its_differential_equation():
    step = np.concatenate([np.zeros(20), np.ones(80)])
    filtered = validate.exponential(step, 8.0)
    before = 0.8 * np.exp(-np.arange(1, 21) / 8.0)  # from the mean, 0.8
    assert filtered[:20] == pytest.approx(before)
    assert filtered[20:] == pytest.approx(1.0 - (1.0 - before[-1]) * np.exp(-np.arange(1, 81) / 8.0))


def test_uncoupled_poisson_cells_have_half_the_binomial_variance():
    N, rate, T = 150, 30.0, 6.0
    activity = np.random.default_rng(3).poisson(N * rate / 1000.0, (6, 60_000)) * 1000.0 / N
    found = validate.filtered_variance(activity, T)
    bins = np.tanh(0.5 / T) * 2 * T  # of 1 ms: 0.2 % less than the continuous filter
    assert found == pytest.approx(1000.0 * rate / (2 * T * N) * bins, rel=0.03)
    binomial = activity.reshape(6, -1, 6).mean(axis=-1).var()  # T of 6 ms is 6 bins
    assert found == pytest.approx(binomial / 2, rel=0.06)


def coupled_poisson_cells(model, x, T, copies=64, milliseconds=2000, dt=0.2, seed=1):
    """A Markov process the equations do not know of: cells that fire at F(nu), nu their filtered activity."""
    rng, N = np.random.default_rng(seed), model.N[:2]
    nu = np.tile(model.fixed_points({"x": x}).stable[0].rates, (copies, 1))
    weights = np.array([[0.4, -0.7], [0.6, 0.0]])
    offset = np.array([8.0, 2.0]) + np.array([0.5, 0.3]) * x
    per_bin, keep = round(1.0 / dt), np.exp(-dt / T)
    counts = np.empty((milliseconds * per_bin, copies, 2))
    for row in counts:
        row[:] = rng.poisson(np.maximum(offset + nu @ weights.T, 0.0) * N * dt / 1000.0)
        nu = keep * nu + (1.0 - keep) * row / N * 1000.0 / dt
    bins = counts.reshape(milliseconds, per_bin, copies, 2).sum(axis=1)
    return bins.transpose(2, 1, 0)[:, :, 200:] * 1000.0 / N[:, None, None]


def test_the_variance_of_the_filtered_activity_is_c_of_the_master_equation():
    E = RateModel("E", ("E", "I", "x"), np.tile([0.0, 400.0], (3, 1)), np.array([0.4, -0.7, 0.5]), 8.0, "linear")
    inhibitory = RateModel("I", ("E", "x"), np.tile([0.0, 400.0], (2, 1)), np.array([0.6, 0.3]), 2.0, "linear")
    model = MeanField(("E", "I"), ("x",), (E, inhibitory), np.array([400.0, 100.0, np.inf]), 5.0)
    solved = model.solve(drive={"x": 20.0}, duration=0.3).isel(time=-1)
    activity = coupled_poisson_cells(model, 20.0, 5.0)
    rates = solved["rate"].values
    assert activity.mean(axis=(1, 2)) == pytest.approx(rates, rel=0.02)
    for i in range(2):
        found = validate.filtered_variance(activity[i], 5.0)
        # the source F (1/T - F)/N counts at most one spike per cell and T; these cells have no such limit
        c = float(solved["covariance"].values[i, i]) / (1.0 - 0.005 * rates[i])
        assert found == pytest.approx(c, rel=0.05)


# --- what is run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", builtin_names())
@pytest.mark.parametrize("kind", KINDS)
def test_protocols_stay_within_the_ranges_of_the_inputs(name, kind):
    network = Network.load(name)
    made = protocols(network, kind)
    assert made and len({p.name for p in made}) == len(made)
    for p in made:
        source = next(i for i in network.inputs if i.name == p.input)
        low, high = source.rate_range
        assert p.rate().min() >= low - 1e-9 and p.rate().max() <= high + 1e-9
        if kind != "constant":
            assert np.ptp(p.rate()) > 0.1 * (high - low)


def test_every_input_varies_in_turn():
    network = Network.load("brunel")
    second = replace(network.inputs[0], name="other", rate_range=(0.0, 10.0))
    more = [replace(p, name=p.name.replace("ext", "other"), source="other")
            for p in network.projections if p.source == "ext"]
    two = replace(network, inputs=(*network.inputs, second), projections=(*network.projections, *more))
    constants = protocols(two, "constant")
    assert len(constants) == 9  # 5 each, the resting point shared
    backgrounds = [p.background for p in constants]
    for name in ("ext", "other"):
        chosen = [backgrounds[k] for k in varied_alone(backgrounds, name)]
        assert len({b[name] for b in chosen}) == 5
        assert len({v for b in chosen for k, v in b.items() if k != name}) == 1
    assert {p.input for p in protocols(two, "sine")} == {"ext", "other"}


def test_reduced_networks_have_about_the_same_number_of_cells():
    for name in builtin_names():
        network = Network.load(name)
        total = sum(p.size for p in network.populations)
        least = 20 / min(p.size for p in network.populations) * total
        assert total * default_scale(network) == pytest.approx(min(total, max(3500, least)), rel=0.03)
    with pytest.raises(UsageError, match="leaves no cells"):
        experiments(Network.load("brunel"), ("constant",), scale=0.0)
    with pytest.raises(UsageError, match="at least one protocol and one seed"):
        experiments(Network.load("brunel"), ("constant",), seeds=0)


def test_a_dense_reduced_network_is_noted():
    network = Network.load("adex_cortex")
    (said,) = notes(experiments(network, ("constant",), scale=0.1)["constant"])
    assert "RS->RS 50 %" in said and "FS->FS 50 %" in said
    assert notes(experiments(network, ("constant",), scale=1.0)["constant"]) == ()


def test_kinds_are_parsed_in_their_usual_order():
    assert parse_kinds(None) == tuple(KINDS)
    assert parse_kinds("sine, constant") == ("constant", "sine")
    with pytest.raises(UsageError, match="Did you mean 'bursts'"):
        parse_kinds("constant,burst")


def test_a_verdict_names_who_fails_where():
    def at(x, y, **within):
        return {"background": {"x": x, "y": y}, "populations": {n: {"within": w} for n, w in within.items()}}

    scored = [at(1.0, 5.0, A=False, B=True), at(2.0, 5.0, A=True, B=True), at(3.0, 5.0, A=True, B=True),
              at(3.0, 1.0, A=False, B=False), at(3.0, 9.0, A=True, B=False)]
    found = verdict(scored, ("x", "y"))
    assert found["x"] == {"tested": [1.0, 2.0, 3.0], "failing": [["A"], [], []], "trusted": [2.0, 3.0]}
    assert found["y"]["trusted"] == [5.0, 5.0] and found["y"]["failing"] == [[], ["A", "B"], ["B"]]


def test_a_mean_field_that_does_not_come_back_says_so():
    """Two stable states: a strong step lifts it from the lower to the upper one, a weak one does not."""
    tf = RateModel("A", ("A", "x"), np.tile([0.0, 150.0], (2, 1)), np.array([0.12, 0.1]), -6.0, "logistic", 100.0)
    model = MeanField(("A",), ("x",), (tf,), np.array([1000.0, np.inf]), 5.0)
    for amplitude, words in ((2.0, []), (60.0, ["the mean field did not come back, it has another stable state: A"])):
        p = Protocol("step", "x", {"x": 5.0}, {"amplitude": amplitude})
        rate, sd, solved = solve_protocol(model, p, order=1)
        assert rate.shape == (1, 1000) and np.isnan(sd).all() and solved["status"] == "ok"
        assert [w.partition(" 0.")[0] for w in solved["warnings"]] == words


# --- the domain a model carries ---------------------------------------------------------------------


def one_population(**metadata):
    tf = RateModel("A", ("x",), np.array([[0.0, 100.0]]), np.array([0.5]), 1.0, "linear")
    return MeanField(("A",), ("x",), (tf,), np.array([100.0, np.inf]), 5.0, metadata)


def validity(trusted):
    return {"trusted": {"x": trusted}, "tolerance": {"percent": 10.0, "hz": 1.0, "spreads": 2.0}}


def test_a_drive_outside_the_trusted_range_is_a_warning_and_no_event():
    model = one_population(validity=validity([10.0, 20.0]))
    for inside in (10.0, 20.0, lambda t: 15.0 + 5.0 * np.sin(t)):
        assert model.solve(drive={"x": inside}, duration=0.1).attrs["warnings"] == []
    solved = model.solve(drive={"x": np.array([[0.0, 15.0], [0.1, 30.0]])}, duration=0.1)
    assert solved.attrs["status"] == "ok" and solved.attrs["events"] == []
    assert solved.attrs["warnings"] == ["x: 15 to 30 Hz: only from 10 to 20 Hz was the model within 10 % or 1 Hz or "
                                        "2 seed-to-seed spreads of the spiking network"]  # fmt: skip
    many = model.solve_many({"x": np.array([15.0, 5.0])}, duration=0.1)
    assert len(many.attrs["warnings"]) == 1 and many.attrs["warnings"][0].startswith("drive 1: x: 5 Hz: only from")


def test_a_model_that_agreed_nowhere_says_so_and_one_never_validated_says_nothing():
    nowhere = one_population(validity=validity(None)).solve(drive={"x": 15.0}, duration=0.1)
    assert "at none of the rates tested" in nowhere.attrs["warnings"][0]
    assert one_population().solve(drive={"x": 15.0}, duration=0.1).attrs["warnings"] == []


def test_the_resized_model_has_the_networks_cells_and_forgets_its_verdict():
    network = Network.load("brunel")
    tfs = tuple(RateModel(n, ("ext",), np.array([[0.0, 50.0]]), np.array([1.0]), 0.0, "linear") for n in "EI")
    model = MeanField(("E", "I"), ("ext",), tfs, np.array([10000.0, 2500.0, np.inf]), 5.0, {"validity": {}, "a": 1})
    small = resized(model, network, 0.1)
    assert small.N.tolist() == [1000.0, 250.0, np.inf] and dict(small.metadata) == {"a": 1}


# --- the stage --------------------------------------------------------------------------------------

CELLS = """
name: cells
description: cells that do not know of each other
T: 5 ms
populations:
  A:
    size: 150
    model: iaf_psc_delta
    rate_range: [0 Hz, 80 Hz]
    parameters: {C_m: 250 pF, tau_m: 20 ms, E_L: 0 mV, V_th: 20 mV, V_reset: 10 mV, t_ref: 2 ms}
inputs:
  ext: {sources: private, rate: 12 Hz, rate_range: [8 Hz, 20 Hz]}
projections:
  ext->A: {indegree: {mean: 1000, sd: 0}, weight: 0.1 mV, delay: 1 ms}
"""


def siegert(rate):
    """Theory of the uncoupled cells: mean and noise of the input, and their rate (Hz)."""
    mean, sd = 0.02 * 1000 * 0.1 * rate, np.sqrt(0.02 * 1000 * 0.01 * rate)
    return lif.firing_rate(mean, sd, V_th=20.0, V_reset=10.0, tau_m=20.0, t_ref=2.0)


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    """A run of uncoupled cells whose mean field is the tangent to Siegert's rate at 14 Hz: good there, bad at 8 Hz."""
    import xarray

    folder = tmp_path_factory.mktemp("validated")
    (folder / "cells.yaml").write_text(CELLS)
    network = Network.load(folder / "cells.yaml")
    run = Run(folder / "run")
    stages.write_plan(run, make_plan(network, points=4))
    slope = (siegert(16.0) - siegert(12.0)) / 4.0
    tf = RateModel("A", ("ext",), np.array([[0.0, 30.0]]), np.array([slope]), siegert(14.0) - 14.0 * slope, "linear")
    model = MeanField(("A",), ("ext",), (tf,), np.array([150.0, np.inf]), 5.0, {"network": "cells"})
    kept = xarray.Dataset({"rate": ("drive", [1.0, 2.0])})
    write_model(run.model, {**model.to_document(), "dataset": kept})
    said: list[str] = []
    result = run_validation(run, Serial(), said.append, ("constant", "sine"), seeds=2)
    return run, result, said


def test_constant_drives_are_judged_against_the_network(validated):
    _, result, _ = validated
    constants = [p for p in result["protocols"] if p["kind"] == "constant"]
    assert [p["background"]["ext"] for p in constants] == [8.48, 10.4, 12.8, 15.2, 17.6]
    for p in constants:
        row, x = p["populations"]["A"], p["background"]["ext"]
        assert row["network"] == pytest.approx(float(siegert(x)), rel=0.03, abs=0.3)  # the theory knows no NEST
        assert row["error"] == pytest.approx(row["mean_field"] - row["network"])
    assert not constants[0]["populations"]["A"]["within"]
    assert result["verdict"]["ext"]["trusted"][1] == 17.6 and result["verdict"]["ext"]["failing"][0] == ["A"]
    slopes = result["slopes"]["ext"]["A"]
    assert slopes["network"] == pytest.approx(slopes["mean_field"], rel=0.1)


def test_the_verdict_goes_into_the_model_and_all_else_stays(validated):
    run, result, _ = validated
    model = MeanField.load(run.folder)
    assert model.metadata["network"] == "cells"
    assert model.metadata["validity"]["trusted"] == {"ext": result["verdict"]["ext"]["trusted"]}
    assert read_model(run.model)["dataset"]["rate"].values.tolist() == [1.0, 2.0]
    assert model.solve(drive={"ext": 8.2}, duration=0.1).attrs["warnings"]
    assert not model.solve(drive={"ext": 14.0}, duration=0.1).attrs["warnings"]


def test_results_are_plain_and_the_same_from_the_disk(validated):
    run, result, _ = validated
    assert json.loads(results_file(run).read_text("utf-8")) == json.loads(json.dumps(result, allow_nan=False))
    again, _, compared = read_comparisons(run)
    assert again["kinds"] == ["constant", "sine"] and len(compared) == 11
    for c, p in zip(compared, again["protocols"], strict=True):
        assert c.protocol.name == p["name"] and c.activity.shape[:2] == (2, 1)
    text = table(result)
    assert "trusted: ext from" in text and "beyond tolerance at 8.48 Hz: A" in text and "nan" not in text


def test_done_trials_are_not_run_again(validated, monkeypatch):
    run, result, _ = validated
    monkeypatch.setattr("automfm_hpc.spiking.run_trial", lambda *a, **k: pytest.fail("a trial was run again"))
    said: list[str] = []
    again = run_validation(run, Serial(), said.append, ("constant", "sine"), seeds=2)
    assert again == result and said == []


def test_what_was_validated_before_stays_in_the_results(validated, monkeypatch):
    run, result, _ = validated
    monkeypatch.setattr("automfm_hpc.spiking.run_trial", lambda *a, **k: pytest.fail("a trial was run again"))
    again = run_validation(run, Serial(), lambda text: None, ("sine",), seeds=2)
    assert again["kinds"] == ["constant", "sine"] and again == result


def test_cycles_are_run_in_one_trial_and_averaged_but_for_the_first(validated):
    run, _, _ = validated
    kept = results_file(run).read_text()
    repeated = run_validation(run, Serial(), lambda text: None, ("step",), seeds=2, cycles=4)
    assert repeated["kinds"] == ["step"] and repeated["cycles"] == 4
    (up, _), network = repeated["protocols"], run.read_plan().network
    experiment = experiments(network, ("step",), 2, cycles=4)["step"]
    assert up["name"].endswith("cycles=4") and "2 seeds of 4 cycles" in table(repeated)
    _, _, compared = read_comparisons(run)
    results_file(run).write_text(kept)
    activity = TrialStore.open(store_of(run, "step", experiment), experiment).dataset()["activity"]
    whole = activity.isel(protocol=0).sel(name="A").transpose("seed", "time").values
    assert whole.shape == (2, 4000)
    later = (whole[:, 1000:2000] + whole[:, 2000:3000] + whole[:, 3000:]) / 3
    assert compared[0].activity[:, 0] == pytest.approx(later)
    assert compared[0].mean_field.shape == (1, 1000)
    on, off = compared[0].mean_field[0, 300:700].mean(), compared[0].mean_field[0, :200].mean()
    assert on > 1.2 * off and up["populations"]["A"]["r2"] <= up["populations"]["A"]["ceiling"] + 0.05


def test_the_command_prints_the_table_draws_figures_and_speaks_json(validated, automfm):
    run, result, _ = validated
    done = automfm("validate", run.folder, "--protocols", "constant,sine", "--seeds", "2", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    figures = {Path(f).name for f in answer.pop("figures")}
    assert answer == json.loads(json.dumps(result))
    assert figures == {f"validation_{n}.png" for n in ("raster", "parity", "courses", "sinusoids")}
    assert all((run.figures / f).stat().st_size > 5000 for f in figures)


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (("--protocols", "cosine"), 2, "unknown protocol 'cosine'"), (("--seeds", "0"), 2, "at least one protocol"),
    (("--scale", "-1"), 2, "leaves no cells"),
])  # fmt: skip
def test_wrong_options_are_one_line(validated, capsys, arguments, code, words):
    from automfm_hpc.cli import main

    run, _, _ = validated
    assert main(["validate", str(run.folder), *arguments]) == code
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said


def test_a_run_without_a_model_or_without_a_validation_says_what_to_do(tmp_path):
    run = Run(tmp_path / "run")
    stages.write_plan(run, make_plan(Network.load("brunel"), points=4))
    with pytest.raises(AutomfmError, match=r"has no model.*automfm fit"):
        run_validation(run, Serial(), print, ("constant",))
    with pytest.raises(AutomfmError, match=r"holds no validation.*automfm validate"):
        read_comparisons(run)


def test_a_lag_of_the_mean_field_is_drawn_next_to_the_networks():
    """180 and -180 degrees are one."""
    from automfm_hpc.plots_validation import draw_sinusoids

    row = {"gain": 1.0, "gain_sem": 0.1, "gain_mean_field": 1.1, "lag_sem": 1.0, "noise": 0.1}
    protocols = [{"kind": "sine", "input": "s", "settings": {"frequency": f},
                  "populations": {"A": row | {"lag": lag, "lag_mean_field": solved}}}
                 for f, lag, solved in ((10.0, 20.0, 25.0), (30.0, 172.0, -176.0), (40.0, -170.0, 175.0))]  # fmt: skip
    figure = draw_sinusoids({"protocols": protocols, "sizes": {"A": 10}})
    solved = next(line for line in figure.axes[1].lines if line.get_label().startswith("mean field"))
    assert solved.get_ydata() == pytest.approx([25.0, 184.0, -185.0])
