"""Few cells that stand for many: unbiased, precise, and honest about the error."""

from __future__ import annotations

import numpy as np
import pytest

from automfm_hpc import Network, remap
from automfm_hpc.afferents import Senders, draw_senders
from automfm_hpc.plan import Grid, Plan, Sampling
from automfm_hpc.presynaptic import PresynapticStatistics, statistics_of
from automfm_hpc.representative import choose, estimate, two_sided
from automfm_hpc.simulate import draw_inputs, drive_cells, simulate_chunk

CEREBELLUM = Network.load("cerebellum")
CELLS = {c.population: c for c in remap(CEREBELLUM).cells}
KNOWN = (PresynapticStatistics("GrC", (20.0,), (1.6,), (1.0,)), PresynapticStatistics("BC", (80.0,), (0.8,), (0.5,)))
POINT = {"GrC": 15.0, "BC": 120.0}  # most basket cells are silent, a few fire fast


def candidates(n, seed=1):
    cell, rng = CELLS["BC"], np.random.default_rng(seed)
    inputs = draw_inputs(cell, n, rng)
    rates = np.tile([POINT[a] for a in cell.axes], (n, 1))
    return cell, inputs, draw_senders(cell, inputs, rates, statistics_of(KNOWN), rng), rng


def response(cell, drive):
    """A made-up rate (Hz): 0 for most cells, steep for the rest, bent in both inputs."""
    scale = drive.std(axis=0)
    e, i = (drive / scale).T
    return np.maximum(30.0 * (e + i - np.quantile(e + i, 0.9)) + 2.0 * e * e, 0.0)


def test_chosen_cells_are_an_unbiased_sample_of_rare_firing():
    n, errors, plain = 32, [], []
    for seed in range(200):
        cell, inputs, senders, rng = candidates(n * 16, seed)
        chosen = choose(cell, inputs, senders, n, rng)
        assert chosen.weight.sum() == pytest.approx(1.0) and len(chosen.drive) == n
        known = response(cell, chosen.candidates)
        where = [np.flatnonzero((chosen.candidates == d).all(axis=1))[0] for d in chosen.drive]
        errors.append(chosen.weight @ known[where] - known.mean())
        plain.append(rng.choice(known, n).mean() - known.mean())
    assert abs(np.mean(errors)) < 4.0 * np.std(errors) / np.sqrt(200)
    assert np.std(errors) < 0.6 * np.std(plain)


def test_senders_of_some_cells_drive_them_as_before():
    cell, inputs, senders, _ = candidates(50)
    drive, some = senders.drive(cell, inputs), np.array([3, 17, 40])
    part = senders.of(some)
    np.testing.assert_allclose(part.drive(cell, inputs.of(some)), drive[some])
    again = Senders.joined([senders.of(np.arange(20)), senders.of(np.arange(20, 50))])
    np.testing.assert_allclose(again.drive(cell, inputs), drive)
    assert (np.diff(again.pairs[1].owner) >= 0).all()


def test_what_is_driven_alike_is_a_plain_mean():
    rate = np.array([1.0, 4.0, 7.0, 2.0, 6.0, 4.0])
    same = np.ones((60, 2))
    found = estimate(rate, np.full(6, 1 / 6), same[:6], same)
    assert found.mean == pytest.approx(rate.mean())
    assert found.error == pytest.approx(rate.std(ddof=1) / np.sqrt(6), rel=0.1)
    assert found.fitted == pytest.approx(np.full(60, rate.mean()))


def test_a_rate_that_the_regression_can_follow_is_known_without_error():
    cell, inputs, senders, rng = candidates(64 * 16)
    chosen = choose(cell, inputs, senders, 64, rng)
    net = chosen.candidates.sum(axis=1)

    def rate(drive):
        return 5.0 + np.maximum(drive.sum(axis=1) - np.quantile(net, 0.75), 0.0) * 1e-3

    found = estimate(rate(chosen.drive), chosen.weight, chosen.drive, chosen.candidates)
    assert found.mean == pytest.approx(rate(chosen.candidates).mean(), rel=1e-6)
    assert found.error < 1e-6 * found.mean


