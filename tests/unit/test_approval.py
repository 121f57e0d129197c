"""What is asked about depends on the mode, on what was found, and on what the user has said before."""

import os
from pathlib import Path

import pytest

from codeact_magic.approval import Approval, Mode, described
from codeact_magic.events import CellDecided, CellFinished, CellProposed, Changes, FileChange, TurnStarted
from codeact_magic.risks import Kind, Risk

START = TurnStarted(turn="t1", thread="main", prompt="Do it.", filled="Do it.")
HARMLESS = "x = 1"
DELETES = "import os\nos.remove('data.csv')"
RUNS = "!ls"
MODES: list[Mode] = ["auto", "risky", "ask"]


class User:
    """Answers as told, and keeps what was asked."""

    def __init__(self, decision: str = "run", *, always: bool = False, reason: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self._decision, self._always, self._reason = decision, always, reason

    async def __call__(self, cell: CellProposed, risk: str) -> CellDecided:
        self.asked.append((cell.code, risk))
        return CellDecided(
            cell=cell.cell,
            decision=self._decision,  # type: ignore[arg-type]
            risk=risk,
            always=self._always,
            reason=self._reason,
        )


async def decided(
    approval: Approval, code: str, user: User | None = None, *, folder: str = "/nowhere", start: TurnStarted = START
) -> CellDecided | None:
    return await approval.decide(CellProposed(cell="c1", step=1, code=code), start, folder, user)


async def is_asked(approval: Approval, code: str, folder: Path) -> bool:
    user = User()
    await decided(approval, code, user, folder=str(folder))
    return bool(user.asked)


@pytest.mark.parametrize(("mode", "asked"), [("auto", False), ("risky", False), ("ask", True)])
async def test_a_harmless_cell_is_asked_about_only_in_ask(mode: Mode, asked: bool) -> None:
    user = User()
    found = await decided(Approval(mode), HARMLESS, user)
    assert bool(user.asked) is asked
    assert found == (CellDecided(cell="c1", decision="run") if asked else None)


@pytest.mark.parametrize(("mode", "asked"), [("auto", False), ("risky", True), ("ask", True)])
async def test_a_risky_cell_is_asked_about_unless_all_is_allowed(mode: Mode, asked: bool) -> None:
    user = User()
    found = await decided(Approval(mode), DELETES, user)
    assert found
    assert (found.decision, found.by) == ("run", "user" if asked else "setting")
    assert found.risk == "delete: os.remove('data.csv')"
    assert user.asked == ([(DELETES, found.risk)] if asked else [])


@pytest.mark.parametrize("mode", MODES)
async def test_without_anybody_to_ask_what_would_be_asked_about_is_refused(mode: Mode) -> None:
    harmless, risky = await decided(Approval(mode), HARMLESS), await decided(Approval(mode), DELETES)
    assert risky
    if mode == "auto":
        assert (harmless, risky.decision) == (None, "run")
    else:
        assert (risky.decision, risky.by, "--yes" in risky.reason) == ("rejected", "setting", True)
        assert (harmless is None) is (mode == "risky")


async def test_the_users_word_is_handed_on() -> None:
    found = await decided(Approval(), DELETES, User("rejected", reason="Keep it."))
    assert found == CellDecided(cell="c1", decision="rejected", risk="delete: os.remove('data.csv')", reason="Keep it.")


@pytest.mark.parametrize("mode", ["risky", "ask"])
async def test_always_allows_a_kind_but_no_other(mode: Mode) -> None:
    approval, user = Approval(mode), User(always=True)
    await decided(approval, DELETES, user)
    again = await decided(approval, "import os\nos.remove('other.csv')", user)
    assert again
    assert (again.decision, again.risk, len(user.asked)) == ("run", "delete: os.remove('other.csv')", 1)
    await decided(approval, RUNS, user)
    assert user.asked[1:] == [(RUNS, "run programs: !ls")]


async def test_a_cell_with_another_risk_beside_an_allowed_one_is_asked_about() -> None:
    approval, user = Approval(), User(always=True)
    await decided(approval, DELETES, user)
    await decided(approval, f"{DELETES}\n{RUNS}", user)
    assert len(user.asked) == 2


async def test_always_says_nothing_of_harmless_cells() -> None:
    approval, user = Approval("ask"), User(always=True)
    await decided(approval, DELETES, user)
    await decided(approval, HARMLESS, user)
    assert [code for code, _ in user.asked] == [DELETES, HARMLESS]


@pytest.mark.parametrize("decision", ["run", "rejected"])
async def test_a_single_word_holds_for_one_cell(decision: str) -> None:
    approval, user = Approval(), User(decision)
    await decided(approval, DELETES, user)
    await decided(approval, DELETES, user)
    assert len(user.asked) == 2


async def test_a_new_thread_begins_with_nothing_allowed() -> None:
    approval, user = Approval(), User(always=True)
    await decided(approval, DELETES, user)
    approval.reset()
    await decided(approval, DELETES, user)
    assert len(user.asked) == 2


async def test_code_for_another_kernel_is_looked_through_without_its_magic() -> None:
    start = TurnStarted(turn="t", thread="x", prompt="p", filled="p", language="r", kernel="ir")
    user = User()
    await decided(Approval(), "%%in_kernel ir\nx <- 1", user, start=start)
    assert not user.asked
    await decided(Approval(), "%%in_kernel ir\nunlink('a')", user, start=start)
    assert user.asked == [("%%in_kernel ir\nunlink('a')", "delete: unlink('a')")]


def wrote(approval: Approval, folder: Path, path: str, change: str = "new") -> None:
    file = FileChange(path=path, change=change)  # type: ignore[arg-type]
    approval.see(CellFinished(cell="c", status="ok", changes=Changes(files=(file,))), str(folder))


def writes(path: str) -> str:
    return f"open({path!r}, 'w').write('')"


async def test_a_file_that_is_not_there_may_be_written(tmp_path: Path) -> None:
    assert not await is_asked(Approval(), writes("new.csv"), tmp_path)


@pytest.mark.parametrize("path", ["data.csv", "./data.csv", "sub/../data.csv", "{folder}/data.csv"])
async def test_a_file_of_the_users_may_not_be_overwritten(tmp_path: Path, path: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "data.csv").touch()
    assert await is_asked(Approval(), writes(path.format(folder=tmp_path)), tmp_path)


@pytest.mark.parametrize("path", ["out/own.csv", "./out/own.csv", "out/../out/own.csv", "{folder}/out/own.csv"])
async def test_a_file_of_the_agents_may_be_overwritten(tmp_path: Path, path: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "own.csv").touch()
    approval = Approval()
    wrote(approval, tmp_path, "out/own.csv")
    assert not await is_asked(approval, writes(path.format(folder=tmp_path)), tmp_path)


@pytest.mark.parametrize("changes", [["changed"], ["more"], ["new", "deleted"]], ids=str)
async def test_a_file_is_only_the_agents_if_it_made_it(tmp_path: Path, changes: list[str]) -> None:
    (tmp_path / "own.csv").touch()
    approval = Approval()
    for change in changes:
        wrote(approval, tmp_path, "own.csv", change)
    assert await is_asked(approval, writes("own.csv"), tmp_path)


async def test_a_file_of_that_name_in_another_folder_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "own.csv").touch()
    approval = Approval()
    wrote(approval, tmp_path.parent, "own.csv")
    assert await is_asked(approval, writes("own.csv"), tmp_path)


