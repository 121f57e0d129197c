"""One turn, from prompt to answer: READ THIS FIRST.

    prompt -> conversation -> model's reply -> blocks -> cells -> outputs -> conversation -> ... -> answer

``run_turn`` is the whole agent. It knows no kernel, no network and no notebook: it gets a model and an executor by
their ports and yields events. Whoever consumes the events shows them; see ``session.py``.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

from . import packages
from .conversation import Conversation
from .errors import ExecutorError, ModelError, ModelUnavailable
from .events import (
    Cause,
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Event,
    ModelRetried,
    Reason,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    Status,
    TurnFinished,
    TurnStarted,
    Usage,
)
from .outputs import plain
from .ports import CellBegan, CellDone, Executor, Message, Model, ReplyEnd
from .replies import Block, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one turn. A turn that meets one ends with the reason ``limit`` and can be continued.

    Args:
        max_steps: replies, each with the cells it leads to.
        max_tokens: tokens of all requests and replies as the endpoint counts them; None for no bound.
        max_repeats: times that the same code may fail in the same way.
        max_empty: empty replies in a row.
        retries: times that a request is sent again after a passing fault of the endpoint.
        backoff: seconds before the first of them; doubled each time, up to 30, with some jitter.
        reply_seconds: seconds that one reply may stream.
    """

    max_steps: int = 20
    max_tokens: int | None = None
    max_repeats: int = 3
    max_empty: int = 3
    retries: int = 5
    backoff: float = 0.5
    reply_seconds: float = 900.0


Decide = Callable[[CellProposed], Awaitable[CellDecided | None]]
"""Decides whether a proposed cell runs; None: it runs, and that was no question."""


async def run_all(_: CellProposed) -> None:
    """Let every cell run."""


async def run_turn(
    start: TurnStarted,
    conversation: Conversation,
    model: Model,
    executor: Executor,
    *,
    limits: Limits,
    system: str,
    decide: Decide = run_all,
    clean: Callable[[Event], Event] = lambda event: event,
) -> AsyncGenerator[Event, None]:
    """Yield the events of a turn, each recorded in ``conversation`` before it is handed on.

    ``decide`` says which cells run. ``clean`` sees every event first (it redacts secrets). The last event is
    ``TurnFinished``, unless something is raised: ``Session.ask`` then writes it.
    """

    def record(event: Event) -> Event:
        event = clean(event)
        conversation.append(event)
        return event

    began = time.perf_counter()

    def end(reason: Reason, answer: str = "", detail: str = "") -> Event:
        seconds = round(time.perf_counter() - began, 3)
        return record(TurnFinished(reason=reason, answer=answer, detail=detail, seconds=seconds))

    yield record(start)
    failures: Counter[str] = Counter()
    spent, empty = Usage(), 0
    for step in range(1, limits.max_steps + 1):
        async with aclosing(_reply(model, conversation.messages(system), limits)) as events:
            async for event in events:
                yield (event := record(event))
        assert isinstance(event, ReplyFinished), "_reply ends with a whole reply or raises"
        spent += event.usage
        reply = parse(event.text, start.language)
        if event.text.strip() and not (reply.blocks or reply.unclosed or event.cut):
            yield end("answered", answer=event.text.strip())
            return
        empty = 0 if event.text.strip() else empty + 1
        for block in reply.blocks:
            outcome = Outcome()
            async with aclosing(_block(block, step, start, executor, decide, outcome)) as events:
                async for event in events:
                    yield record(event)
            if outcome.status == "stopped":
                yield end("stopped")
                return
            if outcome.status != "ok":
                failures[f"{block.code}\n{outcome.status} {outcome.error}"] += 1
                break
        if met := _limit_met(limits, step, spent, empty, failures):
            yield end("limit", detail=met)
            return


