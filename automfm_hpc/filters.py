"""The linear filters of `dynamics.Dynamics`, stepped in compiled code.

Between two steps a rate runs along a straight line. For such an input low-pass filters and chains of two of them have
exact propagators, and a delay that is no multiple of the step reads between two past steps; so the filters are of
second order in the step. They follow the rates that a scheme has found: at the end of a step all inputs are known.

Where the cells' response asks for the spread of its sources (`spread`), how far their rates saturate (`saturation_of`),
averaged over SMOOTHED, passes the same delays and synapses, as sources and axes of their own behind the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from automfm_hpc.dynamics import SMOOTHED, Dynamics
from automfm_hpc.low_pass import two_low_passes
from automfm_hpc.response import FloatArray, IntArray, System, bare_floats, bare_integers, compiled
from automfm_hpc.spread import saturation_of


class Filters(NamedTuple):
    """Constants of a step. With g = h/tau: e = exp(-g), chain = g exp(-g), lag = tau/h."""

    source: IntArray  # (n_pathway,) row of the rates
    axis: IntArray  # (n_pathway,)
    weight: FloatArray  # (n_pathway,)
    back: IntArray  # (n_pathway,) whole steps of the delay
    part: FloatArray  # (n_pathway,) what is left of it, in steps
    poles: IntArray  # (n_pathway,)
    e: FloatArray  # (n_pathway,)
    chain: FloatArray  # (n_pathway,)
    lag: FloatArray  # (n_pathway,)
    fresh: float  # part of the averages before saturations that a step replaces; 0: these are not asked for


class Memory(NamedTuple):
    """What the filters remember, in Hz but for saturations."""

    past: FloatArray  # (a power of 2, M or 2 M) rates and saturations of the last steps; of step k in row k modulo all
    smoothed: FloatArray  # (M,) rates averaged over SMOOTHED
    arrived: FloatArray  # (n_pathway,) delayed rates
    first: FloatArray  # (n_pathway,) after the first low-pass of a synapse
    second: FloatArray  # (n_pathway,) after the second
    synaptic: FloatArray  # (n_axis,) sum over an axis's pathways
    saturations: FloatArray  # (n_axis,) the same of saturations, without unit; nothing where they are not asked for


def filters_of(dynamics: Dynamics, system: System, h: float, early: float = 0.0,
               saturations: bool | None = None) -> Filters:  # fmt: skip
    """Constants for steps of h (ms).

    `early` (ms) is taken off all delays, for schemes that are so much late. `saturations`: whether those of the rates
    are filtered, too; by default where the cells' response needs them.
    """
    if saturations is None:
        saturations = dynamics.cell is not None and bool(dynamics.cell.spread.size)
    source, axis, weight, tau, poles = (
        system.axes[dynamics.axis], dynamics.axis, dynamics.weight, dynamics.tau_syn, dynamics.poles)  # fmt: skip
    delay = np.maximum(dynamics.delay - early, 0.0)
    if saturations:  # the average is late by SMOOTHED, which is taken off the delay as far as that goes
        source, axis = np.append(source, source + system.T.size), np.append(axis, axis + system.axes.size)
        delay = np.append(delay, np.maximum(delay - SMOOTHED, 0.0))
        weight, tau, poles = np.tile(weight, 2), np.tile(tau, 2), np.tile(poles, 2)
    poles = np.where(tau > 0, poles, 0)
    g = h / np.where(tau > 0, tau, 1.0)
    back = np.floor(delay / h + 1e-9)
    part = np.maximum(delay / h - back, 0.0)
    return Filters(
        source, axis, weight, back.astype(np.int64), part, poles, np.exp(-g), g * np.exp(-g), 1.0 / g,
        1.0 - float(np.exp(-h / SMOOTHED)) if saturations else 0.0,
    )  # fmt: skip


def memory_of(filters: Filters, system: System, rates: FloatArray) -> Memory:
    """Stationary state at constant rates (M,) in Hz."""
    rows = 1 << int(filters.back.max() + 2).bit_length()
    saturations = np.array([saturation_of(x) for x in rates] if filters.fresh > 0 else [])
    sent = np.append(rates, saturations)
    arrived, axes = sent[filters.source], system.axes
    return Memory(np.tile(sent, (rows, 1)), rates.copy(), arrived, arrived.copy(), arrived.copy(), rates[axes],
                  saturations[axes] if saturations.size else saturations)  # fmt: skip


@compiled
def bare_filters(f: Filters) -> Filters:
    return Filters(
        bare_integers(f.source), bare_integers(f.axis), bare_floats(f.weight), bare_integers(f.back),
        bare_floats(f.part), bare_integers(f.poles), bare_floats(f.e), bare_floats(f.chain), bare_floats(f.lag),
        f.fresh,
    )  # fmt: skip


@compiled
def bare_memory(m: Memory) -> Memory:
    return Memory(bare_floats(m.past), bare_floats(m.smoothed), bare_floats(m.arrived), bare_floats(m.first),
                  bare_floats(m.second), bare_floats(m.synaptic), bare_floats(m.saturations))  # fmt: skip


@compiled
def advance(f: Filters, m: Memory, rate: FloatArray, step: int) -> None:
    """Move all filters to step `step`, at which the rates (M,) are `rate`."""
    past, row = m.past, m.past.shape[0] - 1
    for s in range(rate.size):
        past[step & row, s] = rate[s]
        if f.fresh > 0.0:
            m.smoothed[s] += f.fresh * (rate[s] - m.smoothed[s])
            past[step & row, rate.size + s] = saturation_of(m.smoothed[s])
    m.synaptic[:] = 0.0
    m.saturations[:] = 0.0
    for p in range(f.source.size):
        _synapse(f, m, p, step, row)
        a = f.axis[p]
        if a < m.synaptic.size:
            m.synaptic[a] += f.weight[p] * m.second[p]
        else:
            m.saturations[a - m.synaptic.size] += f.weight[p] * m.second[p]


@compiled
def _synapse(f: Filters, m: Memory, p: int, step: int, row: int) -> None:
    """One pathway: its delay, then no low-pass, one, or two."""
    later, s, part = step - f.back[p], f.source[p], f.part[p]
    old = m.arrived[p]
    new = (1.0 - part) * m.past[later & row, s] + part * m.past[(later - 1) & row, s]
    m.arrived[p] = new
    if f.poles[p] == 0:
        m.second[p] = new
        return
    m.first[p], m.second[p] = two_low_passes(new, old, m.first[p], m.second[p], f.e[p], f.chain[p], f.lag[p])
    if f.poles[p] == 1:
        m.second[p] = m.first[p]


@compiled
def read(m: Memory, out: FloatArray) -> None:
    """out <- filtered input (Hz) of every axis; below 0 it is 0."""
    for k in range(out.size):
        out[k] = max(m.synaptic[k], 0.0)
