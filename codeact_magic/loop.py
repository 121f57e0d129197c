"""One turn, from prompt to answer: READ THIS FIRST.

    prompt -> conversation -> model's reply -> blocks -> cells -> outputs -> conversation -> ... -> answer

``run_turn`` is the whole agent. It knows no kernel, no network and no notebook: it gets a model and an executor by
their ports and yields events. Whoever consumes the events shows them; see ``session.py``.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from uuid import uuid4

from .conversation import Conversation
from .errors import ExecutorError, ModelUnavailable
from .events import (
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
    """

    max_steps: int = 20
    max_tokens: int | None = None
    max_repeats: int = 3
    max_empty: int = 3
    retries: int = 5
    backoff: float = 0.5


async def run_turn(
    start: TurnStarted,
    conversation: Conversation,
    model: Model,
    executor: Executor,
    *,
    limits: Limits,
    system: str,
    clean: Callable[[Event], Event] = lambda event: event,
) -> AsyncGenerator[Event, None]:
    """Yield the events of a turn, each recorded in ``conversation`` before it is handed on.

    ``clean`` sees every event first (it redacts secrets). The last event is ``TurnFinished``, unless something is
    raised: ``Session.ask`` then writes it.
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
        reply = parse(event.text)
        if event.text.strip() and not (reply.blocks or reply.unclosed or event.cut):
            yield end("answered", answer=event.text.strip())
            return
        empty = 0 if event.text.strip() else empty + 1
        for block in reply.blocks:
            error = ""
            async with aclosing(_cell(block, step, executor)) as events:
                async for event in events:
                    yield record(event)
                    if isinstance(event, CellOutput) and event.output["output_type"] == "error":
                        error = plain(f"{event.output.get('ename')}: {event.output.get('evalue')}")
            if not isinstance(event, CellFinished):
                raise ExecutorError("The executor ended a cell without a CellDone; see Executor.execute in ports.py.")
            if event.status == "stopped":
                yield end("stopped")
                return
            if event.status != "ok":
                failures[f"{block.code}\n{event.status} {error}"] += 1
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
                async for item in items:
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
        await asyncio.sleep(wait)


async def _cell(block: Block, step: int, executor: Executor) -> AsyncGenerator[Event, None]:
    """Run one block as a cell."""
    cell = str(uuid4())
    yield CellProposed(cell=cell, step=step, code=block.code, language=block.language, target=block.target)
    began = time.perf_counter()
    async with aclosing(executor.execute(block.code, cell)) as items:
        async for item in items:
            if isinstance(item, CellBegan):
                yield CellStarted(cell=cell, execution_count=item.execution_count, message=item.message)
                began = time.perf_counter()
            elif isinstance(item, CellDone):
                seconds = round(time.perf_counter() - began, 3)
                yield CellFinished(
                    cell=cell, status=item.status, changes=item.changes, seconds=seconds, detail=item.detail
                )
            else:
                yield CellOutput(cell=cell, output=item)


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
