"""The scripted model keeps the promises of the ``Model`` port, without a network."""

import subprocess
import sys

import pytest

from codeact_magic.errors import BadCredentials, ModelError, ModelUnavailable
from codeact_magic.events import Usage
from codeact_magic.ports import Message, ReplyEnd, TextPart
from codeact_magic.testing import Fault, ScriptedModel, ScriptedReply

ASKED = (Message("user", (TextPart("12345678"),)),)


async def replied(model: ScriptedModel) -> tuple[list[str], ReplyEnd]:
    items = [item async for item in model.stream(ASKED)]
    assert isinstance(items[-1], ReplyEnd)
    return [item for item in items if isinstance(item, str)], items[-1]


async def test_strings_are_streamed_in_pieces() -> None:
    pieces, _ = await replied(ScriptedModel(["x" * 45]))
    assert [len(piece) for piece in pieces] == [20, 20, 5]


async def test_replies_come_in_order() -> None:
    model = ScriptedModel(["one", "two"])
    assert [(await replied(model))[0], (await replied(model))[0]] == [["one"], ["two"]]


async def test_a_script_that_has_run_out_says_so() -> None:
    with pytest.raises(ModelError, match=r"^The script has no reply left\.$"):
        await replied(ScriptedModel([]))


async def test_a_function_answers_from_the_messages() -> None:
    model = ScriptedModel(lambda messages: messages[-1].role)
    assert [(await replied(model))[0] for _ in range(3)] == [["user"]] * 3


async def test_an_item_may_be_a_function() -> None:
    model = ScriptedModel(["one", lambda messages: f"{len(messages)} asked"])
    await replied(model)
    assert (await replied(model))[0] == ["1 asked"]


async def test_prompts_are_kept() -> None:
    model = ScriptedModel(["one"])
    await replied(model)
    assert model.prompts == [ASKED]


async def test_exceptions_are_raised() -> None:
    error = ModelUnavailable("busy", 1.0)
    with pytest.raises(ModelUnavailable) as raised:
        await replied(ScriptedModel([error]))
    assert raised.value is error


async def test_tokens_are_counted_by_characters() -> None:
    _, end = await replied(ScriptedModel(["x" * 40]))
    assert end == ReplyEnd(usage=Usage(input=2, output=10), model="scripted")


async def test_the_end_is_as_scripted() -> None:
    usage = Usage(input=5, output=6, cached=4)
    _, end = await replied(ScriptedModel([ScriptedReply("x", usage=usage, model="m", finish="length")]))
    assert end == ReplyEnd(usage=usage, model="m", cut=True)


async def test_a_cut_stream_breaks_after_its_characters() -> None:
    stream = ScriptedModel([ScriptedReply("abcdef", chunk=2, fault=Fault(cut_after=3))]).stream(ASKED)
    assert [await anext(stream), await anext(stream)] == ["ab", "c"]
    with pytest.raises(ModelUnavailable, match="broke off"):
        await anext(stream)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=429, retry_after=2.0), ModelUnavailable),
        (Fault(status=503), ModelUnavailable),
        (Fault(status=429, code="insufficient_quota"), ModelError),
        (Fault(status=401), BadCredentials),
        (Fault(status=400), ModelError),
    ],
)
async def test_a_status_raises_what_the_real_model_raises(fault: Fault, error: type[ModelError]) -> None:
    with pytest.raises(ModelError) as raised:
        await replied(ScriptedModel([fault]))
    assert type(raised.value) is error
    assert getattr(raised.value, "retry_after", None) == fault.retry_after


async def test_it_can_be_used_after_it_was_closed() -> None:
    model = ScriptedModel(["one"])
    await model.aclose()
    assert (await replied(model))[0] == ["one"]


@pytest.mark.parametrize(
    "module", ["codeact_magic.testing", "codeact_magic.testing.server", "codeact_magic.models.openai"]
)
def test_openai_is_not_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('openai', 'httpx', 'httpx2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
