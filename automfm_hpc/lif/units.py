"""Reading `{val: ..., unit: ...}` entries into the units used inside: mV, ms, pF, pA, Hz, mm."""

from __future__ import annotations

from typing import Any

import numpy as np

from automfm_hpc.errors import LIFError, suggest

_PREFIX = {"": 1.0, "G": 1e9, "M": 1e6, "k": 1e3, "c": 1e-2, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9, "p": 1e-12}
_BASE = {"V": 1e3, "s": 1e3, "F": 1e12, "A": 1e12, "Hz": 1.0, "m": 1e3}  # SI unit in inner units
_LONG = {
    "volt": "V", "second": "s", "farad": "F", "ampere": "A", "hertz": "Hz", "meter": "m", "metre": "m",
}  # fmt: skip
_LONG_PREFIX = {"milli": "m", "micro": "u", "nano": "n", "pico": "p", "kilo": "k", "mega": "M", "centi": "c"}


def factor(unit: str, *, where: str) -> float:
    """Factor that turns a number in `unit` (such as "mV", "1/mm", "millisecond") into inner units."""
    word = unit.replace(" ", "").replace("**-1", "^-1")
    if word in ("", "dimensionless", "1"):
        return 1.0
    if word.startswith("1/"):
        return 1.0 / factor(word[2:], where=where)
    if word.endswith("^-1"):
        return 1.0 / factor(word[:-3], where=where)
    word = _short(word)
    for base, scale in sorted(_BASE.items(), key=lambda item: -len(item[0])):
        if word.endswith(base) and word[: -len(base)] in _PREFIX:
            return _PREFIX[word[: -len(base)]] * scale
    known = [prefix + base for base in _BASE for prefix in ("", "k", "m", "u", "n", "p")]
    raise LIFError(f"unknown unit {unit!r}", where=where, remedy=suggest(unit, known))


def _short(word: str) -> str:
    """The symbol of a unit that is written out; anything else unchanged."""
    for name, symbol in _LONG.items():
        for ending in (name, name + "s"):
            if word == ending:
                return symbol
            if word.endswith(ending) and word[: -len(ending)] in _LONG_PREFIX:
                return _LONG_PREFIX[word[: -len(ending)]] + symbol
    return word


def plain(entry: Any, *, where: str) -> Any:
    """The value of one YAML entry in inner units: arrays for numbers and lists of numbers, else unchanged."""
    if isinstance(entry, dict) and set(entry) == {"val", "unit"}:
        scale = factor(str(entry["unit"]), where=where)
        return np.asarray(entry["val"], dtype=float) * scale
    if isinstance(entry, dict):
        return {key: plain(value, where=f"{where}.{key}") for key, value in entry.items()}
    if entry is None or isinstance(entry, (bool, str)):
        return entry
    array = np.asarray(entry)
    return array.astype(float) if array.dtype.kind in "iuf" else entry
