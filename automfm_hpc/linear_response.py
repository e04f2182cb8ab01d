"""Linear response of a mean field at a working point: frequency responses, power spectra, covariances.

Linearised at rates nu, with the pathways P_is of `dynamics` (1 without them), D_s = 1/(1 + 2 pi i f T_s), and
W_is = dF_i/dnu_s P_is (and what the spread of a source adds, `Filtering.felt`):

    nu_i = D_i (sum_s W_is nu_s + sum_m W_im x_m)                          rates, driven by inputs x
    A_i  = sum_s L_is A_s + sum_m W_im D_m xi_m + xi_i,   L_is = W_is D_s  activities, driven by noise

In the master equation nu is the activity A = F + noise filtered with exp(-t/T)/T (see `validate.filtered_variance`),
and its covariance c follows from A = (I - L)^-1 noise; the same holds here, and for equal T the loop L of the
activities is that of the rates. Where the cells' own response H_i is known (`cell_response`) it takes the place of D:
nu_i = H_i (sum_s W_is A_s + ...) and A_i = nu_i + xi_i, so D = 1 and W_is = H_i dF_i/dnu_s P_is.

xi_i is what N_i independent cells do that fire as gamma renewal processes, over N_i; xi_m the activity of N_m Poisson
sources that all cells share (none if infinite), filtered with T_m as in the master equation.
Spectra are two-sided densities in Hz^2/Hz.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from automfm_hpc.cell_response import LEAST_RATE
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError
from automfm_hpc.fixed_points import FixedPoints, relaxation
from automfm_hpc.response import System, respond
from automfm_hpc.spread import SATURATING, SETTLED

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ComplexArray = NDArray[np.complex128]
_NODES = 4096  # of integrals over frequency
_TURN, _HALVINGS = 0.5, 20  # largest step of a phase (rad) on the Nyquist curve, refinements of its grid


@dataclass(frozen=True, eq=False)
class Filtering:
    """What does not depend on rates, at frequencies (n_frequency,) in Hz.

    Parameters
    ----------
    frequency : (n_frequency,) array
    pathways : (n_frequency, n_axis) array
    activity : (n_frequency, M) array
        D.
    kernel : (n_frequency, M) array
        1/(1 + 2 pi i f T): what c of the master equation filters activities with.
    """

    system: System
    dynamics: Dynamics | None
    frequency: FloatArray
    pathways: ComplexArray
    activity: ComplexArray
    kernel: ComplexArray

    @staticmethod
    def of(system: System, dynamics: Dynamics | None, frequency: ArrayLike) -> Filtering:
        f = np.atleast_1d(np.asarray(frequency, float))
        s = 2.0j * np.pi * f[:, None] / 1000.0
        pathways = np.ones((f.size, system.axes.size)) if dynamics is None else dynamics.pathways(f)
        kernel = 1.0 / (1.0 + s * system.T)
        own = dynamics is not None and dynamics.cell is not None
        return Filtering(system, dynamics, f, pathways.astype(complex), np.ones_like(kernel) if own else kernel, kernel)

    @property
    def n_population(self) -> int:
        return self.system.axis_start.size - 1

    def answers(self, rates: FloatArray) -> ComplexArray:
        """H of every population at rates (M,) in Hz, 1 where it is not known: (n_frequency, P)."""
        if self.dynamics is None or self.dynamics.cell is None:
            return np.ones((self.frequency.size, self.n_population), complex)
        return self.dynamics.cell.response(self.frequency, rates[: self.n_population])

    @property
    def _owners(self) -> IntArray:
        """Population of every axis, (n_axis,)."""
        return np.repeat(np.arange(self.n_population), np.diff(self.system.axis_start))

    def felt(self, rates: FloatArray, J: FloatArray) -> ComplexArray:
        """df/dnu of every axis, f as in `spread`, without its population's H: (n_frequency, n_axis).

        J P and, where the spread of a source counts, F kappa times what E moves by to first order: d ln E =
        2 [(1 - x) P_r + x P/(1 + s SETTLED) - P] dnu/nu, P_r being the pathway of r and x = nu/(nu + nu_0).
        """
        columns = self.system.axes
        slope = J[self._owners, columns] * self.pathways
        if self.dynamics is None or self.dynamics.cell is None or not self.dynamics.cell.spread.any():
            return slope
        kappa = self.dynamics.cell.spreads(rates[: self.n_population], np.diff(self.system.axis_start))
        F, _, _ = respond(self.system, rates, np.zeros((rates.size, rates.size)))
        s = 2.0j * np.pi * self.frequency[:, None] / 1000.0
        nu, slow = rates[columns], 1.0 / (1.0 + s * SETTLED)
        x = nu / (nu + SATURATING)
        moved = (1.0 - x) * self.dynamics.smoothed_pathways(self.frequency) + self.pathways * (x * slow - 1.0)
        moved = 2.0 * moved * nu / (nu**2 + LEAST_RATE**2)
        return np.asarray(slope + F[self._owners] * kappa * moved, complex)

    def coupling(self, rates: FloatArray, J: FloatArray) -> ComplexArray:
        """W: (n_frequency, P, M)."""
        W = np.zeros((self.frequency.size, *J.shape), complex)
        W[:, self._owners, self.system.axes] = self.felt(rates, J) * self.answers(rates)[:, self._owners]
        return W


def slopes(system: System, rates: FloatArray) -> FloatArray:
    """J (P, M) at rates (M,).

    Raises
    ------
    MeanFieldError
        If a transfer function is not finite there.
    """
    F, J, _ = respond(system, rates, np.zeros((rates.size, rates.size)))
    if not (np.isfinite(F).all() and np.isfinite(J).all()):
        raise MeanFieldError(f"transfer functions are not finite at rates {np.round(rates, 3).tolist()} Hz",
                             where="linear response")
    return J


def loop(filtering: Filtering, W: ComplexArray) -> ComplexArray:
    """L of the populations: (n_frequency, P, P)."""
    P = filtering.n_population
    return W[:, :, :P] * filtering.activity[:, None, :P]


def rate_response(system: System, dynamics: Dynamics | None, rates: FloatArray, frequency: ArrayLike) -> ComplexArray:
    """Response of the populations' rates to the inputs' (Hz per Hz) at rates (M,): (n_frequency, P, n_input)."""
    filtering = Filtering.of(system, dynamics, frequency)
    W, P = filtering.coupling(rates, slopes(system, rates)), filtering.n_population
    driven = W * filtering.activity[:, :P, None]
    return np.asarray(np.linalg.solve(np.eye(P) - driven[:, :, :P], driven[:, :, P:]), complex)


def propagator(filtering: Filtering, W: ComplexArray) -> ComplexArray:
    """From the noise of all rows to the activities of all rows: (n_frequency, M, M)."""
    P, M = W.shape[1:]
    B = np.zeros((len(W), M, M), complex)
    B[:, range(P, M), range(P, M)] = 1.0
    B[:, :P, :P] = np.linalg.inv(np.eye(P) - loop(filtering, W))
    B[:, :P, P:] = B[:, :P, :P] @ (W[:, :, P:] * filtering.activity[:, None, P:])
    return B


def gamma_spectrum(frequency: ArrayLike, rate: float, cv: float) -> FloatArray:
    """Power spectrum (Hz) of a gamma renewal process of a rate (Hz) and coefficient of variation.

    rate Re[(1 + phi)/(1 - phi)], phi = (1 + 2 pi i f cv^2/rate)^(-1/cv^2) being the Fourier transform of the intervals'
    density (Cox & Lewis 1966, The Statistical Analysis of Series of Events, chapter 4). cv 1: Poisson, flat.
    """
    f = np.asarray(frequency, float)
    if rate <= 0 or cv == 1.0:
        return np.full(f.shape, max(rate, 0.0))
    low = f < 1e-6 * rate  # where only rounding would be left: its value at f = 0
    phi = (1.0 + 2.0j * np.pi * np.where(low, rate, f) * cv**2 / rate) ** (-1.0 / cv**2)
    return np.where(low, rate * cv**2, rate * ((1.0 + phi) / (1.0 - phi)).real)


def irregularity(dynamics: Dynamics | None, rates: FloatArray) -> FloatArray:
    """Coefficients of variation of the populations' intervals at rates (P,) in Hz, 1 where not known: (P,)."""
    known = dynamics is not None and dynamics.cell is not None
    return dynamics.cell.at(rates)[3] if known else np.ones(rates.size)  # type: ignore[union-attr]


