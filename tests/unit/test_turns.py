"""A turn is the fold of its events, and can be said in one line."""

import pytest

from codeact_magic.events import (
    Cause,
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Changes,
    Event,
    ModelRetried,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    Status,
    TurnFinished,
    TurnStarted,
    Usage,
)
from codeact_magic.turns import Step, Turn, summary, turn_from

from .fakes import python, stream

START = TurnStarted(turn="t1", thread="main", prompt="What is {x}?", filled="What is 6?")
CELL: list[Event] = [
    CellProposed(cell="c1", step=1, code="x"),
    CellStarted(cell="c1", execution_count=3),
    CellOutput(cell="c1", output=stream("4")),
    CellOutput(cell="c1", output=stream("2\n")),
    CellFinished(cell="c1", status="error", changes=Changes(deleted=("y",)), seconds=0.5, detail="Because."),
]
REPLY = ReplyFinished(text="Look.\n" + python("x"), usage=Usage(input=1000, output=200, cached=900), model="m-1")
ANSWER = ReplyFinished(text="It is 42.", usage=Usage(input=2000, output=10))
END = TurnFinished(reason="answered", answer="It is 42.", seconds=1.25)


def test_a_turn_begins_with_its_prompt_as_written() -> None:
    turn = turn_from([START])
    assert (turn.id, turn.thread, turn.prompt, turn.reason) == ("t1", "main", "What is {x}?", None)


def test_a_reply_and_its_cells_are_a_step() -> None:
    turn = turn_from([START, REPLY, *CELL])
    (step,) = turn.steps
    assert (step.narration, step.text, [cell.id for cell in step.cells]) == ("Look.", REPLY.text, ["c1"])


def test_a_cell_has_its_end_and_its_outputs_folded() -> None:
    cell = turn_from([START, REPLY, *CELL]).cells[0]
    assert (cell.status, cell.execution_count, cell.seconds, cell.detail) == ("error", 3, 0.5, "Because.")
    assert cell.outputs == [stream("42\n")]
    assert cell.changes == Changes(deleted=("y",))


@pytest.mark.parametrize(("length", "status"), [(1, "proposed"), (2, "running"), (4, "running"), (5, "error")])
def test_a_cell_goes_from_proposed_to_its_end(length: int, status: str) -> None:
    assert turn_from([START, REPLY, *CELL[:length]]).cells[0].status == status


def test_the_answer_is_not_narrated_twice() -> None:
    turn = turn_from([START, REPLY, *CELL, ANSWER, END])
    assert (turn.answer, [step.narration for step in turn.steps]) == ("It is 42.", ["Look.", ""])


def test_the_tokens_of_all_replies_are_counted_and_the_last_name_of_the_model_stays() -> None:
    turn = turn_from([START, REPLY, ANSWER])
    assert (turn.usage, turn.model) == (Usage(input=3000, output=210, cached=900), "m-1")


def test_a_reply_can_be_read_while_it_streams() -> None:
    turn = turn_from([START, ReplyDelta(text="Let me "), ReplyDelta(text="look")])
    assert turn.parser
    assert turn.parser.unfinished == "Let me look"


@pytest.mark.parametrize("event", [ReplyDiscarded(reason="Cut."), REPLY, END])
def test_nothing_streams_any_more_once_a_reply_is_over(event: Event) -> None:
    assert turn_from([START, ReplyDelta(text="Let"), event]).parser is None


def test_a_retry_is_noticed_until_the_next_reply_comes() -> None:
    retry = ModelRetried(attempt=2, reason="Busy.", wait=0.5)
    turn = turn_from([START, retry])
    assert (turn.retries, turn.notice) == (1, "Busy. Asking again in 0.5 s (retry 2).")
    turn.apply(ReplyDelta(text="x"))
    assert turn.notice == ""


def test_a_discarded_reply_is_noticed() -> None:
    turn = turn_from([START, ReplyDelta(text="x"), ReplyDiscarded(reason="Cut.")])
    assert turn.notice == "A reply broke off and was discarded. Cut."


@pytest.mark.parametrize("event", CELL[1:], ids=lambda event: type(event).__name__)
def test_events_of_an_unknown_cell_are_passed_over(event: Event) -> None:
    assert turn_from([START, event]).cells == []


def test_a_cell_without_a_reply_has_a_step_of_its_own() -> None:
    assert turn_from([START, *CELL]).steps[0].cells[0].id == "c1"


def test_a_cell_is_found_by_its_id() -> None:
    turn = turn_from([START, REPLY, *CELL])
    assert turn.cell("c1") is turn.cells[0]
    assert turn.cell("c2") is None


