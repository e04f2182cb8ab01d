r"""Gradients of self-consistent rates and of spectra with respect to the parameters of a network.

nu = F(nu, p) gives dnu/dp = (1 - dF/dnu)^-1 dF/dp (implicit function theorem), every term in closed form. For spectra
C = P diag(nu/N) P^H, P = (1 - W)^-1,

    dC = P dW C + (P dW C)^H + P diag(dnu/N) P^H,

with dW = dH J + H dJ, dH along the direction in which the input and the parameters of the cells move
(`response_partials`), all in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.partials import rate_partials
from automfm_hpc.lif.response_partials import response_partials
from automfm_hpc.lif.spectra import coupling, invert, responses
from automfm_hpc.lif.working_point import WorkingPoint

CELL_FIELDS = ("V_th", "V_reset", "tau_m", "t_ref")
SYNAPSE_FIELDS = ("tau_syn", "tau_syn_ext")
INPUT_FIELDS = ("K", "J", "K_ext", "J_ext", "nu_ext", "mean_ext")
FIELDS = (*INPUT_FIELDS, *CELL_FIELDS, *SYNAPSE_FIELDS)


@dataclass(frozen=True, eq=False)
class _Direct:
    """How a field moves the input of every population at fixed rates, each (n, *shape of the field)."""

    mean: Array  # mV
    variance: Array  # mV^2
    root: Array  # sqrt(ms), of the effective synaptic time constant


def rate_gradient(net: LIFNetwork, point: WorkingPoint, field: str) -> Array:
    """dnu_i/dp for every entry of a field of the network: (n, *shape of the field), Hz per inner unit.

    A change of J or of a time constant is taken at fixed values of the other fields (J does not follow
    tau_syn).

    Raises
    ------
    LIFError
        Unknown field, a network at a bifurcation, or tau_syn of delta synapses (the rate depends on its root).
    """
    checks.one_of(field, FIELDS, "field", where="rate_gradient")
    partial = rate_partials(point.mean, point.sd, **net.neuron(), tau_syn=point.tau_syn, method=point.method)
    direct = _moved(partial, _direct(net, point, field), point)
    if field in CELL_FIELDS:
        direct = direct + np.diag(partial[field])
    try:
        flat = np.linalg.solve(np.eye(net.size) - point.fixed_point.jacobian, direct.reshape(net.size, -1))
    except np.linalg.LinAlgError:
        raise LIFError("1 - dF/dnu is singular: the network is at a bifurcation", where="rate_gradient") from None
    return flat.reshape(direct.shape)


def _moved(partial: dict[str, Array], moved: _Direct, point: WorkingPoint) -> Array:
    """Change of the rates by a change of the input, the first axis being the populations."""
    axes = (slice(None), *[None] * (moved.mean.ndim - 1))
    by_variance = partial["sd"] / np.where(point.sd > 0.0, 2.0 * point.sd, np.inf)
    total = partial["mean"][axes] * moved.mean + by_variance[axes] * moved.variance
    if moved.root.any():
        total = total + (2.0 * np.sqrt(point.tau_syn) * partial["tau_syn"])[axes] * moved.root
    return np.asarray(total)


def _direct(net: LIFNetwork, point: WorkingPoint, field: str) -> _Direct:
    n = net.size
    tau = 1e-3 * net.tau_m[:, None]
    variance = point.sd**2
    nothing = np.zeros((n, *np.shape(getattr(net, field))))
    if field == "mean_ext":
        return _Direct(np.eye(n), nothing, nothing)
    if field == "tau_m":
        return _Direct(np.diag((point.mean - net.mean_ext) / net.tau_m), np.diag(variance / net.tau_m), nothing)
    if field in CELL_FIELDS:
        return _Direct(nothing, nothing, nothing)
    outer = field.endswith("_ext")
    K, J = (net.K_ext, net.J_ext) if outer else (net.K, net.J)
    nu = net.nu_ext if outer else point.rates
    roots = np.sqrt(net.tau_syn_ext if outer else net.tau_syn)
    own = np.sqrt(point.tau_syn)
    safe = np.where(variance > 0.0, variance, np.inf)[:, None]
    if field in SYNAPSE_FIELDS:
        share = tau * K * J**2 * nu / safe
        if (roots[share.any(axis=0)] == 0.0).any():
            raise LIFError("the rate depends on the root of tau_syn: no derivative at 0", where=f"gradient by {field}")
        return _Direct(nothing, nothing, share / (2.0 * np.maximum(roots, 1e-300)))
    if field == "nu_ext":
        first, second = tau * K * J, tau * K * J**2
        return _Direct(first, second, second * (roots - own[:, None]) / safe)
    first, second = (tau * nu * J, tau * nu * J**2) if field[0] == "K" else (tau * nu * K, 2.0 * tau * nu * K * J)
    return _Direct(*(_rows(a) for a in (first, second, second * (roots - own[:, None]) / safe)))


def _rows(matrix: Array) -> Array:
    """(n, n, m) from (n, m): an entry [i, j] of the field moves population i alone."""
    n = matrix.shape[0]
    out = np.zeros((n, *matrix.shape))
    out[np.arange(n), np.arange(n)] = matrix
    return out


def spectrum_gradient(
    net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike, field: str, place: tuple[int, ...]
) -> Array:
    """Derivative of the power spectra (f, n) by one entry of a field, the working point following.

    Raises
    ------
    LIFError
        Unknown field, or no sizes N; as `rate_gradient`.
    """
    where = "spectrum_gradient"
    checks.one_of(field, FIELDS, "field", where=where)
    if net.N is None:
        raise LIFError("power spectra need the population sizes N", where=where)
    f = np.asarray(checks.real(frequency, "frequency", where=where))
    at: Any = (slice(None), *place)
    rates = rate_gradient(net, point, field)[at]
    moved = _input_motion(net, point, field, place, rates)
    H, J = responses(net, point, f), coupling(net, f)
    dW = _response_motion(net, point, f, moved)[..., :, None] * J + H[..., :, None] * _coupling_motion(
        net, f, J, field, place
    )
    P = invert(H[..., :, None] * J)
    C = (P * (point.rates / net.N)) @ np.swapaxes(P.conj(), -1, -2)
    half = np.einsum("...ii->...i", P @ dW @ C)
    return np.asarray(2.0 * half.real + np.einsum("...ij,j,...ij->...i", P, rates / net.N, P.conj()).real)


def _input_motion(
    net: LIFNetwork, point: WorkingPoint, field: str, place: tuple[int, ...], rates: Array
) -> dict[str, Array]:
    """Motion of mean, sd, tau_syn and of the cells' own parameters when one entry of a field moves."""
    own = _direct(net, point, field)
    at: Any = (slice(None), *place)
    tau = 1e-3 * net.tau_m[:, None]
    second = tau * net.K * net.J**2
    root = np.sqrt(point.tau_syn)
    variance = np.where(point.sd > 0.0, point.sd**2, np.inf)
    d_root = own.root[at] + (second * (np.sqrt(net.tau_syn) - root[:, None])) @ rates / variance
    moved = {
        "mean": own.mean[at] + (tau * net.K * net.J) @ rates,
        "sd": (own.variance[at] + second @ rates) / (2.0 * np.sqrt(variance)),
        "tau_syn": 2.0 * root * d_root,
    }
    if field in CELL_FIELDS:
        moved[field] = np.eye(net.size)[place[0]]
    return moved


