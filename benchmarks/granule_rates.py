"""What the wiring has to do with the granule cells' rates: the full cerebellum with one thing changed at a time.

    python benchmarks/granule_rates.py --drive 4 --seeds 1 2                      # drawn, loops, loops in space, space
    python benchmarks/granule_rates.py --drive 4 --seeds 1 --changes shared       # any of CHANGES
    python benchmarks/granule_rates.py --drive 4 --isolated                       # granule cells alone, recorded trains
    python benchmarks/granule_rates.py --loops tests/data/bsb_small.hdf5          # how often loops close in a BSB file

A loop is a Golgi cell that inhibits a granule cell whose ascending axon excites it. Prints one line per trial; the
drive (Hz) that was realised is given, since a few hundred spikes of the mossy fibres make it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automfm_hpc import nest_models, spikes
from automfm_hpc.bsb.files import read_file
from automfm_hpc.connections import Connections
from automfm_hpc.description import load
from automfm_hpc.network import Network
from automfm_hpc.protocols import constant
from automfm_hpc.remap import remap
from automfm_hpc.spiking import create_cells, run_trial, start_kernel
from automfm_hpc.wiring import Wiring, draw_wiring

LAYER = np.array([300.0, 200.0, 130.0])  # um: the granular layer
LOOPS = 0.32  # of a Golgi cell's ascending axons come from cells it inhibits; 0.36 in the small BSB network
AXONS = 60.0  # um: lateral reach of the ascending axons onto a Golgi cell
ISOLATED = 4000  # granule cells
EXCITATION, INHIBITION, LOOP = "mf->GrC", "GoC->GrC", "GrC->GoC/aa"
Rng = np.random.Generator
Ints = NDArray[np.int64]


# --- wirings ----------------------------------------------------------------------------------------


def changed(wiring: Wiring, **new: Connections) -> Wiring:
    return replace(wiring, pairs=dict(wiring.pairs) | new)


def pairs(pre: Any, post: Any) -> Connections:
    return Connections.from_synapses(np.asarray(pre, np.int64), np.asarray(post, np.int64))


def drawn(network: Network, seed: int) -> Wiring:
    return draw_wiring(network, 1.0, seed)


def distinct(network: Network, seed: int, shared: float = 0.0) -> Wiring:
    """Four different mossy fibres for every granule cell, or twice the same one in a part of the cells."""
    wiring, rng = drawn(network, seed), np.random.default_rng([seed, 3])
    mf = four_of(wiring.sizes["mf"], wiring.sizes["GrC"], rng, shared)
    return changed(wiring, **{EXCITATION: pairs(mf.ravel(), np.repeat(np.arange(len(mf)), 4))})


def four_of(n_source: int, n: int, rng: Rng, shared: float) -> Ints:
    """Four different sources for each of n cells, shape (n, 4); in a part of them the second repeats the first."""
    four = np.argpartition(rng.random((n, n_source)), 4, axis=1)[:, :4]
    twice = rng.random(n) < shared
    four[twice, 1] = four[twice, 0]
    return four


def loops(network: Network, seed: int) -> Wiring:
    """All drawn, but LOOPS of a Golgi cell's ascending axons come from granule cells it inhibits."""
    wiring, rng = drawn(network, seed), np.random.default_rng([seed, 11])
    c, back = wiring.pairs[LOOP], wiring.pairs[INHIBITION]
    pre = c.pre.copy()
    for j in range(wiring.sizes["GoC"]):
        mine, own = np.flatnonzero(c.post == j), back.post[back.pre == j]
        replaced = mine[rng.random(mine.size) < LOOPS][: own.size]
        pre[replaced] = rng.choice(own, replaced.size, replace=False)
    return changed(wiring, **{LOOP: pairs(pre, c.post)})


