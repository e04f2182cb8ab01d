"""Modulated sources: the signal itself, and the response of cells in real NEST whose response is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automfm_hpc.lif import firing_rate, frequency_response
from automfm_hpc.modulated_cells import CLASSES, DELAY, LAG, Length, classes, measure
from automfm_hpc.modulation import DEEPEST, HOLD, design, fourier, odd_frequencies, period_for
from automfm_hpc.network import Distribution
from automfm_hpc.remap import Cell, Channel
from automfm_hpc.simulate import reset_kernel

FREQUENCY = odd_frequencies()


def channel(source: str, K: float, weight: float, sd: float = 0.0, tau_syn: float | None = None) -> Channel:
    return Channel(source, source, (f"{source}->cell",), Distribution(K, sd), Distribution(1.0, 0.0), weight, tau_syn,
                   None, 1.0)


# --- the signal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("slowest", [1.0, 43.0, 400.0])
def test_frequencies_are_odd_multiples_and_slow_enough(slowest):
    period = period_for(slowest)
    multiples = odd_frequencies(period) * period / 1000.0
    assert (np.rint(multiples) % 2 == 1).all()
    assert np.abs(multiples - np.rint(multiples)).max() < 1e-9
    assert 2e-3 * np.pi * odd_frequencies(period)[0] * slowest < 0.35
    assert odd_frequencies(period)[-1] == pytest.approx(80.0, rel=0.01)


@given(st.floats(1.0, 200.0), st.floats(-20.0, 20.0), st.floats(0.5, 200.0), st.integers(1, 2**31))
def test_modulation_stays_positive_and_in_the_linear_range(rate, slope, target, seed):
    m = design(rate, slope, target, np.ones(FREQUENCY.size), FREQUENCY, seed)
    held = m.held()[1]
    assert held.min() >= 1.0 - DEEPEST - 1e-9
    assert held.mean() == pytest.approx(1.0, abs=1e-9)
    assert abs(slope) * rate * held.std() <= 0.2 * target * 1.001
    assert m.depth.min() > 0


def test_held_rate_has_the_amplitudes_it_says():
    """Riemann sums of the staircase, as fine as its steps are wide over 50."""
    m = design(20.0, 1.0, 10.0, np.ones(FREQUENCY.size), FREQUENCY, 3)
    starts, values = m.held()
    fine = (starts[:, None] + (np.arange(50) + 0.5) / 50 * HOLD).ravel()
    turning = np.exp(-2e-3j * np.pi * np.multiply.outer(m.frequency, fine))
    assert 2.0 * (turning * np.repeat(values, 50)).mean(axis=1) == pytest.approx(m.input(), abs=1e-6)


def test_amplitude_of_a_spike_train_of_known_rate():
    """Spikes at the quantiles of 1 + 0.5 cos(2 pi 4.5 t + 1)."""
    time = np.linspace(0.0, 2000.0, 200_001)
    rate = 1.0 + 0.5 * np.cos(2e-3 * np.pi * 4.5 * time + 1.0)
    total = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]))])
    spikes = np.interp((np.arange(100) + 0.5) / 100.0 * total[-1], total, time)
    found = fourier(np.zeros(100, int), spikes, 1, 2000.0, np.array([4.5, 6.5]))[0]
    assert found[0] == pytest.approx(25.0 * np.exp(1j), rel=0.01)  # half of 50 Hz
    assert abs(found[1]) < 0.1


@given(st.lists(st.integers(0, 300), min_size=1, max_size=200))
def test_every_cell_is_in_one_class_and_the_silent_ones_are_apart(events):
    values = np.array(events, float)
    parts = classes(values)
    assert sorted(np.concatenate(parts).tolist()) == list(range(values.size))
    assert len(parts) <= CLASSES + 1
    assert all((values[p] == 0).all() or (values[p] > 0).all() for p in parts)


# --- cells of known response, in NEST ---------------------------------------------------------------


def relay(sd: float) -> Cell:
    """Every arrival makes it spike."""
    parameters = {"C_m": 100.0, "tau_m": 0.05, "E_L": 0.0, "V_th": 1.0, "V_reset": 0.0, "t_ref": 0.1}
    return Cell("relay", "iaf_psc_delta", parameters, (channel("s", 4.0, 50.0, sd),))


@pytest.mark.parametrize("sd", [0.0, 1.2])
def test_a_relay_answers_without_gain_or_lag(sd):
    """In-degree 4: gain 4 at every frequency, and no phase; the lag is known to a few hundredths of a millisecond."""
    m = design(10.0, 4.0, 1000.0, np.ones(FREQUENCY.size), FREQUENCY, 1)
    found = measure(relay(sd), "s", np.array([10.0]), m, Length(600, 100.0, 4000.0, 0.1), 5)
    lost = 40.0 * 1.6e-4  # two arrivals within one and a half steps are one spike
    assert found["rate"] == pytest.approx(40.0 * (1.0 - lost), rel=0.02)
    z = (found["response"] - 4.0 * (1.0 - 2.0 * lost)) / found["error"]
    assert np.mean(np.abs(z) ** 2) / 2.0 < 2.0
    weight = (FREQUENCY / found["error"]) ** 2
    lag = -np.angle(found["response"]) / (2e-3 * np.pi * FREQUENCY)
    error = 1.0 / (2e-3 * np.pi * 4.0 * np.sqrt(weight.sum()))
    assert error < 0.055
    assert abs(np.average(lag, weights=weight)) < 3.0 * error


def test_a_generator_begins_with_the_stamp_of_its_time():
    """What the phases rest on: the first arrival of a rate given from 10 ms on comes DELAY later, the last one
    a step before the end."""
    nest = reset_kernel(1, 0.1)
    generator = nest.Create("inhomogeneous_poisson_generator", params={"rate_times": [10.0, 20.0],
                                                                       "rate_values": [1e6, 0.0]})
    relays, recorder = nest.Create("parrot_neuron", 3), nest.Create("spike_recorder")
    nest.Connect(generator, relays, "all_to_all", {"delay": DELAY})
    nest.Connect(relays, recorder)
    nest.Simulate(40.0)
    times = recorder.get("events")["times"]
    assert (times.min() + times.max()) / 2.0 == pytest.approx(15.0 + DELAY + LAG * 0.1)


LIF = {"C_m": 250.0, "tau_m": 20.0, "E_L": 0.0, "V_th": 15.0, "V_reset": 0.0, "t_ref": 2.0}
TAU_SYN, SMALL, LARGE = 0.5, 0.05, 0.3  # ms, mV, mV


def leaky() -> tuple[Cell, np.ndarray, float, float]:
    """A cell with weak modulated input and strong noise; rates of its sources (Hz), mean and sd of its input (mV)."""
    per_mV = LIF["C_m"] / TAU_SYN
    cell = Cell("LIF", "iaf_psc_exp", LIF, (
        channel("weak", 600.0, SMALL * per_mV, tau_syn=TAU_SYN), channel("up", 1.0, LARGE * per_mV, tau_syn=TAU_SYN),
        channel("down", 1.0, -LARGE * per_mV, tau_syn=TAU_SYN)))
    rates = np.array([10.0, 7600.0, 6600.0])
    arrivals, steps = rates * [600.0, 1.0, 1.0], np.array([SMALL, LARGE, -LARGE])
    return cell, rates, 0.02 * float(arrivals @ steps), float(np.sqrt(0.02 * arrivals @ steps**2))


def against_theory(length: Length, seed: int) -> tuple[np.ndarray, np.ndarray, dict]:
    cell, rates, mean, sd = leaky()
    per_rate = 0.02 * 600.0 * SMALL  # mV per Hz of the source
    neuron = {k: LIF[k] for k in ("V_th", "V_reset", "tau_m", "t_ref")} | {"tau_syn": TAU_SYN}
    theory = per_rate * frequency_response(FREQUENCY, mean, sd, **neuron)
    rate = float(firing_rate(mean, sd, **neuron))
    m = design(10.0, float(abs(theory[0])), rate, theory / theory[0], FREQUENCY, 2)
    found = dict(measure(cell, "weak", rates, m, length, seed))
    found["theory_rate"] = rate
    return np.asarray(found["response"]), theory, found


def test_leaky_cells_answer_as_theory_says():
    """Frequency response with the synapse's filter (`lif.response`), gain and phase from 0.5 to 80 Hz."""
    response, theory, found = against_theory(Length(300, 200.0, 4000.0, 0.1), 7)
    assert found["rate"] == pytest.approx(found["theory_rate"], rel=0.05)
    z = (response - theory) / np.hypot(found["error"], 0.04 * np.abs(theory))  # diffusion limit, steps of 0.1 ms
    assert np.mean(np.abs(z) ** 2) / 2.0 < 2.0
    assert np.abs(theory[0]) / found["error"][0] > 10.0
    assert np.degrees(np.angle(theory[-1])) < -40.0  # there is a phase to be found


@pytest.mark.slow
def test_leaky_cells_answer_as_theory_says_more_exactly():
    response, theory, found = against_theory(Length(1500, 200.0, 4000.0, 0.1), 8)
    assert (found["error"] < 0.1 * np.abs(theory)).all()
    z = (response - theory) / np.hypot(found["error"], 0.03 * np.abs(theory))
    assert np.mean(np.abs(z) ** 2) / 2.0 < 2.0
