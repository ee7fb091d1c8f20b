"""The ground of all configs: how a field is declared, and what every config refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ludora.errors import ConfigError, InputError
from ludora.grammar import parse

Zero = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Threads = Annotated[int, Field(ge=1, le=1024)]
Rank = Annotated[int, Field(ge=1, le=4096)]
MOST_GAMES = 10_000_000  # they are held in memory
Games = Annotated[int, Field(ge=1, le=MOST_GAMES)]
DTYPE_NAMES = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}  # as torch has them -> as `dtype` has them


def about(text: str, default: Any) -> Any:
    """A field with a default and the one line that `ludora config show` prints beside it."""
    return Field(default=default, description=text)


class Settings(BaseModel):
    """The ground of all configs: frozen, unknown keys refused, no NaN, numbers taken for text (`task = 200000042`)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        protected_namespaces=(),
        validate_default=True,
    )
    KIND: ClassVar[str] = ""

    # Rows of (key, other, what the other must be): the key only means something beside that other one, so a value
    # that differs from the key's default is refused without it. `True` stands for "anything but zero".
    NEEDS: ClassVar[tuple[tuple[str, str, tuple[str, ...] | Literal[True]], ...]] = ()
    # Recipe -> the keys that it gives; see `TrainSettings`.
    RECIPES: ClassVar[Mapping[str, frozenset[str]]] = {}
    # What a starting adapter brings along: with `adapter` set, these are its own, and not among the resolved values
    # unless they were given; given ones must be what the adapter has.
    BROUGHT: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def idle(cls, found: Callable[[str], Any]) -> set[str]:
        """The keys that mean nothing beside the others, `found` telling the value of a key."""
        return {key for key, other, wanted in cls.NEEDS if not meets(found(other), wanted)}

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, values: Any) -> Any:
        """Refuse `rank = true`, which would otherwise quietly be 1, also in lists and tables."""
        for key, value in values.items() if isinstance(values, Mapping) else ():
            field = cls.model_fields.get(key)
            if field and field.annotation is not bool and (truth := _truth(value)) is not None:
                raise ConfigError(f"{key} = {shown(truth)} is not allowed", f"{key}: {field.description}")
        return values

    @model_validator(mode="after")
    def _keys_need_others(self) -> Settings:
        for key, other, wanted in self.NEEDS:
            value, found = getattr(self, key), getattr(self, other)
            if value != type(self).model_fields[key].default and not meets(found, wanted):
                need = ("" if found == () else "above 0") if wanted is True else "= " + " or ".join(wanted)
                raise ConfigError(
                    f"{key} = {shown(value)} has no effect with {other} = {shown(found)}",
                    f"set {f'{other} {need}'.strip()}, or leave {key} out",
                )
        return self

    def to_json(self) -> dict[str, Any]:
        """Every value, resolved; `load_config` reads it back."""
        brought = self.BROUGHT - self.model_fields_set if getattr(self, "adapter", "") else ()
        values = self.model_dump(mode="json", exclude=set(brought))
        return {"kind": self.KIND, **values} if self.KIND else values


def _truth(value: Any) -> bool | None:
    """The value itself if it is true or false, or the first such one in a list or table; None where there is none."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
    return next((found for found in inner if isinstance(found, bool)), None)


def readable(key: str, text: str) -> None:
    """Check that a TASK or PLAYER string follows the grammar.

    Raises:
        ConfigError: it does not.
    """
    try:
        parse(text)
    except InputError as error:
        raise ConfigError(f"{key} = {text!r}: {error.message}", error.hint) from None


def listed(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """One text or several, as several."""
    return (given,) if isinstance(given, str) else given


def weighted(given: str | dict[str, float]) -> dict[str, float]:
    """One name or a table name -> weight, as a table; empty text is none."""
    return ({given: 1.0} if given else {}) if isinstance(given, str) else dict(given)


def meets(found: Any, wanted: tuple[str, ...] | Literal[True]) -> bool:
    """Whether the other key of a row of `NEEDS` is what it must be."""
    return bool(found) if wanted is True else found in wanted


def shown(value: Any) -> str:
    """A value as a config file would write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
