"""The messages to the model follow from the events, and only ever grow."""

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from codeact_magic import prompts
from codeact_magic.conversation import Conversation, usage_of
from codeact_magic.events import (
    CellDecided,
    CellFinished,
    CellOutput,
    CellProposed,
    CellStarted,
    Event,
    ModelRetried,
    ReplyDelta,
    ReplyDiscarded,
    ReplyFinished,
    TurnFinished,
    TurnStarted,
    Usage,
)
from codeact_magic.ports import ImagePart, Message, TextPart

from .fakes import PIXEL, display, failure, python, stream, text_of_message


def start(turn: str = "t1", prompt: str = "Do it.", context: str = "") -> TurnStarted:
    return TurnStarted(turn=turn, thread="x", prompt=prompt, filled=prompt, context=context)


def cell(name: str, *events: Event, status: str = "ok") -> list[Event]:
    return [
        CellProposed(cell=name, step=1, code="x"),
        CellStarted(cell=name, execution_count=7),
        *events,
        CellFinished(cell=name, status=status),  # type: ignore[arg-type]
    ]


def answered(text: str = "Done.") -> list[Event]:
    return [ReplyFinished(text=text), TurnFinished(reason="answered", answer=text)]


def said(events: Sequence[Event]) -> list[tuple[str, str]]:
    return [(message.role, text_of_message(message)) for message in Conversation(events).messages()]


def test_a_prompt_and_its_answer_are_two_messages() -> None:
    assert said([start(), *answered()]) == [("user", "Do it."), ("assistant", "Done.")]


def test_the_model_is_sent_the_filled_prompt() -> None:
    event = TurnStarted(turn="t", thread="x", prompt="Plot {a}.", filled="Plot [1, 2].")
    assert said([event]) == [("user", "Plot [1, 2].")]


def test_what_the_model_is_told_of_the_state_comes_before_the_prompt() -> None:
    (message,) = Conversation([start(context="Names: a")]).messages()
    assert message.parts == (TextPart("Names: a", "context"), TextPart("Do it.", "prompt"))


def test_the_system_prompt_comes_first() -> None:
    first = Conversation([start()]).messages("Be brief.")[0]
    assert first == Message("system", (TextPart("Be brief.", "system"),))


def test_no_system_prompt_is_no_message() -> None:
    assert [message.role for message in Conversation([start()]).messages("")] == ["user"]


def test_cells_are_observed_in_one_message() -> None:
    events = [start(), ReplyFinished(text=python("a") + python("b")), *cell("1"), *cell("2")]
    assert said(events)[2:] == [("user", "Block 1, cell [7]: ran.\n(no output)\nBlock 2, cell [7]: ran.\n(no output)")]


def test_pictures_go_to_the_model_as_pictures() -> None:
    output = CellOutput(cell="1", output=display({"image/png": PIXEL}))
    messages = Conversation([start(), ReplyFinished(text=python("a")), *cell("1", output)]).messages()
    assert messages[-1].parts[-1] == ImagePart("image/png", PIXEL)


@pytest.mark.parametrize(
    ("blocks", "note"), [(2, "The block after it was not run."), (4, "The 3 blocks after it were not run.")]
)
def test_blocks_that_were_not_run_are_named(blocks: int, note: str) -> None:
    failed = cell("1", CellOutput(cell="1", output=failure()), status="error")
    assert note in said([start(), ReplyFinished(text=python("a") * blocks), *failed])[-1][1]


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        (ReplyFinished(text="```python\nx"), prompts.UNCLOSED),
        (ReplyFinished(text="And so on and", cut=True), prompts.CUT),
        (ReplyFinished(text=""), prompts.EMPTY),
        (ReplyFinished(text=" \n"), prompts.EMPTY),
        (ReplyFinished(text="```python\nx", cut=True), f"{prompts.UNCLOSED}\n{prompts.CUT}"),
    ],
)
def test_a_reply_that_leads_nowhere_is_explained(reply: ReplyFinished, note: str) -> None:
    assert said([start(), reply])[2:] == [("user", note)]


