"""Configs: every way to write one, every mistake one line that names key, value and what is allowed."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ludora.config import CONFIGS, ModelSettings, PPOConfig, SFTConfig, load_config, make, parse_overrides, presets
from ludora.errors import ConfigError


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("name", list(presets()))
def test_presets_load(name: str) -> None:
    path, kind, description = presets()[name]
    config = load_config(CONFIGS[kind], name)
    assert config.name == name == path.stem
    assert 20 < len(description) < 120 and not description.endswith(".")


def test_the_seed_preset_has_the_seeds_values() -> None:
    config = load_config(PPOConfig, "seed")
    assert (config.clip, config.gamma, config.lam, config.epochs) == (0.2, 0.99, 0.95, 4)
    assert (config.rank, config.alpha, config.dropout, config.save_every) == (16, 32.0, 0.05, 500)


def test_three_formats_say_the_same(tmp_path: Path) -> None:
    sources = [
        write(
            tmp_path, "a.toml", 'kind = "ppo"\nlearning_rate = 1e-5\ntask = "hex(board_size=5)"\ntargets = ["q_proj"]'
        ),
        write(tmp_path, "a.yaml", "kind: ppo\nlearning_rate: 1e-5\ntask: hex(board_size=5)\ntargets: [q_proj]\n"),
        write(tmp_path, "a.json", '{"learning_rate": 1e-5, "task": "hex(board_size=5)", "targets": ["q_proj"]}'),
    ]
    configs = [load_config(PPOConfig, source) for source in sources]
    assert configs[0] == configs[1] == configs[2]
    assert configs[0].learning_rate == 1e-5 and configs[0].name == "a" and configs[0].targets == ("q_proj",)


def test_the_resolved_copy_reads_back(tmp_path: Path) -> None:
    config = load_config(PPOConfig, "kuhn-self-play", ["seed=3", 'opponent={self = 1, "mcts(simulations=10)" = 2}'])
    assert load_config(PPOConfig, write(tmp_path, "config.json", json.dumps(config.to_json()))) == config


def test_a_file_extends_a_preset(tmp_path: Path) -> None:
    config = load_config(PPOConfig, write(tmp_path, "mine.toml", 'preset = "seed"\nrank = 4'), ["alpha=8"])
    assert (config.name, config.rank, config.alpha, config.dropout) == ("mine", 4, 8.0, 0.05)


def test_a_folder_stands_for_its_config(tmp_path: Path) -> None:
    write(tmp_path, "config.toml", "rank = 4")
    config = load_config(PPOConfig, str(tmp_path))
    assert (config.name, config.rank) == (tmp_path.name, 4)
    write(tmp_path, "config.toml", "ranks = 4")
    with pytest.raises(ConfigError, match="ranks"):
        load_config(PPOConfig, str(tmp_path))


@pytest.mark.parametrize(
    ("name", "run"), [("my run (2).toml", "my-run-2"), ("é.toml", "run"), ("-x-.toml", "x"), ("a.b.toml", "a.b")]
)
def test_the_name_comes_from_the_file(tmp_path: Path, name: str, run: str) -> None:
    assert load_config(PPOConfig, write(tmp_path, name, "rank = 4")).name == run


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("learning_rate=1e-5", "learning_rate", 1e-5),
        ("learning_rate = 1e-5", "learning_rate", 1e-5),
        ("updates=1_000", "updates", 1000),
        ("task=000200000042", "task", "000200000042"),
        ("task=hex(board_size=5)", "task", "hex(board_size=5)"),
        ('task="kuhn_poker"', "task", "kuhn_poker"),
        ("opponent=mcts(simulations=100)", "opponent", "mcts(simulations=100)"),
        ("opponent={random=3}", "opponent", {"random": 3.0}),
        ("normalize_advantages=false", "normalize_advantages", False),
        ("normalize_advantages=False", "normalize_advantages", False),
        ("threads=3", "threads", 3),
        ("threads=auto", "threads", "auto"),
        ("name=1e5", "name", "1e5"),
        ("adapter=", "adapter", ""),
        ('targets=["q_proj", "v_proj"]', "targets", ("q_proj", "v_proj")),
        ("trackers=[]", "trackers", ()),
    ],
)
def test_overrides(override: str, key: str, value: object) -> None:
    found = getattr(load_config(PPOConfig, "leduc-vs-random", [override]), key)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("learnig_rate=1", "unknown key 'learnig_rate'", "did you mean 'learning_rate'?"),
        ("rank=0", "rank = 0 is not allowed: a whole number, at least 1 and at most 4096", "rank: LoRA rank"),
        ("rank=abc", "rank = 'abc' is not allowed: a whole number, at least 1 and at most 4096", "rank"),
        ("rank=2.5", "rank = 2.5 is not allowed: a whole number", "rank"),
        ("rank=true", "rank = true is not allowed", "rank"),
        ("opponent={random=true}", "opponent = true is not allowed", "PLAYER of the other seats"),
        ("rank_pattern={q_proj=true}", "rank_pattern = true is not allowed", "ranks of single modules"),
        ("stages=[{threshold=true}]", "threshold = true is not allowed", "success rate"),
        ("clip=1.5", "clip = 1.5 is not allowed: a number, above 0 and below 1", "clip"),
        ("gamma=nan", "gamma = nan is not allowed: a number, at least 0 and at most 1", "gamma"),
        ("gamma=inf", "gamma = inf is not allowed", "gamma"),
        ("kl=fixd", "kl = 'fixd' is not allowed: none, fixed or adaptive", "did you mean 'fixed'?"),
        ("trackers=wandb", "trackers = 'wandb' is not allowed: a list of tensorboard, wandb or trackio", "trackers"),
        ("threads=0", "threads = 0 is not allowed: a whole number, at least 1 and at most 1024, or auto", "threads"),
        ("history=2", "history = 2 is not allowed: true or false", "history"),
        ("opponent={random=-1}", "'random': -1} is not allowed: text, or a table with a number, above 0", "opponent"),
        ("opponent=mcts(", "opponent = 'mcts(': cannot read", "write name"),
        ("task=a b", "task = 'a b': cannot read", "write name"),
        ("threads=99999999999999999999", "threads = 99999999999999999999 is not allowed", "threads"),
        ("temperature=1e-300", "temperature = 1e-300 is not allowed: a number, at least 0.001", "temperature"),
        ("games_per_update=99999999999", "a whole number, at least 1 and at most 10000000", "games played"),
        ("rank_pattern={q_proj=5000}", "is not allowed", "rank_pattern"),
        ("runs_dir=", "runs_dir = '' is not allowed", "folder"),
        ("layers=top", "layers = 'top' is not allowed: all, top:N or A-B", "layers"),
        ("name=../x", "name = '../x' is not allowed: ", "name"),
        ("rank=", "rank= has no value", "rank"),
        ("rank", "'rank' is not key=value", "for example"),
        ("=3", "'=3' is not key=value", "for example"),
        ("history=true", "history = true has no effect with act = choose", "set act = say, or leave history out"),
        ("top_p=0.9", "top_p = 0.9 has no effect with act = choose", "act = say"),
        ("kl_coef=0.1", "kl_coef = 0.1 has no effect with kl = none", "set kl = fixed or adaptive"),
        ("kl=fixed", "kl = 'fixed' needs kl_coef above 0", "set kl_coef"),
        ("magnet_every=3", "magnet_every = 3 has no effect with magnet_weight = 0.0", "set magnet_weight above 0"),
        ("ema_decay=0.5", "ema_decay = 0.5 has no effect with baseline = critic", "set baseline = ema"),
        ("opponent=snapshots(last=5)", "needs snapshots", "snapshot_every"),
        ("snapshot_every=5", "snapshot_every = 5 has no effect: no opponent is a snapshot", "snapshots(last=5)"),
        ("opponent={}", "names no player", "random"),
    ],
)
def test_bad_values_are_one_line(override: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(PPOConfig, "seed", [override])
    assert message in error.value.message and "\n" not in error.value.message
    assert hint in error.value.hint and "\n" not in error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["baseline=ema", "lam=0.5"], "lam = 0.5 has no effect with baseline = ema"),
        (["act=say", "magnet_weight=0.3"], "a magnet needs exact probabilities"),
    ],
)
def test_values_that_exclude_each_other_are_one_line(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(PPOConfig, "seed", given)
    assert message in error.value.message and "\n" not in error.value.message and error.value.hint


def test_what_a_preset_says_steps_aside_where_it_has_no_effect() -> None:
    """Nobody should have to reset, one by one, keys that he never wrote."""
    plain = load_config(PPOConfig, "kuhn-self-play")
    assert (plain.lam, plain.value_steps, plain.magnet_every) == (1.0, 8, 12)
    changed = load_config(PPOConfig, "kuhn-self-play", ["baseline=ema", "magnet_weight=0"])
    assert (changed.lam, changed.value_steps, changed.magnet_every) == (0.95, 32, 25)
    with pytest.raises(ConfigError, match="value_steps = 9 has no effect with baseline = ema"):
        load_config(PPOConfig, "kuhn-self-play", ["baseline=ema", "value_steps=9"])


def test_what_the_users_own_file_says_does_not_step_aside(tmp_path: Path) -> None:
    source = write(tmp_path, "mine.toml", 'preset = "kuhn-self-play"\nbaseline = "ema"\nlam = 0.5')
    with pytest.raises(ConfigError, match=r"lam = 0.5 has no effect with baseline = ema in .*mine.toml"):
        load_config(PPOConfig, source)
    assert load_config(PPOConfig, source, ["lam=0.95"]).value_steps == 32


def test_an_adapter_brings_its_own_settings(tmp_path: Path) -> None:
    """A preset's rank is not meant for it; one that was given stays, to be compared with the adapter's."""
    config = load_config(PPOConfig, "seed", ["adapter=runs/a/adapter", "layers=top:2"])
    assert config.BROUGHT & config.model_fields_set == {"layers"} and config.dropout == 0.05
    written = config.to_json()
    assert "rank" not in written and written["layers"] == "top:2"
    assert load_config(PPOConfig, write(tmp_path, "config.json", json.dumps(written))) == config
    mine = load_config(PPOConfig, write(tmp_path, "mine.toml", 'preset = "seed"\nrank = 4\nadapter = "a"'))
    assert mine.BROUGHT & mine.model_fields_set == {"rank"}
    assert load_config(PPOConfig, "seed", ["adapter="]).to_json()["rank"] == 16
    imitation = load_config(SFTConfig, "imitation", ["adapter=a", "alpha=8"])
    assert imitation.BROUGHT & imitation.model_fields_set == {"alpha"} and "lora" not in imitation.to_json()
    recipe = write(tmp_path, "recipe.toml", 'preset = "imitation"\nlora = "memory"')
    with pytest.raises(ConfigError, match="lora = memory has no effect with adapter = a"):
        load_config(SFTConfig, recipe, ["adapter=a"])


def test_an_override_may_be_given_once() -> None:
    with pytest.raises(ConfigError, match="seed is given twice"):
        parse_overrides(PPOConfig, ["seed=1", "seed=2"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "learnig_rate = 1", "unknown key 'learnig_rate' in "),
        ("a.toml", "rank = 0", "rank = 0 is not allowed in "),
        ("a.toml", "rank = ", "a.toml cannot be read: "),
        ("a.toml", 'kind = "evolve"', "is a config of kind 'evolve', not 'ppo'"),
        ("a.toml", 'preset = "sed"', "no preset is called 'sed'"),
        ("a.toml", "preset = 3", "no preset is called 3"),
        ("a.toml", "kl_coef = 0.1", "kl_coef = 0.1 has no effect with kl = none in "),
        ("a.yaml", "rank: 1\nrank: 2", "key 'rank' is given twice"),
        ("a.yaml", "rank: &a 3\nseed: *a", "YAML aliases"),
        ("a.yaml", "name: !!python/object/apply:os.system [echo]", "could not determine a constructor"),
        ("a.yaml", "? [1]\n: 2", "cannot be read"),
        ("a.yaml", "1: 2", "holds no keys"),
        ("a.yaml", "", "holds no keys"),
        ("a.json", '{"rank": 1, "rank": 2}', "key 'rank' is given twice"),
        ("a.json", "[" * 50_000, "nested too deeply"),
        ("a.json", "[]", "holds no keys"),
        ("a.json", '{"gamma": NaN}', "gamma = nan is not allowed"),
        ("a.json", " " * 1_000_001, "larger than 1,000,000 bytes"),
        ("a.ini", "", "no preset and no config file is called"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(PPOConfig, write(tmp_path, name, text))
    assert message in error.value.message
    assert "\n" not in error.value.message and "\n" not in error.value.hint and error.value.hint


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin.toml").write_bytes(b"name = '\xff'")
    for name, message in [
        ("none.toml", "does not exist"),
        ("folder.toml", "cannot be read: Is a directory"),
        ("latin.toml", "is not UTF-8 text"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_config(PPOConfig, str(tmp_path / name))


def test_a_misspelt_preset_gets_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(PPOConfig, "leduc-vs-randm")
    assert error.value.hint == "did you mean 'leduc-vs-random'?"


@given(st.text(max_size=200), st.sampled_from(["toml", "yaml", "json"]))
@settings(max_examples=300, deadline=None)
def test_no_file_gives_anything_but_one_line(tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz.{suffix}"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load_config(PPOConfig, str(path))
    except ConfigError as error:
        assert len(str(error).splitlines()) == 2


@given(st.sampled_from(sorted(PPOConfig.model_fields)), st.text(max_size=40))
@settings(max_examples=500, deadline=None)
def test_no_override_gives_anything_but_one_line(key: str, value: str) -> None:
    try:
        load_config(PPOConfig, "leduc-vs-random", [f"{key}={value}"])
    except ConfigError as error:
        assert error.hint


def test_model_settings_alone() -> None:
    assert make(ModelSettings, {"dtype": "bf16"}).dtype == "bf16"
    assert isinstance(load_config(PPOConfig, "seed"), ModelSettings)
    with pytest.raises(ConfigError, match="unknown key 'rank'"):
        make(ModelSettings, {"rank": 3})


def test_every_field_is_described() -> None:
    for config in (ModelSettings, *CONFIGS.values()):
        for name, field in config.model_fields.items():
            assert field.description, f"{config.__name__}.{name}"
