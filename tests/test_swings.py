"""Isolated cells under given courses in real NEST; fits against the equations that made the data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import environment

from automfm_hpc import MeanField, Network, stages
from automfm_hpc.cell_response import LASTING, CellResponse, cells_of, forgotten
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.experiment import SWUNG, Trial, varied_experiment, working_experiment
from automfm_hpc.linear_response import rate_response
from automfm_hpc.measured_dynamics import measure_dynamics, table
from automfm_hpc.measured_swings import spreads_that_count
from automfm_hpc.mesoscopic import driven, realizations
from automfm_hpc.network import Distribution
from automfm_hpc.plan import make_plan
from automfm_hpc.pools import Serial
from automfm_hpc.presynaptic import PresynapticStatistics
from automfm_hpc.rate_models import RateModel
from automfm_hpc.remap import Cell, Channel, remap
from automfm_hpc.run_folder import Run
from automfm_hpc.spikes import activity, smooth
from automfm_hpc.spread import (
    CALM,
    LONG,
    MEAN_E,
    MOST_EVEN,
    MOST_FELT,
    SATURATING,
    SETTLED,
    SOON,
    SWINGS,
    evenness,
    heard_at_rest,
    saturation_of,
    settling,
    spread_factor,
)
from automfm_hpc.swing_fit import FASTEST_SWING, PASSED, UNHEARD, Course, FittedSwing, Known, fastest_heard, fit_swing
from automfm_hpc.swings import Heard, follow_courses, recorded_courses, with_run_up

BEFORE = 100.0
DELAY = 3.0  # ms of the relays' synapses
TIME = np.arange(1000) + 0.5
WAVE = np.maximum(12.0 + 18.0 * np.sin(2e-3 * np.pi * 9.0 * TIME), 0.0)  # silent for part of each period


def relay(K: float, sd: float = 0.0) -> Cell:
    """Cells that fire whenever anything arrives."""
    parameters = {"V_th": 10.0, "V_reset": 0.0, "E_L": 0.0, "tau_m": 1.0, "C_m": 1.0, "t_ref": 0.1, "V_m": 0.0}
    channel = Channel("s", "s", ("s->cell",), Distribution(K, sd), Distribution(1.0, 0.0), 50.0, None, None, DELAY)
    return Cell("relay", "iaf_psc_delta", parameters, (channel,))


@pytest.mark.parametrize("known", [{}, {"s": PresynapticStatistics("s", (12.0,), (0.5,), (0.4,))}],
                         ids=["Poisson", "trains on a clock"])  # fmt: skip
def test_relays_fire_in_the_course_of_their_sources(known):
    """Of K sources each at the course's rate, DELAY later: whatever the regularity of single trains."""
    heard = Heard({"s": with_run_up(WAVE, BEFORE)})
    spikes = follow_courses(relay(4.0, 1.0), heard, BEFORE, 1500, 3, 0.1, None, True, known)
    found = smooth(activity(spikes)[None], 3.0)[0]
    shift = int(DELAY)
    wanted = smooth(4.0 * np.concatenate([WAVE[-shift:], WAVE[:-shift]])[None], 3.0)[0]
    noise = np.sqrt(wanted.mean() * 1000.0 / 1500 / (2 * np.sqrt(np.pi) * 3.0))
    assert np.sqrt(((found - wanted) ** 2).mean()) < 3.0 * noise + 0.02 * wanted.max()
    assert found.mean() == pytest.approx(wanted.mean(), rel=0.03)
    assert found[wanted < 0.1].max(initial=0.0) < 2.0 < 0.05 * found.max()


