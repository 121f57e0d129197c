"""What happens in a turn: one closed union of frozen values, and its JSON codec.

A turn is a list of these events. The conversation that the model sees, the record in the notebook and every view are
folds over that list.
"""

from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Literal, get_args

Output = dict[str, Any]
"""One output as nbformat v4 writes it (``stream``, ``display_data``, ``execute_result``, ``error``), or one of the two
operations on earlier outputs: ``{"output_type": "clear_output", "wait": bool}`` and ``update_display_data`` with
``transient.display_id``. ``outputs.fold`` turns a sequence of them into what the notebook shows."""

Status = Literal["ok", "error", "stopped", "timeout", "died"]
Reason = Literal["answered", "stopped", "limit", "failed"]
Decision = Literal["run", "edited", "rejected"]
Cause = Literal["reply", "install", "again"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one reply as the endpoint counted them; ``cached`` is the part of ``input`` from its cache."""

    input: int = 0
    output: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """Input and output tokens together."""
        return self.input + self.output

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input=self.input + other.input, output=self.output + other.output, cached=self.cached + other.cached
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file of the working directory that a cell wrote or deleted: its path there, bytes, and MIME type.

    ``more`` stands for files that are not listed: ``path`` says in words how many, ``size`` as a number.
    """

    path: str
    change: Literal["new", "changed", "deleted", "more"]
    size: int = 0
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a cell left behind.

    Args:
        created: names of the namespace that it made, with their objects' types.
        rebound: names that it bound anew, the same.
        deleted: names that are gone.
        files: files of the working directory.
    """

    created: dict[str, str] = field(default_factory=dict)
    rebound: dict[str, str] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()
    files: tuple[FileChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.created or self.rebound or self.deleted or self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted:
    """A prompt as written, the same with its ``{names}`` filled, and what the model is told of the state beforehand.

    ``language`` is that of the code; ``kernel`` names the kernel that runs it, where it is not the notebook's.
    """

    turn: str
    thread: str
    prompt: str
    filled: str
    context: str = ""
    language: str = "python"
    kernel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDelta:
    """A piece of a reply as it streams. Shown, never stored: ``ReplyFinished`` has the whole."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyFinished:
    """A whole reply. ``model`` is the name that the endpoint gave itself; ``cut`` says that it ran out of tokens."""

    text: str
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    seconds: float = 0.0
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDiscarded:
    """A reply that broke off: what was streamed of it does not count, and nothing of it was run."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRetried:
    """The model is asked again after ``wait`` seconds."""

    attempt: int
    reason: str
    wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProposed:
    """Code that is about to become a cell.

    Args:
        cell: its id.
        step: the reply's number in the turn, from 1.
        code: the cell's source.
        language: of the code.
        target: the existing cell that it edits, if it does.
        cause: a block of the ``reply``, the ``install`` of a package that it lacked, or the block ``again`` after it.
    """

    cell: str
    step: int
    code: str
    language: str = "python"
    target: str = ""
    cause: Cause = "reply"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellDecided:
    """Whether a proposed cell runs, where that was a question.

    Args:
        cell: its id.
        decision: it runs, it runs as the user has edited it, or it does not run.
        risk: what the code may do, as in ``delete: os.remove('a.csv')``; empty if nothing was found in it.
        by: who decided: the user, or a setting.
        always: the user allows what was found for the rest of the thread.
        code: the source as edited.
        reason: of a rejection, for the model.
    """

    cell: str
    decision: Decision
    risk: str = ""
    by: Literal["user", "setting"] = "user"
    always: bool = False
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStarted:
    """A cell runs. ``message`` is the id of the request that its outputs answer to, where there is one."""

    cell: str
    execution_count: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutput:
    """One output of a running cell."""

    cell: str
    output: Output


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFinished:
    """A cell has ended; ``detail`` is a sentence for the model where ``status`` does not say it all."""

    cell: str
    status: Status
    changes: Changes = field(default_factory=Changes)
    seconds: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFinished:
    """The end of a turn, exactly one in each. ``answer`` is Markdown; ``detail`` says why there is none."""

    reason: Reason
    answer: str = ""
    detail: str = ""
    seconds: float = 0.0


Event = (
    TurnStarted
    | ReplyDelta
    | ReplyFinished
    | ReplyDiscarded
    | ModelRetried
    | CellProposed
    | CellDecided
    | CellStarted
    | CellOutput
    | CellFinished
    | TurnFinished
)

_KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in get_args(Event)}


def encode(event: Event) -> dict[str, Any]:
    """Give an event as a JSON object: its fields and ``"type"``, defaults left out."""
    row: dict[str, Any] = {"type": type(event).__name__}
    for each in fields(event):
        value = getattr(event, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if value != default:
            row[each.name] = _plain(value) if isinstance(value, Usage | Changes) else value
    return row


def _plain(value: Usage | Changes) -> dict[str, Any]:
    rows = {name: list(item) if isinstance(item, tuple) else item for name, item in asdict(value).items()}
    if not rows.get("files", True):
        del rows["files"]
    return rows


def decode(row: object) -> Event:
    """Read what ``encode`` wrote. Unknown fields are passed over, so that a newer record can be read.

    Raises:
        ValueError: not an object, an unknown type, or a field missing or of the wrong type.
    """
    if not isinstance(row, dict):
        raise ValueError(f"an event is a JSON object, not {type(row).__name__}")
    kind = _KINDS.get(str(row.get("type")))
    if kind is None:
        raise ValueError(f"unknown event type {row.get('type')!r}")
    values: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in row:
            values[each.name] = _checked(kind.__name__, each.name, each.type, row[each.name])
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ValueError(f"{kind.__name__} lacks {each.name!r}")
    return kind(**values)


def _checked(kind: str, name: str, annotation: Any, value: Any) -> Any:
    """Give ``value`` as the field wants it; records come from strangers, so that every type is looked at."""
    if annotation is Usage or annotation is Changes:
        return _nested(annotation, f"{kind}.{name}", value)
    if annotation is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    choices = get_args(annotation)
    if annotation == int | None:
        good = value is None or type(value) is int
    elif annotation == Output:
        good = is_output(value)
    elif choices:
        good = isinstance(value, str) and value in choices
    else:
        good = type(value) is annotation
    if not good:
        raise ValueError(f"{kind}.{name} is unusable: {str(value)[:80]!r}")
    return value


def _nested(kind: type[Usage] | type[Changes], name: str, value: Any) -> Usage | Changes:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    values: dict[str, Any] = {each.name: value[each.name] for each in fields(kind) if each.name in value}
    for field_name, item in values.items():
        if kind is Usage:
            good = type(item) is int and 0 <= item < 2**53
        elif field_name == "deleted":
            good = isinstance(item, list) and all(isinstance(each, str) for each in item)
            values[field_name] = tuple(item) if good else ()
        elif field_name == "files":
            good = isinstance(item, list)
            values[field_name] = tuple(_file(name, each) for each in item) if good else ()
        else:
            good = isinstance(item, dict) and all(isinstance(each, str) for each in (*item, *item.values()))
        if not good:
            raise ValueError(f"{name}.{field_name} is unusable: {str(item)[:80]!r}")
    return kind(**values)


def _file(name: str, row: Any) -> FileChange:
    good = (
        isinstance(row, dict)
        and isinstance(row.get("path"), str)
        and row.get("change") in ("new", "changed", "deleted", "more")
        and type(row.get("size", 0)) is int
        and row.get("size", 0) >= 0
        and isinstance(row.get("type", ""), str)
    )
    if not good:
        raise ValueError(f"{name}.files is unusable: {str(row)[:80]!r}")
    return FileChange(path=row["path"], change=row["change"], size=row.get("size", 0), type=row.get("type", ""))


def is_output(value: object) -> bool:
    """Say whether a JSON value is an output that can be shown: its type is known, its parts are what they must be."""
    if not isinstance(value, dict):
        return False
    match value.get("output_type"):
        case "stream":
            return isinstance(value.get("name"), str) and _is_text(value.get("text"))
        case "error":
            lines = value.get("traceback", [])
            return isinstance(lines, list) and all(isinstance(line, str) for line in lines)
        case "display_data" | "execute_result" | "update_display_data":
            parts = (value.get(name) or {} for name in ("data", "metadata", "transient"))
            return all(isinstance(part, dict) for part in parts)
        case "clear_output":
            return True
        case _:
            return False


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(line, str) for line in value))
