"""What the model is told of a cell that ran: its outputs as message parts, within a cap."""

import base64
import re
from collections.abc import Sequence

from .events import CellFinished, Changes, Output
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


def observed(number: int, label: str, outputs: Sequence[Output], end: CellFinished | None) -> list[Part]:
    """Describe one cell for the model.

    Args:
        number: which of its reply's blocks the cell was, from 1.
        label: what the user sees as its execution count, such as ``"[4]"``.
        outputs: its outputs as published.
        end: how it ended; None if it never did.
    """
    shown = fold(outputs)
    texts, images = [], []
    for output in shown:
        text, image = _said(output)
        texts.append(text)
        if image:
            images.append(image)
    body = bounded("\n".join(text.strip("\n") for text in texts if text.strip()), CAP)
    head = f"Block {number}, cell {label}: {_status(end)}"
    if len(images) > IMAGES:
        head += f" ({len(images)} pictures, the last {IMAGES} are shown)"
    told = [head, body or "(no output)"]
    if end:
        told.extend(_changed(end.changes))
    return [TextPart("\n".join(told), "observation"), *images[-IMAGES:]]


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
    return told
