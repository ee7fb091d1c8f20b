"""`ludora push`: an adapter or a merged model goes to the hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ludora.cli.common import Shown, prints, say, table


@prints
def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="runs/NAME/adapter, or what ludora merge wrote.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hugging Face hub.")],
    public: Annotated[bool, typer.Option("--public", help="A new repository is open to everybody.")] = False,
) -> Shown:
    """Upload an adapter or a merged model to the Hugging Face hub, with a card; a new repository is private."""
    from ludora.models.hub import push as send

    sent = asdict(send(folder, repo, private=not public, say=say))
    rows = [(key, ", ".join(value) if isinstance(value, tuple) else str(value)) for key, value in sent.items()]
    return Shown(sent, table("", ("", "sent"), rows))
