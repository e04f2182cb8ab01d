"""Single-cell rates against NEST: isolated cells with balanced Poisson input of small weights."""

import numpy as np
import pytest

from automfm_hpc import lif

C_M, CELL = 250.0, {"V_th": 15.0, "V_reset": 0.0, "tau_m": 10.0, "t_ref": 2.0}
# A threshold looked at only every dt is crossed late: it acts as if it were higher by this times
# sigma sqrt(dt/tau_m) (-zeta(1/2)/sqrt(2 pi), Broadie, Glasserman & Kou 1997).
GRID = 0.5825971579390107


def simulate(model, tau_syn, points, cells, duration, dt, weight=0.02, seed=3):
    """Mean rate (Hz) and its standard error for every (mean, sd), from NEST."""
    nest = pytest.importorskip("nest")
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    nest.resolution, nest.rng_seed = dt, seed
    cell = {"C_m": C_M, "E_L": 0.0, "V_m": 0.0, **CELL}
    times = np.broadcast_to(tau_syn, (2,))  # of excitatory and inhibitory synapses
    if times.all():
        cell |= {"tau_syn_ex": times[0], "tau_syn_in": times[1]}
    made = []
    for mean, sd in points:
        difference, total = mean / (10.0 * weight), sd**2 / (10.0 * weight**2)
        population = nest.Create(model, cells, params=cell)
        for sign, tau in zip((1, -1), times, strict=True):
            current = weight * C_M / tau if tau else weight
            source = nest.Create("poisson_generator", params={"rate": 500.0 * (total + sign * difference)})
            nest.Connect(source, population, syn_spec={"weight": sign * current, "delay": 1.0})
        recorder = nest.Create("spike_recorder", params={"start": 100.0})
        nest.Connect(population, recorder)
        made.append((population, recorder))
    nest.Simulate(duration + 100.0)
    out = []
    for population, recorder in made:
        senders = np.asarray(recorder.events["senders"], dtype=int) - population[0].global_id
        rates = np.bincount(senders, minlength=cells) / duration * 1e3
        out.append((rates.mean(), rates.std() / np.sqrt(cells)))
    return np.array(out).T


def spread(error, theory, cells, duration):
    """Standard error of the rate (Hz), not below that of a Poisson count: no spike at all has no spread of its own."""
    observed = cells * duration * 1e-3
    return np.maximum(error, np.sqrt(np.maximum(theory, 1.0 / observed) / observed))


def check_delta(points, cells, duration, dt=0.02):
    rate, error = simulate("iaf_psc_delta", 0.0, points, cells, duration, dt)
    mean, sd = np.array(points).T
    theory = lif.firing_rate(mean, sd, **{**CELL, "V_th": 15.0 + GRID * sd * np.sqrt(dt / 10.0)})
    assert (np.abs(rate - theory) < 3.5 * spread(error, theory, cells, duration) + 2e-3 * theory).all(), (rate, theory)


def check_exponential(points, cells, duration, dt=0.05, tau_syn=0.5):
    rate, error = simulate("iaf_psc_exp", tau_syn, points, cells, duration, dt)
    mean, sd = np.array(points).T
    theory = lif.firing_rate(mean, sd, **CELL, tau_syn=tau_syn)
    # The shift is exact to first order in sqrt(tau_syn/tau_m) = 0.22: the rest is up to 3 percent here.
    assert (np.abs(rate - theory) < 3.5 * spread(error, theory, cells, duration) + 0.03 * theory).all(), (rate, theory)


def test_delta_synapses():
    check_delta([(14.0, 3.0), (12.0, 8.0), (22.0, 5.0)], cells=60, duration=1000.0)


def test_exponential_synapses():
    check_exponential([(14.0, 3.0), (16.0, 4.0), (22.0, 5.0)], cells=60, duration=1000.0)


def test_two_synaptic_time_constants():
    mean, sd, tau_syn, weight = 14.0, 5.0, np.array([0.5, 2.0]), 0.05
    rate, error = simulate("iaf_psc_exp", tau_syn, [(mean, sd)], 100, 2000.0, 0.1, weight)
    total, difference = sd**2 / (10.0 * weight**2), mean / (10.0 * weight)
    net = lif.LIFNetwork(
        populations=("cell",), K=np.zeros((1, 1)), J=np.zeros((1, 1)), **CELL, tau_syn=0.5,
        K_ext=np.ones((1, 2)), J_ext=np.array([[weight, -weight]]),
        nu_ext=500.0 * np.array([total + difference, total - difference]), tau_syn_ext=tau_syn, mean_ext=0.0,
    )  # fmt: skip
    point = lif.working_point(net)
    np.testing.assert_allclose([point.mean[0], point.sd[0]], [mean, sd], rtol=1e-12)
    assert abs(rate[0] - point.rates[0]) < 3.5 * error[0] + 0.03 * point.rates[0]
    slow, fast = (lif.firing_rate(mean, sd, **CELL, tau_syn=t) for t in (2.0, 0.5))
    assert slow < rate[0] < fast


GRID_POINTS = [(mean, sd) for mean in (8.0, 12.0, 16.0, 22.0, 30.0) for sd in (2.0, 4.0, 7.0)]


@pytest.mark.slow
def test_delta_synapses_over_a_grid():
    check_delta(GRID_POINTS, cells=150, duration=4000.0)


@pytest.mark.slow
def test_exponential_synapses_over_a_grid():
    check_exponential(GRID_POINTS, cells=150, duration=4000.0)


def test_microcircuit_theory_is_near_the_simulated_network():
    simulated = [0.943, 3.026, 4.368, 5.882, 7.733, 8.664, 1.096, 7.851]  # NEST, reference table
    theory = lif.self_consistent_rates(lif.LIFNetwork.load("microcircuit")).rates
    assert np.abs(theory - simulated).max() < 0.6
