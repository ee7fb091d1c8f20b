"""The configuration files of the documents this program grew from, in their own keys: `train_config.json`,
`curriculum_config.json` and `env_config.json`, one of them, or the folder that holds them.

Every key is translated by a row of one table, or refused by name: none is accepted and ignored, and no value is taken
for another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import PurePath
from typing import Any

from ludora.errors import ConfigError, nearest
from ludora.fields import DTYPE_NAMES

FILES = ("train_config.json", "curriculum_config.json", "env_config.json")
SECTIONS = ("model", "lora", "ppo")  # of train_config.json; the other two files are flat
BLOCK = 100_000_000  # task ids of one game, as in `envs.catalogue`
GAMES = 22

Values = dict[str, Any]
Row = str | Callable[[Any], Values]


def _said(key: str) -> Callable[[Any], Values]:
    """A key that only means something to a model that writes its action's number, as theirs did."""
    return lambda value: {"act": "say", "labels": "ids", key: value}


def _folder(value: Any) -> Values:
    path = PurePath(str(value))
    return {"runs_dir": str(path.parent), "name": path.name}


# their key -> ours, or what it comes to
KEYS: Mapping[str, Row] = {
    "model.model_name": "model",
    "model.use_4bit": lambda on: {"quantize": "4bit" if on else "none"},
    "model.bnb_4bit_compute_dtype": lambda name: {"dtype": DTYPE_NAMES.get(name, name)},
    "lora.r": "rank",
    "lora.lora_alpha": "alpha",
    "lora.lora_dropout": "dropout",
    "lora.target_modules": "targets",
    "ppo.batch_size": "games_per_update",
    "ppo.mini_batch_size": "minibatch",
    "ppo.gradient_accumulation_steps": "accumulation",
    "ppo.learning_rate": "learning_rate",
    "ppo.ppo_epochs": "epochs",
    "ppo.init_kl_coef": "kl_coef",
    "ppo.target_kl": "kl_target",
    "ppo.adap_kl_ctrl": lambda on: {"kl": "adaptive" if on else "fixed"},
    "ppo.cliprange": "clip",
    "ppo.cliprange_value": "value_clip",
    "ppo.num_train_steps": "updates",
    "ppo.save_freq": "save_every",
    "ppo.eval_freq": "evaluate_every",
    "ppo.max_new_tokens": _said("max_new_tokens"),
    "ppo.top_p": _said("top_p"),
    "ppo.temperature": "temperature",
    "ppo.output_dir": _folder,
    "ppo.use_wandb": lambda on: {"trackers": ["wandb"] if on else []},
    "ppo.wandb_run_name": lambda name: {"name": name} if name else {},
    "curriculum_stages": lambda stages: {"stages": stages},  # read by _stages
    "failure_buffer_size": "replay_size",
    "failure_replay_prob": "replay",
    "progression_threshold": "threshold",
    "eval_window": "window",
    "allowed_game_indices": lambda indices: {"task": indices},  # read by _games
    "opponent": "opponent",
    "mcts_simulations": "mcts_simulations",  # read by _opponent
    "mcts_rollouts": "mcts_rollouts",
    "gamma": "gamma",
}
# kind of value -> its types, and the keys that have it; the names of a stage's keys begin with a dot
KINDS: Mapping[str, tuple[tuple[type, ...], tuple[str, ...]]] = {
    "true or false": ((bool,), ("model.use_4bit", "ppo.adap_kl_ctrl", "ppo.use_wandb")),
    "a whole number": (
        (int,),
        (
            "lora.r",
            *(f"ppo.{key}" for key in ("batch_size", "mini_batch_size", "gradient_accumulation_steps", "ppo_epochs")),
            *(f"ppo.{key}" for key in ("num_train_steps", "save_freq", "eval_freq", "max_new_tokens")),
            *("failure_buffer_size", "eval_window", "mcts_simulations", "mcts_rollouts"),
        ),
    ),
    "a number": (
        (int, float),
        (
            *("lora.lora_alpha", "lora.lora_dropout", "ppo.learning_rate", "ppo.init_kl_coef", "ppo.target_kl"),
            *("ppo.cliprange", "ppo.cliprange_value", "ppo.top_p", "ppo.temperature"),
            *("failure_replay_prob", "progression_threshold", "gamma", ".weight", ".min_success_rate"),
        ),
    ),
    "text": (
        (str,),
        ("model.model_name", "model.bnb_4bit_compute_dtype", "ppo.output_dir", "opponent", ".name", ".opponent"),
    ),
    "text or null": ((str, type(None)), ("ppo.wandb_run_name",)),
    "a list": ((list,), ("curriculum_stages", "allowed_game_indices", ".task_range")),
    "a list or text": ((list, str), ("lora.target_modules",)),
}
_KIND = {key: (kind, types) for kind, (types, keys) in KINDS.items() for key in keys}
# their key -> the one without which it has no effect
NEEDS: Mapping[str, str] = {
    "eval_window": "curriculum_stages",
    "progression_threshold": "curriculum_stages",
    "failure_buffer_size": "failure_replay_prob",
}
# their key -> the values that say what is so here anyway, and what is so
GIVEN: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "model.bnb_4bit_quant_type": (("nf4",), "4 bits are NF4"),
    "model.use_nested_quant": ((True,), "4 bits are quantised twice"),
    "lora.bias": (("none",), "an adapter holds no biases"),
    "lora.task_type": (("CAUSAL_LM",), "models are causal language models"),
    "ppo.log_freq": ((1,), "every step is logged"),
    "ppo.resume_from": ((None,), "use --resume RUN@STEP"),
    "env_type": (("openspiel",), "the games are OpenSpiel's"),
    "env_name": (("game",), "the games are OpenSpiel's"),
    "env_mode": (("local",), "games are played in this process, no server is asked"),
    "execution": (("local_openspiel",), "games are played in this process"),
    "use_vllm": ((False,), "the model runs in this process"),
    "mcts_workers": ((None,), "searches use all cores"),
    "reward_shaping": ((False,), "the reward is the game's own"),
}
# their key -> why it cannot be honoured
REFUSED: Mapping[str, str] = {
    "ppo.vf_coef": "the critic has an optimiser of its own: set value_learning_rate in a config of ours",
    "ppo.max_seq_length": "prompts are never cut",
    "ppo.wandb_project": "set the environment variable WANDB_PROJECT",
    "ppo.min_valid_samples_per_step": "batch_size games are played, whatever comes of them",
    "ppo.max_collection_episodes": "batch_size games are played, whatever comes of them",
    "vllm_base_url": "the model runs in this process",
    "max_seq_length": "prompts are never cut",
    "timeout": "games are played in this process and do not wait",
    "max_concurrent_episodes": "all games of a step are played at once",
    "num_episode_workers": "all games of a step are played at once",
}
STAGE_KEYS = ("name", "task_range", "opponent", "weight", "min_success_rate")


