"""The library as an Intake catalog: searched as a table, opened lazily.

    models = intake.open_catalog("catalog/mfm.yaml").models
    models.search(pathology="ataxia", Q={"mf->GrC": (0.2, 0.5)}).df
    models["<id>"].to_dask()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from intake.catalog.base import Catalog
from intake.source.base import DataSource

from automfm_hpc.library import Library

if TYPE_CHECKING:
    import pandas
    import xarray


class ModelSource(DataSource):
    """One model of a library.

    Parameters
    ----------
    library : str
        The library's folder.
    id : str
    """

    name = "automfm_model"
    container = "xarray"
    version = "1"

    def __init__(self, library: str, id: str, metadata: Mapping[str, Any] | None = None) -> None:
        super().__init__(metadata=dict(metadata or {}))
        self.library, self.id = library, id
        self.name = id

    @property
    def path(self) -> str:
        """The model's store, verified, for `MeanField.load`."""
        return str(Library.open(self.library, self.id).model_path(self.id))

    def to_dask(self) -> xarray.Dataset:
        """The model's data set; values are read when they are used."""
        import xarray

        dataset: xarray.Dataset = xarray.open_zarr(self.path)
        return dataset

    def read(self) -> xarray.Dataset:
        """The model's data set in memory."""
        return self.to_dask().load()

    def _close(self) -> None:
        """Nothing stays open."""


class ModelCatalog(Catalog):
    """The models of a library, or those that meet the conditions of `search`.

    Parameters
    ----------
    path : str
        The library's folder.
    searches : tuple of mapping
        Conditions of earlier searches, applied in turn.
    """

    name = "automfm_models"
    container = "catalog"
    version = "1"

    def __init__(self, path: str, searches: tuple[Mapping[str, Any], ...] = (), **kwargs: Any) -> None:
        self.path, self.searches = str(path), tuple(searches)
        super().__init__(**kwargs)

    def _load(self) -> None:
        library = Library.open(self.path)
        for criteria in self.searches:
            library = library.search(**criteria)
        self.library = library
        self._entries = _Entries(library)

    def search(self, query: str | None = None, **criteria: Any) -> ModelCatalog:
        """The catalog of the models that meet all conditions, see `Library.search`."""
        step = {"query": query, **criteria} if query else criteria
        return ModelCatalog(self.path, (*self.searches, step), name=self.name, metadata=self.metadata, ttl=self.ttl)

    @property
    def df(self) -> pandas.DataFrame:
        """One row per model."""
        self.reload()
        return self.library.df

    def _get_entry(self, name: str) -> ModelSource:
        self.reload()
        return self._entries[name]


class _Entries(Mapping[str, ModelSource]):
    """Entries made when they are asked for; a unique beginning of an id is enough."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._ids = set(library.ids)

    def __getitem__(self, name: str) -> ModelSource:
        if name not in self:
            raise KeyError(name)
        record = self._library.show(name)
        return ModelSource(str(self._library.path), record["id"], metadata=record)

    def __contains__(self, name: object) -> bool:
        return name in self._ids or sum(str(name) == i[:len(str(name))] for i in self._ids) == 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._library.ids)

    def __len__(self) -> int:
        return len(self._library)
