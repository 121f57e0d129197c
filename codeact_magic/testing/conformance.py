"""What every executor of Python code must do, as checks that raise ``AssertionError``."""

import asyncio
import contextlib
import inspect
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from ..events import Output
from ..outputs import fold, plain, text_of
from ..ports import CellBegan, CellDone, Executor

Make = Callable[[float | None], AbstractAsyncContextManager[Executor]]
"""Gives an executor whose cells may take so many seconds, None for no limit; it is released at the context's end."""
_PATIENCE = 60.0  # seconds after which a cell is taken to hang


@dataclass(slots=True)
class Ran:
    """What a cell gave, once it is certain that it began once, ended once, and gave nothing afterwards."""

    outputs: list[Output] = field(default_factory=list)
    done: CellDone = field(default_factory=lambda: CellDone(status="ok"))

    @property
    def text(self) -> str:
        """All that its outputs say, as plain text."""
        rows = []
        for output in fold(self.outputs):
            data = output.get("data") or {}
            lines = "\n".join(map(str, output.get("traceback") or ()))
            rows.append(text_of(output.get("text") or data.get("text/plain") or lines))
        return plain("\n".join(rows))

    @property
    def printed(self) -> str:
        """What the code printed, joined."""
        return "".join(text_of(each["text"]) for each in self.outputs if each["output_type"] == "stream")


async def run(executor: Executor, code: str, *, cell: str = "cell") -> Ran:
    """Run a cell and check the shape of what it gives."""
    ran, began, ended = Ran(), 0, 0
    async with asyncio.timeout(_PATIENCE), contextlib.aclosing(executor.execute(code, cell)) as items:
        async for item in items:
            assert not ended, f"{item!r} came after CellDone"
            if isinstance(item, CellBegan):
                assert not ran.outputs, "CellBegan must come first"
                began += 1
            elif isinstance(item, CellDone):
                ran.done, ended = item, ended + 1
            else:
                assert began, "an output came before CellBegan"
                ran.outputs.append(item)
    assert (began, ended) == (1, 1), f"CellBegan came {began} times, CellDone {ended} times; each must come once"
    return ran


async def ran_ok(executor: Executor, code: str) -> str:
    """Run a cell that must succeed, and give its text."""
    ran = await run(executor, code)
    assert ran.done.status == "ok", f"{code!r} ended as {ran.done}: {ran.text}"
    return ran.text


async def _stopped_at(executor: Executor, code: str) -> Ran:
    """Run code that first makes the file ``MARK``, and interrupt it as soon as the file is there."""
    with tempfile.TemporaryDirectory() as folder:
        mark, over = Path(folder, "mark"), threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                if mark.exists():
                    over.wait(0.2)  # the code has gone on from the mark
                    executor.interrupt()
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            return await run(executor, f"open({str(mark)!r}, 'w').close()\n{code}")
        finally:
            over.set()
            thread.join()


def _is_stopped(ran: Ran) -> None:
    assert ran.done.status == "stopped", f"an interrupted cell ended as {ran.done}: {ran.text}"
    assert "went on" not in ran.printed, "the code went on after the interrupt"


async def outputs_in_order(make: Make) -> None:
    """Streams, displays and the result come in the order in which the code made them."""
    async with make(None) as executor:
        ran = await run(executor, "print('one')\ndisplay('two')\nprint('three')\n'four'")
        kinds = [output["output_type"] for output in fold(ran.outputs)]
        assert kinds == ["stream", "display_data", "stream", "execute_result"], kinds
        words = [word for word in ran.text.replace("'", " ").split() if word in ("one", "two", "three", "four")]
        assert words == ["one", "two", "three", "four"], ran.text


async def outputs_as_they_appear(make: Make) -> None:
    """An awaiting cell's output comes while the cell still runs."""
    async with make(None) as executor:
        code = "import asyncio\nprint('early', flush=True)\nawait asyncio.sleep(2)\nprint('late')"
        async with contextlib.aclosing(executor.execute(code, "cell")) as items:
            async for item in items:
                if not isinstance(item, CellBegan | CellDone):
                    assert "late" not in text_of(item.get("text", "")), "output was kept back until the end"
                    break