def test_folding_piece_by_piece_is_folding_at_once() -> None:
    events = [START, REPLY, *CELL, ANSWER, END]
    turn = Turn()
    for event in events:
        turn.apply(event)
    assert turn == turn_from(events)


SUMMARIES: list[tuple[list[Event], str]] = [
    ([START], "Working · 0.0 s"),
    ([START, ANSWER, END], "Answered · 1.2 s · 2,010 tokens"),
    ([START, REPLY, *CELL, ANSWER, END], "Answered · 1 step · 1.2 s · 3,210 tokens (900 cached) · m-1"),
    ([START, REPLY, *CELL, REPLY, *CELL, END], "Answered · 2 steps · 1.2 s · 2,400 tokens (1,800 cached) · m-1"),
    ([START, TurnFinished(reason="stopped")], "Stopped · 0.0 s. `%agent continue` goes on."),
    (
        [START, TurnFinished(reason="limit", detail="20 steps are taken (max_steps)")],
        "Stopped at a limit · 0.0 s — 20 steps are taken (max_steps). `%agent continue` goes on.",
    ),
    ([START, ModelRetried(attempt=1, reason="x", wait=0), END], "Answered · 1.2 s · 1 retry"),
    ([START, *[ModelRetried(attempt=1, reason="x", wait=0)] * 2, END], "Answered · 1.2 s · 2 retries"),
]


@pytest.mark.parametrize(("events", "line"), SUMMARIES, ids=[line for _, line in SUMMARIES])
def test_a_turn_is_said_in_one_line(events: list[Event], line: str) -> None:
    assert summary(turn_from(events)) == line


def test_the_time_of_a_turn_that_goes_on_is_given_from_outside() -> None:
    assert summary(turn_from([START]), 12.34) == "Working · 12.3 s"


def test_a_failed_turn_says_so() -> None:
    assert summary(turn_from([START, TurnFinished(reason="failed", detail="No key.")])).startswith("Failed · 0.0 s")


def test_an_empty_turn_has_no_cells() -> None:
    assert (Turn().cells, Turn(steps=[Step()]).cells) == ([], [])


def proposed(name: str, cause: Cause, status: Status | None = "ok") -> list[Event]:
    events: list[Event] = [CellProposed(cell=name, step=1, code="x", cause=cause), CellStarted(cell=name)]
    return [*events, CellFinished(cell=name, status=status)] if status else events[:1]


def test_a_decision_is_kept_with_its_cell() -> None:
    decided = CellDecided(cell="c1", decision="run", risk="delete: x")
    turn = turn_from([START, REPLY, CELL[0], decided])
    assert (turn.cells[0].decided, turn.cells[0].status) == (decided, "proposed")


def test_a_rejected_cell_was_not_run() -> None:
    turn = turn_from([START, REPLY, CELL[0], CellDecided(cell="c1", decision="rejected")])
    assert (turn.cells[0].status, turn.cells[0].code) == ("rejected", "x")


def test_an_edited_cell_shows_the_users_code() -> None:
    turn = turn_from([START, REPLY, CELL[0], CellDecided(cell="c1", decision="edited", code="y")])
    assert turn.cells[0].code == "y"


def test_a_decision_on_an_unknown_cell_is_passed_over() -> None:
    assert turn_from([START, CellDecided(cell="c9", decision="rejected")]).cells == []


TWO = ReplyFinished(text="One.\n" + python("x") + "Two.\n" + python("y") + "Three.")


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        ([*proposed("a", "reply"), *proposed("b", "reply")], "One. a Two. b Three."),
        ([*proposed("a", "reply", "error")], "One. a"),
        ([*proposed("a", "reply", None), CellDecided(cell="a", decision="rejected")], "One. a"),
        ([*proposed("a", "reply", "error"), *proposed("i", "install"), *proposed("r", "again")], "One. a i r Two."),
        ([*proposed("a", "reply", "error"), *proposed("i", "install", "error")], "One. a i"),
        (
            [
                *proposed("a", "reply", "error"),
                *proposed("i", "install", None),
                CellDecided(cell="i", decision="rejected"),
            ],
            "One. a i",
        ),
        (
            [
                *proposed("a", "reply", "error"),
                *proposed("i", "install"),
                *proposed("r", "again"),
                *proposed("b", "reply"),
            ],
            "One. a i r Two. b Three.",
        ),
    ],
)
def test_text_stands_before_the_cell_it_speaks_of(events: list[Event], parts: str) -> None:
    (step,) = turn_from([START, TWO, *events]).steps
    assert " ".join(part if isinstance(part, str) else part.id for part in step.parts) == parts
