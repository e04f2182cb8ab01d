"""The Zarr stores of a run: filled by many processes at once, safe to kill at any moment, resumed by reading."""

from automfm_hpc.store.layout import VARIABLES
from automfm_hpc.store.models import read_model, write_model
from automfm_hpc.store.rates import Failure, Progress, RateStore
from automfm_hpc.store.responses import ResponseStore
from automfm_hpc.store.trials import TrialStore

__all__ = ["VARIABLES", "Failure", "Progress", "RateStore", "ResponseStore", "TrialStore", "read_model", "write_model"]
