"""Derivatives of the frequency response against mpmath at 50 digits and against differences."""

import mpmath as mp
import numpy as np
import pytest
from lif_reference import CELL, relative, response

from automfm_hpc import lif
from automfm_hpc.errors import LIFError
from automfm_hpc.lif.partials import PARAMETERS

START = {"mean": 14.0, "sd": 5.0, "V_th": 15.0, "V_reset": 1.0, "tau_m": 10.0, "t_ref": 2.0, "tau_syn": 0.3}


def differences(frequency, start, name, method):
    """Derivative of the response by one parameter, extrapolated from two steps."""
    h = 1e-4 * abs(start[name])
    at = [lif.frequency_response(frequency, **{**start, name: start[name] + k * h}, method=method,
                                 synaptic_filter=False) for k in (-2, -1, 1, 2)]  # fmt: skip
    return (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * h)


def worst(count, seed):
    rng = np.random.default_rng(seed)
    found = 0.0
    with mp.workdps(50):
        for _ in range(count):
            start = {**START, "mean": rng.uniform(0, 30), "sd": 10 ** rng.uniform(0.3, 1.3), "tau_syn": 0.3}
            f = float(10 ** rng.uniform(-3, 2.7))
            ours = lif.response_partials(f, **start)
            found = max(found, relative(ours["response"], response(f, start["mean"], start["sd"], 0.3, START)))
            for name in PARAMETERS:

                def value(v, name=name, f=f, start=start):
                    p = {k: mp.mpf(x) for k, x in start.items()} | {name: v}
                    cell = {k: p[k] for k in ("V_th", "V_reset", "tau_m", "t_ref")}
                    return response(f, p["mean"], p["sd"], p["tau_syn"], cell)

                at, h = mp.mpf(start[name]), mp.mpf(10) ** -12
                found = max(found, relative(ours[name], (value(at + h) - value(at - h)) / (2 * h)))
    return found


def test_derivatives_equal_mpmath():
    assert worst(2, seed=1) < 1e-10


@pytest.mark.slow
def test_derivatives_equal_mpmath_at_a_hundred_points():
    assert worst(100, seed=2) < 1e-9


@pytest.mark.parametrize("method", ["shift", "expansion"])
@pytest.mark.parametrize(("mean", "sd"), [(14.0, 5.0), (25.0, 3.0), (40.0, 1.0), (5.0, 6.0), (10.0, 100.0)])
def test_derivatives_equal_differences(method, mean, sd):
    f = np.array([0.0, 1e-6, 0.5, 30.0, 300.0, -30.0])
    start = {**START, "mean": mean, "sd": sd}
    ours = lif.response_partials(f, **start, method=method)
    np.testing.assert_allclose(
        ours["response"], lif.frequency_response(f, **start, method=method, synaptic_filter=False), rtol=1e-12
    )
    for name in PARAMETERS:
        numeric = differences(f, start, name, method)
        np.testing.assert_allclose(ours[name], numeric, rtol=1e-6, atol=1e-8 * np.abs(numeric).max(), err_msg=name)


def test_at_zero_frequency_they_are_second_derivatives_of_the_rate():
    ours = lif.response_partials(0.0, **START)
    for name in PARAMETERS:
        h = 1e-3 * START[name]
        at = [lif.rate_partials(**{**START, name: START[name] + k * h})["mean"] for k in (-2, -1, 1, 2)]
        assert ours[name] == pytest.approx((8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * h), rel=1e-8), name


def test_without_noise_they_equal_differences_and_are_the_limit_of_weak_noise():
    f = np.array([0.0, 3.0, 40.0, 200.0])
    start = {**START, "mean": 22.0, "sd": 0.0, "tau_syn": 0.0}
    ours, weak = lif.response_partials(f, **start), lif.response_partials(f, **{**start, "sd": 1e-4})
    for name in ("mean", "V_th", "V_reset", "tau_m", "t_ref"):
        numeric = differences(f, start, name, "shift")
        np.testing.assert_allclose(ours[name], numeric, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(weak[name], numeric, rtol=1e-5, atol=1e-7)
    assert not ours["sd"].any()


def test_delta_synapses_silent_cells_and_bad_arguments():
    ours = lif.response_partials([0.0, 20.0], **{**START, "tau_syn": 0.0})
    assert np.isinf(ours["tau_syn"]).all() and all(np.isfinite(ours[k]).all() for k in PARAMETERS[:-1])
    silent = lif.response_partials([0.0, 20.0], **{**START, "mean": -500.0})
    assert not any(v.any() for v in silent.values())
    with pytest.raises(LIFError, match="first order in sqrt"):
        lif.response_partials(1.0, **START, method="second_order")
    with pytest.raises(LIFError, match="V_th must be above V_reset"):
        lif.response_partials(1.0, 14.0, 5.0, **{**CELL, "V_reset": 20.0})
