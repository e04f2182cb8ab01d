"""Ctrl-C ends a run even where Python loses the exception that it raises.

`KeyboardInterrupt` is raised wherever the program happens to be. In a finalizer or a callback from compiled code Python
prints and drops it, and the run would go on for hours. So the signal is remembered, too, and asked for between tasks.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_asked = False


def listen() -> None:
    """Remember signals from now on; not where they are ignored (nohup) or handled by somebody else."""
    global _asked
    _asked = False
    mine = threading.current_thread() is threading.main_thread()
    if mine and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def heed() -> None:
    """Between two tasks.

    Raises
    ------
    KeyboardInterrupt
        If somebody has pressed Ctrl-C and nothing came of it.
    """
    global _asked
    if _asked:
        _asked = False
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    signal.default_int_handler(number, frame)
