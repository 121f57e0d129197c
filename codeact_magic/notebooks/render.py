"""A turn as MIME texts: HTML for notebooks, Markdown for exports, plain text for the rest.

Text of the model is rendered with raw HTML off and links checked. HTML outputs of cells are shown as they are, as in
any cell that the user ran.
"""

import base64
import html
import re
from functools import cache
from typing import Any
from urllib.parse import quote

from ..events import CellDecided, FileChange, Output
from ..observations import file_line
from ..outputs import bounded, plain, text_of, visible
from ..turns import Cell, Step, Turn, summary

_SHOWN = 20_000  # characters of one text in the prompt cell; the record keeps the rest
_COLOURED = 5_000  # characters of code; the lexer is slow on long texts
_MARKED, _ESCAPED = re.compile(r"([\\`*_\[\]<>&!])"), r"\\\1"  # what Markdown would take for more than text
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_STATUS = {
    "rejected": "not run",
    "error": "failed",
    "stopped": "stopped",
    "timeout": "time limit",
    "died": "kernel died",
    "running": "running",
}

STYLE = """<style>
.codeact{--ca-line:var(--jp-border-color2,var(--vscode-panel-border,#8885));--ca-soft:var(--jp-layout-color2,#8881);
--ca-dim:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#777));--ca-bad:var(--jp-error-color1,#d32f2f);
--ca-k:var(--jp-mirror-editor-keyword-color,#0a7d33);--ca-s:var(--jp-mirror-editor-string-color,#b3261e);
--ca-n:var(--jp-mirror-editor-number-color,#0a7d33);--ca-c:var(--jp-mirror-editor-comment-color,#5f8787);
--ca-o:var(--jp-mirror-editor-operator-color,#7b2fbf);max-width:75em}
.codeact .ca-step{border-left:2px solid var(--ca-line);padding:0 0 0 .9em;margin:.5em 0}
.codeact pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.93em;line-height:1.4;margin:.3em 0;background:none}
.codeact pre.ca-code{background:var(--ca-soft);padding:.5em .7em;border-radius:4px}
.codeact pre.ca-out{max-height:24em;overflow:auto;padding:.1em .7em}
.codeact .ca-err.ca-err{color:var(--ca-bad)}.codeact summary{font-family:var(--jp-code-font-family,monospace)}
.codeact img{max-width:100%}
.codeact .ca-head,.codeact .ca-foot{color:var(--ca-dim);font-size:.86em}
.codeact .ca-rich{overflow-x:auto;padding:.1em .7em}.codeact .ca-foot{margin-top:.6em}
.codeact .k{color:var(--ca-k);font-weight:600}.codeact .s{color:var(--ca-s)}.codeact .m{color:var(--ca-n)}
.codeact .c{color:var(--ca-c);font-style:italic}.codeact .o{color:var(--ca-o)}
</style>"""


@cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt  # noqa: PLC0415 - not needed in a terminal

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


@cache
def _lexer() -> Any:
    from pygments.lexers.python import PythonLexer  # noqa: PLC0415

    return PythonLexer()  # IPython's own takes seconds for some texts


def markdown_html(text: str) -> str:
    """Render Markdown from the model: raw HTML is shown as text, unsafe links are dropped."""
    rendered: str = _markdown().render(bounded(text, 2 * _SHOWN))
    return rendered


def code_html(code: str) -> str:
    """Render code in colours that follow the frontend's theme."""
    if len(code) > _COLOURED:
        return f'<pre class="ca-code">{html.escape(bounded(code, _SHOWN))}</pre>'
    pieces = []
    for kind, value in _lexer().get_tokens(code):
        name = next((css for token, css in _TOKENS if str(kind).startswith(token)), "")
        text = html.escape(value)
        pieces.append(f'<span class="{name}">{text}</span>' if name else text)
    return f'<pre class="ca-code">{"".join(pieces).rstrip()}</pre>'


_TOKENS = (
    ("Token.Keyword", "k"),
    ("Token.Operator.Word", "k"),
    ("Token.Operator", "o"),
    ("Token.Literal.String", "s"),
    ("Token.Literal.Number", "m"),
    ("Token.Comment", "c"),
)


def cell_html(cell: Cell, *, with_outputs: bool = True) -> str:
    """Render one cell: its number and status, its code, its outputs."""
    label = f"[{cell.execution_count}]" if cell.execution_count is not None else "[ ]"
    words = [label]
    if cell.status in _STATUS:
        words.append(_STATUS[cell.status])
    if cell.seconds >= 0.1:
        words.append(f"{cell.seconds:.1f} s")
    if said := decided_text(cell):
        words.append(html.escape(said))
    css = "ca-head ca-err" if cell.status in ("error", "timeout", "died") else "ca-head"
    outputs = "".join(map(output_html, cell.outputs)) if with_outputs else ""
    files = "".join(map(file_html, cell.changes.files))
    return f'<div class="{css}">{" · ".join(words)}</div>{code_html(visible(cell.code))}{outputs}{files}'


def decided_text(cell: Cell) -> str:
    """Say in a few words what was decided on a cell; empty if that was no question."""
    decided = cell.decided
    if decided is None:
        return ""
    who = "you" if decided.by == "user" else "the settings"
    verb = {"run": "allowed by", "edited": "edited by", "rejected": "rejected by"}[decided.decision]
    reason = f": {decided.reason}" if decided.reason else ""
    return bounded(f"{verb} {who}{f' (may {decided.risk})' if decided.risk else ''}{reason}", 500)


def rejected_markdown(code: str, language: str, decided: CellDecided) -> str:
    """Say in the document that a cell was not run, with its code."""
    said = _MARKED.sub(_ESCAPED, decided_text(Cell("", 0, code, decided=decided)))
    return f"**Not run**, {said}\n\n{fenced(code, language)}"


