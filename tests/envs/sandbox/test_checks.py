"""Where no sandbox can be had, one line says what is missing and how to mend it; nothing ever runs without one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from tests.envs.sandbox import rig

from ludora.envs.sandbox import checks, userns
from ludora.envs.sandbox.base import Limits
from ludora.envs.sandbox.build import open_sandbox
from ludora.envs.sandbox.roots import Root
from ludora.errors import EnvBroken, InputError

NOWHERE = Root(Path("/nonexistent"), "none", "", "/usr/bin/python3")


def fixes(settings: Path = Path("/proc/sys")) -> dict[str, str]:
    return {check.name: check.fix for check in checks.checks(settings) if check.fix}


def test_this_machine(root: Root) -> None:
    assert fixes() == {}
    assert {check.name: check.found for check in checks.checks()}["start"] == "works"


def test_a_missing_program(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    with rig.open_folder() as tools:
        for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
            for path in Path(folder).iterdir():
                if path.name != "bwrap" and not (tools / path.name).exists():
                    (tools / path.name).symlink_to(path)
        monkeypatch.setitem(userns.ENVIRONMENT, "PATH", str(tools))
        assert fixes() == {"bwrap": "apt install bubblewrap"}
        with pytest.raises(InputError, match="no sandbox can be had here: bwrap: not there") as caught:
            open_sandbox(root=root)
    assert caught.value.hint == "apt install bubblewrap" and caught.value.exit_code == 2


def test_without_unshare_too(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(userns.ENVIRONMENT, "PATH", str(tmp_path))
    with pytest.raises(InputError, match="unshare: not there") as caught:
        open_sandbox(root=root)
    assert caught.value.hint == "apt install util-linux"


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "as root: sysctl -w user.max_user_namespaces=10000"),
        ("user/max_user_namespaces", "1", "as root: sysctl -w user.max_user_namespaces=10000"),
        ("kernel/unprivileged_userns_clone", "0", "as root: sysctl -w kernel.unprivileged_userns_clone=1"),
    ],
)
def test_a_switch_of_the_kernel(root: Root, tmp_path: Path, name: str, value: str, fix: str) -> None:
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(f"{value}\n")
    assert fixes(tmp_path)[name.replace("/", ".", 1)] == fix


def test_user_namespaces_that_are_forbidden() -> None:
    """For real: in a namespace in which there may be no further ones."""
    rig.need()
    code = (
        "from pathlib import Path\nfrom ludora.envs.sandbox.build import open_sandbox\nfrom ludora.envs.sandbox.roots import Root\n"
        "from ludora.errors import InputError\n"
        "try: open_sandbox(root=Root(Path('/'), 'none', '', '/usr/bin/python3'))\nexcept InputError as error: print(error)"
    )
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        'echo 0 > /proc/sys/user/max_user_namespaces; exec "$0" -c "$1"',
        sys.executable,
        code,
    ]
    done = subprocess.run(words, capture_output=True, text=True)
    assert "max_user_namespaces: 0" in done.stdout and "sysctl -w user.max_user_namespaces=10000" in done.stdout, done


def test_no_subordinate_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 987_654)
    with pytest.raises(InputError, match="/etc/subuid sets no 65,536 ids aside for 987654") as caught:
        userns.own_ids()
    assert "usermod --add-subuids" in caught.value.hint


def test_an_old_kernel_and_another_system(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "5.4.0-150-generic")
    assert fixes() == {"kernel": "a kernel of 5.11 or newer, or backend=docker"}
    monkeypatch.setattr(platform, "release", lambda: "6.1")
    assert fixes() == {}
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert fixes() == {"processor": "a processor out of x86_64, aarch64"}
    with pytest.raises(InputError, match="riscv64"):
        open_sandbox(root=root)


def test_a_container_is_recognised(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise EnvBroken("the sandbox did not start: bwrap: Can't mount proc on /newroot/proc: Operation not permitted")

    monkeypatch.setattr(checks.namespaces, "start", fail)
    assert "systempaths=unconfined" in fixes()["start"]
    with pytest.raises(InputError, match="Can't mount proc"):
        open_sandbox(root=root)


def test_a_broken_start_on_a_sound_machine_is_no_fault_of_the_user_s(root: Root) -> None:
    with pytest.raises(EnvBroken, match="did not start"):
        open_sandbox(root=NOWHERE)


@pytest.mark.parametrize(
    ("options", "why", "hint"),
    [
        ({"backend": "dokcer"}, "no sandbox backend 'dokcer'", "docker"),
        ({"backend": "none"}, "no sandbox backend 'none'", ""),
        ({"backend": "docker"}, "docker needs an image", "image="),
    ],
)
def test_what_cannot_be_had_is_refused(options: dict[str, str], why: str, hint: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        open_sandbox(Limits(), **options)
    assert hint in caught.value.hint


def test_the_rig_says_why_it_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "checks", lambda: [checks.Check("bwrap", "not there", "apt install bubblewrap")])
    monkeypatch.delenv(rig.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install bubblewrap"):
        rig.need()
    monkeypatch.setenv(rig.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="apt install bubblewrap"):
        rig.need()
