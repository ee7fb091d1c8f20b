#!/usr/bin/env bash
# Trains, evaluates exactly, and prints one JSON line of figures last. Arguments go to the config: run.sh seed=1
set -euo pipefail
cd "$(dirname "$0")"
ludora train ppo config.toml --json "$@" | python3 -c '
import json, sys
result = json.load(sys.stdin)
rows = {row["player"]: row for row in result["evaluation"]["rows"]}
after, before = (row for name, row in rows.items() if name.startswith("adapter") or name == "base")
print(json.dumps({
    "expected_value_before": round(before["expected_value"], 4),
    "expected_value_after": round(after["expected_value"], 4),
    "best_possible": round(rows["best response"]["expected_value"], 4),
    "win_rate_before": before["win_rate"],
    "win_rate_after": after["win_rate"],
    "exploitability_after": round(after["exploitability"], 4),
    "train_seconds": result["train_seconds"],
}))'
