"""An episode of the shell, move by move, on a sandbox that is a script."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.envs.shell.rig import ENTRY, ScriptedSandbox, use

from ludora.envs.build import make_env, task_spec
from ludora.envs.sandbox.base import Done
from ludora.envs.shell.entries import Script
from ludora.envs.shell.env import ShellEnv, Status, Verdict
from ludora.errors import EnvBroken
from ludora.players.shell import Reference
from ludora.rollout import Game, collect
from ludora.types import End, Move, Outcome, Stop, Task

FAILS = {"check": Done(1, "")}
RUN = "Act: bash\n```bash\n{}\n```"


def begin(text: str = "shell") -> ShellEnv:
    return ShellEnv(Task(task_spec(text)))


def say(env: ShellEnv, *answers: str) -> None:
    for answer in answers:
        env.apply({0: Move(answer)})


def test_finish_is_judged_by_a_trusted_run_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    box = ScriptedSandbox()
    use(monkeypatch, box)
    env = begin()
    (turn,) = env.turns()
    assert turn.legal is None and turn.messages[-1].content == ENTRY.instruction
    say(env, RUN.format("mkdir it"), "Done, I think.\nAct: finish")
    assert box.ran == [("setup", False), ("mkdir it", False), ("check", True)]
    assert (env.status, env.verdict, env.turns()) == (Status.COMPLETED, Verdict.CORRECT, ())
    assert env.rewards() == (1.0,) and env.rewards() == (0.0,)
    result = env.result()
    assert (result.end, result.outcomes, result.scores) == (End.TERMINATED, (Outcome.WON,), (1.0,))
    assert result.info["skills"] == "mkdir" and result.info["rounds"] == 2 and result.info["status"] == "completed"


def test_the_conversation_grows_by_the_answer_and_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ScriptedSandbox({"ls /": Done(0, "bin\netc\n")}))
    env = begin()
    say(env, RUN.format("ls /"))
    roles = [(m.role, m.content) for m in env.turns()[0].messages]
    assert roles[2] == ("assistant", RUN.format("ls /"))
    assert roles[3] == ("user", "Output:\nbin\netc")
    assert env.turns()[0].state.number == 1


@pytest.mark.parametrize(("check", "outcome", "reward"), [(0, Outcome.WON, 1.0), (1, Outcome.LOST, -0.5)])
def test_the_rounds_end_and_the_check_decides_all_the_same(
    check: int, outcome: Outcome, reward: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ScriptedSandbox({"check": Done(check, "")})
    use(monkeypatch, box)
    env = begin("shell(rounds=3)")
    say(env, *[RUN.format("true")] * 3)
    assert env.status is Status.TASK_LIMIT_REACHED and env.turns() == ()
    assert env.result().outcomes == (outcome,) and env.rewards() == (reward,)
    with pytest.raises(ValueError, match="task_limit_reached"):
        say(env, "Act: finish")


@pytest.mark.parametrize(("check", "outcome"), [(0, Outcome.WON), (2, Outcome.FORFEITED)])
def test_an_answer_without_an_action_ends_the_episode(
    check: int, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ScriptedSandbox({"check": Done(check, "")})
    use(monkeypatch, box)
    env = begin()
    say(env, "I would rather talk.")
    assert env.status is Status.AGENT_VALIDATION_FAILED and box.ran[-1] == ("check", True)
    assert env.result().outcomes == (outcome,)


@pytest.mark.parametrize(("check", "outcome"), [(0, Outcome.WON), (2, Outcome.LOST)])
def test_a_conversation_that_outgrew_the_models_context_is_judged(
    check: int, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, ScriptedSandbox({"check": Done(check, "")}))
    env = begin()
    env.apply({0: Move("", stop=Stop.CONTEXT)})
    assert env.status is Status.AGENT_CONTEXT_LIMIT and env.turns() == ()
    assert env.result().outcomes == (outcome,)


def test_a_command_that_ran_out_of_time_is_told_and_the_episode_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = use(monkeypatch, ScriptedSandbox({"sleep 99": Done(None, "so far", timed_out=True), **FAILS}))
    env = begin("shell(seconds=3)")
    say(env, RUN.format("sleep 99"))
    assert asked[0].seconds == 3
    assert env.turns()[0].messages[-1].content == "Output:\nso far\n(The command was stopped after 3 seconds.)"
    say(env, "Act: finish")
    assert env.verdict is Verdict.INCORRECT


@pytest.mark.parametrize(
    ("done", "verdict", "outcome", "reward"),
    [
        (Done(None, "", timed_out=True), Verdict.INCORRECT, Outcome.LOST, -2.0),
        (Done(137, "", out_of_memory=True), Verdict.INCORRECT, Outcome.LOST, -2.0),
        (Done(0, "", out_of_memory=True), Verdict.INCORRECT, Outcome.LOST, -2.0),
        (Done(0, ""), Verdict.CORRECT, Outcome.WON, 3.0),
    ],
)
def test_verdicts_and_their_rewards(
    done: Done, verdict: Verdict, outcome: Outcome, reward: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, ScriptedSandbox({"check": done}), ScriptedSandbox({"check": Done(1, "")}))
    env = begin("shell(correct=3, incorrect=-2, unknown=0.25)")
    say(env, "Act: finish")
    assert (env.verdict, env.result().outcomes, env.rewards()) == (verdict, (outcome,), (reward,))


def test_a_check_that_needs_too_much_memory_whatever_was_done_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [ScriptedSandbox({"check": Done(137, "", out_of_memory=True)}) for _ in range(2)]
    use(monkeypatch, *boxes)
    env = begin("shell(unknown=0.25)")
    say(env, "Act: finish")
    assert (env.verdict, env.result().outcomes, env.rewards()) == (Verdict.UNKNOWN, (Outcome.DREW,), (0.25,))
    assert boxes[1].ran == [("setup", False), ("check", True), ("check", True)] and boxes[1].closed == 1


@pytest.mark.parametrize(
    ("text", "ran"),
    [
        ("sleep 3; test -f /x", [("sleep 3; sleep 0.5", False), ("test -f /x", True)]),
        ("sleep 0.5 && test -f /x", [("sleep 0.5; sleep 0.5", False), ("test -f /x", True)]),
        ("test -f /x; sleep 3", [("test -f /x; sleep 3", True)]),
        ("sleep 3 & wait; true", [("sleep 3 & wait; true", True)]),
    ],
)
def test_a_check_that_begins_with_waiting_waits_while_jobs_run(
    text: str, ran: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = ScriptedSandbox()
    use(monkeypatch, box, entry=replace(ENTRY, check=Script(text)))
    env = begin()
    say(env, "Act: finish")
    assert env.verdict is Verdict.CORRECT and box.ran == [("setup", False), *ran]


@pytest.mark.parametrize(("code", "verdict"), [(0, Verdict.CORRECT), (1, Verdict.INCORRECT)])
def test_a_check_that_a_job_pushed_out_of_memory_is_run_again(
    code: int, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else filling the memory while it runs would turn a wrong answer into one that costs nothing."""
    box = ScriptedSandbox({"check": Done(137, "", out_of_memory=True)}, later={"check": Done(code, "")})
    use(monkeypatch, box)
    env = begin()
    say(env, "Act: finish")
    assert env.verdict is verdict and box.ran.count(("check", True)) == 2


