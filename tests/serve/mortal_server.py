"""An OpenEnv server that comes back at the same address when it is killed: `mortal_server.py TASK...`.

Prints its address, then the process id of every life. The parent holds the listening socket, so clients wait for the next
life instead of being refused. Closing its standard input ends it: the socket is closed, and the last life is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

from ludora.serve.guard import Rules
from ludora.serve.openenv import menu, openenv_app
from ludora.serve.run import Served, bind, make_server


def serve(tasks: list[str], listening: Any) -> None:
    """One life."""
    app = openenv_app(menu(tasks, ["random"]), 64, 600.0)
    make_server([Served(app, listening)], Rules(), lambda: None).run(sockets=[listening])


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    listening: Any = bind("127.0.0.1", 0)
    say(f"http://127.0.0.1:{listening.getsockname()[1]}")
    child = 0
    ended = threading.Event()

    def end() -> None:
        sys.stdin.read()
        ended.set()
        listening.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)

    while not ended.is_set():
        child = os.fork()
        if child == 0:
            serve(sys.argv[1:], listening)
            os._exit(0)
        say(child)
        if threading.active_count() == 1:
            threading.Thread(target=end, daemon=True).start()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
