"""A turn in a terminal: every cell is shown once, asked about or not, and text stands where it belongs."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from codeact_magic.events import Output
from codeact_magic.notebooks.text import TextNotebook
from codeact_magic.ports import CellBegan, CellDone
from codeact_magic.session import Session
from codeact_magic.testing import ScriptedModel

from .fakes import FakeExecutor, asked, failure, python

DELETES = "import os\nos.remove('a.csv')"
QUESTION = "Run this cell? It may delete: os.remove('a.csv').\n"


async def printed(
    capsys: pytest.CaptureFixture[str], *replies: str, executor: FakeExecutor | None = None, answers: str = ""
) -> str:
    """Run a turn in a terminal whose user answers; give what was printed, questions in their places."""
    left = list(answers)

    def read(question: str) -> str:
        if not left:
            raise EOFError
        print(f"{question}{left[0]}")
        return left.pop(0)

    await asked(Session(ScriptedModel(replies), executor or FakeExecutor(), TextNotebook(read=read)))
    return capsys.readouterr().out


Capture = pytest.CaptureFixture[str]


async def test_an_allowed_cell_is_shown_once_with_its_question(capsys: Capture) -> None:
    out = await printed(capsys, "I tidy up.\n" + python(DELETES), "Done.", answers="y")
    assert out.startswith(
        "I tidy up.\n\nIn [?]: import os\n   ...: os.remove('a.csv')\n"
        f"{QUESTION}y = yes, a = always in this thread, n = no, or say why not: y\n\nDone."
    )


async def test_a_rejected_cell_is_shown_with_its_question(capsys: Capture) -> None:
    out = await printed(capsys, python(DELETES), "Done.", answers="n")
    assert "or say why not: n\n[Not run]\n\nDone." in out


async def test_why_nobody_could_be_asked_is_said(capsys: Capture) -> None:
    out = await printed(capsys, python(DELETES), "Done.")
    assert "[Not run: nobody can be asked here; the user allows such cells with" in out


async def test_a_cell_that_was_allowed_before_is_shown_as_any_other(capsys: Capture) -> None:
    out = await printed(capsys, python(DELETES), python(DELETES), "Done.", answers="a")
    assert (out.count("In [?]: import os"), out.count("In [2]: import os"), out.count(QUESTION)) == (1, 1, 1)


class Installing(FakeExecutor):
    """Lacks six, and has it when it is told to install something."""

    async def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        if code.startswith("%pip"):
            self.results = {}
        async with aclosing(super().execute(code, cell)) as items:
            async for item in items:
                yield item


async def test_text_behind_a_block_stands_behind_its_install_and_its_second_run(capsys: Capture) -> None:
    executor = Installing({"import six": [failure("ModuleNotFoundError", "No module named 'six'")]})
    reply = "First.\n" + python("import six") + "Second.\n" + python("more") + "Third."
    out = await printed(capsys, reply, "Done.", executor=executor, answers="y")
    texts = ["First.", "[1]: import six", "[?]: %pip install six", "[3]: import six", "Second.", "[4]: more", "Third."]
    places = [out.index(text) for text in texts]
    assert places == sorted(places)
    assert [out.count(text) for text in texts] == [1] * len(texts)
