"""What a probe found in a kernel, for the model; and the values of names in a prompt."""

import re
from collections.abc import Mapping
from typing import Any

from ..events import Changes, FileChange
from ..outputs import bounded, valid
from .probe import MOST, MOST_FILES

_LONGEST = 300  # characters of one text of a report


def changes_from(report: Mapping[str, Any]) -> Changes:
    """Read a probe's report; what makes no sense in it is passed over, as it may come from another kernel."""

    def names(key: str) -> dict[str, str]:
        rows = report.get(key)
        found = list(rows.items())[: MOST + 1] if isinstance(rows, dict) else []
        return {_text(name): _text(kind) for name, kind in found}

    deleted, files = report.get("deleted"), report.get("files")
    return Changes(
        created=names("created"),
        rebound=names("rebound"),
        deleted=tuple(map(_text, deleted[:MOST])) if isinstance(deleted, list) else (),
        files=tuple(filter(None, map(_file, files[: MOST_FILES + 1]))) if isinstance(files, list) else (),
    )


def _file(row: Any) -> FileChange | None:
    if not isinstance(row, dict) or row.get("change") not in ("new", "changed", "deleted", "more"):
        return None
    size = row.get("size")
    return FileChange(
        path=valid(str(row.get("path"))[:1000]),
        change=row["change"],
        size=size if type(size) is int and 0 <= size < 2**53 else 0,
        type=_text(row.get("type") or ""),
    )


def _text(value: object) -> str:
    return valid(str(value)[:_LONGEST])


def context_from(report: Mapping[str, Any]) -> str:
    """Tell the model which names are new or bound anew, from a probe's report."""
    found = changes_from(report)
    rows = found.created | found.rebound
    told = ", ".join(f"{name} ({kind})" if kind else name for name, kind in rows.items())
    return f"Names in the kernel: {told}" if told else ""


_NAME = re.compile(r"(?<!\{)\{([^\W\d]\w*(?:\.[^\W\d]\w*)*)\}(?!\})")
_FILLED = 4_000  # characters of one value in a prompt


def filled(prompt: str, namespace: Mapping[str, Any]) -> str:
    """Fill ``{name}`` and ``{a.b}`` with their values where they exist; all else is left as written."""

    def value(found: re.Match[str]) -> str:
        first, *rest = found[1].split(".")
        try:
            item = namespace[first]
            for name in rest:
                item = getattr(item, name)
            return bounded(str(item), _FILLED)
        except Exception:  # noqa: BLE001 - attributes and texts of the user's objects may raise anything
            return found[0]

    return _NAME.sub(value, prompt)
