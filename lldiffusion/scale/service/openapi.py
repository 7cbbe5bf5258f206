"""The description of the routes, OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from lldiffusion.images import FORMATS
from lldiffusion.versions import __version__

from .options import ServiceOptions
from .query import CONTAINERS, EXPOSURE, LARGEST_SEED

Schema = dict[str, Any]
BYTES = {"type": "string", "format": "binary"}
LINE = {"description": "One line: what was given, what is accepted, what to do."}


def describe(models: list[str], options: ServiceOptions) -> Schema:
    """The document, with the models and limits of this service."""
    paths: Schema = {
        "/v1/enhance": {"post": _enhance(models, options)},
        "/v1/models": {"get": _get("The models that are served.")},
        "/metrics": {"get": _get("Numbers for Prometheus.", "text/plain")},
        "/healthz": {"get": _get("The process answers.")},
        "/readyz": {"get": _get("The models are open.")},
        "/openapi.json": {"get": _get("This description.")},
        "/": {"get": _get("A page for people.", "text/html")},
    }
    if options.videos:
        paths |= _videos(models, options)
    components: Schema = {
        "schemas": {"Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}}
    }
    document: Schema = {"openapi": "3.1.0", "info": _info(), "paths": paths, "components": components}
    if options.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _info() -> Schema:
    return {
        "title": "lldiff serve",
        "version": __version__,
        "description": "Dark pictures and clips in, bright ones out.",
    }


def _enhance(models: list[str], options: ServiceOptions) -> Schema:
    formats = sorted(set(FORMATS.values()))
    wishes = _wishes(models, options)
    wishes += [_parameter("format", {"enum": formats}, "Of the result [that of the picture].")]
    wishes += [_parameter("quality", {"type": "integer", "minimum": 1, "maximum": 100}, "Of lossy formats.")]
    limits = f"At most {options.max_megabytes:g} MB and {options.max_megapixels:g} million pixels."
    return {
        "summary": f"Enhance a picture. {limits}",
        "parameters": wishes,
        "requestBody": _body("A picture's file as it is: PNG, JPEG, WebP, TIFF, BMP, AVIF, ..."),
        "responses": {
            "200": {
                "description": "The picture; its metadata is kept as `lldiff enhance` keeps it.",
                "headers": {
                    "Server-Timing": {"description": "Milliseconds by stage.", "schema": {"type": "string"}},
                    "X-Lldiff-Notes": {"description": "What was left out.", "schema": {"type": "string"}},
                },
                "content": {f"image/{name}": {"schema": BYTES} for name in formats},
            },
            **_errors(400, 401, 408, 413, 422, 429, 503),
        },
    }


def _videos(models: list[str], options: ServiceOptions) -> Schema:
    wishes = [*_wishes(models, options), _parameter("container", {"enum": list(CONTAINERS)}, "Of the result [mp4].")]
    identity = _parameter("id", {"type": "string"}, "Of the job.") | {"in": "path", "required": True}
    job = {"description": "The job.", "content": {"application/json": {"schema": {"type": "object"}}}}
    video = {"description": "The clip.", "content": {"video/*": {"schema": BYTES}}}
    post = {
        "summary": f"Enhance a clip, as a job. At most {options.video_megabytes:g} MB.",
        "parameters": wishes,
        "requestBody": _body("A clip's file as it is: MP4, MOV, Matroska, WebM, AVI, TS."),
        "responses": {"202": job, **_errors(400, 401, 408, 413, 422, 429)},
    }
    return {
        "/v1/video": {"post": post},
        "/v1/video/{id}": {
            "parameters": [identity],
            "get": {"summary": "How far a job is.", "responses": {"200": job, **_errors(401, 404)}},
            "delete": {
                "summary": "Stop and forget a job.",
                "responses": {"204": {"description": "It is gone."}, **_errors(401, 404)},
            },
        },
        "/v1/video/{id}/result": {
            "parameters": [identity],
            "get": {"summary": "The enhanced clip.", "responses": {"200": video, **_errors(401, 404, 409, 422)}},
        },
    }


def _wishes(models: list[str], options: ServiceOptions) -> list[Schema]:
    exposure = {"type": "number", "minimum": -EXPOSURE, "maximum": EXPOSURE, "default": 0}
    steps = {"type": "integer", "minimum": 1, "maximum": options.max_steps}
    seed = {"type": "integer", "minimum": 0, "maximum": LARGEST_SEED, "default": 0}
    return [
        _parameter("model", {"enum": models, "default": models[0]}, "Which model."),
        _parameter("exposure", exposure, "Brighter (+) or darker (-) than the model would choose, in stops."),
        _parameter("steps", steps, "Denoiser evaluations [the model's own]."),
        _parameter("seed", seed, "Of the noise: same seed, same result."),
    ]


def _parameter(name: str, schema: Schema, about: str) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": about}


def _body(about: str) -> Schema:
    return {"required": True, "description": about, "content": {"application/octet-stream": {"schema": BYTES}}}


def _get(about: str, kind: str = "application/json") -> Schema:
    return {"summary": about, "responses": {"200": {"description": about, "content": {kind: {}}}}}


def _errors(*statuses: int) -> Schema:
    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {**LINE, "content": schema} for status in statuses}
