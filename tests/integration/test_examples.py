"""The example notebooks: each replays from its own record, runs with no model, and says only what its cells show."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from codeact_magic.events import ReplyFinished
from codeact_magic.outputs import text_of
from codeact_magic.record import Record, digest, mark, records_in
from tests.notebooks import cells, codeact

EXAMPLES = Path(__file__).parents[2] / "example_notebooks"
NOTEBOOKS = sorted(path.name for path in EXAMPLES.glob("*.ipynb"))
LARGEST = 200_000  # bytes
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns(".*", "__pycache__")))


def shown(cell: Any) -> list[tuple[str, str]]:
    """What a cell's outputs say, without what depends on versions: frames of tracebacks, HTML, bytes of pictures."""
    rows = []
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            rows.append((output.name, output.text))
        elif output.output_type == "error":
            rows.append((output.ename, output.evalue))
        elif "image/png" in output.data:
            rows.append(("picture", ""))
        else:
            rows.append(("data", output.data["text/plain"]))
    return rows


def is_prompt(cell: Any) -> bool:
    return mark(cell).get("role") == "prompt"


def compared(path: Path) -> list[Any]:
    """The cells of a notebook as they must come again; a prompt's own output tells its time and tokens."""
    return [
        (cell.cell_type, cell.source, cell.get("execution_count"), None if is_prompt(cell) else shown(cell))
        for cell in cells(path)
    ]


def turns(name: str) -> Iterator[tuple[Record, list[Any], list[Any]]]:
    """The turns of a notebook, each with the cells above its prompt and those that it made."""
    rows, records = cells(EXAMPLES / name), iter(records_in(cells(EXAMPLES / name)))
    for place, cell in enumerate(rows):
        if is_prompt(cell):
            record = next(records)
            yield record, rows[:place], [each for each in rows[place + 1 :] if mark(each).get("turn") == record.turn]


def numbers(text: str) -> set[float]:
    return {float(found.replace(",", "")) for found in NUMBER.findall(text)}


def test_there_are_examples() -> None:
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_recording_answers_its_own_prompts(name: str, folder: Path, tmp_path: Path) -> None:
    before, out = sorted(folder.rglob("*")), tmp_path / "out.ipynb"
    arguments = ("run", folder / name, "--again", "--model", "recorded", "-o", out)
    status, printed, err = codeact(*arguments, CODEACT_APPROVAL="risky")
    assert status == 0, printed + err
    assert compared(out) == compared(EXAMPLES / name)
    assert sorted(folder.rglob("*")) == before, "an example leaves no files behind"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_with_no_model(name: str, folder: Path) -> None:
    status, printed, err = codeact("run", folder / name)
    assert status == 0, printed + err
    assert "--again asks" in printed
    assert compared(folder / name) == compared(EXAMPLES / name)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_says_that_its_replies_are_scripted(name: str) -> None:
    intro, *_ = cells(EXAMPLES / name)
    assert "written by hand (scripted), not by a model" in " ".join(intro.source.split())
    rows = [cell for cell in cells(EXAMPLES / name) if is_prompt(cell)]
    assert {mark(cell)["record"]["origin"] for cell in rows} == {"scripted"}
    for record, _, made in turns(name):
        assert record.answered
        assert {event.model for event in record.events if isinstance(event, ReplyFinished)} == {"scripted"}
        assert all(mark(cell)["sha256"] == digest(text_of(cell.source)) for cell in made), "a cell was edited since"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_number_of_an_answer_stands_in_an_output_or_a_prompt(name: str) -> None:
    asked: set[float] = set()
    for record, above, made in turns(name):
        asked |= numbers(record.start.filled)
        ran = [cell for cell in [*above, *made] if not is_prompt(cell)]
        seen = numbers("\n".join(text for cell in ran for _, text in shown(cell)))
        (answer,) = (cell.source for cell in made if mark(cell)["role"] == "answer")
        assert numbers(answer) <= seen | asked


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_small_and_tells_nothing_of_a_machine(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST
    assert not re.search(r"/(?:tmp|root|home|work|Users|var)/|[A-Z]:\\\\", text)
    metadata = nbformat.read(EXAMPLES / name, as_version=4).metadata
    assert metadata.keys() == {"kernelspec", "language_info"}
    assert metadata.language_info == {"name": "python"}
