"""Finite populations: their means, spectra and covariances against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from automfm_hpc.cell_response import CellResponse
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.mean_field import MeanField
from automfm_hpc.mesoscopic import driven
from automfm_hpc.rate_models import RateModel

DOMAIN = np.array([[0.0, 200.0]])


def cells(n, lag=0.05, rho=1.0, slow=50.0, cv=1.0):
    one = np.ones((n, 1))
    return CellResponse(10.0 * one, lag * one, rho * one, slow * one, cv * one)


def pathways(tau, delay, cell):
    n = len(tau)
    one = np.ones(n)
    return Dynamics(np.arange(n), one, np.array(delay, float), np.array(tau, float), np.ones(n, int), cell=cell)


def one_population(J=0.0, offset=20.0, N=50.0, tau=5.0, delay=1.0, **cell):
    """nu = offset + J nu through an exponential synapse."""
    tf = RateModel("E", ("E", "ext"), np.array([[0.0, 200.0]] * 2), np.array([J, 0.0]), offset, "linear")
    return MeanField(("E",), ("ext",), (tf,), np.array([N, np.inf]), 5.0,
                     dynamics=pathways([tau, tau], [delay, delay], cells(1, **cell)))


def bins(found, width=10):
    a = found["activity"].values[:, :, 0]
    return a[:, : a.shape[1] // width * width].reshape(len(a), -1, width).mean(axis=2)


def test_uncoupled_cells_are_poisson():
    model = one_population()
    counts = bins(model.realizations({"ext": 1.0}, duration=4.0, trials=10, seed=2))
    assert counts.mean() == pytest.approx(20.0, rel=0.01)
    assert counts.var() == pytest.approx(20.0 / (50.0 * 0.01), rel=0.1)


@pytest.mark.parametrize("J", [-2.0, 0.6])
def test_feedback_shapes_the_variance_as_linear_theory_says(J):
    """S = nu / N |1 / (1 - J P)|^2; the variance in bins is its integral with the bin's sinc^2."""
    model = one_population(J=J, offset=20.0 * (1.0 - J))
    found = model.realizations({"ext": 1.0}, duration=8.0, trials=12, seed=3)
    assert found["activity"].mean() == pytest.approx(20.0, rel=0.03)
    f = np.arange(0.25, 2000.0, 0.5)
    s = 2j * np.pi * f / 1000.0
    P = np.exp(-s * 1.0) / (1.0 + s * 5.0) / (1.0 + s * 0.05)
    S = 20.0 / 50.0 / np.abs(1.0 - J * P) ** 2
    expected = 2.0 * np.sum(S * np.sinc(f * 0.01) ** 2) * 0.5
    assert bins(found).var() == pytest.approx(expected, rel=0.1)


def test_shared_sources_make_populations_fluctuate_together():
    """Two populations that only hear the same 20 sources: covariance w^2 nu/N_m, passed by the synapse."""
    tf = [RateModel(n, ("ext",), DOMAIN, np.array([1.0]), 5.0, "linear") for n in "AB"]
    model = MeanField(("A", "B"), ("ext",), tuple(tf), np.array([1e9, 1e9, 20.0]), 5.0,
                      dynamics=pathways([10.0, 10.0], [1.0, 2.0], cells(2)))
    a = model.realizations({"ext": 40.0}, duration=6.0, trials=10, seed=4)["activity"].values
    slow = 40.0 / 20.0 / (2.0 * 0.01)  # white noise nu/N through exp(-t/tau)/tau
    c = np.cov(a.reshape(-1, 2).T)
    assert c[0, 0] == pytest.approx(slow, rel=0.1)
    assert c[0, 1] == pytest.approx(slow * np.exp(-0.1), rel=0.1)  # 1 ms apart


def test_infinite_populations_stay_at_the_fixed_point():
    model = one_population(J=-1.0, offset=40.0, N=np.inf)
    found = model.realizations({"ext": 1.0}, duration=0.2, trials=2)
    assert np.allclose(found["activity"], 20.0) and found.attrs["status"] == "ok"


