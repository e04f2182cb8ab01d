"""Small dense linear algebra in compiled code, for the handful of populations of a mean field.

A library call per matrix of five rows costs more than its arithmetic, and says by an exception what is said here
by a return value: that a system is singular, that a matrix is not stable.
"""

from __future__ import annotations

import numpy as np

from automfm_hpc.response import FloatArray, compiled

_DOUBLINGS = 60
_SMALL = 1e-12  # a power of a matrix below this is zero


@compiled
def solve_in_place(A: FloatArray, B: FloatArray) -> bool:
    """B (n, m) <- A^-1 B by elimination with row pivots; A (n, n) is destroyed. False: A is singular."""
    n, m = B.shape
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            if abs(A[i, k]) > abs(A[pivot, k]):
                pivot = i
        if not abs(A[pivot, k]) > 0.0:
            return False
        for j in range(n):
            A[k, j], A[pivot, j] = A[pivot, j], A[k, j]
        for j in range(m):
            B[k, j], B[pivot, j] = B[pivot, j], B[k, j]
        for i in range(n):
            if i != k:
                factor = A[i, k] / A[k, k]
                for j in range(k, n):
                    A[i, j] -= factor * A[k, j]
                for j in range(m):
                    B[i, j] -= factor * B[k, j]
    for k in range(n):
        for j in range(m):
            B[k, j] /= A[k, k]
    return True


@compiled
def multiply(X: FloatArray, Y: FloatArray, out: FloatArray) -> None:
    """out <- X Y, all (n, n)."""
    n = X.shape[0]
    for i in range(n):
        for j in range(n):
            out[i, j] = 0.0
        for k in range(n):
            x = X[i, k]
            for j in range(n):
                out[i, j] += x * Y[k, j]


@compiled
def lyapunov(A: FloatArray, Q: FloatArray) -> tuple[bool, FloatArray]:
    """The c with A c + c A^T + Q = 0 (n, n), and whether A is stable; without that c is of no use.

    The Cayley transform turns the equation into c = S c S^T + R, whose series is summed by doubling: symmetric
    and positive semi-definite with Q. S tends to 0 exactly if A is stable.
    """
    n = A.shape[0]
    shift = 0.0
    for i in range(n):
        shift += abs(A[i, i]) / n
    left, S, c, spare = -A, A.copy(), Q.copy(), np.empty_like(A)
    for i in range(n):
        left[i, i] += shift
        S[i, i] += shift
    both = np.empty((n, 2 * n))
    both[:, :n], both[:, n:] = S, np.eye(n)
    if not solve_in_place(left, both):
        return False, c
    S, inverse = both[:, :n].copy(), both[:, n:].copy()
    multiply(inverse, Q, spare)
    c = 2.0 * shift * _times_transposed(spare, inverse)
    for _ in range(_DOUBLINGS):
        multiply(S, c, spare)
        c += _times_transposed(spare, S)
        multiply(S, S, spare)
        S[:] = spare
        size = np.abs(S).max()
        if not size < 1e100:
            return False, c
        if size < _SMALL:
            return bool(np.isfinite(c).all()), 0.5 * (c + c.T)
    return False, c


@compiled
def _times_transposed(X: FloatArray, Y: FloatArray) -> FloatArray:
    out = np.empty_like(X)
    multiply(X, Y.T.copy(), out)
    return out


@compiled
def multiply_upper(X: FloatArray, Y: FloatArray, P: int, out: FloatArray) -> None:
    """out <- X Y, all (n, n), whose rows from P on are diagonal."""
    n = X.shape[0]
    for i in range(P):
        for j in range(P):
            total = 0.0
            for k in range(P):
                total += X[i, k] * Y[k, j]
            out[i, j] = total
        for j in range(P, n):
            total = X[i, j] * Y[j, j]
            for k in range(P):
                total += X[i, k] * Y[k, j]
            out[i, j] = total
    for i in range(P, n):
        for j in range(n):
            out[i, j] = 0.0
        out[i, i] = X[i, i] * Y[i, i]


@compiled
def row_norm(X: FloatArray) -> float:
    """Largest sum of a row."""
    size = 0.0
    for i in range(X.shape[0]):
        row = 0.0
        for j in range(X.shape[1]):
            row += abs(X[i, j])
        size = max(size, row)
    return size


@compiled
def halvings(X: FloatArray, P: int, spare: FloatArray) -> int:
    """Times that X must be halved for `exponential`; measured on its square, which couplings one way do not inflate."""
    multiply_upper(X, X, P, spare)
    size, count = np.sqrt(row_norm(spare)), 0
    while size > 0.7 and count < 40:
        size *= 0.5
        count += 1
    return count


@compiled
def exponential(X: FloatArray, P: int, E: FloatArray, spare: FloatArray) -> None:
    """E <- exp(X) by a Taylor polynomial of degree 4 for X (n, n) of norm 0.7 or less, rows from P on diagonal.

    X is destroyed.
    """
    n = X.shape[0]
    multiply_upper(X, X, P, spare)
    for i in range(n):  # exp(X) = (1 + X + X^2/2) + X^2 (X/6 + X^2/24)
        for j in range(n):
            x = X[i, j]
            X[i, j] = x / 6.0 + spare[i, j] / 24.0
            E[i, j] = x + 0.5 * spare[i, j]
        E[i, i] += 1.0
    for i in range(P):
        for j in range(n):
            total = spare[i, j] * X[j, j] if j >= P else 0.0
            for k in range(P):
                total += spare[i, k] * X[k, j]
            E[i, j] += total
    for i in range(P, n):
        E[i, i] += spare[i, i] * X[i, i]


@compiled
def flow(
    B: FloatArray, f: FloatArray, g: FloatArray, bend: FloatArray, h: float, pieces: int, degree: int,
    z: FloatArray, term: FloatArray, spare: FloatArray,
) -> None:  # fmt: skip
    """z (n,) <- z(h) of z' = B z + f + g s + bend s^2, z(0) = 0, by Taylor series over pieces of the step."""
    n = z.size
    d = h / pieces
    for i in range(n):
        z[i] = 0.0
    for piece in range(pieces):
        s = piece * d
        for i in range(n):
            slope = f[i] + (g[i] + bend[i] * s) * s
            for j in range(n):
                slope += B[i, j] * z[j]
            spare[i] = slope
        for k in range(1, degree + 1):
            for i in range(n):
                term[i] = spare[i] * (d / k)
                z[i] += term[i]
            for i in range(n):
                slope = 0.0
                if k == 1:
                    slope = d * (g[i] + 2.0 * bend[i] * s)
                elif k == 2:
                    slope = d * d * bend[i]
                for j in range(n):
                    slope += B[i, j] * term[j]
                spare[i] = slope
