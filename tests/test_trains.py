"""Trains against what they are defined by: counts, intervals, rates, regularity, independence."""

from __future__ import annotations

import numpy as np
import pytest

from automfm_hpc.spikes import Spikes, isi_cv
from automfm_hpc.trains import Clock, Trains, clock_of, handed_on, passed_by, renewal, rotated, summed


def some_trains(seed=0, size=30, n_step=3000, n=900):
    rng = np.random.default_rng(seed)
    cells, steps = rng.integers(0, size, n), rng.integers(1, n_step + 1, n)
    return Trains.of(cells, steps, size), cells, steps


def test_trains_keep_every_spike_with_its_cell():
    trains, cells, steps = some_trains()
    assert sorted(zip(trains.cells, trains.steps, strict=True)) == sorted(zip(cells, steps, strict=True))
    assert trains.counts.sum() == 900 and trains.counts.size == 30
    times = np.round(steps * 0.1, 1)  # as NEST gives them
    assert np.array_equal(Trains.recorded(Spikes(cells, times, 30, 300.0), 0.1).steps, trains.steps)


@pytest.mark.parametrize(("start", "stop"), [(0, 3000), (500, 3000), (2000, 3000)])
def test_a_turned_train_keeps_its_count_and_its_intervals(start, stop):
    trains, cells, steps = some_trains()
    turned = rotated(trains, start, stop, np.random.default_rng(1).integers(0, stop - start, 30))
    assert turned.steps.min() >= 1 and turned.steps.max() <= stop
    length = stop - start
    for cell in range(30):
        before = np.sort(steps[(cells == cell) & (steps > start) & (steps <= stop)])
        mine = turned.steps[turned.first[cell] : turned.first[cell + 1]]
        after = np.sort(mine[mine > start])
        assert after.size == before.size
        circle = [np.sort(np.diff(s, append=s[0] + length)) for s in (before, after)]
        assert np.array_equal(*circle)  # the seam closed
        early = np.sort(mine[mine <= start])
        inside = {int(s) for s in after}
        assert all(any(int(s) + m * length in inside for m in (1, 2, 3)) for s in early)


