"""The probe tells which files and names changed, whatever it finds, and never says that what it did not see is gone."""

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import IPython
import pytest

from codeact_magic.executors import probe
from codeact_magic.executors.probe import MOST_FILES, Probe, changed, files

from .test_namespace import Hostile

EVENTS = SimpleNamespace(register=lambda *_: None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def rows(before: probe.Files, folder: Path, **limits: Any) -> list[tuple[str, str]]:
    return [(row["path"], row["change"]) for row in changed(before, files(str(folder), **limits))]


def test_files_are_found_in_folders_with_their_sizes(folder: Path) -> None:
    write(folder / "a.csv", "12345")
    status = write(folder / "data" / "deep" / "b.csv").lstat()
    found = files(str(folder))
    assert set(found) == {"a.csv", "data/deep/b.csv"}
    assert found["a.csv"][1] == 5
    assert found["data/deep/b.csv"] == (status.st_mtime_ns, 1, status.st_ino, status.st_mode)


def test_a_relative_folder_can_be_looked_at(folder: Path) -> None:
    write(folder / "data" / "a.csv")
    assert set(files("data")) == {"a.csv"}


@pytest.mark.parametrize(
    "path",
    [".hidden", ".git/config", "__pycache__/a.pyc", "node_modules/a.js", "lib/site-packages/a.py", "env/bin/python"],
)
def test_what_is_not_the_users_is_passed_over(folder: Path, path: str) -> None:
    write(folder / "env" / "pyvenv.cfg")
    write(folder / path)
    assert files(str(folder)) == {}


def test_a_virtual_environment_that_is_the_working_directory_is_looked_at(folder: Path) -> None:
    write(folder / "pyvenv.cfg")
    write(folder / "a.csv")
    assert set(files(str(folder))) == {"a.csv", "pyvenv.cfg"}


def test_links_are_not_followed(folder: Path) -> None:
    write(folder / "data" / "a.csv")
    (folder / "data" / "loop").symlink_to(folder)
    (folder / "broken").symlink_to("nowhere")
    assert set(files(str(folder))) == {"broken", "data/a.csv", "data/loop"}


def test_pipes_are_no_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    assert files(str(folder)) == {}


@pytest.mark.parametrize("name", ["nowhere", "a\0b", "x" * 5000, "file"])
def test_a_folder_that_cannot_be_read_is_empty_and_unseen(folder: Path, name: str) -> None:
    write(folder / "file")
    found = files(f"{folder}/{name}")
    assert (found, found.unseen) == ({}, [""])


def test_new_changed_and_deleted_files_are_told_in_order(folder: Path) -> None:
    for name in ("kept.csv", "b.csv", "c.csv"):
        write(folder / name)
    before = files(str(folder))
    write(folder / "b.csv", "longer")
    (folder / "c.csv").unlink()
    write(folder / "a" / "new.png", "123")
    assert changed(before, files(str(folder))) == [
        {"path": "a/new.png", "change": "new", "size": 3, "type": "image/png"},
        {"path": "b.csv", "change": "changed", "size": 6, "type": "text/csv"},
        {"path": "c.csv", "change": "deleted", "size": 0, "type": "text/csv"},
    ]


def test_a_file_that_is_replaced_by_one_of_the_same_size_and_time_is_changed(folder: Path) -> None:
    old = write(folder / "a.csv").stat()
    before = files(str(folder))
    other = write(folder / "b.csv")
    os.utime(other, ns=(old.st_atime_ns, old.st_mtime_ns))
    other.replace(folder / "a.csv")
    assert rows(before, folder) == [("a.csv", "changed")]


def test_nothing_changed_is_nothing(folder: Path) -> None:
    write(folder / "a.csv")
    assert rows(files(str(folder)), folder) == []


@pytest.mark.parametrize("bound", [{"most": 10}, {"seconds": -1}])
def test_nothing_is_deleted_beyond_a_bound(folder: Path, bound: dict[str, Any]) -> None:
    for number in range(30):
        write(folder / f"{number}.csv")
    before = files(str(folder))
    assert rows(before, folder, **bound) == []
    bounded = files(str(folder), **bound)
    for number in range(30):
        (folder / f"{number}.csv").unlink()
    assert rows(bounded, folder) == []


def test_no_more_entries_are_looked_at_than_may_be(folder: Path) -> None:
    for number in range(30):
        write(folder / f"{number % 3}" / f"{number}.csv")
    assert len(files(str(folder), most=13)) == 10  # and three folders
    assert files(str(folder), most=33).unseen == []
    assert files(str(folder), most=32).unseen == [""]


def test_only_what_was_written_since_is_new_beyond_a_bound(folder: Path) -> None:
    for number in range(30):
        os.utime(write(folder / f"{number}.csv"), (1, 1))
    before = files(str(folder), most=10)
    write(folder / "new.csv")
    assert rows(before, folder) == [("new.csv", "new")]


def test_files_of_a_folder_that_became_a_virtual_environment_are_not_deleted(folder: Path) -> None:
    write(folder / "env" / "notes.txt")
    write(folder / "other" / "gone.txt")
    before = files(str(folder))
    write(folder / "env" / "pyvenv.cfg")
    (folder / "other" / "gone.txt").unlink()
    assert rows(before, folder) == [("other/gone.txt", "deleted")]


def test_files_of_a_folder_that_cannot_be_read_are_not_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "closed" / "a.txt")
    before, scandir = files(str(folder)), os.scandir

    def refusing(path: str) -> Any:
        if path.endswith("closed/"):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert rows(before, folder) == []


