"""Mean-field models of spiking networks, derived automatically, on a laptop or a supercomputer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The function `remap` shares its name with its module: importing it here binds the function for good.
from automfm_hpc.network import Network
from automfm_hpc.remap import remap

if TYPE_CHECKING:
    from automfm_hpc.mean_field import MeanField

__version__ = "0.1.0"
__all__ = ["MeanField", "Network", "__version__", "remap"]


def __getattr__(name: str) -> Any:
    """Import the solver on first use: it compiles, so only those who solve pay for it."""
    if name == "MeanField":
        from automfm_hpc.mean_field import MeanField

        return MeanField
    raise AttributeError(f"module 'automfm_hpc' has no attribute '{name}'")
