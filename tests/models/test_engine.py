"""The engine against transformers' own forward pass: prefixes, trees, windows, caches, conversations change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models import rig as rigs
from tests.models import zoo
from tests.models.rig import Rig, close, rig
from torch import Tensor

from ludora.errors import InputError
from ludora.models.adapters import Adapter
from ludora.models.attention import History
from ludora.models.cache import ByteLRU
from ludora.models.rows import Row, Tokens

# fp32, four layers, sums in another order than transformers': a few units in the last place of the largest value
TOLERANCE = 2e-5
GRADIENT = 2e-4  # and what that becomes in a gradient, which is a sum over many tokens

WINDOWED: list[tuple[str, dict[str, Any]]] = [
    ("mistral", {"sliding_window": 5}),
    ("phi3", {"sliding_window": 5}),
    ("gemma2", {"sliding_window": 5}),
    ("gemma3_text", {"sliding_window": 5}),
    ("qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 2}),
]
KINDS: list[tuple[str, dict[str, Any]]] = [(family, {}) for family in zoo.FAMILIES] + WINDOWED
OWN = [kind for kind in KINDS if kind[0] not in ("bloom", "gpt_neo")]
every = pytest.mark.parametrize(("model_type", "config"), KINDS, ids=lambda x: x if isinstance(x, str) else str(len(x)))


def _shade(states: list[Tensor]) -> Tensor:
    """A loss that no two positions enter alike."""
    shades = [torch.randn(s.shape, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(states)]
    return torch.stack([(s * shade).sum() for s, shade in zip(states, shades, strict=True)]).sum()


def _gradient(states: list[Tensor], adapter: Adapter) -> Tensor:
    adapter.grad.zero_()
    _shade(states).backward()
    return adapter.grad.clone()


@every
def test_rows_of_all_lengths_are_transformers_own(model_type: str, config: dict[str, Any]) -> None:
    r = rig(model_type, engine={"chunk_tokens": 70}, **config)  # several passes
    model = rigs.plain(model_type, **config)
    texts = [rigs.text(n, n) for n in (1, 2, 15, 16, 17, 33, 16, 60, 3)]
    with torch.no_grad():
        for one, other in zip(r.logits(texts, [None] * len(texts)), rigs.plain_logits(model, texts), strict=True):
            close(one, other, TOLERANCE)


@every
def test_a_shared_prefix_changes_neither_values_nor_gradients(model_type: str, config: dict[str, Any]) -> None:
    r = rig(model_type, **config)
    one, two = r.add("one", 1, rank=3, layers="1-3"), r.add("two", 2, rank=2, layers="2-2")
    rules = rigs.text(21, 50)
    texts = [rules + rigs.text(n, n) for n in (1, 9, 16, 24)]
    owners = [one, two, one, None]
    whole = [s[21:] for s in r.states(texts, owners)]
    shared = r.states(texts, owners, prefix=21)
    for a, b in zip(shared, whole, strict=True):
        close(a, b, TOLERANCE)
    wanted = _gradient(whole, one), two.grad.clone()
    found = _gradient(shared, one), two.grad.clone()
    # `two` was not zeroed in between, so its second reading is twice the first
    close(found[0], wanted[0], GRADIENT)
    close(found[1], 2 * wanted[1], GRADIENT)


def test_several_prefixes_and_none_in_one_call() -> None:
    r = rig("qwen3")
    adapter = r.add(rank=2)
    rules = [rigs.text(n, 50 + n) for n in (5, 16, 40)]
    rows, owners = [], []
    for i in range(9):
        rows.append(Row(rules[i % 3] + rigs.text(4 + i, i), (0, len(rules[i % 3]), 3)[i // 3]))
        owners.append(adapter if i % 2 else None)
    reads = [(len(row.tokens) - 1, row.prefix) for row in rows]  # in any order, the last one first
    with torch.no_grad():
        got = r.engine.encode(rows, reads, owners).view(9, 2, -1)
        for i, row in enumerate(rows):
            alone = r.states([row.tokens], [owners[i]])[0]
            close(got[i], alone[[len(row.tokens) - 1, row.prefix]], TOLERANCE)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_trees_are_separate_rows(data: st.DataObject) -> None:
    """Any tree, under any attention: values and adapter gradients of every node."""
    model_type, config = data.draw(st.sampled_from([OWN[0], OWN[3], *WINDOWED]))
    r = _kept(model_type, config)
    adapter = r.pack.adapters["one"]
    rows, paths, reads = [], [], []
    for i in range(data.draw(st.integers(1, 3))):
        size, length = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 14))
        prefix = data.draw(st.integers(0, length - 1))
        parents = tuple(data.draw(st.integers(-1, n - 1)) for n in range(size))
        trunk, tokens = rigs.text(length, i), rigs.text(size, 9 + i)
        rows.append(Row(trunk + tokens, prefix, parents))
        reads.append(tuple(range(length - 1, length + size)))
        for node in range(-1, size):
            path: Tokens = ()
            at = node
            while at >= 0:
                path, at = (tokens[at], *path), parents[at]
            paths.append(trunk + path)
    owners = [adapter if i != 1 else None for i in range(len(rows))]
    flat = [owner for owner, read in zip(owners, reads, strict=True) for _ in read]
    got = r.engine.encode(rows, reads, owners)
    want = r.engine.encode([Row(p) for p in paths], [(len(p) - 1,) for p in paths], flat)
    close(got, want, TOLERANCE)
    close(_gradient([got], adapter), _gradient([want], adapter), GRADIENT)


_RIGS: dict[str, Rig] = {}


def _kept(model_type: str, config: dict[str, Any]) -> Rig:
    """Made once: hypothesis asks for many."""
    key = f"{model_type}{config}"
    if key not in _RIGS:
        _RIGS[key] = rig(model_type, **config)
        _RIGS[key].add(rank=2, layers="1-3")
    return _RIGS[key]


@pytest.mark.parametrize("model_type", ["bloom", "gpt_neo", "gpt2"])
def test_families_without_replaceable_attention_know_trees_too(model_type: str) -> None:
    r = rig(model_type)
    adapter = r.add(rank=2, layers="2-3")
    row = Row((*rigs.text(10), 5, 6, 7), 4, (-1, 0, -1))
    got = r.engine.encode([row], [(12, 9, 11, 5)], [adapter])
    texts = [(*rigs.text(10), 7), rigs.text(10), (*rigs.text(10), 5, 6), rigs.text(6)]
    want = torch.stack([s[-1] for s in r.states(texts, [adapter] * 4)])
    close(got, want, TOLERANCE)
    close(_gradient([got], adapter), _gradient([want], adapter), GRADIENT)
    assert r.engine.can_extend is (model_type == "gpt2")


# ---- the frozen trunk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model_type", "config"), [OWN[0], ("gemma2", {}), ("gpt2", {}), WINDOWED[0]])
def test_the_trunk_cache_changes_nothing(model_type: str, config: dict[str, Any]) -> None:
    sizes = {"kept": 1 << 30, "none": 0, "some": 9000}
    made = {name: rig(model_type, engine={"cache_bytes": size}, **config) for name, size in sizes.items()}
    rules = rigs.text(18, 50)
    rows = [Row(rules + rigs.text(n, n) + (5, 6), 18, (-1, -1)) for n in (3, 20, 9)]
    reads = [(len(row.tokens) - 1, len(row.tokens) - 3) for row in rows]
    found: dict[str, list[Tensor]] = {}
    for name, r in made.items():
        adapter = r.add(rank=2, layers="top:2")
        assert r.engine.depth == 2
        for _ in range(3):
            out = r.engine.encode(rows, reads, [adapter, None, adapter])
            found.setdefault(name, []).extend([out.detach(), _gradient([out], adapter)])
    r = rig(model_type, **config)
    adapter, _ = r.add(rank=2, layers="top:2"), r.add("low", 2, rank=1, layers="0-0")  # no trunk at all
    assert r.engine.depth == 0
    out = r.engine.encode(rows, reads, [adapter, None, adapter])
    found["whole"] = [out.detach(), _gradient([out], adapter)] * 3
    for name in sizes:
        for i, (one, other) in enumerate(zip(found[name], found["whole"], strict=True)):
            close(one, other, GRADIENT if i % 2 else TOLERANCE)


def test_cached_trunk_states_are_not_computed_again() -> None:
    r = rig("llama")
    adapter = r.add(rank=2, layers="top:1")
    texts = [rigs.text(n, n) for n in (10, 20, 30)]
    trunk = r.trunk_tokens()
    r.states(texts, [adapter] * 3)
    first = trunk["tokens"]
    assert first >= 60
    r.states([*texts[::-1], rigs.text(40, 40)], [None, adapter, None, adapter])
    again = trunk["tokens"] - first
    assert 40 <= again < 60  # the new row alone, filled up
    r.add("low", 2, rank=1, layers="1-1")
    assert r.engine.depth == 1  # what was cached at another depth is gone
    for one, other in zip(r.states(texts, [adapter] * 3), rig_states(texts), strict=True):
        close(one, other, TOLERANCE)
    r.pack.remove("low")
    assert r.engine.depth == 3
    for one, other in zip(r.states(texts, [adapter] * 3), rig_states(texts), strict=True):
        close(one, other, TOLERANCE)


def rig_states(texts: list[Tokens]) -> list[Tensor]:
    """The same adapter on an engine that has never seen anything else."""
    r = rig("llama")
    return r.states(texts, [r.add(rank=2, layers="top:1")] * len(texts))


def test_the_trunk_cache_keeps_to_its_bound() -> None:
    limit = 40_000  # bytes: about 150 tokens of 64 fp32 numbers
    r = rig("llama", engine={"cache_bytes": limit, "chunk_tokens": 64})
    adapter = r.add(rank=2, layers="top:1")
    for i in range(12):
        r.states([rigs.text(7 + 3 * i, i), rigs.text(200, 100 + i)], [adapter, None])
        assert r.engine.trunk.size <= limit
    assert len(r.engine.trunk) > 0


@settings(max_examples=60)
@given(st.integers(0, 30), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.booleans()), max_size=40))
def test_the_cache_is_a_plain_list_by_last_use(limit: int, steps: list[tuple[int, int, bool]]) -> None:
    cache, plain = ByteLRU(limit), list[tuple[int, object, int]]()  # the last used one stands last
    for key, size, puts in steps:
        if puts:
            value = object()
            cache.put(key, value, size)
            plain = [item for item in plain if item[0] != key]
            if size <= limit:
                plain.append((key, value, size))
            while sum(item[2] for item in plain) > limit:
                plain.pop(0)
        else:
            found = next((item for item in plain if item[0] == key), None)
            assert cache.get(key) is (found[1] if found else None)
            if found:
                plain.remove(found)
                plain.append(found)
        assert cache.size == sum(item[2] for item in plain) <= limit and len(cache) == len(plain)
    cache.clear()
    assert (cache.size, len(cache)) == (0, 0)


# ---- conversations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model_type", "config"), OWN, ids=lambda x: x if isinstance(x, str) else str(len(x)))
def test_a_conversation_is_its_whole_text_read_again(model_type: str, config: dict[str, Any]) -> None:
    r = rig(model_type, engine={"chunk_tokens": 50}, **config)
    one, two = r.add("one", 1, rank=3), r.add("two", 2, rank=2, layers="top:1")
    owners = [one, None, two, one, two]
    histories, texts = [History() for _ in owners], [()] * len(owners)
    lengths = [(5, 1, 17, 33, 2), (1, 1, 1, 1, 1), (3, 40, 1, 16, 70), (1, 2, 1, 1, 1), (1, 1, 1, 1, 1)]
    for turn, row in enumerate(lengths):
        fresh = [rigs.text(n, 10 * turn + i) for i, n in enumerate(row)]
        texts = [text + new for text, new in zip(texts, fresh, strict=True)]
        states = r.engine.extend(histories, fresh, owners)
        with torch.no_grad():
            want = torch.stack([s[-1] for s in r.states(texts, owners)])
        close(states, want, TOLERANCE)
        assert [h.length for h in histories] == [len(text) for text in texts]
    assert all(h.bytes > 0 and h.fresh == 0 for h in histories)


def test_some_conversations_may_wait() -> None:
    r = rig("llama")
    histories = [History() for _ in range(4)]
    texts = [rigs.text(6 + i, i) for i in range(4)]
    r.engine.extend(histories, texts, [None] * 4)
    for i in (2, 0, 2):
        new = rigs.text(3, 20 + i)
        texts[i] += new
        state = r.engine.extend([histories[i]], [new], [None])[0]
        close(state, r.states([texts[i]], [None])[0][-1], TOLERANCE)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("adapted", [False, True])
def test_a_decoding_step_does_not_depend_on_the_batch(dtype: str, adapted: bool) -> None:
    """Filled up to 16 rows, one or 32 conversations of one adapter are served by the same kernels, on one thread."""
    r = rig("llama", dtype=dtype)
    owners: list[Adapter | None] = [r.add(rank=3) if adapted else None] * 32
    found: dict[int, list[Tensor]] = {}
    for size in (1, 3, 16, 17, 32):
        histories = [History() for _ in range(size)]
        r.engine.extend(histories, [rigs.text(9, i) for i in range(size)], owners[:size])
        for step in range(3):
            states = r.engine.extend(histories, [rigs.text(1, 40 + step) for _ in range(size)], owners[:size])
            found.setdefault(step, []).append(states[0])
    for states in found.values():
        assert all(torch.equal(state, states[0]) for state in states)


def test_what_is_longer_than_the_context_is_refused() -> None:
    for model_type in ("llama", "gpt2"):
        r = rig(model_type)
        long = rigs.text(513)
        with pytest.raises(InputError, match="513 tokens") as caught:
            r.states([long], [None])
        assert "history=false" in caught.value.hint
        assert r.states([long[:512]], [None])[0].shape[0] == 512
        history = History()
        r.engine.extend([history], [long[:512]], [None])
        with pytest.raises(InputError, match="513 tokens"):
            r.engine.extend([history], [(5,)], [None])


def test_a_row_near_the_limit_may_end_in_a_wide_tree() -> None:
    r = rig("gpt2")
    row = Row(rigs.text(505) + rigs.text(40, 1), 0, (-1,) * 40)
    state = r.engine.encode([row], [(544,)], [None])[0]
    close(state, r.states([rigs.text(505) + rigs.text(40, 1)[-1:]], [None])[0][-1], TOLERANCE)


# ---- memory for time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bloom", "gemma2"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_activations_give_the_same_gradients(model_type: str, dropout: float) -> None:
    saved: list[int] = []
    found: list[tuple[Tensor, Tensor]] = []
    for recompute in (False, True):
        r = rig(model_type, gradient_checkpointing=recompute)
        one, two = r.add("one", 1, rank=3, dropout=dropout), r.add("two", 2, rank=2, layers="1-2", dropout=dropout)
        one.training = two.training = True
        rows = [Row(rigs.text(12, 1) + rigs.text(n, n) + (5, 6), 12, (-1, -1)) for n in (3, 20, 9)]
        kept = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            out = r.engine.encode(rows, [(len(row.tokens) - 1,) for row in rows], [one, two, one])
        _shade([out]).backward()
        saved.append(kept)
        found.append((one.grad.clone(), two.grad.clone()))
        assert (one.draws > 0) is (dropout > 0)
        draws = one.draws
        r.states([rigs.text(5)], [None])
        assert one.draws == draws and not any(layer.training for layer in r.engine._layers)
    assert saved[1] < 0.5 * saved[0]
    for a, b in zip(found[0], found[1], strict=True):
        close(b, a, 1e-6)


# ---- the model is left as it was -----------------------------------------------------------------------------------


def test_a_failure_leaves_all_layers_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    r = rig("llama")
    adapter = r.add(rank=2, layers="top:1")
    want = r.states([rigs.text(9)], [adapter])[0]
    layer = r.base.model.get_submodule("model.layers.3.mlp")

    def fails(*args: Any) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(layer, "forward", fails)
    for text in (rigs.text(9), rigs.text(10)):
        with pytest.raises(RuntimeError, match="out of memory"):
            r.states([text], [adapter])
    monkeypatch.undo()
    assert len(r.base.model.get_submodule("model.layers")) == 4
    assert r.pack.active == ()
    assert torch.equal(r.states([rigs.text(9)], [adapter])[0], want)


def test_nothing_read_is_nothing() -> None:
    r = rig("llama")
    out = r.engine.encode([Row(rigs.text(5)), Row(rigs.text(20))], [(), (3, 4)], [None, None])
    assert out.shape == (2, r.base.hidden)
    assert r.engine.encode([Row(rigs.text(5))], [()], [None]).shape == (0, r.base.hidden)


def test_eager_attention_of_every_family_is_ours_forward_and_backward() -> None:
    """Gradients through attention alone: those of the adapters below it, held against PEFT in `test_adapters`; here the
    grouped heads, soft caps and windows against transformers' eager attention with autograd, by its embeddings."""
    for model_type, config in OWN:
        r = rig(model_type, **config)
        model = rigs.plain(model_type, **config)
        adapter = r.add(rank=2, layers="0-0", targets="attention")  # below three more layers of attention
        text = rigs.text(14, 3)
        states = r.states([text], [adapter])[0]
        ours = _gradient([states], adapter)
        pairs = dict(adapter.pairs)
        for name, (a, b) in pairs.items():  # fold the adapter into the plain model's weights, as functions of A and B
            module, scale = model.get_submodule(name), adapter.scales[name]
            leaf_a, leaf_b = a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
            delta = scale * leaf_b @ leaf_a
            weight = module.weight.detach() + (delta.t() if type(module).__name__ == "Conv1D" else delta)
            del module._parameters["weight"]
            module.weight = weight
            pairs[name] = (leaf_a, leaf_b)
        backbone = model.get_submodule(r.base.family.backbone)
        out = backbone(input_ids=torch.tensor([list(text)]), use_cache=False).last_hidden_state[0]
        close(states, out, TOLERANCE)
        _shade([out]).backward()
        theirs = torch.cat([leaf.grad.flatten() for pair in pairs.values() for leaf in pair])
        close(ours, theirs, GRADIENT)
