"""What a source's cells send differs from cell to cell, and how a population's f follows from its F by that.

    f   = F(y) exp(sum_k w_k [kappa_k (E_k - 1) + lambda_k s_k]),    w_k = (y_k/Y_k)^(1/2) nu_100/F
    E_k = [(z_k + nu_0) r_k/y_k]^2

with the symbols of `cell_response`.

F is sampled with sources whose cells fire each for itself, and whose rates differ. A cell that hears three or four of
them lives on the difference: it fires where those that it hears happen to send little. In a volley all send alike, and
a mean that is the same inhibits more. Rates of cells differ in proportion to their population's where that is low, and
less and less beyond, as all saturate: what a cell sends is nu + d r(nu), r = nu/(nu + nu_0), d being its own and nu_0 =
96 Hz. Behind a synapse the squared relative spread over cells is then E times what it is where rates last. E is low in
a volley, high between two, and lower the more the population swings. It moves as the recorded spread of the Golgi cells
of the cerebellum does (R2 0.72 to 0.96 under constant and fluctuating input), and half as far, which kappa makes up
for. "Where rates last" is soon: z_k is a mean over 20 ms only. Cells of unlike rates adapt until they differ
as they do at the new rate, in the time that adaptation takes (tau/rho, 17 ms for Golgi cells). With 100 ms the spread
followed an input of 5 Hz 40 degrees too late, and granule cells answered it by a fifth too little; with 27 by 4 %.

ln of what isolated granule cells do over F follows the spread (R2 0.7 to 0.9 but at the lowest drive;
`benchmarks/relative_spread.py`), the more steeply the more arrives and the less they fire, as w_k says: evenness takes
away from a rate, and not a part of it. kappa is no matter for sources that are heard in hundreds, nor for inputs, whose
fibres are alike.

The rates of the cells that F was sampled with are those that they have in the network, where it swings and they differ
less. So F is right at some E below 1, and lambda = kappa (1 - E there) lifts f above it. A source that is calm (mean of
E from SWINGS to CALM, where no finite population comes near) has no lambda: what lasts is F, by definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.cell_response import LASTING, LEAST_RATE, OWN, Cells, between, place
from automfm_hpc.response import System, compiled

FloatArray = NDArray[np.float64]
MOST_EVEN = 2.0  # of E: what was seen of it
MOST_FELT = 3.0  # of what multiplies kappa
SWINGS, CALM = 0.95, 0.99  # mean of E: from the one on a source is calm to some degree, from the other on entirely
SATURATING = 96.0  # Hz: nu_0
SETTLED = 20.0  # ms over which the rates of sources are averaged for z_k
SOON, MEAN_E, LONG = range(3)  # rows of what `spread_factor` remembers of every axis: z, mean of E, mean over LASTING


@compiled
def saturation_of(rate: float) -> float:
    """r: what the rates of two cells differ in proportion to, at a population's rate in Hz; 0 to 1."""
    return max(rate, 0.0) / (max(rate, 0.0) + SATURATING)


def heard_at_rest(rates: FloatArray) -> FloatArray:
    """`lasting` of `spread_factor` where rates (n_axis,) in Hz have arrived for long."""
    return np.stack([rates, np.ones(len(rates)), rates])


@compiled
def evenness(saturation: float, rate: float, settled: float) -> float:
    """E of a source: r_k, y_k and z_k (Hz)."""
    sent = saturation * (settled + SATURATING)
    return min((sent * sent + LEAST_RATE**2) / (rate * rate + LEAST_RATE**2), MOST_EVEN)


@compiled
def settling(forget: float) -> float:
    """Part that a step replaces of a mean over SETTLED, from that of a mean over LASTING."""
    return 1.0 - (1.0 - forget) ** (LASTING / SETTLED)


@compiled
def felt(rate: float, lasting: float, recent: float, F: float) -> float:
    """w of a source: y_k and Y_k, the population's own mean rate and its transfer function there, all in Hz."""
    rare = (recent + LEAST_RATE) / (max(F, 0.0) + LEAST_RATE)
    return min(np.sqrt((rate + LEAST_RATE) / (lasting + LEAST_RATE)) * rare, MOST_FELT)


@compiled
def spread_factor(c: Cells, i: int, first: int, last: int, F: float, recent: float, lasting: FloatArray,
                  rate: FloatArray, saturation: FloatArray, forget: float, soon: float) -> float:
    """f over F of population i, whose axes are first ... last - 1, and its sources' means one step on.

    Parameters
    ----------
    F : float
        Its transfer function there (Hz).
    recent : float
        The population's own mean rate (Hz).
    lasting : (3, n_axis) array
        z_k (Hz), the mean of E_k and Y_k (Hz), moved by one step in place.
    rate, saturation : (n_axis,) arrays
        y_k (Hz) and r_k; as `lasting` from axis 0 on.
    forget, soon : float
        `forgotten` and `settling` in a step.
    """
    if c.spread.shape[0] == 0:
        return 1.0
    at, exponent = place(c.knots[i], recent), 0.0
    for a in range(first, last):
        kappa, offset, y = between(c.spread[a], at), between(c.offset[a], at), rate[a]
        if kappa != 0.0 or offset != 0.0:
            even = evenness(saturation[a], y, lasting[SOON, a])
            swings = min(max((CALM - lasting[MEAN_E, a]) / (CALM - SWINGS), 0.0), 1.0)
            exponent += felt(y, lasting[LONG, a], recent, F) * (kappa * (even - 1.0) + offset * swings)
            lasting[MEAN_E, a] += forget * (even - lasting[MEAN_E, a])
        lasting[SOON, a] += soon * (y - lasting[SOON, a])
        lasting[LONG, a] += forget * (y - lasting[LONG, a])
    return np.exp(exponent)


@compiled
def spread_factors(system: System, c: Cells, F: FloatArray, inner: FloatArray, lasting: FloatArray, rate: FloatArray,
                   saturation: FloatArray, forget: float, factor: FloatArray) -> None:
    """factor (n_population,) <- `spread_factor` of every population; F (n_population,) Hz, `inner` as in `follow`."""
    soon = settling(forget)
    for i in range(inner.shape[1]):
        factor[i] = spread_factor(c, i, system.axis_start[i], system.axis_start[i + 1], F[i], inner[OWN, i], lasting,
                                  rate, saturation, forget, soon)
