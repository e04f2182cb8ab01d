"""Argument checks shared by the functions of this sub-package: each failure says what, where and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from automfm_hpc.errors import LIFError, suggest

Array = NDArray[Any]


def real(value: ArrayLike, name: str, *, where: str) -> Array:
    """`value` as a finite float array, or LIFError."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as problem:
        raise LIFError(f"{name} is not a real number or array ({problem})", where=where) from None
    if not np.isfinite(array).all():
        raise LIFError(f"{name} is not finite", where=where, remedy="Remove NaN and infinite entries.")
    return array


def at_least(value: ArrayLike, name: str, *, where: str, strict: bool = False) -> Array:
    """`value` as a finite float array with entries >= 0 (> 0 if `strict`), or LIFError."""
    array = real(value, name, where=where)
    if (array <= 0.0).any() if strict else (array < 0.0).any():
        worst = float(array.min())
        raise LIFError(
            f"{name} must be {'positive' if strict else 'zero or positive'}, but holds {worst:g}", where=where
        )
    return array


def square(value: ArrayLike, name: str, *, where: str, size: int | None = None) -> Array:
    """`value` as a square float matrix (of `size` rows, if given), or LIFError."""
    array = real(value, name, where=where)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise LIFError(f"{name} must be a square matrix [target, source], but has shape {array.shape}", where=where)
    if size is not None and array.shape[0] != size:
        raise LIFError(f"{name} has {array.shape[0]} rows, expected {size}, one per population", where=where)
    return array


def one_of(value: str, known: Iterable[str], name: str, *, where: str) -> str:
    """`value` if it is one of the known words, or LIFError with the nearest known one."""
    known = tuple(known)
    if value not in known:
        raise LIFError(f"unknown {name} {value!r}", where=where, remedy=suggest(value, known))
    return value


def potentials(V_th: ArrayLike, V_reset: ArrayLike, *, where: str) -> tuple[Array, Array]:
    """Threshold and reset (mV) as float arrays; LIFError unless the threshold is above the reset."""
    high, low = real(V_th, "V_th", where=where), real(V_reset, "V_reset", where=where)
    if (high <= low).any():
        raise LIFError("V_th must be above V_reset", where=where, remedy="Check the order of the arguments.")
    return high, low


def columns(arrays: list[Array]) -> tuple[tuple[int, ...], list[Array], NDArray[np.int64]]:
    """Common shape, flat columns, and strides (0 for a constant) of arrays that broadcast together."""
    try:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        raise LIFError(
            f"arguments of shapes {[a.shape for a in arrays]} do not broadcast together", where="lif"
        ) from None
    flat = []
    for a in arrays:
        column = a.reshape(1) if a.size == 1 else np.ascontiguousarray(np.broadcast_to(a, shape)).reshape(-1)
        # Compiled code is specialised by this flag; one kind of array means one compilation.
        flat.append(column if column.flags.writeable else column.copy())
    return shape, flat, np.array([0 if a.size == 1 else 1 for a in flat], dtype=np.int64)
