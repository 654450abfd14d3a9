"""A group of HTTP resources whose requests are read by our parser and whose errors are documented once."""

from __future__ import annotations

from typing import Any

from flask_smorest import Blueprint

from runyard.app.body import Parser


# An instance of a schema, not its class: webargs would make a new one for every request (0.3 ms for RunCreate).
class Resource(Blueprint):  # type: ignore[misc]  # flask-smorest has no types
    ARGUMENTS_PARSER = Parser()

    def body(self, schema: Any, *, required: bool = True) -> Any:
        """The view takes a JSON body of this schema as its first argument; ``required=False``: perhaps none."""
        return self.arguments(schema(), location="json", required=required)

    def query(self, schema: Any) -> Any:
        """The view takes query parameters of this schema as its first argument."""
        return self.arguments(schema(), location="query")
