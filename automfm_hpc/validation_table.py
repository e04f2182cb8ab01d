"""A validation as text: what `automfm validate` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automfm_hpc.validate import Tolerance, phase_difference

Row = Sequence[str]


def table(result: Mapping[str, Any]) -> str:
    """The contents of ``validation.json`` as a few tables; rates in Hz, ``!`` where the tolerance is exceeded."""
    blocks = [_head(result), _constants(result), _courses(result), _sines(result), _slopes(result), _verdict(result)]
    return "\n\n".join(b for b in blocks if b)


def _head(r: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{n} {size}" for n, size in r["sizes"].items())
    often = f" of {r['cycles']} cycles" if r.get("cycles", 1) > 1 else ""
    lines = [f"{r['network']} ({r['variant']}): mean field of order {r['order']} against the spiking network",
             f"scale {r['scale']:g} ({sizes} cells), {r['seeds']} seeds{often}; time courses with a Gaussian kernel of "
             f"{r['kernel']:g} ms; ! beyond {Tolerance(**r['tolerance'])}"]
    return "\n".join([*lines, *(f"note: {n}" for n in r["notes"]), *_warnings(r)])


def _warnings(r: Mapping[str, Any]) -> list[str]:
    said = [(p["name"], w) for p in r["protocols"] for w in p["warnings"]]
    more = [f"warning: and {len(said) - 3} more, see validation.json"] if len(said) > 3 else []
    return [f"warning: {name}: {w}" for name, w in said[:3]] + more


def _rows(r: Mapping[str, Any], *kinds: str) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    for p in r["protocols"]:
        if p["kind"] in kinds:
            for name, row in p["populations"].items():
                yield p, name, row


def _constants(r: Mapping[str, Any]) -> str:
    heads = ("constant drive", "", "network", "spread", "mean field", "error", "%", "spreads", "sd network", "sd m.f.")
    rows = [(_drive(p), name, _n(v["network"]), _n(v["spread"]), _n(v["mean_field"]), _n(v["error"]) + _mark(v),
             _n(v["percent"], 1), _n(v["spreads"], 1), _n(v["sd"]), _n(v["sd_mean_field"]))
            for p, name, v in _rows(r, "constant")]
    return _aligned(heads, rows)


def _courses(r: Mapping[str, Any]) -> str:
    heads = ("drive over time", "", "network", "mean field", "RMS error", "%", "spreads", "R2", "at most")
    rows = [(p["name"], name, _n(v["network"]), _n(v["mean_field"]), _n(v["error"]) + _mark(v), _n(v["percent"], 1),
             _n(v["spreads"], 1), _n(v["r2"]), _n(v["ceiling"]))
            for p, name, v in _rows(r, "step", "bump", "sine", "noise", "bursts")]
    return _aligned(heads, rows)


def _sines(r: Mapping[str, Any]) -> str:
    heads = ("sinusoid", "", "Hz", "gain", "+-", "mean field", "noise", "lag (deg)", "+-", "mean field", "difference")
    rows = [(p["input"], name, f"{p['settings']['frequency']:g}", _n(v["gain"], 3), _n(v["gain_sem"], 3),
             _n(v["gain_mean_field"], 3), _n(v["noise"], 3), _n(v["lag"], 1), _n(v["lag_sem"], 1),
             _n(v["lag_mean_field"], 1), _n(phase_difference(v["lag_mean_field"], v["lag"]), 1))
            for p, name, v in _rows(r, "sine")]
    return _aligned(heads, rows)


def _slopes(r: Mapping[str, Any]) -> str:
    heads = ("slope (Hz/Hz)", "", "network", "+-", "mean field")
    rows = [(source, name, _n(v["network"], 3), _n(v["network_sem"], 3), _n(v["mean_field"], 3))
            for source, found in r["slopes"].items() for name, v in found.items()]
    return _aligned(heads, rows)


def _verdict(r: Mapping[str, Any]) -> str:
    lines = []
    for name, v in r["verdict"].items():
        trusted = v["trusted"]
        text = "nowhere" if trusted is None else f"from {trusted[0]:g} to {trusted[1]:g} Hz"
        beyond = "; ".join(f"{drive:g} Hz: {', '.join(names)}"
                           for drive, names in zip(v["tested"], v["failing"], strict=True) if names)
        lines.append(f"trusted: {name} {text} (of {min(v['tested']):g} to {max(v['tested']):g} Hz tested)"
                     + (f"; beyond tolerance at {beyond}" if beyond else ""))
    return "\n".join(lines)


def _drive(p: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:g}" for k, v in p["background"].items())


def _mark(row: Mapping[str, Any]) -> str:
    return " " if row["within"] else "!"


def _n(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _aligned(heads: Row, rows: Sequence[Row]) -> str:
    """Columns as wide as needed, the first two to the left, numbers to the right; nothing without rows."""
    if not rows:
        return ""
    lines = [heads, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    return "\n".join("  ".join(c.ljust(w) if k < 2 else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths)))
                     for row in lines)
