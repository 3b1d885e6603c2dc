"""What is asked and what is answered: plain frozen data that knows no I/O.

A request keeps its messages in the provider-neutral shape the user wrote (OpenAI's, as LiteLLM and DSPy use it), because
that is what a person wants to read back; only answers are normalised. Secrets never enter these classes: they travel
beside a request (`Backend.complete(request, secrets)`), so nothing made from a request can leak them.

Each class has a JSON form (`to_wire`, `from_wire`) which the JSON Schema ``schema/lm.schema.json`` describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

ModelType = Literal["chat", "text", "responses", "embedding"]
"""Which interface of the provider a request uses; ``embedding`` exists for LiteLLM calls made directly."""

MODEL_TYPES: tuple[str, ...] = get_args(ModelType)

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {"chat": "chat", "text": "text_completion", "responses": "chat", "embedding": "embeddings"}
)
"""`gen_ai.operation.name` for each model type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LMRequest:
    """What was asked of one model, with the effective parameters and without any credential."""

    model: str
    """LiteLLM-style ``provider/model`` name."""

    model_type: ModelType = "chat"

    messages: Any = None
    """The messages as the provider gets them, or the input of an embeddings or Responses call."""

    prompt: str | None = None
    """The bare prompt, when the user gave one instead of messages."""

    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Effective parameters (`{**lm.kwargs, **call}`), `rollout_id` included, credentials never."""

    stream: bool = False

    provider: str | None = None
    """`gen_ai.provider.name`, when whoever made the request knows better than the model's prefix."""

    server_address: str | None = None
    server_port: int | None = None

    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Opaque data of the caller; stored nowhere."""

    @property
    def operation(self) -> str:
        """`gen_ai.operation.name`."""
        return OPERATIONS[self.model_type]

    @property
    def rollout_id(self) -> Any:
        """The rollout this request belongs to, or None."""
        return self.kwargs.get("rollout_id")

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: every field that says something, but for `metadata`."""
        wire: dict[str, Any] = {"model": self.model, "model_type": self.model_type}
        for name in ("messages", "prompt", "provider", "server_address", "server_port"):
            value = getattr(self, name)
            if value is not None:
                wire[name] = value
        if self.kwargs:
            wire["kwargs"] = dict(self.kwargs)
        if self.stream:
            wire["stream"] = True
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> LMRequest:
        """The request a JSON form describes.

        Raises:
            ValueError: a field is unknown, missing or of the wrong type.
        """
        given = _fields(cls, wire)
        if given.get("model_type", "chat") not in MODEL_TYPES:
            raise ValueError(f"LMRequest.model_type is one of {', '.join(MODEL_TYPES)}, not {given['model_type']!r}")
        request: LMRequest = _build(cls, given)
        return request


class _Part:
    """Common ground of everything an output can be made of."""

    __slots__ = ()
    type: ClassVar[str]

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: ``type`` and every field that is not None."""
        wire: dict[str, Any] = {"type": self.type}
        for name in self.__dataclass_fields__:  # type: ignore[attr-defined]  # of the subclass
            value = getattr(self, name)
            if value is not None:
                wire[name] = value
        return wire


@dataclass(frozen=True, slots=True)
class LMTextPart(_Part):
    """Generated text."""

    type: ClassVar[str] = "text"
    text: str
    provider_data: Mapping[str, Any] | None = None

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, written out because nearly every output has exactly one of these."""
        if self.provider_data is None:
            return {"type": "text", "text": self.text}
        return {"type": "text", "text": self.text, "provider_data": self.provider_data}


@dataclass(frozen=True, slots=True)
class LMReasoningPart(_Part):
    """What the model thought before it answered, as far as the provider shows it."""

    type: ClassVar[str] = "reasoning"
    text: str | None = None
    provider_data: Mapping[str, Any] | None = None
    """Signatures, redacted blocks and summaries, as the provider sent them."""


