"""Fold an adapter into a model of its own that plain transformers loads, and check from disk that it is the same."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ludora.errors import InputError, LudoraError
from ludora.fields import DTYPE_NAMES
from ludora.models.builtin import quiet, rename_folder
from ludora.models.chat import ChatFormat
from ludora.models.load import Base, load_base
from ludora.models.machine import DTYPES
from ludora.models.storage import WEIGHTS, read_adapter
from ludora.types import Message

REPORT = "ludora_merge.json"


@dataclass(frozen=True)
class MergeReport:
    """How well the merged model, read back from disk, agrees with base and adapter; both computed in fp32.

    Attributes:
        out: the folder that was written.
        base: the base model's name.
        dtype: what the merged weights are stored as.
        modules: how many modules the adapter changed.
        positions: how many next-token distributions were compared.
        max_abs_diff: largest difference of two logits.
        argmax_agreement: share of positions where both find the same token likeliest.
        kl: mean KL(base + adapter || merged) in nats.
        effect: mean KL(base + adapter || base): what the adapter does at all, to hold `kl` against.
        tolerance: the largest `kl` that would have been accepted.
    """

    out: str
    base: str
    dtype: str
    modules: int
    positions: int
    max_abs_diff: float
    argmax_agreement: float
    kl: float
    effect: float
    tolerance: float


def merge_adapter(
    adapter: Path,
    out: Path,
    *,
    model: str = "",
    dtype: str = "auto",
    device: str = "auto",
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> MergeReport:
    """Merge a PEFT adapter into its base and save a stand-alone folder, tokenizer included.

    The sum is made in fp32 and rounded once. The folder is written under a temporary name, read back by plain
    transformers, compared, and only then given its name.

    Args:
        adapter: folder with `adapter_config.json`.
        out: folder to write; must not exist.
        model: the base; empty: the one the adapter names.
        dtype: what to store, `bf16`, `fp32` or `fp16`; `auto`: as the base is stored.
        device: where to compute.
        trust_remote_code: run the code that comes with the base model.
        say: is told in one line each what goes on.

    Raises:
        InputError: no adapter there, another base, a quantised base, or `out` exists.
        LudoraError: the merged model differs by more than the tolerance, or its tokenizer does; nothing is written.
    """
    if out.exists():
        raise InputError(f"{out} exists already", "choose a folder that does not")
    if dtype not in ("auto", *DTYPES):
        raise InputError(f"there is no dtype {dtype!r}", "write auto, bf16, fp32 or fp16")
    base = _base_of(adapter, model, device, trust_remote_code)
    store = _stored_dtype(base) if dtype == "auto" else DTYPES[dtype]
    say(f"merging {adapter} into {base.name}, to be stored as {_short(store)}")
    probes = _probes(base.tokenizer, base.device)
    plain = _logits(base.model, probes)
    adapted = _with_adapter(base.model, adapter)
    wanted = _logits(adapted, probes)
    modules = sum(name.endswith("lora_A") for name, _ in adapted.named_modules())
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent, ignore_cleanup_errors=True) as name:
            folder = Path(name) / "model"
            _save(adapted.merge_and_unload(), base, store, folder)
            say("reading it back and comparing")
            _check_tokenizer(folder, probes, trust_remote_code)
            found = _logits(_read_back(folder, base.device, trust_remote_code), probes)
            report = _report(out, base, store, modules, (plain, wanted, found))
            note = {**asdict(report), "base_fingerprint": base.fingerprint}
            (folder / REPORT).write_text(json.dumps(note, indent=2, sort_keys=True) + "\n")
            rename_folder(folder, out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error}", "choose a folder on a disk with space") from None
    return report


def _base_of(adapter: Path, model: str, device: str, trust_remote_code: bool) -> Base:
    """The base to merge into, in fp32: `model`, or the one the adapter names.

    Raises:
        InputError: its weights are not those the adapter was trained on, or they are quantised.
    """
    named, fingerprint = _origin(adapter)
    base = load_base(model or named, dtype="fp32", device=device, trust_remote_code=trust_remote_code)
    if fingerprint and fingerprint != base.fingerprint:
        raise InputError(
            f"the adapter in {adapter} was trained on {named}, whose weights are not those of {base.name}",
            f"merge it into {named}",
        )
    if getattr(base.model.config, "quantization_config", None) is not None:
        raise InputError(
            f"{base.name} is a quantised model: what a merge rounds away would be the adapter",
            "merge into the unquantised original, with --model",
        )
    return base


def _report(
    out: Path, base: Base, store: torch.dtype, modules: int, logits: tuple[Tensor, Tensor, Tensor]
) -> MergeReport:
    """Compare; `logits` are those of the base, of base and adapter, and of the merged model, each [N, V].

    Raises:
        LudoraError: the merged model is another one than base and adapter.
    """
    plain, wanted, found = logits
    kl, effect = _kl(wanted, found), _kl(wanted, plain)
    report = MergeReport(
        out=str(out),
        base=base.name,
        dtype=_short(store),
        modules=modules,
        positions=len(wanted),
        max_abs_diff=float((wanted - found).abs().max()),
        argmax_agreement=float((wanted.argmax(-1) == found.argmax(-1)).float().mean()),
        kl=kl,
        effect=effect,
        tolerance=_tolerance(store, effect),
    )
    if not kl <= report.tolerance:  # a NaN is not, either
        raise LudoraError(
            f"the merged model differs from base and adapter by KL {kl:.2g}, {report.tolerance:.2g} is allowed",
            "store it as fp32: this adapter's changes are too fine for 16 bits" if store != torch.float32 else "",
        )
    return report


def _origin(adapter: Path) -> tuple[str, str]:
    """The base an adapter names, and that base's fingerprint ("" where the adapter was not made here).

    Raises:
        InputError: no adapter in safetensors there, a damaged one, or one that does not say what it is for.
    """
    config, _, origin = read_adapter(adapter)
    named = config.get("base_model_name_or_path") or ""
    if not (origin.get("base") or named):
        raise InputError(f"the adapter in {adapter} does not name its base", "name it with --model")
    return str(origin.get("base") or named), str(origin.get("base_fingerprint", ""))


def _with_adapter(model: PreTrainedModel, adapter: Path) -> Any:
    """The base with the adapter on, by PEFT: a `PeftModel`.

    Raises:
        InputError: the adapter's modules or shapes are not the model's.
    """
    from peft import PeftModel, get_peft_model_state_dict  # seconds to import, for this command only

    try:
        with quiet(), warnings.catch_warnings(action="ignore"):
            adapted = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"the adapter in {adapter} does not fit this base: {_first_line(error)}", _FIT) from None
    # PEFT only warns of tensors that are missing or left over: they would be a merge of something else
    with safe_open(adapter / WEIGHTS, "pt") as handle:
        stored = set(handle.keys())
    strange = stored ^ set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if strange:
        raise InputError(f"the adapter in {adapter} does not fit this base: {min(strange)} is not in both", _FIT)
    return adapted


_FIT = "merge it into the model it was trained on"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _stored_dtype(base: Base) -> torch.dtype:
    """What the base's own folder holds; fp32 for models made in memory."""
    config = Path(str(base.model.config._name_or_path)) / "config.json"
    if not config.is_file():
        return torch.float32
    values = json.loads(config.read_text())
    return DTYPES[DTYPE_NAMES.get(str(values.get("dtype") or values.get("torch_dtype")), "fp32")]


