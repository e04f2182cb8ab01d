"""Branches against closed forms: folds of a self-exciting population, Hopf points of an excitatory-inhibitory pair."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import brentq

from automfm_hpc.continuation import continue_family
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.mean_field import MeanField
from automfm_hpc.rate_models import RateModel

TOP, T = 100.0, 5.0


def bistable(weight=0.06, offset=-4.0):
    tf = RateModel("E", ("E", "x"), np.array([[0.0, 120.0], [0.0, 50.0]]), np.array([weight, 0.05]), offset,
                   "logistic", TOP)  # fmt: skip
    return MeanField(("E",), ("x",), (tf,), np.array([np.inf, np.inf]), T)


def folds_of_bistable(weight=0.06, offset=-4.0):
    """nu = TOP p: w TOP p (1 - p) = 1 at a fold, and the input from log(p/(1 - p)) = offset + w nu + 0.05 x."""
    p = 0.5 * (1.0 + np.array([-1.0, 1.0]) * np.sqrt(1.0 - 4.0 / (weight * TOP)))
    return TOP * p, (np.log(p / (1.0 - p)) - offset - weight * TOP * p) / 0.05


def test_folds_of_a_bistable_population_are_those_of_the_closed_form():
    found = bistable().continuation("x", 0.0, 50.0)
    rates, inputs = folds_of_bistable()
    folds = found.isel(point=found.label.values == "fold").sortby("parameter")
    order = np.argsort(inputs)
    np.testing.assert_allclose(folds.parameter, inputs[order], rtol=1e-6)
    np.testing.assert_allclose(folds.rate[:, 0], rates[order], rtol=1e-5)
    assert set(found.branch.values) == {0}  # one curve, bent twice
    assert found.attrs["warnings"] == []


def test_every_point_is_a_fixed_point_with_its_stability():
    model = bistable()
    found = model.continuation("x", 0.0, 50.0, step=0.05)
    F = model.transfer_functions[0]
    at = np.column_stack([found.rate[:, 0], found.parameter])
    np.testing.assert_allclose(F(at), found.rate[:, 0], atol=1e-6)
    slope = (F.gradient(at)[:, 0] - 1.0) * 1000.0 / T
    np.testing.assert_allclose(found.eigenvalue[:, 0].values.real, slope, atol=1e-6 * np.abs(slope).max())
    ordinary = found.label.values == ""
    np.testing.assert_array_equal(found.stable.values[ordinary], slope[ordinary] < 0)
    middle = found.isel(point=~found.stable.values & ordinary)
    assert middle.sizes["point"] > 3 and found.inside.values.all()


def test_all_branches_at_the_start_are_followed():
    """Between the folds there are three points: three branches begin, two of which end in the same fold's curve."""
    inputs = np.sort(folds_of_bistable()[1])
    start = float(inputs.mean())
    found = bistable().continuation("x", start, 50.0)
    ends = found.isel(point=found.label.values == "end")
    points = bistable().fixed_points({"x": start})
    at_start = np.sort(ends.rate[:, 0].values[np.isclose(ends.parameter, start)])
    np.testing.assert_allclose(np.unique(at_start.round(6)), [p.rates[0].round(6) for p in points], atol=2e-6)
    assert (found.label == "fold").sum() == 1


def pair(x_weight=0.1):
    """E and I with symmetric logistic functions; at p_E = p_I = 1/2 all is known."""
    w_EE, w_EI, w_IE = 0.16, 0.2, 0.03
    half = 0.5 * TOP
    E = RateModel("E", ("E", "I", "x"), np.tile([0.0, 120.0], (3, 1)), np.array([w_EE, -w_EI, x_weight]),
                  -(w_EE - w_EI) * half - 20.0 * x_weight)  # fmt: skip
    I = RateModel("I", ("E",), np.array([[0.0, 120.0]]), np.array([w_IE]), -w_IE * half)  # noqa: E741
    return (E, I), (w_EE, w_EI, w_IE)


