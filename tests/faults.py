"""The table of faults: what goes wrong, and what a turn gives then. ``python -m tests.faults`` writes it to README.md."""

import os
import re
import sys
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

from codeact_magic.events import Reason
from codeact_magic.testing import Fault, ScriptedReply
from tests.notebooks import block

README = Path(__file__).parents[1] / "README.md"
MARK = "<!-- faults: written by python -m tests.faults -->"
KEEP = block("kept = 40 + 2")
"""The first step of every turn, whose name shows at the end whether the state is kept."""

STUBBORN = "import time\nwhile True:\n    try: time.sleep(9)\n    except KeyboardInterrupt: pass"
TABLE = "import pandas as pd\npd.DataFrame({'branch': ['Main', 'West'], 'sales': [1, 2]})"
FIGURE = "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])"
STALLS = ScriptedReply("Some words, and then nothing.", pause=60, chunk=5)
PROXY = "<html><head><title>Bad gateway</title></head><body>The proxy has lost its way</body></html>"


@dataclass(frozen=True)
class Gives:
    """What a turn gives.

    Args:
        text: for the table.
        reason: how it ends.
        detail: is part of the reason that the user is told, where it is not answered.
        told: is part of what the model is told before its next reply.
        state: whether names are kept; None if the kernel ends with the turn.
    """

    text: str
    _: KW_ONLY
    reason: Reason = "answered"
    detail: str = ""
    told: str = ""
    state: bool | None = True

    @property
    def row(self) -> str:
        """The table's cell."""
        ends = "goes on" if self.reason == "answered" else f"ends as {self.reason}"
        state = {True: "state kept", False: "state gone, which is told", None: "kernel gone"}[self.state]
        return f"{self.text}; {ends}, {state}"


@dataclass(frozen=True)
class Row:
    """One fault.

    Args:
        fault: for the table.
        script: what the model replies after the first step.
        notebook: what it gives in the notebook's own kernel.
        _: the rest by name.
        own: what it gives in a kernel of its own; the same by default.
        settings: of the turn, beside the defaults.
        retries: how often the model is asked again.
        shown: is part of what the last cell showed.
    """

    fault: str
    script: tuple[Any, ...]
    notebook: Gives
    _: KW_ONLY
    own: Gives | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    retries: int = 0

    def gives(self, executor: str) -> Gives:
        """What it gives on an executor: ``notebook`` or ``own``."""
        return self.own or self.notebook if executor == "own" else self.notebook


def code(source: str) -> tuple[str, ...]:
    """Give a script that runs code and then answers."""
    return (block(source), "Done.")


def failed(text: str, detail: str) -> Gives:
    """Give the end of a turn that failed, its state kept."""
    return Gives(text, reason="failed", detail=detail)


GONE = "Its names are gone. The next cell starts a new one."
DIED = Gives(
    "`codeact run` notices at once and keeps all that was shown",
    reason="failed",
    detail="the kernel died in mid-turn",
    state=None,
)

