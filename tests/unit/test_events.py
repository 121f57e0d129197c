"""Events survive their JSON form, and what is no event is refused. ``fixtures/events.json`` is read by the client too."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from codeact_magic.events import (
    CellFinished,
    CellStarted,
    Changes,
    Event,
    Reason,
    ReplyFinished,
    Status,
    TurnFinished,
    Usage,
    decode,
    encode,
)

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "fixtures" / "events.json").read_text("utf-8"))
IDS = [f"{place}-{row['type']}" for place, row in enumerate(ROWS)]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_an_example_is_written_as_it_was_read(row: dict[str, Any]) -> None:
    assert json.loads(json.dumps(encode(decode(row)))) == row


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_an_event_is_read_as_it_was_written(row: dict[str, Any]) -> None:
    event = decode(row)
    assert decode(encode(event)) == event


def test_there_are_examples_of_every_event() -> None:
    assert {row["type"] for row in ROWS} == {kind.__name__ for kind in get_args(Event)}


def test_there_is_an_example_of_every_field() -> None:
    given = {(row["type"], name) for row in ROWS for name in row if name != "type"}
    assert given == {(kind.__name__, each.name) for kind in get_args(Event) for each in fields(kind)}


def test_there_is_an_example_of_every_status_and_reason() -> None:
    assert {row["status"] for row in ROWS if "status" in row} == set(get_args(Status))
    assert {row["reason"] for row in ROWS if row["type"] == "TurnFinished"} == set(get_args(Reason))


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_unknown_fields_are_passed_over(row: dict[str, Any]) -> None:
    assert decode({**row, "colour": {"of": ["tomorrow"]}}) == decode(row)


def test_unknown_fields_of_usage_and_changes_are_passed_over() -> None:
    reply = {"type": "ReplyFinished", "text": "", "usage": {"input": 1, "reasoning": 5}}
    assert decode(reply) == ReplyFinished(text="", usage=Usage(input=1))
    cell = {"type": "CellFinished", "cell": "c", "status": "ok", "changes": {"deleted": ["x"], "moved": 1}}
    assert decode(cell) == CellFinished(cell="c", status="ok", changes=Changes(deleted=("x",)))


def test_defaults_are_left_out() -> None:
    assert encode(TurnFinished(reason="stopped")) == {"type": "TurnFinished", "reason": "stopped"}


def test_whole_seconds_may_be_written_as_an_integer() -> None:
    assert decode({"type": "TurnFinished", "reason": "stopped", "seconds": 2}) == TurnFinished(
        reason="stopped", seconds=2.0
    )


def test_a_cell_may_have_no_execution_count() -> None:
    assert decode({"type": "CellStarted", "cell": "c", "execution_count": None}) == CellStarted(cell="c")


CELL = {"type": "CellFinished", "cell": "c", "status": "ok"}
BROKEN: list[object] = [
    None,
    [],
    "TurnStarted",
    5,
    {},
    {"type": "Nonsense"},
    {"type": None},
    {"type": ["TurnStarted"]},
    {"type": "Event"},
    {"type": "Usage"},
    {"type": "ReplyDelta"},
    {"type": "ReplyDelta", "text": 5},
    {"type": "ReplyDelta", "text": None},
    {"type": "ReplyDelta", "text": ["a"]},
    {"type": "TurnStarted", "turn": "t", "thread": "t", "prompt": "p"},
    {"type": "TurnStarted", "turn": 1, "thread": "t", "prompt": "p", "filled": "p"},
    {"type": "ReplyFinished", "text": "x", "usage": 5},
    {"type": "ReplyFinished", "text": "x", "usage": {"input": "many"}},
    {"type": "ReplyFinished", "text": "x", "usage": {"input": True}},
    {"type": "ReplyFinished", "text": "x", "usage": {"input": None}},
    {"type": "ReplyFinished", "text": "x", "cut": 1},
    {"type": "ReplyFinished", "text": "x", "seconds": "1"},
    {"type": "ModelRetried", "attempt": 1.5, "reason": "x", "wait": 1.0},
    {"type": "ModelRetried", "attempt": True, "reason": "x", "wait": 1.0},
    {"type": "ModelRetried", "attempt": 1, "reason": "x", "wait": None},
    {"type": "ModelRetried", "attempt": 1, "reason": "x", "wait": 10**400},
    {"type": "CellProposed", "cell": "c", "step": "1", "code": "x"},
    {"type": "CellStarted", "cell": "c", "execution_count": "4"},
    {"type": "CellStarted", "cell": "c", "execution_count": True},
    {"type": "CellOutput", "cell": "c"},
    {"type": "CellOutput", "cell": "c", "output": "text"},
    {"type": "CellOutput", "cell": "c", "output": {}},
    {"type": "CellOutput", "cell": "c", "output": {"output_type": 5}},
    {**CELL, "status": "fine"},
    {**CELL, "status": ["ok"]},
    {**CELL, "changes": []},
    {**CELL, "changes": "x"},
    {**CELL, "changes": {"created": 5}},
    {**CELL, "changes": {"created": ["x"]}},
    {**CELL, "changes": {"rebound": "x"}},
    {**CELL, "changes": {"created": {"x": 5}}},
    {**CELL, "changes": {"deleted": 5}},
    {**CELL, "changes": {"deleted": "xyz"}},
    {**CELL, "changes": {"deleted": [5]}},
    {"type": "TurnFinished", "reason": "tired"},
    {"type": "TurnFinished", "reason": None},
]


@pytest.mark.parametrize("row", BROKEN, ids=lambda row: repr(row)[:90])
def test_what_is_no_event_is_refused(row: object) -> None:
    with pytest.raises(ValueError, match=r"^.{1,200}$"):
        decode(row)


def test_usage_adds_up() -> None:
    together = Usage(input=1, output=2, cached=1) + Usage(input=10, output=20, cached=10)
    assert (together, together.total) == (Usage(input=11, output=22, cached=11), 33)


@pytest.mark.parametrize(
    ("changes", "anything"),
    [
        (Changes(), False),
        (Changes(created={"x": "int"}), True),
        (Changes(rebound={"x": "int"}), True),
        (Changes(deleted=("x",)), True),
    ],
)
def test_changes_are_true_if_there_are_any(changes: Changes, anything: bool) -> None:
    assert bool(changes) is anything
