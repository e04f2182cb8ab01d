"""How presynaptic rates reach a transfer function in time, and how the population's rate follows it.

A transfer function F_i is stationary. In time, axis k of population i (the inputs from source s) sees

    y_k(t) = (p_k * A_s)(t)

with A_s the activity of the source and p_k its pathways: their weights w_p (shares of the axis's mean conductance) sum
to 1; each delays by d_p and passes the shape of its post-synaptic conductance,

    P_k(f) = sum_p w_p exp(-s d_p) / (1 + s tau_p)^n_p,    s = 2 pi i f,

with n_p = 2 for alpha, 1 for exponential, 0 for delta synapses. The population's rate follows F_i(y) as
`cell_response.CellResponse` says, H_i(f), or, where that is not known, with the time constant T_i of the master
equation. So the frequency response of an isolated population to source s is dF_i/dnu_s P_k(f) H_i(f): a
linear-nonlinear cascade (Ostojic & Brunel 2011, doi 10.1371/journal.pcbi.1001056).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.cell_response import CellResponse
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.remap import Channel, MeanFieldParameters

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
POLES = {"alpha": 2, "exponential": 1, "delta": 0}
_PATHWAYS, _CELL = ("axis", "weight", "delay", "tau_syn", "poles"), "cell_"  # names of arrays, and what begins them
SMOOTHED = 2.0  # ms: rates of finite populations are averaged over it before r of `spread` is taken


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Filters before every axis of every transfer function, and what follows; axes as in `MeanField.axis_labels`.

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
    cell : CellResponse, optional
        How each population's rate follows its transfer function.
    """

    axis: NDArray[np.int64]
    weight: FloatArray
    delay: FloatArray
    tau_syn: FloatArray
    poles: NDArray[np.int64]
    cell: CellResponse | None = None

    def __post_init__(self) -> None:
        for name in ("axis", "poles"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.int64))
        for name in ("weight", "delay", "tau_syn"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
        numbers = (self.weight, self.delay, self.tau_syn)
        _require(all(bool(np.isfinite(x).all()) for x in numbers), "numbers must be finite")
        share = np.bincount(self.axis, self.weight)
        _require(bool(np.all(np.diff(self.axis) >= 0)), "pathways must be sorted by axis")
        _require(bool(np.allclose(share, 1.0, atol=1e-9)), "the weights of an axis must sum to 1")
        _require(bool((self.delay >= 0).all() and (self.tau_syn >= 0).all()), "times must not be negative")

    @property
    def n_axis(self) -> int:
        return int(self.axis[-1]) + 1

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
        return Dynamics(axes, weight, delay, tau_syn, poles)

    def check(self, axes: Sequence[int]) -> None:
        """Raise MeanFieldError unless the populations have these numbers of axes, (n_population,)."""
        _require(self.n_axis == sum(axes), f"filters for {self.n_axis} axes, the transfer functions have {sum(axes)}")
        n = len(axes) if self.cell is None else len(self.cell.knots)
        _require(n == len(axes), f"responses of {n} populations, there are {len(axes)}")
        n = 0 if self.cell is None else len(self.cell.spread)
        _require(n in (0, sum(axes)), f"spreads of {n} axes, the transfer functions have {sum(axes)}")

    def pathways(self, frequency: FloatArray) -> ComplexArray:
        """P_k at frequencies (n_frequency,) in Hz: (n_frequency, n_axis)."""
        return self._pathways(frequency, self.delay)

    def smoothed_pathways(self, frequency: FloatArray) -> ComplexArray:
        """The same of what is averaged over SMOOTHED first, as what becomes r of rates is: (n_frequency, n_axis).

        The average is late by SMOOTHED, which is taken off the delays as far as that goes.
        """
        s = 2.0j * np.pi * np.asarray(frequency, float)[:, None] / 1000.0
        return self._pathways(frequency, np.maximum(self.delay - SMOOTHED, 0.0)) / (1.0 + s * SMOOTHED)

    def _pathways(self, frequency: FloatArray, delay: FloatArray) -> ComplexArray:
        s = 2.0j * np.pi * np.asarray(frequency, float)[:, None] / 1000.0
        each = self.weight * np.exp(-s * delay) / (1.0 + s * self.tau_syn) ** self.poles
        first = np.searchsorted(self.axis, np.arange(self.n_axis))
        return np.asarray(np.add.reduceat(each, first, axis=1), complex)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as named arrays; `from_arrays` reads them."""
        cell = {} if self.cell is None else self.cell.to_arrays()
        return {name: getattr(self, name) for name in _PATHWAYS} | {_CELL + k: v for k, v in cell.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Dynamics:
        cell = {k.removeprefix(_CELL): v for k, v in arrays.items() if k.startswith(_CELL)}
        pathways = {name: np.asarray(arrays[name]) for name in _PATHWAYS}
        return Dynamics(**pathways, cell=CellResponse.from_arrays(cell) if cell else None)


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
