"""Outputs are folded as a notebook shows them, cleaned of terminal codes, bounded, and redacted."""

import copy
from collections.abc import Sequence

import pytest

from codeact_magic.events import Output
from codeact_magic.outputs import bounded, fold, plain, redact, secrets_in, text_of, valid, visible

from .fakes import clear, display, failure, stream, update

A, B = display({"text/plain": "a"}), display({"text/plain": "b"})
OLD, NEW = display({"text/plain": "old"}, "d"), display({"text/plain": "new"}, "d")

FOLDED: dict[str, tuple[Sequence[Output], Sequence[Output]]] = {
    "nothing": ([], []),
    "one of each": ([stream("a"), A, failure()], [stream("a"), A, failure()]),
    "a stream is joined": ([stream("a"), stream("b"), stream("c\n")], [stream("abc\n")]),
    "streams of other names are apart": (
        [stream("a"), stream("b", "stderr"), stream("c")],
        [stream("a"), stream("b", "stderr"), stream("c")],
    ),
    "a display parts a stream": ([stream("a"), A, stream("b")], [stream("a"), A, stream("b")]),
    "lists of lines": ([{**stream(""), "text": ["a\n", "b"]}, stream("c")], [stream("a\nbc")]),
    "an update replaces its display": ([OLD, A, update({"text/plain": "new"}, "d")], [NEW, A]),
    "an update replaces all displays of its id": ([OLD, OLD, update({"text/plain": "new"}, "d")], [NEW, NEW]),
    "updates come one after another": ([OLD, update({"text/plain": "x"}, "d"), update(NEW["data"], "d")], [NEW]),
    "an update of another id changes nothing": ([OLD, update({"text/plain": "new"}, "e")], [OLD]),
    "an update of nothing shows nothing": ([update({"text/plain": "new"}, "d")], []),
    "an update without an id changes nothing": ([A, update({"text/plain": "new"}, "")], [A]),
    "clear": ([stream("a"), A, clear(wait=False)], []),
    "clear, then more": ([stream("a"), clear(wait=False), stream("b")], [stream("b")]),
    "clear that waits for nothing": ([stream("a"), clear(wait=True)], [stream("a")]),
    "clear that waits": ([stream("a"), A, clear(wait=True), stream("b"), stream("c")], [stream("bc")]),
    "clear that waits, twice": ([A, clear(wait=True), clear(wait=True), B], [B]),
    "clear at once overtakes one that waits": ([A, clear(wait=True), clear(wait=False), B, A], [B, A]),
    "an update does not end the wait": ([OLD, clear(wait=True), update({"text/plain": "new"}, "d")], [NEW]),
    "an update of what was cleared": ([OLD, clear(wait=False), update({"text/plain": "new"}, "d"), A], [A]),
    "an animation": ([each for n in range(50) for each in (clear(wait=True), stream(f"{n}\n"))], [stream("49\n")]),
    "a nameless stream behind a display": (
        [A, {"output_type": "stream", "text": "x"}],
        [A, {"output_type": "stream", "text": "x"}],
    ),
}


@pytest.mark.parametrize("case", FOLDED)
def test_outputs_fold_to_what_a_notebook_shows(case: str) -> None:
    published, shown = FOLDED[case]
    assert fold(published) == list(shown)


@pytest.mark.parametrize("case", FOLDED)
def test_folding_changes_none_of_the_outputs(case: str) -> None:
    published = FOLDED[case][0]
    before = copy.deepcopy(published)
    fold(published)
    assert published == before


@pytest.mark.parametrize("case", FOLDED)
def test_folding_twice_is_folding_once(case: str) -> None:
    once = fold(FOLDED[case][0])
    assert fold(once) == once