def test_turning_takes_the_correlation_away():
    rng = np.random.default_rng(2)
    same = np.flatnonzero(rng.random(20_000) < 0.01) + 1
    trains = Trains.of(np.repeat(np.arange(40), same.size), np.tile(same, 40), 40)

    def correlation(t):
        counts = np.zeros((40, 200))
        np.add.at(counts, (t.cells, (t.steps - 1) // 100), 1)
        return np.corrcoef(counts)[np.triu_indices(40, 1)].mean()

    assert correlation(trains) == pytest.approx(1.0)
    assert abs(correlation(rotated(trains, 0, 20_000, rng.integers(0, 20_000, 40)))) < 0.03
    assert correlation(rotated(trains, 0, 20_000, np.full(40, 7_000))) == pytest.approx(1.0)  # together they stay so


def test_pairs_hand_their_presynaptic_train_on():
    trains, cells, steps = some_trains()
    pre = np.array([4, 4, 29, 0])
    owner, at = handed_on(trains, pre)
    for pair, cell in enumerate(pre):
        assert sorted(at[owner == pair]) == sorted(steps[cells == cell])
    assert handed_on(trains, np.empty(0, np.int64))[0].size == 0


def test_arrivals_are_summed_with_their_synapses():
    owner, step = np.array([0, 0, 1, 2, 2]), np.array([1, 5, 5, 5, 5])
    found = summed((owner, step), np.array([0, 0, 1]), np.array([2, 3, 10]), 3, 5)
    assert found.tolist() == [[2, 0, 0, 0, 5], [0, 0, 0, 0, 20], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("cv", [0.0, 0.25, 0.5, 1.0, 1.3])
def test_renewal_trains_have_the_rate_and_the_regularity_asked_for(cv):
    rates = np.repeat([0.0, 40.0, 160.0], 200)
    owner, step = renewal(rates, cv, 80_000, 0.1, np.random.default_rng(3))  # 8 s
    assert step.min() >= 1 and step.max() <= 80_000
    counts = np.bincount(owner, minlength=600).reshape(3, 200)
    seconds, lag = 8.0, np.maximum(cv, 0.02)
    assert (counts[0] == 0).all()
    for row, rate in zip(counts[1:], (40.0, 160.0), strict=True):
        expected = rate * seconds
        assert row.mean() == pytest.approx(expected, abs=4 * lag * np.sqrt(expected / 200) + 0.1)
        # renewal theory: variance of the count of a stationary process
        assert row.var() == pytest.approx(lag**2 * expected + (1 - lag**4) / 6, rel=0.45, abs=0.3)
    found = isi_cv(owner, step * 0.1, 600)
    assert np.nanmean(found[200:400]) == pytest.approx(lag, rel=0.03)


def test_renewal_trains_are_stationary_and_independent():
    """Also where a train has few spikes and shares an interval with the next: sums vary like independent ones."""
    rates, cv = np.full(40_000, 2.0), 0.5
    owner, step = renewal(rates, cv, 10_000, 0.1, np.random.default_rng(4))  # 1 s: two spikes each
    course = np.histogram(step, 10, (0.5, 10_000.5))[0]
    assert np.abs(course / 8000.0 - 1.0).max() < 5 / np.sqrt(8000)
    counts = np.bincount(owner, minlength=40_000)
    groups = counts.reshape(2000, 20).sum(axis=1)
    assert groups.var() == pytest.approx(20 * counts.var(), rel=0.15)
    # P(no spike in 1 s) of a stationary gamma process: integral over later times of the intervals' survival, x rate
    from scipy.integrate import quad
    from scipy.stats import gamma

    silent = 2.0 * quad(gamma(4, scale=1 / 8.0).sf, 1.0, 20.0)[0]
    assert (counts == 0).mean() == pytest.approx(silent, abs=4 * np.sqrt(silent / 40_000))


# --- on a population's clock ------------------------------------------------------------------------


def test_trains_on_a_clock_follow_the_activity_and_keep_their_rates():
    """A population that fires at 20 (1 + sin) Hz; new trains on its clock do so too, each with its own rate."""
    rng, n_step, dt = np.random.default_rng(3), 40_000, 0.1
    wave = 1.0 + np.sin(2.0 * np.pi * np.arange(n_step) * dt / 100.0)  # 10 Hz
    fired = rng.random((200, n_step)) < 20.0 * wave * dt / 1000.0
    cells, steps = np.nonzero(fired)
    clock = clock_of(Trains.of(cells, steps + 1, 200), n_step, dt)
    assert clock.passed[0] == 0.0 and clock.passed[-1] == 1.0 and (np.diff(clock.passed) > 0).all()
    assert clock.cv == pytest.approx(1.0, abs=0.05)  # Poisson in its own time, although 1.1 on the wall
    rates = np.repeat([5.0, 40.0], 400)
    owner, step = renewal(rates, 1.0, n_step, dt, rng)
    read = clock.read(step, rng)
    assert read.min() >= 1 and read.max() <= n_step
    assert np.array_equal(np.bincount(owner, minlength=800), np.bincount(owner[read > 0], minlength=800))
    counts = np.bincount((read - 1) // 100, minlength=n_step // 100).astype(float)
    slow = wave.reshape(-1, 100).mean(axis=1)
    assert np.corrcoef(counts, slow)[0, 1] > 0.97
    assert np.polyfit(slow, counts / counts.mean(), 1)[0] == pytest.approx(1.0, abs=0.05)


def test_regularity_is_seen_behind_the_activity():
    """Gamma trains of CV 0.4 on a clock that stands still half of the time look irregular, and are not."""
    rng, n_step, dt = np.random.default_rng(4), 100_000, 0.1
    passed = np.concatenate([[0.0], np.cumsum((np.arange(n_step) // 500) % 2 + 1e-6)])
    true = Clock(passed / passed[-1], 0.4)
    owner, step = renewal(np.full(300, 15.0), 0.4, n_step, dt, rng)
    trains = Trains.of(owner, true.read(step, rng), 300)
    wall = float(np.nanmean(isi_cv(trains.cells, trains.steps * dt, 300)))
    assert clock_of(trains, n_step, dt).cv == pytest.approx(0.4, abs=0.04) and wall > 0.5


def test_a_silent_population_has_the_clock_of_the_wall():
    silent = Trains.of(np.zeros(0, np.int64), np.zeros(0, np.int64), 5)
    assert np.allclose(clock_of(silent, 100, 0.1).passed, np.linspace(0.0, 1.0, 101))


def test_trains_on_a_clock_have_the_rate_wanted_in_a_window():
    """A population that fires four times as much at first, before the window."""
    dt, rng = 0.1, np.random.default_rng(4)
    clock = Clock(passed_by(np.repeat([200.0, 50.0], [5000, 10000]), dt), 0.5)
    assert clock.pace(5000, 15000) == pytest.approx(0.5, rel=0.01) and clock.pace(0, 15000) == pytest.approx(1.0)
    _, step = renewal(np.full(1500, 50.0) / clock.pace(5000, 15000), clock.cv, 15000, dt, rng)
    at = clock.read(step, rng)
    assert np.sum(at > 5000) / 1500 == pytest.approx(50.0, rel=0.01)  # in one second
