"""Configs from presets, files and `key=value` overrides; every mistake is one line that names the key.

A source is a preset's name, a TOML, YAML or JSON file, or files in the keys of `ludora.seedfiles`. `preset = "NAME"`
in a file means: that preset, with the file's keys over it. `kind = "ppo"` says which command a file is for. A preset's
value that has no effect beside what the user gave steps aside, as do those that the user's `lora` gives; the user's own
is refused.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ludora import seedfiles
from ludora.errors import ConfigError, nearest
from ludora.evolve.settings import EvolveConfig
from ludora.fields import Settings
from ludora.settings import ModelSettings, PPOConfig, SFTConfig

__all__ = [
    "CONFIGS",
    "EvolveConfig",
    "ModelSettings",
    "PPOConfig",
    "SFTConfig",
    "Settings",
    "kind_of",
    "load_config",
    "make",
    "parse_overrides",
    "presets",
]

C = TypeVar("C", bound=Settings)
CONFIGS: dict[str, type[Settings]] = {config.KIND: config for config in (PPOConfig, SFTConfig, EvolveConfig)}
MAX_BYTES = 1_000_000  # no config is larger; a bound keeps a wrong path from filling the memory
SUFFIXES = (".toml", ".yaml", ".yml", ".json")
FOLDER_FILE = "config.toml"  # what is read of a folder


def load_config(cls: type[C], source: str, overrides: Sequence[str] = (), size: Mapping[str, Any] | None = None) -> C:
    """Read a config: preset or file, then overrides, then checks. An empty `name` becomes that of the source.

    Args:
        cls: the command's config.
        source: preset name, path of a .toml, .yaml, .yml or .json file, or of a folder with a `config.toml`.
        overrides: `key=value` texts, the value as TOML or, where that does not parse, as plain text.
        size: values of a trial run, over those of the source; where they, or the source's beside them, mean nothing,
            they step aside.

    Raises:
        ConfigError: the source cannot be read, a key is unknown, or a value is not allowed.
    """
    values, where, own = _source(source)
    kind = values.pop("kind", cls.KIND)
    if kind != cls.KIND:
        raise ConfigError(f"{where} is a config of kind {kind!r}, not {cls.KIND!r}", f"run ludora {_command(kind)}")
    _refuse_unknown(cls, values, where)  # before the overrides, so that the message names the right place
    given = parse_overrides(cls, overrides)
    if size:
        before = _idle(cls, values | given)
        values |= size
        own -= size.keys() | (_idle(cls, values | given) - before)
    values = _without_idle(cls, values | given, own | set(given))
    if "name" in cls.model_fields and not values.get("name"):
        values["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).strip("-._")[:80] or "run"
    return make(cls, values, where, typed=given)


def kind_of(source: str) -> str:
    """Which command a preset or file is for; `ppo` where it does not say.

    Raises:
        ConfigError: it cannot be read, or its kind is unknown.
    """
    values, where, _ = _source(source)
    kind = values.get("kind", PPOConfig.KIND)
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise ConfigError(f"{where} has the unknown kind {kind!r}", nearest(str(kind), CONFIGS))
    return kind


def _command(kind: str) -> str:
    return kind if kind == EvolveConfig.KIND else f"train {kind}"


def make(cls: type[C], values: Mapping[str, Any], where: str = "", typed: Collection[str] = ()) -> C:
    """A checked config from plain values.

    Raises:
        ConfigError: a key is unknown or a value not allowed; `where` tells the user in which file to look, unless
            the key is one of those `typed` on the command line.
    """
    _refuse_unknown(cls, values, where)
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        # The first one is enough for one line, and mending it may mend the others.
        first = error.errors(include_url=False)[0]
        raise _readable(cls, first, "" if first["loc"][0] in typed else where) from None
    except ConfigError as error:
        raise ConfigError(_at(error.message, "" if typed else where), error.hint) from None


def presets() -> dict[str, tuple[Path, str, str]]:
    """Preset name -> (file, kind, what its first comment line says), sorted by name."""
    found = {}
    for path in sorted(Path(str(files("ludora") / "presets")).glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        description = text.splitlines()[0].lstrip("# ").rstrip()
        found[path.stem] = (path, str(tomllib.loads(text)["kind"]), description)
    return found


def parse_overrides(cls: type[Settings], overrides: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as values. Text fields take the text as it is, quoted or not.

    Raises:
        ConfigError: no `=`, an unknown key, a key given twice, or no value for a field that is not text.
    """
    values: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise ConfigError(f"{text!r} is not key=value", "for example learning_rate=1e-4")
        _refuse_unknown(cls, {key: None}, "")
        if key in values:
            raise ConfigError(f"{key} is given twice", "an override may be given once")
        values[key] = _scalar(value, plain_text=cls.model_fields[key].annotation is str)
        if values[key] == "" and cls.model_fields[key].annotation is not str:
            raise ConfigError(f"{key}= has no value", f"{key}: {cls.model_fields[key].description}")
    return values


