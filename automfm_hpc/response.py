"""The transfer functions of a whole network, evaluated together in compiled code: F, J and the Hessians.

Compiled functions count references to every array they are given, which costs more than the arithmetic
of a small network. The stepping therefore works on views without counts ('bare'), of arrays that its
Python caller keeps alive.

Numba's disk cache notices changes of one file only: after changing `transfer_function`, `spline`,
`template`, `published_template`, `rate_models` or `lif.bridge` in place, delete ``automfm_hpc/__pycache__``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from automfm_hpc import published_template, rate_models, transfer_function
from automfm_hpc.lif import bridge

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

compiled = njit(cache=True, nogil=True, error_model="numpy")
_tf_evaluate = transfer_function.evaluate
_published_evaluate = published_template.evaluate
_rate_evaluate = rate_models.evaluate
_lif_evaluate = bridge.evaluate
_PUBLISHED, _RATE, _LIF = published_template.CODE, min(rate_models.CODES.values()), bridge.CODE


class System(NamedTuple):
    """A mean field as flat arrays; P populations, M = P + inputs rows.

    Parameters
    ----------
    ints, floats : 1-D arrays
        The packed transfer functions, one after the other.
    int_start, float_start : (P + 1,) arrays
        Where each begins.
    axes : (n_axes,) array
        Row of each axis of each transfer function; axis_start (P + 1,) where each function's begin.
    domain : (n_axes, 2) array
        Hz.
    T : (M,) array
        ms.
    N : (M,) array
        Cells or sources; infinite: no fluctuation of its own.
    """

    ints: IntArray
    int_start: IntArray
    floats: FloatArray
    float_start: IntArray
    axes: IntArray
    axis_start: IntArray
    domain: FloatArray
    T: FloatArray
    N: FloatArray


class Response(NamedTuple):
    """Room for one evaluation of all transfer functions."""

    nu: FloatArray  # (n_axes,) Hz: arguments of the transfer functions
    gradient: FloatArray
    hessian: FloatArray  # flat, one population after the other
    F: FloatArray  # (P,) Hz
    J: FloatArray  # (P, M) dF/dnu
    half: FloatArray  # (P,) 1/2 sum_jk c_jk d2F/dnu_j dnu_k, Hz


def _pointer(typing_context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.uintp), generate


pointer: Any = intrinsic(_pointer)


@compiled
def bare_floats(array: Any) -> FloatArray:
    """The same array without reference counting, which costs more than the arithmetic of a small system.

    Only for arrays that the caller of the compiled code keeps alive.
    """
    return carray(pointer(array.ctypes.data), array.shape, np.float64)


@compiled
def bare_integers(array: Any) -> IntArray:
    return carray(pointer(array.ctypes.data), array.shape, np.int64)


@compiled
def bare_system(s: System) -> System:
    return System(bare_integers(s.ints), bare_integers(s.int_start), bare_floats(s.floats),
                  bare_integers(s.float_start), bare_integers(s.axes), bare_integers(s.axis_start),
                  bare_floats(s.domain), bare_floats(s.T), bare_floats(s.N))  # fmt: skip


@compiled
def bare_response(w: Response) -> Response:
    return Response(bare_floats(w.nu), bare_floats(w.gradient), bare_floats(w.hessian), bare_floats(w.F),
                    bare_floats(w.J), bare_floats(w.half))  # fmt: skip


def empty_response(system: System) -> Response:
    P, M = system.axis_start.size - 1, system.T.size
    axes = np.diff(system.axis_start)
    return Response(np.zeros(axes.sum()), np.zeros(axes.max()), np.zeros((axes**2).sum()), np.zeros(P),
                    np.zeros((P, M)), np.zeros(P))  # fmt: skip


@compiled
def _one(ints: IntArray, floats: FloatArray, nu: FloatArray, gradient: FloatArray, hessian: FloatArray) -> float:
    if ints[0] == _LIF:
        return _lif_evaluate(ints, floats, nu, gradient, hessian)
    if ints[0] >= _RATE:
        return _rate_evaluate(ints, floats, nu, gradient, hessian)
    if ints[0] == _PUBLISHED:
        return _published_evaluate(ints, floats, nu, gradient, hessian)
    return _tf_evaluate(ints, floats, nu, gradient, hessian)


@compiled
def gather(system: System, rate: FloatArray, work: Response) -> None:
    """Arguments of the transfer functions <- present rates (M,)."""
    nu, axes = work.nu, system.axes
    for k in range(axes.size):
        nu[k] = rate[axes[k]]


@compiled
def respond_into(system: System, work: Response) -> int:
    """Fill F, J and the Hessians at `work.nu`; return the first population where they are not finite, or -1."""
    nu, gradient, hessian, F, J = work.nu, work.gradient, work.hessian, work.F, work.J
    ints, int_start, floats, float_start = system.ints, system.int_start, system.floats, system.float_start
    axes, axis_start = system.axes, system.axis_start
    start, address = 0, hessian.ctypes.data
    for i in range(F.size):
        first, S = axis_start[i], axis_start[i + 1] - axis_start[i]
        bend = carray(pointer(address + 8 * start), (S, S), np.float64)
        F[i] = _one(ints[int_start[i] : int_start[i + 1]], floats[float_start[i] : float_start[i + 1]],
                    nu[first : first + S], gradient[:S], bend)  # fmt: skip
        total = F[i]
        for s in range(S):
            J[i, axes[first + s]] = gradient[s]
            total += gradient[s]
        for k in range(start, start + S * S):
            total += hessian[k]
        if not np.isfinite(total):
            return i
        start += S * S
    return -1


@compiled
def respond_at(system: System, rate: FloatArray, work: Response) -> int:
    """`respond_into` at present rates (M,)."""
    gather(system, rate, work)
    bad: int = respond_into(system, work)
    return bad


@compiled
def correct(system: System, c: FloatArray, work: Response) -> None:
    """half <- 1/2 sum_jk c_jk d2F/dnu_j dnu_k from the Hessians of the last evaluation."""
    half, hessian, axes, axis_start = work.half, work.hessian, system.axes, system.axis_start
    k = 0
    for i in range(half.size):
        first, S = axis_start[i], axis_start[i + 1] - axis_start[i]
        total = 0.0
        for s in range(S):
            for t in range(s):
                total += c[axes[first + s], axes[first + t]] * hessian[k + t]
            total += 0.5 * c[axes[first + s], axes[first + s]] * hessian[k + s]
            k += S
        half[i] = total


@compiled
def correct_filtered(system: System, spread: FloatArray, work: Response) -> None:
    """half <- 1/2 sum of the covariances of each transfer function's arguments times d2F; `spread` as `hessian`."""
    k = 0
    for i in range(work.half.size):
        total, S = 0.0, system.axis_start[i + 1] - system.axis_start[i]
        for n in range(k, k + S * S):
            total += spread[n] * work.hessian[n]
        work.half[i] = 0.5 * total
        k += S * S


