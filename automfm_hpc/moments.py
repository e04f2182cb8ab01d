r"""Moments of the sub-threshold membrane potential of a cell under Poisson inputs (shot-noise theory).

All three neuron families share one linearised membrane, with an adaptation variable of rate k:

    C V' = -G (V - E_L) - w + I_syn,      w' = a k (V - E_L) - k w

E-GLIF: G = sum <g> - C/tau_m (its leak has the unusual + sign), k = k_2, a = k_adap/k_2.
AdEx:   G = sum <g> + g_L, k = 1/tau_w. The exponential is left to the effective threshold.
LIF:    a = 0 and k arbitrary, because it cancels.

Derivation of the variance.  With mu_G = G + a, the conductance felt by slow currents, the membrane's
frequency response is H(s) = (s + k) / (C P(s)), P(s) = s^2 + b s + c, b = G/C + k, c = k mu_G/C.
By Campbell's theorem sigma_V^2 = sum K nu (E - mu_V)^2 W with W = int |H f|^2 dw/2pi, where the synapse
f(s) is a constant, Q/(s + beta) or e Q beta/(s + beta)^2 for delta, exponential, alpha, beta = 1/tau.
Hence W is a constant times I_n = int |s + k|^2 / (|P|^2 |s + beta|^{2n}) dw/2pi, n = 0, 1, 2.  With
m = k^2/c, the quadratic integrals of orders two and three give

    I_0 = (1 + m) / (2 b),
    I_1 = (1 + m + m b/beta) / (2 b P(beta)),

and, as 1/(beta^2 + w^2)^2 is minus the derivative of 1/(beta^2 + w^2) by beta^2,

    I_2 = -I_1'(beta) / (2 beta)
        = [m b / (beta^2 P(beta)) + (1 + m + m b/beta) (2 beta + b) / P(beta)^2] / (4 b beta).

All terms are positive: nothing cancels, also where poles coincide.  For a = 0 the last line is the
one-pole form (2 T + tau) [tau/(2 (tau + T))]^2 T^2/C^2 / tau^2 with T = C/G.

The theory is of first order in the fluctuations of the conductances.  Simulated silent cells lie up to
0.9 mV higher and fluctuate up to 6 % more where few strong synapses act (GrC, BC), eight times less
with synapses eight times weaker and more numerous.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from automfm_hpc.neurons import CONDUCTANCE, leak_conductance
from automfm_hpc.remap import Cell

FloatArray = NDArray[np.float64]

SYNAPSES = ("delta", "exponential", "alpha")
DAMPING_FLOOR = 1e-4  # 1/ms: oscillations that live longer than ten seconds are taken to live that long
LEAST_RATE = 1e-200  # Hz: lower rates are none; what follows from them would vanish in rounding, and 0/0 with it
CONDUCTANCE_FLOOR = 1e-3  # of g_L: the smallest static conductance
RATE_FLOOR = 0.01  # Hz: added to every rate by the template, which has no limit at zero noise
_SCALARS = ("capacitance", "leak", "conductance", "current", "k", "shift", "spike_current")


@dataclass(frozen=True, eq=False)
class Membrane:
    """What the moments depend on, with the rates' factors multiplied out.

    Parameters
    ----------
    synapse : {'delta', 'exponential', 'alpha'}
    driving_force : bool
        True: conductances, whose current is proportional to E - V; False: currents or potential steps.
    capacitance : float
        C_m (pF).
    leak : float
        g_L (nS), the scale of conductances in the template.
    conductance : float
        mu_G without input (nS).
    current : float
        mu_G mu_V without input (pA).
    k, shift : float
        Rate of the adaptation variable (1/ms) and a = mu_G - G (nS).
    spike_current : float
        Slow outward current per output rate (pA/Hz).
    axis : (n_channel,) int array
        Which rate drives the channel.
    K : (n_channel,) array
        In-degree.
    conductance_slope, current_slope : (n_channel,) arrays
        Increase of mu_G (nS/Hz) and of mu_G mu_V (pA/Hz).
    reversal : (n_channel,) array
        E (mV); 0 where there is no driving force.
    area : (n_channel,) array
        Integral of the conductance (nS ms) or current (pA ms) after one spike.
    beta : (n_channel,) array
        1/tau_syn (1/ms); 0 for delta.
    """

    synapse: str
    driving_force: bool
    capacitance: float
    leak: float
    conductance: float
    current: float
    k: float
    shift: float
    spike_current: float
    axis: NDArray[np.int64]
    K: FloatArray
    conductance_slope: FloatArray
    current_slope: FloatArray
    reversal: FloatArray
    area: FloatArray
    beta: FloatArray

    @property
    def strength(self) -> FloatArray:
        """Factor between the integral I_n and W, shape (n_channel,)."""
        filtered = self.area * self.beta ** SYNAPSES.index(self.synapse)
        return np.asarray((filtered / self.capacitance) ** 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        plain = {"synapse": self.synapse, "driving_force": self.driving_force}
        arrays = ("axis", "K", "conductance_slope", "current_slope", "reversal", "area", "beta")
        return (plain | {name: float(getattr(self, name)) for name in _SCALARS}
                | {name: getattr(self, name).tolist() for name in arrays})  # fmt: skip

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Membrane:
        values: dict[str, Any] = {k: np.asarray(v, float) if isinstance(v, list) else v for k, v in data.items()}
        return Membrane(**values | {"axis": np.asarray(data["axis"], np.int64)})


@dataclass(frozen=True, eq=False)
class Moments:
    """Stationary statistics of the membrane, each of the shape of the rates without their last axis.

    Parameters
    ----------
    mu_V, sigma_V : array
        Mean and standard deviation of the potential (mV).
    tau_V : array
        Autocorrelation time S_V(0) / (2 sigma_V^2) (ms).
    mu_G : array
        Conductance felt by slow currents (nS).
    """

    mu_V: FloatArray
    sigma_V: FloatArray
    tau_V: FloatArray
    mu_G: FloatArray


def membrane(cell: Cell) -> Membrane:
    """Linearised membrane of a target cell."""
    model, p = cell.neuron, cell.parameters
    driving_force = model.weight_unit == CONDUCTANCE
    area, beta = _kernel(cell, p["C_m"])
    reversal = cell.array("E_rev") if driving_force else np.zeros(area.size)
    rate = area * cell.array("K") / 1000.0  # per Hz; 1/1000: Hz to 1/ms
    k, a, leak, spike = _adaptation(model.kind, p)
    static = leak + a
    return Membrane(
        synapse=model.synapse, driving_force=driving_force, capacitance=p["C_m"], leak=leak_conductance(p),
        conductance=static, current=static * p["E_L"] + p.get("I_e", 0.0), k=k, shift=a,
        spike_current=spike / 1000.0, axis=cell.channel_axis, K=cell.array("K"),
        conductance_slope=rate if driving_force else np.zeros(area.size),
        current_slope=rate * reversal if driving_force else rate, reversal=reversal, area=area, beta=beta,
    )  # fmt: skip


def _kernel(cell: Cell, capacitance: float) -> tuple[FloatArray, FloatArray]:
    """Area after one spike (weight unit x ms) and 1/tau (1/ms) of every channel."""
    weight, tau = cell.array("Q"), cell.array("tau_syn")
    if cell.neuron.synapse == "delta":
        return weight * capacitance, np.zeros(weight.size)
    return weight * tau * (math.e if cell.neuron.synapse == "alpha" else 1.0), 1.0 / tau


def _adaptation(kind: str, p: Any) -> tuple[float, float, float, float]:
    """Rate (1/ms), conductance (nS), leak with its sign (nS), outward charge per spike (pA ms)."""
    leak = leak_conductance(p)
    if kind == "eglif":
        return p["k_2"], p["k_adap"] / p["k_2"], -leak, p["A2"] / p["k_2"] - p["A1"] / p["k_1"]
    if kind == "adex":
        return 1.0 / p["tau_w"], p["a"], leak, p["b"] * p["tau_w"]
    return leak / p["C_m"], 0.0, leak, 0.0


def moments(cell: Cell | Membrane, nu: ArrayLike, rate_out: ArrayLike = 0.0) -> Moments:
    """Moments of the membrane potential at given input rates.

    Parameters
    ----------
    cell : Cell or Membrane
    nu : (..., n_axis) array
        Rate (Hz) of each source in `cell.axes`.
    rate_out : (...) array, default 0
        Output rate (Hz). The currents that a spike triggers shift the mean by their time average to
        first order in the rate: A2/k_2 - A1/k_1 (E-GLIF) or b tau_w (AdEx) per spike. A transfer
        function F(nu) takes 0 and leaves that shift to its effective threshold.
    """
    m = membrane(cell) if isinstance(cell, Cell) else cell
    given = np.asarray(nu, float)
    rate = np.where(given < LEAST_RATE, 0.0, given)[..., m.axis]
    static = m.conductance + rate @ m.conductance_slope
    mu_G = smooth_floor(static, CONDUCTANCE_FLOOR * m.leak)
    mu_V = (m.current + rate @ m.current_slope - m.spike_current * np.asarray(rate_out, float)) / mu_G
    force = m.reversal - mu_V[..., None] if m.driving_force else 1.0
    silent = np.all(rate == 0.0, axis=-1, keepdims=True)  # tau_V: limit of equal, vanishing rates
    arriving = np.where(silent, RATE_FLOOR * 1e-6, rate) * m.K / 1000.0 * force**2
    variance = np.sum(arriving * m.strength * response(m, static, mu_G), axis=-1)
    power = np.sum(arriving * m.area**2, axis=-1) / mu_G**2
    sigma_V = np.where(silent[..., 0], 0.0, np.sqrt(variance))
    return Moments(mu_V, sigma_V, power / (2.0 * variance), mu_G)


def response(m: Membrane, static: FloatArray, mu_G: FloatArray) -> FloatArray:
    """The integral I_n of the module's derivation, shape (..., n_channel)."""
    b = smooth_floor((static - m.shift) / m.capacitance + m.k, DAMPING_FLOOR)[..., None]
    mu_G = mu_G[..., None]
    ratio = m.k * m.capacitance / mu_G
    if m.synapse == "delta":
        return np.broadcast_to((1.0 + ratio) / (2.0 * b), (*b.shape[:-1], m.K.size))
    P = m.beta**2 + b * m.beta + m.k * mu_G / m.capacitance
    numerator = 1.0 + ratio + ratio * b / m.beta
    if m.synapse == "exponential":
        return np.asarray(numerator / (2.0 * b * P))
    inner = ratio * b / m.beta**2 + numerator * (2.0 * m.beta + b) / P
    return np.asarray(inner / (4.0 * b * m.beta * P))


def smooth_floor(x: FloatArray, lowest: float) -> FloatArray:
    """x where x >= lowest; below, lowest / (1 + y + y^2), y = 1 - x/lowest: positive, C2 at the joint."""
    y = np.maximum(1.0 - x / lowest, 0.0)
    return np.where(x >= lowest, x, lowest / (1.0 + y + y * y))
