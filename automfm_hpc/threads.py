"""One BLAS thread per process: two processes with two threads each run five times slower on two cores."""

from __future__ import annotations

import ctypes
import os

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
            "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
_SET_THREADS = tuple(f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("", "scipy_")
                     for suffix in ("", "64_", "_64"))


def limit_threads() -> None:
    """One BLAS thread per process, in the libraries loaded already and those loaded from now on."""
    for name in _THREADS:
        os.environ[name] = "1"
    for library in loaded("openblas"):
        for name in _SET_THREADS:
            if hasattr(library, name):
                getattr(library, name)(1)


def loaded(part: str) -> list[ctypes.CDLL]:
    """Shared libraries of this process with `part` in their file name (Linux; elsewhere none)."""
    if not os.path.exists("/proc/self/maps"):
        return []
    with open("/proc/self/maps", encoding="utf-8") as file:
        paths = {line.split(maxsplit=5)[5].strip() for line in file if len(line.split(maxsplit=5)) == 6}
    return [ctypes.CDLL(p) for p in sorted(paths) if part in os.path.basename(p)]
