"""Expected failures: each says where it happened, what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AutomfmError(Exception):
    """A failure the user can act on; the command line prints it as one line and exits with 1.

    Parameters
    ----------
    what : str
        What is wrong.
    where : str, optional
        The place: a file, a key, a population, a chunk.
    remedy : str, optional
        What the user can do.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text.rstrip('.')}. {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process and rank boundaries; keyword-only fields need this.
        return _rebuild, (type(self), self.what, self.where, self.remedy)


class UsageError(AutomfmError):
    """Arguments that cannot be meant (exit code 2)."""


class NetworkError(AutomfmError, ValueError):
    """A network description that is incomplete or contradicts itself."""


class PlanError(AutomfmError, ValueError):
    """A plan that cannot be made or read."""


class SimulationError(AutomfmError, RuntimeError):
    """NEST is missing, cannot be extended, or a simulation failed."""


class StoreError(AutomfmError, RuntimeError):
    """A store that is missing, damaged, or belongs to another plan."""


class FitError(AutomfmError, RuntimeError):
    """A transfer function that cannot be fitted, or a fit that cannot be trusted."""


class MeanFieldError(AutomfmError, ValueError):
    """A mean-field model that cannot be built or driven as asked."""


class LibraryError(AutomfmError, RuntimeError):
    """A catalog or a record that is missing or unreadable."""


class LauncherError(AutomfmError, RuntimeError):
    """MPI, Dask or the batch system is not what it claims to be."""


class LIFError(AutomfmError, ValueError):
    """Bad input to, or no result from, the theory of leaky integrate-and-fire networks."""


def _rebuild(kind: type[AutomfmError], what: str, where: str, remedy: str) -> AutomfmError:
    return kind(what, where=where, remedy=remedy)


def suggest(word: object, known: Iterable[object]) -> str:
    """Remedy text for an unknown word: the nearest known one, else the whole list."""
    words = sorted(str(k) for k in known)
    near = get_close_matches(str(word), words, n=1, cutoff=0.5)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(words)}." if words else ""
