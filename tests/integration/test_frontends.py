"""The same notebook in ``codeact run``, plain ``jupyter execute`` and an IPython terminal: nothing is lost in any."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from codeact_magic.testing import ScriptedReply, ScriptedServer
from tests.notebooks import LOAD, block, cells, codeact, environment, write

REPLIES = [
    "I look at it.\n" + block("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\nprint('printed')\ndf"),
    block("import os\n_ = os.system('echo from-fd')\n!echo from-shell"),
    block("df['b'].sum()"),
    "The column is `a`.\n" + block("import matplotlib.pyplot as plt\nplt.plot(df['a']);"),
    block("import asyncio\nawait asyncio.sleep(0.01)\nh = display('shown', display_id=True)\nh.update('updated')"),
    "The sum is **3**.",
]
SHOWN = ["printed", "   a\n0  1\n1  2", "from-fd", "from-shell", "KeyError", "updated", "3"]


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    return write(tmp_path / "in.ipynb", "before = 1", LOAD, "%%agent\nSum the column.", "df['a'].sum() + before")


def observations(server: ScriptedServer) -> list[Any]:
    """What the model was told of each cell; timings aside, the same wherever it ran."""
    return [request.body["messages"][-1]["content"] for request in server.requests[1:]]


def told(server: ScriptedServer) -> str:
    texts = []
    for content in observations(server):
        texts += [content] if isinstance(content, str) else [part.get("text", "<picture>") for part in content]
    return "\n".join(texts)


def test_codeact_run(notebook: Path) -> None:
    with ScriptedServer(REPLIES) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
    outputs = str([cell.get("outputs") for cell in cells(notebook)])
    for text in ("printed", "from-fd", "from-shell", "KeyError", "updated", "image/png"):
        assert text in outputs
    assert [cell.source for cell in cells(notebook)][-2:] == ["The sum is **3**.", "df['a'].sum() + before"]
    for text in SHOWN:
        assert text in told(server)
    assert "<picture>" in told(server)


def test_jupyter_execute(notebook: Path) -> None:
    with ScriptedServer(REPLIES) as server:
        command = [sys.executable, "-m", "jupyter", "execute", str(notebook), "--inplace"]
        done = subprocess.run(
            command, env=environment(server.base_url), capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    _, _, prompt, last = cells(notebook)
    (shown,) = prompt.outputs
    for text in ("printed", "from-fd", "from-shell", "KeyError", "updated", "The sum is", "data:image/png", "<table"):
        assert text in shown.data["text/html"], text
    assert "The sum is **3**." in shown.data["text/markdown"]
    for text in SHOWN:
        assert text in shown.data["text/plain"]
        assert text in told(server)
    assert "<picture>" in told(server)
    record = shown.data["application/vnd.codeact.turn+json"]
    assert record["events"][-1]["reason"] == "answered"
    assert last.outputs[0].data["text/plain"] == "np.int64(4)"
    assert prompt.execution_count == 3


def test_ipython_runs_the_notebook(notebook: Path) -> None:
    with ScriptedServer(REPLIES) as server:
        env = environment(server.base_url, IPYTHONDIR=str(notebook.parent))
        command = [sys.executable, "-m", "IPython", "--colors=nocolor", str(notebook)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    for text in [*SHOWN, "The sum is **3**.", "Figure size", "In [", "Answered · 5 steps"]:
        assert text in done.stdout, done.stdout + done.stderr
    for text in SHOWN:
        assert text in told(server)
    assert "<picture>" in told(server)


def test_the_model_is_told_the_same_everywhere(notebook: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    with ScriptedServer(REPLIES) as server:
        codeact("run", notebook, "-o", out, base_url=server.base_url)
    recorded = f"recorded:{out}"
    command = [sys.executable, "-m", "jupyter", "execute", str(notebook), "--inplace"]
    env = environment(CODEACT_MODEL=recorded, IPYTHONDIR=str(tmp_path))
    execute = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert execute.returncode == 0, execute.stderr
    command = [sys.executable, "-m", "IPython", "--colors=nocolor", str(notebook)]
    terminal = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert "Answered · 5 steps" in terminal.stdout, terminal.stdout + terminal.stderr
    assert "departs" not in terminal.stdout + execute.stderr


@pytest.fixture
def terminal(tmp_path: Path) -> Any:
    """An interactive IPython with the extension loaded; ``terminal(server)`` starts it."""
    started: list[Any] = []

    def start(server: ScriptedServer) -> Any:
        env = environment(server.base_url, IPYTHONDIR=str(tmp_path), TERM="dumb")
        arguments = ["-m", "IPython", "--no-banner", "--simple-prompt", "--colors=nocolor"]
        process = pexpect.spawn(sys.executable, arguments, env=env, encoding="utf-8", timeout=30, dimensions=(60, 200))
        started.append(process)
        process.expect_exact("In [1]: ")
        process.sendline(LOAD)
        process.expect_exact("In [2]: ")
        return process

    yield start
    for process in started:
        process.close(force=True)


def prompt(process: Any, text: str) -> None:
    for line in ("%%agent", text, "", ""):
        process.sendline(line)


def test_a_terminal_shows_a_turn_as_cells(terminal: Any) -> None:
    with ScriptedServer(["I add.\n" + block("x = 40\nx + 2") + block("print('more')"), "It is **42**."]) as server:
        process = terminal(server)
        prompt(process, "What is 40 + 2?")
        for text in (
            "I add.",
            "In [3]: x = 40",
            "...: x + 2",
            "Out[3]: 42",
            "In [4]: print('more')",
            "more",
            "It is **42**.",
            "Answered",
            "In [5]: ",
        ):
            process.expect_exact(text)
        process.sendline("x, In[2].splitlines()[-1], In[3]")
        process.expect_exact("Out[5]: (40, 'What is 40 + 2?', 'x = 40\\nx + 2')")


@pytest.mark.parametrize(
    "code",
    [
        "import time; print('go'); time.sleep(30)",
        "import asyncio; print('go')\nawait asyncio.sleep(30)",
        "!echo go; sleep 30",
    ],
)
def test_ctrl_c_in_a_terminal_stops_the_cell_and_the_turn(terminal: Any, code: str) -> None:
    with ScriptedServer([block(code), "Never."]) as server:
        process = terminal(server)
        prompt(process, "Wait.")
        process.expect(r"\ngo\s")
        process.sendintr()
        process.expect_exact("Stopped")
        process.expect_exact("KeyboardInterrupt: the turn was stopped")
        process.sendline("'alive'")
        process.expect_exact("'alive'")
    assert len(server.requests) == 1


def test_ctrl_c_in_a_terminal_stops_the_model(terminal: Any) -> None:
    with ScriptedServer([ScriptedReply("word\n" * 500, chunk=5, pause=0.05)]) as server:
        process = terminal(server)
        prompt(process, "Talk.")
        process.expect_exact("word")
        process.sendintr()
        process.expect_exact("Stopped")
        process.sendline("'alive'")
        process.expect_exact("'alive'")


def test_exit_in_a_generated_cell_does_not_end_the_terminal(terminal: Any) -> None:
    with ScriptedServer([block("exit()"), block("quit()"), "I stay."]) as server:
        process = terminal(server)
        prompt(process, "Leave.")
        process.expect_exact("cannot end the kernel")
        process.expect_exact("I stay.")
        process.sendline("'alive'")
        process.expect_exact("'alive'")


def test_input_in_a_terminal(terminal: Any) -> None:
    with ScriptedServer([block("name = input('name? ')\nprint('hello', name)"), "Greeted."]) as server:
        process = terminal(server)
        prompt(process, "Greet me.")
        process.expect_exact("name? ")
        process.sendline("Ada")
        process.expect_exact("hello Ada")
        process.expect_exact("Answered")
        assert "hello Ada" in told(server)


def test_a_flood_in_a_terminal_is_bounded_for_the_model(terminal: Any) -> None:
    with ScriptedServer([block("for _ in range(200): print('x' * 10_000)"), "Much."]) as server:
        process = terminal(server)
        prompt(process, "Print.")
        process.expect_exact("Answered", timeout=60)
        assert "left out" in told(server)
        assert len(told(server)) < 20_000
