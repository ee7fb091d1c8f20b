"""Examples per second of learning from examples here, against TRL's SFTTrainer and transformers' Trainer, both with PEFT.

All sides get the same model, adapted modules, rows of tokens, batch and threads, and take turns within the call; see
README.md beside this file. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.machine import emit, median, peak_rss_gb, rounded, say, settle
from support.positions import turns_of
from support.worker import answer, working

from ludora.config import load_config
from ludora.learn import lessons, sft
from ludora.models.families import LoraSettings, resolve_targets
from ludora.models.policy import Text
from ludora.players.studio import Studio
from ludora.rng import generator
from ludora.runs.log import RunLog
from ludora.runs.store import Run
from ludora.settings import SFTConfig

OUR_SIDE = "--our-side"  # first argument of the process that runs our side
GAME = "hex(board_size=5)"
EPOCHS = 3
PEERS = {"trl": "SFTTrainer", "trainer": "Trainer"}


def our_side(overrides: list[str]) -> None:
    """`ludora train sft`, paused after each epoch. Nothing is evaluated or saved meanwhile, as with the peers."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["evaluate_every=0", "eval_share=0.0", "save_every=1000000", "log_every=1000000", "task=none"]
        config = load_config(SFTConfig, "imitation", [f"runs_dir={folder}", f"epochs={EPOCHS + 1}", *quiet, *overrides])
        asked, began = 0, 0.0

        def stop() -> bool:
            nonlocal asked, began
            figures = {"examples": config.batch * per_epoch, "seconds": time.perf_counter() - began}
            wanted = True
            if asked % per_epoch == 0:
                ready = {key: getattr(config, key) for key in ("rank", "alpha", "batch", "layers", "loss")}
                wanted = answer({**(figures if asked else ready), "peak_rss_gb": peak_rss_gb()})
                began = time.perf_counter()
            asked += 1
            return not wanted

        with open(str(config.data), encoding="utf-8") as file:
            per_epoch = sum(1 for _ in file) // config.batch
        with Run.create(folder, "benchmark", config.to_json()) as run, RunLog(run) as log:
            sft.train(config, run, log, stop=stop)


def write_data(options: argparse.Namespace, path: Path) -> None:
    """`options.examples` turns, one per line so that a batch is the same number of them for all sides."""
    if options.data:
        with open(options.data, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        single = [
            {**line, "steps": [step]} for line in lines for step in line["steps"] if len(step["legal"] or "ab") > 1
        ]
    else:
        draw = generator("sft benchmark")
        single = [
            {
                **{"version": 1, "kind": "trajectory", "task": GAME, "seed": i, "seat": turn.seat, "player": "random"},
                **{"outcome": "truncated", "score": 0.5, "end": "truncated"},
                "steps": [
                    {
                        "messages": [{"role": m.role, "content": m.content} for m in turn.messages],
                        "legal": list(turn.legal or ()),
                        "move": draw.choice(turn.legal or ("",)),
                        "reasoning": "",
                        "reward": 0.0,
                    }
                ],
            }
            for i, turn in enumerate(turns_of(GAME, options.examples, distinct=True))
        ]
    if len(single) < options.examples:
        raise SystemExit(f"{options.data} has {len(single)} turns to learn, fewer than --examples {options.examples}")
    path.write_text("".join(json.dumps(line) + "\n" for line in single[: options.examples]), encoding="utf-8")


def prepare(options: argparse.Namespace, facts: dict[str, Any], folder: Path) -> dict[str, list[str]]:
    """Write the model, the turns, and the same turns as rows of tokens; returns the adapted modules by layers."""
    data = folder / "data.jsonl"
    write_data(options, data)
    given = {"model": options.model, "dtype": facts["dtype"], "threads": facts["threads"], "data": str(data)}
    config = SFTConfig(**given, device="cpu", loss="tokens", eval_share=0.0, evaluate_every=0, batch=options.batch)
    studio = Studio(config, say)
    modules = {
        layers: list(resolve_targets(studio.base.model, LoraSettings(layers=layers))) for layers in options.layers
    }
    player, _ = studio.learner(config)
    made = lessons.prepare(config, player)
    with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
        for lesson in made.learnt:
            text = lesson.item
            assert isinstance(text, Text)
            ids = [*text.row.tokens, text.targets[-1]]
            labels = [-100] * len(ids)
            for at, target in zip(text.reads, text.targets, strict=True):
                labels[at + 1] = target
            file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    studio.pack.close()
    studio.base.model.set_attn_implementation("sdpa")
    studio.base.model.save_pretrained(folder / "model")
    studio.base.tokenizer.save_pretrained(folder / "model")
    return modules


def compare(options: argparse.Namespace, facts: dict[str, Any], folder: Path, layers: str, modules: list[str]) -> Any:
    """All sides on one choice of layers, in turns."""
    shared = [f"{key}={facts[key]}" for key in ("threads", "dtype")] + [f"model={options.model}", f"layers={layers}"]
    shared += [f"data={folder / 'data.jsonl'}", f"batch={options.batch}"]
    with ExitStack() as stack:
        ours = {
            loss: stack.enter_context(working(sys.executable, __file__, OUR_SIDE, f"loss={loss}", *shared))
            for loss in ("tokens", "choices")
        }
        wanted = {
            "folder": str(folder / "model"),
            "rows": str(folder / "rows.jsonl"),
            "modules": modules,
            "threads": facts["threads"],
            "batch": options.batch,
            "steps": options.peer_steps,
            **{key: ours["tokens"].facts[key] for key in ("rank", "alpha")},
        }
        peers = {}
        for kind in options.peers:
            dtype = "bf16" if kind == "trainer" else facts["dtype"]
            script = str(Path(__file__).parent / "support" / "sft_peer.py")
            order = json.dumps({**wanted, "kind": kind, "dtype": dtype})
            peers[kind] = stack.enter_context(working(options.peer_python, script, order))
            peers[kind].turn()  # kernels set up
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*ours, *peers)}
        for number in range(EPOCHS):
            for name, worker in {**peers, **ours}.items():
                rows[name].append(worker.turn())
                rate = rows[name][-1]["examples"] / rows[name][-1]["seconds"]
                say(
                    f"  layers {layers}, turn {number + 1}/{EPOCHS}: {PEERS.get(name, f'ours, {name}')} {rate:.1f} examples/s"
                )
        rss = max(row["peak_rss_gb"] for row in rows["tokens"])
    whole = {n: sum(r["examples"] for r in rows[n]) / sum(r["seconds"] for r in rows[n]) for n in ours}
    peer = {name: median([row["examples"] / row["seconds"] for row in rows[name]]) for name in peers}
    first = rows["tokens"][0]
    trl = peer.get("trl")
    return {
        "ratio": trl and whole["tokens"] / trl,
        "ratio_trainer": whole["tokens"] / peer["trainer"],
        "ratio_choices": trl and whole["choices"] / trl,
        "examples_per_second": whole["tokens"],
        "examples_per_second_first_epoch": first["examples"] / first["seconds"],
        "examples_per_second_choices": whole["choices"],
        "sfttrainer_examples_per_second": trl,
        "trainer_examples_per_second": peer["trainer"],
        "peak_rss_gb": rss,
    }


