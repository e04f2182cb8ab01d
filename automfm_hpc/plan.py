"""The plan: which cells are driven at which input rates, in which chunks, with which seeds.

A plan is frozen data. Executors read it; results depend on it and on nothing else.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import PlanError, suggest
from automfm_hpc.network import Network
from automfm_hpc.presynaptic import PresynapticStatistics
from automfm_hpc.provenance import canonical_json, content_hash, seed_for
from automfm_hpc.remap import Cell, MeanFieldParameters, remap

FORMAT = 1
MARGIN = 1.25  # grids reach this much beyond the highest working point
POINTS = {1: 24, 2: 16, 3: 8, 4: 6}  # default points per axis for that many axes
CHUNK_POINTS = 16
LEAST_CELLS = 16  # for a standard error


@dataclass(frozen=True)
class Sampling:
    """How long and how exactly each grid point is sampled.

    Parameters
    ----------
    precision : float
        Wanted standard error of the rate, relative to the rate.
    floor : float
        A standard error (Hz) that is always good enough.
    budget : float
        Most simulated neuron-seconds spent on one point.
    transient, window : float
        Time dropped, time counted (ms), per cell.
    dt : float
        Resolution (ms).
    first_cells : int
        Cells per point of the first round, if the budget allows.
    heterogeneous : bool
        Whether cells draw their in-degrees from the description's distributions.
    """

    precision: float = 0.02
    floor: float = 0.2
    budget: float = 1200.0
    transient: float = 250.0
    window: float = 1000.0
    dt: float = 0.1
    first_cells: int = 32
    heterogeneous: bool = True

    def __post_init__(self) -> None:
        for name in ("precision", "floor", "budget", "window", "dt"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise PlanError(f"must be finite and larger than 0, not {value:g}", where=f"sampling.{name}")
        if not 0 <= self.transient < math.inf:
            raise PlanError(f"must be finite and not negative, not {self.transient:g}", where="sampling.transient")
        if self.first_cells < LEAST_CELLS:
            raise PlanError(f"a standard error needs at least {LEAST_CELLS} cells", where="sampling.first_cells")
        if self.affordable < LEAST_CELLS:
            raise PlanError(f"{self.budget:g} s are too few for the {LEAST_CELLS} cells that a standard error needs",
                            where="sampling.budget", remedy=f"Give at least {LEAST_CELLS * self.seconds_per_cell:g} s.")

    @property
    def seconds_per_cell(self) -> float:
        """Simulated time of one cell (s), the transient included."""
        return (self.transient + self.window) / 1000.0

    @property
    def affordable(self) -> int:
        """Cells per point within the budget."""
        return math.floor(self.budget / self.seconds_per_cell + 1e-9)

    def target(self, rate: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standard error (Hz) below which sampling stops."""
        return np.maximum(self.precision * rate, self.floor)


@dataclass(frozen=True)
class Task:
    """One chunk of one population's grid: the unit of work, of storage, and of resuming."""

    population: str
    chunk: int
    index: tuple[int, ...]
    slices: tuple[tuple[int, int], ...]
    seed: int


@dataclass(frozen=True)
class Grid:
    """Tensor grid of input rates for one population.

    Parameters
    ----------
    population : str
    axes : tuple of str
        Sources.
    coordinates : tuple of tuple of float
        Rates (Hz) along each axis, increasing.
    chunk_shape : tuple of int
        Points per chunk along each axis.
    """

    population: str
    axes: tuple[str, ...]
    coordinates: tuple[tuple[float, ...], ...]
    chunk_shape: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(c) for c in self.coordinates)

    @property
    def chunk_counts(self) -> tuple[int, ...]:
        return tuple(math.ceil(n / c) for n, c in zip(self.shape, self.chunk_shape, strict=True))

    def tasks(self, seed: int) -> Iterator[Task]:
        for number, index in enumerate(product(*(range(n) for n in self.chunk_counts))):
            slices = tuple((i * c, min((i + 1) * c, n))
                           for i, c, n in zip(index, self.chunk_shape, self.shape, strict=True))
            yield Task(self.population, number, index, slices, seed_for(seed, self.population, number))

    def points(self, task: Task) -> NDArray[np.float64]:
        """Input rates (Hz) of a chunk's points, shape (n_point, n_axis), in C order."""
        parts = [np.asarray(c[a:b]) for c, (a, b) in zip(self.coordinates, task.slices, strict=True)]
        return np.stack([m.ravel() for m in np.meshgrid(*parts, indexing="ij")], axis=-1)


