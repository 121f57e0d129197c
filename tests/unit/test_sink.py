"""A sink keeps a cell's outputs within bounds, redacts them, and takes them from any thread."""

import asyncio
import gc
import re
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest

from codeact_magic.events import Output
from codeact_magic.executors.pip import PipFold
from codeact_magic.executors.sink import MAX_BYTES, MAX_OUTPUTS, MAX_TEXT, Sink
from codeact_magic.outputs import fold

from .fakes import clear, display, failure, stream

SECRET = "sk-test-" + "0123456789abcdef" * 8
MARK = re.compile(r"\n\.\.\. \[([\d,]+) characters left out\] \.\.\.\n")
MORE = "\n... [more is printed; its end is shown when the cell ends] ..."


def taken(outputs: Sequence[Output], secrets: Sequence[str] = ()) -> list[Output]:
    sink = Sink("c", secrets)
    for output in outputs:
        sink.take(output)
    sink.finish()
    return sink.drain()


def text(outputs: Sequence[Output]) -> str:
    return "".join(output["text"] for output in outputs if output["output_type"] == "stream")


def counted(said: str) -> int:
    """Count the characters that are there and those that are said to be left out."""
    left = sum(int(found.replace(",", "")) for found in MARK.findall(said))
    return len(MARK.sub("", said.replace(MORE, ""))) + left


def test_outputs_come_out_as_they_went_in() -> None:
    outputs = [stream("a\n"), display({"text/plain": "x"}), stream("b", "stderr"), failure(), clear(wait=True)]
    assert taken(outputs) == outputs


def test_prints_of_one_stream_are_joined() -> None:
    assert taken([stream("a"), stream("b"), stream("c", "stderr")]) == [stream("ab"), stream("c", "stderr")]


def test_what_was_drained_is_not_given_again() -> None:
    sink = Sink("c")
    sink.take(stream("a"))
    assert (sink.drain(), sink.drain()) == ([stream("a")], [])


def test_an_output_is_not_changed_by_what_comes_after_it() -> None:
    sink, first = Sink("c"), stream("a")
    sink.take(first)
    sink.take(stream("b"))
    assert first == stream("a")