def test_hopf_of_a_pair_is_where_the_trace_vanishes():
    """With T_E fixed the trace (a - 1)/T_E - 1/T_I is 0 at T_I = T_E/(a - 1); a = w_EE TOP/4 at the middle.

    The parameter is T_I: the fixed point stays at (TOP/2, TOP/2), the pair of eigenvalues crosses.
    """
    functions, (w_EE, w_EI, w_IE) = pair()
    a, T_E = w_EE * TOP / 4.0, 3.0

    def family(T_I):
        return MeanField(("E", "I"), ("x",), functions, np.array([np.inf] * 3), np.array([T_E, T_I]))

    found = continue_family(family, 0.4, 3.0, {"x": 20.0}, "T_I", "ms")
    hopf = found.isel(point=found.label.values == "Hopf")
    assert hopf.sizes["point"] == 1
    T_I = T_E / (a - 1.0)
    assert float(hopf.parameter[0]) == pytest.approx(T_I, rel=1e-6)
    np.testing.assert_allclose(hopf.rate[0], [TOP / 2, TOP / 2], rtol=1e-9)
    determinant = (-(a - 1.0) + w_EI * w_IE * (TOP / 4.0) ** 2) / (T_E * T_I)
    assert abs(hopf.eigenvalue[0].values[0].imag) == pytest.approx(1000.0 * np.sqrt(determinant), rel=1e-6)
    middle = np.isclose(found.rate[:, 0], TOP / 2) & (found.label.values == "")
    np.testing.assert_array_equal(found.stable.values[middle], (found.parameter < T_I).values[middle])


def test_hopf_points_along_an_input_bound_the_oscillation():
    """Along the input F_E' = w_EE TOP p (1 - p) takes the value of the closed form at two rates, p and 1 - p."""
    functions, (w_EE, _, _) = pair()
    T_E, T_I = 3.0, 4.0
    model = MeanField(("E", "I"), ("x",), functions, np.array([np.inf] * 3), np.array([T_E, T_I]))
    found = model.continuation("x", 0.0, 60.0)
    hopf = found.isel(point=found.label.values == "Hopf")
    slope = 1.0 + T_E / T_I
    p = 0.5 * (1.0 + np.array([-1.0, 1.0]) * np.sqrt(1.0 - 4.0 * slope / (w_EE * TOP)))
    np.testing.assert_allclose(np.sort(hopf.rate[:, 0]), TOP * p, rtol=1e-6)
    between = float(hopf.parameter.mean())
    late = model.solve({"x": between}, duration=1.0, order=1, initial=[40.0, 40.0]).rate.sel(time=slice(0.5, None))
    assert float(np.ptp(late.values[:, 0])) > 5.0


def test_a_family_of_models_has_the_folds_of_the_closed_form():
    """The offset as parameter: at x = 20 the folds lie where offset = log(p/(1 - p)) - w nu - 1."""
    found = continue_family(lambda offset: bistable(offset=offset), -6.0, -2.0, {"x": 20.0}, "offset")
    rates, inputs = folds_of_bistable(offset=0.0)
    folds = np.sort(found.parameter.values[found.label.values == "fold"])
    np.testing.assert_allclose(folds, np.sort(0.05 * inputs - 1.0), rtol=1e-6)
    assert rates.size == folds.size == 2


def test_points_outside_the_domain_are_marked():
    tf = replace(bistable().transfer_functions[0], domain=np.array([[0.0, 50.0], [0.0, 50.0]]))
    narrow = replace(bistable(), transfer_functions=(tf,))
    found = narrow.continuation("x", 0.0, 50.0)
    np.testing.assert_array_equal(found.inside, found.rate[:, 0] <= 50.0 + 5e-5)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(MeanFieldError, match="no input 'y'"):
        bistable().continuation("y", 0.0, 10.0)
    with pytest.raises(MeanFieldError, match="two different values"):
        bistable().continuation("x", 5.0, 5.0)


def with_delay(model, delay):
    """The same, its first axis heard after `delay` (ms)."""
    n = sum(len(tf.axes) for tf in model.transfer_functions)
    late = np.zeros(n)
    late[0] = delay
    return replace(model, dynamics=Dynamics(np.arange(n), np.ones(n), late, np.zeros(n), np.zeros(n, int)))


def self_inhibiting(delay, weight=-0.15):
    tf = RateModel("I", ("I", "x"), np.array([[0.0, 120.0], [0.0, 200.0]]), np.array([weight, 0.1]), -1.0, "logistic",
                   TOP)  # fmt: skip
    return with_delay(MeanField(("I",), ("x",), (tf,), np.array([np.inf, np.inf]), T), delay)


