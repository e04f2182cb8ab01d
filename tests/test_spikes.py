"""Spike statistics on processes whose statistics are known."""

from __future__ import annotations

import numpy as np
import pytest

from automfm_hpc import spikes
from automfm_hpc.spikes import Spikes

RATE, DURATION = 20.0, 60_000.0  # Hz, ms


def renewal(n, shape, seed, rate=RATE, duration=DURATION):
    """n stationary-ish gamma renewal processes of cv = shape^-1/2: started long before the window."""
    rng = np.random.default_rng(seed)
    k = int(2.0 * rate * duration / 1000.0) + 50
    times = np.cumsum(rng.gamma(shape, 1000.0 / rate / shape, (n, k)), axis=1) - 2000.0
    cells = np.repeat(np.arange(n), k)
    inside = (times.ravel() > 0) & (times.ravel() <= duration)
    order = rng.permutation(inside.sum())  # NEST does not sort by cell
    return Spikes(cells[inside][order], times.ravel()[inside][order], n, duration)


def test_poisson_trains_have_cv_one_fano_one_and_no_correlation():
    s = renewal(100, 1.0, seed=1)
    n = s.cells.size
    assert spikes.cell_rates(s).mean() == pytest.approx(RATE, abs=4 * RATE / np.sqrt(n))
    cv = spikes.isi_cv(s.cells, s.times, s.size)
    assert cv.mean() == pytest.approx(1.0, abs=4 * cv.std() / 10 + 1 / 1200)  # finite samples: -1/n
    windows = 100 * DURATION / 100.0
    assert spikes.fano_factor(s) == pytest.approx(1.0, abs=5 * np.sqrt(2 / windows))
    assert spikes.pair_correlation(s) == pytest.approx(0.0, abs=5 * np.sqrt(2 / (DURATION / 5.0)) / 99)


@pytest.mark.parametrize("shape", [2.0, 4.0, 16.0])
def test_gamma_renewal_trains_have_their_cv_and_its_square_as_fano_factor(shape):
    s = renewal(60, shape, seed=2)
    assert spikes.isi_cv(s.cells, s.times, s.size).mean() == pytest.approx(shape**-0.5, rel=0.02)
    assert spikes.fano_factor(s, 2000.0) == pytest.approx(1.0 / shape, rel=0.15)  # long windows: cv^2


@pytest.mark.parametrize("shared", [0.1, 0.3])
def test_spikes_shared_by_all_cells_are_the_correlation(shared):
    """A part c of every cell's spikes is common to all: covariance c, variance 1, whatever the bin."""
    n, own, common = 50, renewal(50, 1.0, 3, RATE * (1 - shared)), renewal(1, 1.0, 4, RATE * shared)
    cells = np.concatenate([own.cells, np.repeat(np.arange(n), common.times.size)])
    both = Spikes(cells, np.concatenate([own.times, np.tile(common.times, n)]), n, DURATION)
    fraction = n * common.times.size / cells.size  # drawn: 120 or 360 common spikes
    assert fraction == pytest.approx(shared, rel=0.25)
    for bin_ms in (2.0, 5.0, 20.0):
        assert spikes.pair_correlation(both, bin_ms) == pytest.approx(fraction, rel=0.1)


def test_isi_cv_is_that_of_each_cell_on_its_own():
    s = renewal(5, 1.5, seed=5, duration=2000.0)
    few = Spikes(np.append(s.cells, [5, 5, 5, 5]), np.append(s.times, [1.0, 2.0, 4.0, 5.0]), 7, 2000.0)
    cv = spikes.isi_cv(few.cells, few.times, few.size)
    for k in range(5):
        intervals = np.diff(np.sort(s.times[s.cells == k]))
        assert cv[k] == pytest.approx(intervals.std() / intervals.mean(), rel=1e-9)
    assert np.isnan(cv[5:]).all()  # three intervals, none


def test_counts_are_a_histogram_and_a_spike_on_an_edge_belongs_to_the_bin_that_ends_there():
    s = Spikes(np.array([0, 0, 1, 1]), np.array([0.1, 5.0, 5.1, 10.0]), 2, 10.0)
    assert spikes.counts(s, 5.0).tolist() == [[2.0, 0.0], [0.0, 2.0]]
    many = renewal(7, 1.0, seed=6, duration=997.0)
    expected = np.histogram2d(many.cells, many.times, [np.arange(8) - 0.5, np.arange(0, 991, 5.0)])[0]
    found = spikes.counts(many, 5.0)
    assert found.shape == (7, 199)  # the last two milliseconds fill no bin
    assert np.array_equal(found[:, :198], expected)


def test_activity_is_the_rate_over_time_with_silent_cells_counted():
    s = renewal(40, 1.0, seed=7, duration=500.0)
    half_silent = Spikes(s.cells, s.times, 80, 500.0)
    assert spikes.activity(half_silent).shape == (500,)
    assert spikes.activity(half_silent).mean() == pytest.approx(spikes.cell_rates(half_silent).mean(), rel=1e-12)
    assert spikes.activity(half_silent, 5.0) == pytest.approx(spikes.activity(s).reshape(100, 5).mean(axis=1) / 2)


def test_a_window_counts_from_its_own_start():
    s = Spikes(np.array([0, 1, 2]), np.array([100.0, 100.1, 200.0]), 3, 300.0).between(100.0, 200.0)
    assert s.cells.tolist() == [1, 2] and s.times == pytest.approx([0.1, 100.0]) and s.duration == 100.0


def test_nothing_is_claimed_of_silence_or_of_too_short_a_window():
    empty = Spikes(np.zeros(0, np.int64), np.zeros(0), 4, 1000.0)
    assert not spikes.cell_rates(empty).any() and not spikes.activity(empty).any()
    assert np.isnan([spikes.fano_factor(empty), spikes.pair_correlation(empty)]).all()
    assert np.isnan(spikes.fano_factor(renewal(3, 1.0, 8, duration=150.0)))


@pytest.mark.parametrize("bin_ms", [0.5, 1.0])
def test_the_kernel_widens_a_gaussian_as_variances_add_and_keeps_areas(bin_ms):
    t = np.arange(0.0, 400.0, bin_ms)
    bump = np.exp(-0.5 * ((t - 200.0) / 12.0) ** 2)
    wider = np.hypot(12.0, 5.0)
    expected = 12.0 / wider * np.exp(-0.5 * ((t - 200.0) / wider) ** 2)
    assert spikes.smooth(bump, 5.0, bin_ms) == pytest.approx(expected, abs=2e-4)
    assert spikes.smooth(np.full((2, 50), 3.0), 5.0, bin_ms) == pytest.approx(3.0)
    assert spikes.smooth(bump, 5.0, bin_ms).sum() == pytest.approx(bump.sum(), rel=1e-9)
