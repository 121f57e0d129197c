"""Outputs of cells: folded as a notebook shows them, bounded, and cleaned of terminal codes and of secrets."""

import os
import re
from collections.abc import Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from .events import Output

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[@-Z\\-_])")
_SECRET_NAME = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:$|_)", re.IGNORECASE)
_SECRET_LENGTH = 8  # a shorter value would blot out ordinary words


def fold(outputs: Iterable[Output]) -> list[Output]:
    """Give what a notebook shows after ``outputs``: streams joined, updates applied, cleared outputs gone."""
    shown: list[Output] = []
    texts: dict[int, list[str]] = {}  # pieces of a stream by the id of its output: joined once, at the end
    clear_next = False
    for output in outputs:
        kind = output["output_type"]
        if kind == "clear_output":
            clear_next = bool(output.get("wait"))
            shown = shown if clear_next else []
        elif kind == "update_display_data":
            _update(shown, output)
        else:
            if clear_next:
                shown, clear_next = [], False
            if kind == "stream" and shown and _same_stream(shown[-1], output):
                texts[id(shown[-1])].append(text_of(output.get("text")))
            else:
                shown.append(copy(output))
                if kind == "stream":
                    texts[id(shown[-1])] = [text_of(output.get("text"))]
    for output in shown:
        if output["output_type"] == "stream":
            output["text"] = "".join(texts[id(output)])
    return shown


def _same_stream(last: Output, output: Output) -> bool:
    return last["output_type"] == "stream" and last.get("name") == output.get("name")


def display_id(output: Output) -> str:
    """Give the id under which a display can be updated, or an empty string."""
    transient = output.get("transient")
    return str(transient.get("display_id") or "") if isinstance(transient, dict) else ""


def _update(shown: list[Output], update: Output) -> None:
    for place, output in enumerate(shown):
        if display_id(output) and display_id(output) == display_id(update):
            shown[place] = {**output, "data": update.get("data", {}), "metadata": update.get("metadata", {})}


def text_of(value: Any) -> str:
    """Give the text of a MIME value: nbformat allows a string or a list of lines."""
    if isinstance(value, str):
        return value
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def plain(text: str) -> str:
    """Give text as a terminal would leave it: no colour codes, overwritten lines and backspaces resolved."""
    text = _ANSI.sub("", text)
    if "\b" in text:
        kept: list[str] = []
        for char in text:
            if char != "\b":
                kept.append(char)
            elif kept and kept[-1] != "\n":
                kept.pop()
        text = "".join(kept)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))
    return text


def visible(text: str) -> str:
    """Show what a terminal would act on, or not show: control characters and marks of direction are escaped."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def valid(text: str) -> str:
    """Replace lone surrogates, which no UTF-8 file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def bounded(text: str, limit: int, *, unit: str = "characters") -> str:
    """Give ``text``, or its head and tail within ``limit`` characters and between them how much was left out."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit * 2 // 3], text[len(text) - limit // 3 :]
    return f"{head}\n... [{len(text) - len(head) - len(tail):,} {unit} left out] ...\n{tail}"


def secrets_in(environment: Iterable[tuple[str, str]] | None = None) -> tuple[str, ...]:
    """Give the values of environment variables whose names say that they are secret, longest first."""
    items = os.environ.items() if environment is None else environment
    found = {value for name, value in items if len(value) >= _SECRET_LENGTH and _SECRET_NAME.search(name)}
    paths = {value for value in found if value.isdigit() or _is_path(value)}
    return tuple(sorted(found - paths, key=len, reverse=True))


def _is_path(value: str) -> bool:
    """Say whether a value names a file rather than being a secret itself: some keys begin with a slash."""
    path = Path(value)
    return value.startswith(("~/", "./", "../")) or (path.is_absolute() and bool(path.suffix or path.exists()))


def redact(value: Any, secrets: Sequence[str]) -> Any:
    """Give a JSON value with every secret in its strings replaced; what holds none is given back as it is."""
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in secrets:
            if secret in value:
                value = value.replace(secret, "[redacted]")
        return value
    if isinstance(value, dict):
        return {key: redact(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redact(item, secrets) for item in value)
    return value
