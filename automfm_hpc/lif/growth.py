r"""Growing solutions of the linearised network: how many (Nyquist), and which (zeros of det(1 - W)).

exp(2 pi i f t) with complex f grows where Im f < 0, by -2 pi Im f per second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from automfm_hpc.errors import LIFError
from automfm_hpc.lif.checks import Array
from automfm_hpc.lif.network import LIFNetwork
from automfm_hpc.lif.spectra import effective_connectivity, followed_determinant, modes_counted
from automfm_hpc.lif.working_point import WorkingPoint

_DEPTHS = (0.3, 2.0, 8.0, 25.0, 80.0)  # Hz below the real axis where searches start


@dataclass(frozen=True)
class GrowingMode:
    """A growing solution of the linearised network.

    Attributes
    ----------
    frequency : float
        Hz; 0 for growth without oscillation.
    growth : float
        1/s.
    """

    frequency: float
    growth: float


def growing_modes(net: LIFNetwork, point: WorkingPoint) -> tuple[GrowingMode, ...]:
    """The growing solutions with frequency >= 0, fastest growth first.

    Raises
    ------
    LIFError
        If Nyquist's criterion counts more than the search finds.
    """
    f, values = followed_determinant(net, point)
    count = modes_counted(values)
    found: list[complex] = []
    for depth in _DEPTHS:
        if _counted(found) >= count:
            break
        for guess in f[_dips(values)] - 1j * depth:
            z = _newton(net, point, complex(guess))
            if z is not None and z.imag < 0.0 and not any(abs(z - old) < 1e-5 * max(1.0, abs(z)) for old in found):
                found.append(z)
    if _counted(found) != count:
        raise LIFError(f"{count} growing modes were counted, {_counted(found)} found", where="growing_modes")
    made = (GrowingMode(abs(z.real), -2.0 * np.pi * z.imag) for z in found)
    return tuple(sorted(made, key=lambda mode: -mode.growth))


def _counted(found: list[complex]) -> int:
    """Modes that oscillate come in pairs, of which one is kept."""
    return sum(1 if z.real == 0.0 else 2 for z in found)


def _dips(values: Array) -> Array:
    """Places where |det| has a minimum over frequency, deepest first; f = 0 is one of them."""
    size = np.abs(values)
    inner = np.flatnonzero((size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:])) + 1
    places = np.concatenate([[0], inner])
    return np.asarray(places[np.argsort(size[places], kind="stable")])


def _newton(net: LIFNetwork, point: WorkingPoint, z: complex) -> complex | None:
    """Zero of det(1 - W) near a guess; None if the search leaves the region or does not end."""
    eye = np.eye(net.size)
    for _ in range(60):
        h = 1e-5 * max(abs(z), 1.0)
        W = effective_connectivity(net, point, np.array([z, z + h, z - h]))
        value, up, down = np.linalg.det(eye - W)
        slope = (up - down) / (2.0 * h)
        if not np.isfinite(value) or slope == 0.0 or not np.isfinite(slope):
            return None
        step = value / slope
        z -= step if abs(step) < 20.0 else 20.0 * step / abs(step)
        if z.real < -1.0 or abs(z) > 1e4:
            return None
        if abs(step) < 1e-9 * max(1.0, abs(z)):
            real = 0.0 if abs(z.real) < 1e-6 else z.real
            return complex(real, z.imag)
    return None
