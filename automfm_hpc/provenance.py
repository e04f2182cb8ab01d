"""Identity of data: content hashes of canonical bytes, versions, and seeds that belong to the plan."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
    )


def content_hash(value: Any, length: int = 16) -> str:
    """First `length` hexadecimal digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")


def seed_for(root: int, *key: int | str) -> int:
    """Seed of one piece of work: a function of the plan's seed and the work's name alone.

    Returns
    -------
    int
        In [1, 2**31), as NEST wants its `rng_seed`.
    """
    digest = hashlib.sha256(canonical_json([int(root), *key]).encode()).digest()
    return int.from_bytes(digest[:8], "little") % (2**31 - 1) + 1


def versions(packages: Iterable[str] = ("automfm_hpc", "numpy", "scipy", "nest-simulator")) -> dict[str, str]:
    """Versions of the installed distributions among `packages`, and of Python."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` aside, flush it to the disk, then rename: a reader sees the old or the new file."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, target)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=1, allow_nan=False, default=_plain) + "\n")
