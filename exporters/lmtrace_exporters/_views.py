"""The views people query, all made from the rows of two tables: calls and stored spans.

They are temporary views of an in-memory DuckDB, so nothing a user asks for can change a store.
"""

from __future__ import annotations

from typing import Final

TEXT_MACRO: Final = """
CREATE OR REPLACE TEMP MACRO message_text(content) AS CASE json_type(content)
    WHEN 'VARCHAR' THEN content ->> '$'
    WHEN 'NULL' THEN NULL
    WHEN 'ARRAY' THEN array_to_string(list_filter(list_transform(json_extract(content, '$[*]')::JSON[],
        lambda part: coalesce(part ->> '$.text', part ->> '$.content', part ->> '$.thinking',
                              CASE json_type(part) WHEN 'VARCHAR' THEN part ->> '$' END)), lambda text: text IS NOT NULL), chr(10))
    ELSE content ->> '$' END
"""
"""The text of a message's content, whether that is a string or a list of parts."""

_MESSAGES: Final = """
WITH asked AS (
    SELECT uuid, timestamp, 'input' AS direction, generate_subscripts(list, 1) - 1 AS position, unnest(list) AS message
    FROM (SELECT uuid, timestamp, json_extract(messages, '$[*]')::JSON[] AS list FROM calls WHERE messages IS NOT NULL)
), prompted AS (
    SELECT uuid, timestamp, 'input' AS direction, 0 AS position, json_object('role', 'user', 'content', prompt) AS message
    FROM calls WHERE messages IS NULL AND prompt IS NOT NULL
), answered AS (
    SELECT uuid, timestamp, 'output' AS direction, generate_subscripts(list, 1) - 1 AS position,
        unnest(list_transform(list, lambda item: CASE json_type(item)
            WHEN 'VARCHAR' THEN json_object('role', 'assistant', 'content', item)
            ELSE json_merge_patch(json_object('role', 'assistant', 'content', item -> '$.text'), item) END)) AS message
    FROM (SELECT uuid, timestamp, json_extract(outputs, '$[*]')::JSON[] AS list FROM calls WHERE outputs IS NOT NULL)
)
SELECT uuid, timestamp, direction, position::INTEGER AS position, message ->> '$.role' AS role,
    message_text(message -> '$.content') AS content, message
FROM (FROM asked UNION ALL FROM prompted UNION ALL FROM answered)
"""

_SPANS: Final = """
SELECT * RENAME (span_kind AS kind) FROM stored_spans UNION ALL BY NAME
SELECT span_id, trace_id, parent_span_id, timestamp, duration_ms,
    concat_ws(' ', coalesce(operation, 'chat'), regexp_replace(model, '^[^/]+/', '')) AS name, 'llm' AS kind, scope,
    CASE WHEN error_type IS NULL THEN 'ok' ELSE 'error' END AS status, error_type,
    coalesce(messages, to_json(prompt)) AS inputs, outputs, run_id, run_name, tags, schema_version, lmtrace_version,
    host, pid, thread, uuid AS call_uuid, cost, billed_cost, total_tokens
FROM calls
"""

_RUNS: Final = """
WITH called AS (
    SELECT run_id, any_value(run_name) AS name, any_value(tags) AS tags, min(timestamp) AS started,
        max(timestamp + to_microseconds((coalesce(duration_ms, 0) * 1000)::BIGINT)) AS ended, count(*) AS calls,
        count(error_type) AS errors, sum(total_tokens)::BIGINT AS tokens, sum(cost) AS cost, sum(billed_cost) AS billed_cost,
        list_sort(list(DISTINCT model)) AS models
    FROM calls WHERE run_id IS NOT NULL GROUP BY run_id
), spanned AS (
    SELECT run_id, any_value(run_name) AS name, any_value(tags) AS tags, min(timestamp) AS started,
        max(timestamp + to_microseconds((coalesce(duration_ms, 0) * 1000)::BIGINT)) AS ended
    FROM stored_spans WHERE run_id IS NOT NULL GROUP BY run_id
)
SELECT run_id, coalesce(spanned.name, called.name) AS name, coalesce(spanned.tags, called.tags) AS tags,
    least(spanned.started, called.started) AS started,
    epoch_us(greatest(spanned.ended, called.ended) - least(spanned.started, called.started)) / 1000 AS duration_ms,
    coalesce(calls, 0) AS calls, coalesce(errors, 0) AS errors, tokens, cost, billed_cost, coalesce(models, []) AS models
FROM called FULL JOIN spanned USING (run_id)
"""

_ROLLOUTS: Final = """
WITH latest AS (
    SELECT request_key, rollout_id, min(timestamp) AS started, count(*) AS calls, sum(cost) AS cost,
        arg_max(model, timestamp) AS model, arg_max(output_text, timestamp) AS output, arg_max(uuid, timestamp) AS uuid
    FROM calls WHERE request_key IS NOT NULL GROUP BY request_key, rollout_id
)
SELECT request_key, any_value(model) AS model, count(*) AS rollouts, list(rollout_id ORDER BY started, uuid) AS rollout_ids,
    list(output ORDER BY started, uuid) AS outputs, list(uuid ORDER BY started, uuid) AS uuids,
    min(started) AS started, sum(calls)::BIGINT AS calls, sum(cost) AS cost
FROM latest GROUP BY request_key HAVING count(*) > 1
"""
"""One row per request that was made with different rollout ids; a repeated rollout counts once, its newest answer shows."""

