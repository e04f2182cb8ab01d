"""Frequency response and its parabolic cylinder functions against mpmath at 50 digits and NNMT."""

import mpmath as mp
import numpy as np
import pytest
from lif_reference import CELL, mellin, relative, response, working_points

from automfm_hpc import lif
from automfm_hpc.errors import LIFError
from automfm_hpc.lif import cylinder


def _worst_mellin(count, seed):
    rng = np.random.default_rng(seed)
    out = np.zeros(6, complex)
    worst = 0.0
    with mp.workdps(50):
        for _ in range(count):
            x = float(rng.choice([rng.uniform(-30, 20), -(10 ** rng.uniform(-2, 1.5)), 10 ** rng.uniform(-2, 1.3)]))
            s = complex(rng.choice([0.0, 10 ** rng.uniform(-3, 1)]), 10 ** rng.uniform(-3, 2.3))
            scale = cylinder.mellin(s, x, out)
            for k, exact in ((1, mellin(s + 1, x)), (2, mellin(s + 2, x))):
                worst = max(worst, float(abs(mp.mpc(out[k]) * mp.exp(mp.mpc(scale)) / exact - 1)))
    return worst


def test_parabolic_cylinder_functions_equal_mpmath():
    assert _worst_mellin(40, seed=1) < 1e-10


@pytest.mark.slow
def test_parabolic_cylinder_functions_equal_mpmath_at_ten_thousand_points():
    assert _worst_mellin(10_000, seed=2) < 1e-9


def _worst_response(count, seed):
    rng = np.random.default_rng(seed)
    worst = 0.0
    with mp.workdps(50):
        for _ in range(count):
            mean, sd = rng.uniform(-5, 35), 10 ** rng.uniform(-0.3, 1.3)
            f = complex(10 ** rng.uniform(-3, 3), rng.choice([0.0, rng.uniform(-60, 12)]))
            cell = {**CELL, "t_ref": float(rng.choice([0.0, 2.0, 5.0]))}
            if (cell["V_th"] - mean) / sd > 8 or (cell["V_reset"] - mean) / sd < -20:
                continue  # thousands of digits in the reference; the limits there have tests of their own
            ours = lif.frequency_response(f, mean, sd, **cell, tau_syn=0.5, synaptic_filter=False)
            worst = max(worst, relative(ours, response(f, mean, sd, 0.5, cell)))
    return worst


def test_response_equals_mpmath_for_real_and_complex_frequencies():
    assert _worst_response(25, seed=3) < 1e-9


@pytest.mark.slow
def test_response_equals_mpmath_at_two_thousand_points():
    assert _worst_response(2000, seed=4) < 1e-9


def test_response_to_decaying_inputs_continues_across_the_poles_of_the_gamma_function():
    growth = np.array([-0.3, -0.7, -1.0, -1.4, -2.0, -3.3])  # lambda tau_m, below which the integrals diverge
    f = (growth + 0.8j) / 10.0 * 1e3 / (2j * np.pi)
    with mp.workdps(40):
        for g, value in zip(f, lif.frequency_response(f, 14.0, 5.0, **CELL), strict=True):
            assert relative(value, response(complex(g), 14.0, 5.0)) < 1e-9


@pytest.mark.parametrize("method", ["shift", "expansion"])
@pytest.mark.parametrize(("mean", "sd"), [(20.0, 5.0), (5.0, 5.0), (40.0, 1.0), (100.0, 0.1), (16.0, 0.2)])
def test_response_is_continuous_at_zero_frequency_with_refractory_time(method, mean, sd):
    cell = {**CELL, "tau_syn": 0.5, "method": method}
    slope = lif.rate_derivatives(mean, sd, **cell).d_mean
    at = lif.frequency_response([0.0, 1e-9, 1e-6], mean, sd, **cell)
    np.testing.assert_allclose(at.real, slope, rtol=1e-9)
    h = 1e-3
    rate = [lif.firing_rate(mean + k * h, sd, **cell) for k in (-2, -1, 1, 2)]
    numeric = (8 * (rate[2] - rate[1]) - (rate[3] - rate[0])) / (12 * h)
    assert slope == pytest.approx(numeric, rel=1e-6)


