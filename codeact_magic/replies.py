"""Reads a reply while it streams: narration, and blocks of code that become cells.

A fence follows CommonMark: three or more backticks or tildes, closed by at least as many of the same. It may be
indented, as models do below list items. In a Python block a fence inside a triple-quoted string is part of the string.
"""

import ast
import re
import warnings
from dataclasses import dataclass, field

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*([^\n]*)$")
_PYTHON = {"python", "py", "python3", "ipython"}
_SHELL = {"bash": "bash", "sh": "sh", "shell": "bash", "pwsh": "script pwsh -NoProfile -Command -"}
_ALIASES = {"julia": ("jl",), "bash": ("sh", "shell"), "javascript": ("js",), "typescript": ("ts",), "c++": ("cpp",)}
_TARGET = re.compile(r"(?:^|\s)cell=[\"']?([A-Za-z0-9_-]{1,64})")
_FILENAME = re.compile(r"#\s*filename:\s*(\S.*?)\s*$")
_MAGIC = re.compile(r"(?m)(?:(?<=^)|(?<=[ \t]))[%!?].*$|^[ \t]*[\w.]+\?+$")
_STRING = re.compile(r"#.*|(?:'''|\"\"\")|'(?:\\.|[^'\\\n])*'?|\"(?:\\.|[^\"\\\n])*\"?")


@dataclass(slots=True)
class Narration:
    """Text between blocks, quoted blocks included, as Markdown."""

    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text, with the newlines that it came with."""
        return "".join(self.lines)


@dataclass(slots=True)
class Block:
    """A block of code. ``code`` is what runs as a cell; ``closed`` is false while it streams or if it broke off."""

    language: str
    lines: list[str] = field(default_factory=list)
    closed: bool = False
    target: str = ""
    magic: str = ""
    """The cell magic that runs a shell block in a Python kernel."""

    @property
    def source(self) -> str:
        """What stands between the fences."""
        return "".join(self.lines)

    @property
    def code(self) -> str:
        """The source of the cell: shell blocks and files become cell magics."""
        source = self.source.rstrip("\n")
        if self.magic:
            return f"%%{self.magic}\n{source}"
        first, _, rest = source.partition("\n")
        if self.language == "python" and (named := _FILENAME.match(first)):
            return f"%%writefile {_inside(named[1])}\n{rest}"
        return source


def _inside(name: str) -> str:
    """Keep a file's name within the working directory: no root, no parent, no option, no quote."""
    parts = [re.sub(r"[^\w. +-]", "_", part).lstrip("-") for part in re.split(r"[\\/]+", name)]
    clean = "/".join(part for part in parts if part.strip(". ")) or "unnamed.txt"
    return f'"{clean}"' if " " in clean else clean


@dataclass(slots=True)
class Reply:
    """A parsed reply: narration and blocks in their order."""

    parts: list[Narration | Block] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        """The blocks that run, in order."""
        return [part for part in self.parts if isinstance(part, Block) and part.closed and part.source.strip()]

    @property
    def unclosed(self) -> Block | None:
        """The block that broke off at the end of the reply, which is never run."""
        last = self.parts[-1] if self.parts else None
        return last if isinstance(last, Block) and not last.closed else None


def parse(text: str, language: str = "python") -> Reply:
    """Parse a whole reply; ``language`` is that of the kernel that its code is for."""
    parser = ReplyParser(language)
    parser.feed(text)
    return parser.close()


def narration(text: str, language: str = "python") -> list[str]:
    """Give a reply's text before each block that runs, and last the text behind them all."""
    texts = [""]
    reply = parse(text, language)
    blocks = {id(block) for block in reply.blocks}
    for part in reply.parts:
        if isinstance(part, Narration):
            texts[-1] = f"{texts[-1]}\n{part.text}".strip()
        elif id(part) in blocks:
            texts.append("")
    return texts