@dataclass(frozen=True)
class Plan:
    """Everything the simulations depend on.

    Parameters
    ----------
    network : Network
        With the variant applied.
    seed : int
    sampling : Sampling
    grids : tuple of Grid
    presynaptic : tuple of PresynapticStatistics
        Spread and regularity of sources; a source without them is Poisson trains of equal rates.
    """

    network: Network
    seed: int
    sampling: Sampling
    grids: tuple[Grid, ...]
    presynaptic: tuple[PresynapticStatistics, ...] = ()
    _parameters: list[MeanFieldParameters] = field(default_factory=list, compare=False, repr=False)

    @property
    def id(self) -> str:
        """Content hash: what makes two runs the same run."""
        data = self.to_dict()
        data["network"].pop("connections", None)  # where they lie; what they are is in connections_id
        return content_hash(data)

    @property
    def parameters(self) -> MeanFieldParameters:
        if not self._parameters:
            self._parameters.append(remap(self.network))
        return self._parameters[0]

    def grid(self, population: str) -> Grid:
        for grid in self.grids:
            if grid.population == population:
                return grid
        raise PlanError(f"no population '{population}'", where="plan",
                        remedy=suggest(population, [g.population for g in self.grids]))

    def tasks(self) -> tuple[Task, ...]:
        """All chunks of all populations; the first ones take longest, so ranks finish together."""
        tasks = [t for g in self.grids for t in g.tasks(self.seed)]
        return tuple(sorted(tasks, key=lambda t: -len(self.grid(t.population).axes)))

    def to_dict(self) -> dict[str, Any]:
        data = {"format": FORMAT, "seed": self.seed, "network": self.network.to_dict(),
                "sampling": asdict(self.sampling), "grids": [asdict(g) for g in self.grids]}
        if self.presynaptic:  # plans without keep the identity they had before there were any
            data["presynaptic"] = [p.to_dict() for p in self.presynaptic]
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: str = "plan") -> Plan:
        try:
            if data["format"] != FORMAT:
                raise PlanError(f"has format {data['format']}, this program reads {FORMAT}", where=where,
                                remedy="Use the program's version that wrote it, or plan anew.")
            grids = tuple(Grid(g["population"], tuple(g["axes"]), tuple(tuple(c) for c in g["coordinates"]),
                               tuple(g["chunk_shape"])) for g in data["grids"])
            known = tuple(PresynapticStatistics.from_dict(p) for p in data.get("presynaptic", ()))
            network = Network.from_dict(data["network"], where)
            return Plan(network, data["seed"], Sampling(**data["sampling"]), grids, known)
        except (KeyError, TypeError) as error:
            raise PlanError(f"is not a plan ({error})", where=where, remedy="Run `automfm plan` again.") from None

    @staticmethod
    def read(path: str | Path) -> Plan:
        try:
            return Plan.from_dict(json.loads(Path(path).read_text("utf-8")), str(path))
        except FileNotFoundError:
            raise PlanError("no such plan", where=str(path),
                            remedy="Run `automfm plan NETWORK --out RUN` first.") from None
        except json.JSONDecodeError as error:
            raise PlanError(f"is not valid JSON ({error})", where=str(path)) from None


def make_plan(
    network: Network,
    *,
    variant: str | None = None,
    points: int | None = None,
    sampling: Sampling | None = None,
    seed: int = 1,
    working_points: Mapping[str, tuple[float, ...]] | None = None,
    presynaptic: Iterable[PresynapticStatistics] = (),
) -> Plan:
    """Lay out the grids around the working points.

    Parameters
    ----------
    network : Network
    variant : str, optional
    points : int, optional
        Grid points per input axis; default by the number of axes, see `POINTS`.
    sampling : Sampling, optional
        Default: `sampling_for` the network.
    seed : int
    working_points : mapping, optional
        Rates (Hz) by population and input; default: the description's.
    presynaptic : iterable of PresynapticStatistics
        What is known of the sources' spread and regularity; default: Poisson trains of equal rates.

    Raises
    ------
    PlanError
        If a population's range of rates is not known, or `points` is below 4.
    """
    network = network.with_variant(variant)
    if points is not None and points < 4:
        raise PlanError(f"{points} points per axis are too few for a smooth fit", where="points",
                        remedy="Take at least 4.")
    known = working_points if working_points is not None else network.working_points
    parameters = remap(network)
    sampling = sampling or sampling_for(network)
    grids = tuple(_grid(network, cell, points, known) for cell in parameters.cells)
    return Plan(network, seed, sampling, grids, tuple(presynaptic))


def sampling_for(network: Network) -> Sampling:
    """The default sampling, with a transient of five times the slowest adaptation."""
    return Sampling(transient=max(250.0, 5.0 * _slowest(network)))


