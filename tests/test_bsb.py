"""BSB networks: counts against an independent count of the raw file, relays, references, and bad files."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

import automfm_hpc.bsb
from automfm_hpc import Network, remap
from automfm_hpc.bsb import Connections, load_connections, read_bsb, save_connections
from automfm_hpc.bsb.configuration import read_configuration
from automfm_hpc.cli import main
from automfm_hpc.errors import NetworkError
from automfm_hpc.plan import make_plan

DATA = Path(__file__).parent / "data"
SMALL, SIMULATION = DATA / "bsb_small.hdf5", DATA / "cerebellum_simulation.yaml"

# tag, projection, full-size in-degree mean and sd, synapses per pair (published network, 300 x 200 um)
PUBLISHED = [
    ("glomerulus_to_granule", "mf->GrC", 4.0, 0.0, 1.0),
    ("glomerulus_to_golgi", "mf->GoC", 114, 31, 1.0),
    ("golgi_to_glomerulus", "GoC->GrC", 3.5, 1.6, 1.5),
    ("golgi_to_golgi", "GoC->GoC", 19.7, 7.8, 160),
    ("ascending_axon_to_golgi", "GrC->GoC/aa", 298, 110, 1.0),
    ("parallel_fiber_to_golgi", "GrC->GoC/pf", 1062, 310, 1.0),
    ("ascending_axon_to_purkinje", "GrC->PC/aa", 92, 24, 1.0),
    ("parallel_fiber_to_purkinje", "GrC->PC/pf", 1529, 300, 1.0),
    ("parallel_fiber_to_stellate", "GrC->SC", 518, 160, 1.0),
    ("parallel_fiber_to_basket", "GrC->BC", 841, 140, 1.0),
    ("basket_to_basket", "BC->BC", 18, 7.9, 99),
    ("stellate_to_stellate", "SC->SC", 14, 5.1, 100),
    ("basket_to_purkinje", "BC->PC", 11.2, 4.2, 1.0),
    ("stellate_to_purkinje", "SC->PC", 4.54, 2.4, 9.5),
]


@pytest.fixture(scope="module")
def small():
    return read_bsb(SMALL, SIMULATION)


# --- an independent count, from the outgoing half of the raw file ------------------------------------


def first_ids(file: h5py.File, cells: str) -> dict[int, int]:
    n, first = 0, {}
    for chunk in sorted(int(k) for k in file["placement"][cells]):
        first[chunk] = n
        n += file["placement"][cells][str(chunk)]["position"].shape[0]
    return first


def raw_rows(path: Path, tag: str) -> list[tuple[int, int]]:
    """(pre, post) of every synapse, read block by block from `out`, where the reader uses `inc`."""
    rows = []
    with h5py.File(path) as file:
        s = file["connectivity"][tag]
        pre0, post0 = first_ids(file, s.attrs["pre"]), first_ids(file, s.attrs["post"])
        for chunk, group in s["out"].items():
            starts = sorted((int(v), int(k)) for k, v in group.attrs.items() if k != "chunk_list")
            ends = [a for a, _ in starts[1:]] + [len(group["local_locs"])]
            for (a, other), b in zip(starts, ends, strict=True):
                rows += zip(group["local_locs"][a:b, 0] + pre0[int(chunk)],
                            group["global_locs"][a:b, 0] + post0[other], strict=True)
    return [(int(i), int(j)) for i, j in rows]


def test_remap_equals_an_independent_count(small):
    parameters = remap(small.network)
    print(f"\n{'projection':<13}{'K':>8}{'sd':>7}{'full K':>8}{'sd':>6}{'K ratio':>9}{'syn':>7}{'full':>6}")
    sizes = {p.name: p.size for p in small.network.populations}
    for tag, name, K_full, sd_full, per_pair in PUBLISHED:
        rows = raw_rows(SMALL, tag)
        pairs = set(rows)
        target = name.partition("->")[2].partition("/")[0]
        counts = np.zeros(sizes[target])
        for _, post in pairs:
            counts[post] += 1
        by_name = parameters.by_projection()[name]
        weight = next(p.weight for p in small.network.projections if p.name == name)
        assert by_name["K"] == pytest.approx(len(pairs) / sizes[target], rel=1e-12)
        assert by_name["K_sd"] == pytest.approx(counts.std(), rel=1e-12, abs=1e-12)
        assert by_name["Q"] == pytest.approx(weight * len(rows) / len(pairs), rel=1e-12)
        print(f"{name:<13}{by_name['K']:8.2f}{by_name['K_sd']:7.2f}{K_full:8.4g}{sd_full:6.3g}"
              f"{by_name['K'] / K_full:9.2f}{len(rows) / len(pairs):7.2f}{per_pair:6.3g}")


def test_every_synapse_is_kept(small):
    glomerulus_of = raw_rows(SMALL, "mossy_fibers_to_glomerulus")
    owner = np.full(468, -1)
    for fibre, glomerulus in glomerulus_of:
        owner[glomerulus] = fibre
    np.testing.assert_array_equal(small.relays["mf"], owner)
    for tag, name, *_ in PUBLISHED:
        c = small.connections[name]
        assert c.pre.dtype == c.post.dtype == c.synapses.dtype == np.int64
        again = sorted(zip(np.repeat(c.pre, c.synapses), np.repeat(c.post, c.synapses), strict=True))
        assert again == sorted(raw_rows(SMALL, tag)), name


def test_what_small_size_leaves_alone(small):
    """Local connections agree with the full network; far-reaching fibres are cut by the edges."""
    by_name = {p.name: p for p in small.network.projections}
    assert by_name["mf->GrC"].indegree.mean == 4.0
    assert by_name["mf->GrC"].indegree.sd == 0.0
    assert by_name["GoC->GrC"].indegree.mean == pytest.approx(3.5, rel=0.1)
    for name, contacts in (("GoC->GoC", 160), ("BC->BC", 99), ("SC->SC", 100)):
        assert by_name[name].synapses.mean == pytest.approx(contacts, rel=0.01)
    assert all(by_name[n].indegree.mean < K for _, n, K, *_ in PUBLISHED if n.startswith("GrC->"))


def test_description(small):
    net, full = small.network, Network.load("cerebellum")
    assert net.population_names == full.population_names
    assert {p.name: p.size for p in net.populations} == {"GrC": 6084, "GoC": 15, "BC": 30, "SC": 61, "PC": 14}
    assert (net.inputs[0].sources, net.inputs[0].relays, net.inputs[0].rate) == (23, 468, 20.0)
    for p in full.populations:
        assert dict(net.population(p.name).parameters) == dict(p.parameters)
    ours = {p.name: p for p in net.projections}
    assert set(ours) == {p.name for p in full.projections}
    for p in full.projections:
        assert [getattr(ours[p.name], k) for k in ("weight", "tau_syn", "E_rev", "delay")] == [
            p.weight, p.tau_syn, p.E_rev, p.delay], p.name


def test_report(small):
    found, dropped = "\n".join(small.found), "\n".join(small.dropped)
    assert "19766 pairs" in found
    assert "218 cells without" in found
    assert "23 sources through 468 glomerulus" in found
    assert "gap_goc (golgi_cell to golgi_cell, 176 synapses)" in dropped
    assert "gap junctions" in dropped
    assert "delay of 1 ms" in dropped
    assert all("\n" not in line for line in small.found + small.dropped)


# --- files written and read back --------------------------------------------------------------------


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    out = tmp_path_factory.mktemp("bsb") / "net.yaml"
    assert main(["import-bsb", str(SMALL), "--config", str(SIMULATION), "-o", str(out)]) == 0
    return out


def test_import_keeps_the_connections(small, imported):
    assert sorted(p.name for p in imported.parent.iterdir()) == ["net.connections.h5", "net.yaml"]
    assert yaml.safe_load(imported.read_text())["connections"] == "net.connections.h5"  # beside it, no absolute path
    network = Network.load(imported)
    assert Path(network.connections) == imported.parent.absolute() / "net.connections.h5"
    assert Network.from_dict(network.to_dict()) == network
    connections, relays = load_connections(network)
    assert list(connections) == list(small.connections)
    for name, c in connections.items():
        for key in ("pre", "post", "synapses"):
            np.testing.assert_array_equal(getattr(c, key), getattr(small.connections[name], key))
    np.testing.assert_array_equal(relays["mf"], small.relays["mf"])
    np.testing.assert_array_equal(remap(network).K, remap(small.network).K)


def test_identity_follows_the_content_not_the_place(imported, tmp_path):
    for part in imported.parent.iterdir():
        shutil.copy(part, tmp_path)
    here, there = Network.load(imported), Network.load(tmp_path / "net.yaml")
    assert here == there
    assert here.connections != there.connections
    assert make_plan(here, points=4).id == make_plan(there, points=4).id
    connections, relays = load_connections(there)
    save_connections(there.connections, {**connections, "GoC->GoC": connections["BC->PC"]}, relays)
    with pytest.raises(NetworkError, match="is not the file it was"):
        Network.load(tmp_path / "net.yaml")
    without_id(tmp_path / "net.yaml")
    assert Network.load(tmp_path / "net.yaml") != here
    with pytest.raises(NetworkError, match="is not the file it was"):
        Network.from_dict(there.to_dict())
    with pytest.raises(NetworkError, match="GoC->GoC"):
        load_connections(Network.load(tmp_path / "net.yaml"))


def without_id(path: Path) -> None:
    path.write_text("".join(x for x in path.read_text().splitlines(True) if not x.startswith("connections_id")))


def test_changed_in_degrees_let_go_of_the_true_connections(imported):
    from automfm_hpc.variants import change_value

    network = Network.load(imported)
    assert change_value(network, "Q[mf->GrC]", "0.1 nS").connections == network.connections
    assert change_value(network, "K[GrC->PC/pf]", "x0.76").connections is None


def test_connections_file_missing_or_damaged(imported, tmp_path):
    shutil.copy(imported, tmp_path / "net.yaml")
    with pytest.raises(NetworkError, match="no such file"):
        Network.load(tmp_path / "net.yaml")
    assert Network.from_dict(Network.load(imported).to_dict() | {"connections": "elsewhere.h5"}).connections_id
    whole = (imported.parent / "net.connections.h5").read_bytes()
    (tmp_path / "net.connections.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NetworkError, match="is damaged"):
        load_connections(tmp_path / "net.connections.h5")


def test_pairs_from_synapses():
    c = Connections.from_synapses(np.array([2, 0, 2, 1]), np.array([1, 1, 1, 0]))
    assert (c.pre.tolist(), c.post.tolist(), c.synapses.tolist()) == ([1, 0, 2], [0, 1, 1], [1, 1, 2])
    assert c.indegrees(3).tolist() == [1, 2, 0]
    assert c.indegree(3).mean == 1.0
    empty = Connections.from_synapses(np.empty(0, np.int64), np.empty(0, np.int64))
    assert (empty.pre.size, empty.indegree(4).mean) == (0, 0.0)


def test_core_does_not_import_h5py():
    code = "import sys, automfm_hpc, automfm_hpc.cli; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for source in Path(automfm_hpc.bsb.__file__).parent.glob("*.py"):
        names = {a.name for n in ast.walk(ast.parse(source.read_text())) if isinstance(n, ast.Import) for a in n.names}
        assert "bsb" not in names


# --- made-up files in BSB's layout --------------------------------------------------------------------

ADEX = {"C_m": 200, "g_L": 10, "E_L": -65, "V_th": -50, "V_reset": -65, "t_ref": 5, "a": 0, "b": 60, "Delta_T": 2,
        "tau_w": 500, "tau_syn_ex": 5, "tau_syn_in": 6, "E_ex": 0, "E_in": -80, "V_m": -65}
CHUNKS = [(-1, 0, 0), (0, 0, 0), (1, 2, 0)]


def chunk_id(c: tuple[int, int, int]) -> int:
    return sum((v % 65536) * 65536**i for i, v in enumerate(c))


def write_bsb(path: Path, cells: dict[str, int], sets: dict[str, tuple], configuration: dict | None = None) -> Path:
    """A file in BSB's layout: cells spread over three chunks (one at negative coordinates), in the order of ids."""
    chunks = sorted(CHUNKS, key=chunk_id)
    with h5py.File(path, "w") as file:
        file.attrs["bsb_version"] = "8.0.2"
        place, ids = file.create_group("placement"), {}
        for name, n in cells.items():
            share = np.array_split(np.arange(n), len(chunks))
            ids[name] = [(k, i) for k, part in enumerate(share) for i in range(len(part))]
            group = place.create_group(name)
            group.attrs["len"] = n
            for c, part in zip(chunks, share, strict=True):
                group.create_dataset(f"{chunk_id(c)}/position", data=np.zeros((len(part), 3)))
        connectivity = file.create_group("connectivity")
        for tag, (source, target, pairs) in sets.items():
            group = connectivity.create_group(tag)
            group.attrs.update({"pre": source, "post": target, "len": len(pairs)})
            group.create_group("inc")
            for at, chunk in enumerate(chunks):
                blocks = [[(ids[source][i][1], ids[target][j][1]) for i, j in pairs
                           if ids[source][i][0] == k and ids[target][j][0] == at] for k in range(3)]
                used = [k for k in (2, 0, 1) if blocks[k]]  # chunks come in any order
                if used:
                    block = group.create_group(f"inc/{chunk_id(chunk)}")
                    block.attrs["chunk_list"] = np.array([chunks[k] for k in used], np.int16)
                    row = 0
                    for k in used:
                        block.attrs[str(chunk_id(chunks[k]))] = row
                        row += len(blocks[k])
                    rows = np.array([p for k in used for p in blocks[k]])
                    for key, column in (("global_locs", 0), ("local_locs", 1)):
                        block[key] = np.stack([rows[:, column], *[np.full(len(rows), -1)] * 2], 1)
        if configuration is not None:
            entry = file.create_group("files").create_dataset("x", data=np.bytes_(json.dumps(configuration)))
            entry.attrs["meta"] = json.dumps({"active_config": True})
    return path