def test_fluctuations_raise_the_mean_of_a_convex_transfer_function():
    tf = RateModel("E", ("ext",), DOMAIN, np.array([0.08]), -4.0, "logistic", 100.0)
    model = MeanField(("E",), ("ext",), (tf,), np.array([1e9, 10.0]), 5.0, dynamics=pathways([5.0], [1.0], cells(1)))
    mean = float(model.realizations({"ext": 20.0}, duration=10.0, trials=10, seed=5)["activity"].mean())
    noise = np.random.default_rng(1)
    y = np.zeros(2_000_000)  # the same filtered shot noise, made otherwise: an exact recursion
    events = noise.poisson(20.0 * 10.0 * 1e-4, y.size) / (10.0 * 1e-4)
    from scipy.signal import lfilter

    y = lfilter([1.0 - np.exp(-0.02)], [1.0, -np.exp(-0.02)], events)
    exact = 100.0 / (1.0 + np.exp(4.0 - 0.08 * y[5000:]))
    at_mean = 100.0 / (1.0 + np.exp(4.0 - 0.08 * 20.0))
    assert mean == pytest.approx(exact.mean(), rel=0.03) and mean > at_mean + 1.0


def test_realizations_depend_on_the_seed_alone():
    model = one_population(J=0.3)
    one, same, other = (model.realizations({"ext": 1.0}, duration=0.1, trials=3, seed=s)["activity"].values
                        for s in (1, 1, 2))
    assert (one == same).all() and not (one == other).all()
    assert not (one[0] == one[1]).all()
    more = model.realizations({"ext": 1.0}, duration=0.1, trials=5, seed=1)["activity"].values
    assert (more[:3] == one).all()


def test_a_step_of_the_drive_arrives_after_delay_and_synapse():
    tf = RateModel("E", ("ext",), DOMAIN, np.array([1.0]), 0.0, "linear")
    model = MeanField(("E",), ("ext",), (tf,), np.array([np.inf, np.inf]), 5.0,
                      dynamics=pathways([5.0], [3.0], cells(1)))
    drive = np.array([[0.0, 10.0], [0.1, 10.0], [0.10001, 30.0]])
    found = model.realizations({"ext": drive}, duration=0.2, trials=1)["activity"].sel(population="E", trial=0)
    t = found.time.values * 1000.0
    expected = np.where(t > 103.0, 30.0 - 20.0 * np.exp(-(t - 103.0) / 5.0), 10.0)
    assert np.allclose(found.values, expected, atol=1.0)


@pytest.mark.parametrize(("options", "said"), [
    ({"trials": 0}, "0 trials"), ({"bin_ms": 0.25}, "whole steps"), ({"duration": 0.0}, "0 s"),
])  # fmt: skip
def test_impossible_requests_are_refused(options, said):
    with pytest.raises(MeanFieldError, match=said):
        one_population().realizations({"ext": 1.0}, **options)


def test_a_model_without_dynamics_says_what_to_do():
    tf = RateModel("E", ("ext",), DOMAIN, np.array([1.0]), 0.0, "linear")
    model = MeanField(("E",), ("ext",), (tf,), np.array([10.0, 10.0]), 5.0)
    with pytest.raises(MeanFieldError, match="automfm dynamics RUN"):
        model.realizations({"ext": 1.0})


def test_driven_by_activities_no_loop_is_closed():
    """A linear population follows its sources through delay, synapse and lag; what it does itself changes nothing."""
    model, t = one_population(J=0.5, offset=0.0, tau=5.0, delay=1.0, lag=2.0), np.arange(2000.0)
    own = 30.0 + 10.0 * np.sin(2.0 * np.pi * 5.0 * (t + 0.5) / 1000.0)
    found = driven(model, {"E": own, "ext": np.zeros(2000)}, 1.0)[:, 0]
    s = 2j * np.pi * 5.0 / 1000.0
    gain = 0.5 * np.exp(-s * 1.0) / (1.0 + s * 5.0) / (1.0 + s * 1.0) ** 2
    expected = 15.0 + 10.0 * np.abs(gain) * np.sin(2.0 * np.pi * 5.0 * (t + 0.5) / 1000.0 + np.angle(gain))
    assert np.allclose(found[1000:], expected[1000:], atol=0.1)