@dataclass(frozen=True, slots=True)
class LMToolCallPart(_Part):
    """A call the model wants made."""

    type: ClassVar[str] = "tool_call"
    id: str | None = None
    name: str | None = None
    arguments: Any = None
    """As the provider sent them: a JSON text, usually; never parsed here, because models send invalid JSON too."""
    provider_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LMCitationPart(_Part):
    """A source the model names for what it said."""

    type: ClassVar[str] = "citation"
    title: str | None = None
    url: str | None = None
    text: str | None = None
    """The cited passage."""
    provider_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LMRefusalPart(_Part):
    """The model's refusal, in its own words."""

    type: ClassVar[str] = "refusal"
    text: str
    provider_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LMImagePart(_Part):
    """A generated image, by address or inline (a ``data:`` URL)."""

    type: ClassVar[str] = "image"
    url: str | None = None
    provider_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LMAudioPart(_Part):
    """Generated speech: base64 data and its transcript."""

    type: ClassVar[str] = "audio"
    data: str | None = None
    transcript: str | None = None
    provider_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LMEmbeddingPart(_Part):
    """One embedding vector: floats, or base64 text where that was asked for."""

    type: ClassVar[str] = "embedding"
    vector: Any = None
    provider_data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LMOtherPart(_Part):
    """Anything a provider sends that has no class of its own; kept whole."""

    type: ClassVar[str] = "other"
    provider_data: Mapping[str, Any] | None = None


LMPart = (
    LMTextPart
    | LMReasoningPart
    | LMToolCallPart
    | LMCitationPart
    | LMRefusalPart
    | LMImagePart
    | LMAudioPart
    | LMEmbeddingPart
    | LMOtherPart
)

_PARTS: dict[str, Any] = {cls.type: cls for cls in get_args(LMPart)}


def _kind(value: Any) -> str:
    """What a value is called in JSON."""
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _fields(owner: Any, wire: Any) -> dict[str, Any]:
    """The fields of a JSON object, without those that are null."""
    if not isinstance(wire, Mapping):
        raise ValueError(f"{owner.__name__.replace('_', 'LM')} must be an object, not {_kind(wire)}")
    return {name: value for name, value in wire.items() if value is not None}


def _items(owner: Any, given: Mapping[str, Any], name: str) -> Sequence[Any]:
    items = given.get(name, ())
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"{owner.__name__}.{name} must be an array, not {_kind(items)}")
    return items


def _part_from_wire(wire: Mapping[str, Any]) -> LMPart:
    given = _fields(_Part, wire)
    kind = given.pop("type", None)
    cls = _PARTS.get(str(kind))
    if cls is None:
        raise ValueError(f"unknown part type {kind!r}; known are {', '.join(_PARTS)}")
    part: LMPart = _build(cls, given)
    return part


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "Mapping[str, Any]": (dict,),
}


@lru_cache(maxsize=32)
def _types(cls: Any) -> dict[str, tuple[type, ...]]:
    """The JSON types of each field, from the annotations; none where any will do."""
    return {item.name: _JSON_TYPES.get(str(item.type).removesuffix(" | None"), ()) for item in fields(cls)}


@lru_cache(maxsize=32)
def _required(cls: Any) -> tuple[str, ...]:
    """The fields that must be given."""
    return tuple(item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING)


def _build(cls: Any, given: Mapping[str, Any]) -> Any:
    """`cls(**given)` with an error that names the class and the field."""
    known = _types(cls)
    for name, value in given.items():
        types = known.get(name)
        if types is None:
            raise ValueError(f"{cls.__name__} has no field {', '.join(sorted(given.keys() - known.keys()))}")
        if types and type(value) not in types:
            raise ValueError(f"{cls.__name__}.{name} must be {_kind(types[-1]())}, not {_kind(value)}")
    for name in _required(cls):
        if name not in given:
            raise ValueError(f"{cls.__name__}.{name} is missing")
    return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class LMOutput:
    """One generated candidate."""

    parts: Sequence[LMPart] = ()
    """In the order the provider gave them."""

    finish_reason: str | None = None
    truncated: bool = False
    """Whether the answer was cut by the token limit."""

    logprobs: Any = None
    provider_data: Mapping[str, Any] | None = None
    """What the provider sent for this candidate and no field here holds."""

    metadata: Mapping[str, Any] | None = None

    @property
    def text(self) -> str | None:
        """All generated text joined, or None when the candidate has none."""
        texts = [part.text for part in self.parts if isinstance(part, LMTextPart)]
        return texts[0] if len(texts) == 1 else "".join(texts) if texts else None

    @property
    def reasoning(self) -> str | None:
        """All reasoning text joined, or None."""
        texts = [part.text for part in self.parts if isinstance(part, LMReasoningPart) and part.text is not None]
        return "".join(texts) if texts else None

    def of_type(self, kind: str) -> Iterator[LMPart]:
        """The parts of one type, for example ``"tool_call"``."""
        return (part for part in self.parts if part.type == kind)

    def to_wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"parts": [part.to_wire() for part in self.parts]}
        if self.finish_reason is not None:
            wire["finish_reason"] = self.finish_reason
        if self.truncated:
            wire["truncated"] = True
        if self.logprobs is not None:
            wire["logprobs"] = self.logprobs
        if self.provider_data is not None:
            wire["provider_data"] = self.provider_data
        if self.metadata is not None:
            wire["metadata"] = self.metadata
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> LMOutput:
        given = _fields(cls, wire)
        given["parts"] = tuple(_part_from_wire(part) for part in _items(cls, given, "parts"))
        output: LMOutput = _build(cls, given)
        return output


