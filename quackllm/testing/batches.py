"""The batch API of OpenAI's protocol, as a `FakeServer` speaks it: /v1/files and /v1/batches."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quackllm.testing.http_faults import error_body
from quackllm.testing.http_protocol import HttpRequest, HttpResponse

Answer = Callable[[Mapping[str, Any]], HttpResponse]

_CONTENT = re.compile(rb'name="file".*?\r\n\r\n(.*)\r\n--', re.DOTALL)


@dataclass
class _Batch:
    """One batch. lines: of results, in two parts; ends: when it is complete."""

    id: str
    metadata: Mapping[str, str]
    answered: list[bytes]
    failed: list[bytes]
    ends: float
    state: str = "in_progress"
    files: dict[str, str] = field(default_factory=dict)


class FakeBatches:
    """Files and batches of one server; a batch takes so many seconds, however long it is."""

    def __init__(self, answer: Answer, seconds: float) -> None:
        """Make none; answer: how the server answers one chat completion."""
        self.batches: dict[str, _Batch] = {}
        self.cancelled = 0
        self._answer = answer
        self.seconds = seconds
        self._files: dict[str, bytes] = {}

    def handle(self, request: HttpRequest) -> HttpResponse | None:
        """Answer a request; None for one that is not about batches."""
        path = request.path.partition("?")[0].removeprefix("/v1/").split("/")
        if (request.method, path) == ("POST", ["files"]):
            found = _CONTENT.search(request.body)
            return self._keep(b"" if found is None else found[1])
        if path[0] == "files" and path[2:] == ["content"] and path[1] in self._files:
            return HttpResponse(200, self._files[path[1]])
        if path[0] != "batches":
            return None
        if request.method == "POST" and len(path) == 1:
            return self._create(json.loads(request.body))
        if len(path) == 1:
            data = [self._described(batch) for batch in reversed(self.batches.values())]
            return _json({"object": "list", "data": data, "has_more": False})
        batch = self.batches.get(path[1])
        if batch is None:
            return HttpResponse(404, error_body("No such batch", "not_found", 404).encode())
        if path[2:] == ["cancel"]:
            self._cancel(batch)
        return _json(self._described(batch))

    def _keep(self, content: bytes) -> HttpResponse:
        name = f"file-{len(self._files)}"
        self._files[name] = content
        return _json({"id": name, "object": "file", "bytes": len(content), "purpose": "batch"})

    def _create(self, body: Mapping[str, Any]) -> HttpResponse:
        answered: list[bytes] = []
        failed: list[bytes] = []
        for line in self._files[body["input_file_id"]].splitlines():
            asked = json.loads(line)
            response = self._answer(asked["body"])
            said = {"status_code": response.status, "body": json.loads(response.body)}
            result = {"id": "x", "custom_id": asked["custom_id"], "response": said, "error": None}
            (answered if response.status == 200 else failed).append(json.dumps(result).encode())
        name = f"batch_{len(self.batches)}"
        ends = time.monotonic() + self.seconds
        batch = _Batch(name, body.get("metadata") or {}, answered, failed, ends)
        self.batches[name] = batch
        return _json(self._described(batch))

    def _cancel(self, batch: _Batch) -> None:
        """Stop in the middle: half of the answers are there."""
        self.cancelled += 1
        if batch.state == "in_progress":
            batch.state = "cancelled"
            batch.answered = batch.answered[: len(batch.answered) // 2]

    def _described(self, batch: _Batch) -> dict[str, Any]:
        if batch.state == "in_progress" and time.monotonic() >= batch.ends:
            batch.state = "completed"
        if batch.state != "in_progress" and not batch.files:
            for name, lines in (("output", batch.answered), ("error", batch.failed)):
                if lines:
                    kept = json.loads(self._keep(b"\n".join(lines) + b"\n").body)
                    batch.files[f"{name}_file_id"] = kept["id"]
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "input_file_id": "file",
            "created_at": 0,
            "status": batch.state,
            "metadata": dict(batch.metadata),
            **batch.files,
        }


def _json(value: object) -> HttpResponse:
    return HttpResponse(200, json.dumps(value).encode())
