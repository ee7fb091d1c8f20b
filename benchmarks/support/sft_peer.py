"""A peer of `sft_throughput`, in a process and perhaps an interpreter of its own: it needs torch, transformers, peft, trl.

Reads one JSON object as its only argument; writes one line when it is ready, then one per turn, each turn after a line on
stdin: {"examples": ..., "seconds": ...}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
OUT = os.dup(1)  # stdout is for the figures; what libraries print goes to stderr
os.dup2(2, 1)


def tell(figures: dict[str, Any]) -> bool:
    """Send figures and wait: is another turn wanted?"""
    os.write(OUT, (json.dumps(figures) + "\n").encode())
    return bool(sys.stdin.readline().strip())


class Turns(TrainerCallback):
    """Pauses after every so many optimiser steps."""

    def __init__(self, steps: int, batch: int) -> None:
        self.steps, self.batch, self.began = steps, batch, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        tell({"ready": True})
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step % self.steps == 0:
            control.should_training_stop = not tell(
                {"examples": self.steps * self.batch, "seconds": time.perf_counter() - self.began}
            )
            self.began = time.perf_counter()


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch padded on the right to its longest row, with an attention mask; labels say -100 beyond."""
    width = max(len(row["input_ids"]) for row in rows)

    def filled(key: str, value: int) -> torch.Tensor:
        return torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": filled("input_ids", 0), "labels": filled("labels", -100), "attention_mask": mask}


def main(wanted: dict[str, Any]) -> None:
    torch.set_num_threads(wanted["threads"])
    model = AutoModelForCausalLM.from_pretrained(wanted["folder"], dtype=DTYPES[wanted["dtype"]])
    lora = LoraConfig(
        r=wanted["rank"], lora_alpha=wanted["alpha"], target_modules=wanted["modules"], task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    with open(wanted["rows"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    options: dict[str, Any] = {
        "output_dir": os.path.join(os.path.dirname(wanted["folder"]), wanted["kind"]),
        "max_steps": 1_000_000,
        "per_device_train_batch_size": wanted["batch"],
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,  # weights and products are in the dtype already; autocast would only add casts
        "gradient_checkpointing": False,
    }
    turns = Turns(wanted["steps"], wanted["batch"])
    if wanted["kind"] == "trl":
        import pyarrow
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        prepared = {"skip_prepare_dataset": True}  # the rows are tokens with labels already
        SFTTrainer(
            model=model,
            args=SFTConfig(max_length=None, packing=False, dataset_kwargs=prepared, **options),
            train_dataset=Dataset(pyarrow.Table.from_pylist(rows), fingerprint="rows"),
            processing_class=AutoTokenizer.from_pretrained(wanted["folder"]),
            callbacks=[turns],
        ).train()
    else:
        args = TrainingArguments(remove_unused_columns=False, **options)
        Trainer(model=model, args=args, train_dataset=rows, data_collator=pad, callbacks=[turns]).train()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