PLAIN = [
    ("text\n", "text\n"),
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[1;38;5;12mblue\x1b[m", "blue"),
    ("\x1b[2K\x1b[1Aup", "up"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1b(B\x1b[mreset by tput", "reset by tput"),
    ("50%\r100%\n", "100%\n"),
    ("50%\r100%\r\n", "100%\n"),
    ("a\r\nb\r\n", "a\nb\n"),
    ("done\r", "done"),
    ("one\n1\r2\r3\ntwo", "one\n3\ntwo"),
    ("ab\bc", "ac"),
    ("abc\b\b\bxyz", "xyz"),
    ("\b\bx", "x"),
    ("a\n\bb", "a\nb"),
    ("[=>  ]\b\b\b\b\b\b[===>]", "[===>]"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "left"), PLAIN, ids=[repr(text) for text, _ in PLAIN])
def test_terminal_codes_and_overwritten_text_are_gone(text: str, left: str) -> None:
    assert plain(text) == left


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text",
    [
        "a" * 50_000 + "\b" * 50_000,
        "a\b" * 100_000,
        "\r" * 200_000,
        "\x1b" * 200_000,
        "\x1b]" * 100_000,
        "\x1b[" * 100_000,
    ],
    ids=["backspaces at the end", "backspaces", "returns", "escapes", "titles", "colours"],
)
def test_hostile_terminal_codes_take_no_time(text: str) -> None:
    plain(text)


@pytest.mark.parametrize("text", ["", "short", "x" * 30])
def test_text_within_the_limit_is_given_whole(text: str) -> None:
    assert bounded(text, 30) == text


def test_longer_text_keeps_its_head_and_tail() -> None:
    assert (
        bounded("a" * 20 + "-" * 1000 + "z" * 10, 30) == f"{'a' * 20}\n... [1,000 characters left out] ...\n{'z' * 10}"
    )


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 10, 99])
def test_what_is_kept_and_left_out_adds_up(limit: int) -> None:
    head, note, tail = bounded("x" * 100, limit).split("\n")
    assert len(head) + int(note.split("[")[1].split()[0]) + len(tail) == 100
    assert len(head) + len(tail) <= limit


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "sk-0123456789"),
        ("openai_api_key", "sk-0123456789"),
        ("GITHUB_TOKEN", "ghp_0123456789"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG"),
        ("AWS_SECRET_ACCESS_KEY", "/JalrXUtnFEMI/K7MDENG+bPxRfiCY"),
        ("DB_PASSWORD", "correct horse"),
        ("TOKEN", "0123456789abcdef"),
        ("MY_CREDENTIALS", "user:password"),
    ],
)
def test_values_of_secret_names_are_secrets(name: str, value: str) -> None:
    assert secrets_in([(name, value)]) == (value,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOME", "/home/someone"),
        ("KEYBOARD", "qwertyuiop"),
        ("TOKENIZERS_PARALLELISM", "false-false"),
        ("MONKEY", "chimpanzee"),
        ("API_KEY", "short"),
        ("API_KEY", ""),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/home/someone/key.json"),
        ("SSH_KEY", "~/.ssh/id_ed25519"),
        ("MAX_TOKEN", "123456789"),
    ],
)
def test_other_values_are_none(name: str, value: str) -> None:
    assert secrets_in([(name, value)]) == ()


def test_the_longest_secret_comes_first() -> None:
    assert secrets_in([("A_KEY", "12345678x"), ("B_KEY", "12345678xyz")]) == ("12345678xyz", "12345678x")


def test_secrets_are_looked_for_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEACT_TEST_API_KEY", "sk-from-the-environment")
    assert "sk-from-the-environment" in secrets_in()


SECRETS = ("sk-longer-secret", "sk-longer")


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("nothing", "nothing"),
        ("a sk-longer-secret b sk-longer", "a [redacted] b [redacted]"),
        ({"text": "sk-longer", "n": 1}, {"text": "[redacted]", "n": 1}),
        ([["sk-longer"], None, True], [["[redacted]"], None, True]),
        (("sk-longer", 1.5), ("[redacted]", 1.5)),
        ({"data": {"text/html": ["<b>", "sk-longer"]}}, {"data": {"text/html": ["<b>", "[redacted]"]}}),
        (None, None),
    ],
)
def test_secrets_are_redacted_wherever_they_stand(value: object, safe: object) -> None:
    assert redact(value, SECRETS) == safe


def test_a_value_is_not_copied_when_there_are_no_secrets() -> None:
    value = {"text": ["x"]}
    assert redact(value, ()) is value


@pytest.mark.parametrize(("value", "text"), [("a", "a"), (["a\n", "b"], "a\nb"), ([], ""), ({"a": 1}, "{'a': 1}")])
def test_mime_values_are_texts_or_lists_of_lines(value: object, text: str) -> None:
    assert text_of(value) == text


def test_lone_surrogates_are_replaced() -> None:
    assert valid("a\ud800b") == "a?b"


def test_valid_text_is_left_alone() -> None:
    assert valid("µ → 🙂") == "µ → 🙂"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x = 1\n\ty", "x = 1\n\ty"),
        ("a\x1b[2K\rb", "a\\x1b[2K\\rb"),
        ("a\u202eb\u200b", "a\\u202eb\\u200b"),
        ("Größe → 🙂", "Größe → 🙂"),
        ("\ud83d", "\\ud83d"),
    ],
)
def test_what_a_terminal_would_hide_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown
