"""The house's own rules, held by a machine: sizes, no pickle, no broad except, no option that nothing reads."""

import ast
import io
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from ludora.config import CONFIGS, ModelSettings
from ludora.settings import RunSettings

SOURCE = Path(__file__).parents[1] / "src" / "ludora"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]
FILE_LINES, FUNCTION_LINES, ARGUMENTS = 400, 60, 8

each_file = pytest.mark.parametrize("path", FILES, ids=NAMES)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@each_file
def test_file_length(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES


@each_file
def test_function_length(path: Path) -> None:
    long = {f.name: n for f in functions(path) if (n := (f.end_lineno or 0) - f.lineno + 1) > FUNCTION_LINES}
    assert not long


@each_file
def test_number_of_arguments(path: Path) -> None:
    many = {}
    for function in functions(path):
        spec = function.args
        names = [a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs) if a.arg not in ("self", "cls")]
        if len(names) > ARGUMENTS:
            many[function.name] = len(names)
    assert not many


@each_file
def test_only_the_command_line_prints(path: Path) -> None:
    if "cli" not in path.parts:
        assert "print" not in set(calls(path))


@each_file
def test_no_pickle(path: Path) -> None:
    banned = {"torch.load", "torch.save", "pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "joblib.load"}
    assert not banned & set(calls(path))
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import)
        for name in node.names
    } | {n.module.partition(".")[0] for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.module}
    assert not {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"} & imported


@each_file
def test_broad_excepts_name_their_boundary(path: Path) -> None:
    """`except Exception` only at a boundary, which a comment on that line names."""
    source = path.read_text(encoding="utf-8")
    commented = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and "boundary" in token.string
    }
    broad = [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or {"Exception", "BaseException"} & {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
        )
    ]
    assert set(broad) <= commented


@each_file
def test_no_process_wide_randomness(path: Path) -> None:
    """Nobody seeds, or draws from, generators that others share; inside `torch.random.fork_rng` it is one's own."""
    banned = {"np.random.seed", "numpy.random.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
    made = set(calls(path))
    if "torch.random.fork_rng" not in made:
        banned.add("torch.manual_seed")
    if any(isinstance(n, ast.Import) and "random" in [a.name for a in n.names] for n in ast.walk(tree(path))):
        banned |= {
            f"random.{name}" for name in ("seed", "random", "choice", "choices", "shuffle", "randrange", "randint")
        }
    assert not banned & made


@pytest.mark.parametrize(
    "arguments",
    [[*words, "--help"] for words in ([], ["train", "ppo"], ["train", "sft"], ["evolve"], ["evaluate"])]
    + [["--version"]],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from ludora.cli.main import run; code = run(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'peft', 'pyspiel', 'numpy', 'matplotlib', 'yaml'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "evaluate random leduc_poker --against mcts --games 2",
        "evaluate nash kuhn_poker --exact --games 0",
        "evaluate bsae kuhn_poker",
        "play kuhn_poker --against first",
        "check-env kuhn_poker --games 1",
        "evaluate base dataset(gsm9k)",
        "evaluate base arithmetic --games 100000",
        "list datasets",
        "list games",
        "list models",
        "list players",
        "list presets",
        "config check leduc-vs-random",
        "config check imitation",
        "train ppo leduc-vs-random opponent=rnadom",
        "train sft imitation data=x.jsonl opponent=rnadom",
        "config check evolve",
        "evolve evolve fitness=game:leduc_pokr",
        "evolve evolve data=gsm9k",
        "runs list",
    ],
)
def test_what_needs_no_model_loads_no_torch(command: str, tmp_path: Path) -> None:
    """Torch and transformers take seconds to load; only what opens a model may."""
    code = (
        "import sys; from ludora.cli.main import run; run(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'peft', 'safetensors'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split()], cwd=tmp_path, input="1\n1\n1\n", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_importing_the_low_rooms_loads_no_torch() -> None:
    rooms = ("config", "envs.build", "players.bots", "rng", "rollout", "runs.listing", "runs.log", "runs.store")
    code = f"import sys; {'; '.join(f'import ludora.{room}' for room in rooms)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def read_attributes() -> set[str]:
    """Names read as attributes, and strings given to getattr-like code, anywhere but where the fields are declared."""
    found: set[str] = set()
    for path in FILES:
        if str(path.relative_to(SOURCE)) in ("settings.py", "config.py", "cli/common.py"):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
    return found


@pytest.mark.parametrize("config", [ModelSettings, RunSettings, *CONFIGS.values()], ids=lambda c: c.__name__)
def test_every_config_field_is_read(config: type) -> None:
    """An option that nothing reads would be accepted and ignored."""
    assert not set(config.model_fields) - read_attributes()


def test_the_options_of_a_playing_model_are_its_settings() -> None:
    from ludora.cli.common import MODEL_OPTIONS

    # Recomputing activations saves memory in a backward pass, of which playing has none.
    assert set(MODEL_OPTIONS) == set(ModelSettings.model_fields) - {"gradient_checkpointing"}
