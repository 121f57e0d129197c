"""``%%agent`` in a real kernel against a real HTTP server."""

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.testing import Fault, ScriptedReply, ScriptedServer
from tests.kernels import KEY, Kernel, kernel, said
from tests.notebooks import LOAD, block, codeact, write

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def script(*replies: Any) -> list[Any]:
    return [block(reply) if isinstance(reply, str) else reply for reply in replies]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("kernel")) as live:
        yield live


@pytest.fixture
def live(shared: Kernel) -> Kernel:
    shared.run("%reset -f")
    shared.run("%agent reset")
    return shared


def ask(
    live: Kernel, replies: list[Any], prompt: str = "Go.", options: str = "", **hooks: Any
) -> tuple[Any, ScriptedServer]:
    """Run one prompt cell against a server of its own."""
    with ScriptedServer(replies) as server:
        return live.run(f"%%agent --base-url {server.base_url} {options}\n{prompt}", **hooks), server


def test_a_turn_runs_code_and_answers(live: Kernel) -> None:
    ran, server = ask(live, ["I add.\n" + block("x = 40 + 2\nx"), "It is **42**."], "What is 40 + 2?")
    assert ran.status == "ok"
    assert live.value("x") == "42"
    assert "Out" not in said(server, 0)
    assert said(server, 0).endswith("What is 40 + 2?\n") or said(server, 0) == "What is 40 + 2?"
    assert "42" in said(server)
    assert "New names: x (int)" in said(server)
    assert "<strong>42</strong>" in ran.display("text/html")
    assert "It is **42**." in ran.display("text/markdown")
    assert "Answered · 1 step" in ran.text


def test_one_display_is_updated_in_place(live: Kernel) -> None:
    ran, _ = ask(live, [block("import time\nfor i in range(30): print(i); time.sleep(.01)"), "Done."])
    kinds = [m["msg_type"] for m in ran.messages]
    assert kinds.count("display_data") == 1
    assert len({m["content"]["transient"]["display_id"] for m in ran.messages if "display_data" in m["msg_type"]}) == 1


def test_updates_keep_within_twenty_a_second(live: Kernel) -> None:
    began = time.monotonic()
    ran, _ = ask(live, [ScriptedReply("word " * 400, chunk=2, pause=0.002)])
    updates = sum(m["msg_type"] == "update_display_data" for m in ran.messages)
    assert 2 <= updates <= 20 * (time.monotonic() - began) + 2


def test_outputs_show_while_a_cell_blocks(live: Kernel) -> None:
    seen: list[str] = []

    def watch(message: dict[str, Any]) -> None:
        if message["msg_type"] == "update_display_data":
            seen.append(message["content"]["data"].get("text/html", ""))

    code = "import time\nprint('early', flush=True)\ntime.sleep(1)\nprint('late')"
    ask(live, [block(code), "Done."], on=watch)
    assert any('ca-out">early</pre>' in html for html in seen)


