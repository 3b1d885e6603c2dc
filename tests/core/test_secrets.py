"""Credentials: found by name and taken out, then looked for by value in everything that is recorded."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from urllib.parse import quote

import orjson
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrace import _wire
from lmtrace._redactor import _PLACEHOLDERS, WITHHELD, Redactor, hide_shapes
from lmtrace._secrets import REDACTED, clean_url, is_secret_name, split

CANARY = "canary+Key/0123456789=="

SECRET_NAMES = [
    "api_key",
    "apikey",
    "API-KEY",
    "x-api-key",
    "openai_api_key",
    "azure_ad_token",
    "aws_secret_access_key",
    "aws_access_key_id",
    "aws_session_token",
    "aws_bearer_token_bedrock",
    "client_secret",
    "vertex_credentials",
    "authorization",
    "Authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "password",
    "passwd",
    "private_key",
    "subscription-key",
    "Ocp-Apim-Subscription-Key",
    "token",
    "auth_token",
    "id_token",
    "hf_token",
    "x-goog-api-key",
    "x-amz-security-token",
    "X-Amz-Signature",
    "sig",
    "signature",
    "key",
    "bearer",
    "dsn",
    "headers",
    "extra_headers",
    "HEADERS",
    "client",
    "http_client",
]

PUBLIC_NAMES = [
    "max_tokens",
    "max_completion_tokens",
    "min_tokens",
    "logit_bias",
    "top_k",
    "temperature",
    "stop",
    "seed",
    "n",
    "user",
    "metadata",
    "tokenizer",
    "author",
    "prompt_cache_key",
    "cache_key",
    "eos_token",
    "bos_token",
    "stop_token",
    "skip_special_tokens",
    "tool_choice",
    "keyword",
    "keys",
    "response_format",
    "prompt",
    "messages",
    "monkey",
    "compass",
    "design",
    "signal",
    "reasoning_tokens",
    "max_tokens_to_sample",
    "add_generation_prompt",
    "patience",
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_secret_names(name: str) -> None:
    """Names of credentials are known in every spelling."""
    assert is_secret_name(name)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_names(name: str) -> None:
    """Parameters that only sound like a credential are kept."""
    assert not is_secret_name(name)


class Config(pydantic.BaseModel):
    api_key: str
    region: str = "eu"


NESTED: dict[str, tuple[Any, Any]] = {
    "dictionary": ({"a": {"api_key": CANARY, "top": 1}}, {"a": {"api_key": REDACTED, "top": 1}}),
    "list": ([{"token": CANARY}, 2], [{"token": REDACTED}, 2]),
    "tuple": (({"token": CANARY},), [{"token": REDACTED}]),
    "mapping": (MappingProxyType({"api_key": CANARY}), {"api_key": REDACTED}),
    "model": ({"config": Config(api_key=CANARY)}, {"config": {"api_key": REDACTED, "region": "eu"}}),
    "headers": ({"headers": {"X-Any": CANARY}}, {"headers": REDACTED}),
    "a whole dictionary": ({"credentials": {"user": CANARY}}, {"credentials": REDACTED}),
    "deep": (
        {"a": [{"b": [{"c": [{"d": [{"e": [{"f": [{"key": CANARY}]}]}]}]}]}]},
        {"a": [{"b": [{"c": [{"d": [{"e": [{"f": [{"key": REDACTED}]}]}]}]}]}]},
    ),
    "address": ({"url": "https://u:pw-0123@host/p"}, {"url": "https://host/p"}),
}


@pytest.mark.parametrize("what", NESTED)
def test_split_nested(what: str) -> None:
    """A nested credential is replaced in the copy that is recorded, and the provider gets the value whole."""
    value, clean = NESTED[what]
    safe, secrets = split({"extra_body": value, "seed": 1})
    assert (safe, secrets) == ({"extra_body": clean, "seed": 1}, {"extra_body": value})
    assert secrets["extra_body"] is value


def test_split_leaves_clean_values_alone() -> None:
    """A value without credentials is the very object the caller passed, and nothing is called a secret."""
    kwargs = {
        "temperature": 0.5,
        "metadata": {"a": [1, {"b": "c"}]},
        "response_format": Config,
        "stop": ["a"],
        "api_base": "http://localhost:1/v1?api-version=2",
        "odd": object(),
    }
    safe, secrets = split(kwargs)
    assert secrets == {}
    assert all(safe[name] is kwargs[name] for name in kwargs)


SCHEMA = {
    "type": "object",
    "properties": {"api_key": {"type": "string"}, "token": {"type": "string", "description": "a string"}},
    "required": ["api_key"],
}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
        {"extra_body": {"guided_json": SCHEMA}},
        {"functions": [{"name": "f", "parameters": SCHEMA}]},
    ],
    ids=lambda kwargs: next(iter(kwargs)),
)
def test_schemas_are_not_credentials(kwargs: dict[str, Any]) -> None:
    """A schema may describe a field called token; neither it nor the words in it are hidden."""
    safe, secrets = split(kwargs)
    assert (safe, secrets) == (kwargs, {})


def test_tools_with_credentials() -> None:
    """A hosted tool comes with headers and keys of its own, which are taken out."""
    mcp = {
        "type": "mcp",
        "server_url": f"https://h/x?token={CANARY}",
        "authorization": CANARY,
        "headers": {"X": CANARY},
    }
    plain = {"type": "function", "function": {"name": "f"}}
    safe, secrets = split({"tools": [plain, mcp]})
    assert CANARY not in repr(safe)
    assert safe["tools"][0] is plain
    assert Redactor().line(_wire.dumps({"text": f"it was {CANARY}"}), secrets) == b'{"text":"it was [redacted]"}'


def test_split_survives_anything() -> None:
    """Cycles, and objects that fail when they are looked at, neither stop nor hold up a call."""

    class Broken(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError

    cycle: dict[str, Any] = {"api_key": CANARY}
    cycle["one"] = cycle["two"] = cycle
    safe, secrets = split({"a": cycle, "b": Broken(x=1), "client": MagicMock(), "c": MagicMock()})
    assert CANARY not in json.dumps(orjson.loads(_wire.dumps(safe)))
    line = Redactor().line(_wire.dumps({"text": CANARY}), secrets)
    assert CANARY.encode() not in line


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://host/v1", "https://host/v1"),
        ("https://user:pw@host:1/v1?x=1", "https://host:1/v1?x=1"),
        ("https://key@host", "https://host"),
        ("https://u:p@ss@host/a", "https://host/a"),
        ("https://host/?api_key=abc&x=a%26b&sig=1", f"https://host/?api_key={REDACTED}&x=a%26b&sig={REDACTED}"),
        ("https://host/#access_token=abc", f"https://host/#access_token={REDACTED}"),
        ("user:pw@host/v1", "host/v1"),
        ("see http://u:p@a and http://k@b?key=1", f"see http://a and http://b?key={REDACTED}"),
        ("http://[bad@", "http://"),
        ("https://host/a@b?x=@", "https://host/a@b?x=@"),
    ],
)
def test_clean_url(url: str, clean: str) -> None:
    """Addresses lose the user, the password and the credential fields, and nothing else."""
    assert clean_url(url) == clean


def redact(text: str, **secrets: Any) -> str:
    """`text` after the redaction of a record that was made with these secrets."""
    value = orjson.loads(Redactor().line(_wire.dumps({"text": text}), secrets))["text"]
    assert Redactor().text(text, secrets) == value
    return str(value)


def basic(user: str) -> str:
    return base64.b64encode(user.encode()).decode()


@pytest.mark.parametrize(
    ("secrets", "text"),
    [
        ({"api_key": CANARY}, CANARY),
        ({"api_key": CANARY}, f"?api_key={quote(CANARY, safe='')}&x"),
        ({"api_key": CANARY}, quote(CANARY)),
        ({"api_key": CANARY.encode()}, CANARY),
        ({"api_key": pydantic.SecretStr(CANARY)}, CANARY),
        ({"api_key": pydantic.SecretBytes(CANARY.encode())}, CANARY),
        ({"headers": {"AUTHORIZATION": f"Bearer {CANARY}"}}, CANARY),
        ({"headers": {"authorization": f"Bearer {CANARY}"}}, f"Authorization: Bearer {CANARY}"),
        ({"headers": [("X-Odd", CANARY)]}, CANARY),
        ({"headers": {"Authorization": f"Basic {basic('me:' + CANARY)}"}}, basic("me:" + CANARY)),
        ({"headers": {"Authorization": f"Basic {basic('me:' + CANARY)}"}}, CANARY),
        ({"api_base": f"https://me:{quote(CANARY, safe='')}@host"}, CANARY),
        ({"api_base": f"https://me:{quote(CANARY, safe='')}@host"}, quote(CANARY, safe="")),
        ({"api_base": f"https://me:{quote(CANARY, safe='')}@host"}, basic("me:" + CANARY)),
        ({"api_base": f"https://{quote(CANARY, safe='')}@host"}, CANARY),
        ({"base_url": f"https://host/?sig={quote(CANARY, safe='')}"}, CANARY),
        ({"client": SimpleNamespace(api_key=CANARY)}, CANARY),
        ({"vertex_credentials": json.dumps({"private_key": CANARY, "type": "service_account"})}, CANARY),
        ({"extra_body": {"nested": [{"password": CANARY}]}}, CANARY),
        ({"extra_body": Config(api_key=CANARY)}, CANARY),
        ({"api_key": 'quote" back\\slash\nnewline'}, 'quote" back\\slash\nnewline'),
        ({"api_key": "schlüssel-ключ"}, "schlüssel-ключ"),
        ({"key": "abcdefgh", "token": "abcdefgh-and-more"}, "abcdefgh-and-more"),
    ],
    ids=range(23),
)
def test_known_secrets(secrets: dict[str, Any], text: str) -> None:
    """The credentials of a call are removed from every text, in each form in which they turn up."""
    assert redact(f"before {text} after", **secrets) in (
        f"before {REDACTED} after",
        f"before ?api_key={REDACTED}&x after",
        f"before Authorization: {REDACTED} after",
    )


def test_words_are_not_secrets() -> None:
    """Short texts, placeholders, and what stands beside a credential in the same parameter, stay as they are."""
    secrets = {
        "api_key": "ollama",
        "token": "abc",
        "headers": {"Content-Type": "application/json", "User-Agent": "my-program"},
        "extra_body": {"token": CANARY, "mode": "brilliant"},
        "vertex_credentials": json.dumps({"type": "service_account", "private_key": CANARY}),
        "api_base": "https://openai:pw-0123456@host/v1",
    }
    text = "ollama abc application/json my-program brilliant service_account openai host/v1"
    assert redact(text, **secrets) == text


def test_a_record_keeps_its_form() -> None:
    """A secret that is a word of the record's own vocabulary spoils texts, never the record."""
    line = _wire.dumps({"messages": [{"role": "user", "content": "messages\nnmessages"}], "model": "m"})
    row = orjson.loads(Redactor().line(line, {"api_key": "messages", "token": "nmessages"}))
    assert row == {"messages": [{"role": "user", "content": f"{REDACTED}\n{REDACTED}"}], "model": "m"}


