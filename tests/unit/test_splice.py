"""A turn's events in the document, without a kernel: where cells go, which ones go away, and when the record is kept."""

from typing import Any

import nbformat
import pytest

from codeact_magic.events import (
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Event,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
)
from codeact_magic.notebooks.splice import Splice
from codeact_magic.record import ANSWER, CELL, NARRATION, Record, digest, mark, outputs_of, read

from .fakes import failure, python, stream

START = TurnStarted(turn="t1", thread="main", prompt="Go.", filled="Go.")
END = TurnFinished(reason="answered", answer="It is 42.")


def ran(cell: str, code: str = "", **proposed: Any) -> list[Event]:
    """The events of a cell that runs without a question."""
    return [
        CellProposed(cell=cell, step=1, code=code or cell, **proposed),
        CellStarted(cell=cell, execution_count=1, message=f"message-{cell}"),
        CellFinished(cell=cell, status="ok", seconds=0.5),
    ]


class Document:
    """A notebook with a prompt between two cells of the user, and all that is said of what happens to it."""

    def __init__(self) -> None:
        rows = [("above", "x = 1"), ("prompt", "%%agent\nGo."), ("below", "x")]
        self.nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, id=cell) for cell, code in rows])
        self.log: list[Any] = []
        self.splice = Splice(
            self.nb, save=lambda: self.log.append("saved"), observe=self.log.append, narrate=self.log.append
        )

    def run(self, *events: Event, replace: tuple[str, ...] = ()) -> None:
        """Run the prompt cell: a turn with these events behind its start."""
        with self.splice.below(self.cell("prompt")):
            self.splice.begin(replace)
            for event in (START, *events):
                self.splice.apply(event)

    def cell(self, cell: str) -> Any:
        return self.nb.cells[self.splice.index(cell)]

    @property
    def sources(self) -> list[str]:
        """Sources of the cells behind the prompt and before the user's next one."""
        sources = [cell.source for cell in self.nb.cells]
        assert (sources[:2], sources[-1]) == (["x = 1", "%%agent\nGo."], "x")
        return sources[2:-1]

    @property
    def record(self) -> Record:
        return read(mark(self.cell("prompt"))["record"], outputs_of(self.nb.cells))


@pytest.fixture
def document() -> Document:
    return Document()


def test_cells_go_below_their_prompt_in_their_order(document: Document) -> None:
    document.run(ReplyFinished(text=python("a") + python("b")), *ran("a"), *ran("b"), END)
    assert document.sources == ["a", "b", "It is 42."]
    rows = document.nb.cells[2:5]
    assert [row.cell_type for row in rows] == ["code", "code", "markdown"]
    assert [mark(row)["role"] for row in rows] == [CELL, CELL, ANSWER]
    assert all(mark(row)["sha256"] == digest(row.source) and mark(row)["turn"] == "t1" for row in rows)
    assert document.splice.made == {row.id for row in rows}
    nbformat.validate(document.nb)


def test_narration_stands_before_the_cell_it_speaks_of_and_is_said_when_it_is_saved(document: Document) -> None:
    text = f"First.\n{python('a')}Second.\n{python('b')}Behind."
    document.run(ReplyFinished(text=text), *ran("a"), *ran("b"))
    assert document.sources == ["First.", "a", "Second.", "b", "Behind."]
    assert [mark(row)["role"] for row in document.nb.cells[2:7]] == [NARRATION, CELL, NARRATION, CELL, NARRATION]
    for said in ("First.", "Second.", "Behind."):
        assert document.log[document.log.index(said) - 1] == "saved"
    ended = document.log.index(CellFinished(cell="b", status="ok", seconds=0.5))
    assert ended < document.log.index("Behind.")


def test_what_stands_behind_the_last_block_waits_until_it_has_run(document: Document) -> None:
    failed = CellFinished(cell="a", status="error")
    install, again = ran("i", "%pip install it", cause="install"), ran("again", "a", cause="again")
    document.run(ReplyFinished(text=python("a") + "Behind."), *ran("a")[:2], failed, *install)
    assert document.sources == ["a", "%pip install it"]
    for event in again:
        document.splice.apply(event)
    assert document.sources == ["a", "%pip install it", "a", "Behind."]


def test_a_rejected_cell_is_quoted_and_in_the_record(document: Document) -> None:
    rejected = CellDecided(cell="a", decision="rejected")
    document.run(ReplyFinished(text="Before.\n" + python("a")), CellProposed(cell="a", step=1, code="a"), rejected, END)
    assert document.sources == ["Before.", "**Not run**, rejected by you\n\n```python\na\n```", "It is 42."]
    assert document.record.answered
    assert rejected in document.record.events


def test_an_edited_cell_shows_what_runs_and_counts_as_generated(document: Document) -> None:
    proposed, *rest = ran("a", "1")
    document.run(
        ReplyFinished(text=python("1")), proposed, CellDecided(cell="a", decision="edited", code="2"), *rest, END
    )
    assert document.sources == ["2", "It is 42."]
    assert mark(document.cell("a"))["sha256"] == digest("2")


