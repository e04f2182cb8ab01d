"""One network over all ranks of a NEST built with MPI; rank 0 prints a digest of the spikes. See test_nest_mpi.py."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from mpi4py import MPI

from automfm_hpc import stages
from automfm_hpc.description import load
from automfm_hpc.protocols import constant
from automfm_hpc.spiking import run_trial


def main() -> None:
    comm = MPI.COMM_WORLD
    network = load("cerebellum")
    if comm.rank == 0:
        stages.prepare_nest(network, lambda text: None)
    comm.barrier()
    recording = run_trial(network, constant({"mf": 20.0}, 300.0, 100.0), 1, scale=0.1, processes=4,
                          communicator=comm.py2f())
    digests = {}
    for name, s in recording.spikes.items():
        parts = comm.gather((s.cells, s.times))
        if comm.rank == 0:
            cells, times = (np.concatenate([p[k] for p in parts]) for k in (0, 1))
            order = np.lexsort((cells, times))
            data = cells[order].astype("<i8").tobytes() + np.round(times[order], 3).astype("<f8").tobytes()
            digests[name] = [int(cells.size), hashlib.sha256(data).hexdigest()]
    if comm.rank == 0:
        print("DIGESTS " + json.dumps(digests), flush=True)


main()
