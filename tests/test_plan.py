"""Plans: their identity, their seeds, their grids, the working points they are laid out around."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automfm_hpc import Network
from automfm_hpc.description import builtin_names
from automfm_hpc.errors import NetworkError, PlanError
from automfm_hpc.plan import MARGIN, Grid, Plan, Sampling, chunk_shape, make_plan, read_working_points, spaced
from automfm_hpc.provenance import canonical_json, content_hash, seed_for

CEREBELLUM = Network.load("cerebellum")
PLAN = make_plan(CEREBELLUM, points=5)


# --- identity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", builtin_names())
def test_a_plan_survives_json(name, tmp_path):
    plan = make_plan(Network.load(name), points=5, seed=3)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan.to_dict()), "utf-8")
    again = Plan.read(file)
    assert again == plan
    assert again.id == plan.id
    assert again.tasks() == plan.tasks()


def test_the_same_plan_has_the_same_name():
    assert make_plan(Network.load("cerebellum"), points=5).id == PLAN.id
    assert len(PLAN.id) == 16


@pytest.mark.parametrize("other", [
    make_plan(CEREBELLUM, points=6), make_plan(CEREBELLUM, points=5, seed=2),
    make_plan(CEREBELLUM, points=5, variant="ataxia"), replace(PLAN, sampling=replace(PLAN.sampling, precision=0.03)),
    replace(PLAN, sampling=replace(PLAN.sampling, heterogeneous=False)), replace(PLAN, grids=PLAN.grids[:2]),
])  # fmt: skip
def test_whatever_changes_results_changes_the_name(other):
    assert other.id != PLAN.id


VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=5)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=6))
def test_hashes_do_not_depend_on_order(data):
    turned = dict(reversed(list(data.items())))
    assert content_hash(data) == content_hash(turned)
    assert json.loads(canonical_json(data)) == data


def test_hashes_take_numpy_but_no_nan():
    assert content_hash({"a": np.arange(3), "b": np.float64(0.1)}) == content_hash({"b": 0.1, "a": [0, 1, 2]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"a": float("nan")})


# --- seeds ----------------------------------------------------------------------------------------


@given(st.integers(0, 2**40), st.lists(st.integers(0, 10**6) | st.text(max_size=8), max_size=4))
def test_seeds_are_what_nest_wants(root, key):
    assert 1 <= seed_for(root, *key) < 2**31
    assert seed_for(root, *key) == seed_for(root, *key)


def test_every_task_has_its_own_seed():
    plan = make_plan(CEREBELLUM)
    seeds = [t.seed for t in plan.tasks()]
    assert len(set(seeds)) == len(seeds) == sum(math.prod(g.chunk_counts) for g in plan.grids) > 100
    other = {t.seed for t in make_plan(CEREBELLUM, seed=2).tasks()}
    assert not other & set(seeds)


def test_seeds_do_not_depend_on_other_populations():
    full = {(t.population, t.chunk): t.seed for t in PLAN.tasks()}
    for grid in PLAN.grids:
        alone = replace(PLAN, grids=(grid,))
        assert {(t.population, t.chunk): t.seed for t in alone.tasks()}.items() <= full.items()


def test_names_of_seeds_cannot_be_confused():
    assert len({seed_for(1, "GrC", 11), seed_for(1, "GrC1", 1), seed_for(11, "GrC", 1), seed_for(1, "GrC", "11")}) == 4


# --- grids ----------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.lists(st.integers(1, 7), min_size=0, max_size=3), st.integers(1, 30))
def test_chunks_cover_every_point_once(first, last):
    shape = [*first, last]
    coordinates = tuple(tuple(float(k) for k in range(n)) for n in shape)
    grid = Grid("P", tuple("abcd"[: len(shape)]), coordinates, chunk_shape(tuple(shape)))
    seen = np.zeros(shape, int)
    for task in grid.tasks(1):
        block = tuple(slice(a, b) for a, b in task.slices)
        seen[block] += 1
        points = grid.points(task)
        assert points.shape == (seen[block].size, len(shape))
        mesh = np.stack(np.meshgrid(*[c[s] for c, s in zip(map(np.asarray, coordinates), block)], indexing="ij"), -1)
        assert np.array_equal(points, mesh.reshape(-1, len(shape)))
    assert (seen == 1).all()


@given(st.floats(0, 50), st.floats(0.5, 500), st.integers(4, 40))
def test_rates_of_an_axis_rise_from_end_to_end(low, width, n):
    rates = np.array(spaced(low, low + width, n))
    assert len(rates) == n
    assert rates[[0, -1]] == pytest.approx([low, low + width], rel=1e-5)
    assert (np.diff(rates) > 0).all()
    assert np.diff(rates)[0] < np.diff(rates)[-1]


def test_grids_reach_beyond_the_working_points():
    for grid in PLAN.grids:
        for axis, rates in zip(grid.axes, grid.coordinates):
            top = 100.0 if axis == "mf" else MARGIN * max(CEREBELLUM.working_points[axis])
            assert rates[0] == 0.0
            assert rates[-1] == pytest.approx(top, rel=1e-5)


def test_axes_are_the_sources_of_a_population():
    assert {g.population: g.axes for g in PLAN.grids} == {
        "GrC": ("mf", "GoC"), "GoC": ("mf", "GoC", "GrC"), "BC": ("GrC", "BC"), "SC": ("GrC", "SC"),
        "PC": ("GrC", "BC", "SC")}  # fmt: skip
    assert PLAN.grid("PC").shape == (5, 5, 5)


def test_long_tasks_come_first():
    axes = [len(PLAN.grid(t.population).axes) for t in PLAN.tasks()]
    assert axes == sorted(axes, reverse=True)
    assert Counter(t.population for t in PLAN.tasks())["PC"] == 25


def test_slow_adaptation_lengthens_the_transient():
    assert PLAN.sampling.transient == 250.0
    assert make_plan(Network.load("adex_cortex")).sampling.transient == 2000.0


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "words"), [
    ({"precision": 0.0}, "sampling.precision"), ({"precision": -1.0}, "sampling.precision"),
    ({"precision": math.inf}, "sampling.precision"), ({"budget": math.nan}, "sampling.budget"),
    ({"floor": 0.0}, "sampling.floor"), ({"dt": -0.1}, "sampling.dt"), ({"window": 0.0}, "sampling.window"),
    ({"transient": -1.0}, "sampling.transient"), ({"first_cells": 15}, "sampling.first_cells"),
    ({"budget": 19.9}, "sampling.budget: 19.9 s are too few for the 16 cells.*at least 20 s"),
])  # fmt: skip
def test_impossible_sampling(changes, words):
    with pytest.raises(PlanError, match=words):
        Sampling(**changes)


def test_a_budget_may_be_just_enough():
    assert Sampling(budget=20.0).affordable == 16
    assert Sampling(budget=40.0).affordable == 32


def test_impossible_plans():
    with pytest.raises(PlanError, match=r"3 points per axis.*at least 4"):
        make_plan(CEREBELLUM, points=3)
    with pytest.raises(NetworkError, match="'ataxia'"):
        make_plan(CEREBELLUM, variant="ataxa")
    with pytest.raises(PlanError, match=r"cerebellum: G[a-zA-Z]+: its range of rates is not known.*--working-points"):
        make_plan(CEREBELLUM, working_points={})
    with pytest.raises(PlanError, match=r"no population 'GrCC'.*'GrC'"):
        PLAN.grid("GrCC")


@pytest.mark.parametrize(("content", "words"), [
    ("{", "not valid JSON"), ("[]", "is not a plan"), ("{}", "is not a plan"), ("null", "is not a plan"),
    ('{"format": 99}', "has format 99, this program reads 1"),
    (json.dumps({**PLAN.to_dict(), "sampling": {"speed": 1}}), "is not a plan"),
    (json.dumps({**PLAN.to_dict(), "network": {}}), "needs the key"),
])  # fmt: skip
def test_files_that_are_no_plan(content, words, tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(content, "utf-8")
    with pytest.raises((PlanError, NetworkError), match=words) as caught:
        Plan.read(file)
    assert str(file) in str(caught.value)


def test_a_missing_plan(tmp_path):
    with pytest.raises(PlanError, match=r"no such plan.*automfm plan"):
        Plan.read(tmp_path / "plan.json")


# --- working points from a file -------------------------------------------------------------------


def table(tmp_path, text):
    file = tmp_path / "rates.csv"
    file.write_text(text, "utf-8")
    return file


def test_working_points_from_a_table(tmp_path):
    file = table(tmp_path, "mf,GrC,GoC,MLI,PC\n4,3.6,12,20.8,91\n76,nan,54,119,181\n")
    points = read_working_points(file, CEREBELLUM)
    assert points["GoC"] == (12.0, 54.0)
    assert points["BC"] == points["SC"] == (20.8, 119.0)
    plan = make_plan(CEREBELLUM, working_points=points)
    ends = {axis: rates[-1] for g in plan.grids for axis, rates in zip(g.axes, g.coordinates)}
    assert ends == pytest.approx({"mf": 100, "GoC": 54 * 1.25, "GrC": 3.6 * 1.25, "BC": 119 * 1.25, "SC": 119 * 1.25})


def test_an_own_column_counts_more_than_its_groups(tmp_path):
    points = read_working_points(table(tmp_path, "MLI,BC\n10,20\n"), CEREBELLUM)
    assert (points["BC"], points["SC"]) == ((20.0,), (10.0,))


@pytest.mark.parametrize(("text", "words"), [
    ("GrC,GoCC\n1,2\n", r"unknown column 'GoCC'.*'GoC'"), ("GrC\nnan\n", r"holds no finite rate.*one column"),
    ("GrC\n-3\n", "holds no finite rate"), ("", "holds no finite rate"), ("GrC,GoC\n", "holds no finite rate"),
    ("GrC\nfast\n", "is not a table of rates"), ("GrC,GoC\n1\n", "is not a table of rates"),
    ("GrC\n1,2\n", "is not a table of rates"), ("GrC\ninf\n", "holds no finite rate"),
])  # fmt: skip
def test_tables_that_cannot_be_used(text, words, tmp_path):
    file = table(tmp_path, text)
    with pytest.raises(PlanError, match=words) as caught:
        read_working_points(file, CEREBELLUM)
    assert str(file) in str(caught.value)


def test_a_missing_table(tmp_path):
    with pytest.raises(PlanError, match="No such file"):
        read_working_points(tmp_path / "none.csv", CEREBELLUM)
    with pytest.raises(PlanError, match="cannot be read"):
        read_working_points(tmp_path, CEREBELLUM)


def test_a_population_left_out_of_the_table_is_named(tmp_path):
    points = read_working_points(table(tmp_path, "GrC,MLI\n4,20\n"), CEREBELLUM)
    with pytest.raises(PlanError, match="cerebellum: GoC"):
        make_plan(CEREBELLUM, working_points=points)


def test_working_points_as_published_one_row_per_population_and_rate(tmp_path):
    file = tmp_path / "rates.csv"
    file.write_text("population,mossy_rate_Hz,mean_Hz,sd_across_cells_Hz,active\n"
                    "GrC,4,4.0,3.4,0.5\nGrC,20,12,15,\nMLI,4,20,12,\nMLI,20,47,30,\n")
    points = read_working_points(file, Network.load("cerebellum"))
    assert points["GrC"] == (2.0, 12.0) and points["BC"] == points["SC"] == (20.0, 47.0)
    assert points["mf"] == (4.0, 20.0)
