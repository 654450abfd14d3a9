"""What Prometheus scrapes of the web: its own counts, and the fleet's."""

from __future__ import annotations

from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.wiring import wired

blueprint = Resource("metrics", __name__, description="What Prometheus scrapes.")


@blueprint.route("/metrics")
@blueprint.response(200, {"type": "string"}, content_type="text/plain")
@needs("metrics:read")
def metrics() -> Response:
    """Counts of this web server, and of the fleet as the store knows it; workers have a port of their own."""
    return Response(b"".join(map(generate_latest, wired().registries())), 200, content_type=CONTENT_TYPE_LATEST)
