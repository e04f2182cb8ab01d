"""The E-GLIF model in NEST against a high-precision integration and closed forms."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import chisquare, kstest

from automfm_hpc import nest_models
from automfm_hpc.description import load
from automfm_hpc.errors import SimulationError
from automfm_hpc.moments import membrane, moments
from automfm_hpc.remap import remap
from automfm_hpc.simulate import reset_kernel

CELLS = remap(load("cerebellum")).cells
DELAY = 1.0
SUBTHRESHOLD = {"V_th": 1000.0}


def conductances(cell, arrivals, t):
    """Closed form of all alpha conductances, shape (n_channel,)."""
    g = np.zeros(len(cell.channels))
    for k, (channel, times) in enumerate(zip(cell.channels, arrivals)):
        s = t - times[times < t]
        g[k] = channel.Q * np.e * np.sum(s / channel.tau_syn * np.exp(-s / channel.tau_syn))
    return g


def reference(cell, arrivals, spikes, times, t_ref):
    """V_m and I_adap at `times` by DOP853, restarted at every arrival and spike; rtol 1e-10."""
    p = cell.parameters
    E = cell.array("E_rev")

    def slope(t, y, clamped):
        V, w, dep = y
        g = conductances(cell, arrivals, t)
        dV = (p["C_m"] / p["tau_m"] * (V - p["E_L"]) - w + dep + p["I_e"] + g @ (E - V)) / p["C_m"]
        return [0.0 if clamped else dV, p["k_adap"] * (V - p["E_L"]) - p["k_2"] * w, -p["k_1"] * dep]

    ends = np.concatenate([spikes + t_ref, spikes, *arrivals, [0.0, times[-1]]])
    breaks = np.unique(np.round(ends[ends <= times[-1]], 9))
    y, V, w = np.array([p["E_L"], 0.0, 0.0]), np.empty(len(times)), np.empty(len(times))
    for a, b in pairwise(breaks):
        clamped = any(s - 1e-6 < a < s + t_ref - 1e-6 for s in spikes)
        inside = (times > a + 1e-9) & (times < b + 1e-9)
        ends_here = np.append(times[inside & (times < b - 1e-9)], b)
        solution = solve_ivp(slope, (a, b), y, "DOP853", ends_here, rtol=1e-10, atol=1e-10, args=(clamped,))
        y = solution.y[:, -1].copy()
        if np.any(np.abs(spikes - b) < 1e-9):
            y = np.array([p["V_reset"], y[1] + p["A2"], p["A1"]])
        values = solution.y[:2, : inside.sum()]
        if values.shape[1] and abs(times[inside][-1] - b) < 1e-9:
            values[:, -1] = y[:2]
        V[inside], w[inside] = values
    return V, w


def simulate(cell, dt, arrivals, duration, changes):
    """V_m and I_adap every 0.1 ms, spikes, and the refractory time on the grid."""
    nest = reset_kernel(7, dt)
    parameters = {**cell.parameters, **changes, "V_m": cell.parameters["E_L"]}
    for k, c in enumerate(cell.channels, 1):
        parameters |= {f"tau_syn{k}": c.tau_syn, f"E_rev{k}": c.E_rev}
    node = nest.Create(nest_models.install(len(cell.channels)), params=parameters)
    for k, (c, times) in enumerate(zip(cell.channels, arrivals), 1):
        generator = nest.Create("spike_generator", params={"spike_times": times - DELAY})
        nest.Connect(generator, node, syn_spec={"weight": c.Q, "delay": DELAY, "receptor_type": k})
    meter = nest.Create("multimeter", params={"record_from": ["V_m", "I_adap"], "interval": 0.1})
    recorder = nest.Create("spike_recorder")
    nest.Connect(meter, node)
    nest.Connect(node, recorder)
    nest.Simulate(duration + 2.0)
    log = meter.get("events")
    keep = log["times"] <= duration + 1e-9
    steps = np.ceil(cell.parameters["t_ref"] / dt - 1e-9)
    return (log["times"][keep], log["V_m"][keep], log["I_adap"][keep],
            np.asarray(recorder.get("events")["times"], float), steps * dt)


def inputs(cell, duration, seed=3):
    """Arrival times on the 0.1 ms grid, dense enough to load the cell as in the network."""
    rng = np.random.default_rng(seed)
    counts = [max(int(duration / 1000 * c.K * 15), 3) for c in cell.channels]
    return [np.unique(np.round(rng.uniform(2.0, duration - 1.0, min(n, 60)), 1)) for n in counts]


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.population)
def test_subthreshold_error_falls_at_second_order(cell, record_property):
    duration = 60.0
    arrivals = inputs(cell, duration)
    errors = []
    for dt in (0.1, 0.05, 0.025):
        times, V, _, spikes, _ = simulate(cell, dt, arrivals, duration, SUBTHRESHOLD)
        V_ref, _ = reference(cell, arrivals, np.empty(0), times, 0.0)
        assert spikes.size == 0
        errors.append(np.abs(V - V_ref).max())
    order = np.log2(errors[0] / errors[2]) / 2
    record_property("error_mV_at_0.1ms", float(errors[0]))
    print(f"{cell.population}: V_m error {errors[0]:.4f} of {np.ptp(V_ref):.1f} mV at 0.1 ms, order {order:.2f}")
    assert 1.8 < order < 2.6
    assert errors[0] < 0.001


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.population)
def test_trajectory_between_the_spikes_it_fired(cell):
    """Spikes are imposed on the reference where NEST fired: reset, refractory time and both currents must agree."""
    duration = 60.0
    arrivals = inputs(cell, duration, seed=5)
    changes = {"V_th": cell.parameters["E_L"] - 3.0} if cell.population != "PC" else {}
    errors = []
    for dt in (0.1, 0.025):
        times, V, w, spikes, t_ref = simulate(cell, dt, arrivals, duration, changes)
        spikes = spikes[spikes <= duration]
        assert spikes.size >= 2
        V_ref, w_ref = reference(cell, arrivals, spikes, times, t_ref)
        scale = max(np.ptp(w_ref), 1.0)
        errors.append((np.abs(V - V_ref).max(), np.abs(w - w_ref).max() / scale))
    V_error, w_error = errors[0]
    print(f"{cell.population}: {spikes.size} spikes, V_m error {V_error:.4f} mV, I_adap error {w_error:.5f} of range")
    assert errors[0][0] < 0.002
    assert errors[0][1] < 0.001
    assert errors[1][0] < 0.15 * errors[0][0] + 1e-6


def clamped(nest, n, V, p):
    """Cells whose potential does not move, so that their hazard is constant."""
    frozen = {"C_m": 1e15, "tau_m": 1e15, "E_L": V, "V_reset": V, "V_m": V, "k_adap": 0.0, "A1": 0.0, "A2": 0.0,
              "I_e": 0.0, "t_ref": 0.0, **{k: p[k] for k in ("V_th", "lambda_0", "tau_V", "k_1", "k_2")}}
    return nest.Create(nest_models.install(1), n, params=frozen)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.population)
def test_escape_noise_has_the_closed_form_law(cell):
    p, n, duration, dt = cell.parameters, 100, 1000.0, 0.1
    hazard = 0.08  # per ms: many spikes, yet a visible chance per step
    V = p["V_th"] + p["tau_V"] * np.log(hazard / p["lambda_0"])
    nest = reset_kernel(11, dt)
    nodes = clamped(nest, n, V, p)
    recorder = nest.Create("spike_recorder")
    nest.Connect(nodes, recorder)
    nest.Simulate(duration)
    events = recorder.get("events")
    chance = -np.expm1(-hazard * dt)
    expected = n * duration / dt * chance
    assert abs(len(events["times"]) - expected) < 4 * np.sqrt(expected)
    order = np.lexsort((events["times"], events["senders"]))
    who, when = events["senders"][order], events["times"][order]
    steps = np.rint(np.diff(when)[np.diff(who) == 0] / dt)
    uniform = 1 - (1 - chance) ** (steps - np.random.default_rng(0).random(steps.size))  # randomised geometric law
    assert kstest(uniform, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("rate", [0.4, 20.0], ids=["sparse", "dense"])
def test_poisson_input_drawn_inside_has_campbell_moments(rate):
    """Mean e Q tau rate and variance rate (e Q)^2 tau / 4 of an alpha conductance; counts are Poisson."""
    nest = reset_kernel(13, 0.1)
    Q, tau = 0.5, 2.0
    nodes = nest.Create(nest_models.install(2), 50, params={"V_th": 1e3, "tau_syn2": tau, "poisson_rate2": rate,
                                                          "poisson_weight2": Q, "poisson_rate1": 0.1})
    meter = nest.Create("multimeter", params={"record_from": ["g_2"], "interval": 0.1, "start": 50.0})
    nest.Connect(meter, nodes)
    nest.Simulate(1050.0)
    g = meter.get("events")["g_2"]
    mean, variance = np.e * Q * tau * rate, rate * (np.e * Q) ** 2 * tau / 4
    independent = 50 * 1000.0 / (2 * tau)
    assert abs(g.mean() - mean) < 5 * np.sqrt(variance / independent)
    assert g.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / independent) + 0.01)


@pytest.mark.parametrize("rate", [2.0, 12.0], ids=["sparse", "dense"])
def test_poisson_counts_follow_their_law(rate):
    """One event moves h by e Q / tau: with a fast synapse the counts per step can be read off."""
    nest = reset_kernel(17, 0.1)
    tau = 0.004
    nodes = nest.Create(nest_models.install(1), 20, params={"V_th": 1e3, "tau_syn1": tau, "poisson_rate1": rate,
                                                           "poisson_weight1": tau / np.e})
    meter = nest.Create("multimeter", params={"record_from": ["h_1"], "interval": 0.1})
    nest.Connect(meter, nodes)
    nest.Simulate(500.0)
    counts = np.rint(meter.get("events")["h_1"]).astype(int)
    top = 4 if rate < 3 else 6
    seen = np.bincount(np.minimum(counts, top), minlength=top + 1)
    mean = rate * 0.1
    law = np.exp(-mean) * mean ** np.arange(top) / np.cumprod([1, *range(1, top)])
    law = np.append(law, 1 - law.sum())
    assert chisquare(seen, law * seen.sum()).pvalue > 1e-3


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.population)
def test_moments_of_the_silent_cell(cell):
    """Shot-noise theory against NEST: mean and standard deviation of V_m without spikes."""
    rates = np.full(len(cell.axes), 25.0)
    arrivals = cell.array("K") * rates[cell.channel_axis]
    theory = moments(membrane(cell), rates)
    nest = reset_kernel(19, 0.1)
    parameters = {**cell.parameters, "V_th": 1000.0, "V_min": -1000.0}
    for k, c in enumerate(cell.channels, 1):
        parameters |= {f"tau_syn{k}": c.tau_syn, f"E_rev{k}": c.E_rev, f"poisson_rate{k}": arrivals[k - 1] / 1000.0,
                       f"poisson_weight{k}": c.Q}
    nodes = nest.Create(nest_models.install(len(cell.channels)), 40, params=parameters)
    meter = nest.Create("multimeter", params={"record_from": ["V_m"], "interval": 1.0, "start": 500.0})
    nest.Connect(meter, nodes)
    nest.Simulate(2500.0)
    V = meter.get("events")["V_m"]
    print(f"{cell.population}: mu_V {V.mean():.2f} (theory {theory.mu_V:.2f}), "
          f"sigma_V {V.std():.3f} (theory {theory.sigma_V:.3f})")
    # The theory is of first order in the conductance noise, which is largest for GrC, BC and SC.
    assert theory.mu_V == pytest.approx(V.mean(), abs=0.16 * V.std())
    assert theory.sigma_V == pytest.approx(V.std(), rel=0.07)


def test_source_repeats_receptors_and_leaves_no_placeholder():
    for receptors in (1, 3, 7):
        source = nest_models.nestml_source(receptors)
        assert "{" not in source
        assert len(re.findall(r"onReceive", source)) == receptors
        assert f"h_{receptors} += jump_{receptors}" in source
    with pytest.raises(SimulationError, match="at least one"):
        nest_models.nestml_source(0)


def test_cache_depends_on_what_was_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOMFM_CACHE", str(tmp_path))
    one, two = nest_models.module_path(1), nest_models.module_path(2)
    assert one.parent != two.parent and str(tmp_path) in str(one)


def test_no_compiler_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOMFM_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(nest_models, "_search_path", lambda: str(tmp_path))
    with pytest.raises(SimulationError, match=r"no C\+\+ compiler found.*apt-get install g\+\+"):
        nest_models.compile_module(3)
    assert not [p for p in tmp_path.rglob("*") if p.suffix == ".so"]


def test_serial_nest_refuses_a_launchers_environment():
    if nest_models.find_nest().has_mpi:
        pytest.skip("this NEST has MPI")
    code = "from automfm_hpc.nest_models import import_nest; import_nest()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PMI_RANK": "0"}, capture_output=True,
                          text=True, check=False)
    assert done.returncode != 0 and "has no MPI" in done.stderr


def test_missing_boost_headers_are_named_with_the_remedy(tmp_path):
    source = tmp_path / "needs_boost.cpp"
    source.write_text("#include <boost/no_such_header.hpp>\n")
    with pytest.raises(SimulationError, match=r"boost/no_such_header.*pip install boost-headers"):
        nest_models._run([*nest_models.compiler(nest_models.find_nest()), "-E", str(source)], "reading a header")


def test_headers_of_nest_and_boost_are_found():
    nest_models.check_headers()


def test_nest_headers_compile_where_the_machine_has_no_libltdl(tmp_path):
    nest = nest_models.find_nest()
    own = [f"-I{nest_models.HEADERS}", *nest_models.include_flags(nest)]  # before the machine's, if it has one
    source = tmp_path / "module_manager.cpp"
    source.write_text('#include "module_manager.h"\nlt_dlhandle none = nullptr;\n')
    command = [*nest_models.compiler(nest), *nest_models._flags(nest), "-fsyntax-only", *own, str(source)]
    nest_models._run(command, "compiling")