def versions_of(python: str) -> dict[str, str]:
    """Versions of the peers' packages that an interpreter has."""
    code = "import json, sys, importlib.metadata as m; d = {p.metadata['Name'].lower(): p.version for p in m.distributions()}"
    code += "; print(json.dumps({n: d[n] for n in ('trl', 'transformers', 'peft', 'torch') if n in d}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


HOW = (
    "ours: whole epochs of `ludora train sft imitation`, the first one with its kernels and its trunk included; peers: "
    "median of turns of a few steps after a warm-up turn, adapter in the base's dtype, rows padded to the longest of the batch; "
    "ratio: the same loss on the same rows (loss = tokens)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m", help="base model, as in a config")
    parser.add_argument("--data", default="", help="JSONL of recorded games; none: positions of Hex, no two alike")
    parser.add_argument("--threads", default="auto", help="for all sides; auto leaves busy cores alone")
    parser.add_argument("--batch", type=int, default=32, help="examples of one optimiser step")
    parser.add_argument("--examples", type=int, default=512, help="examples in all; an epoch of ours is a turn")
    parser.add_argument("--peer-steps", type=int, default=4, help="steps of a peer's turn")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has trl")
    parser.add_argument("--layers", nargs="+", default=["all", "top:8"], help="choices of layers; the first is `ratio`")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; the figures mean nothing"
    )
    options = parser.parse_args()
    if options.quick:
        options.examples, options.batch, options.peer_steps = 16, 8, 1
    options.examples -= options.examples % options.batch
    versions = versions_of(options.peer_python)
    options.peers = list(PEERS) if "trl" in versions else ["trainer"]
    if "trl" not in versions:
        say(f"{options.peer_python} has no trl, so `ratio` is null: see benchmarks/README.md, then --peer-python PATH")
    began = time.perf_counter()
    facts = settle(options.threads)
    say(f"{facts['threads']} threads, {facts['dtype']}, load {facts['load_before']}")
    with tempfile.TemporaryDirectory(prefix="sft-throughput-") as name:
        folder = Path(name)
        modules = prepare(options, facts, folder)
        found = {layers: compare(options, facts, folder, layers, modules[layers]) for layers in options.layers}
    result = {
        "benchmark": "sft_throughput",
        "ratio": found[options.layers[0]]["ratio"],
        **{f"ratio_{layers.replace(':', '')}": row["ratio"] for layers, row in found.items()},
        **{layers: rounded(row) for layers, row in found.items()},
        "examples": options.examples,
        "batch": options.batch,
        "epochs": EPOCHS,
        "data": options.data or GAME,
        "peer_versions": versions,
        "quick": options.quick,
        **facts,
        "load_after": [round(value, 2) for value in os.getloadavg()],
        "seconds": time.perf_counter() - began,
        "how": HOW,
    }
    emit(rounded(result))


if __name__ == "__main__":
    if sys.argv[1:2] == [OUR_SIDE]:
        our_side(sys.argv[2:])
    else:
        main()
