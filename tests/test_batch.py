"""Adaptive steps and batches: against fine fixed steps, one by one, and on threads; where solutions start."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import expm, solve_continuous_lyapunov

from automfm_hpc import adaptive, batch, fixed_points, linear
from automfm_hpc.batch import Steps, solve_batch, stops_of
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.mean_field import MeanField
from automfm_hpc.rate_models import RateModel
from automfm_hpc.starts import start_covariance, stationary_start

T = 5.0
STEP = np.array([[0.0, 10.0], [0.05, 10.0], [0.0501, 60.0], [0.12, 60.0], [0.1201, 5.0]])


def model(scale=1.0, N=(40.0, 25.0, 60.0)):
    def logistic(name, weights, offset):
        domain = np.tile([0.0, 100.0], (3, 1))
        return RateModel(name, tuple(weights), domain, scale * np.array(list(weights.values())), offset)

    functions = (logistic("E", {"E": 0.03, "I": -0.05, "x": 0.06}, -2.2),
                 logistic("I", {"E": 0.05, "I": -0.02, "x": 0.02}, -2.0))  # fmt: skip
    return MeanField(("E", "I"), ("x",), functions, np.array(N), np.array([T, 1.6 * T]))


def bump(t):
    return 10.0 + 60.0 * np.exp(-0.5 * ((t - 0.1) / 0.02) ** 2)


def deviations(solved):
    return np.sqrt(np.diagonal(solved.covariance.values, axis1=-2, axis2=-1))


# -- linear algebra ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_lyapunov_and_exponential_against_scipy(seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(4, 4)) - 3.0 * np.eye(4)
    A[3, :3] = 0.0
    Q = np.diag([1.0, 2.0, 0.0, 3.0])
    stable, c = linear.lyapunov(A, Q)
    assert stable
    np.testing.assert_allclose(c, solve_continuous_lyapunov(A, -Q), rtol=1e-9, atol=1e-12)
    assert not linear.lyapunov(A + 5.0 * np.eye(4), Q)[0]
    X, spare, E = 0.05 * A, np.empty((4, 4)), np.empty((4, 4))
    assert linear.halvings(X, 3, spare) == 0
    linear.exponential(X.copy(), 3, E, spare)
    np.testing.assert_allclose(E, expm(X), rtol=1e-4, atol=1e-5)


def test_singular_systems_are_reported():
    assert not linear.solve_in_place(np.array([[1.0, 2.0], [2.0, 4.0]]), np.ones((2, 1)))
    right = np.array([[3.0], [2.0]])
    assert linear.solve_in_place(np.array([[0.0, 2.0], [4.0, 1.0]]), right)
    np.testing.assert_allclose(np.array([[0.0, 2.0], [4.0, 1.0]]) @ right, [[3.0], [2.0]])


def test_flow_against_the_matrix_exponential():
    """z' = B z + f + g s + b s^2 as a linear system with three rows more."""
    rng = np.random.default_rng(0)
    B, (f, g, b) = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    whole = np.zeros((6, 6))
    whole[:3, :3], whole[:3, 3], whole[:3, 4], whole[:3, 5] = B, f, g, 2.0 * b
    whole[4, 3] = whole[5, 4] = 1.0
    start = np.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    z, term, spare = np.empty(3), np.empty(3), np.empty(3)
    linear.flow(B, f, g, b, 1.3, 12, 6, z, term, spare)
    np.testing.assert_allclose(z, (expm(1.3 * whole) @ start)[:3], rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_starts_are_the_fixed_points(order):
    one = model()
    starts = fixed_points.default_starts(one.system, 4)
    for x in (0.0, 20.0, 70.0):
        rates, c = stationary_start(one.system, np.array([x]), starts, order)
        point = one.fixed_points({"x": x}, order=order).stable[0]
        np.testing.assert_allclose(rates, point.rates, rtol=1e-7)
        if order == 2:
            np.testing.assert_allclose(c[:2, :2], point.covariance, rtol=1e-6)
            np.testing.assert_array_equal(start_covariance(one.system, rates, np.array([x])), c)


def test_start_without_stable_point_is_zero():
    unstable = MeanField(("E",), ("x",), (RateModel("E", ("E", "x"), np.tile([0.0, 90.0], (2, 1)), np.array([2.0, 0.1]),
                                                    -5.0, "linear"),), np.array([50.0, 50.0]), T)  # fmt: skip
    rates, c = stationary_start(unstable.system, np.array([20.0]), np.array([[1.0], [2.0]]), 2)
    assert not rates.any() and not c.any()


# -- accuracy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("drive", [STEP, bump, lambda t: 30.0 + 20.0 * np.sin(60.0 * t)], ids=["step", "bump", "sine"])
def test_adaptive_steps_stay_within_their_tolerance(drive, order):
    options = {"duration": 0.2, "order": order, "initial": [2.0, 30.0]}
    fine = model().solve({"x": drive}, dt=0.01, method="heun", every=100, **options)
    for rtol in (1e-2, 1e-3):
        solved = model().solve({"x": drive}, every=10, adaptive=True, rtol=rtol, atol=10 * rtol, **options)
        np.testing.assert_allclose(solved.time, fine.time)
        np.testing.assert_allclose(solved.rate, fine.rate, rtol=5 * rtol, atol=50 * rtol)
        if order == 2:
            np.testing.assert_allclose(deviations(solved), deviations(fine), rtol=5 * rtol, atol=50 * rtol)
    assert solved.attrs["method"] == "adaptive" and solved.attrs["status"] == "ok"


def test_order_of_convergence_is_measured():
    """With steps of one length, rates and covariances converge at order 2 or better to those of dt = 0.005 ms."""
    fine = model().solve({"x": bump}, duration=0.2, dt=0.005, method="heun", every=40_000, initial=[2.0, 30.0])
    errors = []
    for longest in (4.0, 2.0, 1.0):
        asked = Steps(0.2, 2, 0.05, 4000, rtol=1e6, atol=1e6, longest=longest)
        run = batch.solve_adaptive(model(), [{"x": bump}], asked, np.array([2.0, 30.0]))[0]
        errors.append([np.abs(run.trace.rate[-1] - fine.rate.values[-1]).max(),
                       np.abs(run.trace.covariance[-1] - fine.covariance.values[-1]).max()])  # fmt: skip
    slopes = np.log2(np.array(errors)[:-1] / np.array(errors)[1:])
    assert (slopes[-1] > 1.8).all(), slopes


def test_constant_drive_takes_long_steps():
    asked = Steps(1.0, 2, 1.0, 1)
    seen = []

    def counted(*arguments):
        adaptive.solve_members(*arguments)
        seen.append(int(arguments[-1][0]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "solve_members", counted)
        run = batch.solve_adaptive(model(), [{"x": 20.0}], asked)[0]
    assert seen[0] < 150
    assert np.ptp(run.trace.rate, axis=0).max() < 0.02


def test_a_short_pulse_between_long_steps_is_not_stepped_over():
    """A pulse of 2 ms in 2 s of constant drive; the table's last knot is a jump."""
    table = np.array([[0.0, 20.0], [1.0, 20.0], [1.0000001, 90.0], [1.002, 90.0], [1.0020001, 20.0]])
    options = {"duration": 1.1, "order": 1, "every": 10}
    quick = model().solve({"x": table}, adaptive=True, **options)
    fine = model().solve({"x": table}, dt=0.01, method="heun", **options | {"every": 100})
    assert float(fine.rate.max()) > float(fine.rate[0].max()) + 3.0
    np.testing.assert_allclose(quick.rate, fine.rate, rtol=5e-3, atol=0.15)


def test_stops_are_jumps_and_kinks_but_not_the_knots_of_a_smooth_curve():
    asked, t = Steps(1.0, 1, 0.1, 1), np.arange(0.0, 1.0005, 0.001)
    smooth = np.column_stack([t, 30.0 + 10.0 * np.sin(2 * np.pi * 2.0 * t)])
    assert stops_of([smooth], asked, T).size == 0
    kinked = np.array([[0.0, 10.0], [0.4, 10.0], [0.6, 30.0], [1.5, 30.0]])
    np.testing.assert_allclose(stops_of([kinked, smooth], asked, T), [400.0, 600.0])
    np.testing.assert_allclose(stops_of([STEP], asked, T), 1000.0 * STEP[1:, 0])


def test_what_happens_is_reported_with_place_time_and_value():
    """A triangle whose tip, between two samples, leaves the domain up to 100 Hz."""
    table = np.array([[0.0, 10.0], [0.0499, 10.0], [0.0504, 130.0], [0.051, 10.0]])
    solved = model().solve({"x": table}, duration=0.1, every=100, adaptive=True)
    event = next(e for e in solved.attrs["events"] if e["where"] == "E<-x")
    assert solved.attrs["status"] == "out_of_domain"
    assert event["value"] == pytest.approx(130.0) and event["first"] == pytest.approx(0.05028, abs=1e-4)
    tf = RateModel("E", ("x",), np.array([[0.0, 100.0]]), np.array([np.nan]), 10.0, "linear")
    broken = MeanField(("E",), ("x",), (tf,), np.array([50.0, 50.0]), T)
    solved = broken.solve({"x": 5.0}, duration=0.1, initial=[3.0], adaptive=True)
    assert solved.attrs["status"] == "diverged" and (solved.rate == 3.0).all()


# -- batches -----------------------------------------------------------------------------------------------------

DRIVES = [{"x": 20.0}, {"x": STEP}, {"x": bump}, {"x": 60.0}, {"x": np.array([[0.0, 5.0], [0.1, 50.0]])}]


def test_batch_is_its_members_bit_for_bit():
    models = [model(), model(0.8), model(N=(400.0, 250.0, 30.0))]
    options = {"duration": 0.1, "every": 20}
    together = solve_batch(models, DRIVES, **options)
    assert together.rate.dims == ("model", "drive", "time", "population")
    assert together.status.shape == (3, 5)
    for i, one in enumerate(models):
        for k, drive in enumerate(DRIVES):
            alone = one.solve(drive, adaptive=True, **options)
            np.testing.assert_array_equal(together.rate[i, k], alone.rate)
            np.testing.assert_array_equal(together.covariance[i, k], alone.covariance)


def test_threads_change_nothing():
    for adaptive_steps in (True, False):
        options = {"duration": 0.05, "adaptive": adaptive_steps, "every": 20}
        one, three = (model().solve_many(DRIVES * 4, threads=n, **options) for n in (1, 3))
        np.testing.assert_array_equal(one.covariance, three.covariance)
        assert one.attrs["warnings"] == three.attrs["warnings"]


def test_places_of_warnings_in_a_batch():
    found = solve_batch([model(), model(0.8)], {"x": np.array([20.0, 130.0])}, duration=0.02, order=1)
    assert found.status.values.tolist() == [["ok", "out_of_domain"]] * 2
    assert {(e["model"], e["drive"]) for e in found.attrs["events"]} == {(0, 1), (1, 1)}
    assert any(text.startswith("model 1, drive 1: E<-x") for text in found.attrs["warnings"])


def test_samples_of_many_are_limited():
    assert model().solve_many({"x": np.linspace(1.0, 80.0, 100)}, adaptive=True, order=1).sizes["time"] <= 2001


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rtol": 0.0}, "must be above 0"), ({"threads": 0}, "Give 1 or more"), ({"order": 3}, "Order is 1 or 2")],
)
def test_what_cannot_be_meant_is_refused(change, message):
    with pytest.raises(MeanFieldError, match=message):
        solve_batch([model()], DRIVES, **{"duration": 0.01, **change})


def test_models_of_different_networks_are_refused():
    other = replace(model(), inputs=("y",), transfer_functions=tuple(
        replace(tf, axes=("E", "I", "y")) for tf in model().transfer_functions))  # fmt: skip
    with pytest.raises(MeanFieldError, match="model 1 has other populations or inputs"):
        solve_batch([model(), other], DRIVES)


def test_models_with_dynamics_must_be_asked_for_without():
    n = 6
    filters = Dynamics(np.arange(n), np.ones(n), np.ones(n), np.full(n, 5.0), np.full(n, 2))
    slow = replace(model(), dynamics=filters)
    with pytest.raises(MeanFieldError, match="Give dynamics=False"):
        slow.solve({"x": 20.0}, duration=0.01, adaptive=True)
    bare = slow.solve({"x": STEP}, duration=0.1, adaptive=True, dynamics=False)
    np.testing.assert_array_equal(bare.rate, model().solve({"x": STEP}, duration=0.1, adaptive=True).rate)
