"""The Responses API: ``POST {base}/responses``.

A reply is a list of output items, of which some are reasoning that only the endpoint can read. They are remembered and
sent back in the reply's place, so that the model knows what it thought. Stateless, each request is the whole
conversation; with ``store``, it is what came after the last response that the endpoint keeps.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..events import Usage
from ..ports import ImagePart, Message, Part, ReplyEnd
from . import tools
from .dialect import Request, Text, encodable, filtered, system_of, text_of, unfinished, url_of, usage_of
from .endpoint import Endpoint, OpenAIOptions
from .memory import Answer, Kept, Memory, replay

_ENCRYPTED = "reasoning.encrypted_content"
_LASTING = re.compile(
    r"invalid_|image_|unsupported_|empty_image|failed_to_download|bio_policy|data_residency|.*violation"
)


class Responses:
    """Writes a conversation as input items, and reads events such as ``response.output_text.delta``."""

    path = "/responses"

    def __init__(self, options: OpenAIOptions) -> None:
        self._options = options
        self._memory = Memory()
        self._encrypted = True  # the endpoint gives its reasoning away encrypted, and takes it back

    def request(self, messages: Sequence[Message], endpoint: Endpoint, limit: int) -> Request:
        """Ask for the reply to a conversation, of at most so many characters."""
        options, more = self._options, dict[str, Any]()
        system, said = system_of(messages)
        known, digest = self._memory.recall(endpoint.url.encode(), said)
        stored = [index for index, kept in enumerate(known) if kept and kept.response]
        if stored and (last := known[stored[-1]]):
            more["previous_response_id"] = last.response
        items: list[dict[str, Any]] = []
        for each in replay(said, known, stored[-1] + 1 if stored else 0):
            items.extend(self._items(each))
        text = Text(endpoint, limit)
        calls = None
        if options.protocol == "tools":
            calls = tools.Calls(text, endpoint, options.language)
            system = tools.with_sentence(system)
            function = {"name": tools.NAME, "description": tools.DESCRIPTION, "parameters": tools.PARAMETERS}
            more["tools"] = [{"type": "function", **function, "strict": True}]
        if self._encrypted:
            more["include"] = [_ENCRYPTED]
        if system:  # it is not part of what is stored
            more["instructions"] = system

        def keep(kept: Kept) -> None:
            if not options.store:
                kept.response = ""
            self._memory.keep(digest, text.whole, kept)

        body = {"model": endpoint.model, "input": items, "stream": True, "store": options.store}
        body |= more | endpoint.provider.request(self._wanted()) | dict(options.body)
        return Request(body=body, reader=_Reader(endpoint, text, calls, keep))

    def failed(self, chunk: object) -> Mapping[str, Any] | None:
        """Give the error of a chunk that says that the reply failed; one that lasts has a status before its code."""
        if not isinstance(chunk, dict) or chunk.get("type") not in {"error", "response.failed"}:
            return None
        response = chunk.get("response")
        error = response.get("error") if isinstance(response, dict) else chunk
        error = error if isinstance(error, dict) else {}
        code = str(error.get("code") or "")
        return {"message": error.get("message"), "code": f"400 {code}" if _LASTING.match(code) else code}

    def gives_way(self, request: Request, refusal: str) -> bool:
        """Do without a stored response that the endpoint does not know, and without encryption that it refuses."""
        previous = request.body.get("previous_response_id")
        if previous and (previous in refusal or re.search(r"previous.?response", refusal, re.IGNORECASE)):
            self._memory.forget_responses()
            return True
        if self._encrypted and re.search(r"encrypted.?content", refusal, re.IGNORECASE):
            self._encrypted = False
            return True
        return False

    def _wanted(self) -> dict[str, Any]:
        options = self._options
        wanted = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "max_output_tokens": options.max_output_tokens,
            "reasoning": {"effort": options.reasoning_effort} if options.reasoning_effort else None,
            "metadata": dict(options.metadata) or None,
            "user": options.user or None,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def _items(self, each: Message | Kept | list[Answer]) -> list[dict[str, Any]]:
        if isinstance(each, Message):
            content = text_of(each.parts) if each.role == "assistant" else _content(each.parts)
            return [{"type": "message", "role": each.role, "content": content}]
        if isinstance(each, Kept):
            return _replayable(each.items, encrypted=self._encrypted)
        return [
            {"type": "function_call_output", "call_id": answer.call, "output": _content(answer.parts)}
            for answer in each
        ]


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """Give the content of a message or of a call's output: a string, or a list where there are pictures."""
    if not any(isinstance(part, ImagePart) for part in parts):
        return text_of(parts)
    return [
        {"type": "input_image", "image_url": url_of(part)}
        if isinstance(part, ImagePart)
        else {"type": "input_text", "text": encodable(part.text)}
        for part in parts
    ]