def test_a_cell_that_was_still_asked_about_goes_with_its_turn(document: Document) -> None:
    stopped = TurnFinished(reason="stopped")
    document.run(
        ReplyFinished(text=python("a") + python("b")), *ran("a"), CellProposed(cell="b", step=1, code="b"), stopped
    )
    assert document.sources == ["a"]
    assert document.record.events[-1] == stopped


def test_the_old_turn_is_replaced_when_a_reply_has_come(document: Document) -> None:
    document.run(ReplyFinished(text=python("a")), *ran("a"), END)
    old = (*document.splice.made, "above")  # what stands above the prompt is never replaced
    document.run(replace=old)
    assert document.sources == ["a", "It is 42."]
    document.splice.apply(ReplyFinished(text=python("b")))
    assert document.sources == []
    for event in (*ran("b"), END):
        document.splice.apply(event)
    assert document.sources == ["b", "It is 42."]


def test_a_turn_that_fails_before_a_reply_leaves_the_old_one(document: Document) -> None:
    document.run(ReplyFinished(text=python("a")), *ran("a"), END)
    record = mark(document.cell("prompt"))["record"]
    document.run(TurnFinished(reason="failed"), replace=tuple(document.splice.made))
    assert document.sources == ["a", "It is 42."]
    assert mark(document.cell("prompt"))["record"] == record


def test_the_record_is_kept_and_saved_after_each_cell(document: Document) -> None:
    document.run(ReplyFinished(text=python("a") + python("b")))
    assert "record" not in mark(document.cell("prompt"))
    for cell in ("a", "b"):
        document.log.clear()
        for event in ran(cell):
            document.splice.apply(event)
        assert document.log == [*ran(cell)[:2], "saved", ran(cell)[2]]
        assert document.record.cells[-1] == cell
    assert document.record.cells == ("a", "b")
    assert not document.record.answered


def test_a_cell_that_ends_has_its_outputs_folded_shown_and_its_failure_marked(document: Document) -> None:
    document.run(*ran("a")[:2])
    document.cell("a").outputs = [nbformat.from_dict(each) for each in (stream("4"), stream("2\n"), failure())]
    document.splice.apply(CellFinished(cell="a", status="error", seconds=0.5))
    cell = document.cell("a")
    assert [dict(output) for output in cell.outputs] == [stream("42\n"), failure()]
    assert document.log[-4:-2] == [CellOutput(cell="a", output=output) for output in cell.outputs]
    assert (mark(cell)["status"], mark(cell)["seconds"]) == ("error", 0.5)
    assert cell.metadata["tags"] == ["raises-exception"]


def test_outputs_stand_in_the_record_where_the_document_has_changed_since(document: Document) -> None:
    document.run(*ran("a")[:2])
    document.cell("a").outputs = [nbformat.from_dict(stream("old\n"))]
    document.splice.apply(ran("a")[2])
    rows = mark(document.cell("prompt"))["record"]["events"]
    assert "CellOutput" not in [row["type"] for row in rows]
    document.cell("a").outputs = [nbformat.from_dict(stream("new\n"))]
    document.splice.apply(END)
    assert CellOutput(cell="a", output=stream("old\n")) in document.record.events


def test_the_record_of_a_turn_that_broke_off_is_closed_once(document: Document) -> None:
    document.run(ReplyFinished(text=python("a")), *ran("a"), CellProposed(cell="b", step=1, code="b"))
    for _ in range(2):
        document.splice.close("the kernel died")
    assert document.sources == ["a"]
    closed = TurnFinished(reason="failed", detail="the kernel died")
    assert [event for event in document.record.events if isinstance(event, TurnFinished)] == [closed]


def test_a_deleted_prompt_cell_loses_nothing_that_was_made(document: Document) -> None:
    with document.splice.below(document.cell("prompt")):
        document.splice.begin()
        document.splice.apply(START)
        del document.nb.cells[document.splice.index("prompt")]
        for event in (ReplyFinished(text="First.\n" + python("a")), *ran("a"), END):
            document.splice.apply(event)
    assert [cell.source for cell in document.nb.cells] == ["x = 1", "x", "First.", "a", "It is 42."]
    assert document.splice.index("prompt") == -1
    assert document.splice.prompt == "prompt"


def test_a_deleted_generated_cell_stays_away(document: Document) -> None:
    document.run(ReplyFinished(text=python("a")), *ran("a")[:2])
    del document.nb.cells[document.splice.index("a")]
    for event in (ran("a")[2], END):
        document.splice.apply(event)
    assert [cell.source for cell in document.nb.cells] == ["x = 1", "%%agent\nGo.", "x", "It is 42."]
    assert document.record.cells == ("a",)


def test_a_client_tells_the_prompt_and_all_marked_cells(document: Document) -> None:
    assert (document.splice.prompt, document.splice.marked) == ("", ())
    document.run(ReplyFinished(text=python("a")), *ran("a"))
    assert document.splice.prompt == "prompt"
    assert [cell["id"] for cell in document.splice.marked] == ["prompt", "a"]
