"""Folders that appear whole: written aside, flushed to the disk, then renamed.

A reader sees the old folder or the new one, never half of one, and a process killed between any two steps
leaves something `recover` can put right.
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path


def aside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.aside-{secrets.token_hex(6)}")


def move(aside: Path, path: Path) -> None:
    """Give a new folder its name; if another process was first, its folder stays."""
    flush(aside)
    try:
        os.rename(aside, path)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not path.exists():
            raise
    _flush_entry(path.parent)


def put_in_place(aside: Path, path: Path) -> None:
    """Replace a folder by one written aside; killed between any two steps, `recover` finds a whole one."""
    new, old = _neighbours(path)
    flush(aside)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    os.rename(aside, new)
    if path.exists():
        os.rename(path, old)
    recover(path)
    _flush_entry(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(path: Path) -> None:
    """If a replacement was interrupted after the old folder left, put the new one (or the old) in place."""
    for candidate in _neighbours(path):
        if path.exists():
            return
        try:
            os.rename(candidate, path)
        except FileNotFoundError:
            continue


def _neighbours(path: Path) -> tuple[Path, Path]:
    return path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")


def remove_leftovers(path: Path) -> None:
    for folder in (*_neighbours(path), *path.parent.glob(f".{path.name}.aside-*")):
        shutil.rmtree(folder, ignore_errors=True)


def flush(folder: Path) -> None:
    """Flush every file and folder below to the disk."""
    for parent, _, names in os.walk(folder):
        for name in (*names, "."):
            _flush_entry(Path(parent, name))


def _flush_entry(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
