"""A tiny randomly initialised model and its byte-level tokenizer, built in code: no download, no files.

For tests and for trying a pipeline out. The tokenizer knows every byte, so it reads any text; a space and a letter or
a digit are one token, so that letter labels are single tokens, as they are for real tokenizers.
"""

from __future__ import annotations

import string
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ludora.models.known import check_tiny
from ludora.rng import stream

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SPACE = "\u0120"  # how byte-level tokenizers spell a space

# Config keys by `model_type`, beside those that every family reads under the common names.
_EXTRA: dict[str, dict[str, Any]] = {
    "gpt2": {"n_positions": 512},
    "gpt_neo": {"num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 16},
    "gemma2": {"query_pre_attn_scalar": 16, "sliding_window": 16},
    "gemma3_text": {"query_pre_attn_scalar": 16, "sliding_window": 16},
    "mistral": {"sliding_window": None},
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE: 3 special tokens, 256 bytes, and a space with each letter or digit (321 tokens). ChatML."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(_SPACE, char) for char in string.ascii_letters + string.digits]
    words = [*_SPECIAL, *symbols, *(a + b for a, b in pairs)]
    bpe = Tokenizer(BPE(vocab={word: i for i, word in enumerate(words)}, merges=pairs))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in _SPECIAL])
    make: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = make(
        tokenizer_object=bpe,
        bos_token=_SPECIAL[0],
        eos_token=_SPECIAL[2],
        pad_token=_SPECIAL[0],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )
    return tokenizer


def tiny_model(
    model_type: str = "llama", seed: int = 0, **overrides: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A random fp32 model of any known family (4 layers, width 64, 4 heads, 2 of keys and values) and its tokenizer.

    The same arguments give the same weights; the process-wide random generator is left as it was. `overrides` are
    config keys of the family.

    Raises:
        InputError: the family is not known.
    """
    check_tiny(model_type)
    tokenizer = tiny_tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "max_position_embeddings": 512,
        # Ten times the usual spread: a random model whose answers differ by prompt, so that equality tests can fail.
        "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(model_type, **{**settings, **_EXTRA.get(model_type, {}), **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream("tiny", model_type, seed))
        make: Any = AutoModelForCausalLM.from_config
        model: PreTrainedModel = make(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.dim() == 1:  # biases start at 0 and norms at 1: move them, or no test would notice them
                parameter.data.add_(0.1 * torch.randn_like(parameter))
    torch.nn.Module.eval(model).requires_grad_(False)
    return model, tokenizer