async def _reply(model: Model, messages: tuple[Message, ...], limits: Limits) -> AsyncGenerator[Event, None]:
    """Ask the model until a whole reply has come. What was streamed of a broken one is discarded, never run."""
    for attempt in range(1, limits.retries + 2):
        began = time.perf_counter()
        pieces: list[str] = []
        try:
            async with aclosing(model.stream(messages)) as items:
                while True:
                    try:  # also where nothing comes that could be shown
                        async with asyncio.timeout(began + limits.reply_seconds - time.perf_counter()):
                            item = await anext(items)
                    except StopAsyncIteration:
                        break
                    except TimeoutError:
                        raise ModelError(f"The reply was still streaming after {limits.reply_seconds:g} s.") from None
                    if isinstance(item, ReplyEnd):
                        yield ReplyFinished(
                            text="".join(pieces),
                            usage=item.usage,
                            model=item.model,
                            seconds=round(time.perf_counter() - began, 3),
                            cut=item.cut,
                        )
                        return
                    pieces.append(item)
                    yield ReplyDelta(text=item)
            raise ModelUnavailable("The reply ended without its closing chunk.")
        except ModelUnavailable as fault:
            if pieces:
                yield ReplyDiscarded(reason=str(fault))
            if attempt > limits.retries:
                raise ModelUnavailable(f"{fault} Asked {attempt} times; run the cell again to go on.") from None
            wait = min(limits.backoff * 2 ** (attempt - 1), 30.0) * random.uniform(0.8, 1.2)  # noqa: S311
            wait = round(fault.retry_after if fault.retry_after is not None else wait, 2)
            yield ModelRetried(attempt=attempt, reason=str(fault), wait=wait)
        except ModelError as error:
            if pieces:
                yield ReplyDiscarded(reason=str(error))
            raise
        await asyncio.sleep(wait)


@dataclass(slots=True)
class Outcome:
    """How a block's last cell ended; ``error`` is its last error in a line, ``module`` a package that it lacked."""

    status: Status | Literal["rejected"] = "ok"
    error: str = ""
    module: str = ""


async def _block(
    block: Block, step: int, start: TurnStarted, executor: Executor, decide: Decide, outcome: Outcome
) -> AsyncGenerator[Event, None]:
    """Run one block as a cell. Where a package is missing, propose its install, and run the block again if it may."""
    tried: set[str] = set()

    def propose(code: str, cause: Cause) -> CellProposed:
        code = f"%%in_kernel {start.kernel}\n{code}" if start.kernel else code
        language, target = (block.language, block.target) if cause == "reply" else (start.language, "")
        return CellProposed(cell=str(uuid4()), step=step, code=code, language=language, target=target, cause=cause)

    cells = [propose(block.code, "reply")]
    while cells:
        cell = cells.pop(0)
        async with aclosing(_cell(cell, executor, decide, outcome)) as events:
            async for event in events:
                yield event
        lacks = outcome.module if outcome.status == "error" and start.language == "python" else ""
        if lacks and cell.cause != "install" and lacks not in tried:
            tried.add(lacks)
            cells.append(propose(packages.install(lacks), "install"))
            if packages.begins_with_imports(block.code, lacks):
                cells.append(propose(block.code, "again"))
        elif outcome.status != "ok":
            return
    if cell.cause == "install":  # the block itself has not run: it did something before the import
        outcome.status = "error"


async def _cell(
    cell: CellProposed, executor: Executor, decide: Decide, outcome: Outcome
) -> AsyncGenerator[Event, None]:
    """Run one cell, if it may."""
    yield cell
    outcome.status, outcome.error, outcome.module = "rejected", "", ""
    decided = await decide(cell)
    if decided:
        yield decided
        if decided.decision == "rejected":
            return
    code = decided.code if decided and decided.decision == "edited" else cell.code
    began = time.perf_counter()
    async with aclosing(executor.execute(code, cell.cell)) as items:
        async for item in items:
            if isinstance(item, CellBegan):
                yield CellStarted(cell=cell.cell, execution_count=item.execution_count, message=item.message)
                began = time.perf_counter()
            elif isinstance(item, CellDone):
                outcome.status = item.status
                seconds = round(time.perf_counter() - began, 3)
                yield CellFinished(
                    cell=cell.cell, status=item.status, changes=item.changes, seconds=seconds, detail=item.detail
                )
                return
            else:
                if item["output_type"] == "error":
                    outcome.error = plain(f"{item.get('ename')}: {item.get('evalue')}")
                    outcome.module = packages.missing(item) if code == cell.code else ""  # an edit is not run again
                yield CellOutput(cell=cell.cell, output=item)
    raise ExecutorError("The executor ended a cell without a CellDone; see Executor.execute in ports.py.")


def _limit_met(limits: Limits, step: int, spent: Usage, empty: int, failures: Counter[str]) -> str:
    """Say which limit the turn has met, or nothing."""
    if failures and max(failures.values()) >= limits.max_repeats:
        return f"the same code failed in the same way {limits.max_repeats} times"
    if empty >= limits.max_empty:
        return f"the model sent {limits.max_empty} empty replies in a row"
    if limits.max_tokens is not None and spent.total >= limits.max_tokens:
        return f"{spent.total:,} tokens are used, of {limits.max_tokens:,} (max_tokens)"
    if step >= limits.max_steps:
        return f"{step} step{'s are' if step > 1 else ' is'} taken (max_steps)"
    return ""
