"""The API described: OpenAPI at /openapi.json, and a page at /docs that needs neither a network nor a script."""

from __future__ import annotations

from html import escape
from typing import Any

import orjson
from flask import Flask, Response
from flask_smorest import Api
from marshmallow import Schema, fields

from runyard.app.auth.scopes import OPEN, needs

Json = dict[str, Any]


#: How a client may say who it is; which of them count is the installation's to say.
_WAYS = {
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}


class Error(Schema):
    """What every error answers."""

    detail = fields.String(required=True, metadata={"description": "What is wrong, in a sentence."})


class DocumentedApi(Api):  # type: ignore[misc]  # flask-smorest has no types
    """flask-smorest, with our words for errors."""

    ERROR_SCHEMA = Error

    def _register_error_handlers(self) -> None:
        """None: ours are registered by the factory."""


def register(app: Flask, api: Api) -> None:
    """Serve the document and the page. Both are made once, when they are first asked for."""
    made: dict[str, bytes] = {}
    for name, scheme in _WAYS.items():
        api.spec.components.security_scheme(name, scheme)
    api.spec.options["security"] = [{}, *({name: []} for name in _WAYS)]

    def document() -> bytes:
        return made.setdefault(
            "json", made.get("json") or orjson.dumps(api.spec.to_dict(), option=orjson.OPT_NON_STR_KEYS)
        )

    def page() -> bytes:
        return made.setdefault("html", made.get("html") or render(orjson.loads(document())).encode())

    @needs(OPEN)
    def openapi() -> Response:
        return Response(document(), mimetype="application/json")

    @needs(OPEN)
    def docs() -> Response:
        policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
        return Response(page(), mimetype="text/html", headers={"Content-Security-Policy": policy})

    app.add_url_rule("/openapi.json", "openapi", openapi)
    app.add_url_rule("/docs", "docs", docs)


def render(spec: Json) -> str:
    """The document as a page."""
    groups: dict[str, list[str]] = {}
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            if method in ("get", "post", "patch", "put", "delete"):
                shown = _operation(spec, path, method, operation, item.get("parameters", []))
                groups.setdefault(operation.get("tags", [""])[0], []).append(shown)
    about = {tag["name"]: tag.get("description", "") for tag in spec.get("tags", [])}
    sections = "".join(
        f"<h2>{escape(name)}</h2><p>{escape(about.get(name, ''))}</p>{''.join(items)}" for name, items in groups.items()
    )
    title = f"{spec['info']['title']} {spec['info']['version']}"
    return _PAGE.format(title=escape(title), sections=sections)


def _operation(spec: Json, path: str, method: str, operation: Json, shared: list[Json]) -> str:
    body = "".join(_content(spec, "Body", operation.get("requestBody", {})))
    parameters = "".join(_parameter(item) for item in [*shared, *operation.get("parameters", [])])
    answers = "".join(_answer(spec, status, item) for status, item in operation.get("responses", {}).items())
    asked = f"<h3>Parameters</h3><ul>{parameters}</ul>" if parameters else ""
    return (
        f'<details><summary><b class="{method}">{method.upper()}</b> <code>{escape(path)}</code> '
        f"<span>{escape(operation.get('summary', ''))}</span></summary>"
        f"<p>{escape(operation.get('description', ''))}</p>"
        f"{asked}{body}<h3>Answers</h3>{answers}</details>"
    )


def _parameter(item: Json) -> str:
    schema = item.get("schema", {})
    about = item.get("description") or schema.get("description") or ""
    return (
        f"<li><code>{escape(item['name'])}</code> ({escape(item['in'])}) {escape(_kind(schema))} {escape(about)}</li>"
    )


def _answer(spec: Json, status: str, item: Json) -> str:
    known = _resolved(spec, item)
    content = "".join(_content(spec, "", known)) if status[0] == "2" else ""
    return f"<p><b>{escape(status)}</b> {escape(known.get('description', ''))}</p>{content}"


def _content(spec: Json, title: str, item: Json) -> list[str]:
    heading = f"<h3>{title}</h3>" if title else ""
    return [
        f"{heading}<p><code>{escape(kind)}</code></p>{_schema(spec, content.get('schema', {}))}"
        for kind, content in item.get("content", {}).items()
    ]


def _schema(spec: Json, schema: Json) -> str:
    inner = _resolved(spec, schema.get("items", schema))
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{' *' if name in inner.get('required', ()) else ''}</td>"
        f"<td>{escape(_kind(field))}</td><td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in inner.get("properties", {}).items()
    )
    listed = "<p>A list of:</p>" if "items" in schema else ""
    return f"{listed}<table>{rows}</table>" if rows else f"<p>{escape(_kind(schema))}</p>"


def _resolved(spec: Json, item: Json) -> Json:
    """What a reference stands for."""
    while "$ref" in item:
        *_, kind, name = item["$ref"].split("/")
        item = spec["components"][kind][name]
    return item


def _kind(schema: Json) -> str:
    """A schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " | ".join("null" if word is None else str(word) for word in schema["enum"])
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(_kind(choice) for choice in choices)
    kind = schema.get("type", "any JSON")
    named = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{named} of {_kind(schema['items'])}" if "items" in schema else named


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d232b }}
code {{ font: 0.9em ui-monospace, monospace }} summary {{ cursor: pointer; padding: .3rem 0 }}
summary span {{ color: #5b6673 }}
details {{ border-bottom: 1px solid #e3e7eb }} details[open] {{ padding-bottom: 1rem }}
h3 {{ font-size: 1rem; margin: 1rem 0 .3rem }} table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #e3e7eb; padding: .25rem .5rem; vertical-align: top }}
b.get {{ color: #1667a8 }} b.post {{ color: #1f7a3d }} b.patch {{ color: #8a5a00 }} b.delete {{ color: #b3261e }}
@media (prefers-color-scheme: dark) {{
body {{ background: #14181d; color: #dde3ea }} td, details {{ border-color: #333b45 }} }}
</style></head><body><h1>{title}</h1>
<p>LangGraph's server API, carried out durably. For programs: <a href="/openapi.json"><code>/openapi.json</code></a>.
Every error is <code>{{"detail": "a sentence"}}</code>.</p>
{sections}
</body></html>
"""
