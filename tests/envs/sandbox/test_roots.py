"""Root file systems: what goes into them, what is refused, and that a half-made one is never there."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from tests.envs.sandbox import rig

from ludora.envs.sandbox import roots
from ludora.envs.sandbox.host_root import ETC, USERS, host_archive
from ludora.envs.sandbox.roots import Root, find_root, inspect, setup, store
from ludora.errors import InputError


def archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as made:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            made.addfile(member, io.BytesIO(name.encode()))
    return path


def quiet(text: str) -> None:
    pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path))
    return tmp_path


def test_the_host_root_holds_nothing_of_the_host_s_own() -> None:
    with tarfile.open(fileobj=io.BytesIO(host_archive())) as made:
        members = {member.name: member for member in made}
        passwd = made.extractfile("etc/passwd")
        assert passwd and [line.split(b":")[0].decode() for line in passwd] == [user[0] for user in USERS]
    for secret in ("etc/ssh", "etc/machine-id", "etc/environment", "etc/sudoers", "etc/resolv.conf", "etc/ssl/private"):
        assert not [name for name in members if name.startswith(secret)]
    assert not [name for name in members if name.startswith(("home/", "root/.ssh", "usr/bin", "var/lib/"))]
    of_etc = {name.removeprefix("etc/").split("/")[0] for name in members if name.startswith("etc/")}
    assert of_etc <= {name.split("/")[0] for name in ETC} | {
        "passwd",
        "shadow",
        "group",
        "gshadow",
        "hostname",
        "hosts",
        "fstab",
    }
    assert members["etc/shadow"].mode == 0o640 and members["tmp"].mode == 0o1777


def test_what_the_host_keeps_to_root_is_left_out(root: Root) -> None:
    with tarfile.open(fileobj=io.BytesIO(host_archive())) as made:
        copied = [
            name
            for name in made.getnames()
            if name.startswith("etc/") and Path("/", name).is_file() and not Path("/", name).is_symlink()
        ]
    generated = {"etc/passwd", "etc/shadow", "etc/group", "etc/gshadow", "etc/hostname", "etc/hosts", "etc/fstab"}
    assert copied and all(
        stat.S_IMODE(Path("/", name).stat().st_mode) & 0o004 for name in copied if name not in generated
    )


def test_setting_up_again_finds_what_is_there(root: Root) -> None:
    before = (root.folder.parent / "root.json").stat().st_ino
    assert setup("host", quiet) == root == find_root()
    assert (root.folder.parent / "root.json").stat().st_ino == before
    assert [path.name for path in store().iterdir()] == [f"host-{root.digest[:12]}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's own ids are his already")
def test_nobody_else_may_look_in(root: Root) -> None:
    """It holds programs with their setuid bit."""
    facts = root.folder.parent.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o700 and facts.st_uid > 1_000_000_000


def test_no_root_file_system(cache: Path) -> None:
    with pytest.raises(InputError) as caught:
        find_root()
    assert caught.value.hint == "ludora shell setup"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("usr/bin/bash",), "holds no python3"),
        (("./usr/local/bin/python3",), "holds no bash"),
        ((), "holds no python3"),
    ],
)
def test_an_archive_with_too_little_is_refused(cache: Path, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        setup(str(archive(cache / "a.tar", *names)), quiet)
    assert list((cache / "shell").iterdir()) == []


def test_what_is_no_archive_is_refused(cache: Path) -> None:
    (cache / "text").write_text("not a tar")
    for name in ("text", "nothing"):
        with pytest.raises(InputError, match=name) as caught:
            setup(str(cache / name), quiet)
        assert "docker export" in caught.value.hint
    assert list((cache / "shell").iterdir()) == []


def test_the_digest_is_of_the_content_and_not_of_the_times(tmp_path: Path) -> None:
    names = ("./bin/bash", "./usr/bin/python3")
    first, python = inspect(archive(tmp_path / "a.tar", *names), host=False)
    assert python == "/usr/bin/python3" and len(first) == 64
    with tarfile.open(tmp_path / "b.tar", "w") as made:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(name), 1_700_000_000
            made.addfile(member, io.BytesIO(name.encode()))
    assert inspect(tmp_path / "b.tar", host=False)[0] == first
    assert inspect(archive(tmp_path / "c.tar", *names, "./x"), host=False)[0] != first


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's sandboxes have ids of nobody")
def test_a_cache_that_the_ids_cannot_reach_is_refused(cache: Path) -> None:
    rig.need()
    cache.chmod(0o700)
    with pytest.raises(InputError, match="cannot reach") as caught:
        setup("host", quiet)
    assert str(cache) in caught.value.hint or "pytest" in caught.value.hint
    assert list((cache / "shell").iterdir()) == []


def test_debian_is_made_by_mmdebstrap(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = cache / "tools"
    tools.mkdir()
    (tools / "mmdebstrap").write_text('#!/bin/sh\necho "$@" > "$0.said"\nfor last; do :; done\ncp "$0.tar" "$last"\n')
    (tools / "mmdebstrap").chmod(0o755)
    archive(tools / "mmdebstrap.tar", "usr/bin/bash")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    with pytest.raises(InputError, match="holds no python3"):
        setup("debian", quiet, ("python3", "tree"))
    words = (tools / "mmdebstrap.said").read_text().split()
    mode = "root" if os.geteuid() == 0 else "unshare"
    assert words[:3] == ["--quiet", f"--mode={mode}", "--variant=minbase"] and "--include=python3,tree" in words
    assert words[-2] == "stable" and words[-1].endswith("debian.tar")


def test_debian_without_its_tool_or_a_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(InputError, match="not installed") as caught:
        setup("debian", quiet)
    assert "--from host" in caught.value.hint
    (cache / "mmdebstrap").write_text("#!/bin/sh\necho 'E: no mirror' >&2\nexit 25\n")
    (cache / "mmdebstrap").chmod(0o755)
    with pytest.raises(InputError, match="no mirror"):
        setup("debian", quiet)
    assert list((cache / "shell").iterdir()) == []


def test_an_unpacking_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.need()
    with rig.open_folder() as folder:
        monkeypatch.setenv("LUDORA_CACHE", str(folder))
        whole = archive(folder / "a.tar", "usr/bin/bash", "usr/bin/python3")
        monkeypatch.setattr(
            roots,
            "as_root_inside",
            lambda *args: (_ for _ in ()).throw(OSError("disk full")) if args[0][0] == "tar" else None,
        )
        with pytest.raises(OSError, match="disk full"):
            setup(str(whole), quiet)
        assert list((folder / "shell").iterdir()) == []
