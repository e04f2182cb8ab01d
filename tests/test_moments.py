"""Moments of the membrane potential, against quadrature, Lyapunov equations, a Monte Carlo, and NEST."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate, linalg

from automfm_hpc import Network, remap
from automfm_hpc.moments import DAMPING_FLOOR, Membrane, membrane, moments, response, smooth_floor
from automfm_hpc.network import Distribution
from automfm_hpc.remap import Cell, Channel

CEREBELLUM = {cell.population: cell for cell in remap(Network.load("cerebellum")).cells}
LIF = {"C_m": 250.0, "E_L": -70.0, "V_th": 1000.0, "V_reset": -70.0, "t_ref": 2.0, "I_e": 30.0}
ADEX = {"C_m": 200.0, "g_L": 10.0, "E_L": -65.0, "V_th": -50.0, "V_reset": -65.0, "t_ref": 5.0, "a": 4.0, "b": 20.0,
        "Delta_T": 2.0, "tau_w": 100.0}  # fmt: skip


def _cell(model: str, parameters: dict[str, float], weights: tuple[float, float], taus=(5.0, 8.0)) -> Cell:
    def channel(name: str, K: float, weight: float, tau: float, E: float) -> Channel:
        one = Distribution(1.0)
        return Channel(name, name, (f"{name}->X",), Distribution(K), one, weight, tau, E, 1.0)

    return Cell("X", model, parameters, (channel("e", 200, weights[0], taus[0], 0.0),
                                         channel("i", 50, weights[1], taus[1], -80.0)))  # fmt: skip


CELLS = CEREBELLUM | {
    "aeif_cond_exp": _cell("aeif_cond_exp", ADEX, (1.0, 5.0)),
    "aeif_cond_alpha": _cell("aeif_cond_alpha", ADEX, (1.0, 5.0)),
    "iaf_cond_exp": _cell("iaf_cond_exp", LIF | {"g_L": 16.7}, (0.5, 2.0)),
    "iaf_cond_alpha": _cell("iaf_cond_alpha", LIF | {"g_L": 16.7}, (0.5, 2.0)),
    "iaf_psc_exp": _cell("iaf_psc_exp", LIF | {"tau_m": 15.0}, (20.0, -60.0)),
    "iaf_psc_alpha": _cell("iaf_psc_alpha", LIF | {"tau_m": 15.0}, (20.0, -60.0)),
    "iaf_psc_delta": _cell("iaf_psc_delta", LIF | {"tau_m": 15.0}, (0.2, -0.6)),
}


def _polynomials(m: Membrane, mu_G: float, beta: float) -> tuple[list[float], np.ndarray]:
    """Numerator and denominator of the response of V to one spike, straight from the definition of H."""
    G = mu_G - m.shift
    H = [m.capacitance, G + m.capacitance * m.k, G * m.k + m.shift * m.k]
    order = ("delta", "exponential", "alpha").index(m.synapse)
    for _ in range(order):
        H = list(np.polymul(H, [1.0, beta]))
    return [1.0, m.k], np.array(H)


def _lyapunov(m: Membrane, mu_G: float, beta: float, gain: float) -> float:
    """Integral of the squared response, from its controllability Gramian."""
    numerator, H = _polynomials(m, mu_G, beta)
    n = H.size - 1
    A = np.zeros((n, n))
    A[0], A[1:, :-1] = -H[1:] / H[0], np.eye(n - 1)
    b, c = np.zeros((n, 1)), np.zeros(n)
    b[0], c[-2:] = 1.0, np.array(numerator) * gain / H[0]
    return float(c @ linalg.solve_continuous_lyapunov(A, -b @ b.T) @ c)


def _quadrature(m: Membrane, mu_G: float, beta: float, gain: float) -> float:
    numerator, H = _polynomials(m, mu_G, beta)

    def power(w: float) -> float:
        return abs(gain * np.polyval(numerator, 1j * w) / np.polyval(H, 1j * w)) ** 2 / math.pi

    peak = math.sqrt(m.k * mu_G / m.capacitance)
    marks = [0.0, peak / 3, 0.9 * peak, peak, 1.1 * peak, 3 * peak, 30 * peak, 1e3 * peak]
    parts = [integrate.quad(power, a, b, epsabs=0.0, epsrel=1e-12, limit=400)[0] for a, b in pairwise(marks)]
    return sum(parts) + integrate.quad(power, marks[-1], np.inf, epsabs=1e-14 * sum(parts), limit=400)[0]


@pytest.mark.parametrize("name", CELLS)
def test_variance_agrees_with_frequency_quadrature_and_lyapunov_equation(name: str) -> None:
    m = membrane(CELLS[name])
    n_axis = len(CELLS[name].axes)
    for rate in (5.0, 40.0):
        at = moments(m, np.full(n_axis, rate))
        D2 = (m.reversal - at.mu_V) ** 2 if m.driving_force else 1.0
        gains = m.area * m.beta ** ("delta", "exponential", "alpha").index(m.synapse)
        for integral, tolerance in ((_lyapunov, 1e-9), (_quadrature, 1e-9)):
            W = np.array([integral(m, float(at.mu_G), b, g) for b, g in zip(m.beta, gains)])
            assert at.sigma_V**2 == pytest.approx(np.sum(m.K * rate / 1000.0 * D2 * W), rel=tolerance)
        S0 = np.sum(m.K * rate / 1000.0 * D2 * (m.area / at.mu_G) ** 2)
        assert at.tau_V == pytest.approx(S0 / (2.0 * at.sigma_V**2), rel=1e-12)


def test_one_pole_membrane_with_alpha_synapses_has_the_known_closed_form() -> None:
    cell = CELLS["iaf_cond_alpha"]
    nu = np.array([7.0, 11.0])
    at = moments(cell, nu)
    T, tau = 250.0 / at.mu_G, cell.array("tau_syn")
    U = cell.array("Q") * (cell.array("E_rev") - at.mu_V) / at.mu_G
    terms = cell.array("K") * nu / 1000.0 * (2 * T + tau) * (math.e * U * tau / (2 * (tau + T))) ** 2
    assert at.sigma_V**2 == pytest.approx(terms.sum(), rel=1e-12)


def test_mean_is_the_fixed_point_of_the_differential_equations() -> None:
    cell, nu, rate = CEREBELLUM["GoC"], np.array([20.0, 5.0, 30.0]), 12.0
    p, r = cell.parameters, nu[cell.channel_axis] / 1000.0
    g = math.e * cell.array("Q") * cell.array("tau_syn") * cell.array("K") * r
    V = float(moments(cell, nu, rate_out=rate).mu_V)
    I_adap = (p["k_adap"] * (V - p["E_L"]) + p["A2"] * rate / 1000.0) / p["k_2"]
    I_dep = p["A1"] * rate / 1000.0 / p["k_1"]
    drift = p["C_m"] / p["tau_m"] * (V - p["E_L"]) - I_adap + I_dep + p["I_e"] + np.sum(g * (cell.array("E_rev") - V))
    assert drift == pytest.approx(0.0, abs=1e-9)


def test_adex_spike_currents_shift_the_mean_by_b_tau_w_per_spike() -> None:
    nu = np.array([5.0, 8.0])
    free, firing = moments(CELLS["aeif_cond_exp"], nu), moments(CELLS["aeif_cond_exp"], nu, rate_out=10.0)
    assert (free.mu_V - firing.mu_V) * free.mu_G == pytest.approx(20.0 * 100.0 * 10.0 / 1000.0)


@pytest.mark.parametrize("population", CEREBELLUM)
def test_unloaded_eglif_is_nearly_undamped_and_still_finite(population: str) -> None:
    cell = CEREBELLUM[population]
    rates = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 60)])
    at = moments(cell, rates[:, None] * np.ones(len(cell.axes)))
    for value in (at.mu_V, at.sigma_V, at.tau_V, at.mu_G):
        assert np.all(np.isfinite(value))
    assert np.all(at.sigma_V >= 0) and np.all(at.tau_V > 0) and np.all(at.mu_G > 0)
    assert at.sigma_V[0] == 0.0 and at.sigma_V[1] < 1.0


def test_unstable_eglif_is_regularised_not_nan() -> None:
    cell = CEREBELLUM["GrC"]
    parameters = dict(cell.parameters) | {"k_2": 0.02, "k_adap": 0.001}
    at = moments(Cell("X", cell.model, parameters, cell.channels), np.geomspace(1e-3, 10, 20)[:, None] * np.ones(2))
    assert np.all(np.isfinite(at.sigma_V)) and np.all(np.isfinite(at.mu_V)) and np.all(at.mu_G > 0)


def test_floor_is_smooth_to_second_order() -> None:
    h = 1e-3
    x = 1.0 + h * np.arange(-3, 4)
    second = np.diff(smooth_floor(x, 1.0), 2) / h**2
    assert np.all(np.abs(second) < 20 * h)
    assert np.all(smooth_floor(np.linspace(-50.0, 1.0, 100), 1.0) > 0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.0, 200.0), min_size=3, max_size=3), st.sampled_from(sorted(CELLS)))
@example([0.0, 5e-324, 0.0], "BC")
def test_moments_do_not_depend_on_the_order_of_channels_or_on_batching(rates: list[float], name: str) -> None:
    cell = CELLS[name]
    nu = np.array(rates[: len(cell.axes)])
    turned = Cell("X", cell.model, cell.parameters, cell.channels[::-1])
    order = [cell.axes.index(axis) for axis in turned.axes]
    one, other = moments(cell, nu), moments(turned, np.stack([nu, nu])[:, order])
    for field in ("mu_V", "sigma_V", "tau_V", "mu_G"):
        assert getattr(other, field) == pytest.approx(np.full(2, getattr(one, field)), rel=1e-9)


def test_damping_floor_acts_only_below_its_value() -> None:
    m = membrane(CEREBELLUM["GrC"])
    static = np.array([m.shift + m.capacitance * (2 * DAMPING_FLOOR - m.k)])
    expected = (2 * DAMPING_FLOOR) ** -1
    assert response(Membrane(**vars(m) | {"synapse": "delta"}), static, static)[0, 0] == pytest.approx(
        (1 + m.k * m.capacitance / static[0]) / 2 * expected
    )


def test_membrane_survives_plain_json() -> None:
    m = membrane(CEREBELLUM["PC"])
    again = Membrane.from_dict(m.to_dict())
    assert moments(again, np.full(3, 9.0)).sigma_V == moments(m, np.full(3, 9.0)).sigma_V


# --- simulations --------------------------------------------------------------------------------


def _simulate_eglif(cell: Cell, nu: np.ndarray, cells: int = 300, duration: float = 1200.0) -> tuple[float, float]:
    """Mean and sd of V of the full (multiplicative) sub-threshold equations; midpoint steps of 0.1 ms."""
    rng, dt, p = np.random.default_rng(1), 0.1, cell.parameters
    tau, Q, E = (cell.array(name)[:, None] for name in ("tau_syn", "Q", "E_rev"))
    arrivals = (cell.array("K") * nu[cell.channel_axis] / 1000.0 * dt)[:, None]
    g, slope = np.zeros((len(tau), cells)), np.zeros((len(tau), cells))
    V, w = np.full(cells, float(moments(cell, nu).mu_V)), np.zeros(cells)
    w[:] = p["k_adap"] / p["k_2"] * (V - p["E_L"])
    decay, total, square, count = np.exp(-dt / tau), 0.0, 0.0, 0

    def drift(V: np.ndarray, w: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        current = p["C_m"] / p["tau_m"] * (V - p["E_L"]) - w + p["I_e"] + np.sum(g * (E - V), axis=0)
        return current / p["C_m"], p["k_adap"] * (V - p["E_L"]) - p["k_2"] * w

    for step in range(int(duration / dt)):
        after = (g + dt * slope) * decay
        half_V, half_w = (x + dt / 2 * dx for x, dx in zip((V, w), drift(V, w, g)))
        dV, dw = drift(half_V, half_w, (g + after) / 2)
        V, w, g = V + dt * dV, w + dt * dw, after
        slope = slope * decay + Q * math.e / tau * rng.poisson(arrivals, g.shape)
        if step * dt > 400.0 and step % 20 == 0:
            total, square, count = total + V.sum(), square + (V**2).sum(), count + cells
    return total / count, math.sqrt(square / count - (total / count) ** 2)


@pytest.mark.parametrize(("population", "nu"), [("GoC", [20.0, 20.0, 10.0]), ("BC", [15.0, 40.0])])
@pytest.mark.parametrize(("finer", "mean_error", "sd_error"), [(1, 1.0, 0.08), (8, 0.15, 0.03)])
def test_moments_of_eglif_agree_with_a_monte_carlo(
    population: str, nu: list[float], finer: int, mean_error: float, sd_error: float
) -> None:
    """The theory is of first order in the conductance fluctuations: its error falls with the size of a quantum."""
    cell = CEREBELLUM[population]
    channels = (replace(c, weight=c.weight / finer, indegree=Distribution(c.K * finer)) for c in cell.channels)
    cell = replace(cell, channels=tuple(channels))
    at, (mean, sd) = moments(cell, nu), _simulate_eglif(cell, np.array(nu))
    assert at.mu_V == pytest.approx(mean, abs=mean_error)
    assert at.sigma_V == pytest.approx(sd, rel=sd_error)


@pytest.mark.parametrize(
    "name", ["iaf_cond_alpha", "iaf_cond_exp", "iaf_psc_exp", "iaf_psc_alpha", "iaf_psc_delta", "aeif_cond_exp"]
)
def test_moments_agree_with_silent_cells_in_nest(name: str) -> None:
    nest = pytest.importorskip("nest")
    cell, nu = CELLS[name], np.array([8.0, 10.0])
    mean, sd = _simulate_nest(nest, cell, nu)
    at = moments(cell, nu)
    assert at.mu_V == pytest.approx(mean, abs=0.5)
    assert at.sigma_V == pytest.approx(sd, rel=0.05)


def _simulate_nest(nest, cell: Cell, nu: np.ndarray) -> tuple[float, float]:
    nest.set_verbosity("M_ERROR")
    nest.ResetKernel()
    nest.SetKernelStatus({"resolution": 0.1, "rng_seed": 7})
    parameters = dict(cell.parameters)
    if cell.neuron.kind == "adex":
        parameters |= {"V_th": 100.0, "V_peak": 100.0, "Delta_T": 0.0}
    cells = nest.Create(cell.model, 100, params=parameters | _receptors(cell))
    for channel, rate in zip(cell.channels, nu):
        source = nest.Create("poisson_generator", params={"rate": channel.K * rate})
        weight = channel.Q if channel.E_rev == 0.0 or cell.neuron.weight_unit != "nS" else -channel.Q
        nest.Connect(source, cells, syn_spec={"weight": weight, "delay": 1.0})
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": 2.0, "start": 400.0})
    nest.Connect(meter, cells)
    nest.Simulate(2000.0)
    V = meter.get("events", "V_m")
    return float(np.mean(V)), float(np.std(V))


def _receptors(cell: Cell) -> dict[str, float]:
    e, i = cell.channels
    if cell.neuron.synapse == "delta":
        return {}
    taus = {"tau_syn_ex": e.tau_syn, "tau_syn_in": i.tau_syn}
    return taus | ({"E_ex": e.E_rev, "E_in": i.E_rev} if cell.neuron.weight_unit == "nS" else {})