def in_space(network: Network, seed: int, axons: bool = False) -> Wiring:
    """Cells at random in the layer: granule cells take glomeruli of 4 mossy fibres within 40 um, Golgi cells inhibit
    those of the nearest 40 glomeruli and are excited by all within 50 um; with `axons` also by granule cells nearby."""
    wiring, rng = drawn(network, seed), np.random.default_rng([seed, 77])
    glomeruli, fibres, granule, golgi = (rng.random((n, 3)) * LAYER for n in (
        network.inputs[0].relays or 0, wiring.sizes["mf"], wiring.sizes["GrC"], wiring.sizes["GoC"]))
    owner = np.array([_fibre(g, fibres, rng) for g in glomeruli])
    claws = np.array([_four_near(c, glomeruli, owner, rng) for c in granule])
    reach = _distances(golgi, glomeruli)
    innervated = np.zeros((len(glomeruli), len(golgi)), np.int64)
    innervated[np.argsort(reach, axis=1)[:, :40], np.arange(len(golgi))[:, None]] = 1
    synapses = innervated[claws].sum(axis=1)
    post, pre = np.nonzero(synapses)
    near, onto = np.nonzero(reach.T < 50.0)
    new = {EXCITATION: pairs(owner[claws].ravel(), np.repeat(np.arange(len(granule)), 4)),
           INHIBITION: Connections(pre, post, synapses[post, pre]), "mf->GoC": pairs(owner[near], onto)}
    if axons:
        lateral = _distances(golgi[:, :2], granule[:, :2])
        found = [np.flatnonzero(row < AXONS) for row in lateral]
        law = network.projections[[p.name for p in network.projections].index(LOOP)].indegree
        K = [min(max(round(rng.normal(law.mean, law.sd)), 0), f.size) for f in found]
        chosen = [rng.choice(f, k, replace=False) for f, k in zip(found, K, strict=True)]
        new[LOOP] = pairs(np.concatenate(chosen), np.repeat(np.arange(len(golgi)), K))
    return changed(wiring, **new)


def _distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))


def _fibre(glomerulus: NDArray[Any], fibres: NDArray[Any], rng: Rng) -> int:
    """The mossy fibre of a glomerulus: one of those within 60 x 20 um, nearer ones more often, else the nearest."""
    away = np.abs(fibres - glomerulus)
    distance = np.sqrt((away**2).sum(axis=1))
    inside = np.flatnonzero((away[:, 0] <= 60.0) & (away[:, 1] <= 20.0))
    if not inside.size:
        return int(distance.argmin())
    u = -np.log1p(rng.random() * np.expm1(-1.0))  # density exp(-u) on (0, 1)
    return int(inside[np.argsort(distance[inside])][int(u * inside.size)])


def _four_near(cell: NDArray[Any], glomeruli: NDArray[Any], owner: Ints, rng: Rng) -> list[int]:
    """Glomeruli of four different mossy fibres: within 40 um while there are any, then the nearest."""
    distance = np.sqrt(((glomeruli - cell) ** 2).sum(axis=1))
    near = rng.permutation(np.flatnonzero(distance < 40.0))
    fibres = rng.permutation(np.unique(owner[near]))[:4]
    chosen = [int(near[owner[near] == f][0]) for f in fibres]
    for k in np.argsort(distance):
        if len(chosen) == 4:
            break
        if owner[k] not in owner[chosen]:
            chosen.append(int(k))
    return chosen


CHANGES: dict[str, Callable[[Network, int], Wiring]] = {
    "drawn": drawn, "distinct": distinct, "shared": lambda network, seed: distinct(network, seed, 1.0),
    "loops": loops, "space": in_space, "space+axons": lambda network, seed: in_space(network, seed, True),
}  # fmt: skip


# --- trials -----------------------------------------------------------------------------------------


def line(name: str, seed: int, rates: dict[str, NDArray[Any]]) -> str:
    granule = rates["GrC"]
    others = " ".join(f"{n} {r.mean():.1f}" for n, r in rates.items() if n not in ("GrC", "mf"))
    return (f"{name:<22}seed {seed}  mf {rates['mf'].mean():.2f}  GrC {granule.mean():.2f} (over cells "
            f"{granule.std():.2f}, fired {100 * (granule > 0).mean():.1f} %)  {others}")


def trial(network: Network, name: str, drive: float, seed: int, duration: float) -> None:
    recorded = run_trial(network, constant({"mf": drive}, duration, 300.0), seed,
                         wiring=CHANGES[name](network, seed)).spikes
    print(line(name, seed, {n: spikes.cell_rates(s) for n, s in recorded.items()}), flush=True)


