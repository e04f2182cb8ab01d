"""BSB configurations, YAML or JSON, with `$import` and `$ref` followed, and the simulation part chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from automfm_hpc.errors import NetworkError, suggest

_WITH_CONFIG = "Give a BSB configuration that holds it with --config SIM.yaml."


def read_configuration(path: str | Path) -> dict[str, Any]:
    """A configuration with every `$import` and `$ref` replaced by what it points to.

    ``$import: {ref: other.yaml#/a/b, values: [x, y]}`` takes the keys x and y of that node, ``$ref: other.yaml#/a``
    the whole node; keys given beside them win, dictionaries are merged. A path without file name means the
    same file.

    Raises
    ------
    NetworkError
        Naming the file, and the reference that leads nowhere or in a circle.
    """
    return _document(Path(path).resolve(), ())


def simulation_part(root: Mapping[str, Any], where: str, name: str | None = None) -> Mapping[str, Any]:
    """The simulation with cell and connection models: the one named, or the only one.

    Raises
    ------
    NetworkError
        If there is none, there are several, or it is not for NEST.
    """
    simulations = root.get("simulations") or ({"simulation": root} if "cell_models" in root else {})
    if not simulations:
        raise NetworkError("has no simulation part (cell constants, weights, delays)", where=where,
                           remedy=_WITH_CONFIG)
    if not isinstance(simulations, Mapping) or not all(isinstance(s, Mapping) for s in simulations.values()):
        raise NetworkError("must be a mapping of names to simulations", where=f"{where}: simulations")
    if name is None and len(simulations) > 1:
        raise NetworkError(f"has several simulations: {', '.join(simulations)}", where=where,
                           remedy="Choose one with --simulation NAME.")
    if name is not None and name not in simulations:
        raise NetworkError(f"no simulation '{name}'", where=where, remedy=suggest(name, simulations))
    part: Mapping[str, Any] = simulations[name or next(iter(simulations))]
    if part.get("simulator", "nest") != "nest":
        raise NetworkError(f"its simulation is for {part['simulator']}, not for NEST", where=where,
                           remedy=_WITH_CONFIG)
    for key in ("cell_models", "connection_models"):
        if not isinstance(part.get(key), Mapping) or not part[key]:
            raise NetworkError(f"its simulation part has no {key}", where=where, remedy=_WITH_CONFIG)
    for key in ("cell_models", "connection_models", "devices"):
        for entry, node in (part.get(key) or {}).items():
            if not isinstance(node, Mapping):
                raise NetworkError("must be a mapping", where=f"{where}: {key}.{entry}")
    return part


@dataclass(frozen=True)
class _Place:
    """The document a node stands in, its place there, and what is being followed (against circles)."""

    path: Path
    root: Any
    location: str
    following: tuple[str, ...]


def _document(path: Path, following: tuple[str, ...]) -> dict[str, Any]:
    root = _parse(path, following)
    resolved = _resolved(root, _Place(path, root, "", (*following, str(path))))
    return dict(resolved)


def _parse(path: Path, following: tuple[str, ...]) -> dict[str, Any]:
    remedy = f"It is asked for by {Path(following[-1].partition('#')[0]).name}." if following else ""
    try:
        root = yaml.safe_load(path.read_text("utf-8"))  # JSON is YAML
    except FileNotFoundError:
        raise NetworkError("no such file", where=str(path), remedy=remedy) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NetworkError(f"cannot be read as YAML or JSON ({' '.join(str(error).split())})",
                           where=str(path), remedy=remedy) from None
    if not isinstance(root, dict):
        raise NetworkError("is not a mapping of keys to values", where=str(path), remedy=remedy)
    return root


def _resolved(node: Any, place: _Place) -> Any:
    if isinstance(node, list):
        return [_resolved(v, _at(place, str(i))) for i, v in enumerate(node)]
    if not isinstance(node, dict):
        return node
    own = {k: _resolved(v, _at(place, str(k))) for k, v in node.items() if k not in ("$import", "$ref")}
    if "$ref" in node:
        own = _merged(_target(str(node["$ref"]), place), own)
    return _imported(own, node["$import"], place) if "$import" in node else own


def _at(place: _Place, key: str) -> _Place:
    return _Place(place.path, place.root, f"{place.location}/{key}", place.following)


def _imported(own: dict[str, Any], spec: Any, place: _Place) -> dict[str, Any]:
    here = f"{place.path}: {place.location}/$import"
    if not isinstance(spec, dict) or "ref" not in spec or not isinstance(spec.get("values"), list):
        raise NetworkError("needs a 'ref' and a list of 'values'", where=here)
    target = _target(str(spec["ref"]), place)
    for key in spec["values"]:
        if key not in target:
            raise NetworkError(f"no '{key}' in {spec['ref']}", where=here, remedy=suggest(key, target))
    return {**own, **{key: _merged(target[key], own[key]) if key in own else target[key] for key in spec["values"]}}


def _target(ref: str, place: _Place) -> dict[str, Any]:
    """The mapping a reference points to, itself resolved."""
    file, _, pointer = ref.rpartition("#")
    path = (place.path.parent / file).resolve() if file else place.path
    pointer = pointer if pointer.startswith("/") else f"{place.location}/{pointer}"
    here = f"{place.path}: {place.location or '/'}"
    key = str(path) if path != place.path else f"{path}#{pointer}"
    if key in place.following:
        raise NetworkError(f"'{ref}' leads back to itself", where=here)
    node = _document(path, place.following) if path != place.path else place.root
    for part in (p for p in pointer.split("/") if p):
        if not isinstance(node, dict) or part not in node:
            raise NetworkError(f"'{ref}' leads nowhere: no '{part}'", where=here,
                               remedy=suggest(part, node) if isinstance(node, dict) else "")
        node = node[part]
    if not isinstance(node, dict):
        raise NetworkError(f"'{ref}' is not a mapping", where=here)
    if path != place.path:
        return node
    return dict(_resolved(node, _Place(path, place.root, pointer.rstrip("/"), (*place.following, key))))


def _merged(below: Any, above: Any) -> Any:
    """`above` laid over `below`; dictionaries are merged, anything else replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{k: _merged(below[k], v) if k in below else v for k, v in above.items()}}
