"""How this sub-package compiles: cached, IEEE division, multiply-add contraction allowed, nothing else relaxed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on its first call and keep the result on disk."""
    return njit(cache=True, error_model="numpy", fastmath={"contract"})(function)


def jit_finite(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `jit`, for loops that meet no NaN: comparisons and maxima may then become vector instructions."""
    return njit(cache=True, error_model="numpy", fastmath={"contract", "nnan", "nsz"})(function)
