r"""Rates of a LIF network: theory against NEST.

    python benchmarks/lif_nest.py microcircuit --scale 0.1 --duration 5000 --json
    OMP_WAIT_POLICY=passive python benchmarks/lif_nest.py microcircuit --connect nest --indegrees poisson \
        --weight-sd 0.1 --scale 1 --duration 1000 --threads 2 --json

Sizes are scaled, in-degrees, weights and delays are not. --indegrees poisson draws in-degrees whose variance equals
their mean; the theory beside it is then the one for distributed in-degrees (external input is one Poisson process per
cell at the rate of all its synapses, so its in-degree does not vary). The network is connected

* by this program (`--connect automfm`): the theory's description becomes a general one (`lif_network.spiking_network`);
* by NEST's own rules (`--connect nest`): `fixed_indegree` or, for poisson, `fixed_total_number`, in synapses of 35
  bytes all told: the full microcircuit takes 10 GiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automfm_hpc import lif
from automfm_hpc.lif.heterogeneity import distributed_working_point
from automfm_hpc.lif_network import spiking_network
from automfm_hpc.nest_models import import_nest
from automfm_hpc.protocols import constant
from automfm_hpc.spikes import Spikes, activity, cell_rates, isi_cv, pair_correlation
from automfm_hpc.spiking import run_trial

DROPPED = 500.0  # ms before the measurement
BYTES = 35.0  # per synapse: 16, 8 for its source, and what blocks and sorting take


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    network: str
    scale: float
    duration: float
    indegrees: str
    connect: str
    weight_sd: float
    seed: int
    threads: int
    json: bool


@dataclass(frozen=True)
class Recorded:
    """Spikes of every population, seconds per stage, repeated pairs that this program could not avoid."""

    spikes: dict[str, Spikes]
    seconds: dict[str, float]
    repeated_pairs: int | None


# --- NEST's own rules -------------------------------------------------------------------------------


def refuse_too_large(synapses: float) -> None:
    """Stop before NEST takes more memory than there is."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    free = next(int(words[1]) for words in lines if words[0] == "MemAvailable:") / 2**20
    need = synapses * BYTES / 2**30 + 1.0
    if need > 0.9 * free:
        raise SystemExit(f"lif_nest: {synapses:.3g} synapses need about {need:.1f} GiB, {free:.1f} GiB are free; "
                         "choose a smaller --scale")  # fmt: skip


def create_cells(nest: Any, net: lif.LIFNetwork, point: lif.WorkingPoint, sizes: np.ndarray) -> list[Any]:
    """Cells whose potentials start as the theory says they are distributed (the part below threshold)."""
    cells = []
    for i, size in enumerate(sizes):
        C_m = 250.0 if net.C_m is None else float(net.C_m[i])
        tau = net.tau_syn[i]
        potential = nest.math.redraw(
            nest.random.normal(float(point.mean[i]), float(point.sd[i] / np.sqrt(2))), -1e4, float(net.V_th[i])
        )
        cells.append(nest.Create("iaf_psc_exp", int(size), params={
            "C_m": C_m, "tau_m": net.tau_m[i], "E_L": 0.0, "V_th": net.V_th[i], "V_reset": net.V_reset[i],
            "t_ref": net.t_ref[i], "tau_syn_ex": tau, "tau_syn_in": tau, "I_e": net.mean_ext[i] * C_m / net.tau_m[i],
            "V_m": potential,
        }))  # fmt: skip
    return cells


