"""How far a long computation is: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

Report = Callable[[int, int], None]


def progress(label: str, stream: TextIO | None = None, interval: float = 30.0) -> Report:
    """A report for `map_tasks`: a bar with the remaining time on a terminal, else a line now and then."""
    out = sys.stderr if stream is None else stream
    return _Bar(label, out) if out.isatty() else _Lines(label, out, interval)


@dataclass
class _Lines:
    label: str
    stream: TextIO
    interval: float
    start: float = field(default_factory=time.monotonic)
    last: float = -1e9

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        ended = done == total and self.last < float("inf")
        if not ended and (now - self.last < self.interval or done == total):
            return
        self.last = float("inf") if ended else now
        spent = now - self.start
        left = f", about {_clock(spent / done * (total - done))} left" if 0 < done < total else ""
        print(f"{self.label}: {done} of {total}, {_clock(spent)} spent{left}", file=self.stream, flush=True)


@dataclass
class _Bar:
    label: str
    stream: TextIO
    bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.label, file=self.stream, unit="chunk", initial=done)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
