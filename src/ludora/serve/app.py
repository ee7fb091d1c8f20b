"""What both servers of the benchmark share: how an application is made, how it refuses, `ping` and the attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Lifespan

from ludora import __version__
from ludora.serve.bodies import Attribute, AttributeName, NewAttribute, Pong, Problem

PREFIX = "/api"
REFUSALS = {400: "unreadable", 401: "no token", 403: "not from there", 404: "not found", 408: "too slow"} | {
    409: "not in this state",
    413: "too long",
    422: "wrong",
    429: "too many",
}
Value = str | int | float
_TYPES: dict[str, type[Value]] = {"int": int, "float": float, "str": str}


def new_app(title: str, description: str, router: APIRouter, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """An application with these routes under `PREFIX`, whose refusals are all one line of `detail`."""
    app = FastAPI(title=title, description=description, version=__version__, lifespan=lifespan)
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": text} for status, text in REFUSALS.items()
    }
    app.include_router(router, prefix=PREFIX, responses=refusals)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    return app


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a body, in one line; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part)[:80] for part in first["loc"])
    more = f" (and {len(error.errors()) - 1} more)" if len(error.errors()) > 1 else ""
    return JSONResponse({"detail": _line(f"{where}: {first['msg']}{more}")}, 422)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": _line(str(error.detail))}, error.status_code, headers=dict(error.headers or {}))


def _line(text: str) -> str:
    return " ".join(text.encode(errors="replace").decode().split())[:600]


def add_general(
    router: APIRouter, get: Callable[[str], Value | Mapping[str, Any] | None], put: Callable[[str, Value], None]
) -> None:
    """`ping`, `get_attribute` and `set_attribute`.

    Args:
        get: the value of an attribute; a mapping is how the client makes the object anew; None: there is none.
        put: sets one, or raises HTTPException.
    """

    @router.post("/ping")
    def ping() -> Pong:
        """Whether the server is there. The body is ignored."""
        return Pong()

    @router.post("/get_attribute")
    def get_attribute(data: AttributeName) -> Attribute:
        """A setting of the server; both fields are null where there is none of that name."""
        value = get(data.name)
        if value is None:
            return Attribute()
        if isinstance(value, Mapping):
            return Attribute(instance_factory_type="general", instance_factory_parameter_dict=dict(value))
        told = {"type": type(value).__name__, "value": str(value)}
        return Attribute(instance_factory_type="simple_immutable_type", instance_factory_parameter_dict=told)

    @router.post("/set_attribute")
    def set_attribute(data: NewAttribute) -> None:
        """Change a setting. Only plain values: nothing that a client names is imported or called here."""
        given = data.instance_factory_parameter_dict
        kind = _TYPES.get(str(given.get("type")))
        if data.instance_factory_type != "simple_immutable_type" or kind is None or given.keys() != {"type", "value"}:
            raise HTTPException(422, "an attribute is a plain int, float or str: {'type': 'int', 'value': '5'}")
        try:
            value = kind(str(given["value"])[:100])
        except ValueError:
            raise HTTPException(422, f"the value is no {kind.__name__}") from None
        put(data.name, value)
