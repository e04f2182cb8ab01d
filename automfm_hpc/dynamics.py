"""How presynaptic rates reach a transfer function in time: delays, synapses, and the cell's own response.

A transfer function F_i is stationary. In time, axis k of population i (the inputs from source s) sees

    y_k(t) = (g_k * p_k * nu_s)(t)

p_k : pathways. Their weights w_p (shares of the axis's mean conductance) sum to 1; each delays by d_p and passes the
    shape of its post-synaptic conductance: P_k(f) = sum_p w_p exp(-2 pi i f d_p) / (1 + 2 pi i f tau_p)^n_p, with
    n_p = 2 for alpha, 1 for exponential, 0 for delta synapses.
g_k : the cell: membrane, adaptation, spike generation. G_k(f) = 1 + sum_m r_km (1 / (1 + 2 pi i f tau_m) - 1), a
    mixture of low-pass filters of fixed time constants tau_m, whose coefficients depend on the rate of population i.
    G_k(0) = 1 for any coefficients: the stationary state is the transfer function's.

The rate of the population follows as T_i dnu_i/dt = F_i(y) - nu_i. So the frequency response of an isolated population
to source s is dF_i/dnu_s G_k(f) P_k(f) / (1 + 2 pi i f T_i): a linear-nonlinear cascade (Ostojic & Brunel 2011,
doi 10.1371/journal.pcbi.1001056).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import MeanFieldError
from automfm_hpc.remap import Channel, MeanFieldParameters

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
POLES = {"alpha": 2, "exponential": 1, "delta": 0}


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Linear filters before every axis of every transfer function; axes in the order of `MeanField.axis_labels`.

    Parameters
    ----------
    axis : (n_pathway,) array of int
        The axis a pathway belongs to; not decreasing, and every axis has at least one.
    weight : (n_pathway,) array
        Share of the axis; those of one axis sum to 1.
    delay, tau_syn : (n_pathway,) array
        ms; a delta synapse has tau_syn 0.
    poles : (n_pathway,) array of int
        2 alpha, 1 exponential, 0 delta.
    time_constants : (n_basis,) array
        tau_m of the cells' mixtures (ms); may be empty: cells answer at once.
    knots : (n_population, n_knot) array
        Rates (Hz) of each population, increasing, at which its coefficients are given; constant beyond.
    mixture : (n_axis, n_knot, n_basis) array
        Coefficients r.
    """

    axis: NDArray[np.int64]
    weight: FloatArray
    delay: FloatArray
    tau_syn: FloatArray
    poles: NDArray[np.int64]
    time_constants: FloatArray
    knots: FloatArray
    mixture: FloatArray

    def __post_init__(self) -> None:
        for name in ("axis", "poles"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64))
        for name in ("weight", "delay", "tau_syn", "time_constants", "knots", "mixture"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
        n_axis, n_knot, n_basis = self.mixture.shape
        share = np.bincount(self.axis, self.weight, n_axis)
        _require(bool(np.all(np.diff(self.axis) >= 0)) and share.size == n_axis, "pathways must be sorted by axis")
        _require(bool(np.allclose(share, 1.0, atol=1e-9)), "the weights of an axis must sum to 1")
        _require(self.knots.shape[1:] == (n_knot,) and self.time_constants.shape == (n_basis,),
                 "knots, mixture and time constants do not fit together")
        _require(bool(np.all(np.diff(self.knots, axis=1) > 0)), "knots must increase")
        _require(bool((self.delay >= 0).all() and (self.tau_syn >= 0).all() and (self.time_constants > 0).all()),
                 "delays and time constants must not be negative")
        numbers = (self.weight, self.delay, self.tau_syn, self.time_constants, self.knots, self.mixture)
        _require(all(bool(np.isfinite(x).all()) for x in numbers), "numbers must be finite")

    @property
    def n_axis(self) -> int:
        return self.mixture.shape[0]

    @staticmethod
    def of_synapses(parameters: MeanFieldParameters) -> Dynamics:
        """Delays and synapses of a network; the cells themselves answer at once."""
        axis, rows = 0, []
        for cell in parameters.cells:
            for source in cell.axes:
                channels = [c for c in cell.channels if c.source == source]
                shares = np.array([_share(c) for c in channels])
                for c, share in zip(channels, shares / shares.sum(), strict=True):
                    rows.append((axis, share, c.delay, c.tau_syn or 0.0, POLES[cell.neuron.synapse]))
                axis += 1
        axes, weight, delay, tau_syn, poles = (np.array(column) for column in zip(*rows, strict=True))
        return Dynamics(axes, weight, delay, tau_syn, poles, np.zeros(0), np.zeros((len(parameters.cells), 1)),
                        np.zeros((axis, 1, 0)))

    def check(self, axes: Sequence[int]) -> None:
        """Raise MeanFieldError unless the populations have these numbers of axes, (n_population,)."""
        _require(self.n_axis == sum(axes), f"filters for {self.n_axis} axes, the transfer functions have {sum(axes)}")
        _require(len(self.knots) == len(axes), f"knots for {len(self.knots)} populations, there are {len(axes)}")

    def pathways(self, frequency: FloatArray) -> ComplexArray:
        """P_k at frequencies (n_frequency,) in Hz: (n_frequency, n_axis)."""
        s = 2.0j * np.pi * np.asarray(frequency, float)[:, None] / 1000.0
        each = self.weight * np.exp(-s * self.delay) / (1.0 + s * self.tau_syn) ** self.poles
        first = np.searchsorted(self.axis, np.arange(self.n_axis))
        return np.asarray(np.add.reduceat(each, first, axis=1), complex)

    def cells(self, frequency: FloatArray, rates: FloatArray, axis_start: NDArray[np.int64]) -> ComplexArray:
        """G_k at frequencies (n_frequency,) in Hz and rates (n_population,) in Hz: (n_frequency, n_axis).

        `axis_start` (n_population + 1,): the first axis of each population, as in `response.System`.
        """
        s = 2.0j * np.pi * np.asarray(frequency, float)[:, None] / 1000.0
        low_pass = 1.0 / (1.0 + s * self.time_constants) - 1.0
        return 1.0 + low_pass @ self.coefficients(rates, axis_start).T

    def coefficients(self, rates: FloatArray, axis_start: NDArray[np.int64]) -> FloatArray:
        """r at the populations' rates, interpolated linearly between knots: (n_axis, n_basis)."""
        out = np.empty((self.n_axis, self.time_constants.size))
        for i, rate in enumerate(rates):
            place = np.interp(rate, self.knots[i], np.arange(self.knots.shape[1]))
            low = min(int(place), max(self.knots.shape[1] - 2, 0))
            high, part = min(low + 1, self.knots.shape[1] - 1), place - low
            mine = slice(axis_start[i], axis_start[i + 1])
            out[mine] = (1.0 - part) * self.mixture[mine, low] + part * self.mixture[mine, high]
        return out

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as named arrays; `from_arrays` reads them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Dynamics:
        return Dynamics(**{name: np.asarray(arrays[name]) for name in Dynamics.__dataclass_fields__})


def instant_pathways(parameters: MeanFieldParameters, frequency: FloatArray) -> ComplexArray:
    """P_k of a network without its delays at frequencies (n_frequency,) in Hz: (n_frequency, n_axis)."""
    synapses = Dynamics.of_synapses(parameters)
    return replace(synapses, delay=np.zeros_like(synapses.delay)).pathways(frequency)


def _share(c: Channel) -> float:
    """Mean conductance (or current, or drift of the potential) per rate, up to a factor common to an axis."""
    return c.K * c.Q * (c.tau_syn or 1.0)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise MeanFieldError(what, where="dynamics")
