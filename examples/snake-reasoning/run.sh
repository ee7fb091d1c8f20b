#!/usr/bin/env bash
# Learns an expert's words and moves, and plays by saying both. Prints one JSON line of figures last.
# Arguments go to the config: run.sh seed=1 minutes=4
set -euo pipefail
cd "$(dirname "$0")"
rm -rf data
ludora data snake data --games 65 --size 8 --max-steps 200 --expert 'greedy(noise=0.15)' --eval-share 0.1 --json >&2
ludora train sft config.toml --json data=data/train.jsonl eval_data=data/eval.jsonl "$@" | python3 -c '
import json, sys
result = json.load(sys.stdin)
after, before = result["evaluation"]["rows"][:2]
[paired] = [c for c in result["evaluation"]["comparisons"] if c["baseline"] == before["player"]]
print(paired["sentence"], file=sys.stderr)
print(json.dumps({
    "parse_rate": round(1.0 - after["invalid_rate"], 4),
    "apples_before": round(before["facts"]["apples"]["mean"], 2),
    "apples_after": round(after["facts"]["apples"]["mean"], 2),
    "p_value": paired["p_value"],
    "train_seconds": result["train_seconds"],
}))'
