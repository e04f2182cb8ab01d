"""Order 2 of a mean field with dynamics: covariances from its linear response at the present rates.

The master equation's own equation for c knows no filters: it would take white noise for what a slow synapse has
smoothed. With dynamics c therefore follows the stationary covariance c* of `linear_response` at the present rates;
without filters that is the stationary solution of the equation for c, but for the F^2 of its source. The correction
1/2 sum C_kl d2F/dy_k dy_l of a transfer function takes the covariances C of its own arguments, the filtered rates y of
its axes, which follow likewise.

How fast they follow: the variance of a mode exp(-g t) cos(w t) that noise drives obeys dc/dt = q - 2 g c, so
c* = q/(2 g) is approached with 1/(2 g). Near an instability c* diverges, q does not: to follow c* in a fixed time would
be wrong by any factor. tau = integral of |S|^2 over f / |c*|^2 (Frobenius norms; S the spectra of the filtered
activities) is 1/(2 g) for such a mode, T for activities without feedback, and never less than T here.

Of the spectra of the activities, C leaves out each population's own noise nu_i/N_i, and keeps what arises through
shared inputs and feedback: a transfer function is sampled with independent Poisson inputs, so it holds already how the
K inputs of a cell fluctuate each by itself; what it lacks is their fluctuating together. Two cells of a population have
the cross-spectrum S_ii - nu_i/N_i (to 1/N), two cells of different populations S_ij. For an input nothing is left out:
its N_m sources reach a cell through relays, two of which carry the same source with probability 1/N_m, and then fire
together; their cross-spectrum is nu_m/N_m, which is S_mm.
That is too much where a cell's K sources are all different (an input without relays: its pairs share nothing), and
where a transfer function was sampled over true connections (`wiring.arrivals` merges the trains that reach a cell
twice): by up to nu_m/N_m, beside nu_m/K which is sampled.
"""

from __future__ import annotations

import cmath
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.dynamics import Dynamics
from automfm_hpc.linear_response import Filtering, irregularity, nodes, noise
from automfm_hpc.response import FloatArray, IntArray, System, compiled, respond, respond_filtered
from automfm_hpc.solver import Fluctuations

ComplexArray = NDArray[np.complex128]
MOVED = 0.02  # part of 1 Hz + rate by which a rate moves before covariances are found anew
PAUSE = 2.0  # ms between two such times at least: drives may be noise
_RESOLVED = 2.0  # rad: largest turn of det(I - L) from one frequency to the next
_NODES = 192  # of the integrals over frequency


@dataclass(frozen=True, eq=False)
class Stationary:
    """Stationary covariances of a mean field with dynamics; cells of unknown irregularity count as Poisson."""

    system: System
    dynamics: Dynamics
    n: int = _NODES

    @cached_property
    def _grid(self) -> tuple[Filtering, FloatArray]:
        frequency, weight = nodes(float(self.system.T.mean()), self.n)
        return Filtering.of(self.system, self.dynamics, frequency), weight

    def __call__(self, rates: FloatArray) -> Fluctuations | None:
        """Covariances at rates (M,) in Hz; None where transfer functions are not finite or a mode grows."""
        F, J, _ = respond(self.system, rates, np.zeros((rates.size, rates.size)))
        if not (np.isfinite(F).all() and np.isfinite(J).all()):
            return None
        filtering, weight = self._grid
        starts = self.system.axis_start
        c, spread = np.zeros((rates.size, rates.size)), np.zeros((np.diff(starts) ** 2).sum())
        own = noise(filtering, rates, irregularity(self.dynamics, rates[: len(J)]))
        turned, tau = _integrate(self.system.axes, starts, filtering.felt(rates, J), filtering.pathways,
                                 filtering.answers(rates), filtering.activity, filtering.kernel, weight, own, c, spread)
        if not abs(turned) < 0.5 * np.pi or not np.isfinite(c).all():
            return None
        return Fluctuations(rates, c, spread, max(tau, float(self.system.T.mean())))

    def driven(self, rates: FloatArray) -> tuple[FloatArray, FloatArray]:
        """F + 1/2 sum C d2F (P,) in Hz, NaN where there is no C, and J (P, M)."""
        found = self(rates)
        n_spread = int((np.diff(self.system.axis_start) ** 2).sum())
        spread = np.full(n_spread, np.nan) if found is None else found.spread
        F, J, half = respond_filtered(self.system, rates, spread)
        return F + half, J


