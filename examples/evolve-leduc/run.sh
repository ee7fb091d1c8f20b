#!/usr/bin/env bash
# Evolves, and prints one JSON line of figures last. Arguments go to the config: run.sh seed=1
set -euo pipefail
cd "$(dirname "$0")"
ludora evolve config.toml --json "$@" | python3 -c '
import json, sys
result = json.load(sys.stdin)
print(json.dumps({
    "expected_value_base": round(result["base"], 4),
    "expected_value_best": round(result["chosen"], 4),
    "expected_value_seeds": [round(value, 4) for value in result["seeds"]],
    "nash_conv_best": round(result["measures"]["nash_conv"], 4),
    "best": result["best"],
    "variants": result["variants"],
    "train_tokens": result["train_tokens"],
    "seconds": result["seconds"],
}))'
