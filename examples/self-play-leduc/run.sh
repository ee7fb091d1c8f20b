#!/usr/bin/env bash
# Trains, measures exploitability exactly, and prints one JSON line of figures last. Arguments go to the config:
# run.sh seed=1
set -euo pipefail
cd "$(dirname "$0")"
ludora train ppo config.toml --json "$@" | python3 -c '
import json, sys
result = json.load(sys.stdin)
rows = {row["player"]: row for row in result["evaluation"]["rows"]}
after, before = (row for name, row in rows.items() if name.startswith("adapter") or name == "base")
print(json.dumps({
    "exploitability_before": round(before["exploitability"], 4),
    "exploitability": round(after["exploitability"], 4),
    "train_seconds": result["train_seconds"],
}))'