def adex_simulation(**changes) -> dict:
    synapse = {"model": "static_synapse", "delay": 1.5}
    return {"simulator": "nest", "cell_models": {"exc": {"model": "aeif_cond_exp", "constants": ADEX},
                                                 "inh": {"model": "aeif_cond_exp", "constants": ADEX}},
            "connection_models": {"exc_to_inh": {"synapses": [{**synapse, "weight": 1.5}]},
                                  "inh_to_exc": {"synapses": [{**synapse, "weight": -5}]}},
            "devices": {"noise": {"device": "poisson_generator", "rate": 800, "weight": 1, "delay": 1,
                                  "targetting": {"strategy": "cell_model", "cell_models": ["exc"]}}}} | changes


E_TO_I = [(0, 0), (0, 0), (4, 0), (6, 1), (3, 2), (6, 2)]
I_TO_E = [(0, 1), (1, 6), (2, 6), (2, 6), (2, 6)]


def write_adex(path: Path, simulation: dict | None = None, **sets) -> Path:
    configuration = {} if simulation is None else {"simulations": {"run": simulation}}
    return write_bsb(path, {"exc": 7, "inh": 3}, {"exc_to_inh": ("exc", "inh", E_TO_I),
                                                  "inh_to_exc": ("inh", "exc", I_TO_E), **sets}, configuration)


