"""``make bench``: what loading, a step and a flood cost, each beside a bare cell of the same code in the same run."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_async_kernel

from codeact_magic.executors.kernel import KernelExecutor
from codeact_magic.testing import ScriptedServer
from codeact_magic.testing.conformance import run
from tests.kernels import Kernel, kernel

STEPS = 30
CODE = "total = sum(range(1000))\nprint(total)\ntotal"
ROUNDS = 7
BARE = """\
import time
def bare(code, count):
    shell, began = get_ipython(), time.perf_counter()
    for _ in range(count): shell.run_cell(code, store_history=True)
    print('\\nseconds', (time.perf_counter() - began) / count)
"""
FLOOD = "for _ in range(100): print('x' * 1_000_000)"


def main() -> None:
    """Print all figures."""
    print(f"python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    rows = [("figure", "value", "goal"), *load(), *steps(), *first_result(), *flood(), *own_kernel()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def load() -> list[tuple[str, str, str]]:
    """Measure ``%load_ext`` in a fresh process that has IPython."""
    code = (
        "import time, ipykernel.ipkernel, IPython.core.magic_arguments, sys\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "before = len(sys.modules)\n"
        "began = time.perf_counter()\n"
        "shell.run_line_magic('load_ext', 'codeact_magic')\n"
        "print((time.perf_counter() - began) * 1000, len(sys.modules) - before)\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(7)
    ]
    milliseconds = statistics.median(float(run[0]) for run in runs)
    return [("%load_ext in process", f"{milliseconds:.1f} ms, {runs[0][1]} modules", "<= 50 ms")]


def steps() -> list[tuple[str, str, str]]:
    """Measure a session of 30 steps beside bare cells of the same code, in turns, in one kernel."""
    replies = [f"```python\n{CODE}\n```\n"] * STEPS + ["Done."]
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedServer(replies * (ROUNDS + 1)) as server,
        kernel(folder, server.base_url) as live,
    ):
        live.run("%config CodeAct.max_steps = 1000")
        live.run(BARE)
        turn(live, server)  # a first turn warms both up
        rounds = [_round(live, server) for _ in range(ROUNDS)]
        prompts = [request.body["messages"] for request in server.requests]
    step, in_process, requested = (statistics.median(column) * 1000 for column in zip(*rounds, strict=True))
    overhead = statistics.median(each[0] - each[1] for each in rounds) * 1000
    pairs = [(before, after) for before, after in pairwise(prompts) if len(after) > 2]  # a new thread has no past
    whole = sum(after[: len(before)] == before for before, after in pairs)
    return [
        (f"overhead of a step in a session of {STEPS}", f"{overhead:.2f} ms", "<= 4 ms"),
        ("  a step, less the server's time", f"{step:.2f} ms", ""),
        ("  bare run_cell of its code", f"{in_process:.2f} ms", f"a step takes {step / in_process:.1f} x"),
        ("  bare execute request of it", f"{requested:.2f} ms", f"a step takes {step / requested:.2f} x"),
        ("  requests that begin with the one before", f"{whole} of {len(pairs)}", "all"),
    ]


def _round(live: Kernel, server: ScriptedServer) -> tuple[float, float, float]:
    """Give the seconds of a step, of a bare ``run_cell`` and of a bare execute request."""
    live.run("%agent reset")
    asked = len(server.requests)
    began = time.perf_counter()
    turn(live, server)
    wall = time.perf_counter() - began
    served = sum(request.seconds for request in server.requests[asked:])
    in_process = float(live.run(f"bare({CODE!r}, {STEPS})").text.split("seconds")[-1])
    began = time.perf_counter()
    for _ in range(STEPS):
        live.run(CODE)
    return (wall - served) / STEPS, in_process, (time.perf_counter() - began) / STEPS


def turn(live: Kernel, server: ScriptedServer) -> Any:
    """Ask one prompt."""
    ran = live.run(f"%%agent --base-url {server.base_url}\nGo.", timeout=300)
    assert ran.status == "ok", ran.error
    return ran


def first_result() -> list[tuple[str, str, str]]:
    """Measure from ``%load_ext`` to the first cell's result in a new kernel, beside ``import openai`` in another."""
    imports, results = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder, ScriptedServer(["```python\n6 * 7\n```", "42."]) as server:
            with kernel(folder, server.base_url, load=False) as live:
                timed = "import time; began = time.perf_counter(); import openai; time.perf_counter() - began"
                imports.append(float(live.value(timed)))
            with kernel(folder, server.base_url, load=False) as live:
                began, seen = time.perf_counter(), list[float]()

                def watch(message: dict[str, Any], seen: list[float] = seen) -> None:
                    if not seen and "42</pre>" in json.dumps(message["content"].get("data", {})):
                        seen.append(time.perf_counter())

                live.run("%load_ext codeact_magic")
                live.run("%%agent\nSix times seven?", on=watch)
                results.append(seen[0] - began)
    beyond = statistics.median(results) - statistics.median(imports)
    return [
        ("%load_ext to the first result", f"{statistics.median(results) * 1000:.0f} ms", ""),
        ("  beyond import openai", f"{beyond * 1000:.0f} ms", "<= 400 ms"),
        ("  import openai", f"{statistics.median(imports) * 1000:.0f} ms", ""),
    ]


