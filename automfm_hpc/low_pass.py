"""Two low-passes in a row, one step on: alpha synapses (`filters`) and the lag of cells (`cell_response`) are such."""

from __future__ import annotations

from automfm_hpc.response import compiled


@compiled
def two_low_passes(new: float, old: float, first: float, second: float, e: float, chain: float,
                   lag: float) -> tuple[float, float]:
    """What x1' = (u - x1)/tau, x2' = (x1 - x2)/tau have become after a step h in which u ran straight from old to new.

    `first` and `second` are x1 and x2 before it. With g = h/tau: e = exp(-g), chain = g exp(-g), lag = tau/h. Exact, so
    that results do not move with the step.
    """
    ramp = (new - old) * lag
    away = first - old + ramp
    return new - ramp + away * e, new - 2.0 * ramp + away * chain + (second - old + 2.0 * ramp) * e