def is_theirs(values: Mapping[str, Any]) -> bool:
    """Whether these are keys of one of their files."""
    own = {key for key in (*KEYS, *GIVEN, *REFUSED) if "." not in key} - {"opponent", "gamma"}
    return any(isinstance(values.get(section), dict) for section in SECTIONS) or bool(own & values.keys())


def translate(values: Mapping[str, Any], where: str) -> Values:
    """Their keys as ours.

    Raises:
        ConfigError: a key nobody knows, one that cannot be honoured or has no effect, or a value of a wrong type.
    """
    out: Values = {}
    flat = _flat(values)
    for key, value in flat.items():
        if key in GIVEN:
            allowed, why = GIVEN[key]
            if not any(value == a and type(value) is type(a) for a in allowed):
                raise ConfigError(f"{key} = {value!r} in {where} cannot be honoured: {why}", f"leave {key} out")
        elif key in REFUSED:
            raise ConfigError(f"{key} in {where} cannot be honoured: {REFUSED[key]}", f"leave {key} out")
        elif key not in KEYS:
            raise ConfigError(f"unknown key {key!r} in {where}", nearest(key, [*KEYS, *GIVEN]))
        else:
            value = _checked(key, value, key, where)
            if (needed := NEEDS.get(key, key)) not in flat:
                raise ConfigError(f"{key} in {where} has no effect without {needed}", f"add {needed}, or leave it out")
            row = KEYS[key]
            out |= {row: value} if isinstance(row, str) else row(value)
    if "ppo.output_dir" in flat and flat.get("ppo.wandb_run_name"):  # both name the run: a folder may hold others
        out |= {"runs_dir": str(PurePath(flat["ppo.output_dir"])), "name": flat["ppo.wandb_run_name"]}
    if "accumulation" in out and "minibatch" in out:  # theirs is a part of a step, ours the whole step
        out["minibatch"] *= out["accumulation"]
    if "kl_coef" in out or "kl_target" in out:
        out.setdefault("kl", "adaptive")
    return _opponent(_stages(_games(out, where), where), where)


