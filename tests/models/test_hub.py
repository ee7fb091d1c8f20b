"""What is sent to the hub, by the hub's own client to a server that speaks its routes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from ludora.cli.main import run
from ludora.errors import InputError, LudoraError
from ludora.models.hub import push


class Hub(ThreadingHTTPServer):
    """Repositories by name, their files, and whether they are private."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _answer(self, code: int, body: Any = None) -> None:
        data = json.dumps(body or {}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        repo, _, name = self.path[1:].partition("/resolve/main/")
        self._answer(200 if name in self.server.files.get(repo, {}) else 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self._answer(403, {"error": "this token may not write"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.server.files.setdefault(repo, {})
            self.server.private.setdefault(repo, asked["visibility"] == "private")
            return self._answer(200, {"url": f"{self.server.url}/{repo}"})
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        repo = self.path.removeprefix("/api/models/").rpartition("/")[0].rpartition("/")[0]
        if "/preupload/" in self.path:
            sent = json.loads(body)["files"]
            return self._answer(
                200,
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in sent]},
            )
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.server.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            else:
                self.server.commits.append(line["value"]["summary"])
        return self._answer(200, {"commitUrl": f"{self.server.url}/{repo}/commit/1", "commitOid": "1" * 40})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))  # nobody's
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "leduc" / "adapter"
    folder.mkdir(parents=True)
    config = {"base_model_name_or_path": "owner/base", "r": 16, "lora_alpha": 32}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"\x00weights")
    (folder / "notes.pt").write_bytes(b"not ours")
    return folder


def test_an_adapter_is_one_commit_with_a_card(hub: Hub, adapter: Path) -> None:
    sent = push(adapter, "me/leduc")
    assert (sent.kind, sent.private, sent.url) == ("adapter", True, f"{hub.url}/me/leduc/commit/1")
    files = hub.files["me/leduc"]
    assert set(files) == set(sent.files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert files["adapter_model.safetensors"] == b"\x00weights"
    assert hub.private["me/leduc"] and len(hub.commits) == 1
    card = files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: peft\nbase_model: owner/base\n") and "rank 16, alpha 32" in card


def test_a_card_that_is_there_stays(hub: Hub, adapter: Path) -> None:
    hub.files["me/leduc"] = {"README.md": b"by hand"}
    push(adapter, "me/leduc")
    assert hub.files["me/leduc"]["README.md"] == b"by hand"
    (adapter / "README.md").write_text("with the adapter")
    push(adapter, "me/leduc")
    assert hub.files["me/leduc"]["README.md"] == b"with the adapter"


def test_a_merged_model_by_the_command(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"all")
    assert run(["push", str(folder), "me/merged", "--public", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "model" and shown["private"] is False
    assert b"library_name: transformers" in hub.files["me/merged"]["README.md"]


@pytest.mark.parametrize(
    ("repo", "token", "said"),
    [
        ("leduc", "hf_right", "names no owner"),
        ("me/le duc", "hf_right", "Repo id"),
        ("me/leduc", "", "no token"),
    ],
)
def test_refused_before_anything_is_sent(
    hub: Hub, adapter: Path, monkeypatch: pytest.MonkeyPatch, repo: str, token: str, said: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=said):
        push(adapter, repo)
    assert not hub.files


def test_not_an_adapter(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither an adapter nor a model"):
        push(tmp_path, "me/leduc")
    assert not hub.files


def test_the_hub_refuses(hub: Hub, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(LudoraError, match=r"the hub did not take it: .*403"):
        push(adapter, "me/leduc")
    hub.shutdown()
    hub.server_close()
    with pytest.raises(LudoraError, match="the hub did not take it"):
        push(adapter, "me/leduc")
