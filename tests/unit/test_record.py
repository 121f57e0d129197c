"""A turn's record is read as it was written, whatever a stranger made of it is refused in one line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.conversation import Conversation
from codeact_magic.errors import RecordError
from codeact_magic.events import (
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Changes,
    Event,
    FileChange,
    Output,
    ReplyDelta,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
    Usage,
    encode,
)
from codeact_magic.notebooks.render import turn_markdown
from codeact_magic.record import MIME, Record, cells_of, digest, mark, read, record_from, records_in, stands
from codeact_magic.turns import turn_from

from .fakes import clear, display, python, stream

START = TurnStarted(turn="t1", thread="main", prompt="What is {x}?", filled="What is 6?", context="Names: x")
CELL = CellProposed(cell="c1", step=1, code="print(42)")
DONE = CellFinished(cell="c1", status="ok", changes=Changes(created={"y": "int"}, deleted=("z",)), seconds=0.5)
END = TurnFinished(reason="answered", answer="It is 42.", seconds=1.5)
EVENTS: list[Event] = [
    START,
    ReplyDelta(text="Let "),
    ReplyFinished(text=python("print(42)"), usage=Usage(input=10, output=2), model="m-1"),
    CELL,
    CellStarted(cell="c1", execution_count=3, message="m1"),
    CellOutput(cell="c1", output=stream("4")),
    CellOutput(cell="c1", output=stream("2\n")),
    DONE,
    ReplyFinished(text="It is 42.", model="m-2"),
    END,
]
STORED = [event for event in EVENTS if not isinstance(event, ReplyDelta | CellOutput)]


def through_json(value: dict[str, Any]) -> Any:
    return json.loads(json.dumps(value))


def test_a_record_with_outputs_is_read_as_it_was_written_with_its_outputs_folded() -> None:
    record = read(through_json(record_from(EVENTS, outputs=True)), cell="p")
    place = STORED.index(DONE)
    assert list(record.events) == [*STORED[:place], CellOutput(cell="c1", output=stream("42\n")), *STORED[place:]]


def test_a_record_without_outputs_takes_them_from_the_document() -> None:
    value = through_json(record_from(EVENTS, outputs=False))
    assert MIME not in json.dumps(value)
    record = read(value, {"c1": [stream("42\n")], "other": [stream("no")]})
    assert [event.output for event in record.events if isinstance(event, CellOutput)] == [stream("42\n")]


def test_a_record_without_outputs_holds_none() -> None:
    assert [row for row in record_from(EVENTS, outputs=False)["events"] if row["type"] == "CellOutput"] == []


def test_outputs_that_the_record_holds_win_over_the_document() -> None:
    record = read(through_json(record_from(EVENTS, outputs=True)), {"c1": [stream("changed since")]})
    assert [event.output for event in record.events if isinstance(event, CellOutput)] == [stream("42\n")]


@pytest.mark.parametrize("outputs", [True, False])
def test_the_model_is_sent_the_same_after_a_round_trip(outputs: bool) -> None:
    record = read(through_json(record_from(EVENTS, outputs=outputs)), {"c1": [stream("42\n")]})
    assert Conversation(record.events).messages() == Conversation(EVENTS).messages()


def test_a_record_names_its_turn_thread_and_models() -> None:
    value = record_from(EVENTS, outputs=True)
    assert {key: value[key] for key in ("version", "turn", "thread", "model", "origin")} == {
        "version": 1,
        "turn": "t1",
        "thread": "main",
        "model": "m-1, m-2",
        "origin": "model",
    }


def test_replies_of_a_script_are_said_to_be() -> None:
    assert record_from([START, ReplyFinished(text="x", model="scripted")], outputs=True)["origin"] == "scripted"


def test_a_record_knows_its_prompt_cells_and_end() -> None:
    record = read(record_from(EVENTS, outputs=True), cell="p")
    assert (record.turn, record.thread, record.cell, record.start, record.cells, record.answered) == (
        "t1",
        "main",
        "p",
        START,
        ("c1",),
        True,
    )


def test_what_was_cleared_is_not_recorded() -> None:
    events: list[Event] = [
        START,
        CELL,
        *[CellOutput(cell="c1", output=each) for each in (stream("a"), clear(wait=False))],
        DONE,
    ]
    assert "CellOutput" not in json.dumps(record_from(events, outputs=True))


def test_outputs_of_a_cell_that_never_ended_are_recorded_with_the_end_of_the_turn() -> None:
    stopped = TurnFinished(reason="stopped")
    record = read(record_from([*EVENTS[:7], stopped], outputs=True))
    assert record.events[-2:] == (CellOutput(cell="c1", output=stream("42\n")), stopped)


@pytest.mark.parametrize("length", range(1, len(STORED)))
def test_an_unfinished_record_is_closed_as_failed(length: int) -> None:
    record = read(record_from(STORED[:length], outputs=True))
    end = record.events[-1]
    assert isinstance(end, TurnFinished)
    assert (end.reason, end.detail) == ("failed", "the kernel or the client ended in mid-turn")
    assert not record.answered


def test_a_finished_record_is_not_closed_again() -> None:
    assert [event for event in read(record_from(EVENTS, outputs=True)).events if isinstance(event, TurnFinished)] == [
        END
    ]


def value_of(*events: object, **changed: object) -> dict[str, Any]:
    return {"version": 1, "turn": "t1", "thread": "main", "events": list(events), **changed}


FIRST = encode(START)
BROKEN: dict[str, object] = {
    "nothing": None,
    "text": "record",
    "list": [],
    "empty object": {},
    "no events": {"version": 1},
    "events is an object": {"version": 1, "events": {}},
    "events is text": {"version": 1, "events": "x"},
    "empty events": value_of(),
    "no version": {"events": [FIRST]},
    "a later version": value_of(FIRST, version=2),
    "a version as text": value_of(FIRST, version="1"),
    "no prompt first": value_of(encode(END)),
    "an event that is none": value_of(FIRST, None),
    "an event that is text": value_of(FIRST, "x"),
    "an event that is a list": value_of(FIRST, ["x"]),
    "an unknown event": value_of(FIRST, {"type": "Nonsense\nin two lines"}),
    "an event without its fields": value_of({"type": "TurnStarted"}),
    "a field of the wrong type": value_of({**FIRST, "prompt": 5}),
    "a field of the wrong type in two lines": value_of({**FIRST, "prompt": ["a\nb"]}),
    "an unknown status": value_of(FIRST, {"type": "CellFinished", "cell": "c", "status": "fine"}),
    "an output that is none": value_of(FIRST, {"type": "CellOutput", "cell": "c", "output": 5}),
    "changes that are none": value_of(FIRST, {**encode(DONE), "changes": {"created": 5}}),
    "deleted names that are none": value_of(FIRST, {**encode(DONE), "changes": {"deleted": [5]}}),
    "a number beyond all bounds": value_of(FIRST, {**encode(END), "seconds": 10**400}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_refused_in_one_line(case: str) -> None:
    with pytest.raises(RecordError) as raised:
        read(BROKEN[case], cell="p1")
    assert "\n" not in str(raised.value)
    assert "p1" in str(raised.value)
    assert len(str(raised.value)) < 300


def test_the_broken_event_is_named() -> None:
    with pytest.raises(RecordError, match="at event 2"):
        read(value_of(FIRST, {"type": "ReplyFinished"}))


HOSTILE: dict[str, dict[str, Any]] = {
    "a stream without text": {"output_type": "stream", "name": "stdout"},
    "a stream without a name": {"output_type": "stream", "text": "x"},
    "a stream whose text is a number": {"output_type": "stream", "name": "stdout", "text": 5},
    "data is a number": {"output_type": "display_data", "data": 5},
    "data is a list": {"output_type": "display_data", "data": ["text/plain"]},
    "data is text": {"output_type": "display_data", "data": "text/plain"},
    "no data": {"output_type": "display_data"},
    "a picture that is none": {"output_type": "display_data", "data": {"image/png": {"a": 1}}},
    "text that is an object": {"output_type": "display_data", "data": {"text/plain": {"a": 1}}},
    "text that is null": {"output_type": "display_data", "data": {"text/plain": None}},
    "a traceback that is a number": {"output_type": "error", "ename": "E", "evalue": "v", "traceback": 5},
    "a traceback of numbers": {"output_type": "error", "ename": "E", "evalue": "v", "traceback": [5, None]},
    "an error of nothing": {"output_type": "error"},
    "an update of nothing": {"output_type": "update_display_data"},
    "transient is text": {"output_type": "update_display_data", "transient": "x", "data": {}},
    "metadata is a number": {"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": 5},
    "an unknown type": {"output_type": "nonsense"},
    "a clear of the wrong type": {"output_type": "clear_output", "wait": "x"},
}


@pytest.mark.parametrize(
    "before", [[], [display({"text/plain": "x"}, "d")], [stream("a")]], ids=["", "display", "stream"]
)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_broken_output_is_refused_or_shown_but_breaks_nothing(case: str, before: Sequence[Output]) -> None:
    outputs = [CellOutput(cell="c1", output=output) for output in (*before, HOSTILE[case])]
    events = [*EVENTS[:5], *outputs, *EVENTS[7:]]
    try:
        record = read(value_of(*(encode(event) for event in events if not isinstance(event, ReplyDelta))))
    except RecordError:
        return
    Conversation(record.events).messages()
    turn_markdown(turn_from(record.events))


def code_cell(name: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": "code", "id": name, "metadata": {}, "outputs": [], "source": "", **more}


def test_records_in_metadata_take_their_outputs_from_the_cells() -> None:
    cells = [
        code_cell("p", metadata={"codeact": {"role": "prompt", "record": record_from(EVENTS, outputs=False)}}),
        code_cell("c1", outputs=[stream("42\n")]),
    ]
    (record,) = records_in(cells)
    assert record.cell == "p"
    assert [event.output for event in record.events if isinstance(event, CellOutput)] == [stream("42\n")]


def test_records_in_outputs_hold_theirs() -> None:
    cells = [
        code_cell("p", outputs=[stream("x"), display({MIME: record_from(EVENTS, outputs=True), "text/plain": ""})])
    ]
    (record,) = records_in(cells)
    assert record.cell == "p"
    assert [event.output for event in record.events if isinstance(event, CellOutput)] == [stream("42\n")]


def test_a_record_in_metadata_hides_one_in_the_outputs() -> None:
    value = record_from(EVENTS, outputs=True)
    cells = [code_cell("p", metadata={"codeact": {"record": value}}, outputs=[display({MIME: value})])]
    assert len(records_in(cells)) == 1


def test_records_come_in_the_order_of_their_cells() -> None:
    def prompted(turn: str) -> dict[str, Any]:
        start = TurnStarted(turn=turn, thread="main", prompt="x", filled="x")
        return code_cell(turn, outputs=[display({MIME: record_from([start, END], outputs=True)})])

    assert [record.turn for record in records_in([prompted("a"), code_cell("x"), prompted("b")])] == ["a", "b"]


@pytest.mark.parametrize(
    "cell",
    [
        {},
        {"cell_type": "markdown", "source": "x"},
        {"cell_type": "markdown", "id": "m", "metadata": {"codeact": {"role": "answer"}}},
        code_cell("x", metadata={"codeact": "text"}),
        code_cell("x", metadata=None, outputs=None),
        code_cell("x", outputs=["text"]),
        code_cell("x", outputs=[{"output_type": "display_data", "data": None}]),
        code_cell("x", metadata=["text"]),
        code_cell("x", metadata="text"),
    ],
    ids=repr,
)
def test_cells_without_a_record_have_none(cell: dict[str, Any]) -> None:
    assert records_in([cell]) == []


@pytest.mark.parametrize("outputs", [["text"], [5], {"a": 1}, "text", [None], [[]], [{}]], ids=repr)
def test_broken_outputs_of_a_cell_are_refused_or_passed_over(outputs: object) -> None:
    cells = [
        code_cell("p", metadata={"codeact": {"record": record_from(EVENTS, outputs=False)}}),
        code_cell("c1", outputs=outputs),
    ]
    try:
        (record,) = records_in(cells)
    except RecordError:
        return
    Conversation(record.events).messages()


def test_a_broken_record_in_a_notebook_is_refused() -> None:
    with pytest.raises(RecordError, match="cell p"):
        records_in([code_cell("p", metadata={"codeact": {"record": {}}})])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "5",
        "null",
        "{}",
        '{"cells": 5}',
        '{"cells": [5]}',
        '{"cells": null}',
        '{"cells": "x"}',
        "[" * 100_000,
        "\xff\xfe",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_a_file_that_is_no_notebook_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RecordError, match=r"a\.ipynb") as raised:
        cells_of(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"missing\.ipynb: No such file"):
        cells_of(tmp_path / "missing.ipynb")


def test_the_cells_of_a_notebook_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": [code_cell("x")], "nbformat": 4}))
    assert cells_of(path) == [code_cell("x")]


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ({"metadata": {"codeact": {"role": "cell"}}}, {"role": "cell"}),
        ({"metadata": {"codeact": ["x"]}}, {}),
        ({"metadata": {}}, {}),
        ({"metadata": None}, {}),
        ({}, {}),
    ],
)
def test_our_metadata_is_found(cell: dict[str, Any], found: dict[str, Any]) -> None:
    assert mark(cell) == found


def made(*events: Event) -> Record:
    return read(record_from(events, outputs=True))


@pytest.mark.parametrize(
    ("record", "prompt", "below", "answer"),
    [
        (made(*EVENTS), "What is {x}?", ["c1"], True),
        (made(*EVENTS), "\nWhat is {x}? \n", ["other", "c1"], True),
        (made(START, END), "What is {x}?", [], True),
        (made(*EVENTS), "What is {y}?", ["c1"], False),
        (made(*EVENTS), "What is 6?", ["c1"], False),
        (made(*EVENTS), "What is {x}?", [], False),
        (made(*EVENTS), "What is {x}?", ["c2"], False),
        (made(*EVENTS[:-1]), "What is {x}?", ["c1"], False),
        (made(START, TurnFinished(reason="stopped")), "What is {x}?", [], False),
        (made(START, TurnFinished(reason="limit")), "What is {x}?", [], False),
    ],
)
def test_a_turn_stands_while_its_prompt_and_cells_do(
    record: Record, prompt: str, below: list[str], answer: bool
) -> None:
    assert stands(record, prompt, below) is answer


def test_the_digest_is_the_sha256_of_the_source() -> None:
    assert digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_source_that_no_file_can_hold_has_a_digest() -> None:
    assert len(digest("lone \ud800 surrogate")) == 64


DECIDED: list[Event] = [
    START,
    ReplyFinished(text=python("rm()")),
    CellProposed(cell="c1", step=1, code="rm()"),
    CellDecided(cell="c1", decision="rejected", risk="delete: rm()", reason="Keep it."),
    ReplyFinished(text=python("x")),
    CellProposed(cell="c2", step=2, code="x", cause="install"),
    CellDecided(cell="c2", decision="run", risk="install: x", always=True),
    CellStarted(cell="c2", execution_count=3),
    CellFinished(
        cell="c2",
        status="ok",
        changes=Changes(
            files=(
                FileChange(path="a <b>.csv", change="new", size=3, type="text/csv"),
                FileChange(path="b", change="deleted"),
                FileChange(path="and 3 more", change="more", size=3),
            )
        ),
    ),
    END,
]


def test_decisions_and_files_are_read_as_they_were_written() -> None:
    record = read(through_json(record_from(DECIDED, outputs=True)))
    assert list(record.events) == DECIDED
    assert Conversation(record.events).messages() == Conversation(DECIDED).messages()


def test_a_rejected_cell_need_not_be_in_the_document() -> None:
    record = made(*DECIDED)
    assert record.cells == ("c2",)
    assert stands(record, "What is {x}?", ["c2"])


@pytest.mark.parametrize(
    "change",
    [
        {"decision": "maybe"},
        {"by": "nobody"},
        {"always": "yes"},
        {"reason": 3},
        {"changes": {"files": "a.csv"}},
        {"changes": {"files": [{"path": 3, "change": "new"}]}},
        {"changes": {"files": [{"path": "a", "change": "eaten"}]}},
        {"changes": {"files": [{"path": "a", "change": "new", "size": "3"}]}},
        {"changes": {"files": [["a"]]}},
    ],
    ids=str,
)
def test_a_broken_decision_or_file_is_refused(change: dict[str, Any]) -> None:
    value = through_json(record_from(DECIDED, outputs=True))
    kind = "CellFinished" if "changes" in change else "CellDecided"
    next(row for row in value["events"] if row["type"] == kind).update(change)
    with pytest.raises(RecordError, match="is broken at event"):
        read(value)
