"""Encryption of what the store keeps: ``runyard encryption``."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Any

import click

from runyard.app.commands.door import open_door, store_options
from runyard.app.commands.problem import Problem, json_option
from runyard.app.commands.shown import print_json
from runyard.app.exit_codes import ExitCode
from runyard.engine.renewal import Walk, forget_old, walk
from runyard.engine.settings import Settings
from runyard.engine.store.client import SyncStore
from runyard.engine.store.keys import Keys
from runyard.engine.store.meta import encryption as known
from runyard.engine.vault import Vault, keys_in


@click.group()
def encryption() -> None:
    """Encrypt what the store keeps, and change the key."""


@encryption.command()
@click.argument("key_id", metavar="ID")
@json_option
def key(key_id: str, as_json: bool) -> int:
    """Make a key called ID for RUNYARD_ENCRYPTION_KEYS. It is shown once, and kept nowhere."""
    entry = f"{key_id}:{base64.b64encode(secrets.token_bytes(32)).decode()}"
    try:
        keys_in(entry)
    except ValueError:
        raise click.BadParameter("letters, digits, - and _, 32 at most", param_hint="ID") from None
    print_json({"key_id": key_id, "entry": entry}) if as_json else click.echo(entry)
    return ExitCode.OK


@encryption.command()
@store_options
def status(redis_url: str | None, data: Path, as_json: bool) -> int:
    """Count the encrypted values of the store by the key they are under. Reads all of it."""
    settings, keys, vault = _opened(redis_url, data)
    found = _walked(settings, keys, vault, renew=False)
    told = {"encrypts": vault.key_id, "values": dict(found.found), "keys": sorted(_store(settings).do(known(keys)))}
    if as_json:
        print_json(told)
        return ExitCode.OK
    click.echo(f"encrypts under {vault.key_id}")
    for key_id, count in sorted(found.found.items()):
        click.echo(f"{count} values under {key_id}")
    return ExitCode.OK


@encryption.command()
@store_options
def renew(redis_url: str | None, data: Path, as_json: bool) -> int:
    """Encrypt what is kept under an old key under the first one. Everything goes on meanwhile.

    Restart all processes with the new key first. It can be stopped and begun again; when nothing is left under an old
    key, it says which keys are not needed any more.
    """
    settings, keys, vault = _opened(redis_url, data)
    done = _walked(settings, keys, vault, renew=True)
    left = _walked(settings, keys, vault, renew=False).old(vault)
    needless = [] if left else forget_old(_store(settings), keys, vault)
    if as_json:
        print_json({"renewed": done.renewed, "left": left, "problems": list(done.problems), "not_needed": needless})
    else:
        _say(done, left, needless)
    return ExitCode.FAILED if left else ExitCode.OK


def _say(done: Walk, left: dict[str, int], needless: list[str]) -> None:
    click.echo(f"{done.renewed} values are under the new key")
    for problem, count in done.problems.items():
        click.echo(f"{count} times: {problem}", err=True)
    for key_id, count in left.items():
        click.echo(f"{count} values are still under {key_id}: run it again; are all processes restarted?", err=True)
    for key_id in needless:
        click.echo(f"the key {key_id} is not needed any more")


def _walked(settings: Settings, keys: Keys, vault: Vault, *, renew: bool) -> Walk:
    so_far = Walk()
    for so_far in walk(_store(settings), keys, vault, renew=renew):  # noqa: B007 - the last one is the whole
        pass
    return so_far


def _store(settings: Settings) -> SyncStore:
    """The store as it is, with nothing opened."""
    return SyncStore.connect(settings.redis_url, max_connections=2)


def _opened(redis_url: str | None, data: Path) -> tuple[Settings, Keys, Vault]:
    """Raises Problem where nothing is encrypted."""
    door: Any = open_door(redis_url, data)
    if door.service.keys.vault is None:
        message = "nothing is encrypted: RUNYARD_ENCRYPTION_KEYS is not set (`runyard encryption key ID` makes a key)"
        raise Problem(message, ExitCode.CONFIG, code="not_encrypted")
    return door.settings, door.service.keys, door.service.keys.vault
