"""Gradients, time-dependent rates, distributed parameters, several synaptic time constants."""

import numpy as np
import pytest
from lif_reference import CELL

from automfm_hpc import lif
from automfm_hpc.errors import LIFError
from automfm_hpc.lif.dynamics import rate_dynamics, response_times
from automfm_hpc.lif.gradients import FIELDS, rate_gradient, spectrum_gradient
from automfm_hpc.lif.heterogeneity import distributed_rate, distributed_working_point


def difference(net, field, place, function):
    """d function(net)/d net.field[place] by central differences of fourth order."""
    value = np.asarray(getattr(net, field))
    h = 1e-3 * max(abs(float(value[place])), 0.1)
    found = []
    for step in (-2 * h, -h, h, 2 * h):
        changed = np.array(value)
        changed[place] += step
        found.append(function(net.replace(**{field: changed})))
    return (8 * (found[2] - found[1]) - (found[3] - found[0])) / (12 * h)


def mixed_synapses():
    net = lif.LIFNetwork.load("microcircuit")
    return net.replace(tau_syn=np.tile([0.5, 1.2], 4), tau_syn_ext=np.full(8, 0.8))


@pytest.mark.parametrize("method", ["shift", "expansion", "second_order"])
@pytest.mark.parametrize("field", FIELDS)
def test_rate_gradients_equal_differences_of_solutions(field, method):
    for net in (lif.LIFNetwork.load("microcircuit"), mixed_synapses()):
        place = (3, 3) if np.ndim(getattr(net, field)) == 2 else (3,)
        gradient = rate_gradient(net, lif.working_point(net, method=method), field)[(slice(None), *place)]
        numeric = difference(net, field, place, lambda n: lif.self_consistent_rates(n, method=method).rates)
        np.testing.assert_allclose(gradient, numeric, rtol=0, atol=2e-7 * np.abs(numeric).max())


@pytest.mark.parametrize("field", FIELDS)
def test_spectrum_gradients_equal_differences_of_spectra(field):
    f = np.array([5.0, 60.0, 200.0])

    def spectra(net):
        return lif.power_spectra(net, lif.working_point(net), f, check_stability=False)

    net = mixed_synapses()
    place = (3, 2) if field in ("K", "J") else (3, 3) if field in ("K_ext", "J_ext") else (3,)
    ours = spectrum_gradient(net, lif.working_point(net), f, field, place)
    numeric = difference(net, field, place, spectra)
    np.testing.assert_allclose(ours, numeric, rtol=0, atol=2e-7 * np.abs(numeric).max())


def test_gradients_refuse_what_has_none():
    net = lif.LIFNetwork.load("brunel2000")
    with pytest.raises(LIFError, match="unknown field"):
        rate_gradient(net, lif.working_point(net), "weights")
    with pytest.raises(LIFError, match="root of tau_syn"):
        rate_gradient(net, lif.working_point(net), "tau_syn")
    assert np.isfinite(rate_gradient(net, lif.working_point(net), "tau_m")).all()


def test_rate_dynamics_rest_at_the_fixed_point_and_reach_it():
    net = lif.LIFNetwork.load("microcircuit").replace(delay=np.zeros((8, 8)))
    rest = lif.self_consistent_rates(net).rates
    np.testing.assert_allclose(rate_dynamics(net, 50.0, tau=10.0).rates[-1], rest, rtol=1e-9)
    np.testing.assert_allclose(rate_dynamics(net, 400.0, start=0.5 * rest, tau=10.0).rates[-1], rest, rtol=1e-6)


def test_rate_dynamics_grow_as_the_characteristic_equation_says():
    net = lif.LIFNetwork.load("brunel2000")
    point = lif.working_point(net)
    tau = 8.0
    slowest = lif.lambert_eigenvalues(point.fixed_point.jacobian, tau, 1.5)[0]
    run = rate_dynamics(net, 24.0, dt=0.002, start=point.rates * (1 + 1e-3), tau=tau)
    early, late = (np.abs(run.rates[round(t / 0.002), 0] - point.rates[0]) for t in (9.0, 18.0))
    assert np.log(late / early) / 9.0 == pytest.approx(slowest.real, rel=0.005) and slowest.imag == 0.0


