"""Isolated cells under the network's own swings, in NEST: how populations follow them, with no loop closed.

Small sinusoids (`modulated_cells`) tell how cells answer small changes. Populations of a resonating network swing
between silence and several times their mean, and what cells make of that is measured here: they stand alone, with the
in-degrees that transfer functions are sampled with, but what they hear is as active, millisecond by millisecond, as it
was in a trial of the network. Poisson inputs get that course as their rate. Where presynaptic cells send one by one,
they hear recorded trains of that trial, each cell those of others (`kept_trains`), or, where none were kept, trains
made anew that run on the population's clock (`trains.Clock`). The mean over the cells
is a course free of the chance of the cells' own connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import nest_models
from automfm_hpc.afferents import draw_senders, send
from automfm_hpc.experiment import BIN, Experiment, Trial
from automfm_hpc.kept_trains import Counts, as_trains, hear, unpacked
from automfm_hpc.modulated_cells import Length, cells_at_once, modulate
from automfm_hpc.plan import Plan
from automfm_hpc.presynaptic import PresynapticStatistics, Received, merged, statistics_of
from automfm_hpc.provenance import seed_for
from automfm_hpc.remap import Cell
from automfm_hpc.simulate import build_cells, connect_trains, draw_inputs, reset_kernel
from automfm_hpc.spikes import Spikes, activity
from automfm_hpc.trains import Clock, passed_by

FloatArray = NDArray[np.float64]
CELLS = 1024  # of each population and trial
RARE, UNEVEN, MOST = 12.0, 0.75, 4.0  # slower (Hz) and more uneven populations get more cells, up to so many times
RUN_UP = 300.0  # ms before the window; longer where the plan's transient is


def isolated_cells(recorded: Any, experiment: Experiment) -> dict[str, int]:
    """How many cells of every source would be isolated under one trial of the network, of which this was `recorded`."""
    activity = recorded["activity"].transpose("name", "time").values
    rates, spreads = np.asarray(activity, float).mean(axis=1), _spreads(recorded)
    numbers = CELLS * np.clip(np.maximum(RARE / np.maximum(rates, 1e-9), (spreads / UNEVEN) ** 2), 1.0, MOST)
    return {name: round(n) for name, n in zip(experiment.names, numbers.tolist(), strict=True)}


def run_up(plan: Plan) -> float:
    """ms, whole bins, that cells live before what they do is kept."""
    return float(np.ceil(max(RUN_UP, plan.sampling.transient)))


def with_run_up(course: NDArray[Any], before: float) -> NDArray[Any]:
    """Courses (..., n_bin) with their end played before their beginning for `before` ms."""
    bins = np.arange(course.shape[-1])
    n = round(before / BIN)
    return course[..., np.concatenate([np.resize(bins[::-1], n)[::-1], bins])]


def simulate_isolated(plan: Plan, recorded: Path, experiment: Experiment, trial: Trial,
                      communicator: int | None = None) -> dict[str, NDArray[Any]]:
    """Every population's cells alone, under the swings of one trial of the network.

    Parameters
    ----------
    plan : Plan
    recorded : Path
        The network's trials.
    experiment : Experiment
        Theirs.
    trial : Trial
    communicator : int, optional
        For a NEST built with MPI: Fortran handle of a communicator of one rank.

    Returns
    -------
    dict
        activity (n_name, n_bin) in Hz, of isolated cells; nothing of the inputs.
    """
    kept, before = _recorded(recorded, experiment, trial), run_up(plan)
    courses, trains, numbers = _courses(kept, experiment, trial), _trains(kept), isolated_cells(kept, experiment)
    found = np.zeros((len(experiment.names), experiment.bins))
    for cell in plan.parameters.cells:
        n = numbers[cell.population]
        seed = seed_for(plan.seed, "isolated", cell.population, trial.protocol, trial.seed)
        heard = Heard({name: with_run_up(courses[name], before) for name in cell.axes},
                      {name: with_run_up(trains[name], before) for name in cell.axes if name in trains})
        spikes = follow_courses(cell, heard, before, n, seed, plan.sampling.dt, communicator,
                                plan.sampling.heterogeneous, statistics_of(plan.presynaptic))
        found[experiment.names.index(cell.population)] = activity(spikes, BIN)
    return {"activity": found}


def _recorded(path: Path, experiment: Experiment, trial: Trial) -> Any:
    """What a store of trials holds of one of them."""
    from automfm_hpc.store import TrialStore

    return TrialStore.open(path, experiment).dataset().isel(protocol=trial.protocol, seed=trial.seed)


def recorded_courses(path: Path, experiment: Experiment, trial: Trial) -> dict[str, FloatArray]:
    """Activity (Hz) of every source in one trial of the network, (n_bin,) each; of private inputs their rate."""
    return _courses(_recorded(path, experiment, trial), experiment, trial)


def recorded_trains(path: Path, experiment: Experiment, trial: Trial) -> dict[str, Counts]:
    """Spikes (n_cell, n_bin) of the cells of populations whose trains one trial of the network kept."""
    return _trains(_recorded(path, experiment, trial))


def _courses(recorded: Any, experiment: Experiment, trial: Trial) -> dict[str, FloatArray]:
    activity = recorded["activity"].transpose("name", "time").values
    given = experiment.protocols[trial.protocol].course()
    return given | dict(zip(experiment.names, np.asarray(activity, float), strict=True))


def _spreads(recorded: Any) -> FloatArray:
    """Standard deviation of the cells' rates over their mean, of every source (n_name,) in one trial; 0: none fires."""
    sd, mean = (recorded[name].values for name in ("rate_sd", "rate"))
    return np.asarray(sd / np.where(mean > 0, mean, np.inf), float)


