"""An adapter or a merged model goes to the Hugging Face hub, with a card that says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]  # its client's own
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ludora.errors import InputError, LudoraError

ADAPTER, MODEL, CARD = "adapter_config.json", "config.json", "README.md"
UPLOADED = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", CARD)  # what we write, and nothing beside it


@dataclass(frozen=True)
class Pushed:
    """What went to the hub.

    Attributes:
        repo: its name there.
        kind: `adapter` or `model`.
        url: of the commit.
        files: names that were sent.
        private: whether only its owner sees it (as asked; a repository that was there stays as it is).
    """

    repo: str
    kind: str
    url: str
    files: tuple[str, ...]
    private: bool


def push(folder: Path, repo: str, *, private: bool = True, say: Callable[[str], None] = lambda line: None) -> Pushed:
    """Upload a folder as one commit, making the repository if it is not there.

    Args:
        folder: an adapter in PEFT's format, or a merged model.
        repo: `OWNER/NAME`.
        private: for a repository that is made now.

    Raises:
        InputError: the folder is neither, the name is none, or there is no token.
        LudoraError: the hub refused, or cannot be reached.
    """
    kind = "adapter" if (folder / ADAPTER).is_file() else "model"
    if not (folder / (ADAPTER if kind == "adapter" else MODEL)).is_file() or not list(folder.glob("*.safetensors")):
        raise InputError(
            f"{folder} is neither an adapter nor a model", "give runs/NAME/adapter, or what ludora merge wrote"
        )
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(str(error).splitlines()[0], "a name on the hub is OWNER/NAME") from None
    if repo.count("/") != 1:
        raise InputError(f"{repo} names no owner", "a name on the hub is OWNER/NAME")
    if not get_token():
        raise InputError("no token for the hub was found", "run: hf auth login, or set HF_TOKEN")
    files: dict[str, Path | bytes] = {path.name: path for name in UPLOADED for path in folder.glob(name)}
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if CARD not in files and not api.file_exists(repo, CARD):
            files[CARD] = card(folder, kind).encode()
        say(f"sending {len(files)} files to {repo}")
        added = [CommitOperationAdd(name, content) for name, content in sorted(files.items())]
        sent = api.create_commit(repo, added, commit_message=f"The {kind} from Ludora")
    except (HTTPError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LudoraError(f"the hub did not take it: {reason}", "is the token allowed to write there?") from None
    return Pushed(repo, kind, str(sent.commit_url), tuple(sorted(files)), private)


def card(folder: Path, kind: str) -> str:
    """What the page of the repository says: front matter that the hub reads, and how to load it."""
    config: dict[str, Any] = json.loads((folder / (ADAPTER if kind == "adapter" else MODEL)).read_text("utf-8"))
    if kind == "adapter":
        base, known = str(config.get("base_model_name_or_path")), {"library_name": "peft"}
        shape = f"rank {config.get('r')}, alpha {config.get('lora_alpha')}"
        use = f"`PeftModel.from_pretrained(base, ...)` over {base}: {shape}."
    else:
        use = "`AutoModelForCausalLM.from_pretrained(...)`: the adapter is folded into the weights."
        base, known = "", {"library_name": "transformers"}
    if base.count("/") == 1 and not Path(base).exists():
        known["base_model"] = base
    lines = [f"{key}: {value}" for key, value in known.items()]
    tags = "tags:\n- lora\n- reinforcement-learning" if kind == "adapter" else "tags:\n- reinforcement-learning"
    return "\n".join(
        ["---", *lines, tags, "---", f"# {folder.resolve().parent.name}", "", f"Trained with Ludora. {use}", ""]
    )
