"""The agent of one shell: what a ``%%agent`` cell does, from its options to its last display.

It joins the parts: settings, a model, the live executor, the notebook that fits the frontend, and the session.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from .config import CodeAct, Settings, model_from, options_from, preload, settings_from
from .document import Document
from .errors import ConfigError, RecordError, TurnFailed
from .events import Event, TurnFinished, TurnStarted
from .executors.iopub import KernelOutputs
from .executors.live import LiveExecutor, source_from
from .executors.namespace import filled
from .notebooks.comm import CommNotebook, Connection
from .notebooks.inline import InlineNotebook
from .notebooks.keyboard import forget_typed
from .notebooks.protocol import Begin, Hello, Opening, kept_data
from .notebooks.text import TextNotebook
from .ports import Model, Notebook
from .prompts import CONTINUE, system_prompt
from .record import Record, cells_of, mark, record_from, stands
from .session import Session

if TYPE_CHECKING:
    from .executors.bridge import BridgedExecutor, Kernels


class Stopped(KeyboardInterrupt):
    """The user interrupted a turn. Queued cells are aborted, as after any interrupt; the traceback is one line."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


class Agent:
    """The agent of one shell.

    Args:
        shell: the user's ``InteractiveShell``.
        config: its configuration.
        kernels: gives the shell's other kernels.
    """

    def __init__(self, shell: Any, config: CodeAct, kernels: "Callable[[], Kernels]") -> None:
        self._kernels = kernels
        self.shell = shell
        self.config = config
        self.source = source_from(shell)
        self.executor = LiveExecutor(shell, self.source)
        self.session: Session | None = None
        self.active = False
        self.replaced: dict[str, datetime] = {}
        self.chosen = ""  # the model that `%agent model` named
        self._model: tuple[object, Model] | None = None  # and what it was made for
        self._remembered: tuple[str, list[Event]] = ("", [])  # the document's history, for a fresh kernel
        self._fresh = True
        self._options: dict[str, Any] = {}  # of the last turn
        self._by_client = False
        self._turns: dict[str, str] = {}  # prompt cell -> the turn that it asked last
        self._silent: set[str] = set()  # frontends that are no clients
        self._outcome: TurnFinished | None = None

    async def ask(self, prompt: str, options: Mapping[str, Any], *, root: Any = None) -> None:
        """Run one turn and show it.

        Args:
            prompt: as the user wrote it.
            options: of the cell; see ``config.Settings``.
            root: the code object that drives the loop, where the turn does not run on the shell's own.

        Raises:
            CodeactError: the turn could not begin, or failed.
            Stopped: the user interrupted it.
        """
        self.refuse_nested()
        if not prompt.strip():
            raise ConfigError("The prompt is empty: write what you want to know below the %%agent line.")
        settings = self.settings(options)
        self.active, self._outcome, self._by_client = True, None, False
        self._options = dict(options)
        turn = asyncio.ensure_future(self._turn(prompt, settings))
        try:
            with self.executor.interruptible(turn.cancel, root) as interrupts:
                try:
                    await turn
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) and task.cancelling():
                        turn.cancel()
                        await asyncio.wait({turn})
                        raise
        finally:
            self.active = False
            if root is not None and self._model:  # the loop ends with the turn, and its connections with it
                await self._model[1].aclose()
        if interrupts.hits and not self._by_client:
            raise Stopped("the turn was stopped; `%agent continue` goes on.")
        if self._outcome and self._outcome.reason == "failed":
            raise TurnFailed(self._outcome.detail)

    async def go_on(self, options: Mapping[str, Any], *, root: Any = None) -> None:
        """Go on after a stop, a limit or a failure."""
        if self.session is None or not self.session.conversation.events:
            raise ConfigError("There is no turn to continue in this kernel: ask one with %%agent.")
        given = {name: value for name, value in options.items() if value is not None}
        await self.ask(CONTINUE, {**self._options, **given, "again": True}, root=root)

    def refuse_nested(self) -> None:
        """Refuse to start a turn within a turn."""
        if self.active:
            raise ConfigError("An agent's cell cannot start a turn: %%agent is for the user's own cells.")

    def settings(self, options: Mapping[str, Any] | None = None) -> Settings:
        """Give the settings as they stand, with a cell's options over them."""
        chosen = {"model": self.chosen or None}
        return settings_from(self.config).with_options(chosen).with_options(options or {})

    def reset(self) -> None:
        """Begin a new thread."""
        self._fresh, self._remembered = False, ("", [])
        self.executor.forget()
        if self.session:
            self.session.reset()

    def close(self) -> None:
        """Leave the shell as it was."""
        self.source.close()
        if self._model:
            with contextlib.suppress(RuntimeError):  # outside a loop there is no connection to close
                self._closing = asyncio.get_running_loop().create_task(self._model[1].aclose())

    async def _model_for(self, settings: Settings, document: str, language: str) -> Model:
        """Give the model of the settings; the one of the last turn, with all that it knows, if it is the same."""
        recorded = settings.model.partition(":")[0] == "recorded"
        wanted: object = (settings.model, document) if recorded else options_from(settings, language)
        if self._model is None or self._model[0] != wanted:
            model = model_from(settings, notebook=document, language=language)
            if self._model:
                await self._model[1].aclose()
            self._model = (wanted, model)
        return self._model[1]

    def _executor_for(self, settings: Settings) -> "LiveExecutor | BridgedExecutor":
        """Give the executor of the settings' kernel."""
        if not settings.kernel:
            return self.executor
        from .executors.bridge import BridgedExecutor  # noqa: PLC0415 - few need it

        return BridgedExecutor(self.executor, self._kernels(), settings.kernel, limit=settings.timeout)

    async def _turn(self, prompt: str, settings: Settings) -> None:
        self.source.begin()
        turn = uuid4().hex[:12]
        async with self._connected(turn, settings) as (connection, hello):
            settings = settings.with_options(hello.options if hello else {})
            inline = self._inline(settings, brief=hello is not None)
            document = self._document(hello)
            own, above = document.records(lambda said: print(said, file=sys.stderr, flush=True))  # noqa: T201
            if own and not settings.again and stands(own, prompt, document.below):
                self._remember([*above, own])
                self._keep(own, prompt, inline, connection)
                return
            executor = self._executor_for(settings)
            model = await self._model_for(settings, document.path, executor.language)
            self._remember(above)
            session = self._session(settings, model)
            session.executor = executor
            old = document.unedited(own.turn) if own else ()
            notebook = self._notebook(inline, connection if hello else None, old)
            self._forget(own.turn if own else self._turns.get(self.source.cell_id, ""))
            if cell := (hello.cell if hello else self.source.cell_id):
                self._turns[cell] = turn
            await self._run(session, notebook, prompt, settings, turn)

    def _notebook(self, inline: Notebook, connection: Connection | None, old: tuple[str, ...]) -> Notebook:
        """Give the notebook that shows the turn, and send its cells' outputs where they are shown."""
        if not isinstance(self.source, KernelOutputs):
            return inline
        if not isinstance(inline, InlineNotebook):
            self.source.route = "prompt"
            return inline
        if connection is None:
            self.source.route = "display"
            return inline
        self.source.route = "client"
        self.replaced.update(dict.fromkeys(old, datetime.now(UTC)))
        notebook = CommNotebook(connection, inline)
        notebook.begin(Begin(replace=old))
        return notebook

    def _keep(self, own: Record, prompt: str, inline: Notebook, connection: Connection | None) -> None:
        """Say that a prompt is answered already, and whether the values in it have changed since."""
        changed = own.start.filled.strip() != filled(prompt, self.shell.user_ns).strip()
        values = ", with other values in its {names}" if changed else ""
        note = f"Answered before{values}: the cells below run as they are. `%%agent --again` asks again."
        if isinstance(inline, InlineNotebook):
            inline.note(note)
        else:
            print(note)  # noqa: T201 - a terminal
        if connection:
            connection.send(kept_data(owner=connection.owner))

    async def _run(self, session: Session, notebook: Notebook, prompt: str, settings: Settings, turn: str) -> None:
        session.notebook, session.limits, session.approval.mode = notebook, settings.limits, settings.approval
        watch = notebook.watch if isinstance(notebook, InlineNotebook) else None
        kernel = getattr(session.executor, "name", "")  # the notebook's own has none
        self.executor.prepare(limit=None if kernel else settings.timeout, watch=watch)  # the other has its own
        text = filled(prompt, self.shell.user_ns)
        async with contextlib.aclosing(session.ask(prompt, filled=text, turn=turn, kernel=kernel)) as events:
            async for event in events:
                if isinstance(event, TurnFinished):
                    self._outcome = event

    @contextlib.asynccontextmanager
    async def _connected(self, turn: str, settings: Settings) -> AsyncIterator[tuple[Connection | None, Hello | None]]:
        """Ask the frontend whether it is a client; it is asked again when it has a new session."""
        if not isinstance(self.source, KernelOutputs) or self.source.client in self._silent:
            yield None, None
            return
        connection = Connection(self.source.restore, self._stop)
        try:
            opening = Opening(turn=turn, owner=self.source.client, cell=self.source.cell_id)
            connection.open(opening)
            preload(settings)  # takes as long as the client has to answer
            hello = await connection.answer()
            if hello is None:
                self._silent.add(self.source.client)
            yield (connection, hello) if hello else (None, None)
        finally:
            connection.close()

    def _stop(self) -> None:
        """Take a client's stop, on any thread: as an interrupt, but cells queued behind the prompt still run."""
        self._by_client = True
        self.executor.stop()

    def _inline(self, settings: Settings, *, brief: bool) -> InlineNotebook | TextNotebook:
        if not isinstance(self.source, KernelOutputs) or (settings.display == "plain" and not brief):
            return TextNotebook(self._colour(), self._read)
        return InlineNotebook(self.source.publish, self._recorded, brief=brief, read=self._read)

    def _read(self, question: str) -> str:
        """Ask the user for a line, as ``input()`` does; an interrupt stops the turn."""
        try:
            if not isinstance(self.source, KernelOutputs):
                forget_typed()
            with self.executor.asking():
                return input(question)
        except KeyboardInterrupt:
            raise asyncio.CancelledError from None

    def _colour(self) -> Callable[[str], str]:
        def colour(code: str) -> str:
            if not sys.stdout.isatty():
                return code
            coloured: str = self.shell.pycolorize(code)
            return coloured

        return colour

    def _recorded(self) -> dict[str, Any]:
        """Give the record of the turn that has just ended."""
        return record_from(self._last_turn(), outputs=True)

    def _last_turn(self) -> list[Event]:
        events = self.session.conversation.events if self.session else []
        start = max((place for place, event in enumerate(events) if isinstance(event, TurnStarted)), default=0)
        return events[start:]

    def _session(self, settings: Settings, model: Model) -> Session:
        system = "\n".join(filter(None, (system_prompt(), settings.system)))
        if self.session is None:
            self.session = Session(model, self.executor, system=system)
            thread, events = self._remembered
            self.session.reset(thread, events)
        self._fresh = False
        self.session.model, self.session.system = model, system
        self.session.approval.rejected = getattr(model, "rejected", {})  # a recording's
        return self.session

    def _document(self, hello: Hello | None) -> Document:
        """Give the document as its client tells it, else as it is saved, where the frontend tells which it is."""
        if hello:
            return Document(path=hello.document, cell=hello.cell, cells=hello.cells)
        path, cell = self.path(), self.source.cell_id
        if path and cell and Path(path).is_file():
            with contextlib.suppress(RecordError):
                cells = tuple(each for each in cells_of(path) if mark(each))
                if any(each.get("id") == cell for each in cells):
                    return Document(path=path, cell=cell, cells=cells)
        return Document(path=path)

    def _remember(self, records: list[Record]) -> None:
        """Take the document's turns as the thread's history, where the kernel has none of its own."""
        if self._fresh and records:
            thread = records[-1].thread
            events = [event for record in records if record.thread == thread for event in record.events]
            self._remembered = (thread, events)

    def _forget(self, turn: str) -> None:
        """Take a turn that is asked anew out of the history."""
        if turn and self.session:
            self.session.conversation = self.session.conversation.without(turn)

    def path(self) -> str:
        """Give the notebook's path, where the frontend tells it; else nothing."""
        return str(self.shell.user_ns.get("__session__") or os.environ.get("JPY_SESSION_NAME") or "")
