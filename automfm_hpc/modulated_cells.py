"""The frequency response of a population's cells to one source, measured in NEST.

Isolated cells receive what they receive when transfer functions are sampled, but the rate of one source is modulated.
Cells of similar in-degree share a generator; what is rounded away of the number of arrivals is added to their size, so
that every cell's mean input is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import nest_models
from automfm_hpc.afferents import afferents, explicit
from automfm_hpc.dynamics import instant_pathways
from automfm_hpc.dynamics_plan import ResponsePlan, ResponseTask
from automfm_hpc.modulation import Multisine, design, fourier
from automfm_hpc.plan import Plan, Sampling
from automfm_hpc.presynaptic import PresynapticStatistics, statistics_of
from automfm_hpc.provenance import seed_for
from automfm_hpc.remap import Cell, CellInputs
from automfm_hpc.simulate import (
    NOTHING_KNOWN,
    ROUND_CELLS,
    ROUND_EVENTS,
    TRAIN_DELAY,
    build_cells,
    connect_trains,
    draw_inputs,
    receptor_of,
    reset_kernel,
)

FloatArray = NDArray[np.float64]
CLASSES = 32  # of in-degrees
DELAY = TRAIN_DELAY  # ms from a generator to its cells
WINDOW = 4000.0  # ms at least
PRECISION, LEAST_PRECISION = 3.3, 0.2  # relative error at a middling frequency over the rates' wanted one; at most
BUDGET = 2.0  # neuron-seconds of one measurement over those of a grid point
RARE, MOST_RARE = 15.0, 3.0  # Hz: slower cells get more of them in proportion, up to so many times
FEWEST_CELLS = 64
LAG = -0.5  # steps: a rate given for [t, t + hold) makes arrivals stamped t + DELAY, ..., t + DELAY + hold - dt


@dataclass(frozen=True)
class Length:
    """How many cells are simulated for how long: transient, window (ms, whole periods), step (ms)."""

    cells: int
    transient: float
    window: float
    dt: float

    @property
    def neuron_seconds(self) -> float:
        return self.cells * (self.transient + self.window) / 1000.0


def measure(cell: Cell, source: str, rates: FloatArray, modulation: Multisine, length: Length, seed: int,
            communicator: int | None = None, heterogeneous: bool = True,
            presynaptic: Mapping[str, PresynapticStatistics] = NOTHING_KNOWN) -> Mapping[str, NDArray[Any]]:
    """Complex response of the mean rate of the cells to a source's rate.

    Parameters
    ----------
    cell : Cell
    source : str
        The axis whose rate is modulated.
    rates : (n_axis,) array
        Mean rates (Hz) of one presynaptic cell of each source.
    modulation : Multisine
    length : Length
    seed : int
    communicator : int, optional
        For a NEST built with MPI: Fortran handle of a communicator of one rank.
    heterogeneous : bool
        Whether cells draw their in-degrees.
    presynaptic : Mapping
        Source -> spread and regularity of its cells; other sources, and the modulated one, are Poisson trains.

    Returns
    -------
    Mapping
        response, error (n_frequency,): complex response (Hz/Hz) with the phase counted from the arrival of the input,
        and the standard error of its real and of its imaginary part; rate, rate_sem (Hz).
    """
    rng = np.random.default_rng(seed)
    inputs = draw_inputs(cell, length.cells, rng, heterogeneous)
    with nest_models.nest_failures(cell.population):
        at_once = cells_at_once(cell, rates, length, presynaptic)
        parts = [_spectra(cell, inputs.of(slice(a, a + at_once)), source, rates, modulation, length,
                          seed_for(seed, a), communicator, presynaptic)
                 for a in range(0, length.cells, at_once)]  # fmt: skip
    amplitude, rate = (np.concatenate([p[k] for p in parts]) for k in (0, 1))
    shift = np.exp(-2e-3j * np.pi * modulation.frequency * (DELAY + LAG * length.dt))
    scale = modulation.input() * shift * rates[cell.axes.index(source)]
    n = len(amplitude)
    spread = np.sqrt(np.sum(np.abs(amplitude - amplitude.mean(axis=0)) ** 2, axis=0) / 2.0 / (n - 1))
    return {"response": amplitude.mean(axis=0) / scale, "error": spread / np.sqrt(n) / np.abs(scale),
            "rate": rate.mean(), "rate_sem": rate.std(ddof=1) / np.sqrt(n)}


def _spectra(cell: Cell, inputs: CellInputs, source: str, rates: FloatArray, modulation: Multisine, length: Length,
             seed: int, communicator: int | None,
             presynaptic: Mapping[str, PresynapticStatistics]) -> tuple[NDArray[np.complex128], FloatArray]:
    """Complex amplitudes (n_cell, n_frequency) and rates (n_cell,) of cells in one kernel."""
    nest = reset_kernel(seed, length.dt, communicator)
    n = len(inputs.events)
    moved = [j for j, channel in enumerate(cell.channels) if channel.source == source]
    steady = {name: known for name, known in presynaptic.items() if name != source}
    reaching = afferents(cell, inputs, np.tile(rates, (n, 1)), steady, length.transient + length.window, length.dt,
                         np.random.default_rng(seed_for(seed, "afferents")))
    reaching.arrivals[:, moved] = 0.0
    nodes = build_cells(nest, cell, reaching.arrivals, inputs.quantum, length.dt)
    for channel, trains in reaching.trains.items():
        connect_trains(nest, cell, nodes, channel, trains, length.dt)
    start = np.ceil(length.transient / modulation.period) * modulation.period  # the modulation's phase 0
    times, values = _course(modulation, start - length.transient, length)
    for j in moved:
        modulate(nest, cell, j, nodes, inputs, times, values * rates[cell.axes.index(source)])
    recorder = nest.Create("spike_recorder", params={"start": length.transient})
    nest.Connect(nodes, recorder)
    nest.Simulate(length.transient + length.window)
    events = recorder.get("events")
    who = np.asarray(events["senders"]).astype(np.int64) - nodes[0].global_id
    when = np.asarray(events["times"], float) - length.transient
    counts = np.asarray(np.bincount(who, minlength=n) * (1000.0 / length.window), float)
    return fourier(who, when, n, length.window, modulation.frequency), counts


def cells_at_once(cell: Cell, rates: FloatArray, length: Length,
                   presynaptic: Mapping[str, PresynapticStatistics]) -> int:
    per_cell = sum(cell.channels[j].K * rates[cell.channel_axis[j]] for j in explicit(cell, presynaptic))
    spikes = per_cell * (length.transient + length.window) / 1000.0
    return int(min(ROUND_CELLS, max(64, ROUND_EVENTS / max(spikes, 1.0))))


def _course(modulation: Multisine, phase: float, length: Length) -> tuple[FloatArray, FloatArray]:
    """Times (ms) at which the generators change their rate, from one step after 0, and the values.

    `phase` (ms): where in its period the modulation stands at time 0.
    """
    starts, values = modulation.held()
    turns = int(np.ceil((phase + length.transient + length.window) / modulation.period))
    times = (np.arange(turns)[:, None] * modulation.period + starts).ravel() - phase
    values = np.tile(values, turns)
    last = np.searchsorted(times, 0.0, side="right") - 1
    times, values = times[last:].copy(), values[last:]
    times[0] = max(times[0], length.dt)
    return np.round(times, 6), values


def modulate(nest: Any, cell: Cell, j: int, nodes: Any, inputs: CellInputs, times: FloatArray,
             rate: FloatArray, delay: float = DELAY) -> None:
    """Give channel j of every cell its arrivals, `delay` ms later, from one generator for each class of in-degrees."""
    events = inputs.events[:, j]
    receptor, sign = receptor_of(cell, j)
    for members in classes(events):
        mean = events[members].mean()
        if mean == 0:
            continue
        generator = nest.Create("inhomogeneous_poisson_generator",
                                params={"rate_times": times, "rate_values": mean * rate})
        weight = inputs.quantum[members, j] * events[members] / mean
        nest.Connect(generator, nodes[members.tolist()], "all_to_all",
                     {"weight": sign * weight[:, None], "delay": delay, "receptor_type": receptor})


def classes(events: FloatArray) -> list[NDArray[np.int64]]:
    """Cells in classes of similar numbers of arrivals; those without any are a class of their own."""
    different = np.unique(events)
    if different.size <= CLASSES:
        return [np.flatnonzero(events == value) for value in different]
    order = np.argsort(events, kind="stable")
    silent = int(np.sum(events == 0))
    parts = [order[:silent], *np.array_split(order[silent:], CLASSES)]
    return [np.sort(part) for part in parts if part.size]


# --- one measurement of a run -------------------------------------------------------------------------


def simulate_response(plan: Plan, responses: ResponsePlan, task: ResponseTask,
                      communicator: int | None = None) -> dict[str, NDArray[Any]]:
    """Measure the response at one working point; depends on the plans and the task alone.

    Returns
    -------
    dict
        What `store.responses` keeps of a measurement.
    """
    cell, frequency = plan.parameters.cell(task.population), np.array(responses.frequency)
    rate = task.rates[cell.axes.index(task.source)]
    transmitted = instant_pathways(plan.parameters, frequency)[:, task.axis]
    transmitted = transmitted / (1.0 + 2e-3j * np.pi * frequency * task.T)
    modulation = design(rate, task.slope, task.target, transmitted, frequency, seed_for(task.seed, "phases"),
                        responses.period)
    seen = np.abs(task.slope * rate * modulation.depth * transmitted)
    length = length_for(task.target, float(np.median(seen)), responses.period, plan.sampling)
    found = measure(cell, task.source, np.array(task.rates), modulation, length, seed_for(task.seed, "cells"),
                    communicator, plan.sampling.heterogeneous, statistics_of(plan.presynaptic))
    return {"response_real": found["response"].real, "response_imag": found["response"].imag, "error": found["error"],
            "rate": found["rate"], "rate_sem": found["rate_sem"], "neuron_seconds": np.array(length.neuron_seconds)}


def length_for(rate: float, amplitude: float, period: float, sampling: Sampling) -> Length:
    """As many cells as it takes to see an output of that amplitude above the noise of a Poisson train of that rate.

    Rate and amplitude are the output's (Hz). Wanted precision and budget follow those of the transfer functions.
    """
    window = period * np.ceil(WINDOW / period)
    precision = min(PRECISION * sampling.precision, LEAST_PRECISION)
    wanted = 2.0 * rate / (precision * max(amplitude, 1e-9)) ** 2 * 1000.0 / window
    rare = min(max(RARE / max(rate, 1e-9), 1.0), MOST_RARE)
    most = rare * BUDGET * sampling.budget * 1000.0 / (sampling.transient + window)
    return Length(int(max(FEWEST_CELLS, min(wanted, most))), sampling.transient, float(window), sampling.dt)