def test_relays_hear_the_trains_that_were_recorded():
    """Every third of the cells fires once in each wave, at its own time: what relays do tells the thirds apart."""
    counts = np.zeros((9, 1000), np.uint8)
    for cell in range(9):
        counts[cell, 40 * (cell % 3) + 7 * (cell // 3) :: 150] = 1
    course = counts.mean(axis=0) * 1000.0
    heard = Heard({"s": with_run_up(course, BEFORE)}, {"s": with_run_up(counts, BEFORE)})
    known = {"s": PresynapticStatistics("s", (7.0,), (0.5,), (0.4,))}
    spikes = follow_courses(relay(4.0, 1.0), heard, BEFORE, 1500, 3, 0.1, None, True, known)
    found = activity(spikes)
    shift = int(DELAY)
    wanted = 4.0 * smooth(np.roll(course, shift)[None], 1.0)[0]
    assert smooth(found[None], 1.0)[0] == pytest.approx(wanted, abs=0.12 * wanted.max())
    assert found.mean() == pytest.approx(4.0 * course.mean(), rel=0.02)
    each = np.bincount(spikes.cells, minlength=1500)  # how many of the nine a relay hears, times seven waves each
    assert set(np.unique(each)) <= {6 * k + m for k in range(10) for m in range(k + 1)}


def test_the_end_of_a_course_runs_up_to_its_beginning():
    course = np.arange(5.0)
    assert with_run_up(course, 2.0).tolist() == [3, 4, 0, 1, 2, 3, 4]
    assert with_run_up(course, 7.0).tolist() == [3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


# --- the spread of presynaptic rates --------------------------------------------------------------


def response(kappa: float, lag: float = 2.0, rho: float = 1.8, slow: float = 40.0, rising: float | None = None,
             bound: float = 1.0, depth: float = 1.0, lateness: float = 0.0, pause: float = 0.0,
             offset: float = 0.0) -> CellResponse:  # fmt: skip
    one = np.ones((1, 1))
    return CellResponse(10.0 * one, lag * one, rho * one, slow * one, one, (rising or lag) * one, bound * one,
                        depth * one, lateness * one, pause * one, kappa * one, offset * one)  # fmt: skip


def model(kappa: float, **numbers: float) -> MeanField:
    tf = RateModel("A", ("s",), np.array([[0.0, 200.0]]), np.array([1.3]), 5.0, "linear")
    synapse = Dynamics(np.array([0]), np.ones(1), np.ones(1), np.array([4.0]), np.array([2]),
                       response(kappa, **numbers))
    return MeanField(("A",), ("s",), (tf,), np.array([np.inf, np.inf]), 3.5, {}, synapse)


def factor(kappa: float, rate: float, saturation: float, lasting: float, offset: float = 0.0, usual: float = 1.0,
           F: float = 10.0) -> float:
    """f over F of cells whose own mean is 10 Hz; `usual`: mean of E."""
    return float(spread_factor(cells_of(response(kappa, offset=offset)), 0, 0, 1, F, 10.0,
                               np.array([[lasting], [usual], [lasting]]), np.array([rate]), np.array([saturation]),
                               forgotten(1.0), settling(forgotten(1.0))))


def test_lasting_rates_are_those_of_the_transfer_function_and_volleys_inhibit_more():
    rest = saturation_of(36.0)
    assert factor(0.4, 36.0, rest, 36.0) == factor(0.4, 36.0, rest, 36.0, offset=0.2) == pytest.approx(1.0)
    assert factor(0.4, 36.0, 0.5 * rest, 36.0) < factor(0.4, 36.0, 0.9 * rest, 36.0) < 1.0  # from fewer moments
    assert factor(0.4, 60.0, saturation_of(60.0), 36.0) < 1.0 < factor(0.4, 20.0, saturation_of(20.0), 36.0)
    assert evenness(rest, 36.0, 36.0) == pytest.approx(1.0) and evenness(rest, 5.0, 36.0) == MOST_EVEN  # ends somewhere
    assert factor(0.0, 36.0, 3.0, 20.0) == 1.0


def test_what_a_spread_counts_is_more_where_much_inhibition_arrives_and_little_is_fired():
    rest, even = saturation_of(36.0), 0.25
    least = np.log(factor(0.4, 36.0, 0.5 * rest, 36.0))
    assert least == pytest.approx(0.4 * (even - 1.0), rel=1e-3)
    assert np.log(factor(0.4, 36.0, 0.5 * rest, 36.0, F=4.75)) == pytest.approx(2.0 * least, rel=1e-3)  # q = 0.5
    wanted = 2.0 * 0.4 * (0.25 * ((9.0 + SATURATING) / (36.0 + SATURATING)) ** 2 - 1.0)  # y/Y = 4
    assert np.log(factor(0.4, 36.0, 0.5 * rest, 8.625)) == pytest.approx(wanted, rel=0.02)
    assert np.log(factor(0.4, 36.0, 0.5 * rest, 36.0, F=0.0)) == pytest.approx(MOST_FELT * least, rel=1e-3)


def test_what_the_sampling_left_out_counts_where_a_source_swings():
    rest = saturation_of(36.0)
    assert np.log(factor(0.4, 36.0, rest, 36.0, 0.2, SWINGS)) == pytest.approx(0.2, rel=1e-3)
    assert np.log(factor(0.4, 36.0, rest, 36.0, 0.2, 0.3)) == pytest.approx(0.2, rel=1e-3)
    assert np.log(factor(0.4, 36.0, rest, 36.0, 0.2, 0.5 * (SWINGS + CALM))) == pytest.approx(0.1, rel=1e-3)
    assert factor(0.4, 36.0, rest, 36.0, 0.2, CALM) == pytest.approx(1.0)
    assert factor(0.4, 36.0, rest, 36.0, usual=0.3) == pytest.approx(1.0)
    assert np.log(factor(0.0, 36.0, rest, 36.0, 0.2, 0.3)) == pytest.approx(0.2, rel=1e-3)  # without kappa, too


def test_what_lasts_is_the_mean_over_a_tenth_of_a_second_and_spreads_settle_sooner():
    cells, lasting = cells_of(response(0.4)), heard_at_rest(np.array([10.0]))
    for _ in range(round(SETTLED)):
        spread_factor(cells, 0, 0, 1, 10.0, 10.0, lasting, np.array([30.0]), np.array([0.0]), forgotten(1.0),
                      settling(forgotten(1.0)))
    assert lasting[SOON, 0] == pytest.approx(30.0 - 20.0 / np.e)
    assert lasting[LONG, 0] == pytest.approx(30.0 - 20.0 * np.exp(-SETTLED / LASTING))
    assert lasting[MEAN_E, 0] == pytest.approx(np.exp(-SETTLED / LASTING), abs=1e-3)


def test_the_spread_of_cells_whose_rates_saturate_is_what_the_equations_say():
    """10 000 cells of rates nu + d r(nu), d their own, behind an alpha synapse, in volleys; no noise of spikes."""
    rng, time, tau = np.random.default_rng(3), np.arange(2000.0), 10.0
    nu = 30.0 + 28.0 * np.cos(2.0 * np.pi * time / 40.0)
    kernel = (time[:200] + 0.5) * np.exp(-(time[:200] + 0.5) / tau)
    sent = (nu, np.array([saturation_of(v) for v in nu]))
    mean, saturation = (np.convolve(x, kernel / kernel.sum())[1000 : time.size] for x in sent)
    d = rng.normal(0.0, 30.0, 10_000)
    d -= d.mean()
    heard = mean + d[:, None] * saturation
    squared = heard.var(axis=0) / heard.mean(axis=0) ** 2
    even = np.array([evenness(r, y, nu.mean()) for r, y in zip(saturation, mean, strict=True)])
    assert squared == pytest.approx(d.var() / (nu.mean() + SATURATING) ** 2 * even, rel=0.02)


def test_no_spread_is_a_spread_of_no_account():
    whole = model(0.0)
    cell = replace(whole.dynamics.cell, spread=np.zeros((0, 1)), offset=np.zeros((0, 1)))
    bare, sent = replace(whole, dynamics=replace(whole.dynamics, cell=cell)), {"A": 0 * WAVE, "s": WAVE}
    assert driven(whole, sent, 1.0) == pytest.approx(driven(bare, sent, 1.0), rel=1e-12)
    again = Dynamics.from_arrays(bare.dynamics.to_arrays())
    assert again.cell.spread.shape == (0, 1)


@pytest.mark.parametrize("frequency", [1.0, 8.0, 40.0])
def test_small_sinusoids_pass_as_the_linear_theory_says(frequency):
    """Stepped equations against pathway, spread and response of the cells in the frequency domain."""
    m = model(0.8, offset=0.3)
    time = np.arange(0.0, 6.0, 1e-3)
    drive = np.column_stack([time, 20.0 + 0.5 * np.sin(2.0 * np.pi * frequency * time)])
    course = realizations(m, {"s": drive}, duration=6.0, trials=1, dt=0.05, noise=False)["rate"].values[3000:, 0]
    turn = np.exp(-2j * np.pi * frequency * (3.0 + (np.arange(3000) + 0.5) * 1e-3))
    found = 2j * ((course - course.mean()) * turn).mean() / 0.5
    wanted = rate_response(m.system, m.dynamics, np.array([31.0, 20.0]), [frequency])[0, 0, 0]
    assert found == pytest.approx(wanted, rel=0.02)


# --- fits -----------------------------------------------------------------------------------------


def fitted_to(made: MeanField, size: float = 8.0) -> FittedSwing:
    """To the course of 5000 cells under a broad swing; size: standard deviation of their input (Hz)."""
    rng, courses = np.random.default_rng(5), []
    for _ in range(3):
        white = smooth(rng.standard_normal((1, 1000)), 6.0)[0]
        swing = np.maximum(20.0 + size * white / white.std(), 0.0)
        sent = np.column_stack([with_run_up(swing, 300.0), np.zeros(1300)])
        rate = driven(made, {"A": sent[:, 1], "s": sent[:, 0]}, 1.0)[300:, 0]
        courses.append(Course(sent, rng.poisson(rate * 5.0) / 5.0))
    system = made.system._replace(axes=np.zeros(1, np.int64))  # a source that is a population: column 0
    return fit_swing(system, made.dynamics, 0, [courses], Known(1.0, 1.5, 100.0, 0.5), [True], 1.0)


@pytest.mark.parametrize(("kappa", "offset", "rho", "bound", "lags"), [
    (0.0, 0.0, 1.8, 1.0, (2.0, 2.0)), (0.5, 0.1, 2.5, 0.4, (2.0, 2.0)), (0.8, 0.2, 1.4, 1.0, (2.0, 2.0)),
    (0.3, 0.0, 1.8, 1.0, (0.5, 4.0)),
])  # fmt: skip
def test_a_fit_finds_the_numbers_that_made_the_course(kappa, offset, rho, bound, lags):
    made = model(kappa, offset=offset, rho=rho, bound=bound, depth=0.7, slow=150.0, lag=lags[0], rising=lags[1])
    fitted = fitted_to(made, size=11.0)
    assert fitted.spread == pytest.approx([kappa], abs=0.15)
    assert fitted.offset == pytest.approx([offset], abs=0.03)
    assert fitted.adaptation == pytest.approx(rho, rel=0.1)
    assert (fitted.lag, fitted.rising) == pytest.approx(lags, abs=0.6)  # a lag and a pause do alike
    assert (rho - 1.0) * fitted.bound == pytest.approx((rho - 1.0) * bound, abs=0.2)
    assert (rho - 1.0) * fitted.depth == pytest.approx((rho - 1.0) * 0.7, abs=0.2)
    assert fitted.explained > 0.98 and abs(fitted.error) < 0.01  # the rest is chance of 5000 cells


@pytest.mark.parametrize(("lateness", "pause"), [(1.2, 0.0), (0.0, 6.0)])
def test_a_fit_finds_lateness_and_pause(lateness, pause):
    made = model(0.0, rho=1.5, slow=150.0, lag=0.5, rising=0.8, lateness=lateness, pause=pause)
    fitted = fitted_to(made, size=14.0)
    assert fitted.pause == pytest.approx(pause, abs=1.5)  # at 30 Hz 4 % of the cells: what a fit can tell
    assert fitted.lateness == pytest.approx(lateness, abs=0.35)
    assert fitted.explained > 0.98 and abs(fitted.error) < 0.01


def test_falls_are_never_followed_later_than_rises():
    fitted = fitted_to(model(0.3, rho=1.8, slow=150.0, lag=4.0, rising=0.5))
    assert 0.5 < fitted.lag == fitted.rising < 4.0


def fast_model(tau_syn: float, lag: float) -> tuple[MeanField, Any]:
    """A population whose source is itself as far as its synapses go, and its system."""
    made = model(0.0, lag=lag, rho=1.2, slow=60.0)
    fast = replace(made.dynamics, tau_syn=np.array([tau_syn]), poles=np.array([1]))
    return replace(made, dynamics=fast), made.system._replace(axes=np.zeros(1, np.int64))


def test_fits_see_oscillations_that_fast_synapses_pass():
    """All that is known of the lag lies around 190 Hz."""
    rng = np.random.default_rng(8)
    made, system = fast_model(1.0, 1.6)
    white = rng.standard_normal((2, 1000))
    band = smooth(white, 5.0) * np.exp(2j * np.pi * 0.19 * np.arange(1000))
    swing = np.maximum(20.0 + 8.0 * band.real / band.real.std(), 0.0)
    courses = []
    for part in swing:
        sent = np.column_stack([with_run_up(part, 300.0), np.zeros(1300)])
        rate = driven(made, {"A": sent[:, 1], "s": sent[:, 0]}, 1.0)[300:, 0]
        courses.append(Course(sent, rng.poisson(rate * 5.0) / 5.0))
    fitted = fit_swing(system, made.dynamics, 0, [courses], Known(0.4, 1.2, 60.0, 0.5), [False], 1.0)
    assert fitted.lag == pytest.approx(1.6, rel=0.1)


@pytest.mark.parametrize("tau_syn", [2.0, 10.0, 0.1])
def test_swings_are_judged_up_to_what_the_synapses_of_targets_pass(tau_syn):
    made, system = fast_model(tau_syn, 1.0)
    fastest = fastest_heard(system, made.dynamics, 0)
    passed = abs(made.dynamics.pathways(np.array([fastest])))[0, 0]
    assert passed == pytest.approx(PASSED) if fastest < FASTEST_SWING else passed > PASSED
    assert fastest_heard(made.system, made.dynamics, 0) == UNHEARD  # its only source is the input


def test_without_a_swing_what_was_known_stays():
    made = model(0.0)
    sent = np.column_stack([np.zeros(1300), np.full(1300, 20.0)])
    target = np.random.default_rng(2).poisson(31.0 * 0.5, 1000) / 0.5  # 500 cells
    fitted = fit_swing(made.system, made.dynamics, 0, [[Course(sent, target)]], Known(1.0, 1.5, 60.0, 0.5), [True], 1.0)
    assert (fitted.lag, fitted.adaptation, fitted.slow) == pytest.approx((1.0, 1.5, 60.0), rel=0.15)
    assert fitted.bound == pytest.approx(1.0, abs=0.1) and fitted.spread == pytest.approx([0.0], abs=0.2)


def test_the_spread_counts_of_sources_of_which_a_cell_hears_few_or_else_of_all():
    cells = {c.population: c for c in remap(Network.load("cerebellum")).cells}
    counted = {name: dict(zip(c.axes, spreads_that_count(c, ["mf"]), strict=True)) for name, c in cells.items()}
    assert counted["GrC"] == {"mf": False, "GoC": True}
    assert counted["GoC"] == {"mf": False, "GoC": True, "GrC": False}
    rs = remap(Network.load("adex_cortex")).cell("RS")
    assert dict(zip(rs.axes, spreads_that_count(rs, ["aff"]), strict=True)) == {"aff": False, "RS": True, "FS": True}


# --- the stage ------------------------------------------------------------------------------------


def test_inputs_fluctuate_around_every_working_point_and_stay_in_their_range():
    working = working_experiment(Network.load("cerebellum"))
    varied = varied_experiment(working)
    assert [p.background for p in varied.protocols] == [p.background for p in working.protocols]
    assert varied.seeds == 1 and varied.scale == working.scale and varied.bins == working.bins
    highest = working.network.inputs[0].rate_range[1]
    courses = [p.course()["mf"] for p in varied.protocols]
    for p, course in zip(varied.protocols, courses, strict=True):
        sd, rate = p.setting("sd"), p.background["mf"]
        assert sd == pytest.approx(min(0.4 * rate, 0.5 * (highest - rate)))
        assert course.std() == pytest.approx(sd, rel=0.3) and course.mean() == pytest.approx(rate, abs=0.5 * sd)
    assert abs(np.corrcoef(courses)[np.triu_indices(len(courses), 1)]).max() < 0.6  # seeds of their own


def test_the_stage_lets_cells_follow_the_network_and_goes_on_where_it_stopped(mpiexec, tmp_path, monkeypatch):
    network = Network.load(Path(__file__).parent / "data" / "two_cells.yaml")
    run, said = Run(tmp_path / "run"), []
    plan = make_plan(network, points=4)
    stages.write_plan(run, replace(plan, sampling=replace(plan.sampling, precision=0.1, budget=20.0)))
    stages.simulate(run, Serial(), said.append)
    stages.fit(run, Serial(), said.append)
    experiment = working_experiment(network, seeds=1, duration=300.0)
    stages.spike(run, experiment, Serial(), said.append)
    stages.spike(run, varied_experiment(experiment), Serial(), said.append, run.varied, kept=SWUNG)
    result = measure_dynamics(run, Serial(), said.append, points=1)
    assert run.isolated_varied.is_dir()
    courses = recorded_courses(run.spiking, experiment, Trial(1, 0))
    assert courses["Grain"].shape == (300,)
    told = json.loads(run.dynamics.read_text("utf-8"))
    assert told["swings"] == json.loads(json.dumps(result["swings"])) and "swings" in table(told)
    kept = MeanField.load(run.folder).dynamics.cell
    rows = [row for rows in told["swings"].values() for row in rows]
    assert rows and all(set(row["spread"]) <= set(told["axes"][name]) for name in told["swings"]
                        for row in told["swings"][name])
    assert kept.spread.shape in ((3, kept.knots.shape[1]), (0, 1))
    shutil.copytree(run.folder, tmp_path / "ranks", ignore=shutil.ignore_patterns("isolated*.zarr", "dynamics.json"))
    command = [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py", "-m", "automfm_hpc", "dynamics", tmp_path / "ranks",
               "--points", "1", "--json"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=240, check=False,
                          env=environment())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == told
    small = measure_dynamics(run, Serial(), said.append, points=1, swings=False)
    assert "swings" not in small and not MeanField.load(run.folder).dynamics.cell.spread.size
    monkeypatch.setattr("automfm_hpc.swings.simulate_isolated", lambda *a, **k: pytest.fail("simulated again"))
    assert measure_dynamics(run, Serial(), said.append, points=1) == result
