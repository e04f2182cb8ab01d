"""Presynaptic cells that differ and fire regularly: the trains are what they should be, and cells feel them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automfm_hpc.afferents import afferents, explicit
from automfm_hpc.description import load
from automfm_hpc.errors import PlanError
from automfm_hpc.experiment import presynaptic_statistics, working_experiment
from automfm_hpc.plan import Plan, Sampling, make_plan
from automfm_hpc.presynaptic import Drawn, PresynapticStatistics, draw_trains, spread_rates
from automfm_hpc.remap import remap
from automfm_hpc.simulate import draw_inputs, drive_cells, simulate_chunk
from automfm_hpc.spikes import isi_cv

CEREBELLUM = load("cerebellum")
CELLS = {c.population: c for c in remap(CEREBELLUM).cells}
GOC = PresynapticStatistics("GoC", (10.0, 40.0), (0.8, 0.4), (0.6, 0.4))


@settings(max_examples=15, deadline=None)
@given(rate=st.floats(10.0, 120.0), cv=st.floats(0.1, 1.0), seed=st.integers(0, 99))
def test_trains_have_the_rate_and_the_regularity_asked_for(rate, cv, seed):
    n, duration = 60, 20000.0
    one = np.ones(n)
    drawn = Drawn.gamma(rate * one, cv * one)
    trains = draw_trains(drawn, one, np.arange(n), duration, 0.1, np.random.default_rng(seed))
    counted = trains.cell.size / n / duration * 1000.0
    error = cv * np.sqrt(rate / (n * duration / 1000.0))
    assert abs(counted - rate) < 5.0 * error + 2e-3 * rate  # two spikes in one step are one event
    measured = np.nanmean(isi_cv(trains.cell, trains.step * 0.1, n))
    assert measured == pytest.approx(cv, abs=0.02 + 0.04 * cv)


def test_trains_start_in_equilibrium():
    n = 40000
    one = np.ones(n)
    trains = draw_trains(Drawn.gamma(50.0 * one, 0.2 * one), one, np.arange(n), 60.0, 0.1, np.random.default_rng(1))
    counts = np.histogram(trains.step * 0.1, np.arange(0.0, 61.0, 5.0))[0]
    expected = n * 50.0 * 0.005
    assert np.abs(counts / expected - 1.0).max() < 5.0 / np.sqrt(expected) + 0.01


def test_what_arrives_in_one_step_arrives_together():
    n = 50
    trains = draw_trains(Drawn.gamma(np.full(n, 400.0), np.ones(n)), np.full(n, 3.0), np.zeros(n, int), 1000.0, 0.1,
                         np.random.default_rng(2))
    assert (np.diff(trains.step) > 0).all() and trains.synapses.max() >= 6.0
    assert trains.synapses.sum() / 3.0 == pytest.approx(n * 400.0, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(mean=st.floats(0.5, 100.0), cv=st.floats(0.05, 1.5))
def test_rates_have_the_mean_and_spread_asked_for(mean, cv):
    drawn = spread_rates(np.full(60000, mean), np.full(60000, cv), np.random.default_rng(3))
    assert drawn.mean() == pytest.approx(mean, rel=5 * cv / np.sqrt(60000))
    assert drawn.std() == pytest.approx(cv * mean, rel=0.06)
    assert (drawn >= 0).all()


def test_silent_sources_and_equal_rates():
    silent = Drawn.gamma(np.zeros(4), np.ones(4))
    nothing = draw_trains(silent, np.ones(4), np.arange(4), 1000.0, 0.1, np.random.default_rng(1))
    assert nothing.cell.size == 0
    assert (spread_rates(np.full(5, 7.0), np.zeros(5), np.random.default_rng(1)) == 7.0).all()


def test_trains_and_poisson_input_carry_the_same_mean_drive():
    cell, n = CELLS["GrC"], 4000
    inputs, rates = draw_inputs(cell, n, np.random.default_rng(1)), np.tile([20.0, 25.0], (n, 1))
    assert explicit(cell, {"GoC": GOC}) == [1]
    seen = afferents(cell, inputs, rates, {"GoC": GOC}, 2000.0, 0.1, np.random.default_rng(2))
    assert not seen.arrivals[:, 1].any() and (seen.arrivals[:, 0] == inputs.events[:, 0] * 20.0).all()
    per_second = seen.trains[1].synapses.sum() / n / 2.0
    assert per_second == pytest.approx(cell.channels[1].K * cell.channels[1].synapses.mean * 25.0, rel=0.03)


def test_many_presynaptic_cells_stay_poisson_with_a_spread():
    cell, n = CELLS["BC"], 20000
    grc = PresynapticStatistics("GrC", (10.0,), (1.5,), (1.0,))
    inputs, rates = draw_inputs(cell, n, np.random.default_rng(1)), np.tile([10.0, 40.0], (n, 1))
    seen = afferents(cell, inputs, rates, {"GrC": grc}, 1000.0, 0.1, np.random.default_rng(2))
    relative = seen.arrivals[:, 0] / (inputs.events[:, 0] * 10.0)
    assert not seen.trains and relative.mean() == pytest.approx(1.0, abs=0.002)
    assert relative.std() == pytest.approx(1.5 / np.sqrt(841.0), rel=0.06)


CORTEX = {c.population: c for c in remap(load("adex_cortex")).cells}
FS = PresynapticStatistics("FS", (5.0, 20.0), (0.0, 0.0), (0.65, 0.75))


def test_many_regular_cells_are_no_poisson_train():
    cell = CORTEX["RS"]
    channel = next(j for j, c in enumerate(cell.channels) if c.source == "FS")
    assert cell.channels[channel].K == 100.0
    assert explicit(cell, {"FS": FS}) == [channel]
    assert explicit(cell, {"FS": FS.only(True, False)}) == []
    wide = replace(cell.channels[channel], indegree=replace(cell.channels[channel].indegree, mean=1000.0))
    channels = tuple(wide if j == channel else c for j, c in enumerate(cell.channels))
    assert explicit(replace(cell, channels=channels), {"FS": FS}) == []


def test_cells_feel_the_regularity_of_a_hundred_inhibitory_cells():
    """At the rates of the full cortical network Poisson inhibition makes cells fire more."""
    cell, n = CORTEX["RS"], 150
    rates = np.tile([{"aff": 9.6, "RS": 3.19, "FS": 18.7}[a] for a in cell.axes], (n, 1))
    inputs = draw_inputs(cell, n, np.random.default_rng(1), heterogeneous=False)
    poisson, regular = (drive_cells(cell, inputs, rates, Sampling(transient=1000.0, window=1500.0), 3, presynaptic=p)
                        for p in ({}, {"FS": FS}))
    error = np.hypot(poisson.rate.std(), regular.rate.std()) / np.sqrt(n)
    assert regular.rate.mean() < poisson.rate.mean() - 3.0 * error


def grc_rate(presynaptic):
    grid = {"mf": (40.0,), "GoC": (36.0,)}
    from automfm_hpc.plan import Grid

    plan = Plan(CEREBELLUM, 1, Sampling(budget=1200.0, precision=0.005, floor=0.05, first_cells=900),
                (Grid("GrC", ("mf", "GoC"), tuple(grid.values()), (1, 1)),), presynaptic)
    found = simulate_chunk(plan, plan.tasks()[0])
    return float(found["rate"][0, 0]), float(found["rate_sem"][0, 0])


def test_granule_cells_feel_regularity_and_spread_of_inhibition():
    """Regular inhibition leaves fewer gaps to fire in, spread rates leave some cells with little of it (theory 2)."""
    both = PresynapticStatistics("GoC", (36.0,), (0.6,), (0.5,))
    (poisson, e0), (regular, e1), (spread, e2) = (
        grc_rate(p) for p in ((), (both.only(False, True),), (both.only(True, False),)))
    assert regular < poisson - 4.0 * np.hypot(e0, e1)
    assert spread > poisson + 4.0 * np.hypot(e0, e2)


def test_a_plan_keeps_its_presynaptic_statistics_and_is_another_plan_with_them():
    bare = make_plan(CEREBELLUM, points=4)
    plan = make_plan(CEREBELLUM, points=4, presynaptic=(GOC,))
    assert plan.id != bare.id and Plan.from_dict(plan.to_dict()) == plan
    assert "presynaptic" not in bare.to_dict()
    assert replace(plan, presynaptic=()).id == bare.id


@pytest.mark.parametrize(("values", "said"), [
    (((10.0, 5.0), (1.0, 1.0), (1.0, 1.0)), "must increase"),
    (((10.0,), (1.0, 1.0), (1.0,)), "equally long"),
    (((10.0,), (float("nan"),), (1.0,)), "missing"),
    (((0.0,), (1.0,), (1.0,)), "above 0"),
])  # fmt: skip
def test_impossible_statistics_are_refused(values, said):
    with pytest.raises(PlanError, match=f"GoC.*{said}"):
        PresynapticStatistics("GoC", *values)


def test_statistics_come_from_the_networks_trials():
    import xarray

    experiment = working_experiment(CEREBELLUM, [{"mf": 4.0}, {"mf": 40.0}])
    names = list(experiment.names)
    shape = (2, 1, len(names))
    values = {"rate": np.full(shape, 20.0), "rate_sd": np.full(shape, 10.0), "cv": np.full(shape, 0.5),
              "fano": np.full(shape, 1.0)}
    values["rate"][1] = 50.0
    values["cv"][0] = np.nan
    data = xarray.Dataset({k: (("protocol", "seed", "name"), v) for k, v in values.items()}, {"name": names})
    found = {s.source: s for s in presynaptic_statistics(data, experiment)}
    assert set(found) == {"GrC", "GoC", "BC", "SC"}  # Purkinje cells send to nobody here
    goc = found["GoC"]
    assert goc.rate == (20.0, 50.0) and goc.isi_cv == (1.0, 0.5)
    assert goc.rate_cv[0] == pytest.approx(np.sqrt(100.0 - 20.0) / 20.0, abs=1e-4)