CASES = {
    "result": ("6 * 7", "42"),
    "stream": ("print('to out')", "to out"),
    "stderr": ("import sys; print('to err', file=sys.stderr)", "to err"),
    "await": ("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'", "awaited"),
    "magic": ("%who_ls", "["),
    "shell": ("!echo from-$((40+2))-shell", "from-42-shell"),
    "bash": ("%%bash\necho from-bash", "from-bash"),
    "fd": ("import os\n_ = os.system('echo from-fd; echo err-fd >&2')", "err-fd"),
    "subprocess": ("import subprocess\n_ = subprocess.run(['echo', 'from-child'])", "from-child"),
    "thread": (
        "import threading\nt = threading.Thread(target=lambda: print('from-thread')); t.start(); t.join()",
        "from-thread",
    ),
    "task": ("import asyncio\nasync def f(): print('from-task')\nawait asyncio.create_task(f())", "from-task"),
    "update": ("h = display('first', display_id=True)\nh.update('second')", "second"),
    "cleared": ("from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('kept')", "kept"),
    "help": ("import math\nmath.sqrt?", "square root"),
    "error": ("print('before')\n1 / 0", "ZeroDivisionError"),
    "syntax": ("x = = 1", "SyntaxError"),
    "exit": ("exit()", "cannot end the kernel"),
    "sys.exit": ("import sys; sys.exit(3)", "SystemExit"),
    "null bytes": ("x = '\0'", "null bytes"),
    "invalid utf-8": (
        "import os\n_ = os.write(1, b'bad \\xff\\xfe bytes\\n')\nprint('\\udcff')",
        "bad \ufffd\ufffd bytes",
    ),
    "nested loop": (
        "import asyncio\nasync def f(): pass\nasyncio.run(f())",
        "cannot be called from a running event loop",
    ),
    "nested agent": ("%%agent\nDo it for me", "cannot start a turn"),
    "nested agent by call": ("get_ipython().run_cell_magic('agent', '', 'Do it')", "cannot start a turn"),
    "nested continue": ("%agent continue", "cannot start a turn"),
    "recursion": ("def f(): return f()\nf()", "RecursionError"),
    "widget": ("import ipywidgets\nipywidgets.IntSlider(3)", "IntSlider(value=3"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_model_sees_what_a_cell_shows(live: Kernel, name: str) -> None:
    code, expected = CASES[name]
    ran, server = ask(live, [block(code), "Seen."])
    assert ran.status == "ok", ran.text
    assert expected in said(server)
    assert live.value("1 + 1") == "2"
    if name == "cleared":
        assert "gone" not in said(server)
    if name == "widget":
        assert any("widget-view" in str(o.get("data")) for o in ran.outputs)


def test_figures_go_to_the_model_as_pictures(live: Kernel) -> None:
    ran, server = ask(live, [block("import matplotlib.pyplot as plt\nplt.plot([1, 2]);"), "A line."])
    content = server.requests[-1].body["messages"][-1]["content"]
    pictures = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert len(pictures) == 1
    assert pictures[0].startswith("data:image/png;base64,iVBOR")
    assert "iVBOR" not in said(server)
    assert "data:image/png;base64,iVBOR" in ran.display("text/html")


def test_dataframes_go_to_the_model_as_text(live: Kernel) -> None:
    ran, server = ask(live, [block("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndf"), "Two rows."])
    assert "   a\n0  1\n1  2" in said(server)
    assert "<table" not in said(server)
    assert "DataFrame 2x1" in said(server)
    assert "<table" in ran.display("text/html")


def test_input_is_asked_in_the_prompt_cell(live: Kernel) -> None:
    live.input = "Ada"
    _, server = ask(live, [block("name = input('name? ')\nprint('hello', name)"), "Greeted."])
    assert "hello Ada" in said(server)


def test_blocks_after_a_failed_one_are_not_run(live: Kernel) -> None:
    _, server = ask(live, [block("a = 1") + block("b = 1 / 0") + block("c = 3") + block("d = 4"), "Sorry."])
    assert "The 2 blocks after it were not run." in said(server)
    assert live.value("'a' in globals(), 'c' in globals()") == "(True, False)"


def test_counts_and_history_stay_right_under_run_all(tmp_path: Path) -> None:
    replies = [*script("a = 1\na", "1 / 0", "b = 2\nb"), "Done."]
    with ScriptedServer(replies) as server, kernel(tmp_path) as live:
        requests = [
            live.send("first = 1"),
            live.send(f"%%agent --base-url {server.base_url}\nCount."),
            live.send("last = 1\nlast"),
        ]
        first, turn, last = [live.wait(request) for request in requests]
        start = first.count
        assert turn.count == start + 1
        assert last.count == start + 5
        shown = f"In[{start + 1}].splitlines()[-1], In[{start + 2}], Out[{start + 2}], Out[{start + 4}]"
        assert live.value(shown) == "('Count.', 'a = 1\\na', 1, 2)"
        assert live.value("[n for _, n, _ in get_ipython().history_manager.get_range()][-7:]") == str(
            list(range(start + 1, start + 8))
        )


INTERRUPTED = {
    "sync": "import time\nprint('started', flush=True)\ntime.sleep(30)",
    "loop": "print('started', flush=True)\nwhile True: pass",
    "await": "import asyncio\nprint('started', flush=True)\nawait asyncio.sleep(30)",
    "sleep in await": "import asyncio, time\nawait asyncio.sleep(0)\nprint('started', flush=True)\ntime.sleep(30)",
    "join": "import threading, time\nt = threading.Thread(target=time.sleep, args=(30,), daemon=True); t.start()\nprint('started', flush=True)\nt.join()",
    "subprocess": "import subprocess\nprint('started', flush=True)\nsubprocess.run(['sleep', '30'])",
    "shell": "print('started', flush=True)\n!sleep 30",
    "swallowed": "import time\nprint('started', flush=True)\ntry: time.sleep(30)\nexcept KeyboardInterrupt: pass",
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupt_stops_the_cell_and_the_turn(live: Kernel, name: str) -> None:
    sent: list[float] = []

    def interrupt(message: dict[str, Any]) -> None:
        if not sent and 'ca-out">started' in str(message["content"].get("data", {}).get("text/html", "")):
            sent.append(time.monotonic())
            live.interrupt()

    with ScriptedServer([block(INTERRUPTED[name]), "Never asked."]) as server:
        request = live.send(f"%%agent --base-url {server.base_url}\nWait.")
        queued = live.send("queued = True")
        ran = live.wait(request, timeout=25, on=interrupt)
        aborted = live.wait(queued)
    assert ran.status == "error"
    assert "KeyboardInterrupt: the turn was stopped" in ran.error
    assert len(ran.error.splitlines()) == 1
    assert aborted.status == "aborted"
    assert len(server.requests) == 1
    assert "Stopped · 1 step" in ran.text
    assert live.value("1 + 1") == "2"


def test_an_interrupt_stops_the_model(live: Kernel) -> None:
    sent: list[bool] = []

    def interrupt(message: dict[str, Any]) -> None:
        if not sent and "word" in str(message["content"].get("data", {}).get("text/html", "")):
            sent.append(True)
            live.interrupt()

    ran, _ = ask(live, [ScriptedReply("word " * 1000, chunk=5, pause=0.05)], on=interrupt)
    assert ran.status == "error"
    assert "Stopped" in ran.text


def test_a_stopped_turn_can_be_continued(live: Kernel) -> None:
    with ScriptedServer([block("import time\nx = 1\ntime.sleep(30)"), "Continued."]) as server:
        request = live.send(f"%%agent --base-url {server.base_url}\nWait.")
        time.sleep(0)
        while not server.requests:
            time.sleep(0.01)
        time.sleep(0.7)
        live.interrupt()
        assert live.wait(request).status == "error"
        ran = live.run(f"%agent continue --base-url {server.base_url}")
    assert ran.status == "ok"
    assert "Continued." in ran.text
    assert "was stopped" in json.dumps(server.requests[-1].body["messages"])


def test_continue_asks_the_model_that_was_asked(live: Kernel) -> None:
    with ScriptedServer([*script("1"), "One."]) as server:
        live.run(f"%%agent --base-url {server.base_url} --max-steps 1 --model mine\nCount.")
        more = live.run("%agent continue")
    assert more.status == "ok", more.error
    assert [request.body["model"] for request in server.requests] == ["mine", "mine"]


def test_an_answered_notebook_is_known_from_its_file(live: Kernel, tmp_path: Path) -> None:
    notebook = write(tmp_path / "in.ipynb", LOAD, "%%agent\nGo.")
    with ScriptedServer([block("x = 1"), "One."]) as server:
        assert codeact("run", notebook, base_url=server.base_url)[0] == 0
    live.run(f"__session__ = {str(notebook)!r}")
    kept = live.run("%%agent\nGo.", cell="cell-1")
    assert "Answered before" in kept.text
    with ScriptedServer(["Asked."]) as server:
        asked = live.run(f"%%agent --base-url {server.base_url}\nGo elsewhere.", cell="cell-1")
    live.run("del __session__")
    assert "Asked." in asked.text


def test_the_limit_of_a_cell_interrupts_it_and_the_turn_goes_on(live: Kernel) -> None:
    ran, server = ask(
        live,
        [
            block("import time\nkept = 1\ntime.sleep(30)"),
            block("import asyncio\nawait asyncio.sleep(30)"),
            block("kept"),
            "Slow.",
        ],
        options="--timeout 0.5",
    )
    assert ran.status == "ok"
    assert "time limit" in said(server, 1)
    assert "time limit" in said(server, 2)
    assert "Block 1" in said(server, 3)
    assert live.value("kept") == "1"


def test_max_steps_ends_the_turn_and_continue_goes_on(live: Kernel) -> None:
    with ScriptedServer([*script("1", "2", "3"), "Three."]) as server:
        ran = live.run(f"%%agent --base-url {server.base_url} --max-steps 2\nCount.")
        assert ran.status == "ok"
        assert "2 steps are taken (max_steps)" in ran.text
        more = live.run(f"%agent continue --base-url {server.base_url}")
    assert "Three." in more.text


def test_the_prompt_may_begin_on_the_first_line(live: Kernel) -> None:
    _, server = ask(live, ["Fine."], "Tell me.", options="what's up?")
    assert said(server, 0).strip() == "what's up?\nTell me."


def test_names_in_the_prompt_are_filled(live: Kernel) -> None:
    live.run("class A: b = 'deep'\nname, a = 'Ada', A()")
    ran, server = ask(live, ["Ok."], "Greet {name} and {a.b}, not {unknown}, {a.missing}, {{name}} or {1 + 1}.")
    assert said(server, 0).strip().endswith("Greet Ada and deep, not {unknown}, {a.missing}, {{name}} or {1 + 1}.")
    start = ran.display("application/vnd.codeact.turn+json")["events"][0]
    assert start["prompt"].startswith("Greet {name}")
    assert start["filled"].startswith("Greet Ada")


@pytest.mark.parametrize(
    ("before", "cell"),
    [
        ("", "%%time\n%%agent --base-url {url}\nGo."),
        ("%autoawait off", "%%agent --base-url {url}\nGo."),
        ("", "get_ipython().run_cell_magic('agent', '--base-url {url}', 'Go.')"),
        (
            "",
            "import asyncio\nawait asyncio.sleep(0)\nget_ipython().run_cell_magic('agent', '--base-url {url}', 'Go.')",
        ),
    ],
    ids=["%%time", "%autoawait off", "call", "call in async cell"],
)
def test_it_works_where_it_cannot_be_awaited(live: Kernel, before: str, cell: str) -> None:
    live.run(before)
    try:
        with ScriptedServer([block("y = 5\ny"), "Five."]) as server:
            ran = live.run(cell.format(url=server.base_url))
            after = live.run("y")
    finally:
        live.run("%autoawait asyncio")
    assert ran.status == "ok", ran.error
    assert "Five." in ran.text
    assert after.result == "5"
    assert after.count == ran.count + 2
    if "%%time" in cell:
        assert "Wall time" in ran.text


def test_a_driven_turn_can_be_interrupted(live: Kernel) -> None:
    with ScriptedServer([block("import time\ntime.sleep(30)"), "Never."]) as server:
        request = live.send(f"%%time\n%%agent --base-url {server.base_url}\nWait.")
        while not server.requests:
            time.sleep(0.01)
        time.sleep(0.7)
        live.interrupt()
        ran = live.wait(request, timeout=20)
    assert len(server.requests) == 1
    assert "Stopped" in ran.text
    assert live.value("1 + 1") == "2"


def test_every_request_begins_with_the_one_before(live: Kernel) -> None:
    with ScriptedServer([*script("a = 1", "1 / 0", "print('x' * 100000)"), "Done.", block("a"), "Again."]) as server:
        for prompt in ("One.", "Two."):
            live.run("user = 1")
            live.run(f"%%agent --base-url {server.base_url}\n{prompt}")
    prompts = [request.body["messages"] for request in server.requests]
    assert len(prompts) == 6
    for before, after in pairwise(prompts):
        assert after[: len(before)] == before


def test_a_flood_is_shown_up_to_a_cap_and_said(live: Kernel) -> None:
    code = "for _ in range(100): print('x' * 1_000_000)"
    ran, server = ask(live, [block(code), "Much."])
    assert ran.status == "ok"
    assert "characters left out" in said(server)
    assert len(json.dumps(server.requests[-1].body)) < 40_000
    assert sum(len(json.dumps(m["content"])) for m in ran.messages) < 5_000_000
    assert "characters left out" in ran.text


def test_keys_reach_neither_the_model_nor_the_notebook(live: Kernel) -> None:
    code = "import os\nprint(dict(os.environ)['OPENAI_API_KEY'])\nos.environ['OPENAI_API_KEY']"
    ran, server = ask(live, [block(code), "A key."], "My key is {__import__} and " + KEY)
    assert KEY not in json.dumps([request.body for request in server.requests])
    assert KEY not in json.dumps([m["content"] for m in ran.messages if m["msg_type"] != "execute_input"])
    assert "[redacted]" in said(server)


REFUSALS = {
    "empty prompt": ("%%agent\n \n", "The prompt is empty"),
    "unknown option": ("%%agent --colour red\nGo.", "unrecognized arguments: --colour"),
    "bad number": ("%%agent --max-steps many\nGo.", "invalid int value"),
    "no steps": ("%%agent --max-steps 0\nGo.", "--max-steps takes a whole number of at least 1, not 0"),
    "negative timeout": ("%%agent --timeout -1\nGo.", "--timeout takes a number of at least 0.001, not -1.0"),
    "no recording named": ("%%agent --model recorded\nGo.", "Name the notebook"),
    "missing recording": ("%%agent --model recorded:none.ipynb\nGo.", "Cannot read the recorded notebook none.ipynb"),
    "unreachable": ("%%agent --base-url http://127.0.0.1:9/v1\nGo.", "http://127.0.0.1:9/v1"),
    "unknown command": ("%agent frobnicate", "%agent takes status | model"),
    "nothing to continue": ("%agent reset\n%agent continue", "no turn to continue"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_bad_input_gets_one_line(live: Kernel, name: str) -> None:
    cell, expected = REFUSALS[name]
    live.run("%config CodeAct.retries = 0")
    ran = live.run(cell)
    live.run("%config CodeAct.retries = 5")
    said = ran.error or ran.text  # IPython prints usage errors and shows them as no error
    assert expected in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) <= 2
    assert live.value("1 + 1") == "2"


def test_an_unknown_model_is_one_sentence(live: Kernel) -> None:
    ran, _ = ask(live, [Fault(status=404)], options="--model nonsense")
    assert ran.status == "error"
    assert "nonsense" in ran.error
    assert len(ran.error.splitlines()) == 1


def test_retries_are_shown_as_they_happen(live: Kernel) -> None:
    seen: list[str] = []
    replies = [
        Fault(status=429, retry_after=0.3),
        Fault(status=500),
        ScriptedReply(block("z = 1"), fault=Fault(cut_after=12)),
        block("z = 2"),
        "Done.",
    ]
    ran, _ = ask(live, replies, on=lambda m: seen.append(str(m["content"].get("data", {}).get("text/html", ""))))
    assert ran.status == "ok", ran.error
    assert any("Asking again in 0.3 s" in html for html in seen)
    assert any("broke off and was discarded" in html or "Asking again" in html for html in seen)
    assert "3 retries" in ran.text
    assert live.value("z") == "2"
    kinds = [event["type"] for event in ran.display("application/vnd.codeact.turn+json")["events"]]
    assert kinds.count("ModelRetried") == 3
    assert kinds.count("ReplyDiscarded") == 1
    assert kinds.count("TurnFinished") == 1


@pytest.mark.parametrize("reply", [" \n\t", ""], ids=["whitespace", "empty"])
def test_a_blank_reply_is_told_and_asked_again(live: Kernel, reply: str) -> None:
    ran, server = ask(live, [reply, "Now."])
    assert ran.status == "ok"
    assert "Your reply was empty" in said(server)


def test_a_reply_of_a_megabyte_is_bounded(live: Kernel) -> None:
    ran, _ = ask(live, [ScriptedReply("many words " * 95_000, chunk=50_000)])
    assert ran.status == "ok"
    assert len(ran.display("text/html")) < 2_000_000


def test_an_unclosed_block_is_not_run(live: Kernel) -> None:
    _, server = ask(live, ["```python\nunsafe = 1\n", "Sorry."])
    assert "was not closed, so it was not run" in said(server)
    assert live.value("'unsafe' in globals()") == "False"


def test_the_same_failure_three_times_ends_the_turn(live: Kernel) -> None:
    ran, server = ask(live, script("1 / 0", "1 / 0", "1 / 0", "1 / 0"))
    assert len(server.requests) == 3
    assert "the same code failed in the same way 3 times" in ran.text


def test_commands_show_the_state(live: Kernel) -> None:
    ask(live, [block("1"), "One."], "Count to one.")
    assert "gpt-" in live.run("%agent").text
    assert "Count to one." in live.run("%agent history").text
    assert "all" in live.run("%agent usage").text
    assert "%%agent" in live.run("%agent help").text
    assert "model  other" in live.run("%agent model other").text
    assert "model  other" in live.run("%agent model").text
    live.run("%agent model gpt-5.5")
    assert "1 turn" in live.run("%agent").text
    assert "new thread" in live.run("%agent reset").text
    assert "No turn yet" in live.run("%agent history").text


def test_a_plain_display_shows_everything_natively(live: Kernel) -> None:
    live.run("%config CodeAct.display = 'plain'")
    code = "print('printed')\nimport os; os.system('echo from-fd')\n{'a': 1}"
    ran, server = ask(live, ["I look.\n" + block(code), block("1 / 0"), "**Done.**"])
    live.run("%config CodeAct.display = 'auto'")
    for text in (
        "I look.",
        "print('printed')",
        "printed\n",
        "from-fd",
        "{'a': 1}",
        "ZeroDivisionError",
        "**Done.**",
        "Answered",
    ):
        assert text in ran.text, text
    assert "from-fd" in said(server, 1)
    assert not any("text/html" in str(output) for output in ran.outputs)


def test_unloading_takes_everything_back(tmp_path: Path) -> None:
    with ScriptedServer([block("1"), "One."]) as server, kernel(tmp_path, server.base_url) as live:
        state = (
            "ip = get_ipython()\n"
            "(len(ip.input_transformer_manager.line_transforms), 'agent' in ip.magics_manager.magics['cell'],"
            " 'send' in vars(ip.kernel.session), sorted(k for k in vars(ip) if k in ('ask_exit', 'system')))"
        )
        live.run("%%agent\nGo.")
        assert live.value(state) == "(2, True, True, [])"
        live.run("%unload_ext codeact_magic")
        assert live.value(state) == "(1, False, False, [])"
        assert "not found" in live.run("%%agent\nGo.").text
        live.run("%load_ext codeact_magic")
        assert live.value(state) == "(2, True, False, [])"


def test_loading_imports_no_network_client(tmp_path: Path) -> None:
    with kernel(tmp_path) as live:
        heavy = "[m for m in ('openai', 'httpx', 'httpx2', 'pydantic', 'nbformat', 'nbclient', 'rich') if m in __import__('sys').modules]"
        assert live.value(heavy) == "[]"
