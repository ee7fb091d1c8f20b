"""Peers of `evolve_generation`, in a process of their own: LoRA variants one after another with PEFT and transformers' Trainer.

Reads one JSON object as its only argument; writes one line when it is ready, then one per turn, each turn after a line on
stdin: the seconds of training and of measuring all variants, and how many answers were right.

    batched   the base stays loaded; rows padded to the longest of a batch, labels on answers alone; answers to all questions
              in one `generate`, their likelihood in batches
    seed      the way of the document's program: every variant loads the base again, rows are padded to 512 tokens, the loss is
              on all of them, and answers are written one question at a time
    trimmed   the same, but rows padded to the longest of a batch and no loss on the padding
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SEED_WIDTH = 512  # tokens to which the document's program pads every row
OUT = os.dup(1)  # stdout is for the figures; what libraries print goes to stderr
os.dup2(2, 1)
Row = dict[str, Any]


def tell(figures: Row) -> bool:
    """Send figures and wait: is another turn wanted?"""
    os.write(OUT, (json.dumps(figures) + "\n").encode())
    return bool(sys.stdin.readline().strip())


def load(wanted: Row) -> Any:
    return AutoModelForCausalLM.from_pretrained(wanted["folder"], dtype=DTYPES[wanted["dtype"]])


def pad(rows: list[Row]) -> dict[str, torch.Tensor]:
    """Padded on the right to the most labels, with an attention mask; labels say -100 beyond."""
    width = max(len(row["labels"]) for row in rows)

    def filled(key: str, value: int) -> torch.Tensor:
        return torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": filled("input_ids", 0), "labels": filled("labels", -100), "attention_mask": mask}


def train(model: Any, wanted: Row, rows: list[Row], variant: Row) -> Any:
    """One variant through the data once."""
    lora = LoraConfig(
        r=variant["rank"],
        lora_alpha=2 * variant["rank"],
        target_modules=wanted["modules"],
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    options: Row = {
        "output_dir": os.path.join(os.path.dirname(wanted["folder"]), "peer"),
        "num_train_epochs": wanted["epochs"],
        "per_device_train_batch_size": wanted["batch"],
        "learning_rate": variant["learning_rate"],
        "lr_scheduler_type": "constant",
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,  # weights and products are in the dtype already; autocast would only add casts
        "remove_unused_columns": False,
    }
    Trainer(model=model, args=TrainingArguments(**options), train_dataset=rows, data_collator=pad).train()
    return model


@torch.inference_mode()
def measure(model: Any, tokenizer: Any, wanted: Row, batch: int) -> int:
    """Likelihood of the reference answers and greedy answers, `batch` questions at a time; how many were right."""
    model.eval()
    right = 0
    questions = wanted["questions"]
    for start in range(0, len(questions), batch):
        part = questions[start : start + batch]
        model(**pad([{"input_ids": q["row"], "labels": q["labels"]} for q in part])).loss.item()
        width = max(len(q["prompt"]) for q in part)
        ids = torch.tensor([[0] * (width - len(q["prompt"])) + q["prompt"] for q in part])
        mask = torch.tensor([[0] * (width - len(q["prompt"])) + [1] * len(q["prompt"]) for q in part])
        answers = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=wanted["answer_tokens"],
            do_sample=False,
            eos_token_id=wanted["end"],
            pad_token_id=0,
        )[:, width:]
        for q, text in zip(part, tokenizer.batch_decode(answers, skip_special_tokens=True), strict=True):
            found = re.findall(r"-?\d+", text)
            right += bool(found) and found[-1] == q["final"]
    return right


def main(wanted: Row) -> None:
    torch.set_num_threads(wanted["threads"])
    tokenizer = AutoTokenizer.from_pretrained(wanted["folder"])
    with open(wanted["rows"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    seed = wanted["kind"] != "batched"
    if seed:
        width = SEED_WIDTH if wanted["kind"] == "seed" else 0
        rows = [{**row, "labels": row["input_ids"] + [0] * (width - len(row["input_ids"]))} for row in rows]
    batch = 1 if seed else wanted["eval_batch"]
    model = load(wanted)
    warm = train(model, {**wanted, "epochs": 1}, rows[: wanted["batch"]], wanted["variants"][0])
    measure(warm, tokenizer, {**wanted, "questions": wanted["questions"][:2], "answer_tokens": 2}, batch)
    model = warm.unload()
    ready: Row = {"ready": True}
    while tell(ready):
        figures = {"train": 0.0, "evaluate": 0.0, "load": 0.0, "right": 0}
        for variant in wanted["variants"]:
            began = time.perf_counter()
            if seed:
                model = load(wanted)
            loaded = time.perf_counter()
            adapted = train(model, wanted, rows, variant)
            trained = time.perf_counter()
            figures["right"] += measure(adapted, tokenizer, wanted, batch)
            figures["load"] += loaded - began
            figures["train"] += trained - loaded
            figures["evaluate"] += time.perf_counter() - trained
            model = adapted.unload()
        ready = figures


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