def respond_filtered(system: System, rate: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `respond`, with covariances of the arguments in the layout of `Response.hessian`."""
    work = empty_response(system)
    bad = _respond_filtered_once(system, np.ascontiguousarray(rate), spread, work)
    if bad >= 0:
        work.F[bad] = np.nan
    return work.F, work.J, work.half


@compiled
def _respond_filtered_once(system: System, rate: FloatArray, spread: FloatArray, work: Response) -> int:
    system, work = bare_system(system), bare_response(work)
    gather(system, bare_floats(rate), work)
    bad = respond_into(system, work)
    correct_filtered(system, bare_floats(spread), work)
    return bad


def respond(system: System, rate: FloatArray, c: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """F (P,), J (P, M), 1/2 sum c d2F (P,) at rates (M,) and covariance (M, M); F is NaN where not finite."""
    work = empty_response(system)
    bad = _respond_once(system, np.ascontiguousarray(rate), np.ascontiguousarray(c), work)
    if bad >= 0:
        work.F[bad] = np.nan
    return work.F, work.J, work.half


@compiled
def _respond_once(system: System, rate: FloatArray, c: FloatArray, work: Response) -> int:
    system, work = bare_system(system), bare_response(work)
    gather(system, bare_floats(rate), work)
    bad = respond_into(system, work)
    correct(system, bare_floats(c), work)
    return bad