def connect_cells(nest: Any, net: lif.LIFNetwork, cells: list[Any], o: Options) -> None:
    """Recurrent projections, pairs drawn with replacement, and one Poisson process per external source and cell."""
    C_m = np.full(net.size, 250.0) if net.C_m is None else net.C_m
    dt = nest.resolution
    for i, target in enumerate(cells):
        model = f"to_{i}"  # NEST allows 1.3e8 synapses per thread and synapse model
        nest.CopyModel("static_synapse_hpc", model)
        for j, source in enumerate(cells):
            if net.K[i, j] * net.J[i, j] == 0.0:
                continue
            if o.indegrees == "poisson":
                rule = {"rule": "fixed_total_number", "N": round(net.K[i, j] * len(target))}
            else:
                rule = {"rule": "fixed_indegree", "indegree": round(net.K[i, j])}
            weight = net.J[i, j] * C_m[i] / net.tau_syn[j]
            delay = max(net.delay[i, j], dt)
            spec = {
                "synapse_model": model,
                "weight": nest.random.normal(weight, o.weight_sd * abs(weight)) if o.weight_sd else weight,
                "delay": nest.math.redraw(nest.random.normal(delay, net.delay_sd[i, j]), dt, 100.0)
                if net.delay_dist != "none" else delay,
            }  # fmt: skip
            nest.Connect(source, target, rule, spec)
        for k in np.flatnonzero(net.K_ext[i] * net.J_ext[i]):
            drive = nest.Create("poisson_generator", params={"rate": net.K_ext[i, k] * net.nu_ext[k]})
            weight = net.J_ext[i, k] * C_m[i] / net.tau_syn_ext[k]
            nest.Connect(drive, target, syn_spec={"weight": weight, "delay": dt})


def run_in_nest(net: lif.LIFNetwork, point: lif.WorkingPoint, o: Options) -> Recorded:
    """Build and run the network with NEST's own rules."""
    nest = import_nest()
    if net.N is None or np.unique([*net.tau_syn, *net.tau_syn_ext]).size > 1 or net.tau_syn[0] == 0.0:
        raise SystemExit("lif_nest: --connect nest is for networks with sizes and one synaptic time constant")
    sizes = np.maximum(np.rint(o.scale * net.N), 1).astype(int)
    refuse_too_large(float(net.K.sum(axis=1) @ sizes))
    nest.ResetKernel()
    nest.verbosity = nest.VerbosityLevel.ERROR
    # Compressed spikes sort the synapses; without them NEST 3.10 keeps a target entry for each, 35 bytes.
    nest.set(resolution=0.1, local_num_threads=o.threads, rng_seed=o.seed)
    seconds, start = {}, time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal start
        seconds[stage], start = time.perf_counter() - start, time.perf_counter()

    cells = create_cells(nest, net, point, sizes)
    connect_cells(nest, net, cells, o)
    recorders = [nest.Create("spike_recorder", params={"start": DROPPED}) for _ in cells]
    for population, recorder in zip(cells, recorders, strict=True):
        nest.Connect(population, recorder)
    lap("connect")
    nest.Prepare()
    lap("prepare")
    nest.Run(DROPPED)
    lap("transient")
    nest.Run(o.duration)
    lap("measured")
    spikes = {}
    for name, population, recorder in zip(net.populations, cells, recorders, strict=True):
        events = recorder.events
        who = np.asarray(events["senders"], dtype=np.int64) - population[0].global_id
        spikes[name] = Spikes(who, np.asarray(events["times"]) - DROPPED, len(population), o.duration)
    return Recorded(spikes, seconds, None)


# --- comparison -------------------------------------------------------------------------------------


def run_here(net: lif.LIFNetwork, o: Options) -> Recorded:
    """Build and run the network as this program builds any network."""
    network = spiking_network(net, indegrees=o.indegrees)
    drive = {i.name: float(i.rate or 0.0) for i in network.inputs}
    trial = run_trial(network, constant(drive, o.duration, DROPPED), o.seed, scale=o.scale, processes=o.threads)
    seconds = {k: v for k, v in vars(trial.timing).items() if k != "memory"}
    return Recorded(dict(trial.spikes), seconds, len(trial.notes))


