"""The user is asked before a risky cell runs: in a kernel, in an IPython terminal, in ``codeact run``."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pexpect
import pytest

from codeact_magic.events import CellDecided
from codeact_magic.record import MIME, Record, read, records_in
from codeact_magic.testing import ScriptedReply, ScriptedServer
from tests.integration.test_protocol import Client
from tests.kernels import Kernel, Ran, kernel, said
from tests.notebooks import LOAD, block, cells, codeact, environment, write

DELETES = "import os\nos.remove('data.csv')"
RISK = "delete: os.remove('data.csv')"
QUESTION = f"Run this cell? It may {RISK}."
REPLIES = ["I tidy up.\n" + block(DELETES) + block("behind = 1"), "Done."]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The user's file, which the agent wants to delete."""
    path = tmp_path / "data.csv"
    path.write_text("a\n1\n")
    return path


def decisions(record: Record) -> list[CellDecided]:
    return [event for event in record.events if isinstance(event, CellDecided)]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Kernel]]:
    """A kernel that asks; ``live(server)`` starts it."""
    opened: list[Any] = []

    def start(server: ScriptedServer, mode: str = "risky", **variables: Any) -> Kernel:
        opened.append(kernel(tmp_path, server.base_url, CODEACT_APPROVAL=mode, **variables))
        started: Kernel = opened[-1].__enter__()
        return started

    yield start
    for each in opened:
        each.__exit__(None, None, None)


def recorded(ran: Ran) -> list[CellDecided]:
    return decisions(read(ran.display(MIME)))


