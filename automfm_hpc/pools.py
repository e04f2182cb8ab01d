"""One interface over the executors: one process, or MPI ranks that all compute; and Dask on top of either.

Under a launcher every rank runs the same program. `map_tasks` hands out tasks one by one: a counter in
rank 0's memory is incremented by whoever is free (MPI one-sided Fetch_and_op), so no rank sits as a
master, nothing grows with the number of ranks, and results are written where they are computed.

Progress of the counter: within a node MPI uses shared memory, and on fabrics with atomics in hardware
(InfiniBand, Slingshot, Tofu) rank 0 need not take part. On a fabric without them (plain TCP) a rank may
wait until rank 0 finishes its current task; ``MPICH_ASYNC_PROGRESS=1`` (MPICH and its children, Intel
MPI: ``I_MPI_ASYNC_PROGRESS=1``) gives rank 0 a thread that answers meanwhile.

Start as ``mpiexec -n N python -m mpi4py -m automfm_hpc ...``.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from automfm_hpc.errors import AutomfmError, LauncherError, UsageError, suggest
from automfm_hpc.interruption import heed
from automfm_hpc.launchers import launcher, refuse, scrub_launcher_environment
from automfm_hpc.progress import Report
from automfm_hpc.threads import limit_threads

T = TypeVar("T")
R = TypeVar("R")

FORWARDING = 1.0  # s, for the launcher to forward the last words of a failing rank


class Pool(Protocol):
    """What a stage may ask of the processes it runs on. Every rank makes the same calls."""

    @property
    def rank(self) -> int:
        """This process's number, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    @property
    def is_root(self) -> bool:
        """Whether this is the rank that plans, prints, and writes metadata."""

    def barrier(self, waiting: Callable[[], None] | None = None) -> None:
        """Wait, asleep, until every rank is here; `waiting` is called now and then."""

    def bcast(self, value: T) -> T:
        """Rank 0's value (small), on every rank."""

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks, on rank 0; empty on the others."""

    def executor(self) -> AbstractContextManager[Any]:
        """A scheduler for ``dask.compute(..., scheduler=...)`` on rank 0, None on the others, which serve it."""

    def tally(self) -> AbstractContextManager[Tally]:
        """Shared counters for one distribution of tasks."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...


class Tally(Protocol):
    """Two counters all ranks share: tasks handed out, and tasks finished."""

    def take(self) -> int:
        """Number of the next task: every number once, over all ranks."""

    def finish(self) -> None:
        """Count one task as finished."""

    def finished(self) -> int:
        """Tasks finished so far, by all ranks."""


def map_tasks(
    pool: Pool,
    function: Callable[[T], R],
    tasks: Sequence[T],
    on_result: Callable[[T, R], None],
    *,
    on_failure: Callable[[T, AutomfmError], None] | None = None,
    report: Report | None = None,
) -> int:
    """Compute every task once, on whichever rank is free. Every rank calls this with the same tasks.

    Parameters
    ----------
    pool : Pool
    function : callable
        task -> result; depends on nothing else.
    tasks : sequence
        The long ones first, so that ranks finish together.
    on_result : callable
        Called with task and result, on the rank that computed it.
    on_failure : callable, optional
        Called instead when `function` raises an AutomfmError; the other tasks go on. Without it, and
        for any other exception, the whole job ends.
    report : callable, optional
        Called on rank 0 with finished and all tasks, see `progress.progress`.

    Returns
    -------
    int
        Tasks done by this rank.
    """
    done = 0
    with pool.tally() as tally:
        def tell() -> None:
            if report is not None and pool.is_root:
                report(tally.finished(), len(tasks))

        tell()
        while (number := tally.take()) < len(tasks):
            _compute(function, tasks[number], on_result, on_failure)
            tally.finish()
            done += 1
            tell()
            heed()
        pool.barrier(waiting=tell)
        tell()
    return done


def _compute(function: Callable[[T], R], task: T, on_result: Callable[[T, R], None],
             on_failure: Callable[[T, AutomfmError], None] | None) -> None:
    try:
        result = function(task)
    except AutomfmError as error:
        if on_failure is None:
            raise
        on_failure(task, error)
    else:
        on_result(task, result)


# --- one process ------------------------------------------------------------------------------------


@dataclass
class _Count:
    taken: int = 0
    ended: int = 0

    def take(self) -> int:
        self.taken += 1
        return self.taken - 1

    def finish(self) -> None:
        self.ended += 1

    def finished(self) -> int:
        return self.ended


