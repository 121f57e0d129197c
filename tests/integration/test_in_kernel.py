"""``%%in_kernel``, and turns whose cells run in another kernel; a second kernel, bash, is one that pip installs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.executors.kernel import KernelExecutor
from codeact_magic.testing import ScriptedServer
from codeact_magic.testing.conformance import run
from tests.kernels import Kernel, kernel, said
from tests.notebooks import LOAD, block, cells, codeact, write


@pytest.fixture(scope="module")
def jupyter_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place where the bash kernel is installed, by its own command."""
    folder = tmp_path_factory.mktemp("jupyter")
    command = [sys.executable, "-m", "bash_kernel.install", "--prefix", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "share" / "jupyter"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, jupyter_path: Path) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("cwd"), JUPYTER_PATH=str(jupyter_path)) as live:
        yield live


@pytest.fixture
def live(shared: Kernel) -> Kernel:
    shared.run("%agent reset")
    return shared


PYTHON = {
    "result": ("6 * 7", "42"),
    "stream": ("print('to out')", "to out"),
    "stderr": ("import sys; print('to err', file=sys.stderr)", "to err"),
    "await": ("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'", "awaited"),
    "shell": ("!echo from-$((40+2))-shell", "from-42-shell"),
    "nested magic": ("%%capture out\nprint(1)", ""),
    "update": ("h = display('first', display_id=True)\nh.update('second')", "second"),
    "cleared": ("from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('kept')", "kept"),
    "widget": ("import ipywidgets\nipywidgets.IntSlider(3)", "IntSlider(value=3"),
}


@pytest.mark.parametrize("name", PYTHON)
def test_outputs_are_shown_here(live: Kernel, name: str) -> None:
    code, shown = PYTHON[name]
    ran = live.run(f"%%in_kernel python3\n{code}")
    assert ran.status == "ok", ran.error
    assert shown in ran.text
    assert "gone" not in ran.text


def test_a_dataframe_and_a_figure_are_rich(live: Kernel) -> None:
    ran = live.run("%%in_kernel python3\nimport pandas as pd\npd.DataFrame({'a': [1]})")
    assert "<table" in ran.display("text/html")
    ran = live.run("%%in_kernel python3\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])")
    assert ran.display("image/png")


def test_the_state_is_the_other_kernels(live: Kernel) -> None:
    live.run("mine = 1")
    live.run("%%in_kernel python3\ntheirs = 2")
    assert "NameError" in live.run("theirs").error
    assert "NameError" in live.run("%%in_kernel python3\nmine").error
    assert "2" in live.run("%%in_kernel python3\ntheirs").text


def test_an_error_is_the_other_kernels_own(live: Kernel) -> None:
    ran = live.run("%%in_kernel python3\nprint('before')\n1 / 0")
    assert ran.status == "error"
    assert ran.reply["content"]["ename"] == "ZeroDivisionError"
    assert ran.reply["content"]["evalue"] == "division by zero"
    assert "before" in ran.text
    assert "----> 2 1 / 0" in ran.error
    assert "bridge.py" not in ran.error


def test_input_is_asked_for_here(live: Kernel) -> None:
    live.input = "Ada"
    assert "Hello Ada" in live.run("%%in_kernel python3\nprint('Hello', input('Name? '))").text


def test_an_interrupt_ends_the_cell_and_keeps_the_kernel(live: Kernel) -> None:
    live.run("%%in_kernel python3\nkept = 5")
    sent = live.send("%%in_kernel python3\nimport time\nprint('on', flush=True)\ntime.sleep(50)")
    ran = live.wait(sent, on=lambda m: live.interrupt() if m["content"].get("text") == "on\n" else None)
    assert ran.status == "error"
    assert ran.reply["content"]["ename"] == "RemoteInterrupt"
    assert "bridge.py" not in ran.error
    assert "5" in live.run("%%in_kernel python3\nkept").text


def test_an_interrupt_while_the_kernel_starts_keeps_the_cell_from_running(live: Kernel, tmp_path: Path) -> None:
    live.run("%in_kernel python3 --stop")
    live.run("import threading, os, signal\nthreading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()")
    ran = live.run(f"%%in_kernel python3\nopen({str(tmp_path / 'ran')!r}, 'w')")
    assert ran.status == "error"
    assert "KeyboardInterrupt" in ran.error
    assert not (tmp_path / "ran").exists()
    assert "42" in live.run("%%in_kernel python3\n6 * 7").text


def test_two_interrupts_in_a_row_do_not_leave_the_cell_running(live: Kernel) -> None:
    sent = live.send("%%in_kernel python3\nimport time\nprint('on', flush=True)\ntime.sleep(50)")

    def twice(message: dict[str, Any]) -> None:
        if message["content"].get("text") == "on\n":
            live.interrupt()
            live.interrupt()

    assert live.wait(sent, on=twice).status == "error"
    assert "42" in live.run("%%in_kernel python3\n6 * 7", timeout=20).text


