"""The words the command line understands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from automfm_hpc import __version__
from automfm_hpc.errors import UsageError, suggest

DESCRIPTION = "Mean-field models of spiking networks, derived automatically."
EXAMPLE = ("Example: automfm run cerebellum --out runs/cerebellum; "
           "on 8 ranks: mpiexec -n 8 python -m mpi4py -m automfm_hpc run ...")
VIRTUAL_PROCESSES = 8  # of a network spread over ranks, unless asked otherwise: for 1, 2, 4 or 8 ranks


class _Parser(argparse.ArgumentParser):
    """argparse that ends with one line and suggests the nearest verb."""

    def error(self, message: str) -> NoReturn:
        where = self.prog.removeprefix("automfm").strip()
        wrong = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        if wrong:
            known = [word.strip(" '") for word in wrong[2].split(",")]
            raise UsageError(f"does not know '{wrong[1]}'", where=where, remedy=suggest(wrong[1], known))
        raise UsageError(message, where=where, remedy=f"See `{self.prog} --help`.")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = _Parser(prog="automfm", description=DESCRIPTION, epilog=EXAMPLE)
    parser.add_argument("--version", action="version", version=f"automfm {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    _add_run(verbs)
    _add_stages(verbs)
    _add_queries(verbs)
    _add_import(verbs)
    _add_library(verbs)
    return parser


def _verb(verbs: Any, name: str, text: str, group: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(action=f"{group} {name}".strip())
    return parser


def _add_run(verbs: Any) -> None:
    p = _verb(verbs, "run", "Everything, from the network to the catalog; run again to go on.")
    p.add_argument("network", metavar="NETWORK", help="a built-in name or a YAML file")
    p.add_argument("--out", required=True, type=Path, metavar="RUN", help="folder of the run")
    _plan_options(p)
    _distribute_option(p)
    p.add_argument("--no-dynamics", action="store_true",
                   help="leave out how fast cells answer (`automfm dynamics`)")
    p.add_argument("--order", type=int, choices=(1, 2), default=2, help="order of the table printed (default 2)")
    _catalog_option(p)
    p.add_argument("--json", action="store_true", help="print one JSON document")


def _plan_options(p: argparse.ArgumentParser) -> None:
    p.add_argument("--variant", metavar="NAME", help="a variant of the network")
    p.add_argument("--points", type=int, metavar="N", help="grid points per input axis")
    p.add_argument("--precision", type=float, metavar="REL", help="wanted relative standard error (default 0.02)")
    p.add_argument("--budget", type=float, metavar="S", help="simulated seconds per point at most (neurons x time)")
    p.add_argument("--seed", type=int, default=1, help="root of all seeds (default 1)")
    p.add_argument("--working-points", metavar="FROM",
                   help="where the rates that the grids must cover come from: 'network' (simulate it; default of run), "
                        "'closure' (isolated cells that hear isolated cells; no network is run), 'description' "
                        "(default of plan), or a CSV file of rates (Hz)")
    p.add_argument("--draws", type=int, metavar="N",
                   help="draws of the spiking network that everything taken from it is averaged over (default 3)")
    p.add_argument("--mean-in-degree", action="store_true", help="every cell has the mean in-degree")
    p.add_argument("--equal-rates", action="store_true", help="the cells of a source all have its mean rate")
    p.add_argument("--poisson", action="store_true", help="presynaptic cells are Poisson, not as regular as they are")


def _distribute_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("--distribute", nargs="?", type=int, const=VIRTUAL_PROCESSES, metavar="V",
                   help="spread each spiking network over all ranks, as V virtual processes whatever the ranks "
                        f"(default {VIRTUAL_PROCESSES}); needs a NEST built with MPI")


def _catalog_option(p: argparse.ArgumentParser) -> None:
    p.add_argument("--catalog", type=Path, default=None, metavar="DIR",
                   help="catalog folder (default: $AUTOMFM_CATALOG, else ./catalog)")


def _add_stages(verbs: Any) -> None:
    p = _verb(verbs, "plan", "Lay out grids, chunks and seeds.")
    p.add_argument("network", metavar="NETWORK", help="a built-in name, a YAML file, or a run's folder")
    p.add_argument("--out", type=Path, metavar="RUN", help="folder of the run (default: NETWORK, if it is one)")
    _plan_options(p)
    _distribute_option(p)
    p = _verb(verbs, "simulate", "Simulate the missing chunks of a run, on all ranks.")
    p.add_argument("run", type=Path, metavar="RUN")
    p = _verb(verbs, "fit", "Fit the transfer functions of a run.")
    p.add_argument("run", type=Path, metavar="RUN")
    p = _verb(verbs, "dynamics", "Measure how fast a run's cells answer, on all ranks; complete the model.")
    p.add_argument("run", type=Path, metavar="RUN")
    p.add_argument("--points", type=int, metavar="N", help="working points per population (default: as before, or 3)")
    p.add_argument("--no-swings", action="store_true",
                   help="small changes only: leave out isolated cells under the network's own swings")
    p.add_argument("--json", action="store_true", help="print one JSON document")
    p = _verb(verbs, "solve", "Solve a model at given drives, or a run over its working points.")
    p.add_argument("model", type=Path, metavar="MODEL", help="a run, a model.zarr, or a library record")
    p.add_argument("--drive", nargs="+", metavar="INPUT=HZ", help="for example mf=20")
    p.add_argument("--duration", type=float, default=1.0, metavar="S", help="s (default 1)")
    p.add_argument("--order", type=int, choices=(1, 2), default=2)
    p.add_argument("--dt", type=float, help="step, ms (default 0.1; 0.2 where order 2 realizes finite populations)")
    p.add_argument("--json", action="store_true", help="print one JSON document")
    p = _verb(verbs, "validate", "Run the spiking network of a run and compare the mean field with it.")
    p.add_argument("run", type=Path, metavar="RUN")
    p.add_argument("--protocols", metavar="KINDS", help="some of constant,step,bump,sine,noise,bursts (default all)")
    p.add_argument("--seeds", type=int, default=5, metavar="N", help="trials per protocol (default 5)")
    p.add_argument("--cycles", type=int, default=1, metavar="N",
                   help="times that a drive over time runs in each trial (default 1)")
    p.add_argument("--scale", type=float, metavar="X", help="factor of the population sizes (default: for 3500 cells)")
    p.add_argument("--order", type=int, choices=(1, 2), default=2, help="order of the mean field (default 2)")
    _distribute_option(p)
    p.add_argument("--explain", action="store_true",
                   help="instead of scores: the approximations between network and mean field, one by one")
    p.add_argument("--drives", nargs="+", metavar="HZ", help="with --explain: rates of the input, or INPUT=HZ,INPUT=HZ")
    p.add_argument("--duration", type=float, metavar="S", help="with --explain: recorded time (default 2 s)")
    p.add_argument("--json", action="store_true", help="print one JSON document")
    p = _verb(verbs, "publish", "Put a run's model into the library.")
    p.add_argument("run", type=Path, metavar="RUN")
    _catalog_option(p)
    p = _verb(verbs, "plot", "Draw a run's transfer functions and rates.")
    p.add_argument("run", type=Path, metavar="RUN")


def _add_queries(verbs: Any) -> None:
    p = _verb(verbs, "network", "Check a network description and show its mean-field parameters.")
    p.add_argument("network", metavar="NETWORK")
    p.add_argument("--variant", metavar="NAME")
    p.add_argument("--json", action="store_true", help="print one JSON document")
    p = _verb(verbs, "lif", "Leaky integrate-and-fire theory without simulation: rates, stability, spectra.")
    p.add_argument("network", metavar="NETWORK", help="a built-in name, a YAML file, or an NNMT parameter file")
    p.add_argument("--variant", metavar="NAME", help="a variant of the network")
    p.add_argument("--method", default="shift", metavar="NAME", help="shift (default), expansion, or second_order")
    p.add_argument("--frequencies", nargs=3, type=float, default=(1.0, 400.0, 400.0), metavar=("LOW", "HIGH", "NUMBER"),
                   help="where to look at the spectra, Hz (default 1 400 400)")
    p.add_argument("--spectra", action="store_true", help="with --json: the spectra too")
    p.add_argument("--out", type=Path, metavar="RUN", help="keep it as a run, with its mean field")
    p.add_argument("--publish", action="store_true", help="with --out: put the mean field into the library")
    _catalog_option(p)
    p.add_argument("--json", action="store_true", help="print one JSON document")
    p = _verb(verbs, "doctor", "What is installed, what would fail, the line that mends it.")
    p.add_argument("--json", action="store_true", help="print one JSON document")
    p.add_argument("--compile", nargs="*", type=int, metavar="N", help="compile the neuron model with N receptors now")


def _add_import(verbs: Any) -> None:
    p = _verb(verbs, "import-bsb", "Read a BSB network with its true connections into a description.")
    p.add_argument("file", type=Path, metavar="FILE.hdf5", help="the network that `bsb compile` wrote")
    p.add_argument("--config", type=Path, metavar="SIM.yaml", help="configuration with the simulation part")
    p.add_argument("--simulation", metavar="NAME", help="which simulation, where there are several")
    p.add_argument("-o", "--out", required=True, type=Path, metavar="NETWORK.yaml", help="description to write")


def _add_library(verbs: Any) -> None:
    p = _verb(verbs, "library", "List, search and show published models.")
    p.set_defaults(library_parser=p)
    inner = p.add_subparsers(dest="library_verb", metavar="VERB", parser_class=_Parser)
    for name, text in (("ls", "All models."), ("search", "Models by pathology, conductance, ..."),
                       ("show", "One model's record.")):
        q = _verb(inner, name, text, "library")
        _catalog_option(q)
        q.add_argument("--json", action="store_true", help="print one JSON document")
        if name == "search":
            q.add_argument("terms", nargs="+", metavar="TERM", help="pathology=ataxia, 'Q[mf->GrC]=0.2:0.5', ...")
        if name == "show":
            q.add_argument("id", metavar="ID", help="id, or the beginning of one")


def parse_drive(terms: Sequence[str], inputs: Sequence[str]) -> dict[str, float]:
    """`['mf=20']` -> {'mf': 20.0}, every input named once."""
    drive: dict[str, float] = {}
    for term in terms:
        name, _, value = term.partition("=")
        if name not in inputs:
            raise UsageError(f"no input '{name}'", where="--drive", remedy=suggest(name, inputs))
        if name in drive:
            raise UsageError(f"'{name}' is given twice", where="--drive")
        try:
            drive[name] = float(value)
        except ValueError:
            raise UsageError(f"'{term}' is not INPUT=HZ", where="--drive", remedy=f"Write {name}=20.") from None
        if not 0 <= drive[name] < float("inf"):
            raise UsageError(f"a rate of {value} Hz is not possible", where="--drive")
    missing = [i for i in inputs if i not in drive]
    if missing:
        raise UsageError(f"needs a rate for {', '.join(missing)}", where="--drive")
    return drive