class ReplyParser:
    """Parses a reply piece by piece. ``reply`` is readable at any time; ``close`` gives the final one."""

    def __init__(self, language: str = "python", *, strict: bool = False) -> None:
        self.reply = Reply()
        self._language = language
        self._labels = {language, *_ALIASES.get(language, ())} if language != "python" else _PYTHON
        self._strict = strict  # the first fence ends a block, whatever its strings say
        self._text: list[str] = []
        self._line: list[str] = []  # pieces of the line that has not ended
        self._fence = ""  # the closing fence that is waited for; "</execute>" for a tag
        self._indent = ""
        self._label = ""
        self._runs: bool | None = False  # None: an unlabelled fence, decided when it closes
        self._quote = ""  # the triple quote that is open in a Python block
        self._begun = False  # something but white space has come
        self._thinking = False
        self._mistaken = False  # a fence was taken for part of a string

    def feed(self, delta: str) -> None:
        """Take the next piece, of any size."""
        self._text.append(delta)
        first, *rest = delta.split("\n")
        self._line.append(first)
        for line in rest:
            self._take("".join(self._line).removesuffix("\r") + "\n")
            self._line = [line]

    @property
    def unfinished(self) -> str:
        """The line that has not ended yet."""
        return "".join(self._line)

    def close(self) -> Reply:
        """Take what is left as the last line, and give the whole reply."""
        if line := self.unfinished:
            self._line = []
            self._take(line.removesuffix("\r"))
        blocks = [part for part in self.reply.parts if isinstance(part, Block) and part.language == "python"]
        if self._mistaken and not all(part.closed and _is_python(_MAGIC.sub("pass", part.source)) for part in blocks):
            # The string never ended, so that the fence inside it did end the block: the code has a syntax error.
            parser = ReplyParser(self._language, strict=True)
            parser.feed("".join(self._text))
            self.reply = parser.close()
        elif self._fence and self._runs is None:
            self._narrate(self._quoted(closed=False))
        self._fence = ""
        return self.reply

    def _take(self, line: str) -> None:
        self._read(line)
        self._begun = self._begun or not line.isspace()

    def _read(self, line: str) -> None:
        if self._fence:
            self._inside_fence(line)
        elif self._thinking or (not self._begun and line.lstrip().startswith("<think>")):
            self._thinking = "</think>" not in line
            self._narrate(line)
        elif opening := _FENCE.match(line.rstrip("\n")):
            self._open(line, *opening.groups())
        elif line.lstrip().startswith("<execute>"):
            self._open_tag(line)
        else:
            self._narrate(line)

    def _open(self, line: str, indent: str, fence: str, info: str) -> None:
        if fence[0] == "`" and "`" in info:
            self._narrate(line)
            return
        words = info.strip().lstrip("{.").split(maxsplit=1)
        self._label = words[0].rstrip("}").lower() if words else ""
        self._fence, self._indent, self._quote = fence, indent, ""
        magic = _SHELL.get(self._label, "") if self._language == "python" else ""
        if magic or self._label in self._labels:
            self._runs = True
            target = _TARGET.search(info)
            language = self._label if magic else self._language
            self.reply.parts.append(Block(language, target=target[1] if target else "", magic=magic))
        elif self._label or self._language != "python":
            self._runs = False
            self._narrate(line)
        else:
            self._runs = None
            self.reply.parts.append(Block("python"))

    def _open_tag(self, line: str) -> None:
        self._fence, self._indent, self._quote, self._runs = "</execute>", "", "", True
        self.reply.parts.append(Block(self._language))
        rest = line.lstrip().removeprefix("<execute>")
        if rest.strip():
            self._inside_fence(rest)

    def _inside_fence(self, line: str) -> None:
        body, ends = self._ending(line)
        if ends and not (self._quote and not self._strict):
            if body:
                self._keep(body)
            self._end(line)
            return
        self._mistaken = self._mistaken or ends
        self._keep(line)

    def _ending(self, line: str) -> tuple[str, bool]:
        """Give the part of a line before the closing fence, and whether the fence is there."""
        stripped = line.strip()
        if self._fence == "</execute>":
            return (line.rstrip()[: -len(self._fence)], True) if stripped.endswith(self._fence) else ("", False)
        mark = self._fence[0]
        return "", len(stripped) >= len(self._fence) and stripped.strip(mark) == ""

    def _keep(self, line: str) -> None:
        part = self.reply.parts[-1]
        line = line.removeprefix(self._indent) if line.startswith(self._indent) else line.lstrip(" \t")
        if self._runs is False or not isinstance(part, Block):
            self._narrate(line)
            return
        part.lines.append(line)
        if part.language == "python":
            self._quote = _open_quote(line, self._quote)

    def _end(self, line: str) -> None:
        part = self.reply.parts[-1]
        if self._runs is False:
            self._narrate(line)
        elif isinstance(part, Block):
            part.closed = True
            if self._runs is None and not _is_python(part.source):
                self._narrate(self._quoted(closed=True))
        self._fence = ""

    def _quoted(self, *, closed: bool) -> str:
        """Take back an unlabelled block that is not Python: it is text."""
        part = self.reply.parts.pop()
        return f"{self._fence}\n{''.join(part.lines)}" + (f"{self._fence}\n" if closed else "")

    def _narrate(self, text: str) -> None:
        if self.reply.parts and isinstance(part := self.reply.parts[-1], Narration):
            part.lines.append(text)
        else:
            self.reply.parts.append(Narration([text]))


def _open_quote(line: str, quote: str) -> str:
    """Give the triple quote that is open after a line of Python, if one was open before it (``quote``) or not."""
    position = 0
    while position < len(line):
        if quote:
            end = re.compile(rf"(?:\\.|(?!{quote}).)*", re.DOTALL).match(line, position)
            position = end.end() if end else len(line)
            if not line.startswith(quote, position):
                return quote
            position += 3
            quote = ""
        token = _STRING.search(line, position)
        if not token:
            return ""
        position = token.end()
        if token[0] in ("'''", '"""'):
            quote = token[0]
    return quote


def _is_python(source: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes are for whoever runs the code
            return bool(ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
