"""The mean field of a LIF network from theory alone: no simulation, the same `MeanField` as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from automfm_hpc.lif.bridge import input_names, transfer_functions
from automfm_hpc.mean_field import MeanField

if TYPE_CHECKING:
    from automfm_hpc.lif.network import LIFNetwork
    from automfm_hpc.network import Network


def lif_mean_field(
    net: LIFNetwork, *, T: float | None = None, method: str = "shift", network: Network | None = None
) -> MeanField:
    """Mean-field model whose transfer functions are Siegert rates with analytic derivatives.

    Parameters
    ----------
    net : LIFNetwork
        Its external inputs become the inputs ext1, ext2, ...; their sources are private to each cell.
    T : float, optional
        Time constant of the master equation (ms); by default that of `network`, or 5.
    method : {'shift', 'expansion', 'second_order'}
        Treatment of exponential synapses.
    network : Network, optional
        The general description that `net` was made from (`lif_network.theory_network`): it names the inputs, says
        how many sources they have, and what the model is of.

    Raises
    ------
    LIFError
        Unknown method, or sources of one population with different synaptic time constants.
    """
    cells = np.full(len(net.populations), np.inf) if net.N is None else np.asarray(net.N, float)
    names, sources = input_names(net), [np.inf] * net.nu_ext.size
    metadata: dict[str, Any] = {"network": net.label}
    if network is not None:
        names = network.input_names
        sources = [float(i.sources or np.inf) for i in network.inputs]
        metadata = {k: getattr(network, k) for k in ("variant", "pathology", "region", "species")}
        metadata |= {"network": network.name, "groups": {k: list(v) for k, v in network.groups.items()}}
    metadata["theory"] = f"Siegert, {method}"
    constant = T if T is not None else network.T if network is not None else 5.0
    functions = transfer_functions(net, method=method, inputs=names)
    return MeanField(tuple(net.populations), names, functions, np.concatenate([cells, sources]), constant, metadata)


def fit_documents(model: MeanField) -> dict[str, Any]:
    """What ``fits.json`` holds of the transfer functions of a fit, for those that theory gives."""
    return {tf.population: {"population": tf.population, "axes": list(tf.axes), "domain": tf.domain.tolist(),
                            "kind": tf.kind, "scores": {tf.kind: {"rmse": None, "cv": None}}, "noise": None}
            for tf in model.transfer_functions}  # fmt: skip
