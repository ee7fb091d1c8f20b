"""The adapter pack against PEFT, against itself alone, and against plain autograd."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from tests.models import rig as rigs
from tests.models import zoo
from tests.models.rig import close, rig
from torch import Tensor, nn

from ludora.errors import InputError
from ludora.models.adapters import Adapter, AdapterPack, PackedLinear, SlotOptimizer, _LoraLinear, _Part
from ludora.models.families import LoraSettings
from ludora.models.known import FAMILIES

TEXTS = [rigs.text(13, 1), rigs.text(30, 2), rigs.text(16, 3)]


def _settings(model_type: str) -> dict[str, Any]:
    """Every knob at once: rank and alpha differ by module, rsLoRA scales."""
    family = FAMILIES[model_type]
    return {
        "rank": 4,
        "alpha": 6.0,
        "rslora": True,
        "rank_pattern": ((family.mlp[-1], 2),),
        "alpha_pattern": ((family.attention[0], 3.0),),
    }


def _weigh(logits: list[Tensor]) -> Tensor:
    """A loss that no two positions or tokens enter alike; each row's share is its own."""
    shades = [torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) for x in logits]
    return torch.stack([(x * shade).sum() for x, shade in zip(logits, shades, strict=True)]).sum()


def _peft_gradients(peft: Any, adapter: Adapter) -> list[tuple[Tensor, Tensor]]:
    found = []
    for name in adapter.pairs:
        layer = peft.get_submodule(f"base_model.model.{name}")
        found.append((layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad))
    return found


