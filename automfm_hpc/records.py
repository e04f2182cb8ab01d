"""The library record of a model: what a search may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automfm_hpc.comparison import scores
from automfm_hpc.plan import Plan
from automfm_hpc.provenance import versions, write_atomically


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
    judged = {name: f["scores"][f["kind"]] for name, f in results.items()}
    sizes = {p.name: p.size for p in network.populations} | {i.name: i.sources for i in network.inputs}
    quantities = {q: {name: values[q] for name, values in projections.items() if values[q] is not None}
                  for q in ("K", "K_sd", "Q", "tau_syn", "E", "delay")}
    return {
        "network": network.name, "description": network.description, "region": network.region,
        "species": network.species, "pathology": network.pathology, "variant": network.variant,
        **quantities, "N": sizes,
        "equations": {"order": 2, "T": parameters.T, "mode": "master equation, gain 1"},
        "transfer_functions": {name: {"kind": f["kind"], "rmse": judged[name]["rmse"], "cv": judged[name]["cv"],
                                      "noise": f["noise"]} for name, f in results.items()},
        "score": scores(comparison),
        "domain": _domain(results),
        "provenance": {"plan": plan.id, "seed": plan.seed, "versions": versions()},
    }  # fmt: skip


def _domain(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Range of each source's rate (Hz) that all transfer functions cover."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for f in results.values():
        for axis, (low, high) in zip(f["axes"], f["domain"], strict=True):
            spans.setdefault(axis, []).append((low, high))
    return {axis: {"low": max(low for low, _ in s), "high": min(high for _, high in s)} for axis, s in spans.items()}


CATALOG = """\
# Mean-field models made by `automfm run` and `automfm publish`.
#   models = intake.open_catalog("mfm.yaml").models
#   models.search(pathology="ataxia", Q={"mf->GrC": (0.2, 0.5)}).df
metadata:
  version: 1
sources:
  models:
    description: Mean-field models with their parameters, scores and domain of validity
    driver: automfm_hpc.intake_driver.ModelCatalog
    args:
      path: "{{ CATALOG_DIR }}/library"
"""


def ensure_catalog(folder: Path) -> Path:
    """The Intake catalog file ``mfm.yaml`` of a catalog folder, written if it is not there yet."""
    path = folder / "mfm.yaml"
    if not path.is_file():
        write_atomically(path, CATALOG)
    return path
