"""The master equation against closed forms, scipy, and simulations of the Markov processes behind it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import solve_continuous_lyapunov, solve_discrete_lyapunov

from automfm_hpc.errors import MeanFieldError
from automfm_hpc.mean_field import MeanField
from automfm_hpc.rate_models import RateModel
from automfm_hpc.solution import summary
from automfm_hpc.transfer_function import Spline

T = 5.0
TOP = 1000.0 / T


def rate_model(name, weights, offset, shape="logistic", top=100.0, high=250.0):
    domain = np.tile([0.0, high], (len(weights), 1))
    return RateModel(name, tuple(weights), domain, np.array(list(weights.values())), offset, shape, top)


def linear(N=(200.0, 50.0, 30.0)):
    E = rate_model("E", {"E": 0.4, "I": -0.7, "x": 0.5}, 8.0, "linear")
    I = rate_model("I", {"x": 0.3, "E": 0.6}, 2.0, "linear")  # noqa: E741
    return MeanField(("E", "I"), ("x",), (E, I), np.array(N), T)


def logistic(N=(40.0, 25.0, np.inf), order=("E", "I")):
    functions = {
        "E": rate_model("E", {"E": 0.03, "I": -0.05, "x": 0.06}, -2.2),
        "I": rate_model("I", {"E": 0.05, "I": -0.02, "x": 0.02}, -2.0),
    }
    sizes = dict(zip(("E", "I"), N, strict=False))
    return MeanField(order, ("x",), tuple(functions[n] for n in order), np.array([*(sizes[n] for n in order), N[2]]), T)


def linear_parts(rates, x):
    """Exact stationary rates and covariance of `linear` with all three rows, from its definition."""
    W = np.array([[0.4, -0.7, 0.5], [0.6, 0.0, 0.3], [0.0, 0.0, 0.0]])
    F = np.append(W[:2] @ np.append(rates, x) + [8.0, 2.0], x)
    Q = np.diag(F * (TOP - F) / [200.0, 50.0, 30.0])
    away = F - np.append(rates, x)
    return W, Q + np.outer(away, away), F


def stationary_linear(x):
    W = np.array([[0.4, -0.7], [0.6, 0.0]])
    return np.linalg.solve(np.eye(2) - W, np.array([0.5, 0.3]) * x + [8.0, 2.0])


# -- closed forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adams", "heun", "euler"])
@pytest.mark.parametrize("initial", [None, [30.0, 30.0]])
def test_linear_network_reaches_lyapunov_covariance(method, initial):
    solved = linear().solve({"x": 20.0}, duration=0.3, method=method, initial=initial)
    rates = stationary_linear(20.0)
    W, Q, _ = linear_parts(rates, 20.0)
    exact = solve_continuous_lyapunov(W - np.eye(3), -Q)[:2, :2]
    np.testing.assert_allclose(solved.rate[-1], rates, rtol=1e-9)
    np.testing.assert_allclose(solved.covariance[-1], exact, atol=0.2 if method == "euler" else 2e-3)
    assert solved.attrs["status"] == "ok"


def test_default_start_is_the_fixed_point_of_its_order():
    for order in (1, 2):
        solved = logistic().solve({"x": 20.0}, duration=0.05, order=order)
        assert float(np.ptp(solved.rate.values, axis=0).max()) < (1e-6 if order == 1 else 1e-3)


def test_order_one_against_scipy():
    def drive(t):
        return 25.0 + 20.0 * np.sin(2 * np.pi * 12.0 * t)

    model = logistic()
    F = model.transfer_functions
    fine = solve_ivp(
        lambda t, y: 1000.0 / T * (np.array([F[0]([y[0], y[1], drive(t)]), F[1]([y[0], y[1], drive(t)])]) - y),
        (0.0, 0.2), [1.0, 30.0], rtol=1e-10, atol=1e-12, t_eval=np.linspace(0.0, 0.2, 2001),
    )  # fmt: skip
    solved = model.solve({"x": drive}, duration=0.2, order=1, initial=[1.0, 30.0])
    np.testing.assert_allclose(solved.rate.values, fine.y.T, atol=5e-3)


def second_order_reference(model, drive, start, c_start, end):
    """Rates and all covariances by scipy from the equations as printed."""
    N, P, M = model.N, 2, 3

    def rhs(t, z):
        nu, c = np.append(z[:P], drive(t)), z[P:].reshape(M, M)
        F, J, correction = nu.copy(), np.zeros((M, M)), np.zeros(P)
        for i, tf in enumerate(model.transfer_functions):
            rows = [model.sources.index(a) for a in tf.axes]
            F[i] = tf(nu[rows])
            J[i, rows] = tf.gradient(nu[rows])
            correction[i] = 0.5 * (c[np.ix_(rows, rows)] * tf.hessian(nu[rows])).sum()
        dc = np.diag(F * (TOP - F) / N) + np.outer(F - nu, F - nu) + J @ c + c @ J.T - 2 * c
        return 1000.0 / T * np.concatenate([F[:P] - nu[:P] + correction, dc.ravel()])

    z = solve_ivp(rhs, (0.0, end), np.concatenate([start, c_start.ravel()]), rtol=1e-10, atol=1e-10).y[:, -1]
    return z[:P], z[P:].reshape(M, M)[:P, :P]


@pytest.mark.parametrize(("method", "expected"), [("euler", 1), ("heun", 2), ("adams", 2)])
def test_order_of_convergence_is_measured(method, expected):
    """Errors against scipy at rtol 1e-10 fall with dt at the stated order, rates and covariances."""
    model, start = logistic(N=(40.0, 25.0, 60.0)), np.array([2.0, 30.0])

    def drive(t):
        return 25.0 + 20.0 * np.sin(2 * np.pi * 12.0 * t)

    from automfm_hpc.fixed_points import stationary_covariance

    c_start = stationary_covariance(model.system, np.append(start, drive(0.0)))
    rate, c = second_order_reference(model, drive, start, c_start, 0.06)
    errors = []
    for dt in (0.2, 0.1, 0.05):
        solved = model.solve({"x": drive}, duration=0.06, dt=dt, method=method, initial=start)
        errors.append([np.abs(solved.rate[-1] - rate).max(), np.abs(solved.covariance[-1] - c).max()])
    slopes = np.log2(np.array(errors)[:-1] / np.array(errors)[1:])
    np.testing.assert_allclose(slopes[-1], expected, atol=0.25)


# -- the Markov processes behind the equation --------------------------------------------------------------------


def monte_carlo(model, x, h, seed, runs=1500, span=15.0):
    """Filtered finite-size process whose small-noise moments are the master equation of order 2.

    In a step h every one of the N cells fires with probability F T; the population's rate moves by h/T
    towards F, and by sqrt(h/T) times the binomial deviation.
    """
    rng, y = np.random.default_rng(seed), h / T
    nu = np.tile(model.fixed_points({"x": x})[0].rates, (runs, 1))
    moments, count = [np.zeros(2), np.zeros((2, 2))], 0
    for k in range(int(span * 40 / y / 10)):
        full = np.column_stack([nu, np.full(runs, x)])
        F = np.column_stack([tf(full) for tf in model.transfer_functions])
        drawn = rng.binomial(model.N[:2].astype(int), np.clip(F * T / 1000.0, 0, 1)) / (model.N[:2] * T / 1000.0)
        nu = nu + y * (F - nu) + np.sqrt(y) * (drawn - F)
        if k * y > 5.0:
            moments[0] += nu.sum(axis=0)
            moments[1] += nu.T @ nu
            count += runs
    mean = moments[0] / count
    return mean, moments[1] / count - np.outer(mean, mean)


def test_second_order_against_monte_carlo():
    """Order 2 gives the mean shifted by fluctuations and the covariance; order 1 misses the shift."""
    model = logistic(N=(60.0, 45.0, np.inf))
    mean, covariance = monte_carlo(model, 20.0, h=0.1, seed=2)
    solved = model.solve({"x": 20.0}, duration=0.2)
    first = model.solve({"x": 20.0}, duration=0.2, order=1)
    rate, c = solved.rate[-1].values, solved.covariance[-1].values
    assert np.abs(rate - mean).max() < 0.25 * np.abs(first.rate[-1].values - mean).max()
    np.testing.assert_allclose(np.diag(c), np.diag(covariance), rtol=0.08)
    assert c[0, 1] == pytest.approx(covariance[0, 1], abs=0.1 * np.sqrt(np.prod(np.diag(covariance))))


def test_transition_once_per_T_fluctuates_more_than_the_equation():
    """If all cells are redrawn together every T, c = J c J^T + Q exactly: twice the equation's c at J = 0.

    The published equation is the one for rates filtered with time constant T; this pins the difference.
    """
    model = logistic(N=(4000.0, 2500.0, np.inf))
    rates = model.fixed_points({"x": 20.0})[0].rates
    J = np.stack([tf.gradient(np.append(rates, 20.0))[:2] for tf in model.transfer_functions])
    Q = np.diag(rates * (TOP - rates) / model.N[:2])
    rng, nu, total = np.random.default_rng(0), np.tile(rates, (4000, 1)), np.zeros((2, 2))
    for k in range(120):
        full = np.column_stack([nu, np.full(len(nu), 20.0)])
        F = np.column_stack([tf(full) for tf in model.transfer_functions])
        nu = rng.binomial(model.N[:2].astype(int), F * T / 1000.0) / (model.N[:2] * T / 1000.0)
        if k >= 20:
            total += np.cov(nu.T) / 100
    np.testing.assert_allclose(np.diag(total), np.diag(solve_discrete_lyapunov(J, Q)), rtol=0.03)
    c = model.solve({"x": 20.0}, duration=0.1).covariance[-1].values
    np.testing.assert_allclose(c, solve_continuous_lyapunov(J - np.eye(2), -Q), rtol=5e-3, atol=1e-4)
    assert (np.diag(total) / np.diag(c) > 1.5).all()


# -- structure ---------------------------------------------------------------------------------------------------


def test_order_of_populations_does_not_matter():
    one = logistic().solve({"x": 25.0}, duration=0.05, initial={"E": 3.0, "I": 9.0})
    other = logistic(order=("I", "E")).solve({"x": 25.0}, duration=0.05, initial={"E": 3.0, "I": 9.0})
    for name in ("E", "I"):
        np.testing.assert_allclose(one.rate.sel(population=name), other.rate.sel(population=name), rtol=1e-10)
    turned = other.covariance.sel(population_i=["E", "I"], population_j=["E", "I"])
    np.testing.assert_allclose(one.covariance, turned, rtol=1e-8)


def test_private_sources_do_not_fluctuate():
    shared, private = linear(), linear(N=(200.0, 50.0, np.inf))
    wide, narrow = (m.solve({"x": 20.0}, duration=0.2).covariance[-1].values for m in (shared, private))
    assert (np.diag(wide) > np.diag(narrow)).all()


def test_time_constant_per_population():
    """Populations with their own T: each relaxes with its own; equal ones are the scalar case."""
    apart = [rate_model(n, {"x": 0.0}, 20.0, "linear") for n in ("a", "b")]
    model = MeanField(("a", "b"), ("x",), tuple(apart), np.array([10.0, 10.0, np.inf]), np.array([5.0, 20.0]))
    solved = model.solve({"x": 0.0}, duration=0.02, initial=[0.0, 0.0], order=1)
    np.testing.assert_allclose(solved.rate[-1], 20.0 * (1 - np.exp(-20.0 / np.array([5.0, 20.0]))), rtol=1e-6)
    scalar, array = logistic(), logistic()
    object.__setattr__(array, "T", np.array([T, T]))
    a, b = (m.solve({"x": 20.0}, duration=0.05, initial=[1.0, 2.0]).covariance.values for m in (scalar, array))
    np.testing.assert_array_equal(a, b)


@settings(max_examples=25, deadline=None)
@given(
    weights=st.lists(st.floats(-1.0, 1.0), min_size=6, max_size=6), x=st.floats(0.0, 300.0),
    dt=st.sampled_from([0.1, 1.0, 12.0]), method=st.sampled_from(["adams", "heun", "euler"]),
    N=st.lists(st.floats(1.0, 100.0), min_size=3, max_size=3),
)  # fmt: skip
def test_rates_and_covariances_stay_proper(weights, x, dt, method, N):
    """Whatever the network, the step and the drive: no NaN, rates in [0, 1/T), c positive semi-definite."""
    names = ("E", "I", "x")
    functions = tuple(rate_model(n, dict(zip(names, w, strict=True)), -1.0, top=180.0)
                      for n, w in (("E", weights[:3]), ("I", weights[3:])))  # fmt: skip
    model = MeanField(("E", "I"), ("x",), functions, np.array(N), T)
    solved = model.solve({"x": np.array([[0.0, 0.0], [0.2, x]])}, duration=0.36, dt=dt, method=method)
    rate, c = solved.rate.values, solved.covariance.values
    assert np.isfinite(rate).all() and np.isfinite(c).all()
    assert (rate >= 0).all() and (rate < TOP).all()
    np.testing.assert_array_equal(c, c.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(c).min() >= -1e-9 * max(1.0, np.trace(c, axis1=1, axis2=2).max())


def spline(population, axes, direction):
    n, domain = 6, np.tile([0.0, 80.0], (len(axes), 1))
    grids = np.meshgrid(*[np.linspace(0, 1, n)] * len(axes), indexing="ij")
    coefficients = sum(d * g for d, g in zip(direction, grids, strict=True)) - 1.0
    return Spline(population, axes, domain, coefficients, np.full(len(axes), 10.0), 5.0, 2.0)


def test_spline_through_the_solver_is_its_own_fixed_point_equation():
    model = MeanField(("E", "I"), ("x",), (spline("E", ("x", "I"), (5.0, -3.0)), spline("I", ("E",), (4.0,))),
                      np.array([100.0, 30.0, np.inf]), T)  # fmt: skip
    E, I = model.solve({"x": 30.0}, duration=0.2, order=1).rate[-1].values  # noqa: E741
    assert model.transfer_functions[0]([30.0, I]) == pytest.approx(E, rel=1e-9)
    assert model.transfer_functions[1]([E]) == pytest.approx(I, rel=1e-9)


# -- drives ------------------------------------------------------------------------------------------------------


def test_drives_that_say_the_same_agree():
    model, times = logistic(), np.array([0.0, 0.02, 0.021, 0.08])
    course = np.column_stack([times, [10.0, 10.0, 40.0, 40.0]])
    options = {"duration": 0.08, "initial": [1.0, 2.0]}
    array = model.solve({"x": course}, **options)
    function = model.solve({"x": lambda t: np.interp(t, times, course[:, 1])}, **options)
    scalar_function = model.solve({"x": lambda t: 10.0 if t < 0.02 else min(10.0 + (t - 0.02) * 3e4, 40.0)}, **options)
    np.testing.assert_array_equal(array.rate, function.rate)
    np.testing.assert_allclose(array.rate, scalar_function.rate, rtol=1e-9)


def test_drive_is_interpolated_and_held_outside():
    from automfm_hpc.drive import tabulate

    table = tabulate({"x": [[0.1, 10.0], [0.2, 30.0]]}, ("x",), np.array([0.0, 0.1, 0.15, 0.2, 0.9]))
    np.testing.assert_allclose(table[:, 0], [10.0, 10.0, 20.0, 30.0, 30.0])


def test_drive_of_zero():
    for order in (1, 2):
        solved = logistic().solve({"x": 0.0}, duration=0.1, order=order)
        assert solved.attrs["status"] == "ok" and np.isfinite(solved.rate).all()
    silent = linear(N=(200.0, 50.0, 30.0))
    dead = MeanField(silent.populations, silent.inputs,
                     tuple(rate_model(f.population, dict(zip(f.axes, f.weights, strict=True)), 0.0, "linear")
                           for f in silent.transfer_functions), silent.N, T)  # fmt: skip
    solved = dead.solve({"x": 0.0}, duration=0.1)
    assert not solved.rate.values.any() and not solved.covariance.values.any()


def test_many_drives_are_the_single_ones():
    model, rates = logistic(), np.array([5.0, 20.0, 60.0])
    course = np.array([[0.0, 5.0], [0.05, 50.0]])
    many = model.solve_many({"x": rates}, duration=0.05)
    assert many.rate.dims == ("drive", "time", "population")
    for k, x in enumerate(rates):
        np.testing.assert_array_equal(many.rate[k], model.solve({"x": x}, duration=0.05).rate)
    courses = model.solve_many({"x": np.stack([course, course + np.array([0.0, 5.0])])}, duration=0.05)
    np.testing.assert_array_equal(courses.covariance[0], model.solve({"x": course}, duration=0.05).covariance)
    assert list(model.solve_many([{"x": 5.0}, {"x": course}], duration=0.05).status.values) == ["ok", "ok"]


def test_sampling():
    model = logistic()
    every, sparse = (model.solve({"x": 30.0}, duration=0.05, initial=[0.0, 0.0], every=e) for e in (1, 50))
    np.testing.assert_array_equal(every.rate[::50], sparse.rate)
    assert sparse.time.values[1] == pytest.approx(0.005)
    long = model.solve({"x": 30.0}, duration=3.0)
    assert long.sizes["time"] <= 10_001


# -- status and errors -------------------------------------------------------------------------------------------


def test_leaving_the_domain_is_reported_with_place_time_and_value():
    tf = rate_model("E", {"x": 0.5}, 1.0, "linear", high=40.0)
    model = MeanField(("E",), ("x",), (tf,), np.array([50.0, 50.0]), T)
    solved = model.solve({"x": np.array([[0.0, 10.0], [0.1, 60.0]])}, duration=0.1)
    assert solved.attrs["status"] == "out_of_domain"
    event = solved.attrs["events"][0]
    assert event["where"] == "E<-x" and event["value"] == pytest.approx(60.0)
    assert event["first"] == pytest.approx(0.06, abs=2e-4)
    assert "covers x from 0 to 40 Hz" in solved.attrs["warnings"][0]


def test_saturation_and_cut_off_at_zero_are_reported():
    up = MeanField(("E",), ("x",), (rate_model("E", {"x": 1.0}, 150.0, "linear"),), np.array([50.0, 50.0]), T)
    solved = up.solve({"x": 100.0}, duration=0.1)
    assert solved.attrs["status"] == "saturated" and float(solved.rate.max()) < TOP
    down = MeanField(("E",), ("x",), (rate_model("E", {"x": -1.0}, 10.0, "linear"),), np.array([50.0, 50.0]), T)
    solved = down.solve({"x": 30.0}, duration=0.1)
    assert solved.attrs["status"] == "negative" and float(solved.rate.min()) >= 0.0


def test_a_transfer_function_that_is_not_finite_stops_the_run():
    model = MeanField(("E",), ("x",), (rate_model("E", {"x": np.nan}, 10.0, "linear"),), np.array([50.0, 50.0]), T)
    solved = model.solve({"x": 5.0}, duration=0.1, initial=[3.0])
    assert solved.attrs["status"] == "diverged" and (solved.rate == 3.0).all()
    assert "not finite" in solved.attrs["warnings"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drive": {"xx": 1.0}}, "no input 'xx'. Did you mean 'x'"), ({"drive": {}}, "no rate for input x"),
        ({"drive": {"x": -1.0}}, "-1 Hz at 0 s is not a rate"), ({"drive": {"x": np.nan}}, "not a rate"),
        ({"drive": {"x": "fast"}}, "neither a rate"), ({"drive": {"x": np.ones((2, 3))}}, "shape"),
        ({"drive": {"x": [[1.0, 5.0], [0.5, 5.0]]}}, "times must increase"),
        ({"order": 3}, "Order is 1 or 2"), ({"method": "heum"}, "Did you mean 'heun'"),
        ({"dt": -1.0}, "must be above 0"), ({"duration": 0.0}, "must be above 0"),
        ({"initial": [1.0]}, "one rate per population"), ({"initial": {"E": 1.0}}, "no rate for I"),
        ({"initial": [1.0, 999.0]}, r"\[0, 1/T\)"), ({"initial": {"E": 1.0, "J": 2.0}}, "no population 'J'"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(change, message):
    with pytest.raises(MeanFieldError, match=message):
        logistic().solve(**{"drive": {"x": 20.0}, "duration": 0.01, **change})


def test_models_that_cannot_be_are_refused():
    E = rate_model("E", {"y": 1.0}, 0.0)
    with pytest.raises(MeanFieldError, match="neither population nor input"):
        MeanField(("E",), ("x",), (E,), np.array([1.0, 1.0]), T)
    with pytest.raises(MeanFieldError, match="stands in the place of I"):
        MeanField(("I",), ("y",), (E,), np.array([1.0, 1.0]), T)
    with pytest.raises(MeanFieldError, match="N must be 2 numbers"):
        MeanField(("E",), ("y",), (E,), np.array([1.0]), T)
    with pytest.raises(MeanFieldError, match="T must be above 0"):
        MeanField(("E",), ("y",), (E,), np.array([1.0, 1.0]), -T)


def test_document_round_trip_keeps_private_sources():
    model = logistic()
    document = model.to_document()
    json.dumps(document["attributes"], allow_nan=False)
    again = MeanField.from_document(document)
    assert np.isinf(again.N[-1]) and again.domain == model.domain
    np.testing.assert_array_equal(again.solve({"x": 9.0}, 0.01).rate, model.solve({"x": 9.0}, 0.01).rate)


def test_saved_models_load_as_folder_store_or_record(tmp_path):
    model = logistic()
    model.save(tmp_path / "run")
    record = tmp_path / "records" / "abc.json"
    record.parent.mkdir()
    record.write_text(json.dumps({"model": "run/model.zarr"}))
    expected = model.solve({"x": 9.0}, 0.01).rate
    for path in (tmp_path / "run", tmp_path / "run" / "model.zarr", record):
        np.testing.assert_array_equal(MeanField.load(path).solve({"x": 9.0}, 0.01).rate, expected)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(MeanFieldError, match="not a library record"):
        MeanField.load(tmp_path / "other.json")
    with pytest.raises(MeanFieldError, match="no such file or folder"):
        MeanField.load(tmp_path / "nothing")


def test_summary_averages_the_last_half():
    solved = linear().solve({"x": 20.0}, duration=0.1)
    result = summary(solved)
    assert result["drive"] == {"x": 20.0} and result["status"] == "ok" and result["warnings"] == []
    assert result["rates"]["E"] == pytest.approx(stationary_linear(20.0)[0])
    assert result["sd"]["E"] == pytest.approx(float(np.sqrt(solved.covariance[-1, 0, 0])), rel=1e-3)