def test_inhibition_is_negative_and_lasts():
    cell = CELLS["PC"]
    sides = two_sided(cell, np.ones((1, len(cell.channels))))
    threshold, tau, E = cell.parameters["V_th"], cell.array("tau_syn"), cell.array("E_rev")
    assert sides[0].sum() == pytest.approx(np.sum(tau * (E - threshold)))
    assert sides[0, 0] > 0 > sides[0, 1]


def one_point(seed, sampling):
    axes = CELLS["BC"].axes
    grid = Grid("BC", axes, tuple((POINT[a],) for a in axes), (1, 1))
    plan = Plan(CEREBELLUM, seed, sampling, (grid,), KNOWN)
    return {k: float(v[0, 0]) for k, v in simulate_chunk(plan, plan.tasks()[0]).items()}


def test_basket_cells_are_sampled_without_bias_and_with_an_honest_error():
    """Against many cells drawn at random, each counting alike."""
    cell, inputs, senders, _ = candidates(2000, 9)
    rates, sampling = np.tile([POINT[a] for a in cell.axes], (2000, 1)), Sampling()
    plain = np.concatenate([
        drive_cells(cell, inputs.of(k), rates[k], sampling, 5, senders=senders.of(k)).rate
        for k in np.array_split(np.arange(2000), 4)
    ])  # fmt: skip
    brief = Sampling(budget=80.0, precision=1e-3, floor=1e-3)
    found = [one_point(seed, brief) for seed in range(16)]
    rate, error = (np.array([f[k] for f in found]) for k in ("rate", "rate_sem"))
    assert found[0]["n_cells"] == 64
    assert abs(rate.mean() - plain.mean()) < 4.0 * np.hypot(plain.std() / np.sqrt(2000), rate.std() / 4.0)
    assert 0.35 < rate.std(ddof=1) / np.sqrt(np.mean(error**2)) < 1.4
    assert rate.std(ddof=1) < 0.3 * plain.std() / 8.0  # 64 such cells know what 700 others do


def test_rare_firing_is_not_taken_for_silence():
    """Half a hertz is one cell in a hundred that fires; few cells drawn at random would hardly hold it."""
    grid = Grid("BC", CELLS["BC"].axes, ((5.0,), (150.0,)), (1, 1))
    plan = Plan(CEREBELLUM, 3, Sampling(budget=40.0), (grid,), KNOWN)
    task = plan.tasks()[0]
    found = simulate_chunk(plan, task)
    assert found["n_cells"][0, 0] == 32
    assert found["rate"][0, 0] > 0.0 and found["rate_sem"][0, 0] > 1.0 / 32.0


def test_own_cells_are_sampled_like_drawn_ones():
    """A population that consists of 60 cells: the mean is that of those 60."""
    from dataclasses import replace

    from automfm_hpc.simulate import NOTHING_KNOWN, _round
    from automfm_hpc.tally import Tally

    drawn = CELLS["GoC"]
    own = draw_inputs(drawn, 60, np.random.default_rng(4))
    cell, point = replace(drawn, real=own), np.array([[20.0, 24.0, 11.4]])
    plain = drive_cells(cell, own.of(np.tile(np.arange(60), 5)), np.tile(point, (300, 1)), Sampling(), 8).rate
    tallies = [Tally(cell)]
    _round(cell, Sampling(), point, tallies, np.array([64]), 3, None, NOTHING_KNOWN)
    rate, error = tallies[0].rate()
    cells = plain.reshape(5, 60)
    noise = cells.std(axis=0, ddof=1).mean() / np.sqrt(300)  # their own cells differ, but all of them are here
    assert abs(rate - plain.mean()) < 4.0 * np.hypot(error, noise)
    assert error < 0.5 * cells.mean(axis=0).std() / 8.0
