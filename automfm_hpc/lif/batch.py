"""Self-consistent rates of many networks in one call: any fields of a network with a leading axis of members."""

# mypy: allow-untyped-defs
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from automfm_hpc.errors import LIFError, suggest
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.rates import EXPANSION, method_code, refuse_slow
from automfm_hpc.lif.relaxation import Problem, relax

FIELDS = ("K", "J", "K_ext", "J_ext", "nu_ext", "mean_ext", "V_th", "V_reset", "tau_m", "t_ref", "tau_syn",
          "tau_syn_ext")  # fmt: skip


@dataclass(frozen=True, eq=False)
class RatesOfMany:
    """Fixed points of many networks, one row per member.

    Attributes
    ----------
    rates : (m, n) array
        Hz; the last iterate where the member did not converge.
    converged : (m,) bool array
    stable : (m,) bool array
        Whether the relaxation returns to it after a small push; False where not converged.
    growth : (m,) array
        Largest real part of the eigenvalues of dF/dnu - 1, per relaxation time; NaN where not converged.
    residual : (m,) array
        Largest |F - nu| relative to the rate.
    steps : (m,) array
    """

    rates: Array
    converged: NDArray[np.bool_]
    stable: NDArray[np.bool_]
    growth: Array
    residual: Array
    steps: NDArray[np.int64]


@jit
def _relax_members(stack, first, last, start, method, tolerance, limit, rates, jacobians, residual, steps):
    """Relax the members first..last - 1; a member's arrays are rows of the stack."""
    for b in range(first, last):
        p = Problem(
            stack[0][b], stack[1][b], stack[2][b], stack[3][b], stack[4][b], stack[5][b], stack[6][b],
            stack[7][b], stack[8][b], stack[9][b], stack[10][b],
        )  # fmt: skip
        steps[b] = -1  # if the matrix is singular, this member is where it happened
        nu, jacobian, error, count = relax(p, start[b], method, 0.5, 2.0, tolerance, limit)
        rates[b], jacobians[b], residual[b], steps[b] = nu, jacobian, error, count


def rates_of_many(
    net: LIFNetwork, *, method: str = "shift", start: ArrayLike | None = None, tolerance: float = 1e-12,
    max_steps: int = 400, **changes: ArrayLike,
) -> RatesOfMany:  # fmt: skip
    """`self_consistent_rates` for many parameter sets at once; the same numbers as one by one.

    Parameters
    ----------
    net : LIFNetwork
        Gives every field that does not change.
    method : {"shift", "expansion", "second_order"}
    start : (n,) or (m, n) array_like, optional
        Initial rates, Hz; zero by default.
    tolerance, max_steps
        As `self_consistent_rates`.
    **changes
        Fields of the network with a leading axis of m members (or of length 1): ``nu_ext=np.ones((m, 8))``,
        ``J=net.J * g[:, None, None]``.

    Returns
    -------
    RatesOfMany
        With convergence and stability of each member; a member that fails does not stop the others.

    Raises
    ------
    LIFError
        Unknown fields, shapes that do not fit, impossible values.
    """
    where = "rates_of_many"
    code = method_code(method, where=where)
    for name in changes:
        if name not in FIELDS:
            raise LIFError(f"a network has no field {name!r} that rates depend on", where=where,
                           remedy=suggest(name, FIELDS))
    fields = {name: _members(net, name, changes, where) for name in FIELDS}
    if (fields["V_th"] <= fields["V_reset"]).any():
        raise LIFError("V_th must be above V_reset", where=where)
    refuse_slow(fields["tau_syn"].max(), fields["tau_m"].min(), code, where=where)
    first = np.zeros((1, net.size)) if start is None else np.atleast_2d(checks.at_least(start, "start", where=where))
    sizes = {len(v) for v in (*fields.values(), first)} - {1}
    if len(sizes) > 1:
        raise LIFError(f"the changes have {sorted(sizes)} members", where=where, remedy="Give all the same number.")
    m = sizes.pop() if sizes else 1
    found = _relax_all(_stack(fields, m), np.array(np.broadcast_to(first, (m, net.size))), code, tolerance, max_steps)
    return _judged(*found, tolerance, code)


def _members(net: LIFNetwork, name: str, changes: dict[str, ArrayLike], where: str) -> Array:
    """A field with a leading axis of members, of length 1 where it does not change."""
    own = np.asarray(getattr(net, name))
    if name not in changes:
        return own[None]
    signed = name in ("J", "J_ext", "mean_ext", "V_th", "V_reset")
    value = checks.real(changes[name], name, where=where) if signed else checks.at_least(
        changes[name], name, where=where, strict=name == "tau_m"
    )
    if value.ndim != own.ndim + 1 or value.shape[1:] != own.shape:
        raise LIFError(f"{name} has shape {value.shape}, expected (members, {', '.join(map(str, own.shape))})",
                       where=where)
    return value


def _stack(fields: dict[str, Array], m: int) -> tuple[Array, ...]:
    """The arrays of `relaxation.Problem`, each with a leading axis of m members."""
    tau = 1e-3 * fields["tau_m"][:, :, None]
    nu = fields["nu_ext"][:, None, :]
    first = fields["K_ext"] * fields["J_ext"] * nu
    second = fields["K_ext"] * fields["J_ext"] ** 2 * nu
    root, outer = np.sqrt(fields["tau_syn"]), np.sqrt(fields["tau_syn_ext"])
    arrays = (
        tau * fields["K"] * fields["J"],
        tau * fields["K"] * fields["J"] ** 2,
        (tau * first).sum(axis=2) + fields["mean_ext"],
        (tau * second).sum(axis=2),
        (tau * second * outer[:, None, :]).sum(axis=2),
        root,
        np.maximum(root.max(axis=1), outer.max(axis=1, initial=0.0)),
        *(fields[k] for k in ("V_th", "V_reset", "tau_m", "t_ref")),
    )
    return tuple(np.array(np.broadcast_to(a, (m, *a.shape[1:]))) for a in arrays)


def _relax_all(
    stack: tuple[Array, ...], start: Array, code: int, tolerance: float, limit: int
) -> tuple[Array, Array, Array, NDArray[np.int64]]:
    m, n = start.shape
    rates, jacobians, residual = np.zeros((m, n)), np.zeros((m, n, n)), np.full(m, np.inf)
    steps = np.zeros(m, dtype=np.int64)
    first = 0
    while first < m:
        try:
            _relax_members(stack, first, m, start, code, tolerance, limit, rates, jacobians, residual, steps)
            break
        except np.linalg.LinAlgError:  # a singular Newton matrix: this member fails, go on behind it
            failed = int(np.flatnonzero(steps == -1)[0])
            rates[failed], residual[failed], steps[failed] = start[failed], np.inf, 0
            first = failed + 1
    return rates, jacobians, residual, steps


def _judged(
    rates: Array, jacobians: Array, residual: Array, steps: NDArray[np.int64], tolerance: float, code: int
) -> RatesOfMany:
    converged = residual <= max(tolerance, 1e-9)
    if code == EXPANSION:
        converged &= (rates >= 0.0).all(axis=1)
    growth = np.full(len(rates), np.nan)
    good = np.flatnonzero(converged & np.isfinite(jacobians).all(axis=(1, 2)))
    growth[good] = np.linalg.eigvals(jacobians[good]).real.max(axis=1) - 1.0
    return RatesOfMany(rates, converged, converged & (growth < 0.0), growth, residual, steps)
