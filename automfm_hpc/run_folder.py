"""Where the parts of a run lie, and work in its folder that one rank does while the others wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automfm_hpc.errors import AutomfmError
from automfm_hpc.plan import Plan


@dataclass(frozen=True)
class Run:
    """Where things lie in a run's folder."""

    folder: Path

    @property
    def network(self) -> Path:
        return self.folder / "network.yaml"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def rates(self) -> Path:
        return self.folder / "rates.zarr"

    @property
    def spiking(self) -> Path:
        return self.folder / "spiking.zarr"

    @property
    def closure(self) -> Path:
        return self.folder / "closure.zarr"

    @property
    def fits(self) -> Path:
        return self.folder / "fits.json"

    @property
    def model(self) -> Path:
        return self.folder / "model.zarr"

    @property
    def response(self) -> Path:
        return self.folder / "response.zarr"

    @property
    def isolated(self) -> Path:
        return self.folder / "isolated.zarr"

    @property
    def varied(self) -> Path:
        return self.folder / "varied.zarr"

    @property
    def isolated_varied(self) -> Path:
        return self.folder / "isolated_varied.zarr"

    @property
    def dynamics(self) -> Path:
        return self.folder / "dynamics.json"

    @property
    def comparison(self) -> Path:
        return self.folder / "comparison.json"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    def read_plan(self) -> Plan:
        return Plan.read(self.plan)


@contextmanager
def on_root(pool: Any) -> Iterator[bool]:
    """Work of rank 0 while the others wait; its failure becomes everybody's.

    The body runs on every rank and must look at the value: True on rank 0.
    """
    failure: AutomfmError | None = None
    try:
        yield pool.is_root
    except AutomfmError as error:
        failure = error
    pool.barrier()
    failure = pool.bcast(failure)
    if failure is not None:
        raise failure
