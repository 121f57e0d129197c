"""Settings: defaults, then the configuration, then the environment, then options."""

import pytest
from traitlets.config import Config

from codeact_magic.config import DEFAULT_MODEL, CodeAct, Settings, model_from, options_from, settings_from
from codeact_magic.errors import ConfigError, RecordError
from codeact_magic.models.endpoint import OpenAIOptions


def configured(**values: object) -> CodeAct:
    return CodeAct(config=Config({"CodeAct": values}))


def test_the_defaults_of_the_configuration_are_those_of_the_settings() -> None:
    assert settings_from(CodeAct(), {}) == Settings()


def test_all_settings_can_be_configured() -> None:
    assert set(CodeAct.class_trait_names(config=True)) - {"config", "parent", "log"} == set(Settings.__slots__)


@pytest.mark.parametrize(
    ("config", "environment", "options", "model"),
    [
        ({}, {}, {}, DEFAULT_MODEL),
        ({"model": "config"}, {}, {}, "config"),
        ({"model": "config"}, {"CODEACT_MODEL": "environment"}, {}, "environment"),
        ({"model": "config"}, {"CODEACT_MODEL": "environment"}, {"model": "option"}, "option"),
        ({"model": "config"}, {}, {"model": "option"}, "option"),
        ({}, {"CODEACT_MODEL": "environment"}, {"model": None}, "environment"),
        ({"model": "config"}, {"CODEACT_MODEL": "  "}, {}, "config"),
    ],
)
def test_each_later_source_wins(
    config: dict[str, object], environment: dict[str, str], options: dict[str, object], model: str
) -> None:
    assert settings_from(configured(**config), environment).with_options(options).model == model


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("CODEACT_MODEL", "m", "model", "m"),
        ("CODEACT_BASE_URL", "http://a/v1", "base_url", "http://a/v1"),
        ("CODEACT_MAX_STEPS", " 5 ", "max_steps", 5),
        ("CODEACT_MAX_TOKENS", "5000", "max_tokens", 5000),
        ("CODEACT_TIMEOUT", "1.5", "timeout", 1.5),
        ("CODEACT_DISPLAY", "plain", "display", "plain"),
    ],
)
def test_the_environment_is_read(variable: str, text: str, name: str, value: object) -> None:
    assert getattr(settings_from(CodeAct(), {variable: text}), name) == value


def test_the_address_of_openai_is_no_setting_of_all_providers() -> None:
    assert settings_from(CodeAct(), {"OPENAI_BASE_URL": "http://theirs/v1"}).base_url == ""


def test_what_is_asked_of_an_endpoint_follows_from_the_settings() -> None:
    settings = Settings(model="azure:x", api_version="2024-10-21", metadata={"a": "b"}, user="u", silence=3.0)
    assert options_from(settings) == OpenAIOptions(
        model="azure:x", api_version="2024-10-21", metadata={"a": "b"}, user="u", timeout=3.0
    )


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEACT_MAX_STEPS", "7")
    assert settings_from(CodeAct()).max_steps == 7


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CODEACT_MAX_STEPS", "many"),
        ("CODEACT_MAX_STEPS", "0"),
        ("CODEACT_MAX_STEPS", "-1"),
        ("CODEACT_MAX_STEPS", "1.5"),
        ("CODEACT_MAX_TOKENS", "0"),
        ("CODEACT_MAX_TOKENS", "all"),
        ("CODEACT_TIMEOUT", "soon"),
        ("CODEACT_TIMEOUT", "0"),
        ("CODEACT_TIMEOUT", "-1"),
        ("CODEACT_TIMEOUT", "nan"),
        ("CODEACT_DISPLAY", "fancy"),
    ],
)
def test_an_unusable_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable} takes .*, not '{text}'"):
        settings_from(CodeAct(), {variable: text})


def test_an_unusable_value_is_named_in_one_short_line() -> None:
    with pytest.raises(ConfigError) as raised:
        settings_from(CodeAct(), {"CODEACT_MAX_STEPS": "a\nb" * 1000})
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_steps": 0}, "--max-steps"),
        ({"max_steps": -3}, "--max-steps"),
        ({"timeout": 0.0}, "--timeout"),
        ({"timeout": -1.0}, "--timeout"),
        ({"timeout": float("nan")}, "--timeout"),
        ({"model": ""}, "--model"),
        ({"model": "  "}, "--model"),
        ({"max_tokens": 0}, "--max-tokens"),
        ({"max_tokens": -5}, "--max-tokens"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Settings().with_options(options)


def test_unknown_options_are_passed_over() -> None:
    assert Settings().with_options({"colour": "red", "limits": 5}) == Settings()


def test_options_leave_the_settings_themselves_alone() -> None:
    settings = Settings()
    settings.with_options({"model": "other"})
    assert settings.model == DEFAULT_MODEL


def test_a_false_option_counts_as_given() -> None:
    assert Settings(again=True).with_options({"again": False}).again is False


def test_the_limits_of_a_turn_follow_from_the_settings() -> None:
    limits = Settings(max_steps=3, max_tokens=500, retries=1).limits
    assert (limits.max_steps, limits.max_tokens, limits.retries) == (3, 500, 1)


def test_headers_and_body_are_not_shown() -> None:
    shown = repr(Settings(headers={"Authorization": "Bearer x"}, body={"key": "y"}))
    assert "Bearer" not in shown
    assert "'y'" not in shown


def test_a_recording_without_a_notebook_is_refused() -> None:
    with pytest.raises(ConfigError, match="Which recording"):
        model_from(Settings(model="recorded"))


@pytest.mark.parametrize("model", ["recorded:/nowhere/a.ipynb", "recorded"])
def test_a_recording_is_looked_for_where_it_is_named(model: str) -> None:
    with pytest.raises(RecordError, match="/nowhere/"):
        model_from(Settings(model=model), notebook="/nowhere/b.ipynb")
