"""Drives over time: closed forms, and the same integral over every millisecond for network and mean field."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from automfm_hpc import Network
from automfm_hpc.drive import tabulate
from automfm_hpc.errors import UsageError
from automfm_hpc.protocols import KINDS, Protocol, constant
from automfm_hpc.spiking import SOURCE_DELAY, Built, apply_protocol

BASE = {"mf": 20.0}


def protocol(kind, duration=1000.0, **settings):
    return Protocol(kind, "mf", BASE, settings, presimulation=300.0, duration=duration)


def test_shapes_are_what_they_are_called():
    t = np.arange(1001.0)
    assert constant(BASE).rate() == pytest.approx(20.0)
    step = protocol("step", amplitude=7.0, start=100.0, length=50.0).rate() - 20.0
    assert (step == 7.0).sum() == 50 and step[100] == 7.0 and step[99] == 0.0 and step[150] == 0.0
    bump = protocol("bump", amplitude=9.0, centre=400.0, sigma=30.0).rate() - 20.0
    assert bump[400] == 9.0 and bump[370] == pytest.approx(9.0 * np.exp(-0.5))
    assert bump.sum() == pytest.approx(9.0 * 30.0 * np.sqrt(2 * np.pi), rel=1e-6)
    sine = protocol("sine", amplitude=5.0, frequency=4.0).rate() - 20.0
    assert sine == pytest.approx(5.0 * np.sin(2 * np.pi * 4.0 * t / 1000.0), abs=1e-9)
    bursts = protocol("bursts", amplitude=30.0, start=100.0, period=250.0, length=20.0, count=3.0).rate() - 20.0
    starts = np.flatnonzero(np.diff(bursts) > 0) + 1
    assert starts.tolist() == [100, 350, 600] and (bursts > 0).sum() == 60


def test_noise_has_its_standard_deviation_and_time_constant_and_is_frozen_by_its_seed():
    p = Protocol("noise", "mf", {"mf": 100.0}, {"sd": 4.0, "tau": 20.0}, duration=400_000.0)
    x = p.rate() - 100.0
    samples = x.size / 40.0  # effective
    assert x.std() == pytest.approx(4.0, rel=5 / np.sqrt(2 * samples))
    for lag in (10, 20, 50):
        assert np.mean(x[lag:] * x[:-lag]) / x.var() == pytest.approx(np.exp(-lag / 20.0), abs=0.05)
    assert np.array_equal(p.rate(), p.rate())
    other = Protocol("noise", "mf", {"mf": 100.0}, {"sd": 4.0, "tau": 20.0, "seed": 2.0})
    assert not np.allclose(other.rate(), p.rate()[:1001])


def test_rates_are_never_negative():
    assert protocol("step", amplitude=-50.0).rate().min() == 0.0
    assert protocol("sine", amplitude=100.0).rate().min() == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_protocol_comes_back_from_plain_data(kind):
    p = protocol(kind)
    again = Protocol.from_dict(p.to_dict())
    assert again == p and np.array_equal(again.rate(), p.rate()) and again.name == p.name


def test_names_tell_protocols_apart_and_which_input_varies():
    two = {"mf": 4.0, "cf": 1.0}
    names = {Protocol(k, i, two).name for k in KINDS for i in two}
    assert len(names) == 2 * len(KINDS) - 1  # a constant drive is the same for both
    assert constant(BASE).name == "constant mf=20"
    assert protocol("sine", frequency=4.0).name == "sine of mf: mf=20 frequency=4"


@pytest.mark.parametrize(("change", "words"), [
    ({"kind": "sinus"}, "unknown protocol 'sinus'. Did you mean 'sine'?"),
    ({"input": "fm"}, "no input 'fm'"),
    ({"settings": {"amplitud": 3.0}}, "unknown setting 'amplitud' of sine. Did you mean 'amplitude'?"),
])  # fmt: skip
def test_mistakes_are_named(change, words):
    good = {"kind": "sine", "input": "mf", "background": BASE, "settings": {}}
    with pytest.raises(UsageError, match=words.replace("?", r"\?").replace("(", r"\(")):
        Protocol(**(good | change))


@dataclass
class Generator:
    """Takes what NEST's generator would be given."""

    values: dict = field(default_factory=dict)

    def set(self, **values):
        self.values = values


