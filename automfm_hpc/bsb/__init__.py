"""Networks of the Brain Scaffold Builder, read from their HDF5 file with every true connection.

Only h5py is needed. Cell constants, weights, delays and receptors come from the simulation part of the file's own
configuration, or of one given beside it. In that configuration a block ``automfm`` may hold what BSB has no place
for: ``names`` (cell type -> short name), ``pathways`` (tag -> pathway, where several sets join the same two
populations), ``inputs`` (name -> rate, rate_range), ``through`` (a set from cells onto relays -> the set that leads
on), ``rate_ranges`` (population -> two rates), and name, description, region, species, pathology, T, groups,
variants, working_points as in a network description.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from automfm_hpc.bsb.configuration import read_configuration, simulation_part
from automfm_hpc.bsb.files import IntArray, read_file
from automfm_hpc.bsb.report import Report
from automfm_hpc.bsb.translate import Settings, translate
from automfm_hpc.connections import Connections, check, load_connections, save_connections
from automfm_hpc.description import file_id
from automfm_hpc.errors import NetworkError
from automfm_hpc.network import Network
from automfm_hpc.provenance import write_atomically

__all__ = ["BsbNetwork", "Connections", "load_connections", "read_bsb", "save_connections", "write_network"]


@dataclass(frozen=True)
class BsbNetwork:
    """A network read from a BSB file.

    Parameters
    ----------
    network : Network
        Its description; in-degrees and synapses per pair are measured from the true connections.
    connections : Mapping
        Projection name -> Connections: every connected pair with its number of synapses.
    relays : Mapping
        Input name -> (n_relay,) int64 array: source that each relay repeats. A projection from the input
        starts at these relays; an input without relays is its own relay.
    found, dropped : tuple of str
        What the file holds; what was left out, and why.
    """

    network: Network
    connections: Mapping[str, Connections]
    relays: Mapping[str, IntArray]
    found: tuple[str, ...]
    dropped: tuple[str, ...]


def read_bsb(path: str | Path, config: str | Path | None = None, simulation: str | None = None) -> BsbNetwork:
    """Read a BSB network.

    Parameters
    ----------
    path : path
        HDF5 file written by `bsb compile`.
    config : path, optional
        BSB configuration (YAML or JSON) whose simulation part is used in place of the file's own.
    simulation : str, optional
        Name of the simulation, where there are several.

    Raises
    ------
    NetworkError
        Damaged or foreign file, no simulation part, or a simulation part that does not fit.
    """
    file = read_file(path)
    root = {**file.configuration, **(read_configuration(config) if config is not None else {})}
    if config is not None and "cell_models" in root:
        root.pop("simulations", None)  # a bare simulation part replaces the file's own
    where = str(config) if config is not None else str(path)
    part = simulation_part(root, where, simulation)
    report = Report()
    report.found.append(f"{Path(path).name}: written by BSB {file.version}, "
                        f"{len(file.sizes)} cell types, {len(file.sets)} connectivity sets")
    described, connections, relays = translate(file, part, Settings(root.get("automfm"), where), report)
    described.setdefault("name", Path(path).stem)
    network = Network.from_dict(described, where)
    check(network, connections, relays, str(path))
    return BsbNetwork(network, MappingProxyType(connections), MappingProxyType(relays),
                      tuple(report.found), tuple(report.dropped))


def write_network(bsb: BsbNetwork, path: str | Path) -> Path:
    """Write the description as YAML and, beside it, the connections; returns the connections' path.

    The connections come first, so that a description never names a file that is not there.

    Raises
    ------
    NetworkError
        If they cannot be written.
    """
    target = Path(path)
    beside = target.with_suffix(".connections.h5")
    try:
        save_connections(beside, bsb.connections, bsb.relays)
        named = replace(bsb.network, connections=beside.name, connections_id=file_id(beside))
        write_atomically(target, named.to_yaml())
    except OSError as error:
        raise NetworkError(f"cannot be written ({error})", where=str(target)) from None
    return beside
