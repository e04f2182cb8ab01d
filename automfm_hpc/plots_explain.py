"""Figure of an explanation: every population's rate on every rung."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automfm_hpc.plots import STYLE, _pyplot, _save

if TYPE_CHECKING:
    from automfm_hpc.run_folder import Run


def plot_explanation(run: Run) -> list[Path]:
    """Draw the last explanation of a run into its folder ``figures``; returns the figure's path.

    Raises
    ------
    AutomfmError
        If matplotlib is missing, or the run was not explained.
    """
    from automfm_hpc.explain import read_explanation

    plt = _pyplot()
    result = read_explanation(run)
    run.figures.mkdir(exist_ok=True)
    with plt.rc_context(STYLE):
        return [_save(plt, draw_ladder(result), run.figures / "explain.png")]


def draw_ladder(result: Mapping[str, Any]) -> Any:
    """A panel per population: rungs along x, rate as percent of the network's along y, a line per drive.

    Bars are the sampling error over cells of the step from the rung before.
    """
    plt = _pyplot()
    names = list(result["drives"][0]["populations"])
    rungs = [r["name"] for r in result["rungs"]]
    figure, panels = plt.subplots(1, len(names), figsize=(1.0 + 2.6 * len(names), 4.6), squeeze=False,
                                  layout="constrained")
    x = np.arange(len(rungs))
    for i, name in enumerate(names):
        panel = panels[0, i]
        for k, found in enumerate(result["drives"]):
            rows = [found["populations"][name]["rungs"][r] for r in rungs]
            there = [row["rate"] - row.get("deviation", 0.0) for row in rows]
            scale = np.array([100.0 / t if t > 0 else np.nan for t in there])
            rate = np.array([row["rate"] for row in rows])
            bars = np.array([row.get("cost_sem") or 0.0 for row in rows])
            panel.errorbar(x, rate * scale, bars * scale, fmt="o-", ms=3.5, lw=1.0, color=f"C{k}",
                           label=f"{rate[0]:.1f} Hz")
        panel.axhline(100.0, color="0.6", lw=0.8, zorder=0)
        panel.set_xticks(x, rungs, rotation=90)
        panel.set_title(name)
        panel.legend(title="network")
    panels[0, 0].set_ylabel("rate (% of the network's)")
    drives = [" ".join(f"{n} {v:g} Hz" for n, v in found["drive"].items()) for found in result["drives"]]
    figure.legend(panels[0, 0].get_legend_handles_labels()[0], drives, loc="outside lower center", ncols=len(drives))
    return figure