def test_other_network_with_its_own_configuration(tmp_path):
    bsb = read_bsb(write_adex(tmp_path / "two.hdf5", adex_simulation()))
    c = bsb.connections["exc->inh"]
    assert list(zip(c.pre.tolist(), c.post.tolist(), c.synapses.tolist(), strict=True)) == [
        (0, 0, 2), (4, 0, 1), (6, 1, 1), (3, 2, 1), (6, 2, 1)]
    c = bsb.connections["inh->exc"]
    assert list(zip(c.pre.tolist(), c.post.tolist(), c.synapses.tolist(), strict=True)) == [
        (0, 1, 1), (1, 6, 1), (2, 6, 3)]
    by_name = {p.name: p for p in bsb.network.projections}
    assert (by_name["inh->exc"].weight, by_name["inh->exc"].E_rev, by_name["inh->exc"].tau_syn) == (5.0, -80.0, 6.0)
    assert (by_name["exc->inh"].weight, by_name["exc->inh"].E_rev, by_name["exc->inh"].tau_syn) == (1.5, 0.0, 5.0)
    assert bsb.network.inputs[0].sources is None
    assert by_name["noise->exc"].indegree.mean == 1.0
    assert remap(bsb.network).by_projection()["inh->exc"]["K"] == pytest.approx(3 / 7)
    assert "exc (exc): 7 aeif_cond_exp" in bsb.found


