"""Figures of a validation: spikes with the mean field on top, parity, time courses, gain and phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.plots import STYLE, _pyplot, _save
from automfm_hpc.spikes import smooth
from automfm_hpc.validate import KERNEL, exponential

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from automfm_hpc.mean_field import MeanField
    from automfm_hpc.run_folder import Run
    from automfm_hpc.validation import Comparison

FloatArray = NDArray[np.float64]
NETWORK, MEAN_FIELD = "black", "C3"


def plot_validation(run: Run) -> list[Path]:
    """Draw the last validation of a run into its folder ``figures``; returns the figures' paths.

    Raises
    ------
    AutomfmError
        If matplotlib is missing, or the run was not validated.
    """
    from automfm_hpc.validation import read_comparisons
    from automfm_hpc.validation_raster import read_raster

    plt = _pyplot()
    result, model, compared = read_comparisons(run)
    number, spikes = read_raster(run, result)
    run.figures.mkdir(exist_ok=True)
    with plt.rc_context(STYLE):
        figures = {"raster": draw_raster(model, compared[number], spikes)}
        varied = [c for c in compared if c.protocol.kind != "constant"]
        if len(varied) < len(compared):
            figures["parity"] = draw_parity(result)
        if varied:
            figures["courses"] = draw_courses(model, varied)
        if any(p["kind"] == "sine" for p in result["protocols"]):
            figures["sinusoids"] = draw_sinusoids(result)
        return [_save(plt, figure, run.figures / f"validation_{name}.png") for name, figure in figures.items()]


def draw_raster(model: MeanField, comparison: Comparison, spikes: Mapping[str, Any]) -> Any:
    """Spikes of a few cells; below, the rate filtered with T, where the mean field's variance applies; the drive."""
    plt = _pyplot()
    names = list(model.populations)
    figure, panels = plt.subplots(3, len(names), figsize=(1.2 + 3.4 * len(names), 6), squeeze=False, sharex=True,
                                  layout="constrained", height_ratios=(3, 3, 1))
    protocol = comparison.protocol
    times = np.arange(comparison.mean_field.shape[1]) + 0.5
    for i, name in enumerate(names):
        top, middle, bottom = panels[:, i]
        top.plot(spikes[name]["times"], spikes[name]["cells"], "k.", ms=1.5)
        top.set(title=name)
        T = float(model.system.T[i])
        filtered = exponential(comparison.activity[:, i], T)
        middle.plot(times, filtered[0], lw=0.5, color="0.6", label=f"network, one seed (filter T = {T:g} ms)")
        middle.plot(times, filtered.mean(axis=0), lw=1.0, color=NETWORK, label=f"network, mean of {len(filtered)}")
        _mean_field(middle, times, comparison.mean_field[i], comparison.sd[i])
        bottom.plot(protocol.times(), protocol.rate(), color="C0")
        bottom.set(xlabel="time (ms)", ylim=(0, None))
    panels[0, 0].set_ylabel("cell")
    panels[1, 0].set_ylabel("rate (Hz)")
    panels[2, 0].set_ylabel(f"{protocol.input} (Hz)")
    handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    figure.suptitle(protocol.name)
    return figure


def _mean_field(panel: Axes, times: NDArray[Any], rate: FloatArray, sd: FloatArray) -> None:
    if np.isfinite(sd).all():
        panel.fill_between(times, np.maximum(rate - sd, 0.0), rate + sd, color=MEAN_FIELD, alpha=0.25, lw=0)
    panel.plot(times, rate, lw=1.3, color=MEAN_FIELD, label="mean field +- its standard deviation")


