#!/usr/bin/env bash
# Goes on by PPO from the latest adapter of snake-imitation (whose run.sh must have run), and compares both on 100 games:
# as policies, which is what PPO improves, and playing their likeliest moves. Prints one JSON line of figures last.
# Arguments go to the config: run.sh seed=1 adapter=OTHER/adapter
set -euo pipefail
cd "$(dirname "$0")"
latest=$(ls -td ../snake-imitation/runs/snake-imitation{,-[0-9]*}/adapter 2> /dev/null | head -n 1 || true)
case " $*" in *" adapter="*) latest= ;; esac
trained=$(ludora train ppo config.toml --json ${latest:+"adapter=$latest"} "$@")
read -r before after task < <(python3 - "$trained" <<'PYTHON'
import json, sys

evaluation = json.loads(sys.argv[1])["evaluation"]
print(evaluation["rows"][1]["player"], evaluation["rows"][0]["player"], evaluation["task"].replace(" ", ""))
PYTHON
)
likeliest=$(ludora evaluate "$after" "$task" --compare "$before" --labels names --temperature 0.01 --games 100 --json)
python3 - "$trained" "$likeliest" <<'PYTHON'
import json, sys

run = json.loads(sys.argv[1])
figures = {}
for end, evaluation in (("", run["evaluation"]), ("_likeliest", json.loads(sys.argv[2]))):
    after, before = (row["facts"]["apples"]["mean"] for row in evaluation["rows"][:2])
    paired = evaluation["comparisons"][0]
    print(paired["sentence"], file=sys.stderr)
    figures |= {f"apples_before{end}": round(before, 2), f"apples_after{end}": round(after, 2)}
    figures[f"p_value{end}"] = paired["p_value"]
print(json.dumps(figures | {key: run[key] for key in ("train_seconds", "started_from_sha256")}))
PYTHON