def applied(network, p, now=0.0):
    """Spikes expected in every millisecond from the start of the trial, of every generator."""
    built = Built({}, {}, {i.name: tuple(Generator() for q in network.projections if q.source == i.name)
                           if i.sources is None else (Generator(),) for i in network.inputs})
    apply_protocol(SimpleNamespace(biological_time=now), network, p, built)
    edges = now + np.arange(p.presimulation + p.whole + 1.0)
    found = {}
    for name, generators in built.generators.items():
        found[name] = []
        for g in generators:
            at, rates = g.values["rate_times"], g.values["rate_values"]
            assert (np.diff(at) > 0).all() and at[0] > now
            total = np.concatenate([[0.0], np.cumsum(np.diff(at) * rates[:-1])])
            beyond = total[-1] + (edges - at[-1]) * rates[-1]
            area = np.where(edges <= at[-1], np.interp(edges, at, total), beyond)
            found[name].append(np.diff(area))
    return found


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "constant"])
@pytest.mark.parametrize(("now", "cycles"), [(0.0, 1), (700.0, 1), (0.0, 3)])
def test_network_and_mean_field_get_the_same_integral_over_every_millisecond(kind, now, cycles):
    """Private inputs: the generator's piecewise constant rate against the mean field's interpolated one."""
    network = Network.load("brunel")
    p = Protocol(kind, "ext", {"ext": 20.0}, presimulation=300.0, cycles=cycles)
    n = 300 + 1000 * cycles
    times = np.arange(0.0, n + 1e-9, 0.01) / 1000.0
    fine = tabulate(p.drive(), ("ext",), times)[:, 0]
    area = np.add.reduceat(0.5 * (fine[1:] + fine[:-1]) * 0.01, np.arange(0, 100 * n, 100))
    for total in applied(network, p, now)["ext"]:
        assert total[1:] / 1000.0 == pytest.approx(area[1:], rel=2e-3)  # K = 1000 sources per cell


def test_cycles_follow_one_another_and_are_told_apart():
    one, three = (Protocol("bump", "mf", BASE, cycles=n) for n in (1, 3))
    assert three.whole == 3000.0 and np.array_equal(three.steps(), np.tile(one.steps(), 3))
    assert three.name == f"{one.name} cycles=3" and Protocol.from_dict(three.to_dict()) == three
    assert "cycles" not in one.to_dict()  # trials of earlier versions are found again
    with pytest.raises(UsageError, match="0 cycles"):
        Protocol("bump", "mf", BASE, cycles=0)


def test_shared_sources_are_started_earlier_by_the_delay_on_their_way():
    network = Network.load("cerebellum")
    p = Protocol("step", "mf", BASE, {"amplitude": 30.0, "start": 200.0, "length": 100.0}, presimulation=300.0)
    (course,) = applied(network, p)["mf"]
    first = int(np.argmax(course > 20.0 * 1.01))
    assert first == 300 + 200 - 1 - SOURCE_DELAY  # half of the rise lies in the millisecond before the step
    assert course[first] == pytest.approx(35.0) and course[first + 1] == pytest.approx(50.0)


def test_courses_hold_every_input_in_bins():
    p = Protocol("step", "a", {"a": 10.0, "b": 3.0}, {"amplitude": 5.0, "start": 2.0, "length": 4.0}, 0.0, 10.0, 2)
    courses = p.course()
    assert courses["b"].tolist() == [3.0] * 20
    assert courses["a"].tolist() == p.steps().tolist() and courses["a"][:10].sum() == pytest.approx(100.0 + 5.0 * 4.0)
