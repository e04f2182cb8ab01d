"""Working points without the network: isolated cells that hear isolated cells, until what they send is what they hear.

The state of a population at one drive is the distribution of its cells' rates and the shape of their intervals: the
exemplars that `experiment` otherwise takes from the network's own run. A sweep gives every population's isolated cells
inputs in the present state of their sources, and what they fire moves the state,

    log r <- log r + GAIN (log F - log r),

one population after the other, each hearing those before it as they have moved: all at once, a loop of excitation and
inhibition would swing around its state for dozens of sweeps. Rates and intervals of the last sweeps' cells, relative to
their mean, become the state's exemplars. It starts with Poisson trains of equal rates. Sweeps go on for so long that
the last of them are draws from the state in which input and output agree, and are used as draws of the network are.
This is the theory of quenched heterogeneity (Roxin et al. 2011, doi 10.1523/JNEUROSCI.1677-11.2011) with the cells' own
transfer function, and without an assumption on the shape of the distribution or of the intervals.

Trains are independent, so correlations are left out, and populations that live on common swings come out too slow.

``closure.zarr`` is a store of trials, in which a seed is a sweep; what is there is not computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import SimulationError
from automfm_hpc.exemplars import exemplars
from automfm_hpc.experiment import (
    LEAST_RATE,
    Experiment,
    Trial,
    presynaptic_statistics,
    working_experiment,
)
from automfm_hpc.network import Network
from automfm_hpc.plan import Sampling, sampling_for
from automfm_hpc.presynaptic import PresynapticStatistics, statistics_of
from automfm_hpc.provenance import seed_for
from automfm_hpc.remap import Cell, remap
from automfm_hpc.spikes import Spikes, cell_rates

if TYPE_CHECKING:
    import xarray

    from automfm_hpc.pools import Pool
    from automfm_hpc.stages import Log

FloatArray = NDArray[np.float64]
SWEEPS = 13
DRAWS = 4  # the last sweeps, which working points and statistics are taken from
RECENT = 3  # sweeps that the exemplars of the next one are pooled from
GAIN = 0.4  # of a sweep: less than 2/(1 + L) for cells that inhibit their own kind, L being 2 in the cerebellum
CELLS, FIRST_CELLS = 512, 128  # of each population and drive in the draws, and in the sweeps before
START, LEAST = 5.0, 0.05  # Hz: where it begins, and what counts as silent
KEPT = ("rate", "rate_sd", "active", "cv", "fano", "exemplars")
DRIFT, LEAST_DRIFT = 0.1, 0.5  # between the halves of the draws, relative and in Hz: more is no stationary state,
CHANCE = 3.0  # if it is more than chance, in standard errors


@dataclass(frozen=True)
class State:
    """What every source is like at each drive.

    Parameters
    ----------
    rates : (n_drive, n_population) array
        Hz.
    statistics : tuple of tuple of PresynapticStatistics
        For each drive those of the populations that fire.
    """

    rates: FloatArray
    statistics: tuple[tuple[PresynapticStatistics, ...], ...]


def closure_experiment(network: Network, root: int = 1, sweeps: int | None = None,
                       drives: Sequence[Mapping[str, float]] | None = None) -> Experiment:
    """Every drive (rates of all inputs in Hz; default: as in the network's own run) with every sweep (SWEEPS)."""
    return working_experiment(network, drives, seeds=sweeps or SWEEPS, scale=1.0, root=root)


def close(path: Path, experiment: Experiment, pool: Pool, log: Log) -> xarray.Dataset:
    """Run the missing sweeps on all ranks; the dataset of the last ones on every rank.

    Raises
    ------
    SimulationError
        If a sweep failed, or the rates do not settle.
    """
    from automfm_hpc.pools import map_tasks
    from automfm_hpc.progress import progress
    from automfm_hpc.run_folder import on_root
    from automfm_hpc.stages import own_communicator, prepare_nest
    from automfm_hpc.store import TrialStore

    missing: list[Trial] = []
    with on_root(pool) as root:
        if root:
            missing = TrialStore.create(path, experiment, KEPT).missing()
            if missing:
                log(f"closure: {len(missing)} of {len(experiment.trials())} drives and sweeps to do")
                prepare_nest(experiment.network, log)
    missing = pool.bcast(missing)
    store, report = TrialStore.open(path, experiment), progress("closure")
    for sweep in sorted({t.seed for t in missing}):
        state = pool.bcast(state_before(store.dataset(), experiment, sweep) if pool.is_root else None)
        assert state is not None
        map_tasks(pool, partial(simulate_sweep, experiment, state, communicator=own_communicator(pool)),
                  [t for t in missing if t.seed == sweep], store.write,
                  on_failure=lambda task, error: store.fail(task, str(error)))
        pool.barrier()
        failed = [message for t, message in store.failures() if t.seed == sweep]
        if failed:
            raise SimulationError(failed[0], where=str(path))
        if pool.is_root:
            report(sweep + 1, experiment.seeds)
    drawn = store.dataset().isel(seed=slice(-min(DRAWS, experiment.seeds), None))
    _check_settled(drawn, experiment)
    return drawn


def state_before(trials: xarray.Dataset, experiment: Experiment, sweep: int) -> State:
    """The state that a sweep hears: rates moved by all earlier ones, exemplars of the last RECENT of them."""
    names, n_drive = list(experiment.network.population_names), len(experiment.protocols)
    fired = trials["rate"].sel(name=names).transpose("seed", "protocol", "name").values
    rates = np.full((n_drive, len(names)), START)
    for found in fired[:sweep]:
        rates = moved(rates, found)
    if sweep == 0:
        return State(rates, ((),) * n_drive)
    recent = trials.isel(seed=slice(max(sweep - RECENT, 0), sweep))
    return State(rates, tuple(presynaptic_statistics(recent.isel(protocol=[k]), experiment) for k in range(n_drive)))


def moved(rate: Any, fired: Any) -> Any:
    """Rates (Hz) of the state after cells that hear it have fired at these (Hz)."""
    return rate ** (1.0 - GAIN) * np.maximum(fired, LEAST) ** GAIN


def simulate_sweep(experiment: Experiment, state: State, trial: Trial,
                   communicator: int | None = None) -> dict[str, NDArray[Any]]:
    """Isolated cells of every population at one drive.

    Returns
    -------
    dict
        KEPT of the populations as `experiment.simulate_trial` has them; of inputs nothing.
    """
    from automfm_hpc.spiking import numbers_of

    names, network = experiment.names, experiment.network
    k, sampling = trial.protocol, sampling_for(network)
    mean = dict(zip(network.population_names, state.rates[k].tolist(), strict=True)) | {
        name: float(rate) for name, rate in experiment.protocols[k].background.items()}
    found: dict[str, NDArray[Any]] = {}
    for cell in remap(network).cells:
        seed = seed_for(experiment.root, "closure", cell.population, k, trial.seed)
        n = CELLS if trial.seed >= experiment.seeds - DRAWS else FIRST_CELLS
        spikes = isolated(cell, mean, statistics_of(state.statistics[k]), sampling, n, seed, communicator)
        mean[cell.population] = float(moved(mean[cell.population], cell_rates(spikes).mean()))
        at = names.index(cell.population)
        for name, value in (numbers_of(spikes) | {"exemplars": exemplars(spikes)}).items():
            empty = np.full((len(names), *np.shape(value)), np.nan)
            found.setdefault(name, empty)[at] = value
    return {name: found[name] for name in KEPT}


def isolated(cell: Cell, mean: Mapping[str, float], presynaptic: Mapping[str, PresynapticStatistics],
             sampling: Sampling, n: int, seed: int, communicator: int | None = None) -> Spikes:
    """Spikes of n isolated cells whose sources have these mean rates (Hz) and statistics."""
    from automfm_hpc import nest_models
    from automfm_hpc.simulate import cells_at_once, draw_inputs, isolated_spikes

    inputs = draw_inputs(cell, n, np.random.default_rng(seed))
    rates = np.tile([mean[name] for name in cell.axes], (n, 1))
    # A source that hardly fires says nothing of its regularity; a few spikes are Poisson.
    known = {name: p for name, p in presynaptic.items() if mean[name] > LEAST_RATE}
    at_once, parts = cells_at_once(cell, inputs, rates, sampling, known), []
    with nest_models.nest_failures(cell.population):
        for a in range(0, n, at_once):
            here = np.arange(a, min(a + at_once, n))
            part = isolated_spikes(cell, inputs.of(here), rates[here], sampling, seed_for(seed, a), communicator, known)
            parts.append((part.cells + a, part.times))
    cells, times = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Spikes(cells, times, n, sampling.window)


def _check_settled(drawn: xarray.Dataset, experiment: Experiment) -> None:
    names = list(experiment.network.population_names)
    rate, sd = (drawn[key].sel(name=names).transpose("seed", "protocol", "name").values for key in ("rate", "rate_sd"))
    half = len(rate) // 2
    if not half:
        return
    early, late = rate[:half].mean(axis=0), rate[half:].mean(axis=0)
    chance = CHANCE * np.sqrt(2.0 * (sd**2).mean(axis=0) / (half * CELLS))
    far = np.abs(late - early) > np.maximum(DRIFT * late, LEAST_DRIFT) + chance
    if far.any():
        k, i = np.argwhere(far)[0]
        raise SimulationError(
            f"rates do not settle: {names[i]} at {experiment.protocols[k].name} went from {early[k, i]:.3g} to "
            f"{late[k, i]:.3g} Hz in the last sweeps", where=experiment.network.name,
            remedy="Take working points from the network's own run: --working-points network.")
