"""A hub on this machine, which takes what is uploaded to it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override


@dataclass
class FakeHub:
    """What was asked of it."""

    endpoint: str = ""
    made: list[dict[str, Any]] = field(default_factory=list)
    """Repositories that were asked for."""
    tokens: set[str | None] = field(default_factory=set)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Address of a repository -> its files, of one commit each."""


@contextmanager
def fake_hub(refuse: bool = False) -> Iterator[FakeHub]:
    """Serve until the block ends; with ``refuse`` nobody may write."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            hub.tokens.add(self.headers["Authorization"])
            if refuse:
                self.answer({"error": "You may not write here"}, 403)
            elif self.path == "/api/repos/create":
                asked = json.loads(body)
                hub.made.append(asked)
                kind = "datasets/" if asked.get("type") == "dataset" else ""
                self.answer({"url": f"{hub.endpoint}/{kind}{asked['organization']}/{asked['name']}"})
            elif "/preupload/" in self.path:
                names = [each["path"] for each in json.loads(body)["files"]]
                self.answer(
                    {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
                )
            elif "/commit/" in self.path:
                lines = [json.loads(line) for line in body.splitlines()]
                place = self.path.removeprefix("/api/").partition("/commit/")[0]
                hub.files[place] = {
                    line["value"]["path"]: base64.b64decode(line["value"]["content"])
                    for line in lines
                    if line["key"] == "file"
                }
                self.answer(
                    {
                        "commitUrl": f"{hub.endpoint}/{place.removeprefix('models/')}/commit/0",
                        "commitOid": "0" * 40,
                        "success": True,
                    }
                )
            else:
                self.answer({})

        def do_GET(self) -> None:
            self.answer({"error": "Repository not found"}, 404)

        def answer(self, content: dict[str, Any], status: int = 200) -> None:
            sent = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        @override
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
