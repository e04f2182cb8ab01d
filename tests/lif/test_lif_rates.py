"""Stationary rates against mpmath at 50 digits, NNMT, analytic limits and finite differences."""

import mpmath as mp
import numpy as np
import pytest
from lif_reference import CELL, integrand, limits, relative, siegert, working_points

from automfm_hpc import lif
from automfm_hpc.errors import LIFError


def _worst_against_mpmath(count, seed):
    rng = np.random.default_rng(seed)
    worst = 0.0
    with mp.workdps(50):
        for _ in range(count):
            mean = float(rng.choice([rng.uniform(-20, 40), 15 + 10 ** rng.uniform(-3, 3)]))
            sd = float(10 ** rng.uniform(-2, 2))
            tau_syn = float(rng.choice([0.0, 0.5]))
            if limits(mean, sd, tau_syn)[0] > 26:
                assert lif.firing_rate(mean, sd, **CELL, tau_syn=tau_syn) < 1e-280
                continue
            value = lif.firing_rate(mean, sd, **CELL, tau_syn=tau_syn)
            worst = max(worst, relative(value, siegert(mean, sd, tau_syn)))
    return worst


def test_rate_equals_mpmath():
    assert _worst_against_mpmath(60, seed=1) < 1e-11


@pytest.mark.slow
def test_rate_equals_mpmath_at_ten_thousand_points():
    assert _worst_against_mpmath(10_000, seed=2) < 1e-11


@pytest.mark.parametrize(("method", "theirs"), [("shift", "shift"), ("expansion", "taylor")])
def test_rate_equals_nnmt_at_a_thousand_working_points(method, theirs):
    exp = pytest.importorskip("nnmt").lif.exp
    mean, sd = working_points(1000, seed=3, sd=(3.0, 6.0), mean=(-5.0, 40.0))
    ours = lif.firing_rate(mean, sd, **CELL, tau_syn=0.05, method=method)
    nnmt = exp._firing_rates_for_given_input(mean * 1e-3, sd * 1e-3, 0.0, 15e-3, 10e-3, 2e-3, 0.05e-3, method=theirs)
    np.testing.assert_allclose(ours, nnmt, rtol=1e-9)


def test_delta_rate_equals_nnmt():
    delta = pytest.importorskip("nnmt").lif.delta
    mean, sd = working_points(1000, seed=4)
    nnmt = delta._firing_rates_for_given_input(mean * 1e-3, sd * 1e-3, 0.0, 15e-3, 10e-3, 2e-3)
    np.testing.assert_allclose(lif.firing_rate(mean, sd, **CELL), nnmt, rtol=1e-9)


def test_no_noise_is_the_deterministic_rate():
    mean = np.array([10.0, 15.0, 15.001, 20.0, 1e4])
    rate = lif.firing_rate(mean, 0.0, **CELL)
    above = 1e3 / (2.0 + 10.0 * np.log(mean[2:] / (mean[2:] - 15.0)))
    np.testing.assert_array_equal(rate[:2], 0.0)
    np.testing.assert_allclose(rate[2:], above, rtol=1e-14)
    np.testing.assert_allclose(lif.firing_rate(20.0, [1e-9, 1e-6, 1e-4], **CELL), rate[3], rtol=1e-9)


def test_strong_drive_with_weak_noise_and_deep_subthreshold_have_values():
    # NNMT returns NaN in both corners (its CVs and big-float responses too).
    assert lif.firing_rate(1000.0, 1e-3, **CELL) == pytest.approx(lif.firing_rate(1000.0, 0.0, **CELL), rel=1e-9)
    assert lif.firing_rate(-1000.0, 1.0, **CELL) == 0.0
    sd = 10.0 ** np.linspace(-8, 8, 65)
    every = lif.rate_derivatives(np.linspace(-1e3, 1e3, 81)[:, None], sd, **CELL, tau_syn=0.5)
    assert np.isfinite(every.rate).all() and np.isfinite(every.d_mean).all() and np.isfinite(every.d_variance).all()
    assert (every.rate >= 0).all() and (every.rate < 500).all() and (every.d_mean >= 0).all()


