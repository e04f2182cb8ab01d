"""Exponential synapses to second order: exit statistics against mpmath, rates against NEST, derivatives."""

import mpmath as mp
import numpy as np
import pytest
from lif_reference import CELL, exit_moments, relative, siegert
from test_lif_nest import simulate

from automfm_hpc import lif
from automfm_hpc.errors import LIFError
from automfm_hpc.lif import boundaries
from automfm_hpc.lif.partials import PARAMETERS


@pytest.mark.parametrize(
    ("drift", "size", "error"), [(0.0, 16, 3e-6), (-2.5, 18, 5e-6), (0.9, 20, 5e-6), (3.0, 30, 1e-3)]
)
def test_exit_moments_are_those_of_the_half_space_problem(drift, size, error):
    with mp.workdps(60):
        mean, variance = exit_moments(drift, size)
    ours = boundaries.exit_moments(drift)
    assert ours[0] == pytest.approx(mean, abs=error) and ours[1] == pytest.approx(variance, abs=error)
    if drift == 0.0:
        assert ours[0] == pytest.approx(0.5 * boundaries.ALPHA, abs=1e-6)  # the known shift of first order
        assert ours[2] == pytest.approx(1.0 - ours[1], abs=1e-5)  # Girsanov: crossings with and against the drift


def test_exit_moments_join_the_limits_of_strong_drift():
    for edge in (-4.0, 4.0):
        inside, outside = (np.array(boundaries.exit_moments(edge * s)) for s in (1 - 1e-9, 1 + 1e-9))
        np.testing.assert_allclose(inside[:2], outside[:2], atol=2e-6)


def test_without_synapses_and_without_noise_it_is_the_same_rate():
    for mean, sd, tau_syn in ((14.0, 5.0, 0.0), (30.0, 0.0, 0.5), (30.0, 1e-6, 0.5)):
        rates = [lif.firing_rate(mean, sd, **CELL, tau_syn=tau_syn, method=m) for m in ("shift", "second_order")]
        assert rates[1] == pytest.approx(rates[0], rel=2e-6)


def test_it_is_nearer_to_nest_than_the_shift():
    cells, duration, dt = 150, 2000.0, 0.05
    points = [(22.0, 7.0), (16.0, 7.0)]
    rate, error = simulate("iaf_psc_exp", 0.5, points, cells, duration, dt)
    rate = 1e3 / (1e3 / rate - 0.5 * dt)  # a crossing is noticed half a step late on average
    mean, sd = np.array(points).T
    shift, second = (lif.firing_rate(mean, sd, **CELL, tau_syn=0.5, method=m) for m in ("shift", "second_order"))
    assert (np.abs(second - rate) < 3.5 * error + 2e-3 * rate).all(), (rate, second)
    assert (shift - rate > 0.015 * rate).all(), (rate, shift)


@pytest.mark.slow
@pytest.mark.parametrize(("tau_syn", "allowed"), [(0.1, 0.003), (0.5, 0.004), (1.0, 0.007), (2.0, 0.02)])
def test_over_a_grid_of_inputs_it_stays_near_nest(tau_syn, allowed):
    points = [(mean, sd) for mean in (12.0, 16.0, 22.0, 30.0) for sd in (2.0, 4.0, 7.0)]
    cells, duration, dt = 150, 4000.0, 0.02 if tau_syn < 0.2 else 0.05
    rate, error = simulate("iaf_psc_exp", tau_syn, points, cells, duration, dt)
    rate = 1e3 / (1e3 / rate - 0.5 * dt)
    mean, sd = np.array(points).T
    errors = {m: lif.firing_rate(mean, sd, **CELL, tau_syn=tau_syn, method=m) / rate - 1
              for m in ("shift", "second_order")}  # fmt: skip
    print(tau_syn, {m: np.round(100 * e, 2).tolist() for m, e in errors.items()}, (100 * error / rate).round(2))
    often = rate > 5.0
    assert (np.abs(errors["second_order"]) < 3.5 * error / rate + allowed)[often].all()
    assert np.abs(errors["second_order"][often]).max() < np.abs(errors["shift"][often]).max()


def test_the_published_shift_forgets_the_refractory_time():
    """With t_ref the methods differ in first order of sqrt(tau_syn), without it only in second order."""
    ratios = {}
    for t_ref in (0.0, 2.0):
        gaps = [abs(np.subtract(*(lif.firing_rate(22.0, 7.0, **{**CELL, "t_ref": t_ref}, tau_syn=t, method=m)
                                  for m in ("shift", "second_order")))) for t in (4e-3, 4e-4)]  # fmt: skip
        ratios[t_ref] = gaps[0] / gaps[1]
    assert ratios[0.0] == pytest.approx(10.0, rel=0.1) and ratios[2.0] == pytest.approx(np.sqrt(10.0), rel=0.1)


def test_slow_synapses_and_responses_are_refused():
    with pytest.raises(LIFError, match=r"second_order' is for tau_syn up to 0.5 tau_m"):
        lif.firing_rate(14.0, 5.0, **CELL, tau_syn=6.0, method="second_order")
    net = lif.LIFNetwork.load("microcircuit")
    with pytest.raises(LIFError, match=r"first order in sqrt.*method='shift'"):
        lif.responses(net, lif.working_point(net, method="second_order"), [1.0])


def test_the_microcircuit_has_a_working_point_of_second_order():
    net = lif.LIFNetwork.load("microcircuit")
    first, second = (lif.working_point(net, method=m).rates for m in ("shift", "second_order"))
    assert 0.001 < np.abs(second / first - 1).max() < 0.1


# --- derivatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "sd"), [(14.0, 5.0), (25.0, 3.0), (8.0, 4.0)])
def test_partial_derivatives_of_the_shift_equal_those_of_mpmath(mean, sd):
    start = {"mean": mean, "sd": sd, "V_th": 15.0, "V_reset": 1.0, "tau_m": 10.0, "t_ref": 2.0, "tau_syn": 0.3}
    ours = lif.rate_partials(**start)
    with mp.workdps(50):
        for name in PARAMETERS:

            def rate(value, name=name):
                p = {k: mp.mpf(v) for k, v in start.items()} | {name: value}
                cell = {k: p[k] for k in ("V_th", "V_reset", "tau_m", "t_ref")}
                return siegert(p["mean"], p["sd"], p["tau_syn"], cell)

            exact = mp.diff(rate, mp.mpf(start[name]), h=mp.mpf(10) ** -12)
            assert relative(ours[name], exact) < 1e-9, name


@pytest.mark.parametrize("method", ["expansion", "second_order"])
@pytest.mark.parametrize(("mean", "sd"), [(14.0, 5.0), (25.0, 3.0), (40.0, 2.0)])
def test_partial_derivatives_equal_differences(method, mean, sd):
    start = {"mean": mean, "sd": sd, "V_th": 15.0, "V_reset": 1.0, "tau_m": 10.0, "t_ref": 2.0, "tau_syn": 0.3}
    ours = lif.rate_partials(**start, method=method)
    for name in PARAMETERS:
        h = 1e-3 * start[name]
        at = [float(lif.firing_rate(**{**start, name: start[name] + k * h}, method=method)) for k in (-2, -1, 1, 2)]
        assert ours[name] == pytest.approx((8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * h), rel=2e-8), name
    slopes = lif.rate_derivatives(**start, method=method)
    assert [ours["mean"], ours["sd"]] == pytest.approx([slopes.d_mean, 2 * sd * slopes.d_variance], rel=1e-10)


def test_partial_derivatives_without_noise():
    ours = lif.rate_partials(20.0, 0.0, **CELL)
    for name, value in (("mean", 20.0), ("V_th", 15.0), ("V_reset", 0.0), ("tau_m", 10.0), ("t_ref", 2.0)):
        at = [lif.firing_rate(**{"mean": 20.0, "sd": 0.0, **CELL, name: value + h}) for h in (-1e-4, 1e-4)]
        assert ours[name] == pytest.approx((at[1] - at[0]) / 2e-4, rel=1e-6), name
    assert lif.rate_partials(-500.0, 1.0, **CELL)["mean"] == 0.0