def _same_as_peft(r: rigs.Rig, reference: Any, adapter: Adapter, folder: Path, tolerance: float) -> Any:
    """Outputs and gradients, with the adapter's own files loaded by PEFT."""
    peft = PeftModel.from_pretrained(reference, str(rigs.save(adapter, r.base, folder)), is_trainable=True)
    peft.eval()
    for module in peft.modules():
        module.training = type(module).__name__ in ("Linear4bit", "Linear8bitLt")  # else inference without gradients
    ours, theirs = r.logits(TEXTS, [adapter] * 3), rigs.plain_logits(peft, TEXTS)
    for one, other in zip(ours, theirs, strict=True):
        close(one, other, tolerance)
    _weigh(ours).backward()
    _weigh(theirs).backward()
    for (a, b), (other_a, other_b) in zip(adapter.pairs.values(), _peft_gradients(peft, adapter), strict=True):
        close(a.grad, other_a, 20 * tolerance)
        close(b.grad, other_b, 20 * tolerance)
    return peft


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_the_pack_is_peft_forward_backward_and_merged(model_type: str, tmp_path: Path) -> None:
    r = rig(model_type)
    adapter = r.add(**_settings(model_type))
    before = [x.detach() for x in r.logits(TEXTS, [None] * 3)]
    peft = _same_as_peft(r, rigs.plain(model_type), adapter, tmp_path, 2e-5)
    with torch.no_grad():
        ours = r.logits(TEXTS, [adapter] * 3)
        merged = rigs.plain_logits(peft.merge_and_unload(), TEXTS)
    for one, other, base in zip(ours, merged, before, strict=True):
        close(one, other, 1e-4)  # the merge rounds W + BA once
        assert float((one - base).abs().max()) > 0.1  # and the adapter does something


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "phi3"])
@pytest.mark.parametrize("bits", ["4bit", "8bit"])
def test_the_pack_is_peft_over_quantised_layers(model_type: str, bits: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed: NF4 and LLM.int8 are not tested")
    r = rig(model_type, quantize=bits)
    layer = r.base.model.get_submodule(f"{r.base.family.layers}.0.{r.base.family.mlp[0]}")
    assert type(layer).__name__ == {"4bit": "Linear4bit", "8bit": "Linear8bitLt"}[bits]
    adapter = r.add(rank=4, alpha=8.0)
    reference = zoo.base(model_type, quantize=bits).model
    reference.set_attn_implementation("eager")
    _same_as_peft(r, reference, adapter, tmp_path, 2e-5)


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_bf16_stays_within_its_rounding_of_fp32(model_type: str) -> None:
    exact, rounded = rig(model_type), rig(model_type, dtype="bf16")
    a, b = exact.add(rank=4), rounded.add(rank=4)
    assert b.flat.dtype == torch.float32  # masters
    ours, theirs = rounded.logits(TEXTS, [b] * 3), exact.logits(TEXTS, [a] * 3)
    for one, other in zip(ours, theirs, strict=True):  # eight bits of mantissa through 4 layers of wild weights
        assert float((one - other).abs().mean()) < 0.12 * float(other.abs().mean())
    _weigh(ours).backward()
    _weigh(theirs).backward()
    cosine = torch.nn.functional.cosine_similarity(a.grad, b.grad, dim=0)
    assert float(cosine) > 0.95


# ---- packed equals alone -------------------------------------------------------------------------------------------


def _three(r: rigs.Rig) -> list[Adapter]:
    """Different ranks, alphas, targets and layers."""
    family = r.base.family
    return [
        r.add("small", 1, rank=2, alpha=4.0, targets="attention", layers="1-2"),
        r.add("large", 2, rank=7, alpha=3.0, rslora=True, targets="all-linear", layers="all"),
        r.add("mixed", 3, rank=3, targets=(family.mlp[0], family.attention[-1]), layers="top:1"),
    ]


# Kernels choose how they add up by the number of rows they get, so a row among others may differ from the row alone in
# the last bit of each product. Over four layers of fp32 that is about 1e-6 of the largest value.
ALONE = 5e-6


@pytest.mark.parametrize("model_type", zoo.FAMILIES)
def test_a_mixed_batch_is_every_row_alone(model_type: str) -> None:
    r = rig(model_type)
    small, large, mixed = _three(r)
    owners = [large, None, small, mixed, None, large]
    texts = [rigs.text(9 + i % 2, i) for i in range(6)]
    packed = r.logits(texts, owners)
    losses = [_weigh([x]) for x in packed]
    torch.stack(losses).sum().backward()
    together = {a.name: a.grad.clone() for a in (small, large, mixed)}
    for a in (small, large, mixed):
        a.grad.zero_()
    for text, owner, one in zip(texts, owners, packed, strict=True):
        alone = r.logits([text], [owner])[0]
        close(one.detach(), alone.detach(), ALONE)
        if owner is not None:
            _weigh([alone]).backward()
    for a in (small, large, mixed):
        close(together[a.name], a.grad, 20 * ALONE)


def test_a_batch_of_one_size_is_the_same_bit_for_bit_whatever_its_neighbours() -> None:
    r = rig()
    adapters = _three(r)
    rows = [rigs.text(16, i) for i in range(4)]
    want = [r.logits(rows, [a] * 4) for a in (*adapters, None)]
    got = r.logits(rows, [*adapters, None])
    order = [2, 0, 3, 1]
    turned = r.logits([rows[i] for i in order], [[*adapters, None][i] for i in order])
    for i in range(4):
        assert torch.equal(got[i], want[i][i])
        assert torch.equal(turned[order.index(i)], got[i])


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(3)), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_the_order_of_adapters_and_rows_changes_nothing(order: list[int], owners: list[int]) -> None:
    one, other = rig("qwen3"), rig("qwen3")
    kinds = [{"rank": 2}, {"rank": 5, "layers": "top:2"}, {"rank": 3, "targets": "mlp"}]
    first = [one.add(str(i), i, **kinds[i]) for i in range(3)] + [None]
    second = {i: other.add(str(i), i, **kinds[i]) for i in order} | {3: None}
    rows = [rigs.text(16, i) for i in range(len(owners))]
    ours = one.logits(rows, [first[i] for i in owners])
    theirs = other.logits(rows[::-1], [second[i] for i in owners[::-1]])[::-1]
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gemma2", "bloom"])
def test_nan_in_one_adapter_stays_there(model_type: str) -> None:
    r = rig(model_type)
    good, bad = r.add("good", 1, rank=3), r.add("bad", 2, rank=5)
    rows, owners = [rigs.text(12, i) for i in range(4)], [good, bad, None, good]
    want = r.logits(rows, owners)
    _weigh([want[i] for i in (0, 2, 3)]).backward()
    clean = good.grad.clone()
    bad.restore(torch.full_like(bad.flat, float("nan")))
    for a in (good, bad):
        a.grad.zero_()
    now = r.logits(rows, owners)
    assert now[1].isnan().all()
    for i in (0, 2, 3):
        assert torch.equal(now[i], want[i])
    _weigh(now).backward()
    assert torch.equal(good.grad, clean)
    how = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.0, "max_grad_norm": 1.0}
    fine, spoilt = SlotOptimizer(good.flat, **how), SlotOptimizer(bad.flat, **how)
    assert math.isfinite(fine.step(1e-2)) and fine.skipped == 0
    assert math.isnan(spoilt.step(1e-2)) and spoilt.skipped == 1
    assert torch.isfinite(good.flat).all() and not torch.equal(good.grad, torch.zeros_like(good.grad))


