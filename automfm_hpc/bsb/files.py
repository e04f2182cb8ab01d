"""What a BSB network file (HDF5) holds: placement sets, connectivity sets, and its own configuration.

Layout (BSB 4 to 8). ``placement/<cell type>/<chunk id>/position``: the cells of one cube of space. The cells of a
type are numbered through its chunks in the order of their ids. ``connectivity/<tag>/inc/<chunk id>``: the synapses
onto the cells of one chunk; rows of ``local_locs`` (target) and ``global_locs`` (source) hold cell, branch, point,
the cell counted within its chunk; the source chunks are listed in ``chunk_list`` and the attribute named by a
chunk's id is its first row. ``out`` holds the same synapses once more, by source.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from automfm_hpc.errors import NetworkError

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class SynapseSet:
    """One connectivity set, one row per synapse.

    Parameters
    ----------
    tag : str
    source, target : str
        Cell types.
    pre, post : (n_synapse,) int64 arrays
        0-based cells within their type.
    """

    tag: str
    source: str
    target: str
    pre: IntArray
    post: IntArray


@dataclass(frozen=True)
class BsbFile:
    """Content of a BSB network file.

    Parameters
    ----------
    path : str
    version : str
        BSB's version that wrote it.
    sizes : Mapping
        Cell type -> number of cells.
    sets : Mapping
        Tag -> SynapseSet.
    configuration : Mapping
        The configuration stored in the file; empty if there is none.
    labelled : tuple of str
        Cell types with cells that carry labels.
    """

    path: str
    version: str
    sizes: Mapping[str, int]
    sets: Mapping[str, SynapseSet]
    configuration: Mapping[str, Any]
    labelled: tuple[str, ...] = ()


def read_file(path: str | Path) -> BsbFile:
    """Read a BSB network with h5py alone.

    Raises
    ------
    NetworkError
        No such file, truncated or damaged HDF5, not a BSB network, ids out of range, or rows missing.
    """
    import h5py

    where = str(path)
    if not Path(path).is_file():
        raise NetworkError("no such file", where=where)
    if not h5py.is_hdf5(path):
        raise NetworkError("is not an HDF5 file", where=where, remedy="Give the file that `bsb compile` wrote.")
    with _reading(where), h5py.File(path, "r") as file:
        if "placement" not in file or "connectivity" not in file:
            raise NetworkError("is HDF5, but no BSB network (no placement and connectivity)", where=where,
                               remedy="Give the file that `bsb compile` wrote.")
        chunks = {name: _chunk_sizes(group, f"{where}: placement of {name}")
                  for name, group in file["placement"].items()}
        sets = {tag: _synapses(tag, group, chunks, where) for tag, group in file["connectivity"].items()}
        labelled = tuple(n for n, g in file["placement"].items() if any(c["labels"][:].any() for c in g.values()
                                                                        if "labels" in c))
        return BsbFile(where, str(file.attrs.get("bsb_version", "?")), {n: sum(c.values()) for n, c in chunks.items()},
                       sets, _stored_configuration(file, where), labelled)


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except NetworkError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = "truncated" if "truncated" in str(error) else "damaged"
        raise NetworkError(f"is {reason} ({' '.join(str(error).split())})", where=where,
                           remedy="Copy the file again, or compile the network again.") from None


def _chunk_sizes(group: Any, where: str) -> dict[int, int]:
    """Chunk id -> cells in it, in the order of the ids."""
    counted = json.loads(group.attrs.get("chunks", "{}"))
    sizes = {}
    for key in sorted((k for k in group if k.isdigit()), key=int):
        positions = len(group[key]["position"]) if "position" in group[key] else 0
        sizes[int(key)] = positions or int(counted.get(key, 0))
    _complete(sum(sizes.values()), group, where, "cells")
    return sizes


def _synapses(tag: str, group: Any, chunks: Mapping[str, Mapping[int, int]], where: str) -> SynapseSet:
    here = f"{where}: {tag}"
    source, target = str(group.attrs["pre"]), str(group.attrs["post"])
    for cell_type in (source, target):
        if cell_type not in chunks:
            raise NetworkError(f"joins '{cell_type}', which is not placed", where=here)
    blocks = [_block(int(key), block, chunks[source], chunks[target], here) for key, block in group["inc"].items()]
    pre, post = (np.concatenate([b[i] for b in blocks] or [np.empty(0, np.int64)]) for i in (0, 1))
    _complete(pre.size, group, here, "synapses")
    return SynapseSet(tag, source, target, pre, post)


def _block(local: int, block: Any, sources: Mapping[int, int], targets: Mapping[int, int],
           where: str) -> tuple[IntArray, IntArray]:
    """Source and target cells, numbered within their type, of the synapses onto one chunk."""
    post, pre = (block[k][:, 0].astype(np.int64) for k in ("local_locs", "global_locs"))
    remote = [_chunk_id(c) for c in block.attrs["chunk_list"]]
    rows = np.diff([*(int(block.attrs[str(c)]) for c in remote), post.size])
    if len(pre) != len(post) or (rows < 0).any() or rows.sum() != post.size:
        raise NetworkError(f"the rows of chunk {local} are not in order", where=where,
                           remedy="Compile the network again.")
    return (_numbered(pre, np.repeat(np.array(remote, np.int64), rows), sources, where),
            _numbered(post, np.full(post.size, local), targets, where))


def _numbered(cells: IntArray, chunk: IntArray, sizes: Mapping[int, int], where: str) -> IntArray:
    """Cells counted within their chunks -> cells counted within their type, all shape (n_synapse,)."""
    ids = np.array(list(sizes), np.int64)
    lengths = np.array(list(sizes.values()), np.int64)
    at = np.searchsorted(ids, chunk)
    known = at < ids.size
    known[known] = ids[at[known]] == chunk[known]
    bad = ~known
    bad[known] = (cells[known] < 0) | (cells[known] >= lengths[at[known]])
    if bad.any():
        cell, cube = int(cells[bad][0]), int(chunk[bad][0])
        raise NetworkError(f"connection ids are out of range: cell {cell} of chunk {cube}, which holds "
                           f"{sizes.get(cube, 0)} cells ({int(bad.sum())} such synapses)", where=where,
                           remedy="Compile the network again.")
    return cells + (np.cumsum(lengths) - lengths)[at] if cells.size else cells


def _chunk_id(coordinates: Any) -> int:
    """Id of a chunk from its three signed 16-bit coordinates."""
    x, y, z = (int(c) & 0xFFFF for c in coordinates)
    return x | y << 16 | z << 32


def _complete(rows: int, group: Any, where: str, what: str) -> None:
    said = int(group.attrs.get("len", rows))
    if said != rows:
        raise NetworkError(f"holds {rows} {what} where its header says {said}", where=where,
                           remedy="Copy the file again, or compile the network again.")


def _stored_configuration(file: Any, where: str) -> dict[str, Any]:
    """The configuration BSB keeps among the files of the network, {} if there is none."""
    for entry in file.get("files", {}).values():
        if json.loads(entry.attrs.get("meta", "{}")).get("active_config"):
            try:
                tree = yaml.safe_load(bytes(entry[()]).decode())  # JSON is YAML
            except (yaml.YAMLError, UnicodeDecodeError):
                raise NetworkError("its stored configuration cannot be read", where=where,
                                   remedy="Give the simulation part with --config.") from None
            return tree if isinstance(tree, dict) else {}
    return {}