FLOODS: dict[str, list[Output]] = {
    "small prints": [stream(f"line {number:5}\n") for number in range(60_000)],
    "single characters": [stream("x")] * 300_000,
    "one huge print": [stream("x" * 10_000_000)],
    "two large prints": [stream("a" * 150_000), stream("b" * 150_000)],
    "to the bound": [stream("x" * MAX_TEXT)],
    "one beyond the bound": [stream("x" * (MAX_TEXT + 1))],
    "up to the head, then more": [stream("x" * (MAX_TEXT * 2 // 3)), stream("y" * 10)],
    "small, huge, small": [stream("a"), stream("x" * 5_000_000), stream("z")],
    "stdout and stderr": [stream("x" * 1000, name) for _ in range(300) for name in ("stdout", "stderr")],
    "lists of lines": [{**stream(""), "text": ["x\n"] * 300_000}],
    "empty prints": [stream("")] * 1000,
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("case", FLOODS)
def test_a_flood_is_bounded(case: str) -> None:
    assert len(text(taken(FLOODS[case]))) <= MAX_TEXT + 200


@pytest.mark.timeout(10)
@pytest.mark.parametrize("case", FLOODS)
def test_what_is_kept_and_left_out_adds_up(case: str) -> None:
    printed = sum(len("".join(output["text"])) for output in FLOODS[case])
    assert counted(text(taken(FLOODS[case]))) == printed


def test_the_head_and_the_tail_are_kept() -> None:
    said = text(taken([stream("first\n"), *[stream("x" * 100)] * 10_000, stream("\nlast")]))
    assert said.startswith("first\n")
    assert said.endswith("\nlast")


def test_what_fits_is_kept_to_the_letter() -> None:
    printed = "".join(f"{number}\n" for number in range(20_000))
    said = text(taken([stream(line) for line in printed.splitlines(keepends=True)]))
    assert said.replace(MORE, "") == printed


def test_the_tail_comes_only_at_the_end() -> None:
    sink = Sink("c")
    sink.take(stream("x" * MAX_TEXT * 2))
    before = text(sink.drain())
    sink.take(stream("late"))
    assert before.endswith(MORE)
    assert sink.drain() == []
    assert text(sink.finish()).endswith("late")


def test_many_displays_are_bounded_and_counted() -> None:
    outputs = taken([display({"text/plain": "x"})] * (MAX_OUTPUTS + 7))
    assert len(outputs) == MAX_OUTPUTS + 1
    assert outputs[-1] == stream("[7 further outputs left out]\n", "stderr")


def test_large_displays_are_bounded_and_counted() -> None:
    outputs = taken([display({"image/png": "A" * (MAX_BYTES // 4)})] * 6)
    assert len(outputs) == 4 + 1 or len(outputs) == 3 + 1
    assert "further outputs left out" in text(outputs)


def test_a_small_display_is_kept_behind_one_that_is_too_large() -> None:
    outputs = taken([display({"image/png": "A" * (MAX_BYTES + 1)}), display({"text/plain": "small"})])
    assert display({"text/plain": "small"}) in outputs


def test_the_error_that_ended_a_cell_is_kept_behind_a_flood_of_displays() -> None:
    outputs = taken([*[display({"text/plain": "x"})] * (MAX_OUTPUTS + 7), failure()])
    assert failure() in outputs


def test_the_error_that_ended_a_cell_is_kept_behind_a_display_that_is_too_large() -> None:
    assert failure() in taken([display({"image/png": "A" * (MAX_BYTES + 1)}), failure()])


def test_a_display_that_is_updated_a_thousand_times_shows_its_last_state() -> None:
    updates = [{**display({"text/plain": f"{n}"}, "d"), "output_type": "update_display_data"} for n in range(1000)]
    shown = fold(taken([display({"text/plain": "start"}, "d"), *updates]))
    assert shown[0]["data"] == {"text/plain": "999"}


def test_an_animation_of_a_thousand_frames_shows_its_last_one() -> None:
    frames = [each for n in range(1000) for each in (clear(wait=True), display({"text/plain": f"{n}"}))]
    assert fold(taken(frames))[0]["data"] == {"text/plain": "999"}


@pytest.mark.parametrize("mime", ["text/plain", "text/html", "text/markdown"])
def test_a_long_text_of_a_display_is_bounded(mime: str) -> None:
    (output,) = taken([display({mime: "x" * 1_000_000})])
    assert len(output["data"][mime]) <= MAX_TEXT + 100


def test_a_picture_is_whole() -> None:
    (output,) = taken([display({"image/png": "A" * 1_000_000})])
    assert output["data"]["image/png"] == "A" * 1_000_000


def test_a_long_traceback_is_bounded_and_keeps_its_ends() -> None:
    lines = ["first", *["x" * 20_000] * 500, "last"]
    (output,) = taken([failure(value="v" * 1_000_000, traceback=lines)])
    assert len(output["evalue"]) <= MAX_TEXT
    assert (output["traceback"][0], output["traceback"][-1]) == ("first", "last")
    assert sum(map(len, output["traceback"])) < 2_000_000


@pytest.mark.parametrize(
    "output",
    [failure(value="v" * (MAX_BYTES + 1)), display({"text/plain": "x" * (MAX_BYTES + 1)})],
    ids=["error", "display"],
)
def test_a_text_beyond_all_bounds_is_bounded_and_not_left_out(output: Output) -> None:
    (kept,) = taken([output])
    assert kept["output_type"] == output["output_type"]


@pytest.mark.parametrize(
    "output",
    [
        stream(f"key={SECRET}\n"),
        display({"text/html": f"<b>{SECRET}</b>", "application/json": {"key": [SECRET]}}),
        failure(value=SECRET, traceback=[SECRET]),
    ],
    ids=["stream", "display", "error"],
)
def test_secrets_are_redacted(output: Output) -> None:
    said = repr(taken([output], [SECRET]))
    assert SECRET not in said
    assert "[redacted]" in said


@pytest.mark.parametrize("filler", [MAX_TEXT * 2 // 3 - 20, MAX_TEXT * 2 // 3 - len(SECRET) + 1])
def test_a_secret_across_the_bound_of_the_head_is_redacted(filler: int) -> None:
    said = text(taken([stream("-" * filler + SECRET + "-" * 10)], [SECRET]))
    assert SECRET not in said.replace(MORE, "")
    assert SECRET[:12] not in said


def test_a_secret_across_the_beginning_of_the_tail_is_redacted() -> None:
    printed = "-" * 1_000_000 + SECRET + "-" * (MAX_TEXT // 3 - 20)
    assert SECRET[-12:] not in text(taken([stream(printed)], [SECRET]))


def test_a_flood_of_secrets_is_taken() -> None:
    outputs = taken([stream(f"{SECRET}\n")] * 10_000, [SECRET])
    assert SECRET not in text(outputs)
    assert "[redacted]" in text(outputs)
    assert len(text(outputs)) <= MAX_TEXT + 200


def test_lone_surrogates_are_replaced() -> None:
    assert text(taken([stream("a\ud800b")])) == "a?b"


def test_a_watch_sees_each_output_at_once_as_it_may_be_shown() -> None:
    seen: list[tuple[str, Output]] = []
    sink = Sink("c", [SECRET], lambda cell, output: seen.append((cell, output)))
    sink.take(stream(SECRET))
    assert seen == [("c", stream("[redacted]"))]


def test_a_watch_sees_what_was_left_out() -> None:
    seen: list[Output] = []
    sink = Sink("c", watch=lambda _, output: seen.append(output))
    for _ in range(MAX_OUTPUTS + 1):
        sink.take(display({"text/plain": "x"}))
    assert sink.finish() == seen[MAX_OUTPUTS:]


def test_nothing_is_kept_once_it_is_finished() -> None:
    sink = Sink("c")
    sink.finish()
    sink.take(stream("late"))
    assert (sink.closed, sink.drain()) == (True, [])


def test_finishing_says_nothing_where_nothing_was_left_out() -> None:
    sink = Sink("c")
    sink.take(stream("x"))
    assert sink.finish() == []


async def test_waiting_ends_when_an_output_comes_from_another_thread() -> None:
    sink = Sink("c")
    threading.Timer(0.02, sink.take, [stream("x")]).start()
    await asyncio.wait_for(sink.wait(), 5)
    assert sink.drain() == [stream("x")]


async def test_waiting_does_not_wait_for_what_is_there() -> None:
    sink = Sink("c")
    sink.take(stream("x"))
    await asyncio.wait_for(sink.wait(), 1)


@pytest.fixture
def impatient() -> Iterator[None]:
    """Make threads take turns as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient")
def test_nothing_is_lost_between_threads() -> None:
    sink = Sink("c")

    def print_much(name: str) -> None:
        for number in range(500):
            sink.take(stream(f"<{name}{number}>"))

    threads = [threading.Thread(target=print_much, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.finish()
    said = re.findall(r"<(\w)(\d+)>", text(sink.drain()))
    assert len(said) == 2000
    for name in "abcd":
        assert [int(number) for of, number in said if of == name] == list(range(500))


def test_an_object_that_prints_when_it_is_collected_does_not_hang_the_cell() -> None:
    class Loud:
        def __init__(self, sink: Sink) -> None:
            self.cycle, self.sink = self, sink

        def __del__(self) -> None:
            self.sink.take(stream("bye"))

    def print_while_collecting() -> None:
        for soon in range(1, 40):
            sink, output = Sink("c"), display({"text/plain": "x"})
            gc.collect()
            gc.disable()
            Loud(sink)
            gc.set_threshold(gc.get_count()[0] + soon)
            gc.enable()
            sink.take(output)
            sink.take(output)

    threshold = gc.get_threshold()
    thread = threading.Thread(target=print_while_collecting, daemon=True)
    thread.start()
    thread.join(timeout=60)  # a deadlock, not a measure of speed
    gc.set_threshold(*threshold)
    gc.enable()
    assert not thread.is_alive()


@pytest.mark.usefixtures("impatient")
async def test_printing_never_fails_while_the_loop_begins_and_ends_its_wait() -> None:
    sink, failed, done = Sink("c"), list[BaseException](), threading.Event()

    def print_much() -> None:
        try:
            while not done.is_set():
                sink.take(stream("x"))
        except (RuntimeError, TypeError) as error:
            failed.append(error)

    threads = [threading.Thread(target=print_much) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000):
            if failed:
                break
            waiting = asyncio.ensure_future(sink.wait())
            await asyncio.sleep(0)
            sink.drain()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failed == []


INSTALL = "Collecting six\n  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)\nSuccessfully installed six-1.17.0\n"


def test_a_fold_shortens_what_is_kept_and_what_is_shown() -> None:
    seen: list[Output] = []
    sink = Sink("c", watch=lambda _, output: seen.append(output), fold=PipFold())
    shown = [sink.take(stream(line)) for line in ["a\n", *INSTALL.splitlines(keepends=True), "b\n"]]
    assert shown == [stream("a\n"), None, None, stream("Installed six-1.17.0.\n"), stream("b\n")]
    assert sink.finish() == []
    assert text(seen) == text(sink.drain()) == "a\nInstalled six-1.17.0.\nb\n"


def test_what_a_fold_held_of_an_install_that_did_not_end_comes_at_the_end() -> None:
    seen: list[Output] = []
    sink = Sink("c", [SECRET], lambda _, output: seen.append(output), PipFold())
    assert sink.take(stream(f"Collecting six @ https://{SECRET}@host/six.whl\n")) is None
    notes = sink.finish()
    assert notes == seen == sink.drain() == [stream("Collecting six @ https://[redacted]@host/six.whl\n")]


def test_what_a_fold_gives_back_of_both_streams_is_one_output() -> None:
    sink = Sink("c", fold=PipFold())
    assert sink.take(stream("Collecting six\n")) is None
    assert sink.take(stream("ERROR: none\n", "stderr")) == stream("Collecting six\nERROR: none\n", "stderr")


def test_a_secret_in_pieces_is_redacted_where_a_fold_held_them() -> None:
    sink = Sink("c", [SECRET], fold=PipFold())
    for piece in ("Collecting six @ ", SECRET[:20], SECRET[20:], "\n", "ERROR: none\n"):
        sink.take(stream(piece))
    assert SECRET[:20] not in text(sink.drain())


@pytest.mark.parametrize("case", FLOODS)
def test_a_flood_through_a_fold_is_what_it_is_without_one(case: str) -> None:
    sink = Sink("c", fold=PipFold())
    for output in FLOODS[case]:
        sink.take(output)
    sink.finish()
    assert text(sink.drain()) == text(taken(FLOODS[case]))


def test_what_comes_late_passes_by_the_fold() -> None:
    sink = Sink("c", fold=PipFold())
    sink.finish()
    assert sink.take(stream("Collecting six\n")) == stream("Collecting six\n")
