"""What the model is told of a cell that ran: its outputs as message parts, within a cap."""

import base64
import re
from collections.abc import Sequence

from .events import CellDecided, CellFinished, Changes, FileChange, Output
from .outputs import bounded, fold, plain, text_of
from .ports import ImagePart, Part, TextPart

CAP = 16_000
"""Characters of one cell's outputs that the model is sent."""
IMAGES = 6
"""Pictures of one cell that the model is sent."""

_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_TEXT_TYPES = ("text/plain", "text/markdown", "text/latex", "application/json")
_IMAGE_BYTES = 5_000_000  # of base64: endpoints refuse larger pictures
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_TRACEBACK = 6_000


def observed(
    what: str,
    label: str,
    outputs: Sequence[Output],
    end: CellFinished | None,
    decided: CellDecided | None = None,
    *,
    block: int = 0,
) -> list[Part]:
    """Describe one cell for the model.

    Args:
        what: the cell it was: ``"Block 1"``.
        label: what the user sees as its execution count, such as ``"[4]"``.
        outputs: its outputs as published.
        end: how it ended; None if it never did.
        decided: what was decided on it, if that was a question.
        block: the reply's block, from 1.
    """
    if decided and decided.decision == "rejected":
        return [TextPart(_rejected(what, decided), "observation", block)]
    shown = fold(outputs)
    texts, images = [], []
    for output in shown:
        text, image = _said(output)
        texts.append(text)
        if image:
            images.append(image)
    body = bounded("\n".join(text.strip("\n") for text in texts if text.strip()), CAP)
    head = f"{what}, cell {label}: {_status(end)}"
    if len(images) > IMAGES:
        head += f" ({len(images)} pictures, the last {IMAGES} are shown)"
    told = [head]
    if decided and decided.decision == "edited":
        told.append(f"The user edited it before it ran:\n{bounded(decided.code, CAP)}\nIts outputs:")
    told.append(body or "(no output)")
    if end:
        told.extend(_changed(end.changes))
    return [TextPart("\n".join(told), "observation", block), *images[-IMAGES:]]


def _rejected(what: str, decided: CellDecided) -> str:
    risk = f" It was asked about because it may {bounded(decided.risk, 1000)}." if decided.risk else ""
    reason = bounded(decided.reason.strip(), 2000)
    if decided.by == "user" and reason:
        return f"{what} was not run: the user rejected it.{risk} Go on as the user says: {reason}"
    who = "the user" if decided.by == "user" else "the settings"
    why = f", as {reason.rstrip('.')}" if reason else ""
    return f"{what} was not run: {who} rejected it{why}.{risk} Do not try the same in another way; go on without it."


def _said(output: Output) -> tuple[str, ImagePart | None]:
    kind = output["output_type"]
    if kind == "stream":
        return plain(text_of(output.get("text", ""))), None
    if kind == "error":
        lines = output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"]
        return bounded(plain("\n".join(map(str, lines))), _TRACEBACK), None
    data = output.get("data") or {}
    text = next((text_of(data[mime]) for mime in _TEXT_TYPES if mime in data), "")
    for mime in _IMAGE_TYPES:
        if mime in data:
            picture = "".join(text_of(data[mime]).split())
            if not _is_picture(picture):
                return f"{text}\n(a picture that cannot be read)", None
            if len(picture) <= _IMAGE_BYTES:
                return text, ImagePart(mime, picture)
            return f"{text}\n(a picture of {len(picture) * 3 // 4:,} bytes, too large to be shown to you)", None
    if not text and data:
        text = f"(shown to the user as {', '.join(sorted(data))})"
    return plain(text), None


def _is_picture(encoded: str) -> bool:
    """Say whether base64 data begins as a picture does: an endpoint refuses all else, and with it the whole thread."""
    try:
        head = base64.b64decode(encoded[:24], validate=True)
    except ValueError:
        return False
    known = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF")
    return head.startswith(known) and _BASE64.fullmatch(encoded) is not None


def _status(end: CellFinished | None) -> str:
    if end is None:
        return "did not finish"
    said = {
        "ok": "ran",
        "error": "failed",
        "stopped": "was stopped by the user",
        "timeout": "was interrupted at its time limit",
        "died": "ended with the kernel",
    }[end.status]
    return f"{said}. {end.detail}" if end.detail else f"{said}."


def _changed(changes: Changes) -> list[str]:
    told = []
    for verb, names in (("New names", changes.created), ("Bound anew", changes.rebound)):
        if names:
            rows = [f"{name} ({kind})" if kind else name for name, kind in names.items()]
            told.append(f"{verb}: {', '.join(rows)}")
    if changes.deleted:
        told.append(f"Deleted names: {', '.join(changes.deleted)}")
    if changes.files:
        told.append(f"Files: {', '.join(map(file_line, changes.files))}")
    return told


def file_line(file: FileChange) -> str:
    """Give a file in a few words: ``plot.png (new, 12,345 bytes, image/png)``."""
    if file.change == "more":
        return file.path
    size = "" if file.change == "deleted" else f", {file.size:,} byte{'' if file.size == 1 else 's'}"
    line = f"{file.path} ({file.change}{size}{f', {file.type}' if file.type else ''})"
    return "".join(char if char.isprintable() else "?" for char in line)  # it is shown in terminals


def file_lines(files: Sequence[FileChange], most: int) -> list[str]:
    """Give files a line each, at most so many, and how many there are beyond."""
    lines = [file_line(file) for file in files[:most]]
    return [*lines, f"and {len(files) - most} more files"] if len(files) > most else lines