def test_messages_of_wrong_shape_are_passed_over(live: Kernel) -> None:
    code = (
        "kernel = get_ipython().kernel\n"
        "for content in ({'data': {}, 'metadata': ['x']}, {'data': 3}, {'output_type': 'evil', 'data': {}, 'metadata': {}}):\n"
        "    kernel.session.send(kernel.iopub_socket, 'display_data', content, parent=kernel.get_parent())\n"
        "print('went on')"
    )
    assert "went on" in live.run(f"%%in_kernel python3\n{code}").text
    assert "42" in live.run("%%in_kernel python3\n6 * 7").text


def test_only_one_cell_at_a_time(live: Kernel) -> None:
    live.run("import threading\nfrom IPython import get_ipython\nfailed = []")
    code = (
        "def run():\n    try: get_ipython().run_cell_magic('in_kernel', 'python3', 'import time; time.sleep(0.5)')\n"
        "    except Exception as error: failed.append(str(error))\n"
        "threads = [threading.Thread(target=run) for _ in range(3)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()\nlen(failed)"
    )
    assert live.run(code).result == "2"
    assert "Another cell" in live.value("failed[0]")


def test_a_folder_that_is_not_there_is_named_and_forgotten(live: Kernel) -> None:
    live.run("%in_kernel python3 --stop")
    assert "There is no folder /nope" in live.run("%%in_kernel python3 --cwd /nope\n1").error
    assert "42" in live.run("%%in_kernel python3\n6 * 7").text
    assert "end it first, %in_kernel python3 --stop" in live.run("%%in_kernel python3 --cwd /\n1").error


def test_a_limit_that_code_ignores_ends_the_other_kernel_only(live: Kernel) -> None:
    live.run("mine = 1")
    live.run("%%in_kernel python3\ntheirs = 1")
    code = "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
    ran = live.run(f"%%in_kernel python3 --timeout 0.5\n{code}")
    assert "longer than the limit of 0.5 s" in ran.error
    assert "names are gone" in ran.error
    assert live.value("mine") == "1"
    assert "NameError" in live.run("%%in_kernel python3\ntheirs").error


def test_a_death_is_told_and_the_next_cell_starts_anew(live: Kernel) -> None:
    ran = live.run("%%in_kernel python3\nimport os\nos._exit(3)")
    assert "exited with status 3" in ran.error
    assert "42" in live.run("%%in_kernel python3\n6 * 7").text


def test_a_missing_kernel_is_named_with_what_installs_it(live: Kernel) -> None:
    ran = live.run("%%in_kernel ir\n1")
    assert "IRkernel::installspec()" in ran.error
    assert "Installed: bash, python3" in ran.error
    ran = live.run("%%agent --kernel pyton3\nGo.")
    assert "Did you mean 'python3'?" in ran.error


@pytest.mark.parametrize("line", ["%%in_kernel\n1", "%%in_kernel --what x\n1", "%%in_kernel python3 --timeout 0\n1"])
def test_a_wrong_line_is_a_usage_error(live: Kernel, line: str) -> None:
    assert "UsageError" in live.run(line).text + live.run(line).error


def test_kernels_are_listed_and_ended(live: Kernel) -> None:
    live.run("%%in_kernel python3\nx = 1")
    assert "python3  python, in use" in live.run("%in_kernel").text
    live.run("%in_kernel python3 --stop")
    assert "in use" not in live.run("%in_kernel").text.replace("bash     bash, in use", "")
    assert "NameError" in live.run("%%in_kernel python3\nx").error


def test_it_runs_inside_other_magics(live: Kernel) -> None:
    ran = live.run("%%time\nget_ipython().run_cell_magic('in_kernel', 'python3', '6 * 7')")
    assert "42" in ran.text
    assert "Wall time" in ran.text


def test_bash_keeps_its_state(live: Kernel) -> None:
    live.run("%%in_kernel bash\ngreeting=hello")
    assert "hello world" in live.run("%%in_kernel bash\necho $greeting world").text


def test_a_turn_runs_in_bash(live: Kernel) -> None:
    replies = [
        "I look.\n" + block("count=$((40 + 2))\necho $count > made.txt", "bash"),
        block("echo $count", "bash"),
        "42.",
    ]
    with ScriptedServer(replies) as server:
        ran = live.run(f"%%agent --kernel bash --base-url {server.base_url}\nWhat is 40 + 2?")
    assert ran.status == "ok", ran.error
    assert "kernel 'bash'" in said(server, 0)
    assert "fence its blocks as ```bash" in said(server, 0)
    assert "made.txt (new, 3 bytes, text/plain)" in said(server, 1)
    assert "42" in said(server, 2)


def test_a_turn_runs_in_another_python_kernel(live: Kernel) -> None:
    live.run("secret_name = 1")
    live.run("%%in_kernel python3\nknown = [1, 2]")
    replies = [block("new = len(known)\nnew"), block("1 / 0"), "Two."]
    with ScriptedServer(replies) as server:
        ran = live.run(f"%%agent --kernel python3 --base-url {server.base_url}\nHow many?")
    assert ran.status == "ok", ran.error
    assert "known (list of 2)" in said(server, 0)
    assert "secret_name" not in said(server, 0)
    assert "New names: new (int)" in said(server, 1)
    assert "ZeroDivisionError: division by zero" in said(server, 2)
    assert "NameError" in live.run("new").error