@pytest.mark.parametrize(
    ("end", "news"),
    [
        (TurnFinished(reason="stopped"), "The user stopped your previous turn."),
        (TurnFinished(reason="limit", detail="20 steps"), "Your previous turn reached a limit: 20 steps"),
        (TurnFinished(reason="failed", detail="No key."), "Your previous turn failed: No key."),
    ],
)
def test_how_the_turn_before_ended_is_told_with_the_next_prompt(end: TurnFinished, news: str) -> None:
    message = Conversation([start(), end, start("t2")]).messages()[-1]
    assert message.parts == (TextPart(news, "context"), TextPart("Do it.", "prompt"))


def test_an_answered_turn_is_no_news() -> None:
    message = Conversation([start(), *answered(), start("t2")]).messages()[-1]
    assert message.parts == (TextPart("Do it.", "prompt"),)


def test_news_are_told_once() -> None:
    events = [start(), TurnFinished(reason="stopped"), start("t2"), *answered(), start("t3")]
    assert Conversation(events).messages()[-1].parts == (TextPart("Do it.", "prompt"),)


def test_deltas_are_not_stored() -> None:
    assert Conversation([start(), ReplyDelta(text="a")]).events == [start()]


def test_discarded_replies_and_retries_are_not_told() -> None:
    events: list[Event] = [
        start(),
        ReplyDelta(text="a"),
        ReplyDiscarded(reason="cut"),
        ModelRetried(attempt=1, reason="cut", wait=0),
    ]
    assert said(events) == [("user", "Do it.")]


def test_asking_for_the_messages_again_gives_the_same() -> None:
    conversation = Conversation([start(), ReplyFinished(text=python("a")), *cell("1")])
    assert conversation.messages() == conversation.messages()


def test_the_events_alone_give_the_same_messages() -> None:
    conversation = Conversation([start(), ReplyFinished(text=python("a")), *cell("1"), *answered(), start("t2")])
    assert Conversation(conversation.events).messages() == conversation.messages()


TURNS: dict[str, list[Event]] = {
    "answered": answered(),
    "one cell": [ReplyFinished(text=python("a")), *cell("1", CellOutput(cell="1", output=stream("x"))), *answered()],
    "failed cell": [
        ReplyFinished(text=python("a") * 3),
        *cell("1", CellOutput(cell="1", output=failure()), status="error"),
        *answered(),
    ],
    "stopped before a reply": [TurnFinished(reason="stopped")],
    "stopped in a reply": [ReplyDelta(text="a"), TurnFinished(reason="stopped")],
    "stopped behind a reply": [ReplyFinished(text=python("a")), TurnFinished(reason="stopped")],
    "stopped before a cell": [
        ReplyFinished(text=python("a")),
        CellProposed(cell="1", step=1, code="a"),
        TurnFinished(reason="stopped"),
    ],
    "stopped in a cell": [
        ReplyFinished(text=python("a") * 2),
        *cell("1")[:-1],
        CellOutput(cell="1", output=stream("x")),
        TurnFinished(reason="stopped"),
    ],
    "stopped cell": [ReplyFinished(text=python("a")), *cell("1", status="stopped"), TurnFinished(reason="stopped")],
    "limit": [ReplyFinished(text=python("a")), *cell("1"), TurnFinished(reason="limit", detail="20 steps")],
    "failed": [TurnFinished(reason="failed", detail="No key.")],
    "empty replies": [ReplyFinished(text=""), ReplyFinished(text=" "), *answered()],
    "unclosed": [ReplyFinished(text="```python\nx"), ReplyFinished(text=python("x")), *cell("1"), *answered()],
    "cut": [ReplyFinished(text="abc", cut=True), *answered()],
    "discarded": [ReplyDiscarded(reason="cut"), ModelRetried(attempt=1, reason="cut", wait=0), *answered()],
    "no end": [ReplyFinished(text=python("a")), *cell("1")],
}


def turns(names: Sequence[str]) -> Iterator[Event]:
    for number, name in enumerate(names):
        yield start(f"t{number}", prompt=f"Prompt {number}.", context="Names: x" if number % 2 else "")
        yield from TURNS[name]


def grows(events: Sequence[Event], asked_at: Sequence[bool]) -> bool:
    conversation, before = Conversation(), tuple[Message, ...]()
    for event, ask in zip(events, asked_at, strict=True):
        conversation.append(event)
        if ask:
            now = conversation.messages("Be brief.")
            if now[: len(before)] != before:
                return False
            before = now
    return True