def _flat(values: Mapping[str, Any]) -> Values:
    found: Values = {}
    for key, value in values.items():
        table = key in SECTIONS and isinstance(value, dict)
        found |= {f"{key}.{k}": v for k, v in value.items()} if table else {key: value}
    return found


def _checked(key: str, value: Any, told: str, where: str) -> Any:
    """The value, of its key's type; YAML takes 1e-5 for text, which is a number all the same.

    Raises:
        ConfigError: it is of another type; a truth value is no number.
    """
    kind, types = _KIND[key]
    if float in types and isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    if type(value) not in types:
        raise ConfigError(f"{told} = {value!r} in {where} is not {kind}", f"write {kind}, or leave it out")
    return value


def _games(out: Values, where: str) -> Values:
    """Game numbers as ranges of all their task ids."""
    if "task" not in out:
        return out
    indices = out["task"]
    if not isinstance(indices, list) or not all(type(i) is int and 0 <= i < GAMES for i in indices):
        raise ConfigError(f"allowed_game_indices = {indices!r} in {where}", f"a list of numbers from 0 to {GAMES - 1}")
    return out | {"task": [_range(i * BLOCK, (i + 1) * BLOCK - 1) for i in indices]}


def _range(first: int, last: int) -> str:
    return f"ids({first}, {last}{', wrap=true' if last >= GAMES * BLOCK else ''})"


def _stages(out: Values, where: str) -> Values:
    """Stages; with game numbers given, their ranges are left out, as theirs were."""
    stages: list[Values] = []
    for number, given in enumerate(out.get("stages", ())):
        at = f"curriculum_stages[{number}] in {where}"
        if not isinstance(given, dict):
            raise ConfigError(f"{at} is no table", f"with {', '.join(STAGE_KEYS)}")
        for key in given:
            if key not in STAGE_KEYS:
                raise ConfigError(f"unknown key {key!r} in {at}", nearest(key, STAGE_KEYS))
        given = {key: _checked(f".{key}", value, key, at) for key, value in given.items()}
        if given.get("weight", 1.0) != 1.0:
            raise ConfigError(f"weight in {at} cannot be honoured: stages follow one another", "leave it out")
        stage: Values = {"name": given.get("name", f"stage {number + 1}")}
        span = given.get("task_range")
        if span is not None:
            if [type(x) for x in span] != [int, int]:
                raise ConfigError(f"task_range = {span!r} in {at}", "two task ids, for example [0, 799999999]")
            if "task" not in out:
                stage["task"] = _range(*span)
        if "opponent" in given:
            stage["opponent"] = given["opponent"]
        if "min_success_rate" in given:
            stage["threshold"] = given["min_success_rate"]
            if stage["threshold"] == 0:
                raise ConfigError(f"min_success_rate = 0 in {at}: the stage would end at once", "leave the stage out")
        stages.append(stage)
    for key, theirs, having, who in (
        ("opponent", "opponent", stages, "every stage"),
        ("threshold", "progression_threshold", stages[:-1], "every stage that can end"),
    ):
        if key in out and stages and all(stage.get(key) for stage in having):
            raise ConfigError(f"{theirs} in {where} has no effect: {who} names its own", f"leave {theirs} out")
    return out | {"stages": stages} if stages else out


def _opponent(out: Values, where: str) -> Values:
    """`mcts` with the strength that env_config.json gives it."""
    options = {key: out.pop(f"mcts_{key}") for key in ("rollouts", "simulations") if f"mcts_{key}" in out}
    if options and all(values.get("opponent") != "mcts" for values in (out, *out.get("stages", ()))):
        key = f"mcts_{next(iter(options))}"
        raise ConfigError(f"{key} in {where} has no effect: no opponent is mcts", f"leave {key} out")
    mcts = f"mcts({', '.join(f'{key}={value}' for key, value in options.items())})" if options else "mcts"

    def with_strength(values: Values) -> Values:
        return values | {"opponent": mcts} if values.get("opponent") == "mcts" else values

    if "stages" in out:
        out = out | {"stages": [with_strength(stage) for stage in out["stages"]]}
    return with_strength(out)
