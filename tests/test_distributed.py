"""Networks spread over ranks: what can be said without a NEST built with MPI; the rest is in mpi/test_nest_mpi.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from automfm_hpc import Network
from automfm_hpc.distributed import check, merged, record_together, run_together
from automfm_hpc.errors import SimulationError, UsageError
from automfm_hpc.experiment import Experiment, Trial, simulate_trial
from automfm_hpc.nest_models import find_nest
from automfm_hpc.network import Distribution
from automfm_hpc.pools import Serial
from automfm_hpc.protocols import constant
from automfm_hpc.spikes import Spikes

WITHOUT_MPI = pytest.mark.skipif(find_nest().has_mpi, reason="this NEST has MPI")


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    cortex = Network.load("adex_cortex")
    small = replace(cortex, populations=tuple(replace(p, size=p.size // 50) for p in cortex.populations),
                    projections=tuple(replace(p, indegree=Distribution(20.0)) for p in cortex.projections))
    return Experiment(small, (constant({"aff": 120.0}, 200.0, 50.0), constant({"aff": 60.0}, 200.0, 50.0)), processes=2)


def test_spikes_of_several_ranks_are_put_in_order():
    parts = [Spikes(np.array([4, 0]), np.array([2.0, 9.0]), 6, 10.0),
             Spikes(np.array([3, 1, 5]), np.array([2.0, 5.0, 1.0]), 6, 10.0)]
    whole = merged(parts)
    assert whole.cells.tolist() == [5, 3, 4, 1, 0]
    assert whole.times.tolist() == [1.0, 2.0, 2.0, 5.0, 9.0]
    assert (whole.size, whole.duration) == (6, 10.0)


def test_together_on_one_rank_is_a_trial_of_its_own(experiment):
    found, told = {}, []
    run_together(experiment, experiment.trials(), Serial(), found.__setitem__, lambda *numbers: told.append(numbers))
    assert told == [(1, 2), (2, 2)]
    for trial in experiment.trials():
        alone = simulate_trial(experiment, trial)
        assert alone["rate"].min() > 1.0
        assert set(found[trial]) == set(alone)
        for name in set(alone) - {"timing"}:
            np.testing.assert_allclose(found[trial][name], alone[name], rtol=1e-12)


def test_spikes_recorded_together_are_ordered(experiment):
    spikes = record_together(experiment, Trial(0, 0), Serial()).spikes["RS"]
    assert spikes.times.size > 50
    assert (np.diff(spikes.times) >= 0).all()


@WITHOUT_MPI
def test_a_nest_without_mpi_is_refused():
    with pytest.raises(SimulationError, match=r"built without MPI.*make nest-mpi"):
        check(Serial(), 8)


def test_ranks_share_virtual_processes_evenly(monkeypatch):
    import automfm_hpc.distributed as module

    monkeypatch.setattr(module, "find_nest", lambda: replace(find_nest(), has_mpi=True))
    check(Serial(size=4), 8)
    for ranks, processes in ((3, 8), (16, 8), (1, 0), (2, -2)):
        with pytest.raises(UsageError, match=f"{processes} virtual processes cannot be shared by {ranks}"):
            check(Serial(size=ranks), processes)
