"""Transfer functions: the stationary output rate of one population's cell as a function of its input rates.

Every kind packs itself into two flat arrays, which the compiled `evaluate` turns into rate, gradient
and Hessian; the objects here are the readable side of the same thing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from automfm_hpc.errors import FitError, suggest
from automfm_hpc.moments import Membrane
from automfm_hpc.spline import evaluate_spline, pack_spline
from automfm_hpc.template import COEFFICIENTS, evaluate_template, pack

FloatArray = NDArray[np.float64]
KINDS = ("template5", "template10", "spline")
_SPLINE = KINDS.index("spline")


@njit(cache=True, nogil=True, error_model="numpy")
def evaluate(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray
) -> float:
    """Rate of any kind of transfer function, and its derivatives.

    Parameters
    ----------
    ints, floats : 1-D arrays
        From `TransferFunction.packed`.
    nu : (n_axis,) array
        Input rates (Hz). A template takes a negative rate as 0, a spline continues to it.
    gradient : (n_axis,) array
        Filled with dF/dnu.
    hessian : (n_axis, n_axis) array
        Filled with d2F/dnu dnu (1/Hz).

    Returns
    -------
    float
        Hz.
    """
    if ints[0] == _SPLINE:
        return evaluate_spline(ints, floats, nu, gradient, hessian)
    return evaluate_template(ints, floats, nu, gradient, hessian)


@njit(cache=True, nogil=True, error_model="numpy")
def _evaluate_all(
    ints: NDArray[np.int64], floats: FloatArray, nu: FloatArray,
    rate: FloatArray, gradient: FloatArray, hessian: FloatArray,
) -> None:  # fmt: skip
    for i in range(nu.shape[0]):
        rate[i] = evaluate(ints, floats, nu[i], gradient[i], hessian[i])


@dataclass(frozen=True, eq=False)
class TransferFunction(ABC):
    """What all kinds share.

    Parameters
    ----------
    population : str
    axes : tuple of str
        Sources whose rates are the arguments, in order.
    domain : (n_axis, 2) array
        Lowest and highest rate (Hz) of each source that the data covered.
    """

    population: str
    axes: tuple[str, ...]
    domain: FloatArray

    @property
    @abstractmethod
    def kind(self) -> str:
        """Name in `KINDS`."""

    @abstractmethod
    def packed(self) -> tuple[NDArray[np.int64], FloatArray]:
        """The arrays `ints` and `floats` of `evaluate`."""

    def to_dict(self) -> dict[str, Any]:
        """Arrays and plain attributes, read back by `from_dict`."""
        return {"kind": self.kind, "population": self.population, "axes": list(self.axes),
                "arrays": {"domain": self.domain}, "attributes": {}}  # fmt: skip

    def __call__(self, nu: ArrayLike) -> FloatArray:
        """Output rate (Hz), shape (...), at input rates nu (..., n_axis) in Hz."""
        return self.derivatives(nu)[0]

    def gradient(self, nu: ArrayLike) -> FloatArray:
        """dF/dnu, shape (..., n_axis)."""
        return self.derivatives(nu)[1]

    def hessian(self, nu: ArrayLike) -> FloatArray:
        """d2F/dnu dnu (1/Hz), shape (..., n_axis, n_axis)."""
        return self.derivatives(nu)[2]

    def derivatives(self, nu: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Rate, gradient and Hessian together."""
        points = np.ascontiguousarray(nu, dtype=float)
        shape, S = points.shape[:-1], len(self.axes)
        if points.shape[-1:] != (S,):
            raise FitError(f"rates have shape {points.shape}, the last axis must be {S}",
                           where=f"transfer function of {self.population}", remedy=f"Axes: {', '.join(self.axes)}.")
        flat = points.reshape(-1, S)
        rate, gradient, hessian = np.empty(len(flat)), np.empty((len(flat), S)), np.empty((len(flat), S, S))
        _evaluate_all(*self.packed(), flat, rate, gradient, hessian)
        return rate.reshape(shape), gradient.reshape(*shape, S), hessian.reshape(*shape, S, S)

    def inside(self, nu: ArrayLike) -> NDArray[np.bool_]:
        """Whether nu (..., n_axis) lies in the domain, shape (...)."""
        rate = np.asarray(nu, float)
        return np.all((rate >= self.domain[:, 0]) & (rate <= self.domain[:, 1]), axis=-1)


