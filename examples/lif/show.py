"""What the examples share: print the numbers of a figure, or plot its curves with --plot FILE."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np

Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def run(numbers: Callable[[], dict[str, Any]], curves: Callable[[], Curves], title: str, x: str, y: str) -> None:
    """Print `numbers()` as JSON; with --plot draw `curves()` into a file."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--plot", metavar="FILE", help="draw the figure into FILE")
    options = parser.parse_args()
    print(json.dumps(numbers(), indent=2, default=lambda v: np.asarray(v).tolist()))
    if options.plot:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots()
        for label, (horizontal, vertical) in curves().items():
            axes.plot(horizontal, vertical, label=label)
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.legend(fontsize="small")
        figure.savefig(options.plot)
