"""Tool calls as text: a call of ``run_cell`` streams as the fenced block that a model could have written itself.

So the loop, the displays and the record know of no tools. What a fence cannot hold is found out at the end of the
reply, before anything runs: each call's code must stand in the text as a block of its own.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelUnavailable
from ..replies import parse
from .dialect import Text, joined
from .endpoint import Endpoint
from .memory import Call

NAME = "run_cell"
DESCRIPTION = "Runs a cell of code in the user's live kernel and returns its outputs."
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "The source of the cell."}},
    "required": ["code"],
    "additionalProperties": False,
}
SENTENCE = (
    f"A code block may also be sent as a call of the tool `{NAME}`, one call a cell, and not be fenced in the text."
)

_FENCE = "````"  # longer than what ordinary code holds
_HEAD = re.compile(r'\s*\{\s*"code"\s*:\s*"')
_LONGEST_HEAD = 100  # characters; where the code has not begun by then, something else stands before it
_LONGEST_ESCAPE = 6  # characters
_SOUND = re.compile(r'(?:[^"\\]+|\\u[0-9a-fA-F]{4}|\\[^u])*')


def with_sentence(system: str) -> str:
    """Append to the system's text that there is the tool."""
    return f"{system}\n\n{SENTENCE}" if system else SENTENCE


class Arguments:
    """The arguments of a call, a JSON object that comes in pieces of any size."""

    def __init__(self) -> None:
        self.raw: list[str] = []
        self._given: list[str] = []
        self._waiting = ""  # what cannot be decoded yet
        self._begun = False
        self._ended = False  # the rest is decoded as a whole

    def feed(self, piece: str) -> str:
        """Take the next piece and give the code that it brings; nothing, if the code does not come first."""
        self.raw.append(piece)
        if self._ended:
            return ""
        self._waiting += piece
        if not self._begun:
            head = _HEAD.match(self._waiting)
            if not head:
                self._ended = len(self._waiting) > _LONGEST_HEAD
                return ""
            self._begun, self._waiting = True, self._waiting[head.end() :]
        found = _SOUND.match(self._waiting)
        sound = found.group() if found else ""
        self._waiting = self._waiting[len(sound) :]
        code = _decoded(f'"{sound}"')
        self._ended = not isinstance(code, str) or self._waiting[:1] == '"' or len(self._waiting) > _LONGEST_ESCAPE
        if not isinstance(code, str):
            return ""
        self._given.append(code)
        return code

    def whole(self) -> tuple[str, str] | None:
        """Give the code and the part of it that ``feed`` has not given; None if the arguments are not sound."""
        value = _decoded("".join(self.raw))
        code = value.get("code") if isinstance(value, dict) else None
        if not isinstance(code, str):
            return None
        code, given = joined([code]), joined(self._given)
        return (code, code[len(given) :]) if code.startswith(given) else None


def _decoded(text: str) -> Any:
    """Decode JSON, with line ends in strings as some models write them; None if it is none."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


@dataclass(slots=True)
class _Made:
    """A call that the reply makes. ``held`` is white space that its code begins with."""

    id: str
    name: str
    arguments: Arguments = field(default_factory=Arguments)
    held: str = ""
    code: str = ""
    shown: bool = False  # its block has been opened
    closed: bool = False


class Calls:
    """Writes the calls of a reply into its text.

    A call of a tool that there is not, or of no code, is not text: the model is told of it when its reply is sent back.
    Where the reply says something else and calls nothing that runs, a note tells the user.

    Args:
        text: what is written to.
        endpoint: whose reply it is.
        language: the label of the blocks.
    """

    def __init__(self, text: Text, endpoint: Endpoint, language: str) -> None:
        self._text = text
        self._endpoint = endpoint
        self._language = language
        self._made: list[_Made] = []

    @property
    def open(self) -> bool:
        """A call has begun and is not closed."""
        return bool(self._made) and not self._made[-1].closed

    def begin(self, number: str, name: str) -> str:
        """Begin a call, and give the text that closes the one before."""
        self._text.count(number + name)
        closing = self.close()
        self._made.append(_Made(number, name))
        return closing

    def feed(self, piece: str) -> str:
        """Take the next piece of the open call's arguments, and give the text that it brings.

        Raises:
            ModelUnavailable: there is no open call.
        """
        self._text.count(piece)
        if not self.open:
            if piece:
                raise self._endpoint.malformed()
            return ""
        return self._show(self._made[-1], self._made[-1].arguments.feed(piece))

    def complete(self, arguments: str) -> str:
        """Close the open call, whose arguments are these, and give the text of what has not come yet."""
        came = "".join(self._made[-1].arguments.raw)
        if not arguments.startswith(came):
            raise self._unsound()
        return self.feed(arguments[len(came) :]) + self.close()

    def close(self, *, cut: bool = False) -> str:
        """Close the open call, if there is one, and give the text for it. Where ``cut`` broke it off, it stays open.

        Raises:
            ModelUnavailable: its arguments are not sound.
        """
        if not self.open:
            return ""
        made = self._made[-1]
        if made.name != NAME:
            made.closed = True
            return ""
        whole = made.arguments.whole()
        if whole is None:
            if cut:
                return ""
            raise self._unsound()
        made.closed = True
        made.code, rest = whole
        text = self._show(made, rest)
        if not made.shown:
            return text
        return text + self._text.write(("" if self._text.begins_line else "\n") + f"{_FENCE}\n")

    def finish(self, *, cut: bool) -> str:
        """Give the text for what is open at the end of the reply."""
        closing = self.close(cut=cut)
        unknown = [made.name for made in self._made if made.name != NAME]
        if unknown and self._text.whole.strip() and not any(made.shown for made in self._made):
            name = self._endpoint.plain(unknown[0], 60)
            closing += self._text.write(
                f"\n\n(The model called a tool that there is not, {name!r}; nothing was run.)\n"
            )
        return closing

    def numbered(self) -> list[Call]:
        """Give the calls with the blocks that they are in the whole text.

        Raises:
            ModelUnavailable: one of them cannot be told from the text around it.
        """
        if not self._made:
            return []
        blocks = [_lines(block.source) for block in parse(self._text.whole, self._language).blocks]
        calls, position = [], 0
        for made in self._made:
            if made.name != NAME:
                note = f"There is no tool {made.name!r}; the only one is `{NAME}`."
                calls.append(Call(made.id, note=note))
            elif not made.shown:
                calls.append(Call(made.id, note="There was no code in it."))
            elif made.closed:
                if _lines(made.code) not in blocks[position:]:
                    raise ModelUnavailable(
                        f"The reply of {self._endpoint.shown} holds a code block that cannot be told from the text "
                        "around it, so nothing of it was run."
                    )
                position = blocks.index(_lines(made.code), position) + 1
                calls.append(Call(made.id, block=position))
        return calls

    def _show(self, made: _Made, code: str) -> str:
        """Write code of a call; its block opens with the first of it that is not blank."""
        if made.name != NAME or not code:
            return ""
        if made.shown:
            return self._text.write(code)
        made.held += code
        if made.held.isspace():
            return ""
        made.shown = True
        opening = "" if self._text.begins_line else "\n"
        return self._text.write(f"{opening}{_FENCE}{self._language}\n{made.held}")

    def _unsound(self) -> ModelUnavailable:
        return ModelUnavailable(
            f"A call of {NAME} in the reply of {self._endpoint.shown} has unusable arguments, so nothing of it was run."
        )


def _lines(source: str) -> list[str]:
    """Give code as the lines that a parser of replies leaves of it."""
    return [line.removesuffix("\r") for line in source.rstrip("\n").split("\n")]
