"""Folds what a successful package install prints to one line; a failed one is shown as it was printed."""

import itertools
import re
from collections.abc import Sequence

from ..outputs import plain

MOST_HELD = 200_000
"""Characters that are held back; beyond them everything is shown as it is printed."""
_NAMED = 20  # packages that are named
_LONGEST = 2_000  # characters of a line that are looked at; only the list of what was installed may be longer

_INSTALLS = re.compile(
    r"""(?<![\w.-])(?: (?:pip[\d.]*|conda|mamba|micromamba)(?:\.exe)?(?:["']?[\s,]+["']?-[\w-]+)*["']?[\s,]+["']?install
                     | uv["']?[\s,]+["']?(?:add|sync)
    )\b""",
    re.VERBOSE,
)

_TIME = r"(?:\d{1,6}m )?[\d.]{1,12}m?s$"
_KINDS = {
    kind: re.compile(pattern)
    for kind, pattern in {
        "failed": r"(?:ERROR|error|\w+Error):",
        "installed": r"Successfully installed ((?=\S+-\S)\S+(?: (?=\S+-\S)\S+)*)$",
        "there": r"Requirement already satisfied: ([\w.-]++)(?!.* \(from (?!-))",
        "needed": r"Requirement already satisfied: ([\w.-]++)",  # by another package
        "checked": rf"(?:Checked|Audited) (\d{{1,6}} packages?) in {_TIME}",
        "counted": rf"Installed (\d{{1,6}}) packages? in {_TIME}",
        "note": r"Note: you may need to restart the kernel to use updated packages\.",
        "noise": r"\[notice\] (?:A new release of pip |To update, run: )|Looking in (?:indexes|links): "
        r"|Defaulting to user installation |DEPRECATION: .*\bpip \d"
        r"|WARNING: (?:Running pip as |Retrying \(Retry\(|The scripts? .* (?:is|are) installed in '"
        r"|Location '.*' is ignored|Ignoring invalid distribution "
        r"|There was an error checking the latest version of pip|You are using pip version )",
        "heading": r"Channels:$",
        "plan": r"Retrieving notices: |Collecting package metadata \(|Solving environment: ",
        "sure": r"Collecting \S+ (?:\(from |@ )|Using C?Python \d\S* (?:environment|interpreter) at"
        r"|Installing collected packages: |Building wheels? for collected packages: "
        rf"|INFO: pip is (?:still )?looking at |(?:Resolved|Prepared|Uninstalled) \d{{1,6}} packages? in {_TIME}",
        "begun": r"Collecting \S+$|(?:Obtaining|Processing) (?:file://|\S+\.(?:whl|tar\.gz)\b)"
        r"|\s+(?:Preparing metadata \(|Installing build dependencies(?:: | \.\.\.))",
        "work": r"\s|(?:Obtaining|Processing) \S*[/\\]|Successfully built |INFO: This is taking longer than usual"
        r"|(?:Downloading|Using cached) (?:\S+\.(?:whl|tar\.gz|zip|metadata)\b|\S+ \([\d.]+ ?\w+\)$)"
        r"|(?:Building|Built|Downloaded) \S+$|[\u2800-\u28ff] (?:Resolving|Preparing|Installing|$)",
    }.items()
}
_WITHIN = {"installed", "work"}  # what counts only where an install has begun
_SURELY_WITHIN = {"checked", "counted"}
_CHANNEL = re.compile(r" +- \S+$|Platform: \S+$")  # conda: what follows the heading
_LISTED = re.compile(r" [+~] (\S+?)(?:==(\S+)| |$)")  # uv: what it installed
_PLANNED = re.compile(r"\s+\S+\s.*::([^\s:]+)-[^-\s:]+$")  # conda: what it is going to install
_CONDA_DONE = re.compile(r"Executing transaction: .*done|# All requested packages already installed")
_BEGINNINGS = (
    *("ERROR:", "error:", "Successfully ", "Requirement already satisfied: ", "Checked ", "Audited ", "Installed "),
    *("Note: you may need to restart", "[notice] ", "Looking in ", "Defaulting to user ", "DEPRECATION: ", "WARNING: "),
    *("Channels:", "Platform: ", "Retrieving notices: ", "Collecting ", "Solving environment", "Obtaining "),
    *("Processing ", "Downloading ", "Using cached ", "Installing collected packages: ", "Building ", "INFO: pip is "),
    *("INFO: This is taking ", "Using Python ", "Using CPython ", "Resolved ", "Prepared ", "Uninstalled ", "Built "),
    "Downloaded ",
)
_INDENTED = ("Preparing metadata ", "Installing build dependencies")
_FRAME = re.compile(r"(?<![^\r\n])[^\r\n]*+\r(?=[^\r\n])")
_CUT_CODE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*)?$")

