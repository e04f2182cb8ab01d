r"""Derivatives of the Mellin integrals of `cylinder` by their order, on the same path.

By the argument, M obeys dM(s, x)/dx = M(s+1, x) and the differential equation of the parabolic cylinder functions,
M(s+2) = x M(s+1) + s M(s), so those derivatives are further orders of the same function. By the order,

    dM(s, x)/ds = int_0^inf log(t) t^(s-1) exp(x t - t^2/2) dt,

one more sum over the nodes of the path.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import cmath

from automfm_hpc.lif.compiled import jit
from automfm_hpc.lif.cylinder import _MAX_NODES, _TINY, FAINTEST, _expm1_over, node, path, saddle

SIZE = 8
_SERIES = 20


@jit
def bend(z):
    """int_0^1 u exp(-z u) du = (1 - (1 + z) exp(-z))/z^2."""
    if abs(z) > 1.0:
        return (1.0 - (1.0 + z) * cmath.exp(-z)) / (z * z)
    total, power = 0.0j, 1.0 + 0.0j
    for k in range(_SERIES):
        total += power / (k + 2.0)
        power *= -z / (k + 1.0)
    return total


@jit
def mellin_jet(s, x, out):
    r"""s M(s, x), M(s+1, x), M(s+2, x), (s M(s, x) - 1)/s and their derivatives by s, times exp(-scale).

    Parameters
    ----------
    s : complex, Re s > -1, Im s >= 0
    x : float
    out : (8,) complex array
        Filled: the four values, then the four derivatives. Fourth and eighth are computed for abs(s) < 1 only.

    Returns
    -------
    complex
        scale, as `cylinder.mellin`; it is no part of what is differentiated.
    """
    order = s + 1.0
    t, _ = saddle(order, x)
    scale = order * cmath.log(t) + x * t - 0.5 * t * t
    _sum(order, x, s, out)
    return scale


@jit
def _add(term, t, logarithm, x, s, out):
    """Add one node's share; returns whether it no longer matters."""
    small = True
    near = abs(s) < 1.0
    by_parts = term * (t - x)
    for k in range(4):
        if k == 0:
            value, slope = by_parts, by_parts * logarithm
        elif k < 3:
            value = term if k == 1 else term * t
            slope = value * logarithm
        elif near:
            z = -s * logarithm
            value = by_parts * _expm1_over(s, logarithm)
            slope = by_parts * logarithm * logarithm * cmath.exp(z) * bend(z)
        else:
            value = slope = 0.0j
        out[k] += value
        out[k + 4] += slope
        small = small and abs(value) <= _TINY * abs(out[k]) and abs(slope) <= _TINY * abs(out[k + 4])
    return small


@jit
def _sum(order, x, s, out):
    """The trapezoidal rule over both halves of the path of `cylinder`."""
    t0, w0, a, b, step = path(order, x)
    out[:] = 0.0
    for side in range(2):
        sign = 1.0 if side == 0 else -1.0
        quiet = 0
        for j in range(side, _MAX_NODES):
            t, shift, exponent, weight = node(order, x, t0, a, b, sign * step * j)
            if exponent.real < FAINTEST:
                break
            quiet = quiet + 1 if _add(cmath.exp(exponent) * weight, t, w0 + shift, x, s, out) else 0
            if quiet >= 2:
                break
    for k in range(SIZE):
        out[k] *= step