async def state_is_kept(make: Make) -> None:
    """Names live from cell to cell, and what a cell did to them is told."""
    async with make(None) as executor:
        ran = await run(executor, "first_name = 40")
        assert "first_name" in ran.done.changes.created, ran.done
        assert "42" in await ran_ok(executor, "first_name + 2")
        ran = await run(executor, "del first_name")
        assert "first_name" in ran.done.changes.deleted, ran.done


async def files_are_told(make: Make) -> None:
    """A file that a cell writes into the working directory is told."""
    async with make(None) as executor:
        name = "check_executor_file.txt"
        try:
            ran = await run(executor, f"with open({name!r}, 'w') as file: _ = file.write('hello')")
            found = [(file.path, file.change, file.size) for file in ran.done.changes.files]
            assert (name, "new", 5) in found, found
        finally:
            await run(executor, f"import os; os.remove({name!r})")


async def errors_are_outputs(make: Make) -> None:
    """Code that fails gives what it had shown, one error output, and the status; the state is kept."""
    async with make(None) as executor:
        ran = await run(executor, "before = 1\nprint('shown')\n1 / 0\nprint('went on')")
        errors = [output for output in ran.outputs if output["output_type"] == "error"]
        assert ran.done.status == "error", ran.done
        assert [error["ename"] for error in errors] == ["ZeroDivisionError"], errors
        assert ran.printed == "shown\n", ran.printed
        assert "1" in await ran_ok(executor, "before")
        syntax = await run(executor, "x = = 1")
        assert syntax.done.status == "error", syntax.done
        assert "SyntaxError" in syntax.text, syntax.text


async def code_runs_once(make: Make) -> None:
    """No cell runs twice, also not one that fails."""
    async with make(None) as executor:
        await run(executor, "count = 0")
        await run(executor, "count += 1\nraise ValueError('once')")
        assert "1" in await ran_ok(executor, "count")


async def awaits(make: Make) -> None:
    """Top-level ``await`` works."""
    async with make(None) as executor:
        assert "awaited" in await ran_ok(executor, "import asyncio\nawait asyncio.sleep(0.01)\n'awaited'")


async def interrupt_while_sleeping(make: Make) -> None:
    """An interrupt ends a sleeping cell; the state is kept and the next cell runs."""
    async with make(None) as executor:
        await run(executor, "import time\nkept = 'kept'")
        _is_stopped(await _stopped_at(executor, "time.sleep(50)\nprint('went on')"))
        assert "kept" in await ran_ok(executor, "kept")


async def interrupt_in_a_loop(make: Make) -> None:
    """An interrupt ends a busy loop; the state is kept."""
    async with make(None) as executor:
        await run(executor, "kept = 'kept'")
        _is_stopped(await _stopped_at(executor, "while True: pass\nprint('went on')"))
        assert "kept" in await ran_ok(executor, "kept")


async def interrupt_in_await(make: Make) -> None:
    """An interrupt ends an awaiting cell; the state is kept."""
    async with make(None) as executor:
        await run(executor, "import asyncio\nkept = 'kept'")
        _is_stopped(await _stopped_at(executor, "await asyncio.sleep(50)\nprint('went on')"))
        assert "kept" in await ran_ok(executor, "kept")


async def interrupt_in_c_code(make: Make) -> None:
    """An interrupt in a call that does not look for it ends the cell when the call returns, at the latest."""
    async with make(None) as executor:
        code = "import hashlib\n_ = hashlib.pbkdf2_hmac('sha256', b'', b'', 6_000_000)\nprint('went on')"
        _is_stopped(await _stopped_at(executor, code))
        assert "5" in await ran_ok(executor, "2 + 3")


async def nothing_to_interrupt(make: Make) -> None:
    """An interrupt with no cell running does nothing, also not to the next cell."""
    async with make(None) as executor:
        await run(executor, "1")
        executor.interrupt()
        await asyncio.sleep(0.1)
        assert "5" in await ran_ok(executor, "2 + 3")


async def limit_on_sleep(make: Make) -> None:
    """A cell beyond its limit is interrupted, that is told, and the state is kept."""
    async with make(1.0) as executor:
        await run(executor, "import time\nkept = 'kept'")
        ran = await run(executor, "print('shown')\ntime.sleep(50)\nprint('went on')")
        assert ran.done.status == "timeout", ran.done
        assert "1 s" in ran.done.detail, ran.done
        assert ran.printed == "shown\n", ran.printed
        assert "kept" in await ran_ok(executor, "kept")


