"""Filters fitted to responses of known form, and which measurements are planned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automfm_hpc.dynamics_fit import GAIN_SPREAD, Measured, expected, fit_filter, low_passes, time_constants
from automfm_hpc.dynamics_plan import LEAST_RATE, chosen
from automfm_hpc.modulation import odd_frequencies

FREQUENCY = odd_frequencies()
TAUS = time_constants()
S = 2e-3j * np.pi * FREQUENCY
PATHWAY = 1.0 / (1.0 + 5.0 * S) ** 2
T = 3.5


def noisy(cells: np.ndarray, slope: np.ndarray, error: float, seed: int = 1) -> Measured:
    """Measured responses of cells whose own response is `cells` (n_point, n_frequency), in place of 1 / (1 + s T)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=cells.shape) + 1j * rng.normal(size=cells.shape)
    sigma = error * np.abs(slope)[:, None] * np.ones(cells.shape)
    return Measured(FREQUENCY, PATHWAY, T, slope, slope[:, None] * cells * PATHWAY + sigma * noise, sigma)


def fitted_cells(result, data: Measured) -> np.ndarray:
    return (1.0 + result.coefficients @ low_passes(data.frequency, TAUS).T) / (1.0 + S * data.T)


def adapting(tau: float, gain: float) -> np.ndarray:
    """Gain 1 at rest and `gain` above 1/tau, with a membrane of 4 ms: no member of the family."""
    return (1.0 + gain * S * tau) / (1.0 + S * tau) / (1.0 + 4.0 * S)


def test_time_constants_span_what_the_cells_have():
    assert TAUS[0] == 1.0
    assert max(np.diff(np.log(TAUS))) < np.log(3.4)
    assert time_constants(400.0)[-1] == 800.0


def test_expected_cells_follow_within_the_shortest_time_constant():
    cells = (1.0 + low_passes(FREQUENCY, TAUS) @ expected(T, TAUS)) / (1.0 + S * T)
    assert cells == pytest.approx(1.0 / (1.0 + S * TAUS[0]), abs=1e-12)
    assert (expected(0.5, TAUS) == 0).all()


@pytest.mark.parametrize("error", [0.003, 0.05])
def test_known_cells_are_found_within_the_sampling_error(error):
    slope = np.array([-1.0, -2.0, -1.5])
    truth = np.array([adapting(40.0, g) for g in (1.5, 2.0, 2.5)])
    data = noisy(truth, slope, error)
    result = fit_filter(data, TAUS)
    seen = np.abs(PATHWAY) > 0.1
    assert np.abs(fitted_cells(result, data) - truth)[:, seen].max() < 0.06 + 3.0 * error / 0.1 / np.sqrt(5)
    assert result.gain == pytest.approx(1.0, abs=4 * max(error, 0.02))
    assert result.chi2 < 1.5
    assert result.misfit < 0.05


def test_noise_is_not_fitted():
    """Responses of which little can be seen: the fit has few degrees of freedom and stays near what is expected."""
    data = noisy(np.tile(1.0 / (1.0 + S), (4, 1)), np.ones(4), 0.5)
    result = fit_filter(data, TAUS)
    assert result.freedom < 12
    assert np.abs(fitted_cells(result, data) - 1.0 / (1.0 + S))[:, FREQUENCY < 20].max() < 0.5


def test_a_wrong_slope_does_not_bend_the_filter():
    truth = np.tile(adapting(30.0, 2.0), (2, 1))
    data = noisy(truth, np.array([1.0, 1.0]), 0.004)
    wrong = replace(data, slope=np.array([1.2, 0.8]))
    result = fit_filter(wrong, TAUS)
    assert result.gain == pytest.approx([1.0 / 1.2, 1.0 / 0.8], rel=0.02)
    assert fitted_cells(result, data)[:, FREQUENCY < 40] == pytest.approx(truth[:, FREQUENCY < 40], rel=0.08)


def test_a_slope_that_cannot_be_trusted_gives_way_to_a_noisy_measurement():
    truth = np.tile(1.0 / (1.0 + S), (2, 1))
    data = noisy(truth, np.ones(2), 0.3)
    trusted, doubted = (fit_filter(replace(data, slope=np.full(2, 2.0), spread=s), TAUS) for s in (0.1, 0.5))
    assert doubted.gain == pytest.approx(0.5, abs=0.3)
    assert (trusted.gain > doubted.gain + 0.15).all()


def test_points_without_a_measurement_take_their_neighbours_filter():
    truth = np.tile(adapting(40.0, 2.0), (3, 1))
    data = noisy(truth, np.ones(3), 0.01)
    data.response[1] = np.nan
    result = fit_filter(data, TAUS)
    assert np.isnan(result.gain[1])
    assert np.isfinite(result.gain[[0, 2]]).all()
    assert fitted_cells(result, data)[1] == pytest.approx(truth[1], rel=0.15)


def test_without_any_measurement_the_master_equation_stays():
    nothing = np.full((2, FREQUENCY.size), np.nan)
    result = fit_filter(Measured(FREQUENCY, PATHWAY, T, np.ones(2), nothing + 0j, nothing), TAUS)
    assert (result.coefficients == 0).all()
    assert np.isnan(result.gain).all()


def test_a_gain_that_cannot_be_seen_is_the_slope():
    data = noisy(np.tile(1.0 / (1.0 + S), (2, 1)), np.ones(2), 5.0)
    result = fit_filter(data, TAUS)
    assert result.gain == pytest.approx(1.0, abs=GAIN_SPREAD)
    assert result.gain_error == pytest.approx(GAIN_SPREAD, rel=0.02)


@given(st.lists(st.floats(0.0, 200.0), min_size=1, max_size=30), st.integers(1, 8))
def test_working_points_are_different_alive_and_reach_the_ends(rates, points):
    rate = np.array(rates)
    picked = chosen(rate, points)
    assert len(set(picked)) == len(picked) <= points
    assert (np.diff(rate[picked]) > 0).all()
    alive = rate[rate >= LEAST_RATE]
    assert bool(picked) == bool(alive.size)
    if picked:
        assert (rate[picked] >= LEAST_RATE).all()
        assert rate[picked[0]] == alive.min()
    if len(picked) > 1 and points > 1:
        assert rate[picked[-1]] == pytest.approx(alive.max(), rel=1e-2)