async def test_a_new_thread_has_made_no_files(tmp_path: Path) -> None:
    (tmp_path / "own.csv").touch()
    approval = Approval()
    wrote(approval, tmp_path, "own.csv")
    approval.reset()
    assert await is_asked(approval, writes("own.csv"), tmp_path)


async def test_a_link_of_the_agents_to_a_file_of_the_users_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    approval = Approval()
    wrote(approval, tmp_path, "link.csv")
    assert await is_asked(approval, writes("link.csv"), tmp_path)


async def test_a_folder_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "own.csv").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    approval = Approval()
    wrote(approval, tmp_path / "link", "own.csv")
    assert not await is_asked(approval, writes("own.csv"), tmp_path / "real")


async def test_a_file_at_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data.csv").touch()
    assert await is_asked(Approval(), "import os\nopen(os.path.expanduser('~/data.csv'), 'w')", tmp_path / "none")


@pytest.mark.parametrize("path", ["\0", "x" * 5000, "~nobody-of-that-name/x", "loop", "loop/x"])
async def test_a_path_that_cannot_be_is_not_there(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not await is_asked(Approval(), writes(path), tmp_path)


async def test_a_working_directory_that_is_gone_is_no_error() -> None:
    approval = Approval()
    wrote(approval, Path(os.devnull), "x.csv")
    wrote(approval, Path(), "x.csv")
    assert await decided(approval, writes("/nowhere/x.csv"), None, folder="") is None


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_recording_rejects_is_not_run_in_any_mode(mode: Mode) -> None:
    approval, user = Approval(mode), User()
    approval.rejected = {DELETES: CellDecided(cell="old", decision="rejected", risk="delete: x", reason="Keep it.")}
    found = await decided(approval, DELETES, user)
    assert found == CellDecided(cell="c1", decision="rejected", risk="delete: x", reason="Keep it.")
    assert not user.asked


RISKS: list[tuple[list[tuple[Kind, str]], str]] = [
    ([], ""),
    ([("delete", "os.remove('a')")], "delete: os.remove('a')"),
    ([("delete", "a"), ("shell", "!b"), ("delete", "c")], "delete: a, c; run programs: !b"),
]


@pytest.mark.parametrize(("found", "said"), RISKS)
def test_risks_are_said_by_their_kinds(found: list[tuple[Kind, str]], said: str) -> None:
    assert described([Risk(kind, what) for kind, what in found]) == said
