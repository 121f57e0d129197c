"""Configuration: traitlets in, frozen ``Settings`` out. Defaults, ``ipython_config.py``, environment, options.

Each later one wins. Keys are not settings: they are read from the environment when they are used.
"""

import importlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from traitlets import Bool, Dict, Enum, Float, Int, TraitError, Unicode
from traitlets.config import Configurable

from .errors import ConfigError

if TYPE_CHECKING:
    from .loop import Limits
    from .models.options import OpenAIOptions
    from .ports import Model

DEFAULT_MODEL = "gpt-5.5"


class CodeAct(Configurable):
    """Settings of the agent, as ``c.CodeAct.model = "..."`` in ``ipython_config.py``."""

    model = Unicode(DEFAULT_MODEL, help="[PROVIDER:]NAME, or recorded[:NOTEBOOK].").tag(config=True)
    base_url = Unicode("", help="An OpenAI-compatible endpoint; empty for the provider's own.").tag(config=True)
    api_version = Unicode("", help="Azure's dated API; empty for the undated one.").tag(config=True)
    api = Enum(["chat", "responses"], "chat", help="Chat completions, or the Responses API.").tag(config=True)
    protocol = Enum(
        ["text", "tools"], "text", help="How the model sends code: fenced in its text, or as tool calls."
    ).tag(config=True)
    store = Bool(False, help="Let the Responses API keep the conversation; send what is new.").tag(config=True)
    max_steps = Int(20, min=1, help="Replies of one turn.").tag(config=True)
    max_tokens = Int(None, allow_none=True, min=1, help="Tokens of one turn, requests included.").tag(config=True)
    timeout = Float(None, allow_none=True, min=0.001, help="Seconds that a generated cell may take.").tag(config=True)
    temperature = Float(None, allow_none=True, help="Sampling temperature.").tag(config=True)
    top_p = Float(None, allow_none=True, help="Nucleus sampling.").tag(config=True)
    seed = Int(None, allow_none=True, help="Seed, where the endpoint takes one.").tag(config=True)
    max_output_tokens = Int(None, allow_none=True, min=1, help="Tokens of one reply.").tag(config=True)
    reasoning_effort = Unicode("", help="low, medium, high, or what the endpoint takes.").tag(config=True)
    metadata = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Labels of requests; OpenAI wants body={'store': True} as well.",
    ).tag(config=True)
    images = Bool(True, help="Send figures as pictures; otherwise only the text about them.").tag(config=True)
    user = Unicode("", help="A name for who asks, where the endpoint takes one.").tag(config=True)
    headers = Dict(key_trait=Unicode(), value_trait=Unicode(), help="Extra headers of requests.").tag(config=True)
    body = Dict(key_trait=Unicode(), help="Extra fields of requests.").tag(config=True)
    silence = Float(120.0, min=0.1, help="Seconds that the endpoint may be silent.").tag(config=True)
    retries = Int(5, min=0, help="Times that a request is sent again after a passing fault.").tag(config=True)
    display = Enum(["auto", "rich", "plain"], "auto", help="How a turn is shown without a client.").tag(config=True)
    system = Unicode("", help="Text added to the system prompt.").tag(config=True)
    approval = Enum(
        ["auto", "risky", "ask"], "risky", help="Cells that wait for your word: none, risky ones, or all."
    ).tag(config=True)
    kernel = Unicode("", help="The kernel that runs generated cells; empty for the notebook's own.").tag(config=True)
    reply_timeout = Float(900.0, min=0.1, help="Seconds that one reply may stream.").tag(config=True)
    again = Bool(False, help="Ask an answered prompt again when its cell is run again.").tag(config=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one turn."""

    model: str = DEFAULT_MODEL
    base_url: str = field(default="", repr=False)  # it may hold a password
    api_version: str = ""
    api: Literal["chat", "responses"] = "chat"
    protocol: Literal["text", "tools"] = "text"
    store: bool = False
    max_steps: int = 20
    max_tokens: int | None = None
    timeout: float | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    images: bool = True
    user: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    silence: float = 120.0
    retries: int = 5
    display: Literal["auto", "rich", "plain"] = "auto"
    system: str = ""
    approval: Literal["auto", "risky", "ask"] = "risky"
    kernel: str = ""
    reply_timeout: float = 900.0
    again: bool = False

    @property
    def limits(self) -> "Limits":
        """Bounds of a turn."""
        from .loop import Limits  # noqa: PLC0415 - %load_ext must stay light

        return Limits(
            max_steps=self.max_steps,
            max_tokens=self.max_tokens,
            retries=self.retries,
            reply_seconds=self.reply_timeout,
        )

    def with_options(self, options: Mapping[str, Any]) -> "Settings":
        """Give the settings with options laid over them; None and unknown names count as not given.

        Raises:
            ConfigError: a value is out of range.
        """
        given = {
            name: _validated(name, value)
            for name, value in options.items()
            if value is not None and name in self.__slots__
        }
        changed = replace(self, **given)
        if not changed.model.strip():
            raise ConfigError("The model's name is empty: name one with --model or CODEACT_MODEL.")
        return changed


def _validated(name: str, value: Any) -> Any:
    traits = CodeAct()
    try:
        if isinstance(value, float) and not math.isfinite(value):
            raise TraitError
        return traits.traits()[name]._validate(traits, value)  # noqa: SLF001 - no public way
    except TraitError:
        wanted = _wanted(traits.traits()[name])
        raise ConfigError(f"--{name.replace('_', '-')} takes {wanted}, not {value!r:.80}.") from None


def _wanted(trait: Any) -> str:
    """Say which values a trait takes."""
    if isinstance(trait, Enum):
        return f"one of {', '.join(trait.values or ())}"
    kind = {Int: "a whole number", Float: "a number", Bool: "true or false", Dict: "a mapping"}.get(
        type(trait), "a text"
    )
    least = getattr(trait, "min", None)
    return kind if least in (None, float("-inf")) else f"{kind} of at least {least:g}"


_ENVIRONMENT: dict[str, tuple[str, Callable[[str], Any]]] = {
    "CODEACT_MODEL": ("model", str),
    "CODEACT_BASE_URL": ("base_url", str),
    "CODEACT_MAX_STEPS": ("max_steps", int),
    "CODEACT_MAX_TOKENS": ("max_tokens", int),
    "CODEACT_TIMEOUT": ("timeout", float),
    "CODEACT_DISPLAY": ("display", str),
    "CODEACT_APPROVAL": ("approval", str),
    "CODEACT_KERNEL": ("kernel", str),
}


def settings_from(config: CodeAct, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration, and the environment over it.

    Raises:
        ConfigError: an environment variable is unusable.
    """
    environment = os.environ if environment is None else environment
    values = {name: getattr(config, name) for name in Settings.__slots__}
    for variable, (name, read) in _ENVIRONMENT.items():
        if text := environment.get(variable, "").strip():
            try:
                values[name] = _validated(name, read(text))
            except (ValueError, ConfigError):
                wanted = _wanted(CodeAct.class_traits()[name])
                raise ConfigError(f"The environment variable {variable} takes {wanted}, not {text[:80]!r}.") from None
    return Settings(**values)


def preload(settings: Settings) -> None:
    """Import what the model will need, which takes a while."""
    if settings.model.partition(":")[0] != "recorded":
        importlib.import_module("openai")


def model_from(settings: Settings, *, notebook: str = "", language: str = "python") -> "Model":
    """Make the model that the settings name.

    Args:
        settings: a turn's settings.
        notebook: the path of the notebook itself, for a bare ``recorded``.
        language: of the code that the model writes.

    Raises:
        ConfigError: there is no such model.
        RecordError: the recorded notebook cannot be read.
    """
    kind, _, path = settings.model.partition(":")
    if kind == "recorded":
        from .models.recorded import RecordedModel  # noqa: PLC0415 - adapters load when they are used

        if not (path or notebook):
            raise ConfigError("Which recording? Name the notebook: --model recorded:NOTEBOOK.ipynb.")
        return RecordedModel(path or notebook)
    from .models.openai import OpenAIModel  # noqa: PLC0415

    return OpenAIModel(options_from(settings, language))


def options_from(settings: Settings, language: str = "python") -> "OpenAIOptions":
    """Give what the settings ask of an endpoint."""
    from .models.options import OpenAIOptions  # noqa: PLC0415 - %load_ext must stay light

    names = {each.name for each in fields(OpenAIOptions)} & set(Settings.__slots__) - {"timeout"}  # that of cells
    given = {name: getattr(settings, name) for name in names}
    return OpenAIOptions(timeout=settings.silence, language=language, **given)
