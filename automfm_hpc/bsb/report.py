"""What an import found and what it dropped, in sentences for the user."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from automfm_hpc.bsb.files import BsbFile
from automfm_hpc.bsb.relays import Ports
from automfm_hpc.bsb.synapses import CellModel, Synapse
from automfm_hpc.connections import Connections
from automfm_hpc.errors import NetworkError


@dataclass(frozen=True)
class Wired:
    """One connectivity set that ends at cells, with its synapses and pairs.

    Parameters
    ----------
    tag : str
    source : str
        Cell type or, through relays, the cell type of the sources.
    target : str
    synapses : tuple of Synapse
        Most sets have one; several act side by side.
    pairs : Connections
        Through relays, `pre` is the relay among the input's relays.
    """

    tag: str
    source: str
    target: str
    synapses: tuple[Synapse, ...]
    pairs: Connections


@dataclass(frozen=True)
class Report:
    """Sentences gathered on the way."""

    found: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def report_cells(file: BsbFile, cells: Mapping[str, CellModel], inputs: Mapping[str, Ports], wired: list[Wired],
                 driven: Collection[str], names: Mapping[str, str], report: Report) -> None:
    """Say how many cells and sources there are, and how many have no input at all; `driven` cells have their own.

    Raises
    ------
    NetworkError
        If no cell of a population has input.
    """
    for name, cell in cells.items():
        reached = np.zeros(file.sizes[name], bool)
        onto = [w for w in wired if w.target == name]
        for w in onto:
            reached[w.pairs.post] = True
        if onto and not reached.any() and name not in driven:
            raise NetworkError(f"no connection reaches the population {names[name]} ({name}); its sets are empty",
                               where=file.path, remedy="Compile the network again, or take out its cell model.")
        alone = int((~reached).sum())
        report.found.append(f"{names[name]} ({name}): {reached.size} {cell.model}"
                            + (f", {alone} without any input" if alone and onto and name not in driven else ""))
    for root, port in inputs.items():
        through = [f"{int((n >= 0).sum())} {r}" for r, n in port.number.items() if r != root]
        fed = np.bincount(port.owner, minlength=file.sizes[root])
        spread = f", {fed.mean():.4g} (sd {fed.std():.3g}) relays each" if through else ""
        report.found.append(f"{names[root]} ({root}): {file.sizes[root]} sources"
                            + (f" through {' and '.join(through)}{spread}" if through else ""))


def report_projections(file: BsbFile, wired: list[Wired], names: Mapping[str, str], report: Report) -> None:
    """Say for every set what was counted."""
    for w in wired:
        c, size = w.pairs, file.sizes[w.target]
        K, m = c.indegree(size), c.per_pair()
        empty = int((c.indegrees(size) == 0).sum())
        itself = int((c.pre == c.post).sum()) if w.source == w.target else 0
        report.found.append(
            f"{names[w.source]}->{names[w.target]} ({w.tag}): {int(c.synapses.sum())} synapses in {c.pre.size} pairs, "
            f"in-degree {K.mean:.4g} (sd {K.sd:.3g}), synapses per pair {m.mean:.4g} (sd {m.sd:.3g})"
            + (f", {empty} cells without" if empty else "")
            + (f", {itself} cells onto themselves (kept, as BSB does)" if itself else ""))
