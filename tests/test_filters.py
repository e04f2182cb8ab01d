"""Mean fields with delays, synapses and cell responses, against closed forms and delay equations solved by scipy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import root

from automfm_hpc.cell_response import CellResponse
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.mean_field import MeanField
from automfm_hpc.rate_models import RateModel

T = 5.0
TOP = 1000.0 / T


def rate_model(name, weights, offset, shape="linear"):
    domain = np.tile([0.0, 250.0], (len(weights), 1))
    return RateModel(name, tuple(weights), domain, np.array(list(weights.values())), offset, shape, 100.0)


def dynamics(axis, delay, tau_syn, poles, weight=None, cell=None):
    weight = np.ones(len(axis)) if weight is None else weight
    return Dynamics(np.array(axis), np.array(weight), np.array(delay), np.array(tau_syn), np.array(poles), cell)


def answer(lag, rho, slow, n=1):
    one = np.ones((n, 1))
    return CellResponse(20.0 * one, lag * one, rho * one, slow * one, one)


def driven(cell=None, delay=1.3, tau_syn=4.0, poles=2):
    """One linear population, which follows its input."""
    return MeanField(("E",), ("x",), (rate_model("E", {"x": 0.8}, 5.0),), np.array([50.0, np.inf]), T,
                     dynamics=dynamics([0], [delay], [tau_syn], [poles], cell=cell))  # fmt: skip


def loop(shape="linear", weight=-0.6, delay=3.0, tau_syn=4.0, offset=20.0):
    """One population that inhibits itself through a delay and an alpha synapse."""
    return MeanField(("E",), ("x",), (rate_model("E", {"E": weight, "x": 1.0}, offset, shape),),
                     np.array([50.0, np.inf]), T, dynamics=dynamics([0, 1], [delay, 0.0], [tau_syn, 0.0], [2, 0]))


def logistic():
    E = rate_model("E", {"E": 0.03, "I": -0.05, "x": 0.06}, -2.2, "logistic")
    I = rate_model("I", {"E": 0.05, "I": -0.02, "x": 0.02}, -2.0, "logistic")  # noqa: E741
    filters = dynamics([0, 1, 2, 2, 3, 4, 5], [1.0, 2.5, 0.3, 4.0, 1.0, 0.0, 2.0], [2.0, 8.0, 1.0, 5.0, 0.5, 3.0, 0.0],
                       [2, 1, 2, 1, 2, 1, 0], [1.0, 1.0, 0.3, 0.7, 1.0, 1.0, 1.0])
    return MeanField(("E", "I"), ("x",), (E, I), np.array([40.0, 25.0, np.inf]), T, dynamics=filters)


# -- stationary states ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adams", "euler"])
def test_stationary_rates_are_those_without_filters(method):
    model = logistic()
    rates = model.fixed_points({"x": 20.0})[0].rates
    still = model.solve({"x": 20.0}, duration=0.1, order=1, method=method)
    np.testing.assert_allclose(still.rate, np.broadcast_to(rates, still.rate.shape), rtol=1e-7)
    reached = model.solve({"x": 20.0}, duration=0.6, order=1, method=method, initial=[1.0, 2.0])
    np.testing.assert_allclose(reached.rate[-1], rates, rtol=1e-6)


@pytest.mark.parametrize("method", ["adams", "euler"])
def test_filters_that_do_nothing_give_the_bare_equation(method):
    model = replace(logistic(), dynamics=dynamics(range(6), [0.0] * 6, [0.0] * 6, [0] * 6))
    course = np.array([[0.0, 5.0], [0.03, 50.0], [0.031, 5.0]])
    options = {"duration": 0.06, "order": 1, "method": method, "initial": [1.0, 2.0]}
    bare, filtered = (model.solve({"x": course}, dynamics=d, **options) for d in (False, True))
    np.testing.assert_allclose(filtered.rate, bare.rate, rtol=1e-12)


def test_dynamics_are_used_unless_told_otherwise():
    model, course = logistic(), np.array([[0.0, 5.0], [0.01, 50.0]])
    bare = replace(model, dynamics=None)
    options = {"duration": 0.02, "order": 1}
    default, off = model.solve({"x": course}, **options), model.solve({"x": course}, dynamics=False, **options)
    np.testing.assert_array_equal(off.rate, bare.solve({"x": course}, **options).rate)
    assert np.abs(default.rate - off.rate).max() > 1.0
    many = model.solve_many({"x": np.stack([course, course + np.array([0.0, 5.0])])}, **options)
    np.testing.assert_array_equal(many.rate[0], default.rate)


# -- linear filters in closed form ---------------------------------------------------------------------------------


def amplitude(solved, frequency, drive_size):
    """Complex response per Hz of drive, from the last whole periods, by least squares with the mean."""
    t, rate = solved.time.values, solved.rate.values[:, 0]
    late = t > t[-1] - 4.0 / frequency
    w = 2 * np.pi * frequency * t[late]
    fit = np.linalg.lstsq(np.column_stack([np.sin(w), np.cos(w), np.ones(w.size)]), rate[late], rcond=None)[0]
    return (fit[0] + 1j * fit[1]) / drive_size


@pytest.mark.parametrize("poles", [0, 1, 2])
@pytest.mark.parametrize("cell", [None, answer(0.7, 2.5, 40.0)])
@pytest.mark.parametrize("frequency", [3.0, 40.0])
def test_response_to_a_sinusoid_is_the_product_of_the_filters(frequency, poles, cell):
    """With a linear transfer function: 0.8 P H, H of the cells or 1 / (1 + i w T)."""
    model, size = driven(cell, poles=poles), 5.0 if cell is None else 0.5
    solved = model.solve({"x": lambda t: 30.0 + size * np.sin(2 * np.pi * frequency * t)},
                         duration=0.4 + 6.0 / frequency, order=1, dt=0.1 if cell is None else 0.01)  # fmt: skip
    f = np.array([frequency])
    H = 1.0 / (1 + 2j * np.pi * frequency * T / 1000.0) if cell is None else cell.response(f, np.array([29.0]))[0, 0]
    expected = 0.8 * model.dynamics.pathways(f)[0, 0] * H
    found = amplitude(solved, frequency, size)
    assert abs(found) == pytest.approx(abs(expected), rel=3e-3)
    assert np.angle(found / expected) == pytest.approx(0.0, abs=3e-3)


@pytest.mark.parametrize("delay", [0.0, 0.05, 1.0, 1.37])
def test_a_delay_is_exact_for_a_ramp(delay):
    """nu of a ramp seen through a delay, whatever part of a step it is: 0.8 (slope (t - d - T) + ...)."""
    model = driven(delay=delay, tau_syn=0.0, poles=0)
    solved = model.solve({"x": lambda t: 10.0 + 500.0 * t}, duration=0.1, order=1, dt=0.1)
    late = solved.time.values > 0.09
    expected = 13.0 + 0.4 * (1000.0 * solved.time.values[late] - delay - T)
    np.testing.assert_allclose(solved.rate.values[late, 0], expected, rtol=1e-9)


# -- feedback through a delay --------------------------------------------------------------------------------------


def delay_equation(model, drive, start, end, rtol=1e-10):
    """The loop's delay equation by the method of steps: (time in ms) -> rate."""
    d = model.dynamics
    delay, tau, tf = d.delay[0], d.tau_syn[0], model.transfer_functions[0]
    pieces, state = [], np.array([start, start, start])

    def rate(t):
        k = int(np.floor(t / delay + 1e-12))
        return start if t <= 0 else pieces[min(k, len(pieces) - 1)](t)[0]

    def rhs(t, z):
        F = float(tf([max(z[2], 0.0), drive(t / 1000.0)]))
        return [(F - z[0]) / T, (rate(t - delay) - z[1]) / tau, (z[1] - z[2]) / tau]

    for k in range(int(np.ceil(end / delay))):
        piece = solve_ivp(rhs, (k * delay, (k + 1) * delay), state, rtol=rtol, atol=1e-10, dense_output=True)
        pieces.append(piece.sol)
        state = piece.y[:, -1]
    return rate


