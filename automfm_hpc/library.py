"""The library of models: one JSON record per model, its store beside it, found by what it is and how it scores.

    library/records/<id>.json    what the model is; the id is a hash of the record and of the store
    library/models/<id>.zarr     the model

Nothing is shared between models, so any number of processes can publish at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automfm_hpc import folders
from automfm_hpc.errors import AutomfmError, LibraryError, suggest
from automfm_hpc.provenance import canonical_json, content_hash, write_json
from automfm_hpc.query import compile_query, conditions, flatten, parse_terms, satisfies

if TYPE_CHECKING:
    import pandas

__all__ = ["Library", "LibraryWarning", "parse_terms", "publish"]

FORMAT = 1
_OUTSIDE = ("id", "model", "created")  # not part of what a model is


class LibraryWarning(UserWarning):
    """A record that cannot be used and was left out."""


def publish(library: str | os.PathLike[str], record: Mapping[str, Any], model: str | os.PathLike[str]) -> str:
    """Add a model to a library; publishing the same model again changes nothing.

    Parameters
    ----------
    library : path
        Made if there is none.
    record : mapping
        As in catalog/record.schema.json, without 'format', 'id', 'model', 'model_hash' and 'created'.
    model : path
        The model's store; it is copied.

    Returns
    -------
    str
        The record's id.

    Raises
    ------
    LibraryError
        If the record does not follow the schema, or there is no such model.
    """
    library, model = Path(library), Path(model)
    if not model.is_dir():
        raise LibraryError("no such model", where=str(model), remedy="Run `automfm fit RUN` first.")
    complete = _completed(record, folder_hash(model))
    _copy_model(model, library / complete["model"], complete["model_hash"])
    path = _record_path(library, complete["id"])
    if _is_damaged(path):
        write_json(path, complete)
    return str(complete["id"])


@dataclass(frozen=True)
class Library:
    """Records read from a library, or those a search found.

    Parameters
    ----------
    path : Path
    records : tuple of dict
        Sorted by id.
    """

    path: Path
    records: tuple[Mapping[str, Any], ...]
    _flat: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)

    @staticmethod
    def open(path: str | os.PathLike[str], name: str = "") -> Library:
        """Read the records whose id starts with `name`; damaged ones are left out with a `LibraryWarning`.

        Raises
        ------
        LibraryError
            If there is no library.
        """
        folder = Path(path)
        if not (folder / "records").is_dir():
            raise LibraryError("no library here", where=str(folder),
                               remedy="Publish a model first: `automfm run` or `automfm publish RUN`.")
        found = (_read_or_warn(p) for p in sorted((folder / "records").glob("[!.]*.json"))
                 if p.name.startswith(name))
        return Library(folder, tuple(r for r in found if r is not None))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.records)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(r["id"] for r in self.records)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The records with flat columns."""
        if not self._flat:
            self._flat.extend(flatten(r) for r in self.records)
        return self._flat

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(c for row in self.rows for c in row))

    @property
    def df(self) -> pandas.DataFrame:
        """One row per model, indexed by id."""
        import pandas

        return pandas.DataFrame(self.rows, columns=list(self.columns) or ["id"]).set_index("id")

    def search(self, query: str | None = None, **criteria: Any) -> Library:
        """The models that meet all conditions.

        Parameters
        ----------
        query : str, optional
            For example ``"score.GrC < 5 and region == 'cerebellum'"``.
        **criteria
            By column: a value, a list (any of them), a tuple (low, high) (a range, both ends included, None
            for an open end), or a mapping for nested ones: ``Q={"mf->GrC": (0.2, 0.5)}``.

        Raises
        ------
        LibraryError
            If a column is unknown or a condition cannot be understood.
        """
        if not self.records:
            conditions(dict.fromkeys(re.split(r"[.\[]", key)[0] for key in criteria), _schema()["properties"])
            return self
        wanted = conditions(criteria, self.columns)
        test = compile_query(query, self.columns) if query else None
        chosen = [
            (record, row) for record, row in zip(self.records, self.rows, strict=True)
            if all(satisfies(row.get(c), w) for c, w in wanted.items()) and (test is None or test(row))
        ]
        return Library(self.path, tuple(r for r, _ in chosen), [row for _, row in chosen])

    def show(self, name: str) -> Mapping[str, Any]:
        """The record with this id, or whose id alone starts so.

        Raises
        ------
        LibraryError
            If there is none, or more than one.
        """
        found = [r for r in self.records if r["id"].startswith(name)] if name else []
        if len(found) == 1:
            return found[0]
        if found:
            raise LibraryError(f"'{name}' begins {len(found)} ids", where=str(self.path),
                               remedy=f"Write more of it: {', '.join(r['id'] for r in found[:5])}")
        raise LibraryError(f"no model '{name}'", where=str(self.path), remedy=suggest(name, self.ids[:20]))

    def model_path(self, name: str) -> Path:
        """The model's store, verified, for `MeanField.load`.

        Raises
        ------
        LibraryError
            If it is missing or has been changed.
        """
        record = self.show(name)
        path = self.path / str(record["model"])
        if not path.is_dir():
            raise LibraryError("the model's store is missing", where=str(path), remedy="Publish the run again.")
        if folder_hash(path) != record["model_hash"]:
            raise LibraryError("the model's store has been changed or damaged since it was published",
                               where=str(path), remedy="Publish the run again.")
        return path


