"""The chat-completions API of the scripted server, as strict as the strictest endpoints."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..events import Usage
from .apis import TOOL, Issued, Messages, Refused, characters, check_call, check_content, pieces_of
from .exchange import Answer
from .scripted import ScriptedReply

_PARTS = {
    "system": ["text"],
    "developer": ["text"],
    "user": ["text", "image_url", "input_audio", "file"],
    "assistant": ["text", "refusal"],
    "tool": ["text"],
}


class Chat:
    """``POST /v1/chat/completions``."""

    def messages(self, asked: Mapping[str, Any], issued: Issued) -> Messages:
        """Give the request's messages.

        Raises:
            Refused: a message is none, or a tool call is not answered exactly once by the messages right after it.
        """
        messages: Messages = asked["messages"]
        open_calls: list[str] = []
        for number, message in enumerate(messages):
            where, role = f"messages[{number}]", message.get("role")
            if role not in _PARTS:
                raise Refused(f"{where}: there is no role {role!r}")
            if role != "tool" and open_calls:
                raise Refused(f"{where}: the calls {open_calls} before it have no tool message")
            if message.get("content") is not None or not (role == "assistant" and message.get("tool_calls")):
                check_content(message.get("content"), _PARTS[role], where)
            if role == "tool":
                if message.get("tool_call_id") not in open_calls:
                    raise Refused(f"{where}: no call before it has the id {message.get('tool_call_id')!r}")
                open_calls.remove(message["tool_call_id"])
            open_calls.extend(_calls(message, where, issued))
        if open_calls:
            raise Refused(f"the calls {open_calls} at the end have no tool message")
        return messages

    def answer(self, reply: ScriptedReply, asked: Mapping[str, Any], messages: Messages, issued: Issued) -> Answer:
        """Give a reply as chunks and as a whole."""
        deltas, calls, text = _deltas(reply, asked, issued)
        finish = "tool_calls" if calls and reply.finish == "stop" else reply.finish
        usage = _usage(reply.counted(characters(messages)))
        if reply.fault and reply.fault.no_usage:
            usage = None
        common = {"id": issued.id("chatcmpl"), "created": int(time.time()), "model": reply.model}

        def chunk(delta: Mapping[str, Any], finish: str | None) -> dict[str, Any]:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
            return {"object": "chat.completion.chunk", **common, "choices": choices}

        end = [chunk({}, finish)] if finish else []
        options = asked.get("stream_options")
        if usage and isinstance(options, dict) and options.get("include_usage") is True:
            end.append({"object": "chat.completion.chunk", **common, "choices": [], "usage": usage})
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": finish or None}
        return Answer(
            whole={"object": "chat.completion", **common, "choices": [choice], "usage": usage},
            pieces=[[chunk(delta, None) for delta in group] for group in deltas],
            end=end,
            done=True,
        )


def _calls(message: Mapping[str, Any], where: str, issued: Issued) -> list[str]:
    """Give the ids of a message's calls.

    Raises:
        Refused: a call is none, or has been changed since it was issued.
    """
    ids = []
    for call in message.get("tool_calls") or ():
        function = call.get("function")
        if call.get("type") != "function" or not isinstance(function, dict) or not function.get("name"):
            raise Refused(f"{where}: a call is no function with a name")
        if not isinstance(call.get("id"), str) or not call["id"] or call["id"] in ids:
            raise Refused(f"{where}: a call has no id of its own")
        check_call(function.get("arguments"), where)
        if issued.calls.get(call["id"], call) != call:
            raise Refused(f"{where}: the call {call['id']!r} is not as it was issued")
        ids.append(call["id"])
    return ids


def _deltas(
    reply: ScriptedReply, asked: Mapping[str, Any], issued: Issued
) -> tuple[list[Sequence[dict[str, Any]]], list[dict[str, Any]], str]:
    """Give the groups of deltas, the calls and the text of a reply."""
    deltas: list[Sequence[dict[str, Any]]] = [[{"reasoning_content": reply.reasoning}]] if reply.reasoning else []
    calls: list[dict[str, Any]] = []
    text = ""
    for piece in pieces_of(reply, asked):
        cut = piece.cut(reply.chunk)
        if not piece.arguments:
            text += piece.text
            deltas.extend([{"content": each}] for each in cut)
            continue
        index, number = len(calls), issued.id("call")
        call = {
            "id": number,
            "type": "function",
            "function": {"name": TOOL, "arguments": piece.arguments},
            "extra_content": {"scripted": {"signature": f"signature of {number}"}},
        }
        calls.append(call)
        issued.calls[number] = call
        deltas.append([{"tool_calls": [{"index": index, **call, "function": {"name": TOOL, "arguments": ""}}]}])
        deltas.extend([{"tool_calls": [{"index": index, "function": {"arguments": each}}]}] for each in cut)
    return deltas, calls, text


def _usage(usage: Usage) -> dict[str, Any] | None:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }
