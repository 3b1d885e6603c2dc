"""One search is one retrieval, whichever of DSPy's classes it goes through."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
import pytest


class Wikipedia(BaseHTTPRequestHandler):
    """The retrieval server of DSPy's front page, with one passage."""

    def do_GET(self) -> None:
        found = {"text": "Kinnairdy Castle", "prob": 0.5, "score": 2.0, "pid": 1, "rank": 1}
        body = json.dumps({"topk": [found]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Wikipedia) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/wiki"
        server.shutdown()


class Upper(dspy.ColBERTv2):
    """A retriever of the program's own on top of DSPy's."""

    def __call__(self, query: str, k: int = 10, **kwargs: Any) -> Any:
        return super().__call__(query.upper(), k, **kwargs)


class Shelf(dspy.Retrieve):
    """A retriever in the form that DSPy's own integrations have."""

    def forward(self, query: str, k: int | None = None, **kwargs: Any) -> Any:
        return [dspy.Example(long_text=query)] * (k or self.k)


class Passages:
    """A retriever that is none of DSPy's."""

    def __call__(self, query: str, k: int) -> list[Any]:
        return [dspy.Example(long_text=query)] * k


@pytest.mark.parametrize("source", [dspy.ColBERTv2, Upper])
def test_retrieve_over_a_server(url: str, captured: Any, source: Any) -> None:
    """`dspy.Retrieve` over a retriever that is recorded is that one's retrieval: with server, number and documents."""
    with dspy.context(rm=source(url=url)):
        found = dspy.Retrieve(k=1)("castle")
    assert found.passages == ["Kinnairdy Castle"]
    (span,) = captured.spans
    assert span["name"] == f"retrieval {source.__name__}"
    assert span["attributes"]["server.address"] == "127.0.0.1"
    assert span["attributes"]["gen_ai.retrieval.top_k"] == 1
    (row,) = captured.span_rows
    assert (row["outputs"][0]["pid"], row["outputs"][0]["score"]) == (1, 2.0)
    assert "castle" in json.dumps(row["inputs"])


def test_retrieve_over_a_shelf(captured: Any) -> None:
    """So it is over a `dspy.Retrieve` of the program's own."""
    with dspy.context(rm=Shelf(k=5)):
        assert dspy.Retrieve(k=2)("castle").passages == ["castle"] * 2
    (span,) = captured.spans
    assert (span["name"], span["attributes"]["gen_ai.retrieval.top_k"]) == ("retrieval Shelf", 2)


def test_retrieve_over_a_callable(captured: Any) -> None:
    """A retriever that is not recorded by itself is seen as the `dspy.Retrieve` that asks it."""
    with dspy.context(rm=Passages()):
        assert dspy.Retrieve(k=2)("castle").passages == ["castle"] * 2
    assert [span["name"] for span in captured.spans] == ["retrieval Retrieve"]


def test_several_searches(url: str, captured: Any) -> None:
    """A retriever that asks others is a retrieval with those it makes below it."""

    class Both(dspy.Retrieve):
        def forward(self, query: str, k: int | None = None, **kwargs: Any) -> Any:
            search = dspy.ColBERTv2(url=url)
            return [*search(query, k=1), *search(query + "s", k=1)]

    Both(k=1)("castle")
    assert [span["name"] for span in captured.spans] == ["retrieval Both", *["retrieval ColBERTv2"] * 2]
