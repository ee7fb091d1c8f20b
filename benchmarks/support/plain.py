"""The plain way: PEFT as it comes, a padded prompt per decision, logits of every position, nothing kept.

What most code does: `get_peft_model`, prompts padded on the left by the tokenizer with an attention mask, batches of 32,
one forward pass per batch in the rollout, one with the adapter switched off for what the critic reads, and one forward
and backward pass per batch and epoch in the update, the same clipped loss, AdamW on the adapter. The adapter is in the base's dtype: PEFT's default of fp32 is slower here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from ludora.models.chat import ChatFormat
from ludora.models.families import LoraSettings, resolve_targets
from ludora.models.load import load_base
from ludora.players.model import STEM, ask, labels_of
from ludora.types import Turn


class Plain:
    """The base with a PEFT adapter, and the seconds that a rollout and an update take.

    Args:
        layers: `all`, or `top:N`.
        rank: of LoRA on every linear module of those layers.
        batch: decisions per padded batch.
    """

    def __init__(self, model: str, dtype: str, *, layers: str, rank: int, alpha: float, batch: int) -> None:
        base = load_base(model, dtype=dtype, device="cpu")
        self.tokenizer, self.batch = base.tokenizer, batch
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        targets = list(resolve_targets(base.model, LoraSettings(rank=rank, layers=layers)))  # as our side has them
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM")
        self.model = get_peft_model(base.model, config, autocast_adapter_dtype=False)
        self.chat = ChatFormat(self.tokenizer)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.parameters = sum(parameter.numel() for parameter in trained)
        self.optimizer = torch.optim.AdamW(trained, lr=5e-4)

    def prompts(self, turns: Sequence[Turn]) -> list[tuple[list[int], list[int]]]:
        """Prompt tokens and the tokens of the legal actions' labels, the same that our side reads."""
        found = []
        for turn in turns:
            legal = turn.legal or ()
            paths = self.chat.label_tokens(labels_of(legal, "letters"), STEM)
            if any(len(path) != 1 for path in paths):
                raise ValueError("the plain way reads one position: labels must be single tokens")
            found.append((list(self.chat.opening(ask(turn.messages, legal, "letters"), STEM)), [p[0] for p in paths]))
        return found

    def _padded(self, batch: Sequence[tuple[list[int], list[int]]]) -> dict[str, Tensor]:
        padded = self.tokenizer.pad({"input_ids": [tokens for tokens, _ in batch]}, return_tensors="pt")
        mask = padded["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        return {"input_ids": padded["input_ids"], "attention_mask": mask, "position_ids": positions}

    def _log_probs(self, batch: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        """Log-probabilities of the whole vocabulary at the last position, [B, V]."""
        return self.model(**self._padded(batch)).logits[:, -1].float().log_softmax(-1)

    def rollout(self, turns: Sequence[Turn]) -> float:
        """Seconds per decision of acting, without the game itself."""
        prompts = self.prompts(turns)
        self.model.eval()
        start = time.perf_counter()
        with torch.no_grad():
            for i in range(0, len(prompts), self.batch):
                batch = prompts[i : i + self.batch]
                for row, (_, labels) in zip(self._log_probs(batch), batch, strict=True):
                    torch.multinomial(row[labels].exp(), 1)
        return (time.perf_counter() - start) / len(prompts)

    def features(self, turns: Sequence[Turn]) -> float:
        """Seconds per decision of the base's last hidden states, which the critic reads; no logits."""
        prompts = self.prompts(turns)
        self.model.eval()
        start = time.perf_counter()
        with torch.no_grad(), self.model.disable_adapter():
            for i in range(0, len(prompts), self.batch):
                self.model.get_base_model().base_model(**self._padded(prompts[i : i + self.batch]))
        return (time.perf_counter() - start) / len(prompts)

    def update(self, turns: Sequence[Turn]) -> tuple[float, float]:
        """Seconds per decision of one epoch, and of one optimiser step."""
        prompts = self.prompts(turns)
        self.model.train()
        start = time.perf_counter()
        for i in range(0, len(prompts), self.batch):
            batch = prompts[i : i + self.batch]
            chosen = torch.tensor([labels[i % len(labels)] for i, (_, labels) in enumerate(batch)])
            table = self._log_probs(batch)
            new = table.gather(1, chosen[:, None])[:, 0]
            advantage = torch.linspace(-1, 1, len(batch))
            ratio = (new - new.detach()).exp()
            losses = torch.max(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2))
            entropy = -(table.exp() * table).sum(-1)
            ((losses - 0.01 * entropy).sum() / len(prompts)).backward()
        middle = time.perf_counter()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return (middle - start) / len(prompts), time.perf_counter() - middle
