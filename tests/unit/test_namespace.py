"""The namespace is described, compared and filled into prompts, whatever objects it holds."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from codeact_magic.events import Changes
from codeact_magic.executors.namespace import changes_from, context_from, filled
from codeact_magic.executors.probe import MOST, compared, describe, described, names, snapshot


def changes(before: Mapping[str, int], own: Mapping[str, Any]) -> Changes:
    return changes_from(compared(before, own))


def context(own: Mapping[str, Any]) -> str:
    return context_from({"created": described(own)})


class Hostile:
    """Raises at whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attribute")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    __hash__ = None  # type: ignore[assignment]


class BadShape:
    """Is taken for an array, and has no shape that could be read."""

    def __init__(self, shape: object = None) -> None:
        self._shape = shape

    @property
    def shape(self) -> object:
        if self._shape is None:
            raise RuntimeError("no shape")
        return self._shape


BadShape.__module__ = "numpy.hostile"


class Meta(type):
    """A class whose class raises."""

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("no comparison of classes")

    def __hash__(cls) -> int:
        raise RuntimeError("no hash of classes")


class OfMeta(metaclass=Meta):
    """An object whose class cannot be compared."""


NoModule = type("NoModule", (), {"__module__": None})
OddModule = type("OddModule", (), {"__module__": property(lambda self: "x")})


@pytest.mark.parametrize(
    ("value", "description"),
    [
        (1, "int"),
        (True, "bool"),
        ("text", "str"),
        (None, "NoneType"),
        ([1, 2], "list of 2"),
        ((), "tuple of 0"),
        ({"a": 1}, "dict of 1"),
        ({1, 2, 3}, "set of 3"),
        (print, "builtin_function_or_method"),
        (SimpleNamespace(), "SimpleNamespace"),
        (pd.DataFrame({"a": [1, 2, 3], "b": 0}), "DataFrame 3x2"),
        (pd.Series([1, 2]), "Series 2"),
        (np.zeros((2, 3, 4)), "ndarray 2x3x4"),
        (np.float64(1.5), "float64"),
        (np.zeros(()), "ndarray"),
    ],
)
def test_an_object_is_described_by_its_type_and_size(value: object, description: str) -> None:
    assert describe(value) == description


@pytest.mark.parametrize(
    ("value", "description"),
    [
        (Hostile(), "Hostile"),
        (Hostile, "type"),
        (BadShape(), "BadShape"),
        (BadShape(5), "BadShape"),
        (BadShape("text"), "BadShape"),
        (BadShape((1, None)), "BadShape"),
        (type("List", (list,), {"__len__": lambda self: 1 / 0})(), "List"),
        (OfMeta(), "OfMeta"),
        (NoModule(), "NoModule"),
        (OddModule(), "OddModule"),
    ],
    ids=[
        "hostile",
        "class",
        "no shape",
        "number",
        "text",
        "none in it",
        "length",
        "metaclass",
        "no module",
        "odd module",
    ],
)
def test_a_hostile_object_is_described_by_its_type(value: object, description: str) -> None:
    assert describe(value) == description


def test_a_type_with_a_long_name_is_described_briefly() -> None:
    assert len(describe(type("A" * 1000, (), {})())) == 80


def test_created_rebound_and_deleted_names_are_told_apart() -> None:
    kept, old = object(), [1]
    before = snapshot({"kept": kept, "bound": old, "gone": 1})
    assert changes(before, {"kept": kept, "bound": {"a": 1}, "new": "x"}) == Changes(
        created={"new": "str"}, rebound={"bound": "dict of 1"}, deleted=("gone",)
    )


def test_nothing_changed_is_no_change() -> None:
    own: dict[str, Any] = {"a": 1, "b": Hostile()}
    assert not changes(snapshot(own), own)


def test_hostile_objects_are_compared_by_identity_alone() -> None:
    before = snapshot({"a": (first := Hostile()), "b": first})
    assert changes(before, {"a": first, "b": Hostile(), "c": Hostile()}) == Changes(
        created={"c": "Hostile"}, rebound={"b": "Hostile"}
    )


def test_many_changes_are_counted() -> None:
    created = changes({}, {f"name_{number:04}": number for number in range(MOST + 5)}).created
    assert len(created) == MOST + 1
    assert list(created)[-1] == "and 5 more"


def test_many_deleted_names_are_bounded() -> None:
    assert len(changes({f"n{number}": number for number in range(500)}, {}).deleted) <= MOST + 1


def test_only_the_names_of_the_user_count() -> None:
    shared = object()
    namespace = {"x": 1, "_private": 2, "In": [], "Out": {}, "exit": 3, "np": shared, "shadowed": 4}
    assert names(namespace, {"np": shared, "shadowed": 5}) == {"x": 1, "shadowed": 4}


def test_keys_that_are_no_names_are_passed_over() -> None:
    namespace: Any = {"x": 1, 5: "five", ("a",): 2, None: 3}
    assert names(namespace, {}) == {"x": 1}


def test_the_model_is_told_the_names_and_their_types() -> None:
    assert context({"b": [1], "a": 1}) == "Names in the kernel: a (int), b (list of 1)"


def test_no_names_are_not_told() -> None:
    assert context({}) == ""


NAMESPACE: dict[str, Any] = {
    "a": 5,
    "name": "text with {a} and \\1",
    "obj": SimpleNamespace(x=SimpleNamespace(y="deep"), bad=Hostile()),
    "bad": Hostile(),
    "größe": 3,
    "long": "x" * 100_000,
}


@pytest.mark.parametrize(
    ("prompt", "result"),
    [
        ("Is {a} odd?", "Is 5 odd?"),
        ("{a}{a}", "55"),
        ("{obj.x.y}", "deep"),
        ("{größe}", "3"),
        ("{name}", "text with {a} and \\1"),
        ("{missing}", "{missing}"),
        ("{obj.missing}", "{obj.missing}"),
        ("{bad}", "{bad}"),
        ("{bad.x}", "{bad.x}"),
        ("{obj.bad}", "{obj.bad}"),
        ("{{a}}", "{{a}}"),
        ("{ a }", "{ a }"),
        ("{a!r} {a:>5} {a[0]} {a()} {1} {}", "{a!r} {a:>5} {a[0]} {a()} {1} {}"),
        ("{'key': a}", "{'key': a}"),
        ("{a", "{a"),
        ("{a.}", "{a.}"),
        ("", ""),
    ],
)
def test_names_in_braces_are_filled_where_they_exist(prompt: str, result: str) -> None:
    assert filled(prompt, NAMESPACE) == result


def test_a_long_value_is_bounded() -> None:
    assert len(filled("{long}", NAMESPACE)) < 5_000


def test_a_namespace_that_raises_leaves_the_prompt_as_written() -> None:
    class Raising(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise RuntimeError("no item")

    assert filled("{a}", Raising()) == "{a}"