def requested_at(events: Sequence[Event]) -> list[bool]:
    """Say behind which events the loop would ask the model."""
    nexts = [*events[1:], None]
    return [
        isinstance(after, ReplyFinished | ReplyDelta | ReplyDiscarded) or after is None
        for _, after in zip(events, nexts, strict=True)
    ]


@pytest.mark.parametrize("first", TURNS)
@pytest.mark.parametrize("second", TURNS)
def test_messages_only_grow_from_request_to_request(first: str, second: str) -> None:
    events = list(turns([first, second, "answered"]))
    assert grows(events, requested_at(events))


@pytest.mark.parametrize("seed", range(30))
def test_messages_only_grow_over_any_turns_asked_at_any_time(seed: int) -> None:
    chance = random.Random(seed)
    events = list(turns(chance.choices(list(TURNS), k=12)))
    assert grows(events, [chance.random() < 0.5 for _ in events])


@pytest.mark.parametrize("names", list(itertools.permutations(TURNS, 2)), ids="+".join)
def test_what_was_asked_in_between_does_not_change_the_messages(names: Sequence[str]) -> None:
    events = list(turns([*names, "answered"]))
    asked = Conversation()
    for event, ask in zip(events, requested_at(events), strict=True):
        asked.append(event)
        if ask:
            asked.messages()
    assert asked.messages() == Conversation(events).messages()


def test_without_leaves_one_turn_out() -> None:
    events = [start("t1"), *answered("One."), start("t2"), *answered("Two."), start("t3"), *answered("Three.")]
    assert Conversation(events).without("t2").messages() == Conversation([*events[:3], *events[6:]]).messages()


def test_without_an_unknown_turn_changes_nothing() -> None:
    conversation = Conversation([start("t1"), *answered()])
    assert conversation.without("t9").messages() == conversation.messages()


def test_without_forgets_how_the_turn_ended() -> None:
    conversation = Conversation([start("t1"), *answered(), start("t2"), TurnFinished(reason="stopped")]).without("t2")
    conversation.append(start("t3"))
    assert conversation.messages()[-1].parts == (TextPart("Do it.", "prompt"),)


def test_without_leaves_the_conversation_itself_alone() -> None:
    conversation = Conversation([start("t1"), *answered()])
    conversation.without("t1")
    assert len(conversation.events) == 3


def test_the_tokens_of_all_replies_add_up() -> None:
    events = [ReplyFinished(text="", usage=Usage(input=n, output=1, cached=2)) for n in (10, 20)]
    assert usage_of([start(), *events]) == Usage(input=30, output=2, cached=4)


def test_a_decision_that_allows_says_nothing() -> None:
    reply = ReplyFinished(text=python("x"))
    proposed, *rest = cell("c1")
    allowed = CellDecided(cell="c1", decision="run", risk="delete: x", always=True)
    assert said([start(), reply, proposed, allowed, *rest]) == said([start(), reply, proposed, *rest])


def test_a_rejected_cell_is_told_and_so_are_the_blocks_behind_it() -> None:
    events: list[Event] = [
        start(),
        ReplyFinished(text=python("x") + python("y")),
        CellProposed(cell="c1", step=1, code="x"),
        CellDecided(cell="c1", decision="rejected"),
    ]
    assert said(events)[-1] == (
        "user",
        "Block 1 was not run: the user rejected it. Do not try the same in another way; go on without it.\n"
        + prompts.not_run(1),
    )


def test_the_cells_of_a_block_are_told_as_one() -> None:
    lacks = CellOutput(cell="c1", output=failure("ModuleNotFoundError", "No module named 'six'"))
    install, again = cell("c2"), cell("c3")
    install[0] = CellProposed(cell="c2", step=1, code="x", cause="install")
    again[0] = CellProposed(cell="c3", step=1, code="x", cause="again")
    events: list[Event] = [
        start(),
        ReplyFinished(text=python("x") + python("y")),
        *cell("c1", lacks, status="error"),
        *install,
        *again,
        *cell("c4"),
    ]
    parts = Conversation(events).messages()[-1].parts
    heads = [(part.text.splitlines()[0], part.block) for part in parts if isinstance(part, TextPart)]
    assert heads == [
        ("Block 1, cell [7]: failed.", 1),
        ("Install, cell [7]: ran.", 1),
        ("Block 1 again, cell [7]: ran.", 1),
        ("Block 2, cell [7]: ran.", 2),
    ]
