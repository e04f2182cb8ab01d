r"""Effective connectivity, propagator, power and cross spectra of a network in linear response.

    W_ij(f) = n_i(f)/(1 + i omega tau_syn_j) tau_m,i J_ij K_ij d_ij(f),   P = (1 - W)^-1,
    C = P diag(nu/N) P^H

(Bos et al. 2016, eqs. 12 to 18): n is the frequency response, d the delay factor, C the cross spectrum of
the population-averaged spike trains.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.delays import delay_factors
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.response import frequency_response
from automfm_hpc.lif.working_point import WorkingPoint


class LIFWarning(UserWarning):
    """The theory is used where it is not to be trusted."""


_NYQUIST_START = 241
_NYQUIST_ROUNDS = 12


def responses(
    net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike, *, synaptic_filter: bool = False,
    delayed_reset: bool = True,
) -> Array:  # fmt: skip
    """Frequency response of every population, Hz/mV: (..., n) for frequencies (...) in Hz."""
    f = np.asarray(frequency)
    return np.asarray(frequency_response(
        f[..., None], point.mean, point.sd, **net.neuron(), tau_syn=point.tau_syn, method=point.method,
        synaptic_filter=synaptic_filter, delayed_reset=delayed_reset,
    ))  # fmt: skip


def coupling(net: LIFNetwork, frequency: ArrayLike) -> Array:
    """What a rate does to the mean input, mV/Hz: tau_m J K d(f) / (1 + i omega tau_syn), (..., n, n)."""
    f = np.asarray(frequency, dtype=complex)
    low_pass = 1.0 / (1.0 + 2e-3j * np.pi * f[..., None] * net.tau_syn)
    return 1e-3 * net.tau_m[:, None] * net.J * net.K * delay_factors(net, f) * low_pass[..., None, :]


def effective_connectivity(
    net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike, *, delayed_reset: bool = True
) -> Array:
    """W(f), dimensionless: (..., n, n) for frequencies (...) in Hz, real or complex."""
    return responses(net, point, frequency, delayed_reset=delayed_reset)[..., :, None] * coupling(net, frequency)


def propagator(net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike) -> Array:
    """P(f) = (1 - W(f))^-1: (..., n, n).

    Raises
    ------
    LIFError
        If 1 - W(f) is singular at one of the frequencies.
    """
    return invert(effective_connectivity(net, point, frequency))


def invert(W: Array) -> Array:
    """(1 - W)^-1 for every matrix of a stack."""
    try:
        return np.linalg.inv(np.eye(W.shape[-1]) - W)
    except np.linalg.LinAlgError:
        raise LIFError("1 - W is singular: the network is at an instability", where="propagator") from None


def unstable_modes(net: LIFNetwork, point: WorkingPoint, *, highest: float = 5000.0) -> int:
    """Number of growing solutions of the linearised network, by Nyquist's criterion.

    det(1 - W) is followed from f = 0 to `highest` (Hz), where it is near 1; each growing solution (zero with
    Re s > 0) turns its phase. The frequencies are refined until no phase step exceeds half a radian.
    """
    return modes_counted(followed_determinant(net, point, highest=highest)[1])


def followed_determinant(net: LIFNetwork, point: WorkingPoint, *, highest: float = 5000.0) -> tuple[Array, Array]:
    """Frequencies (Hz) and det(1 - W) along them, so dense that the phase never steps by half a radian."""
    f = np.concatenate([[0.0], np.geomspace(0.3, highest, _NYQUIST_START)])
    eye = np.eye(net.size)
    values = np.linalg.det(eye - effective_connectivity(net, point, f))
    for _ in range(_NYQUIST_ROUNDS):
        turns = np.abs(np.angle(values[1:] / values[:-1]))
        wide = np.flatnonzero((turns > 0.5) & (np.diff(f) > 1e-6))
        if wide.size == 0:
            break
        middle = 0.5 * (f[wide] + f[wide + 1])
        more = np.linalg.det(eye - effective_connectivity(net, point, middle))
        f, values = np.insert(f, wide + 1, middle), np.insert(values, wide + 1, more)
    return f, values


def modes_counted(values: Array) -> int:
    """Growing solutions, from det(1 - W) followed over frequency."""
    turn = np.angle(values[1:] / values[:-1]).sum()
    # A mirror-symmetric contour: twice the phase over 2 pi; det -> 1, so the total is a multiple of pi.
    return round(float(-(turn - np.angle(values[-1])) / np.pi))


def trusted_frequency(net: LIFNetwork) -> float:
    """Frequency (Hz) up to which the response to first order in sqrt(tau_syn) holds: 2 pi f tau_syn = 1/2."""
    slowest = float(net.tau_syn.max())
    return 0.25e3 / (np.pi * slowest) if slowest > 0.0 else np.inf


def check_growth(net: LIFNetwork, point: WorkingPoint, *, where: str) -> None:
    """Raise LIFError if a mode grows; warn if it does so only where the theory of the synapses does not hold."""
    if not unstable_modes(net, point):
        return
    from automfm_hpc.lif.growth import growing_modes

    modes = growing_modes(net, point)
    said = ", ".join(f"{m.frequency:.4g} Hz (by {m.growth:.3g} per s)" for m in modes)
    limit = trusted_frequency(net)
    if min(m.frequency for m in modes) <= limit:
        raise LIFError(
            f"the working point is unstable: modes grow at {said}", where=where,
            remedy="Change delays, weights or input, or pass check_stability=False.",
        )  # fmt: skip
    warnings.warn(
        f"{where}: in the theory modes grow at {said}, above the {limit:.0f} Hz to which its treatment of the "
        "synapses holds; near these frequencies the spectra are not to be trusted",
        LIFWarning, stacklevel=4,
    )  # fmt: skip


def cross_spectra(net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike, *, check_stability: bool = True) -> Array:
    """Cross spectra of the population-averaged spike trains, Hz: (..., n, n), Hermitian.

    Raises
    ------
    LIFError
        If the network has no sizes N, or the linearised network is unstable, so that no stationary spectrum
        exists (switch the check off with check_stability=False).

    Warns
    -----
    LIFWarning
        If modes grow only at frequencies above `trusted_frequency`, where theory cannot tell.
    """
    if net.N is None:
        raise LIFError("power spectra need the population sizes N", where="cross_spectra")
    if check_stability:
        check_growth(net, point, where="cross_spectra")
    P = propagator(net, point, frequency)
    return (P * (point.rates / net.N)) @ np.swapaxes(P.conj(), -1, -2)


def power_spectra(net: LIFNetwork, point: WorkingPoint, frequency: ArrayLike, *, check_stability: bool = True) -> Array:
    """Power spectra of the population-averaged spike trains, Hz: (..., n); errors as `cross_spectra`."""
    C = cross_spectra(net, point, frequency, check_stability=check_stability)
    return np.einsum("...ii->...i", C).real
