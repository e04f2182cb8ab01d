"""Mean field of any number of populations: the master equation of order 1 or 2 (equations: `MeanField`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from automfm_hpc import (
    batch,
    continuation,
    fixed_points,
    linear_response,
    published_template,
    rate_models,
    solution,
    spectra,
    transfer_function,
)
from automfm_hpc.cell_response import cells_of
from automfm_hpc.drive import Drive, beyond, each, tabulate
from automfm_hpc.dynamics import Dynamics
from automfm_hpc.errors import MeanFieldError, suggest
from automfm_hpc.filters import filters_of
from automfm_hpc.fluctuations import MOVED, PAUSE, Stationary
from automfm_hpc.initial import starting_covariance, starting_rates
from automfm_hpc.lif import bridge
from automfm_hpc.response import System
from automfm_hpc.schemes import FILTERED, METHODS
from automfm_hpc.solver import Trace, integrate, integrate_filtered
from automfm_hpc.transfer_function import TransferFunction

if TYPE_CHECKING:
    import xarray

FloatArray = NDArray[np.float64]
_READERS = {published_template.KIND: published_template.from_dict, bridge.KIND: bridge.from_dict} | dict.fromkeys(
    rate_models.CODES, rate_models.from_dict
)
_DYNAMICS = "dynamics_"  # begins the names of its arrays in a document
DT = 0.1  # ms: default step of `solve`
_SAMPLES = 10_000  # largest default number of samples


@dataclass(frozen=True, eq=False)
class MeanField:
    """A mean-field model.

    With nu the rates, c their covariance, F the transfer functions, J_ij = dF_i/dnu_j, N the sizes and
    T the time constants (El Boustani & Destexhe 2009, doi 10.1162/neco.2009.02-08-710):

        T dnu_i/dt = F_i - nu_i + 1/2 sum_jk c_jk d2F_i/dnu_j dnu_k
        T dc/dt    = diag(F (1/T - F)/N) + (F - nu)(F - nu)^T + J c + c J^T - 2 c

    The inputs are further rows whose rate is prescribed and whose own source of covariance is
    nu (1/T - nu)/N. Order 1 leaves c out. Where populations have different T, row i of the linear part
    is divided by T_i and the product (F_i - nu_i)(F_j - nu_j) by sqrt(T_i T_j), which keeps c positive
    semi-definite and is the equation above for equal T.

    Parameters
    ----------
    populations, inputs : tuple of str
    transfer_functions : tuple of TransferFunction
        One per population, in their order.
    N : (n_population + n_input,) array
        Cells, then independent sources of each input; infinite: private sources, which do not make
        rates fluctuate.
    T : float or (n_population,) or (n_population + n_input,) array
        Time constants (ms). Inputs without one take the mean.
    metadata : Mapping
        Plain values to be kept with the model: network, variant, pathology, provenance, ...; `validity`, written
        by `automfm validate`: the range of each input where the model agreed with the spiking network.
    dynamics : Dynamics, optional
        Delays, synapses and cell responses before the transfer functions, which then see filtered rates instead of
        the present ones. Stationary rates are the same with and without.
    """

    populations: tuple[str, ...]
    inputs: tuple[str, ...]
    transfer_functions: tuple[TransferFunction, ...]
    N: FloatArray
    T: ArrayLike
    metadata: Mapping[str, Any] = field(default_factory=dict)
    dynamics: Dynamics | None = None

    def __post_init__(self) -> None:
        P, M = len(self.populations), len(self.sources)
        _require(P > 0 and len(set(self.sources)) == M, "names of populations and inputs must differ, and be there")
        n_tf = len(self.transfer_functions)
        _require(n_tf == P, f"{n_tf} transfer functions for {P} populations")
        for name, tf in zip(self.populations, self.transfer_functions, strict=True):
            _require(tf.population == name, f"the transfer function of {tf.population} stands in the place of {name}")
            for axis in tf.axes:
                if axis not in self.sources:
                    raise MeanFieldError(f"the transfer function depends on '{axis}', which is neither population nor "
                                         "input", where=name, remedy=suggest(axis, self.sources))
        N, T = np.array(self.N, float), np.array(self.T, float)
        _require(N.shape == (M,) and bool((N > 0).all()), f"N must be {M} numbers above 0, for populations and inputs")
        _require(T.shape in ((), (P,), (M,)) and bool((T > 0).all() and np.isfinite(T).all()),
                 "T must be above 0, one number or one per population")
        object.__setattr__(self, "N", N)
        if self.dynamics is not None:
            self.dynamics.check(tuple(len(tf.axes) for tf in self.transfer_functions))

    # -- reading and writing --------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> MeanField:
        """Read a model.

        Parameters
        ----------
        path : str or Path
            A run's folder (with ``model.zarr`` inside), a ``model.zarr``, or a library record: a JSON
            file in ``records`` whose key ``model`` is a path relative to the library.
        """
        from automfm_hpc.store import read_model

        return cls.from_document(read_model(_find_store(Path(path))))

    def save(self, path: str | Path) -> Path:
        """Write to `path` if it ends in ``.zarr``, else to ``path/model.zarr``; return where it is."""
        from automfm_hpc.store import write_model

        target = Path(path) if Path(path).suffix == ".zarr" else Path(path) / "model.zarr"
        write_model(target, self.to_document())
        return target

    def to_document(self) -> dict[str, Any]:
        """Plain parts: ``attributes`` (JSON), ``arrays``, ``transfer_functions``; `from_document` reads them."""
        filters = {} if self.dynamics is None else self.dynamics.to_arrays()
        return {
            "attributes": {"populations": list(self.populations), "inputs": list(self.inputs),
                           "metadata": dict(self.metadata)},
            "arrays": {"N": self.N, "T": np.array(self.T, float)} | {_DYNAMICS + k: v for k, v in filters.items()},
            "transfer_functions": [tf.to_dict() for tf in self.transfer_functions],
        }  # fmt: skip

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> MeanField:
        attributes, arrays = document["attributes"], document["arrays"]
        readers = [_READERS.get(parts["kind"], transfer_function.from_dict) for parts in document["transfer_functions"]]
        functions = tuple(read(p) for read, p in zip(readers, document["transfer_functions"], strict=True))
        filters = {k.removeprefix(_DYNAMICS): v for k, v in arrays.items() if k.startswith(_DYNAMICS)}
        return cls(tuple(attributes["populations"]), tuple(attributes["inputs"]), functions,
                   np.asarray(arrays["N"], float), np.asarray(arrays["T"], float), attributes.get("metadata", {}),
                   Dynamics.from_arrays(filters) if filters else None)

    # -- structure ------------------------------------------------------------------------------------------

    @property
    def sources(self) -> tuple[str, ...]:
        """Populations, then inputs: the rows of N and of the covariance."""
        return (*self.populations, *self.inputs)

    @property
    def domain(self) -> dict[str, dict[str, tuple[float, float]]]:
        """Rates (Hz) each transfer function was made for: population -> source -> (lowest, highest)."""
        return {
            tf.population: {a: (float(low), float(high)) for a, (low, high) in zip(tf.axes, tf.domain, strict=True)}
            for tf in self.transfer_functions
        }

    @cached_property
    def axis_labels(self) -> tuple[str, ...]:
        """``target<-source`` for every axis of every transfer function."""
        return tuple(f"{tf.population}<-{axis}" for tf in self.transfer_functions for axis in tf.axes)

    @cached_property
    def system(self) -> System:
        """The model as flat arrays for the compiled code."""
        packed = [tf.packed() for tf in self.transfer_functions]
        axes = [[self.sources.index(axis) for axis in tf.axes] for tf in self.transfer_functions]
        T = np.array(self.T, float)
        per_row = np.full(len(self.sources), T.mean())
        per_row[: max(T.size, 1)] = T  # a scalar fills row 0, which holds it already
        return System(
            ints=np.concatenate([np.asarray(i, np.int64) for i, _ in packed]), int_start=_starts(i for i, _ in packed),
            floats=np.concatenate([np.asarray(f, float) for _, f in packed]), float_start=_starts(f for _, f in packed),
            axes=np.concatenate(axes).astype(np.int64), axis_start=_starts(axes),
            domain=np.concatenate([np.asarray(tf.domain, float) for tf in self.transfer_functions]),
            T=per_row, N=self.N,
        )  # fmt: skip

    # -- solving --------------------------------------------------------------------------------------------

    def solve(
        self, drive: Drive, duration: float = 1.0, order: int = 2, dt: float = DT, method: str = "adams",
        initial: Mapping[str, float] | ArrayLike | None = None, every: int | None = None,
        dynamics: bool | None = None, adaptive: bool = False, rtol: float = 1e-3, atol: float = 1e-2,
    ) -> xarray.Dataset:  # fmt: skip
        """Rates, and at order 2 covariances, over time.

        Parameters
        ----------
        drive : Mapping
            Rate of every input (Hz): a number, an (n, 2) array of times (s) and rates interpolated
            linearly, or a function of time (s). See `automfm_hpc.drive.tabulate`.
        duration : float
            s.
        order : {1, 2}
            Rates alone, or rates and covariances.
        dt : float
            Step (ms).
        method : {'adams', 'heun', 'euler'}
            Exponential schemes of order 2 (one evaluation of the transfer functions per step), 2 (two
            evaluations: prefer it for drives that jump at every step; not with dynamics) and 1 in dt.
        initial : Mapping or (n_population,) array, optional
            Starting rates (Hz). Default: the stable fixed point of lowest total rate at the drive's first
            value, searched for from four starts; zero if none is found. Covariances start at their
            stationary value for the starting rates, or at 0 if there is none.
        every : int, optional
            Steps from one sample to the next. Default: 1, or more so that there are at most 10000.
        dynamics : bool, optional
            Whether the transfer functions see rates through the model's delays, synapses and cell responses.
            Default: if the model has them. False: the bare master equation. With them covariances come from the
            linear response, see `fluctuations`; where it grows the status is 'unsettled'.
        adaptive, rtol, atol
            Steps as long as an error of `rtol` of a rate or standard deviation plus `atol` (Hz) in each allows, which
            stop at jumps and kinks of the drive; dt only spaces the samples. Not with dynamics. See `batch`.

        Returns
        -------
        xarray.Dataset
            rate (time, population) in Hz; covariance (time, population_i, population_j) in Hz^2 at
            order 2; time in s. Attributes: status ('ok', or the worst of 'out_of_domain', 'unsettled', 'negative',
            'saturated', 'diverged'), warnings (a list of sentences), events (the same as dictionaries).
            A drive outside the range in which the model was validated adds a warning and no event.
        """
        if adaptive:
            return batch.solve_batch([self], [drive], duration, order, dt, every, initial, rtol, atol, 1, dynamics, ())
        run = self._run(drive, duration, order, dt, method, initial, every, dynamics)
        return solution.dataset(self, [run])

    def solve_many(
        self, drives: Drive | Sequence[Drive], threads: int = 1, adaptive: bool = False, **options: Any
    ) -> xarray.Dataset:
        """`solve` for many drives; for many models, too, see `batch.solve_batch`.

        Parameters
        ----------
        drives : sequence of drives, or one mapping
            In a mapping an input may have an (n_drive,) array of constant rates or an (n_drive, n, 2)
            array of time courses; what else it has is shared by all drives.
        threads : int
            To spread the drives over; results do not depend on it.
        adaptive, options
            As for `solve`.

        Returns
        -------
        xarray.Dataset
            As from `solve`, with a first dimension `drive`; status (drive,) is a variable, and warnings
            begin with the number of their drive.
        """
        if adaptive:
            return batch.solve_batch([self], drives, threads=threads, lead=("drive",), **options)
        runs = batch.on_threads(lambda drive: self._run(drive, **options), each(drives, self.inputs), threads)
        return solution.dataset(self, runs, {"drive": len(runs)})

    def _run(
        self, drive: Drive, duration: float = 1.0, order: int = 2, dt: float = DT, method: str = "adams",
        initial: Mapping[str, float] | ArrayLike | None = None, every: int | None = None,
        dynamics: bool | None = None,
    ) -> solution.Run:  # fmt: skip
        """Compiled solution for one drive."""
        n_step = batch.n_steps(duration, dt)
        _check_order(order)
        filtered = self.filters_used(dynamics)
        if method not in METHODS:
            raise MeanFieldError(f"no method '{method}'", where="solve", remedy=suggest(method, METHODS))
        if filtered is not None and method not in FILTERED:
            raise MeanFieldError(f"method '{method}' does not step a model with dynamics", where="solve",
                                 remedy=f"Use {' or '.join(FILTERED)}, or dynamics=False.")
        every = max(1, -(-n_step // _SAMPLES)) if every is None else int(every)
        _require(every >= 1, "every must be 1 or more")
        table = tabulate(drive, self.inputs, np.arange(n_step + 1, dtype=float) * (dt / 1000.0))
        trace = self._trace(table, initial, float(dt), order, METHODS[method], every, filtered)
        described = {name: solution.describe_drive(value) for name, value in drive.items()}
        untrusted = beyond(self.metadata.get("validity"), self.inputs, table)
        return solution.Run(trace, order, float(dt), every, method, described, untrusted)

    def filters_used(self, dynamics: bool | None) -> Dynamics | None:
        """Its dynamics, or none: None asks for what the model has, False for none."""
        if dynamics and self.dynamics is None:
            raise MeanFieldError("the model has no dynamics", where="solve",
                                 remedy="Leave out dynamics=True, or give the model some (see automfm_hpc.dynamics).")
        return None if dynamics is False else self.dynamics

    def _trace(self, table: FloatArray, initial: Mapping[str, float] | ArrayLike | None, dt: float, order: int,
               method: int, every: int, filtered: Dynamics | None) -> Trace:  # fmt: skip
        system = self.system
        stationary = Stationary(system, filtered) if filtered is not None and order == 2 else None
        second = stationary.driven if stationary is not None else partial(fixed_points.second_order, system)
        start = starting_rates(system, self.populations, table[0], initial, second if order == 2 else None)
        if filtered is None:
            c = starting_covariance(system, np.concatenate([start, table[0]]), order)
            bare: Trace = integrate(system, table, start, c, dt, order, method, every)
            return bare
        cells = None if filtered.cell is None else cells_of(filtered.cell)
        return integrate_filtered(system, filters_of(filtered, system, dt), cells, table, start, dt, method, every,
                                  stationary, MOVED, PAUSE)

    @property
    def has_cell_response(self) -> bool:
        """Whether it is known how the populations' rates follow their transfer functions in time."""
        return self.dynamics is not None and self.dynamics.cell is not None

    def realizations(
        self, drive: Drive, duration: float = 1.0, trials: int = 20, seed: int = 1, dt: float = 0.2,
        bin_ms: float = 1.0, noise: bool = True,
    ) -> xarray.Dataset:  # fmt: skip
        """Activities of finite populations: the mean field with the chance in its spikes, several times.

        Where fluctuations are as large as rates this, not the expansion of order 2, is the second-order answer.
        Equations: `automfm_hpc.mesoscopic`, `automfm_hpc.cell_response`.

        Parameters
        ----------
        drive, duration
            As for `solve`.
        dt : float
            Step (ms).
        trials, seed : int
            Number of realizations; the root of their seeds.
        bin_ms : float
            Width of the bins of the output (ms), a multiple of dt.
        noise : bool
            False: infinite populations.

        Returns
        -------
        xarray.Dataset
            activity (trial, time, population): spikes of all cells over their number and the bin, Hz; rate (time,
            population): expected rates, averaged over trials, Hz; attributes status, warnings, events as from `solve`.

        Raises
        ------
        MeanFieldError
            If the model has no dynamics.
        """
        from automfm_hpc.mesoscopic import realizations

        return realizations(self, drive, duration, trials, seed, dt, bin_ms, noise)

    def fixed_points(self, drive: Mapping[str, float], order: int = 1, n_start: int = 24) -> fixed_points.FixedPoints:
        """Fixed points at constant drive, with their stability.

        Newton's method (analytic J, steps halved until the mismatch falls) from zero, three points on
        the diagonal and random points of the transfer functions' domains, always the same; results
        closer than 1e-6 are one. At order 2 the unknowns are the rates, c being the solution of its own
        (Lyapunov) equation at these rates, and the points of order 1 are further starts; a point where c
        has no stationary value is reported as a failure. Eigenvalues: of (J - I)/T at order 1; at order 2
        of the whole right-hand side for rates and covariances, by central differences. Dynamics move no point of
        order 1, and do not enter the covariances and eigenvalues here; whether a point is stable is told with them,
        by the Nyquist criterion.

        Parameters
        ----------
        drive : Mapping
            Rate of every input (Hz).
        order : {1, 2}
        n_start : int

        Returns
        -------
        FixedPoints
            Lowest total rate first; `failed` lists the starts that did not converge, and why.
        """
        _check_order(order)
        rates = tabulate(drive, self.inputs, np.zeros(1))[0]
        starts = fixed_points.default_starts(self.system, n_start)
        found = fixed_points.search(self.system, self.populations, rates, order, starts, self.axis_labels)
        return found if self.dynamics is None else linear_response.judged(self.system, self.dynamics, found, rates)

    def continuation(
        self, input: str, start: float, stop: float, drive: Mapping[str, float] | None = None, **options: Any
    ) -> xarray.Dataset:
        """Branches of fixed points along the rate (Hz) of an input, with folds and Hopf points: see `continuation`."""
        return continuation.continue_input(self, input, start, stop, drive or {}, **options)

    # -- linear response ------------------------------------------------------------------------------------

    def frequency_response(
        self, drive: Mapping[str, float], frequencies: ArrayLike,
        rates: Mapping[str, float] | ArrayLike | None = None, dynamics: bool | None = None,
    ) -> xarray.Dataset:  # fmt: skip
        """How the populations' rates follow small sinusoids of each input: see `spectra.frequency_response`."""
        return spectra.frequency_response(self, drive, frequencies, rates, dynamics)

    def power_spectra(
        self, drive: Mapping[str, float], frequencies: ArrayLike, cv: spectra.PerPopulation = 1.0,
        rates: Mapping[str, float] | ArrayLike | None = None, dynamics: bool | None = None,
    ) -> xarray.Dataset:  # fmt: skip
        """Cross-spectra of the populations' activities, of finite size: see `spectra.power_spectra`."""
        return spectra.power_spectra(self, drive, frequencies, cv, rates, dynamics)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise MeanFieldError(what, where="mean field")


def _check_order(order: int) -> None:
    if order not in (1, 2):
        raise MeanFieldError(f"order {order!r}", where="mean field", remedy="Order is 1 or 2.")


def _starts(pieces: Any) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).astype(np.int64)


def _find_store(path: Path) -> Path:
    if not path.exists():
        raise MeanFieldError("no such file or folder", where=str(path),
                             remedy="Give a run's folder, a model.zarr or a record.")
    if path.suffix == ".json":
        return _store_of_record(path)
    return path / "model.zarr" if (path / "model.zarr").exists() else path


def _store_of_record(path: Path) -> Path:
    """Records lie in ``library/records``; their key `model` is a path relative to the library."""
    try:
        model = json.loads(path.read_text("utf-8"))["model"]
    except (ValueError, KeyError, TypeError):
        raise MeanFieldError("not a library record: no key 'model'", where=str(path)) from None
    return _find_store(path.parent.parent / model)