def test_network_can_be_rebuilt_in_nest(tmp_path):
    nest = pytest.importorskip("nest")
    bsb = read_bsb(write_adex(tmp_path / "two.hdf5", adex_simulation()))
    nest.ResetKernel()
    cells = {p.name: nest.Create(p.model, p.size, params=dict(p.parameters)) for p in bsb.network.populations}
    for p in (p for p in bsb.network.projections if p.name in bsb.connections):
        c = bsb.connections[p.name]
        sign = 1 if p.excitatory else -1
        pre, post = (np.array(cells[name].tolist()) for name in (p.source, p.target))
        nest.Connect(pre[c.pre], post[c.post], "one_to_one",
                     {"weight": sign * p.weight * c.synapses, "delay": np.full(c.pre.size, p.delay)})
    made = nest.GetConnections(cells["inh"], cells["exc"]).get(["source", "target", "weight"])
    first_e, first_i = cells["exc"].tolist()[0], cells["inh"].tolist()[0]
    found = sorted((s - first_i, t - first_e, w) for s, t, w in zip(*made.values(), strict=True))
    assert found == [(0, 1, -5.0), (1, 6, -5.0), (2, 6, -15.0)]


def relayed(**settings) -> dict:
    simulation = adex_simulation(devices={})
    simulation["cell_models"] = {**simulation["cell_models"], "fibre": {"model": "parrot_neuron"},
                                 "relay": {"model": "parrot_neuron"}}
    one = {"synapses": [{"model": "static_synapse", "weight": 1.0, "delay": 1}]}
    simulation["connection_models"] |= {"fibre_to_relay": one, "relay_to_exc": one, "fibre_to_inh": one,
                                        "inh_to_relay": {"synapses": [{"weight": -2.0, "delay": 2}]}}
    return {"simulations": {"run": simulation}, "automfm": {"inputs": {"in": {"rate": "10 Hz"}},
                                                            "names": {"fibre": "in"}, **settings}}