def _scalar(text: str, *, plain_text: bool) -> Any:
    try:
        [value] = tomllib.loads(f"value = {text}").values()
    except (ValueError, RecursionError):  # no TOML value, so it stands for itself
        return text
    # 000200000042 and 1_000 stay as they were typed where text is wanted; quotes are taken off all the same.
    return text if plain_text and not isinstance(value, str) else value


def _without_idle(cls: type[Settings], values: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """The values without those of a preset (no `own` ones) that would have no effect beside the others, or that a
    recipe of the user's own (`lora`) gives.
    """
    recipe = cls.RECIPES.get(str(values.get("lora")), frozenset()) if "lora" in own else frozenset()
    kept = {key: value for key, value in values.items() if key in own or key not in recipe}

    def idle() -> set[str]:
        return (_idle(cls, kept) | (cls.BROUGHT if kept.get("adapter") else set())) & (kept.keys() - set(own))

    while gone := idle():  # one that goes may leave another without effect
        kept = {key: value for key, value in kept.items() if key not in gone}
    return kept


def _idle(cls: type[Settings], values: Mapping[str, Any]) -> set[str]:
    return cls.idle(lambda key: values.get(key, cls.model_fields[key].default))


def _source(source: str, seen: tuple[str, ...] = ()) -> tuple[dict[str, Any], str, frozenset[str]]:
    """Values of a preset or file, with the presets it extends below them; how to call it in messages; and which keys
    the user's own file gave.
    """
    known = presets()
    if source in known:
        path, where = known[source][0], f"preset {source}"
    elif any(os.path.isfile(os.path.join(source, name)) for name in seedfiles.FILES):
        return _seeds(Path(source))
    elif os.path.isfile(os.path.join(source, FOLDER_FILE)):
        path = Path(source, FOLDER_FILE)
        where = str(path)
    elif source.endswith(SUFFIXES):
        path, where = Path(source), source
    else:
        raise ConfigError(
            f"no preset and no config file is called {source!r}",
            nearest(source, known) if not os.path.exists(source) else f"a config file ends in {', '.join(SUFFIXES)}",
        )
    if source in seen:
        raise ConfigError(f"{where} extends itself: {' -> '.join((*seen, source))}", "remove one preset = line")
    values = _read(path, where)
    if seedfiles.is_theirs(values):
        values = seedfiles.translate(values, where)
    base = values.pop("preset", None)
    own = frozenset(values) if source not in known else frozenset()
    if base is None:
        return values, where, own
    if not isinstance(base, str) or base not in known:
        raise ConfigError(f"{where}: no preset is called {base!r}", nearest(str(base), known))
    return {**_source(base, (*seen, source))[0], **values}, where, own


def _seeds(folder: Path) -> tuple[dict[str, Any], str, frozenset[str]]:
    """A folder with the files of the documents this program grew from, as one config."""
    values: dict[str, Any] = {}
    for path in (folder / name for name in seedfiles.FILES):
        if path.is_file():
            values |= _read(path, str(path))
    found = seedfiles.translate(values, str(folder))
    return found, str(folder), frozenset(found)


def _read(path: Path, where: str) -> dict[str, Any]:
    parsers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": _json}
    parse = parsers.get(path.suffix, _yaml)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"{where} is larger than {MAX_BYTES:,} bytes", "is this a config file?")
        values = parse(raw.decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{where} does not exist", "ludora list presets shows what can be used by name") from None
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}", "give the path of a config file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{where} is nested too deeply", "a config is flat: key = value") from None
    except ValueError as error:  # what all three parsers raise
        reason = " ".join(str(error).split())
        raise ConfigError(f"{where} cannot be read: {reason}", "mend the file") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{where} holds no keys", "a config is key = value lines")
    return values


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: JSON and YAML would silently take the later one."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return values