@compiled
def _integrate(
    axes: IntArray, axis_start: IntArray, felt: ComplexArray, pathways: ComplexArray, answers: ComplexArray,
    activity: ComplexArray, kernel: ComplexArray, weight: FloatArray, own: FloatArray, c: FloatArray,
    spread: FloatArray,
) -> tuple[float, float]:  # fmt: skip
    """Add up c (M, M) and spread over frequencies; return by what angle det(I - L) turned, and tau (ms).

    The angle is NaN where a step of it is so large that a peak of the spectra lies between two frequencies.
    """
    P, M = answers.shape[1], own.shape[1]
    A, B, S = np.empty((P, P), np.complex128), np.zeros((M, M), np.complex128), np.empty((M, M), np.complex128)
    X = np.empty(axes.size, np.complex128)
    turned, last, squares = 0.0, 1.0 + 0.0j, 0.0
    for n in range(weight.size):
        D, K, noise = activity[n], kernel[n], own[n]
        _set_equations(axes, axis_start, felt[n], answers[n], D, A, B)
        determinant = _solve(A, B)
        if n > 0:
            turn = cmath.phase(determinant / last)
            turned += turn if abs(turn) < _RESOLVED else np.nan
        last = determinant
        for i in range(M):
            for j in range(i, M):
                total = 0.0j
                for r in range(M):
                    total += noise[r] * (B[i, r] * B[j, r].conjugate())
                S[i, j] = total
                S[j, i] = total.conjugate()
                passed = K[i] * K[j].conjugate() * total
                c[i, j] += weight[n] * passed.real
                squares += weight[n] * (passed.real**2 + passed.imag**2) * (1.0 if i == j else 2.0)
        for i in range(P):
            S[i, i] -= noise[i]
        for k in range(axes.size):
            X[k] = pathways[n, k] * D[axes[k]]
        _add_arguments(axes, axis_start, weight[n], X, S, spread)
    for i in range(M):
        for j in range(i):
            c[i, j] = c[j, i]
    size = (c * c).sum()
    return turned, 1000.0 * squares / size if size > 0.0 else 0.0


@compiled
def _set_equations(
    axes: IntArray, axis_start: IntArray, felt: ComplexArray, H: ComplexArray, D: ComplexArray, A: ComplexArray,
    B: ComplexArray,
) -> None:  # fmt: skip
    """A <- I - L; B <- noise of all rows as it reaches the activities of all rows directly."""
    P, M = A.shape[0], B.shape[0]
    A[:] = 0.0
    B[:] = 0.0
    for i in range(M):
        B[i, i] = 1.0
    for i in range(P):
        A[i, i] = 1.0
        for k in range(axis_start[i], axis_start[i + 1]):
            s = axes[k]
            passed = H[i] * felt[k] * D[s]
            if s < P:
                A[i, s] -= passed
            else:
                B[i, s] += passed


@compiled
def _solve(A: ComplexArray, B: ComplexArray) -> complex:
    """First P rows of B <- A^-1 times them, by elimination with pivots (A is spoilt); return det A."""
    P, determinant = A.shape[0], 1.0 + 0.0j
    for p in range(P):
        best = p
        for i in range(p + 1, P):
            if A[i, p].real ** 2 + A[i, p].imag ** 2 > A[best, p].real ** 2 + A[best, p].imag ** 2:
                best = i
        if best != p:
            determinant = -determinant
            for j in range(P):
                A[p, j], A[best, j] = A[best, j], A[p, j]
            for j in range(B.shape[1]):
                B[p, j], B[best, j] = B[best, j], B[p, j]
        pivot = A[p, p]
        determinant *= pivot
        for i in range(P):
            if i != p:
                ratio = A[i, p] / pivot
                for j in range(p, P):
                    A[i, j] -= ratio * A[p, j]
                for j in range(B.shape[1]):
                    B[i, j] -= ratio * B[p, j]
    for p in range(P):
        pivot = A[p, p]
        for j in range(B.shape[1]):
            B[p, j] = B[p, j] / pivot
    return determinant


@compiled
def _add_arguments(
    axes: IntArray, axis_start: IntArray, weight: float, X: ComplexArray, S: ComplexArray, spread: FloatArray
) -> None:
    n = 0
    for i in range(axis_start.size - 1):
        for k in range(axis_start[i], axis_start[i + 1]):
            for m in range(axis_start[i], axis_start[i + 1]):
                spread[n] += weight * (X[k] * X[m].conjugate() * S[axes[k], axes[m]]).real
                n += 1
