#!/usr/bin/env bash
# Evolves, and prints one JSON line of figures last. Arguments go to the config: run.sh seed=1
set -euo pipefail
cd "$(dirname "$0")"
ludora evolve config.toml --json "$@" | python3 -c '
import json, sys
result = json.load(sys.stdin)
print(json.dumps({
    "base_accuracy": round(result["base_accuracy"], 4),
    "best_accuracy": round(result["best_accuracy"], 4),
    "gain": [round(result[key], 4) for key in ("gain_low", "gain", "gain_high")],
    "p_value": result["p_value"],
    "seed_accuracies": [round(value, 4) for value in result["seed_accuracies"]],
    "best": result["best"],
    "variants": result["variants"],
    "train_tokens": result["train_tokens"],
    "seconds": result["seconds"],
}))'
