"""The HTTP API as an OpenAPI 3.1 document, made from the models in ``realtime.server.models``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from engines import install_hint
from engines.errors import one_of
from realtime.core.problem import CONTENT_TYPE as PROBLEM
from realtime.portraits.consent import RIGHTS
from realtime.portraits.settings import FITS
from realtime.server.models import (
    CONTROL_REQUEST,
    AddedBackground,
    AddedLink,
    AddedPortrait,
    ControlFailure,
    ControlReply,
    ErrorMessage,
    Health,
    LinkList,
    LocalNetwork,
    NewLink,
    NoticeMessage,
    OpenLocalNetwork,
    PortraitList,
    Problem,
    ProgramState,
    State,
    StateMessage,
)

JSON, SDP = "application/json", "application/sdp"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path."""

    method: Literal["GET", "POST", "DELETE"]
    path: str
    does: str
    answer: str
    """The content of the answer: the names of models of JSON, or a media type."""
    status: int = 200
    body: str = ""
    """The content of the request, likewise."""
    session: bool = False
    """Whether ``?session=SESSION`` names a session in place of the main run."""
    name: bool = False
    """Whether ``?name=NAME`` names what is sent, ``?consent=RIGHT`` what right the user has to it,
    and ``?fit=FIT`` how it is fitted."""


ENDPOINTS = (
    Endpoint("GET", "/api/state", "The state of the program, or of a session", "ProgramState | State", session=True),
    Endpoint("POST", "/api/control", "Carry out a command", "ControlReply", body="ControlRequest", session=True),
    Endpoint("GET", "/api/control", "The JSON Schema of the commands", JSON),
    Endpoint("GET", "/api/portraits", "The portraits that can be chosen", "PortraitList", session=True),
    Endpoint("GET", "/api/portraits/{index}.jpg", "A small picture of a portrait", "image/jpeg", session=True),
    Endpoint(
        "POST",
        "/api/portraits",
        "Add a picture as a portrait and select it",
        "AddedPortrait",
        201,
        body="image/*",
        session=True,
        name=True,
    ),
    Endpoint(
        "POST",
        "/api/background",
        "Add an image as the background and choose it",
        "AddedBackground",
        201,
        body="image/*",
        session=True,
    ),
    Endpoint("GET", "/api/links", "The links for guests", "LinkList", session=True),
    Endpoint("POST", "/api/links", "Make a link for guests", "AddedLink", 201, body="NewLink", session=True),
    Endpoint("DELETE", "/api/links/{id}", "Revoke a link, and disconnect who came through it", "", 204, session=True),
    Endpoint(
        "POST",
        "/api/local-network",
        "Let guests in from the local network, or not any more",
        "LocalNetwork",
        body="OpenLocalNetwork",
    ),
    Endpoint("GET", "/guest/{token}", "The page of a guest's link; no token of the server is needed", "text/html"),
    Endpoint("POST", "/guest/{token}/whep", "Watch through a guest's link (WHEP)", SDP, 201, body=SDP),
    Endpoint("DELETE", "/guest/{token}/peer/{viewer}", "Stop watching", ""),
    Endpoint("GET", "/healthz", "Whether the program works", "Health"),
    Endpoint("GET", "/readyz", "Whether there is something to watch", "Health"),
    Endpoint("GET", "/metrics", "Figures for Prometheus", "text/plain"),
    Endpoint("POST", "/whip", "Drive a portrait: publish video (WHIP, RFC 9725)", SDP, 201, body=SDP),
    Endpoint("DELETE", "/whip/{session}", "End a session", ""),
    Endpoint("POST", "/whep", "Watch the main run (WHEP)", SDP, 201, body=SDP),
    Endpoint("POST", "/whep/{watch}", "Watch a session (WHEP)", SDP, 201, body=SDP),
    Endpoint("DELETE", "/whep/peer/{viewer}", "Stop watching", ""),
)
_DOCUMENTS: dict[str, tuple[JsonSchemaMode, Any]] = {
    "ControlRequest": ("validation", CONTROL_REQUEST),
    "NewLink": ("validation", TypeAdapter(NewLink)),
    "OpenLocalNetwork": ("validation", TypeAdapter(OpenLocalNetwork)),
    **{
        model.__name__: ("serialization", TypeAdapter(model))
        for model in (
            ControlReply,
            ControlFailure,
            ProgramState,
            State,
            PortraitList,
            AddedBackground,
            AddedPortrait,
            LinkList,
            AddedLink,
            LocalNetwork,
            Health,
            Problem,
            StateMessage,
            NoticeMessage,
            ErrorMessage,
        )
    },
}


