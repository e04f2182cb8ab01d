"""What is measured to learn how fast cells answer: which source of which population, at which rates, with which seeds.

It depends on the fitted transfer functions, which tell how deep a modulation may be and how long it takes to see its
effect; so it is frozen when the measurement begins, and kept with the results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import StoreError
from automfm_hpc.modulation import odd_frequencies, period_for
from automfm_hpc.plan import Plan
from automfm_hpc.provenance import content_hash, seed_for

FloatArray = NDArray[np.float64]
FORMAT = 1
POINTS = 3  # default number of working points of each population
LEAST_RATE = 0.5  # Hz, of target and source: below, there is nothing to measure
APART = 1e-3  # of the highest rate: working points nearer than that are one


@dataclass(frozen=True)
class ResponseTask:
    """One measurement.

    Parameters
    ----------
    population, source : str
    axis, point : int
        Axis in the order of `MeanField.axis_labels`; working point of the population.
    rates : tuple of float
        Rates (Hz) of the population's sources.
    target, slope : float
        Rate (Hz) of the fitted transfer function there, and its derivative by the source's rate.
    T : float
        Time constant of the master equation (ms).
    seed : int
    """

    population: str
    source: str
    axis: int
    point: int
    rates: tuple[float, ...]
    target: float
    slope: float
    T: float
    seed: int


@dataclass(frozen=True)
class ResponsePlan:
    """All measurements of a run.

    Parameters
    ----------
    plan_id : str
        Of the run's plan.
    points : int
        Working points asked for; a population may have fewer.
    labels : tuple of str
        ``target<-source`` of every axis.
    period : float
        Of the modulations (ms).
    frequency : tuple of float
        Hz.
    tasks : tuple of ResponseTask
    """

    plan_id: str
    points: int
    labels: tuple[str, ...]
    period: float
    frequency: tuple[float, ...]
    tasks: tuple[ResponseTask, ...]

    @property
    def id(self) -> str:
        return content_hash(self.to_dict())

    def knots(self, population: str) -> dict[int, float]:
        """Rate (Hz) of a population at each of its working points."""
        return {t.point: t.target for t in self.tasks if t.population == population}

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: str) -> ResponsePlan:
        try:
            if data["format"] != FORMAT:
                raise KeyError(f"format {data['format']}")
            tasks = tuple(ResponseTask(**{**t, "rates": tuple(t["rates"])}) for t in data["tasks"])
            return ResponsePlan(data["plan_id"], data["points"], tuple(data["labels"]), data["period"],
                                tuple(data["frequency"]), tasks)
        except (KeyError, TypeError) as error:
            raise StoreError(f"is not a store of responses of this version ({error})", where=where,
                             remedy="Delete it and run `automfm dynamics` again.") from None


def plan_responses(plan: Plan, model: Any, known: Mapping[str, Sequence[float]], points: int = POINTS) -> ResponsePlan:
    """Choose working points of every population; see `chosen`.

    Parameters
    ----------
    plan : Plan
    model : MeanField
        With the fitted transfer functions.
    known : Mapping
        Rates (Hz) of every population and input at the network's working points.
    points : int
    """
    tasks: list[ResponseTask] = []
    axis = 0
    for tf, T in zip(model.transfer_functions, model.system.T, strict=False):
        nu = np.array([known[a] for a in tf.axes], float).T
        rate, gradient, _ = tf.derivatives(nu)
        for number, k in enumerate(chosen(rate, points)):
            for j, source in enumerate(tf.axes):
                if nu[k, j] >= LEAST_RATE and gradient[k, j] != 0.0:
                    tasks.append(ResponseTask(
                        tf.population, source, axis + j, number, tuple(map(float, nu[k])), float(rate[k]),
                        float(gradient[k, j]), float(T), seed_for(plan.seed, "response", tf.population, source, number),
                    ))  # fmt: skip
        axis += len(tf.axes)
    order = sorted(tasks, key=lambda t: -len(plan.parameters.cell(t.population).channels))  # the slow ones first
    period = period_for(slowest(plan))
    return ResponsePlan(plan.id, points, model.axis_labels, period, tuple(map(float, odd_frequencies(period))),
                        tuple(order))


def slowest(plan: Plan) -> float:
    """Slowest time constant (ms) that the plan's transient allows for: it is five of them."""
    return plan.sampling.transient / 5.0


def chosen(rate: FloatArray, points: int) -> list[int]:
    """Indices of up to `points` different rates (Hz), the lowest first, from the lowest to the highest.

    They are spread evenly in the square root of the rate, as filters change most where rates are low. Rates below
    LEAST_RATE are left out.
    """
    alive = [int(k) for k in np.argsort(rate, kind="stable") if rate[k] >= LEAST_RATE]
    left: list[int] = []
    for k in alive:
        if not left or rate[k] - rate[left[-1]] > APART * rate[alive[-1]]:
            left.append(k)
    if len(left) <= points:
        return left
    picked: set[int] = set()
    for wanted in np.linspace(rate[left[0]] ** 0.5, rate[left[-1]] ** 0.5, points):
        picked.add(min((k for k in left if k not in picked), key=lambda k: abs(rate[k] ** 0.5 - wanted)))
    return sorted(picked, key=lambda k: rate[k])