def _yaml(text: str) -> Any:
    """YAML without the parts that surprise: no tags that build objects, no aliases, no key twice."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):  # a dozen nested ones would fill any memory
                raise ValueError("YAML aliases (*name) are not read; write the value again")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            return _once([(self.construct_object(k, True), self.construct_object(v, True)) for k, v in node.value])

    Loader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))
    try:
        return yaml.load(text, Loader)  # a SafeLoader
    except (yaml.YAMLError, TypeError) as error:  # TypeError: a key that is itself a list or table
        raise ValueError(error) from None


def _refuse_unknown(cls: type[Settings], values: Mapping[str, Any], where: str) -> None:
    for key in values:
        if key not in cls.model_fields:
            raise ConfigError(_at(f"unknown key {key!r}", where), nearest(key, cls.model_fields))


def _at(message: str, where: str) -> str:
    return f"{message} in {where}" if where else message


def _readable(cls: type[Settings], error: ErrorDetails, where: str) -> ConfigError:
    """One line that names key, value and what is allowed."""
    key, field, given = *_place(cls, error["loc"]), error["input"]
    if error["type"] == "extra_forbidden":  # in a table within the config; its own keys are checked before
        known, name = [n for inner in _inner(field.annotation) for n in inner.model_fields], str(error["loc"][-1])
        return ConfigError(_at(f"unknown key {name!r} in {key}", where), nearest(name, known))
    value = repr(given) if len(repr(given)) <= 80 else repr(given)[:77] + "..."
    words = _words(field.annotation)
    misspelt = isinstance(given, str) and words and given not in (*words, "")
    hint = nearest(given, words) if misspelt else f"{key}: {field.description}"
    pattern = any(getattr(m, "pattern", None) for m in field.metadata)  # a pattern's own description reads better
    allowed = field.description if pattern else _allowed(field.annotation, field.metadata)
    return ConfigError(_at(f"{key} = {value} is not allowed", where) + f": {allowed}", hint)


def _place(cls: type[Settings], loc: tuple[int | str, ...]) -> tuple[str, FieldInfo]:
    """A place in a config as one would write it (`stages[0].threshold`), and the field that it is in."""
    key = str(loc[0])
    field = cls.model_fields[key]
    inner = _inner(field.annotation)
    if not inner or len(loc) < 2:
        return key, field
    if len(loc) < 3 or loc[2] not in inner[0].model_fields:
        return f"{key}[{loc[1]}]", field
    name, found = _place(inner[0], loc[2:])
    return f"{key}[{loc[1]}].{name}", found


def _inner(annotation: Any) -> list[type[Settings]]:
    """The tables that a list of tables holds."""
    return [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, Settings)]


_PLAIN: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


def _allowed(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What a field accepts, read off its type: `a whole number, at least 1`, or `none, fixed or adaptive`."""
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return _allowed(arguments[0], arguments[1].metadata)
        case origin if origin is Literal:
            return " or ".join(filter(None, (", ".join(arguments[:-1]), arguments[-1])))
        case origin if origin is tuple:
            return f"a list of {_allowed(arguments[0])}"
        case origin if origin is dict:
            return f"a table with {_allowed(arguments[1])} for each name"
        case origin if origin in (Union, UnionType):
            return ", or ".join(_allowed(a) for a in arguments)
    bounds = [f"{say} {getattr(m, k):.12g}" for m in metadata for k, say in _BOUNDS if getattr(m, k, None) is not None]
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return f"a table with {', '.join(annotation.model_fields)}"
    return f"{_PLAIN[annotation]}{', ' if bounds else ''}{' and '.join(bounds)}"


def _words(annotation: Any) -> list[str]:
    """The words a field accepts, wherever in its type they stand."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for argument in get_args(annotation) for word in _words(argument)]
