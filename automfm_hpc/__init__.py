"""Mean-field models of spiking networks, derived automatically, on a laptop or a supercomputer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {"Network": "network", "remap": "remap", "MeanField": "mean_field"}
__all__ = ["MeanField", "Network", "__version__", "remap"]

if TYPE_CHECKING:
    from automfm_hpc.mean_field import MeanField as MeanField
    from automfm_hpc.network import Network as Network
    from automfm_hpc.remap import remap as remap


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `import automfm_hpc` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'automfm_hpc' has no attribute '{name}'")
    return getattr(importlib.import_module(f"automfm_hpc.{_PUBLIC[name]}"), name)