def _short(dtype: torch.dtype) -> str:
    return next(name for name, known in DTYPES.items() if known == dtype)


def _save(merged: PreTrainedModel, base: Base, store: torch.dtype, folder: Path) -> None:
    torch.nn.Module.to(merged, dtype=store)
    merged.config.dtype = store
    with quiet():
        merged.save_pretrained(folder)
        base.tokenizer.save_pretrained(folder)


def _read_back(folder: Path, device: torch.device, trust_remote_code: bool) -> Any:
    """The saved model, the plain way."""
    load: Any = AutoModelForCausalLM.from_pretrained
    with quiet():
        return load(folder, dtype=torch.float32, trust_remote_code=trust_remote_code).to(device).eval()


# ---- the comparison ------------------------------------------------------------------------------------------------

# A line of prose, one of numbers, a chat: what is compared is the next-token distribution at every position of each.
_TEXTS = (
    "The queen took the pawn on e4, and the game was over after thirty moves.",
    "Public card: K. Bets: 2, 4, 4. Your options: A fold, B call, C raise. 0123456789",
    'def play(move):\n    """Apply one move."""\n    return board + [move]\n',
)
_CHAT = (Message("system", "You play a card game."), Message("user", "Your card: J. The pot: 3. A call, B fold."))


def _probes(tokenizer: PreTrainedTokenizerBase, device: torch.device) -> list[Tensor]:
    """Token ids [1, T] of each probe text."""
    texts = [tuple(tokenizer.encode(text)) for text in _TEXTS]
    chat = ChatFormat(tokenizer).opening(_CHAT, "Move:")
    return [torch.tensor([tokens], device=device) for tokens in (*texts, chat)]


def _check_tokenizer(folder: Path, probes: list[Tensor], trust_remote_code: bool) -> None:
    """Raises LudoraError when what plain transformers reads back spells the probes with other tokens."""
    load: Any = AutoTokenizer.from_pretrained
    with quiet():
        tokenizer = load(folder, trust_remote_code=trust_remote_code)
    found = _probes(tokenizer, torch.device("cpu"))
    if [ids.tolist() for ids in found] != [ids.tolist() for ids in probes]:
        raise LudoraError(
            f"the merged model's tokenizer, read back as {type(tokenizer).__name__}, spells text with other tokens",
            "merge into a copy of the base whose tokenizer survives save_pretrained",
        )


def _logits(model: Any, probes: list[Tensor]) -> Tensor:
    """fp32 logits of every position of every probe, [N, V]."""
    with torch.inference_mode():
        return torch.cat([model(input_ids=ids, use_cache=False).logits[0].float() for ids in probes])


def _kl(wanted: Tensor, other: Tensor) -> float:
    """Mean KL(wanted || other) over positions, in nats; from logits [N, V]."""
    p, q = wanted.log_softmax(-1), other.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean().clamp(min=0))  # clamp, not max: it keeps a NaN


def _tolerance(store: torch.dtype, effect: float) -> float:
    """The KL that rounding may cost, in nats, by what the weights are stored as.

    Measured on smollm2-135m (stored in bf16) and tiny models with adapters of an effect from 1e-7 to 1e-2 nat: 1e-8 in
    fp32, 1e-6 in fp16, up to 1e-4 in bf16, which keeps 8 bits of a weight. A twentieth of the effect on top: the
    adapter must survive, and one that is rounded away loses all of it.
    """
    return 1e-6 if store == torch.float32 else 5e-4 + 0.05 * effect
