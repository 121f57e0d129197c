"""Code that breaks its surroundings: the turn goes on, and so does the kernel."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.testing import ScriptedServer
from tests.kernels import Kernel, kernel, said
from tests.notebooks import block

CASES = {
    "stdout replaced": "import io, sys\nsys.stdout = io.StringIO()\nprint('unseen')",
    "stdout redirected": "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()): print('unseen')",
    "descriptor closed": "import os\nkept = os.dup(1)\nos.close(1)",
    "descriptor moved": "import os\nkept = os.dup(1)\nf = os.open('out.txt', os.O_WRONLY | os.O_CREAT)\nos.dup2(f, 1)",
    "print deleted": "import builtins\nkept = builtins.print\ndel builtins.print",
    "every task cancelled": "import asyncio\nfor t in asyncio.all_tasks(): t.add_done_callback(lambda _: None)",
    "hostile repr": "class R:\n    def __repr__(self): raise ValueError('no repr')\nR()",
    "huge repr": "class R:\n    def __repr__(self): return 'x' * 50_000_000\nR()",
    "hostile html": "class R:\n    def _repr_html_(self): return '</div></style><script>x</script>' * 3\nR()",
    "bundle of objects": "class R:\n    def _repr_mimebundle_(self, **k): return {'text/plain': object(), 'text/html': 3}\nR()",
    "display of objects": "from IPython.display import display\ndisplay({'application/json': object()}, raw=True)",
    "a thousand displays": "for i in range(1500): display(i)",
    "a flood of updates": "h = display(0, display_id=True)\nfor i in range(1500): h.update(i)",
    "a flood of frames": "from IPython.display import clear_output\nfor i in range(500):\n    clear_output(wait=True)\n    display('x' * 10_000)",
    "terminal codes": "print('\\x1b[31mred\\x1b]0;title\\x07\\x1b[2J\\u202e rtl \\x00')",
    "a cycle": "a = []\na.append(a)\na",
    "base exceptions": "raise GeneratorExit('x')",
    "cancelled error": "import asyncio\nraise asyncio.CancelledError('x')",
    "keyboard interrupt": "raise KeyboardInterrupt('x')",
    "async generator exit": "import asyncio\nawait asyncio.sleep(0)\nraise GeneratorExit('x')",
    "next input": "get_ipython().set_next_input('surprise')",
    "verbose tracebacks": "get_ipython().run_line_magic('xmode', 'Verbose')\n1 / 0",
    "signal handler": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)",
    "names reset": "get_ipython().run_line_magic('reset', '-f')",
    "working directory": "import os\nos.chdir('/')",
    "unloaded": "get_ipython().run_line_magic('unload_ext', 'codeact_magic')",
    "fork": "import os\npid = os.fork()\nif pid == 0:\n    print('child'); os._exit(0)\n_ = os.waitpid(pid, 0)",
    "processes": "import multiprocessing as mp\np = mp.get_context('fork').Process(target=print, args=('from-child',)); p.start(); p.join()",
    "background": "import subprocess\np = subprocess.Popen(['sleep', '3'])",
}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Kernel]:
    with kernel(tmp_path) as live:
        yield live


@pytest.mark.parametrize("name", CASES)
def test_the_turn_and_the_kernel_go_on(live: Kernel, name: str) -> None:
    with ScriptedServer([block(CASES[name]), "Survived."]) as server:
        ran = live.run(f"%%agent --base-url {server.base_url}\nGo.", timeout=50)
    assert ran.status == "ok", ran.error
    assert len(server.requests) == 2
    assert len(said(server)) < 40_000
    assert "Survived." in ran.display("text/markdown")
    live.run(
        "if 'kept' in globals(): import os, builtins; os.dup2(kept, 1) if isinstance(kept, int) else setattr(builtins, 'print', kept)"
    )
    if name == "unloaded":
        live.run("%load_ext codeact_magic")
    with ScriptedServer([block("6 * 7"), "Again."]) as server:
        again = live.run(f"%%agent --base-url {server.base_url}\nOnce more.")
    assert again.status == "ok", again.error
    assert "42" in said(server)
    assert live.value("1 + 1") == "2"


def test_what_forked_children_print_is_seen(live: Kernel) -> None:
    code = (
        "import multiprocessing as mp, os\nctx = mp.get_context('fork')\n"
        "p = ctx.Process(target=print, args=('from a process',)); p.start(); p.join()\n"
        "pid = os.fork()\nif pid == 0:\n    print('from a fork', flush=True); os._exit(0)\n_ = os.waitpid(pid, 0)"
    )
    with ScriptedServer([block(code), "Seen."]) as server:
        ran = live.run(f"%%agent --base-url {server.base_url}\nGo.")
    for text in ("from a process", "from a fork"):
        assert text in said(server)
        assert text in ran.text


@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "signal.SIG_IGN", "lambda *_: None"])
def test_a_handler_that_a_cell_has_set_does_not_outlive_it(live: Kernel, handler: str) -> None:
    replies = [
        block(f"import signal\nsignal.signal(signal.SIGINT, {handler})"),
        block("import time\nprint('begun', flush=True)\ntime.sleep(30)"),
        "Never.",
    ]
    sent: list[bool] = []

    def interrupt(message: dict[str, Any]) -> None:
        if not sent and "begun</pre>" in str(message["content"].get("data", {})):
            sent.append(True)
            live.interrupt()

    with ScriptedServer(replies) as server:
        ran = live.run(f"%%agent --base-url {server.base_url}\nGo.", on=interrupt, timeout=25)
    assert "Stopped" in ran.text
    assert live.value("1 + 1") == "2"


@pytest.mark.parametrize("code", ["ran = True", "import asyncio\nran = True\nawait asyncio.sleep(5)"])
def test_an_interrupt_before_a_cell_begins_keeps_it_from_running(live: Kernel, code: str) -> None:
    live.run(
        "import os, signal\nfrom codeact_magic.executors import live as n\nreal = n.folding\n"
        "def folding(code):\n    n.folding = real\n    os.kill(os.getpid(), signal.SIGINT)\n    return real(code)"
    )
    live.run("import codeact_magic.agent")
    replies = ["\n" + block(code), "Never."]
    with ScriptedServer(replies) as server:
        arm = "async def _context(self):\n    n.folding = folding\n    return ''\n"
        live.run(arm + "from codeact_magic.executors.live import LiveExecutor\nLiveExecutor.context = _context")
        ran = live.run(f"%%agent --base-url {server.base_url}\nGo.", timeout=25)
    assert ran.status == "error"
    assert "Stopped" in ran.text
    assert live.value("'ran' in globals()") == "False"
    assert len(server.requests) == 1


def test_tasks_and_threads_print_after_the_turn(live: Kernel) -> None:
    code = (
        "import asyncio, threading, time\n"
        "async def late():\n    await asyncio.sleep(1)\n    print('late task')\n"
        "task = asyncio.create_task(late())\n"
        "threading.Thread(target=lambda: (time.sleep(1), print('late thread'))).start()"
    )
    seen: list[str] = []
    with ScriptedServer([block(code), "Started."]) as server:
        live.run(f"%%agent --base-url {server.base_url}\nGo.")
    live.run(
        "import asyncio; await asyncio.sleep(2)",
        on=lambda message: seen.append(str(message["content"].get("text", ""))),
    )
    assert "late task" in "".join(seen)
    assert "late thread" in "".join(seen)


def test_a_stubborn_async_cell_is_given_up(live: Kernel) -> None:
    code = (
        "import asyncio, time\nuntil = time.monotonic() + 6\nprint('begun', flush=True)\n"
        "while time.monotonic() < until:\n    try: await asyncio.sleep(10)\n    except asyncio.CancelledError: pass"
    )
    with ScriptedServer([block(code), "Never."]) as server:
        request = live.send(f"%%agent --base-url {server.base_url}\nGo.")
        while not server.requests:
            time.sleep(0.01)
        for _ in range(3):
            time.sleep(1)
            live.interrupt()
        ran = live.wait(request, timeout=30)
    assert "Stopped" in ran.text
    assert live.value("1 + 1") == "2"