def _trains(recorded: Any) -> dict[str, Counts]:
    """Spikes (n_cell, n_bin) of the cells of populations whose trains were kept in one trial; none in old stores."""
    if "trains" not in recorded:
        return {}
    kept = recorded["trains"]
    return unpacked(kept.transpose("train", "time").values, kept.attrs["cells"])


@dataclass(frozen=True, eq=False)
class Heard:
    """What isolated cells hear.

    Parameters
    ----------
    courses : Mapping
        Activity (Hz) of every source in bins of BIN, (n_bin,).
    trains : Mapping
        Spikes (n_cell, n_bin) of the cells of some of the sources.
    """

    courses: Mapping[str, FloatArray]
    trains: Mapping[str, Counts] = field(default_factory=dict)


def follow_courses(
    cell: Cell, heard: Heard, before: float, n: int, seed: int, dt: float,
    communicator: int | None = None, heterogeneous: bool = True,
    presynaptic: Mapping[str, PresynapticStatistics] | None = None,
) -> Spikes:  # fmt: skip
    """Spikes of n isolated cells that hear this, after the first `before` ms.

    Channels have the network's delays: excitation comes before the inhibition that it causes, or does not.
    """
    known, courses = presynaptic or {}, heard.courses
    mean = np.array([courses[name].mean() for name in cell.axes])
    length = Length(n, before, len(courses[cell.axes[0]]) * BIN - before, dt)
    at_once, cells, times = cells_at_once(cell, mean, length, known), [], []
    rng = np.random.default_rng(seed)
    inputs = draw_inputs(cell, n, rng, heterogeneous)
    trains = {name: as_trains(counts, BIN, dt, rng) for name, counts in heard.trains.items()}
    with nest_models.nest_failures(cell.population):
        for a in range(0, n, at_once):
            some = inputs.of(slice(a, a + at_once))
            nest = reset_kernel(seed_for(seed, a), dt, communicator)
            m = len(some.pairs)
            senders = draw_senders(cell, some, np.tile(mean, (m, 1)), known, rng)
            recorded = {j: hear(trains[source], p.owner, p.synapses, rng) for j, p in senders.pairs.items()
                        if (source := cell.axes[cell.channel_axis[j]]) in trains}
            reaching = send(senders.without(recorded), before + length.window, dt, rng)
            nodes = build_cells(nest, cell, np.zeros_like(reaching.arrivals), some.quantum, dt)
            for j, source in enumerate(cell.axes[k] for k in cell.channel_axis):
                delay = max(round(cell.channels[j].delay / dt), 1) * dt
                if j in recorded:
                    connect_trains(nest, cell, nodes, j, recorded[j], dt, delay)
                elif j in reaching.trains:
                    clock = course_clock(courses[source], dt)
                    connect_trains(nest, cell, nodes, j, on_clock(reaching.trains[j], clock, rng), dt, delay)
                elif mean[cell.channel_axis[j]] > 0:
                    at = np.maximum(np.arange(len(courses[source])) * BIN, dt)
                    events = some.events.copy()
                    events[:, j] = reaching.arrivals[:, j] / mean[cell.channel_axis[j]]
                    modulate(nest, cell, j, nodes, replace(some, events=events), at, courses[source], delay)
            recorder = nest.Create("spike_recorder", params={"start": before})
            nest.Connect(nodes, recorder)
            nest.Simulate(before + length.window)
            events = recorder.get("events")
            cells.append(np.asarray(events["senders"]).astype(np.int64) - nodes[0].global_id + a)
            times.append(np.asarray(events["times"], float) - before)
    return Spikes(np.concatenate(cells), np.concatenate(times), n, length.window)


def course_clock(course: FloatArray, dt: float) -> Clock:
    """The clock of a population with this activity (Hz in bins of BIN)."""
    return Clock(passed_by(np.repeat(course, round(BIN / dt)), dt), 1.0)


def on_clock(trains: Received, clock: Clock, rng: np.random.Generator) -> Received:
    """Trains of even time, read on a clock of as many steps."""
    return merged(trains.cell, clock.read(trains.step, rng), trains.synapses)

