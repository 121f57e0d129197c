"""What the model writes is inert in HTML, and outputs are shown as what they are."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from codeact_magic.events import CellDecided, Changes, FileChange, Output
from codeact_magic.notebooks.render import (
    cell_html,
    code_html,
    fenced,
    file_html,
    markdown_html,
    output_html,
    output_text,
    step_html,
    turn_markdown,
    turn_text,
)
from codeact_magic.turns import Cell, Step, Turn

from .fakes import PIXEL, display, failure, stream

LINKED = {"href", "src", "action", "formaction", "xlink:href", "srcdoc", "data"}


class Found(HTMLParser):
    """Collects what a browser would act upon."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.links += [re.sub(r"\s", "", value or "").lower() for name, value in attrs if name in LINKED]


HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "text <script>alert(1)</script> text",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<style>body{display:none}</style>",
    "<a href='javascript:alert(1)'>x</a>",
    "<form action=//evil.example><input name=key></form>",
    "<!-- --><object data=x></object>",
    "<div onclick=alert(1)>\n\n**bold**\n\n</div>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1))",
    "[x]( javascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](data:image/svg+xml;base64,PHN2Zz4=)",
    "![x](javascript:alert(1))",
    '![x" onerror="alert(1)](x.png)',
    '[x](http://a "t\\" onclick=\\"alert(1)")',
    '[x](http://a"onclick="alert(1))',
    "<javascript:alert(1)>",
    "[x][r]\n\n[r]: javascript:alert(1)",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```x" onclick="alert(1)\ncode\n```',
    "    <script>alert(1)</script>",
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "~~<img src=x onerror=alert(1)>~~",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
]
SAFE = {"p", "a", "img", "strong", "em", "s", "code", "pre", "table", "thead", "tbody", "tr", "th", "td", "br"}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown_is_inert(text: str) -> None:
    found = Found(markdown_html(text))
    assert set(found.tags) <= SAFE
    assert found.handlers == []
    assert not [link for link in found.links if re.match(r"(javascript|vbscript|file|data):", link)]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_narration_is_inert_in_a_step(text: str) -> None:
    found = Found(step_html(Step([text])))
    assert set(found.tags) <= SAFE | {"div"}
    assert found.handlers == []


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**bold**", "<strong>bold</strong>"),
        ("~~gone~~", "<s>gone</s>"),
        ("| a |\n|---|\n| b |", "<td>b</td>"),
        ("[x](https://example.org)", '<a href="https://example.org">x</a>'),
        ("a < b & c", "a &lt; b &amp; c"),
    ],
)
def test_ordinary_markdown_is_rendered(text: str, html: str) -> None:
    assert html in markdown_html(text)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text", ["[" * 100_000, "*" * 100_000, "> " * 50_000, "- " * 50_000, "x" * 5_000_000, "`" * 100_000]
)
def test_markdown_of_any_size_is_rendered_within_seconds(text: str) -> None:
    assert len(markdown_html(text)) < 3_000_000


@pytest.mark.parametrize(
    "code",
    [
        "'</pre><script>alert(1)</script>'",
        "# <img src=x onerror=alert(1)>",
        "%%html\n<script>x</script>",
        '"<b>" & "&amp;"',
    ],
)
def test_code_is_escaped(code: str) -> None:
    html = code_html(code)
    assert set(Found(html).tags) <= {"pre", "span"}
    assert "<script" not in html


def test_code_is_coloured() -> None:
    assert '<span class="k">def</span>' in code_html("def f(): pass")


def test_code_is_shown_to_the_letter() -> None:
    code = "def f(a, b):\n    return a < b and '&amp;'  # done"
    texts: list[str] = []

    class Texts(HTMLParser):
        def handle_data(self, data: str) -> None:
            texts.append(data)

    Texts(convert_charrefs=True).feed(code_html(code) + "\n")
    assert "".join(texts).rstrip("\n") == code


def test_very_long_code_is_bounded_and_escaped() -> None:
    html = code_html("<script>" * 100_000)
    assert len(html) < 200_000
    assert "<script" not in html


RENDERED: list[tuple[Output, str]] = [
    (stream("a < b\n"), '<pre class="ca-out">a &lt; b</pre>'),
    (stream("<script>", "stderr"), '<pre class="ca-out ca-err">&lt;script&gt;</pre>'),
    (stream("\x1b[31mred\x1b[0m 1%\r2%"), '<pre class="ca-out">2%</pre>'),
    (display({"text/html": "<b>x</b>", "text/plain": "x"}), '<div class="ca-rich"><b>x</b></div>'),
    (display({"text/html": ["<b>", "x</b>"]}), '<div class="ca-rich"><b>x</b></div>'),
    (
        display({"image/png": PIXEL[:8] + "\n", "text/plain": "<Figure>"}),
        f'<div class="ca-rich"><img alt="figure" src="data:image/png;base64,{PIXEL[:8]}"></div>',
    ),
    (
        display({"image/png": '"><script>alert(1)</script>'}),
        '<div class="ca-rich"><img alt="figure" src="data:image/png;base64,scriptalert1/script"></div>',
    ),
    (
        display({"image/svg+xml": "<svg></svg>"}),
        '<div class="ca-rich"><img alt="figure" src="data:image/svg+xml;base64,PHN2Zz48L3N2Zz4="></div>',
    ),
    (display({"text/latex": "$a<b$"}), '<div class="ca-rich">$a&lt;b$</div>'),
    (display({"text/plain": "<A at 0x1>"}), '<pre class="ca-out">&lt;A at 0x1&gt;</pre>'),
    (display({"application/json": {"a": "<b>"}}), '<pre class="ca-out">{&#x27;a&#x27;: &#x27;&lt;b&gt;&#x27;}</pre>'),
    (display({"application/vnd.plotly.v1+json": {}, "text/html": "x"}), '<div class="ca-head">(shown below)</div>'),
    (display({}), ""),
]


@pytest.mark.parametrize(("output", "html"), RENDERED, ids=[repr(output)[:80] for output, _ in RENDERED])
def test_an_output_is_rendered_as_what_it_is(output: Output, html: str) -> None:
    assert output_html(output) == html


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (failure("E", "<b>x</b>"), "E: &lt;b&gt;x&lt;/b&gt;"),
        (failure("<script>", "x"), "&lt;script&gt;: x"),
        (
            failure(traceback=["\x1b[0;31mTraceback\x1b[0m", "<script>alert(1)</script>"]),
            "Traceback\n&lt;script&gt;alert",
        ),
    ],
)
def test_an_error_is_shown_as_an_error_and_escaped(output: Output, text: str) -> None:
    html = output_html(output)
    assert text in html
    assert "ca-err" in html
    assert set(Found(html).tags) <= {"pre", "details", "summary", "div", "code"}


def test_markdown_of_an_output_is_inert() -> None:
    html = output_html(display({"text/markdown": "<script>alert(1)</script> **x**"}))
    assert set(Found(html).tags) <= SAFE | {"div"}


def test_a_long_output_is_bounded() -> None:
    assert len(output_html(stream("x" * 1_000_000))) < 30_000


def cell(**more: object) -> Cell:
    made = Cell("c", 1, "x = 1")
    for name, value in more.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("shown", "head"),
    [
        (cell(), '<div class="ca-head">[ ]</div>'),
        (cell(execution_count=3, status="ok", seconds=0.05), '<div class="ca-head">[3]</div>'),
        (cell(execution_count=3, status="ok", seconds=2.0), '<div class="ca-head">[3] · 2.0 s</div>'),
        (cell(status="running"), '<div class="ca-head">[ ] · running</div>'),
        (cell(status="error"), '<div class="ca-head ca-err">[ ] · failed</div>'),
        (cell(status="stopped"), '<div class="ca-head">[ ] · stopped</div>'),
        (cell(status="timeout"), '<div class="ca-head ca-err">[ ] · time limit</div>'),
        (cell(status="died"), '<div class="ca-head ca-err">[ ] · kernel died</div>'),
    ],
)
def test_a_cell_says_its_count_and_status(shown: Cell, head: str) -> None:
    assert cell_html(shown).startswith(head)


def test_outputs_of_a_cell_can_be_left_out() -> None:
    shown = cell(published=[stream("output")])
    assert "output" in cell_html(shown)
    assert "output" not in cell_html(shown, with_outputs=False)


def test_an_empty_step_is_nothing() -> None:
    assert step_html(Step()) == ""


@pytest.mark.parametrize(
    ("text", "fence"), [("x", "```"), ("a `b` c", "```"), ("```", "````"), ("a\n`````\nb", "``````")]
)
def test_a_text_is_fenced_with_more_backticks_than_it_holds(text: str, fence: str) -> None:
    assert fenced(text, "python") == f"{fence}python\n{text}\n{fence}"


TURN = Turn(
    steps=[Step(["Look.", ""], [cell(execution_count=3, published=[stream("1\n"), display({"image/png": PIXEL})])])],
    answer="It is **1**.",
    reason="answered",
)


def test_a_turn_in_markdown_holds_all_of_it() -> None:
    assert turn_markdown(TURN) == (
        "Look.\n\n```python\nx = 1\n```\n\n```text\n1\n```\n\n"
        f"![figure](data:image/png;base64,{PIXEL})\n\nIt is **1**.\n\n*Answered · 1 step · 0.0 s*"
    )


def test_a_turn_as_text_looks_like_a_terminal() -> None:
    assert turn_text(TURN) == "Look.\n\nIn [3]:\nx = 1\n\n1\n\n<image/png>\n\nIt is **1**.\n\nAnswered · 1 step · 0.0 s"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (stream("\x1b[31mred\x1b[0m\n"), "red"),
        (failure(), "ValueError: bad"),
        (failure(traceback=["a", "b"]), "a\nb"),
        (display({"text/plain": "x", "text/html": "y"}), "x"),
        (display({"text/html": "y", "image/png": "z"}), "<image/png, text/html>"),
    ],
)
def test_an_output_as_text(output: Output, text: str) -> None:
    assert output_text(output) == text


def test_scripts_in_a_drawing_are_inert() -> None:
    drawing = "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    found = Found(output_html(display({"image/svg+xml": drawing})))
    assert found.tags == ["div", "img"]


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        (CellDecided(cell="c", decision="run", risk="delete: x"), "[ ] · allowed by you (may delete: x)"),
        (
            CellDecided(cell="c", decision="run", by="setting", risk="delete: x"),
            "allowed by the settings (may delete: x)",
        ),
        (CellDecided(cell="c", decision="run"), "[ ] · allowed by you<"),
        (CellDecided(cell="c", decision="edited", code="y"), "[ ] · edited by you<"),
        (CellDecided(cell="c", decision="rejected", risk="a: <script>"), "rejected by you (may a: &lt;script&gt;)"),
        (CellDecided(cell="c", decision="rejected", by="setting"), "rejected by the settings<"),
    ],
)
def test_a_decision_is_said_with_its_cell(decided: CellDecided, said: str) -> None:
    assert said in cell_html(cell(decided=decided))


def test_a_cell_that_was_not_run_says_so() -> None:
    assert "[ ] · not run" in cell_html(cell(status="rejected"))


def test_a_long_risk_is_cut() -> None:
    assert len(cell_html(cell(decided=CellDecided(cell="c", decision="run", risk="x" * 100_000)))) < 1000


NAMES = [
    "plain.png",
    "a b/c d.png",
    "ü ✓.png",
    '"><script>alert(1)</script>.png',
    "' onerror='alert(1).png",
    "a\nb.png",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)<script>",
    "//evil.example/x.png",
    "https://evil.example/x.png",
    "</details></div><img src=x onerror=alert(1)>.svg",
    "100%.png",
    "?a=1&b=2#c.png",
    "x" * 300 + ".png",
    "lone \ud800.png",
    "",
]


@pytest.mark.parametrize("change", ["new", "changed", "deleted", "more"])
@pytest.mark.parametrize("kind", ["image/png", "image/svg+xml", "text/html", ""])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_a_files_name_is_inert(name: str, kind: str, change: Any) -> None:
    found = Found(file_html(FileChange(path=name, change=change, size=1, type=kind)))
    assert set(found.tags) <= {"div", "a", "details", "summary", "img"}
    assert found.handlers == []
    for link in found.links:
        assert re.fullmatch(r"\./[\w%./~-]*", link)
    if change in ("deleted", "more"):
        assert found.links == []


def test_a_file_has_a_link_and_a_picture_can_be_unfolded() -> None:
    file = FileChange(path="out/a b.png", change="new", size=3, type="image/png")
    shown = file_html(file)
    assert Found(shown).links == ["./out/a%20b.png", "./out/a%20b.png"]
    assert "<details" in shown
    assert "out/a b.png (new, 3 bytes, image/png)" in shown


def test_files_and_decisions_are_part_of_every_view() -> None:
    changes = Changes(files=(FileChange(path="a_*<b>`[x](y).csv", change="deleted"),))
    decided = CellDecided(cell="c", decision="run", risk="delete: rm(*x)")
    turn = Turn(steps=[Step(cells=[cell(status="ok", changes=changes, decided=decided, detail="Slow.")])])
    assert "[allowed by you (may delete: rm(*x))]\n\n[Slow.]\n\n[a_*<b>`[x](y).csv (deleted)]" in turn_text(turn)
    shown = turn_markdown(turn)
    assert r"*a\_\*\<b\>\`\[x\](y).csv (deleted)*" in shown
    html = markdown_html(shown)
    assert "<em>a_*&lt;b&gt;`[x](y).csv (deleted)</em>" in html
    assert Found(html).links == []
