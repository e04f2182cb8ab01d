"""A cheap chunk function, and a program that fills a store with it on however many ranks it is started on.

    mpiexec -n 4 python -m mpi4py tests/mpi/chunks.py STORE LOG [--pause SECONDS] [--fail] [--break RANK]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from automfm_hpc import Network
from automfm_hpc.errors import SimulationError
from automfm_hpc.plan import Plan, Task, make_plan
from automfm_hpc.pools import map_tasks, open_pool
from automfm_hpc.progress import progress
from automfm_hpc.store import VARIABLES, RateStore


def small_plan(seed: int = 1) -> Plan:
    """44 chunks: populations with two and three axes."""
    return make_plan(Network.load("cerebellum"), points=4, seed=seed)


def chunk(plan: Plan, task: Task) -> dict[str, np.ndarray]:
    """Numbers that depend on the plan alone; some are NaN, as for silent cells."""
    random = np.random.default_rng(task.seed)
    shape = tuple(b - a for a, b in task.slices)
    rate = plan.grid(task.population).points(task).sum(axis=1).reshape(shape)
    values = {name: random.normal(rate) for name in VARIABLES}
    return {**values, "n_cells": np.full(shape, 64), "converged": np.ones(shape, bool),
            "cv": np.where(rate > 50, values["cv"], np.nan)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--fail", action="store_true", help="record every chunk number 3 as failed")
    parser.add_argument("--break", dest="broken", type=int, default=-1, help="rank that raises halfway")
    arguments = parser.parse_args()
    with open_pool() as pool:
        fill(pool, arguments)


def fill(pool, arguments: argparse.Namespace) -> None:
    plan = small_plan()
    tasks = RateStore.create(arguments.store, plan).missing() if pool.is_root else []
    tasks = pool.bcast(tasks)
    store = RateStore.open(arguments.store, plan)
    log = arguments.log / f"rank{pool.rank}"
    log.write_text(f"{os.getpid()}\n")

    def compute(task: Task) -> dict[str, np.ndarray]:
        time.sleep(arguments.pause)
        if arguments.fail and task.chunk == 3:
            raise SimulationError("no spikes", where=f"{task.population}, chunk 3")
        if arguments.broken == pool.rank and task.chunk > 2:
            raise ZeroDivisionError("a bug")
        return chunk(plan, task)

    def keep(task: Task, values: dict[str, np.ndarray]) -> None:
        store.write(task, values)
        with log.open("a") as file:
            file.write(f"{task.population}/{task.chunk}\n")

    map_tasks(pool, compute, tasks, keep, on_failure=lambda task, error: store.fail(task, str(error)),
              report=progress("simulate", interval=0.1))


if __name__ == "__main__":
    main()