def test_delayed_inhibition_oscillates_where_the_closed_form_says():
    """1 + a exp(-i w d)/(1 + i w T) = 0, a = -dF/dnu: w d + atan(w T) = pi and a = sqrt(1 + w^2 T^2)."""
    delay, weight = 3.0, -0.15
    w = brentq(lambda w: w * delay + np.arctan(w * T) - np.pi, 0.1, 1.0)
    p = 0.5 * (1.0 + np.array([-1.0, 1.0]) * np.sqrt(1.0 - 4.0 * np.hypot(1.0, w * T) / (-weight * TOP)))
    inputs = (np.log(p / (1.0 - p)) + 1.0 - weight * TOP * p) / 0.1
    model = self_inhibiting(delay, weight)
    found = model.continuation("x", 0.0, 200.0)
    hopf = found.isel(point=found.label.values == "Hopf")
    np.testing.assert_allclose(hopf.parameter, inputs, rtol=1e-6)
    np.testing.assert_allclose(hopf.rate[:, 0], TOP * p, rtol=1e-6)
    np.testing.assert_allclose(hopf.frequency, 1000.0 * w / (2.0 * np.pi), rtol=1e-6)
    between = (found.parameter.values > inputs[0]) & (found.parameter.values < inputs[1]) & (found.label.values == "")
    np.testing.assert_array_equal(found.growing.values[found.label.values == ""], 2 * between[found.label.values == ""])
    np.testing.assert_array_equal(found.stable.values[found.label.values == ""], ~between[found.label.values == ""])
    assert model.continuation("x", 0.0, 200.0, dynamics=False).stable.values.all()  # at once it would only damp
    late = model.solve({"x": float(inputs.mean())}, 1.0, order=1, initial=[40.0]).rate.sel(time=slice(0.5, None))
    assert float(np.ptp(late.values)) > 5.0
    calm = model.solve({"x": 0.8 * float(inputs[0])}, 1.0, order=1, initial=[20.0]).rate.sel(time=slice(0.5, None))
    assert float(np.ptp(calm.values)) < 0.1


def test_with_dynamics_too_a_fold_is_where_one_mode_begins_to_grow():
    """A short delay moves neither the folds nor the modes that grow between them, whatever the step."""
    bare = bistable().continuation("x", 0.0, 50.0)
    for step in (0.02, 0.1):
        found = with_delay(bistable(), 1.0).continuation("x", 0.0, 50.0, step=step)
        folds = found.isel(point=found.label.values == "fold").sortby("parameter")
        np.testing.assert_allclose(folds.parameter, np.sort(folds_of_bistable()[1]), rtol=1e-6)
        assert not (found.label.values == "Hopf").any() and np.isnan(found.frequency.values).all()
        ordinary = found.isel(point=found.label.values == "")
        assert set(ordinary.growing.values) == {0, 1}
        between = (ordinary.rate[:, 0] > folds.rate[:, 0].min()) & (ordinary.rate[:, 0] < folds.rate[:, 0].max())
        np.testing.assert_array_equal(ordinary.growing, between.astype(int))
    assert set(bare.growing.values[bare.label.values == ""]) == {0, 1}


def test_late_excitation_oscillates_on_the_branch_that_is_unstable_already():
    """1 - a exp(-i w d)/(1 + i w T) = 0 has solutions beyond w = 0 where a > 1: pairs join the mode of the fold."""
    delay = 40.0
    w = brentq(lambda w: w * delay + np.arctan(w * T) - 2.0 * np.pi, 0.05, 0.3)
    p = 0.5 * (1.0 - np.sqrt(1.0 - 4.0 * np.hypot(1.0, w * T) / (0.06 * TOP)))
    found = with_delay(bistable(), delay).continuation("x", 0.0, 50.0, step=0.1)
    hopf = found.isel(point=(found.label.values == "Hopf") & (np.abs(found.frequency.values - 500.0 * w / np.pi) < 0.1))
    assert hopf.sizes["point"] == 2 and found.growing.max() >= 3
    np.testing.assert_allclose(np.sort(hopf.rate[:, 0]), [TOP * p, TOP * (1.0 - p)], rtol=1e-6)
    np.testing.assert_allclose(hopf.frequency, 1000.0 * w / (2.0 * np.pi), rtol=1e-6)
