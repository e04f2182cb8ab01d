"""What every command needs: who speaks and where to, the ranks, the catalog's folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def speaks() -> bool:
    """Whether this is the rank that speaks, for every rank fails alike; before MPI is loaded the launcher says."""
    from automfm_hpc.launchers import launcher

    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and not mpi.Is_finalized():
        return bool(mpi.COMM_WORLD.rank == 0)
    started = launcher()
    return started is None or started.rank == 0


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def say(pool: Any, text: str) -> None:
    if pool.is_root:
        print(text, flush=True)


def the_pool() -> Any:
    from automfm_hpc.pools import open_pool

    return open_pool()


def logger(pool: Any) -> Callable[[str], None]:
    return log if pool.is_root else (lambda text: None)


def catalog(arguments: argparse.Namespace) -> Path:
    return Path(arguments.catalog or os.environ.get("AUTOMFM_CATALOG") or "catalog")
