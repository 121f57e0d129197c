"""A turn runs from prompt to answer, and ends exactly once however it ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from codeact_magic import prompts
from codeact_magic.errors import BadCredentials, ConfigError, ExecutorError, ModelError, ModelUnavailable
from codeact_magic.events import (
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Changes,
    Event,
    FileChange,
    ModelRetried,
    Output,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
    Usage,
)
from codeact_magic.loop import Limits
from codeact_magic.ports import CellBegan, CellDone, Message, Model, ReplyEnd
from codeact_magic.session import Session
from codeact_magic.testing import Fault, ScriptedModel, ScriptedReply

from .fakes import HANGS, FakeExecutor, RecordingNotebook, asked, ends, failure, python, stream, text_of_message

FAST = Limits(backoff=0.0)


def session(
    *script: str | ScriptedReply | Fault | Exception,
    executor: FakeExecutor | None = None,
    notebook: RecordingNotebook | None = None,
    limits: Limits = FAST,
    model: Model | None = None,
) -> Session:
    return Session(
        model or ScriptedModel(script),
        executor or FakeExecutor(),
        notebook or RecordingNotebook(),
        limits=limits,
        system="Be brief.",
    )


def shown(of: Session) -> list[Event]:
    assert isinstance(of.notebook, RecordingNotebook)
    return of.notebook.shown


def ran(of: Session) -> list[str]:
    assert isinstance(of.executor, FakeExecutor)
    return of.executor.ran


def prompts_of(of: Session) -> list[tuple[Message, ...]]:
    assert isinstance(of.model, ScriptedModel)
    return of.model.prompts


def kinds(events: Sequence[Event]) -> list[type[Event]]:
    return [type(event) for event in events if not isinstance(event, ReplyDelta)]


async def finish(of: Session) -> TurnFinished:
    events = await asked(of)
    (end,) = ends(events)
    assert events[-1] is end
    return end


async def test_a_reply_without_a_block_is_the_answer() -> None:
    assert kinds(await asked(session("It is 42."))) == [TurnStarted, ReplyFinished, TurnFinished]


async def test_the_answer_is_the_reply_without_blanks_around() -> None:
    end = await finish(session("\n It is 42.\n"))
    assert (end.reason, end.answer, end.detail) == ("answered", "It is 42.", "")


async def test_a_block_runs_as_a_cell_and_the_model_sees_its_outputs() -> None:
    it = session(python("6 * 7"), "It is 42.", executor=FakeExecutor({"6 * 7": [stream("42\n")]}))
    events = await asked(it)
    assert kinds(events) == [
        TurnStarted,
        ReplyFinished,
        CellProposed,
        CellStarted,
        CellOutput,
        CellFinished,
        ReplyFinished,
        TurnFinished,
    ]
    assert text_of_message(prompts_of(it)[1][-1]) == "Block 1, cell [1]: ran.\n42"


async def test_all_events_of_a_cell_name_it() -> None:
    events = await asked(session(python("x"), "Done.", executor=FakeExecutor({"x": [stream("a")]})))
    cells = {
        event.cell for event in events if isinstance(event, CellProposed | CellStarted | CellOutput | CellFinished)
    }
    assert len(cells) == 1


async def test_the_executor_is_told_the_cell() -> None:
    executor = FakeExecutor()
    events = await asked(session(python("x"), "Done.", executor=executor))
    assert executor.cells == [event.cell for event in events if isinstance(event, CellProposed)]


async def test_blocks_run_in_order() -> None:
    it = session(python("a") + "then\n" + python("b") + python("c"), "Done.")
    await asked(it)
    assert ran(it) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "result", [[failure()], CellDone(status="error"), CellDone(status="timeout"), CellDone(status="died")]
)
async def test_blocks_behind_a_failed_one_do_not_run(result: list[dict[str, object]] | CellDone) -> None:
    it = session(python("a") + python("b") + python("c"), "Sorry.", executor=FakeExecutor({"b": result}))
    await asked(it)
    assert ran(it) == ["a", "b"]


async def test_the_model_is_told_which_blocks_did_not_run() -> None:
    it = session(python("a") + python("b") + python("c"), "Sorry.", executor=FakeExecutor({"a": [failure()]}))
    await asked(it)
    assert "The 2 blocks after it were not run." in text_of_message(prompts_of(it)[1][-1])


async def test_an_unclosed_block_never_runs() -> None:
    it = session(python("a") + "```python\nb\n", "Done.")
    await asked(it)
    assert ran(it) == ["a"]
    assert prompts.UNCLOSED in text_of_message(prompts_of(it)[1][-1])


async def test_a_reply_that_is_only_an_unclosed_block_is_no_answer() -> None:
    it = session("```python\nb\n", "Done.")
    assert (await finish(it)).answer == "Done."
    assert ran(it) == []


async def test_a_reply_that_was_cut_is_no_answer() -> None:
    it = session(ScriptedReply("It is", finish="length"), "It is 42.")
    assert (await finish(it)).answer == "It is 42."
    assert prompts.CUT in text_of_message(prompts_of(it)[1][-1])


async def test_a_stopped_cell_stops_the_turn() -> None:
    it = session(python("a") + python("b"), "Never.", executor=FakeExecutor({"a": CellDone(status="stopped")}))
    assert (await finish(it)).reason == "stopped"
    assert ran(it) == ["a"]


async def test_after_an_empty_reply_the_model_is_asked_again() -> None:
    it = session("", " \n", "It is 42.")
    assert (await finish(it)).answer == "It is 42."
    assert prompts.EMPTY in text_of_message(prompts_of(it)[1][-1])


async def test_empty_replies_in_a_row_end_the_turn() -> None:
    it = session(*[""] * 9)
    end = await finish(it)
    assert (end.reason, end.detail) == ("limit", "the model sent 3 empty replies in a row")
    assert len(prompts_of(it)) == 3


async def test_empty_replies_that_are_not_in_a_row_do_not() -> None:
    assert (await finish(session("", "", python("a"), "", "", "Done."))).reason == "answered"


async def test_steps_are_limited() -> None:
    it = session(*[python("a")] * 9, limits=Limits(max_steps=3))
    end = await finish(it)
    assert (end.reason, end.detail, len(ran(it))) == ("limit", "3 steps are taken (max_steps)", 3)


async def test_the_last_step_may_answer() -> None:
    assert (await finish(session(python("a"), "Done.", limits=Limits(max_steps=2)))).reason == "answered"


async def test_tokens_are_limited() -> None:
    reply = ScriptedReply(python("a"), usage=Usage(input=400, output=100))
    it = session(*[reply] * 9, limits=Limits(max_tokens=1000))
    end = await finish(it)
    assert (end.reason, end.detail) == ("limit", "1,000 tokens are used, of 1,000 (max_tokens)")
    assert len(ran(it)) == 2


async def test_an_answer_is_given_although_it_took_the_last_tokens() -> None:
    reply = ScriptedReply("It is 42.", usage=Usage(input=5000, output=100))
    assert (await finish(session(reply, limits=Limits(max_tokens=1000)))).reason == "answered"


async def test_code_that_fails_the_same_way_again_and_again_ends_the_turn() -> None:
    it = session(*[python("a")] * 9, executor=FakeExecutor({"a": [failure()]}))
    end = await finish(it)
    assert (end.reason, end.detail) == ("limit", "the same code failed in the same way 3 times")
    assert len(ran(it)) == 3


async def test_other_code_that_fails_is_not_a_repetition() -> None:
    codes = ["a", "b", "a", "b"]
    it = session(*map(python, codes), "Done.", executor=FakeExecutor({"a": [failure()], "b": [failure()]}))
    assert (await finish(it)).reason == "answered"


async def test_a_limit_is_told_with_the_next_prompt() -> None:
    it = session(python("a"), "Done.", limits=Limits(max_steps=1))
    await asked(it)
    await asked(it, "Go on.")
    assert text_of_message(prompts_of(it)[1][-1]) == (
        "Your previous turn reached a limit: 1 step is taken (max_steps)\nGo on."
    )


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut_after=0), Fault(cut_after=30)])
async def test_after_a_passing_fault_the_model_is_asked_again(fault: Fault) -> None:
    it = session(ScriptedReply(python("a") * 3, fault=fault), python("b"), "Done.")
    assert (await finish(it)).reason == "answered"
    assert ran(it) == ["b"]


async def test_the_same_is_asked_again() -> None:
    it = session(Fault(status=503), "Done.")
    await asked(it)
    assert prompts_of(it)[0] == prompts_of(it)[1]


async def test_nothing_of_a_reply_that_broke_off_is_run_or_told() -> None:
    it = session(ScriptedReply(python("a") + "more", fault=Fault(cut_after=20)), "Done.")
    events = await asked(it)
    assert ran(it) == []
    assert kinds(events) == [TurnStarted, ReplyDiscarded, ModelRetried, ReplyFinished, TurnFinished]
    assert [message.role for message in prompts_of(it)[1]] == ["system", "user"]


async def test_what_did_not_begin_is_not_discarded() -> None:
    events = await asked(session(Fault(status=503), "Done."))
    assert kinds(events) == [TurnStarted, ModelRetried, ReplyFinished, TurnFinished]


async def test_retries_are_limited() -> None:
    it = session(*[Fault(status=503)] * 9, limits=Limits(retries=2, backoff=0.0))
    end = await finish(it)
    assert (end.reason, len(prompts_of(it))) == ("failed", 3)
    assert "Asked 3 times" in end.detail


async def test_the_last_fault_is_not_announced_as_a_retry() -> None:
    events = await asked(session(*[Fault(status=503)] * 9, limits=Limits(retries=2, backoff=0.0)))
    assert [event.attempt for event in events if isinstance(event, ModelRetried)] == [1, 2]


async def test_faults_of_one_reply_do_not_count_for_the_next() -> None:
    fault = Fault(status=503)
    it = session(fault, python("a"), fault, python("b"), fault, "Done.", limits=Limits(retries=1, backoff=0.0))
    assert (await finish(it)).reason == "answered"


async def test_the_server_says_how_long_to_wait() -> None:
    events = await asked(session(Fault(status=429, retry_after=0.01), "Done.", limits=Limits(backoff=99.0)))
    assert [event.wait for event in events if isinstance(event, ModelRetried)] == [0.01]


async def test_cells_that_ran_before_a_fault_are_not_run_again() -> None:
    it = session(python("a"), Fault(status=503), ScriptedReply(python("a"), fault=Fault(cut_after=12)), "Done.")
    await asked(it)
    assert ran(it) == ["a"]


class Endless:
    """A model whose stream stops without its end."""

    name = "endless"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | ReplyEnd, None]:
        yield python("a")

    async def aclose(self) -> None:
        pass


async def test_a_stream_without_its_end_is_a_fault() -> None:
    it = session(model=Endless(), limits=Limits(retries=1, backoff=0.0))
    assert (await finish(it)).reason == "failed"
    assert ran(it) == []


@pytest.mark.parametrize(
    "error", [ModelError("It refused."), BadCredentials("No key."), ExecutorError("No kernel."), ConfigError("Bad.")]
)
async def test_an_error_of_the_endpoint_fails_the_turn(error: Exception) -> None:
    it = session(error)
    end = await finish(it)
    assert (end.reason, end.detail) == ("failed", str(error))
    assert ends(it.conversation.events) == ends(shown(it)) == [end]


async def test_a_refusal_is_not_asked_again() -> None:
    it = session(ModelError("It refused."), "Never.")
    await asked(it)
    assert len(prompts_of(it)) == 1


async def test_an_executor_that_cannot_run_code_fails_the_turn() -> None:
    it = session(python("a") + python("b"), "Never.", executor=FakeExecutor({"a": ExecutorError("No kernel.")}))
    end = await finish(it)
    assert (end.reason, end.detail, ran(it)) == ("failed", "No kernel.", ["a"])


async def test_a_bug_of_the_executor_is_raised_once_the_turn_has_ended() -> None:
    it = session(python("a"), "Never.", executor=FakeExecutor({"a": KeyError("x")}))
    with pytest.raises(KeyError):
        await asked(it)
    assert [(end.reason, end.detail) for end in ends(it.conversation.events)] == [("failed", "KeyError: 'x'")]
    assert ends(shown(it)) == ends(it.conversation.events)


async def test_after_a_failure_the_session_can_be_asked_again() -> None:
    it = session(ModelUnavailable("Busy."), "It is 42.", limits=Limits(retries=0))
    assert (await finish(it)).reason == "failed"
    assert (await finish(it)).reason == "answered"


async def test_an_empty_prompt_begins_no_turn() -> None:
    it = session("Never.")
    with pytest.raises(ConfigError):
        await asked(it, " \n")
    assert it.conversation.events == shown(it) == []


async def test_the_notebook_is_shown_every_event_once_it_is_recorded() -> None:
    it = session(python("a"), "Done.")
    seen: list[bool] = []
    it.notebook = RecordingNotebook(
        lambda event: seen.append(isinstance(event, ReplyDelta) or event in it.conversation.events)
    )
    events = await asked(it)
    assert shown(it) == events
    assert all(seen)


async def test_a_session_needs_no_notebook() -> None:
    events = await asked(Session(ScriptedModel(["It is 42."]), FakeExecutor()))
    assert ends(events)[0].answer == "It is 42."


async def test_the_state_of_the_executor_is_told() -> None:
    it = session("Done.", executor=FakeExecutor(state="Names in the kernel: x (int)"))
    await asked(it)
    assert text_of_message(prompts_of(it)[0][-1]) == "Names in the kernel: x (int)\nDo it."


async def test_each_turn_goes_on_from_the_one_before() -> None:
    it = session("One.", "Two.")
    await asked(it)
    await asked(it)
    first, second = prompts_of(it)
    assert second[: len(first)] == first
    assert [message.role for message in second] == ["system", "user", "assistant", "user"]


async def test_a_new_thread_begins_from_nothing() -> None:
    it = session("One.", "Two.")
    await asked(it)
    before = it.thread
    it.reset()
    await asked(it)
    assert len(prompts_of(it)[1]) == 2
    assert it.thread != before


async def test_closing_closes_the_executor() -> None:
    it = session()
    await it.aclose()
    assert isinstance(it.executor, FakeExecutor)
    assert it.executor.closed


def is_delta(event: Event) -> bool:
    return isinstance(event, ReplyDelta)


def is_started(event: Event) -> bool:
    return isinstance(event, CellStarted)


def is_retried(event: Event) -> bool:
    return isinstance(event, ModelRetried)


@pytest.mark.parametrize(
    ("script", "at"),
    [
        ([ScriptedReply("It is a long story.", pause=60.0, chunk=5)], is_delta),
        ([python(HANGS)], is_started),
        ([Fault(status=429, retry_after=60.0)], is_retried),
    ],
    ids=["while the model streams", "while a cell runs", "while it waits to ask again"],
)
async def test_a_cancelled_turn_ends_once_and_the_cancellation_goes_on(
    script: list[str], at: Callable[[Event], bool]
) -> None:
    reached = asyncio.Event()
    it = session(*script, "Never.", notebook=RecordingNotebook(lambda event: reached.set() if at(event) else None))
    task = asyncio.create_task(asked(it))
    await asyncio.wait_for(reached.wait(), 5)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [end.reason for end in ends(it.conversation.events)] == ["stopped"]
    assert ends(shown(it)) == ends(it.conversation.events)


async def test_a_cancelled_cell_is_over_when_the_turn_is() -> None:
    executor = FakeExecutor()
    it = session(python(HANGS), executor=executor)
    task = asyncio.create_task(asked(it))
    await executor.began.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert executor.running == 0


LONG: list[str | ScriptedReply | Fault] = [
    "Look.\n" + python("a") + python("b"),
    ScriptedReply(python("never"), fault=Fault(cut_after=20)),
    "",
    python("c") + python("d"),
    "```python\nunclosed",
    "It is 42.",
]


def long_session() -> Session:
    results = {"a": [stream("1\n"), stream("2\n")], "b": [stream("3\n", "stderr")], "c": [failure()]}
    return session(*LONG, executor=FakeExecutor(results))


LENGTH = len(asyncio.run(asked(long_session())))


@pytest.mark.parametrize("count", range(1, LENGTH + 1))
async def test_a_turn_closed_early_by_its_consumer_ends_exactly_once(count: int) -> None:
    it = long_session()
    events = it.ask("Do it.")
    for _ in range(count):
        await anext(events)
    await events.aclose()
    (end,) = ends(it.conversation.events)
    assert end.reason == ("answered" if count == LENGTH else "stopped")
    assert it.conversation.events[-1] is end
    assert ends(shown(it)) == [end]


@pytest.mark.parametrize("count", range(1, LENGTH + 1))
async def test_no_cell_runs_once_a_turn_was_closed(count: int) -> None:
    it = long_session()
    events = it.ask("Do it.")
    for _ in range(count):
        await anext(events)
    await events.aclose()
    assert isinstance(it.executor, FakeExecutor)
    assert it.executor.running == 0


@pytest.mark.parametrize("count", range(1, LENGTH + 1))
async def test_no_cell_runs_any_more_when_the_end_of_a_closed_turn_is_shown(count: int) -> None:
    it, running = long_session(), list[int]()
    executor = it.executor
    assert isinstance(executor, FakeExecutor)
    it.notebook = RecordingNotebook(
        lambda event: running.append(executor.running) if isinstance(event, TurnFinished) else None
    )
    events = it.ask("Do it.")
    for _ in range(count):
        await anext(events)
    await events.aclose()
    assert running == [0]


class Streaming(ScriptedModel):
    """Counts the replies that are streaming."""

    open = 0

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | ReplyEnd, None]:
        self.open += 1
        try:
            yield "It is "
            yield "42."
            yield ReplyEnd()
        finally:
            self.open -= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
async def test_no_reply_streams_once_a_turn_was_closed(count: int) -> None:
    model = Streaming([])
    events = session(model=model).ask("Do it.")
    for _ in range(count):
        await anext(events)
    await events.aclose()
    assert model.open == 0


@pytest.mark.parametrize("count", range(1, LENGTH + 1))
async def test_after_a_turn_was_closed_the_next_one_goes_on(count: int) -> None:
    it = long_session()
    events = it.ask("Do it.")
    for _ in range(count):
        await anext(events)
    await events.aclose()
    before = it.conversation.messages("Be brief.")
    it.model = ScriptedModel(["Done."])
    assert (await finish(it)).answer == "Done."
    assert prompts_of(it)[0][: len(before)] == before


async def test_a_turn_that_was_never_begun_leaves_nothing() -> None:
    it = long_session()
    await it.ask("Do it.").aclose()
    assert it.conversation.events == shown(it) == []


@pytest.mark.parametrize("count", range(LENGTH))
async def test_a_notebook_that_fails_once_ends_the_turn_exactly_once(count: int) -> None:
    left = [count]

    def fail_once(event: Event) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise RuntimeError("the document is gone")

    it = long_session()
    it.notebook = RecordingNotebook(fail_once)
    with pytest.raises(RuntimeError, match="gone"):
        await asked(it)
    (end,) = ends(it.conversation.events)
    assert it.conversation.events[-1] is end
    if count < LENGTH - 1:
        assert (end.reason, end.detail) == ("failed", "RuntimeError: the document is gone")
        assert ends(shown(it)) == [end]


async def test_a_notebook_that_always_fails_still_ends_the_turn_in_the_conversation() -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("the document is gone")

    it = session("It is 42.", notebook=RecordingNotebook(fail))
    with pytest.raises(RuntimeError):
        await asked(it)
    assert len(ends(it.conversation.events)) == 1


SECRET = "sk-test-0123456789abcdef"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CODEACT_TEST_API_KEY", SECRET)
    return SECRET


@pytest.mark.parametrize(
    "result",
    [
        [stream(f"key: {SECRET}\n")],
        [{"output_type": "display_data", "data": {"text/html": [f"<b>{SECRET}</b>"]}, "metadata": {}}],
        [failure(value=f"bad {SECRET}", traceback=[f"bad {SECRET}"])],
        CellDone(status="timeout", detail=f"with {SECRET}"),
        ExecutorError(f"with {SECRET}"),
    ],
    ids=["stream", "display", "error", "detail", "raised"],
)
async def test_secrets_of_the_environment_stand_in_no_event(
    secret: str, result: list[dict[str, object]] | CellDone | Exception
) -> None:
    it = session(python("a"), "Done.", executor=FakeExecutor({"a": result}, state=f"x = {secret}"))
    events = await asked(it, f"Use {secret}.")
    assert not [event for event in events if secret in repr(event)]
    assert secret not in repr(it.conversation.events)
    assert secret not in repr(shown(it))
    assert secret not in repr(prompts_of(it))
    assert "[redacted]" in repr(events)


async def test_a_secret_in_a_reply_is_redacted(secret: str) -> None:
    it = session(ScriptedReply(f"It is {secret}.", chunk=1000))
    events = await asked(it)
    assert secret not in repr(events)
    assert ends(events)[0].answer == "It is [redacted]."


async def test_a_secret_that_streams_in_pieces_is_not_shown(secret: str) -> None:
    it = session(ScriptedReply(f"It is {secret}.", chunk=5))
    events = await asked(it)
    assert secret not in "".join(event.text for event in events if isinstance(event, ReplyDelta))


DELETES = "import os\nos.remove('a.csv')"
RISK = "delete: os.remove('a.csv')"


def answering(decision: str, reason: str = "", *, code: str = "") -> RecordingNotebook:
    """Give a notebook whose user decides the same on every cell."""
    return RecordingNotebook(
        decides=lambda cell, risk: CellDecided(
            cell=cell.cell,
            decision=decision,  # type: ignore[arg-type]
            risk=risk,
            reason=reason,
            code=code,
        )
    )


async def test_a_risky_cell_is_proposed_decided_and_run_in_this_order() -> None:
    it = session(python(DELETES), "Done.", notebook=answering("run"))
    events = await asked(it)
    assert kinds(events)[2:6] == [CellProposed, CellDecided, CellStarted, CellFinished]
    assert it.notebook.asked == [(DELETES, RISK)]  # type: ignore[union-attr]
    assert ran(it) == [DELETES]


async def test_a_harmless_cell_leads_to_no_decision() -> None:
    it = session(python("x = 1"), "Done.")
    assert CellDecided not in kinds(await asked(it))
    assert it.notebook.asked == []  # type: ignore[union-attr]


async def test_a_rejected_cell_is_not_run_nor_what_comes_behind_it() -> None:
    it = session(python("a") + python(DELETES) + python("b"), "Done.", notebook=answering("rejected", "Keep it."))
    events = await asked(it)
    assert ran(it) == ["a"]
    assert kinds(events)[5:] == [CellProposed, CellDecided, ReplyFinished, TurnFinished]
    told = text_of_message(prompts_of(it)[1][-1])
    assert "Block 2 was not run: the user rejected it." in told
    assert "Go on as the user says: Keep it." in told
    assert prompts.not_run(1) in told


async def test_a_model_that_insists_on_a_rejected_cell_meets_a_limit() -> None:
    it = session(*[python(DELETES)] * 5, notebook=answering("rejected"), limits=Limits(max_repeats=3))
    end = await finish(it)
    assert (end.reason, len(prompts_of(it)), ran(it)) == ("limit", 3, [])


async def test_an_edited_cell_runs_as_the_user_left_it() -> None:
    it = session(python(DELETES), "Done.", notebook=answering("edited", code="safer()"))
    await asked(it)
    assert ran(it) == ["safer()"]
    assert "The user edited it before it ran:\nsafer()" in text_of_message(prompts_of(it)[1][-1])


async def test_where_nothing_is_shown_nobody_can_be_asked() -> None:
    executor = FakeExecutor()
    it = Session(ScriptedModel([python(DELETES), "Done."]), executor, None)
    events = await asked(it)
    (decided,) = [event for event in events if isinstance(event, CellDecided)]
    assert (decided.decision, decided.by, executor.ran) == ("rejected", "setting", [])
    assert ends(events)[0].reason == "answered"


async def test_a_turn_that_is_stopped_on_a_question_ends_once_and_runs_nothing() -> None:
    def never(cell: CellProposed, risk: str) -> CellDecided:
        raise asyncio.CancelledError

    it = session(python(DELETES), "Done.", notebook=RecordingNotebook(decides=never))
    with pytest.raises(asyncio.CancelledError):
        await asked(it)
    assert [end.reason for end in ends(shown(it))] == ["stopped"]
    assert ran(it) == []
    it.notebook = RecordingNotebook()
    it.model = ScriptedModel(["Fine."])
    assert (await finish(it)).answer == "Fine."


async def test_secrets_stand_in_no_decision(secret: str) -> None:
    it = session(python(f"import os\nos.remove('{secret}')"), "Done.", notebook=answering("rejected", f"not {secret}"))
    events = await asked(it)
    assert secret not in repr(events)
    assert secret not in repr(it.conversation.events)


async def test_what_the_agent_wrote_itself_may_be_written_again(tmp_path: Path) -> None:
    (tmp_path / "own.csv").touch()
    made = CellDone(status="ok", changes=Changes(files=(FileChange(path="own.csv", change="new"),)))
    executor = FakeExecutor({"make()": made})
    executor.folder = str(tmp_path)
    code = "open('own.csv', 'w').write('')"
    it = session(python(code), python("make()") + python(code), "Done.", executor=executor, notebook=answering("run"))
    await asked(it)
    assert [each for each, _ in it.notebook.asked] == [code]  # type: ignore[union-attr]
    it.reset()
    it.model = ScriptedModel([python(code), "Done."])
    await asked(it)
    assert len(it.notebook.asked) == 2, "another thread did not write it"  # type: ignore[union-attr]


LACKS = [failure("ModuleNotFoundError", "No module named 'six'")]
INSTALL = "%pip install six\nimport six"


class Installing(FakeExecutor):
    """Lacks six until it is installed."""

    async def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        if code == INSTALL and code not in self.results:
            self.results = {}
        async with aclosing(super().execute(code, cell)) as items:
            async for item in items:
                yield item


def causes(events: Sequence[Event]) -> list[str]:
    return [event.cause for event in events if isinstance(event, CellProposed)]


async def test_a_missing_package_is_proposed_asked_about_installed_and_the_block_run_again() -> None:
    code = "import six\nsix.x"
    it = session(python(code) + python("more"), "Done.", executor=Installing({code: LACKS}), notebook=answering("run"))
    events = await asked(it)
    assert ran(it) == [code, INSTALL, code, "more"]
    assert causes(events) == ["reply", "install", "again", "reply"]
    assert it.notebook.asked == [(INSTALL, "install: %pip install six")]  # type: ignore[union-attr]
    told = text_of_message(prompts_of(it)[1][-1])
    heads = [line for line in told.splitlines() if " cell [" in line]
    assert heads == [
        "Block 1, cell [1]: failed.",
        "Install, cell [2]: ran.",
        "Block 1 again, cell [3]: ran.",
        "Block 2, cell [4]: ran.",
    ]


async def test_a_block_that_did_something_before_is_not_run_again() -> None:
    code = "once()\nimport six"
    it = session(python(code) + python("more"), "Done.", executor=Installing({code: LACKS}), notebook=answering("run"))
    events = await asked(it)
    assert ran(it) == [code, INSTALL]
    assert causes(events) == ["reply", "install"]
    assert prompts.not_run(1) in text_of_message(prompts_of(it)[1][-1])


async def test_an_install_that_is_rejected_is_told() -> None:
    it = session(
        python("import six"), "Done.", executor=Installing({"import six": LACKS}), notebook=answering("rejected", "No.")
    )
    events = await asked(it)
    assert ran(it) == ["import six"]
    assert causes(events) == ["reply", "install"]
    told = text_of_message(prompts_of(it)[1][-1])
    assert "No module named 'six'" in told
    assert "Install was not run: the user rejected it." in told


async def test_an_install_that_fails_is_told_and_nothing_is_run_again() -> None:
    failed = [stream("ERROR: No matching distribution found for six\n"), *LACKS]
    executor = Installing({"import six": LACKS, INSTALL: failed})
    it = session(python("import six"), "Done.", executor=executor, notebook=answering("run"))
    events = await asked(it)
    assert ran(it) == ["import six", INSTALL]
    assert causes(events) == ["reply", "install"]
    assert "ERROR: No matching distribution" in text_of_message(prompts_of(it)[1][-1])


async def test_a_cell_that_the_user_edited_is_not_run_again_as_the_model_wrote_it() -> None:
    executor = FakeExecutor({"import six": LACKS})
    it = session(python(DELETES), "Done.", executor=executor, notebook=answering("edited", code="import six"))
    assert causes(await asked(it)) == ["reply"]
    assert ran(it) == ["import six"]


async def test_a_block_that_lacks_several_packages_gets_them_one_by_one() -> None:
    class Lacking(FakeExecutor):
        async def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
            left = [name for name in ("six", "toml") if f"%pip install {name}\nimport {name}" not in self.ran]
            lacks = [failure("ModuleNotFoundError", f"No module named {left[0]!r}")] if left else []
            self.results = {"import six, toml": lacks}
            async with aclosing(super().execute(code, cell)) as items:
                async for item in items:
                    yield item

    it = session(python("import six, toml"), "Done.", executor=Lacking(), notebook=answering("run"))
    assert causes(await asked(it)) == ["reply", "install", "again", "install", "again"]
    assert "Block 1 again, cell [5]: ran." in text_of_message(prompts_of(it)[1][-1])


async def test_a_block_that_still_lacks_its_package_is_not_tried_for_ever() -> None:
    executor = FakeExecutor({"import six": LACKS})
    it = session(python("import six"), "Done.", executor=executor, notebook=answering("run"))
    assert causes(await asked(it)) == ["reply", "install", "again"]


async def test_another_language_has_no_packages_of_pythons() -> None:
    executor = FakeExecutor({"import six": LACKS})
    executor.language = "r"
    it = session("```r\nimport six\n```\n", "Done.", executor=executor)
    assert causes(await asked(it)) == ["reply"]


async def test_cells_for_another_kernel_say_so() -> None:
    code = "%%in_kernel py\nimport six"
    executor = FakeExecutor({code: LACKS})
    it = session(python("import six"), "Done.", executor=executor, notebook=answering("run"))
    async with aclosing(it.ask("Go.", kernel="py")) as events:
        assert causes([event async for event in events]) == ["reply", "install", "again"]
    assert ran(it) == [code, f"%%in_kernel py\n{INSTALL}", code]
    assert it.notebook.asked[0][1] == "install: %pip install six"  # type: ignore[union-attr]


class Silent:
    """A model that thinks for ever and says nothing."""

    name = "silent"

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | ReplyEnd, None]:
        await asyncio.Event().wait()
        yield ""

    async def aclose(self) -> None:
        pass


async def test_a_reply_of_which_nothing_comes_has_an_end_too() -> None:
    events = await asked(Session(Silent(), FakeExecutor(), limits=Limits(reply_seconds=0.05)))
    assert ends(events)[0].reason == "failed"
    assert "still streaming after 0.05 s" in ends(events)[0].detail
