"""Circuits of the fleet: seen, and kept open or closed by an operator."""

from __future__ import annotations

from typing import Any

from flask import Response

from runyard.app import answers
from runyard.app.auth import identity
from runyard.app.auth.scopes import needs
from runyard.app.resources import Resource
from runyard.app.schemas.circuits import Circuit, CircuitForce, CircuitWithHistory
from runyard.app.shapes import of_circuit
from runyard.app.wiring import service
from runyard.engine.circuit_desk import CircuitDesk

blueprint = Resource("circuits", __name__, url_prefix="/circuits", description="Circuit breakers, shared by the fleet.")

Json = dict[str, Any]


@blueprint.route("")
@blueprint.response(200, Circuit(many=True))
@needs("circuits:read")
def list_() -> Response:
    """Every circuit that a node has been called through."""
    return answers.json([of_circuit(found) for found in desk().all()])


@blueprint.route("/<name>")
@blueprint.response(200, CircuitWithHistory)
@needs("circuits:read")
def get(name: str) -> Response:
    """One circuit, with how it changed lately."""
    return answers.json(of_circuit(desk().get(name)))


@blueprint.route("/<name>", methods=["POST"])
@blueprint.body(CircuitForce)
@blueprint.response(200, CircuitWithHistory)
@needs("circuits:admin")
def force(body: Json, name: str) -> Response:
    """Keep a circuit open or closed, or leave it to itself again. What was parked until it closes goes on."""
    return answers.json(
        of_circuit(desk().force(name, body["state"], why=body["reason"].strip(), by=identity.current().name))
    )


def desk() -> CircuitDesk:
    found = service()
    return CircuitDesk(found.store, found.keys, found.wake)