def flood() -> list[tuple[str, str, str]]:
    """Measure a cell that prints 100 MB, in the turn and bare, each in a kernel of its own."""
    bare, ours, sent = [], [], 0
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder, kernel(folder) as live:
            live.run("1")
            bare.append(_timed(live, FLOOD))
        with (
            tempfile.TemporaryDirectory() as folder,
            ScriptedServer(["Warm.", f"```python\n{FLOOD}\n```", "Much."]) as server,
            kernel(folder, server.base_url) as live,
        ):
            turn(live, server)
            ours.append(_timed(live, f"%%agent --base-url {server.base_url}\nPrint."))
            sent = len(server.requests[-1].body["messages"][-1]["content"])
    wall = statistics.median(run[0] for run in ours) / statistics.median(run[0] for run in bare)
    memory = statistics.median(run[1] for run in ours) - statistics.median(run[1] for run in bare)
    return [
        ("a step that prints 100 MB, wall time", f"{wall:.2f} x a bare cell's", "<= 1.3 x"),
        ("  peak memory of the kernel", f"{memory / 1e6:+.0f} MB of a bare cell's", "<= +50 MB"),
        ("  sent to the model", f"{sent / 1000:.1f} kB", "<= 20 kB"),
    ]


def _timed(live: Kernel, code: str) -> tuple[float, float]:
    """Give the seconds of a cell, and by how many bytes the kernel's peak memory grew."""
    before = _peak(live)
    began = time.perf_counter()
    live.run(code, timeout=120)
    return time.perf_counter() - began, _peak(live) - before


def _peak(live: Kernel) -> float:
    pid = int(live.value("__import__('os').getpid()"))
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0
    row = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return float(row.split()[1]) * 1024


def own_kernel() -> list[tuple[str, str, str]]:
    """Measure a step and a start of ``KernelExecutor`` beside jupyter_client's own client, in turns."""
    ours, raw = [], []
    for _ in range(5):
        raw.append(asyncio.run(_raw_kernel()))
        ours.append(asyncio.run(_own_kernel()))
    start, step = (statistics.median(column) * 1000 for column in zip(*ours, strict=True))
    raw_start, raw_step = (statistics.median(column) * 1000 for column in zip(*raw, strict=True))
    return [
        ("a step of KernelExecutor", f"{step:.2f} ms", "<= 8 ms"),
        ("  of jupyter_client alone", f"{raw_step:.2f} ms", f"ours takes {step / raw_step:.2f} x"),
        ("start to first result of KernelExecutor", f"{start:.0f} ms, {start / raw_start:.2f} x", "<= 1.1 x"),
        ("  of jupyter_client alone", f"{raw_start:.0f} ms", ""),
    ]


async def _own_kernel() -> tuple[float, float]:
    """Give the seconds from start to first result, and of a step."""
    began = time.perf_counter()
    executor = KernelExecutor()
    await run(executor, CODE)
    start = time.perf_counter() - began
    try:
        began = time.perf_counter()
        for _ in range(STEPS):
            await run(executor, CODE)
        return start, (time.perf_counter() - began) / STEPS
    finally:
        await executor.aclose()


async def _raw_kernel() -> tuple[float, float]:
    """Give the same of jupyter_client alone."""
    began = time.perf_counter()
    manager, client = await start_new_async_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    try:
        await client.execute_interactive(CODE, output_hook=lambda _: None)
        start = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(STEPS):
            await client.execute_interactive(CODE, output_hook=lambda _: None)
        return start, (time.perf_counter() - began) / STEPS
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
