"""A recorded notebook answers as it did, and says where a run departs from it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from codeact_magic.errors import RecordError
from codeact_magic.events import CellDecided, CellProposed, Output, ReplyFinished, Usage
from codeact_magic.models.recorded import RecordedModel
from codeact_magic.record import MIME, record_from
from codeact_magic.session import Session
from codeact_magic.testing import ScriptedModel, ScriptedReply

from .fakes import PIXEL, FakeExecutor, RecordingNotebook, asked, display, ends, failure, python, stream

CODE = "look(x)"
REPLIES = (python(CODE), "It is 42.")


async def recording(
    path: Path, outputs: Sequence[Output] = (), *, replies: Sequence[str | ScriptedReply] = REPLIES, turns: int = 1
) -> Path:
    session = Session(ScriptedModel(list(replies)), FakeExecutor({CODE: outputs}, state="Names: x"))
    cells = []
    for number in range(turns):
        before = len(session.conversation.events)
        await asked(session, f"Prompt {number}.")
        record = record_from(session.conversation.events[before:], outputs=True)
        cells.append({"cell_type": "code", "id": f"p{number}", "metadata": {}, "outputs": [display({MIME: record})]})
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


async def replayed(
    path: Path, outputs: Sequence[Output] = (), *, prompt: str = "Prompt 0.", state: str = "", system: str = "Other."
) -> str:
    session = Session(RecordedModel(path), FakeExecutor({CODE: outputs}, state=state), system=system)
    (end,) = ends(await asked(session, prompt))
    return end.answer or end.detail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorded.ipynb"


async def test_a_recording_answers_as_the_model_did(path: Path) -> None:
    await recording(path, [stream("42\n")])
    assert await replayed(path, [stream("42\n")]) == "It is 42."


async def test_the_system_prompt_and_the_names_are_not_compared(path: Path) -> None:
    await recording(path)
    assert await replayed(path, state="Names: y, z", system="Another one.") == "It is 42."


async def test_replies_come_in_pieces_and_cost_nothing(path: Path) -> None:
    await recording(path, replies=["x" * 100])
    model = RecordedModel(path)
    session = Session(model, FakeExecutor())
    events = await asked(session, "Prompt 0.")
    assert len(events) > 4
    assert [event.usage for event in events if isinstance(event, ReplyFinished)] == [Usage()]


async def test_the_end_of_a_reply_names_what_wrote_it_and_that_it_is_recorded(path: Path) -> None:
    await recording(path, replies=[ScriptedReply("It is 42.", model="gpt-5.5")])
    session = Session(RecordedModel(path), FakeExecutor())
    events = await asked(session, "Prompt 0.")
    assert [event.model for event in events if isinstance(event, ReplyFinished)] == ["gpt-5.5 (recorded)"]


async def test_that_a_reply_was_cut_is_recorded(path: Path) -> None:
    await recording(path, replies=[ScriptedReply("It", finish="length"), "It is 42."])
    session = Session(RecordedModel(path), FakeExecutor())
    events = await asked(session, "Prompt 0.")
    assert [event.cut for event in events if isinstance(event, ReplyFinished)] == [True, False]


async def test_later_turns_of_a_thread_are_answered_from_their_place(path: Path) -> None:
    await recording(path, replies=["One.", "Two.", "Three."], turns=3)
    session = Session(RecordedModel(path), FakeExecutor())
    answers = [ends(await asked(session, f"Prompt {number}."))[0].answer for number in range(3)]
    assert answers == ["One.", "Two.", "Three."]


SAME: dict[str, tuple[Output, Output]] = {
    "addresses": (stream("<A at 0x7f12ab34cd>"), stream("<A at 0x55ffee00>")),
    "paths": (stream("in /home/a/project/x.py"), stream("in /srv/work/x.py")),
    "home paths": (stream("in ~/project/x.py"), stream("in /root/x.py")),
    "Windows paths": (stream("in C:\\Users\\a b\\x.py"), stream("in D:\\work\\x.py")),
    "line numbers": (stream("x.py:12: warning"), stream("x.py:345: warning")),
    "seconds": (stream("took 1.25 s"), stream("took 13 s")),
    "timeit": (stream("5.2 ms ± 31 µs per loop"), stream("6.21 ms ± 2 ns per loop")),
    "long and short times": (stream("Wall time: 12.3 ms"), stream("Wall time: 1min 3s")),
    "loops of timeit": (stream("5 ms (7 runs, 100 loops each)"), stream("9 ms (7 runs, 1,000 loops each)")),
    "counts in tracebacks": (failure(traceback=["In [3]"]), failure(traceback=["In [12]"])),
    "cells in tracebacks": (failure(traceback=["Cell In[3], line 1"]), failure(traceback=["Cell In[9], line 1"])),
    "ipykernel files": (failure(traceback=["/tmp/ipykernel_12/1.py"]), failure(traceback=["/tmp/ipykernel_9/1.py"])),
    "blanks at the ends of lines": (stream("a  \nb"), stream("a\nb")),
    "bytes of pictures": (display({"image/png": PIXEL}), display({"image/png": PIXEL.rstrip("=") + "AAAA"})),
    "colours": (stream("\x1b[31mred\x1b[0m"), stream("red")),
}


@pytest.mark.parametrize("case", SAME)
async def test_what_differs_from_run_to_run_is_not_compared(case: str, path: Path) -> None:
    recorded, now = SAME[case]
    await recording(path, [recorded])
    assert await replayed(path, [now]) == "It is 42."


async def test_execution_counts_are_not_compared(path: Path) -> None:
    await recording(path)
    executor = FakeExecutor()
    executor.ran.extend(["x"] * 41)
    (end,) = ends(await asked(Session(RecordedModel(path), executor), "Prompt 0."))
    assert end.answer == "It is 42."


DEPARTURES: dict[str, tuple[list[Output], list[Output], str]] = {
    "another output": (
        [stream("41\n")],
        [stream("42\n")],
        "an output (message 3) has '42' in line 2, recorded is '41'.",
    ),
    "a further line": ([stream("a")], [stream("a\nb")], "has 'b' in line 3, recorded is nothing."),
    "a missing line": ([stream("a\nb")], [stream("a")], "has nothing in line 3, recorded is 'b'."),
    "no output": ([stream("a")], [], "has '(no output)' in line 2, recorded is 'a'."),
    "a failure": ([], [failure()], "in line 1"),
    "another picture": (
        [display({"image/png": PIXEL, "text/plain": "f"})],
        [display({"image/png": PIXEL, "text/plain": "f"})] * 2,
        "in line 3",
    ),
    "no picture": ([display({"image/png": PIXEL})], [], "has 0 pictures, recorded are 1."),
    "other numbers": ([stream("3.14")], [stream("3.15")], "has '3.15' in line 2, recorded is '3.14'."),
}


@pytest.mark.parametrize("case", DEPARTURES)
async def test_a_departure_of_the_outputs_is_named(case: str, path: Path) -> None:
    recorded, now, said = DEPARTURES[case]
    await recording(path, recorded)
    detail = await replayed(path, now)
    assert detail.startswith("The run departs from the record in recorded.ipynb: ")
    assert said in detail
    assert "\n" not in detail


async def test_another_prompt_is_named(path: Path) -> None:
    await recording(path)
    assert await replayed(path, prompt="Another.") == (
        "The run departs from the record in recorded.ipynb: "
        "the prompt (message 1) has 'Another.' in line 1, recorded is 'Prompt 0.'."
        " A recording answers its own prompts, in their order."
    )


async def test_the_nearest_request_is_the_one_compared(path: Path) -> None:
    await recording(path, replies=["One.", "Two."], turns=2)
    session = Session(RecordedModel(path), FakeExecutor())
    await asked(session, "Prompt 0.")
    (end,) = ends(await asked(session, "Another."))
    assert "the prompt (message 3) has 'Another.' in line 1, recorded is 'Prompt 1.'." in end.detail


async def test_the_end_of_the_record_is_named(path: Path) -> None:
    await recording(path, replies=["One."])
    session = Session(RecordedModel(path), FakeExecutor())
    await asked(session, "Prompt 0.")
    (end,) = ends(await asked(session, "And now?"))
    assert (
        end.detail
        == "The record in recorded.ipynb ends here: it holds no reply to request 3. A recording answers its own prompts, in their order."
    )


async def test_a_long_line_is_cut_where_it_is_named(path: Path) -> None:
    await recording(path, [stream("a" * 1000)])
    assert len(await replayed(path, [stream("b" * 1000)])) < 500


async def test_a_notebook_without_a_record_is_refused(path: Path) -> None:
    path.write_text(json.dumps({"cells": []}))
    with pytest.raises(RecordError, match="holds no recorded turn"):
        RecordedModel(path)


async def test_a_missing_notebook_is_refused(path: Path) -> None:
    with pytest.raises(RecordError, match="Cannot read"):
        RecordedModel(path)


async def test_it_is_named_after_its_notebook(path: Path) -> None:
    await recording(path)
    model = RecordedModel(str(path))
    assert model.name == "recorded:recorded.ipynb"


async def test_it_can_be_asked_again_once_closed(path: Path) -> None:
    await recording(path, replies=["It is 42."])
    model = RecordedModel(path)
    await model.aclose()
    assert ends(await asked(Session(model, FakeExecutor()), "Prompt 0."))[0].answer == "It is 42."


RISKY = "import os\nos.remove('a.csv')"


async def decided(path: Path, *decisions: str) -> Path:
    """Record a turn whose cells, all with the same risky code, were decided on so."""
    left = list(decisions)

    def decide(cell: CellProposed, risk: str) -> CellDecided:
        return CellDecided(cell=cell.cell, decision=left.pop(0), risk=risk, reason="Because.")  # type: ignore[arg-type]

    replies = [f"Try {number}.\n{python(RISKY)}" for number in range(len(decisions))]
    session = Session(
        ScriptedModel([*replies, "Done."]), FakeExecutor(), RecordingNotebook(decides=decide), approval="risky"
    )
    await asked(session, "Prompt 0.")
    record = record_from(session.conversation.events, outputs=True)
    cell = {"cell_type": "code", "id": "p", "metadata": {}, "outputs": [display({MIME: record})]}
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


async def test_what_was_always_rejected_is_known(path: Path) -> None:
    model = RecordedModel(await decided(path, "rejected", "rejected"))
    assert {code: each.reason for code, each in model.rejected.items()} == {RISKY: "Because."}


@pytest.mark.parametrize("decisions", [("run",), ("rejected", "run"), ("run", "rejected")])
async def test_what_was_allowed_once_is_not_taken_for_rejected(path: Path, decisions: tuple[str, ...]) -> None:
    assert RecordedModel(await decided(path, *decisions)).rejected == {}


async def test_a_replay_rejects_what_the_record_rejects(path: Path) -> None:
    model = RecordedModel(await decided(path, "rejected"))
    session = Session(model, executor := FakeExecutor(), approval="auto")
    session.approval.rejected = model.rejected
    (end,) = ends(await asked(session, "Prompt 0."))
    assert (end.answer, executor.ran) == ("Done.", [])


async def test_a_replay_does_not_allow_what_the_record_allows(path: Path) -> None:
    await decided(path, "run")
    session = Session(RecordedModel(path), executor := FakeExecutor())
    (end,) = ends(await asked(session, "Prompt 0."))
    assert executor.ran == []
    assert end.detail.endswith("The record ran this cell. Allow its cells with --yes, or with approval = auto.")
    session = Session(RecordedModel(path), executor, approval="auto")
    assert ends(await asked(session, "Prompt 0."))[0].answer == "Done."