async def limit_on_a_loop(make: Make) -> None:
    """A busy loop ends at its limit too."""
    async with make(1.0) as executor:
        ran = await run(executor, "while True: pass")
        assert ran.done.status == "timeout", ran.done
        assert "5" in await ran_ok(executor, "2 + 3")


async def flood_is_bounded(make: Make) -> None:
    """What a cell floods is bounded; its beginning and its end are shown."""
    async with make(None) as executor:
        ran = await run(executor, "print('the beginning')\nfor _ in range(300): print('x' * 10_000)\nprint('the end')")
        assert ran.done.status == "ok", ran.done
        assert len(ran.text) < 1_000_000, f"{len(ran.text):,} characters"
        assert "the beginning" in ran.text, ran.text[:100]
        assert "the end" in ran.text, ran.text[-100:]


async def closing_ends_the_cell(make: Make) -> None:
    """Closing ``execute`` in mid-cell ends the cell; the next one runs."""
    async with make(None) as executor:
        items = executor.execute("import asyncio\nprint('on', flush=True)\nawait asyncio.sleep(50)", "cell")
        async for item in items:
            if not isinstance(item, CellBegan):
                break
        await items.aclose()
        assert "5" in await ran_ok(executor, "2 + 3")


async def input_does_not_hang(make: Make) -> None:
    """``input()`` is answered or refused; it never hangs."""
    async with make(None) as executor:
        await run(executor, "try:\n    input('name? ')\nexcept Exception as error:\n    print(type(error).__name__)")
        assert "5" in await ran_ok(executor, "2 + 3")


async def swallowed_interrupt(make: Make) -> None:
    """Code that takes no notice of its limit's interrupt is ended, and that its state is gone is told."""
    async with make(1.0) as executor:
        code = "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
        ran = await run(executor, code)
        assert ran.done.status == "timeout", ran.done
        assert "gone" in ran.done.detail, ran.done
        assert "5" in await ran_ok(executor, "2 + 3")


async def death(make: Make) -> None:
    """A kernel that dies is noticed and explained; the next cell runs in a new one."""
    async with make(None) as executor:
        for code in ("import os\nos._exit(3)", "exit()", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"):
            await run(executor, "kept = 1")
            ran = await run(executor, code)
            assert ran.done.status == "died", f"{code!r} ended as {ran.done}"
            assert "gone" in ran.done.detail, ran.done
            assert "NameError" in (await run(executor, "kept")).text, "the old state is still there"


Check = Callable[[Make], Awaitable[None]]

_EVERY: tuple[Check, ...] = (
    outputs_in_order,
    outputs_as_they_appear,
    state_is_kept,
    files_are_told,
    errors_are_outputs,
    code_runs_once,
    awaits,
    interrupt_while_sleeping,
    interrupt_in_a_loop,
    interrupt_in_await,
    interrupt_in_c_code,
    nothing_to_interrupt,
    limit_on_sleep,
    limit_on_a_loop,
    flood_is_bounded,
    closing_ends_the_cell,
    input_does_not_hang,
)
CHECKS: dict[str, Check] = {check.__name__: check for check in _EVERY}
"""The checks for every executor, by name."""
OWN_KERNEL: dict[str, Check] = {check.__name__: check for check in (swallowed_interrupt, death)}
"""Further checks for an executor whose kernel is its own, to be ended and started anew."""


async def check_executor(make: Make, names: Iterable[str] = CHECKS) -> AsyncIterator[str]:
    """Run checks one after the other, and yield what each that passed has shown.

    Args:
        make: gives the executor.
        names: of the checks, of ``CHECKS`` and ``OWN_KERNEL``.

    Raises:
        AssertionError: the executor fails a check; the message names it.
    """
    for name in names:
        check = (CHECKS | OWN_KERNEL)[name]
        try:
            await check(make)
        except (AssertionError, TimeoutError) as error:
            raise AssertionError(f"{name}: {error or 'it hangs'}") from error
        yield f"{name}: {inspect.getdoc(check)}"