def smooth_drive(t):
    return 40.0 + 25.0 * np.sin(2 * np.pi * 15.0 * t) ** 2


@pytest.mark.parametrize("delay", [3.0, 3.37])
def test_step_response_against_a_delay_equation(delay):
    model = loop("logistic", weight=-0.09, delay=delay, offset=-0.5)
    model = replace(model, transfer_functions=(replace(model.transfer_functions[0], weights=np.array([-0.09, 0.03])),))

    def drive(t):
        return np.where(np.asarray(t) > 0.0, 80.0, 20.0)

    start = float(model.fixed_points({"x": 20.0})[0].rates[0])
    reference = delay_equation(model, lambda t: 80.0, start, 60.0)
    solved = model.solve({"x": drive}, duration=0.06, order=1, dt=0.025, initial=[start])
    times = 1000.0 * solved.time.values[40::40]
    expected = np.array([reference(t) for t in times])
    assert np.ptp(expected) > 15.0
    # a drive's jump lies within one step of the table, and so is known to half a step
    np.testing.assert_allclose(solved.rate.values[40::40, 0], expected, atol=0.1)


@pytest.mark.parametrize(("method", "expected"), [("euler", 1), ("adams", 2)])
@pytest.mark.parametrize("delay", [2.0, 2.37])
def test_order_of_convergence_is_measured(method, expected, delay):
    model = loop(weight=-0.8, delay=delay, offset=30.0)
    start = 35.0
    reference = delay_equation(model, smooth_drive, start, 50.0)
    errors = []
    for dt in (0.2, 0.1, 0.05):
        solved = model.solve({"x": smooth_drive}, duration=0.05, order=1, dt=dt, method=method, initial=[start])
        stride = round(5.0 / dt)
        wrong = solved.rate.values[stride::stride, 0] - [reference(5.0 * k) for k in range(1, 11)]
        errors.append(np.sqrt((wrong**2).mean()))
    assert 0.5 * np.log2(errors[0] / errors[-1]) == pytest.approx(expected, abs=0.25)
    assert errors[-1] < (0.3 if method == "euler" else 2e-3)


