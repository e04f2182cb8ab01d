"""The command line: parses, calls the stages in order, prints. Results on stdout, all else on stderr."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from automfm_hpc.arguments import build_parser, parse_drive
from automfm_hpc.cli_queries import (
    do_doctor,
    do_import_bsb,
    do_library_help,
    do_library_ls,
    do_library_search,
    do_library_show,
    do_lif,
    do_network,
)
from automfm_hpc.console import catalog, log, logger, say, speaks, the_pool
from automfm_hpc.errors import AutomfmError, PlanError, UsageError
from automfm_hpc.interruption import listen
from automfm_hpc.run_folder import Run, on_root

# --- running --------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 expected failure, 2 wrong usage."""
    listen()
    try:
        arguments = build_parser().parse_args(argv)
        if arguments.verb is None:
            build_parser().print_help()
            return 2
        return ACTIONS[arguments.action](arguments)
    except UsageError as error:
        return _complain(error, 2)
    except AutomfmError as error:
        return _complain(error, 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        log("interrupted; run the same command again to go on")
        return 1


def _complain(error: AutomfmError, code: int) -> int:
    if speaks():
        log(f"automfm: {error}")
    return code


def _existing_run(path: Path) -> Run:
    run = Run(path)
    if not run.plan.is_file():
        raise PlanError("no run here (no plan.json)", where=str(path),
                        remedy="Run `automfm plan NETWORK --out RUN` or `automfm run NETWORK --out RUN` first.")
    return run


def _plan_of(arguments: argparse.Namespace, network_file: str, run: Run, pool: Any, origin: str) -> Any:
    """The plan asked for, on rank 0 (None elsewhere), the folder prepared; may simulate the network on all ranks."""
    from dataclasses import replace

    from automfm_hpc import distributed, stages
    from automfm_hpc.description import load
    from automfm_hpc.experiment import (
        SWUNG,
        WORKING_SEEDS,
        draws_tell,
        presynaptic_statistics,
        varied_experiment,
        working_experiment,
        working_points,
    )
    from automfm_hpc.plan import make_plan, read_working_points

    origin = arguments.working_points or origin
    network = load(network_file).with_variant(arguments.variant)
    points = None
    if origin not in ("network", "closure", "description"):
        points = read_working_points(Path(origin), network)
    changes = {k: v for k, v in (("precision", arguments.precision), ("budget", arguments.budget)) if v is not None}
    if arguments.mean_in_degree:
        changes["heterogeneous"] = False

    def planned(points: Any, presynaptic: Any = ()) -> Any:
        kept = [p.only(not arguments.equal_rates, not arguments.poisson) for p in presynaptic]
        plan = make_plan(network, points=arguments.points, seed=arguments.seed, working_points=points,
                         presynaptic=() if arguments.equal_rates and arguments.poisson else kept)
        return replace(plan, sampling=replace(plan.sampling, **changes))

    for option in ("distribute", "draws"):
        if getattr(arguments, option) is not None and origin != "network":
            raise UsageError("belongs to the spiking network, which is not run here", where=f"--{option}",
                             remedy="Say --working-points network, or leave it out.")
    if arguments.distribute is not None:
        distributed.check(pool, arguments.distribute)
    if arguments.draws is not None and arguments.draws < 1:
        raise UsageError("must be 1 or more", where="--draws")
    if origin not in ("network", "closure"):
        return planned(points)
    # Look for mistakes in the options, and for NEST, before anything is written or simulated.
    planned(dict.fromkeys(network.population_names, (10.0,)))
    with on_root(pool) as root:
        if root:
            if not run.network.is_file():
                stages.prepare_nest(network, logger(pool))
            stages.prepare(run, network)
    if origin == "closure":
        from automfm_hpc.closure import close, closure_experiment

        experiment = closure_experiment(network, root=arguments.seed)
        trials = close(run.closure, experiment, pool, logger(pool))
    else:
        seeds = WORKING_SEEDS if arguments.draws is None else arguments.draws
        experiment = working_experiment(network, root=arguments.seed, processes=arguments.distribute or 1, seeds=seeds)
        spread = arguments.distribute is not None
        trials = stages.spike(run, experiment, pool, logger(pool), distribute=spread)
        logger(pool)(f"spiking network: {draws_tell(trials, experiment)}")
        if not getattr(arguments, "no_dynamics", False):
            stages.spike(run, varied_experiment(experiment), pool, logger(pool), run.varied, spread,
                         what="the same with inputs that fluctuate", kept=SWUNG)
    return planned(working_points(trials, experiment), presynaptic_statistics(trials, experiment))


# --- verbs ----------------------------------------------------------------------------------------


def do_run(arguments: argparse.Namespace) -> int:
    from automfm_hpc import comparison, stages

    with the_pool() as pool:
        told = logger(pool)
        run = Run(arguments.out)
        plan = _plan_of(arguments, arguments.network, run, pool, "network")
        with on_root(pool) as root:
            if root:
                if not run.plan.is_file():
                    stages.prepare_nest(plan.network, told)
                new = stages.write_plan(run, plan)
                told(f"plan: {plan.id}, {len(plan.tasks())} chunks" + ("" if new else ", going on"))
        stages.simulate(run, pool, told)
        stages.fit(run, pool, told)
        if not arguments.no_dynamics:
            from automfm_hpc.measured_dynamics import measure_dynamics

            measure_dynamics(run, pool, told)
        compared = stages.solve(run, pool, told)
        identity = stages.publish(run, pool, told, catalog(arguments))
        with on_root(pool) as root:
            if root:
                figures = _plot(run)
                if arguments.json:
                    print(json.dumps({"run": str(run.folder), "id": identity, "comparison": compared,
                                      "figures": [str(f) for f in figures]}))
                else:
                    print(comparison.table(compared or {}, arguments.order))
                    print(f"model    {run.model}\nrecord   {identity} in {catalog(arguments)}\n"
                          f"figures  {run.figures} ({len(figures)} files)")
    return 0


def do_plan(arguments: argparse.Namespace) -> int:
    from automfm_hpc import stages

    source, out = arguments.network, arguments.out
    if Path(source).is_dir():
        run = Run(out or Path(source))
        if not Run(Path(source)).network.is_file():
            raise PlanError("has no network.yaml", where=source, remedy="Name a network, and --out RUN.")
        source = str(Run(Path(source)).network)
    elif out is None:
        raise UsageError("--out RUN is missing", where="automfm plan")
    else:
        run = Run(out)
    with the_pool() as pool:
        plan = _plan_of(arguments, source, run, pool, "description")
        with on_root(pool) as root:
            if root:
                new = stages.write_plan(run, plan)
                print(f"{run.plan}: {plan.id}, {len(plan.tasks())} chunks" + ("" if new else ", as it was"))
                for grid in plan.grids:
                    spans = ", ".join(f"{axis} {c[0]:g} to {c[-1]:g} Hz ({len(c)})"
                                      for axis, c in zip(grid.axes, grid.coordinates))
                    print(f"  {grid.population}: {spans}")
    return 0


def do_simulate(arguments: argparse.Namespace) -> int:
    from automfm_hpc import stages

    with the_pool() as pool:
        counts = stages.simulate(_existing_run(arguments.run), pool, logger(pool))
        say(pool, f"{counts['simulated']} of {counts['chunks']} chunks simulated in {counts['seconds']:.1f} s "
                   f"on {pool.size} rank(s)")
    return 0


def do_fit(arguments: argparse.Namespace) -> int:
    from automfm_hpc import stages

    with the_pool() as pool:
        run = _existing_run(arguments.run)
        stages.fit(run, pool, logger(pool))
        say(pool, f"{run.fits}\n{run.model}")
    return 0


def do_dynamics(arguments: argparse.Namespace) -> int:
    from automfm_hpc.measured_dynamics import measure_dynamics, table

    if arguments.points is not None and arguments.points < 1:
        raise UsageError("at least one working point is needed", where="--points")
    with the_pool() as pool:
        result = measure_dynamics(_existing_run(arguments.run), pool, logger(pool), arguments.points,
                                  swings=not arguments.no_swings)
        if pool.is_root and result is not None:
            print(json.dumps(result, allow_nan=False) if arguments.json else table(result))
    return 0


def do_solve(arguments: argparse.Namespace) -> int:
    if arguments.drive is None:
        return _solve_stage(arguments)
    from automfm_hpc import mesoscopic
    from automfm_hpc.mean_field import MeanField

    model = MeanField.load(arguments.model)
    drive = parse_drive(arguments.drive, model.inputs)
    answer = {**mesoscopic.answer(model, drive, arguments.duration, arguments.order, arguments.dt), "drive": drive}
    for key in ("rates", "sd"):
        answer[key] = {name: round(value, 6) for name, value in answer[key].items()}
    if arguments.json:
        print(json.dumps(answer, allow_nan=False))
        return 0
    for name in model.populations:
        spread = f" +- {answer['sd'][name]:.2f}" if arguments.order == 2 else ""
        print(f"{name:<12}{answer['rates'][name]:10.3f}{spread} Hz")
    for warning in answer["warnings"]:
        log(f"warning: {warning}")
    return 0


def _solve_stage(arguments: argparse.Namespace) -> int:
    from automfm_hpc import comparison, stages

    with the_pool() as pool:
        compared = stages.solve(_existing_run(arguments.model), pool, logger(pool))
        if pool.is_root and compared is not None:
            print(json.dumps(compared) if arguments.json else comparison.table(compared, arguments.order))
    return 0


def do_validate(arguments: argparse.Namespace) -> int:
    if arguments.explain:
        return _explain(arguments)
    for option in ("drives", "duration"):
        if getattr(arguments, option) is not None:
            raise UsageError("belongs to --explain", where=f"--{option}", remedy="Add --explain, or leave it out.")
    from automfm_hpc import distributed
    from automfm_hpc.plots_validation import plot_validation
    from automfm_hpc.validation import run_validation
    from automfm_hpc.validation_plan import parse_kinds, results_file
    from automfm_hpc.validation_table import table

    kinds = parse_kinds(arguments.protocols)
    with the_pool() as pool:
        run = _existing_run(arguments.run)
        if arguments.distribute is not None:
            distributed.check(pool, arguments.distribute)
        result = run_validation(run, pool, logger(pool), kinds, arguments.seeds, arguments.scale, arguments.order,
                                distribute=arguments.distribute, cycles=arguments.cycles)
        if pool.is_root and result is not None:
            figures = plot_validation(run)
            if arguments.json:
                print(json.dumps(result | {"figures": [str(f) for f in figures]}))
            else:
                print(f"{table(result)}\n\nresults  {results_file(run)}\nfigures  {run.figures} ({len(figures)} files)")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from automfm_hpc.explain import DURATION, results_file, run_explanation
    from automfm_hpc.explain_table import table
    from automfm_hpc.plots_explain import plot_explanation

    if arguments.protocols is not None:
        raise UsageError("does not go with --explain, which has constant drives", where="--protocols",
                         remedy="Leave it out; choose drives with --drives.")
    if arguments.distribute is not None:
        raise UsageError("does not go with --explain, which has a drive per rank", where="--distribute",
                         remedy="Leave it out.")
    duration = DURATION if arguments.duration is None else 1000.0 * arguments.duration
    with the_pool() as pool:
        run = _existing_run(arguments.run)
        result = run_explanation(run, pool, logger(pool), arguments.drives, arguments.scale, duration)
        if pool.is_root and result is not None:
            figures = plot_explanation(run)
            if arguments.json:
                print(json.dumps(result | {"figures": [str(f) for f in figures]}))
            else:
                print(f"{table(result)}\n\nresults  {results_file(run)}\nfigures  {figures[0]}")
    return 0


def do_publish(arguments: argparse.Namespace) -> int:
    from automfm_hpc import stages

    with the_pool() as pool:
        identity = stages.publish(_existing_run(arguments.run), pool, logger(pool), catalog(arguments))
        say(pool, str(identity))
    return 0


def do_plot(arguments: argparse.Namespace) -> int:
    for figure in _plot(_existing_run(arguments.run)):
        print(figure)
    return 0


def _plot(run: Run) -> list[Path]:
    from automfm_hpc.plots import plot_run

    return plot_run(run)


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": do_run,
    "plan": do_plan,
    "simulate": do_simulate,
    "fit": do_fit,
    "dynamics": do_dynamics,
    "solve": do_solve,
    "validate": do_validate,
    "publish": do_publish,
    "plot": do_plot,
    "network": do_network,
    "lif": do_lif,
    "import-bsb": do_import_bsb,
    "doctor": do_doctor,
    "library": do_library_help,
    "library ls": do_library_ls,
    "library search": do_library_search,
    "library show": do_library_show,
}
