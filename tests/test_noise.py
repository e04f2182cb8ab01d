"""Noisy inputs: their statistics against theory, and a population that filters them."""

import json

import numpy as np
import pytest

from automfm_hpc.errors import MeanFieldError
from automfm_hpc.mean_field import MeanField
from automfm_hpc.noise import OrnsteinUhlenbeck, fluctuation
from automfm_hpc.protocols import Protocol
from automfm_hpc.rate_models import RateModel


@pytest.mark.parametrize("dt", [0.5, 5.0, 40.0])
def test_statistics_of_the_process_at_any_step(dt):
    """Mean 0, standard deviation 1, autocorrelation exp(-t/tau), within 5 standard errors of 20000 tau."""
    tau, n = 20.0, round(400_000.0 / dt)
    x = fluctuation(n, dt, tau, seed=3)
    error = np.sqrt(2.0 * max(tau, dt) / (n * dt))
    assert abs(x.mean()) < 5 * error
    assert abs(x.var() - 1.0) < 5 * error * np.sqrt(2.0)
    for lag in (1, 2, 5):
        assert abs(np.mean(x[lag:] * x[:-lag]) - np.exp(-lag * dt / tau)) < 5 * error * np.sqrt(2.0)


def test_it_begins_in_its_stationary_state():
    first = np.array([fluctuation(2, 1.0, 20.0, seed) for seed in range(4000)])
    np.testing.assert_allclose(first.std(axis=0), 1.0, atol=0.05)
    assert np.corrcoef(first.T)[0, 1] == pytest.approx(np.exp(-1.0 / 20.0), abs=0.01)


def test_lognormal_rates_have_the_mean_the_deviation_and_the_stated_correlation():
    noise = OrnsteinUhlenbeck(20.0, 15.0, tau=10.0, duration=400.0, seed=1, law="lognormal")
    x = noise.course[:, 1]
    assert x.min() > 0.0
    assert x.mean() == pytest.approx(20.0, rel=0.03) and x.std() == pytest.approx(15.0, rel=0.06)
    q = 1.0 + (15.0 / 20.0) ** 2
    expected = (q ** np.exp(-1.0) - 1.0) / (q - 1.0)
    assert np.corrcoef(x[10:], x[:-10])[0, 1] == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(("mean", "raised"), [(10.0, 1.083), (20.0, 1.0042)])
def test_clipping_raises_the_mean_as_documented(mean, raised):
    noise = OrnsteinUhlenbeck(mean, 10.0, tau=10.0, duration=1000.0, seed=2)
    x = noise.course[:, 1]
    assert x.min() == 0.0
    assert noise.clipped_mean == pytest.approx(raised * mean, rel=1e-3)
    assert x.mean() == pytest.approx(noise.clipped_mean, abs=5 * 10.0 * np.sqrt(20.0 / 1e6))


def test_a_population_filters_noise_as_theory_says():
    """T dnu/dt = w x - nu: variance w^2 sd^2 tau/(tau + T), from batches of seeds with adaptive and fixed steps."""
    T, tau, w = 5.0, 15.0, 0.5
    tf = RateModel("E", ("x",), np.array([[0.0, 200.0]]), np.array([w]), 0.0, "linear")
    model = MeanField(("E",), ("x",), (tf,), np.array([np.inf, np.inf]), T)
    drives = [{"x": OrnsteinUhlenbeck(60.0, 8.0, tau, duration=4.0, seed=seed, dt=0.5)} for seed in range(20)]
    quick = model.solve_many(drives, adaptive=True, order=1, duration=4.0, every=10)
    rates = quick.rate.sel(time=slice(0.1, None)).values
    error = np.sqrt(2.0 * (tau + T) / (20 * 3900.0))
    assert rates.mean() == pytest.approx(w * 60.0, abs=5 * w * 8.0 * error)
    assert rates.var() == pytest.approx((w * 8.0) ** 2 * tau / (tau + T), rel=5 * error * np.sqrt(2.0))
    fixed = model.solve(drives[0], order=1, duration=4.0, dt=0.05, every=20)
    np.testing.assert_allclose(quick.rate[0].values, fixed.rate.values, rtol=5e-3, atol=0.05)


def test_the_seed_fixes_the_course_and_attributes_say_so():
    noise = OrnsteinUhlenbeck(20.0, 5.0, 20.0, duration=0.1, seed=7)
    np.testing.assert_array_equal(noise.course, OrnsteinUhlenbeck(20.0, 5.0, 20.0, duration=0.1, seed=7).course)
    assert np.abs(noise.course - OrnsteinUhlenbeck(20.0, 5.0, 20.0, duration=0.1, seed=8).course).max() > 1.0
    tf = RateModel("E", ("x",), np.array([[0.0, 200.0]]), np.array([0.5]), 0.0, "linear")
    model = MeanField(("E",), ("x",), (tf,), np.array([np.inf, np.inf]), 5.0)
    drive = model.solve({"x": noise}, duration=0.1).attrs["drive"]["x"]
    assert drive.pop("kind") == "ornstein_uhlenbeck"
    assert OrnsteinUhlenbeck(**json.loads(json.dumps(drive))) == noise


def test_the_noisy_background_of_protocols_is_the_same_process():
    settings = {"sd": 5.0, "tau": 20.0, "seed": 7.0}
    protocol = Protocol("noise", "x", {"x": 20.0}, settings, duration=100.0)
    np.testing.assert_allclose(protocol.rate(), OrnsteinUhlenbeck(20.0, 5.0, 20.0, duration=0.1, seed=7).course[:, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"tau": 0.0}, "tau = 0"), ({"sd": -1.0}, "must not be negative"), ({"law": "lognormall"}, "Did you mean"),
     ({"mean": 0.0, "law": "lognormal"}, "cannot fluctuate")],
)  # fmt: skip
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(MeanFieldError, match=message):
        OrnsteinUhlenbeck(**{"mean": 20.0, "sd": 5.0, "tau": 20.0, "duration": 1.0, "seed": 1} | change)
