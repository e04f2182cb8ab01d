"""The fitted mean field of the cerebellum under any drive: random ones of 0 to 300 Hz, far beyond its data.

tests/data/cerebellum_model.json is `MeanField.to_document` of the model that `automfm run cerebellum` made, rounded to
nine digits; its transfer functions cover mossy fibre input of 0 to 100 Hz.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automfm_hpc.batch import solve_batch
from automfm_hpc.mean_field import MeanField
from automfm_hpc.noise import OrnsteinUhlenbeck

DOCUMENT = Path(__file__).parent / "data" / "cerebellum_model.json"
DURATION, MOST = 0.6, 300.0  # s, Hz


@pytest.fixture(scope="module")
def cerebellum() -> MeanField:
    document = json.loads(DOCUMENT.read_text("utf-8"))
    for parts in document["transfer_functions"]:
        parts["arrays"] = {name: np.array(values) for name, values in parts["arrays"].items()}
    return MeanField.from_document(document)


def constant(rng: np.random.Generator) -> Any:
    return rng.uniform(0.0, MOST)


def steps(rng: np.random.Generator) -> Any:
    """Jumps between random levels, within a tenth of a microsecond."""
    times = np.sort(rng.uniform(0.0, DURATION, rng.integers(1, 8)))
    levels = rng.uniform(0.0, MOST, times.size + 1)
    return np.column_stack([np.concatenate([[0.0], np.repeat(times, 2) + np.tile([0.0, 1e-7], times.size)]),
                            np.repeat(levels, 2)[:-1]])  # fmt: skip


def bump(rng: np.random.Generator) -> Any:
    """Gaussian, to 150 Hz, as narrow as 2 ms."""
    t, centre, width = np.linspace(0.0, DURATION, 601), rng.uniform(0.0, DURATION), rng.uniform(0.002, 0.2)
    low = rng.uniform(0.0, 50.0)
    return np.column_stack([t, low + rng.uniform(0.0, 150.0 - low) * np.exp(-0.5 * ((t - centre) / width) ** 2)])


def sine(rng: np.random.Generator) -> Any:
    mean, frequency = rng.uniform(0.0, MOST / 2), rng.uniform(0.5, 50.0)
    return lambda t: mean * (1.0 + np.sin(2.0 * np.pi * frequency * t))


def noise(rng: np.random.Generator) -> Any:
    table = OrnsteinUhlenbeck(rng.uniform(0.0, 150.0), rng.uniform(0.0, 60.0), rng.uniform(2.0, 50.0), DURATION,
                              int(rng.integers(2**31))).course  # fmt: skip
    return np.column_stack([table[:, 0], np.minimum(table[:, 1], MOST)])


def polygon(rng: np.random.Generator) -> Any:
    times = np.cumsum(rng.exponential(0.05, 30)) - 0.01
    return np.column_stack([times, rng.uniform(0.0, MOST, times.size)])


KINDS = (constant, steps, bump, sine, noise, polygon)


def drives(n: int, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{"mf": KINDS[k % len(KINDS)](rng)} for k in range(n)]


def check(model: MeanField, asked: list[dict[str, Any]], solved: Any) -> dict[str, int]:
    """No solution may be improper, and none may leave a domain unreported; counts of statuses."""
    rate, c = solved.rate.values, solved.covariance.values
    top = 1000.0 / model.system.T[: len(model.populations)]
    assert np.isfinite(rate).all() and np.isfinite(c).all()
    assert (rate >= 0.0).all() and (rate < top).all()
    np.testing.assert_allclose(c, np.swapaxes(c, -1, -2), rtol=1e-12, atol=1e-12)
    trace = np.trace(c, axis1=-2, axis2=-1)
    assert (np.diagonal(c, axis1=-2, axis2=-1) >= 0.0).all()
    assert (np.linalg.eigvalsh(c)[..., 0] >= -1e-9 * np.maximum(trace, 1.0)).all()
    reported: dict[int, set[str]] = {}
    for event in solved.attrs["events"]:
        if event["status"] == "out_of_domain":
            reported.setdefault(event["drive"], set()).add(event["where"])
    left = 0
    for k, drive in enumerate(asked):
        outside = leaves(model, drive["mf"], rate[k])
        assert outside <= reported.get(k, set()), (k, outside, reported.get(k))
        assert not outside or solved.status.values[k] != "ok"
        left += bool(outside)
    counts = dict(zip(*np.unique(solved.status.values, return_counts=True), strict=True))
    return {str(status): int(n) for status, n in counts.items()} | {"left": left}


def leaves(model: MeanField, drive: Any, rate: np.ndarray) -> set[str]:
    """``target<-source`` of every axis that the samples, or a constant or sampled drive, leave by more than 1e-5."""
    mf = np.asarray(drive(np.linspace(0.0, DURATION, 6001)) if callable(drive) else drive, float)
    if mf.ndim == 2:
        inside = mf[(mf[:, 0] >= 0.0) & (mf[:, 0] < DURATION), 1]
        mf = np.concatenate([inside, np.interp([0.0, DURATION - 1e-9], mf[:, 0], mf[:, 1])])
    values = {name: rate[:, i] for i, name in enumerate(model.populations)} | {"mf": np.atleast_1d(mf)}
    return {
        f"{target}<-{source}"
        for target, axes in model.domain.items() for source, (low, high) in axes.items()
        if values[source].max() > high + 1e-5 * (high - low) or values[source].min() < low - 1e-5 * (high - low)
    }  # fmt: skip


def test_any_drive_with_adaptive_steps(cerebellum: MeanField) -> None:
    asked = drives(300, seed=0)
    found = check(cerebellum, asked, cerebellum.solve_many(asked, adaptive=True, duration=DURATION, every=20))
    assert found["left"] > 100 and found.get("ok", 0) > 20  # both kinds are there


def test_any_drive_with_fixed_steps(cerebellum: MeanField) -> None:
    asked = drives(24, seed=1)
    check(cerebellum, asked, cerebellum.solve_many(asked, duration=DURATION, every=10))


def test_fixed_and_adaptive_steps_agree_far_outside_the_domain(cerebellum: MeanField) -> None:
    asked = [d for d in drives(36, seed=2) if not callable(d["mf"])]
    quick = cerebellum.solve_many(asked, adaptive=True, duration=DURATION, every=50)
    fixed = cerebellum.solve_many(asked, duration=DURATION, dt=0.05, every=100)
    assert "diverged" not in quick.status.values
    np.testing.assert_allclose(quick.rate, fixed.rate, rtol=0.02, atol=0.5)  # fixed steps know jumps only as ramps


@pytest.mark.slow
def test_ten_thousand_drives(cerebellum: MeanField) -> None:
    total: dict[str, int] = {}
    for seed in range(20):
        asked = drives(500, seed=100 + seed)
        solved = solve_batch([cerebellum], asked, duration=DURATION, every=20, lead=("drive",))
        for status, n in check(cerebellum, asked, solved).items():
            total[status] = total.get(status, 0) + n
    assert sum(n for status, n in total.items() if status != "left") == 10_000
    print(total)
