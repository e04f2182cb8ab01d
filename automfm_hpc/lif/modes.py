r"""Eigenmodes of the effective connectivity: branches over frequency, critical points, sensitivity.

An eigenvalue lambda(f) of W(f) near 1 makes a peak in the spectra. The sensitivity of lambda to a relative
change of connection ij is Z_ij = l_i W_ij r_j / (l . r), l and r the left and right eigenvectors. Projected
on the direction from lambda to 1 it tells how a connection changes the amplitude of the peak, projected on
the perpendicular how it changes its frequency (Bos et al. 2016, eq. 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment, minimize_scalar

from automfm_hpc.errors import LIFError
from automfm_hpc.lif import checks
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.spectra import effective_connectivity
from automfm_hpc.lif.working_point import WorkingPoint


@dataclass(frozen=True, eq=False)
class Branches:
    """Eigenvalues of a stack of matrices, each column a continuous branch.

    Attributes
    ----------
    frequency : (f,) array
        Hz.
    eigenvalues : (f, n) array
    order : (f, n) integer array
        order[k, b]: place of branch b in the unsorted output of the eigenvalue solver at frequency k.
    right : (f, n, n) array
        right[k, :, b]: right eigenvector of branch b.
    """

    frequency: Array
    eigenvalues: Array
    order: Array
    right: Array


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Sensitivity of one eigenvalue at one frequency.

    Attributes
    ----------
    frequency : float
        Hz.
    eigenvalue : complex
    left, right : (n,) array
        Eigenvectors with left . right = 1.
    sensitivity : (n, n) complex array
        Z, relative: change of the eigenvalue per relative change of a connection, [target, source].
    amplitude, frequency_shift : (n, n) array
        Its parts towards 1 and perpendicular to that.
    """

    frequency: float
    eigenvalue: complex
    left: Array
    right: Array
    sensitivity: Array
    amplitude: Array
    frequency_shift: Array


def branches(frequency: ArrayLike, W: ArrayLike) -> Branches:
    """Match the eigenvalues of W (f, n, n) over frequency (f,), increasing.

    Each step assigns eigenvalues to branches so that the sum of the distances to the linear continuation of
    the branches is smallest, weighted with the overlap of the eigenvectors: no margin to tune.

    Raises
    ------
    LIFError
        If W is no stack of square matrices, one per frequency.
    """
    f = checks.real(frequency, "frequency", where="branches")
    stack = np.asarray(W)
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or stack.shape[0] != f.size:
        raise LIFError(f"W has shape {stack.shape}, expected ({f.size}, n, n)", where="branches")
    values, vectors = np.linalg.eig(stack)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.empty(values.shape, dtype=np.int64)
    order[0] = np.argsort(-np.abs(values[0]), kind="stable")
    slope = np.zeros(values.shape[1], dtype=complex)
    for k in range(1, f.size):
        last = values[k - 1, order[k - 1]]
        step = f[k] - f[k - 1]
        distance = np.abs((last + slope * step)[:, None] - values[k][None, :])
        overlap = np.abs(vectors[k - 1][:, order[k - 1]].conj().T @ vectors[k])
        _, order[k] = linear_sum_assignment(distance * (2.0 - overlap))
        slope = (values[k, order[k]] - last) / step if step > 0 else slope
    rows = np.arange(f.size)[:, None]
    return Branches(f, values[rows, order], order, np.stack([v[:, o] for v, o in zip(vectors, order, strict=True)]))


def sensitivity(W: ArrayLike, frequency: float, *, near: complex = 1.0 + 0.0j) -> Sensitivity:
    """Sensitivity of the eigenvalue of W (n, n) that is nearest to `near`.

    Raises
    ------
    LIFError
        If W is not square or the eigenvalue is degenerate.
    """
    matrix = np.asarray(W)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise LIFError(f"W must be a square matrix, but has shape {matrix.shape}", where="sensitivity")
    values, right = np.linalg.eig(matrix)
    try:
        left = np.linalg.inv(right)
    except np.linalg.LinAlgError:
        raise LIFError("the eigenvectors are linearly dependent", where="sensitivity") from None
    b = int(np.argmin(np.abs(values - near)))
    Z = left[b][:, None] * matrix * right[:, b][None, :]
    towards = 1.0 - values[b]
    towards = towards / abs(towards) if towards != 0 else 1.0 + 0.0j
    amplitude = (Z * np.conj(towards)).real
    return Sensitivity(
        float(frequency), complex(values[b]), left[b], right[:, b], Z, amplitude, (Z * np.conj(1j * towards)).real
    )


def critical_frequency(
    net: LIFNetwork, point: WorkingPoint, guess: float, *, width: float = 5.0
) -> tuple[float, complex]:
    """Frequency (Hz) near `guess` at which an eigenvalue is nearest to 1, and that eigenvalue."""

    def nearest(f: float) -> complex:
        values = np.linalg.eigvals(effective_connectivity(net, point, f))
        return complex(values[np.argmin(np.abs(values - 1.0))])

    found = minimize_scalar(
        lambda f: abs(nearest(f) - 1.0), bounds=(max(guess - width, 0.0), guess + width), method="bounded",
        options={"xatol": 1e-6},
    )  # fmt: skip
    return float(found.x), nearest(found.x)


def critical_sensitivities(net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike) -> tuple[Sensitivity, ...]:
    """Sensitivity of every branch at the frequency (of those given, Hz) where it is nearest to 1."""
    f = checks.real(frequency, "frequency", where="critical_sensitivities")
    W = effective_connectivity(net, point, f)
    tracked = branches(f, W)
    places = np.argmin(np.abs(tracked.eigenvalues - 1.0), axis=0)
    return tuple(sensitivity(W[k], f[k], near=tracked.eigenvalues[k, b]) for b, k in enumerate(places))
