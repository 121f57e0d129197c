"""What cells leave behind, files and packages, is told to the model, recorded, and shown."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.events import CellDecided, CellFinished, CellProposed
from codeact_magic.record import MIME, Record, read, records_in
from codeact_magic.testing import ScriptedServer
from tests.kernels import Kernel, Ran, kernel, said
from tests.notebooks import LOAD, block, cells, codeact, write
from tests.unit.test_render import Found

PACKAGE = "codeact_toy"
VERSION = "1.2.3"


def recorded(ran: Ran) -> Record:
    return read(ran.display(MIME))


def files(record: Record) -> list[tuple[str, str, str]]:
    """Path, change and type of each file, in order."""
    ended = [event for event in record.events if isinstance(event, CellFinished)]
    return [(file.path, file.change, file.type) for event in ended for file in event.changes.files]


def causes(record: Record) -> list[str]:
    return [event.cause for event in record.events if isinstance(event, CellProposed)]


@pytest.fixture(params=["", " --kernel python3"], ids=["here", "another kernel"])
def line(request: pytest.FixtureRequest) -> str:
    """The magic's line: code runs in the notebook's kernel, or in another one."""
    return f"%%agent{request.param}"


def turn(folder: Path, line: str, *codes: str, **variables: Any) -> tuple[Ran, str]:
    """Run a turn of these cells in a kernel; give it, and what the model was told of the last cell."""
    with ScriptedServer([*map(block, codes), "Done."]) as server:
        with kernel(folder, server.base_url, **variables) as live:
            ran = live.run(f"{line}\nGo.")
        assert ran.status == "ok", ran.error
        return ran, said(server)


def test_new_changed_and_deleted_files_are_told_recorded_and_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / "old.csv").write_text("a")
    (tmp_path / "gone.txt").write_text("a")
    code = (
        "import os\nos.makedirs('out/deep')\n"
        "open('new.txt', 'w').write('12345')\n"
        "open('out/deep/table.csv', 'w').write('x')\n"
        "open('.hidden', 'w').write('x')\n"
        "os.mkdir('.cache'); open('.cache/x', 'w').close()\n"
        "open('old.csv', 'a').write('more')\n"
        "os.remove('gone.txt')"
    )
    ran, told = turn(tmp_path, line, code)
    assert files(recorded(ran)) == [
        ("gone.txt", "deleted", "text/plain"),
        ("new.txt", "new", "text/plain"),
        ("old.csv", "changed", "text/csv"),
        ("out/deep/table.csv", "new", "text/csv"),
    ]
    lines = [
        "gone.txt (deleted, text/plain)",
        "new.txt (new, 5 bytes, text/plain)",
        "old.csv (changed, 5 bytes, text/csv)",
    ]
    assert f"Files: {', '.join(lines)}, out/deep/table.csv (new, 1 byte, text/csv)" in told
    for each in lines:
        assert each in ran.display("text/html")
        assert each in ran.display("text/plain")
    assert '<a href="./out/deep/table.csv"' in ran.display("text/html")
    assert "./gone.txt" not in ran.display("text/html")


def test_a_saved_figure_can_be_unfolded(tmp_path: Path, line: str) -> None:
    code = (
        "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\n"
        "plt.plot([1, 2])\nplt.savefig('figure one.png')\nplt.close()"
    )
    ran, told = turn(tmp_path, line, code)
    assert files(recorded(ran)) == [("figure one.png", "new", "image/png")]
    assert "figure one.png (new, " in told
    assert 'src="./figure%20one.png"' in ran.display("text/html")
    assert "<details" in ran.display("text/html")


def test_each_cell_is_told_its_own_files(tmp_path: Path, line: str) -> None:
    ran, told = turn(tmp_path, line, "open('a', 'w').close()", "1", "open('a', 'w').write('x')\nopen('b', 'w').close()")
    assert [each[:2] for each in files(recorded(ran))] == [("a", "new"), ("a", "changed"), ("b", "new")]
    assert "a (changed, 1 byte," in told


def test_a_cell_that_fails_leaves_files_too(tmp_path: Path, line: str) -> None:
    ran, told = turn(tmp_path, line, "open('a.csv', 'w').write('x')\n1 / 0")
    assert files(recorded(ran)) == [("a.csv", "new", "text/csv")]
    assert told.splitlines()[0].endswith("failed.")
    assert "Files: a.csv (new, 1 byte, text/csv)" in told


def test_another_working_directory_is_not_taken_for_new_files(tmp_path: Path, line: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "there.txt").touch()
    (tmp_path / "here.txt").touch()
    change = "import os\nos.chdir('sub')"
    ran, told = turn(tmp_path, line, change, "open('made.txt', 'w').close()")
    assert files(recorded(ran)) == [("made.txt", "new", "text/plain")]
    assert "made.txt" in told


def test_a_deleted_working_directory_is_survived(tmp_path: Path) -> None:
    code = "import os\nos.mkdir('sub'); os.chdir('sub'); os.rmdir('../sub')"
    ran, _ = turn(tmp_path, "%%agent", code, "6 * 7", "import os\nos.chdir('/')")
    assert "42" in ran.text


HOSTILE = [
    '"><script>alert(1)<\\script>.png',
    "' onerror='alert(1).png",
    "two\nlines.csv",
    "javascript:alert(1)",
    "\x1b[2J\x07.txt",
    "&lt;b&gt;.svg",
    "*a* `b` [c](d).md",
    "ü ✓ %20?#.png",
]


def test_hostile_names_are_inert_in_every_view(tmp_path: Path) -> None:
    code = f"for name in {HOSTILE!r}:\n    open(name, 'w').close()"
    ran, told = turn(tmp_path, "%%agent", code)
    assert sorted(path for path, _, _ in files(recorded(ran))) == sorted(HOSTILE)
    found = Found(ran.display("text/html"))
    assert set(found.tags) <= {"style", "div", "pre", "span", "details", "summary", "a", "img", "code", "p"}
    assert found.handlers == []
    assert "./javascript%3aalert%281%29" in found.links
    assert all(link.startswith("./") for link in found.links)
    files_told = next(row for row in told.splitlines() if row.startswith("Files: "))
    for each in HOSTILE:
        assert "".join(char if char.isprintable() else "?" for char in each) in files_told
    assert files_told.isprintable()


def test_a_long_name_is_bounded(tmp_path: Path) -> None:
    code = f"import os\nplace = '{'d' * 100}/{'e' * 100}'\nos.makedirs(place)\nopen(place + '/{'f' * 100}.csv', 'w').close()"
    ran, told = turn(tmp_path, "%%agent", code)
    ((path, change, _),) = files(recorded(ran))
    assert (path.startswith("d" * 100 + "/"), change, len(path) <= 300) == (True, "new", True)
    assert path in told
    assert path in ran.display("text/html")


def test_many_files_are_counted(tmp_path: Path) -> None:
    ran, told = turn(tmp_path, "%%agent", "for n in range(300): open(f'{n:03}.txt', 'w').close()")
    found = files(recorded(ran))
    assert found[-1][:2] == ("and 250 more", "more")
    assert "and 250 more" in told
    assert len(told) < 5000
    assert "and 250 more</div>" in ran.display("text/html")


def test_codeact_run_records_and_prints_files(tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    with ScriptedServer([block("open('a\\nb.csv', 'w').write('x')"), "Done."]) as server:
        status, printed, err = codeact("run", notebook, base_url=server.base_url)
    assert status == 0, err
    (record,) = records_in(cells(notebook))
    assert files(record) == [("a\nb.csv", "new", "text/csv")]
    assert "a?b.csv (new, 1 byte, text/csv)" in printed


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A folder with a wheel of a package that needs no build."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    info = f"{PACKAGE}-{VERSION}.dist-info"
    texts = {
        f"{PACKAGE}.py": "value = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    texts[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*texts, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{PACKAGE}-{VERSION}-py3-none-any.whl", "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)
    return folder


class TestMissing:
    """A package that is not installed; it goes to a folder of its own, so that this environment stays as it is."""

    @pytest.fixture
    def work(self, tmp_path: Path) -> Path:
        folder = tmp_path / "work"
        folder.mkdir()
        return folder

    @pytest.fixture
    def pip(self, tmp_path: Path, wheel: Path) -> dict[str, str]:
        target = tmp_path / "target"
        target.mkdir()
        return {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheel),
            "PIP_TARGET": str(target),
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(target), os.environ.get("PYTHONPATH")))),
        }

    def ask(self, live: Kernel, line: str, answer: str) -> tuple[Ran, list[str]]:
        """Run a prompt, and answer its questions, which are given back."""
        live.input = answer
        request = live.send(f"{line}\nGo.")
        questions: list[str] = []
        known = live.client.get_stdin_msg

        def keep(*arguments: Any, **options: Any) -> Any:
            message = known(*arguments, **options)
            questions.append(message["content"]["prompt"])
            return message

        live.client.get_stdin_msg = keep
        return live.wait(request), questions

    def test_it_is_proposed_asked_about_installed_and_the_block_run_again(
        self, work: Path, pip: dict[str, Any], line: str
    ) -> None:
        code = f"import math\nimport {PACKAGE}\nprint({PACKAGE}.value)"
        with ScriptedServer([block(code), "Done."]) as server:
            with kernel(work, server.base_url, CODEACT_APPROVAL="risky", **pip) as live:
                ran, questions = self.ask(live, line, "y")
        assert ran.status == "ok", ran.error
        assert [each.split("?")[0] for each in questions] == [f"A package is missing. Run %pip install {PACKAGE}"]
        record = recorded(ran)
        assert causes(record) == ["reply", "install", "again"]
        assert [event.decision for event in record.events if isinstance(event, CellDecided)] == ["run"]
        ends = [event.status for event in record.events if isinstance(event, CellFinished)]
        assert ends == ["error", "ok", "ok"]
        told = said(server)
        assert f"\nInstalled {PACKAGE}-{VERSION}.\n" in told
        assert "Processing" not in told
        assert "Successfully" not in told
        assert told.rstrip().splitlines()[-1].startswith(("42", "New names"))
        assert f"Installed {PACKAGE}-{VERSION}." in ran.display("text/html")

    def test_what_ran_before_the_import_is_not_run_twice(self, work: Path, pip: dict[str, Any], line: str) -> None:
        code = f"open('once', 'a').write('x')\nimport {PACKAGE}"
        with ScriptedServer([block(code), block(f"{PACKAGE}.value"), "Done."]) as server:
            with kernel(work, server.base_url, CODEACT_APPROVAL="risky", **pip) as live:
                ran, _ = self.ask(live, line, "y")
        assert (work / "once").read_text() == "x"
        assert causes(recorded(ran)) == ["reply", "install", "reply"]
        assert "42" in said(server)

    def test_a_rejected_install_is_told(self, work: Path, pip: dict[str, Any], tmp_path: Path) -> None:
        with ScriptedServer([block(f"import {PACKAGE}"), "Done."]) as server:
            with kernel(work, server.base_url, CODEACT_APPROVAL="risky", **pip) as live:
                ran, _ = self.ask(live, "%%agent", "do without it")
        assert causes(recorded(ran)) == ["reply", "install"]
        assert f"No module named '{PACKAGE}'" in said(server)
        assert "Install was not run: the user rejected it." in said(server)
        assert "do without it" in said(server)
        assert list((tmp_path / "target").iterdir()) == []

    def test_an_install_that_fails_is_told_with_pips_error(self, work: Path, pip: dict[str, Any], line: str) -> None:
        with ScriptedServer([block(f"import {PACKAGE}_none"), "Done."]) as server:
            with kernel(work, server.base_url, CODEACT_APPROVAL="risky", **pip) as live:
                ran, _ = self.ask(live, line, "y")
        assert causes(recorded(ran)) == ["reply", "install"]
        assert f"ERROR: No matching distribution found for {PACKAGE}_none" in said(server)
        assert f"No module named '{PACKAGE}_none'" in said(server)

    def test_without_anybody_to_ask_nothing_is_installed(self, work: Path, pip: dict[str, Any], tmp_path: Path) -> None:
        notebook = write(work / "in.ipynb", LOAD, "%%agent\nGo.", "'after'")
        with ScriptedServer([block(f"import {PACKAGE}"), "Done."]) as server:
            status, printed, err = codeact("run", notebook, base_url=server.base_url, CODEACT_APPROVAL="", **pip)
        assert status == 0, printed + err
        assert "not run" in printed
        assert list((tmp_path / "target").iterdir()) == []

    def test_codeact_run_installs_and_runs_all_in_their_places(self, work: Path, pip: dict[str, Any]) -> None:
        notebook = write(work / "in.ipynb", LOAD, "%%agent\nGo.", "'after'")
        code = f"import {PACKAGE}\n{PACKAGE}.value"
        reply = "First.\n" + block(code) + "Second.\n" + block("6 * 7") + "Behind."
        with ScriptedServer([reply, "Done."]) as server:
            status, printed, err = codeact("run", notebook, "--yes", base_url=server.base_url, **pip)
        assert status == 0, printed + err
        rows = cells(notebook)
        install = f"%pip install {PACKAGE}\nimport {PACKAGE}"
        sources = ["First.", code, install, code, "Second.", "6 * 7", "Behind.", "Done.", "'after'"]
        assert [cell.source for cell in rows][2:] == sources
        assert rows[4].outputs[0].text == f"Installed {PACKAGE}-{VERSION}.\n"
        status, printed, err = codeact("run", notebook, base_url=server.base_url, **pip)
        assert (status, [cell.source for cell in cells(notebook)]) == (0, [cell.source for cell in rows]), printed + err
