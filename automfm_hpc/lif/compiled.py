"""How this sub-package compiles: cached, IEEE division, multiply-add contraction allowed, nothing else relaxed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function on its first call and keep the result on disk."""
    return njit(cache=True, error_model="numpy", fastmath={"contract"})(function)
