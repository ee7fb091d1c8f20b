"""Many sessions at once against `ludora serve` on loopback: is any lost or mixed up, and does memory stay flat?

Prints one line of JSON last; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

LATEST_WARM_UP = 0.2  # share of the time after which memory is first read: by then every session has had an episode


@dataclass
class Tally:
    """What one session saw, over all its episodes."""

    episodes: int = 0
    calls: int = 0
    lost: int = 0  # an answer that is none: no connection, or a status that is not 200
    mixed: int = 0  # an observation that is not this session's own
    wrong: int = 0  # a verdict other than that which its commands earned
    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Lost(Exception):
    """The server gave no proper answer."""


class Session(threading.Thread):
    """One client: episode after episode, each with words of its own that it must be shown again."""

    def __init__(self, number: int, url: str, indices: list[Any], until: float) -> None:
        super().__init__()
        self.number, self.url, self.indices, self.until = number, url, indices, until
        self.tally = Tally()
        self.http = httpx.Client(timeout=60.0)

    def run(self) -> None:
        while time.monotonic() < self.until:
            try:
                self.episode()
                self.tally.episodes += 1
            except Lost as error:
                self.tally.lost += 1
                self.tally.errors.append(str(error)[:300])

    def post(self, route: str, body: Any) -> Any:
        """One call, timed."""
        began = time.perf_counter()
        try:
            answer = self.http.post(f"{self.url}/{route}", json=body)
        except httpx.HTTPError as error:
            raise Lost(repr(error)) from None
        self.tally.calls += 1
        self.tally.seconds.append(time.perf_counter() - began)
        if answer.status_code != 200:
            raise Lost(f"{answer.status_code} {answer.text}")
        return answer.json()

    def say(self, session: dict[str, Any], text: str) -> dict[str, Any]:
        value = [*session["chat_history"]["value"], {"role": "agent", "content": text}]
        return dict(self.post("interact", {"session": {**session, "chat_history": {"value": value}}})["session"])

    def episode(self) -> None:
        """Write a word that nobody else knows, read it back later, finish."""
        index = self.indices[(self.number * 7 + self.tally.episodes) % len(self.indices)]
        session = self.post("reset", {"session": {"task_name": "os_interaction", "sample_index": index}})["session"]
        word = f"{self.number}-{secrets.token_hex(8)}"
        for script, shown in (
            (f"echo {word} > /root/mine; hostname > /dev/null", "There was no output."),
            ("cat /root/mine", f"Output:\n{word}"),
            ("ls /root/mine* | wc -l; cat /root/mine", f"Output:\n1\n{word}"),
        ):
            session = self.say(session, f"Act: bash\n```bash\n{script}\n```")
            if session["chat_history"]["value"][-1]["content"] != shown or session["sample_index"] != index:
                self.tally.mixed += 1
                self.tally.errors.append(session["chat_history"]["value"][-1]["content"][:300])
        session = self.post("complete", {"session": self.say(session, "Act: finish")})["session"]
        self.tally.wrong += session["evaluation_record"]["outcome"] != "incorrect"


def say(text: str) -> None:
    """Talk to people goes to stderr. (`support.machine` has this too, and loads torch.)"""
    print(text, file=sys.stderr, flush=True)


def rss_mb(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


def wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def load(url: str, server: psutil.Process, sessions: int, seconds: float) -> dict[str, Any]:
    """Let the sessions loose and count."""
    indices = httpx.post(f"{url}/get_sample_index_list", json={}).json()["sample_index_list"]
    began = time.monotonic()
    threads = [Session(number, url, indices, began + seconds) for number in range(sessions)]
    for thread in threads:
        thread.start()
    wait_until(began + LATEST_WARM_UP * seconds)
    rss = [rss_mb(server)]
    for part in range(1, 9):
        wait_until(began + seconds * (LATEST_WARM_UP + (1 - LATEST_WARM_UP) * part / 8))
        rss.append(rss_mb(server))
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    tallies = [thread.tally for thread in threads]
    waits = sorted(s for tally in tallies for s in tally.seconds)
    for error in [error for tally in tallies for error in tally.errors][:5]:
        say(error)
    return {
        "episodes": sum(t.episodes for t in tallies),
        "episodes_fewest": min(t.episodes for t in tallies),
        "lost": sum(t.lost for t in tallies),
        "mixed": sum(t.mixed for t in tallies),
        "wrong": sum(t.wrong for t in tallies),
        "calls": len(waits),
        "calls_per_second": round(len(waits) / took, 1),
        "ms_p50": round(1000 * statistics.median(waits), 1) if waits else None,
        "ms_p99": round(1000 * waits[int(0.99 * len(waits))], 1) if waits else None,
        "rss_mb": rss,
        "rss_growth_mb": round(rss[-1] - rss[0], 1),
        "threads": server.num_threads(),
        "files": server.num_fds(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=32, help="at once")
    parser.add_argument("--seconds", type=float, default=180.0, help="of load")
    parser.add_argument("--quick", action="store_true", help="4 sessions for 3 seconds, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.sessions, options.seconds = 4, 3.0
    before = [round(value, 2) for value in os.getloadavg()]
    words = ["serve", "--port", "0", "--items-port", "0", "--sessions", str(options.sessions)]
    with subprocess.Popen([sys.executable, "-m", "ludora", *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        say(line.strip())
        server = psutil.Process(process.pid)
        try:
            found = load(re.findall(r"http://[^\s,]+", line)[0], server, options.sessions, options.seconds)
            found["processes_left"] = len(server.children(recursive=True))
        finally:
            process.terminate()
        found["exit_code"] = process.wait(60)
    result = {"benchmark": "serve_load", "sessions": options.sessions, "seconds": options.seconds, **found}
    loads = {"load_before": before, "load_after": [round(value, 2) for value in os.getloadavg()]}
    print(json.dumps(result | loads), flush=True)


if __name__ == "__main__":
    main()
