"""An LIF network as transfer functions of the general mean field: rate, gradient and Hessian in closed form.

A transfer function of this kind packs one population of a `LIFNetwork`: its axes are the populations and
external inputs that project to it, and mean and variance of its input are linear in their rates. The Hessian
is the analytic gradient differenced along mean and variance (relative error about 1e-7).
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import METHODS, point
from automfm_hpc.transfer_function import TransferFunction

CODE = 201
KIND = "lif"
_HEAD = 7  # V_th, V_reset, tau_m, t_ref, tau_syn, constant mean, constant variance


@jit
def _slopes(p, mean, variance, method):
    """Rate (Hz) and its derivatives by mean and variance."""
    sd = math.sqrt(variance) if variance > 0.0 else 0.0
    nu, d_mean, d_variance, _ = point(mean, sd, p[0], p[1], p[2], p[3], p[4], method)
    return 1e3 * nu, 1e3 * d_mean, 1e3 * d_variance


@jit
def evaluate(ints, floats, nu, gradient, hessian):
    """F (Hz) at rates nu (S,) Hz; fills gradient (S,) and hessian (S, S) (1/Hz); negative rates count as 0."""
    size = nu.size
    method = ints[2]
    mean, variance = floats[5], floats[6]
    for s in range(size):
        rate = max(nu[s], 0.0)
        mean += floats[_HEAD + s] * rate
        variance += floats[_HEAD + size + s] * rate
    value, d_mean, d_variance = _slopes(floats, mean, variance, method)
    sd = math.sqrt(variance) if variance > 0.0 else 0.0
    h = 1e-4 * max(sd, 1e-3)
    g = 1e-4 * max(variance, 1e-6)
    _, up_m, up_v = _slopes(floats, mean + h, variance, method)
    _, down_m, down_v = _slopes(floats, mean - h, variance, method)
    mm = (up_m - down_m) / (2.0 * h)
    mv = (up_v - down_v) / (2.0 * h)
    _, _, up_v = _slopes(floats, mean, variance + g, method)
    _, _, down_v = _slopes(floats, mean, max(variance - g, 0.0), method)
    vv = (up_v - down_v) / (2.0 * g)
    for s in range(size):
        a, b = floats[_HEAD + s], floats[_HEAD + size + s]
        gradient[s] = d_mean * a + d_variance * b
        for t in range(size):
            c, d = floats[_HEAD + t], floats[_HEAD + size + t]
            hessian[s, t] = mm * a * c + mv * (a * d + b * c) + vv * b * d
    return value


@dataclass(frozen=True, eq=False)
class LIFTransferFunction(TransferFunction):
    """Siegert's formula as a function of the rates of the sources.

    Parameters
    ----------
    population, axes, domain
        See `TransferFunction`.
    cell : (7,) array
        V_th, V_reset (mV), tau_m, t_ref, tau_syn (ms), constant mean (mV) and variance (mV^2) of the input.
    by_mean, by_variance : (S,) array
        mV/Hz and mV^2/Hz.
    method : {"shift", "expansion", "second_order"}
    """

    cell: Array
    by_mean: Array
    by_variance: Array
    method: str = "shift"

    @property
    def kind(self) -> str:
        return KIND

    def packed(self) -> tuple[Array, Array]:
        ints = np.array([CODE, len(self.axes), METHODS.index(self.method)], dtype=np.int64)
        return ints, np.concatenate([self.cell, self.by_mean, self.by_variance]).astype(float)

    def derivatives(self, nu: ArrayLike) -> tuple[Array, Array, Array]:
        """Rate (...), gradient (..., S) and Hessian (..., S, S) at nu (..., S) in Hz."""
        x = checks.real(nu, "nu", where=self.population)
        size = len(self.axes)
        if x.shape[-1:] != (size,):
            raise LIFError(f"rates have shape {x.shape}, expected {size} per point", where=self.population)
        rows = x.reshape(-1, size)
        ints, floats = self.packed()
        rate = np.empty(len(rows))
        gradient, hessian = np.empty((len(rows), size)), np.empty((len(rows), size, size))
        for k, row in enumerate(rows):
            rate[k] = evaluate(ints, floats, np.array(row), gradient[k], hessian[k])
        shape = x.shape[:-1]
        return rate.reshape(shape), gradient.reshape(*shape, size), hessian.reshape(*shape, size, size)

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        for name in ("cell", "by_mean", "by_variance"):
            data["arrays"][name] = np.asarray(getattr(self, name))
        data["attributes"] = {"method": self.method}
        return data


def from_dict(data: Mapping[str, Any]) -> LIFTransferFunction:
    """The transfer function that `LIFTransferFunction.to_dict` wrote."""
    domain, cell, by_mean, by_variance = (
        np.asarray(data["arrays"][name], float) for name in ("domain", "cell", "by_mean", "by_variance")
    )
    method = checks.one_of(data["attributes"]["method"], METHODS, "method", where="LIFTransferFunction")
    return LIFTransferFunction(data["population"], tuple(data["axes"]), domain, cell, by_mean, by_variance, method)


def input_names(net: LIFNetwork) -> tuple[str, ...]:
    """Names of the external inputs: ext1, ext2, ... in the order of nu_ext."""
    return tuple(f"ext{k + 1}" for k in range(net.nu_ext.size))


def transfer_functions(
    net: LIFNetwork, *, method: str = "shift", highest: float = 500.0, inputs: Sequence[str] | None = None
) -> tuple[LIFTransferFunction, ...]:
    """One transfer function per population of a network; axes: its populations and external inputs, if connected.

    `inputs` names the external inputs, otherwise `input_names` does.

    Raises
    ------
    LIFError
        Unknown method, or sources of one population with different synaptic time constants.
    """
    where = "transfer_functions"
    checks.one_of(method, METHODS, "method", where=where)
    names = (*net.populations, *(input_names(net) if inputs is None else inputs))
    K, J = np.hstack([net.K, net.K_ext]), np.hstack([net.J, net.J_ext])
    every_tau = np.concatenate([net.tau_syn, net.tau_syn_ext])
    out = []
    for i, name in enumerate(net.populations):
        used = np.flatnonzero((K[i] != 0.0) & (J[i] != 0.0))
        tau_syn = np.unique(every_tau[used])
        if tau_syn.size > 1:
            raise LIFError(
                f"its inputs have the synaptic time constants {tau_syn.tolist()} ms",
                where=name,
                remedy="A transfer function of this kind needs one per population.",
            )
        first = 1e-3 * net.tau_m[i] * K[i, used] * J[i, used]
        own = [net.V_th[i], net.V_reset[i], net.tau_m[i], net.t_ref[i], *(tau_syn if tau_syn.size else [0.0])]
        cell = np.array([*own, net.mean_ext[i], 0.0])
        domain = np.tile([0.0, highest], (used.size, 1))
        axes = tuple(names[k] for k in used)
        out.append(LIFTransferFunction(name, axes, domain, cell, first, first * J[i, used], method))
    return tuple(out)
