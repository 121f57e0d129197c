"""The three ports of the loop: a model that replies, an executor that runs code, a notebook that the user sees."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .events import CellDecided, CellProposed, Changes, Event, Output, Status, Usage


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text of a message.

    Args:
        text: what the model reads.
        kind: where it comes from, for whoever compares conversations.
        block: the reply's block that an observation is about, from 1; 0 if it is about none, or about all.
    """

    text: str
    kind: Literal["system", "context", "prompt", "reply", "observation"] = "prompt"
    block: int = 0


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture of a message: its MIME type and its bytes in base64."""

    mime: str
    data: str


Part = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class Message:
    """One message to or from the model."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyEnd:
    """The end of a streamed reply.

    Args:
        usage: tokens as the endpoint counted them.
        model: the endpoint's own name for what answered.
        cut: the reply reached its limit of tokens.
    """

    usage: Usage = field(default_factory=Usage)
    model: str = ""
    cut: bool = False


class Model(Protocol):
    """Streams one reply to a conversation."""

    @property
    def name(self) -> str:
        """What the user calls this model."""
        ...

    def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str | ReplyEnd, None]:
        """Yield the reply's text in pieces, then one ``ReplyEnd``. Closing the generator ends the request.

        Raises:
            ModelUnavailable: a passing fault, also in mid-stream; the loop discards what came and asks again.
            ModelError: anything that asking again will not mend.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. The model can be used again afterwards."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBegan:
    """First item of ``Executor.execute``: nothing has run yet."""

    execution_count: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDone:
    """Last item of ``Executor.execute``."""

    status: Status
    changes: Changes = field(default_factory=Changes)
    detail: str = ""


class Executor(Protocol):
    """Runs code statefully, one cell at a time. ``testing.check_executor`` says what that means in full."""

    @property
    def language(self) -> str:
        """The language of its code, as in a fence: ``"python"``, ``"r"``."""
        ...

    @property
    def folder(self) -> str:
        """The code's working directory, as a path of this machine."""
        ...

    def execute(self, code: str, cell: str) -> AsyncGenerator[CellBegan | Output | CellDone, None]:
        """Yield one ``CellBegan``, the outputs as they appear, then one ``CellDone``. Closing it ends the cell.

        Code that fails is an ``error`` output and the status ``error``; it is never raised.

        Raises:
            ExecutorError: the code could not be run at all.
        """
        ...

    async def context(self) -> str:
        """Give what a model should know of the state before it starts: names and their types; empty if nothing."""
        ...

    def interrupt(self) -> None:
        """Interrupt the running cell, from any thread; where none runs, nothing happens."""
        ...

    async def aclose(self) -> None:
        """Release what the executor holds."""
        ...


class Notebook(Protocol):
    """The document that the user sees."""

    async def show(self, event: Event) -> None:
        """Show one event. Every event of a turn comes by here, in order, once it is recorded."""
        ...

    async def decide(self, cell: CellProposed, risk: str) -> CellDecided:
        """Ask the user whether a cell may run, and say what was found in it.

        Where nobody can be asked, it is rejected ``by`` a ``setting``, with a ``reason`` that says how to allow it.
        """
        ...
