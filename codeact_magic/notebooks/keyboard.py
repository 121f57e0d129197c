"""Lines that the user types in a terminal, in answer to a question."""

import asyncio
import contextlib
import os
import sys

try:
    import termios
except ImportError:  # Windows, whose event loop cannot wait for a terminal's line either
    termios = None  # type: ignore[assignment]

_LINE = 4096  # bytes of an answer, which is what a terminal hands over at once


def can_ask() -> bool:
    """Say whether the user can be asked: the terminal shows the question, and a line can be read from it."""
    shown = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return shown and termios is not None


def forget_typed() -> None:
    """Drop what was typed before there was a question: it is no answer."""
    if termios is not None:
        with contextlib.suppress(termios.error, OSError, ValueError):  # it is no terminal
            termios.tcflush(sys.stdin, termios.TCIFLUSH)


async def line_read() -> str:
    """Read a line of the terminal; empty at its end. A thread that waits for it would take the next answer too."""
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    read: asyncio.Future[str] = loop.create_future()

    def take() -> None:
        line = b""
        with contextlib.suppress(OSError):  # the terminal is gone
            line = os.read(terminal, _LINE)
        if not read.done():
            read.set_result(line.decode(errors="replace"))

    loop.add_reader(terminal, take)
    try:
        return await read
    finally:
        loop.remove_reader(terminal)