def schemas() -> dict[str, Any]:
    """Return the JSON Schema of every model by its name."""
    inputs = [(name, mode, adapter) for name, (mode, adapter) in _DOCUMENTS.items()]
    found, definitions = TypeAdapter.json_schemas(inputs, ref_template="#/components/schemas/{model}")
    all_schemas: dict[str, Any] = dict(definitions["$defs"])
    for (name, _), schema in found.items():
        if schema != {"$ref": f"#/components/schemas/{name}"}:
            all_schemas[str(name)] = schema
    return {name: _without_titles(schema) for name, schema in sorted(all_schemas.items())}


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "reenact",
            "version": install_hint.version(),
            "description": "Control of a running reenact. Generated by: python -m tools.api_docs",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "http://127.0.0.1:8080"}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "if the program has a --token"}
            },
        },
    }


def members(model: type[BaseModel]) -> list[tuple[str, str, str]]:
    """Return the name, the type and the description of each member of a model."""
    known = schemas()
    properties: dict[str, Any] = known[model.__name__]["properties"]
    return [(name, _type(schema, known), schema.get("description", "")) for name, schema in properties.items()]


def _type(schema: dict[str, Any], known: dict[str, Any]) -> str:
    """Return the type of a member in words."""
    if "anyOf" in schema:
        return " or ".join(_type(each, known) for each in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        nested = known[schema["$ref"].rpartition("/")[2]]["properties"]
        return f"object of {', '.join(nested)}" if len(nested) < 5 else "object"
    if schema["type"] == "array":
        return f"list of {_type(schema['items'], known)}"
    if "additionalProperties" in schema:
        return f"object of name: {_type(schema['additionalProperties'], known)}"
    return str(schema["type"])


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": endpoint.does}
    parameters = [
        {"name": part.strip("{}"), "in": "path", "required": True, "schema": {"type": "string"}}
        for part in endpoint.path.removesuffix(".jpg").split("/")
        if part.startswith("{")
    ]
    for given, name, text in (
        (endpoint.session, "session", "the secret of a session; without it the main run"),
        (endpoint.name, "name", "the name of the portrait"),
        (endpoint.name, "consent", f"{one_of(RIGHTS)}: what right the user has to it, unless the program knows"),
        (endpoint.name, "fit", f"{one_of(FITS)}: what to do where its shape is another than the output's"),
    ):
        if given:
            parameters.append({"name": name, "in": "query", "description": text, "schema": {"type": "string"}})
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body:
        operation["requestBody"] = {"required": True, "content": _content(endpoint.body)}
    answer: dict[str, Any] = {"description": "done"}
    if endpoint.answer:
        answer["content"] = _content(endpoint.answer)
    problem = {"description": "an error", "content": {PROBLEM: {"schema": _reference("Problem")}}}
    operation["responses"] = {str(endpoint.status): answer, "default": problem}
    return operation


def _content(content: str) -> dict[str, Any]:
    if "/" in content:
        return {content: {}}
    names = content.split(" | ")
    schema = _reference(names[0]) if len(names) == 1 else {"oneOf": [_reference(name) for name in names]}
    return {JSON: {"schema": schema}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _without_titles(schema: Any) -> Any:
    """Remove the titles that pydantic makes out of the members' names."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    return {key: _without_titles(value) for key, value in kept.items()}
