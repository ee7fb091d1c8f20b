"""What a sandbox does for whoever runs commands in it."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.envs.sandbox.conftest import Opens

from ludora.envs.sandbox.agent import Machine
from ludora.envs.sandbox.base import Done, Limits, Sandbox
from ludora.envs.sandbox.roots import Root, store
from ludora.envs.sandbox.talk import Running, plain
from ludora.errors import EnvBroken

MARK = "86333"  # seconds of sleep, by which a process of these tests is known


def said(sandbox: Running, script: str, **options: object) -> str:
    done = sandbox.run(script, **options)
    assert done.code == 0, done
    return done.output


def test_it_is_a_sandbox(sandbox: Running) -> None:
    holder: Sandbox = sandbox
    assert holder.run("echo hello; echo oops >&2; exit 7") == Done(7, "hello\noops\n", seconds=pytest.approx(0, abs=60))


def test_each_command_is_a_fresh_bash_of_root_in_the_root_folder(sandbox: Running) -> None:
    assert said(sandbox, "pwd; whoami; echo $HOME $0; cd /tmp; export A=1; umask") == "/\nroot\n/root bash\n0022\n"
    assert said(sandbox, "pwd; echo [$A]") == "/\n[]\n"


def test_the_environment_is_its_own(sandbox: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {line.partition("=")[0] for line in said(sandbox, "env").splitlines()}
    assert names == {"PATH", "HOME", "USER", "LOGNAME", "TERM", "LANG", "PWD", "SHLVL", "_"}


def test_what_is_written_stays_for_the_episode_and_no_longer(opens: Opens) -> None:
    first, second = opens(), opens()
    said(first, "echo a > /etc/x; echo b > /root/y; mkdir /new; rm /etc/shells")
    assert said(first, "cat /etc/x /root/y; ls -d /new; ls /etc/shells || true").startswith("a\nb\n/new\n")
    assert second.run("cat /etc/x").code == 1
    assert said(second, "ls /etc/shells") == "/etc/shells\n"


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("false", 1), ("kill -9 $$", 137), ("kill $$", 143), ("nope", 127)]
)
def test_exit_codes_are_those_of_bash(sandbox: Running, script: str, code: int) -> None:
    assert sandbox.run(script).code == code


def test_root_administration(sandbox: Running) -> None:
    """As in the benchmark's container."""
    said(sandbox, "useradd -m -s /bin/bash -u 1501 -G users ann && groupadd devs && gpasswd -a ann devs")
    said(sandbox, "usermod -c 'Ann Other' ann && chage -M 30 ann && chsh -s /bin/sh ann && usermod -L ann")
    assert said(sandbox, "id -nG ann; getent passwd ann; passwd -S ann | cut -d' ' -f1,2,5") == (
        "ann users devs\nann:x:1501:1501:Ann Other:/home/ann:/bin/sh\nann L 30\n"
    )
    said(sandbox, "mkdir /srv/d && chgrp devs /srv/d && chmod 2770 /srv/d && su ann -c 'echo hi > /srv/d/f'")
    assert said(sandbox, "stat -c '%U %G %a' /srv/d /srv/d/f") == "root devs 2770\nann devs 644\n"
    assert sandbox.run("su ann -c 'cat /etc/shadow'").code == 1
    assert said(sandbox, "su ann -c 'id -un; ps -o user= -p $$'") == "ann\nann\n"
    assert said(sandbox, "find /srv -type f -user ann | awk -F/ '{print $NF}' | sed s/f/g/") == "g\n"
    said(
        sandbox,
        "userdel -r ann && ! id ann && chown -R nobody:nogroup /srv/d && mkfifo /p && ln -s /p /q && tar -cf /t.tar srv",
    )


def test_a_timeout_kills_and_leaves_the_rest(sandbox: Running) -> None:
    said(sandbox, f"sleep {MARK} & echo started")
    done = sandbox.run("trap '' TERM; sleep 1000 & setsid sleep 1000 & echo before; sleep 1000", seconds=0.5)
    assert (done.code, done.timed_out, done.output) == (None, True, "before\n")
    said(sandbox, "while pgrep -f '^sleep 1000'; do :; done")
    assert said(sandbox, f"pgrep -f '^sleep {MARK}' | wc -l") == "1\n"


def test_a_timeout_kills_who_lives_in_sessions_of_their_own(sandbox: Running) -> None:
    """Their parents die with them: a child whose parent is gone could not be told from another command's job."""
    chain = "setsid -w bash -c 'setsid -w bash -c \"setsid -w sleep 1000; :\"; :' & "
    for _ in range(5):
        assert sandbox.run(f"{chain * 6} sleep 1000", seconds=0.3).timed_out
        said(sandbox, "sleep 0.2")
        assert said(sandbox, "pgrep -f '^sleep 1000' | wc -l") == "0\n"


def test_background_jobs_go_on_writing(sandbox: Running) -> None:
    """Their pipe stays open: a job that writes to the command's output neither stops nor dies."""
    said(sandbox, "for i in $(seq 3000); do echo $i; echo $i > /tmp/n; done & disown")
    said(sandbox, "while [ $(cat /tmp/n) != 3000 ]; do sleep 0.05; done")