Piece = tuple[str, str]
"""The name of a stream, and text of it."""


def folding(code: str) -> "PipFold | None":
    """Give a fold for a cell that installs packages, and None for one that does not."""
    return PipFold() if _INSTALLS.search(code) else None


class PipFold:
    """Holds back what pip, uv and conda print while they install.

    Once an install has succeeded, ``Installed six-1.17.0.`` or ``Already installed: six.`` stands for all of it. If one
    fails or never ends, what was held is given back unchanged, and all that follows an error is passed on at once. So
    are lines that no installer prints; they are shown behind what is held, unless that is surely an installer's.
    """

    def __init__(self) -> None:
        self._off = False
        self._partial: dict[str, str] = {}  # by stream: the beginning of a line that may be an installer's
        self._shown: set[str] = set()  # streams of whose current line the beginning was passed on
        self._reset()

    def take(self, name: str, text: str) -> list[Piece]:
        """Take what was printed on a stream and give what may be shown now."""
        given: list[Piece] = []
        if name in self._shown and not self._off:
            head, newline, text = text.partition("\n")
            given.append((name, head + newline))
            if newline:
                self._shown.discard(name)
        *lines, rest = (self._partial.pop(name, "") + text).split("\n")
        for line in lines:
            self._line(name, line + "\n", given)
        if rest and self._may_be_ours(rest):
            self._partial[name] = rest
        elif rest:
            self._other(name, rest, given)
            self._shown.add(name)
        self._bound(given)
        return _joined(given)

    def finish(self) -> list[Piece]:
        """Give what is left at the end of the cell."""
        given: list[Piece] = []
        for name, rest in list(self._partial.items()):
            self._partial.pop(name, None)
            if self._working and self._kind(plain(rest))[0] == "other":
                self._hold("cut", name, rest)  # given back behind what was held before it
            else:
                self._line(name, rest, given)
        if self._expected and self._new:
            self._summarize(given)
        elif self._working or self._planning or self._headed:
            self._give_back(given)
        self._settle(given)
        self._off = True
        return _joined(given)

    def _reset(self) -> None:
        self._held: list[tuple[str, str, str]] = []  # kind, stream, text
        self._size = 0  # characters that are held
        self._working = False  # an install has begun, or the user's own output looks like it
        self._sure = False  # it is an install: no user prints what is held of it
        self._planning = False  # conda's, which prints a table
        self._expected = 0  # packages that uv is going to list
        self._new: list[str] = []
        self._there: dict[str, None] = {}
        self._done = False  # an install has ended: notices may follow

    def _line(self, name: str, text: str, given: list[Piece]) -> None:
        """Take a line: hold it, pass it on, or let it end an install."""
        said = plain(text[-MOST_HELD:]).rstrip()
        kind, found = self._kind(said)
        if self._off or kind == "other":
            self._other(name, text, given)
            return
        if self._headed and kind not in {"heading", "plan"}:
            self._give_back(given)
            self._line(name, text, given)  # what it is may depend on what was held
            return
        self._hold(kind, name, text)
        if kind == "failed":
            self._give_back(given)
            self._off = True
        elif kind == "installed":
            self._new = found.split()
            self._summarize(given)
        elif kind == "checked":
            self._there = {found: None}
            self._summarize(given)
        elif kind == "note":
            self._noted(given)
        elif kind in ("there", "needed"):
            self._there |= {found: None} if kind == "there" else {}
        elif kind == "counted":
            self._expected = int(found)
        elif kind == "listed":
            self._list(said, given)
        elif kind in ("plan", "planned"):
            self._plan(said, given)
        elif kind in {"sure", "begun"}:
            self._working = True
            self._sure = self._sure or kind == "sure"

    def _hold(self, kind: str, name: str, text: str) -> None:
        self._held.append((kind, name, text))
        self._size += len(text)

    @property
    def _headed(self) -> bool:
        """What is held may be the beginning of a plan."""
        return bool(self._held) and self._held[-1][0] == "heading"

    def _kind(self, said: str) -> tuple[str, str]:
        """Tell what a line is, and what of it matters."""
        short = said[:_LONGEST]
        if self._planning:
            return ("failed" if _KINDS["failed"].match(short) else "planned"), ""
        if self._expected and _LISTED.match(short):
            return "listed", ""
        if self._headed and _CHANNEL.match(short):
            return "heading", ""
        for kind, pattern in _KINDS.items():
            if (kind in _WITHIN and not self._working) or (kind in _SURELY_WITHIN and not self._sure):
                continue
            if found := pattern.match(said if kind == "installed" else short):
                return kind, found[1] if pattern.groups else ""
        if not said and (self._held or self._done):
            return "blank", ""
        return "other", ""

    def _may_be_ours(self, rest: str) -> bool:
        """Say whether the beginning of a line may become a line of an installer."""
        if self._off:
            return False
        if self._planning:
            return True
        said = plain(_CUT_CODE.sub("", rest.rpartition("\r")[2][:_LONGEST]))
        if not said.strip() or "\u2800" <= said[0] <= "\u28ff" or said[0] in "░█━":
            return True
        if said[0].isspace():
            return self._working or self._headed or _begins(said.lstrip(), _INDENTED)
        return _begins(said, _BEGINNINGS)

    def _list(self, said: str, given: list[Piece]) -> None:
        if found := _LISTED.match(said[:_LONGEST]):
            self._new.append(f"{found[1]}-{found[2]}" if found[2] else found[1])
        self._expected -= 1
        if not self._expected:
            self._summarize(given)

    def _plan(self, said: str, given: list[Piece]) -> None:
        self._planning = True
        if found := _PLANNED.match(said[:_LONGEST]):
            self._new.append(found[1])
        if _CONDA_DONE.match(said):
            self._summarize(given)

    def _noted(self, given: list[Piece]) -> None:
        """IPython's note is the last line of ``%pip``, whether it succeeded or not."""
        if self._working or self._planning:
            self._give_back(given)
        else:
            self._held.pop()
            self._settle(given)
            self._done = True

    def _other(self, name: str, text: str, given: list[Piece]) -> None:
        if self._headed or (self._working and not self._sure):
            self._give_back(given)
        elif not (self._working or self._planning):
            self._settle(given)
        given.append((name, text))

    def _summarize(self, given: list[Piece]) -> None:
        """Let one line stand for an install that succeeded."""
        new = self._new
        fresh = {_normal(each.rpartition("-")[0]) for each in new}
        there = [each for each in self._there if _normal(each) not in fresh]
        parts = [f"Installed {_enumerated(new)}."] if new else []
        if there or not new:
            parts.append(f"Already installed: {_enumerated(there)}." if there else "Already installed.")
        given.append(("stdout", " ".join(parts) + "\n"))
        self._reset()
        self._done = True

    def _settle(self, given: list[Piece]) -> None:
        """End an install that had nothing to do, or drop the notices behind one that succeeded."""
        kinds = [kind for kind, _, _ in self._held]
        blanks = len(list(itertools.takewhile(lambda kind: kind == "blank", reversed(kinds))))
        behind = self._held[len(kinds) - blanks :]
        if "there" in kinds or "needed" in kinds:
            self._summarize(given)
        elif not self._done:
            behind = self._held
        given.extend((name, text) for _, name, text in behind)
        self._held, self._size = [], 0
        self._done = False

    def _give_back(self, given: list[Piece]) -> None:
        given.extend((name, text) for _, name, text in self._held)
        given.extend(self._partial.items())
        self._shown.update(self._partial)
        self._partial.clear()
        self._reset()

    def _bound(self, given: list[Piece]) -> None:
        """Drop overwritten frames of progress bars if too much is held; if that does not help, give all back."""
        if self._size + sum(map(len, self._partial.values())) <= MOST_HELD:
            return
        self._held = [(kind, name, _FRAME.sub("", text)) for kind, name, text in self._held]
        self._size = sum(len(text) for _, _, text in self._held)
        self._partial = {name: _FRAME.sub("", text) for name, text in self._partial.items()}
        if self._size + sum(map(len, self._partial.values())) > MOST_HELD // 2:
            self._give_back(given)
            self._off = True


def _begins(said: str, lines: Sequence[str]) -> bool:
    """Say whether this is, or may become, one of the lines."""
    return any(known.startswith(said) or said.startswith(known) for known in lines)


def _joined(given: list[Piece]) -> list[Piece]:
    """Join neighbours of one stream."""
    groups = itertools.groupby((piece for piece in given if piece[1]), key=lambda piece: piece[0])
    return [(name, "".join(text for _, text in group)) for name, group in groups]


def _enumerated(packages: list[str]) -> str:
    more = len(packages) - _NAMED
    return ", ".join(packages[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
