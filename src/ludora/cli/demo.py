"""`ludora demo`: the whole job in one command, on the built-in model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ludora.cli.common import DEFAULT_RUNS, RunsDir, Shown, prints, say
from ludora.cli.train import check_usable, started, train_ppo

if TYPE_CHECKING:
    from rich.console import Console

PRESET = "leduc-vs-random"


@prints
def demo(
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of training at most.")] = 6.0,
    seed: Annotated[int, typer.Option(min=0, help="Where all randomness comes from.")] = 0,
    runs_dir: RunsDir = DEFAULT_RUNS,
) -> Shown:
    """Teach the built-in language model Leduc poker, and show how much better it got.

    PPO with a LoRA adapter against a uniformly random player, then an exact evaluation beside the untrained model
    and the best possible player, and a report page. Ctrl-C saves; `ludora train ppo --resume` goes on.
    """
    from ludora.settings import PPOConfig

    overrides = [f"minutes={minutes}", f"seed={seed}", "name=demo", f"runs_dir={runs_dir}"]
    with started(PPOConfig, PRESET, overrides, None, check_usable) as found:
        say("Teaching a 135M language model Leduc poker by PPO with a LoRA adapter, against a uniformly random player.")
        shown = train_ppo(*found)
    return replace(shown, show=lambda console: _show(shown, console))


def _show(shown: Shown, console: Console) -> None:
    summary: dict[str, Any] = dict(shown.data)
    if shown.exit_code:
        shown.show(console)
        return
    from ludora.evals.record import Evaluation
    from ludora.evals.tables import show

    show(Evaluation.from_json(summary["evaluation"]), console)
    lines = (
        f"trained for {summary['train_seconds'] / 60:.1f} minutes: {summary['updates']} updates, "
        f"{summary['games']} games; the best was update {summary['best_update']}",
        f"report:    {summary['report']}",
        f"adapter:   {summary['adapter']}",
        f"play it:   ludora play leduc_poker --against 'adapter({summary['adapter']})'",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