def peak(spikes: Spikes) -> list[float]:
    """Frequency (Hz, above 20) where the activity in bins of 1 ms has most power, and how much more than Poisson's."""
    segments = activity(spikes)[: len(activity(spikes)) // 250 * 250].reshape(-1, 250)
    power = (np.abs(np.fft.rfft(segments - segments.mean())) ** 2).mean(axis=0)[5:]
    flat = 250 * segments.mean() * 1e3 / spikes.size
    return [float(np.fft.rfftfreq(250, 1e-3)[5 + power.argmax()]), round(float(power.max() / flat), 1)]


def with_spread_of_weights(net: lif.LIFNetwork, relative: float) -> lif.LIFNetwork:
    """The network of equal weights whose inputs have the mean and variance of the one with normal weights."""
    more = 1.0 + relative**2
    return net.replace(K=net.K / more, J=net.J * more)


def compare(o: Options) -> dict[str, Any]:
    """Rates (Hz), their standard errors over cells, and the CVs of both sides."""
    net = lif.LIFNetwork.load(o.network)
    theory = with_spread_of_weights(net, o.weight_sd)
    points = {m: lif.working_point(theory, method=m) for m in ("shift", "second_order")}
    spread = {m: distributed_working_point(theory, indegrees=o.indegrees, external_indegrees="fixed", method=m)
              for m in points}  # fmt: skip
    recorded = run_in_nest(net, points["shift"], o) if o.connect == "nest" else run_here(net, o)
    trains = [recorded.spikes[p] for p in net.populations]
    rates = [cell_rates(s) for s in trains]
    return {
        "network": o.network, "scale": o.scale, "cells": sum(s.size for s in trains), "duration_ms": o.duration,
        "indegrees": o.indegrees, "connect": o.connect, "weight_sd": o.weight_sd, "seed": o.seed,
        "threads": o.threads, "populations": list(net.populations),
        **{f"theory_{m}_Hz": p.rates.round(4).tolist() for m, p in points.items()},
        **{f"theory_distributed_{m}_Hz": p.mean.round(4).tolist() for m, p in spread.items()},
        "nest_Hz": [round(float(r.mean()), 4) for r in rates],
        "nest_error_Hz": [round(float(r.std() / np.sqrt(r.size)), 4) for r in rates],
        "theory_sd_over_cells_Hz": spread["second_order"].sd.round(4).tolist(),
        "nest_sd_over_cells_Hz": [round(own_spread(s), 4) for s in trains],
        "theory_cv": lif.cvs(theory, points["shift"]).round(3).tolist(),
        "nest_cv": [mean_cv(s) for s in trains],
        "nest_peak_Hz_and_ratio_to_poisson": [peak(s) for s in trains],
        "nest_correlation": [round(pair_correlation(s), 5) for s in trains],
        "repeated_pairs": recorded.repeated_pairs,
        "memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "seconds": {k: round(v, 1) for k, v in recorded.seconds.items()},
    }  # fmt: skip


def mean_cv(spikes: Spikes) -> float | None:
    """Over the cells with enough spikes, None where there are none."""
    cvs = isi_cv(spikes.cells, spikes.times, spikes.size)
    return round(float(np.nanmean(cvs)), 3) if np.isfinite(cvs).any() else None


def own_spread(spikes: Spikes) -> float:
    """Standard deviation over cells of their rates (Hz), without what chance adds to counts of a finite time."""
    half = 0.5 * spikes.duration
    first, second = (cell_rates(spikes.between(a, a + half)) for a in (0.0, half))
    return float(np.sqrt(max(np.cov(first, second)[0, 1], 0.0)))


def options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", default="microcircuit")
    parser.add_argument("--scale", type=float, default=0.1, help="factor of the population sizes (default 0.1)")
    parser.add_argument("--duration", type=float, default=5000.0, help="ms measured (default 5000)")
    parser.add_argument("--indegrees", choices=("fixed", "poisson"), default="fixed")
    parser.add_argument("--connect", choices=("automfm", "nest"), default="automfm", help="whose rules connect")
    parser.add_argument("--weight-sd", type=float, default=0.0, help="of recurrent weights, relative (--connect nest)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    o = Options(**vars(parser.parse_args()))
    if o.weight_sd and o.connect != "nest":
        parser.error("--weight-sd needs --connect nest")
    return o


def main() -> None:
    """Run one comparison and print a table or one JSON document."""
    o = options()
    result = compare(o)
    if o.json:
        print(json.dumps(result))
        return
    columns = [c for c in result if c.endswith("_Hz")]
    print(f"{'':8}" + "".join(f"{c.removesuffix('_Hz'):>34}" for c in columns))
    for i, name in enumerate(result["populations"]):
        print(f"{name:8}" + "".join(f"{result[c][i]:34.3f}" for c in columns))
    print(f"{result['cells']} cells, {sum(result['seconds'].values()):.0f} s, {result['memory_MiB']} MiB")


if __name__ == "__main__":
    main()
