"""The built-in model: SmolLM2-135M-Instruct from a PyPI package, saved once as bf16 safetensors in the user's cache."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from ludora.errors import InputError, MissingExtra
from ludora.models.known import BUILTIN, gguf_file
from ludora.places import cache_dir


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block transformers says nothing below an error and draws no progress bars."""
    log: Any = transformers_logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def builtin_folder(say: Callable[[str], None]) -> tuple[Path, str]:
    """Folder of the built-in model in the cache, made if it is not there, and the sha256 of its GGUF.

    Safe with other processes: the folder is written under a temporary name and renamed, and who comes second uses what
    the first one made.

    Raises:
        MissingExtra: the package with the model, or the one that reads its format, is not installed.
        InputError: the cache cannot be written.
    """
    source = gguf_file()
    digest = file_digest(source)
    folder = cache_dir() / "models" / f"{BUILTIN}-{digest[:12]}"
    if (folder / "config.json").is_file():
        return folder, digest
    if find_spec("gguf") is None:
        raise MissingExtra("the package that reads GGUF files is not installed", "pip install gguf")
    say(f"unpacking {BUILTIN} into {folder} (once, about 15 s)")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder.parent, ignore_cleanup_errors=True) as name:
            made = Path(name) / "model"
            _convert(source, made)
            rename_folder(made, folder)
    except OSError as error:
        raise InputError(
            f"cannot write the model cache {folder.parent}: {error}", "set LUDORA_CACHE to a folder with 400 MB free"
        ) from None
    return folder, digest


def _convert(source: Path, target: Path) -> None:
    """Dequantise the GGUF (Q4_1) to bf16 and save it as a plain Hugging Face folder."""
    where: dict[str, Any] = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    load_model: Any = AutoModelForCausalLM.from_pretrained
    load_tokenizer: Any = AutoTokenizer.from_pretrained
    with quiet(), redirect_stderr(io.StringIO()):  # the GGUF reader draws a bar of its own, whatever it is told
        # Without `dequantize` transformers keeps the GGUF's packed weights, which nothing else can adapt or save.
        model = load_model(**where, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True))
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config._name_or_path = BUILTIN
        model.save_pretrained(target)
        load_tokenizer(**where).save_pretrained(target)


def rename_folder(made: Path, target: Path) -> None:
    """Flush a finished folder to disk and give it its name in one step; keep `target` if somebody made it meanwhile."""
    for path in (*made.iterdir(), made):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise


_PREFIX = ".making-"


def _remove_leftovers(folder: Path) -> None:
    """What a killed process left behind. An hour is far longer than any conversion takes."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):  # its owner may be through this very moment
            if time.time() - path.stat().st_mtime > 3600:
                shutil.rmtree(path, ignore_errors=True)


def file_digest(path: Path) -> str:
    """sha256 of a file. Remembered in the cache by path, size and time of change, since weights are large."""
    path = path.resolve()
    if path.parent.name == "blobs" and len(path.name) == 64:
        return path.name  # the hub's cache names large files by their sha256
    stat = path.stat()
    key = [str(path), stat.st_size, stat.st_mtime_ns]
    note = cache_dir() / "digests" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
    try:
        known = json.loads(note.read_text())
        if known["file"] == key:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or not one of ours: read the file
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=note.parent, suffix=".tmp", delete=False) as temporary:
            json.dump({"file": key, "sha256": digest}, temporary)
        os.replace(temporary.name, note)
    except OSError:
        pass  # a cache that cannot be written costs time, nothing else
    return digest
