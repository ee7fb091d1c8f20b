"""`ludora config`: look at a config without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ludora.cli.common import Overrides, Shown, prints, table
from ludora.cli.train import check_usable

if TYPE_CHECKING:
    from ludora.settings import Settings

app = typer.Typer(help="Show or check a config.", no_args_is_help=True)
Config = Annotated[str, typer.Argument(metavar="CONFIG", help="A preset's name, or a TOML, YAML or JSON file.")]


@app.command("show")
@prints
def show(config: Config, overrides: Overrides = None) -> Shown:
    """Print every value a config comes to, and what it means; those that differ from the default are marked."""
    settings = _load(config, overrides)
    values = settings.to_json()
    fields = type(settings).model_fields
    rows = [
        (
            f"{key} *" if getattr(settings, key) != field.default else key,
            _recipe(settings, key) or str(values.get(key, "the adapter's")),
            field.description or "",
        )
        for key, field in fields.items()
    ]
    return Shown(values, table(f"kind: {settings.KIND}   (* differs from the default)", ("key", "value", ""), rows))


@app.command("check")
@prints
def check(config: Config, overrides: Overrides = None) -> Shown:
    """Say whether a config can be used: its keys, its values, and the task, players and files it names."""
    settings = _load(config, overrides)
    task = check_usable(settings)
    of = {"": "games of the data's task", "none": "no games"}  # what imitation ends with
    ending = f", at the end {of.get(task, task)}" if settings.KIND == "sft" else f" for {task}"
    text = f"ok: {settings.KIND} config{ending}"
    return Shown({"ok": True, "kind": settings.KIND, "task": task}, lambda console: console.print(text, markup=False))


def _recipe(settings: Settings, key: str) -> str:
    """`by lora = NAME` where the recipe, which hangs on the model's size, gives the value; else nothing."""
    lora = str(getattr(settings, "lora", ""))
    by_it = key in settings.RECIPES.get(lora, ()) and key not in settings.model_fields_set
    return f"by lora = {lora}" if by_it else ""


def _load(config: str, overrides: list[str] | None) -> Settings:
    from ludora.config import CONFIGS, kind_of, load_config

    return load_config(CONFIGS[kind_of(config)], config, overrides or ())
