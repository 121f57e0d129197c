"""Outputs at their source in a plain IPython terminal: what is printed, displayed, returned and raised.

The user sees everything as IPython prints it; the sink gets the same as MIME bundles, as a notebook would.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .fds import FdCapture
from .sink import Sink


class TerminalOutputs:
    """Runs cells and hands what they show to sinks.

    Args:
        shell: a terminal shell, or any ``InteractiveShell`` without a kernel.
    """

    cell_id = client = ""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def begin(self) -> None:
        """Let figures be made as pictures where no window could show them."""
        if "matplotlib" not in sys.modules and not _has_display():
            os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    @contextlib.contextmanager
    def capture(self, sink: Sink, _code: str, _message: str, _count: int) -> Iterator[None]:
        """Run a cell's code within: what it shows goes to ``sink`` and to the terminal."""
        muted = _Muted()

        def take(name: str, text: str) -> None:
            if not muted.on:
                sink.take({"output_type": "stream", "name": name, "text": text})

        with FdCapture(take) as fds, contextlib.ExitStack() as patches:
            muted.drain = fds.drain
            for patch in (self._pictures, self._displays, self._results, self._errors, self._commands):
                patches.enter_context(patch(sink, muted))
            yield
        sink.finish()

    def restore(self) -> None:
        """There is nothing to restore: a terminal has no parent headers."""

    def close(self) -> None:
        """There is nothing to take back: every capture cleans up after itself."""

    @contextlib.contextmanager
    def _pictures(self, _sink: Sink, _muted: "_Muted") -> Iterator[None]:
        """Let pictures be made: a terminal makes texts only, but the model can see."""
        formatter = self._shell.display_formatter
        before = formatter.active_types
        formatter.active_types = [*before, *(kind for kind in ("image/png", "image/jpeg") if kind not in before)]
        try:
            yield
        finally:
            formatter.active_types = before

    @contextlib.contextmanager
    def _displays(self, sink: Sink, muted: "_Muted") -> Iterator[None]:
        publisher = self._shell.display_pub
        publish, clear = publisher.publish, publisher.clear_output

        def published(data: Any, metadata: Any = None, *args: Any, update: bool = False, **options: Any) -> None:
            from ipykernel.jsonutil import encode_images, json_clean  # noqa: PLC0415 - only when something is displayed

            with muted:
                publish(data, metadata, *args, update=update, **options)
            kind = "update_display_data" if update else "display_data"
            bundle = json_clean(encode_images(dict(data)))
            transient = options.get("transient") or {}
            sink.take({"output_type": kind, "data": bundle, "metadata": metadata or {}, "transient": transient})

        def cleared(wait: bool = False) -> None:
            with muted:
                clear(wait)
            sink.take({"output_type": "clear_output", "wait": wait})

        with _replaced(publisher, publish=published, clear_output=cleared):
            yield

    @contextlib.contextmanager
    def _results(self, sink: Sink, muted: "_Muted") -> Iterator[None]:
        hook = self._shell.displayhook
        start, write, finish = hook.start_displayhook, hook.write_format_data, hook.finish_displayhook

        def started() -> None:
            muted.__enter__()
            start()

        def written(data: Any, metadata: Any = None) -> None:
            from ipykernel.jsonutil import encode_images, json_clean  # noqa: PLC0415

            write(data, metadata)
            count = self._shell.execution_count - 1
            bundle = json_clean(encode_images(dict(data)))
            result = {"output_type": "execute_result", "execution_count": count, "data": bundle}
            sink.take({**result, "metadata": metadata or {}})

        def finished() -> None:
            finish()
            muted.__exit__()

        with _replaced(hook, start_displayhook=started, write_format_data=written, finish_displayhook=finished):
            try:
                yield
            finally:
                muted.on = 0

    @contextlib.contextmanager
    def _errors(self, sink: Sink, muted: "_Muted") -> Iterator[None]:
        show = self._shell._showtraceback  # noqa: SLF001 - the one place through which IPython prints tracebacks

        def shown(kind: Any, error: Any, lines: Any) -> None:
            rows = [lines] if isinstance(lines, str) else list(lines)
            with muted:
                show(kind, error, lines)
            sink.take({"output_type": "error", "ename": kind.__name__, "evalue": str(error), "traceback": rows})

        with _replaced(self._shell, _showtraceback=shown):
            yield

    @contextlib.contextmanager
    def _commands(self, _sink: Sink, _muted: "_Muted") -> Iterator[None]:
        """``!command`` prints through Python, so that its output is complete when it returns."""
        with _replaced(self._shell, system=self._shell.system_piped):
            yield


class _Muted:
    """While open, what is printed is shown but not taken: it is taken as a bundle instead."""

    def __init__(self) -> None:
        self.on = 0
        self.drain: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        self.drain()
        self.on += 1

    def __exit__(self, *_: object) -> None:
        self.drain()
        self.on = max(0, self.on - 1)


@contextlib.contextmanager
def _replaced(owner: Any, **functions: Callable[..., Any]) -> Iterator[None]:
    """Set attributes of one object for a while."""
    before = {name: vars(owner).get(name) for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for name, function in before.items():
            if function is None:
                delattr(owner, name)
            else:
                setattr(owner, name, function)


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
