#!/usr/bin/env bash
# Goes on by PPO from the adapter of snake-imitation (whose run.sh must have run), and compares both on the same 100 games.
# Prints one JSON line of figures last. Arguments go to the config: run.sh seed=1 adapter=OTHER/adapter
set -euo pipefail
cd "$(dirname "$0")"
ludora train ppo config.toml --json "$@" | python3 -c '
import json, sys
result = json.load(sys.stdin)
after, before = result["evaluation"]["rows"][:2]
[paired] = [c for c in result["evaluation"]["comparisons"] if c["baseline"] == before["player"]]
print(paired["sentence"], file=sys.stderr)
print(json.dumps({
    "apples_before": round(before["facts"]["apples"]["mean"], 2),
    "apples_after": round(after["facts"]["apples"]["mean"], 2),
    "p_value": paired["p_value"],
    "train_seconds": result["train_seconds"],
    "started_from_sha256": result["started_from_sha256"],
}))'