def write_relayed(path: Path, configuration: dict, fibres=((0, 0), (0, 1), (1, 3))) -> Path:
    return write_bsb(path, {"exc": 7, "inh": 3, "fibre": 2, "relay": 4}, {
        "exc_to_inh": ("exc", "inh", E_TO_I), "fibre_to_relay": ("fibre", "relay", list(fibres)),
        "relay_to_exc": ("relay", "exc", [(0, 0), (1, 0), (2, 0), (3, 5), (3, 6)]),
        "fibre_to_inh": ("fibre", "inh", [(1, 2)]),
        "inh_to_relay": ("inh", "relay", [(0, 0), (0, 1), (1, 3), (1, 3)])}, configuration)


def test_relays_are_collapsed(tmp_path):
    bsb = read_bsb(write_relayed(tmp_path / "r.hdf5", relayed()))
    direct, through = bsb.connections["in->inh"], bsb.connections["in->exc"]
    # relay 2 follows no fibre: it is silent, its synapse is dropped and the others are numbered through
    pairs = {(int(bsb.relays["in"][i]), int(j)) for i, j in zip(through.pre, through.post, strict=True)}
    assert pairs == {(0, 0), (1, 5), (1, 6)}
    assert through.pre.size == 4  # two relays of fibre 0 onto cell 0 are two pairs
    assert bsb.relays["in"][direct.pre].tolist() == [1]
    assert bsb.network.inputs[0].relays == len(bsb.relays["in"]) == 5
    assert any("relay_to_exc: 1 synapses" in line for line in bsb.dropped)
    assert any("inh_to_relay" in line and "through" in line for line in bsb.dropped)