class TestKernel:
    """A frontend that is no client: the question is an ``input()`` of the prompt cell."""

    def test_a_yes_runs_the_cell(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            it.input = "y"
            ran = it.run("%%agent\nTidy up.")
            assert (ran.status, data.exists()) == ("ok", False)
            assert it.value("behind") == "1"
            assert "Block 1, cell [3]: ran." in said(server)
        assert recorded(ran) == [
            CellDecided(cell=recorded(ran)[0].cell, decision="run", risk=RISK),
        ]
        assert "allowed by you (may delete: os.remove(&#x27;data.csv&#x27;))" in ran.display("text/html")

    @pytest.mark.parametrize(
        ("answer", "reason"), [("n", ""), ("", ""), ("Keep it, I need it.", "Keep it, I need it.")]
    )
    def test_a_no_is_told_with_its_reason(
        self, live: Callable[..., Kernel], data: Path, answer: str, reason: str
    ) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            it.input = answer
            ran = it.run("%%agent\nTidy up.")
            assert (ran.status, data.exists()) == ("ok", True)
            assert "NameError" in it.run("behind").error
            assert "Block 1 was not run: the user rejected it." in said(server)
            assert reason in said(server)
            assert "The block after it was not run." in said(server)
        (decided,) = recorded(ran)
        assert (decided.decision, decided.by, decided.reason) == ("rejected", "user", reason)
        assert "rejected by you" in ran.display("text/html")
        assert "rejected by you" in ran.display("text/plain")

    def test_the_question_says_what_the_cell_may_do(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            request = it.send("%%agent\nTidy up.")
            asked = it.client.get_stdin_msg(timeout=60)
            assert asked["parent_header"]["msg_id"] == request
            assert asked["content"]["prompt"].startswith(QUESTION)
            assert asked["content"]["password"] is False
            assert data.exists()
            it.client.input("y")
            assert it.wait(request).status == "ok"

    def test_the_display_shows_the_cell_before_it_is_asked_about(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            request = it.send("%%agent\nTidy up.")
            it.client.get_stdin_msg(timeout=60)
            shown = ""
            while "remove" not in shown:
                shown = str(it.client.get_iopub_msg(timeout=60)["content"].get("data", {}).get("text/html"))
            it.client.input("n")
            # The messages that were looked at are gone for the helper: the reply is enough.
            assert it.client.get_shell_msg(timeout=60)["parent_header"]["msg_id"] == request

    def test_always_holds_for_the_thread(self, live: Callable[..., Kernel], data: Path) -> None:
        other = data.with_name("other.csv")
        other.touch()
        deletes = block("import os\nos.remove('other.csv')")
        with ScriptedServer([*REPLIES, deletes, "Done.", deletes, "Done."]) as server:
            it = live(server)
            it.input = "a"
            it.run("%%agent\nTidy up.")
            it.input = "n"
            (decided,) = recorded(it.run("%%agent\nThe other one too."))
            assert (decided.decision, other.exists()) == ("run", False)
            other.touch()
            it.run("%agent reset")
            (decided,) = recorded(it.run("%%agent\nThe other one too."))
            assert (decided.decision, other.exists()) == ("rejected", True)

    def test_every_cell_is_asked_about_in_ask(self, live: Callable[..., Kernel]) -> None:
        with ScriptedServer([block("x = 1"), "Done.", block("x = 2"), "Done."]) as server:
            it = live(server, "ask")
            it.input = "n"
            it.run("%%agent\nGo.")
            assert "NameError" in it.run("x").error
            it.input = "y"
            it.run("%%agent\nGo.")
            assert it.value("x") == "2"

    def test_the_cell_can_say_otherwise(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            ran = live(server).run("%%agent --approval auto\nTidy up.")
        assert not data.exists()
        assert [(each.decision, each.by) for each in recorded(ran)] == [("run", "setting")]

    def test_a_harmless_turn_asks_nothing(self, live: Callable[..., Kernel]) -> None:
        code = "import math\nx = math.pi\nopen('new.txt', 'w').write('a')\nprint(x)"
        with ScriptedServer([block(code), block("open('new.txt', 'w').write('b')"), "Done."]) as server:
            it = live(server)
            it.input = "n"
            ran = it.run("%%agent\nGo.")
        assert recorded(ran) == []

    def test_where_no_input_is_allowed_it_is_refused_and_told(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            content = {"code": "%%agent\nTidy up.", "silent": False, "store_history": True, "allow_stdin": False}
            message = it.client.session.msg("execute_request", content)
            it.client.shell_channel.send(message)
            ran = it.wait(str(message["header"]["msg_id"]))
            assert (ran.status, data.exists()) == ("ok", True)
            assert "the settings rejected it, as nobody can be asked here" in said(server)
        (decided,) = recorded(ran)
        assert (decided.decision, decided.by) == ("rejected", "setting")
        assert "rejected by the settings" in ran.display("text/html")

    @pytest.mark.parametrize("first", ["%%agent\nTidy up.", "%%time\n%%agent\nTidy up."])
    def test_an_interrupt_on_the_question_stops_the_turn(
        self, live: Callable[..., Kernel], data: Path, first: str
    ) -> None:
        with ScriptedServer([REPLIES[0], "Fine."]) as server:
            it = live(server)
            request = it.send(first)
            it.client.get_stdin_msg(timeout=60)
            it.interrupt()
            ran = it.wait(request)
            assert "the turn was stopped" in ran.error
            assert (read(ran.display(MIME)).events[-1].reason, data.exists()) == ("stopped", True)  # type: ignore[union-attr]
            assert it.value("1 + 1") == "2"
            assert "Fine." in it.run("%%agent\nGo on.").text

    def test_a_question_within_a_driven_loop_is_answered(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            it.input = "y"
            assert it.run("%%time\n%%agent\nTidy up.").status == "ok"
        assert not data.exists()

    def test_a_plain_display_asks_too(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server, CODEACT_DISPLAY="plain")
            it.input = "n"
            ran = it.run("%%agent\nTidy up.")
        assert data.exists()
        assert ran.text.count("os.remove('data.csv')") == 1, ran.text
        assert "[Not run]" in ran.text


class TestClient:
    """A frontend that is a client is asked by a message of the protocol."""

    def ask(self, live: Kernel, answer: Any, *, close: bool = False) -> Client:
        client = Client(live)

        def on_event(event: dict[str, Any]) -> None:
            asked = client.received[-1]
            if asked["type"] != "ask":
                return
            if close:
                live.client.shell_channel.send(live.client.session.msg("comm_close", {"comm_id": client.comm}))
                return
            for data, session in answer(asked["cell"]):
                client.send(data, session=session)

        client.on_event = on_event
        assert live.run("%%agent\nTidy up.", cell="prompt", on=client).status == "ok"
        return client

    def decided(self, client: Client) -> dict[str, Any]:
        (found,) = [event for event in client.events if event["type"] == "CellDecided"]
        return found

    def test_the_client_is_told_what_the_cell_may_do(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            client = self.ask(live(server), lambda cell: [({"type": "decide", "cell": cell, "decision": "run"}, "")])
        (asked,) = [each for each in client.received if each["type"] == "ask"]
        proposed = next(event for event in client.events if event["type"] == "CellProposed")
        assert (asked["cell"], asked["risk"]) == (proposed["cell"], RISK)
        assert self.decided(client) == {
            "type": "CellDecided",
            "cell": proposed["cell"],
            "decision": "run",
            "risk": RISK,
        }
        assert not data.exists()

    def test_a_cell_can_be_edited_before_it_runs(self, live: Callable[..., Kernel], data: Path) -> None:
        edited = {"type": "decide", "decision": "edited", "code": "kept = True\nkept"}
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            self.ask(it, lambda cell: [(edited | {"cell": cell}, "")])
            assert it.value("kept") == "True"
            assert "The user edited it before it ran:\nkept = True" in said(server)
        assert data.exists()

    def test_only_an_answer_to_this_question_by_this_client_counts(
        self, live: Callable[..., Kernel], data: Path
    ) -> None:
        def answers(cell: str) -> list[tuple[Any, str]]:
            run = {"type": "decide", "cell": cell, "decision": "run"}
            return [
                (run, "another tab"),
                (run | {"cell": "another"}, ""),
                ({"type": "decide"}, ""),
                ([], ""),
                (run | {"decision": "rejected", "reason": "Mine."}, ""),
                (run, ""),
            ]

        with ScriptedServer(REPLIES) as server:
            client = self.ask(live(server), answers)
        assert self.decided(client)["reason"] == "Mine."
        assert data.exists()

    @pytest.mark.parametrize("change", [{"decision": "perhaps"}, {"decision": None}, {"always": 3}, {"code": ["x"]}])
    def test_an_answer_that_makes_no_sense_is_a_no(
        self, live: Callable[..., Kernel], data: Path, change: dict[str, Any]
    ) -> None:
        answer = {"type": "decide", "decision": "run", **change}
        with ScriptedServer(REPLIES) as server:
            client = self.ask(live(server), lambda cell: [(answer | {"cell": cell}, "")])
        assert (self.decided(client)["decision"], self.decided(client)["by"]) == ("rejected", "setting")
        assert data.exists()

    def test_a_client_that_goes_away_leaves_a_no(self, live: Callable[..., Kernel], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            it = live(server)
            self.ask(it, None, close=True)
            assert "the settings rejected it" in said(server)
        assert data.exists()


def spawned(folder: Path, server: ScriptedServer, *arguments: str, **variables: str) -> Any:
    """Start Python on a terminal."""
    env = environment(
        server.base_url, CODEACT_APPROVAL="", IPYTHONDIR=str(folder / ".ipython"), TERM="dumb", **variables
    )
    return pexpect.spawn(
        sys.executable, list(arguments), env=env, cwd=str(folder), encoding="utf-8", timeout=60, dimensions=(60, 160)
    )


class TestTerminal:
    """An interactive IPython."""

    @pytest.fixture
    def terminal(self, data: Path) -> Iterator[Callable[[ScriptedServer], Any]]:
        started: list[Any] = []

        def start(server: ScriptedServer) -> Any:
            options = ("--no-banner", "--simple-prompt", "--colors=nocolor")
            process = spawned(data.parent, server, "-m", "IPython", *options)
            started.append(process)
            process.expect_exact("In [1]: ")
            process.sendline(LOAD)
            process.expect_exact("In [2]: ")
            for line in ("%%agent", "Tidy up.", "", ""):
                process.sendline(line)
            process.expect_exact("In [?]: import os")
            process.expect_exact("...: os.remove('data.csv')")
            process.expect_exact(QUESTION)
            process.expect_exact("or say why not: ")
            return process

        yield start
        for process in started:
            process.close(force=True)

    def test_a_yes_runs_the_cell_which_is_not_shown_twice(
        self, terminal: Callable[[ScriptedServer], Any], data: Path
    ) -> None:
        with ScriptedServer(REPLIES) as server:
            process = terminal(server)
            process.sendline("y")
            process.expect_exact("In [4]: behind = 1")
            assert "os.remove" not in process.before
            assert "[data.csv (deleted" in process.before
            process.expect_exact("Answered")
        assert not data.exists()

    def test_a_no_is_told_with_its_reason(self, terminal: Callable[[ScriptedServer], Any], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            process = terminal(server)
            process.sendline("Keep it.")
            process.expect_exact("[Not run]")
            process.expect_exact("Answered")
            assert "Go on as the user says: Keep it." in said(server)
        assert data.exists()

    def test_ctrl_c_on_the_question_stops_the_turn(self, terminal: Callable[[ScriptedServer], Any], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            process = terminal(server)
            process.sendintr()
            process.expect_exact("Stopped")
            process.expect_exact("KeyboardInterrupt: the turn was stopped")
            process.sendline("'alive'")
            process.expect_exact("Out[3]: 'alive'")
        assert (len(server.requests), data.exists()) == (1, True)

    def test_the_end_of_the_input_is_a_no(self, terminal: Callable[[ScriptedServer], Any], data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            process = terminal(server)
            process.sendeof()
            process.expect_exact("[Not run")
            process.expect_exact("Answered")
            process.sendline("'alive'")
            process.expect_exact("'alive'")
        assert data.exists()


def without_notes(rows: list[Any]) -> list[str]:
    """Give the sources of all cells but those that say that a cell was not run."""
    return [cell.source for cell in rows if not cell.source.startswith("**Not run**")]


class TestRun:
    """``codeact run``."""

    @pytest.fixture
    def notebook(self, data: Path) -> Path:
        return write(data.with_name("in.ipynb"), LOAD, "%%agent\nTidy up.", "'after'")

    def asked(self, notebook: Path, server: ScriptedServer, *arguments: str) -> Any:
        process = spawned(notebook.parent, server, "-m", "codeact_magic.cli", "run", str(notebook), *arguments)
        process.expect_exact("os.remove('data.csv')")
        process.expect_exact(QUESTION)
        process.expect_exact("or say why not: ")
        return process

    def status(self, process: Any) -> int:
        process.expect(pexpect.EOF)
        process.close()
        return int(process.exitstatus)

    def test_a_yes_runs_the_cell(self, notebook: Path, data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            process = self.asked(notebook, server)
            process.sendline("y")
            assert self.status(process) == 0
        rows = cells(notebook)
        sources = [LOAD, "%%agent\nTidy up.", "I tidy up.", DELETES, "behind = 1", "Done.", "'after'"]
        assert [cell.source for cell in rows] == sources
        assert not data.exists()
        (record,) = records_in(rows)
        assert decisions(record) == [CellDecided(cell=rows[3].id, decision="run", risk=RISK)]

    @pytest.mark.parametrize(("answer", "reason"), [("Keep it.", "Keep it."), ("", ""), ("\x04", "")])
    def test_a_no_takes_the_cell_out_of_the_notebook(
        self, notebook: Path, data: Path, answer: str, reason: str
    ) -> None:
        with ScriptedServer(REPLIES) as server:
            process = self.asked(notebook, server)
            process.send(answer if answer == "\x04" else f"{answer}\n")
            process.expect_exact("not run")
            assert self.status(process) == 0
            assert "the user rejected it" in said(server)
            assert reason in said(server)
        rows = cells(notebook)
        assert without_notes(rows) == [LOAD, "%%agent\nTidy up.", "I tidy up.", "Done.", "'after'"]
        (note,) = [cell for cell in rows if cell.source.startswith("**Not run**, rejected by you")]
        assert note.cell_type == "markdown"
        assert "os.remove" in note.source
        assert data.exists()
        (record,) = records_in(rows)
        (decided,) = decisions(record)
        assert (decided.decision, decided.risk, decided.by, decided.reason) == ("rejected", RISK, "user", reason)

    def test_always_is_asked_once(self, notebook: Path, data: Path) -> None:
        data.with_name("b.csv").touch()
        with ScriptedServer([REPLIES[0], block("import os\nos.remove('b.csv')"), "Done."]) as server:
            process = self.asked(notebook, server)
            process.sendline("a")
            assert self.status(process) == 0
        assert not data.with_name("b.csv").exists()
        (record,) = records_in(cells(notebook))
        assert [(each.decision, each.always) for each in decisions(record)] == [("run", True), ("run", False)]

    def test_ctrl_c_on_the_question_stops_with_130(self, notebook: Path, data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            process = self.asked(notebook, server)
            process.sendintr()
            assert self.status(process) == 130
            assert "Traceback" not in process.before
        rows = cells(notebook)
        assert [cell.source for cell in rows] == [LOAD, "%%agent\nTidy up.", "I tidy up.", "'after'"]
        assert data.exists()
        assert rows[-1].execution_count is None
        (record,) = records_in(rows)
        assert record.events[-1].reason == "stopped"  # type: ignore[union-attr]

    def test_what_was_typed_before_the_question_is_no_answer(self, notebook: Path, data: Path) -> None:
        slow = ScriptedReply(REPLIES[0], pause=0.1)
        with ScriptedServer([slow, "Done."]) as server:
            process = spawned(data.parent, server, "-m", "codeact_magic.cli", "run", str(notebook))
            process.expect_exact("Tidy up.")
            process.sendline("y")
            process.expect_exact("or say why not: ")
            process.sendline("n")
            assert self.status(process) == 0
        assert data.exists()

    def test_an_answered_prompt_with_a_rejected_cell_is_not_asked_again(self, notebook: Path, data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            codeact("run", notebook, base_url=server.base_url, CODEACT_APPROVAL="")
        before = [cell.source for cell in cells(notebook)]
        status, printed, err = codeact("run", notebook, CODEACT_APPROVAL="")
        assert status == 0, printed + err
        assert "1 answered prompt was not asked again" in printed
        assert [cell.source for cell in cells(notebook)] == before

    def test_two_questions_are_two_answers(self, notebook: Path, data: Path) -> None:
        with ScriptedServer([block(DELETES), block(DELETES), "Done."]) as server:
            process = self.asked(notebook, server)
            process.sendline("not yet")
            process.expect_exact(QUESTION)
            process.expect_exact("or say why not: ")
            process.sendline("y")
            assert self.status(process) == 0
        assert not data.exists()

    def test_without_a_terminal_it_is_refused_and_told(self, notebook: Path, data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            status, printed, err = codeact("run", notebook, base_url=server.base_url, CODEACT_APPROVAL="")
            assert "the settings rejected it, as nobody can be asked here" in said(server)
        assert (status, data.exists()) == (0, True), printed + err
        assert f"It may {RISK}." in printed
        assert "--yes" in printed
        rows = cells(notebook)
        assert without_notes(rows) == [LOAD, "%%agent\nTidy up.", "I tidy up.", "Done.", "'after'"]
        (record,) = records_in(rows)
        assert [(each.decision, each.by) for each in decisions(record)] == [("rejected", "setting")]

    @pytest.mark.parametrize("options", [["--yes"], ["-y"], ["--approval", "auto"]])
    def test_all_can_be_allowed(self, notebook: Path, data: Path, options: list[str]) -> None:
        with ScriptedServer(REPLIES) as server:
            status = codeact("run", notebook, *options, base_url=server.base_url, CODEACT_APPROVAL="ask")[0]
        assert (status, data.exists()) == (0, False)
        (record,) = records_in(cells(notebook))
        assert [(each.decision, each.by) for each in decisions(record)] == [("run", "setting")]

    def test_two_modes_are_wrong_usage(self, notebook: Path) -> None:
        assert codeact("run", notebook, "-y", "--approval", "ask")[0] == 2

    def test_an_unknown_mode_is_wrong_usage(self, notebook: Path) -> None:
        status, _, err = codeact("run", notebook, "--approval", "never")
        assert (status, "--approval" in err) == (2, True)

    def test_a_run_whose_output_nobody_sees_asks_nobody(self, notebook: Path, data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            command = f"{sys.executable} -m codeact_magic.cli run {notebook} > {data.parent / 'log'}"
            process = pexpect.spawn(
                "/bin/sh", ["-c", command], env=environment(server.base_url, CODEACT_APPROVAL=""), timeout=60
            )
            assert self.status(process) == 0
        assert data.exists()

    def test_other_frontends_without_input_are_refused_too(self, notebook: Path, data: Path) -> None:
        with ScriptedServer(REPLIES) as server:
            env = environment(server.base_url, CODEACT_APPROVAL="")
            output, status = pexpect.run(
                f"{sys.executable} -m jupyter execute {notebook} --inplace", env=env, timeout=60, withexitstatus=True
            )
        assert status == 0, output
        assert data.exists()
        assert "rejected by the settings" in cells(notebook)[1].outputs[0].data["text/html"]


class TestReplay:
    """A record with decisions is replayed: what was rejected stays so, what was allowed is asked about again."""

    def recorded(self, folder: Path, *options: str) -> Path:
        (folder / "data.csv").touch()
        notebook = write(folder / "in.ipynb", LOAD, "%%agent\nTidy up.")
        with ScriptedServer([block(DELETES), block("6 * 7"), "Done."]) as server:
            status = codeact("run", notebook, *options, base_url=server.base_url, CODEACT_APPROVAL="")[0]
        assert status == 0
        (folder / "data.csv").touch()
        return notebook

    def replay(self, notebook: Path, *options: str) -> tuple[int, str]:
        out = notebook.with_name("out.ipynb")
        arguments = ("run", notebook, "--again", "--model", "recorded", "-o", out, *options)
        status, printed, err = codeact(*arguments, CODEACT_APPROVAL="")
        return status, " ".join((printed + err).split())

    @pytest.mark.parametrize("options", [(), ("--yes",)])
    def test_what_was_rejected_stays_so(self, tmp_path: Path, options: tuple[str, ...]) -> None:
        notebook = self.recorded(tmp_path)
        status, printed = self.replay(notebook, *options)
        assert (status, (tmp_path / "data.csv").exists()) == (0, True), printed
        (old,), (new,) = records_in(cells(notebook)), records_in(cells(tmp_path / "out.ipynb"))
        assert decisions(new)[0].decision == "rejected"
        assert decisions(new)[0].reason == decisions(old)[0].reason

    def test_what_was_allowed_needs_the_users_word_again(self, tmp_path: Path) -> None:
        notebook = self.recorded(tmp_path, "--yes")
        status, printed = self.replay(notebook)
        assert (status, (tmp_path / "data.csv").exists()) == (1, True)
        assert "The record ran this cell. Allow its cells with --yes, or with approval = auto." in printed
        status, printed = self.replay(notebook, "--yes")
        assert (status, (tmp_path / "data.csv").exists()) == (0, False), printed

    def test_a_stranger_cannot_allow_what_his_notebook_holds(self, tmp_path: Path) -> None:
        notebook = self.recorded(tmp_path, "--yes")
        nb = nbformat.read(notebook, as_version=4)
        for event in nb.cells[1].metadata.codeact.record.events:
            if event.type == "CellDecided":
                event.update({"by": "user", "always": True})
        nbformat.write(nb, notebook)
        assert self.replay(notebook)[0] == 1
        assert (tmp_path / "data.csv").exists()
