"""kill -9 at random points of ``codeact run``: what was shown is on disk, and the next run goes on.

A sample kills the kernel or ``codeact run`` itself, some time after a line of its output or within a reply's stream.
"""

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import nbformat
import pytest

from codeact_magic.events import TurnFinished
from codeact_magic.record import Record, records_in
from codeact_magic.testing import ScriptedReply, ScriptedServer
from tests.integration.test_in_kernel import owned
from tests.notebooks import LOAD, block, cells, codeact, start

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kills by Linux's process descriptors")

Victim = Literal["kernel", "run"]
CHUNKS, SAMPLES, AT_ONCE = 5, 10, 3

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
COUNT = "print('counted')\n41 + 1"
DRAW = f"display({{'image/png': '{PIXEL}', 'text/plain': 'a figure'}}, raw=True)"
DIVIDE = "1 / 0"
TICK = "import time\nfor tick in range(4):\n    print('tick', tick, flush=True)\n    time.sleep(0.04)"
MADE = {
    COUNT: ["counted\n", "42"],
    DRAW: ["a figure"],
    DIVIDE: ["ZeroDivisionError"],
    TICK: ["tick 0\ntick 1\ntick 2\ntick 3\n"],
}
"""The generated cells, and what they show."""
NARRATED = ["First I count.", "Then I draw.", "That should do.", "Now I divide.", "Better I wait."]
ANSWER = "It is done."
REPLIES = [
    f"{NARRATED[0]}\n{block(COUNT)}{NARRATED[1]}\n{block(DRAW)}{NARRATED[2]}\n",
    f"{NARRATED[3]}\n{block(DIVIDE)}This is never reached.\n{block('never = 1')}",
    f"{NARRATED[4]}\n{block(TICK)}",
    ANSWER,
]
THINK, STREAM = 0.08, 0.12  # seconds until a reply begins, and until its end

PID, ABOVE, PROMPT = "import os; _ = open('pid', 'w').write(f'{os.getpid()}\\n')", "print('above')", "%%agent\nGo on."
BELOW, LAST = "import time\nprint('below', flush=True)\ntime.sleep(0.1)\n'end'", "print('last')"
MINE = {PID: [], LOAD: [], ABOVE: ["above\n"], PROMPT: [], BELOW: ["below\n", "'end'"], LAST: ["last\n"]}
"""The user's cells, and what they show: before the run, as an earlier session left them, and after it."""
WHOLE = [
    *[PID, LOAD, ABOVE, PROMPT],
    *[NARRATED[0], COUNT, NARRATED[1], DRAW, NARRATED[2], NARRATED[3], DIVIDE, NARRATED[4], TICK, ANSWER],
    *[BELOW, LAST],
]


@dataclass(frozen=True)
class Point:
    """So many seconds after the n-th line of output, or after the n-th request to the model has come."""

    after: Literal["line", "request"]
    number: int
    seconds: float

    @classmethod
    def at_random(cls, chance: random.Random) -> "Point":
        if chance.random() < 0.5:
            return cls("request", chance.randint(1, len(REPLIES)), chance.uniform(0, THINK + STREAM))
        # At once, as what is shown before it is saved is lost only within the few milliseconds that this takes.
        return cls("line", chance.randint(0, 13), chance.choice((0.0, chance.uniform(0, 0.2))))


@dataclass
class Ran:
    """A run that was killed, or whose kernel was; ``noticed`` is how long it went on after that."""

    lines: list[str]
    err: str
    status: int
    killed: bool
    noticed: float


def written(folder: Path) -> Path:
    """A notebook with outputs of an earlier session."""
    nb = nbformat.v4.new_notebook()
    for place, (source, outputs) in enumerate(MINE.items()):
        cell = nbformat.v4.new_code_cell(source, id=f"mine-{place}")
        for text in outputs:
            printed = text.endswith("\n")
            fields: dict[str, Any] = {"name": "stdout", "text": text} if printed else {"data": {"text/plain": text}}
            cell.outputs.append(nbformat.v4.new_output("stream" if printed else "execute_result", **fields))
        nb.cells.append(cell)
    folder.mkdir()
    nbformat.write(nb, folder / "in.ipynb")
    return folder / "in.ipynb"


