"""API keys: ``runyard keys``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from runyard.app.auth.scopes import checked
from runyard.app.commands.door import Door, open_door, store_options
from runyard.app.commands.letter_options import Duration
from runyard.app.commands.shown import console, print_json
from runyard.app.exit_codes import ExitCode
from runyard.app.shapes import at
from runyard.engine.api_keys import ApiKeys
from runyard.engine.store.api_keys import ApiKey
from runyard.engine.tenancy import shown, stored

DAY_S = 86400.0


@click.group()
def keys() -> None:
    """Make, rotate and revoke the API keys of clients."""


@keys.command()
@click.argument("name")
@click.option(
    "--scopes", required=True, metavar="'SCOPE …'", help="What it may do, e.g. 'runs:write runs:read'; * for all."
)
@click.option("--tenant", default="default", show_default=True, help="Whose things it works with.")
@click.option(
    "--expires",
    type=Duration(),
    default=0.0,
    metavar="TIME",
    help="How long it works, e.g. 90d. Default: until it is revoked.",
)
@store_options
def create(
    name: str, scopes: str, tenant: str, expires: float, redis_url: str | None, data: Path, as_json: bool
) -> int:
    """Make a key called NAME. It is shown once, now, and never again."""
    wanted, whose = checked(scopes.replace(",", " ").split()), stored(tenant)
    made, text = _keys(open_door(redis_url, data)).create(name, wanted, tenant=whose, ttl_s=expires)
    _show_new(made, text, as_json=as_json)
    return ExitCode.OK


@keys.command("list")
@store_options
def list_(redis_url: str | None, data: Path, as_json: bool) -> int:
    """List keys, newest first, with what they may do and when they were last used."""
    found = [document(key) for key in _keys(open_door(redis_url, data)).all()]
    if as_json:
        print_json({"keys": found})
        return ExitCode.OK
    table = Table("id", "name", "tenant", "scopes", "state", "expires", "last used", box=None, pad_edge=False)
    for key in found:
        words = (key["key_id"], key["name"], key["tenant"], " ".join(key["scopes"]), key["state"])
        table.add_row(*words, _day(key["expires_at"]), _day(key["last_used_at"]))
    console().print(table if found else "no keys: `runyard keys create NAME --scopes '…'` makes one")
    return ExitCode.OK


@keys.command()
@click.argument("key_id", metavar="KEY")
@click.option(
    "--overlap",
    type=Duration(),
    default=DAY_S,
    metavar="TIME",
    help="How long the old one goes on working. Default: 1d.",
)
@click.option(
    "--expires",
    type=Duration(),
    default=0.0,
    metavar="TIME",
    help="How long the new one works. Default: until it is revoked.",
)
@store_options
def rotate(key_id: str, overlap: float, expires: float, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Make a key that takes the place of KEY (an id); both work for a while."""
    made, text = _keys(open_door(redis_url, data)).rotate(key_id, overlap_s=overlap, ttl_s=expires)
    _show_new(made, text, as_json=as_json)
    return ExitCode.OK


@keys.command()
@click.argument("key_id", metavar="KEY")
@store_options
def revoke(key_id: str, redis_url: str | None, data: Path, as_json: bool) -> int:
    """Let KEY (an id) work no longer. Web processes notice within RUNYARD_AUTH_CACHE_S seconds."""
    revoked = _keys(open_door(redis_url, data)).revoke(key_id)
    print_json(document(revoked)) if as_json else click.echo(f"revoked {revoked.name!r} ({revoked.key_id})")
    return ExitCode.OK


def document(key: ApiKey) -> dict[str, Any]:
    """What may be shown of a key."""
    return {
        "key_id": key.key_id,
        "name": key.name,
        "tenant": shown(key.tenant),
        "scopes": list(key.scopes),
        "state": key.state(time.time() * 1000),
        "created_at": at(key.created_at),
        "expires_at": at(key.expires_at),
        "revoked_at": at(key.revoked_at),
        "last_used_at": at(key.last_used_at),
        "replaced_by": key.replaced_by,
    }


def _show_new(made: ApiKey, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**document(made), "key": text})
        return
    click.echo(text)  # alone on stdout, for pipes
    click.echo(f"{made.name!r} ({made.key_id}) of tenant {shown(made.tenant)!r}: {' '.join(made.scopes)}", err=True)
    click.echo("Keep it now: it is not stored and cannot be shown again.", err=True)


def _day(instant: str | None) -> str:
    return instant[:16].replace("T", " ") if instant else "-"


def _keys(door: Door) -> ApiKeys:
    return ApiKeys(door.service.store, door.service.keys)
