"""Every row of the table of faults, in the notebook's kernel and in a kernel of its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from codeact_magic import Limits, Session
from codeact_magic.events import CellFinished, Event, ModelRetried, TurnFinished, TurnStarted, decode
from codeact_magic.executors.kernel import KernelExecutor
from codeact_magic.models.openai import OpenAIModel, OpenAIOptions
from codeact_magic.record import MIME, Record, read, record_from, records_in
from codeact_magic.testing import ScriptedServer
from codeact_magic.testing.conformance import run
from tests.faults import KEEP, README, ROWS, Row, with_table
from tests.kernels import Kernel, kernel, said
from tests.notebooks import LOAD, cells, codeact, write

IDS = [row.fault for row in ROWS]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("live")) as live:
        yield live


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_in_the_notebooks_kernel(row: Row, shared: Kernel, tmp_path: Path) -> None:
    with ScriptedServer([KEEP, *row.script]) as server:
        if row.notebook.state is None:
            record = in_a_notebook(row, server, tmp_path)
        else:
            record, kept = in_a_prompt_cell(row, server, shared)
            assert kept == "42", f"the state is lost: {kept}"
    check(row, "notebook", record.events, server)


@pytest.mark.parametrize("row", ROWS, ids=IDS)
async def test_in_a_kernel_of_its_own(row: Row, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    settings = {"silence": 120.0, "retries": 5, "reply_timeout": 900.0, "timeout": None, **row.settings}
    with ScriptedServer([KEEP, *row.script]) as server:
        model = OpenAIModel(OpenAIOptions(model="any", base_url=server.base_url, timeout=settings["silence"]))
        executor = KernelExecutor(cwd=tmp_path, limit=settings["timeout"])
        limits = Limits(retries=settings["retries"], backoff=0.05, reply_seconds=settings["reply_timeout"])
        session = Session(model, executor, limits=limits, approval="auto")
        try:
            events = [event async for event in session.ask("Go.")]
            kept = (await run(executor, "print(globals().get('kept'))")).printed.strip()
        finally:
            await session.aclose()
    assert kept == ("42" if row.gives("own").state else "None")
    check(row, "own", read(record_from(events, outputs=True)).events, server)


def in_a_prompt_cell(row: Row, server: ScriptedServer, live: Kernel) -> tuple[Record, str]:
    """Ask in a prompt cell of a live kernel; give the record that it shows, and the value of ``kept``."""
    live.run("%agent reset")
    live.run("%reset -f")
    defaults = {"silence": 120.0, "retries": 5, "reply_timeout": 900.0, "timeout": None}
    for name, value in {**defaults, **row.settings}.items():
        assert live.run(f"%config CodeAct.{name} = {value!r}").status == "ok"
    ran = live.run(f"%%agent --base-url {server.base_url}\nGo.", stdin="input()" not in row.fault)
    assert (ran.status == "ok") == (row.notebook.reason != "failed"), ran.text
    return read(ran.display(MIME)), live.run("print(globals().get('kept'))").text.strip()


def in_a_notebook(row: Row, server: ScriptedServer, folder: Path) -> Record:
    """Ask with ``codeact run``; give the record in the notebook."""
    source, target = write(folder / "in.ipynb", LOAD, "mine = 1\nmine", "%%agent\nGo."), folder / "out.ipynb"
    status, out, err = codeact("run", source, "-o", target, base_url=server.base_url)
    assert status == 1, out + err
    assert "The kernel died" in err
    document = cells(target)
    assert document[1].outputs[0]["data"]["text/plain"] == "1"
    return records_in(document)[0]


def check(row: Row, executor: str, events: Sequence[Event], server: ScriptedServer) -> None:
    """Check a turn's record against its row."""
    gives, last = row.gives(executor), events[-1]
    assert isinstance(events[0], TurnStarted)
    assert isinstance(last, TurnFinished)
    assert last.reason == gives.reason, last
    assert gives.detail in last.detail, last
    assert sum(isinstance(event, TurnFinished) for event in events) == 1
    assert sum(isinstance(event, ModelRetried) for event in events) == row.retries
    if gives.told:
        assert gives.told in everything_said(server)
    if gives.state is False:
        assert any("names are gone" in event.detail for event in events if isinstance(event, CellFinished))
    assert all(decode(encoded) for encoded in record_from(events, outputs=True)["events"])


def everything_said(server: ScriptedServer) -> str:
    return "\n".join(said(server, number) for number in range(len(server.requests)))


def test_the_readme_has_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert with_table(text) == text, "run `python -m tests.faults`"
