"""The published equations reproduce the published rates; their slips are of the size of what remains."""

import numpy as np
import pytest

from automfm_hpc import published
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.published_template import from_dict


@pytest.fixture(scope="module")
def model():
    return published.model()


def test_rest_potential_shows_the_factor_on_the_leak(model):
    for tf in model.transfer_functions:
        mu_V, _, _, mu_G = tf.moments(np.zeros(len(tf.axes)))
        assert mu_V == pytest.approx(np.e * tf.E_L)
        assert mu_G == tf.g_L
    assert published.model().transfer_functions[0].moments([0.0, 0.0])[0] == pytest.approx(-168.5, abs=0.1)


def test_derivatives_against_differences(model):
    rng = np.random.default_rng(1)
    for tf in model.transfer_functions:
        for nu in rng.uniform(3.0, 60.0, (5, len(tf.axes))):
            steps = 1e-4 * np.eye(nu.size)
            gradient = [(tf(nu + d) - tf(nu - d)) / 2e-4 for d in steps]
            hessian = [(tf.gradient(nu + d) - tf.gradient(nu - d)) / 2e-4 for d in steps]
            np.testing.assert_allclose(tf.gradient(nu), gradient, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(tf.hessian(nu), hessian, rtol=1e-6, atol=1e-8)


def test_template_is_the_written_formula(model):
    """Straight from the formulas of the module, without jets."""
    from scipy.special import erfc

    tf, nu = model.transfer_functions[3], np.array([12.0, 40.0])
    K, Q, tau, E = tf.synapses.T
    g = Q * K * tau * nu * 1e-3
    mu_G = tf.g_L + g.sum()
    mu_V = np.e * ((g * E).sum() + tf.g_L * tf.E_L) / mu_G
    T_m, U = tf.C_m / mu_G, Q * (E - mu_V) / mu_G
    variance = (1e-3 * K * nu * (2 * T_m + tau) * (np.e * U * tau / (2 * (tau + T_m))) ** 2).sum()
    T_V = 0.5 * (1e-3 * K * nu * (np.e * U * tau) ** 2).sum() / variance
    P, sigma = tf.coefficients, np.sqrt(variance)
    V_eff = P @ [1, (mu_V + 60) / 10, (sigma - 4) / 6, T_V * tf.g_L / tf.C_m - 0.5, np.log(mu_G / tf.g_L)]
    assert tf(nu) == pytest.approx(1e3 * tf.gain / (2 * T_V) * erfc((V_eff - mu_V) / (np.sqrt(2) * sigma)), rel=1e-12)


@pytest.mark.parametrize("f", published.RATES)
def test_published_rates(f):
    """Measured with 20 runs: at most 0.8 Hz (PC) and 1.4 % (GrC) off at 32 Hz; 0.01 Hz at 4 Hz."""
    expected, spread = (np.array(x) for x in published.RATES[f])
    found, _ = published.rates(f, seeds=12)
    difference = np.abs(found - expected)
    assert (difference < 0.5 * spread).all()
    assert (difference / expected).max() < 0.02


def test_slips_have_the_size_of_what_remains():
    expected = np.array(published.RATES[32.0][0])
    general, slipped = published.rates(32.0, seeds=8)[0], published.rates(32.0, seeds=8, slips=True)[0]
    shift = slipped - general
    assert np.abs(shift[3]) > np.abs(expected - general)[3]
    assert np.abs(slipped - expected).sum() < np.abs(general - expected).sum()


def test_same_equations_through_the_package_solver(model):
    """Exponential Heun against explicit Euler as published, same random input."""
    solved = model.solve({"mf": published.drive(16.0)}, duration=0.5, initial=published.INITIAL, method="heun")
    late = solved.rate.sel(time=slice(0.1, 0.5)).mean("time").values
    np.testing.assert_allclose(late, published.rates(16.0, seeds=1)[0], rtol=2e-3)


def test_drive_is_uniform_and_repeatable():
    drive = published.drive(32.0, seed=3)
    assert drive.shape == (5001, 2)
    assert drive[:, 1].mean() == pytest.approx(16.0, abs=0.5)
    assert drive[:, 1].max() < 32.0
    np.testing.assert_array_equal(drive, published.drive(32.0, seed=3))
    assert not np.array_equal(drive, published.drive(32.0, seed=4))


def test_never_nan_where_the_published_code_diverges(model):
    solved = model.solve({"mf": 300.0}, duration=0.3, initial=published.INITIAL)
    assert np.isfinite(solved.rate).all()
    assert solved.attrs["status"] != "ok"


def test_gain_sets():
    assert published.model("other, ataxia").metadata["pathology"] == "ataxia"
    with pytest.raises(MeanFieldError, match="Did you mean 'used'"):
        published.model("use")


def test_round_trip(model):
    tf = model.transfer_functions[1]
    np.testing.assert_array_equal(from_dict(tf.to_dict())([10.0, 5.0, 12.0]), tf([10.0, 5.0, 12.0]))
