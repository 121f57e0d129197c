"""The question is short, and whatever is answered means a decision."""

import pytest

from codeact_magic.events import CellDecided, CellProposed
from codeact_magic.notebooks.questions import ask, decision, question

CELL = CellProposed(cell="c1", step=1, code="os.remove('a.csv')")
INSTALL = CellProposed(cell="c1", step=1, code="%pip install six\nimport six", cause="install")
RISK = "delete: os.remove('a.csv')"


def test_a_risky_cell_is_asked_about_with_what_it_may_do() -> None:
    assert question(CELL, RISK) == (
        "Run this cell? It may delete: os.remove('a.csv').\n"
        "y = yes, a = always in this thread, n = no, or say why not: "
    )


def test_where_nothing_was_found_there_is_nothing_to_allow_for_good() -> None:
    assert question(CELL, "") == "Run this cell? y = yes, n = no, or say why not: "


def test_an_install_is_asked_about_in_one_line() -> None:
    asked = question(INSTALL, "install: %pip install six")
    assert asked.startswith("A package is missing. Run %pip install six? y = yes, a = always")
    assert "\n" not in asked


def test_a_question_cannot_be_flooded_or_forged() -> None:
    asked = question(CELL, "delete: \x1b[2J" + "x" * 100_000)
    assert "\x1b" not in asked
    assert len(asked) < 1500


@pytest.mark.parametrize("answer", ["y", "Y", " yes ", "Yes.", "yes!", "y\n"])
def test_a_yes_runs_the_cell_once(answer: str) -> None:
    assert decision(CELL, RISK, answer) == CellDecided(cell="c1", decision="run", risk=RISK)


@pytest.mark.parametrize("answer", ["a", "A", "always", "all"])
def test_always_is_a_yes_for_good(answer: str) -> None:
    assert decision(CELL, RISK, answer) == CellDecided(cell="c1", decision="run", risk=RISK, always=True)


def test_always_is_a_plain_yes_where_nothing_was_found() -> None:
    assert decision(CELL, "", "a") == CellDecided(cell="c1", decision="run")


@pytest.mark.parametrize("answer", ["n", "N", "no", "No.", "", "  ", "\n"])
def test_a_no_has_no_reason(answer: str) -> None:
    assert decision(CELL, RISK, answer) == CellDecided(cell="c1", decision="rejected", risk=RISK)


@pytest.mark.parametrize("answer", ["use another file", "yes, but not that file", "ja", "yy", "ok", "1", "y n"])
def test_whatever_else_is_said_is_a_no_and_its_reason(answer: str) -> None:
    decided = decision(CELL, RISK, f" {answer}\n")
    assert (decided.decision, decided.by, decided.reason) == ("rejected", "user", answer)


def test_a_reason_is_bounded() -> None:
    assert len(decision(CELL, RISK, "no " * 100_000).reason) < 2100


def test_the_answer_is_what_was_read() -> None:
    asked: list[str] = []

    def read(text: str) -> str:
        asked.append(text)
        return "y"

    assert ask(CELL, RISK, read).decision == "run"
    assert asked == [question(CELL, RISK)]


@pytest.mark.parametrize("error", [EOFError, NotImplementedError, None])
def test_where_nobody_can_be_asked_it_is_a_no_by_a_setting(error: type[Exception] | None) -> None:
    def read(_: str) -> str:
        assert error
        raise error

    decided = ask(CELL, RISK, read if error else None)
    assert (decided.decision, decided.by, decided.risk) == ("rejected", "setting", RISK)
    assert "approval = auto" in decided.reason
    assert "--yes" in decided.reason


def test_an_interrupt_is_no_answer() -> None:
    def read(_: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(CELL, RISK, read)