# ---- the layer and its gradient ------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_fused_layer_is_the_plain_composition(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3), label="tokens per part")
    ranks = data.draw(st.lists(st.integers(1, 3), min_size=len(counts), max_size=len(counts)), label="ranks")
    fused, biased, dropped = (data.draw(st.booleans(), label=x) for x in ("fused", "bias", "dropout"))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_()

    inner, outer, total = 5, 4, sum(counts) + 2  # two tokens in front belong to no adapter
    x, weight = rand(1, total, inner), rand(outer, inner) if fused else None
    bias = rand(outer) if fused and biased else None
    parts, pairs, start = [], [], 2
    for n, (count, rank) in enumerate(zip(counts, ranks, strict=True)):
        mask = (torch.rand(count, inner, generator=draw, dtype=torch.float64) < 0.7) / 0.7 if dropped else None
        parts.append(_Part(start, start + count, 0.5 + n, mask))
        pairs += [rand(rank, inner), rand(outer, rank)]
        start += count

    def plain(x: Tensor, *pairs: Tensor) -> Tensor:
        y = x.new_zeros(1, total, outer) if weight is None else nn.functional.linear(x, weight, bias)
        pieces = [y[:, :2]]
        for part, a, b in zip(parts, pairs[::2], pairs[1::2], strict=True):
            rows = x[:, part.start : part.stop]
            rows = rows if part.mask is None else rows * part.mask
            pieces.append(y[:, part.start : part.stop] + part.scale * rows @ a.t() @ b.t())
        return torch.cat(pieces, 1)

    def ours(x: Tensor, *pairs: Tensor) -> Tensor:
        fixed = None if weight is None else weight.detach()
        return _LoraLinear.apply(x, fixed, bias, outer, parts, *pairs)  # type: ignore[no-any-return]

    torch.testing.assert_close(ours(x, *pairs), plain(x, *pairs))
    shade = torch.randn(1, total, outer, generator=draw, dtype=torch.float64)
    mine = torch.autograd.grad((ours(x, *pairs) * shade).sum(), (x, *pairs))
    theirs = torch.autograd.grad((plain(x, *pairs) * shade).sum(), (x, *pairs))
    for one, other in zip(mine, theirs, strict=True):  # gradients of A and B come as fp32, the masters' dtype
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_gradients_are_the_finite_differences() -> None:
    """Through the whole model, one weight of A and one of B at a time."""
    r = rig()
    adapter = r.add(rank=2, layers="1-2")
    text = [rigs.text(16, 5)]

    def loss() -> float:
        with torch.no_grad():
            return float(_weigh([r.logits(text, [adapter])[0].double()]))

    _weigh(r.logits(text, [adapter])).backward()
    grad = adapter.grad.clone()
    draw = torch.Generator().manual_seed(3)
    checked = 0
    for at in torch.randperm(adapter.parameters, generator=draw)[:12].tolist():
        values, h = [], 2e-3
        for step in (h, -h):
            with torch.no_grad():
                adapter.flat[at] += step
            values.append(loss())
            with torch.no_grad():
                adapter.flat[at] -= step
        slope = (values[0] - values[1]) / (2 * h)
        assert slope == pytest.approx(float(grad[at]), rel=0.03, abs=0.02 * float(grad.abs().max()))
        checked += 1
    assert checked == 12