@pytest.mark.parametrize(("weight", "delay"), [(-0.6, 3.0), (-2.0, 5.0), (-3.2, 5.37)])
def test_a_loop_rings_as_its_characteristic_equation_says(weight, delay):
    """(1 + s T)(1 + s tau)^2 = w exp(-s d): the leading root's frequency and damping, stable or growing."""
    model = loop(weight=weight, delay=delay, offset=100.0 * (1 - weight) - 50.0)
    tau = 4.0

    def equation(z):
        s = complex(*z)
        value = (1 + s * T) * (1 + s * tau) ** 2 - weight * np.exp(-s * delay)
        return [value.real, value.imag]

    with np.errstate(over="ignore", invalid="ignore"):  # the solver tries points far to the left
        roots = [root(equation, [a, b]) for a in np.linspace(-0.3, 0.1, 9) for b in np.linspace(0.05, 1.0, 20)]
    found = [complex(*r.x) for r in roots if r.success and np.abs(equation(r.x)).max() < 1e-9]
    leading = max((s for s in found if s.imag > 0.01), key=lambda s: s.real)
    solved = model.solve({"x": 50.0}, duration=0.25, order=1, dt=0.02, initial=[100.001])
    y, t = solved.rate.values[:, 0] - 100.0, 1000.0 * solved.time.values
    window = (t > 20.0) & (t < 20.0 + 2 * np.pi / leading.imag)  # one period, other roots having died away
    flat, angle = y[window] * np.exp(-leading.real * t[window]), leading.imag * t[window]
    _, rest, *_ = np.linalg.lstsq(np.column_stack([np.cos(angle), np.sin(angle)]), flat, rcond=None)
    assert rest[0] < 1e-4 * (flat**2).sum()


# -- limits --------------------------------------------------------------------------------------------------------


def test_adapted_cells_nearly_fall_silent_after_a_step_down_and_not_below():
    model = driven(answer(0.5, 3.0, 50.0), delay=0.0)
    solved = model.solve({"x": [[0.0, 60.0], [0.1, 60.0], [0.1001, 0.5]]}, duration=0.4, order=1)
    assert solved.attrs["status"] == "ok"
    assert 0.0 <= solved.rate.values.min() < 0.6
    assert solved.rate.values[-1, 0] == pytest.approx(5.4, abs=0.2)