def draw_parity(result: Mapping[str, Any]) -> Any:
    """Mean field against network at constant drives: rates, and standard deviations of the filtered rates."""
    plt = _pyplot()
    rows = [p["populations"] for p in result["protocols"] if p["kind"] == "constant"]
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
    for i, name in enumerate(result["sizes"]):
        picked = [{k: np.nan if v is None else v for k, v in row[name].items()} for row in rows]
        x, bar, y = (np.array([row[k] for row in picked]) for k in ("network", "spread", "mean_field"))
        panels[0].errorbar(x, y, xerr=bar, fmt="o", ms=4, lw=1, color=f"C{i}", label=name)
        sd, solved = (np.array([row[k] for row in picked]) for k in ("sd", "sd_mean_field"))
        panels[1].plot(sd, solved, "o", ms=4, color=f"C{i}")
    tolerance = result["tolerance"]["percent"] / 100.0
    for panel, what in zip(panels, ("rate", "sd of the rate filtered with T"), strict=True):
        top = max(panel.get_xlim()[1], panel.get_ylim()[1])
        panel.plot([0, top], [0, top], "k-", lw=0.8)
        panel.set(xlabel=f"network: {what} (Hz)", ylabel=f"mean field: {what} (Hz)", xlim=(0, top), ylim=(0, top))
    top = panels[0].get_xlim()[1]
    panels[0].fill_between([0, top], [0, top * (1 - tolerance)], [0, top * (1 + tolerance)], color="0.9", lw=0)
    panels[0].legend()
    return figure


def draw_courses(model: MeanField, compared: Sequence[Comparison]) -> Any:
    """Every drive over time: PSTH and mean field, both with the stated kernel, a row per drive."""
    plt = _pyplot()
    names = list(model.populations)
    shape = (len(compared), len(names))
    figure, panels = plt.subplots(*shape, figsize=(1.2 + 3.6 * shape[1], 1.5 * shape[0] + 0.5), squeeze=False,
                                  layout="constrained")
    for row, c in zip(panels, compared, strict=True):
        times = np.arange(c.mean_field.shape[1]) + 0.5
        for i, panel in enumerate(row):
            trials = smooth(c.activity[:, i], KERNEL)
            panel.plot(times, trials.mean(axis=0), color=NETWORK, lw=0.8, label="network")
            panel.plot(times, smooth(c.mean_field[i], KERNEL), color=MEAN_FIELD, lw=1.0, label="mean field")
        row[0].set_ylabel("rate (Hz)")
        row[0].set_title(c.protocol.name, loc="left", fontsize=7)
    for panel, name in zip(panels[-1], names, strict=True):
        panel.set_xlabel(f"time (ms): {name}")
    panels[0, 0].legend()
    return figure


def draw_sinusoids(result: Mapping[str, Any]) -> Any:
    """Gain and phase lag against frequency, a column per population, a colour per input."""
    plt = _pyplot()
    sines = [p for p in result["protocols"] if p["kind"] == "sine"]
    names = list(result["sizes"])
    figure, panels = plt.subplots(2, len(names), figsize=(1.2 + 3.2 * len(names), 5), squeeze=False, sharex=True,
                                  layout="constrained")
    for k, source in enumerate(dict.fromkeys(p["input"] for p in sines)):
        mine = [p for p in sines if p["input"] == source]
        frequency = np.array([p["settings"]["frequency"] for p in mine])
        for i, name in enumerate(names):
            rows = [{q: np.nan if v is None else v for q, v in p["populations"][name].items()} for p in mine]
            for panel, what in zip(panels[:, i], ("gain", "lag"), strict=True):
                columns = (what, f"{what}_sem", f"{what}_mean_field")
                values, bars, solved = (np.array([r[q] for r in rows]) for q in columns)
                if what == "lag":  # 180 and -180 degrees are one: drawn where the network's is
                    solved = values + (solved - values + 180.0) % 360.0 - 180.0
                panel.errorbar(frequency, values, bars, fmt="o", ms=4, color=f"C{k}", label=f"network, {source}")
                panel.plot(frequency, solved, "-", color=f"C{k}", label=f"mean field, {source}")
            panels[0, i].plot(frequency, [r["noise"] for r in rows], ":", color="0.5", label="network's noise")
            panels[0, i].set(title=name, xscale="log", ylim=(0, None))
            panels[1, i].set(xlabel="frequency (Hz)", xscale="log")
    panels[0, 0].set_ylabel("gain")
    panels[1, 0].set_ylabel("phase lag (degrees)")
    panels[0, 0].legend()
    return figure
