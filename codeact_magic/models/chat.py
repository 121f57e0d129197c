"""The chat-completions API: ``POST {base}/chat/completions``."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import uuid4

from ..events import Usage
from ..ports import ImagePart, Message, Part, ReplyEnd
from . import tools
from .dialect import Request, Text, encodable, filtered, joined, system_of, text_of, unfinished, url_of, usage_of
from .endpoint import Endpoint, OpenAIOptions
from .memory import Answer, Kept, Memory, replay


class Chat:
    """Writes a conversation as messages, and reads chunks with ``choices``.

    With tools, a reply that called them is sent back with its calls as they came, and each is answered by a message of
    its own. Such a message takes text only: the pictures follow in one message of the user.
    """

    path = "/chat/completions"

    def __init__(self, options: OpenAIOptions) -> None:
        self._options = options
        self._memory = Memory()

    def request(self, messages: Sequence[Message], endpoint: Endpoint, limit: int) -> Request:
        """Ask for the reply to a conversation, of at most so many characters."""
        text = Text(endpoint, limit)
        if self._options.protocol == "text":
            return Request(body=self._body(endpoint, map(_message, messages)), reader=_Reader(endpoint, text))
        system, said = system_of(messages)
        known, digest = self._memory.recall(endpoint.url.encode(), said)
        written: list[dict[str, Any]] = [{"role": "system", "content": tools.with_sentence(system)}]
        for each in replay(said, known):
            written.extend(_items(each))
        function = {"name": tools.NAME, "description": tools.DESCRIPTION, "parameters": tools.PARAMETERS}
        body = self._body(endpoint, written, tools=[{"type": "function", "function": function}])
        calls = tools.Calls(text, endpoint, self._options.language)

        def keep(kept: Kept) -> None:
            self._memory.keep(digest, text.whole, kept)

        return Request(body=body, reader=_CallReader(endpoint, text, calls, keep))

    def failed(self, chunk: object) -> None:
        """Nothing: the client raises the errors of this API itself."""

    def gives_way(self, request: Request, refusal: str) -> bool:  # noqa: ARG002 - the shape of all dialects
        """Nothing is left out."""
        return False

    def _body(self, endpoint: Endpoint, messages: Iterable[dict[str, Any]], **more: Any) -> dict[str, Any]:
        options = self._options
        wanted = {
            "stream_options": {"include_usage": True},
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
            "max_completion_tokens": options.max_output_tokens,
            "reasoning_effort": options.reasoning_effort or None,
            "metadata": dict(options.metadata) or None,
            "user": options.user or None,
        }
        return {
            "model": endpoint.model,
            "messages": list(messages),
            "stream": True,
            **more,
            **endpoint.provider.request({name: value for name, value in wanted.items() if value is not None}),
            **options.body,
        }


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": _content(message.parts)}


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """Give the content of a message: a string, or a list where there are pictures."""
    if not any(isinstance(part, ImagePart) for part in parts):
        return text_of(parts)
    return [
        {"type": "image_url", "image_url": {"url": url_of(part)}}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": encodable(part.text)}
        for part in parts
    ]


def _items(each: Message | Kept | list[Answer]) -> Iterator[dict[str, Any]]:
    if isinstance(each, Message):
        yield _message(each)
    elif isinstance(each, Kept):
        yield from each.items
    else:
        pictures: list[dict[str, Any]] = []
        for answer in each:
            yield {"role": "tool", "tool_call_id": answer.call, "content": text_of(answer.parts)}
            shown = [{"type": "image_url", "image_url": {"url": url_of(part)}} for part in _images(answer)]
            if shown:
                pictures.extend([{"type": "text", "text": f"The pictures of the call {answer.call}:"}, *shown])
        if pictures:
            yield {"role": "user", "content": pictures}


def _images(answer: Answer) -> list[ImagePart]:
    return [part for part in answer.parts if isinstance(part, ImagePart)]


class _Reader:
    """Reads the chunks of a reply that is text."""

    def __init__(self, endpoint: Endpoint, text: Text) -> None:
        self._endpoint = endpoint
        self._text = text
        self._usage = Usage()
        self._model = ""
        self._finish = ""

    def take(self, chunk: object) -> str:
        """Give the text of a chunk."""
        if not isinstance(chunk, dict) or "choices" not in chunk:
            raise self._endpoint.malformed()
        if isinstance(model := chunk.get("model"), str) and not self._model:
            self._model = self._endpoint.plain(model)
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage_of(usage, "prompt_tokens", "completion_tokens")
        choices = chunk["choices"]
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self._finish = str(choice.get("finish_reason") or self._finish)
        if self._finish == "content_filter":
            raise filtered(self._endpoint)
        delta = choice.get("delta")
        return self._delta(delta) if isinstance(delta, dict) else ""

    def _delta(self, delta: Mapping[str, Any]) -> str:
        content = delta.get("content")
        if not isinstance(content, str):
            return ""
        self._text.count(content)
        return self._text.write(content)

    def rest(self) -> str:
        """Give what is left of a character whose other half never came."""
        return self._text.rest()

    def end(self) -> ReplyEnd:
        """Give the end of the reply, if it has come to one."""
        if not self._finish:
            raise unfinished(self._endpoint)
        return ReplyEnd(usage=self._usage, model=self._model, cut=self._finish == "length")


class _CallReader(_Reader):
    """Reads the chunks of a reply that may call the tool, and remembers it as it came if it does."""

    def __init__(self, endpoint: Endpoint, text: Text, calls: tools.Calls, keep: Callable[[Kept], None]) -> None:
        super().__init__(endpoint, text)
        self._calls = calls
        self._keep = keep
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._extra: Any = None
        self._made: list[dict[str, Any]] = []
        self._arguments: list[list[str]] = []
        self._index: object = None

    def _delta(self, delta: Mapping[str, Any]) -> str:
        # Some endpoints take the calls back only with what they thought, or signed, beside them.
        if isinstance(reasoning := delta.get("reasoning_content"), str):
            self._text.count(reasoning)
            self._reasoning.append(reasoning)
        self._extra = delta.get("extra_content") or self._extra
        text = ""
        content = delta.get("content")
        # White space beside the pieces of a call is no reason to end it.
        if isinstance(content, str) and content and not (self._calls.open and content.isspace()):
            self._content.append(content)
            text = self._calls.close() + super()._delta(delta)
        made = delta.get("tool_calls")
        return text + "".join(map(self._call, made if isinstance(made, list) else ()))

    def _call(self, piece: object) -> str:
        """Give the text of a piece of a call."""
        if not isinstance(piece, dict):
            raise self._endpoint.malformed()
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = function.get("name"), function.get("arguments")
        text = ""
        if self._begins(piece, name):
            if not isinstance(name, str) or not name:
                raise self._endpoint.malformed()
            self._index = piece.get("index")
            number = piece.get("id") if isinstance(piece.get("id"), str) else ""
            self._made.append({"id": number or f"call_{uuid4().hex[:24]}", "type": "function", "function": {}})
            self._made[-1]["function"]["name"] = name
            self._arguments.append([])
            text = self._calls.begin(self._made[-1]["id"], name)
        extras = {key: value for key, value in piece.items() if key not in {"index", "id", "type", "function"}}
        if extras:
            self._text.count(str(extras))
            self._made[-1].update(extras)
        if isinstance(arguments, str):
            self._arguments[-1].append(arguments)
            text += self._calls.feed(arguments)
        return text

    def _begins(self, piece: Mapping[str, Any], name: object) -> bool:
        """Say whether a piece begins a call: some servers leave out the index, or give all calls the same."""
        if not self._made:
            return True
        if isinstance(number := piece.get("id"), str) and number:
            return bool(number != self._made[-1]["id"])
        if (index := piece.get("index")) is not None:
            return bool(index != self._index)
        return bool(name)

    def rest(self) -> str:
        """Give the end of the call that is open, and what is left of a character."""
        text = self._calls.finish(cut=self._finish == "length") if self._finish else ""
        return text + super().rest()

    def end(self) -> ReplyEnd:
        """Give the end of the reply, once it is known that each call is a block of its text."""
        end = super().end()
        calls = self._calls.numbered()
        if calls and not end.cut:  # the calls of a reply that broke off may be half ones: it is sent as text
            for made, arguments in zip(self._made, self._arguments, strict=True):
                made["function"]["arguments"] = joined(arguments)
            message = {"role": "assistant", "content": joined(self._content) or None, "tool_calls": self._made}
            extras = {"reasoning_content": joined(self._reasoning), "extra_content": self._extra}
            self._keep(Kept(items=[message | {name: value for name, value in extras.items() if value}], calls=calls))
        return end
