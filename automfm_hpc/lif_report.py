"""What the theory says of a LIF network, as plain data and as text: rates, input, stability, peaks of the spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automfm_hpc import lif
from automfm_hpc.description import builtin_names
from automfm_hpc.errors import LIFError, suggest
from automfm_hpc.lif.boundaries import ALPHA
from automfm_hpc.lif.network import read_yaml
from automfm_hpc.lif_network import theory_network
from automfm_hpc.network import Network

if TYPE_CHECKING:
    from automfm_hpc.lif import LIFNetwork, WorkingPoint

FREQUENCIES = (1.0, 400.0, 400)  # Hz: lowest, highest, number
FAR = 1.5  # a shift of the limits beyond this is no small correction


def load(name_or_file: str | Path, variant: str | None = None) -> tuple[LIFNetwork, Network | None]:
    """A network for the theory, and its general description if it came as one.

    Parameters
    ----------
    name_or_file : str or Path
        A built-in network of either kind, or a YAML file of either kind (the general one has projections).
    variant : str, optional
        Of a general description.

    Raises
    ------
    LIFError, NetworkError
        Neither a file nor a built-in network, or a network the theory does not know.
    """
    name = str(name_or_file)
    if name in builtin_names() or (name.endswith((".yaml", ".yml")) and "projections" in read_yaml(Path(name))):
        network = Network.load(name).with_variant(variant)
        return theory_network(network), network
    if variant is not None:
        raise LIFError("has no variants", where=name)
    if name not in lif.built_in() and not Path(name).is_file():
        known = (*lif.built_in(), *builtin_names())
        raise LIFError("is neither a file nor a built-in network", where=name, remedy=suggest(name, known))
    return lif.LIFNetwork.load(name), None


def report(
    net: LIFNetwork, *, method: str = "shift", frequencies: Sequence[float] = FREQUENCIES, spectra: bool = False
) -> dict[str, Any]:
    """Rates, inputs, irregularity, fixed points, growing modes and spectral peaks, as plain data.

    Parameters
    ----------
    net : LIFNetwork
    method : {"shift", "expansion", "second_order"}
        Treatment of exponential synapses for the rates; the linear response is of first order for all three.
    frequencies : (low, high, number)
        Hz, where the spectra are looked at.
    spectra : bool
        Whether the spectra themselves are part of the answer.
    """
    point = lif.working_point(net, method=method)
    every = lif.fixed_points(net, method=method)
    linear = point if method != "second_order" else lif.working_point(net)
    growing = lif.growing_modes(net, linear)
    answer: dict[str, Any] = {
        "network": net.label, "method": method, "populations": list(net.populations),
        "rates_Hz": _plain(point.rates), "cv": _plain(lif.cvs(net, point)), "mean_mV": _plain(point.mean),
        "sd_mV": _plain(point.sd), "stable": point.fixed_point.stable,
        "fixed_points": [{"rates_Hz": _plain(p.rates), "stable": p.stable} for p in every.points],
        "fixed_points_complete": every.complete,
        "growing_modes": [{"frequency_Hz": round(m.frequency, 3), "growth_per_s": round(m.growth, 3)} for m in growing],
    }  # fmt: skip
    if net.N is not None:
        answer |= _spectral(net, linear, frequencies, spectra)
    answer["warnings"] = warnings(net, point, answer)
    return answer


def _plain(values: Any) -> list[float]:
    return [round(float(v), 6) for v in values]


def _spectral(net: LIFNetwork, point: WorkingPoint, frequencies: Sequence[float], spectra: bool) -> dict[str, Any]:
    """Highest peak of each population's power spectrum, and the spectra if wanted."""
    low, high, number = frequencies
    f = np.linspace(low, high, int(number))
    S = lif.power_spectra(net, point, f, check_stability=False)
    peaks = {}
    for i, name in enumerate(net.populations):
        inner = np.flatnonzero((S[1:-1, i] > S[:-2, i]) & (S[1:-1, i] > S[2:, i])) + 1
        inner = inner[np.argsort(-S[inner, i])][:3]
        peaks[name] = [{"frequency_Hz": round(float(f[k]), 3), "power_Hz": float(f"{S[k, i]:.4g}")} for k in inner]
    found: dict[str, Any] = {"spectral_peaks": peaks}
    if spectra:
        found["spectra"] = {"frequency_Hz": _plain(f), "power_Hz": {
            name: [float(f"{v:.6g}") for v in S[:, i]] for i, name in enumerate(net.populations)}}
    return found


def warnings(net: LIFNetwork, point: WorkingPoint, answer: Mapping[str, Any]) -> list[str]:
    """Sentences about what limits the answer."""
    said = []
    if not answer["stable"]:
        said.append("the fixed point that the rates relax to is unstable")
    if len(answer["fixed_points"]) > 1:
        said.append(f"there are {len(answer['fixed_points'])} fixed points; the rates are those reached from silence")
    for mode in answer["growing_modes"]:
        said.append(
            f"linear response has a mode at {mode['frequency_Hz']:g} Hz that grows by {mode['growth_per_s']:g} per s: "
            "there the spectra describe no stationary state"
        )
    if point.method == "shift" and point.tau_syn.any():
        better = lif.firing_rate(
            point.mean, point.sd, **net.neuron(), tau_syn=np.minimum(point.tau_syn, 0.5 * net.tau_m),
            method="second_order",
        )  # fmt: skip
        error = float(np.max(np.abs(better - point.rates) / np.maximum(point.rates, 0.1)))
        if error > 0.02 or 0.5 * ALPHA * float(np.sqrt(point.tau_syn / net.tau_m).max()) > FAR:
            said.append(
                f"first order in sqrt(tau_syn/tau_m) is off by up to {100 * error:.0f} % at these inputs; "
                "method second_order is nearer"
            )
    return said


def table(answer: Mapping[str, Any]) -> str:
    """The report as text."""
    lines = [f"{answer['network']}: leaky integrate-and-fire theory, {answer['method']}",
             f"{'':10}{'rate Hz':>10}{'CV':>8}{'mean mV':>10}{'sd mV':>8}   peaks of the spectrum, Hz"]  # fmt: skip
    for i, name in enumerate(answer["populations"]):
        peaks = ", ".join(f"{p['frequency_Hz']:.0f}" for p in answer.get("spectral_peaks", {}).get(name, ()))
        numbers = (answer["rates_Hz"][i], answer["cv"][i], answer["mean_mV"][i], answer["sd_mV"][i])
        lines.append(f"{name:10}{numbers[0]:10.3f}{numbers[1]:8.3f}{numbers[2]:10.2f}{numbers[3]:8.2f}   {peaks}")
    word = "stable" if answer["stable"] else "unstable"
    others = len(answer["fixed_points"]) - 1
    lines.append(f"fixed point {word}, {others} other{'' if others == 1 else 's'}")
    return "\n".join(lines)