def test_gradients_add_up_over_backward_passes_in_one_flat_buffer() -> None:
    r = rig()
    adapter = r.add(rank=2)
    for i in range(2):
        _weigh(r.logits([TEXTS[i]], [adapter])).backward()
    assert adapter.flat.grad is adapter.grad
    both = adapter.grad.clone()
    adapter.grad.zero_()
    _weigh([r.logits([TEXTS[i]], [adapter])[0] for i in range(1)]).backward()
    first = adapter.grad.clone()
    start = 0
    for a, b in adapter.pairs.values():
        for leaf in (a, b):
            assert leaf.grad.data_ptr() == adapter.grad[start:].data_ptr()
            assert leaf.data_ptr() == adapter.flat[start:].data_ptr()
            start += leaf.numel()
    assert start == adapter.parameters
    assert not torch.equal(both, first)


# ---- dropout -------------------------------------------------------------------------------------------------------


def test_dropout_draws_from_the_adapters_own_stream_and_keeps_the_mean() -> None:
    r = rig()
    adapter, twin, other = (r.add(n, s, rank=2, dropout=0.25) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    state = torch.get_rng_state()
    masks = [x.keep_mask((200, 64), torch.float32, r.base.device) for x in (adapter, twin, other)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], adapter.keep_mask((200, 64), torch.float32, r.base.device))
    assert masks[0].unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert float(masks[0].mean()) == pytest.approx(1.0, abs=0.03)  # 5 standard errors
    adapter.draws = 0  # all there is to its randomness
    assert torch.equal(masks[0], adapter.keep_mask((200, 64), torch.float32, r.base.device))


def test_dropout_acts_in_training_only_and_on_its_own_rows_only() -> None:
    r = rig()
    dropped, steady = r.add("dropped", 1, rank=4, dropout=0.5), r.add("steady", 2, rank=4)
    rows, owners = [rigs.text(16, i) for i in range(3)], [dropped, steady, None]
    calm = r.logits(rows, owners)
    dropped.training = steady.training = True
    one, other = r.logits(rows, owners), r.logits(rows, owners)
    assert dropped.draws == 2 * len(dropped.pairs) and steady.draws == 0
    assert float((one[0] - calm[0]).abs().max()) > 1e-2 and not torch.equal(one[0], other[0])
    for i in (1, 2):
        assert torch.equal(one[i], calm[i]) and torch.equal(other[i], calm[i])


def test_dropout_has_the_right_expectation_and_its_gradient_uses_the_same_mask() -> None:
    """One layer: the mean over masks is the layer without dropout, and PEFT's composition has the same gradients."""
    r = rig()
    adapter = r.add(rank=4, alpha=8.0, dropout=0.4, targets="mlp.down_proj", layers="1-1")
    (name, (a, b)), scale = next(iter(adapter.pairs.items())), adapter.scales[next(iter(adapter.pairs))]
    layer = r.base.model.get_submodule(name)
    assert isinstance(layer, PackedLinear)
    x = torch.randn(1, 6, layer.fan_in, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), r.pack.rows((adapter, 1)):
        calm = layer(x)
        adapter.training = True
        mean = sum(layer(x) for _ in range(3000)) / 3000
    part = calm - layer(x)
    spread = float(part.abs().max())  # one mask moves an output by about this much
    assert float((mean - calm).abs().max()) < 0.1 * spread
    adapter.draws = 7
    with r.pack.rows((adapter, 1)):
        layer(x).sin().sum().backward()
    grads = a.grad.clone(), b.grad.clone()
    adapter.draws = 7
    mask = adapter.keep_mask((6, layer.fan_in), x.dtype, x.device)
    adapter.grad.zero_()
    plain = nn.functional.linear(x, layer.base.weight) + scale * ((x * mask) @ a.t() @ b.t())
    for mine, theirs in zip(grads, torch.autograd.grad(plain.sin().sum(), (a, b)), strict=True):
        close(mine, theirs)