def test_a_turns_limit_holds_in_the_other_kernel(live: Kernel) -> None:
    code = "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
    with ScriptedServer([block(code), "Too long."]) as server:
        ran = live.run(f"%%agent --kernel python3 --timeout 0.5 --base-url {server.base_url}\nGo.")
    assert ran.status == "ok", ran.error
    assert "was interrupted at its time limit. It ran longer than the limit of 0.5 s and did not end" in said(server)
    assert "its names are gone" in said(server)


def test_a_notebook_runs_again_where_it_ran(tmp_path: Path, jupyter_path: Path) -> None:
    source, target, again = write(tmp_path / "in.ipynb", LOAD), tmp_path / "out.ipynb", tmp_path / "again.ipynb"
    replies = [block("x=7", "bash"), block("echo $((x * 6))", "bash"), "It is 42."]
    path = {"JUPYTER_PATH": str(jupyter_path)}
    with ScriptedServer(replies) as server:
        arguments = (source, "-o", target, "--prompt", "Six times seven?", "--kernel", "bash")
        status, out, err = codeact("run", *arguments, base_url=server.base_url, **path)
    assert status == 0, out + err
    made = [cell for cell in cells(target) if cell.metadata.get("codeact", {}).get("role") == "cell"]
    assert [cell.source for cell in made] == ["%%in_kernel bash\nx=7", "%%in_kernel bash\necho $((x * 6))"]
    assert "42" in made[1].outputs[0].text
    status, out, err = codeact("run", target, "-o", again, **path)
    assert status == 0, out + err
    assert "42" in next(cell for cell in cells(again) if cell.source.endswith("x * 6))")).outputs[0].text


@pytest.mark.filterwarnings("ignore:Passing unrecognized arguments")  # its kernelspec has a field of its own
async def test_the_executor_drives_bash(tmp_path: Path, jupyter_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(jupyter_path))
    executor = KernelExecutor("bash", cwd=tmp_path, env={"GREETING": "hi"}, limit=2)
    try:
        assert executor.language == "bash"
        assert (await run(executor, "name=Ada; echo $GREETING; pwd")).printed.split() == ["hi", str(tmp_path)]
        ran = await run(executor, "sleep 50")
        assert ran.done.status == "timeout"
        assert (await run(executor, "echo $name")).printed.strip() in ("Ada", "")
        ran = await run(executor, "echo x > made.txt")
        assert [file.path for file in ran.done.changes.files] == ["made.txt"]
    finally:
        await executor.aclose()


async def test_an_interrupt_at_the_end_of_a_cell_keeps_the_kernel(tmp_path: Path) -> None:
    executor = KernelExecutor(cwd=tmp_path)
    try:
        await run(executor, "import time\nkept = 42")
        for number in range(25):
            asyncio.get_running_loop().call_later(0.045 + number * 0.0006, executor.interrupt)
            ran = await run(executor, "time.sleep(0.05)\nprint('e')")
            assert "gone" not in ran.done.detail
        assert (await run(executor, "print(kept)")).printed == "42\n"
    finally:
        await executor.aclose()


def test_an_executor_can_be_used_on_another_loop(tmp_path: Path) -> None:
    executor = KernelExecutor(cwd=tmp_path)

    async def printed(code: str, *, close: bool = False) -> str:
        try:
            return (await run(executor, code)).printed
        finally:
            if close:
                await executor.aclose()

    assert asyncio.run(printed("print(1)")) == "1\n"
    assert asyncio.run(printed("print(2)", close=True)) == "2\n"


OWNER = """
import asyncio, sys
from codeact_magic.executors.kernel import KernelExecutor
from codeact_magic.testing.conformance import run
async def main():
    executor = KernelExecutor(sys.argv[1], env={"OWNED": sys.argv[2]})
    await run(executor, "echo" if sys.argv[1] == "bash" else "1")
    print("ready", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["python3", "bash"])
def test_a_kernel_ends_with_its_owner(name: str, how: signal.Signals, jupyter_path: Path, tmp_path: Path) -> None:
    token = f"owned-by-{tmp_path.name}-{os.getpid()}"
    env = {**os.environ, "JUPYTER_PATH": str(jupyter_path)}
    command = [sys.executable, "-c", OWNER, name, token]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        assert owned(token)
        owner.send_signal(how)
        owner.wait(timeout=30)
        deadline = time.monotonic() + 30
        while owned(token):
            assert time.monotonic() < deadline, f"still there: {owned(token)}"
            time.sleep(0.1)


def owned(token: str) -> list[str]:
    """Give the processes whose environment holds a token."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"OWNED={token}" in place.read_bytes().decode(errors="replace"):
                found.append(place.parent.name)
        except OSError:
            continue
    return found