def isolated(network: Network, drive: float, seed: int, duration: float) -> None:
    """Granule cells alone, driven by trains of mossy fibres and Golgi cells recorded in the drawn network."""
    recorded = run_trial(network, constant({"mf": drive}, duration, 300.0), seed, wiring=drawn(network, seed)).spikes
    trains = {n: [np.sort(s.times[s.cells == k]) for k in range(s.size)]
              for n, s in recorded.items() if n in ("mf", "GoC")}
    rng = np.random.default_rng([seed, 5])
    n, n_mf = ISOLATED, len(trains["mf"])
    back = draw_wiring(network, n / network.population("GrC").size, seed).pairs[INHIBITION]  # some cells of few Golgi
    back = Connections(rng.integers(0, len(trains["GoC"]), back.pre.size), back.post, back.synapses)
    moved = [np.sort((t + rng.uniform(0, duration)) % duration) for t in trains["GoC"]]
    pair, two = four_of(n_mf, n, rng, 1.0), four_of(n_mf, n, rng, 1.0)
    two[:, 3] = two[:, 2]
    for name, four, golgi in (("four mossy fibres", four_of(n_mf, n, rng, 0.0), trains["GoC"]),
                              ("one of them twice", pair, trains["GoC"]), ("two, each twice", two, trains["GoC"]),
                              ("Golgi trains shifted", four_of(n_mf, n, rng, 0.0), moved)):
        rates = driven(network, four, back, trains["mf"], golgi, seed, duration)
        print(line(name, seed, {"GrC": rates, "mf": spikes.cell_rates(recorded["mf"])}), flush=True)


def driven(network: Network, four: Ints, back: Connections, mossy: list[Any], golgi: list[Any], seed: int,
           duration: float) -> NDArray[Any]:
    """Rates (Hz) of granule cells that only listen; the first 200 ms are dropped."""
    cell = next(c for c in remap(network).cells if c.population == "GrC")
    nest = start_kernel(seed, 0.1, 1)
    nest_models.install(len(cell.channels))
    cells = create_cells(nest, network.population("GrC"), cell, len(four))
    for receptor, (name, trains, pre, post, synapses) in enumerate((
            (EXCITATION, mossy, four.ravel(), np.repeat(np.arange(len(four)), 4), np.ones(four.size)),
            (INHIBITION, golgi, back.pre, back.post, back.synapses)), start=1):
        p = next(p for p in network.projections if p.name == name)
        sources = nest.Create("spike_generator", len(trains))
        for source, times in zip(sources, trains, strict=True):
            source.spike_times = np.maximum(np.round(times, 1), 0.1)
        nest.Connect(pre + sources[0].global_id, post + cells[0].global_id, "one_to_one", {
            "weight": p.weight * synapses, "delay": np.full(len(pre), p.delay),
            "receptor_type": np.full(len(pre), receptor)})
    recorder = nest.Create("spike_recorder")
    nest.Connect(cells, recorder)
    nest.Simulate(duration)
    events = recorder.events
    late = np.asarray(events["times"]) > 200.0
    who = np.asarray(events["senders"]).astype(int)[late] - cells[0].global_id
    return np.bincount(who, minlength=len(four)) * 1000.0 / (duration - 200.0)


def closed(path: str) -> None:
    """How often a Golgi cell inhibits the granule cells that excite it, and how often any, in a BSB network."""
    sets = read_file(path).sets
    back = sets["golgi_to_glomerulus"]
    n = [int(max(s.max() for s in ids)) + 1 for ids in ((back.post,), (back.pre,))]
    inhibits = np.zeros((max(n[0], int(sets["ascending_axon_to_golgi"].pre.max()) + 1), n[1]), bool)
    inhibits[back.post, back.pre] = True
    for tag in ("ascending_axon_to_golgi", "parallel_fiber_to_golgi"):
        print(f"{tag}: {100 * inhibits[sets[tag].pre, sets[tag].post].mean():.1f} % of its pairs close a loop; "
              f"of all pairs of the two types {100 * inhibits.mean():.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drive", type=float, default=4.0, help="Hz on every mossy fibre")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=["drawn", "loops", "space+axons", "space"])
    parser.add_argument("--duration", type=float, default=2.5, help="s")
    parser.add_argument("--isolated", action="store_true")
    parser.add_argument("--loops", type=Path, metavar="FILE.hdf5")
    arguments = parser.parse_args()
    if arguments.loops:
        closed(str(arguments.loops))
        return
    network = load("cerebellum")
    for seed in arguments.seeds:
        if arguments.isolated:
            isolated(network, arguments.drive, seed, 1000.0 * arguments.duration)
        else:
            for name in arguments.changes:
                trial(network, name, arguments.drive, seed, 1000.0 * arguments.duration)


if __name__ == "__main__":
    main()
