"""An explanation in words and columns: rates on every rung, what each approximation costs, spread and regularity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automfm_hpc.validation_table import _aligned, _n


def table(result: Mapping[str, Any]) -> str:
    """All drives, one after the other."""
    return "\n\n".join(_of_drive(result, drive) for drive in result["drives"])


def _of_drive(result: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    rungs = result["rungs"]
    parts = [_head(found), _rates(rungs, found), _costs(rungs, found), _spread(rungs, found),
             *(f"note: {n}" for n in found["notes"]), *(f"warning: {w}" for w in found["warnings"])]
    return "\n\n".join(parts)


def _head(found: Mapping[str, Any]) -> str:
    asked = " ".join(f"{name} {rate:g} Hz" for name, rate in found["drive"].items())
    drawn = " ".join(f"{name} {rate:.2f} Hz" for name, rate in found["inputs"].items())
    sampled = ", ".join(f"{p['cells']} of {p['size']} {name}" for name, p in found["populations"].items()
                        if p["cells"] < p["size"])
    return f"== {asked} (in the recording {drawn})" + (f"; isolated: {sampled}" if sampled else "")


def _rates(rungs: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """Hz, and percent of the network's rate of the same cells."""
    rows = []
    for rung in rungs:
        cells = []
        for p in found["populations"].values():
            row = p["rungs"][rung["name"]]
            share = "" if "deviation" not in row else _percent(row)
            cells += [_n(row["rate"]), share]
        rows.append((rung["name"], "", *cells))
    return _aligned(("rate (Hz, %)", "", *_columns(found)), rows)


def _percent(row: Mapping[str, Any]) -> str:
    there = row["rate"] - row["deviation"]
    return f"{100.0 * row['deviation'] / there:+.1f}" if there > 0 else "-"


def _columns(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(text for name in found["populations"] for text in (name, "%"))


def _costs(rungs: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """What leaving each thing out changes (Hz), with the sampling error over cells."""
    rows = []
    for rung in rungs:
        if not rung["base"]:
            continue
        cells = []
        for p in found["populations"].values():
            row = p["rungs"][rung["name"]]
            error = f"+-{row['cost_sem']:.2f}" if row.get("cost_sem") is not None else ""
            cells += [f"{row['cost']:+.2f}", error]
        rows.append((f"{rung['base']} -> {rung['name']}", rung["cost"], *cells))
    heads = tuple(text for name in found["populations"] for text in (name, ""))
    return _aligned(("cost (Hz)", "of leaving out", *heads), rows)


def _spread(rungs: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    """Standard deviation of the rate over cells (Hz), and CV of the interspike intervals."""
    rows = [(rung["name"], "", *(text for p in found["populations"].values()
                                 for text in (_n(p["rungs"][rung["name"]]["sd"]), _n(p["rungs"][rung["name"]]["cv"]))))
            for rung in rungs if all("sd" in p["rungs"][rung["name"]] for p in found["populations"].values())]
    heads = tuple(text for name in found["populations"] for text in (name, "CV"))
    return _aligned(("spread over cells (Hz), CV", "", *heads), rows)