def test_cells_through_relays(tmp_path):
    bsb = read_bsb(write_relayed(tmp_path / "r.hdf5", relayed(through={"inh_to_relay": "relay_to_exc"})))
    c = bsb.connections["inh->exc"]
    assert list(zip(c.pre.tolist(), c.post.tolist(), c.synapses.tolist(), strict=True)) == [
        (0, 0, 2), (1, 5, 2), (1, 6, 2)]
    assert {p.name: p.E_rev for p in bsb.network.projections}["inh->exc"] == -80.0


def test_two_synapses_of_one_set_are_two_pathways(tmp_path):
    simulation = adex_simulation()
    simulation["connection_models"]["exc_to_inh"]["synapses"] *= 2
    names = [p.name for p in read_bsb(write_adex(tmp_path / "two.hdf5", simulation)).network.projections]
    assert {"exc->inh/exc_to_inh.1", "exc->inh/exc_to_inh.2"} <= set(names)


# --- references -----------------------------------------------------------------------------------


def test_imports_and_references(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/base.yaml").write_text("a: {x: 1, y: {p: 1, q: 2}}\n"
                                             "$import: {ref: ../more.json#/n, values: [k]}\n")
    (tmp_path / "more.json").write_text('{"n": {"k": [1, 2], "z": 0}}')
    (tmp_path / "top.yaml").write_text("a:\n  y: {q: 3}\nb: {$ref: '#/a/y', r: 4}\n"
                                       "$import: {ref: deep/base.yaml#/, values: [a, k]}\n")
    assert read_configuration(tmp_path / "top.yaml") == {
        "a": {"x": 1, "y": {"p": 1, "q": 3}}, "b": {"q": 3, "r": 4}, "k": [1, 2]}


@pytest.mark.parametrize(("text", "message"), [
    ("$import: {ref: gone.yaml#/, values: [a]}", r"gone\.yaml: no such file\. It is asked for by top\.yaml"),
    ("$import: {ref: top.yaml#/b, values: [a]}\nb: {}", "no 'a' in top.yaml"),
    ("b: {$ref: '#/c'}\nc: {$ref: '#/b'}", "leads back to itself"),
    ("b: {$ref: '#/d'}\nc: 1", "leads nowhere: no 'd'"),
    ("$import: {ref: other.yaml#/}", "needs a 'ref' and a list of 'values'"),
    ("[1, 2]", "is not a mapping"),
    ("a: [", "cannot be read as YAML"),
])
def test_bad_references(tmp_path, text, message):
    (tmp_path / "top.yaml").write_text(text)
    with pytest.raises(NetworkError, match=message):
        read_configuration(tmp_path / "top.yaml")


# --- bad files: one clear line each, nothing written --------------------------------------------------


