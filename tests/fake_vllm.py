"""A small server with vLLM's endpoints: sleep mode, and completions of token ids, streamed.

It holds a device that two awake servers do not fit on, so that whoever wakes one too many is told. Its tokens
are a function of model and prompt. Run as a program it takes vLLM's own options.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["FakeVllm", "token_ids"]


def token_ids(model: str, prompt: Sequence[int], num: int) -> list[int]:
    """What the fake answers."""
    return [(sum(prompt) + len(model) + i) % 512 for i in range(num)]


class FakeVllm:
    """A server in a thread; stop it."""

    def __init__(self, model: str, *, port: int = 0, device: list[str] | None = None) -> None:
        self.model = model
        self.device = device if device is not None else []
        """The models that are awake on it."""
        self.calls: list[str] = []
        self.broken: set[str] = set()
        """Paths that fail once."""
        self.missing: set[str] = set()
        """Paths that there are not."""
        self.sends_ids = True
        self.short_by = 0
        self.device.append(model)
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                fake.answer(self, b"")

            def do_POST(self) -> None:
                fake.answer(self, self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def is_awake(self) -> bool:
        return self.model in self.device

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = urlsplit(handler.path)
        self.calls.append(f"{handler.command} {handler.path}")
        with suppress(BrokenPipeError, ConnectionResetError):
            if path.path in self.missing:
                return _reply(handler, 404, {"detail": "Not Found"})
            if path.path in self.broken:
                self.broken.discard(path.path)
                return _reply(handler, 500, {"error": "EngineCore encountered an issue"})
            match f"{handler.command} {path.path}":
                case "GET /health":
                    return _reply(handler, 200, None)
                case "GET /v1/models":
                    return _reply(handler, 200, {"object": "list", "data": [{"id": self.model}]})
                case "GET /is_sleeping":
                    return _reply(handler, 200, {"is_sleeping": not self.is_awake})
                case "POST /sleep":
                    assert parse_qs(path.query) == {"level": ["1"]}
                    self.device.remove(self.model)
                    return _reply(handler, 200, None)
                case "POST /wake_up":
                    if self.device:
                        return _reply(handler, 500, {"error": f"CUDA out of memory beside {self.device}"})
                    self.device.append(self.model)
                    return _reply(handler, 200, None)
                case "POST /v1/completions":
                    return self._complete(handler, json.loads(body))
            _reply(handler, 404, {"detail": "Not Found"})

    def _complete(self, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        if asked["model"] != self.model or not self.is_awake:
            return _reply(handler, 400, {"error": f"{asked['model']} is not here, or asleep"})
        assert asked["temperature"] == 0.0
        assert asked["ignore_eos"]
        assert asked["stream"]
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        for token in token_ids(self.model, asked["prompt"], asked["max_tokens"] - self.short_by):
            choice = {"text": f" {token}"} | ({"token_ids": [token]} if self.sends_ids else {})
            handler.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
            handler.wfile.flush()
        handler.wfile.write(b"data: [DONE]\n\n")


def _reply(handler: BaseHTTPRequestHandler, status: int, content: Any) -> None:
    body = b"" if content is None else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--served-model-name")
    parser.add_argument("--port", type=int)
    options, rest = parser.parse_known_args()
    with open(os.environ["FAKE_VLLM_LOG"], "a") as log:
        log.write(json.dumps({"pid": os.getpid(), "model": options.served_model_name, "args": rest}) + "\n")
    fake = FakeVllm(options.served_model_name, port=options.port)
    if os.environ.get("FAKE_VLLM_DIES"):
        print("(Worker) ERROR 01-01 00:00:00 [executor.py:1] RuntimeError: no such attention", flush=True)
        print("(APIServer) ERROR 01-01 00:00:00 [serving.py:1] EngineDeadError: see above", flush=True)
        fake.broken.add("/v1/completions")
    threading.Event().wait()


if __name__ == "__main__":
    main()