_COSTS: Final = """
SELECT timestamp::DATE AS day, provider, model, count(*) AS calls, sum(input_tokens)::BIGINT AS input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens, sum(total_tokens)::BIGINT AS tokens, sum(cost) AS cost,
    sum(billed_cost) AS billed_cost
FROM calls GROUP BY ALL
"""

_SPENT: Final = """
    SELECT {by}, count(*) AS calls, count(error_type) AS errors,
        sum(input_tokens) FILTER (served_by = 'provider')::BIGINT AS input_tokens,
        sum(output_tokens) FILTER (served_by = 'provider')::BIGINT AS output_tokens,
        sum(cost) AS cost, sum(billed_cost) AS billed_cost,
        count(*) FILTER (billed_cost IS NULL AND error_type IS NULL) AS unknown_costs
    FROM calls WHERE {by} IS NOT NULL GROUP BY {by}
"""
"""What the calls made for an evaluation, or for one example of it, took together."""

_FIGURES: Final = """coalesce(calls, 0) AS calls, coalesce(errors, 0) AS errors, input_tokens, output_tokens, cost,
    CASE WHEN calls IS NULL THEN 0 ELSE billed_cost END AS billed_cost, coalesce(unknown_costs, 0) AS unknown_costs"""

_CANDIDATES: Final = f"""
WITH spent AS ({_SPENT.format(by="evaluation_id")}), compiled AS (
    SELECT span_id AS compilation_id, attributes ->> '$."lmtrace.candidate.instructions_hash"' AS instructions_hash,
        attributes ->> '$."lmtrace.candidate.demos_hash"' AS demos_hash
    FROM stored_spans WHERE span_kind = 'compile'
), evaluated AS (
    SELECT run_id, run_name, tags, span_id AS evaluation_id, trace_id, timestamp, duration_ms,
        attributes ->> '$."lmtrace.candidate.program"' AS program,
        attributes ->> '$."lmtrace.candidate.optimiser"' AS optimiser,
        attributes ->> '$."lmtrace.candidate.compilation_id"' AS compilation_id,
        (attributes ->> '$."lmtrace.candidate.number"')::INTEGER AS number,
        attributes ->> '$."lmtrace.candidate.label"' AS label,
        attributes ->> '$."gen_ai.evaluation.name"' AS metric,
        (attributes ->> '$."gen_ai.evaluation.score.value"')::DOUBLE AS score,
        (attributes ->> '$."lmtrace.evaluation.examples"')::INTEGER AS examples,
        (attributes ->> '$."lmtrace.evaluation.failed"')::INTEGER AS failed,
        attributes ->> '$."lmtrace.candidate.instructions_hash"' AS instructions_hash,
        attributes ->> '$."lmtrace.candidate.demos_hash"' AS demos_hash,
        (attributes ->> '$."lmtrace.candidate.demos"')::INTEGER AS demos,
        error_type, inputs -> '$.predictors' AS predictors
    FROM stored_spans WHERE span_kind = 'evaluate'
)
SELECT evaluated.*, coalesce(evaluated.instructions_hash = compiled.instructions_hash
        AND evaluated.demos_hash = compiled.demos_hash, FALSE) AS chosen, {_FIGURES}
FROM evaluated LEFT JOIN compiled USING (compilation_id) LEFT JOIN spent USING (evaluation_id)
"""
"""One row per evaluation; it is `chosen` if its program is what the optimiser returned."""

_EXAMPLES: Final = f"""
WITH spent AS ({_SPENT.format(by="example_id")})
SELECT run_id, run_name, parent_span_id AS evaluation_id, span_id AS example_id, trace_id, timestamp, duration_ms,
    (attributes ->> '$."lmtrace.example.position"')::INTEGER AS position,
    attributes ->> '$."gen_ai.evaluation.name"' AS metric,
    (attributes ->> '$."gen_ai.evaluation.score.value"')::DOUBLE AS score, outputs ->> '$.score.feedback' AS feedback,
    error_type, inputs AS example, outputs -> '$.prediction' AS prediction, {_FIGURES}
FROM stored_spans LEFT JOIN spent ON span_id = spent.example_id WHERE span_kind = 'example'
"""

VIEWS: Final[dict[str, str]] = {
    "messages": _MESSAGES,
    "spans": _SPANS,
    "runs": _RUNS,
    "rollouts": _ROLLOUTS,
    "costs": _COSTS,
    "candidates": _CANDIDATES,
    "examples": _EXAMPLES,
}
"""Views in the order they are made; `calls` and `stored_spans` come before them."""

NAMES: Final = ("calls", *VIEWS)
"""What a query may name."""
