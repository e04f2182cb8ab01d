"""Driven cells in real NEST: what they receive, what is measured of them, and how well it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import erfcx

from automfm_hpc import Network, remap
from automfm_hpc.errors import SimulationError
from automfm_hpc.network import Distribution
from automfm_hpc.plan import Grid, Plan, Sampling, Task, make_plan
from automfm_hpc.simulate import CellInputs, draw_inputs, drive_cells, isi_cv, simulate_chunk
from automfm_hpc.variants import change_value

CEREBELLUM, BRUNEL, CORTEX = (Network.load(n) for n in ("cerebellum", "brunel", "adex_cortex"))
CELLS = {c.population: c for n in (CEREBELLUM, BRUNEL, CORTEX) for c in remap(n).cells}


def one_point(network, population, rates, sampling, seed=1):
    """A plan with a single grid point, and its task."""
    axes = remap(network).cell(population).axes
    grid = Grid(population, axes, tuple((float(r),) for r in rates), (1,) * len(axes))
    plan = Plan(network, seed, sampling, (grid,))
    return plan, plan.tasks()[0]


def sample(network, population, rates, sampling, seed=1):
    plan, task = one_point(network, population, rates, sampling, seed)
    return {k: v.item() for k, v in simulate_chunk(plan, task).items()}


# --- what cells receive ---------------------------------------------------------------------------


@pytest.mark.parametrize("population", ["GrC", "GoC", "BC", "PC", "RS"])
def test_in_degrees_have_the_moments_of_the_description(population):
    cell, n = CELLS[population], 64
    inputs = draw_inputs(cell, n, np.random.default_rng(1))
    for j, channel in enumerate(cell.channels):
        pairs, sd = inputs.pairs[:, j], channel.indegree.sd
        # a Latin hypercube knows the mean n times better than independent draws; rounding and 0 take a little
        assert pairs.mean() == pytest.approx(channel.K, abs=0.03 * sd + 0.05)
        assert pairs.std() == pytest.approx(sd, rel=0.1, abs=1e-12)
        assert (pairs >= 0).all()
        if sd > 0:
            assert (pairs == np.rint(pairs)).all()


def test_channels_are_drawn_independently():
    inputs = draw_inputs(CELLS["GoC"], 2000, np.random.default_rng(2))
    correlation = np.corrcoef(inputs.pairs.T) - np.eye(4)
    assert np.abs(correlation).max() < 4 / np.sqrt(2000)


def test_a_latin_hypercube_fills_every_slice():
    inputs = draw_inputs(CELLS["PC"], 50, np.random.default_rng(3))
    aa = inputs.pairs[:, 0]
    quantiles = np.quantile(np.random.default_rng(0).normal(92, 24, 10**6), np.arange(1, 50) / 50)
    counts = np.histogram(aa, np.concatenate([[-np.inf], quantiles, [np.inf]]))[0]
    assert counts.max() <= 3  # one each before rounding


@pytest.mark.parametrize(("population", "j"), [("GrC", 1), ("GoC", 1), ("BC", 1), ("PC", 3)])
def test_merged_synapses_keep_two_moments(population, j):
    """A Poisson train per pair with m_i synapses has mean sum(m_i) and power sum(m_i^2); so has the merged train."""
    cell = CELLS[population]
    channel = cell.channels[j]
    inputs = draw_inputs(cell, 20000, np.random.default_rng(4))
    pairs, mean, sd = inputs.pairs[:, j], channel.synapses.mean, channel.synapses.sd
    m_mean = inputs.events[:, j] * inputs.quantum[:, j] / channel.weight
    m_power = inputs.events[:, j] * inputs.quantum[:, j] ** 2 / channel.weight**2
    total = pairs.sum()
    assert m_mean.sum() / total == pytest.approx(mean, abs=5 * sd / np.sqrt(total))
    assert m_power.sum() / total == pytest.approx(mean**2 + sd**2, rel=0.02)
    assert (inputs.events[:, j] <= pairs + 1e-9).all()  # never more trains than pairs
    assert ((inputs.events[:, j] > 0) == (pairs > 0)).all()


@settings(max_examples=30)
@given(st.floats(3, 40), st.booleans(), st.floats(1, 100), st.floats(0.1, 0.9))
def test_any_distribution_keeps_its_mean_drive(K, varied, m, spread):
    channel = replace(CELLS["GrC"].channels[1], indegree=Distribution(K, K / 3 if varied else 0.0),
                      synapses=Distribution(m, spread * m))
    cell = replace(CELLS["GrC"], channels=(channel,))
    inputs = draw_inputs(cell, 3000, np.random.default_rng(5))
    drive = inputs.events * inputs.quantum
    error = 0.002 * K * channel.Q + 6 * channel.weight * m * np.sqrt(K * (1 + spread**2) / 3000)
    assert drive.mean() == pytest.approx(K * channel.Q, abs=error)


def test_without_heterogeneity_every_cell_is_the_mean_cell():
    cell = CELLS["GoC"]
    inputs = draw_inputs(cell, 5, np.random.default_rng(6), heterogeneous=False)
    for values, expected in ((inputs.pairs, cell.array("K")), (inputs.events, cell.array("K")),
                             (inputs.quantum, cell.array("Q"))):
        assert np.array_equal(values, np.tile(expected, (5, 1)))


def test_heterogeneity_changes_what_a_cell_does():
    """GoC: spread in-degrees give a spread of rates that the mean cell does not have."""
    sampling = Sampling(budget=80.0, window=1000.0)
    rates = (20.0, 24.0, 11.4)
    spread = sample(CEREBELLUM, "GoC", rates, sampling)
    uniform = sample(CEREBELLUM, "GoC", rates, replace(sampling, heterogeneous=False))
    assert spread["rate_sd"] > 3 * uniform["rate_sd"]
    assert uniform["rate"] > 0


# --- what is measured -----------------------------------------------------------------------------


def test_cv_of_known_intervals():
    rng = np.random.default_rng(7)
    regular = np.arange(1.0, 100.0, 5.0)
    poisson = np.cumsum(rng.exponential(10.0, 20000))
    gamma = np.cumsum(rng.gamma(4.0, 1.0, 20000))  # cv = 1 / sqrt(4)
    two = np.cumsum(np.tile([1.0, 3.0], 10))  # sd 1, mean 2
    short = np.array([1.0, 2.0, 4.0, 5.0])  # three intervals are too few
    trains = [regular, poisson, gamma, two, short, np.empty(0)]
    senders = np.repeat(np.arange(6), [len(t) for t in trains])
    order = rng.permutation(senders.size)
    cv = isi_cv(senders[order], np.concatenate(trains)[order], 6)
    assert cv[:4] == pytest.approx([0.0, 1.0, 0.5, 0.5], abs=0.03)
    assert cv[0] < 1e-6
    assert cv[3] == pytest.approx(np.std([1, 3] * 9 + [3]) / np.mean([1, 3] * 9 + [3]), rel=1e-9)
    assert np.isnan(cv[4:]).all()


@settings(max_examples=20)
@given(st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_cv_does_not_depend_on_the_unit_of_time(scale, seed):
    times = np.cumsum(np.random.default_rng(seed).exponential(1.0, 50))
    who = np.zeros(50, int)
    assert isi_cv(who, times * scale, 1) == pytest.approx(isi_cv(who, times, 1), rel=1e-6)


def siegert(mean, sd, p, dt=0.0):
    """Rate (Hz) of an LIF cell under white noise; mean and noise amplitude sd in mV relative to rest.

    A cell that looks at its threshold every dt ms only misses crossings, as if the threshold were 0.5826 standard
    deviations of a step higher (Broadie, Glasserman & Kou 1997, doi 10.1111/1467-9965.00035).
    """
    missed = 0.5826 * sd * np.sqrt(dt / p["tau_m"])
    area, _ = quad(lambda u: np.where(u < 0, erfcx(-u), 2 * np.exp(np.minimum(u * u, 700)) - erfcx(u)),
                   (p["V_reset"] - mean) / sd, (p["V_th"] + missed - mean) / sd)  # of exp(u^2) (1 + erf u)
    return 1000.0 / (p["t_ref"] + p["tau_m"] * np.sqrt(np.pi) * area)


def diffusive(mean, sd):
    """An LIF cell whose many tiny synapses give that mean and noise amplitude (mV) at 1 Hz."""
    J, tau, first = 0.02, CELLS["E"].parameters["tau_m"], CELLS["E"].channels[0]
    total, net = sd**2 / (tau * J**2), mean / (tau * J)  # arrivals per ms
    channels = tuple(replace(first, name=s, source=s, weight=w, indegree=Distribution(500.0 * (total + sign * net)))
                     for s, w, sign in (("plus", J, 1), ("minus", -J, -1)))
    return replace(CELLS["E"], channels=channels)


@pytest.mark.parametrize(("mean", "sd"), [(15.0, 5.0), (25.0, 3.0), (10.0, 6.0)])
def test_lif_cells_fire_as_siegert_says(mean, sd):
    cell = diffusive(mean, sd)
    inputs = draw_inputs(cell, 200, np.random.default_rng(1))
    found = drive_cells(cell, inputs, np.ones((200, 2)), Sampling(window=2000.0), 5)
    rate, error = found.rate.mean(), found.rate.std(ddof=1) / np.sqrt(200)
    stepped, exact = siegert(mean, sd, cell.parameters, 0.1), siegert(mean, sd, cell.parameters)
    print(f"{mean} +- {sd} mV: NEST {rate:.2f} +- {error:.2f} Hz, Siegert {stepped:.2f} (dt = 0.1 ms) to {exact:.2f}")
    assert stepped - 3 * error < rate < exact + 3 * error
    assert (exact - stepped) / exact < 0.12


@pytest.mark.parametrize("rates", [(20.0, 30.0, 30.0), (30.0, 10.0, 10.0)])
def test_the_brunel_cell_fires_as_siegert_says(rates):
    cell = CELLS["E"]
    p, nu = cell.parameters, np.array(rates)[cell.channel_axis] / 1000.0
    K, J = cell.array("K"), cell.array("Q")
    mean, sd = p["tau_m"] * K @ (J * nu), np.sqrt(p["tau_m"] * K @ (J**2 * nu))
    found = sample(BRUNEL, "E", rates, Sampling(precision=0.01, budget=200.0, window=2000.0))
    error, stepped, exact = found["rate_sem"], siegert(mean, sd, p, 0.1), siegert(mean, sd, p)
    print(f"{rates}: NEST {found['rate']:.2f} +- {error:.2f} Hz, Siegert {stepped:.2f} (dt = 0.1 ms) to {exact:.2f}")
    assert stepped - 3 * error < found["rate"] < exact + 3 * error
    assert found["adaptation"] == 0.0


def test_noise_free_lif_has_its_closed_form_rate():
    cell, p = CELLS["E"], {**CELLS["E"].parameters, "I_e": 250.0 * 25.0 / 20.0}  # drives to 25 mV
    constant = replace(cell, parameters=p)
    inputs = CellInputs(*(np.zeros((3, len(cell.channels))) for _ in range(3)))
    found = drive_cells(constant, inputs, np.zeros((3, 3)), Sampling(transient=100.0, window=5000.0), 1)
    period = 2.0 + 20.0 * np.log((25.0 - 10.0) / (25.0 - 20.0))
    assert found.rate == pytest.approx(1000.0 / period, abs=0.4)
    assert found.cv == pytest.approx(0.0, abs=0.01)


def test_adex_cells_adapt():
    """Regular-spiking cells: w counts b per spike, tau_w times the rate, plus the sub-threshold part."""
    rates = (6.0, 6.0, 10.0)
    sampling = Sampling(transient=2000.0, window=1000.0, budget=150.0)
    rs, fs = sample(CORTEX, "RS", rates, sampling), sample(CORTEX, "FS", rates, sampling)
    assert 1.0 < rs["rate"] < fs["rate"]
    p = CELLS["RS"].parameters
    spiking = p["b"] * p["tau_w"] * rs["rate"] / 1000.0
    # a (V - E_L) tau_w part: V lies between reset = E_L and threshold, 15 mV above
    assert spiking < rs["adaptation"] < spiking + p["a"] * 15.0
    assert fs["adaptation"] == pytest.approx(0.0, abs=1e-9)
    assert 0.2 < fs["cv"] < 1.5


def test_conductances_inhibit_and_excite():
    sampling = Sampling(budget=40.0, window=500.0)
    for network, population, low, inhibited, excited in (
        (CORTEX, "FS", (6.0, 4.0, 8.0), (6.0, 4.0, 16.0), (8.0, 4.0, 8.0)),
        (CEREBELLUM, "PC", (12.0, 50.0, 50.0), (12.0, 120.0, 50.0), (20.0, 50.0, 50.0)),
        (CEREBELLUM, "GrC", (40.0, 10.0), (40.0, 40.0), (70.0, 10.0)),
    ):
        rate, less, more = (sample(network, population, r, sampling)["rate"] for r in (low, inhibited, excited))
        assert less < rate < more, population


# --- one chunk ------------------------------------------------------------------------------------


def small_chunk(seed=1):
    axes = ((20.0,), (10.0, 40.0))
    grid = Grid("GrC", ("mf", "GoC"), axes, (1, 2))
    plan = Plan(CEREBELLUM, seed, Sampling(budget=60.0, window=500.0, precision=0.05), (grid,))
    return plan, plan.tasks()[0]


def test_the_same_seed_gives_the_same_bits():
    plan, task = small_chunk()
    one, two = simulate_chunk(plan, task), simulate_chunk(plan, task)
    for name in one:
        assert one[name].shape == (1, 2)
        assert one[name].tobytes() == two[name].tobytes()


def test_another_seed_gives_other_numbers():
    (plan, task), (_, other) = small_chunk(), small_chunk(2)
    assert not np.array_equal(simulate_chunk(plan, task)["rate"], simulate_chunk(plan, other)["rate"])


def test_a_chunk_does_not_depend_on_what_ran_before():
    plan, task = small_chunk()
    before = simulate_chunk(plan, task)
    sample(BRUNEL, "E", (20.0, 30.0, 30.0), Sampling(budget=40.0, dt=0.2))  # another model and resolution
    assert before["rate"].tobytes() == simulate_chunk(plan, task)["rate"].tobytes()


@pytest.mark.parametrize(("precision", "budget"), [(0.02, 400.0), (0.2, 400.0), (0.02, 40.0), (0.001, 21.0)])
def test_sampling_stops_at_the_precision_or_the_budget(precision, budget):
    sampling = Sampling(precision=precision, floor=0.01, budget=budget)
    found = sample(CEREBELLUM, "GoC", (20.0, 24.0, 11.4), sampling)
    assert found["neuron_seconds"] == found["n_cells"] * 1.25 <= budget
    assert found["converged"] == (found["rate_sem"] <= precision * found["rate"])
    if not found["converged"]:
        assert found["neuron_seconds"] > budget - 16 * 1.25  # no more cells could be paid
    else:
        assert found["n_cells"] >= 32
    if precision == 0.2:
        assert found["converged"] and found["n_cells"] == sampling.first_cells


def test_a_silent_cell_is_not_known_to_be_silent():
    found = sample(CEREBELLUM, "GrC", (0.0, 60.0), Sampling(budget=20.0))
    assert found["rate"] == 0.0
    assert found["rate_sem"] == pytest.approx(1 / 16)  # one spike in 16 s
    assert found["converged"] == 1
    assert np.isnan(found["cv"])


@pytest.mark.parametrize(("network", "population", "rates"), [
    (CEREBELLUM, "GoC", (20.0, 24.0, 11.4)), (BRUNEL, "E", (20.0, 30.0, 30.0)),
])  # fmt: skip
def test_the_standard_error_is_honest(network, population, rates):
    """The spread of the rate over independent repetitions against the error each of them reports."""
    sampling = Sampling(budget=40.0, window=500.0, transient=250.0, precision=1e-3, floor=1e-3)
    found = [sample(network, population, rates, sampling, seed) for seed in range(30)]
    spread = np.std([f["rate"] for f in found], ddof=1)
    reported = np.sqrt(np.mean([f["rate_sem"] ** 2 for f in found]))
    print(f"{population}: spread {spread:.3f} Hz, reported {reported:.3f} Hz, rate {found[0]['rate']:.1f} Hz")
    assert 0.65 < spread / reported < 1.4  # 30 repetitions know a spread to 13 %


def test_a_rate_too_high_for_the_resolution_is_an_error():
    with pytest.raises(SimulationError, match=r"arrivals per second are too many for dt = 1 ms.*Lower"):
        sample(CEREBELLUM, "GoC", (20.0, 24.0, 1500.0), Sampling(budget=40.0, dt=1.0))


def test_rounds_are_split_without_changing_what_is_measured(monkeypatch):
    import automfm_hpc.simulate as module

    plan, task = small_chunk()
    assert isinstance(task, Task)
    whole = simulate_chunk(plan, task)
    monkeypatch.setattr(module, "ROUND_CELLS", 40)
    split = simulate_chunk(plan, task)
    error = np.hypot(whole["rate_sem"], split["rate_sem"])
    assert (np.abs(whole["rate"] - split["rate"]) < 4 * error).all()
    assert (split["n_cells"] >= 64).all()


def test_what_nest_refuses_fails_one_chunk_not_the_job():
    network = Network.load("adex_cortex")
    network = change_value(network, "FS.V_peak", "-60 mV")
    plan = make_plan(network, points=4, sampling=Sampling(precision=0.5, budget=80.0, transient=20.0, window=100.0))
    task = next(t for t in plan.tasks() if t.population == "FS")
    with pytest.raises(SimulationError, match=r"FS: .*V_peak >= V_th required"):
        simulate_chunk(plan, task)
