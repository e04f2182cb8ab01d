"""A network of leaky integrate-and-fire populations as frozen data, and the YAML files that describe one.

Files written for NNMT load unchanged: `{val, unit}` entries, synaptic weights as currents (W, W_ext) or by
one weight and a ratio (w, g), absolute or relative potentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike

from automfm_hpc.errors import LIFError, suggest
from automfm_hpc.lif import checks, units
from automfm_hpc.lif.checks import Array

DELAY_KINDS = ("none", "gaussian", "truncated_gaussian", "lognormal")


@dataclass(frozen=True, eq=False)
class LIFNetwork:
    """Populations of identical leaky integrate-and-fire cells and their connections, indexed [target, source].

    Attributes
    ----------
    populations : tuple of str
    K : (n, n) array
        In-degrees.
    J : (n, n) array
        Synaptic weights, mV: the jump of the membrane potential for delta synapses, tau_syn times current
        amplitude over C_m for exponential ones.
    V_th, V_reset : (n,) array
        mV relative to the leak potential.
    tau_m, t_ref, tau_syn : (n,) array
        ms. tau_syn belongs to the source of a synapse; zero for delta synapses.
    K_ext, J_ext : (n, m) array
        In-degrees and weights (mV) from m external Poisson populations.
    nu_ext : (m,) array
        Their rates, Hz.
    tau_syn_ext : (m,) array
        Their synaptic time constants, ms.
    mean_ext : (n,) array
        Mean input by constant currents, mV.
    N : (n,) array or None
        Cells per population, needed for power spectra.
    C_m : (n,) array or None
        Membrane capacitance, pF.
    delay, delay_sd : (n, n) array
        Mean and standard deviation of the transmission delays, ms.
    delay_dist : str
        "none" (sharp), "gaussian", "truncated_gaussian" (at zero) or "lognormal".
    width : (n,) array or None
        Half width of a population's outgoing connections on a ring, mm.
    label : str
    """

    populations: tuple[str, ...]
    K: Array
    J: Array
    V_th: Array
    V_reset: Array
    tau_m: Array
    t_ref: Array
    tau_syn: Array
    K_ext: Array
    J_ext: Array
    nu_ext: Array
    tau_syn_ext: Array
    mean_ext: Array
    N: Array | None = None
    C_m: Array | None = None
    delay: Array = field(default_factory=lambda: np.zeros((0, 0)))
    delay_sd: Array = field(default_factory=lambda: np.zeros((0, 0)))
    delay_dist: str = "none"
    width: Array | None = None
    label: str = ""

    def __post_init__(self) -> None:
        where = f"LIFNetwork {self.label}".strip()
        n = len(self.populations)
        if n == 0 or len(set(self.populations)) != n:
            raise LIFError("populations must be named, each once", where=where)
        fix: dict[str, Any] = {
            name: checks.square(getattr(self, name), name, where=where, size=n) for name in ("K", "J")
        }
        if (fix["K"] < 0).any():
            raise LIFError("K (in-degrees) must be zero or positive", where=where)
        fix["V_th"], fix["V_reset"] = (_row(a, n) for a in checks.potentials(self.V_th, self.V_reset, where=where))
        for name in ("tau_m", "t_ref", "tau_syn"):
            value = checks.at_least(getattr(self, name), name, where=where, strict=name == "tau_m")
            fix[name] = _row(value, n)
        fix["mean_ext"] = _row(checks.real(self.mean_ext, "mean_ext", where=where), n)
        fix.update(_external(self, n, where))
        for name in ("delay", "delay_sd"):
            value = getattr(self, name)
            value = np.zeros((n, n)) if np.size(value) == 0 else np.broadcast_to(value, (n, n))
            fix[name] = np.array(checks.at_least(value, name, where=where))
        for name in ("N", "C_m", "width"):
            if getattr(self, name) is not None:
                fix[name] = _row(checks.at_least(getattr(self, name), name, where=where, strict=True), n)
        checks.one_of(self.delay_dist, DELAY_KINDS, "delay distribution", where=where)
        for name, value in fix.items():
            own = np.array(value)
            own.setflags(write=False)
            object.__setattr__(self, name, own)

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any], **changes: Any) -> LIFNetwork:
        """Read a built-in network (see `built_in`), a YAML file, or a dictionary of the same layout.

        Parameters
        ----------
        source : str, Path or mapping
            Name, path, or the dictionary a YAML file would give.
        **changes
            Fields of the network to replace, in inner units (`nu_ext=...`).

        Raises
        ------
        LIFError
            File or key missing, unknown unit, inconsistent shapes.
        """
        if isinstance(source, Mapping):
            return from_mapping(source, where="dictionary", **changes)
        path = Path(source)
        if path.suffix not in (".yaml", ".yml"):
            path = _built_in_path(str(source))
        return from_mapping(read_yaml(path), where=str(source), **changes)

    def replace(self, **changes: Any) -> LIFNetwork:
        """A copy with some fields replaced."""
        unknown = set(changes) - set(self.__dataclass_fields__)
        if unknown:
            word = sorted(unknown)[0]
            raise LIFError(
                f"a network has no field {word!r}", where="replace", remedy=suggest(word, self.__dataclass_fields__)
            )
        return replace(self, **changes)

    @property
    def size(self) -> int:
        """Number of populations."""
        return len(self.populations)

    def index(self, population: str) -> int:
        """Position of a population, or LIFError."""
        if population not in self.populations:
            raise LIFError(
                f"no population {population!r}",
                where=self.label or "network",
                remedy=suggest(population, self.populations),
            )
        return self.populations.index(population)

    def neuron(self) -> dict[str, Array]:
        """Cell parameters as keyword arguments of `firing_rate` and its relatives (tau_syn apart)."""
        return {"V_th": self.V_th, "V_reset": self.V_reset, "tau_m": self.tau_m, "t_ref": self.t_ref}


def _row(value: ArrayLike, n: int) -> Array:
    """One entry per population from a number or a list."""
    array = np.asarray(value, dtype=float)
    if array.ndim > 1 or (array.ndim == 1 and array.size not in (1, n)):
        raise LIFError(
            f"expected a number or {n} numbers, one per population, got shape {array.shape}", where="LIFNetwork"
        )
    return np.array(np.broadcast_to(array, (n,)))


def _external(net: LIFNetwork, n: int, where: str) -> dict[str, Array]:
    """Check the external input; a one-dimensional K_ext means one own source per population."""
    K, J = checks.at_least(net.K_ext, "K_ext", where=where), checks.real(net.J_ext, "J_ext", where=where)
    rate = np.atleast_1d(checks.at_least(net.nu_ext, "nu_ext", where=where))
    if J.ndim < 2 and K.ndim < 2:
        K, J = np.diag(_row(K, n)), np.diag(_row(J, n))
        rate = _row(rate, n)
    try:
        K, J = (np.array(a) for a in np.broadcast_arrays(K, J))
        rate = np.array(np.broadcast_to(rate, K.shape[1:]))
        tau = np.array(np.broadcast_to(checks.at_least(net.tau_syn_ext, "tau_syn_ext", where=where), rate.shape))
    except ValueError:
        raise LIFError(
            f"K_ext {np.shape(net.K_ext)}, J_ext {np.shape(net.J_ext)} and nu_ext {np.shape(net.nu_ext)} do not fit",
            where=where,
            remedy="K_ext and J_ext are (populations, sources), nu_ext is (sources,).",
        ) from None
    if K.ndim != 2 or K.shape[0] != n:
        raise LIFError(f"K_ext has shape {K.shape}, expected {n} rows, one per population", where=where)
    return {"K_ext": K, "J_ext": J, "nu_ext": rate, "tau_syn_ext": tau}


def built_in() -> tuple[str, ...]:
    """Names of the networks that come with the package."""
    folder = resources.files("automfm_hpc.lif") / "networks"
    return tuple(sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml")))


def _built_in_path(name: str) -> Path:
    if name not in built_in():
        raise LIFError(
            f"no built-in network {name!r}", where="LIFNetwork.load",
            remedy=suggest(name, built_in()) + " A file name must end in .yaml.",
        )  # fmt: skip
    return Path(str(resources.files("automfm_hpc.lif") / "networks" / f"{name}.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, or LIFError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LIFError("file not found", where=str(path)) from None
    except yaml.YAMLError as problem:
        raise LIFError(f"not a YAML file ({problem})", where=str(path)) from None
    if not isinstance(content, dict):
        raise LIFError("the file holds no mapping of parameters", where=str(path))
    return content


def from_mapping(content: Mapping[str, Any], *, where: str, **changes: Any) -> LIFNetwork:
    """Build a network from the entries of a parameter file (see `LIFNetwork.load`)."""
    from automfm_hpc.lif.layout import fields

    values = {key: units.plain(entry, where=f"{where}: {key}") for key, entry in content.items()}
    try:
        made = fields(values, where=where)
    except LIFError:
        raise
    except (TypeError, ValueError) as problem:
        raise LIFError(
            f"the parameters do not fit together ({problem})", where=where,
            remedy="Check the lengths of the lists against the number of populations.",
        ) from None  # fmt: skip
    unknown = set(changes) - set(LIFNetwork.__dataclass_fields__)
    if unknown:
        word = sorted(unknown)[0]
        raise LIFError(
            f"a network has no field {word!r}", where=where, remedy=suggest(word, LIFNetwork.__dataclass_fields__)
        )
    return LIFNetwork(**{**made, **changes})
