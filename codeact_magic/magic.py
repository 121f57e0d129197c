"""``%%agent`` and ``%agent``: options in, a turn out. Loaded by ``%load_ext codeact_magic``, so it imports little.

A ``%%agent`` cell is rewritten to ``await ...``, so that the turn runs on the kernel's own event loop, on the main
thread. Where that cannot be (``%%time``, ``%autoawait off``, a call from code), the magic drives a loop of its own.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from traitlets import TraitError

from .config import CodeAct

if TYPE_CHECKING:
    from .agent import Agent
    from .executors.bridge import Kernels

_CALL = "await __import__('codeact_magic.magic', fromlist=['awaited']).awaited({line!r}, {cell!r})\n"
_COMMANDS = ("status", "model", "doctor", "usage", "history", "reset", "continue", "help")
_magics: "AgentMagics | None" = None


@magics_class
class AgentMagics(Magics):  # type: ignore[misc]
    """Parses and delegates; the agent itself is made when it is first used."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        try:
            self.config_of_shell = CodeAct(parent=shell)
        except TraitError as error:
            print(f"The configuration of CodeAct is passed over: {error}", file=sys.stderr)  # noqa: T201
            self.config_of_shell = CodeAct()
        self._agent: Agent | None = None
        self._kernels: Kernels | None = None

    @property
    def agent_of_shell(self) -> "Agent":
        """The shell's agent."""
        if self._agent is None:
            from .agent import Agent  # noqa: PLC0415 - %load_ext must stay light

            self._agent = Agent(self.shell, self.config_of_shell, lambda: self.kernels)
        return self._agent

    @property
    def kernels(self) -> "Kernels":
        """The shell's other kernels."""
        if self._kernels is None:
            from .executors.bridge import Kernels  # noqa: PLC0415 - %load_ext must stay light

            self._kernels = Kernels(self.shell)
        return self._kernels

    @magic_arguments()
    @argument("--model", "-m", help="The model's name, or recorded[:NOTEBOOK].")
    @argument("--base-url", help="An OpenAI-compatible endpoint, such as http://localhost:11434/v1.")
    @argument("--max-steps", type=int, help="Replies that the turn may take.")
    @argument("--timeout", type=float, help="Seconds that a generated cell may take.")
    @argument("--approval", choices=("auto", "risky", "ask"), help="Which generated cells wait for your word.")
    @argument("--kernel", help="The kernel that runs generated cells, by its kernelspec's name.")
    @argument("--again", action="store_true", default=None, help="Ask again, although the prompt is answered.")
    @argument("words", nargs="*", help="The prompt, or its beginning; for %%agent alone: a command.")
    @line_cell_magic("agent")
    def agent_magic(self, line: str, cell: str | None = None) -> None:
        """Ask a model to work in this notebook: it writes cells, runs them, and answers.

        ``%%agent`` takes the cell's text as its prompt. ``%agent`` alone shows the state;
        ``%agent model [NAME] | doctor [NAME] | usage | history | reset | continue | help``.
        """
        self.refuse_nested()
        drive(lambda root: self.run(line, cell, root=root), self.shell)

    @magic_arguments()
    @argument("--timeout", type=float, help="Seconds that the cell may take.")
    @argument("--cwd", default="", help="The kernel's working directory, where it is not running yet.")
    @argument("--stop", action="store_true", help="End the kernel; its next cell starts a new one.")
    @argument("name", nargs="?", default="", help="The kernelspec's name, or its language.")
    @line_cell_magic("in_kernel")
    def in_kernel_magic(self, line: str, cell: str | None = None) -> None:
        """Run this cell in another Jupyter kernel, which keeps its state: ``%%in_kernel ir``.

        ``%in_kernel`` alone lists the kernels; ``%in_kernel NAME --stop`` ends one.
        """
        given = _parsed(self.in_kernel_magic, line)
        if given.timeout is not None and not given.timeout > 0:
            raise UsageError("--timeout must be a number of seconds above 0.")
        if cell is not None and given.name and not given.stop:
            self.kernels.run(given.name, cell, limit=given.timeout, cwd=given.cwd)
        elif cell is None and given.name and given.stop:
            print(self.kernels.stop(given.name))  # noqa: T201 - a magic's result
        elif cell is None and not given.name and not given.stop:
            print(self.kernels.listing())  # noqa: T201 - a magic's result
        else:
            raise UsageError("Write %%in_kernel NAME above code, %in_kernel NAME --stop, or %in_kernel alone.")

    async def run(self, line: str, cell: str | None, *, root: Any = None) -> None:
        """Run a prompt cell, or a command.

        Raises:
            UsageError: an option or a command is unknown.
            CodeactError: the turn could not begin, or failed.
        """
        options = self._options(line)
        words = options.pop("words")
        if cell is not None:
            prompt = "\n".join(filter(str.strip, (" ".join(words), cell))).strip()
            await self.agent_of_shell.ask(prompt, options, root=root)
        elif words[:1] == ["continue"]:
            await self.agent_of_shell.go_on(options, root=root)
        elif words[:1] == ["doctor"]:
            from .commands import doctor  # noqa: PLC0415

            await doctor(self.agent_of_shell, words[1:], options, root=root)
        else:
            from .commands import command  # noqa: PLC0415

            command(self.agent_of_shell, words, options)

    def refuse_nested(self) -> None:
        """Refuse to start a turn within a turn."""
        if self._agent:
            self._agent.refuse_nested()

    def transform(self, lines: list[str]) -> list[str]:
        """Rewrite a cell that starts a turn to an awaited call (an input transformer)."""
        if self._withdrawn():
            return []
        first = lines[0] if lines else ""
        words = first.split(maxsplit=2)
        if not words or not self.shell.autoawait or str(self.shell.loop_runner) != "asyncio" or _in_a_cell():
            return lines
        if words[0] == "%%agent":
            line = first.strip().removeprefix("%%agent").strip()
            return [_CALL.format(line=line, cell="".join(lines[1:]))]
        if words[:2] in (["%agent", "continue"], ["%agent", "doctor"]) and not "".join(lines[1:]).strip():
            return [_CALL.format(line=first.strip().removeprefix("%agent").strip(), cell=None)]
        return lines

    def close(self) -> None:
        """Take back what the agent changed in the shell."""
        if self._agent:
            self._agent.close()
        if self._kernels:
            self._kernels.close()

    def _options(self, line: str) -> dict[str, Any]:
        if line.strip() in ("-h", "--help"):
            line = "help"
        return dict(vars(_parsed(self.agent_magic, line)))

    def _withdrawn(self) -> bool:
        """Say whether this is the queued request of a cell that a turn has replaced meanwhile."""
        replaced = self._agent.replaced if self._agent else {}
        if not replaced or getattr(self.shell, "kernel", None) is None:
            return False
        parent = self.shell.get_parent()
        since = replaced.get(str((parent.get("metadata") or {}).get("cellId")))
        sent = (parent.get("header") or {}).get("date")
        return since is not None and sent is not None and sent < since


