"""Few cells that stand for many: chosen by what drives them, and averaged with what is known of all.

Cells of one population differ for good, in their in-degrees and in the rates of the few cells they hear, and that is
nearly all the variance of their rates. Who sends to a cell costs little to draw; to simulate the cell costs a thousand
times as much. So for each simulated cell many candidates are drawn, put into strata by their mean excitatory and
inhibitory input, and one of each stratum, taken at random, is simulated: its rate, weighted by the size of the stratum,
is unbiased, whatever the rate does. Strata are smaller where the net input is high, because where most cells are silent
the rate is that of a few. The rates of the simulated cells are then regressed on the two inputs, and the mean of the
regression over all candidates is the estimate (stratified double sampling; Cochran, Sampling techniques, 1977, chapters
5 and 12). What the regression does not explain is its error.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.afferents import Senders
from automfm_hpc.remap import Cell, CellInputs

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
CANDIDATES = 128  # drawn for each cell that is simulated
CELLS_PER_COEFFICIENT = 4
KNOTS = (0.5, 0.75, 0.9, 0.98)  # quantiles of the net input at which the regression may bend
TOP = ((0.125, 0.5), (1.0 / 64.0, 0.25))  # share of candidates with the highest net input; share of cells from there


@dataclass(frozen=True, eq=False)
class Chosen:
    """Cells to simulate, and the candidates that they stand for.

    Parameters
    ----------
    inputs : CellInputs
        Of the n chosen cells.
    senders : Senders
        Who sends to them.
    weight : (n,) array
        Share of the candidates that each stands for.
    drive : (n, 2) array
        Their mean excitatory and inhibitory input, see `two_sided`.
    candidates : (n_candidate, 2) array
        The same of all candidates.
    pairs : (n_candidate, n_channel) array
        In-degrees of all candidates.
    """

    inputs: CellInputs
    senders: Senders
    weight: FloatArray
    drive: FloatArray
    candidates: FloatArray
    pairs: FloatArray


def choose(cell: Cell, inputs: CellInputs, senders: Senders, n: int, rng: np.random.Generator) -> Chosen:
    """n of the candidates, one at random of each of n strata."""
    drive = two_sided(cell, senders.drive(cell, inputs))
    m, upward = len(drive), np.argsort(drive.sum(axis=1), kind="stable")
    picked, weight = [], []
    cut, cells = [m - int(share * m) for share, _ in TOP], [int(share * n) for _, share in TOP]
    for a, b, k in zip([0, *cut], [*cut, m], [n - cells[0], *(np.subtract(cells, [*cells[1:], 0]))], strict=True):
        strata = _strata(drive, upward[a:b], int(k))
        picked += [stratum[int(rng.random() * len(stratum))] for stratum in strata]
        weight += [len(stratum) / m for stratum in strata]
    order = np.argsort(picked)
    chosen = np.asarray(picked)[order]
    return Chosen(inputs.of(chosen), senders.of(chosen), np.asarray(weight)[order], drive[chosen], drive, inputs.pairs)


def _strata(drive: FloatArray, some: IntArray, n: int) -> list[IntArray]:
    """n strata of equal number.

    They are strips along the excitatory input, cut along the inhibitory one, to and fro, so that a stratum that
    reaches from one strip into the next holds neighbours too.
    """
    m = len(some)
    strip = np.empty(m, np.int64)
    strip[np.argsort(drive[some, 0], kind="stable")] = np.arange(m) * max(round(n**0.5), 1) // m
    along = np.argsort(np.argsort(drive[some, 1], kind="stable"), kind="stable")
    order = np.lexsort((np.where(strip % 2 == 0, along, -along), strip))
    edges = np.arange(n + 1) * m // n
    return [some[order[a:b]] for a, b in pairwise(edges)]


def two_sided(cell: Cell, drive: FloatArray) -> FloatArray:
    """Mean excitatory and inhibitory input at threshold, up to a factor, summed over channels: (n_cell, 2).

    Parameters
    ----------
    cell : Cell
    drive : (n_cell, n_channel) array
        Peak size times arrivals per second.
    """
    threshold, lasting = cell.parameters["V_th"], cell.array("tau_syn")
    force = np.array([np.sign(c.weight) if c.E_rev is None else c.E_rev - threshold for c in cell.channels])
    signed = np.abs(drive) * np.where(np.isnan(lasting), 1.0, lasting) * force
    excitatory = np.array([c.excitatory for c in cell.channels])
    return np.column_stack([signed[:, excitatory].sum(axis=1), signed[:, ~excitatory].sum(axis=1)])


@dataclass(frozen=True, eq=False)
class Estimate:
    """Mean over all candidates of the rate (Hz), its error from the simulated cells alone (Hz), and the regression's
    value (Hz) at each candidate, shape (n_candidate,).
    """

    mean: float
    error: float
    fitted: FloatArray


def estimate(rate: FloatArray, weight: FloatArray, drive: FloatArray, candidates: FloatArray) -> Estimate:
    """Mean rate of the candidates from the rates of a few of them.

    The regression is linear in both inputs, with more cells also broken linear in the net input, with still more
    quadratic. Its error counts every cell's residual by the weight that the cell has in the mean, as if the cell had
    been left out (MacKinnon & White 1985, doi 10.1016/0304-4076(85)90158-7).

    Parameters
    ----------
    rate : (n_cell,) array
        Hz.
    weight : (n_cell,) array
        Share of the candidates that each cell stands for.
    drive : (n_cell, 2) array
    candidates : (n_candidate, 2) array
    """
    here, there = _regressors(drive, candidates, len(rate) // CELLS_PER_COEFFICIENT)
    root = np.sqrt(weight)
    solve = np.linalg.pinv(here * root[:, None]) * root  # least squares with these weights
    leverage = np.minimum(np.einsum("ij,ji->i", here, solve), 1.0 - 1.0 / len(rate))
    residual = (rate - here @ (solve @ rate)) / (1.0 - leverage)
    share = there.mean(axis=0) @ solve
    fitted = there @ (solve @ rate)
    return Estimate(float(fitted.mean()), float(np.sqrt(np.sum((share * residual) ** 2))), fitted)


def _regressors(drive: FloatArray, candidates: FloatArray, most: int) -> tuple[FloatArray, FloatArray]:
    """Columns of the regression, `most` or fewer, at the simulated cells and at all candidates."""
    spread = candidates.std(axis=0)
    moving = spread > 1e-9 * np.abs(candidates.mean(axis=0))
    centre, scale = candidates.mean(axis=0)[moving], spread[moving]
    net = candidates.sum(axis=1)
    knots = np.quantile(net, KNOTS)
    columns = []
    for values in (drive, candidates):
        x = (values[:, moving] - centre) / scale
        bent = np.maximum(values.sum(axis=1)[:, None] - knots, 0.0) / max(float(net.std()), 1e-300)
        columns.append((_polynomial(x, 1), bent if moving.any() else bent[:, :0], _polynomial(x, 2)))
    (line, bent, square), (all_line, all_bent, all_square) = columns
    if line.shape[1] + len(KNOTS) > most:
        return line, all_line
    if square.shape[1] + len(KNOTS) > most:
        return np.hstack([line, bent]), np.hstack([all_line, all_bent])
    return np.hstack([square, bent]), np.hstack([all_square, all_bent])


def _polynomial(x: FloatArray, degree: int) -> FloatArray:
    n = x.shape[1]
    columns = [np.ones(len(x)), *x.T]
    if degree == 2:
        columns += [x[:, i] * x[:, j] for i in range(n) for j in range(i, n)]
    return np.column_stack(columns)
