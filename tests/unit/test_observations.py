"""The model is told what a cell did: how it ended, its outputs, its pictures, its names."""

from typing import Any

import pytest

from codeact_magic.events import CellFinished, Changes, Output, Status
from codeact_magic.observations import CAP, IMAGES, observed
from codeact_magic.ports import ImagePart, Part, TextPart

from .fakes import PIXEL, clear, display, failure, stream

OK = CellFinished(cell="c", status="ok")


def told(*outputs: Output, end: CellFinished | None = OK) -> str:
    first = observed(1, "[4]", outputs, end)[0]
    assert isinstance(first, TextPart)
    return first.text


def pictures(parts: list[Part]) -> list[ImagePart]:
    return [part for part in parts if isinstance(part, ImagePart)]


@pytest.mark.parametrize(
    ("status", "head"),
    [
        ("ok", "Block 1, cell [4]: ran."),
        ("error", "Block 1, cell [4]: failed."),
        ("stopped", "Block 1, cell [4]: was stopped by the user."),
        ("timeout", "Block 1, cell [4]: was interrupted at its time limit."),
        ("died", "Block 1, cell [4]: ended with the kernel."),
    ],
)
def test_the_first_line_says_how_the_cell_ended(status: Status, head: str) -> None:
    assert told(end=CellFinished(cell="c", status=status)).splitlines()[0] == head


def test_a_detail_follows_the_status() -> None:
    assert (
        told(end=CellFinished(cell="c", status="timeout", detail="It ran for 5 s."))
        .splitlines()[0]
        .endswith("time limit. It ran for 5 s.")
    )


def test_a_cell_without_an_end_did_not_finish() -> None:
    assert told(end=None).splitlines()[0] == "Block 1, cell [4]: did not finish"


def test_a_silent_cell_has_no_output() -> None:
    assert told().splitlines()[1:] == ["(no output)"]


SAID: dict[str, tuple[list[Output], str]] = {
    "streams": ([stream("a\n"), stream("b\n")], "a\nb"),
    "stdout and stderr": ([stream("a\n"), stream("b\n", "stderr")], "a\nb"),
    "colours": ([stream("\x1b[31mred\x1b[0m\n")], "red"),
    "a progress bar": ([stream("1%\r"), stream("100%\n")], "100%"),
    "what was cleared": ([stream("a"), clear(wait=False), stream("b")], "b"),
    "a result": ([{"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}}], "42"),
    "plain text before HTML": ([display({"text/html": "<b>x</b>", "text/plain": "x"})], "x"),
    "Markdown": ([display({"text/markdown": "**x**"})], "**x**"),
    "JSON": ([display({"application/json": {"a": 1}})], "{'a': 1}"),
    "HTML alone": ([display({"text/html": "<b>x</b>"})], "(shown to the user as text/html)"),
    "a widget": (
        [display({"application/vnd.jupyter.widget-view+json": {}, "text/html": "x"})],
        "(shown to the user as application/vnd.jupyter.widget-view+json, text/html)",
    ),
    "lists of lines": ([display({"text/plain": ["a\n", "b"]})], "a\nb"),
    "a traceback": ([failure(traceback=["\x1b[31mTraceback\x1b[0m", "ValueError: bad"])], "Traceback\nValueError: bad"),
    "an error without a traceback": ([failure()], "ValueError: bad"),
    "an empty display": ([display({})], "(no output)"),
}


@pytest.mark.parametrize("case", SAID)
def test_outputs_are_told_as_text(case: str) -> None:
    outputs, said = SAID[case]
    assert told(*outputs).split("\n", 1)[1] == said


def test_changed_names_come_last() -> None:
    changes = Changes(created={"a": "int", "and 3 more": ""}, rebound={"b": "str"}, deleted=("c", "d"))
    assert told(end=CellFinished(cell="c", status="ok", changes=changes)).splitlines()[2:] == [
        "New names: a (int), and 3 more",
        "Bound anew: b (str)",
        "Deleted names: c, d",
    ]


@pytest.mark.parametrize("mime", ["image/png", "image/jpeg", "image/gif", "image/webp"])
def test_a_picture_is_a_part_of_its_own(mime: str) -> None:
    parts = observed(1, "[1]", [display({mime: PIXEL + "\n", "text/plain": "<Figure>"})], OK)
    assert pictures(parts) == [ImagePart(mime, PIXEL)]


def test_a_picture_is_never_text() -> None:
    assert PIXEL not in told(display({"image/png": PIXEL, "text/plain": "<Figure>"}))


BARE = PIXEL.rstrip("=")


@pytest.mark.parametrize("data", ["AAAA", "not base64!", "", PIXEL + "<script>", ["a", 3]])
def test_what_is_no_picture_is_not_sent_as_one(data: Any) -> None:
    parts = observed(1, "[1]", [display({"image/png": data, "text/plain": "<Figure>"})], OK)
    assert pictures(parts) == []
    assert "(a picture that cannot be read)" in told(display({"image/png": data}))


def test_only_the_last_pictures_are_sent() -> None:
    outputs = [display({"image/png": f"{BARE}{number}"}) for number in range(IMAGES + 2)]
    parts = observed(1, "[1]", outputs, OK)
    assert [part.data for part in pictures(parts)] == [f"{BARE}{number}" for number in range(2, IMAGES + 2)]


def test_that_pictures_are_left_out_is_said() -> None:
    assert f"({IMAGES + 2} pictures, the last {IMAGES} are shown)" in told(
        *[display({"image/png": PIXEL})] * (IMAGES + 2)
    )


def test_a_picture_that_is_too_large_is_not_sent() -> None:
    parts = observed(1, "[1]", [display({"image/png": BARE + "A" * (6_000_000 - len(BARE))})], OK)
    assert pictures(parts) == []
    assert "(a picture of 4,500,000 bytes, too large to be shown to you)" in told(
        display({"image/png": BARE + "A" * (6_000_000 - len(BARE))})
    )


def test_a_flood_is_bounded_and_keeps_its_head_and_tail() -> None:
    said = told(stream("first\n" + "x" * 1_000_000 + "\nlast\n"))
    assert len(said) < CAP + 200
    assert "\nfirst\n" in said
    assert said.endswith("\nlast")


def test_many_outputs_are_bounded_together() -> None:
    assert len(told(*[display({"text/plain": "x" * 1000})] * 500)) < CAP + 200


def test_a_long_traceback_keeps_its_error() -> None:
    assert told(failure(traceback=["x" * 50] * 10_000 + ["ValueError: bad"])).endswith("ValueError: bad")


def test_outputs_are_observations_to_whoever_compares() -> None:
    first = observed(1, "[1]", [stream("x")], OK)[0]
    assert isinstance(first, TextPart)
    assert first.kind == "observation"
