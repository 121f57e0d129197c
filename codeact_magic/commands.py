"""The commands of ``%agent``: what is configured, what was used, what was said."""

import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from .config import Settings, options_from
from .conversation import usage_of
from .events import Event, ReplyFinished, TurnFinished, TurnStarted, Usage
from .models.credentials import variable_of
from .models.options import base_url_of, shown
from .models.providers import AZURE, provider_of
from .turns import summary, turn_from

if TYPE_CHECKING:
    from .agent import Agent

HELP = """\
%%agent [--model M] [--base-url U] [--kernel K] [--max-steps N] [--timeout S]
        [--approval auto|risky|ask] [--again]
    asks the model; the cell's text is the prompt, {name} and {a.b} are filled with your variables.
%%in_kernel NAME [--timeout S] [--cwd FOLDER]
    runs the cell in another Jupyter kernel, which keeps its state; %in_kernel lists them
%agent                  what is configured and where the thread stands
%agent model [NAME]     shows or sets the model of this session
%agent doctor [NAME]    tries the model: address, key, streaming, pictures, and what to do next
%agent usage            tokens by turn
%agent history          the turns of this thread
%agent reset            begins a new thread; your variables stay
%agent continue         goes on after a stop, a limit or a failure
%agent help             this text"""


def command(agent: "Agent", words: list[str], options: Mapping[str, Any]) -> None:
    """Run one command and print its result.

    Raises:
        UsageError: there is no such command, or it takes no such words.
    """
    name, *rest = words or ["status"]
    commands = {
        "status": _status,
        "model": _model,
        "usage": _usage,
        "history": _history,
        "reset": _reset,
        "help": _help,
    }
    if name not in commands or (rest and name != "model") or len(rest) > 1:
        known = " | ".join((*commands, "doctor", "continue"))
        raise UsageError(f"%agent takes {known}; to ask something, put it into a cell below %%agent.")
    if any(value is not None for value in options.values()):
        raise UsageError(f"%agent {name} takes no options; they belong to %%agent.")
    print(commands[name](agent, rest))  # noqa: T201 - a magic's result


async def doctor(agent: "Agent", words: list[str], options: Mapping[str, Any], *, root: Any = None) -> None:
    """Try a model, and print what is found as it is found.

    Args:
        agent: the shell's agent.
        words: the model's name, if it is not the one that is set.
        options: ``model`` and ``base_url``, as a cell would give them.
        root: the code object that drives the loop, where that is not the shell's own.

    Raises:
        UsageError: there are more words, or other options.
        ConfigError: the settings are unusable.
        Stopped: the user interrupted it.
    """
    from .agent import Stopped  # noqa: PLC0415 - it imports much
    from .executors.interrupts import Interrupts  # noqa: PLC0415

    foreign = [name for name, value in options.items() if value is not None and name not in {"model", "base_url"}]
    if len(words) > 1 or foreign:
        raise UsageError("%agent doctor takes the name of a model, --model and --base-url.")
    settings = agent.settings(options).with_options({"model": words[0] if words else None})
    notebook = agent.path()
    probes = asyncio.ensure_future(_examined(settings, notebook))
    with Interrupts(probes.cancel, probes.cancel, root) as interrupts:
        try:
            await probes
        except asyncio.CancelledError:
            if not interrupts.hits:
                raise
    if interrupts.hits:
        raise Stopped("the doctor was stopped.")


async def _examined(settings: Settings, notebook: str) -> None:
    from .models.doctor import examine  # noqa: PLC0415 - few need it

    async for check in examine(options_from(settings), notebook=notebook):
        print(f"{check.mark} {check.name:9}  {check.said}", flush=True)  # noqa: T201 - a magic's result
        if check.advice:
            print(f"             {check.advice}", flush=True)  # noqa: T201


def turns_of(events: list[Event]) -> list[list[Event]]:
    """Split a thread's events into turns."""
    turns: list[list[Event]] = []
    for event in events:
        if isinstance(event, TurnStarted):
            turns.append([])
        turns[-1].append(event)
    return turns


def _events(agent: "Agent") -> list[Event]:
    return agent.session.conversation.events if agent.session else []


def _status(agent: "Agent", _: list[str]) -> str:
    settings = agent.settings()
    turns = turns_of(_events(agent))
    said = "1 turn" if len(turns) == 1 else f"{len(turns)} turns"
    recorded = settings.model.startswith("recorded")
    rows = {
        "model": settings.model,
        **({"endpoint": "a recording, no network", "key": "not needed"} if recorded else _endpoint(settings)),
        "limits": f"{settings.max_steps} steps a turn"
        + (f", {settings.max_tokens:,} tokens" if settings.max_tokens else "")
        + (f", {settings.timeout:g} s a cell" if settings.timeout else ""),
        "asks first": {"auto": "never", "risky": "before risky cells", "ask": "before every cell"}[settings.approval],
        **({"kernel": settings.kernel} if settings.kernel else {}),
        "thread": f"{agent.session.thread if agent.session else 'none yet'}, {said}",
    }
    if turns:
        rows["last turn"] = summary(turn_from(turns[-1]))
    width = max(map(len, rows))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows.items())


def _endpoint(settings: Settings) -> dict[str, str]:
    """Say where requests go, and whether the key is there."""
    options = options_from(settings)
    provider, _ = provider_of(options.model)
    variable = variable_of(provider)
    missing = "not set: Azure's login is used" if provider is AZURE else "not set"
    state = "set" if os.environ.get(variable, "").strip() else missing
    address = shown(base_url_of(options)) or f"none: set {provider.address}"
    return {"endpoint": address, **({variable: state} if variable else {"key": "not needed"})}


def _model(agent: "Agent", rest: list[str]) -> str:
    if rest:
        agent.chosen = rest[0]
    return f"model  {agent.settings().model}"


def _usage(agent: "Agent", _: list[str]) -> str:
    turns = turns_of(_events(agent))
    if not turns:
        return "No turn yet: ask one with %%agent."
    rows = [("turn", "requests", "input", "cached", "output", "prompt")]
    total = Usage()
    for number, events in enumerate(turns, start=1):
        usage = usage_of(events)
        total += usage
        requests = sum(isinstance(event, ReplyFinished) for event in events)
        rows.append((str(number), str(requests), *_tokens(usage), _line(events)))
    rows.append(("all", str(sum(int(row[1]) for row in rows[1:])), *_tokens(total), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip()
        for row in rows
    )


def _tokens(usage: Usage) -> tuple[str, str, str]:
    return f"{usage.input:,}", f"{usage.cached:,}", f"{usage.output:,}"


def _line(events: list[Event]) -> str:
    start = events[0]
    text = " ".join(start.prompt.split()) if isinstance(start, TurnStarted) else ""
    return text if len(text) <= 70 else text[:69] + "…"


def _history(agent: "Agent", _: list[str]) -> str:
    turns = turns_of(_events(agent))
    if not turns:
        return "No turn yet: ask one with %%agent."
    rows = []
    for number, events in enumerate(turns, start=1):
        rows.append(f"{number}. {_line(events)}")
        turn = turn_from(events)
        rows.append(f"   {summary(turn)}")
        if isinstance(events[-1], TurnFinished) and turn.answer:
            rows.append(f"   {' '.join(turn.answer.split())[:200]}")
    return "\n".join(rows)


def _reset(agent: "Agent", _: list[str]) -> str:
    agent.reset()
    return "A new thread begins: the model has forgotten the conversation. Your variables stay."


def _help(_agent: "Agent", _: list[str]) -> str:
    return HELP
