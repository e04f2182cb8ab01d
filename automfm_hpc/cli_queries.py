"""Commands that look things up or bring networks in: network, lif, import-bsb, doctor, library."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from automfm_hpc.console import catalog, log, logger, the_pool
from automfm_hpc.errors import UsageError
from automfm_hpc.run_folder import Run, on_root


def do_network(arguments: argparse.Namespace) -> int:
    from automfm_hpc.description import load
    from automfm_hpc.remap import remap

    network = load(arguments.network).with_variant(arguments.variant)
    parameters = remap(network)
    if arguments.json:
        print(json.dumps({"network": network.to_dict(), "projections": parameters.by_projection(),
                          "N": {n: (float(v) if v < float("inf") else None)
                                for n, v in zip((*parameters.populations, *parameters.inputs), parameters.N)}}))
        return 0
    print(f"{network.name} ({network.variant}): {network.description}")
    for p in network.populations:
        print(f"  {p.name:<10}{p.size:>8} cells   {p.model}")
    for i in network.inputs:
        print(f"  {i.name:<10}{i.sources or 'private':>8} sources {i.rate_range[0]:g} to {i.rate_range[1]:g} Hz")
    print(f"  {'projection':<14}{'K':>9}{'sd':>8}{'Q':>9}{'tau_syn':>9}{'E':>7}{'delay':>7}")
    for name, v in parameters.by_projection().items():
        cells = "".join(f"{'-' if v[k] is None else format(v[k], '.4g'):>{w}}"
                        for k, w in (("K", 9), ("K_sd", 8), ("Q", 9), ("tau_syn", 9), ("E", 7), ("delay", 7)))
        print(f"  {name:<14}{cells}")
    return 0


def do_lif(arguments: argparse.Namespace) -> int:
    from automfm_hpc import lif_report

    if arguments.publish and arguments.out is None:
        raise UsageError("--publish needs --out RUN", where="automfm lif")
    low, high, number = arguments.frequencies
    if not (0.0 <= low < high and 2 <= number <= 1e6):
        raise UsageError("needs 0 <= LOW < HIGH and at least 2 frequencies", where="--frequencies")
    net, network = lif_report.load(arguments.network, arguments.variant)
    answer = lif_report.report(net, method=arguments.method, frequencies=arguments.frequencies,
                               spectra=arguments.spectra)
    if arguments.out is not None:
        answer |= _keep_lif(arguments, net, network, answer)
    if arguments.json:
        print(json.dumps(answer, allow_nan=False))
        return 0
    print(lif_report.table(answer))
    for key in ("run", "record"):
        if key in answer:
            print(f"{key:<8} {answer[key]}")
    for warning in answer["warnings"]:
        log(f"warning: {warning}")
    return 0


def _keep_lif(arguments: argparse.Namespace, net: Any, network: Any, answer: Mapping[str, Any]) -> dict[str, str]:
    """Write a run whose mean field is the theory, and publish it if wanted."""
    from automfm_hpc import stages
    from automfm_hpc.lif_mean_field import fit_documents, lif_mean_field
    from automfm_hpc.lif_network import lif_plan, spiking_network
    from automfm_hpc.provenance import write_json

    described = spiking_network(net) if network is None else network
    run = Run(arguments.out)
    with the_pool() as pool:
        with on_root(pool) as root:
            if root:
                plan = lif_plan(described, answer["rates_Hz"])
                stages.write_plan(run, plan)
                model = lif_mean_field(net, method=arguments.method, network=described)
                model.save(run.model)
                write_json(run.fits, {"plan": plan.id, "fits": fit_documents(model)})
                write_json(run.folder / "lif.json", answer)
        kept = {"run": str(run.folder)}
        if arguments.publish:
            stages.solve(run, pool, logger(pool))
            kept["record"] = str(stages.publish(run, pool, logger(pool), catalog(arguments)))
    return kept


def do_import_bsb(arguments: argparse.Namespace) -> int:
    from automfm_hpc.bsb import read_bsb, write_network

    bsb = read_bsb(arguments.file, arguments.config, arguments.simulation)
    beside = write_network(bsb, arguments.out)
    for title, lines in (("found", bsb.found), ("dropped", bsb.dropped)):
        print("\n  ".join((f"{title}:", *(lines or ("nothing",)))))
    print(f"wrote {arguments.out} and {beside}")
    return 0


def do_doctor(arguments: argparse.Namespace) -> int:
    from automfm_hpc.doctor import examine
    from automfm_hpc.nest_models import compile_module

    for receptors in arguments.compile or []:
        log(f"doctor: {compile_module(receptors)}")
    findings = examine()
    if arguments.json:
        print(json.dumps([vars(f) for f in findings]))
    else:
        for f in findings:
            mend = f"\n     mend: {f.remedy}" if f.remedy else ""
            print(f"{'ok  ' if f.ok else 'FAIL'} {f.name:<18} {f.found}{mend}")
    return 0 if all(f.ok or f.optional for f in findings) else 1


def do_library_help(arguments: argparse.Namespace) -> int:
    arguments.library_parser.print_help()
    return 2


def _library(arguments: argparse.Namespace) -> Any:
    from automfm_hpc.library import Library

    return Library.open(catalog(arguments) / "library")


def _print_records(library: Any, as_json: bool) -> int:
    records = [dict(r) for r in library]
    if as_json:
        print(json.dumps(records, allow_nan=False))
        return 0
    for r in records:
        errors = " ".join(f"{k} {v:.1f}" for k, v in r.get("score", {}).items())
        print(f"{r['id']}  {r['network']:<14}{r['pathology']:<14}{r['variant']:<20} error Hz: {errors}")
    return 0


def do_library_ls(arguments: argparse.Namespace) -> int:
    return _print_records(_library(arguments), arguments.json)


def do_library_search(arguments: argparse.Namespace) -> int:
    from automfm_hpc.query import parse_terms

    return _print_records(_library(arguments).search(**parse_terms(arguments.terms)), arguments.json)


def do_library_show(arguments: argparse.Namespace) -> int:
    record = _library(arguments).show(arguments.id)
    print(json.dumps(dict(record), indent=None if arguments.json else 1))
    return 0
