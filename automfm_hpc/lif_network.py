"""From the theory's description of a LIF network to the general one, which NEST can build, and back.

`spiking_network` turns a `LIFNetwork` into a `Network` of iaf_psc_exp or iaf_psc_delta cells; `theory_network` turns
such a description into what the theory needs: in-degrees, weights in mV, potentials relative to the leak.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from automfm_hpc.errors import LIFError
from automfm_hpc.network import Distribution, Input, Network, Population, Projection
from automfm_hpc.plan import Plan, make_plan
from automfm_hpc.variants import check_receptors

if TYPE_CHECKING:
    from automfm_hpc.lif.network import LIFNetwork

FloatArray = NDArray[np.float64]
INDEGREES = ("fixed", "poisson")
CAPACITANCE = 250.0  # pF where none is given: weights are scaled with it, so it has no effect
DEFAULT_DELAY = 1.0  # ms where the theory has none


# --- to the general description -------------------------------------------------------------------


def spiking_network(net: LIFNetwork, *, indegrees: str = "fixed") -> Network:
    """The network as a description that NEST can build.

    Parameters
    ----------
    net : LIFNetwork
        With sizes N.
    indegrees : {"fixed", "poisson"}
        Every cell has K inputs from a population, or a random number of mean and variance K.

    Raises
    ------
    LIFError
        No sizes, delta and exponential synapses mixed, lognormal delays.
    NetworkError
        A population without input, or with two time constants for synapses of one sign.
    """
    where = f"spiking_network {net.label}".strip()
    if net.N is None:
        raise LIFError("a spiking network needs the population sizes N", where=where)
    if indegrees not in INDEGREES:
        raise LIFError(f"unknown indegrees {indegrees!r}", where=where, remedy="Use 'fixed' or 'poisson'.")
    if net.delay_dist == "lognormal":
        raise LIFError("delays are drawn from a truncated normal law, not a lognormal one", where=where)
    every_tau = np.concatenate([net.tau_syn, net.tau_syn_ext])
    delta = not every_tau.any()
    if not delta and not every_tau.all():
        raise LIFError("delta and exponential synapses cannot be mixed in one cell", where=where)
    populations = tuple(_population(net, i, delta) for i in range(net.size))
    inputs = tuple(Input(f"ext{k + 1}", None, float(r), (0.0, max(2.0 * float(r), 1.0)))
                   for k, r in enumerate(net.nu_ext))
    projections = tuple(_projections(net, [i.name for i in inputs], delta, indegrees))
    made = Network(net.label or "lif", populations, inputs, projections,
                   description="leaky integrate-and-fire cells, written from the parameters of the theory")
    check_receptors(made, where)
    return made


def _capacitance(net: LIFNetwork, i: int) -> float:
    return CAPACITANCE if net.C_m is None else float(net.C_m[i])


def _population(net: LIFNetwork, i: int, delta: bool) -> Population:
    C_m, tau_m = _capacitance(net, i), float(net.tau_m[i])
    parameters = {"C_m": C_m, "tau_m": tau_m, "E_L": 0.0, "V_th": float(net.V_th[i]),
                  "V_reset": float(net.V_reset[i]), "t_ref": float(net.t_ref[i]),
                  "I_e": float(net.mean_ext[i]) * C_m / tau_m}
    size = round(float(net.N[i]))  # type: ignore[index]
    return Population(net.populations[i], size, "iaf_psc_delta" if delta else "iaf_psc_exp",
                      MappingProxyType(parameters))


def _projections(net: LIFNetwork, inputs: Sequence[str], delta: bool, indegrees: str) -> list[Projection]:
    made = []
    spread = 0.0 if net.delay_dist == "none" else 1.0
    for i, target in enumerate(net.populations):
        C_m = _capacitance(net, i)
        rows = [(name, net.K[i, j], net.J[i, j], net.tau_syn[j], net.delay[i, j], spread * net.delay_sd[i, j])
                for j, name in enumerate(net.populations)]
        rows += [(name, net.K_ext[i, k], net.J_ext[i, k], net.tau_syn_ext[k], 0.0, 0.0)
                 for k, name in enumerate(inputs)]
        for source, K, J, tau, delay, sd in rows:
            if K == 0.0 or J == 0.0:
                continue
            sd_K = float(np.sqrt(K)) if indegrees == "poisson" and source not in inputs else 0.0
            made.append(Projection(
                f"{source}->{target}", source, target, Distribution(float(K), sd_K),
                float(J) if delta else float(J) * C_m / float(tau), tau_syn=None if delta else float(tau),
                delay=float(delay) or DEFAULT_DELAY, delay_sd=float(sd),
            ))  # fmt: skip
    return made


def lif_plan(network: Network, rates: Sequence[float]) -> Plan:
    """A plan of the network around its theoretical rates (Hz), so that it can be validated and published as a run."""
    points = {name: (float(max(r, 1.0)),) for name, r in zip(network.population_names, rates, strict=True)}
    points |= {i.name: (float(i.rate or i.rate_range[1]),) for i in network.inputs}
    return make_plan(network, points=4, working_points=points)


# --- and back ---------------------------------------------------------------------------------------


def theory_network(network: Network) -> LIFNetwork:
    """The theory's description of a network of iaf_psc_exp or iaf_psc_delta cells.

    Parallel pathways, and synapses per pair that vary, are taken together so that mean and variance of the input
    stay: K and J are then those of one pathway with the same two moments. The spread of in-degrees is left out
    (see `automfm_hpc.lif.heterogeneity`), and sources shared by several cells count as private ones.

    Raises
    ------
    LIFError
        Other cell models, or synapses of one source with several time constants.
    """
    from automfm_hpc.lif.network import LIFNetwork

    for p in network.populations:
        if p.model not in ("iaf_psc_exp", "iaf_psc_delta"):
            raise LIFError(f"{p.name} is made of {p.model} cells", where=network.name,
                           remedy="The theory is of iaf_psc_exp and iaf_psc_delta cells; for others: `automfm run`.")
    names = network.population_names
    K, J, delay, sd = (_matrix(network, names, part) for part in ("K", "J", "delay", "delay_sd"))
    outer_K, outer_J = (_matrix(network, network.input_names, part) for part in ("K", "J"))
    parameters = [p.parameters for p in network.populations]

    def row(key: str) -> FloatArray:
        return np.array([p[key] for p in parameters])

    current = np.array([p.get("I_e", 0.0) for p in parameters])
    return LIFNetwork(
        populations=names, K=K, J=J, V_th=row("V_th") - row("E_L"), V_reset=row("V_reset") - row("E_L"),
        tau_m=row("tau_m"), t_ref=row("t_ref"), tau_syn=_tau_syn(network, names),
        K_ext=outer_K if network.inputs else np.zeros((len(names), 1)),
        J_ext=outer_J if network.inputs else np.zeros((len(names), 1)),
        nu_ext=np.array([i.rate for i in network.inputs] or [0.0]),
        tau_syn_ext=_tau_syn(network, network.input_names) if network.inputs else np.zeros(1),
        mean_ext=current * row("tau_m") / row("C_m"), N=np.array([float(p.size) for p in network.populations]),
        C_m=row("C_m"), delay=delay, delay_sd=sd, delay_dist="truncated_gaussian" if sd.any() else "none",
        label=network.name,
    )  # fmt: skip


def _matrix(network: Network, sources: Sequence[str], part: str) -> FloatArray:
    """K, J (mV), delay or delay_sd (ms), [target, source]; 0 where nothing is connected."""
    out = np.zeros((len(network.populations), len(sources)))
    for i, target in enumerate(network.populations):
        for j, source in enumerate(sources):
            pathways = [p for p in network.onto(target.name) if p.source == source and p.indegree.mean > 0]
            if pathways:
                out[i, j] = _joined(pathways, target, part)
    return out


def _joined(pathways: Sequence[Projection], target: Population, part: str) -> float:
    """One number for parallel pathways; K and J keep sum K J and sum K J^2."""
    K = np.array([p.indegree.mean for p in pathways])
    if part in ("delay", "delay_sd"):
        return float(np.average([getattr(p, part) for p in pathways], weights=K))
    J = np.array([p.weight * (1.0 if p.tau_syn is None else p.tau_syn / target.parameters["C_m"]) for p in pathways])
    number, spread = (np.array([getattr(p.synapses, k) for p in pathways]) for k in ("mean", "sd"))
    first, second = (K * J * number).sum(), (K * J**2 * (number**2 + spread**2)).sum()
    if first == 0.0 and second > 0.0:
        raise LIFError("parallel pathways cancel in the mean", where=pathways[0].name,
                       remedy="Give excitation and inhibition sources of their own.")
    if second == 0.0:
        return float(K.sum()) if part == "K" else 0.0
    return float(first**2 / second) if part == "K" else float(second / first)


def _tau_syn(network: Network, sources: Sequence[str]) -> FloatArray:
    """Synaptic time constant of every source (ms), 0 for delta synapses."""
    out = np.zeros(len(sources))
    everywhere = {p.tau_syn or 0.0 for p in network.projections}
    for j, source in enumerate(sources):
        found = {p.tau_syn or 0.0 for p in network.projections if p.source == source}
        if len(found) > 1:
            raise LIFError(f"synapses of {source} have the time constants {sorted(found)} ms", where=network.name,
                           remedy="The theory needs one per source.")
        out[j] = found.pop() if found else max(everywhere)
    return out