def test_many_changed_files_are_counted(folder: Path) -> None:
    before = files(str(folder))
    for number in range(MOST_FILES + 7):
        write(folder / f"{number:03}.csv")
    found = changed(before, files(str(folder)))
    assert len(found) == MOST_FILES + 1
    assert found[-1] == {"path": "and 7 more", "change": "more", "size": 7, "type": ""}


def test_notebooks_are_left_out_as_frontends_save_them(folder: Path) -> None:
    before = files(str(folder))
    write(folder / "a.ipynb")
    assert changed(before, files(str(folder))) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "text/csv"),
        ("A.PNG", "image/png"),
        ("a.parquet", "application/vnd.apache.parquet"),
        ("a.feather", "application/vnd.apache.arrow.file"),
        ("a.csv.gz", "application/gzip"),
        ("a.tar.bz2", "application/x-bzip2"),
        ("a.csv.Z", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.unheard", "application/octet-stream"),
        ("data:,a.md", "text/markdown"),
        ("a?b#c.json", "application/json"),
    ],
)
def test_the_type_of_a_file_is_told_by_its_name(folder: Path, name: str, kind: str) -> None:
    before = files(str(folder))
    write(folder / name)
    assert [row["type"] for row in changed(before, files(str(folder)))] == [kind]


def test_a_name_that_is_no_text_can_be_written(folder: Path) -> None:
    before = files(str(folder))
    try:
        Path(os.fsdecode(b"caf\xe9.csv")).write_text("x")
    except OSError:
        pytest.skip("the file system takes no such name")
    (row,) = changed(before, files(str(folder)))
    assert row["path"] == "caf?.csv"
    assert row["type"] == "text/csv"


def test_the_first_context_tells_all_names_and_no_files(folder: Path) -> None:
    write(folder / "old.csv")
    report = Probe({"a": 1, "_b": 2, "c": 3}, {"c": 3}).context()
    assert report == {"created": {"a": "int"}, "rebound": {}, "deleted": [], "files": []}


def test_changes_are_those_since_the_last_report(folder: Path) -> None:
    namespace: dict[str, Any] = {"a": 1, "gone": 2}
    asked = Probe(namespace, {})
    namespace["b"] = [1]
    assert asked.changes()["created"] == {"b": "list of 1"}
    del namespace["gone"]
    namespace["a"] = "text"
    write(folder / "a.csv")
    report = asked.context()
    assert (report["created"], report["rebound"], report["deleted"]) == ({}, {"a": "str"}, ["gone"])
    assert [row["path"] for row in report["files"]] == ["a.csv"]
    assert asked.changes() == {"created": {}, "rebound": {}, "deleted": [], "files": []}