def _parsed(magic: Any, line: str) -> Any:
    """Parse a magic's options.

    Raises:
        UsageError: one is unknown, or the line cannot be read.
    """
    try:
        return parse_argstring(magic, line)
    except UsageError as error:
        raise UsageError(f"{error} (`%agent help` lists the options)") from None
    except ValueError as error:  # an apostrophe is an open quotation to the splitter
        raise UsageError(f"Cannot read the options ({error}): write the text below the magic's line.") from None


def _in_a_cell() -> bool:
    """Say whether code of a cell is on the stack: what it transforms (``%%time``) cannot be awaited."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to the stack
    while frame is not None:
        if frame.f_code is InteractiveShell.run_code.__code__:
            return True
        frame = frame.f_back
    return False


async def awaited(line: str, cell: str | None) -> None:
    """Run a prompt cell on the running loop; what a rewritten ``%%agent`` cell calls."""
    from .executors.counts import counted  # noqa: PLC0415

    if _magics is None:
        raise UsageError("%%agent is not loaded: run %load_ext codeact_magic.")
    _magics.refuse_nested()
    task = asyncio.current_task()
    with counted(_magics.shell, task.add_done_callback if task and _in_kernel(_magics.shell) else None):
        await _magics.run(line, cell)


def drive(start: Callable[[Any], Coroutine[Any, Any, None]], shell: Any) -> None:
    """Run a coroutine to its end from synchronous code, also where a loop is running: it is set aside meanwhile.

    Args:
        start: makes the coroutine; is given the code object below which it runs.
        shell: the shell.
    """
    from IPython.core.async_helpers import get_asyncio_loop  # noqa: PLC0415

    from .executors.counts import counted  # noqa: PLC0415

    try:
        outer = asyncio.get_running_loop()
    except RuntimeError:
        get_asyncio_loop().run_until_complete(start(None))
        return
    task = asyncio.current_task()
    inner = asyncio.new_event_loop()
    if task:
        asyncio.tasks._leave_task(outer, task)  # noqa: SLF001 - documented for those who extend asyncio
    asyncio._set_running_loop(None)  # noqa: SLF001 - the same
    try:
        with counted(shell, _after_reply(outer, task) if _in_kernel(shell) else None):
            inner.run_until_complete(start(drive.__code__))
            inner.run_until_complete(inner.shutdown_asyncgens())
    finally:
        inner.close()
        asyncio._set_running_loop(outer)  # noqa: SLF001
        if task:
            asyncio.tasks._enter_task(outer, task)  # noqa: SLF001


def _after_reply(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any] | None") -> Callable[..., Any]:
    """Give what schedules a call for when the kernel has replied to the cell that is running synchronous code."""
    coroutine = task.get_coro() if task else None
    if task and getattr(coroutine, "__name__", "") == InteractiveShell.run_cell_async.__name__:
        return task.add_done_callback  # an awaited cell is a task of its own
    return loop.call_soon  # a plain cell's reply goes out within this very step of the loop


def _in_kernel(shell: Any) -> bool:
    return getattr(shell, "kernel", None) is not None


def load(shell: Any) -> None:
    """Register the magics and the transformer."""
    global _magics  # noqa: PLW0603 - one shell a process
    if _magics is not None:
        unload(_magics.shell)
    _magics = AgentMagics(shell)
    shell.register_magics(_magics)
    shell.configurables.append(_magics.config_of_shell)  # for %config CodeAct
    shell.input_transformer_manager.line_transforms.insert(0, _magics.transform)


def unload(shell: Any) -> None:
    """Take it all back."""
    global _magics  # noqa: PLW0603
    if _magics is None:
        return
    transforms = shell.input_transformer_manager.line_transforms
    if _magics.transform in transforms:
        transforms.remove(_magics.transform)
    for kind in ("line", "cell"):
        for name in ("agent", "in_kernel"):
            shell.magics_manager.magics[kind].pop(name, None)
    shell.magics_manager.registry.pop(AgentMagics.__name__, None)
    shell.configurables[:] = [each for each in shell.configurables if each is not _magics.config_of_shell]
    _magics.close()
    _magics = None