def test_defect_refractory_response_of_nnmt_jumps_at_zero():
    exp = pytest.importorskip("nnmt").lif.exp
    mean, sd = 23.0, 8.0
    args = (mean * 1e-3, sd * 1e-3, 10e-3, 0.5e-3, 2e-3, 15e-3, 0.0)
    theirs = exp._transfer_function(*args, np.array([0.0, 1e-6])).ravel() * 1e-3
    rate = lif.firing_rate(mean, sd, **CELL, tau_syn=0.5)
    ours = lif.frequency_response([0.0, 1e-6 / (2 * np.pi)], mean, sd, **CELL, tau_syn=0.5)
    assert ours[0].real == pytest.approx(theirs[0].real, rel=1e-9)
    assert abs(ours[1] / ours[0] - 1) < 1e-6
    assert theirs[1].real / theirs[0].real == pytest.approx(1 / (1 - 2e-3 * rate), rel=1e-6)
    published = lif.frequency_response(1e-6 / (2 * np.pi), mean, sd, **CELL, tau_syn=0.5, delayed_reset=False)
    assert published.real == pytest.approx(theirs[1].real, rel=1e-8)


def _worst_against_nnmt(count, seed, theirs, method, t_ref):
    exp = pytest.importorskip("nnmt").lif.exp
    mean, sd = working_points(count, seed, sd=(4.0, 10.0), mean=(5.0, 30.0))
    f = 10 ** np.random.default_rng(seed).uniform(-2, 2.7, count)
    ours = lif.frequency_response(
        f, mean, sd, **{**CELL, "t_ref": t_ref}, tau_syn=0.2, method=method, delayed_reset=t_ref == 0.0
    )
    nnmt = [
        exp._transfer_function(
            m * 1e-3, s * 1e-3, 10e-3, 0.2e-3, t_ref * 1e-3, 15e-3, 0.0, np.array([w]), method=theirs
        )
        for m, s, w in zip(mean, sd, 2 * np.pi * f, strict=True)
    ]
    return np.abs(ours / (np.ravel(nnmt) * 1e-3) - 1).max()


@pytest.mark.parametrize(("method", "theirs"), [("shift", "shift"), ("expansion", "taylor")])
@pytest.mark.parametrize("t_ref", [0.0, 2.0])
def test_response_equals_nnmt(method, theirs, t_ref):
    assert _worst_against_nnmt(60, 5, theirs, method, t_ref) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("method", "theirs"), [("shift", "shift"), ("expansion", "taylor")])
def test_response_equals_nnmt_at_a_thousand_working_points(method, theirs):
    assert _worst_against_nnmt(1000, 6, theirs, method, 0.0) < 1e-9


def test_response_has_values_in_every_corner():
    mean = np.array([-1e3, -50.0, 0.0, 14.0, 15.0, 16.0, 50.0, 1e3])[:, None, None]
    sd = np.array([0.0, 1e-9, 1e-5, 1e-2, 1.0, 30.0, 1e4])[None, :, None]
    f = np.array([0.0, 1e-8, 1e-3, 1.0, 30.0, 1e3, 1e5, -30.0])
    for method in ("shift", "expansion"):
        cell = {**CELL, "tau_syn": 0.5 if method == "shift" else 0.0, "method": method}
        assert np.isfinite(lif.frequency_response(f, mean, sd, **cell)).all()


def test_noiseless_response_is_the_limit_of_weak_noise():
    exact = lif.frequency_response([0.0, 3.0, 40.0], 30.0, 0.0, **CELL)
    np.testing.assert_allclose(lif.frequency_response([0.0, 3.0, 40.0], 30.0, 1e-3, **CELL), exact, rtol=1e-6)
    assert exact[0].real == pytest.approx(lif.rate_derivatives(30.0, 0.0, **CELL).d_mean, rel=1e-12)


def test_response_at_negative_frequency_is_the_conjugate_and_filter_is_a_low_pass():
    f = np.array([0.3, 20.0, 300.0])
    here = lif.frequency_response(f, 14.0, 5.0, **CELL, tau_syn=0.5)
    np.testing.assert_allclose(lif.frequency_response(-f, 14.0, 5.0, **CELL, tau_syn=0.5), here.conj(), rtol=1e-14)
    bare = lif.frequency_response(f, 14.0, 5.0, **CELL, tau_syn=0.5, synaptic_filter=False)
    np.testing.assert_allclose(here, bare / (1 + 2j * np.pi * f * 0.5e-3), rtol=1e-14)


def test_bad_arguments_are_refused():
    with pytest.raises(LIFError, match="unknown method 'taylr'"):
        lif.frequency_response(1.0, 10.0, 5.0, **CELL, method="taylr")
    with pytest.raises(LIFError, match="frequency is not finite"):
        lif.frequency_response(np.inf, 10.0, 5.0, **CELL)