def _response_motion(net: LIFNetwork, point: WorkingPoint, f: Array, moved: dict[str, Array]) -> Array:
    """Change of the responses (f, n) along a direction."""
    partial = response_partials(
        f[..., None], point.mean, point.sd, **net.neuron(), tau_syn=point.tau_syn, method=point.method
    )
    total = np.zeros_like(partial["response"])
    for name, speed in moved.items():
        moves = np.asarray(speed) != 0.0  # delta synapses: no speed, and an infinite derivative by tau_syn
        total[..., moves] += partial[name][..., moves] * speed[moves]
    return total


def _coupling_motion(net: LIFNetwork, f: Array, J: Array, field: str, place: tuple[int, ...]) -> Array:
    """Change of tau_m J K d(f)/(1 + i omega tau_syn) by one entry of a field at fixed rates."""
    out = np.zeros_like(J)
    if field in ("J", "K"):
        # The product is linear in each of them; at zero it is taken from the value with this entry set to one.
        matrix = np.array(getattr(net, field))
        matrix[place] = 1.0
        entry: Any = (..., *place)
        out[entry] = coupling(net.replace(**{field: matrix}), f)[entry]
    elif field == "tau_m":
        out[..., place[0], :] = J[..., place[0], :] / net.tau_m[place[0]]
    elif field == "tau_syn":
        s = 2e-3j * np.pi * f[..., None]
        out[..., :, place[0]] = -J[..., :, place[0]] * s / (1.0 + s * net.tau_syn[place[0]])
    return out
