"""A server on this machine that speaks as much of the Hugging Face Hub's protocol as we use."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from huggingface_hub import constants, hf_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_TREE = re.compile(
    r"/api/models/(?P<repository>[^/]+/[^/]+)(?:/(?:tree|revision)/(?P<revision>[^/]+))?"
)


@dataclass
class HubServer:
    """A hub.

    Attributes:
        repositories: Files by repository, revision and path.
        private: Repositories that want a token.
        token: The one that opens them.
        requests: Method and path of each request.
        tokens: What came in `Authorization` headers.
        status: Of every answer, where it is not 200.
        endpoint: Its address.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    token: str = "hf_SECRETtokenOfATest"
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    status: int = 200
    endpoint: str = ""

    def add(self, repository: str, files: dict[str, bytes], *, revision: str = "main") -> None:
        """Add files to a repository."""
        self.repositories.setdefault(repository, {}).setdefault(revision, {}).update(files)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""

    def _answer(self) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        hub.requests.append((self.command, path))
        token = self.headers.get("Authorization", "")
        if token:
            hub.tokens.append(token)
        if hub.status != 200:
            # As a careless proxy might, the answer repeats what it was sent.
            self._send(hub.status, headers={"X-Error-Message": f"no: {token}"})
            return
        found = _FILE.fullmatch(path) or _TREE.fullmatch(path)
        repository = found["repository"] if found else ""
        if repository not in hub.repositories:
            self._send(401, headers={"X-Error-Message": f"Invalid username or password: {token}"})
        elif repository in hub.private and token != f"Bearer {hub.token}":
            self._send(401, headers={"X-Error-Code": "GatedRepo"})
        else:
            assert found is not None
            self._send_from(hub.repositories[repository], found.groupdict())

    def _send_from(self, revisions: dict[str, dict[str, bytes]], names: dict[str, str]) -> None:
        files = revisions.get(names["revision"] or "main")
        if files is None:
            self._send(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif "file" not in names:
            commit = _commit(files)
            tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in files]
            siblings = [{"rfilename": name} for name in files]
            about = {"id": "x", "sha": commit, "siblings": siblings, "tags": [], "private": False}
            self._send(200, json.dumps(tree if "/tree/" in self.path else about).encode())
        elif names["file"] not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": _commit(files)}
            self._send(404, headers=headers)
        else:
            data = files[names["file"]]
            etag = hashlib.sha256(data).hexdigest()
            self._send(200, data, {"X-Repo-Commit": _commit(files), "ETag": f'"{etag}"'})

    def _send(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def _commit(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(files.values())).hexdigest()


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """Serve a hub as long as the block runs."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let this process's library ask that hub, with an empty cache and without a token.

    A new process would be given HF_ENDPOINT and HF_HOME, which the library reads when imported.
    """
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
