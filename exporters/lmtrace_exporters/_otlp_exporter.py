"""An exporter that sends rows as the spans they were, to an OTLP endpoint.

OpenTelemetry's own processor drops spans in bursts and at the end of a process; rows can be sent again at any time. What
it sends are the same spans with the same ids, so a backend that has one already shows it once or twice, as it pleases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lmtrace._exporter import Record
from lmtrace_exporters._batching import Batching, PartialWriteError
from lmtrace_exporters._forks import leave_behind
from lmtrace_exporters._otlp_rows import span_of
from lmtrace_exporters._otlp_signals import Tally, build_exporter
from lmtrace_exporters._otlp_target import target_of

REQUEST_SPANS: Final = 500


class OTLPExporter(Batching):
    """Sends records as OpenTelemetry spans with their original ids and times.

    For history that is there already (``lmtrace export --to otlp``), or for rows of a process without OpenTelemetry;
    a process that sends its spans itself would send each twice. Rows recorded without a trace are refused and counted.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        preset: str | None = None,
        service_name: str = "lmtrace",
        content: bool = False,
        seconds: float = 5.0,
    ) -> None:
        """Prepare the exporter; nothing is sent before the first record.

        Args:
            endpoint: base address such as ``http://localhost:4318``; see `setup_otlp`, also for the next three.
            protocol: ``http/protobuf`` or ``grpc``.
            headers: headers of the requests.
            preset: ``jaeger`` or ``honeycomb``.
            service_name: `service.name` of the spans.
            content: whether messages and answers are sent.
            seconds: how long a record may wait in memory.

        Raises:
            SettingsError: an argument makes no sense.
        """
        target = target_of(endpoint, protocol, headers, preset)
        self._protocol, self._options = target.protocol, target.options("traces", service_name)
        self._service_name, self._content = service_name, content
        self._client: Any = None
        self._tally = Tally()
        super().__init__(target.shown, seconds)

    @property
    def endpoint(self) -> str:
        """Where it is sent, without credentials."""
        return self._target

    def _begin(self) -> None:
        super()._begin()
        if self._client is not None:  # the parent's connection
            leave_behind(self._client)
            self._client = None

    def _write(self, records: list[Record]) -> None:
        known = [(record, span) for record in records if (span := self._span(record)) is not None]
        refused = len(records) - len(known)
        for start in range(0, len(known), REQUEST_SPANS):
            if not self._send([span for _, span in known[start : start + REQUEST_SPANS]]):
                rest = [record for record, _ in known[start:]]
                raise PartialWriteError("the collector did not take the spans", rest, refused)
        if refused:
            raise PartialWriteError(f"{refused} rows have no trace", refused=refused)

    def _span(self, record: Record) -> Any:
        try:
            return span_of(record.kind, record.row, self._service_name, content=self._content)
        except (ValueError, KeyError, TypeError):  # no row of ours
            return None

    def _send(self, spans: list[Any]) -> bool:
        from opentelemetry import context

        if self._client is None:
            self._client = build_exporter("traces", self._protocol, self._tally, self._options)
        failed = self._tally.failed
        token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            self._client.export(spans)
        finally:
            context.detach(token)
        return self._tally.failed == failed

    def _close(self) -> None:
        if self._client is not None:
            self._client.shutdown()
