"""What a validation runs: its protocols, laid out over the ranges of the network's inputs, and where the trials lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automfm_hpc.errors import UsageError, suggest
from automfm_hpc.experiment import WORKING_FRACTIONS, Experiment, settling_time
from automfm_hpc.network import Input, Network
from automfm_hpc.protocols import KINDS, Protocol

if TYPE_CHECKING:
    from automfm_hpc.run_folder import Run

CELLS = 3500  # of the reduced network
FEWEST = 20  # cells of the smallest population of a reduced network
SEEDS = 5
MIDDLE = 0.4  # background of a varying input, and of the inputs that stay, as a fraction of their ranges
DROPPED = 1000.0  # ms of a sinusoid before its window, whole periods of every frequency; of several cycles, the first
FREQUENCIES = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # Hz
WIDTHS = (10.0, 30.0, 100.0)  # ms

# kind -> settings (amplitudes as fractions of the input's range), duration (ms)
VARIED: Mapping[str, tuple[tuple[Mapping[str, float], ...], float]] = {
    "step": (({"amplitude": 0.2}, {"amplitude": -0.2}), 1000.0),
    "bump": (tuple({"amplitude": 0.3, "sigma": w} for w in WIDTHS), 1000.0),
    "sine": (tuple({"amplitude": 0.15, "frequency": f} for f in FREQUENCIES), DROPPED + 1000.0),
    "noise": (({"sd": 0.08},), 2000.0),
    "bursts": (({"amplitude": 0.4},), 1000.0),
}
_FRACTIONS = ("amplitude", "sd")


def parse_kinds(text: str | None) -> tuple[str, ...]:
    """'constant,sine' -> kinds of protocols in their usual order; None: all.

    Raises
    ------
    UsageError
        Naming the unknown kind.
    """
    if text is None:
        return tuple(KINDS)
    wanted = [word.strip() for word in text.split(",")]
    for word in wanted:
        if word not in KINDS:
            raise UsageError(f"unknown protocol '{word}'", where="--protocols", remedy=suggest(word, KINDS))
    return tuple(k for k in KINDS if k in wanted)


def protocols(network: Network, kind: str, cycles: int = 1) -> tuple[Protocol, ...]:
    """The validation's protocols of one kind: each input varies in turn, the others rest at MIDDLE of their ranges.

    Those that vary in time run `cycles` times, one after the other.

    Raises
    ------
    UsageError
        If the network has no input.
    """
    if not network.inputs:
        raise UsageError("has no input that could be driven", where=network.name)
    made = [p for source in network.inputs for p in _of_input(network, source, kind, cycles)]
    return tuple({p.name: p for p in made}.values())


def _of_input(network: Network, source: Input, kind: str, cycles: int) -> Iterator[Protocol]:
    base = {i.name: _at(i, MIDDLE) for i in network.inputs}
    before = settling_time(network)
    if kind == "constant":
        for fraction in WORKING_FRACTIONS:
            yield Protocol(kind, source.name, base | {source.name: _at(source, fraction)}, presimulation=before)
        return
    span = source.rate_range[1] - source.rate_range[0]
    variants, duration = VARIED[kind]
    if kind == "sine" and cycles > 1:
        duration -= DROPPED
    for settings in variants:
        numbers = {k: round(v * span, 6) if k in _FRACTIONS else v for k, v in settings.items()}
        yield Protocol(kind, source.name, base, numbers, before, duration, cycles)


def _at(source: Input, fraction: float) -> float:
    low, high = source.rate_range
    return round(low + fraction * (high - low), 6)


def default_scale(network: Network) -> float:
    """Factor of the population sizes that leaves CELLS cells, and FEWEST of each population where it had as many.

    1 for networks with their true connections. A population of a handful of cells would be another network: with 8
    instead of 71 Golgi cells the cerebellum was seen to fire a quarter less and to swing in step.
    """
    if network.connections is not None:
        return 1.0
    sizes = [p.size for p in network.populations]
    return min(1.0, round(max(CELLS / sum(sizes), FEWEST / min(sizes)), 3))


def scale_of(network: Network, scale: float | None) -> float:
    """The scale asked for, or the default one.

    Raises
    ------
    UsageError
        If there can be no network of that scale.
    """
    factor = default_scale(network) if scale is None else scale
    if not factor > 0:
        raise UsageError(f"{factor:g} leaves no cells", where="--scale", remedy="Give a factor above 0.")
    if network.connections is not None and factor != 1.0:
        raise UsageError("a network with its true connections has one size only", where="--scale",
                         remedy="Leave --scale out.")
    return factor


def experiments(network: Network, kinds: Sequence[str], seeds: int = SEEDS, scale: float | None = None,
                root: int = 1, processes: int = 1, cycles: int = 1) -> dict[str, Experiment]:
    """One experiment per kind of protocol."""
    factor = scale_of(network, scale)
    return {k: Experiment(network, protocols(network, k, cycles), seeds, factor, processes=processes, root=root)
            for k in kinds}


def store_of(run: Run, kind: str, experiment: Experiment) -> Path:
    """Store of an experiment's trials; other seeds, scales or networks have stores of their own."""
    return run.folder / "validation" / f"{kind}_{experiment.id[:8]}.zarr"


def results_file(run: Run) -> Path:
    return run.folder / "validation.json"


def shown(planned: Mapping[str, Experiment]) -> tuple[str, int]:
    """Kind and number of the protocol that is drawn with its spikes: a bump, else what there is."""
    kind = next(k for k in ("bump", "step", "bursts", "noise", "sine", "constant") if k in planned)
    return kind, len(planned[kind].protocols) // 2


def single(experiment: Experiment) -> Experiment:
    """The same with one cycle of every protocol, which is all that a raster shows."""
    return replace(experiment, protocols=tuple(replace(p, cycles=1) for p in experiment.protocols))


def raster_file(run: Run, experiment: Experiment) -> Path:
    return run.folder / "validation" / f"raster_{experiment.id[:8]}.json"


def replanned(network: Network, result: Mapping[str, Any]) -> dict[str, Experiment]:
    """The experiments of a validation that is done, from its results."""
    how = {key: result[key] for key in ("seeds", "scale", "root")}
    more = {key: result.get(key, 1) for key in ("processes", "cycles")}
    return experiments(network, result["kinds"], **how, **more)
