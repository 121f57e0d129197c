"""Execution counts around a turn: the prompt cell keeps its own, and the next cell goes on after the generated ones."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def counted(shell: Any, later: Callable[[Callable[..., None]], Any] | None) -> Iterator[None]:
    """Let the prompt cell keep its execution count, and the cell after the turn go on from the last generated one.

    Args:
        shell: the shell.
        later: schedules a call for when the kernel has replied to the prompt cell; None in a terminal.
    """
    before = shell.execution_count
    try:
        yield
    finally:
        final = shell.execution_count
        inputs = shell.history_manager.input_hist_parsed
        if len(inputs) > before - 1 and "codeact_magic" in inputs[before - 1]:
            inputs[before - 1] = shell.history_manager.input_hist_raw[before - 1]
        shell._last_traceback_during_displayhook = False  # noqa: SLF001 - a generated cell's, not the prompt's
        if later is not None and final != before:
            shell.execution_count = before  # the reply reads this count less one

            def go_on(*_: object) -> None:
                shell.execution_count = final

            later(go_on)