@pytest.mark.parametrize("method", ["shift", "expansion"])
@pytest.mark.parametrize(("mean", "sd"), [(5.0, 5.0), (16.0, 4.0), (40.0, 3.0), (30.0, 0.5), (14.0, 60.0)])
def test_derivatives_equal_those_of_mpmath(method, mean, sd):
    tau_syn = 0.2
    with mp.workdps(50):
        shift = limits(0.0, 1.0, tau_syn)[0] - 15

        def rate(m, v):
            s = mp.sqrt(v)
            if method == "shift":
                return siegert(m, s, tau_syn)
            return siegert(m, s) - shift * s * mp.diff(lambda q: siegert(q, s), m, h=mp.mpf(10) ** -12)

        by_mean = mp.diff(lambda m: rate(m, mp.mpf(sd) ** 2), mean, h=mp.mpf(10) ** -10)
        by_variance = mp.diff(lambda v: rate(mp.mpf(mean), v), mp.mpf(sd) ** 2, h=mp.mpf(10) ** -10)
    ours = lif.rate_derivatives(mean, sd, **CELL, tau_syn=tau_syn, method=method)
    assert relative(ours.d_mean, by_mean) < 1e-7
    assert relative(ours.d_variance, by_variance) < 1e-7


def test_derivative_by_input_rate_is_that_of_mean_and_variance():
    weight, extra = 0.7, 1e-4  # mV; kHz of input added
    slope = lif.input_rate_derivative(12.0, 4.0, weight, **CELL, tau_syn=0.5)
    more = [
        lif.firing_rate(12.0 + q * 10 * weight, np.sqrt(16.0 + q * 10 * weight**2), **CELL, tau_syn=0.5)
        for q in (-2 * extra, -extra, extra, 2 * extra)
    ]
    numeric = (8 * (more[2] - more[1]) - (more[3] - more[0])) / (12 * extra) * 1e-3
    assert slope == pytest.approx(numeric, rel=1e-8)


def test_first_order_expansion_is_the_tangent_of_the_shift():
    gaps = []
    for tau_syn in (1e-3, 1e-4):
        pair = [lif.firing_rate(15.0, 5.0, **CELL, tau_syn=tau_syn, method=m) for m in ("shift", "expansion")]
        gaps.append(abs(pair[0] - pair[1]))
    assert gaps[0] / gaps[1] == pytest.approx(10.0, rel=0.05)  # second order in sqrt(tau_syn)


def test_cv_equals_mpmath_and_its_limits():
    with mp.workdps(16):
        for mean, sd in ((12.0, 5.0),):
            high, low = limits(mean, sd, 0.5)
            outer = mp.quad(
                lambda y: (
                    mp.exp(y * y) * mp.quad(lambda z: mp.exp(-z * z) * integrand(z) ** 2, [y - 9, y - 3, y - 1, y])
                ),
                mp.linspace(low, high, 3),
            )
            exact = mp.sqrt(2 * mp.pi * outer) * siegert(mean, sd, 0.5) / 100
            assert relative(lif.cv(mean, sd, **CELL, tau_syn=0.5), exact) < 1e-10
    assert lif.cv(-100.0, 1.0, **CELL) == 1.0
    assert lif.cv(0.0, 2.0, **CELL) == pytest.approx(1.0, abs=1e-9)
    assert lif.cv(20.0, 0.0, **CELL) == 0.0
    np.testing.assert_allclose(lif.cv(100.0, 1e-2, **CELL) / lif.cv(100.0, 1e-4, **CELL), 100.0, rtol=1e-6)


def test_cv_equals_nnmt():
    exp = pytest.importorskip("nnmt").lif.exp
    mean, sd = working_points(25, seed=6, sd=(3.0, 8.0), mean=(0.0, 35.0))
    rate = lif.firing_rate(mean, sd, **CELL, tau_syn=0.5)
    nnmt = exp._cvs(rate, mean * 1e-3, sd * 1e-3, 0.0, 15e-3, 10e-3, 0.5e-3)
    np.testing.assert_allclose(lif.cv(mean, sd, **CELL, tau_syn=0.5), nnmt, rtol=1e-7)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"tau_m": -1.0}, "tau_m must be positive"),
        ({"t_ref": -2.0}, "t_ref must be zero or positive"),
        ({"tau_syn": -0.5}, "tau_syn must be zero or positive"),
        ({"V_th": -1.0}, "V_th must be above V_reset"),
        ({"method": "shfit"}, "Did you mean 'shift'"),
    ],
)
def test_bad_arguments_are_refused(change, word):
    with pytest.raises(LIFError, match=word):
        lif.firing_rate(10.0, 5.0, **{**CELL, **change})


def test_bad_inputs_are_refused():
    with pytest.raises(LIFError, match="sd must be zero or positive"):
        lif.firing_rate(10.0, -5.0, **CELL)
    with pytest.raises(LIFError, match="mean is not finite"):
        lif.firing_rate(np.nan, 5.0, **CELL)
    with pytest.raises(LIFError, match="not broadcast"):
        lif.firing_rate([1.0, 2.0], [1.0, 2.0, 3.0], **CELL)
    with pytest.raises(LIFError, match=r"negative rate.*method='shift'"):
        lif.firing_rate(-20.0, 8.0, **CELL, tau_syn=5.0, method="expansion")
