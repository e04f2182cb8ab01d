"""Transfer functions in closed form, linear or logistic in the rates: models whose solution is known.

They run through the same solver as fitted transfer functions, and are what it is verified with; a
mean field of Wilson-Cowan type is one of logistic ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from automfm_hpc.transfer_function import TransferFunction

FloatArray = NDArray[np.float64]
CODES = {"linear": 101, "logistic": 102}
_LINEAR = CODES["linear"]


@njit(cache=True, nogil=True)
def evaluate(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """F (Hz) at rates nu (S,) Hz; fills gradient (S,) and hessian (S, S) = (1/Hz)."""
    drive = floats[0]
    for s in range(nu.size):
        drive += floats[2 + s] * nu[s]
    value, slope, bend = drive, 1.0, 0.0
    if ints[0] != _LINEAR:
        e = math.exp(-abs(drive))
        p = 1.0 / (1.0 + e) if drive >= 0.0 else e / (1.0 + e)
        value, slope = floats[1] * p, floats[1] * p * (1.0 - p)
        bend = slope * (1.0 - 2.0 * p)
    for s in range(nu.size):
        gradient[s] = slope * floats[2 + s]
        for t in range(nu.size):
            hessian[s, t] = bend * floats[2 + s] * floats[2 + t]
    return value


@dataclass(frozen=True, eq=False)
class RateModel(TransferFunction):
    """F = offset + weights . nu, or F = top / (1 + exp(-offset - weights . nu)).

    Parameters
    ----------
    population, axes, domain
        See `TransferFunction`.
    weights : (S,) array
        Without unit (linear) or 1/Hz (logistic).
    offset : float
        Hz (linear) or without unit (logistic).
    shape : {'linear', 'logistic'}
    top : float
        Largest rate of the logistic shape (Hz).
    """

    weights: FloatArray
    offset: float
    shape: str = "logistic"
    top: float = 100.0

    @property
    def kind(self) -> str:
        return self.shape

    def packed(self) -> tuple[NDArray[np.int64], FloatArray]:
        floats = np.concatenate([[self.offset, self.top], np.ravel(self.weights)]).astype(float)
        return np.array([CODES[self.shape], len(self.axes)], dtype=np.int64), floats

    def derivatives(self, nu: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Rate (...), gradient (..., S) and Hessian (..., S, S) at nu (..., S) in Hz."""
        drive = np.asarray(self.offset + np.asarray(nu, float) @ self.weights)
        value, slope, bend = drive, np.ones_like(drive), np.zeros_like(drive)
        if self.shape == "logistic":
            p = 0.5 * (1.0 + np.tanh(0.5 * drive))
            value, slope = self.top * p, self.top * p * (1.0 - p)
            bend = slope * (1.0 - 2.0 * p)
        return value, slope[..., None] * self.weights, bend[..., None, None] * np.outer(self.weights, self.weights)

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        data["arrays"]["weights"] = np.asarray(self.weights)
        data["attributes"] = {"offset": float(self.offset), "top": float(self.top)}
        return data


def from_dict(data: Mapping[str, Any]) -> RateModel:
    """The transfer function that `RateModel.to_dict` wrote."""
    domain, weights = (np.asarray(data["arrays"][name], float) for name in ("domain", "weights"))
    more = data["attributes"]
    return RateModel(data["population"], tuple(data["axes"]), domain, weights, float(more["offset"]), data["kind"],
                     float(more["top"]))