# ---- the pack ------------------------------------------------------------------------------------------------------


def test_a_fresh_adapter_changes_nothing_and_is_seeded() -> None:
    r = rig("gpt2")
    adapter = r.pack.add("fresh", LoraSettings(rank=3), seed=4)
    assert all(torch.equal(b, torch.zeros_like(b)) for _, b in adapter.pairs.values())
    for a, _ in adapter.pairs.values():
        bound = 1 / math.sqrt(a.shape[1])
        assert float(a.detach().abs().max()) <= bound
        assert float(a.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.3)
    now, base = r.logits(TEXTS, [adapter] * 3), r.logits(TEXTS, [None] * 3)
    for one, other in zip(now, base, strict=True):
        assert torch.equal(one, other)
    again = rig("gpt2").pack.add("other", LoraSettings(rank=3), seed=4)
    assert torch.equal(adapter.flat, again.flat)
    assert not torch.equal(adapter.flat, rig("gpt2").pack.add("other", LoraSettings(rank=3), seed=5).flat)


def test_no_module_a_taken_name_and_damaged_weights_are_refused() -> None:
    r = rig()
    with pytest.raises(InputError):
        r.pack.add("none", LoraSettings(targets=("nothing",)))
    assert not r.pack.adapters
    assert r.pack.targets(LoraSettings(rank=3, layers="top:1", targets=("q_proj",))) == {
        "model.layers.3.self_attn.q_proj": 3
    }
    assert not r.pack.adapters and not r.pack._wrapped  # nothing was built for it
    adapter = r.add(rank=2)
    with pytest.raises(InputError, match="already"):
        r.pack.add("one", LoraSettings(rank=2))
    before, tensors = adapter.flat.detach().clone(), adapter.tensors()
    first, *_, last = tensors
    for odd in (
        {k: v for k, v in tensors.items() if k != last},
        {**tensors, "base_model.model.more": torch.zeros(1)},
        {**tensors, last: torch.zeros(3, 3)},
        {**tensors, first: tensors[first] + 1, last: torch.full_like(tensors[last], float("inf"))},
    ):
        with pytest.raises(InputError):
            adapter.load_tensors(odd)
        assert torch.equal(adapter.flat, before)
    version = adapter.version
    adapter.load_tensors({k: v + 1 for k, v in tensors.items()})
    assert torch.equal(adapter.flat, before + 1) and adapter.version > version


def test_close_gives_the_model_its_own_layers_back() -> None:
    base = zoo.base("llama")
    names = {name: type(module) for name, module in base.model.named_modules()}
    want = base.model(zoo.prompt()).logits
    pack = AdapterPack(base)
    rigs.wake(pack.add("one", LoraSettings(rank=2, layers="1-2")), 1)
    pack.add("two", LoraSettings(rank=3, targets="mlp"))
    assert any(isinstance(module, PackedLinear) for module in base.model.modules())
    assert torch.equal(base.model(zoo.prompt()).logits, want)  # outside `rows`, no row has an adapter
    pack.close()
    assert {name: type(module) for name, module in base.model.named_modules()} == names
    assert torch.equal(base.model(zoo.prompt()).logits, want)
    assert not pack.adapters
    pack.add("one", LoraSettings(rank=2))  # and the pack can be used again