def test_a_pipe_that_somebody_else_has_emptied() -> None:
    """A job may read from its own end what process 1 was about to read."""
    machine, (reader, writer) = Machine(1), os.pipe()
    os.set_blocking(reader, False)
    machine.drain(reader)
    machine.empty(reader)
    os.write(writer, b"x")
    machine.empty(reader)
    assert machine.drained == [reader]
    os.close(writer)
    machine.empty(reader)
    assert machine.drained == []


def test_output_is_cut_and_decoded(opens: Opens) -> None:
    sandbox = opens(Limits(output_bytes=1000))
    done = sandbox.run("head -c 5000 /dev/zero | tr '\\0' x; exit 5")
    assert (done.code, done.output, done.truncated) == (5, "x" * 1000, True)
    done = sandbox.run("head -c 1000 /dev/zero | tr '\\0' x")
    assert (len(done.output), done.truncated) == (1000, False)
    assert said(sandbox, "printf 'gr\\303\\274n\\t\\033[1m\\r\\377\\n'") == "grün\t\ufffd[1m\ufffd\ufffd\n"


def test_plain_keeps_words() -> None:
    assert plain("a\tb\nç 日 🎲") == "a\tb\nç 日 🎲"
    assert plain("\x00\x1b\x7f\x9b\u202e\r") == "\ufffd" * 6


def test_scripts_of_any_length_and_text(sandbox: Running) -> None:
    assert said(sandbox, f": '{'x' * 300_000}'\necho ok") == "ok\n"
    assert said(sandbox, "echo 'grün 日\n\"$HOME'") == 'grün 日\n"$HOME\n'
    assert said(sandbox, "") == ""
    assert said(sandbox, f"pass  # {'x' * 300_000}\nprint('ok')", language="python", trusted=True) == "ok\n"


def test_languages(sandbox: Running) -> None:
    assert said(sandbox, "import os; print(os.getuid(), 6 * 7)", language="python") == "0 42\n"
    if shutil.which("gcc", path="/usr/bin"):
        source = '#include <stdio.h>\nint main(void) { puts("c"); return 3; }'
        done = sandbox.run(source, language="c")
        assert (done.code, done.output) == (3, "c\n")
        assert sandbox.run("int main(", language="c").code == 1
        done = sandbox.run(source, language="c", trusted=True)
        assert (done.code, done.output) == (3, "c\n")
    with pytest.raises(ValueError, match="bash, python, c, cpp"):
        sandbox.run("x", language="perl")


def test_a_trusted_run_sees_what_was_done(sandbox: Running) -> None:
    said(
        sandbox,
        "useradd -m ann; echo 7 > /srv/n; echo '#!/bin/sh\necho tool' > /usr/local/bin/tool; chmod +x /usr/local/bin/tool; touch /top",
    )
    said(sandbox, f"sleep {MARK} & echo $! > /run/pid; until pgrep -f '^sleep {MARK}'; do :; done")
    verdict = "id -un ann; cat /srv/n; tool; ls /top; kill -0 $(cat /run/pid) && ps -o args= -p $(cat /run/pid)"
    assert said(sandbox, verdict, trusted=True) == f"ann\n7\ntool\n/top\nsleep {MARK}\n"
    said(sandbox, "echo checked > /tmp/c; cmp <(echo a) <(echo a) && cat /dev/stdin && mktemp", trusted=True)
    assert said(sandbox, "cat /tmp/c") == "checked\n"


STATE = "stat() {{ sed 's/.*) //' /proc/$1/stat | cut -c1; }}; {}"


def test_what_a_verdict_looks_at_stands_still_and_goes_on_afterwards(sandbox: Running) -> None:
    """But a job that somebody has stopped before stays so."""
    said(
        sandbox,
        "while :; do echo x >> /tmp/n; sleep 0.01; done & echo $! > /run/runs; (exec -a gone sleep 300) & kill -STOP $!; echo $! > /run/stopped",
    )
    counted = "a=$(wc -l < /tmp/n); sleep 0.2; b=$(wc -l < /tmp/n); echo $((b > a))"
    assert said(sandbox, counted) == "1\n"
    assert said(sandbox, f"ls -d /proc/$(cat /run/runs) > /dev/null; {counted}", trusted=True) == "0\n"
    assert said(sandbox, counted) == "1\n"
    assert said(sandbox, STATE.format("stat $(cat /run/stopped)")) == "T\n"


def test_what_a_verdict_does_not_look_at_is_killed(sandbox: Running) -> None:
    said(sandbox, f"trap '' TERM; sleep {MARK} & (setsid sleep {MARK} &)")
    assert said(sandbox, "echo judged", trusted=True) == "judged\n"
    assert said(sandbox, f"pgrep -fc '^sleep {MARK}' || true") == "0\n"


def test_a_crowd_that_a_verdict_would_look_at_is_killed(opens: Opens) -> None:
    sandbox = opens(Limits(processes=40))
    said(sandbox, f"for i in {{1..25}}; do sleep {MARK} & done")
    assert said(sandbox, f"pgrep -fc '^sleep {MARK}' || true", trusted=True) == "0\n"


