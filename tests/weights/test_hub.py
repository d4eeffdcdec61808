"""Networks on a hub: pushed to and fetched from a server of the test's own that speaks its protocol."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

import pointlift as pl
from pointlift.commands.main import main
from pointlift.weights import hub
from pointlift.weights.checkpoints import CheckpointError, read_metadata
from pointlift.weights.hub import HubError

huggingface_hub = pytest.importorskip("huggingface_hub")
COMMIT = "1" * 40


class Server(ThreadingHTTPServer):
    """files: {repository: {name: content}}; asked: names of files that were fetched."""

    files: dict[str, dict[str, bytes]]
    asked: list[str]
    refuse: int | None = None


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.refuse is not None:
            return self.answer(self.server.refuse, b'{"error": "no"}', Content_Type="application/json")
        parts, content = self.path.split("/"), body.decode()
        found: dict[str, Any]
        if self.path == "/api/repos/create":
            given = json.loads(content)
            name = "/".join(filter(None, (given.get("organization"), given["name"])))
            self.server.files.setdefault(name, {})
            found = {"url": f"http://{self.headers['Host']}/{name}"}
        elif "preupload" in parts:
            files = json.loads(content)["files"]
            found = {
                "files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            }
        else:
            place = self.server.files["/".join(parts[3:5])]
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    place[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/{'/'.join(parts[3:5])}/commit/{COMMIT}"
            found = {"commitUrl": url, "commitOid": COMMIT, "pullRequestUrl": None}
        self.answer(200, json.dumps(found).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        if self.path.startswith("/api/"):  # whether a repository is there
            return self.answer(404, b"", X_Error_Code="RepoNotFound")
        _, user, name, _, revision, file = self.path.split("/", 5)
        repository = self.server.files.get(f"{user}/{name}")
        code = None
        if repository is None:
            code = "RepoNotFound"
        elif revision not in ("main", COMMIT):
            code = "RevisionNotFound"
        elif file not in repository:
            code = "EntryNotFound"
        if code is not None or repository is None:
            return self.answer(404, b"", X_Error_Code=str(code), X_Repo_Commit=COMMIT)
        if self.command == "GET":
            self.server.asked.append(file)
        content = repository[file]
        self.answer(200, content, ETag=f'"{hash(content)}"', X_Repo_Commit=COMMIT)

    do_HEAD = do_GET  # noqa: N815


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server(("127.0.0.1", 0), Handler)
    found.files, found.asked = {}, []
    Thread(target=found.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{found.server_address[1]}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def net() -> pl.nn.CloudNetwork:
    torch.manual_seed(0)
    return pl.create_model("linear-network", num_classes=2, in_channels=3).eval()


def test_what_is_pushed_comes_back(
    net: Any, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = pl.push_to_hub(net, "me/mine", classes=["chair", "mug"])
    assert name == "hf-hub:me/mine" and set(server.files["me/mine"]) == {
        "model.safetensors",
        "pointlift.json",
    }
    card = json.loads(server.files["me/mine"]["pointlift.json"])
    assert card["classes"] == ["chair", "mug"] and card == read_metadata(name)
    # a stranger's files beside it stay where they are
    server.files["me/mine"] |= {"config.json": b"{}", "pytorch_model.bin": b"\x80", "model.py": b"1 / 0"}
    server.asked.clear()
    again = pl.load(name)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())
    assert pl.load(f"{name}@{COMMIT}").metadata == again.metadata
    assert set(server.asked) <= {"model.safetensors"}
    cloud = tmp_path / "cloud.xyz"
    cloud.write_text("\n".join(f"{i % 7} {i % 5} {i % 3}" for i in range(105)), encoding="utf-8")
    asked = ["predict", name, str(cloud), "--out", str(tmp_path / "answers.json")]
    assert main(asked) == 0 and "cloud.xyz" in capsys.readouterr().out
    # a file goes as it is
    file = pl.save(net, tmp_path / "net.safetensors", ["chair", "mug"])
    assert main(["push", str(file), "me/other"]) == 0
    assert "predict hf-hub:me/other" in capsys.readouterr().out
    assert server.files["me/other"]["model.safetensors"] == file.read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x04\x95pickle", "is a torch pickle"),
        (b"PK\x03\x04zip of torch", "is a torch pickle"),
        (b"<!DOCTYPE html><html>", "model.safetensors"),
        (b"", "is empty"),
    ],
)
def test_what_a_stranger_put_there_runs_no_code(content: bytes, words: str, server: Server) -> None:
    server.files["me/mine"] = {"model.safetensors": content}
    with pytest.raises(CheckpointError, match=words):
        pl.load("hf-hub:me/mine")


def test_a_name_within_a_fetched_file_leads_nowhere(net: Any, server: Server) -> None:
    pl.push_to_hub(net, "me/mine", image_model="hf-hub:someone/else")
    with pytest.raises(CheckpointError, match="pass image_model"):
        pl.load("hf-hub:me/mine")
    assert set(server.asked) == {"model.safetensors"}


def test_what_cannot_be_had_is_one_sentence(
    net: Any, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["me/empty"] = {"other.bin": b"1"}
    for name, words in (
        ("me/none", "is not there, or private and you are not logged in"),
        ("me/empty", "has no model.safetensors, so it was not written by pointlift.push_to_hub"),
        ("me/empty@v9", "has no such revision"),
        ("mine", "names no repository, expected hf-hub:user/repository"),
        ("me/../you", "names no repository"),
        ("me/mine@", "names no repository"),
    ):
        assert main(["predict", f"hf-hub:{name}", "x.ply"]) == 2, name
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1, said
    server.refuse = 403
    with pytest.raises(HubError, match=r"was refused by the server .*token that may write"):
        pl.push_to_hub(net, "you/yours")
    with pytest.raises(ValueError, match="goes as it is, expected a file and no more about it, got classes"):
        pl.push_to_hub("net.safetensors", "me/mine", classes=["a"])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # before the library tries again
    with pytest.raises(HubError, match="cannot be reached"):
        pl.load("hf-hub:me/mine")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HubError, match=r"pip install 'pointlift\[hub\]'"):
        pl.load("hf-hub:me/mine")
    assert not hub.on_hub("runs/hf-hub:x")
