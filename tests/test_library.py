"""Publishing, searching and opening models, with many processes and damaged files."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray

from automfm_hpc.errors import LibraryError
from automfm_hpc.library import Library, LibraryWarning, parse_terms, publish
from automfm_hpc.store import write_model

CATALOG = Path(__file__).parent.parent / "catalog" / "mfm.yaml"


def record(q: float, pathology: str = "control", score: float | None = 3.0) -> dict:
    return {
        "network": "cerebellum", "region": "cerebellum", "species": "mouse", "pathology": pathology,
        "variant": pathology,
        "K": {"mf->GrC": 4.0}, "Q": {"mf->GrC": q}, "tau_syn": {"mf->GrC": 1.9}, "E": {"mf->GrC": 0.0},
        "N": {"GrC": 28615, "mf": None}, "equations": {"order": 2, "T": 5.0},
        "transfer_functions": {"GrC": {"kind": "template5", "rmse": 0.4}}, "score": {"GrC": score},
        "domain": {"mf": {"low": 0.0, "high": 100.0}},
        "provenance": {"plan": "0123456789abcdef", "seed": 1, "versions": {"numpy": np.__version__}},
    }  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    dataset = xarray.Dataset({"K": (("target", "channel"), [[4.0]])}, {"target": ["GrC"], "channel": ["mf"]})
    write_model(tmp_path / "model.zarr", {"attributes": {"order": 2}, "arrays": {"P": np.arange(5.0)},
                                          "transfer_functions": [], "dataset": dataset})
    return tmp_path / "model.zarr"


@pytest.fixture
def library(tmp_path: Path, model: Path) -> Path:
    path = tmp_path / "library"
    publish(path, record(0.1), model)
    for q, score in ((0.23, 4.0), (0.4, 9.0), (0.6, None)):
        publish(path, record(q, "ataxia", score), model)
    return path


def test_searches_by_value_range_list_and_expression(library):
    models = Library.open(library)
    assert len(models) == 4
    assert len(models.search(pathology="ataxia")) == 3
    assert len(models.search(pathology=["ataxia", "control"])) == 4
    assert {r["Q"]["mf->GrC"] for r in models.search(pathology="ataxia", Q={"mf->GrC": (0.2, 0.4)})} == {0.23, 0.4}
    assert len(models.search(Q={"mf->GrC": (None, 0.23)})) == 2
    assert len(models.search(query="score.GrC < 5")) == 2
    assert len(models.search(query="Q[mf->GrC] >= 0.2 and not score.GrC > 5 and pathology in ['ataxia']")) == 2
    assert len(models.search(Q={"mf->GrC": 0.23}).search(pathology="control")) == 0


def test_table_has_flat_columns(library):
    table = Library.open(library).search(pathology="ataxia").df
    assert table.index.name == "id"
    assert sorted(table["Q[mf->GrC]"]) == [0.23, 0.4, 0.6]
    assert table["score.GrC"].isna().sum() == 1
    assert Library.open(library).search(pathology="dystonia").df.empty


def test_terms_of_the_command_line(library):
    terms = parse_terms(["pathology=ataxia", "Q[mf->GrC]=0.2:0.5", "score.GrC<5"])
    assert terms == {"pathology": "ataxia", "Q[mf->GrC]": (0.2, 0.5), "query": "score.GrC < 5"}
    assert [r["Q"]["mf->GrC"] for r in Library.open(library).search(**terms)] == [0.23]
    assert parse_terms(["Q[mf->GrC]=0.2:", "variant=a,b", "region>=x"]) == {
        "Q[mf->GrC]": (0.2, None), "variant": ["a", "b"], "query": "region >= 'x'"}
    with pytest.raises(LibraryError, match="is not a condition"):
        parse_terms(["ataxia"])


@pytest.mark.parametrize(("criteria", "message"), [
    ({"patology": "ataxia"}, "Did you mean 'pathology'"),
    ({"Q": {"mf->GrX": (0, 1)}}, r"Did you mean 'Q\[mf->GrC\]'"),
    ({"Q": (0.2, 0.5)}, r"Choose one of: Q\[mf->GrC\]"),
    ({"query": "score.GrX < 5"}, "Did you mean 'score.GrC'"),
    ({"query": "score.GrC <"}, "is not a condition"),
    ({"query": "__import__('os').system('true')"}, "unknown column"),
    ({"query": "(lambda: 1)() == 1"}, "unknown column"),
    ({"query": "score.GrC"}, "is not a condition"),
    ({"Q": {"mf->GrC": (0.1, 0.2, 0.3)}}, "a range needs two ends"),
])  # fmt: skip
def test_unknown_keys_are_errors_with_a_suggestion(library, criteria, message):
    with pytest.raises(LibraryError, match=message):
        Library.open(library).search(**criteria)


def test_typing_mistakes_are_found_in_an_empty_result_too(library):
    empty = Library.open(library).search(pathology="dystonia")
    assert len(empty.search(Q={"mf->GrC": (0, 1)}, query="score.GrC < 5")) == 0
    with pytest.raises(LibraryError, match="Did you mean 'pathology'"):
        empty.search(patology="ataxia")


def test_ids_by_unique_beginning(library):
    models = Library.open(library)
    name = models.ids[0]
    assert models.show(name[:8])["id"] == name
    assert models.model_path(name[:8]) == library / "models" / f"{name}.zarr"
    with pytest.raises(LibraryError, match="no model 'zz'"):
        models.show("zz")
    with pytest.raises(LibraryError, match="no model ''"):
        models.show("")
    twin = Library(library, ({**models.show(name), "id": name[:8] + "0"}, *models.records))
    with pytest.raises(LibraryError, match="begins 2 ids"):
        twin.show(name[:8])


def test_publishing_again_changes_nothing(library, model):
    before = {p: p.read_bytes() for p in library.rglob("*") if p.is_file()}
    publish(library, record(0.1), model)
    assert {p: p.read_bytes() for p in library.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(("change", "message"), [
    ({"pathology": 3}, "record.pathology: 3 is not of type 'string'"),
    ({"patology": "x"}, "patology"),
    ({"score": {"GrC": float("nan")}}, "cannot be written as JSON"),
    ({"equations": {"order": 3, "T": 5.0}}, "record.equations.order: 3 is not one of"),
])  # fmt: skip
def test_records_must_follow_the_schema(tmp_path, model, change, message):
    with pytest.raises(LibraryError, match=message):
        publish(tmp_path / "library", {**record(0.1), **change}, model)
    assert not (tmp_path / "library").exists()


def test_damaged_records_are_reported_and_left_out(library):
    good, torn, edited, foreign = sorted((library / "records").glob("*.json"))
    torn.write_bytes(torn.read_bytes()[:100])
    edited.write_text(edited.read_text().replace('"mouse"', '"rat"'))
    foreign.write_text("[]")
    with pytest.warns(LibraryWarning) as caught:
        models = Library.open(library)
    assert len(caught) == 3
    assert models.ids == (good.stem,)


def test_damaged_models_are_refused_and_mended_by_publishing_again(library, model):
    name = publish(library, record(0.1), model)
    chunk = library / "models" / f"{name}.zarr" / "arrays" / "P" / "c" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(LibraryError, match="changed or damaged"):
        Library.open(library).model_path(name)
    assert publish(library, record(0.1), model) == name
    Library.open(library).model_path(name)
    shutil.rmtree(library / "models" / f"{name}.zarr")
    with pytest.raises(LibraryError, match="store is missing"):
        Library.open(library).model_path(name)


def test_no_library_and_no_model_are_errors(tmp_path):
    with pytest.raises(LibraryError, match="no library here"):
        Library.open(tmp_path)
    with pytest.raises(LibraryError, match="no such model"):
        publish(tmp_path, record(0.1), tmp_path / "nothing.zarr")


def _publish_ten(library: Path, model: Path, worker: int) -> None:
    for k in range(10):
        publish(library, record(0.1 + 0.001 * (10 * worker + k)), model)
        publish(library, record(7.0), model)  # the same one, by everybody at once


def test_concurrent_publishers_lose_nothing(tmp_path, model):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_publish_ten, args=(tmp_path / "library", model, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models = Library.open(tmp_path / "library")
    assert len(models) == 41
    assert all(models.model_path(name).is_dir() for name in models.ids)
    assert not list((tmp_path / "library").rglob(".*"))


# --- Intake -----------------------------------------------------------------------------------------


@pytest.fixture
def catalog(library: Path, tmp_path: Path):
    intake = pytest.importorskip("intake")
    folder = tmp_path / "catalog"
    folder.mkdir()
    shutil.copy(CATALOG, folder)
    shutil.copytree(library, folder / "library")
    return intake.open_catalog(str(folder / "mfm.yaml"))


def test_intake_searches_and_opens_lazily(catalog):
    models = catalog.models
    assert len(models) == 4
    found = models.search(pathology="ataxia").search(Q={"mf->GrC": (0.2, 0.5)}).search("score.GrC < 5")
    assert list(found.df["Q[mf->GrC]"]) == [0.23]
    assert list(found) == list(found.df.index)
    source = found[next(iter(found))[:6]]
    dataset = source.to_dask()
    assert dataset.K.chunks is not None
    assert dataset.K.sel(target="GrC", channel="mf").compute() == 4.0
    assert source.metadata["pathology"] == "ataxia"
    assert source.path.endswith(".zarr")
    with pytest.raises(KeyError):
        models["nothing"]
    with pytest.raises(LibraryError, match="Did you mean 'pathology'"):
        models.search(patology="ataxia")


def test_intake_takes_another_library(catalog, tmp_path, model):
    publish(tmp_path / "other", record(0.3), model)
    assert len(catalog.models(path=str(tmp_path / "other"))) == 1
    assert [s.id for _, s in catalog.models.items()] == list(catalog.models.library.ids)


def test_intake_says_so_when_nothing_is_published(tmp_path):
    intake = pytest.importorskip("intake")
    shutil.copy(CATALOG, tmp_path)
    with pytest.raises(LibraryError, match="Publish a model first"):
        _ = intake.open_catalog(str(tmp_path / "mfm.yaml")).models


def test_schema_of_the_catalog_is_valid_json_schema():
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(json.loads((CATALOG.parent / "record.schema.json").read_text()))
