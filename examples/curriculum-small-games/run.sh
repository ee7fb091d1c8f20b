#!/usr/bin/env bash
# Trains, evaluates the adapter and the base on every game of every stage reached, and prints one JSON line of figures
# last: of the last stage, over all its games. Arguments go to the config: run.sh seed=1
set -euo pipefail
cd "$(dirname "$0")"
ludora train ppo config.toml --json "$@" | python3 -c '
import json, sys
result = json.load(sys.stdin)
rows = result["stages"]
last = [row for row in rows if row["stage"] == rows[0]["stage"]][-1]
for row in rows:
    shares = (f"{100 * row[key]:5.1f} %" for key in ("base_success", "success"))
    print(row["stage"], row["game"], *shares, "p = {p_value:.2g}".format(**row), sep="  ", file=sys.stderr)
print(json.dumps({
    "stage": last["stage"],
    "success": round(last["success"], 4),
    "base_success": round(last["base_success"], 4),
    "p_value": last["p_value"],
    "train_seconds": result["train_seconds"],
}))'