@dataclass(frozen=True, slots=True, kw_only=True)
class LMUsage:
    """Token counts of one request; None means that the provider did not say."""

    input_tokens: int | None = None
    """Cached tokens included."""
    output_tokens: int | None = None
    """Reasoning tokens included."""
    total_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    details: Mapping[str, Any] | None = None
    """The provider's own usage object, whole."""
    metadata: Mapping[str, Any] | None = None

    def to_wire(self) -> dict[str, Any]:
        return {
            name: value for name, value in zip(_USAGE_FIELDS, _usage_values(self), strict=True) if value is not None
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> LMUsage:
        usage: LMUsage = _build(cls, _fields(cls, wire))
        return usage


_USAGE_FIELDS = tuple(LMUsage.__dataclass_fields__)
_usage_values = attrgetter(*_USAGE_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LMResponse:
    """The normalised result of one LM request, with exactly the slots of DSPy's `LMResponse`."""

    model: str | None = None
    """The model that answered, which may be a dated version of the one asked."""

    outputs: Sequence[LMOutput]
    """One or more candidates."""

    usage: LMUsage | None = None
    cost: float | None = None
    """US dollars, or None when no price is known."""

    cache_hit: bool = False
    """Whether the answer came from a cache, not from the provider."""

    response_id: str | None = None
    provider_data: Mapping[str, Any] | None = None
    """What the provider sent and no field here holds."""

    metadata: Mapping[str, Any] | None = None
    """Notes of the layers that handled the response; `cost_source` is one. Not part of the provider's answer."""

    def __post_init__(self) -> None:
        if not self.outputs:
            raise ValueError("LMResponse.outputs needs at least one LMOutput")
        if self.cost is not None and not self.cost >= 0:
            raise ValueError(f"LMResponse.cost must be zero or more US dollars, not {self.cost!r}")

    def to_wire(self) -> dict[str, Any]:
        return self.wire_with(None if self.usage is None else self.usage.to_wire())

    def wire_with(self, usage: Any) -> dict[str, Any]:
        """The JSON form, given that of the usage."""
        wire: dict[str, Any] = {"outputs": [output.to_wire() for output in self.outputs], "cache_hit": self.cache_hit}
        if self.model is not None:
            wire["model"] = self.model
        if usage is not None:
            wire["usage"] = usage
        if self.cost is not None:
            wire["cost"] = self.cost
        if self.response_id is not None:
            wire["response_id"] = self.response_id
        if self.provider_data is not None:
            wire["provider_data"] = self.provider_data
        if self.metadata is not None:
            wire["metadata"] = self.metadata
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> LMResponse:
        """The response a JSON form describes.

        Raises:
            ValueError: a field or part type is unknown, a required one is missing, or a value is out of range.
        """
        given = _fields(cls, wire)
        given["outputs"] = tuple(LMOutput.from_wire(output) for output in _items(cls, given, "outputs"))
        if "usage" in given:
            given["usage"] = LMUsage.from_wire(given["usage"])
        response: LMResponse = _build(cls, given)
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class LMChunk:
    """One step of a streamed answer."""

    text: str = ""
    """Text that arrived in this step."""
    reasoning: str = ""
    index: int = 0
    """Which candidate it belongs to."""
    raw: Any = field(default=None, repr=False)
    """The provider library's own chunk."""

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: every field that says something, but for `raw`."""
        wire: dict[str, Any] = {"text": self.text} if self.text else {}
        if self.reasoning:
            wire["reasoning"] = self.reasoning
        if self.index:
            wire["index"] = self.index
        return wire
