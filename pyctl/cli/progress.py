"""What a transfer tells on stderr: bars on a terminal, a line for each finished blob otherwise.

Weight: `os`, `time`, `pyctl.cli.output`.  Nothing is drawn by a timer: each event of the transfer may redraw, at most
ten times a second.
"""

from __future__ import annotations

import os
import sys
import time

from pyctl.cli import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from storage.fetch import PullEvent

_REDRAW_S = 0.1
_BAR_WIDTH = 24
_SHORT = 12


class Progress:
    """A callback for `PullEvent`s; `finish()` ends the drawing."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars = not quiet and os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb"
        self._rows: dict[str, _Row] = {}
        self._drawn = 0  # lines on the screen that are ours
        self._last_s = 0.0

    def __call__(self, event: PullEvent) -> None:
        """Take note of an event, and show it."""
        if event.kind == "warning":
            self._line(f"pyctl: warning: {output.clean(event.text)}")
            return
        if self._quiet:
            return
        if event.kind in ("trying", "line"):
            said = output.clean(event.text)
            self._line(f"Trying to pull {said}..." if event.kind == "trying" else said)
            return
        row = self._rows.setdefault(event.digest, _Row(event.digest))
        before = row.state
        row.take(event)
        if not self._bars:
            if row.state not in (before, "running"):
                self._line(row.text(0))
            return
        now = time.monotonic()
        if row.state != before or now - self._last_s >= _REDRAW_S:
            self._last_s = now
            self._draw()

    def finish(self) -> None:
        """The last picture stays on the screen."""
        if self._bars and self._rows:
            self._draw()
        self._rows.clear()
        self._drawn = 0

    def _line(self, text: str) -> None:
        self._erase()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
        if self._bars and self._rows:
            self._draw()

    def _erase(self) -> None:
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\r\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        try:
            columns = os.get_terminal_size(2).columns or 80
        except OSError:
            columns = 80
        self._erase()
        # No line may wrap, or moving up by lines would miss.
        lines = [row.text(columns)[: columns - 1] for row in self._rows.values()]
        sys.stderr.write("".join(line + "\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)


class _Row:
    """One blob.  `state`: "running" | "waiting" | "exists" | "mounted" | "done"."""

    def __init__(self, digest: str) -> None:
        self._name = digest.partition(":")[2][:_SHORT]
        self._what = "blob"
        self.state = "running"
        self._done = self._total = self._offset = 0
        self._started_s = time.monotonic()

    def take(self, event: PullEvent) -> None:
        if event.kind == "start":
            self._what = "config" if event.text == "config" else "blob"
            self.state = "running"
            self._offset = event.done
            self._started_s = time.monotonic()
        elif event.kind == "done":
            self.state = event.text if event.text in ("exists", "mounted") else "done"
        elif event.kind == "waiting":
            self.state = "waiting"
            return
        else:
            self.state = "running"
        self._done = event.done
        self._total = event.total or self._total

    def text(self, columns: int) -> str:
        """The line; columns 0: without a bar."""
        head = f"Copying {self._what} {self._name}"
        if self.state == "waiting":
            return f"{head} waiting for another process"
        if self.state == "exists":
            return f"{head} exists already"
        if self.state == "mounted":
            return f"{head} mounted from another repository"
        if self.state == "done":
            return f"{head} done, {output.human_size(self._total)}" if self._total else f"{head} done"
        if not columns or not self._total:
            return f"{head} {output.human_size(self._done)}"
        share = min(1.0, self._done / self._total)
        filled = int(share * _BAR_WIDTH)
        bar = ("=" * filled + ">")[:_BAR_WIDTH].ljust(_BAR_WIDTH, "-")
        rate = (self._done - self._offset) / max(time.monotonic() - self._started_s, 0.001)
        return (
            f"{head} [{bar}] {output.human_size(self._done)} / {output.human_size(self._total)}"
            f" {output.human_size(rate)}/s"
        )
