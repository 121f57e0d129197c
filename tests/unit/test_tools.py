"""Tool calls become text and observations become answers, with no endpoint."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from codeact_magic.errors import ModelError, ModelUnavailable
from codeact_magic.models.dialect import Request, Text
from codeact_magic.models.endpoint import Endpoint
from codeact_magic.models.memory import MAX_REPLIES, Answer, Call, Kept, Memory, replay
from codeact_magic.models.options import OpenAIOptions
from codeact_magic.models.providers import OPENAI
from codeact_magic.models.responses import Responses
from codeact_magic.models.tools import Arguments, Calls
from codeact_magic.ports import ImagePart, Message, Part, TextPart
from codeact_magic.replies import parse

ENDPOINT = Endpoint(
    provider=OPENAI,
    url="http://localhost/v1",
    shown="http://localhost/v1",
    model="m",
    timeout=1.0,
    headers={},
    query={},
    source="",
    secrets=(),
)


# The arguments of a call

CODE = "print(\"naïve 🙂\")\n# \\ \"quoted\" \t \u2028\nx = '''\n```\n'''\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("form", ['{{"code": {}}}', ' {{ "code":{} }} ', '{{"code": {}, "why": "{{"}}'])
def test_code_is_decoded_as_it_comes(form: str, ascii_only: bool, size: int) -> None:
    text = form.format(json.dumps(CODE, ensure_ascii=ascii_only))
    arguments = Arguments()
    came = [arguments.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join(came).encode("utf-16", "surrogatepass").decode("utf-16") == CODE
    assert arguments.whole() == (CODE, "")


def test_code_behind_another_argument_comes_at_the_end() -> None:
    arguments = Arguments()
    assert arguments.feed('{"why": "because", "code": "x"}') == ""
    assert arguments.whole() == ("x", "x")


def test_line_ends_may_stand_as_they_are() -> None:
    arguments = Arguments()
    assert arguments.feed('{"code": "a\nb"}') == "a\nb"
    assert arguments.whole() == ("a\nb", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1",
        '{"code": "x',
        '{"code": "x"',
        '{"code": "x"} {"code": "y"}',
        '{"code": "\\q"}',
        '{"code": "\\uZZZZ, and much more of it"}',
        '{"code": "x", "code": "y"}',
        '{"code": 5}',
        '{"code": ["x"]}',
        '{"source": "x"}',
        '["x"]',
        "[" * 100_000,
        '{"a": ' * 100_000,
    ],
    ids=lambda text: text[:40],
)
def test_what_is_no_code_is_not_sound(text: str) -> None:
    arguments = Arguments()
    for start in range(0, len(text), 5000):
        arguments.feed(text[start : start + 5000])
    assert arguments.whole() is None


def test_long_code_is_decoded_in_linear_time() -> None:
    def work(size: int) -> int:
        arguments, steps = Arguments(), 0
        for piece in ['{"code": "', *["x" * 10] * size, '"}']:
            arguments.feed(piece)
            steps += len(arguments._waiting)
        assert arguments.whole() is not None
        return steps

    assert work(20_000) == work(10) <= 20


# Calls in the text of a reply


def written(*items: tuple[str, str] | str, cut: bool = False, language: str = "python") -> tuple[str, list[Call]]:
    """Write text and calls (name, arguments) as a reply."""
    text = Text(ENDPOINT, 100_000)
    calls = Calls(text, ENDPOINT, language)
    for number, item in enumerate(items):
        if isinstance(item, str):
            calls.close()
            text.write(item)
        else:
            calls.begin(f"c{number}", item[0])
            for char in item[1]:
                calls.feed(char)
    calls.finish(cut=cut)
    text.rest()
    return text.whole, calls.numbered()


def cell(code: str) -> tuple[str, str]:
    return "run_cell", json.dumps({"code": code})


def blocks(text: str) -> list[str]:
    return [block.code for block in parse(text).blocks]


def test_a_call_is_a_block() -> None:
    text, calls = written("I add.", cell("6 * 7"))
    assert text == "I add.\n````python\n6 * 7\n````\n"
    assert calls == [Call("c1", block=1)]


def test_calls_and_text_keep_their_order() -> None:
    text, calls = written(cell("a"), cell("b\n"), "then\n```python\nc\n```\n", cell("a"), "Done.")
    assert blocks(text) == ["a", "b", "c", "a"]
    assert [call.block for call in calls] == [1, 2, 4]
    assert text.endswith("````\nDone.")


@pytest.mark.parametrize(
    "code",
    [
        "x = '''\n```\n'''",
        'x = """\n````\n"""',
        "print('\r\n')\r\ny",
        "\n\n  x",
        "# filename: a.py\nx",
        "a\ud83db",
        "%%bash\nls",
        "x = '''",
    ],
)
def test_odd_code_is_a_block_of_its_own(code: str) -> None:
    text, calls = written("Now:", cell(code), cell("last"))
    assert [call.block for call in calls] == [1, 2]
    assert len(blocks(text)) == 2


@pytest.mark.parametrize(
    "items",
    [
        ("```text\nan open fence\n", cell("x")),
        ("```python\nhalf a block\n", cell("x")),
        ("<think>open", cell("x")),
        (cell("a\n````\nb"),),
        (cell("x = '''\n````\n'''"), cell("y = '''")),
    ],
)
def test_a_call_that_cannot_be_told_from_the_text_is_not_run(items: Sequence[tuple[str, str] | str]) -> None:
    with pytest.raises(ModelUnavailable, match="nothing of it was run"):
        written(*items)


@pytest.mark.parametrize("arguments", ["", "{", '{"code": "x', '{"code": 5}', "x = 1"])
def test_a_call_with_unusable_arguments_is_not_run(arguments: str) -> None:
    with pytest.raises(ModelUnavailable, match="unusable arguments"):
        written(cell("x"), ("run_cell", arguments))


def test_a_call_that_the_limit_broke_off_stays_open() -> None:
    text, _ = written(cell("a"), ("run_cell", '{"code": "b = [1,'), cut=True)
    assert blocks(text) == ["a"]
    assert parse(text).unclosed


def test_a_call_without_code_is_no_text() -> None:
    text, (call,) = written(cell(" \n"))
    assert (text, call.block, call.note) == ("", 0, "There was no code in it.")


def test_an_unknown_tool_is_told_to_the_model() -> None:
    text, (first, second) = written(("browse", "no JSON"), cell("x"))
    assert blocks(text) == ["x"]
    assert "There is no tool 'browse'" in first.note
    assert second.block == 1


def test_an_unknown_tool_is_told_to_the_user_if_nothing_else_is_called() -> None:
    text, _ = written("I look it up.", ("browse", "{}"))
    assert text.startswith("I look it up.\n\n(The model called a tool that there is not, 'browse'")


def test_a_reply_of_unknown_tools_only_is_empty() -> None:
    assert written(("browse", "{}"))[0] == ""


def test_blocks_have_the_label_of_the_kernel() -> None:
    text, calls = written(cell("x <- 1"), language="r")
    assert text.startswith("````r\n")
    assert calls[0].block == 1


def test_arguments_count_as_part_of_the_reply() -> None:
    with pytest.raises(ModelError, match="longer than"):
        written(("browse", "x" * 100_001))


# What is remembered

PROMPT = Message("user", (TextPart("Go."),))
REPLY = Message("assistant", (TextPart("a reply", "reply"),))
IMAGE = ImagePart("image/png", "aGk=")


def observed(*parts: Part) -> Message:
    return Message("user", parts)


def about(block: int, text: str) -> TextPart:
    return TextPart(text, "observation", block)


def answered(calls: Sequence[Call], *after: Message) -> list[Answer]:
    known = [None, Kept(items=[{}], calls=calls), *(None for _ in after)]
    _, _, answers, *_ = replay([PROMPT, REPLY, *after], known)
    assert isinstance(answers, list)
    return answers


def test_each_call_gets_what_its_block_led_to() -> None:
    calls = [Call("a", 1), Call("b", 2), Call("c", 3)]
    parts = (about(1, "one"), IMAGE, about(1, "again"), about(2, "two"), about(0, "The rest was not run."))
    first, second, third = answered(calls, observed(*parts))
    assert (first.call, first.parts) == ("a", [about(1, "one"), IMAGE, about(1, "again")])
    assert second.parts == [about(2, "two")]
    assert [part.text for part in third.parts if isinstance(part, TextPart)] == [
        "It was not run.",
        "The rest was not run.",
    ]


@pytest.mark.parametrize("after", [(), (PROMPT,)])
def test_calls_without_an_observation_were_not_run(after: tuple[Message, ...]) -> None:
    calls = [Call("a", 1), Call("b", note="There is no tool.")]
    texts = [[part.text for part in answer.parts if isinstance(part, TextPart)] for answer in answered(calls, *after)]
    assert texts == [["It was not run."], ["There is no tool."]]


def test_what_is_about_no_call_goes_with_the_last() -> None:
    first, last = answered([Call("a", 2), Call("b", 3)], observed(about(1, "fenced"), about(2, "two"), about(3, "x")))
    assert [first.parts, last.parts] == [[about(2, "two")], [about(1, "fenced"), about(3, "x")]]


def test_a_reply_is_known_by_all_that_led_to_it() -> None:
    memory, kept = Memory(), Kept(items=[{"type": "message"}])
    _, digest = memory.recall(b"", [PROMPT])
    memory.keep(digest, "a reply", kept)
    assert memory.recall(b"", [PROMPT, REPLY, PROMPT])[0] == [None, kept, None]
    assert not any(memory.recall(b"", [PROMPT, PROMPT, REPLY])[0])
    assert not any(memory.recall(b"", [observed(TextPart("Go!")), REPLY])[0])
    assert not any(memory.recall(b"elsewhere", [PROMPT, REPLY])[0])


def test_the_memory_is_bounded_and_keeps_what_is_asked_for() -> None:
    memory = Memory()
    _, digest = memory.recall(b"", [PROMPT])
    memory.keep(digest, "a reply", Kept())
    for number in range(MAX_REPLIES - 1):
        memory.keep(digest, str(number), Kept())
    memory.recall(b"", [PROMPT, REPLY])
    memory.keep(digest, "one more", Kept())
    assert memory.recall(b"", [PROMPT, REPLY])[0][1]
    assert len(memory._kept) == MAX_REPLIES


def test_what_is_kept_can_be_sent() -> None:
    memory = Memory()
    _, digest = memory.recall(b"", [PROMPT])
    items = [{"id": "a\ud83d", "content": [{"text\ude42": "é\ud83d 🙂", "n": [1, 0.5, None, True]}]}]
    memory.keep(digest, "a reply", Kept(items=items, calls=[Call("a\ud83d", 1, "x")], response="b\ude42"))
    _, kept = memory.recall(b"", [PROMPT, REPLY])[0]
    assert kept == Kept(
        items=[{"id": "a?", "content": [{"text?": "é? 🙂", "n": [1, 0.5, None, True]}]}],
        calls=(Call("a?", 1, "x"),),
        response="b?",
    )


def test_what_is_nested_too_deeply_is_not_kept() -> None:
    memory = Memory()
    _, digest = memory.recall(b"", [PROMPT])
    item: dict[str, Any] = {}
    for _ in range(200_000):
        item = {"x": item}
    memory.keep(digest, "a reply", Kept(items=[item]))
    assert memory.recall(b"", [PROMPT, REPLY])[0] == [None, None]


@pytest.mark.parametrize(
    ("refusal", "gives_way"),
    [
        ("Invalid `previous_response_id`.", True),
        ("Response with id 'resp_1' not found.", True),
        ("{'code': 'previous_response_not_found'}", True),
        ("Previous response cannot be used: Zero Data Retention", True),
        ("there is no such model", False),
    ],
)
def test_the_words_for_a_lost_conversation_differ(refusal: str, gives_way: bool) -> None:
    dialect = Responses(OpenAIOptions(model="m", store=True))
    first = dialect.request([PROMPT], ENDPOINT, 100)
    asked = Request(body=first.body | {"previous_response_id": "resp_1"}, reader=first.reader)
    assert dialect.gives_way(asked, refusal) is gives_way
    assert dialect.gives_way(first, "previous_response_id") is False
