"""What a source's cells send differs from cell to cell, and how a population's f follows from its F by that.

    f   = F(y) exp(sum_k w_k [kappa_k (E_k - 1) + lambda_k s_k]),    w_k = (y_k/z_k)^(1/2) nu_100/F
    E_k = r_k^2 (z_k + nu_0)/y_k^2

with the symbols of `cell_response`.

F is sampled with sources whose cells fire each for itself, and whose rates differ. A cell that hears three or four of
them lives on the difference: it fires where those that it hears happen to send little. In a volley all send alike, and
a mean that is the same inhibits more. Of the Golgi cells of the cerebellum the rates of two cells differ with the root
of the population's rate, in proportion to it where that is low (nu_0 = 12 Hz): what a cell sends is nu + d nu/(nu +
nu_0)^(1/2), d being its own. Behind a synapse the squared relative spread over cells is then E times what it is where
rates last: E is low in a volley, high between two, and lower the more the population swings. ln of what isolated
granule cells do over F follows that spread (R2 0.7 to 0.9 but at the lowest drive; `benchmarks/relative_spread.py`),
the more steeply the more arrives and the less they fire, as w_k says: evenness takes away from a rate, and not a part
of it. kappa is no matter for sources that are heard in hundreds, nor for inputs, whose fibres are alike.

The rates of the cells that F was sampled with are those that they have in the network, where it swings and they differ
less. So F is right at some E below 1, and lambda = kappa (1 - E there) lifts f above it. A source that is calm (mean of
E from SWINGS to CALM, where no finite population comes near) has no lambda: what lasts is F, by definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.cell_response import LEAST_RATE, OWN, Cells, between, place
from automfm_hpc.response import System, compiled

FloatArray = NDArray[np.float64]
MOST_EVEN = 2.0  # of E: what was seen of it
MOST_FELT = 3.0  # of what multiplies kappa
SWINGS, CALM = 0.95, 0.99  # mean of E: from the one on a source is calm to some degree, from the other on entirely
PROPORTIONAL = 12.0  # Hz: nu_0


@compiled
def root_of(rate: float) -> float:
    """What the rates of two cells differ in proportion to, root of Hz, at a population's rate in Hz."""
    return max(rate, 0.0) / np.sqrt(max(rate, 0.0) + PROPORTIONAL)


def heard_at_rest(rates: FloatArray) -> FloatArray:
    """`lasting` of `spread_factor` where rates (n_axis,) in Hz have arrived for long."""
    return np.stack([rates, np.ones(len(rates))])


@compiled
def evenness(root: float, rate: float, lasting: float) -> float:
    """E of a source: r_k (root of Hz), y_k and z_k (Hz)."""
    even = (root * root * (lasting + PROPORTIONAL) + LEAST_RATE**2) / (rate * rate + LEAST_RATE**2)
    return min(even, MOST_EVEN)


@compiled
def felt(rate: float, lasting: float, recent: float, F: float) -> float:
    """w of a source: y_k and z_k, the population's own mean rate and its transfer function there, all in Hz."""
    rare = (recent + LEAST_RATE) / (max(F, 0.0) + LEAST_RATE)
    return min(np.sqrt((rate + LEAST_RATE) / (lasting + LEAST_RATE)) * rare, MOST_FELT)


@compiled
def spread_factor(c: Cells, i: int, first: int, last: int, F: float, recent: float, lasting: FloatArray,
                  rate: FloatArray, root: FloatArray, forget: float) -> float:
    """f over F of population i, whose axes are first ... last - 1, and its sources' means one step on.

    Parameters
    ----------
    F : float
        Its transfer function there (Hz).
    recent : float
        The population's own mean rate (Hz).
    lasting : (2, n_axis) array
        z_k (Hz) and the mean of E_k, moved by one step in place.
    rate, root : (n_axis,) arrays
        y_k (Hz) and r_k (root of Hz); as `lasting` from axis 0 on.
    forget : float
        `forgotten` in a step.
    """
    if c.spread.shape[0] == 0:
        return 1.0
    at, exponent = place(c.knots[i], recent), 0.0
    for a in range(first, last):
        kappa, offset, y, z = between(c.spread[a], at), between(c.offset[a], at), rate[a], lasting[0, a]
        if kappa != 0.0 or offset != 0.0:
            even = evenness(root[a], y, z)
            swings = min(max((CALM - lasting[1, a]) / (CALM - SWINGS), 0.0), 1.0)
            exponent += felt(y, z, recent, F) * (kappa * (even - 1.0) + offset * swings)
            lasting[1, a] += forget * (even - lasting[1, a])
        lasting[0, a] += forget * (y - z)
    return np.exp(exponent)


@compiled
def spread_factors(system: System, c: Cells, F: FloatArray, inner: FloatArray, lasting: FloatArray, rate: FloatArray,
                   root: FloatArray, forget: float, factor: FloatArray) -> None:
    """factor (n_population,) <- `spread_factor` of every population; F (n_population,) Hz, `inner` as in `follow`."""
    for i in range(inner.shape[1]):
        factor[i] = spread_factor(c, i, system.axis_start[i], system.axis_start[i + 1], F[i], inner[OWN, i], lasting,
                                  rate, root, forget)