def _slowest(network: Network) -> float:
    """Slowest time constant of adaptation (ms) in the network, up to 400 ms."""
    slow = [1.0]
    for p in network.populations:
        slow += [p.parameters["tau_w"]] if p.parameters.get("b") or p.parameters.get("a") else []
        slow += [1.0 / p.parameters[k] for k in ("k_1", "k_2") if k in p.parameters]
    return min(max(slow), 400.0)


def _grid(network: Network, cell: Cell, points: int | None, known: Mapping[str, tuple[float, ...]]) -> Grid:
    axes = cell.axes
    n = points or POINTS.get(len(axes), 5)
    coordinates = tuple(spaced(*rate_range(network, source, known), n) for source in axes)
    return Grid(cell.population, axes, coordinates, chunk_shape(tuple(len(c) for c in coordinates)))


def chunk_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Rows along the last axis of at most CHUNK_POINTS points."""
    return (*(1 for _ in shape[:-1]), min(shape[-1], CHUNK_POINTS))


def spaced(low: float, high: float, n: int) -> tuple[float, ...]:
    """n rates (Hz) from low to high, denser at the low end, where transfer functions bend."""
    u = np.linspace(0.0, 1.0, n)
    rates = low + (high - low) * np.expm1(1.5 * u) / math.expm1(1.5)
    return tuple(float(f"{r:.6g}") for r in rates)


def rate_range(network: Network, source: str, known: Mapping[str, tuple[float, ...]]) -> tuple[float, float]:
    """Lowest and highest rate (Hz) a source's axis must cover."""
    for external in network.inputs:
        if external.name == source:
            return external.rate_range
    rates = [r for r in known.get(source, ()) if math.isfinite(r)]
    if rates:
        return 0.0, max(MARGIN * max(rates), 1.0)
    declared = network.population(source).rate_range
    if declared is None:
        raise PlanError("its range of rates is not known", where=f"{network.name}: {source}",
                        remedy="Give `working_points` or the population's `rate_range` in the description, "
                               "or a file with --working-points.")
    return declared


def read_working_points(path: str | Path, network: Network) -> dict[str, tuple[float, ...]]:
    """Working points from a CSV file of rates (Hz).

    Either one column per population and input and one row per input rate, or one row per population and input rate
    with the columns `population`, `mean_Hz`, optionally `active` (the fraction of cells that fired, where `mean_Hz`
    leaves silent cells out), and one column `..._rate_Hz` for the only input. The rates of a group (for example MLI)
    serve every member that has none of its own.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if rows and {"population", "mean_Hz"} <= set(rows[0]):
            columns = _listed_rates(rows, network)
        else:
            columns = {k: tuple(float(r[k]) for r in rows) for k in (rows[0] if rows else {})}
    except OSError as error:
        raise PlanError(f"cannot be read ({error.strerror})", where=str(path)) from None
    except (TypeError, ValueError) as error:
        raise PlanError(f"is not a table of rates ({error})", where=str(path)) from None
    known = {*network.population_names, *network.input_names, *network.groups}
    for name in columns:
        if name not in known:
            raise PlanError(f"unknown column '{name}'", where=str(path), remedy=suggest(name, known))
    for group, members in network.groups.items():
        for member in members:
            if group in columns:
                columns.setdefault(member, columns[group])
    finite = {k: v for k, v in columns.items() if any(math.isfinite(r) and r >= 0 for r in v)}
    if not finite:
        raise PlanError("holds no finite rate", where=str(path),
                        remedy="Give one column of rates in Hz per population.")
    return finite


def _listed_rates(rows: list[dict[str, str]], network: Network) -> dict[str, tuple[float, ...]]:
    """Columns by population from rows by population and input rate."""
    columns: dict[str, tuple[float, ...]] = {}
    for row in rows:
        rate = float(row["mean_Hz"]) * float(row.get("active") or 1.0)
        columns[row["population"]] = (*columns.get(row["population"], ()), rate)
    drive = [k for k in rows[0] if k.endswith("_rate_Hz")]
    if len(drive) == 1 and len(network.inputs) == 1:
        first = [float(r[drive[0]]) for r in rows if r["population"] == rows[0]["population"]]
        columns.setdefault(network.inputs[0].name, tuple(first))
    return columns


def difference(one: Plan, other: Plan) -> str:
    """The first few places where two plans differ."""
    a, b = _flat(one.to_dict()), _flat(other.to_dict())
    keys = [k for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)]
    shown = "; ".join(f"{k} {str(a.get(k, '-'))[:40]} -> {str(b.get(k, '-'))[:40]}" for k in keys[:3])
    return shown + (f"; and {len(keys) - 3} more" if len(keys) > 3 else "")


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, dict):
        return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}".strip(".")).items()}
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], dict):
        return {k: v for i, value in enumerate(data) for k, v in _flat(value, f"{prefix}.{i}").items()}
    return {prefix: json.loads(canonical_json(data))}
