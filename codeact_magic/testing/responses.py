"""The Responses API of the scripted server, as strict as OpenAI's own."""

import time
from collections.abc import Mapping
from typing import Any

from ..events import Usage
from .apis import TOOL, Issued, Messages, Piece, Refused, characters, check_call, check_content, pieces_of
from .exchange import Answer
from .scripted import ScriptedReply

_INPUTS = ["input_text", "input_image", "input_file"]
_PARTS = {
    "system": _INPUTS,
    "developer": _INPUTS,
    "user": _INPUTS,
    "assistant": ["output_text", "refusal"],
}
_OF_CHAT = {
    "messages",
    "stop",
    "n",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "reasoning_effort",
    "response_format",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
}


class Responses:
    """``POST /v1/responses``."""

    def messages(self, asked: Mapping[str, Any], issued: Issued) -> Messages:
        """Give the conversation's items: those of the previous response, and the request's input.

        Raises:
            Refused: a field or an item is none, the previous response is not known, a call is not answered exactly
                once after it, or a reasoning item is not followed by what it led to.
        """
        for name in asked:
            if name in _OF_CHAT:
                raise Refused(f"Unknown parameter: {name!r}.", code="unknown_parameter", param=name)
        given = asked["input"]
        items: Messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        if previous := asked.get("previous_response_id"):
            if previous not in issued.responses:
                raise Refused(
                    f"Previous response with id {previous!r} not found.",
                    code="previous_response_not_found",
                    param="previous_response_id",
                )
            items = [*issued.responses[previous], *items]
        _check(items, issued)
        return items

    def answer(self, reply: ScriptedReply, asked: Mapping[str, Any], messages: Messages, issued: Issued) -> Answer:
        """Give a reply as events and as a whole."""
        number = issued.id("resp")
        output = _Output(reply, issued, encrypted="reasoning.encrypted_content" in (asked.get("include") or ()))
        if reply.reasoning:
            output.reason()
        for piece in pieces_of(reply, asked):
            output.add(piece)
        ends = {"length": "max_output_tokens", "content_filter": "content_filter"}
        status = "incomplete" if reply.finish in ends else "completed"
        response = {
            "id": number,
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "model": reply.model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "store": asked.get("store") is not False,
            "usage": None,
        }
        whole = response | {
            "status": status,
            "output": output.items,
            "incomplete_details": {"reason": ends[reply.finish]} if reply.finish in ends else None,
            "usage": _usage(reply.counted(len(asked.get("instructions") or "") + characters(messages))),
        }
        if reply.fault and reply.fault.no_usage:
            whole["usage"] = None
        if whole["store"] and status == "completed" and reply.breaks_after is None:
            issued.responses[number] = [*messages, *output.items]
        begin = [{"type": f"response.{each}", "response": response} for each in ("created", "in_progress")]
        end = [{"type": f"response.{status}", "response": whole}] if reply.finish else []
        pieces: list[list[dict[str, Any]]] = [begin, *output.events]
        end = [*output.closing, *end]
        for sequence, event in enumerate(each for group in [*pieces, end] for each in group):
            event["sequence_number"] = sequence
        return Answer(whole=whole, pieces=pieces, end=end)


