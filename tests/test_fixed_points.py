"""Fixed points: all of them, with the right stability, and honest about starts that fail."""

import numpy as np
import pytest

from automfm_hpc.mean_field import MeanField
from automfm_hpc.rate_models import RateModel

T = 5.0


def one(weight, offset, N=np.inf, top=100.0):
    domain, weights = np.array([[0.0, 120.0], [0.0, 50.0]]), np.array([weight, 0.05])
    tf = RateModel("E", ("E", "x"), domain, weights, offset, "logistic", top)
    return MeanField(("E",), ("x",), (tf,), np.array([N, np.inf]), T)


def test_bistable_population_has_three_points_and_the_middle_one_is_unstable():
    model = one(0.1, -6.0)
    points = model.fixed_points({"x": 20.0})
    assert [p.stable for p in points] == [True, False, True]
    for p in points:
        F = model.transfer_functions[0]
        assert F([p.rates[0], 20.0]) == pytest.approx(p.rates[0], abs=1e-7)
        slope = F.gradient([p.rates[0], 20.0])[0]
        assert p.eigenvalues[0] == pytest.approx((slope - 1.0) * 1000.0 / T)
    assert points[0].rates[0] < points[1].rates[0] < points[2].rates[0]
    assert len(points.stable) == 2


@pytest.mark.parametrize("order", [1, 2])
def test_stable_points_are_where_the_solver_stays(order):
    model = one(0.1, -6.0, N=3000.0)
    for point in model.fixed_points({"x": 20.0}, order=order).stable:
        solved = model.solve({"x": 20.0}, duration=0.2, order=order, initial=point.rates)
        np.testing.assert_allclose(solved.rate[-1], point.rates, rtol=1e-4)
        if order == 2:
            np.testing.assert_allclose(solved.covariance[-1], point.covariance, rtol=1e-2)


def test_unstable_point_has_no_stationary_covariance_and_says_so():
    """The middle point of order 1 is none of order 2, which has unstable ones of large variance instead."""
    found = one(0.1, -6.0, N=3000.0).fixed_points({"x": 20.0}, order=2)
    assert len(found.stable) == 2
    assert all(abs(p.rates[0] - 50.0) > 1.0 for p in found)
    assert any("no stationary value" in reason for _, reason in found.failed)
    assert found.n_start == 24


def oscillator(drive):
    E = RateModel("E", ("E", "I", "x"), np.tile([0.0, 120.0], (3, 1)), np.array([0.16, -0.12, 0.1]), -3.0)
    I = RateModel("I", ("E",), np.array([[0.0, 120.0]]), np.array([0.2]), -6.0)  # noqa: E741
    model = MeanField(("E", "I"), ("x",), (E, I), np.array([np.inf] * 3), np.array([3.0, 12.0]))
    return model, model.fixed_points({"x": drive})


def test_oscillation_is_a_complex_pair_with_positive_real_part():
    model, points = oscillator(25.0)
    unstable = [p for p in points if not p.stable]
    assert unstable and any(abs(p.eigenvalues[0].imag) > 0 for p in unstable)
    if not points.stable:
        rate = model.solve({"x": 25.0}, duration=1.0, order=1).rate.values[5000:, 0]
        assert np.ptp(rate) > 1.0


def test_eigenvalues_predict_the_return_after_a_push():
    model = one(0.02, -2.0)
    point = model.fixed_points({"x": 20.0})[0]
    solved = model.solve({"x": 20.0}, duration=0.02, order=1, initial=point.rates + 1e-3, dt=0.05)
    away = (solved.rate[-1].values - point.rates) / 1e-3
    assert away[0] == pytest.approx(np.exp(point.eigenvalues[0].real * 0.02), rel=1e-3)


def test_second_order_eigenvalues_of_a_linear_population():
    """dF/dnu = w: rate (w - 1)/T, variance 2 (w - 1)/T, input alone -2/T, mixed (w - 2)/T."""
    tf = RateModel("E", ("E", "x"), np.tile([0.0, 200.0], (2, 1)), np.array([0.5, 0.3]), 2.0, "linear")
    model = MeanField(("E",), ("x",), (tf,), np.array([50.0, 20.0]), T)
    point = model.fixed_points({"x": 10.0}, order=2)[0]
    assert point.rates[0] == pytest.approx(10.0)
    np.testing.assert_allclose(np.sort(point.eigenvalues.real), 200.0 * np.array([-2.0, -1.5, -1.0, -0.5]), rtol=1e-5)


def test_points_outside_the_domain_are_marked():
    tf = RateModel("E", ("E", "x"), np.array([[0.0, 5.0], [0.0, 50.0]]), np.array([0.5, 0.3]), 2.0, "linear")
    model = MeanField(("E",), ("x",), (tf,), np.array([np.inf, np.inf]), T)
    assert model.fixed_points({"x": 10.0})[0].outside == ("E<-E",)


def test_starts_that_fail_are_listed():
    tf = RateModel("E", ("x",), np.array([[0.0, 50.0]]), np.array([np.nan]), 0.0)
    model = MeanField(("E",), ("x",), (tf,), np.array([1.0, 1.0]), T)
    found = model.fixed_points({"x": 1.0}, n_start=3)
    assert len(found) == 0 and len(found.failed) == 3
    assert "not finite" in found.failed[0][1]
