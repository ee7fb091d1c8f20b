#!/usr/bin/env bash
# Plays expert games on 8x8, learns their moves, once from `features` and once from `features+trap`, and measures both on
# 8x8, 10x10, 12x12 and 16x16 beside the untrained model, random, the hand rules with the same information, and the
# expert. Prints one JSON line of figures last. Arguments go to the config: run.sh seed=1 minutes=4
set -euo pipefail
cd "$(dirname "$0")"

learn() {  # TEXT HAND-RULE NAME, then what goes to the config
    local text=$1 rule=$2 name=$3; shift 3
    rm -rf "data/$name"
    ludora data snake "data/$name" --games 130 --size 8 --max-steps 200 --text "$text" \
        --expert 'bfs-safe(noise=0.15)' --eval-share 0.08 --json >&2
    local boards=()
    for n in 10 12 16; do boards+=("\"snake(max_steps=200, size=$n, text=$text)\""); done
    ludora train sft config.toml --json "name=$name" "data=data/$name/train.jsonl" "eval_data=data/$name/eval.jsonl" \
        "task=snake(max_steps=200, size=8, text=$text)" "evaluate_on=[$(IFS=,; echo "${boards[*]}")]" \
        "compare=[\"random\", \"$rule\", \"bfs-safe\"]" "$@"
}

plain=$(learn features greedy snake-imitation "$@")
trap_=$(learn features+trap greedy:trap snake-imitation-trap "$@")
python3 - "$plain" "$trap_" <<'PYTHON'
import json, sys

figures = {}
for end, text in (("", sys.argv[1]), ("_trap", sys.argv[2])):
    run = json.loads(text)
    print(f"{run['adapter']}: sha256 {run['adapter_sha256']}", file=sys.stderr)
    for board in (run["evaluation"], *run["evaluation"]["further"]):
        size = board["task"].split("size=")[1].split(",")[0].rstrip(")")
        for i, row in enumerate(board["rows"]):
            apples = row["facts"]["apples"]
            told = f"{board['task']:55} {row['player']:45} {apples['mean']:6.2f} ({apples['low']:.2f} to {apples['high']:.2f})"
            print(told, file=sys.stderr)
            if i == 0 and size in ("8", "10"):
                figures[f"apples_{size}x{size}{end}"] = round(apples["mean"], 2)
    figures[f"train_seconds{end}"] = run["train_seconds"]
    figures[f"move_accuracy{end}"] = round(run["after"]["move_accuracy"], 4)
    figures[f"adapter{end}"] = run["adapter"]
print(json.dumps(figures))
PYTHON