@given(st.text(st.characters(codec="utf-8"), min_size=6, max_size=12), st.text(max_size=5), st.text(max_size=5))
def test_any_secret(secret: str, before: str, after: str) -> None:
    """Whatever characters a secret has, the record stays valid and does not hold it."""
    if secret.lower() in "[redacted]" or not secret.strip() or secret.lower() in _PLACEHOLDERS:
        return
    line = Redactor().line(_wire.dumps({"text": before + secret + after, "n": 1.5}), {"api_key": secret})
    row = json.loads(line)
    assert row["n"] == 1.5
    assert secret not in str(row["text"]) or secret in before + REDACTED + after


class TestEnvironment:
    """Secrets in the environment are removed from every text, whenever they were set."""

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("OPENAI_API_KEY", CANARY),
            ("AWS_SECRET_ACCESS_KEY", f"a {CANARY} b"),
            ("MY_PASSWORD", CANARY),
            ("HTTPS_PROXY", f"http://me:{quote(CANARY, safe='')}@proxy:1"),
            ("DATABASE_URL", f"postgres://me:{quote(CANARY, safe='')}@db/x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", f"x-honeycomb-team={quote(CANARY)},a=b"),
            ("LMTRACE_OTLP_HEADERS", f"x-team={quote(CANARY)}"),
        ],
        ids=range(7),  # pytest puts the id into the environment
    )
    def test_variables(self, variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keys, passwords, credentials in addresses and OTLP headers are found."""
        redactor = Redactor()
        line = _wire.dumps({"text": f"a {CANARY} b"})
        assert redactor.line(line, {}) == line
        monkeypatch.setenv(variable, value)
        assert CANARY.encode() not in redactor.line(line, {})
        monkeypatch.delenv(variable)
        assert redactor.line(line, {}) == line

    def test_paths(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A path to a file of credentials is none."""
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
        monkeypatch.setenv("LESS_KEY", os.fspath(tmp_path))
        line = _wire.dumps({"text": str(tmp_path)})
        assert Redactor().line(line, {}) == line


KEYS = [
    "sk-proj-0123456789abcdefghij",
    "AKIA0123456789ABCDEF",
    "AIza" + "0" * 35,
    "ghp_" + "a" * 36,
    "xoxb-0123456789-abc",
    "hf_" + "a" * 30,
    "gsk_" + "a" * 30,
    "Bearer 0123456789abcdefghijkl",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
    "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key[:6])
def test_shapes(key: str) -> None:
    """What looks like a well-known key is removed from error texts and parameters, whoever's it is."""
    redactor = Redactor()
    assert key.removeprefix("Bearer ") not in redactor.text(f"Incorrect key provided:\n{key}\nsee docs", {})
    assert key.removeprefix("Bearer ").encode() not in hide_shapes(orjson.dumps({"a": f"x\n{key}"}))
    orjson.loads(hide_shapes(orjson.dumps({"a": f"x\n{key} y"})))


@pytest.mark.parametrize("text", ["task-force", "sk-learn is fine", "eyJ alone", "Bearer of news", "disk-0123456789"])
def test_shapes_in_prose(text: str) -> None:
    """Ordinary words are no keys."""
    assert Redactor().text(text, {}) == text


class TestCustom:
    """The user's redactors: texts, patterns and functions."""

    def test_kinds(self) -> None:
        """Each kind is applied, in order."""
        redactor = Redactor(["Ann", re.compile(r"\d+"), str.lower])
        assert redactor.text("Ann is 42 YEARS", {}) == "[redacted] is [redacted] years"

    @pytest.mark.parametrize("broken", [lambda text: 1 / 0, lambda text: None, lambda text: b"x"])
    def test_failure(self, broken: Any) -> None:
        """A text that a redactor fails on, or answers with something else for, is withheld, not recorded."""
        redactor = Redactor([broken])
        assert redactor.text("secret", {}) == WITHHELD
        assert redactor.walk({"a": ["secret"]}) == {"a": [WITHHELD]}

    def test_form_is_kept(self) -> None:
        """Roles, types and the tags of odd values are not shown to redactors: without them nothing can be read."""
        redactor = Redactor([lambda text: "x"])
        value = [{"role": "user", "content": "hi"}, {"type": "text", "n": _wire.encode(2**70)}]
        assert redactor.walk(value) == [{"role": "user", "content": "x"}, {"type": "text", "n": _wire.encode(2**70)}]

    def test_interrupts_pass(self) -> None:
        """An interrupt raised in a redactor is no failure of it."""

        def interrupted(text: str) -> str:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            Redactor([interrupted]).text("a", {})

    def test_nothing_else(self) -> None:
        """Anything that cannot redact is refused."""
        with pytest.raises(TypeError, match="not int"):
            Redactor([5])
