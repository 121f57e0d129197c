r"""A session joins a model, an executor and a notebook, and keeps one conversation per thread.

from codeact_magic import Session
from codeact_magic.testing import ScriptedModel

session = Session(model=ScriptedModel(["```python\n6 * 7\n```", "It is 42."]), executor=my_executor)
async for event in session.ask("What is six times seven?"):
    print(event)
"""

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import fields, replace
from uuid import uuid4

from . import prompts
from .approval import Approval, Mode
from .conversation import Conversation
from .errors import CodeactError, ConfigError
from .events import CellDecided, CellProposed, Event, ReplyDelta, TurnFinished, TurnStarted
from .loop import Limits, run_turn
from .outputs import redact, secrets_in
from .ports import Executor, Model, Notebook


class Session:
    """Asks a model, turn by turn, and runs what it writes.

    Args:
        model: streams the replies; see ``ports.Model``. It may be exchanged between turns.
        executor: runs the cells; see ``ports.Executor``.
        notebook: is shown every event; None shows nothing.
        limits: bounds of each turn.
        system: the system prompt, instead of the default one.
        approval: which cells the user is asked about, by the notebook: ``auto``, ``risky`` or ``ask``.
    """

    def __init__(
        self,
        model: Model,
        executor: Executor,
        notebook: Notebook | None = None,
        *,
        limits: Limits | None = None,
        system: str | None = None,
        approval: Mode = "risky",
    ) -> None:
        self.model = model
        self.executor = executor
        self.notebook = notebook
        self.limits = limits or Limits()
        self.system = prompts.system_prompt() if system is None else system
        self.approval = Approval(approval)
        self.conversation = Conversation()
        self.thread = ""
        self.reset()

    def reset(self, thread: str = "", events: Iterable[Event] = ()) -> None:
        """Begin a new thread, or go on with one from its events."""
        self.thread = thread or uuid4().hex[:12]
        self.approval.reset()
        self.conversation = Conversation(events)

    async def ask(
        self, prompt: str, *, filled: str | None = None, turn: str = "", kernel: str = ""
    ) -> AsyncGenerator[Event, None]:
        """Run one turn and yield its events; the last is the turn's only ``TurnFinished``.

        Args:
            prompt: as the user wrote it.
            filled: the same with the values of ``{names}``, which is what the model is sent; the prompt by default.
            turn: an id for the turn.
            kernel: names the kernel that runs the cells, where each of them says so by ``%%in_kernel``.

        Raises:
            ConfigError: the prompt is empty; no turn was begun.
            BaseException: what cancelled or broke the turn, once its ``TurnFinished`` is recorded and shown. Errors of
                the model's endpoint are not raised: they end the turn as ``failed``.
        """
        if not prompt.strip():
            raise ConfigError("The prompt is empty: write what you want to know below %%agent.")
        clean = _redacting(secrets_in())
        start = TurnStarted(
            turn=turn or uuid4().hex[:12],
            thread=self.thread,
            prompt=prompt,
            filled=prompt if filled is None else filled,
            context=await self.executor.context(),
            language=self.executor.language,
            kernel=kernel,
        )
        ask = self.notebook.decide if self.notebook is not None else None

        async def decide(cell: CellProposed) -> CellDecided | None:
            return await self.approval.decide(cell, start, self.executor.folder, ask)

        steps = run_turn(
            start,
            self.conversation,
            self.model,
            self.executor,
            limits=self.limits,
            system=self.system,
            decide=decide,
            clean=clean,
        )
        began, ended = time.perf_counter(), False
        try:
            async with contextlib.aclosing(steps) as events:
                async for event in events:
                    ended = isinstance(event, TurnFinished)
                    self.approval.see(event, self.executor.folder)
                    await self._show(event)
                    yield event
        except BaseException as error:
            if ended:
                raise
            last = clean(_broken(error, time.perf_counter() - began))
            self.conversation.append(last)
            await self._show(last)
            if not isinstance(error, CodeactError):
                raise
            yield last

    async def _show(self, event: Event) -> None:
        if self.notebook is not None:
            await self.notebook.show(event)

    async def aclose(self) -> None:
        """Release the model's connections and the executor."""
        await self.model.aclose()
        await self.executor.aclose()


def _broken(error: BaseException, seconds: float) -> TurnFinished:
    """Give the end of a turn that was cancelled, closed, interrupted, or broken by an error."""
    if isinstance(error, CodeactError):
        return TurnFinished(reason="failed", detail=str(error), seconds=round(seconds, 3))
    if isinstance(error, Exception):
        return TurnFinished(reason="failed", detail=f"{type(error).__name__}: {error}", seconds=round(seconds, 3))
    return TurnFinished(reason="stopped", seconds=round(seconds, 3))


def _redacting(secrets: Sequence[str]) -> Callable[[Event], Event]:
    """Give a function that takes the values of secrets out of a turn's events."""
    held = ""  # the end of the streamed text, where it may begin a secret

    def clean(event: Event) -> Event:
        nonlocal held
        if isinstance(event, ReplyDelta):
            text = redact(held + event.text, secrets)
            keep = max((_overlap(text, secret) for secret in secrets), default=0)
            held = text[len(text) - keep :]
            return ReplyDelta(text=text[: len(text) - keep])
        held = ""
        changed = {}
        for each in fields(event):
            value = getattr(event, each.name)
            if isinstance(value, str | dict) and (safe := redact(value, secrets)) != value:
                changed[each.name] = safe
        return replace(event, **changed) if changed else event

    return clean if secrets else lambda event: event


def _overlap(text: str, secret: str) -> int:
    """Give how much of the text's end is the beginning of a secret."""
    sizes = range(min(len(secret) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(secret[:size])), 0)
