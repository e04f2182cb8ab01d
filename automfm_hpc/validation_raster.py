"""The raster of a validation: spikes of a few cells in one trial, kept beside the stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from automfm_hpc.errors import StoreError
from automfm_hpc.experiment import Experiment
from automfm_hpc.provenance import canonical_json, write_atomically
from automfm_hpc.run_folder import Run, on_root
from automfm_hpc.stages import own_communicator
from automfm_hpc.validation_plan import raster_file, replanned, shown, single

if TYPE_CHECKING:
    from automfm_hpc.spiking import Recording

RASTER_CELLS = 60  # of each population


def keep_raster(run: Run, planned: Mapping[str, Experiment], pool: Any, together: bool = False) -> None:
    """Run the first trial of the protocol that is drawn once more, and keep the spikes of a few cells (ms).

    Rank 0 runs it, or all ranks together.
    """
    from automfm_hpc.distributed import record_together
    from automfm_hpc.experiment import Trial, record

    kind, number = shown(planned)
    experiment, recording = single(planned[kind]), None
    if pool.bcast(raster_file(run, experiment).is_file()):
        return
    if together:
        recording = record_together(experiment, Trial(number, 0), pool)
    with on_root(pool) as root:
        if root:
            recording = recording or record(experiment, Trial(number, 0), own_communicator(pool))
            _write_raster(run, experiment, recording)


def _write_raster(run: Run, experiment: Experiment, recording: Recording) -> None:
    recorded = recording.spikes
    chosen = {}
    for name in experiment.network.population_names:
        s = recorded[name]
        few = s.cells < RASTER_CELLS
        chosen[name] = {"cells": s.cells[few], "times": np.round(s.times[few], 1)}
    write_atomically(raster_file(run, experiment), canonical_json(chosen))


def read_raster(run: Run, result: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Number of the protocol in `read_comparisons`' list, and population -> cells, times (ms) of its first seed."""
    planned = replanned(run.read_plan().network, result)
    kind, number = shown(planned)
    try:
        spikes = json.loads(raster_file(run, single(planned[kind])).read_text("utf-8"))
    except (OSError, ValueError):
        raise StoreError("its raster is missing or damaged", where=str(run.folder),
                         remedy=f"Run `automfm validate {run.folder}` again.") from None
    before = sum(len(e.protocols) for k, e in list(planned.items())[: list(planned).index(kind)])
    return before + number, spikes