# --- records ----------------------------------------------------------------------------------------


def _completed(record: Mapping[str, Any], model_hash: str) -> dict[str, Any]:
    """The record as it is written: plain, checked, with its id."""
    try:
        plain = json.loads(canonical_json({**record, "format": FORMAT, "model_hash": model_hash}))
    except (TypeError, ValueError) as error:
        raise LibraryError(f"cannot be written as JSON ({error})", where="record",
                           remedy="Use None where a number is not known.") from None
    name = _identity(plain)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    complete = {"created": created, **plain, "id": name, "model": f"models/{name}.zarr"}
    _check(complete)
    return complete


def _identity(record: Mapping[str, Any]) -> str:
    return content_hash({k: v for k, v in record.items() if k not in _OUTSIDE})


def _check(record: Mapping[str, Any]) -> None:
    """Compare with the schema; the first difference is the message."""
    import jsonschema

    errors = sorted(jsonschema.Draft202012Validator(_schema()).iter_errors(record), key=lambda e: len(e.absolute_path))
    if errors:
        place = ".".join(["record", *(str(p) for p in errors[0].absolute_path)])
        raise LibraryError(errors[0].message, where=place)


@cache
def _schema() -> dict[str, Any]:
    """The schema of records: beside this module in an installed package, in catalog/ in a checkout."""
    here = Path(__file__).parent
    for folder in (here, here.parent / "catalog"):
        if (folder / "record.schema.json").is_file():
            return dict(json.loads((folder / "record.schema.json").read_text("utf-8")))
    raise LibraryError("record.schema.json is missing", where=str(here), remedy="Install automfm_hpc again.")


def _record_path(library: Path, name: str) -> Path:
    return library / "records" / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    """One record, verified against its id."""
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise LibraryError(f"has format {record['format']}, this program reads {FORMAT}", where=str(path))
        if not record["id"] == path.stem == _identity(record):
            raise LibraryError("has been changed since it was published", where=str(path))
        return dict(record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LibraryError(f"is not a record ({error})", where=str(path)) from None


def _read_or_warn(path: Path) -> dict[str, Any] | None:
    try:
        return _read(path)
    except AutomfmError as error:
        warnings.warn(f"{error} It is left out.", LibraryWarning, stacklevel=4)
        return None


def _is_damaged(path: Path) -> bool:
    """Whether there is no usable record."""
    try:
        _read(path)
    except LibraryError:
        return True
    return False


# --- models -----------------------------------------------------------------------------------------


def folder_hash(folder: Path) -> str:
    """Hash over the names and contents of all files below a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return content_hash([[str(p.relative_to(folder)), hashlib.sha256(p.read_bytes()).hexdigest()] for p in files])


def _copy_model(source: Path, target: Path, expected: str) -> None:
    """Copy a model aside and rename it; a whole copy already there stays."""
    if target.is_dir() and folder_hash(target) == expected:
        return
    aside = folders.aside(target)
    shutil.copytree(source, aside)
    if folder_hash(aside) != expected:
        shutil.rmtree(aside)
        raise LibraryError("changed while it was copied", where=str(source), remedy="Publish again.")
    if target.exists():
        folders.put_in_place(aside, target)
    else:
        folders.move(aside, target)
