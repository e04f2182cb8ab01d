"""Figures of a run: transfer functions against their fits, mean-field rates against known ones, its validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import AutomfmError, StoreError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from automfm_hpc.run_folder import Run
    from automfm_hpc.transfer_function import TransferFunction

FloatArray = NDArray[np.float64]
CURVES = 5
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "axes.titlesize": 9,
         "legend.frameon": False, "legend.fontsize": 8, "figure.dpi": 120, "savefig.bbox": "tight"}


def plot_run(run: Run) -> list[Path]:
    """Draw all figures a run has data for into its folder ``figures``; returns their paths.

    Raises
    ------
    AutomfmError
        If matplotlib is missing, or nothing was fitted yet.
    """
    plt = _pyplot()
    from automfm_hpc.mean_field import MeanField
    from automfm_hpc.store import RateStore

    if not run.model.exists():
        raise StoreError("nothing to draw yet", where=str(run.folder), remedy=f"Run `automfm fit {run.folder}` first.")
    plan = run.read_plan()
    store, model = RateStore.open(run.rates, plan), MeanField.load(run.folder)
    run.figures.mkdir(exist_ok=True)
    written: list[Path] = []
    with plt.rc_context(STYLE):
        for tf in model.transfer_functions:
            figure = draw_transfer_function(tf, store.grid(tf.population).load(), plan.network.working_points)
            written.append(_save(plt, figure, run.figures / f"transfer_function_{tf.population}.png"))
        if run.comparison.is_file():
            comparison = json.loads(run.comparison.read_text("utf-8"))
            for label, block in comparison["references"].items():
                name = f"rates_{label.replace(' ', '_')}.png"
                written.append(_save(plt, draw_rates(label, block), run.figures / name))
    if (run.folder / "validation.json").is_file():
        from automfm_hpc.plots_validation import plot_validation

        written += plot_validation(run)
    return written


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise AutomfmError("matplotlib is not installed", where="plot", remedy="pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(plt: Any, figure: Any, path: Path) -> Path:
    aside = path.with_name(f".{path.name}")
    figure.savefig(aside, format="png")
    plt.close(figure)
    aside.replace(path)
    return path


# --- transfer functions ---------------------------------------------------------------------------


def draw_transfer_function(tf: TransferFunction, grid: Any, working_points: Mapping[str, Any]) -> Any:
    """Curves with standard errors and the fit; the measured rates and the residuals as maps.

    Inputs beyond the second are held at the grid value nearest to their median working point.
    """
    plt = _pyplot()
    axes_names = tf.axes
    held = {a: _nearest(grid[a].values, working_points.get(a)) for a in axes_names[2:]}
    view = grid.isel(held)
    two = len(axes_names) > 1
    figure, panels = plt.subplots(1, 3 if two else 1, figsize=(11, 3.2) if two else (4, 3.2), squeeze=False,
                                  layout="constrained")
    rate, sem, fitted = (_along(a, axes_names[:2]) for a in (view["rate"], view["rate_sem"], _predict(tf, view)))
    _curves(panels[0, 0], axes_names, view, rate, sem, tf, held, grid)
    if two:
        x, y = (view[a].values for a in axes_names[:2])
        _map(figure, panels[0, 1], x, y, rate, axes_names, "measured rate (Hz)", "viridis", None)
        _map(figure, panels[0, 2], x, y, fitted - rate, axes_names, "fit minus measured (Hz)", "RdBu_r", 0.0)
    note = ", ".join(f"{a} = {grid[a].values[i]:.3g} Hz" for a, i in held.items())
    figure.suptitle(f"{tf.population}: {tf.kind}" + (f"   ({note})" if note else ""))
    return figure


def _nearest(values: FloatArray, points: Any) -> int:
    middle = float(np.median(points)) if points else float(values[len(values) // 2])
    return int(np.argmin(np.abs(values - middle)))


def _along(array: Any, axes: tuple[str, ...]) -> FloatArray:
    return np.asarray(array.transpose(*axes).values if hasattr(array, "transpose") else array, float)


def _predict(tf: TransferFunction, view: Any) -> Any:
    """The fit on the points of a view of the grid, in the view's own shape."""
    import xarray

    free = [a for a in tf.axes if a in view.dims]
    mesh = xarray.broadcast(*(view[a] for a in free))
    values = [mesh[free.index(a)].values if a in free else np.full(mesh[0].shape, float(view[a])) for a in tf.axes]
    return mesh[0].copy(data=tf(np.stack(values, axis=-1)))


def _curves(panel: Axes, names: tuple[str, ...], view: Any, rate: FloatArray, sem: FloatArray, tf: TransferFunction,
            held: Mapping[str, int], grid: Any) -> None:
    """Rate against the first input for a few values of the second."""
    plt = _pyplot()
    x = view[names[0]].values
    fine = np.linspace(x[0], x[-1], 200)
    others = view[names[1]].values if len(names) > 1 else np.zeros(1)
    chosen = np.unique(np.linspace(0, len(others) - 1, CURVES).round().astype(int))
    colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(chosen)))
    for index, colour in zip(chosen, colours, strict=True):
        at = {names[0]: fine, **{a: grid[a].values[i] for a, i in held.items()}}
        if len(names) > 1:
            at[names[1]] = others[index]
        inputs = np.stack([np.broadcast_to(at[a], fine.shape) for a in names], axis=-1)
        row, error = (v[:, index] if len(names) > 1 else v for v in (rate, sem))
        label = f"{names[1]} {others[index]:.3g} Hz" if len(names) > 1 else None
        panel.errorbar(x, row, error, fmt="o", ms=3, lw=0.8, color=colour, label=label)
        panel.plot(fine, tf(inputs), lw=1.2, color=colour)
    panel.set(xlabel=f"{names[0]} (Hz)", ylabel="rate (Hz)", title="measured (points), fit (lines)")
    if len(names) > 1:
        panel.legend()


def _map(figure: Any, panel: Axes, x: FloatArray, y: FloatArray, values: FloatArray, names: tuple[str, ...],
         title: str, colours: str, centre: float | None) -> None:
    limit = float(np.nanmax(np.abs(values))) or 1.0
    low, high = (None, None) if centre is None else (-limit, limit)
    mesh = panel.pcolormesh(x, y, values.T, shading="nearest", cmap=colours, vmin=low, vmax=high)
    panel.set(xlabel=f"{names[0]} (Hz)", ylabel=f"{names[1]} (Hz)", title=title)
    figure.colorbar(mesh, ax=panel)


# --- rates ----------------------------------------------------------------------------------------


def draw_rates(label: str, comparison: Mapping[str, Any]) -> Any:
    """Stationary rates of the mean field over the drives, beside the rates of one reference."""
    plt = _pyplot()
    orders = comparison["orders"]
    names = list(next(iter(orders.values())))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    size = (3.6 * columns, 2.7 * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    first = next(iter(comparison["drives"][0]))
    drive = [d[first] for d in comparison["drives"]]
    for panel, name in zip(panels.flat, names, strict=False):
        for (order, values), style in zip(orders.items(), (":", "-"), strict=True):
            panel.plot(drive, values[name]["rates"], style, color="C0", label=f"mean field, order {order}")
        row = orders["2"][name]
        title = name
        if "reference" in row:
            panel.plot(drive, row["reference"], "ko", ms=4, label=label)
            title += f"   (mean error {row['mean_absolute_error']:.1f} Hz)"
        panel.set(title=title, xlabel=f"{first} (Hz)", ylabel="rate (Hz)", ylim=(0, None))
    panels.flat[0].legend()
    for panel in panels.flat[len(names):]:
        panel.axis("off")
    return figure