def _check(items: Messages, issued: Issued) -> None:
    calls: set[str] = set()
    answered: set[str] = set()
    for number, item in enumerate(items):
        where, kind = f"input[{number}]", item.get("type", "message")
        if kind == "message":
            if (role := item.get("role")) not in _PARTS:
                raise Refused(f"{where}: there is no role {role!r}")
            check_content(item.get("content"), _PARTS[role], where)
        elif kind == "reasoning":
            if issued.reasoning.get(item.get("id", "")) != item:
                raise Refused(f"{where}: the reasoning item is not as it was issued")
            if not any(map(_follows_reasoning, items[number + 1 :][:1])):
                raise Refused(
                    f"Item {item['id']!r} of type 'reasoning' was provided without its required following item."
                )
        elif kind == "function_call":
            check_call(item.get("arguments"), where)
            if not item.get("name") or not item.get("call_id") or item["call_id"] in calls:
                raise Refused(f"{where}: a call has no name, or no id of its own")
            if issued.calls.get(item["call_id"], item) != item:
                raise Refused(f"{where}: the call {item['call_id']!r} is not as it was issued")
            calls.add(item["call_id"])
        elif kind == "function_call_output":
            check_content(item.get("output"), _INPUTS, where)
            if (call := item.get("call_id")) not in calls or call in answered:
                raise Refused(f"{where}: no call that is still open has the id {call!r}")
            answered.add(call)
        else:
            raise Refused(f"{where}: there is no item of the type {kind!r}")
        if item.get("role") == "user" and (left := calls - answered):
            raise Refused(f"No tool output found for function call {min(left)}.")
    if left := calls - answered:
        raise Refused(f"No tool output found for function call {min(left)}.")


def _follows_reasoning(item: Mapping[str, Any]) -> bool:
    return item.get("type") in {"reasoning", "function_call"} or item.get("role") == "assistant"


class _Output:
    """The output items of a response, and the events that tell of them."""

    def __init__(self, reply: ScriptedReply, issued: Issued, *, encrypted: bool) -> None:
        self.items: Messages = []
        self.events: list[list[dict[str, Any]]] = []
        self.closing: list[dict[str, Any]] = []  # of the item that came last: sent with what follows it
        self._reply = reply
        self._issued = issued
        self._encrypted = encrypted

    def reason(self) -> None:
        text, number = self._reply.reasoning, self._issued.id("rs")
        item: dict[str, Any] = {"type": "reasoning", "id": number, "summary": [{"type": "summary_text", "text": text}]}
        if self._encrypted:
            item["encrypted_content"] = f"encrypted {number}"
        self._issued.reasoning[number] = item
        self._item(item, item | {"summary": []}, "reasoning_summary_text", [text], {"summary_index": 0})

    def add(self, piece: Piece) -> None:
        """Add text as a message, or a call."""
        status = "completed" if piece.whole and self._reply.finish != "length" else "incomplete"
        cut = piece.cut(self._reply.chunk)
        if piece.arguments:
            number = self._issued.id("call")
            call: dict[str, Any] = {"type": "function_call", "id": f"fc_{number}", "call_id": number, "name": TOOL}
            item = call | {"arguments": piece.arguments, "status": status}
            self._issued.calls[number] = item
            begun = call | {"arguments": "", "status": "in_progress"}
            self._item(item, begun, "function_call_arguments", cut, {})
            return
        if not piece.text:
            return
        message: dict[str, Any] = {"type": "message", "id": self._issued.id("msg"), "role": "assistant"}
        content = [{"type": "output_text", "text": piece.text, "annotations": []}]
        item = message | {"status": status, "content": content}
        begun = message | {"status": "in_progress", "content": []}
        self._item(item, begun, "output_text", cut, {"content_index": 0})

    def _item(
        self, item: dict[str, Any], begun: dict[str, Any], name: str, cut: list[str], more: dict[str, Any]
    ) -> None:
        index = len(self.items)
        at = {"item_id": item["id"], "output_index": index, **more}
        opening = [*self.closing, {"type": "response.output_item.added", "output_index": index, "item": begun}]
        part = {"output_text": "content_part", "reasoning_summary_text": "reasoning_summary_part"}.get(name)
        if part:
            (shown,) = item.get("content") or item["summary"]
            opening.append({"type": f"response.{part}.added", **at, "part": shown | {"text": ""}})
        for number, delta in enumerate(cut):
            event = {"type": f"response.{name}.delta", **at, "delta": delta}
            self.events.append([*(opening if number == 0 else ()), event])
        field = "arguments" if name == "function_call_arguments" else "text"
        self.closing = [
            {"type": f"response.{name}.done", **at, field: "".join(cut)},
            *([{"type": f"response.{part}.done", **at, "part": shown}] if part else ()),
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
        self.items.append(item)


def _usage(usage: Usage) -> dict[str, Any] | None:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total,
    }
