#!/usr/bin/env bash
# Learns from reference solutions, then by trying, and prints one JSON line of figures last. Arguments go to both configs.
set -euo pipefail
cd "$(dirname "$0")"
task='act=line, level=1, rounds=1'
games=${GAMES:-200} held_out_games=${HELD_OUT_GAMES:-100}

evaluate() { # PLAYER, what it is compared with, split, games
    ludora evaluate "$1" "shell($task, split=$3)" ${2:+--compare "$2"} --games "$4" \
        --act say --max-new-tokens 40 --json
}

[ -e demonstrations.jsonl ] || ludora data shell demonstrations.jsonl --task "shell($task)" --games 1760
trained() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["adapter"])' "$1"; }  # a second run has -2
ludora train sft sft.toml --json "$@" > sft.json
sft=$(trained sft.json)
ludora train ppo ppo.toml --json "adapter=$sft" "$@" > ppo.json
ppo="adapter($(trained ppo.json))" sft="adapter($sft)"
evaluate base '' eval 50 > base.json
evaluate base '' held_out 50 > held_out_base.json
evaluate "$ppo" "$sft" eval "$games" > eval.json
evaluate "$ppo" "$sft" held_out "$held_out_games" > held_out.json
python3 figures.py