def truncated(folder):
    whole = SMALL.read_bytes()
    (folder / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.hdf5", SIMULATION


def foreign(folder):
    with h5py.File(folder / "other.hdf5", "w") as file:
        file["data"] = 1
    return folder / "other.hdf5", SIMULATION


def no_hdf5(folder):
    (folder / "text.hdf5").write_text("hello")
    return folder / "text.hdf5", SIMULATION


def rows_missing(folder):
    path = write_adex(folder / "a.hdf5", adex_simulation())
    with h5py.File(path, "r+") as file:
        file["connectivity/exc_to_inh"].attrs["len"] = 99
    return path, None


def out_of_range(folder):
    path = write_adex(folder / "a.hdf5", adex_simulation())
    with h5py.File(path, "r+") as file:
        next(iter(file["connectivity/exc_to_inh/inc"].values()))["global_locs"][0, 0] = 50
    return path, None


def unknown_chunk(folder):
    path = write_adex(folder / "a.hdf5", adex_simulation())
    with h5py.File(path, "r+") as file:
        file.move("connectivity/exc_to_inh/inc/0", "connectivity/exc_to_inh/inc/77")
    return path, None


def simulated(**changes):
    return lambda folder: (write_adex(folder / "a.hdf5", adex_simulation(**changes)), None)


def cells(**constants):
    return {"exc": {"model": "aeif_cond_exp", "constants": ADEX},
            "inh": {"model": "aeif_cond_exp", "constants": {**ADEX, **constants}}}


def synapses(**first):
    models = adex_simulation()["connection_models"]
    models["exc_to_inh"] = {"synapses": [{"weight": 1, **first}]}
    return models


def cerebellar(change):
    def made(folder):
        tree = read_configuration(SIMULATION)
        change(tree["simulations"]["basal_activity"])
        (folder / "sim.yaml").write_text(yaml.safe_dump(tree))
        return SMALL, folder / "sim.yaml"
    return made


def wrong_sign(part):
    part["connection_models"]["golgi_to_glomerulus"]["synapses"][0]["weight"] = -0.24


def no_receptor(part):
    part["connection_models"]["golgi_to_glomerulus"]["synapses"][0]["receptor_type"] = 4


def no_input(part):
    for tag in ("basket_to_basket", "parallel_fiber_to_basket"):
        del part["connection_models"][tag]


def no_rate(part):
    del part["devices"]


def settled(**block):
    def made(folder):
        (folder / "sim.yaml").write_text(yaml.safe_dump({**read_configuration(SIMULATION), "automfm": block}))
        return SMALL, folder / "sim.yaml"
    return made


def two_fibres(folder):
    return write_relayed(folder / "r.hdf5", relayed(), fibres=[(0, 0), (1, 0)]), None


def empty_set(folder):
    path = write_bsb(folder / "e.hdf5", {"exc": 7, "inh": 3}, {
        "exc_to_inh": ("exc", "inh", []), "inh_to_exc": ("inh", "exc", I_TO_E)},
        {"simulations": {"run": adex_simulation()}})
    return path, None


BAD = {
    "missing": (lambda folder: (folder / "gone.hdf5", None), "no such file"),
    "truncated": (truncated, r"is truncated \(.*\)\. Copy the file again"),
    "foreign": (foreign, "is HDF5, but no BSB network"),
    "no_hdf5": (no_hdf5, "is not an HDF5 file"),
    "rows_missing": (rows_missing, "holds 6 synapses where its header says 99"),
    "out_of_range": (out_of_range, "connection ids are out of range: cell 50"),
    "unknown_chunk": (unknown_chunk, "connection ids are out of range: cell . of chunk 77"),
    "no_simulation": (lambda folder: (SMALL, None), "has no simulation part.*--config"),
    "config_missing": (lambda folder: (SMALL, folder / "gone.yaml"), "gone.yaml: no such file"),
    "unknown_model": (simulated(cell_models={**cells(), "inh": {"model": "aeif_cond_exq"}}),
                      "unknown neuron model 'aeif_cond_exq'. Did you mean 'aeif_cond_exp'"),
    "unknown_constant": (simulated(cell_models=cells(C_n=1)), "unknown parameter 'C_n'.*Did you mean 'C_m'"),
    "distribution": (simulated(cell_models=cells(C_m={"distribution": "normal"})), "is not one number"),
    "wrong_sign": (cerebellar(wrong_sign), "golgi_to_glomerulus.*-0.24 nS has the wrong sign"),
    "no_receptor": (cerebellar(no_receptor), "needs tau_syn4 among the constants of granule_cell"),
    "no_input": (cerebellar(no_input), "populations.BC: no projection ends here"),
    "no_rate": (cerebellar(no_rate), "the rate of the input mf is not given"),
    "empty_set": (empty_set, "no connection reaches the population inh"),
    "two_fibres": (two_fibres, "1 of its cells repeat more than one source"),
    "plastic": (simulated(connection_models=synapses(model="tsodyks2_synapse")), "changes its weight with activity"),
    "no_delay": (simulated(connection_models=synapses(delay=0)), "delay of 0 ms must be larger than 0"),
    "names_twice": (settled(names={"granule_cell": "C", "golgi_cell": "C"}), "two cell types are called C"),
    "setting": (settled(naems={}), "unknown key 'naems'. Did you mean 'names'"),
    "setting_kind": (settled(names=[1]), "automfm.names: must be a mapping"),
    "input_name": (settled(inputs={"mfs": {"rate": "1 Hz"}}), "no 'mfs' in the file"),
    "no_list": (simulated(connection_models={"exc_to_inh": 3}), "connection_models.exc_to_inh: must be a mapping"),
    "not_nest": (simulated(simulator="arbor"), "is for arbor, not for NEST"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    make, message = BAD[case]
    path, config = make(tmp_path / "in")
    with pytest.raises(NetworkError, match=message):
        read_bsb(path, config)
    out = tmp_path / "out" / "net.yaml"
    assert main(["import-bsb", str(path), *(["--config", str(config)] if config else []), "-o", str(out)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not out.parent.exists()


def test_several_simulations_need_a_choice(tmp_path):
    path = write_bsb(tmp_path / "two.hdf5", {"exc": 7, "inh": 3}, {
        "exc_to_inh": ("exc", "inh", E_TO_I), "inh_to_exc": ("inh", "exc", I_TO_E)},
        {"simulations": {"a": adex_simulation(), "b": adex_simulation()}})
    with pytest.raises(NetworkError, match=r"several simulations: a, b\. Choose one with --simulation"):
        read_bsb(path)
    assert read_bsb(path, simulation="b").network.name == "two"


def test_no_place_to_write_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    path = write_adex(tmp_path / "two.hdf5", adex_simulation())
    assert main(["import-bsb", str(path), "-o", str(tmp_path / "file" / "net.yaml")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "message"), [
    (lambda c: Connections(c.pre + 7, c.post, c.synapses), "connection id 13 is out of range: there are 7 cells"),
    (lambda c: Connections(*(np.repeat(getattr(c, k), 2) for k in ("pre", "post", "synapses"))), "a pair stands twice"),
    (lambda c: Connections(c.pre[:-1], c.post[:-1], c.synapses[:-1]), "the description's in-degree is 1.66667"),
])
def test_connections_that_do_not_fit(tmp_path, change, message):
    """Also an in-degree larger than the source: more than N distinct pairs per target cannot pass."""
    bsb = read_bsb(write_adex(tmp_path / "two.hdf5", adex_simulation()))
    automfm_hpc.bsb.write_network(bsb, tmp_path / "net.yaml")
    save_connections(tmp_path / "net.connections.h5",
                     {**bsb.connections, "exc->inh": change(bsb.connections["exc->inh"])})
    without_id(tmp_path / "net.yaml")
    with pytest.raises(NetworkError, match=message):
        load_connections(Network.load(tmp_path / "net.yaml"))