def noise(filtering: Filtering, rates: FloatArray, cv: FloatArray) -> FloatArray:
    """Spectra (Hz^2/Hz) of each row's own noise at rates (M,), cv (P,): (n_frequency, M)."""
    flat = np.tile(rates / filtering.system.N, (filtering.frequency.size, 1))
    for i in np.flatnonzero(cv != 1.0):
        flat[:, i] = gamma_spectrum(filtering.frequency, rates[i], cv[i]) / filtering.system.N[i]
    return flat


def activity_spectra(system: System, dynamics: Dynamics | None, rates: FloatArray, frequency: ArrayLike,
                     cv: FloatArray) -> ComplexArray:
    """Cross-spectra (Hz^2/Hz) of all rows' activities at rates (M,), cv (P,): (n_frequency, M, M)."""
    filtering = Filtering.of(system, dynamics, frequency)
    B = propagator(filtering, filtering.coupling(rates, slopes(system, rates)))
    return (B * noise(filtering, rates, cv)[:, None, :]) @ B.conj().swapaxes(1, 2)


def nodes(T: float, n: int) -> tuple[FloatArray, FloatArray]:
    """Frequencies (n,) in Hz and weights for twice the integral from 0 to infinity.

    f = tan(theta)/(2 pi T): what falls off as 1/(1 + (2 pi f T)^2) is spread evenly over theta; midpoint rule.
    """
    corner = 1000.0 / (2.0 * np.pi * T)
    theta = (np.arange(n) + 0.5) * (0.5 * np.pi / n)
    return corner * np.tan(theta), (np.pi / n) * corner / np.cos(theta) ** 2


