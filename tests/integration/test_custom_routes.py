"""Routes of the project's own: an ASGI or a WSGI application beside the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runyard.engine.errors import ConfigError
from tests.support.web import Web

Serve = Callable[..., Web]

ASGI = """
import json

class App:
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["pool"] = "open"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return await send({"type": "lifespan.shutdown.complete"})
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part["body"], part["more_body"]
        user = scope.get("user")
        told = {"path": scope["path"], "root": scope["root_path"], "method": scope["method"], "body": body.decode(),
                "pool": scope["state"]["pool"], "user": user and user.identity}
        await send({"type": "http.response.start", "status": 207, "headers": [(b"x-mine", b"yes")]})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

app = App()

async def lifeless(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"alive"})

async def failing(scope, receive, send):
    await send({"type": "lifespan.startup.failed", "message": "no database"})

def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]

text = "no application"
"""

AUTH = """
from langgraph_sdk import Auth
auth = Auth()

@auth.authenticate
async def who(authorization):
    assert authorization, "no token"
    return {"identity": authorization, "tier": "gold"}
"""


@pytest.fixture
def serve(redis_url: str, tmp_path: Path) -> Iterator[Serve]:
    made: list[Web] = []

    def start(app: str, auth: bool = False, **http: Any) -> Web:
        folder = tmp_path / f"project{len(made)}"
        folder.mkdir()
        (folder / "routes.py").write_text(ASGI)
        (folder / "auth.py").write_text(AUTH)
        project: dict[str, Any] = {"http": {"app": app, **http}}
        if auth:
            project["auth"] = {"path": "./auth.py:auth"}
        made.append(Web(redis_url, folder, project))
        return made[-1]

    yield start
    for web in made:
        web.app.extensions["runyard"].service.store.close()


def test_what_the_api_has_nothing_for_is_the_applications(serve: Serve) -> None:
    web = serve("./routes.py:app")
    answer = web.call("POST", "/hello/you", data="some text")
    assert (answer.status_code, answer.headers["X-Mine"]) == (207, "yes")
    assert answer.get_json(force=True) == {
        "path": "/hello/you", "root": "", "body": "some text", "pool": "open", "method": "POST", "user": None
    }  # fmt: skip
    assert answer.headers["X-Request-Id"]
    assert web.call("GET", "/ok").json == {"ok": True}
    assert web.run(web.thread()).status_code == 200


def test_a_prefix_is_the_applications_too(serve: Serve) -> None:
    web = serve("./routes.py:app", mount_prefix="/agents")
    told = web.call("GET", "/agents/hello").get_json(force=True)
    assert (told["path"], told["root"]) == ("/agents/hello", "/agents")


def test_an_application_may_know_no_lifespan_or_be_wsgi(serve: Serve) -> None:
    assert serve("./routes.py:lifeless").call("GET", "/hello").text == "alive"
    assert serve("./routes.py:wsgi").call("GET", "/hello").text == "/hello"


def test_routes_of_the_project_are_open_unless_it_says_otherwise_and_know_who_asks(serve: Serve) -> None:
    open_ = serve("./routes.py:app", auth=True)
    assert open_.call("GET", "/hello").get_json(force=True)["user"] is None
    assert open_.call("POST", "/threads", {}).status_code == 401
    closed = serve("./routes.py:app", auth=True, enable_custom_route_auth=True)
    assert closed.call("GET", "/hello").status_code == 401
    told = closed.call("GET", "/hello", headers={"Authorization": "ada"}).get_json(force=True)
    assert told["user"] == "ada"


def test_a_body_that_is_too_large_or_has_no_length_is_refused(serve: Serve) -> None:
    web = serve("./routes.py:app")
    web.app.config["MAX_CONTENT_LENGTH"] = 10
    assert web.call("POST", "/hello", data="x" * 11).status_code == 413
    unknown = {"HTTP_TRANSFER_ENCODING": "chunked"}
    assert web.call("POST", "/hello", environ_overrides=unknown).status_code == 411


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("routes.py", "must be"),
        ("./nowhere.py:app", "cannot be loaded"),
        ("./routes.py:nothing", "there is no 'nothing'"),
        ("./routes.py:text", "cannot be called"),
        ("./routes.py:failing", "no database"),
    ],
)
def test_an_application_that_cannot_be_served_is_refused_at_start(serve: Serve, app: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        serve(app)


def test_whether_routes_are_open_is_said_by_true_or_false(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="enable_custom_route_auth"):
        serve("./routes.py:app", enable_custom_route_auth="yes")
