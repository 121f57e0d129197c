"""What is found in a piece of code, each risk at its place, so that all are given in the order of the code."""

from collections.abc import Callable
from dataclasses import dataclass

from .tables import KEY_FILE, MAYBE_KEY_FILE, WORD, Kind

_MOST = 20  # risks of a block
_WIDTH = 120  # of a risk's text


@dataclass(frozen=True, slots=True)
class Risk:
    """One thing to ask about. ``what`` is a line for the user, as in ``os.remove('data.csv')``."""

    kind: Kind
    what: str


def one_line(text: str) -> str:
    """Give the first line of ``text`` that says something, printable and not too long."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")[: 2 * _WIDTH]
    first = "".join(char if char.isprintable() else " " for char in first)
    return first if len(first) <= _WIDTH else f"{first[: _WIDTH - 3]}..."


class Findings:
    """What is found in one piece of code.

    Args:
        exists: tells files that must be kept.
        look: looks through code in a language, for code in code.
        seen: code that is looked through already, with its language: each is once.
    """

    def __init__(
        self, exists: Callable[[str], bool], look: Callable[[str, str, "Findings"], None], seen: set[tuple[str, str]]
    ) -> None:
        self.exists = exists
        self.place = (0, 0)  # the line and column that are being looked at
        self._look = look
        self._seen = seen
        self._found: list[tuple[tuple[int, int], Risk]] = []

    def risks(self) -> tuple[Risk, ...]:
        """Give what is found, in the order of the code."""
        found = [risk for _, risk in sorted(self._found, key=lambda item: item[0])]
        return tuple(dict.fromkeys(found))[:_MOST]

    def add(self, kind: Kind, what: str) -> None:
        """Add a risk at the current place."""
        self._found.append((self.place, Risk(kind, one_line(what))))

    def clear(self) -> None:
        """Forget what is found."""
        self._found.clear()

    def inside(self, code: str, language: str = "python") -> None:
        """Look through code that stands at the current place."""
        text = (code, language.strip().lower())
        if not code.strip() or text in self._seen:
            return
        self._seen.add(text)
        inner = Findings(self.exists, self._look, self._seen)
        try:
            self._look(*text, inner)
        except (RecursionError, MemoryError):
            inner.add("unknown", "code that is nested too deeply to be looked through")
        self._found += [(self.place, risk) for risk in inner.risks()]

    def key_files(self, text: str) -> None:
        """Add the key files that a text names."""
        for word in WORD.findall(text):
            if KEY_FILE.search(word) or MAYBE_KEY_FILE.search(word):
                self.add("secrets", f"the key file {word!r}")
