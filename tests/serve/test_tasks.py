"""The task server's routes, over machines that only pretend: what becomes of a session, and what is refused."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest
from tests.serve.rig import Client, answered, running, workshop

from ludora.serve.bodies import SESSION_KEY
from ludora.serve.turns import WAITING

NUMBER = "evaluation_record"


def last(session: dict[str, Any]) -> dict[str, str]:
    return dict(session["chat_history"]["value"][-1])


def test_an_episode() -> None:
    shop = workshop()
    client = Client(shop.app())
    assert client.post("ping", {"any": "thing"}) == {"response": "Hello, World!"}
    assert client.post("get_sample_index_list") == {"sample_index_list": ["0", "1", "2"]}
    session = client.reset("1")
    assert session["sample_status"] == "running" and session["finish_reason"] is None
    assert [item["role"] for item in session["chat_history"]["value"]] == ["user", "agent", "user"]
    assert session["chat_history"]["value"][1]["content"] == "OK." and last(session)["content"] == "Do number 1."
    session = client.bash(session, "echo hello")
    assert last(session) == {"role": "user", "content": "Output:\nhello"} and session["sample_status"] == "running"
    session = client.bash(session, "solve 1")
    session = client.say(session, "I am done.\nAct: finish")
    assert session["sample_status"] == "completed" and session["task_output"] == {"answer": None}
    session = client.call("complete", session)
    assert session["evaluation_record"] == {"outcome": "correct", "detail_dict": None}
    assert shop.machines[0].said == ["echo hello", "solve 1"] and shop.machines[0].closed


def test_the_check_decides_whatever_the_status() -> None:
    client = Client(workshop().app())
    session = client.say(client.bash(client.reset(), "solve 0"), "no action at all")
    assert session["sample_status"] == "agent_validation_failed" and session["finish_reason"]
    assert client.call("complete", session)["evaluation_record"]["outcome"] == "correct"
    session = client.call("complete", client.say(client.reset(), "Act: dance"))
    assert session["evaluation_record"]["outcome"] == "incorrect"


def test_five_rounds_and_the_sixth_answer_is_one_too_many() -> None:
    shop = workshop()
    client = Client(shop.app())
    session = client.reset()
    for i in range(5):
        session = client.bash(session, f"echo {i}")
        assert session["sample_status"] == "running"
    session = client.bash(session, "solve 0")
    assert session["sample_status"] == "task_limit_reached" and "5" in session["finish_reason"]
    assert client.call("complete", session)["evaluation_record"]["outcome"] == "incorrect"
    assert "solve 0" not in shop.machines[0].said


@pytest.mark.parametrize("status", ["agent_context_limit", "agent_out_of_memory", "agent_unknown_error"])
def test_an_agent_that_failed_is_judged_on_what_it_did(status: str) -> None:
    client = Client(workshop().app())
    session = client.bash(client.reset(), "solve 0")
    session = client.call("interact", {**answered(session, ""), "sample_status": status})
    assert session["sample_status"] == status and session["task_output"] == {"answer": None}
    assert client.call("complete", session)["evaluation_record"]["outcome"] == "correct"


def test_a_machine_that_breaks_is_no_fault_of_the_agents() -> None:
    client = Client(workshop().app())
    session = client.bash(client.reset(), "break")
    assert session["sample_status"] == "task_environment_error" and session["finish_reason"] == "the machine broke"
    session = client.reset("2")
    assert session["sample_status"] == "task_environment_error" and session["finish_reason"] == "the set-up failed"
    session = client.call("complete", session)
    assert session["evaluation_record"]["outcome"] == "unknown"
    assert session["finish_reason"] == "the set-up failed"
    shop = workshop()
    client = Client(shop.app())
    session = client.say(client.bash(client.reset(), "solve 0"), "Act: finish")
    shop.machines[0].closed = True  # it breaks between the last answer and the verdict
    session = client.call("complete", session)
    assert (session["sample_status"], session["evaluation_record"]["outcome"]) == ("completed", "unknown")
    assert session["finish_reason"] == "the machine broke"
    session = client.bash(client.reset(), "break")
    assert client.call("complete", session)["evaluation_record"]["outcome"] == "unknown"


def test_sessions_do_not_mix() -> None:
    shop = workshop()
    client = Client(shop.app())
    sessions = [client.reset(str(i % 2)) for i in range(6)]
    for round_ in range(3):
        sessions = [client.bash(s, f"echo {i} {round_}") for i, s in enumerate(sessions)]
        assert [last(s)["content"] for s in sessions] == [f"Output:\n{i} {round_}" for i in range(6)]
    sessions[3] = client.bash(sessions[3], "solve 1")
    judged = [client.finish(s)["evaluation_record"]["outcome"] for s in sessions]
    assert judged == ["incorrect"] * 3 + ["correct"] + ["incorrect"] * 2
    assert len({s[NUMBER]["detail_dict"][SESSION_KEY] for s in sessions}) == 6


def test_the_same_call_again_is_answered_and_not_carried_out() -> None:
    """As when an answer was lost on the way, and the client asks once more."""
    shop = workshop()
    client = Client(shop.app())
    session = answered(client.reset(), "Act: bash\n```bash\necho once\n```")
    first, second = client.call("interact", session), client.call("interact", session)
    assert first == second and shop.machines[0].said == ["echo once"]
    stopped = client.say(first, "Act: finish")
    judged = client.call("complete", stopped)
    assert client.call("complete", stopped) == judged
    ended = {**stopped, "finish_reason": "something else"}
    assert client.call("complete", ended, 409) == {"detail": "this session has ended"}


def test_a_number_that_became_a_float_on_the_way_is_the_same_number() -> None:
    client = Client(workshop().app())
    session = client.reset()
    record = session["evaluation_record"]
    record["detail_dict"] = {SESSION_KEY: float(record["detail_dict"][SESSION_KEY])}
    assert client.bash(session, "echo yes")["chat_history"]["value"][-1]["content"] == "Output:\nyes"


def test_too_many_sessions() -> None:
    shop = workshop(sessions=2)
    client = Client(shop.app())
    first, _ = client.reset(), client.reset()
    assert client.reset(status=429) == {"detail": "as many sessions are open as may be"}
    client.finish(first)
    third = client.reset()
    client.post("release", {"session": third})
    assert shop.machines[2].closed
    client.reset()


def test_release_without_a_session_takes_nothing_from_anybody() -> None:
    shop = workshop()
    client = Client(shop.app())
    session = client.reset()
    assert client.post("release") is None and client.http.post("/api/release").status_code == 200
    assert not shop.machines[0].closed
    client.bash(session, "echo still here")


def test_idle_sessions_expire() -> None:
    now = [0.0]
    shop = workshop(idle=100.0, clock=lambda: now[0])
    client = Client(shop.app())
    old = client.reset()
    now[0] = 60.0
    young = client.reset("1")
    now[0] = 101.0
    assert shop.tasks.sessions.sweep() == 1 and shop.machines[0].closed and not shop.machines[1].closed
    assert "no such session" in client.call("interact", answered(old, "Act: finish"), 404)["detail"]
    client.bash(young, "echo here")


def test_one_session_is_used_by_one_call_at_a_time_and_is_not_idle_meanwhile() -> None:
    now = [0.0]
    shop = workshop(idle=100.0, clock=lambda: now[0])
    client = Client(shop.app())
    session, other = client.reset(), client.reset()
    gate = shop.machines[0].gate = threading.Event()
    asked = answered(session, "Act: bash\n```bash\nwait\n```")
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(client.call("interact", asked))) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not shop.machines[0].said:
        pass
    client.bash(other, "echo not kept waiting")
    now[0] = 101.0
    shop.tasks.sessions.sweep()
    gate.set()
    for thread in threads:
        thread.join()
    assert len(answers) == 2 and answers[0] == answers[1] and shop.machines[0].said == ["wait"]


def test_calls_that_wait_for_a_busy_session_keep_nobody_else_waiting() -> None:
    """There are 9 threads here: one call runs, 8 wait without a thread, 3 are too many, and others are answered."""
    shop = workshop(sessions=1)
    gate = threading.Event()
    answers: list[httpx.Response] = []
    with (
        running(shop.app(), stop=shop.tasks.sessions.close) as [url],
        httpx.Client(base_url=f"{url}/api", timeout=60) as http,
    ):
        session = http.post("/reset", json={"session": SESSION}).json()["session"]
        shop.machines[0].gate = gate
        body = {"session": answered(session, "Act: bash\n```bash\nwait\n```")}

        def ask() -> None:
            answers.append(httpx.post(f"{url}/api/interact", json=body, timeout=60))

        threads = [threading.Thread(target=ask) for _ in range(1 + WAITING + 3)]
        for thread in threads:
            thread.start()
        while len(answers) < 3:
            time.sleep(0.01)
        assert [a.status_code for a in answers] == [429] * 3 and "wait already" in answers[0].json()["detail"]
        assert http.post("/ping").status_code == 200
        assert http.post("/reset", json={"session": SESSION}).status_code == 429  # there is one place
        gate.set()
        for thread in threads:
            thread.join()
    assert [a.status_code for a in answers[3:]] == [200] * (1 + WAITING)
    assert len({a.text for a in answers[3:]}) == 1 and shop.machines[0].said == ["wait"]


def test_closing_closes_every_machine() -> None:
    shop = workshop()
    client = Client(shop.app())
    for _ in range(3):
        client.reset()
    with client.http:  # starts and stops the application
        pass
    assert [machine.closed for machine in shop.machines] == [True] * 3


def test_a_server_that_stops_answers_who_waits_for_a_machine() -> None:
    shop, answers = workshop(), []
    with running(shop.app(), stop=shop.tasks.sessions.close) as [url]:
        with httpx.Client(base_url=url, timeout=60) as http:
            asked = {"session": {"task_name": "os_interaction", "sample_index": "0"}}
            session = http.post("/api/reset", json=asked).json()["session"]
        shop.machines[0].gate = threading.Event()
        body = {"session": answered(session, "Act: bash\n```bash\nwait\n```")}
        thread = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/api/interact", json=body, timeout=60))
        )
        thread.start()
        while not shop.machines[0].said:
            pass
    thread.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["session"]["sample_status"] == "task_environment_error"


SESSION: dict[str, Any] = {"task_name": "os_interaction", "sample_index": "0"}


@pytest.mark.parametrize(
    ("route", "body", "status", "why"),
    [
        ("reset", {}, 422, "body.session: Field required"),
        ("reset", {"session": {**SESSION, "sample_index": "7"}}, 404, "no such sample_index"),
        ("reset", {"session": {**SESSION, "sample_index": [1]}}, 422, "body.session.sample_index"),
        ("reset", {"session": {**SESSION, "sample_status": "running"}}, 409, "begins as initial"),
        ("reset", {"session": {**SESSION, "sample_status": "sleeping"}}, 422, "body.session.sample_status"),
        ("reset", {"session": {**SESSION, "task_name": "db_bench"}}, 422, "the tasks here are os_interaction"),
        ("reset", {"session": {**SESSION, "smaple": 1}}, 422, "body.session.smaple: Extra inputs"),
        ("interact", {"session": SESSION}, 422, "/reset gives it"),
        ("interact", {"session": {**SESSION, NUMBER: {"detail_dict": {SESSION_KEY: 5}}}}, 404, "no such session"),
        ("interact", {"session": {**SESSION, NUMBER: {"detail_dict": {SESSION_KEY: 0.5}}}}, 422, "/reset gives it"),
        ("complete", {"session": {**SESSION, NUMBER: {"detail_dict": {SESSION_KEY: True}}}}, 404, "no such session"),
        ("calculate_metric", {"session_partial_list": [{}]}, 422, "(and 2 more)"),
        ("set_attribute", {"name": "max_round"}, 422, "body.instance_factory_type"),
        ("get_attribute", {"name": "x" * 5000}, 422, "body.name"),
        ("nowhere", {}, 404, "Not Found"),
    ],
)
def test_what_is_refused(route: str, body: Any, status: int, why: str) -> None:
    found = Client(workshop().app()).post(route, body, status)
    assert list(found) == ["detail"] and why in found["detail"] and "\n" not in found["detail"]


def test_calls_out_of_turn() -> None:
    client = Client(workshop().app())
    session = client.reset()
    assert "only one that has stopped" in client.call("complete", session, 409)["detail"]
    assert "must be the agent's" in client.call("interact", session, 409)["detail"]
    stopped = client.say(session, "Act: finish")
    assert "only a running one" in client.call("interact", answered(stopped, "Act: finish"), 409)["detail"]


def value(kind: str, text: str) -> dict[str, Any]:
    return {
        "instance_factory_type": "simple_immutable_type",
        "instance_factory_parameter_dict": {"type": kind, "value": text},
    }


def test_attributes() -> None:
    shop = workshop()
    shop.tasks.items_address = "http://127.0.0.1:8001/api"
    client = Client(shop.app())
    assert client.post("get_attribute", {"name": "max_round"}) == value("int", "5")
    assert client.post("get_attribute", {"name": "task_name"}) == value("str", "os_interaction")
    factory = client.post("get_attribute", {"name": "chat_history_item_factory"})
    assert factory["instance_factory_type"] == "general"
    assert factory["instance_factory_parameter_dict"]["parameters"]["server_address"] == "http://127.0.0.1:8001/api"
    for name in ("sessions", "__class__", "entries", "items"):  # nothing of the server's own can be got at
        found = client.post("get_attribute", {"name": name})
        assert found == {"instance_factory_type": None, "instance_factory_parameter_dict": None}
    client.post("set_attribute", {"name": "max_round", **value("int", "1")})
    session = client.bash(client.bash(client.reset(), "echo 1"), "echo 2")
    assert session["sample_status"] == "task_limit_reached"


@pytest.mark.parametrize(
    ("name", "new", "why"),
    [
        ("max_round", value("int", "0"), "from 1 to 100"),
        ("max_round", value("float", "nan"), "from 1 to 100"),
        ("max_round", value("str", "5"), "from 1 to 100"),
        ("max_round", value("int", "five"), "no int"),
        ("max_round", value("object", "5"), "plain int, float or str"),
        ("sessions", value("int", "5"), "cannot be set"),
        ("max_round", {**value("int", "5"), "instance_factory_type": "general"}, "plain int, float or str"),
        (
            "max_round",
            {"instance_factory_type": "general", "instance_factory_parameter_dict": {"module": "os.system"}},
            "plain int, float or str",
        ),
    ],
)
def test_attributes_that_cannot_be_set(name: str, new: dict[str, Any], why: str) -> None:
    shop = workshop()
    assert why in Client(shop.app()).post("set_attribute", {"name": name, **new}, 422)["detail"]
    assert shop.tasks.max_round == 5
