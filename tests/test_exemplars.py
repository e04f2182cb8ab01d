"""Presynaptic cells taken from the network: their rates and intervals are measured rightly and come back in trains."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from automfm_hpc import Network
from automfm_hpc.afferents import Senders, draw_senders, send
from automfm_hpc.errors import PlanError, StoreError
from automfm_hpc.exemplars import EXEMPLARS, exemplars, pooled
from automfm_hpc.experiment import Experiment, presynaptic_statistics, simulate_trial
from automfm_hpc.explain import sampled_like
from automfm_hpc.intervals import LEVELS, moments, quantiles_of, stationary
from automfm_hpc.network import Distribution
from automfm_hpc.plan import Plan, Sampling, make_plan
from automfm_hpc.presynaptic import Exemplars, PresynapticStatistics
from automfm_hpc.protocols import constant
from automfm_hpc.remap import remap
from automfm_hpc.simulate import draw_inputs, drive_cells
from automfm_hpc.spikes import Spikes, cell_rates, isi_cv
from automfm_hpc.store import TrialStore
from automfm_hpc.trains import renewal

CEREBELLUM = Network.load("cerebellum")
GRC = remap(CEREBELLUM).cell("GrC")


def quantiles(distribution, n=4096):
    """Of a distribution of scipy.stats, in units of its mean."""
    x = distribution.ppf((np.arange(n) + 0.5) / n) / distribution.mean()
    return quantiles_of(x, np.ones(n), distribution.std() / distribution.mean())


def gamma_train(rates, cv, duration, rng):
    which, step = renewal(rates, cv, round(duration / 0.1), 0.1, rng)
    return Spikes(which, step * 0.1, rates.size, duration)


PAUSES = quantiles(stats.lognorm(0.7))  # regular at short times, with long pauses
GAMMA = quantiles(stats.gamma(4.0))


# --- intervals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", [stats.gamma(4.0), stats.expon(), stats.lognorm(0.7), stats.uniform()])
def test_quantiles_are_the_distributions(distribution):
    q = quantiles(distribution)
    mean, cv = moments(q)
    assert mean == pytest.approx(1.0) and cv == pytest.approx(distribution.std() / distribution.mean(), rel=1e-3)
    inner = distribution.ppf(LEVELS[1:-1]) / distribution.mean()
    assert q[1:-1] == pytest.approx(inner, rel=0.03, abs=0.03) and (np.diff(q) >= 0).all() and q[0] >= 0


def test_moments_are_those_of_what_is_drawn():
    x = np.interp(np.random.default_rng(1).random(400_000), LEVELS, PAUSES)
    mean, cv = moments(np.array([PAUSES]))
    assert mean[0] == pytest.approx(x.mean(), rel=0.01) and cv[0] == pytest.approx(x.std() / x.mean(), rel=0.02)


def test_weights_count_intervals_as_often():
    x, rng = np.sort(np.random.default_rng(2).gamma(4.0, 0.25, 300)), np.random.default_rng(3)
    times = rng.integers(1, 4, 300)
    whole = np.repeat(x, times)
    cv = whole.std() / whole.mean()
    same = quantiles_of(whole, np.ones(whole.size), cv)
    assert quantiles_of(x, times.astype(float), cv) == pytest.approx(same, rel=0.01, abs=0.02)


@settings(max_examples=12, deadline=None)
@given(rate=st.floats(2.0, 150.0), seed=st.integers(0, 99), pauses=st.booleans())
def test_trains_have_the_rate_and_the_intervals_asked_for(rate, seed, pauses):
    q, n, seconds = PAUSES if pauses else GAMMA, 60, 1500.0 / rate
    which, step = stationary(np.full(n, rate), np.zeros(n, int), q[None], round(seconds * 1e4), 0.1,
                             np.random.default_rng(seed))
    cv = float(moments(q)[1])
    assert which.size == pytest.approx(n * 1500.0, abs=5.0 * cv * np.sqrt(n * 1500.0))
    counts = np.bincount(which, minlength=n)
    assert np.abs(counts / 1500.0 - 1.0).max() < 5.0 * cv / np.sqrt(1500.0)
    order = np.lexsort((step, which))
    gaps = np.diff(step[order])[np.diff(which[order]) == 0] * rate * 1e-4
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02)
    assert np.quantile(gaps, LEVELS[1:-1]) == pytest.approx(q[1:-1], rel=0.05, abs=0.02 + 2e-4 * rate)


@pytest.mark.parametrize("q", [PAUSES, GAMMA, quantiles(stats.norm(1.0, 0.05))])
def test_trains_are_stationary_from_the_first_millisecond(q):
    n, rate = 60_000, 25.0
    which, step = stationary(np.full(n, rate), np.zeros(n, int), q[None], 2000, 0.1, np.random.default_rng(4))
    counts = np.histogram(step, np.arange(0.5, 2001.0, 10.0))[0]  # ms by ms
    expected = n * rate * 1e-3
    assert np.abs(counts - expected).max() < 5.0 * np.sqrt(expected)
    early = counts[:10].mean()
    assert early == pytest.approx(counts[10:].mean(), rel=5.0 / np.sqrt(10 * expected))
    first = np.full(n, np.inf)
    np.minimum.at(first, which, step)
    waiting = np.minimum(first * 0.1, 200.0).mean() * rate * 1e-3  # mean residual life (1 + CV^2) / 2, if all had fired
    cut = 1.0 - np.mean(first < np.inf)
    assert waiting == pytest.approx(0.5 * (1.0 + float(moments(q)[1]) ** 2), abs=0.02 + 6.0 * cut)


def test_counts_vary_as_renewal_theory_says():
    """Over long times the variance of counts is CV^2 times their mean (Cox 1962)."""
    n, cv = 4000, float(moments(PAUSES)[1])
    which, _ = stationary(np.full(n, 20.0), np.zeros(n, int), PAUSES[None], 100_000, 0.1, np.random.default_rng(5))
    counts = np.bincount(which, minlength=n)
    assert counts.var() / counts.mean() == pytest.approx(cv**2, rel=0.08)


def test_each_train_has_its_own_intervals_and_rate():
    both, n = np.array([PAUSES, GAMMA]), 400
    shape, rates = np.arange(n) % 2, np.where(np.arange(n) < 200, 5.0, 40.0)
    which, step = stationary(rates, shape, both, 400_000, 0.1, np.random.default_rng(6))
    found = isi_cv(which, step * 0.1, n)
    for k in (0, 1):
        assert found[shape == k].mean() == pytest.approx(float(moments(both[k])[1]), rel=0.03)
    assert np.bincount(which, minlength=n) / 40.0 == pytest.approx(rates, rel=0.35)
    assert step.min() >= 1 and step.max() <= 400_000


# --- from a recording ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "cv"), [(12.0, 0.5), (12.0, 0.3), (25.0, 0.8), (60.0, 0.5)])
def test_short_recordings_tell_the_true_regularity(rate, cv):
    """A second holds a dozen intervals of a cell, whose own CV is too low; exemplars are within a few percent."""
    rng = np.random.default_rng(7)
    recorded = [gamma_train(np.full(71, rate), cv, 1000.0, rng) for _ in range(25)]
    found = np.mean([moments(exemplars(s)[:, 1:])[1].mean() for s in recorded])
    plain = np.mean([np.nanmean(isi_cv(s.cells, s.times, 71)) for s in recorded])
    assert found == pytest.approx(cv, rel=0.04) and abs(found - cv) < abs(plain - cv)


def test_exemplars_are_strata_of_cells_from_slow_to_fast():
    rng = np.random.default_rng(8)
    spikes = gamma_train(rng.uniform(5.0, 60.0, 10 * EXEMPLARS), 0.5, 2000.0, rng)
    found, rates = exemplars(spikes), np.sort(cell_rates(spikes))
    assert found.shape == (EXEMPLARS, 1 + LEVELS.size)
    assert found[:, 0] == pytest.approx(rates.reshape(EXEMPLARS, 10).mean(axis=1))
    assert moments(found[:, 1:])[0] == pytest.approx(1.0)


def test_regularity_that_depends_on_the_rate_is_kept():
    rng = np.random.default_rng(9)
    slow, fast = (gamma_train(np.full(200, r), cv, 3000.0, rng) for r, cv in ((8.0, 0.8), (40.0, 0.3)))
    both = Spikes(np.concatenate([slow.cells, fast.cells + 200]), np.concatenate([slow.times, fast.times]), 400, 3000.0)
    cv = moments(exemplars(both)[:, 1:])[1]
    assert cv[:7].mean() == pytest.approx(0.8, rel=0.05) and cv[7:].mean() == pytest.approx(0.3, rel=0.05)


def test_cells_without_intervals_get_those_of_the_slowest_that_have_some():
    rng = np.random.default_rng(10)
    rates = np.concatenate([np.zeros(150), np.full(90, 12.0), np.full(80, 60.0)])
    found = exemplars(gamma_train(rates, 0.5, 1000.0, rng))
    assert not found[:6, 0].any() and np.isfinite(found).all()
    assert (found[:6, 1:] == found[0, 1:]).all() and (found[0, 1:] != found[-1, 1:]).any()


def test_few_cells_and_few_spikes():
    few = exemplars(gamma_train(np.array([20.0, 40.0, 60.0]), 0.4, 1000.0, np.random.default_rng(11)))
    assert np.isfinite(few[:3]).all() and np.isnan(few[3:]).all() and (np.diff(few[:3, 0]) >= 0).all()
    silent = exemplars(Spikes(np.zeros(0, np.int64), np.zeros(0), 40, 1000.0))
    assert not silent[:, 0].any() and np.isnan(silent[:, 1:]).all()
    single = pooled(np.array([few, silent[:, :]]), 0.3, 0.5)
    assert len(single.rate) == 3  # the silent recording says nothing
    slow = exemplars(gamma_train(np.full(5, 1.0), 1.0, 1000.0, np.random.default_rng(12)))
    unknown = pooled(slow[None], 0.3, 0.5)
    assert moments(np.array(unknown.intervals))[1] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.8])
def test_counting_noise_is_taken_off_the_rates(spread):
    """Poisson cells over 1 s: the spread of counts is that of the rates and that of chance."""
    rng = np.random.default_rng(13)
    rates = 12.0 * (rng.gamma(spread**-2.0, spread**2, 3000) if spread else np.ones(3000))
    recorded = [gamma_train(rates, 1.0, 1000.0, rng) for _ in range(3)]
    counted = np.mean([cell_rates(s).std() for s in recorded]) / 12.0
    found = pooled(np.array([exemplars(s) for s in recorded]), spread, 1.0)
    assert np.mean(found.rate) == pytest.approx(1.0, abs=1e-3) and min(found.rate) >= 0
    assert np.std(found.rate) == pytest.approx(spread, rel=0.02, abs=1e-3)
    assert counted > spread + 0.03


# --- drawing ---------------------------------------------------------------------------------------------

KNOWN = PresynapticStatistics("GoC", (10.0, 40.0), (0.5, 0.2), (0.8, 0.5), (
    Exemplars((0.5, 1.5), (tuple(PAUSES), tuple(PAUSES))), Exemplars((0.8, 1.0, 1.2), (tuple(GAMMA),) * 3)))


@pytest.mark.parametrize(("mean", "upper"), [(4.0, 0.0), (10.0, 0.0), (16.0, 0.2), (40.0, 1.0), (90.0, 1.0)])
def test_cells_come_from_the_two_nearest_rates(mean, upper):
    n = 40_000
    drawn = KNOWN.draw(np.full(n, mean), np.random.default_rng(14))
    share = np.bincount(drawn.shape, minlength=5) / n
    expected = np.array([(1 - upper) / 2] * 2 + [upper / 3] * 3)
    assert np.abs(share - expected).max() < 5.0 * np.sqrt(0.25 / n) and not share[expected == 0].any()
    assert drawn.rate == pytest.approx(mean * np.array([0.5, 1.5, 0.8, 1.0, 1.2])[drawn.shape])


def test_ingredients_are_switched_off():
    n = np.full(1000, 20.0)
    alike, poisson = KNOWN.only(False, True), KNOWN.only(True, False)
    drawn = alike.draw(n, np.random.default_rng(15))
    assert (drawn.rate == 20.0).all() and len(np.unique(drawn.shape)) == 5
    drawn = poisson.draw(n, np.random.default_rng(15))
    assert (drawn.shape == -1).all() and (drawn.isi_cv == 1.0).all() and len(np.unique(drawn.rate)) == 5


def test_trains_are_the_same_for_a_seed_and_senders_can_be_taken_apart():
    inputs, rates = draw_inputs(GRC, 60, np.random.default_rng(1)), np.tile([4.0, 20.0], (60, 1))
    senders = draw_senders(GRC, inputs, rates, {"GoC": KNOWN}, np.random.default_rng(2))
    one, two, other = (send(senders, 500.0, 0.1, np.random.default_rng(s)).trains[1] for s in (3, 3, 4))
    assert np.array_equal(one.step, two.step) and np.array_equal(one.cell, two.cell) and one.step.size > 1000
    assert not np.array_equal(one.step[:50], other.step[:50])
    apart = Senders.joined([senders.of(np.arange(25)), senders.of(np.arange(25, 60))])
    again = send(apart, 500.0, 0.1, np.random.default_rng(3)).trains[1]
    assert np.array_equal(one.step, again.step) and np.array_equal(one.cell, again.cell)


def test_exemplars_of_gamma_trains_drive_cells_as_gamma_trains_do():
    rng, mean, cv = np.random.default_rng(16), 20.0, 0.4
    rates = mean * rng.gamma(4.0, 0.25, 2000)
    found = pooled(exemplars(gamma_train(rates, cv, 4000.0, rng))[None], 0.5, cv)
    plain = PresynapticStatistics("GoC", (mean,), (0.5,), (cv,))
    inputs, points = draw_inputs(GRC, 512, np.random.default_rng(1)), np.tile([10.0, mean], (512, 1))
    old, new = (np.concatenate([drive_cells(GRC, inputs, points, Sampling(), s, presynaptic={"GoC": known}).rate
                                for s in (1, 2, 3)]) for known in (plain, replace(plain, exemplars=(found,))))
    assert old.mean() > 3.0
    assert abs(new.mean() - old.mean()) < 4.0 * np.hypot(old.std(), new.std()) / np.sqrt(old.size)


# --- plan, store, statistics -------------------------------------------------------------------------------


def test_a_plan_keeps_exemplars_and_plans_without_still_load():
    plan = make_plan(CEREBELLUM, points=4, presynaptic=(KNOWN,))
    bare = make_plan(CEREBELLUM, points=4, presynaptic=(replace(KNOWN, exemplars=()),))
    assert Plan.from_dict(plan.to_dict()) == plan and plan.id != bare.id
    assert set(bare.to_dict()["presynaptic"][0]) == {"source", "rate", "rate_cv", "isi_cv"}  # as it was written before
    assert Plan.from_dict(bare.to_dict()) == bare
    assert (sampled_like(plan), sampled_like(bare)) == ("all shifted", "independent regular")


@pytest.mark.parametrize(("wrong", "said"), [
    ((Exemplars((1.0,)),), "every mean rate"),
    ((Exemplars(()), Exemplars((1.0,))), "must have rates"),
    ((Exemplars((1.0,), ((0.5, 1.5),)),) * 2, "quantiles of its intervals"),
    ((Exemplars((1.0,), (tuple(GAMMA[::-1]),)),) * 2, "not decrease"),
    ((Exemplars((1.0,), (tuple(2.0 * GAMMA),)),) * 2, "mean 1"),
    ((Exemplars((1.0,), (tuple(GAMMA),)), Exemplars((1.0,))), "all exemplars"),
])  # fmt: skip
def test_impossible_exemplars_are_refused(wrong, said):
    with pytest.raises(PlanError, match=f"GoC.*{said}"):
        replace(KNOWN, exemplars=wrong)


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """A small network, simulated at two drives with two seeds, and its store."""
    cortex = Network.load("adex_cortex")
    small = replace(cortex, populations=tuple(replace(p, size=p.size // 50) for p in cortex.populations),
                    projections=tuple(replace(p, indegree=Distribution(20.0)) for p in cortex.projections))
    experiment = Experiment(small, tuple(constant({"aff": r}, 500.0, 200.0) for r in (90.0, 150.0)), 2)
    store = TrialStore.create(tmp_path_factory.mktemp("trials") / "spiking.zarr", experiment)
    for trial in experiment.trials():
        store.write(trial, simulate_trial(experiment, trial))
    return experiment, store


def test_statistics_hold_exemplars_of_the_networks_cells(trials):
    experiment, store = trials
    data = store.dataset()
    assert store.missing() == []
    found = {s.source: s for s in presynaptic_statistics(data, experiment)}
    fs = found["FS"]
    assert [len(e.rate) for e in fs.exemplars] == [2 * EXEMPLARS] * len(fs.rate) and len(fs.rate) == 2
    for e, spread, cv in zip(fs.exemplars, fs.rate_cv, fs.isi_cv, strict=True):
        assert np.std(e.rate) == pytest.approx(spread, abs=2e-3)
        assert moments(np.array(e.intervals))[1].mean() == pytest.approx(cv, rel=0.2)
    assert make_plan(experiment.network, points=4, presynaptic=found.values(),
                     working_points={"RS": (1.0, 9.0), "FS": (1.0, 20.0)}).presynaptic[1] == found["FS"]


def test_stores_made_before_there_were_exemplars_go_on_without(trials, tmp_path):
    """Their groups have no such array, and a checksum over the others: what the old program wrote."""
    experiment, store = trials
    path = tmp_path / "old.zarr"
    shutil.copytree(store.path, path)
    shutil.rmtree(path / "exemplars")
    old = TrialStore.open(path, experiment)
    for trial in experiment.trials():  # written anew as the old program did: nothing of exemplars
        data = store.dataset().isel(protocol=trial.protocol, seed=trial.seed)
        old.write(trial, {name: data[name].values for name in old.dataset().data_vars if name not in
                          ("checksum", "status", "message")})
    assert old.missing() == [] and not (path / "exemplars").exists()
    found = presynaptic_statistics(old.dataset(), experiment)
    assert found == tuple(replace(s, exemplars=()) for s in presynaptic_statistics(store.dataset(), experiment))


def test_damaged_exemplars_are_simulated_again(trials, tmp_path):
    experiment, store = trials
    path = tmp_path / "damaged.zarr"
    shutil.copytree(store.path, path)
    chunk = sorted((path / "exemplars").glob("c*"))[0]
    chunk.write_bytes(b"no numbers")
    assert len(TrialStore.open(path, experiment).missing()) == 1


def test_a_store_keeps_what_it_is_asked_to(trials, tmp_path):
    experiment, store = trials
    assert store.dataset()["trains"].attrs["cells"] == experiment.kept == {"RS": 160, "FS": 40}
    trains, rate = store.dataset()["trains"].values, store.dataset()["rate"].values
    assert trains.shape == (2, 2, 200, 500)
    for part, name in ((slice(0, 160), 0), (slice(160, 200), 1)):
        np.testing.assert_allclose(trains[:, :, part].sum(-1).mean(-1) / 0.5, rate[..., name])
    path = tmp_path / "some.zarr"
    some = TrialStore.create(path, experiment, ("activity",))
    for trial in experiment.trials():
        some.write(trial, {"activity": np.zeros((2, 500))})
    assert some.missing() == [] and set(some.dataset()) == {"activity", "checksum", "status", "message"}
    with pytest.raises(StoreError, match=r"kept other things.*Delete"):
        TrialStore.create(store.path, experiment, ("activity",))
