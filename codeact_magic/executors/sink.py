"""Takes one cell's outputs as they are published, on any thread, and keeps them within bounds."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..events import Output
from ..outputs import bounded, display_id, redact, text_of, valid
from .pip import PipFold

MAX_TEXT = 200_000
"""Characters of a cell's streams, and of any one text of a rich output, that are shown; the rest is counted."""
MAX_OUTPUTS = 500
"""Displays, results and errors of a cell that are shown."""
MAX_BYTES = 32_000_000
"""Bytes of a cell's rich outputs that are shown."""

Watch = Callable[[str, Output], None]
"""Called with a cell's id and each of its outputs at the source, on the thread that published it."""


class Sink:
    """The outputs of one cell: bounded, redacted, queued for the loop.

    Args:
        cell: the cell's id.
        secrets: values that no output may show.
        watch: sees each output at once, also while the cell blocks the main thread.
        fold: shortens what installers of packages print; see ``pip.folding``.
    """

    def __init__(
        self, cell: str, secrets: Sequence[str] = (), watch: Watch | None = None, fold: PipFold | None = None
    ) -> None:
        self.cell = cell
        self.closed = False
        self._secrets = secrets
        self._watch = watch
        self._fold = fold
        self._lock = threading.RLock()  # an object that is collected within may print
        self._queue: list[Output] = []
        self._text = 0  # characters of streams that were passed on
        self._tail: deque[tuple[str, str]] = deque()  # what came after them, bounded
        self._tail_length = 0
        self._left_out = 0
        self._rich = 0
        self._bytes = 0
        self._refused = 0
        self._clearing = False
        self._wake: Callable[[], None] | None = None

    def take(self, output: Output) -> Output | None:
        """Keep an output and give it as it may be shown, or None if it is beyond the bounds or may come later."""
        with self._lock:
            safe = self._folded(output) if output["output_type"] == "stream" else self._other(output)
            if safe is not None and not self.closed:
                self._keep(safe)
        if safe is not None and self._watch:
            self._watch(self.cell, safe)
        if self._wake:
            self._wake()
        return safe

    def finish(self) -> list[Output]:
        """Close the sink and give the outputs that say what was left out, with the streams' tail."""
        notes: list[Output] = []
        with self._lock:
            for name, text in self._fold.finish() if self._fold else ():
                if safe := self._stream({"output_type": "stream", "name": name, "text": text}):
                    notes.append(safe)
            if self._tail:
                left = f"\n... [{self._left_out:,} characters left out] ...\n" if self._left_out else ""
                name = self._tail[-1][0]
                text = left + "".join(text for _, text in self._tail)
                notes.append({"output_type": "stream", "name": name, "text": text})
            if self._refused:
                text = f"[{self._refused:,} further outputs left out]\n"
                notes.append({"output_type": "stream", "name": "stderr", "text": text})
            self._tail.clear()
            for note in notes:
                self._keep(note)
            self.closed = True
        if self._watch:
            for note in notes:
                self._watch(self.cell, note)
        return notes

    def drain(self) -> list[Output]:
        """Give what has come since the last call."""
        with self._lock:
            queue, self._queue = self._queue, []
        return queue

    async def wait(self) -> None:
        """Wait until something comes."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(came.set)

        self._wake = wake
        try:
            if not self._queue:
                await came.wait()
        finally:
            self._wake = None

    def _keep(self, output: Output) -> None:
        kind, last = output["output_type"], self._queue[-1] if self._queue else {"output_type": ""}
        if kind == "stream" == last["output_type"] and last["name"] == output["name"]:
            last["text"] += output["text"]
            return
        if self._clearing and kind not in ("clear_output", "update_display_data"):
            self._forget()
        if kind == "clear_output" and output.get("wait"):
            self._clearing = True
            self._queue.append(output)
        elif kind == "clear_output":
            self._forget()
        elif kind == "update_display_data" == last["output_type"] and display_id(last) == display_id(output):
            self._queue[-1] = dict(output)
        else:
            self._queue.append(dict(output))

    def _forget(self) -> None:
        """Drop what is cleared: a cell that draws a thousand frames has one."""
        self._clearing = False
        self._queue = [{"output_type": "clear_output", "wait": False}]
        self._rich = self._bytes = 0

    def _folded(self, output: Output) -> Output | None:
        """Pass a stream through the fold; what that gives back of both streams comes under this one's name."""
        if self._fold is None or self.closed:
            return self._stream(output)
        pieces = self._fold.take(str(output["name"]), valid(text_of(output["text"])))
        name = pieces[0][0] if len(pieces) == 1 else output["name"]
        text = "".join(text for _, text in pieces)
        return self._stream({"output_type": "stream", "name": name, "text": text}) if text else None

    def _stream(self, output: Output) -> Output | None:
        text, name = redact(valid(text_of(output["text"])), self._secrets), str(output["name"])
        room = max(MAX_TEXT * 2 // 3 - self._text, 0)
        head, rest = text[:room], text[room:]
        self._text += len(head)
        if rest:
            self._push_tail(name, rest)
            if head:
                head += "\n... [more is printed; its end is shown when the cell ends] ..."
        return {"output_type": "stream", "name": name, "text": head} if head else None

    def _push_tail(self, name: str, text: str) -> None:
        kept = text[-(MAX_TEXT // 3) :]
        self._left_out += len(text) - len(kept)
        self._tail.append((name, kept))
        self._tail_length += len(kept)
        while (surplus := self._tail_length - MAX_TEXT // 3) > 0:
            name, first = self._tail.popleft()
            if len(first) > surplus:
                self._tail.appendleft((name, first[surplus:]))
            self._left_out += min(len(first), surplus)
            self._tail_length -= min(len(first), surplus)

    def _other(self, output: Output) -> Output | None:
        kind = output["output_type"]
        if kind == "clear_output":
            return output
        safe: Output = redact(_trimmed(output), self._secrets)
        if kind == "error":  # it is bounded, and without it nobody knows why the cell failed
            return safe
        size = _size(safe)
        count = self._rich + (kind != "update_display_data")
        cleared = self._clearing  # the next output replaces all
        if not cleared and (count > MAX_OUTPUTS or self._bytes + size > MAX_BYTES):
            self._refused += 1
            return None
        self._rich, self._bytes = count, self._bytes + (size if kind != "update_display_data" else 0)
        return safe


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 8


def _trimmed(output: Output) -> Output:
    """Bound the texts of a rich output; pictures and other encoded data are whole or not at all."""
    if output["output_type"] == "error":
        evalue = bounded(valid(text_of(output.get("evalue", ""))), MAX_TEXT // 20)
        lines = [bounded(valid(text_of(line)), MAX_TEXT // 20) for line in output.get("traceback") or []]
        return {**output, "evalue": evalue, "traceback": lines[:50] + lines[50:][-50:]}
    data = {
        str(mime): bounded(valid(value), MAX_TEXT)
        if isinstance(value, str) and str(mime).startswith("text/")
        else value
        for mime, value in (output.get("data") or {}).items()
    }
    return {**output, "data": data}