def test_rate_dynamics_follow_slow_input_and_refuse_bad_input():
    net = lif.LIFNetwork.load("microcircuit").replace(delay=np.zeros((8, 8)))
    steps = 4000
    ramp = np.linspace(8.0, 8.8, steps)[:, None] * np.ones(8)
    end = rate_dynamics(net, 4000.0, dt=1.0, nu_ext=ramp, tau=10.0).rates[-1]
    target = lif.self_consistent_rates(net.replace(nu_ext=np.full(8, 8.8))).rates
    np.testing.assert_allclose(end, target, rtol=0.01)
    assert (response_times(net, lif.working_point(net)) > 0).all()
    with pytest.raises(LIFError, match="duration must be positive"):
        rate_dynamics(net, -1.0)
    with pytest.raises(LIFError, match="nu_ext has shape"):
        rate_dynamics(net, 10.0, nu_ext=np.ones((3, 8)))


def test_distributed_rate_equals_sampling():
    rng = np.random.default_rng(0)
    n = 400_000
    rate = lif.firing_rate(
        11.0 + 1.5 * rng.normal(size=n), 3.0, **{**CELL, "V_th": 15.0 + 0.8 * rng.normal(size=n)}, tau_syn=0.5
    )
    ours = distributed_rate(11.0, 3.0, input_spread=1.5, threshold_spread=0.8, **CELL, tau_syn=0.5)
    assert ours.mean == pytest.approx(rate.mean(), abs=4 * rate.std() / np.sqrt(n))
    assert ours.sd == pytest.approx(rate.std(), rel=0.01)
    same = distributed_rate(11.0, 3.0, **CELL)
    assert same.mean == pytest.approx(lif.firing_rate(11.0, 3.0, **CELL), rel=1e-12) and same.sd < 1e-6


def test_distributed_working_point():
    net = lif.LIFNetwork.load("microcircuit")
    alike = lif.self_consistent_rates(net).rates
    fixed = distributed_working_point(net)
    poisson = distributed_working_point(net, indegrees="poisson", threshold_spread=0.5)
    np.testing.assert_allclose(fixed.mean, alike, rtol=0.6)
    assert (poisson.sd > fixed.sd).all() and (fixed.sd > 0).all()
    with pytest.raises(LIFError, match="unknown indegrees"):
        distributed_working_point(net, indegrees="random")


def test_external_in_degrees_may_be_exact_while_others_vary():
    net = lif.LIFNetwork.load("brunel2000")
    outer = ((1e-3 * net.tau_m[:, None] * net.J_ext * net.nu_ext) ** 2 * net.K_ext).sum(axis=1)
    both, exact = (distributed_working_point(net, indegrees="poisson", external_indegrees=e, tolerance=1e-8)
                   for e in (None, "fixed"))  # fmt: skip
    gain = (1e-3 * net.tau_m[:, None] * net.J) ** 2 * net.K
    for found, external in ((both, outer), (exact, 0.0)):
        np.testing.assert_allclose(found.input_spread**2, gain @ (found.mean**2 + found.sd**2) + external, rtol=1e-6)
    assert (both.input_spread > 1.01 * exact.input_spread).all()
    with pytest.raises(LIFError, match="unknown external_indegrees"):
        distributed_working_point(net, external_indegrees="exact")


def test_distributed_rates_know_the_methods_of_equal_cells():
    cell = {**CELL, "tau_syn": 1.0}
    for method in ("shift", "expansion", "second_order"):
        alike = lif.firing_rate(14.0, 5.0, **cell, method=method)
        assert distributed_rate(14.0, 5.0, **cell, method=method).mean == pytest.approx(alike, rel=1e-12)


def test_several_synaptic_time_constants_lie_between_the_extremes():
    net = lif.LIFNetwork.load("microcircuit")
    mixed = net.replace(tau_syn=np.tile([0.5, 1.5], 4))
    rates = [lif.self_consistent_rates(n).rates for n in (net, mixed)]
    point = lif.working_point(mixed)
    assert (point.tau_syn > 0.5).all() and (point.tau_syn < 1.5).all()
    assert np.abs(rates[0] - rates[1]).max() > 0.01
    uniform = net.replace(tau_syn=np.full(8, 0.5))
    np.testing.assert_allclose(lif.self_consistent_rates(uniform).rates, rates[0], rtol=1e-12)