def file_html(file: FileChange) -> str:
    """Name a file that a cell wrote, with a link; a picture can be unfolded."""
    line, address = html.escape(file_line(file)), "./" + quote(file.path, errors="replace")
    if file.change in ("deleted", "more"):
        return f'<div class="ca-head">{line}</div>'
    link = f'<a href="{address}" target="_blank" rel="noopener">{line}</a>'
    if file.type in _PICTURES or file.type == "image/svg+xml":
        picture = f'<img alt="{html.escape(file.path)}" src="{address}" loading="lazy">'
        return f'<details class="ca-head"><summary>{link}</summary>{picture}</details>'
    return f'<div class="ca-head">{link}</div>'


def output_html(output: Output) -> str:
    """Render one output."""
    kind = output["output_type"]
    if kind == "stream":
        css = "ca-out ca-err" if output.get("name") == "stderr" else "ca-out"
        return f'<pre class="{css}">{_escaped(output.get("text", ""))}</pre>'
    if kind == "error":
        lines = output.get("traceback") or []
        said = bounded(plain(f"{output.get('ename')}: {output.get('evalue')}"), _SHOWN // 10)
        whole = f'<pre class="ca-out">{_escaped(chr(10).join(map(str, lines)))}</pre>' if lines else ""
        return f'<details class="ca-rich"><summary class="ca-err">{html.escape(said)}</summary>{whole}</details>'
    data = output.get("data") or {}
    if any(mime.startswith("application/") and mime != "application/json" for mime in data):
        return '<div class="ca-head">(shown below)</div>'
    if "text/html" in data:
        return f'<div class="ca-rich">{text_of(data["text/html"])}</div>'
    for mime in _PICTURES:
        if mime in data:
            picture = re.sub(r"[^A-Za-z0-9+/=]", "", text_of(data[mime]))
            return f'<div class="ca-rich"><img alt="figure" src="data:{mime};base64,{picture}"></div>'
    if "image/svg+xml" in data:
        drawing = base64.b64encode(text_of(data["image/svg+xml"]).encode(errors="replace")).decode()
        # As a picture, its scripts are inert, as where a frontend shows it itself.
        return f'<div class="ca-rich"><img alt="figure" src="data:image/svg+xml;base64,{drawing}"></div>'
    if "text/markdown" in data:
        return f'<div class="ca-rich">{markdown_html(text_of(data["text/markdown"]))}</div>'
    if "text/latex" in data:
        return f'<div class="ca-rich">{_escaped(data["text/latex"])}</div>'
    text = next((text_of(value) for mime, value in data.items() if mime in ("text/plain", "application/json")), "")
    return f'<pre class="ca-out">{_escaped(text)}</pre>' if text else ""


def _escaped(text: Any) -> str:
    return html.escape(bounded(plain(text_of(text)), _SHOWN).rstrip("\n"))


def step_html(step: Step) -> str:
    """Render a step: what the model said, then its cells."""
    parts = [markdown_html(part) if isinstance(part, str) else cell_html(part) for part in step.parts]
    return f'<div class="ca-step">{"".join(parts)}</div>' if parts else ""


def turn_markdown(turn: Turn) -> str:
    """Give the whole turn as Markdown, for exports and for frontends that show no HTML."""
    parts = []
    for step in turn.steps:
        for part in step.parts:
            if isinstance(part, str):
                parts.append(part)
            else:
                parts.append(fenced(part.code, turn.language))
                parts.extend(filter(None, map(_output_markdown, part.outputs)))
                parts.extend(f"*{_MARKED.sub(_ESCAPED, note)}*" for note in _notes(part))
    if turn.answer:
        parts.append(turn.answer)
    parts.append(f"*{summary(turn)}*")
    return "\n\n".join(parts)


def _output_markdown(output: Output) -> str:
    data = output.get("data") or {}
    for mime in _PICTURES:
        if mime in data:
            return f"![figure](data:{mime};base64,{re.sub(r'[^A-Za-z0-9+/=]', '', text_of(data[mime]))})"
    text = output_text(output)
    return fenced(text, "text") if text else ""


def output_text(output: Output) -> str:
    """Give one output as plain text, bounded."""
    kind = output["output_type"]
    if kind == "stream":
        text = plain(text_of(output.get("text", "")))
    elif kind == "error":
        lines = output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"]
        text = plain("\n".join(map(str, lines)))
    else:
        data = output.get("data") or {}
        text = plain(text_of(data["text/plain"])) if "text/plain" in data else f"<{', '.join(sorted(data))}>"
    return bounded(text.rstrip("\n"), _SHOWN)


def fenced(text: str, label: str) -> str:
    """Fence a text with more backticks than it holds in a row."""
    label = re.sub(r"[^\w+.#-]", "", label)
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{label}\n{text}\n{fence}"


def turn_text(turn: Turn) -> str:
    """Give the whole turn as plain text."""
    parts = []
    for step in turn.steps:
        for part in step.parts:
            if isinstance(part, str):
                parts.append(part)
            else:
                count = part.execution_count if part.execution_count is not None else " "
                parts.append(f"In [{count}]:\n{part.code}")
                parts.extend(map(output_text, part.outputs))
                parts.extend(f"[{note}]" for note in _notes(part))
    parts += [turn.answer, summary(turn)]
    return "\n\n".join(part for part in parts if part)


def _notes(cell: Cell) -> list[str]:
    """Give what is to be said of a cell beside its outputs: a decision, how it ended, files."""
    notes = [decided_text(cell), cell.detail, *map(file_line, cell.changes.files)]
    return [note for note in notes if note]