def test_dynamics_survive_the_disk(tmp_path):
    model = driven(answer(0.5, 3.0, 50.0))
    model.save(tmp_path)
    again = MeanField.load(tmp_path).dynamics
    for name, array in model.dynamics.to_arrays().items():
        np.testing.assert_array_equal(again.to_arrays()[name], array)
    bare = replace(model, dynamics=dynamics([0], [1.0], [2.0], [1]))
    bare.save(tmp_path)
    assert MeanField.load(tmp_path).dynamics.cell is None


@settings(max_examples=25, deadline=None)
@given(
    weights=st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6), x=st.floats(0.0, 300.0),
    dt=st.sampled_from([0.1, 1.0, 12.0]), method=st.sampled_from(["adams", "euler"]), order=st.sampled_from([1, 2]),
)  # fmt: skip
def test_rates_stay_proper(weights, x, dt, method, order):
    names = ("E", "I", "x")
    functions = tuple(rate_model(n, dict(zip(names, w, strict=True)), -1.0, "logistic")
                      for n, w in (("E", weights[:3]), ("I", weights[3:])))  # fmt: skip
    model = replace(logistic(), transfer_functions=tuple(replace(f, top=180.0) for f in functions))
    solved = model.solve({"x": np.array([[0.0, 0.0], [0.2, x]])}, duration=0.36, dt=dt, method=method, order=order)
    rate = solved.rate.values
    assert np.isfinite(rate).all() and (rate >= 0).all() and (rate < TOP).all()
    if order == 2:
        c = solved.covariance.values
        assert np.isfinite(c).all() and np.linalg.eigvalsh(c).min() >= -1e-9 * max(1.0, np.abs(c).max())


def test_a_model_at_another_scale_keeps_its_filters():
    from automfm_hpc.network import Network, Population
    from automfm_hpc.validation import resized

    network = Network("two", tuple(Population(n, 40, "iaf_psc_exp", {}) for n in ("E", "I")), (), ())
    model = resized(logistic(), network, 0.5)
    assert model.N[:2].tolist() == [20.0, 20.0] and model.dynamics is not None


def test_events_are_those_of_the_filtered_rates():
    tf = replace(driven().transfer_functions[0], domain=np.array([[0.0, 40.0]]))
    model = replace(driven(delay=7.0, tau_syn=0.0, poles=0), transfer_functions=(tf,))
    solved = model.solve({"x": [[0.0, 10.0], [0.01, 60.0]]}, duration=0.05, order=1)
    assert solved.attrs["status"] == "out_of_domain"
    assert solved.attrs["events"][0]["first"] == pytest.approx(0.013, abs=2e-4)


def test_a_transfer_function_that_is_not_finite_stops_the_run():
    model = replace(driven(), transfer_functions=(rate_model("E", {"x": np.nan}, 10.0),))
    solved = model.solve({"x": 5.0}, duration=0.05, order=1, initial=[3.0])
    assert solved.attrs["status"] == "diverged" and (solved.rate == 3.0).all()


def test_documents_keep_the_filters(tmp_path):
    model = logistic()
    course = np.array([[0.0, 5.0], [0.01, 50.0]])
    expected = model.solve({"x": course}, 0.02, order=1).rate
    model.save(tmp_path / "run")
    again = MeanField.load(tmp_path / "run")
    np.testing.assert_array_equal(again.solve({"x": course}, 0.02, order=1).rate, expected)
    replace(model, dynamics=None).save(tmp_path / "bare")
    assert MeanField.load(tmp_path / "bare").dynamics is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(MeanFieldError, match="'heun' does not step a model with dynamics"):
        driven().solve({"x": 5.0}, 0.01, method="heun")
    with pytest.raises(MeanFieldError, match="the model has no dynamics"):
        replace(driven(), dynamics=None).solve({"x": 5.0}, 0.01, dynamics=True)
    with pytest.raises(MeanFieldError, match="filters for 1 axes, the transfer functions have 6"):
        replace(logistic(), dynamics=driven().dynamics)
    with pytest.raises(MeanFieldError, match="responses of 1 populations, there are 2"):
        replace(logistic(), dynamics=dynamics(range(6), [0.0] * 6, [0.0] * 6, [0] * 6, cell=answer(1.0, 1.0, 9.0)))