@pytest.mark.parametrize(
    ("setup", "why"),
    [
        (Done(3, "first\nno such user\n"), "the set-up of entry 7 ended with status 3: no such user"),
        (Done(None, "", timed_out=True), "the set-up of entry 7 ran out of time: no output"),
    ],
)
def test_a_set_up_that_fails_breaks_the_environment(setup: Done, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    box = ScriptedSandbox({"setup": setup})
    use(monkeypatch, box)
    env = begin()
    with pytest.raises(EnvBroken, match=why):
        say(env, "Act: finish")
    assert env.status is Status.TASK_ENVIRONMENT_ERROR
    with pytest.raises(RuntimeError, match="no verdict"):
        env.result()
    env.close()
    assert box.closed == 1


def test_no_sandbox_is_opened_before_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = use(monkeypatch, ScriptedSandbox())
    env = begin()
    env.turns()
    env.close()
    assert asked == []


def test_a_broken_sandbox_is_replaced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = ScriptedSandbox(broken=("mkdir it",)), ScriptedSandbox()
    use(monkeypatch, bad, good)
    (done,) = collect([Game(Task(task_spec("shell")), (Reference(),))], make_env)
    assert done.retried and not done.error and done.trajectories[0].outcome is Outcome.WON
    assert len(done.trajectories[0].steps) == 2 and bad.closed and good.closed


def test_an_episode_that_breaks_twice_has_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, ScriptedSandbox(broken=("check",)), ScriptedSandbox(broken=("setup",)))
    (done,) = collect([Game(Task(task_spec("shell")), (Reference(idle=True),))], make_env)
    assert (done.error, done.retried, done.trajectories) == ("it broke", True, ())
