"""True connections of a network, kept beside its description as compressed HDF5."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import NetworkError
from automfm_hpc.network import Distribution, Network

IntArray = NDArray[np.int64]
FORMAT = 1


@dataclass(frozen=True)
class Connections:
    """Connected pairs of one projection, each pair once, ordered by target, then by source.

    Parameters
    ----------
    pre, post : (n_pair,) int64 arrays
        0-based cells of the source and of the target population; for an input, `pre` are its relays.
    synapses : (n_pair,) int64 array
        Synapses of each pair; they arrive together.
    """

    pre: IntArray
    post: IntArray
    synapses: IntArray

    @staticmethod
    def from_synapses(pre: IntArray, post: IntArray, synapses: IntArray | None = None) -> Connections:
        """Pairs from synapses listed one by one (or in bunches of `synapses`), shape (n_synapse,) each."""
        n_pre = int(pre.max(initial=0)) + 1
        pairs, which = np.unique(post.astype(np.int64) * n_pre + pre, return_inverse=True)
        counts = np.bincount(which, weights=synapses, minlength=pairs.size)
        return Connections(pairs % n_pre, pairs // n_pre, counts.astype(np.int64))

    def indegrees(self, n_target: int) -> IntArray:
        """Connected pairs of each target cell, shape (n_target,)."""
        return np.bincount(self.post, minlength=n_target).astype(np.int64)

    def indegree(self, n_target: int) -> Distribution:
        """Mean and standard deviation over all target cells, those without input included."""
        return _spread(self.indegrees(n_target))

    def per_pair(self) -> Distribution:
        """Mean and standard deviation over pairs of the synapses per pair."""
        return _spread(self.synapses) if self.synapses.size else Distribution(1.0)


def _spread(numbers: IntArray) -> Distribution:
    return Distribution(float(numbers.mean()), float(numbers.std()))


def save_connections(path: str | os.PathLike[str], connections: Mapping[str, Connections],
                     relays: Mapping[str, IntArray] | None = None) -> None:
    """Write connections as compressed HDF5, aside and then renamed: a reader sees all or nothing.

    Parameters
    ----------
    path : path
    connections : Mapping
        Projection name -> Connections.
    relays : Mapping, optional
        Input name -> (n_relay,) array: the source that each relay repeats.
    """
    import h5py

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        with h5py.File(aside, "w") as file:
            file.attrs["automfm_connections"] = FORMAT
            for number, (name, c) in enumerate(connections.items()):
                group = file.create_group(f"projections/{number}")  # names hold '/', which HDF5 takes as a path
                group.attrs["name"] = name
                for key in ("pre", "post", "synapses"):
                    _write(group, key, getattr(c, key))
            for name, sources in (relays or {}).items():
                _write(file.require_group("relays"), name, sources)
        os.chmod(aside, 0o644)
        os.replace(aside, target)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _write(group: object, name: str, values: IntArray) -> None:
    options = {"compression": "gzip", "shuffle": True} if len(values) else {}
    group.create_dataset(name, data=np.asarray(values, np.int64), **options)  # type: ignore[attr-defined]


def load_connections(source: str | os.PathLike[str] | Network) -> tuple[dict[str, Connections], dict[str, IntArray]]:
    """Connections by projection name and, by input name, the source of each relay.

    Parameters
    ----------
    source : path or Network
        A file that `save_connections` wrote, or a network whose description names one; for a network the
        ids are checked against its sizes.

    Raises
    ------
    NetworkError
        If there is no such file, it is damaged, or it does not belong to the network.
    """
    if isinstance(source, Network):
        return _of_network(source)
    import h5py

    path = Path(source)
    if not path.is_file():
        raise NetworkError("no such file", where=str(path), remedy="Run `automfm import-bsb` again.")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("automfm_connections") != FORMAT:
                raise NetworkError("holds no connections of a network", where=str(path),
                                   remedy="Run `automfm import-bsb` again.")
            groups = [file["projections"][k] for k in sorted(file.get("projections", ()), key=int)]
            found = {str(g.attrs["name"]): Connections(*(g[k][:] for k in ("pre", "post", "synapses")))
                     for g in groups}
            return found, {k: v[:] for k, v in file.get("relays", {}).items()}
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, NetworkError):
            raise
        raise NetworkError(f"is damaged ({' '.join(str(error).split())})", where=str(path),
                           remedy="Run `automfm import-bsb` again.") from None


def _of_network(network: Network) -> tuple[dict[str, Connections], dict[str, IntArray]]:
    if network.connections is None:
        raise NetworkError("its description names no file of connections", where=network.name)
    found, relays = load_connections(network.connections)
    check(network, found, relays, network.connections)
    return found, relays


def check(network: Network, connections: Mapping[str, Connections], relays: Mapping[str, IntArray],
          where: str) -> None:
    """Raise NetworkError if connections do not fit the network: names, ids, pairs twice, another in-degree."""
    sizes = {p.name: p.size for p in network.populations}
    sizes |= {i.name: len(relays[i.name]) if i.name in relays else (i.sources or 0) for i in network.inputs}
    for i in network.inputs:
        if i.name in relays:
            _within(relays[i.name], i.sources or 0, f"{where}: relays of {i.name}", f"sources of {i.name}")
    private = {i.name for i in network.inputs if i.sources is None}
    for p in network.projections:
        if p.source in private:
            continue
        if p.name not in connections:
            raise NetworkError(f"has no connections for '{p.name}'", where=where)
        c = connections[p.name]
        _within(c.pre, sizes[p.source], f"{where}: {p.name}", f"cells of {p.source}")
        _within(c.post, sizes[p.target], f"{where}: {p.name}", f"cells of {p.target}")
        if (np.diff(c.post * sizes[p.source] + c.pre) <= 0).any():
            raise NetworkError("a pair stands twice, or pairs are not ordered by target and source",
                               where=f"{where}: {p.name}", remedy="Make them with Connections.from_synapses.")
        counted = c.pre.size / sizes[p.target]
        if abs(counted - p.indegree.mean) > 1e-6 * max(counted, 1.0):
            raise NetworkError(f"the description's in-degree is {p.indegree.mean:g}, its connections have {counted:g}",
                               where=f"{where}: {p.name}", remedy="Take the key 'connections' out of the description, "
                               "or import the network again.")


def _within(ids: IntArray, size: int, where: str, what: str) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        worst = int(ids.min()) if ids.min() < 0 else int(ids.max())
        raise NetworkError(f"connection id {worst} is out of range: there are {size} {what}", where=where)
