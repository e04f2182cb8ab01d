"""The library record of a model: what a search may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automfm_hpc.plan import Plan
from automfm_hpc.provenance import versions


def make_record(plan: Plan, fits: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any]:
    """One model's record, without its id and path, which the library adds.

    Parameters
    ----------
    plan : Plan
    fits, comparison : Mapping
        As in ``fits.json`` and ``comparison.json``.
    """
    network, parameters = plan.network, plan.parameters
    projections = parameters.by_projection()
    results = fits["fits"]
    sizes = {p.name: p.size for p in network.populations} | {i.name: i.sources for i in network.inputs}
    return {
        "network": network.name, "region": network.region, "species": network.species,
        "pathology": network.pathology, "variant": network.variant,
        **{q: {name: values[q] for name, values in projections.items()} for q in ("K", "Q", "tau_syn", "E")},
        "N": sizes,
        "T": parameters.T,
        "equations": {"order": [1, 2], "mode": "master equation", "gain": 1.0},
        "transfer_functions": {name: {"kind": f["kind"], "rmse": f["scores"][f["kind"]]["rmse"],
                                      "cv": f["scores"][f["kind"]]["cv"], "noise": f["noise"]} for name, f in results.items()},
        "score": {name: row["mean_absolute_error"] for name, row in comparison["orders"]["2"].items()
                  if "mean_absolute_error" in row},
        "domain": {name: dict(zip(f["axes"], f["domain"], strict=True)) for name, f in results.items()},
        "provenance": {"plan": plan.id, "seed": plan.seed, "versions": versions()},
    }  # fmt: skip
