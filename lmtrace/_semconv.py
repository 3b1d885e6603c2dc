"""Every telemetry name we emit, spelled once.

The names are those of OpenTelemetry's GenAI conventions (`CONVENTIONS_VERSION`), which are in development and still
renamed; a rename must therefore be a change of this file alone. What the conventions lack is called ``lmtrace.*``,
never ``gen_ai.*``. Cost is the one exception: `PROVISIONAL` lists its names, proposed for the conventions and not yet in
them, and one setting turns them off.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

CONVENTIONS_VERSION: Final = "1.42.0-dev"
"""Version of the GenAI conventions the names follow (definitions of August 2026)."""

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/gen-ai/1.42.0"
"""Sent with our tracer, meter and logger, so that a backend can translate later renames."""

SCOPE_NAME: Final = "lmtrace"
"""Name of the instrumentation scope."""

# --- attributes of the conventions ---------------------------------------------------------------------------------

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
OUTPUT_TYPE: Final = "gen_ai.output.type"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"

REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_ENCODING_FORMATS: Final = "gen_ai.request.encoding_formats"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
REQUEST_PREVIOUS_RESPONSE: Final = "gen_ai.request.previous_response.id"
EMBEDDINGS_DIMENSION_COUNT: Final = "gen_ai.embeddings.dimension.count"

RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"

USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
USAGE_COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
USAGE_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
USAGE_COST_SOURCE: Final = "gen_ai.usage.cost.source"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS: Final = "gen_ai.system_instructions"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_DESCRIPTION: Final = "gen_ai.tool.description"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
RETRIEVAL_QUERY: Final = "gen_ai.retrieval.query.text"
RETRIEVAL_DOCUMENTS: Final = "gen_ai.retrieval.documents"
RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"

TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - language-model tokens
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - language-model tokens

OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_TIER: Final = "openai.response.service_tier"
OPENAI_FINGERPRINT: Final = "openai.response.system_fingerprint"

EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"

# --- attributes of our own -----------------------------------------------------------------------------------------

CALL_ID: Final = "lmtrace.call.id"
REQUEST_KEY: Final = "lmtrace.request_key"
ROLLOUT_ID: Final = "lmtrace.rollout_id"
SERVED_BY: Final = "lmtrace.served_by"
ATTEMPTS: Final = "lmtrace.attempts"
SCOPE: Final = "lmtrace.scope"
RUN_ID: Final = "lmtrace.run.id"
RUN_NAME: Final = "lmtrace.run.name"
TAG_PREFIX: Final = "lmtrace.tag."
STEP_INPUTS: Final = "lmtrace.inputs"
STEP_OUTPUTS: Final = "lmtrace.outputs"
DSPY_PREFIX: Final = "lmtrace.dspy."
DSPY_SIGNATURE: Final = "lmtrace.dspy.signature"
DSPY_ADAPTER: Final = "lmtrace.dspy.adapter"
DSPY_ENGINE: Final = "lmtrace.dspy.engine"
DSPY_EVALUATION: Final = "lmtrace.dspy.evaluation_id"
DSPY_EXAMPLE: Final = "lmtrace.dspy.example_id"
CANDIDATE_PROGRAM: Final = "lmtrace.candidate.program"
CANDIDATE_OPTIMISER: Final = "lmtrace.candidate.optimiser"
CANDIDATE_NUMBER: Final = "lmtrace.candidate.number"
CANDIDATE_LABEL: Final = "lmtrace.candidate.label"
CANDIDATE_COMPILATION: Final = "lmtrace.candidate.compilation_id"
CANDIDATE_INSTRUCTIONS: Final = "lmtrace.candidate.instructions_hash"
CANDIDATE_DEMOS_HASH: Final = "lmtrace.candidate.demos_hash"
CANDIDATE_DEMOS: Final = "lmtrace.candidate.demos"
EVALUATION_EXAMPLES: Final = "lmtrace.evaluation.examples"
EVALUATION_FAILED: Final = "lmtrace.evaluation.failed"
EXAMPLE_POSITION: Final = "lmtrace.example.position"
RECORDED_PREFIX: Final = "lmtrace.recorded."
"""What an answer from the cache or a replay once used and cost: the name of the convention without ``gen_ai.``."""

RETRY_DELAY: Final = "lmtrace.retry.delay"
"""Seconds until the next attempt, on the event of a failed one."""
CONTENT_TRUNCATED: Final = "lmtrace.content.truncated"

# --- attributes other tools read, emitted when a compat set asks for them ------------------------------------------

SYSTEM: Final = "gen_ai.system"
OPENINFERENCE: Final = "openinference"
"""The compat set that also needs the kind of span."""
OPENINFERENCE_KIND: Final = "openinference.span.kind"

COMPAT: Final[dict[str, dict[str, str]]] = {
    "jaeger": {USAGE_CACHE_CREATION: USAGE_CACHE_CREATION},
    OPENINFERENCE: {
        PROVIDER_NAME: "llm.provider",
        REQUEST_MODEL: "llm.model_name",
        USAGE_INPUT_TOKENS: "llm.token_count.prompt",
        USAGE_OUTPUT_TOKENS: "llm.token_count.completion",
        USAGE_CACHE_READ: "llm.token_count.prompt_details.cache_read",
        USAGE_CACHE_CREATION: "llm.token_count.prompt_details.cache_write",
        USAGE_REASONING: "llm.token_count.completion_details.reasoning",
        USAGE_COST_AMOUNT: "llm.cost.total",
        INPUT_MESSAGES: "input.value",
        OUTPUT_MESSAGES: "output.value",
        CONVERSATION_ID: "session.id",
    },
    "v1.41": {PROVIDER_NAME: SYSTEM},
}
"""For each compat set: further names under which the value of an attribute is repeated.