@dataclass(frozen=True)
class Serial:
    """This process alone.

    Parameters
    ----------
    scheduler : Any
        Where Dask runs: 'synchronous', 'threads', or a distributed Client.
    """

    scheduler: Any = "synchronous"
    rank: int = 0
    size: int = 1
    is_root: bool = True

    def barrier(self, waiting: Callable[[], None] | None = None) -> None:
        """Nobody to wait for."""

    def bcast(self, value: T) -> T:
        return value

    def gather(self, value: T) -> list[T]:
        return [value]

    @contextmanager
    def executor(self) -> Iterator[Any]:
        yield self.scheduler

    @contextmanager
    def tally(self) -> Iterator[Tally]:
        yield _Count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Exceptions pass."""


# --- MPI --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranks:
    """The ranks of an MPI communicator; an exception that leaves the `with` block ends the whole job."""

    comm: Any

    @property
    def rank(self) -> int:
        return int(self.comm.rank)

    @property
    def size(self) -> int:
        return int(self.comm.size)

    @property
    def is_root(self) -> bool:
        return self.rank == 0

    def barrier(self, waiting: Callable[[], None] | None = None) -> None:
        request, pause = self.comm.Ibarrier(), 1e-4
        while not request.Test():
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
            if waiting is not None:
                waiting()

    def bcast(self, value: T) -> T:
        self.barrier()  # a blocking broadcast would keep the waiting ranks at full load
        shared: T = self.comm.bcast(value, root=0)
        return shared

    def gather(self, value: T) -> list[T]:
        self.barrier()
        return self.comm.gather(value, root=0) or []

    @contextmanager
    def executor(self) -> Iterator[Any]:
        from mpi4py.futures import MPICommExecutor

        self.barrier()
        with MPICommExecutor(self.comm, root=0) as executor:
            yield executor  # no barrier behind: it would be skipped where the body raises

    @contextmanager
    def tally(self) -> Iterator[Tally]:
        from mpi4py import MPI

        window = MPI.Win.Allocate(16 if self.is_root else 0, 8, comm=self.comm)
        if self.is_root:
            np.asarray(window.tomemory()).view(np.int64)[:] = 0
        self.barrier()
        window.Lock_all()
        yield _Window(window, MPI.SUM)
        window.Unlock_all()
        self.barrier()
        window.Free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if error is not None and not (isinstance(error, SystemExit) and not error.code):
            self._abort(error)

    def _abort(self, error: BaseException) -> None:
        """End all ranks: the others wait for this one and would do so for ever.

        A launcher drops what it has not forwarded when the job is aborted, hence the pauses.
        """
        if not self.is_root:
            time.sleep(2 * FORWARDING)  # if all ranks fail alike, rank 0 speaks for them
        sys.stdout.flush()
        sys.stderr.write(self._last_words(error))
        sys.stderr.flush()
        time.sleep(FORWARDING)
        if isinstance(error, AutomfmError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # all has been said: no notice of MPI's
        code = error.code if isinstance(error, SystemExit) else 2 if isinstance(error, UsageError) else 1
        self.comm.Abort(code if isinstance(code, int) else 1)

    def _last_words(self, error: BaseException) -> str:
        if isinstance(error, AutomfmError):
            return f"automfm: error: {error}\n"
        if isinstance(error, SystemExit):
            return ""
        return f"automfm: rank {self.rank} of {self.size} failed:\n{''.join(traceback.format_exception(error))}"


@dataclass(frozen=True)
class _Window:
    """Counters in rank 0's memory, changed from anywhere."""

    window: Any
    operation: Any

    def take(self) -> int:
        return self._add(0, 1)

    def finish(self) -> None:
        self._add(1, 1)

    def finished(self) -> int:
        return self._add(1, 0)

    def _add(self, slot: int, amount: int) -> int:
        before = np.empty(1, np.int64)
        self.window.Fetch_and_op(np.array([amount], np.int64), before, 0, slot, self.operation)
        self.window.Flush(0)
        return int(before[0])


# --- which pool -------------------------------------------------------------------------------------


def open_pool(kind: str = "auto", *, scheduler: Any = "synchronous") -> Pool:
    """The processes this program runs on.

    Parameters
    ----------
    kind : {'auto', 'serial', 'mpi'}
        'auto': MPI under a launcher, else this process alone.
    scheduler : Any
        Dask's scheduler where there is one process.

    Raises
    ------
    LauncherError
        If MPI cannot be loaded, or sees fewer or more ranks than the launcher started.
    """
    if kind not in ("auto", "serial", "mpi"):
        raise UsageError(f"unknown pool '{kind}'", remedy=suggest(kind, ("auto", "serial", "mpi")))
    limit_threads()
    started = launcher()
    if kind == "serial" or (kind == "auto" and "mpi4py.MPI" not in sys.modules and started is None):
        return Serial(scheduler)
    comm = _world()
    if started is not None and started.size != comm.size:
        refuse(started, comm)
    scrub_launcher_environment()
    return Ranks(comm) if comm.size > 1 else Serial(scheduler)


def _world() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # on a launcher of another MPI: `_refuse` says more
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise LauncherError(f"MPI cannot be loaded ({error})", remedy="Run: pip install mpi4py mpich") from None
    return MPI.COMM_WORLD
