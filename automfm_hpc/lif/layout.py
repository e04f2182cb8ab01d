"""From the entries of a parameter file to the fields of a network: weights, delays, external input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from automfm_hpc.errors import LIFError
from automfm_hpc.lif.checks import Array


def need(values: Mapping[str, Any], key: str, *, where: str) -> Any:
    """Entry `key`, or LIFError naming it."""
    if key not in values:
        raise LIFError(f"parameter '{key}' is missing", where=where, remedy="Add it to the file.")
    return values[key]


def fields(values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """All fields of a LIFNetwork from parameters in inner units."""
    names = need(values, "populations", where=where)
    n = len(names)
    V_th, V_reset = _potentials(values, where)
    layered = "W" not in values and "J" not in values
    made = {
        "populations": tuple(str(name) for name in names),
        "label": str(values.get("label", "")),
        "K": need(values, "K", where=where),
        "V_th": V_th,
        "V_reset": V_reset,
        "tau_m": need(values, "tau_m", where=where),
        "t_ref": values.get("tau_r", 0.0),
        "tau_syn": values.get("tau_s", 0.0),
        "N": values.get("N"),
        "C_m": values.get("C"),
        "width": values.get("width"),
        "delay_dist": str(values.get("delay_dist", "none")),
        "J": layered_weights(values, n, where=where) if layered else weights(values, "W", "J", "tau_s", where=where),
        "mean_ext": _constant_current(values, where),
    }
    made["delay"], made["delay_sd"] = _delays(values, n, layered)
    made.update(_external(values, n, layered, where))
    return made


def _potentials(values: Mapping[str, Any], where: str) -> tuple[Array, Array]:
    """Threshold and reset relative to the leak; absolute ones count from the reset unless E_L is given."""
    if "V_th_rel" in values:
        return values["V_th_rel"], need(values, "V_0_rel", where=where)
    high, low = need(values, "V_th_abs", where=where), need(values, "V_0_abs", where=where)
    leak = values.get("E_L", low)
    return high - leak, low - leak


def weights(values: Mapping[str, Any], current: str, jump: str, tau: str, *, where: str) -> Array:
    """J = tau_syn W / C_m in mV, tau_syn by source (column) and C_m by target (row), unless J is given itself."""
    if jump in values:
        return np.asarray(values[jump], dtype=float)
    if "tau_s" not in values or "C" not in values:
        raise LIFError(
            f"'{current}' is a current: it needs tau_s and C", where=where, remedy=f"Or give '{jump}' in mV."
        )
    strength = np.asarray(need(values, current, where=where), dtype=float)
    duration = np.asarray(values.get(tau, values["tau_s"]), dtype=float)
    capacity = np.asarray(values["C"], dtype=float)
    if strength.ndim < 2:
        return np.ravel(duration)[0] * strength / capacity
    if duration.size not in (1, strength.shape[1]):
        duration = np.ravel(duration)[:1] if np.ptp(duration) == 0 else duration
    return strength * duration.reshape(1, -1) / capacity.reshape(-1, 1)


def layered_weights(values: Mapping[str, Any], n: int, *, where: str) -> Array:
    """Weights from one excitatory current `w` and the ratio `g`: populations alternate E, I; 4E to 23E is doubled."""
    jump = need(values, "w", where=where) * need(values, "tau_s", where=where) / need(values, "C", where=where)
    J = np.full((n, n), float(np.ravel(jump)[0]))
    J[:, 1::2] *= -float(need(values, "g", where=where))
    names = [str(p) for p in values["populations"]]
    if "23E" in names and "4E" in names:
        J[names.index("23E"), names.index("4E")] *= 2.0
    return J


def _constant_current(values: Mapping[str, Any], where: str) -> Any:
    """Mean input I tau_m / C_m (mV) of a constant current."""
    if "I_ext" not in values:
        return 0.0
    return np.asarray(values["I_ext"]) * np.asarray(values["tau_m"]) / np.asarray(need(values, "C", where=where))


def _delays(values: Mapping[str, Any], n: int, layered: bool) -> tuple[Array, Array]:
    """Mean and standard deviation of the delays, ms."""
    if layered and "d_e" in values:
        return tuple(
            _by_source(values.get(a, 0.0), values.get(b, 0.0), n) for a, b in (("d_e", "d_i"), ("d_e_sd", "d_i_sd"))
        )  # type: ignore[return-value]
    mean = values.get("Delay", values.get("D_mean", 0.0))
    spread = values.get("Delay_sd", values.get("D_std", 0.0))
    return np.broadcast_to(mean, (n, n)), np.broadcast_to(spread, (n, n))


def _by_source(excitatory: Any, inhibitory: Any, n: int) -> Array:
    """A matrix whose even columns hold the first value and odd columns the second."""
    matrix = np.full((n, n), float(excitatory))
    matrix[:, 1::2] = float(inhibitory)
    return matrix


def _external(values: Mapping[str, Any], n: int, layered: bool, where: str) -> dict[str, Any]:
    """K_ext, J_ext, nu_ext, tau_syn_ext; rates that the file leaves open are zero."""
    if layered:
        jump = values.get("w_ext", values.get("w")) * values["tau_s"] / values["C"]
        J = np.full(n, float(np.ravel(jump)[0]))
    elif "K_ext" not in values:
        return {"K_ext": np.zeros((n, 1)), "J_ext": np.zeros((n, 1)), "nu_ext": np.zeros(1), "tau_syn_ext": 0.0}
    else:
        J = weights(values, "W_ext", "J_ext", "tau_s_ext", where=where)
    K = np.asarray(need(values, "K_ext", where=where), dtype=float)
    rate = np.asarray(values.get("nu_ext", 0.0), dtype=float)
    tau = np.asarray(values.get("tau_s_ext", np.ravel(values.get("tau_s", 0.0))[0]), dtype=float)
    if K.ndim < 2 and J.ndim < 2:
        K, J = np.diag(np.broadcast_to(K, (n,))), np.diag(np.broadcast_to(J, (n,)))
        rate = np.broadcast_to(rate, (n,))
    sources = [(values.get(key), sign) for key, sign in (("nu_e_ext", 1.0), ("nu_i_ext", -float(values.get("g", 1.0))))]
    for more, sign in sources:
        if more is not None and np.any(np.asarray(more) != 0):
            jump = sign * np.max(np.abs(J), axis=1)
            K = np.hstack([np.broadcast_to(K, J.shape), np.eye(n)])
            J = np.hstack([J, np.diag(jump)])
            before = int(J.shape[-1]) - n
            rate = np.concatenate([np.broadcast_to(rate, (before,)), np.broadcast_to(more, (n,))])
    return {"K_ext": K, "J_ext": J, "nu_ext": rate, "tau_syn_ext": tau}