def paced(text: str) -> ScriptedReply:
    return ScriptedReply(text, think=THINK, chunk=4, pause=STREAM / (len(text) / 4))


def kernel_of(notebook: Path, run: "subprocess.Popen[str]") -> int:
    """Wait for the kernel's first cell, and give a descriptor of its process: a number may be another's by then."""
    told = notebook.with_name("pid")
    while not (told.exists() and told.read_text().endswith("\n")):
        assert run.poll() is None, "the run ended before its first cell"
        time.sleep(0.01)
    return os.pidfd_open(int(told.read_text()))


def run_and_kill(notebook: Path, victim: Victim, point: Point, token: str) -> Ran:
    """Run a notebook, and kill the kernel or the run itself at a point."""
    armed, moment = threading.Event(), [0.0]
    lines: list[str] = []
    requests = iter(range(1, len(REPLIES) + 1))

    def reach(after: str, number: int) -> None:
        if (after, number) == (point.after, point.number):
            moment[0] = time.monotonic() + point.seconds
            armed.set()

    def asked(reply: str) -> Callable[[Any], ScriptedReply]:
        def answer(_: Any) -> ScriptedReply:
            reach("request", next(requests))
            return paced(reply)

        return answer

    def kill() -> None:
        armed.wait()
        time.sleep(max(0.0, moment[0] - time.monotonic()))
        moment[0] = time.monotonic()
        try:
            if victim == "kernel":
                signal.pidfd_send_signal(kernel, signal.SIGKILL)
            else:
                run.kill()
        except ProcessLookupError:
            moment[0] = 0.0

    with (
        ScriptedServer([asked(reply) for reply in REPLIES]) as server,
        start("run", notebook, base_url=server.base_url, OWNED=token) as run,
    ):
        assert run.stdout
        assert run.stderr
        kernel = kernel_of(notebook, run)
        killer = threading.Thread(target=kill)
        killer.start()
        reach("line", 0)
        for line in run.stdout:
            lines.append(line.removesuffix("\n"))
            reach("line", len(lines))
        err, status = run.stderr.read(), run.wait()
        ended = time.monotonic()
        armed.set()
        killer.join()
        os.close(kernel)
    return Ran(lines, err, status, 0 < moment[0] < ended, ended - moment[0])


def shown(cell: Any) -> list[str]:
    """Give what a cell's outputs say."""
    return [out.get("text") or out.get("ename") or out["data"]["text/plain"] for out in cell.get("outputs", ())]


def check_shown(lines: list[str], rows: list[Any], records: list[Record]) -> None:
    """All that the terminal has shown stands in the notebook."""
    sources = [cell.source for cell in rows]
    counted = {cell.execution_count: cell for cell in rows if cell.source in MADE}
    for line in lines:
        if ran := re.fullmatch(r"  \[(\d+)\] (✓|✗ ZeroDivisionError: \S+ \S+ \S+) (.+) \d+\.\d s", line):
            cell = counted[int(ran[1])]
            assert ran[3][:60] == " ".join(cell.source.replace("\n", " ⏎ ").split())[:60]
            assert shown(cell) == MADE[cell.source]
            assert cell.metadata.codeact.status == ("ok" if ran[2] == "✓" else "error")
        elif line.startswith("  "):
            assert line.strip() in sources
        elif line == ANSWER:
            assert sources.count(ANSWER) == 1
        elif line.startswith("Answered"):
            assert records[0].answered
        else:
            assert not line or line.startswith(("%%agent Go on.", "Saved"))