def test_a_copy_is_frozen_in_time_and_a_removed_adapter_is_gone() -> None:
    r = rig()
    adapter = r.add(rank=2, rslora=True)
    twin = r.pack.copy(adapter, "twin")
    assert twin.serial != adapter.serial
    want = r.logits(TEXTS, [twin] * 3)
    for one, other in zip(want, r.logits(TEXTS, [adapter] * 3), strict=True):
        assert torch.equal(one, other)
    adapter.restore(adapter.flat + 1)
    for one, other in zip(want, r.logits(TEXTS, [twin] * 3), strict=True):
        assert torch.equal(one, other)
    r.pack.remove("one")
    assert list(r.pack.adapters) == ["twin"]
    assert r.add("one", 9, rank=2).serial not in (adapter.serial, twin.serial)


# ---- the optimiser -------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 0.2), st.sampled_from([(0.9, 0.999), (0.8, 0.95)]), st.integers(0, 2**31))
def test_the_optimiser_is_adamw_with_clipping(clip: float, decay: float, betas: tuple[float, float], seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    start = torch.randn(40, generator=draw)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine.grad = torch.zeros_like(start)
    slot = SlotOptimizer(mine, lr=1e-2, betas=betas, weight_decay=decay, max_grad_norm=clip)
    adam = torch.optim.AdamW([theirs], lr=1e-2, betas=betas, weight_decay=decay)
    for step in range(5):
        rate, grad = 1e-2 / (step + 1), torch.randn(40, generator=draw)
        slot.zero_grad()
        mine.grad += grad
        theirs.grad = grad.clone()
        wanted = torch.nn.utils.clip_grad_norm_([theirs], clip) if clip else grad.norm()
        adam.param_groups[0]["lr"] = rate
        adam.step()
        assert slot.step(rate) == pytest.approx(float(wanted), rel=1e-6)
        torch.testing.assert_close(mine.data, theirs.data, rtol=1e-5, atol=1e-6)
    assert slot.skipped == 0


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_step_with_a_poisoned_gradient_touches_nothing(poison: float) -> None:
    flat = nn.Parameter(torch.ones(6))
    flat.grad = torch.ones(6)
    slot = SlotOptimizer(flat, lr=0.1, betas=(0.9, 0.99), weight_decay=0.1, max_grad_norm=1.0)
    slot.step(0.1)
    before, state = flat.detach().clone(), slot.tensors()
    flat.grad[2] = poison
    assert not math.isfinite(slot.step(0.1))
    assert slot.skipped == 1 and torch.equal(flat, before)
    for key, value in slot.tensors().items():
        assert torch.equal(value, state[key])
    slot.zero_grad()
    flat.grad += 1
    assert math.isfinite(slot.step(0.1)) and not torch.equal(flat, before)


def test_an_optimiser_read_back_goes_on_bit_for_bit() -> None:
    grads = torch.randn(6, 30, generator=torch.Generator().manual_seed(0))

    def new(values: Tensor) -> tuple[nn.Parameter, SlotOptimizer]:
        flat = nn.Parameter(values.clone())
        flat.grad = torch.zeros_like(values)
        return flat, SlotOptimizer(flat, lr=0.1, betas=(0.9, 0.99), weight_decay=0.01, max_grad_norm=1.0)

    def run(flat: nn.Parameter, slot: SlotOptimizer, some: Tensor) -> None:
        for grad in some:
            flat.grad.copy_(grad)
            slot.step(0.1)

    flat, slot = new(torch.zeros(30))
    assert slot.tensors() == {}
    run(flat, slot, grads[:3])
    saved, values = slot.tensors(), flat.detach().clone()
    run(flat, slot, grads[3:])
    other, again = new(values)
    again.load_tensors(saved)
    run(other, again, grads[3:])
    assert torch.equal(flat, other)
