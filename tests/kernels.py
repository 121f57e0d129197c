"""A real kernel that tests talk to as a frontend does."""

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.manager import KernelManager

from codeact_magic.outputs import fold, plain
from codeact_magic.testing import ScriptedServer

NOWHERE = "http://127.0.0.1:9/v1"
"""An endpoint where nothing listens."""
KEY = "sk-test-0123456789abcdef"


@dataclass
class Ran:
    """What one execute request gave."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    idle: bool = False

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs as a notebook would show them."""
        kinds = ("stream", "display_data", "execute_result", "error", "update_display_data", "clear_output")
        return fold({"output_type": m["msg_type"], **m["content"]} for m in self.messages if m["msg_type"] in kinds)

    @property
    def status(self) -> str:
        return str(self.reply["content"]["status"])

    @property
    def count(self) -> int:
        return int(self.reply["content"]["execution_count"])

    @property
    def text(self) -> str:
        """All that is readable in the outputs, as plain text."""
        rows = []
        for output in self.outputs:
            data = output.get("data") or {}
            rows.append(output.get("text") or data.get("text/plain") or "\n".join(output.get("traceback") or ()))
        return plain("\n".join(rows))

    @property
    def result(self) -> str:
        """The last expression's value as text."""
        return str(next(o["data"]["text/plain"] for o in self.outputs if o["output_type"] == "execute_result"))

    @property
    def error(self) -> str:
        return plain("\n".join(self.reply["content"].get("traceback") or ()))

    def display(self, mime: str) -> Any:
        """The last display's form of one MIME type."""
        return [o["data"][mime] for o in self.outputs if mime in (o.get("data") or {})][-1]


class Kernel:
    """A kernel and its client."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self.client = manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self._ran: defaultdict[str, Ran] = defaultdict(Ran)
        self.input = ""  # what input() is answered with

    def send(self, code: str, *, cell: str = "", stdin: bool = True) -> str:
        """Send an execute request and give its id."""
        client = self.client
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": stdin}
        message = client.session.msg("execute_request", {**content, "stop_on_error": True})
        message["metadata"] = {"cellId": cell} if cell else {}
        client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def run(self, code: str, *, cell: str = "", stdin: bool = True, timeout: float = 60, **hooks: Any) -> Ran:
        """Run code and wait for its end."""
        return self.wait(self.send(code, cell=cell, stdin=stdin), timeout=timeout, **hooks)

    def wait(self, request: str, *, timeout: float = 60, on: Any = None) -> Ran:
        """Wait for the end of a request; ``on`` sees every iopub message, whatever its parent."""
        ran, deadline = self._ran[request], time.monotonic() + timeout
        while not (ran.idle and ran.reply):
            assert time.monotonic() < deadline, f"the kernel did not answer: {[m['msg_type'] for m in ran.messages]}"
            with contextlib.suppress(Empty):
                message = self.client.get_iopub_msg(timeout=0.02)
                if on:
                    on(message)
                found = self._ran[message["parent_header"].get("msg_id", "")]
                found.messages.append(message)
                found.idle = found.idle or message["content"].get("execution_state") == "idle"
            with contextlib.suppress(Empty):
                reply = self.client.get_shell_msg(timeout=0)
                self._ran[reply["parent_header"].get("msg_id", "")].reply = reply
            with contextlib.suppress(Empty):
                asked = self.client.get_stdin_msg(timeout=0)
                assert asked["parent_header"]["msg_id"] == request
                self.client.input(self.input)
        return self._ran.pop(request)

    def value(self, expression: str) -> str:
        """Evaluate an expression in the kernel."""
        return self.run(expression).result

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()


@contextlib.contextmanager
def kernel(cwd: Path | str, base_url: str = NOWHERE, *, load: bool = True, **environment: str) -> Iterator[Kernel]:
    """Start a kernel, with the extension loaded unless told otherwise, talking to the server at ``base_url``."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CODEACT_", "OPENAI_", "PYTEST_"))}
    env |= {
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": base_url,
        "IPYTHONDIR": str(Path(cwd, ".ipython")),
        "CODEACT_APPROVAL": "auto",
    } | environment
    manager = KernelManager(kernel_name="python3")
    with Path(os.devnull).open("w") as sink:
        manager.start_kernel(cwd=str(cwd), env=env, stdout=sink, stderr=sink)
        try:
            live = Kernel(manager)
            if load:
                assert live.run("%load_ext codeact_magic").status == "ok"
            yield live
            live.client.stop_channels()
        finally:
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()


def said(server: ScriptedServer, request: int = -1) -> str:
    """What the last message of a request says, as text."""
    content = server.requests[request].body["messages"][-1]["content"]
    return content if isinstance(content, str) else "\n".join(part.get("text", part["type"]) for part in content)
