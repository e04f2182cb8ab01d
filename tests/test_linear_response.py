"""Linear response against Lyapunov's equation, the solver, and stochastic simulations of the same equations."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import solve_continuous_lyapunov
from scipy.optimize import root
from test_filters import amplitude, driven, logistic, loop, rate_model
from test_filters import dynamics as filters

from automfm_hpc import linear_response, spectra
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.fixed_points import relaxation
from automfm_hpc.fluctuations import Stationary
from automfm_hpc.linear_response import activity_spectra, gamma_spectrum, unstable_modes
from automfm_hpc.mean_field import MeanField
from automfm_hpc.response import respond_filtered
from automfm_hpc.validate import exponential

T = 5.0


def linear(dynamics=True, N=(200.0, 50.0, 30.0), T=T):
    """Two linear populations with slow and fast synapses, delays, and shared sources."""
    E = rate_model("E", {"E": 0.4, "I": -0.8, "x": 0.5}, 20.0)
    I = rate_model("I", {"x": 0.3, "E": 0.7}, 2.0)  # noqa: E741
    d = filters([0, 1, 2, 2, 3, 4], [1.0, 2.0, 1.0, 4.0, 1.0, 1.5], [2.0, 8.0, 5.0, 1.0, 0.5, 3.0], [1, 2, 2, 1, 2, 2],
                [1.0, 1.0, 0.6, 0.4, 1.0, 1.0]) if dynamics else None  # fmt: skip
    return MeanField(("E", "I"), ("x",), (E, I), np.array(N), T, dynamics=d)


def point_of(model, x):
    return np.append(model.fixed_points({"x": x})[0].rates, x)


# -- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("frequency", [4.0, 30.0])
def test_frequency_response_is_that_of_the_solver(frequency, used):
    model = logistic()
    size = 1e-3
    solved = model.solve({"x": lambda t: 20.0 + size * np.sin(2 * np.pi * frequency * t)}, order=1, dynamics=used,
                         duration=0.5 + 5.0 / frequency)  # fmt: skip
    answer = model.frequency_response({"x": 20.0}, [frequency], dynamics=used)
    for k, name in enumerate(model.populations):
        found = amplitude(solved.isel(population=[k]), frequency, size)
        expected = complex(answer.response.sel(population=name, input="x")[0])
        assert abs(found / expected - 1.0) < 2e-3
        assert float(answer.gain.sel(population=name, input="x")[0]) == pytest.approx(abs(expected))
        assert float(answer.phase.sel(population=name, input="x")[0]) == pytest.approx(np.degrees(np.angle(expected)))


def test_response_at_low_frequency_is_the_slope_of_the_fixed_point():
    model = logistic()
    slope = (point_of(model, 20.01)[:2] - point_of(model, 19.99)[:2]) / 0.02
    found = model.frequency_response({"x": 20.0}, [0.0]).response.values[0, :, 0]
    np.testing.assert_allclose(found, slope, rtol=1e-5)


# -- covariances -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [5.0, np.array([3.0, 9.0])])
def test_covariance_without_dynamics_solves_lyapunovs_equation(T):
    model = linear(dynamics=False, T=T)
    point = point_of(model, 20.0)
    J = linear_response.slopes(model.system, point)
    source = np.diag(point * 1000.0 / model.system.T / model.N / model.system.T)
    exact = solve_continuous_lyapunov(relaxation(model.system, J), -source)[:2, :2]
    np.testing.assert_allclose(spectra.covariance(model, {"x": 20.0}), exact, rtol=2e-6)


def test_covariance_without_dynamics_is_that_of_order_two_where_nu_T_is_small():
    model = linear(dynamics=False, T=0.2)
    solved = model.solve({"x": 20.0}, duration=0.01, dt=0.02).covariance[-1]
    np.testing.assert_allclose(spectra.covariance(model, {"x": 20.0}), solved, rtol=0.01, atol=3.0)


def test_regular_cells_fluctuate_less():
    model = linear()
    c = [spectra.covariance(model, {"x": 20.0}, cv=cv).values for cv in (1.0, {"E": 0.3, "I": 0.3})]
    assert (np.diag(c[1]) < np.diag(c[0])).all()


def test_spectrum_of_a_gamma_process():
    """Against the spectrum of trains drawn with these intervals."""
    rng, rate, cv, length, n = np.random.default_rng(3), 40.0, 0.5, 4.0, 2500
    shape = 1.0 / cv**2
    times = rng.gamma(shape, 1.0 / rate / shape, (n, int((length + 1.0) * rate * 1.6))).cumsum(axis=1) - 1.0
    f = np.array([0.5, 10.0, 40.0, 45.0, 80.0, 200.0])
    assert (times[:, -1] > length).all()
    inside = (times >= 0) & (times < length)
    power = []
    for frequency in np.round(f * length) / length:  # whole periods: the mean rate leaves no trace
        sums = (np.exp(-2j * np.pi * frequency * times) * inside).sum(axis=1)
        power.append((np.abs(sums) ** 2).mean() / length)
    expected = gamma_spectrum(np.round(f * length) / length, rate, cv)
    np.testing.assert_allclose(power, expected, rtol=0.12)
    assert gamma_spectrum(0.0, rate, cv) == pytest.approx(rate * cv**2)
    np.testing.assert_allclose(gamma_spectrum(1e-2, rate, cv), rate * cv**2, rtol=1e-3)
    np.testing.assert_array_equal(gamma_spectrum(f, rate, 1.0), rate)


# -- a stochastic simulation of the linear system --------------------------------------------------------------------


def simulate(model, point, h, runs, duration, seed, settle=300.0, paired=False):
    """Activities (runs, n, M) and arguments (runs, n, n_axis) in bins of h ms: F(y) + noise, filtered step by step.

    paired: every run has one of the opposite noise, so that first-order effects cancel from means.
    """
    d, system, rng = model.dynamics, model.system, np.random.default_rng(seed)
    n, M, P = int((duration + settle) / h), system.T.size, len(model.populations)
    size = np.sqrt(point / model.N * 1000.0 / h)
    low, nu = np.exp(-h / system.T), np.tile(point, (runs, 1))
    back, source, start = np.rint(d.delay / h).astype(int), system.axes[d.axis], system.axis_start
    past = np.tile(point, (back.max() + 1, runs, 1))
    decay = np.exp(-h / np.where(d.tau_syn > 0, d.tau_syn, 1e-9))
    first = np.tile(point[source], (runs, 1))
    second, chain = first.copy(), d.poles == 2
    first_axis = np.searchsorted(d.axis, np.arange(d.n_axis))
    activities, arguments = np.empty((runs, n, M), np.float32), np.empty((runs, n, d.n_axis), np.float32)
    for k in range(n):
        past[k % len(past)] = nu
        first += (1.0 - decay) * (past[(k - back) % len(past), :, source].T - first)
        second = np.where(chain, second + (1.0 - decay) * (first - second), first)
        y = np.add.reduceat(second * d.weight, first_axis, axis=1)
        F = np.column_stack([tf.offset + y[:, start[i]:start[i + 1]] @ tf.weights
                             for i, tf in enumerate(model.transfer_functions)])  # fmt: skip
        xi = rng.standard_normal((runs // 2 if paired else runs, M))
        A = np.column_stack([F, np.tile(point[P:], (runs, 1))]) + size * (np.vstack([xi, -xi]) if paired else xi)
        activities[:, k], arguments[:, k] = A, y
        nu = low * nu + (1.0 - low) * A
    return activities[:, int(settle / h):], arguments[:, int(settle / h):]


@pytest.fixture(scope="module")
def simulated():
    model, h = linear(), 0.125
    point = point_of(model, 20.0)
    activities, arguments = simulate(model, point, h, 300, 1024.0, seed=5)
    return model, point, h, activities, arguments


def test_spectra_against_a_stochastic_simulation(simulated):
    model, point, h, A, _ = simulated
    n = A.shape[1]
    window = np.hanning(n)[:, None]  # without it the resonance leaks into its neighbourhood
    transformed = np.fft.rfft((A[..., :2] - point[:2]) * window, axis=1) * h / 1000.0
    f = np.fft.rfftfreq(n, h / 1000.0)
    measured = np.einsum("rfi,rfj->fij", transformed, transformed.conj()) / len(A) / ((window**2).sum() * h / 1000.0)
    bands = [(2.0, 8.0), (8.0, 14.0), (14.0, 20.0), (20.0, 30.0), (30.0, 45.0), (45.0, 80.0), (80.0, 200.0)]
    expected = model.power_spectra({"x": 20.0}, f[1:]).spectrum.values
    assert expected[:, 0, 0].real.max() > 3 * point[0] / 200.0  # feedback shapes them
    for low, high in bands:
        chosen = (f[1:] >= low) & (f[1:] < high)
        found, theory = measured[1:][chosen].mean(axis=0), expected[chosen].mean(axis=0)
        scale = np.sqrt(np.outer(np.diag(theory).real, np.diag(theory).real))
        assert np.abs(found - theory).max() / scale.max() < 0.12  # some hundred independent values per band
        np.testing.assert_allclose(np.diag(found).real, np.diag(theory).real, rtol=0.12)


def test_covariance_against_a_stochastic_simulation(simulated):
    model, point, h, A, _ = simulated
    filtered = exponential(A[..., :2].transpose(0, 2, 1).astype(float), T, h)[..., 800:]
    away = filtered - point[:2, None]
    measured = np.einsum("rin,rjn->ij", away, away) / away.shape[0] / away.shape[2]
    c = spectra.covariance(model, {"x": 20.0}).values
    np.testing.assert_allclose(measured, c, rtol=0.05, atol=0.02 * np.trace(c))


def test_covariances_of_filtered_rates_against_a_stochastic_simulation(simulated):
    """What the simulation's arguments do, less what each population's own noise does to them in one pass."""
    model, point, _, _, y = simulated
    found = Stationary(model.system, model.dynamics)(point)
    away = y - point[model.system.axes]
    flat = away.reshape(-1, away.shape[-1])
    measured = flat.T @ flat / len(flat)
    f, weight = linear_response.nodes(T, 2048)
    filtering = linear_response.Filtering.of(model.system, model.dynamics, f)
    X = filtering.pathways * filtering.activity[:, model.system.axes]
    same = model.system.axes[:, None] == model.system.axes
    own = np.where(model.system.axes < 2, (point / model.N)[model.system.axes], 0.0)
    measured = measured - same * own * np.einsum("f,fk,fm->km", weight, X, X.conj()).real
    for i, (a, b) in enumerate([(0, 3), (3, 5)]):
        spread = found.spread[9 * i : 9 * i + (b - a) ** 2].reshape(b - a, b - a)
        np.testing.assert_allclose(spread, measured[a:b, a:b], rtol=0.08, atol=0.04 * np.abs(measured[a:b, a:b]).max())


def test_compiled_covariances_are_those_of_the_spectra():
    for model in (linear(), logistic(), replace(linear(), T=np.array([3.0, 9.0]))):
        point = point_of(model, 20.0)
        found = Stationary(model.system, model.dynamics)(point)
        c = linear_response.filtered_covariance(model.system, model.dynamics, point, model.system.T, np.ones(2))
        np.testing.assert_allclose(found.c, c, rtol=1e-3, atol=1e-5 * np.abs(c).max())


def test_time_constant_of_fluctuations():
    """T for activities without feedback; 1/(2 g) for a loop near its threshold, g from its characteristic equation."""
    quiet = driven()
    quiet = replace(quiet, N=np.array([50.0, np.inf]))
    assert Stationary(quiet.system, quiet.dynamics)(point_of(quiet, 20.0)).tau == pytest.approx(T, rel=1e-4)
    ringing = loop(weight=-2.1, delay=5.0)

    def characteristic(z):
        s = complex(*z)
        value = (1 + s * T) * (1 + s * 4.0) ** 2 + 2.1 * np.exp(-s * 5.0)
        return [value.real, value.imag]

    damping = -root(characteristic, [-0.01, 0.2]).x[0]
    assert 0.0 < damping < 0.01
    found = Stationary(ringing.system, ringing.dynamics)(point_of(ringing, 20.0)).tau
    assert found == pytest.approx(0.5 / damping, rel=0.15)


# -- order 2 ---------------------------------------------------------------------------------------------------------


def test_order_two_against_monte_carlo():
    """Populations too large for noise of their own, sources shared: mean and covariance of the noisy equations."""
    base = logistic()
    d = base.dynamics
    d = replace(d, delay=np.round(d.delay / 0.25) * 0.25)
    model = replace(base, N=np.array([np.inf, np.inf, 60.0]), dynamics=d)
    first, second = (model.solve({"x": 20.0}, duration=0.3, order=o) for o in (1, 2))
    mean, c = monte_carlo(model, 20.0, h=0.25, runs=800, duration=500.0)
    shift = mean - first.rate[-1].values
    assert np.abs(shift).max() > 0.05
    np.testing.assert_allclose(second.rate[-1] - first.rate[-1], shift, rtol=0.08)
    np.testing.assert_allclose(second.covariance[-1], c, rtol=0.06)


def monte_carlo(model, x, h, runs, duration):
    """Mean and covariance of the filtered activities, by the same loop as `simulate` with the transfer functions."""

    class Bent:
        def __init__(self, tf):
            self.tf, self.offset, self.weights = tf, 0.0, self

        def __rmatmul__(self, y):
            return self.tf(np.maximum(y, 0.0))

        __array_ufunc__ = None

    bent = type("Model", (), {"dynamics": model.dynamics, "system": model.system, "populations": model.populations,
                              "N": model.N, "transfer_functions": [Bent(f) for f in model.transfer_functions]})
    point = np.append(model.solve({"x": x}, 0.01, order=2).rate[-1].values, x)
    A, _ = simulate(bent, point, h, runs, duration, 2, paired=True)
    filtered = exponential(A[..., :2].transpose(0, 2, 1).astype(float), T, h)[..., 200:]
    mean = filtered.mean(axis=(0, 2))
    away = filtered - mean[:, None]
    return mean, np.einsum("rin,rjn->ij", away, away) / away.shape[0] / away.shape[2]


def test_order_two_is_stationary_where_it_starts_and_returns_there():
    model = logistic()
    solved = model.solve({"x": 20.0}, duration=0.05)
    assert solved.attrs["status"] == "ok"
    assert float(np.ptp(solved.rate.values, axis=0).max()) < 1e-6
    rates = np.append(solved.rate[-1].values, 20.0)
    found = Stationary(model.system, model.dynamics)(rates)
    F, _, half = respond_filtered(model.system, rates, found.spread)
    np.testing.assert_allclose(F + half, rates[:2], rtol=1e-7)
    assert np.abs(half).max() > 0.01
    np.testing.assert_allclose(solved.covariance[-1], found.c[:2, :2], rtol=1e-9)
    course = np.array([[0.0, 20.0], [0.05, 60.0], [0.1, 20.0], [0.6, 20.0]])
    back = model.solve({"x": course}, duration=0.8)
    np.testing.assert_allclose(back.rate[-1], solved.rate[-1], atol=0.02)
    np.testing.assert_allclose(back.covariance[-1], solved.covariance[-1], rtol=0.06)


def test_where_fluctuations_grow_order_two_says_so():
    model = loop(weight=-3.2, delay=5.37, offset=100.0)
    solved = model.solve({"x": 50.0}, duration=0.05)
    assert solved.attrs["status"] == "unsettled"
    assert "no stationary value" in solved.attrs["warnings"][0]
    assert not model.fixed_points({"x": 50.0})[0].stable
    assert replace(model, dynamics=None).fixed_points({"x": 50.0})[0].stable


# -- stability -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weight", "delay", "growing"), [
    (-0.6, 3.0, 0), (-2.0, 5.0, 0), (-3.2, 5.37, 2), (-3.2, 60.0, None), (0.9, 5.0, 0), (1.2, 5.0, 1), (-30, 5.0, None),
])  # fmt: skip
def test_growing_modes_are_counted(weight, delay, growing):
    """By the Nyquist criterion, against zeros of the characteristic function counted along a contour around them."""
    model = loop(weight=weight, delay=delay)
    counted = unstable_modes(model.system, model.dynamics, np.array([50.0, 20.0]))
    tau, size = 4.0, 10.0
    corners = np.array([1e-9 - 1j, 1 - 1j, 1 + 1j, 1e-9 + 1j]) * size
    path = np.concatenate([np.linspace(a, b, 400_000) for a, b in zip(corners, np.roll(corners, -1), strict=True)])
    value = (1 + path * T) * (1 + path * tau) ** 2 - weight * np.exp(-path * delay)
    turns = np.angle(value[1:] / value[:-1]).sum() / (2 * np.pi)
    assert counted == round(float(turns))
    assert growing is None or counted == growing


def test_unstable_working_points_are_refused():
    model = loop(weight=-3.2, delay=5.37, offset=100.0)
    with pytest.raises(MeanFieldError, match=r"unstable, 2 mode\(s\) grow"):
        model.power_spectra({"x": 50.0}, [10.0])
    excited = replace(loop(weight=1.2), dynamics=None)
    with pytest.raises(MeanFieldError, match=r"unstable, 1 mode\(s\) grow"):
        excited.frequency_response({"x": 0.0}, [10.0], rates=[20.0])


def test_what_cannot_be_meant_is_refused():
    model = linear()
    for options, message in (({"cv": 0.0}, "above 0"), ({"cv": {"J": 1.0}}, "no population 'J'"),
                             ({"cv": {"E": 1.0}}, "no number for I"), ({"rates": [1.0]}, "one rate per population")):
        with pytest.raises(MeanFieldError, match=message):
            model.power_spectra({"x": 20.0}, [1.0], **options)
    with pytest.raises(MeanFieldError, match="from 0 on"):
        model.frequency_response({"x": 20.0}, [-1.0])


def test_a_single_population_of_poisson_cells_is_white():
    power = driven().power_spectra({"x": 20.0}, [0.0, 10.0, 500.0], dynamics=False).power
    np.testing.assert_allclose(power, 21.0 / 50.0)
    assert activity_spectra(driven().system, None, np.array([21.0, 20.0]), [1.0], np.array([0.5]))[0, 0, 0].real < 0.42
