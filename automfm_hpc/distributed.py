"""One spiking network spread over all ranks, by a NEST built with MPI; trials one after the other.

Results depend on the number of virtual processes alone, which the caller fixes: they are the same on any number of
ranks that divides it, and an interrupted job may go on with another number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import SimulationError, UsageError
from automfm_hpc.experiment import Experiment, Trial, record, reduced
from automfm_hpc.nest_models import find_nest
from automfm_hpc.spikes import Spikes

if TYPE_CHECKING:
    from automfm_hpc.progress import Report
    from automfm_hpc.spiking import Recording


def check(pool: Any, processes: int) -> None:
    """Whether networks can be spread over the ranks of a pool.

    Raises
    ------
    SimulationError
        If NEST was built without MPI.
    UsageError
        If the ranks cannot share the virtual processes evenly.
    """
    if not find_nest().has_mpi:
        raise SimulationError("this NEST was built without MPI, it cannot spread one network over ranks",
                              where="--distribute", remedy="Build one with `make nest-mpi`; or leave --distribute out: "
                              "every rank then runs trials of its own.")
    if processes < 1 or processes % pool.size:
        raise UsageError(f"{processes} virtual processes cannot be shared by {pool.size} rank(s)",
                         where="--distribute", remedy="Give a multiple of the number of ranks.")


def run_together(experiment: Experiment, trials: Sequence[Trial], pool: Any,
                 write: Callable[[Trial, Mapping[str, NDArray[Any]]], None], report: Report | None) -> None:
    """Run trials one after the other, each on all ranks; rank 0 writes. A failure ends the job; what is done is kept.

    Parameters
    ----------
    experiment : Experiment
    trials : sequence of Trial
        The same on every rank.
    pool : Pool
    write : callable
        Called on rank 0 with a trial and its values.
    report : callable, optional
        Called on rank 0 with finished and all trials.
    """
    for done, trial in enumerate(trials):
        recording = record_together(experiment, trial, pool)
        if recording is not None:
            write(trial, reduced(experiment, recording))
            if report is not None:
                report(done + 1, len(trials))
    pool.barrier()


def record_together(experiment: Experiment, trial: Trial, pool: Any) -> Recording | None:
    """All spikes of one trial that all ranks run together, on rank 0; None on the others."""
    recording = record(experiment, trial, _all_ranks(pool))
    parts = pool.gather(dict(recording.spikes))
    memory = pool.gather(recording.timing.memory)
    if not pool.is_root:
        return None
    spikes = {name: merged([part[name] for part in parts]) for name in recording.spikes}
    return replace(recording, spikes=spikes, timing=replace(recording.timing, memory=sum(memory)))


def merged(parts: Sequence[Spikes]) -> Spikes:
    """The spikes of one population from several ranks, ordered by time, then by cell."""
    cells, times = (np.concatenate([getattr(p, k) for p in parts]) for k in ("cells", "times"))
    order = np.lexsort((cells, times))
    return replace(parts[0], cells=cells[order], times=times[order])


def _all_ranks(pool: Any) -> int | None:
    """Fortran handle of the communicator of all ranks; None where there is one."""
    if pool.size == 1:
        return None
    return int(pool.comm.py2f())
