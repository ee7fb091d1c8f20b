"""`ludora merge`: an adapter and its base become one model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ludora.cli.common import Shown, prints, say, table


@prints
def merge(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Adapter folder, for example runs/NAME/adapter.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; must not exist.")],
    model: Annotated[str, typer.Option(help="The base model; left out: the one the adapter names.")] = "",
    dtype: Annotated[str, typer.Option(help="What to store: auto (as the base is stored), bf16, fp32, fp16.")] = "auto",
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda.")] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
    ] = False,
) -> Shown:
    """Fold an adapter into a model folder that plain transformers loads, and check that it acts the same."""
    from ludora.models.machine import set_threads
    from ludora.models.merge import merge_adapter

    threads, reason = set_threads("auto")
    say(f"threads: {threads} ({reason})")
    found = asdict(
        merge_adapter(
            adapter, out, model=model, dtype=dtype, device=device, trust_remote_code=trust_remote_code, say=say
        )
    )
    rows = [(key, f"{value:.3g}" if isinstance(value, float) else str(value)) for key, value in found.items()]
    return Shown(found, table("", ("", "merged"), rows))