def test_a_trusted_run_hides_settings_in_roots_home_and_nothing_else_there(sandbox: Running) -> None:
    looks = "cd ~; ls -A -I .bashrc -I .profile . .config; cat notes"
    said(
        sandbox,
        "cd; mkdir -p .config/sqlite3; touch .vimrc .config/other; ln -s /etc/passwd .sqliterc; echo mine > notes",
    )
    assert said(sandbox, looks, trusted=True) == ".:\n.config\nnotes\n\n.config:\nother\nmine\n"
    assert ".sqliterc" in said(sandbox, looks)


def test_a_trusted_run_needs_nothing_of_what_the_agent_left(opens: Opens) -> None:
    sandbox = opens()
    sandbox.run(
        "rm -rf /etc /usr/local /home 2> /dev/null; ln -s /proc/1/root /home; rm -f /bin /lib /lib64; mkdir /bin",
        seconds=60,
    )
    assert sandbox.run("true").code != 0
    assert said(sandbox, "id -u; ls -d /usr/bin/bash; echo ok", trusted=True) == "0\n/usr/bin/bash\nok\n"


def test_memory_is_watched_and_said(opens: Opens) -> None:
    sandbox = opens(Limits(memory_mb=64))
    done = sandbox.run("import time; x = bytearray(100 << 20); time.sleep(60)", language="python")
    assert (done.out_of_memory, done.code, done.timed_out) == (True, 137, False)
    assert sandbox.run("echo on").out_of_memory is False


def test_as_many_processes_as_there_may_be_break_nothing(opens: Opens) -> None:
    """Where not even the next command can be started it fails; the sandbox does not."""
    sandbox = opens(Limits(processes=20))
    fill = "import os, time\nfor user in range(1000, 1030):\n    if os.fork() == 0: os.setuid(user); time.sleep(600)"
    sandbox.run(fill, language="python")
    assert sandbox.run("true").code in (0, 126)
    assert sandbox.run("true").code in (0, 126)


def test_many_in_threads(opens: Opens) -> None:
    def use(number: int) -> list[str]:
        sandbox = opens()
        return [said(sandbox, f"echo {number} >> /tmp/mine; cat /tmp/mine | tr '\\n' ' '") for _ in range(3)]

    with ThreadPoolExecutor(8) as pool:
        for number, outputs in enumerate(pool.map(use, range(16))):
            assert outputs == [f"{number} " * times for times in (1, 2, 3)]


def test_one_sandbox_in_many_threads(sandbox: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: said(sandbox, f"echo {n}; seq 100 | tail -1"), range(24)))
    assert answers == [f"{n}\n100\n" for n in range(24)]


def test_closing(opens: Opens) -> None:
    sandbox = opens()
    sandbox.close()
    sandbox.close()
    with pytest.raises(EnvBroken):
        sandbox.run("true")


def test_closing_wakes_who_waits(opens: Opens) -> None:
    sandbox, told = opens(Limits(seconds=1000)), []

    def wait() -> None:
        try:
            sandbox.run("touch /tmp/running; sleep 1000")
        except EnvBroken as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    sandbox.close()
    thread.join(60)
    assert len(told) == 1 and not thread.is_alive()


def test_nothing_is_left_open(opens: Opens) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    opens().close()
    assert sorted(os.listdir("/proc/self/fd")) == before


KILLED = """
import sys
from ludora.envs.sandbox.build import open_sandbox
boxes = [open_sandbox() for _ in range(2)]
for box in boxes:
    box.run(f"setsid nohup sleep {sys.argv[1]} > /dev/null 2>&1 & sleep {sys.argv[1]} &")
print("ready", flush=True)
boxes[0].run(f"sleep {sys.argv[1]}", seconds=100000)
"""


def test_killing_us_leaves_nothing(root: Root) -> None:
    """With SIGKILL, in the middle of a command and with daemons; waits for the very processes to end."""
    mark = str(10_000_000 + os.getpid())  # seconds of sleep that are nobody else's
    with subprocess.Popen([sys.executable, "-c", KILLED, mark], stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout and host.stdout.readline() == "ready\n"
            ends = [end for end in map(end_of, Path("/proc").glob("[0-9]*")) if end]
            sleeping = [end for process, end in ends if mark in command(process) and int(process.name) != host.pid]
        finally:
            host.kill()
    assert len(sleeping) >= 4
    assert all(select.select([end], [], [], 60)[0] for end in sleeping)
    for _, end in ends:
        os.close(end)


def end_of(process: Path) -> tuple[Path, int] | None:
    """A descriptor that is ready when the process has ended; none when it has already."""
    try:
        return process, os.pidfd_open(int(process.name))
    except OSError:
        return None


def command(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def test_facts_name_the_root(sandbox: Running, root: Root) -> None:
    assert sandbox.facts == {"backend": "namespaces", "root": "host", "digest": root.digest}
    assert root.folder.parent.parent == store()
