"""``codeact run`` as a user runs it: a process of its own, a real kernel, a real HTTP server."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

from codeact_magic.record import records_in
from codeact_magic.testing import Fault, ScriptedReply, ScriptedServer
from tests.kernels import KEY
from tests.notebooks import LOAD, block, cells, codeact, start, write

SESSION = [
    "I look.\n" + block("x = 40\nprint('printed')\nx + 2"),
    block("1 / 0") + block("skipped = True"),
    block("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    + block("import asyncio\nawait asyncio.sleep(0.01)\nx = 41"),
    "It is **41**.",
]


def test_generated_cells_are_spliced_in(tmp_path: Path) -> None:
    notebook, out = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.", "x + 1"), tmp_path / "out.ipynb"
    before = notebook.read_bytes()
    with ScriptedServer(SESSION) as server:
        status, printed, _ = codeact("run", notebook, "-o", out, base_url=server.base_url)
    assert status == 0
    assert notebook.read_bytes() == before
    rows = [(cell.cell_type, cell.source.splitlines()[0], cell.get("execution_count")) for cell in cells(out)]
    assert rows == [
        ("code", LOAD, 1),
        ("code", "%%agent", 2),
        ("markdown", "I look.", None),
        ("code", "x = 40", 3),
        ("code", "1 / 0", 4),
        ("code", "import matplotlib.pyplot as plt", 5),
        ("code", "import asyncio", 6),
        ("markdown", "It is **41**.", None),
        ("code", "x + 1", 7),
    ]
    made = cells(out)[3:7]
    assert [output.output_type for output in made[0].outputs] == ["stream", "execute_result"]
    assert made[0].outputs[1].execution_count == 3
    assert made[1].outputs[0].ename == "ZeroDivisionError"
    assert made[1].metadata.tags == ["raises-exception"]
    assert "image/png" in made[2].outputs[0].data
    assert cells(out)[-1].outputs[0].data["text/plain"] == "42"
    assert [cell.metadata.codeact.status for cell in made] == ["ok", "error", "ok", "ok"]
    assert "Answered · 3 steps" in printed
    assert "It is 41." in printed


def test_the_record_is_in_the_prompt_cell(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo {x}.")
    with ScriptedServer(SESSION) as server:
        codeact("run", notebook, base_url=server.base_url)
    prompt = cells(notebook)[1]
    record = prompt.metadata.codeact.record
    assert record.version == 1
    assert record.origin == "scripted"
    assert "CellOutput" not in [event.type for event in record.events]
    (read,) = records_in(cells(notebook))
    assert read.answered
    assert read.start.prompt.strip() == "Go {x}."
    assert prompt.outputs[0].data["text/markdown"].startswith("Answered")


def test_an_answered_prompt_is_not_asked_again(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.", "x")
    with ScriptedServer(SESSION) as server:
        codeact("run", notebook, base_url=server.base_url)
    once = cells(notebook)
    status, _, err = codeact("run", notebook)
    assert status == 0, err
    again = cells(notebook)
    assert [cell.source for cell in again] == [cell.source for cell in once]
    assert [cell.get("execution_count") for cell in again] == [cell.get("execution_count") for cell in once]
    assert [cell.get("outputs") for cell in again[2:]] == [cell.get("outputs") for cell in once[2:]]
    assert "Answered before" in again[1].outputs[0].data["text/plain"]


def test_an_edited_prompt_is_asked_and_its_cells_are_replaced(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.", "%%agent\nAnd on?")
    with ScriptedServer([*SESSION, "On."]) as server:
        codeact("run", notebook, base_url=server.base_url)
    nb = nbformat.read(notebook, as_version=4)
    second = next(cell for cell in nb.cells if "And on?" in cell.source)
    second.source = "%%agent\nAnd now?"
    nbformat.write(nb, notebook)
    with ScriptedServer([block("x = 7\nx"), "Now 7."]) as server:
        status, _, _ = codeact("run", notebook, base_url=server.base_url)
        sent = json.dumps(server.requests[0].body["messages"])
    assert status == 0
    assert len(server.requests) == 2
    sources = [cell.source for cell in cells(notebook)]
    assert "On." not in sources
    assert sources[-2:] == ["x = 7\nx", "Now 7."]
    assert "It is **41**." in sent, "the first turn is part of the conversation, from its record"
    assert "printed" in sent
    assert "And on?" not in sent


def test_again_asks_answered_prompts(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    with ScriptedServer(["One.", "Two."]) as server:
        codeact("run", notebook, base_url=server.base_url)
        codeact("run", notebook, "--again", base_url=server.base_url)
    assert [cell.source for cell in cells(notebook)][2:] == ["Two."]


def test_a_recording_answers_without_a_network(tmp_path: Path) -> None:
    notebook, out = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.", "%%agent\nAnd?"), tmp_path / "out.ipynb"
    update = block("from IPython.display import display\nh = display('old', display_id=True)") + block(
        "h.update('new')"
    )
    with ScriptedServer([*SESSION, update, "Done."]) as server:
        codeact("run", notebook, base_url=server.base_url)
    status, printed, err = codeact("run", notebook, "--again", "--model", "recorded", "-o", out)
    assert status == 0, printed + err
    old, new = cells(notebook), cells(out)
    assert [cell.source for cell in new] == [cell.source for cell in old]
    assert "recorded" in new[1].outputs[0].data["text/plain"]
    assert "scripted" in new[1].outputs[0].data["text/plain"]


def test_a_replay_that_departs_says_where(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "base = 40", "%%agent\nGo.")
    with ScriptedServer([block("base + 2"), "42."]) as server:
        codeact("run", notebook, base_url=server.base_url)
    changed = nbformat.read(notebook, as_version=4)
    changed.cells[1].source = "base = 50"
    nbformat.write(changed, notebook)
    status, printed, _ = codeact("run", notebook, "--again", "--model", "recorded", "-o", tmp_path / "out.ipynb")
    assert status == 1
    assert "departs from the record" in printed
    assert "'52' in line 2, recorded is '42'" in printed


def test_a_prompt_can_come_from_the_command_line(tmp_path: Path) -> None:
    notebook = tmp_path / "new.ipynb"
    with ScriptedServer([block("6 * 7"), "42."]) as server:
        status, _, _ = codeact("run", notebook, "--prompt", "Six times seven?", base_url=server.base_url)
    assert status == 0
    assert [cell.source for cell in cells(notebook)] == [LOAD, "%%agent\nSix times seven?", "6 * 7", "42."]


def test_a_plain_notebook_runs_as_it_is(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", "print(1)\nprint(2)", "1 + 1")
    assert codeact("run", notebook)[0] == 0
    assert [cell.outputs[0].get("text") for cell in cells(notebook)] == ["1\n2\n", None]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run"], "required"),
        (["run", "none.ipynb"], "There is no notebook"),
        (["run", "none.ipynb", "--colour"], "unrecognized"),
        (["run", "{bad}"], "not a Jupyter notebook"),
        (["run", "{good}", "--timeout", "0"], "--timeout"),
        (["run", "{good}", "--prompt", " "], "--prompt is empty"),
        (["run", "{good}", "-o", "{folder}/none/out.ipynb"], "There is no folder"),
        ([], "required"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: list[str], expected: str) -> None:
    (tmp_path / "bad.ipynb").write_text("{not json")
    write(tmp_path / "good.ipynb", "1")
    names = {"bad": tmp_path / "bad.ipynb", "good": tmp_path / "good.ipynb", "folder": tmp_path}
    status, _, err = codeact(*[argument.format(**names) for argument in arguments])
    assert status == 2
    assert expected in err
    assert "Traceback" not in err


def test_a_failed_turn_exits_with_1_and_says_why(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.", "after = 1")
    with ScriptedServer([block("x = 1"), Fault(status=401)]) as server:
        status, printed, _ = codeact("run", notebook, base_url=server.base_url)
    assert status == 1
    assert "OPENAI_API_KEY" in printed
    assert KEY not in notebook.read_text()
    rows = cells(notebook)
    assert [cell.source for cell in rows] == [LOAD, "%%agent\nGo.", "x = 1", "after = 1"]
    assert rows[-1].execution_count is None
    assert records_in(rows)[0].events[-1].reason == "failed"  # type: ignore[union-attr]


def test_a_failed_cell_of_the_user_exits_with_1(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", "1 / 0", "2")
    status, printed, _ = codeact("run", notebook)
    assert status == 1
    assert "ZeroDivisionError" in printed
    assert cells(notebook)[1].execution_count is None


def test_a_limit_exits_with_1(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent --max-steps 1\nGo.", "'ran'")
    with ScriptedServer([block("1"), block("2")]) as server:
        status, printed, _ = codeact("run", notebook, base_url=server.base_url)
    assert status == 1
    assert "Stopped at a limit" in printed
    assert cells(notebook)[-1].outputs[0].data["text/plain"] == "'ran'"


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "import asyncio\nawait asyncio.sleep(60)", "MODEL"])
def test_ctrl_c_stops_with_130_and_keeps_the_notebook(tmp_path: Path, code: str) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.", "after = 1")
    slow: Any = ScriptedReply("word " * 500, pause=0.1) if code == "MODEL" else block(code)
    with ScriptedServer([block("first = 1\nfirst"), slow]) as server:
        with start("run", notebook, base_url=server.base_url) as process:
            wait_for(notebook, "first = 1")
            while len(server.requests) < 2:
                time.sleep(0.02)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Stopped" in out
    (record,) = records_in(cells(notebook))
    assert record.events[-1].reason == "stopped"  # type: ignore[union-attr]
    assert cells(notebook)[2].outputs[0].data["text/plain"] == "1"
    assert cells(notebook)[-1].execution_count is None


def test_a_killed_run_leaves_a_valid_notebook(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    steps = [block(f"step_{number} = {number}\nstep_{number}") for number in range(200)]
    with ScriptedServer(steps) as server:
        with start("run", notebook, base_url=server.base_url) as process:
            wait_for(notebook, "step_3 = 3")
            process.kill()
            process.communicate(timeout=60)
    rows = cells(notebook)
    assert rows[4].outputs[0].data["text/plain"] == "2"
    (record,) = records_in(rows)
    assert record.events[-1].reason == "failed"  # type: ignore[union-attr]
    assert "mid-turn" in record.events[-1].detail  # type: ignore[union-attr]
    assert len(list(tmp_path.glob(".in.ipynb.*"))) <= 1


def test_what_a_killed_run_left_is_swept_up(tmp_path: Path) -> None:
    notebook, left = write(tmp_path / "in.ipynb", "1"), tmp_path / ".in.ipynb.abc.tmp"
    left.write_text("{half")
    os.utime(left, (0, 0))
    assert codeact("run", notebook)[0] == 0
    assert not left.exists()


def test_a_dead_kernel_ends_the_run_with_1(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    with ScriptedServer([block("x = 1\nx"), block("import os\nos._exit(1)")]) as server:
        status, _, err = codeact("run", notebook, base_url=server.base_url)
    assert status == 1
    assert "kernel died" in err
    (record,) = records_in(cells(notebook))
    assert record.events[-1].detail == "the kernel died in mid-turn"  # type: ignore[union-attr]


def test_a_flood_stays_out_of_the_notebook(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    with ScriptedServer([block("for _ in range(100): print('x' * 1_000_000)\nprint('end')"), "Much."]) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
    assert notebook.stat().st_size < 1_000_000
    text = cells(notebook)[2].outputs[0].text
    assert "characters left out" in text
    assert text.endswith("end\n")


def test_a_time_limit_interrupts_a_generated_cell(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    with ScriptedServer([block("import time; time.sleep(60)"), "Too slow."]) as server:
        assert codeact("run", notebook, "--timeout", "0.5", base_url=server.base_url)[0] == 0
    assert cells(notebook)[2].metadata.codeact.status == "timeout"


def test_a_broken_record_is_passed_over_and_said(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[1].metadata["codeact"] = {"role": "prompt", "record": {"version": 1, "events": [{"type": "Nonsense"}]}}
    nbformat.write(nb, notebook)
    with ScriptedServer(["Fine."]) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
    rows = cells(notebook)
    assert "is broken at event 1" in rows[1].outputs[0].text
    assert rows[2].source == "Fine."


def test_a_broken_recording_is_one_line(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    status, printed, _ = codeact("run", notebook, "--model", "recorded")
    assert status == 1
    assert "holds no recorded turn" in printed


@pytest.mark.parametrize(
    "variables", [{"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"NO_COLOR": "1"}, {"TERM": "dumb"}]
)
def test_any_terminal_will_do(tmp_path: Path, variables: dict[str, str]) -> None:
    notebook = write(tmp_path / "näme with spaces.ipynb", LOAD, "%%agent\nGrüße?")
    with ScriptedServer([block("'é'"), "Grüße – ✓"]) as server:
        status, printed, err = codeact("run", notebook, base_url=server.base_url, **variables)
    assert status == 0, err
    assert "Answered" in printed
    assert cells(notebook)[-1].source == "Grüße – ✓"


def test_a_run_that_nobody_reads_goes_on(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.", "'after'")
    with ScriptedServer([block("1"), "One."]) as server:
        with start("run", notebook, base_url=server.base_url) as process:
            assert process.stdout
            process.stdout.close()
            assert process.wait(timeout=60) == 0
    assert cells(notebook)[-1].outputs[0].data["text/plain"] == "'after'"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    notebook, link = write(tmp_path / "in.ipynb", "1 + 1"), tmp_path / "link.ipynb"
    link.symlink_to(notebook)
    assert codeact("run", link)[0] == 0
    assert link.is_symlink()
    assert cells(notebook)[0].outputs[0].data["text/plain"] == "2"


def answered(tmp_path: Path, *replies: Any) -> Path:
    """A notebook with one answered prompt."""
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    with ScriptedServer([*replies] or [block("x = 1\nx"), "It is 1."]) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
    return notebook


@pytest.mark.parametrize("edited", [False, True])
def test_a_failed_re_ask_keeps_the_answer_that_was_there(tmp_path: Path, edited: bool) -> None:
    notebook = answered(tmp_path)
    if edited:
        nb = nbformat.read(notebook, as_version=4)
        nb.cells[1].source = "%%agent\nGo on."
        nbformat.write(nb, notebook)
    before = [cell.source for cell in cells(notebook)]
    with ScriptedServer([Fault(status=401)]) as server:
        assert codeact("run", notebook, "--again", base_url=server.base_url)[0] == 1
    assert [cell.source for cell in cells(notebook)] == before
    (record,) = records_in(cells(notebook))
    assert record.answered


def test_a_cell_that_the_user_edited_is_not_replaced(tmp_path: Path) -> None:
    notebook = answered(tmp_path)
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[2].source = "# my careful edit\nx = 100"
    nbformat.write(nb, notebook)
    with ScriptedServer([block("x = 2\nx"), "It is 2."]) as server:
        assert codeact("run", notebook, "--again", base_url=server.base_url)[0] == 0
    sources = [cell.source for cell in cells(notebook)]
    assert sources == [LOAD, "%%agent\nGo.", "x = 2\nx", "It is 2.", "# my careful edit\nx = 100"]


@pytest.mark.parametrize("edited", [False, True])
def test_a_copied_prompt_leaves_the_original_alone(tmp_path: Path, edited: bool) -> None:
    notebook = answered(tmp_path)
    nb = nbformat.read(notebook, as_version=4)
    copy = nbformat.from_dict(json.loads(json.dumps(nb.cells[1])))
    copy.id = "copied"
    copy.source = "%%agent\nOther." if edited else copy.source
    nb.cells.append(copy)
    nbformat.write(nb, notebook)
    with ScriptedServer([block("y = 2\ny"), "It is 2."]) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
    sources = [cell.source for cell in cells(notebook)]
    assert sources == [LOAD, "%%agent\nGo.", "x = 1\nx", "It is 1.", copy.source, "y = 2\ny", "It is 2."]


def test_a_cell_moved_above_its_prompt_is_asked_once_more(tmp_path: Path) -> None:
    notebook = answered(tmp_path)
    nb = nbformat.read(notebook, as_version=4)
    nb.cells.insert(1, nb.cells.pop(2))
    nbformat.write(nb, notebook)
    with ScriptedServer([block("x = 3\nx"), "It is 3."]) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
        assert len(server.requests) == 2
    sources = [cell.source for cell in cells(notebook)]
    assert sources == [LOAD, "x = 1\nx", "%%agent\nGo.", "x = 3\nx", "It is 3."]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_between_short_cells_stops_the_run(tmp_path: Path, number: int) -> None:
    notebook = write(tmp_path / "in.ipynb", *[f"import time; time.sleep(0.05); {place}" for place in range(400)])
    with start("run", notebook) as process:
        wait_for(notebook, '"execution_count": 5')
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert cells(notebook)[-1].execution_count is None


def test_narration_stands_before_the_cell_it_speaks_of(tmp_path: Path) -> None:
    reply = "First.\n" + block("1") + "Second.\n" + block("2") + "Behind."
    notebook = answered(tmp_path, reply, "Done.")
    assert [cell.source for cell in cells(notebook)][2:] == ["First.", "1", "Second.", "2", "Behind.", "Done."]


def test_a_cell_that_met_its_limit_meets_it_again(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent --timeout 1\nGo.")
    with ScriptedServer([block("kept = 1\nwhile True: pass"), block("kept"), "1."]) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
    status, printed, err = codeact("run", notebook)
    assert status == 0, printed + err
    assert cells(notebook)[3].outputs[0].data["text/plain"] == "1"
    assert "1 answered prompt was not asked again" in printed


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), -5, "soon", None])
def test_a_strangers_limit_is_bounded(tmp_path: Path, seconds: object) -> None:
    notebook = write(tmp_path / "in.ipynb", "1 + 1")
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].metadata["codeact"] = {"role": "cell", "status": "timeout", "seconds": seconds}
    nbformat.write(nb, notebook)
    status, printed, err = codeact("run", notebook)
    assert status == 0, printed + err
    assert cells(notebook)[0].outputs[0].data["text/plain"] == "2"