def test_once_forgotten_all_names_are_told_again(folder: Path) -> None:
    asked = Probe({"a": 1}, {})
    asked.context()
    asked.forget()
    write(folder / "a.csv")
    report = asked.context()
    assert report["created"] == {"a": "int"}
    assert [row["path"] for row in report["files"]] == ["a.csv"]


def test_of_a_new_working_directory_nothing_is_told_at_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "sub" / "a.csv")
    asked = Probe({}, {})
    monkeypatch.chdir(folder / "sub")
    assert asked.changes()["files"] == []
    write(folder / "sub" / "b.csv")
    assert [row["path"] for row in asked.changes()["files"]] == ["b.csv"]


def test_a_deleted_working_directory_has_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "sub" / "a.csv").unlink()
    monkeypatch.chdir(folder / "sub")
    asked = Probe({}, {})
    (folder / "sub").rmdir()
    assert [asked.changes()["files"], asked.changes()["files"]] == [[], []]


class Name(str):
    """A name that raises when it is asked anything."""

    __slots__ = ()

    def startswith(self, *_: Any) -> bool:
        raise RuntimeError("no prefix")

    def __lt__(self, other: str) -> bool:
        raise RuntimeError("no order")


class Endless(tuple[int, ...]):
    """A shape that raises when it is walked."""

    __slots__ = ()

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("no items")


@pytest.mark.usefixtures("folder")
def test_hostile_names_and_objects_are_told_as_json() -> None:
    namespace: dict[Any, Any] = {}
    asked = Probe(namespace, {"h": Hostile()})
    classless = type("Classless", (Hostile,), {"__class__": property(lambda _: 1 / 0)})
    array = type("Array", (), {"__module__": "numpy", "shape": Endless((1, 2))})
    namespace |= {Name("odd"): 1, 5: 2, ("t",): 3, "h": Hostile(), "c": classless(), "a": array(), "\ud800": 4}
    namespace["n" * 1_000_000] = 5
    created = json.loads(json.dumps(asked.changes()))["created"]
    assert {created.pop(name) for name in ("h", "c", "a", "?")} == {"Hostile", "Classless", "Array", "int"}
    assert [set(name) for name in created] == [{"n"}]
    assert len(next(iter(created))) < 1000


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], ModuleType]]:
    """Run the source as a kernel does whose user has the given names."""

    def run(namespace: dict[str, Any]) -> ModuleType:
        shell = SimpleNamespace(user_ns=namespace, user_ns_hidden={}, events=EVENTS)
        monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
        exec(probe.source(), namespace)
        return sys.modules[probe.MODULE]

    yield run
    sys.modules.pop(probe.MODULE, None)


@pytest.mark.usefixtures("folder")
def test_the_source_is_one_expression_that_leaves_no_name(remote: Callable[[dict[str, Any]], ModuleType]) -> None:
    namespace: dict[str, Any] = {"exec": None, "sys": None, "x": 1}
    remote(namespace)
    assert set(namespace) == {"exec", "sys", "x", "__builtins__"}
    assert probe.source().isascii()
    assert [type(node) for node in ast.parse(probe.source()).body] == [ast.Expr]


@pytest.mark.usefixtures("folder")
def test_a_remote_probe_reports_as_json(remote: Callable[[dict[str, Any]], ModuleType]) -> None:
    namespace: dict[str, Any] = {"x": 1}
    assert remote(namespace) is not probe
    assert json.loads(eval(probe.CONTEXT, namespace))["created"] == {"x": "int"}
    namespace["y"] = "é"
    assert json.loads(eval(probe.CHANGES, namespace))["created"] == {"y": "str"}


def test_the_source_needs_nothing_but_the_standard_library_of_an_old_python() -> None:
    tree = ast.parse(Path(probe.__file__).read_text(), feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    sources = {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not relative
    assert {name.split(".")[0] for name in imported | sources} <= set(sys.stdlib_module_names)


def test_what_others_write_between_two_cells_is_not_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    made = Probe({}, {})
    write(folder / "others.txt")
    made.began()
    write(folder / "own.txt")
    assert [row["path"] for row in made.changes()["files"]] == ["own.txt"]
