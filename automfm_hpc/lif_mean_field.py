"""The mean field of a LIF network from theory alone: no simulation, the same `MeanField` as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from automfm_hpc.lif.bridge import input_names, transfer_functions
from automfm_hpc.mean_field import MeanField

if TYPE_CHECKING:
    from automfm_hpc.lif.network import LIFNetwork


def lif_mean_field(net: LIFNetwork, *, T: float = 5.0, method: str = "shift") -> MeanField:
    """Mean-field model whose transfer functions are Siegert rates with analytic derivatives.

    Parameters
    ----------
    net : LIFNetwork
        Its external inputs become the inputs ext1, ext2, ...; their sources are private to each cell.
    T : float
        Time constant of the master equation (ms).
    method : {'shift', 'expansion', 'second_order'}
        Treatment of exponential synapses.

    Raises
    ------
    LIFError
        Unknown method, or sources of one population with different synaptic time constants.
    """
    names = input_names(net)
    cells = np.full(len(net.populations), np.inf) if net.N is None else np.asarray(net.N, float)
    N = np.concatenate([cells, np.full(len(names), np.inf)])
    metadata = {"network": net.label, "theory": f"Siegert, {method}"}
    return MeanField(tuple(net.populations), names, transfer_functions(net, method=method), N, T, metadata)