@dataclass(frozen=True, eq=False)
class Template(TransferFunction):
    """Semi-analytic template; the spike-triggered currents are left to its effective threshold.

    Parameters
    ----------
    membrane : Membrane
    coefficients : Mapping
        Effective threshold (mV), by name: see `template.COEFFICIENTS`.
    alpha : float, default 1
        Output gain, for the published mode only.
    """

    membrane: Membrane
    coefficients: Mapping[str, float]
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if set(self.coefficients) not in [set(names) for names in COEFFICIENTS.values()]:
            raise FitError(f"coefficients {sorted(self.coefficients)} belong to no template",
                           where=f"transfer function of {self.population}",
                           remedy=f"Known: {'; '.join(', '.join(n) for n in COEFFICIENTS.values())}.")  # fmt: skip

    @property
    def kind(self) -> str:
        return "template5" if "log_mu_G" in self.coefficients else "template10"

    def packed(self) -> tuple[NDArray[np.int64], FloatArray]:
        values = np.array([self.coefficients[name] for name in COEFFICIENTS[self.kind]])
        return pack(KINDS.index(self.kind), self.membrane, len(self.axes), values, self.alpha)

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        names = COEFFICIENTS[self.kind]
        data["arrays"]["coefficients"] = np.array([self.coefficients[n] for n in names])
        data["attributes"] = {"coefficient_names": list(names), "unit": "mV", "alpha": self.alpha,
                              "membrane": self.membrane.to_dict()}  # fmt: skip
        return data


@dataclass(frozen=True, eq=False)
class Spline(TransferFunction):
    """Tensor-product cubic B-spline in log(1 + nu/scale) behind a positive, bounded link (see `spline`).

    Parameters
    ----------
    coefficients : (n_1, ..., n_axis) array
        At least four per axis.
    scale : (n_axis,) array
        Hz.
    r0 : float
        Rate (Hz) below which the link turns from linear to exponential.
    t_ref : float
        Refractory time (ms): the rate stays below 1000/t_ref Hz; 0 for no bound.
    """

    coefficients: FloatArray
    scale: FloatArray
    r0: float
    t_ref: float

    @property
    def kind(self) -> str:
        return "spline"

    @property
    def knots(self) -> FloatArray:
        """Origin, step and upper end of each axis in x, shape (n_axis, 3)."""
        return uniform_knots(self.domain, self.scale, self.coefficients.shape)

    def packed(self) -> tuple[NDArray[np.int64], FloatArray]:
        top = 1000.0 / self.t_ref / self.r0 if self.t_ref > 0 else np.inf
        per_axis = np.column_stack([self.knots, self.scale])
        return pack_spline(_SPLINE, self.r0, top, per_axis, self.coefficients)

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        data["arrays"] |= {"coefficients": self.coefficients, "scale": self.scale}
        data["attributes"] = {"r0": self.r0, "t_ref": self.t_ref}
        return data


def uniform_knots(domain: FloatArray, scale: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Origin, step and upper end of cubic B-splines over the domain, in x = log(1 + nu/scale)."""
    ends = np.log1p(domain / scale[:, None])
    width = ends[:, 1] - ends[:, 0]
    step = np.where(width > 0, width, 1.0) / (np.array(shape) - 3)  # an axis measured at one rate only
    return np.column_stack([ends[:, 0], step, ends[:, 1]])


def from_dict(data: Mapping[str, Any]) -> TransferFunction:
    """The transfer function that `to_dict` wrote."""
    kind, arrays, more = data["kind"], data["arrays"], data["attributes"]
    population, axes = data["population"], tuple(data["axes"])
    domain = np.asarray(arrays["domain"], float)
    coefficients = np.asarray(arrays["coefficients"], float)
    if kind == "spline":
        return Spline(population, axes, domain, coefficients, np.asarray(arrays["scale"], float),
                      float(more["r0"]), float(more["t_ref"]))
    if kind in COEFFICIENTS:
        named = dict(zip(more["coefficient_names"], coefficients.tolist(), strict=True))
        return Template(population, axes, domain, Membrane.from_dict(more["membrane"]), named, float(more["alpha"]))
    raise FitError(f"unknown kind '{kind}'", where=f"transfer function of {population}", remedy=suggest(kind, KINDS))
