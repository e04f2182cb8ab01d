"""Drives over time: the same time course goes to the spiking network and to the mean field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import UsageError, suggest
from automfm_hpc.noise import fluctuation

FloatArray = NDArray[np.float64]
RESOLUTION = 1.0  # ms between the samples of a time course


@dataclass(frozen=True)
class Protocol:
    """One named drive of one input, the others staying constant.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    input : str
        The input that varies.
    background : Mapping
        Constant rate (Hz) of every input.
    settings : Mapping
        Numbers of the kind, see `KINDS`.
    presimulation, duration : float
        ms at the background before the protocol starts, and of one cycle of the protocol.
    cycles : int
        How often the protocol runs, one cycle after the other, without a break.
    """

    kind: str
    input: str
    background: Mapping[str, float]
    settings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    presimulation: float = 500.0
    duration: float = 1000.0
    cycles: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"unknown protocol '{self.kind}'", remedy=suggest(self.kind, KINDS))
        if self.input not in self.background:
            raise UsageError(f"no input '{self.input}'", where="protocol", remedy=suggest(self.input, self.background))
        if self.cycles < 1:
            raise UsageError(f"{self.cycles} cycles of a protocol", where="protocol", remedy="Ask for 1 or more.")
        known = KINDS[self.kind][1]
        for key in self.settings:
            if key not in known:
                raise UsageError(f"unknown setting '{key}' of {self.kind}", remedy=suggest(key, known))

    @property
    def name(self) -> str:
        """Short and unique: ``constant mf=20``, ``sine of mf: mf=20 amplitude=10 frequency=4``."""
        head = self.kind if self.kind == "constant" else f"{self.kind} of {self.input}:"
        numbers = [*self.background.items(), *self.settings.items()]
        often = [f"cycles={self.cycles}"] if self.cycles > 1 else []
        return " ".join([head, *(f"{k}={v:g}" for k, v in numbers), *often])

    @property
    def whole(self) -> float:
        """ms of all cycles."""
        return self.duration * self.cycles

    def setting(self, key: str) -> float:
        return float(self.settings.get(key, KINDS[self.kind][1][key]))

    def times(self) -> FloatArray:
        """Times (ms) from the start of a cycle, RESOLUTION apart, both ends included."""
        return np.arange(0.0, self.duration + RESOLUTION / 2, RESOLUTION)

    def rate(self) -> FloatArray:
        """Rate (Hz) of the input at `times`; never negative."""
        shape = KINDS[self.kind][0]
        return np.maximum(self.background[self.input] + shape(self, self.times()), 0.0)

    def steps(self) -> FloatArray:
        """Mean rate (Hz) of the input in each step of RESOLUTION, over all cycles."""
        rate = self.rate()
        return np.tile(0.5 * (rate[1:] + rate[:-1]), self.cycles)

    def course(self) -> dict[str, FloatArray]:
        """Mean rate (Hz) of every input in each step of RESOLUTION, over all cycles."""
        constant = {name: np.full(round(self.whole / RESOLUTION), rate) for name, rate in self.background.items()}
        return constant | {self.input: self.steps()}

    def drive(self) -> dict[str, Any]:
        """For `MeanField.solve`: presimulation and protocol as times (s) and rates (Hz); constants stay numbers."""
        if self.kind == "constant":
            return dict(self.background)
        before = np.array([[0.0, self.background[self.input]], [self.presimulation, self.background[self.input]]])
        one = self.times() + 1e-6  # a cycle may end elsewhere than it starts: both ends, an instant apart
        one[-1] -= 0.5e-6
        at = (self.presimulation + self.duration * np.arange(self.cycles)[:, None] + one).ravel()
        table = np.concatenate([before, np.column_stack([at, np.tile(self.rate(), self.cycles)])])
        table[:, 0] /= 1000.0
        return {**self.background, self.input: table}

    def to_dict(self) -> dict[str, Any]:
        data = {"kind": self.kind, "input": self.input, "background": dict(self.background),
                "settings": dict(self.settings), "presimulation": self.presimulation, "duration": self.duration}
        return data | ({"cycles": self.cycles} if self.cycles > 1 else {})  # as in stores written before there were any

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Protocol:
        return Protocol(**data)


def _constant(p: Protocol, t: FloatArray) -> FloatArray:
    return np.zeros_like(t)


def _step(p: Protocol, t: FloatArray) -> FloatArray:
    on = (t >= p.setting("start")) & (t < p.setting("start") + p.setting("length"))
    return np.asarray(p.setting("amplitude") * on, float)


def _bump(p: Protocol, t: FloatArray) -> FloatArray:
    return p.setting("amplitude") * np.exp(-0.5 * ((t - p.setting("centre")) / p.setting("sigma")) ** 2)


def _sine(p: Protocol, t: FloatArray) -> FloatArray:
    return p.setting("amplitude") * np.sin(2 * np.pi * p.setting("frequency") * t / 1000.0)


def _noise(p: Protocol, t: FloatArray) -> FloatArray:
    """Ornstein-Uhlenbeck, see `noise`."""
    return p.setting("sd") * fluctuation(t.size, RESOLUTION, p.setting("tau"), int(p.setting("seed")))


def _bursts(p: Protocol, t: FloatArray) -> FloatArray:
    phase = (t - p.setting("start")) % p.setting("period")
    number = (t - p.setting("start")) // p.setting("period")
    on = (phase < p.setting("length")) & (number >= 0) & (number < p.setting("count"))
    return np.asarray(p.setting("amplitude") * on, float)


Shape = Callable[[Protocol, FloatArray], FloatArray]

# kind -> (rate above background, default settings: Hz, ms)
KINDS: Mapping[str, tuple[Shape, Mapping[str, float]]] = MappingProxyType({
    "constant": (_constant, {}),
    "step": (_step, {"amplitude": 20.0, "start": 250.0, "length": 500.0}),
    "bump": (_bump, {"amplitude": 30.0, "centre": 500.0, "sigma": 50.0}),
    "sine": (_sine, {"amplitude": 10.0, "frequency": 5.0}),
    "noise": (_noise, {"sd": 5.0, "tau": 20.0, "seed": 1.0}),
    "bursts": (_bursts, {"amplitude": 40.0, "start": 200.0, "period": 200.0, "length": 30.0, "count": 4.0}),
})  # fmt: skip


def constant(background: Mapping[str, float], duration: float = 1000.0, presimulation: float = 500.0) -> Protocol:
    """Constant rates (Hz) of all inputs."""
    return Protocol("constant", next(iter(background)), background, presimulation=presimulation, duration=duration)