def filtered_covariance(system: System, dynamics: Dynamics | None, rates: FloatArray, T: FloatArray,
                        cv: FloatArray) -> FloatArray:
    """Covariance (M, M) in Hz^2 of activities filtered with exp(-t/T)/T, T (M,) in ms."""
    f, weight = nodes(float(T.mean()), _NODES)
    kernel = 1.0 / (1.0 + 2.0j * np.pi * f[:, None] / 1000.0 * T)
    S = activity_spectra(system, dynamics, rates, f, cv)
    c = np.einsum("f,fi,fij,fj->ij", weight, kernel, S, kernel.conj()).real
    return 0.5 * (c + c.T)


# -- stability -----------------------------------------------------------------------------------------------------


def unstable_modes(system: System, dynamics: Dynamics | None, rates: FloatArray) -> int:
    """How many modes grow at rates (M,): eigenvalues without dynamics, with them the Nyquist criterion.

    The filters alone are stable, so the modes that grow are as many as the times det(I - L) turns around 0, clockwise,
    while f runs from -infinity to infinity: twice the half turns from 0 to infinity.
    """
    J = slopes(system, rates)
    P = len(J)
    if dynamics is None:
        return int((np.linalg.eigvals(relaxation(system, J)[:P, :P]).real >= 0).sum())
    f = _frequencies(dynamics)
    curve = _curve(system, dynamics, rates, J, f)
    for _ in range(_HALVINGS):
        wide = np.flatnonzero(np.abs(np.angle(curve[1:] / curve[:-1])) > _TURN)
        if not wide.size:
            return -round(float(np.angle(curve[1:] / curve[:-1]).sum()) / np.pi)
        more = 0.5 * (f[wide] + f[wide + 1])
        f, curve = np.insert(f, wide + 1, more), np.insert(curve, wide + 1, _curve(system, dynamics, rates, J, more))
    raise MeanFieldError(f"stability cannot be told near {f[wide[0]]:.4g} Hz: a mode neither grows nor decays",
                         where="linear response", remedy="Take a slightly different drive.")


def marginal_frequency(system: System, dynamics: Dynamics | None, rates: FloatArray) -> float:
    """Frequency (Hz) at which the loop at rates (M,) is nearest to sustaining an oscillation: |det(I - L)| is least."""
    f = _frequencies(dynamics)
    return float(f[np.abs(_curve(system, dynamics, rates, slopes(system, rates), f)).argmin()])


def loop_determinant(system: System, dynamics: Dynamics | None, rates: FloatArray, frequency: float) -> complex:
    """det(I - L) at rates (M,) and a frequency (Hz): 0 where a mode neither grows nor decays."""
    return complex(_curve(system, dynamics, rates, slopes(system, rates), np.array([frequency]))[0])


def _frequencies(dynamics: Dynamics | None) -> FloatArray:
    """From 0 on, fine enough to begin with: a delay turns the curve once every 1/delay."""
    slowest = 1.0 if dynamics is None else max(float(dynamics.delay.max()), 1.0)
    even = np.arange(1.0, 4000.0) * min(1000.0 / slowest / 16.0, 10.0)
    return np.union1d(np.concatenate([[0.0], even]), np.geomspace(1e-3, 1e6, 600))


def _curve(system: System, dynamics: Dynamics | None, rates: FloatArray, J: FloatArray, f: FloatArray) -> ComplexArray:
    """det(I - L) at frequencies f."""
    filtering = Filtering.of(system, dynamics, f)
    return np.asarray(np.linalg.det(np.eye(len(J)) - loop(filtering, filtering.coupling(rates, J))), complex)


def judged(system: System, dynamics: Dynamics, found: FixedPoints, inputs: FloatArray) -> FixedPoints:
    """Fixed points with their stability told anew, dynamics included; inputs (n_input,) in Hz."""
    points = tuple(replace(p, stable=unstable_modes(system, dynamics, np.concatenate([p.rates, inputs])) == 0)
                   for p in found)  # fmt: skip
    return replace(found, points=points)


def require_stable(system: System, dynamics: Dynamics | None, rates: FloatArray) -> None:
    """Raise MeanFieldError if a mode grows at rates (M,)."""
    growing = unstable_modes(system, dynamics, rates)
    if growing:
        raise MeanFieldError(f"the working point is unstable, {growing} mode(s) grow", where="linear response",
                             remedy="Look at fixed_points(drive), or solve in time.")
