"""Output that bypasses ``sys.stdout``: child processes and C code write to the file descriptors themselves.

Whatever reads the other end of the pipe does so on a thread of its own. To know that it has read all, a sentinel is
sent through the pipe: when it comes out, everything before it has.
"""

import codecs
import contextlib
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TextIO

_PATIENCE = 2.0  # seconds; a stopped reader must not hang the turn


def _sentinel() -> str:
    """Give a unique mark that no terminal shows, should the reader copy it to one."""
    return "".join(chr(1 + value % 4) for value in secrets.token_bytes(24))


def drain_kernel_streams(streams: Iterable[Any]) -> None:
    """Wait until ipykernel's ``OutStream``s have taken what is in their pipes. One without a pipe needs no waiting."""
    with contextlib.ExitStack() as stack:
        passed = [stack.enter_context(_marked(stream)) for stream in streams if _watched(stream)]
        for each in passed:
            each.wait(_PATIENCE)


def _watched(stream: Any) -> bool:
    reader = getattr(stream, "watch_fd_thread", None)
    if reader is None or not reader.is_alive():
        return False
    try:  # code may have closed or redirected the descriptor: a mark would go where it does not belong
        ends = (os.fstat(stream._original_stdstream_fd), os.fstat(stream._fid))  # noqa: SLF001 - ipykernel keeps them
    except (OSError, AttributeError):
        return False
    return ends[0].st_ino == ends[1].st_ino


@contextlib.contextmanager
def _marked(stream: Any) -> Iterator[threading.Event]:
    """Send a mark through a stream's pipe and give the event that it has passed."""
    mark, passed, reader = _sentinel(), threading.Event(), stream.watch_fd_thread.ident
    write, held = stream.write, ""

    def watched(text: str) -> int | None:
        nonlocal held
        if threading.get_ident() != reader or passed.is_set():
            result: int | None = write(text)
            return result
        held += text
        before, found, after = held.partition(mark)
        # The mark may be cut in two by the end of a read.
        keep = 0 if found else _overlap(held, mark)
        ready, held = (before + after, "") if found else (held[: len(held) - keep], held[len(held) - keep :])
        if ready:
            write(ready)
        if found:
            passed.set()
        return len(text)

    stream.write = watched
    try:
        os.write(stream._original_stdstream_fd, mark.encode())  # noqa: SLF001 - ipykernel keeps it there
        yield passed
    finally:
        stream.write = write


def _overlap(text: str | bytes, mark: str | bytes) -> int:
    """Give how much of the text's end may be the beginning of the mark."""
    sizes = range(min(len(mark), len(text)), 0, -1)
    return next((size for size in sizes if mark.startswith(text[-size:])), 0)  # type: ignore[arg-type]


class FdCapture:
    """Copies what is written to stdout and stderr, at the level of file descriptors, and passes it on as it comes.

    Args:
        take: called on the reader's thread with ``"stdout"`` or ``"stderr"`` and decoded text.
    """

    def __init__(self, take: Callable[[str, str], None]) -> None:
        self._take = take
        self._pipes = [_Pipe(name, take) for name in ("stdout", "stderr")]

    def __enter__(self) -> Self:
        for pipe in self._pipes:
            pipe.open()
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()

    def drain(self) -> None:
        """Wait until all that was written so far has been taken."""
        for pipe in self._pipes:
            pipe.drain()


class _Pipe:
    """One redirected stream."""

    def __init__(self, name: str, take: Callable[[str, str], None]) -> None:
        self._name = name
        self._take = take
        self._saved: dict[int, int] = {}
        self._marks: dict[bytes, threading.Event] = {}
        self._write = -1

    @property
    def _stream(self) -> TextIO:
        stream: TextIO = getattr(sys, self._name)
        return stream

    def open(self) -> None:
        self._stream.flush()
        read, self._write = os.pipe()
        targets = {1 if self._name == "stdout" else 2}
        try:
            targets.add(self._stream.fileno())
        except (OSError, ValueError, AttributeError):
            pass  # a stream with no file descriptor prints elsewhere
        for target in targets:
            self._saved[target] = os.dup(target)
            os.dup2(self._write, target)
        self._reader = threading.Thread(target=self._pump, args=(read,), daemon=True, name=f"codeact-{self._name}")
        self._reader.start()

    def drain(self) -> None:
        self._stream.flush()
        mark = _sentinel().encode()
        self._marks[mark] = passed = threading.Event()
        os.write(self._write, mark)
        passed.wait(_PATIENCE)
        self._marks.pop(mark, None)

    def close(self) -> None:
        self.drain()
        for target, saved in self._saved.items():
            os.dup2(saved, target)
        os.close(self._write)
        self._reader.join(_PATIENCE)  # children that still hold the pipe keep the reader, which goes on copying
        if not self._reader.is_alive():
            for saved in self._saved.values():
                os.close(saved)
        self._saved = {}

    def _pump(self, read: int) -> None:
        out = min(self._saved.items())[1]
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        held = b""
        while piece := os.read(read, 65536):
            held += piece
            for mark, passed in list(self._marks.items()):
                if mark in held:
                    held = held.replace(mark, b"")
                    self._pass(held, out, decoder)
                    held = b""
                    passed.set()
            keep = max((_overlap(held, mark) for mark in list(self._marks)), default=0)
            self._pass(held[: len(held) - keep], out, decoder)
            held = held[len(held) - keep :]
        self._pass(held, out, decoder)
        os.close(read)

    def _pass(self, data: bytes, out: int, decoder: codecs.IncrementalDecoder) -> None:
        if data:
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]
            if text := decoder.decode(data):
                self._take(self._name, text)
