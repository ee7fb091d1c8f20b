"""What LifelongAgentBench's client and servers say to each other: the JSON bodies of every route.

The whole session travels with the client. What the client cannot carry - the machine - is kept here, under a number
that `SESSION_KEY` in the session's `evaluation_record.detail_dict` names: the one place that is free for numbers and
that the benchmark's client hands back as it got it.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from ludora.envs.shell.env import Status

SESSION_KEY = "ludora_session"
TASK_NAME = "os_interaction"


def _writable(value: Any) -> Any:
    """The value, if it can be sent on: JSON can spell half a character (a lone surrogate), which has no UTF-8."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise PydanticCustomError("half", "a text holds half a character (a lone surrogate)") from None
    except RecursionError:
        raise PydanticCustomError("deep", "it is nested too deeply") from None
    return value


Text = Annotated[str, AfterValidator(_writable)]
Name = Annotated[Text, Field(max_length=1000)]
Index = Annotated[int, Field(ge=-(2**63), lt=2**63)] | Name
Anything = Annotated[Any, AfterValidator(_writable)]


class Body(BaseModel):
    """The ground of all bodies: unknown keys and infinite numbers are refused. Their texts are `Text` or `Name`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Role(StrEnum):
    """Who says an item of a chat history."""

    USER = "user"
    AGENT = "agent"


class Judged(StrEnum):
    """How a session was judged."""

    UNSET = "unset"
    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNKNOWN = "unknown"
    IGNORED = "ignored"


class Item(Body):
    """One message of a chat history."""

    role: Role
    content: Text


class History(Body):
    """A conversation; roles alternate."""

    value: list[Item] = []


class Record(Body):
    """How a session was judged, and numbers about that; while it is open, `SESSION_KEY` is among them."""

    outcome: Judged = Judged.UNSET
    detail_dict: dict[Name, int | float | bool | None] | None = None


class Session(Body):
    """One episode, as the client carries it."""

    task_name: Literal["db_bench", "os_interaction", "knowledge_graph"]
    sample_index: Index
    sample_status: Status = Status.INITIAL
    chat_history: History = History()
    finish_reason: Text | None = None
    task_output: dict[Name, Text | None] | None = None
    evaluation_record: Record = Record()


class WithSession(Body):
    """Body and answer of `reset`, `interact` and `complete`."""

    session: Session


class MaybeSession(Body):
    """Body of `release`: which session to give up. The benchmark's client names none."""

    session: Session | None = None


class Partial(Body):
    """What of a session counts for a metric."""

    sample_index: Index
    sample_status: Status
    evaluation_record: Record


class Partials(Body):
    """Body of `calculate_metric`."""

    session_partial_list: list[Partial]


class Metric(Body):
    """Answer of `calculate_metric`: part, table, row."""

    metric: dict[str, dict[str, dict[str, float]]]


class Indices(Body):
    """Answer of `get_sample_index_list`."""

    sample_index_list: list[int | str]


class Pong(Body):
    """Answer of `ping`."""

    response: str = "Hello, World!"


class AttributeName(Body):
    """Body of `get_attribute`."""

    name: Name


FactoryType = Literal["simple_immutable_type", "enum", "general"]


class Attribute(Body):
    """Answer of `get_attribute`: how the client makes the value anew; both are null where there is none."""

    instance_factory_type: FactoryType | None = None
    instance_factory_parameter_dict: dict[str, Any] | None = None


class NewAttribute(Body):
    """Body of `set_attribute`."""

    name: Name
    instance_factory_type: FactoryType
    instance_factory_parameter_dict: dict[Name, Anything]


class ItemPlace(Body):
    """Body of `construct`: which fixed item of the prompt, and who should say it."""

    chat_history_item_index: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    expected_role: Role | None = None


class OneItem(Body):
    """Answer of `construct`."""

    chat_history_item: Item


class ItemDict(Body):
    """All fixed items by their index."""

    value: dict[str, Item]


class Items(Body):
    """Answer of `get_chat_history_item_dict_deep_copy`."""

    chat_history_item_dict: ItemDict


class NewItem(Body):
    """Body of `set`: a fixed item and what it says from now on."""

    prompt_index: Annotated[int, Field(ge=-(2**31), lt=2**31)]
    role: Role
    content: Text


class Problem(Body):
    """What every refusal says: one line."""

    detail: str
