"""A fitted model as one Zarr store: everything `MeanField.load` needs, and a data set to look at.

The root holds the data set (so xarray and Intake open it lazily) and the attributes; the group ``arrays``
holds further arrays; the groups ``transfer_functions/0``, ``1`` ... one transfer function each.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from automfm_hpc import folders
from automfm_hpc.errors import StoreError
from automfm_hpc.provenance import canonical_json
from automfm_hpc.store.layout import DAMAGE, codecs, consolidate

FORMAT = 1
_KEY = "automfm_model"  # the one attribute of the root that is ours
_FIELDS = ("kind", "population", "axes", "attributes")


def write_model(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write a model aside, then put it in place of what was there.

    Parameters
    ----------
    path : path
    document : mapping
        'attributes': plain data; 'arrays': name -> array; 'transfer_functions': a list of mappings with
        'kind', 'population', 'axes', 'attributes' and 'arrays'; optionally 'dataset': an xarray.Dataset.

    Raises
    ------
    StoreError
        If something in it cannot be stored: NaN in attributes, arrays of objects, names with a slash.
    """
    path = Path(path)
    folders.recover(path)
    folders.remove_leftovers(path)
    aside = folders.aside(path)
    try:
        _write(aside, document, str(path))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    folders.put_in_place(aside, path)


def read_model(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The document that was written; its 'dataset', if there is one, is opened lazily.

    Raises
    ------
    StoreError
        If there is no model, it is damaged, or another version wrote it.
    """
    path = Path(path)
    folders.recover(path)
    if not path.exists():
        raise StoreError("no such model", where=str(path), remedy="Run `automfm fit RUN` first.")
    try:
        return _read(path)
    except (*DAMAGE, KeyError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"is not a model or is damaged ({error})", where=str(path),
                         remedy="Run `automfm fit RUN` again, or fetch the model anew.") from None


def _write(aside: Path, document: Mapping[str, Any], where: str) -> None:
    dataset = document.get("dataset")
    if dataset is not None:
        encoding = {name: {"compressors": codecs()} for name in dataset.variables}
        _with_texts(dataset, object).to_zarr(aside, mode="w-", zarr_format=3, consolidated=False, encoding=encoding)
    root = zarr.open_group(aside, mode="a", zarr_format=3)
    root.attrs[_KEY] = {"format": FORMAT, "attributes": _plain(document["attributes"], f"{where}: attributes")}
    _write_arrays(root.create_group("arrays"), document["arrays"], f"{where}: arrays")
    listed = root.create_group("transfer_functions")
    for number, function in enumerate(document["transfer_functions"]):
        here = f"{where}: transfer_functions[{number}]"
        group = listed.create_group(str(number), attributes=_plain({k: function[k] for k in _FIELDS}, here))
        _write_arrays(group, function["arrays"], here)
    functions = [f"transfer_functions/{n}" for n in range(len(document["transfer_functions"]))]
    consolidate(aside, ["arrays", *functions, "transfer_functions"])


def _write_arrays(group: zarr.Group, arrays: Mapping[str, Any], where: str) -> None:
    for name, values in arrays.items():
        array = np.asarray(values)
        if array.dtype.kind not in "biufU":
            raise StoreError(f"arrays of {array.dtype} cannot be stored", where=f"{where}: {name}")
        if not name or "/" in name or name.startswith("."):
            raise StoreError(f"'{name}' cannot be the name of an array", where=where)
        text = array.dtype.kind == "U"
        stored: Any = group.create_array(name, shape=array.shape, dtype=str if text else array.dtype,
                                         chunks=tuple(max(1, n) for n in array.shape), compressors=codecs())
        stored[...] = array.astype(object) if text else array


def _read(path: Path) -> dict[str, Any]:
    root: Any = zarr.open_group(path, mode="r")
    header = root.attrs[_KEY]
    if header["format"] != FORMAT:
        raise StoreError(f"has format {header['format']}, this program reads {FORMAT}", where=str(path),
                         remedy="Use the program's version that wrote it.")
    listed = root["transfer_functions"]
    functions = [listed[str(n)] for n in range(len(list(listed.group_keys())))]
    document = {
        "attributes": header["attributes"],
        "arrays": _read_arrays(root["arrays"]),
        "transfer_functions": [{**dict(f.attrs), "arrays": _read_arrays(f)} for f in functions],
    }
    if any(True for _ in root.array_keys()):
        document["dataset"] = _open_dataset(path)
    return document


def _read_arrays(group: Any) -> dict[str, NDArray[Any]]:
    return {name: _values(array) for name, array in group.arrays()}


def _values(array: Any) -> NDArray[Any]:
    values = np.asarray(array[...])
    return values if values.dtype.kind in "biuf" else values.astype(object).astype(str)


def _open_dataset(path: Path) -> Any:
    import xarray

    dataset = xarray.open_zarr(path, chunks=None)
    dataset.attrs.pop(_KEY, None)
    return _with_texts(dataset, str)


def _with_texts(dataset: Any, dtype: type) -> Any:
    """The data set with texts of one kind: Zarr v3 specifies variable-length text (object) only."""
    names = [n for n, v in dataset.variables.items() if v.dtype.kind in "UOT"]
    return dataset.assign({n: dataset[n].astype(object).astype(dtype) for n in names})


def _plain(value: Any, where: str) -> Any:
    """The value itself, if JSON can carry it unchanged."""
    try:
        canonical_json(value)
    except (TypeError, ValueError) as error:
        raise StoreError(f"cannot be written as JSON ({error})", where=where,
                         remedy="Put numbers that may be NaN into arrays, or leave them out.") from None
    return value