def _replayable(items: Sequence[dict[str, Any]], *, encrypted: bool) -> list[dict[str, Any]]:
    """Leave out reasoning that cannot be read without what the endpoint has not stored, and the ids that lead to it."""
    kept = [item for item in items if item["type"] != "reasoning" or _readable(item, encrypted=encrypted)]
    if len(kept) == len(items):
        return kept
    return [{name: value for name, value in item.items() if name not in {"id", "status"}} for item in kept]


def _readable(item: Mapping[str, Any], *, encrypted: bool) -> bool:
    return bool(encrypted and item.get("encrypted_content")) or bool(item.get("content"))


class _Reader:
    """Reads the events of a response, and remembers its items as they came."""

    def __init__(self, endpoint: Endpoint, text: Text, calls: tools.Calls | None, keep: Callable[[Kept], None]) -> None:
        self._endpoint = endpoint
        self._text = text
        self._calls = calls
        self._keep = keep
        self._items: list[dict[str, Any]] = []
        self._open = ""  # the id of the call that is open
        self._response: dict[str, Any] = {}
        self._finish = ""

    def take(self, chunk: object) -> str:
        """Give the text of an event."""
        if not isinstance(chunk, dict) or not isinstance(chunk.get("type"), str):
            raise self._endpoint.malformed()
        match chunk["type"]:
            case "response.output_text.delta" | "response.refusal.delta":
                delta = chunk.get("delta")
                if not isinstance(delta, str):
                    return ""
                self._text.count(delta)
                return (self._calls.close() if self._calls else "") + self._text.write(delta)
            case "response.output_item.added":
                return self._begin(chunk.get("item"))
            case "response.function_call_arguments.delta":
                delta = chunk.get("delta")
                return self._calls.feed(delta) if self._calls and isinstance(delta, str) else ""
            case "response.output_item.done":
                return self._done(chunk.get("item"))
            case "response.completed" | "response.incomplete" as kind:
                return self._end(chunk.get("response"), kind)
        return ""

    def _begin(self, item: object) -> str:
        """Give the text of an item that begins, if it is a call."""
        if not self._calls or not isinstance(item, dict) or item.get("type") != "function_call":
            return ""
        number, name, arguments = item.get("call_id"), item.get("name"), item.get("arguments")
        if not isinstance(number, str) or not isinstance(name, str) or not number:
            raise self._endpoint.malformed()
        self._open = number
        text = self._calls.begin(number, name)
        return text + (self._calls.feed(arguments) if isinstance(arguments, str) else "")

    def _done(self, item: object) -> str:
        """Keep an item, and give what is left of its text if it is a call."""
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            raise self._endpoint.malformed()
        self._text.count(str(item))
        self._items.append(item)
        if not self._calls or item["type"] != "function_call" or item.get("status") == "incomplete":
            return ""
        text = ""
        if not self._calls.open or self._open != item.get("call_id"):
            text = self._begin(item | {"arguments": ""})
        arguments = item.get("arguments")
        return text + self._calls.complete(arguments if isinstance(arguments, str) else "")

    def _end(self, response: object, kind: str) -> str:
        self._response = response if isinstance(response, dict) else {}
        details = self._response.get("incomplete_details")
        if isinstance(details, dict) and details.get("reason") == "content_filter":
            raise filtered(self._endpoint)
        self._finish = kind.removeprefix("response.")
        output = self._response.get("output")
        # Some servers tell of the items at the end only.
        return "".join(map(self._done, output)) if isinstance(output, list) and not self._items else ""

    def rest(self) -> str:
        """Give the end of the call that is open, and what is left of a character."""
        text = self._calls.finish(cut=self._finish == "incomplete") if self._calls and self._finish else ""
        return text + self._text.rest()

    def end(self) -> ReplyEnd:
        """Give the end of the reply, once it is known that each call is a block of its text."""
        if not self._finish:
            raise unfinished(self._endpoint)
        calls = self._calls.numbered() if self._calls else []
        cut = self._finish == "incomplete"
        made = [item.get("call_id") for item in self._items if item["type"] == "function_call"]
        # What broke off, or calls what cannot be answered, is not gone on from: it is sent as text.
        if not cut and made == [call.id for call in calls]:
            number = self._response.get("id")
            self._keep(Kept(items=self._whole(), calls=calls, response=number if isinstance(number, str) else ""))
        usage, model = self._response.get("usage"), self._response.get("model")
        return ReplyEnd(
            usage=usage_of(usage, "input_tokens", "output_tokens") if isinstance(usage, dict) else Usage(),
            model=self._endpoint.plain(model) if isinstance(model, str) else "",
            cut=cut,
        )

    def _whole(self) -> list[dict[str, Any]]:
        """Give the items as far as they lead to something: an endpoint refuses reasoning that nothing follows."""
        items = self._items
        while items and items[-1]["type"] == "reasoning":
            items = items[:-1]
        return items
