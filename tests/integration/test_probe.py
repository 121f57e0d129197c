"""The probe in a kernel that lacks this package: installed silently, asked by expressions."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codeact_magic.executors import probe
from tests.kernels import Kernel, kernel

HOSTILE = r"""
class Hostile:
    def __eq__(self, other): raise RuntimeError
    def __len__(self): raise RuntimeError
    def __getattr__(self, name): raise RuntimeError
    def __repr__(self): raise RuntimeError
    __class__ = property(lambda self: 1 / 0)
    __hash__ = None
class Key:
    def __eq__(self, other): raise RuntimeError
    def __hash__(self): return 1
class Name(str):
    def startswith(self, *_): raise RuntimeError
    __hash__ = str.__hash__
globals().update({Key(): 1, 5: 2, Name("odd"): 3, "h": Hostile(), "\ud800": 4})
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    profile = str(tmp_path_factory.mktemp("profile"))  # IPython writes its history there
    with kernel(tmp_path_factory.mktemp("probe"), load=False, IPYTHONDIR=profile) as live:
        yield live


def silently(live: Kernel, code: str = "", **expressions: str) -> Any:
    """Run code as a client that leaves no trace, and give the reply's content."""
    reply = live.client.execute(
        code, silent=True, store_history=False, user_expressions=expressions, allow_stdin=False, reply=True, timeout=60
    )
    assert reply["content"]["status"] == "ok", reply["content"]
    return reply["content"]


def asked(live: Kernel, expression: str) -> Any:
    found = silently(live, asked=expression)["user_expressions"]["asked"]
    return json.loads(ast.literal_eval(found["data"]["text/plain"]))


def test_installing_it_leaves_no_trace(live: Kernel) -> None:
    names = "sorted(name for name in globals() if not name.startswith('_'))"
    before = ast.literal_eval(live.value(names))
    silently(live, probe.source())
    silently(live, asked=probe.CONTEXT)
    assert ast.literal_eval(live.value(names)) == before
    assert ast.literal_eval(live.value("In")) == ["", names, names, "In"]
    assert live.value("'codeact_magic' in __import__('sys').modules") == "False"


def test_it_tells_names_and_files(live: Kernel) -> None:
    silently(live, probe.source())
    live.run("x = 1\nopen('café.csv', 'w').write('1,2')")
    report = asked(live, probe.CHANGES)
    assert report["created"] == {"x": "int"}
    assert report["files"] == [{"path": "café.csv", "change": "new", "size": 3, "type": "text/csv"}]
    live.run("x = 'text'\nimport os\nos.remove('café.csv')")
    report = asked(live, probe.CHANGES)
    assert report["rebound"] == {"x": "str"}
    assert [row["change"] for row in report["files"]] == ["deleted"]


def test_the_context_has_all_names_at_first(live: Kernel) -> None:
    live.run("known = [1, 2]")
    silently(live, probe.source())
    assert asked(live, probe.CONTEXT)["created"]["known"] == "list of 2"
    assert asked(live, probe.CONTEXT)["created"] == {}


def test_a_new_working_directory_is_a_new_beginning(live: Kernel, tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("x")
    silently(live, probe.source())
    live.run(f"import os\nos.chdir({str(tmp_path)!r})")
    assert asked(live, probe.CHANGES)["files"] == []
    (tmp_path / "new.txt").write_text("x")
    assert [row["path"] for row in asked(live, probe.CHANGES)["files"]] == ["new.txt"]


def test_hostile_names_and_objects_do_not_break_it(live: Kernel) -> None:
    silently(live, probe.source())
    assert live.run(HOSTILE).status == "ok"
    created = asked(live, probe.CHANGES)["created"]
    assert created == {"Hostile": "type", "Key": "type", "Name": "type", "h": "Hostile", "?": "int"}
    assert asked(live, probe.CHANGES)["created"] == {}


def test_it_can_be_installed_again_where_builtins_are_shadowed(live: Kernel) -> None:
    live.run("exec = compile = print = sys = None")
    silently(live, probe.source())
    assert asked(live, probe.CONTEXT)["created"]["exec"] == "NoneType"
