"""Trials of the spiking network: which protocols, which seeds, at which scale. Frozen data, like the plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.afferents import explicit
from automfm_hpc.errors import StoreError, UsageError
from automfm_hpc.exemplars import exemplars, pooled
from automfm_hpc.kept_trains import kept_cells, packed
from automfm_hpc.network import Network
from automfm_hpc.presynaptic import PresynapticStatistics, statistics_of
from automfm_hpc.protocols import Protocol, constant
from automfm_hpc.provenance import content_hash, seed_for
from automfm_hpc.remap import remap
from automfm_hpc.wiring import population_sizes

if TYPE_CHECKING:
    from automfm_hpc.spiking import Recording

MEASURES = {  # name -> (units, what it is)
    "rate": ("Hz", "firing rate, mean over cells"),
    "rate_sd": ("Hz", "standard deviation of the rate over cells"),
    "active": ("1", "fraction of cells that fired"),
    "cv": ("1", "coefficient of variation of the interspike intervals"),
    "fano": ("1", "Fano factor of spike counts in 100 ms"),
    "correlation": ("1", "mean correlation coefficient of two cells' counts in 5 ms"),
}
VALUES = (*MEASURES, "activity", "timing", "exemplars", "trains")  # of a trial
SWUNG = ("rate", "rate_sd", "activity", "trains")  # those that isolated cells need to follow it
WORKING_SEEDS = 3  # draws of the connections: 71 cells of one draw differ as much as a draw has it
WORKING_FRACTIONS = (0.04, 0.2, 0.4, 0.6, 0.8)  # of an input's range
MOST_CELLS = 50_000  # larger networks are run at a scale that leaves this many
BIN = 1.0  # ms
LEAST_RATE = 0.5  # Hz: slower populations say nothing of their spread and regularity
VARIED, VARIED_TAU = 0.4, 20.0  # standard deviation over the mean, and ms, of the inputs of `varied_experiment`


@dataclass(frozen=True)
class Trial:
    """One protocol with one seed."""

    protocol: int
    seed: int


@dataclass(frozen=True)
class Experiment:
    """Every protocol with every seed.

    Parameters
    ----------
    network : Network
        With the variant applied.
    protocols : tuple of Protocol
        All of the same duration.
    seeds : int
        Number of seeds; each draws connections, initial states and noise anew.
    scale : float
        Factor of the population sizes.
    dt : float
        Resolution (ms).
    processes : int
        Virtual processes of one trial.
    root : int
        Root of the seeds.
    """

    network: Network
    protocols: tuple[Protocol, ...]
    seeds: int = 1
    scale: float = 1.0
    dt: float = 0.1
    processes: int = 1
    root: int = 1

    def __post_init__(self) -> None:
        if not self.protocols or self.seeds < 1:
            raise UsageError("an experiment needs at least one protocol and one seed", where="experiment")
        if len({p.whole for p in self.protocols}) > 1:
            raise UsageError("the protocols of an experiment must last equally long", where="experiment")

    @property
    def names(self) -> tuple[str, ...]:
        """Populations and shared inputs: what is recorded."""
        return self.network.population_names + tuple(i.name for i in self.network.inputs if i.sources is not None)

    @property
    def bins(self) -> int:
        return round(self.protocols[0].whole / BIN)

    @property
    def kept(self) -> dict[str, int]:
        """Populations whose trains a trial keeps, with their cells."""
        return kept_cells(population_sizes(self.network, self.scale), remap(self.network).cells)

    @property
    def id(self) -> str:
        return content_hash(self.to_dict())

    def trials(self) -> tuple[Trial, ...]:
        return tuple(Trial(p, s) for s in range(self.seeds) for p in range(len(self.protocols)))

    def seed_of(self, trial: Trial) -> int:
        return seed_for(self.root, "trial", self.protocols[trial.protocol].name, trial.seed)

    def to_dict(self) -> dict[str, Any]:
        described = self.network.to_dict()
        for key in ("working_points", "variants", "description"):
            described.pop(key, None)  # they do not change what is simulated
        return {"network": described, "protocols": [p.to_dict() for p in self.protocols], "seeds": self.seeds,
                "scale": self.scale, "dt": self.dt, "processes": self.processes, "root": self.root}

    @staticmethod
    def read(path: Path, network: Network) -> Experiment:
        """The experiment of a store of trials, with the network it was made from.

        Raises
        ------
        StoreError
            If the store is damaged or belongs to another network.
        """
        try:
            attributes = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
            data = dict(attributes["experiment"])
            protocols = tuple(Protocol.from_dict(p) for p in data.pop("protocols"))
            data.pop("network")
            experiment = Experiment(network, protocols, **data)
        except (OSError, ValueError, KeyError, TypeError):
            raise StoreError("is not a store of trials", where=str(path),
                             remedy="Move it away and simulate again.") from None
        if experiment.id != attributes["experiment_id"]:
            raise StoreError(f"holds trials of another network than {network.name}", where=str(path))
        return experiment


def working_experiment(
    network: Network, drives: Sequence[Mapping[str, float]] | None = None, *, seeds: int = WORKING_SEEDS,
    scale: float | None = None, duration: float = 1000.0, presimulation: float = 500.0, root: int = 1,
    processes: int = 1,
) -> Experiment:  # fmt: skip
    """The network at constant inputs, to find its working points.

    Parameters
    ----------
    network : Network
    drives : sequence of mappings, optional
        Rates (Hz) of all inputs; default: WORKING_FRACTIONS of their ranges, all inputs together.
    scale : float, optional
        Default: 1, or less for networks of more than MOST_CELLS cells.
    processes : int
        Virtual processes of one trial.
    """
    if drives is None:
        drives = [{i.name: i.rate_range[0] + f * (i.rate_range[1] - i.rate_range[0]) for i in network.inputs}
                  for f in WORKING_FRACTIONS]
    if scale is None:
        scale = min(1.0, MOST_CELLS / sum(p.size for p in network.populations))
    presimulation = settling_time(network, presimulation)
    protocols = tuple(constant({k: round(v, 6) for k, v in d.items()}, duration, presimulation) for d in drives)
    return Experiment(network, protocols, seeds, scale, processes=processes, root=root)


def varied_experiment(working: Experiment) -> Experiment:
    """The same network with one of its inputs fluctuating around each working point, one draw each.

    At constant drive inputs swing by chance alone, which tells little of how cells follow them. The fluctuations are
    an Ornstein-Uhlenbeck process whose standard deviation is VARIED of the rate, or half of what is left of the input's
    range.
    """
    protocols = []
    for k, point in enumerate(working.protocols):
        for i, source in enumerate(working.network.inputs):
            rate = point.background[source.name]
            sd = round(min(VARIED * rate, 0.5 * (source.rate_range[1] - rate)), 6)
            if sd > 0:
                numbers = {"sd": sd, "tau": VARIED_TAU, "seed": float(1001 + k + len(working.protocols) * i)}
                protocols.append(Protocol("noise", source.name, point.background, numbers, point.presimulation,
                                          point.duration))
    return replace(working, protocols=tuple(protocols), seeds=1)


def settling_time(network: Network, least: float = 500.0) -> float:
    """Presimulation (ms) after which the network has forgotten its start: three times its slowest adaptation."""
    slow = max([p.parameters["tau_w"] for p in network.populations if p.parameters.get("b")], default=0.0)
    return max(least, 3.0 * slow)


def simulate_trial(experiment: Experiment, trial: Trial, communicator: int | None = None) -> dict[str, NDArray[Any]]:
    """Run one trial in NEST and reduce it.

    Returns
    -------
    dict
        MEASURES, each (n_name,); activity (n_name, n_bin) in Hz; exemplars (n_name, n_exemplar, 1 + n_level), see
        `exemplars`; trains (n_train, n_bin), see `kept_trains`; timing (5,): seconds of building, connecting,
        presimulating, simulating, and MiB of memory.
    """
    return reduced(experiment, record(experiment, trial, communicator))


def reduced(experiment: Experiment, recording: Recording) -> dict[str, NDArray[Any]]:
    """What a store of trials keeps of a recording, see `simulate_trial`."""
    from automfm_hpc import spikes, spiking

    values: dict[str, NDArray[Any]] = dict(spiking.measure(recording, experiment.names))
    values["activity"] = np.array([spikes.activity(recording.spikes[n], BIN) for n in experiment.names])
    values["exemplars"] = np.array([exemplars(recording.spikes[n]) for n in experiment.names])
    values["trains"] = packed(recording.spikes, experiment.kept, experiment.bins, BIN)
    t = recording.timing
    values["timing"] = np.array([t.build, t.connect, t.presimulate, t.simulate, t.memory])
    return values


def record(experiment: Experiment, trial: Trial, communicator: int | None = None) -> Recording:
    """Run one trial in NEST; all its spikes."""
    from automfm_hpc import nest_models, spiking

    with nest_models.nest_failures(experiment.network.name):
        return spiking.run_trial(
            experiment.network, experiment.protocols[trial.protocol], experiment.seed_of(trial),
            scale=experiment.scale, wiring=_true_wiring(experiment.network), dt=experiment.dt,
            processes=experiment.processes, communicator=communicator,
        )  # fmt: skip


def _true_wiring(network: Network) -> Any:
    """The true connections of an imported network; None for a described one."""
    if network.connections is None:
        return None
    from automfm_hpc.wiring import true_wiring

    return true_wiring(network)


def working_points(rates: Any, experiment: Experiment) -> dict[str, tuple[float, ...]]:
    """Rates (Hz) of every population and input over the drives, averaged over seeds, for `make_plan`."""
    mean = rates["rate"].mean("seed")
    points = {name: tuple(float(p.background[name]) for p in experiment.protocols)
              for name in experiment.network.input_names}
    for name in experiment.network.population_names:
        points[name] = tuple(round(float(r), 4) for r in mean.sel(name=name).values)
    return points


def draws_tell(rates: Any, experiment: Experiment) -> str:
    """How well the draws of the connections that were run know the network's mean rates, as a sentence.

    A model is made of these draws: it cannot be nearer to other ones than they are to each other.
    """
    n, names = rates["rate"].sizes["seed"], experiment.network.population_names
    if experiment.network.connections is not None:
        return "the network has its own connections: no draws that could differ"
    if n < 2:
        return "one draw of its connections does not tell how much draws differ: --draws N for more"
    rate = rates["rate"].transpose("seed", "protocol", "name").sel(name=list(names)).values
    mean, error = rate.mean(axis=0), rate.std(axis=0, ddof=1) / np.sqrt(n)
    share = np.where(mean > LEAST_RATE, error / np.maximum(mean, LEAST_RATE), 0.0)
    worst = ", ".join(f"{name} {100.0 * most:.1f} %" for name, most in zip(names, share.max(axis=0), strict=True))
    return f"{n} draws of its connections know mean rates to {worst} at worst (standard error); --draws N for more"


def presynaptic_statistics(rates: Any, experiment: Experiment) -> tuple[PresynapticStatistics, ...]:
    """Spread of rates and regularity of every population that sends, over its mean rate, averaged over seeds.

    The spread is that of the rates themselves: the variance that counting spikes for so long adds, Fano factor times
    rate over duration, is taken off. Cells too slow to show their regularity count as Poisson. Sources that some target
    hears one by one get exemplars, unless the trials were made before there were any.
    """
    seconds = experiment.protocols[0].whole / 1000.0
    senders = {p.source for p in experiment.network.projections}
    found, cells = [], remap(experiment.network).cells
    for name in (n for n in experiment.network.population_names if n in senders):
        mean, sd, cv, fano = (rates[k].mean("seed").sel(name=name).values for k in ("rate", "rate_sd", "cv", "fano"))
        fires = mean > LEAST_RATE
        if not fires.any():
            continue
        counted = np.where(np.isfinite(fano), fano, 1.0) * mean / seconds
        rate_cv = np.sqrt(np.maximum(sd**2 - counted, 0.0))[fires] / mean[fires]
        order = np.unique(np.round(mean[fires], 4), return_index=True)[1]
        isi_cv = np.where(np.isfinite(cv), cv, 1.0)[fires]
        columns = (np.round(c[order], 4).tolist() for c in (mean[fires], rate_cv, isi_cv))
        known = PresynapticStatistics(name, *map(tuple, columns))
        if "exemplars" in rates and any(explicit(cell, statistics_of([known])) for cell in cells):
            recordings = rates["exemplars"].sel(name=name).values[np.flatnonzero(fires)[order]]
            each = zip(recordings, known.rate_cv, known.isi_cv, strict=True)
            known = replace(known, exemplars=tuple(pooled(*numbers) for numbers in each))
        found.append(known)
    return tuple(found)
