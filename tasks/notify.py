"""Notices to people, through apprise: mail, Slack, Teams, and about a hundred others."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping

from runyard.engine.errors import ConfigError, InvalidInput
from runyard.engine.notices import Notify, Target, notify_of
from runyard.engine.notifier import SendText
from runyard.engine.settings import Settings
from runyard.engine.webhooks import WebhookPolicy
from runyard.graphs.registry import Project


def notify_for(project: Project, settings: Settings, environ: Mapping[str, str] = os.environ) -> Notify:
    """Who is told what. Raises ConfigError for an address that nothing can be sent to."""
    notify = notify_of(project.runyard.get("notify", {}), environ, settings.notify)
    policy = WebhookPolicy.of(project.webhooks, settings, environ)
    for target in notify.targets.values():
        _check(target, policy)
    return notify


def _check(target: Target, policy: WebhookPolicy) -> None:
    if target.is_webhook:
        try:
            policy.check(target.address, "runyard.notify.to", look_up=False)
        except InvalidInput as error:
            raise ConfigError(str(error)) from error
        return
    scheme = target.address.partition(":")[0]
    try:
        import apprise  # noqa: PLC0415 - an extra: only who notifies people needs it
    except ImportError as error:
        raise ConfigError(
            f"runyard.notify.to has an address of the kind {scheme}://, which needs apprise: install runyard[notify]."
        ) from error
    if not apprise.Apprise().add(target.address):
        raise ConfigError(f"runyard.notify.to has an address of the kind {scheme}:// that apprise does not understand.")


def sender() -> SendText:
    """Sends in a thread: most of apprise's services block."""
    logging.getLogger("apprise").setLevel(logging.ERROR)  # it tells of every attempt, with addresses that hold secrets

    async def send(address: str, title: str, text: str) -> str:
        return await asyncio.to_thread(_send, address, title, text)

    return send


def _send(address: str, title: str, text: str) -> str:
    import apprise  # noqa: PLC0415 - as above

    app = apprise.Apprise()
    if not app.add(address):
        return "apprise does not understand the address"
    return "" if app.notify(body=text, title=title) else "the service did not take it"