CODE = (
    Row(
        "an endless loop under a limit",
        code("while True: pass"),
        Gives(
            "interrupted at the limit", told="was interrupted at its time limit. It ran longer than the limit of 1 s"
        ),
        settings={"timeout": 1.0},
    ),
    Row(
        "a long sleep under a limit",
        code("import time\ntime.sleep(600)"),
        Gives(
            "interrupted at the limit", told="was interrupted at its time limit. It ran longer than the limit of 1 s"
        ),
        settings={"timeout": 1.0},
    ),
    Row(
        "code under a limit that swallows the interrupt once",
        code("import time\ntry: time.sleep(600)\nexcept KeyboardInterrupt: print('swallowed')\ntime.sleep(600)"),
        Gives("interrupted again", told="was interrupted at its time limit"),
        own=Gives("its kernel is ended", told="did not end when it was interrupted", state=False),
        settings={"timeout": 1.0},
    ),
    Row(
        "an exception after prints",
        code("runs = globals().get('runs', 0) + 1\nprint(f'shown before, run {runs}')\n1 / 0"),
        Gives("the prints and the traceback are told, the code ran once", told="shown before, run 1"),
    ),
    Row("endless recursion", code("def f(): return f()\nf()"), Gives("a short traceback", told="RecursionError")),
    Row(
        "top-level `await`",
        code("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'"),
        Gives("runs", told="awaited"),
    ),
    Row("`!cmd`", code("!echo from-$((40+2))-shell"), Gives("runs", told="from-42-shell")),
    Row(
        "`exit()`",
        code("exit()"),
        Gives("refused: the kernel is the user's", told="cannot end the kernel"),
        own=Gives("its kernel has ended", told=f"The code ended it with exit(). {GONE}", state=False),
    ),
    Row("`sys.exit()`", code("import sys\nsys.exit(3)"), Gives("an error like others", told="SystemExit")),
    Row(
        "`os._exit(1)`",
        code("import os\nos._exit(1)"),
        DIED,
        own=Gives("noticed at once", told=f"exited with status 1. {GONE}", state=False),
    ),
    Row(
        "killed when memory runs out",
        code("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
        DIED,
        own=Gives("noticed at once", told=f"as the system does when memory runs out. {GONE}", state=False),
    ),
    Row("`MemoryError`", code("x = bytearray(10**15)"), Gives("an error like others", told="MemoryError")),
    Row(
        "`input()` where nobody can answer",
        code("input('Name? ')"),
        Gives("refused", told="does not support input requests"),
    ),
    Row("a figure", code(FIGURE), Gives("the model sees the picture", told="image_url")),
    Row("a DataFrame as last expression", code(TABLE), Gives("the model reads the table", told="0   Main      1")),
    Row("a syntax error", code("x = = 1"), Gives("an error like others", told="SyntaxError")),
)

MODEL = (
    Row(
        "HTTP 429 with `Retry-After`",
        (Fault(status=429, retry_after=0.05), "Done."),
        Gives("waits as long as it says, asks again"),
        retries=1,
    ),
    Row(
        "HTTP 500, twice",
        (Fault(status=500), Fault(status=500), "Done."),
        Gives("asks again, with growing pauses"),
        retries=2,
    ),
    Row(
        "HTTP 400",
        (Fault(status=400, body='{"error": {"message": "no such field"}}'),),
        failed("the endpoint's own words", "answered HTTP 400: no such field"),
    ),
    Row(
        "HTTP 401", (Fault(status=401),), failed("names the key's variable", "did not accept the key in OPENAI_API_KEY")
    ),
    Row(
        "a context that is too long",
        (Fault(status=400, code="context_length_exceeded"),),
        failed("said as such", "The conversation is too long"),
    ),
    Row(
        "a proxy's HTML error page",
        (Fault(status=400, body=PROXY),),
        failed("its text, without the tags", "The proxy has lost its way"),
    ),
    Row(
        "a proxy's HTML page as an answer",
        (Fault(status=200, body=PROXY),),
        failed("named as no stream", "text/html, not with a stream: check --base-url"),
    ),
    Row(
        "a stream cut in text",
        (ScriptedReply("This text breaks off.", fault=Fault(cut_after=9)), "Done."),
        Gives("what came is discarded, asks again"),
        retries=1,
    ),
    Row(
        "a stream cut in code",
        (ScriptedReply(block("kept = 0\nraise SystemError"), fault=Fault(cut_after=22)), "Done."),
        Gives("nothing of it is run, asks again"),
        retries=1,
    ),
    Row(
        "a chunk that is cut off",
        (ScriptedReply(block("kept = 0"), fault=Fault(malformed_after=20)), "Done."),
        Gives("nothing of it is run, asks again"),
        retries=1,
    ),
    Row(
        "an error's body that is cut off",
        (Fault(status=500, cut_after=1), "Done."),
        Gives("asks again"),
        retries=1,
    ),
    Row("an empty reply", ("", "Done."), Gives("the model is told so", told="Your reply was empty")),
    Row("prose only", ("It is 42.",), Gives("that is the answer")),
    Row(
        "a block that is not closed",
        ("```python\nkept = 0\n", "Done."),
        Gives("not run, the model is told so", told="was not closed, so it was not run"),
    ),
    Row(
        "a fence that is split over chunks",
        (ScriptedReply("```python\nprint(40 + 2)\n```", chunk=2), ScriptedReply("Done.", chunk=1)),
        Gives("runs", told="42"),
    ),
    Row(
        "an answer that quotes code",
        ("Write this:\n```text\nkept = 0\n```\nor\n```sql\nDROP TABLE kept\n```\n",),
        Gives("nothing of it is run"),
    ),
    Row(
        "a server that sends nothing",
        (Fault(silence=60), Fault(silence=60)),
        failed("given up after the longest silence", "gave no answer for 0.5 s. Asked 2 times"),
        settings={"silence": 0.5, "retries": 1},
        retries=1,
    ),
    Row(
        "a stream that stalls",
        (STALLS, STALLS),
        failed("given up after the longest silence", "stalled for 0.5 s. Asked 2 times"),
        settings={"silence": 0.5, "retries": 1},
        retries=1,
    ),
    Row(
        "a stream without end",
        (ScriptedReply("on and on " * 100_000, pause=0.01),),
        failed("given up after the longest time", "still streaming after 1 s"),
        settings={"reply_timeout": 1.0},
    ),
    Row(
        "fields that nobody knows",
        (ScriptedReply(block("40 + 2"), fault=Fault(unknown=True)), "Done."),
        Gives("passed over", told="42"),
    ),
    Row(
        "no token counts",
        (
            ScriptedReply(block("40 + 2"), fault=Fault(no_usage=True)),
            ScriptedReply("Done.", fault=Fault(no_usage=True)),
        ),
        Gives("goes without", told="42"),
    ),
)

ROWS = (*CODE, *MODEL)


def table() -> str:
    """Give the Markdown table."""
    lines = ["| | in the notebook's kernel | in a kernel of its own |", "|---|---|---|"]
    for row in ROWS:
        here, own = row.gives("notebook").row, row.gives("own").row
        lines.append(f"| {row.fault} | {here} | {'the same' if own == here else own} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """Give a text with the table between its marks."""
    return re.sub(rf"(?s)({re.escape(MARK)}\n).*?(\n{re.escape(MARK)})", lambda m: m[1] + table() + m[2], text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"Wrote {len(ROWS)} rows to {os.path.relpath(README)}.\n")
