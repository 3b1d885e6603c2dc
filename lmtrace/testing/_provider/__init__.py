"""A provider on the loopback interface: real HTTP, real wire formats, no model and no key.

It exists so that a test, an example or the demo goes through the very code a paid call goes through: the client library,
its connection pool, its parsers for answers, streams and errors. Nothing is patched; whoever is tested only gets another
base URL.

    _loopback   the public class: scripting, what was received, start and close
    _server     HTTP and nothing else
    _reply      what a test says: `Reply`, `Failure`
    _request    what a client said: `ReceivedRequest`
    _answer     the two made whole: ids, counts and defaults filled in
    _canned     answers nobody scripted, computed from the request
    _dialect    what a wire format is; `_openai…`, `_anthropic`, `_gemini`, `_ollama` are the wire formats

An answer is written once, in neutral terms, and each dialect renders it; so one test can ask the same of four providers.
"""
