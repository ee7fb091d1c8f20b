"""An OpenEnv server that is killed again and again, and comes back at the same address: `mortal_server.py TASK N,N,...`.

Every number is a life: after so many moves, over all its sessions, the serving process gets SIGKILL in the middle of the
next one. The parent, which holds the listening socket, then starts the next life; the last one lasts. A life of 0 is the
end of all. Prints the address once; lives until its standard input is closed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading

from ludora.serve.guard import Rules
from ludora.serve.openenv import menu, openenv_app
from ludora.serve.run import Served, bind, make_server
from ludora.serve.table import Table


def serve(task: str, served_socket: object, moves: int | None) -> None:
    """One life."""
    left, lock, move = [moves], threading.Lock(), Table.move

    def mortal(table: Table, text: str) -> None:
        with lock:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] = None if left[0] is None else left[0] - 1
        move(table, text)

    Table.move = mortal  # type: ignore[method-assign]
    app = openenv_app(menu([task], ["random"]), 64, 600.0)
    make_server([Served(app, served_socket)], Rules(), lambda: None).run(sockets=[served_socket])  # type: ignore


def main() -> None:
    task, lives = sys.argv[1], [int(word) for word in sys.argv[2].split(",") if word]
    listening = bind("127.0.0.1", 0)
    sys.stdout.write(f"{Served(None, listening).url}\n")  # type: ignore[arg-type]
    sys.stdout.flush()
    children: list[int] = []

    def end() -> None:
        sys.stdin.read()
        with contextlib.suppress(ProcessLookupError):
            os.kill(children[-1], signal.SIGKILL)
        os._exit(0)

    for moves in [*lives, None]:
        if moves == 0:
            listening.close()
            break
        child = os.fork()
        if child == 0:
            serve(task, listening, moves)
        children.append(child)
        if len(children) == 1:
            threading.Thread(target=end, daemon=True).start()
        os.waitpid(child, 0)
    signal.pause()


if __name__ == "__main__":
    main()
