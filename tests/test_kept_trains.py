"""Trains that trials keep, and isolated cells that hear them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automfm_hpc.afferents import MORE_PAIRS
from automfm_hpc.kept_trains import MOST_CELLS, as_trains, hear, kept_cells, packed, unpacked
from automfm_hpc.network import Distribution
from automfm_hpc.remap import Cell, Channel
from automfm_hpc.spikes import Spikes
from automfm_hpc.trains import Trains

BINS, DT = 40, 0.1


def spikes(seed: int, size: int, number: int) -> Spikes:
    rng = np.random.default_rng(seed)
    return Spikes(rng.integers(0, size, number), BINS * (1.0 - rng.random(number)), size, float(BINS))


@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(1, 9), st.integers(0, 200))
def test_trains_come_back_in_their_bins(seed, first, size, number):
    kept = {"a": 3, "b": size}
    recorded = {"a": spikes(seed, 3, first), "b": spikes(seed + 1, size, number)}
    counts = unpacked(packed(recorded, kept, BINS, 1.0), kept)
    assert counts["b"].shape == (size, BINS) and counts["b"].sum() == number
    wanted = np.zeros((size, BINS), int)
    np.add.at(wanted, (recorded["b"].cells, np.ceil(recorded["b"].times).astype(int) - 1), 1)
    np.testing.assert_array_equal(counts["b"], wanted)
    trains = as_trains(counts["b"], 1.0, DT, np.random.default_rng(seed))
    again = np.zeros((size, BINS), int)
    np.add.at(again, (trains.cells, (trains.steps - 1) // 10), 1)
    assert np.all(again <= wanted) and np.all((again > 0) == (wanted > 0))  # two in one step are one
    for a, b in zip(trains.first[:-1], trains.first[1:], strict=True):
        assert np.all(np.diff(trains.steps[a:b]) > 0)


def test_more_spikes_in_a_bin_than_a_byte_holds_are_as_many_as_it_holds():
    crowded = Spikes(np.zeros(300, np.int64), np.full(300, 0.5), 1, 2.0)
    assert packed({"a": crowded}, {"a": 1}, 2, 1.0).tolist() == [[255, 0]]


def test_large_populations_are_not_kept_nor_those_heard_by_the_thousand():
    def channel(source: str, K: float) -> Channel:
        return Channel(source, source, (source,), Distribution(K, 0.0), Distribution(1.0, 0.0), 1.0, None, None, 1.0)

    cell = Cell("x", "iaf_psc_delta", {}, (channel("a", 4.0), channel("b", 4.0), channel("c", MORE_PAIRS + 1.0)))
    assert kept_cells({"a": MOST_CELLS, "b": MOST_CELLS + 1, "c": 1, "d": 1}, [cell]) == {"a": MOST_CELLS}
    assert packed({}, {}, 7, 1.0).shape == (0, 7)


def test_every_pair_hears_one_cell_and_none_twice():
    """Cell c fires c + 1 times, in steps of its own: what arrives tells who was heard."""
    counts = np.arange(1, 7)
    cells = np.repeat(np.arange(6), counts)
    trains = Trains.of(cells, np.concatenate([100 * c + np.arange(1, n + 1) for c, n in enumerate(counts)]), 6)
    owner = np.repeat([0, 2, 3], [6, 4, 8])
    got = hear(trains, owner, np.full(18, 2.0), np.random.default_rng(1))
    assert np.all(got.synapses[got.cell != 3] == 2.0)
    everyone = got.step[got.cell == 0]
    assert everyone.tolist() == trains.steps.tolist()
    for cell, number in ((0, 6), (2, 4)):
        heard = np.unique(got.step[got.cell == cell] // 100)
        assert heard.size == number
        assert np.sum(got.cell == cell) == counts[heard].sum()
    assert got.synapses[got.cell == 3].max() == 4.0  # eight pairs, six cells: two are heard twice
    assert not np.any(got.cell == 1)


def test_who_is_heard_is_chosen_evenly():
    trains = Trains.of(np.arange(5), 10 * np.arange(1, 6), 5)
    got = hear(trains, np.repeat(np.arange(4000), 2), np.ones(8000), np.random.default_rng(2))
    assert np.bincount(got.step // 10)[1:] / 8000 == pytest.approx(np.full(5, 0.2), abs=0.02)