def check_mine(rows: list[Any], victim: Victim) -> None:
    """The user's cells are all there, and what they show; only one that ran in a killed kernel shows less."""
    mine = [cell for cell in rows if cell.id.startswith("mine-")]
    assert [cell.source for cell in mine] == list(MINE)
    less = [cell for cell in mine if cell.source != PROMPT and shown(cell) != MINE[cell.source]]
    assert len(less) <= (victim == "kernel")
    assert all(shown(cell) == MINE[cell.source][: len(cell.outputs)] for cell in less)


def check_records(rows: list[Any], ran: Ran, victim: Victim) -> None:
    """A turn that was cut off is on disk, and has failed for a reason."""
    records = records_in(rows)
    assert len(records) <= 1
    if len(ran.lines) > (1 if victim == "run" else 0):  # the first line is the prompt
        assert records
    for record in records:
        last = record.events[-1]
        assert isinstance(last, TurnFinished)
        if not record.answered:
            assert last.reason == "failed"
            ended = "the kernel died" if victim == "kernel" else "the kernel or the client ended"
            assert last.detail == f"{ended} in mid-turn"


def check_end(ran: Ran, rows: list[Any], victim: Victim) -> None:
    """A run whose kernel was killed says so, unless it had come to its end."""
    if not ran.killed or ran.status == 0:
        assert (ran.status, ran.err) == (0, "")
        assert [cell.source for cell in rows] == WHOLE
    elif victim == "kernel":
        assert ran.status == 1
        assert "The kernel died." in ran.err
        assert "Traceback" not in ran.err
    else:
        assert (ran.status, ran.err) == (-signal.SIGKILL, "")


def check_next_run(notebook: Path, token: str) -> float:
    """The next run goes on to the answer, and leaves nothing else behind; give how long it took."""
    began = time.monotonic()
    with ScriptedServer(REPLIES) as server:
        status, out, err = codeact("run", notebook, base_url=server.base_url, OWNED=token)
    ended = time.monotonic()
    assert status == 0, out + err
    rows = cells(notebook)
    assert [cell.source for cell in rows] == WHOLE
    assert all(shown(cell) == (MADE | MINE).get(cell.source, []) for cell in rows if cell.source != PROMPT)
    assert [record.answered for record in records_in(rows)] == [True]
    assert {path.name for path in notebook.parent.iterdir()} == {"in.ipynb", "pid"}
    return ended - began


def check_no_process_stays(token: str) -> None:
    deadline = time.monotonic() + 60
    while left := owned(token):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def sample(folder: Path, victim: Victim, point: Point) -> tuple[Ran, float]:
    """Run, kill, look, and run again; give the time of a run that nothing happens to, too."""
    notebook, token = written(folder), f"killed-{os.getpid()}-{folder.parent.name}-{folder.name}"
    ran = run_and_kill(notebook, victim, point, token)
    try:
        rows = cells(notebook)
        check_shown(ran.lines, rows, records_in(rows))
        check_mine(rows, victim)
        check_records(rows, ran, victim)
        check_end(ran, rows, victim)
        undisturbed = check_next_run(notebook, token)
        check_no_process_stays(token)
    except Exception as error:
        error.add_note("\n".join([f"{victim} killed: {point}, status {ran.status}", *ran.lines, ran.err]))
        raise
    return ran, undisturbed


@pytest.mark.parametrize("seed", range(CHUNKS), ids="seed={}".format)
@pytest.mark.parametrize("victim", ["kernel", "run"])
def test_nothing_is_lost_and_the_next_run_goes_on(tmp_path: Path, victim: Victim, seed: int) -> None:
    chance = random.Random(seed)
    points = [Point.at_random(chance) for _ in range(SAMPLES)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = list(pool.map(lambda place: sample(tmp_path / str(place), victim, points[place]), range(SAMPLES)))
    if victim == "kernel":
        found = [(ran.noticed, undisturbed) for ran, undisturbed in tried if ran.killed]
        noticed, undisturbed = zip(*found, strict=True)
        assert median(noticed) < median(undisturbed) / 4, "a run whose kernel is killed ends at once"
        assert max(noticed) < median(undisturbed) * 2