``jaeger`` pins the names Jaeger's GenAI tab reads, whatever the conventions rename; ``openinference`` serves Arize;
``v1.41`` is for boards that still read ``gen_ai.system``.
"""

PROVISIONAL: Final = frozenset({USAGE_COST_AMOUNT, USAGE_COST_CURRENCY, USAGE_COST_SOURCE})
"""``gen_ai.*`` names that are proposed for the conventions and not yet in them."""

VALUE_TYPES: Final[dict[str, str]] = {
    **dict.fromkeys(
        (OPERATION_NAME, PROVIDER_NAME, OUTPUT_TYPE, CONVERSATION_ID, AGENT_NAME, SERVER_ADDRESS, ERROR_TYPE), "string"
    ),
    **dict.fromkeys((REQUEST_MODEL, REQUEST_REASONING_LEVEL, REQUEST_PREVIOUS_RESPONSE), "string"),
    **dict.fromkeys((RESPONSE_ID, RESPONSE_MODEL, TOKEN_TYPE, TOKEN_MODALITY), "string"),
    **dict.fromkeys((OPENAI_API_TYPE, OPENAI_REQUEST_TIER, OPENAI_RESPONSE_TIER, OPENAI_FINGERPRINT), "string"),
    **dict.fromkeys((EXCEPTION_TYPE, EXCEPTION_MESSAGE, USAGE_COST_CURRENCY, USAGE_COST_SOURCE), "string"),
    **dict.fromkeys((CALL_ID, REQUEST_KEY, ROLLOUT_ID, SERVED_BY, SCOPE, RUN_ID, RUN_NAME), "string"),
    **dict.fromkeys((SYSTEM, OPENINFERENCE_KIND, STEP_INPUTS, STEP_OUTPUTS), "string"),
    **dict.fromkeys((DSPY_SIGNATURE, DSPY_ADAPTER, DSPY_ENGINE, RETRIEVAL_QUERY), "string"),
    **dict.fromkeys((TOOL_NAME, TOOL_TYPE, TOOL_DESCRIPTION, WORKFLOW_NAME, EVALUATION_NAME), "string"),
    **dict.fromkeys((REQUEST_STOP_SEQUENCES, REQUEST_ENCODING_FORMATS, RESPONSE_FINISH_REASONS), "string[]"),
    **dict.fromkeys((REQUEST_MAX_TOKENS, REQUEST_CHOICE_COUNT, REQUEST_TOP_K, REQUEST_SEED), "int"),
    **dict.fromkeys((SERVER_PORT, EMBEDDINGS_DIMENSION_COUNT, ATTEMPTS, USAGE_REASONING), "int"),
    **dict.fromkeys((USAGE_INPUT_TOKENS, USAGE_OUTPUT_TOKENS, USAGE_CACHE_READ, USAGE_CACHE_CREATION), "int"),
    **dict.fromkeys((REQUEST_TEMPERATURE, REQUEST_TOP_P, REQUEST_FREQUENCY_PENALTY), "double"),
    **dict.fromkeys((REQUEST_PRESENCE_PENALTY, RESPONSE_FIRST_CHUNK, USAGE_COST_AMOUNT, RETRY_DELAY), "double"),
    **dict.fromkeys((REQUEST_STREAM, CONTENT_TRUNCATED), "boolean"),
    **dict.fromkeys((INPUT_MESSAGES, OUTPUT_MESSAGES, SYSTEM_INSTRUCTIONS, TOOL_DEFINITIONS), "any"),
    **dict.fromkeys((TOOL_ARGUMENTS, TOOL_RESULT, RETRIEVAL_DOCUMENTS), "any"),
    **dict.fromkeys((RETRIEVAL_TOP_K,), "int"),
    **dict.fromkeys((EVALUATION_SCORE,), "double"),
    **dict.fromkeys((EVALUATION_LABEL, EVALUATION_EXPLANATION, DSPY_EVALUATION, DSPY_EXAMPLE), "string"),
    **dict.fromkeys((CANDIDATE_PROGRAM, CANDIDATE_OPTIMISER, CANDIDATE_LABEL, CANDIDATE_COMPILATION), "string"),
    **dict.fromkeys((CANDIDATE_INSTRUCTIONS, CANDIDATE_DEMOS_HASH), "string"),
    **dict.fromkeys((CANDIDATE_NUMBER, CANDIDATE_DEMOS, EVALUATION_EXAMPLES, EVALUATION_FAILED), "int"),
    **dict.fromkeys((EXAMPLE_POSITION,), "int"),
}
"""The value type of each attribute, as the conventions name types; ``any`` is a JSON text on spans."""

# --- metrics -------------------------------------------------------------------------------------------------------


class Metric(NamedTuple):
    """How a metric is created."""

    instrument: Literal["histogram", "counter"]
    unit: str
    description: str
    buckets: tuple[float, ...] | None = None


SECONDS_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS: Final = tuple(4.0**power for power in range(14))

INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
INFERENCE_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
INFERENCE_INPUT_USAGE: Final = "gen_ai.client.inference.usage.input_tokens"
INFERENCE_OUTPUT_USAGE: Final = "gen_ai.client.inference.usage.output_tokens"
INFERENCE_READ_USAGE: Final = "gen_ai.client.inference.usage.cache_read.input_tokens"
INFERENCE_WRITE_USAGE: Final = "gen_ai.client.inference.usage.cache_write.input_tokens"
INFERENCE_REASONING_USAGE: Final = "gen_ai.client.inference.usage.reasoning.output_tokens"
INFERENCE_INPUT_TOKENS: Final = "gen_ai.client.inference.operation.input_tokens"
INFERENCE_OUTPUT_TOKENS: Final = "gen_ai.client.inference.operation.output_tokens"
OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
OPERATION_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - language-model tokens
WORKFLOW_DURATION: Final = "gen_ai.workflow.duration"
AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
CALLS: Final = "lmtrace.calls"
COLLECT_HOOK: Final = "lmtrace.collect"
"""Name of the instrument whose callback tells that a reader collects; it never has a value and is not exported."""

METRICS: Final[dict[str, Metric]] = {
    INFERENCE_DURATION: Metric("histogram", "s", "Duration of inference calls.", SECONDS_BUCKETS),
    INFERENCE_FIRST_CHUNK: Metric("histogram", "s", "Time until the first chunk of a stream.", SECONDS_BUCKETS),
    INFERENCE_INPUT_USAGE: Metric("counter", "{token}", "Input tokens used, cached ones included."),
    INFERENCE_OUTPUT_USAGE: Metric("counter", "{token}", "Output tokens used, reasoning included."),
    INFERENCE_READ_USAGE: Metric("counter", "{token}", "Input tokens read from the provider's cache."),
    INFERENCE_WRITE_USAGE: Metric("counter", "{token}", "Input tokens written to the provider's cache."),
    INFERENCE_REASONING_USAGE: Metric("counter", "{token}", "Output tokens spent on reasoning."),
    INFERENCE_INPUT_TOKENS: Metric("histogram", "{token}", "Input tokens of one call.", TOKEN_BUCKETS),
    INFERENCE_OUTPUT_TOKENS: Metric("histogram", "{token}", "Output tokens of one call.", TOKEN_BUCKETS),
    OPERATION_DURATION: Metric("histogram", "s", "GenAI operation duration.", SECONDS_BUCKETS),
    OPERATION_FIRST_CHUNK: Metric("histogram", "s", "Time until the first chunk of a stream.", SECONDS_BUCKETS),
    TOKEN_USAGE: Metric("histogram", "{token}", "Number of input and output tokens used.", TOKEN_BUCKETS),
    WORKFLOW_DURATION: Metric("histogram", "s", "Duration of programs.", SECONDS_BUCKETS),
    AGENT_DURATION: Metric("histogram", "s", "Duration of what agents are asked to do.", SECONDS_BUCKETS),
    TOOL_DURATION: Metric("histogram", "s", "Duration of tool calls.", SECONDS_BUCKETS),
    CALLS: Metric("counter", "{call}", "Finished LM calls, by where the answer came from."),
}

# --- events --------------------------------------------------------------------------------------------------------

INFERENCE_DETAILS_EVENT: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT: Final = "gen_ai.client.operation.exception"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
ATTEMPT_EVENT: Final = "lmtrace.attempt"
"""Span event: one attempt failed and another followed or was given up."""
FIRST_CHUNK_EVENT: Final = "lmtrace.first_chunk"
"""Span event: the first chunk of a stream arrived."""

SPAN_CONTENT: Final = frozenset({"span_only", "span_and_event"})
"""The content modes in which messages are put on spans."""

EVENT_CONTENT: Final = frozenset({"event_only", "span_and_event"})
"""The content modes in which messages are put in events."""

INFERENCE_CONTEXT_KEY: Final = "opentelemetry.genai.client.inference.context"
"""Context key by which nested instrumentations of one call recognise that its span is already open."""
