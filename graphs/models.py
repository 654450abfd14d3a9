"""The chat model, when there is one.

`RUNYARD_MODEL` names it, or `model` in the run's configuration; `OPENAI_BASE_URL` and `OPENAI_API_KEY` say where it is.
Any endpoint that speaks OpenAI's protocol will do. Without a name no model is asked: a key that happens to be in the
environment is no reason to send somebody's documents away.
"""

from __future__ import annotations

import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig

NO_MODEL = "none"


def model_name(config: RunnableConfig) -> str | None:
    """The model that this run asks, or None. A run can say "none" to go without."""
    name = config.get("configurable", {}).get("model") or os.environ.get("RUNYARD_MODEL")
    return None if name in {None, "", NO_MODEL} else str(name)


def chat_model(config: RunnableConfig) -> BaseChatModel | None:
    """A client for the model that this run asks, or None."""
    name = model_name(config)
    if name is None:
        return None
    try:
        from langchain_openai import ChatOpenAI  # noqa: PLC0415 - an extra, and a second to import
    except ImportError as error:
        raise RuntimeError(
            f"the model {name!r} is configured, and langchain-openai is missing: pip install 'runyard[models]'"
        ) from error
    options: dict[str, Any] = {"model": name, "temperature": 0, "timeout": 60, "max_retries": 0}
    return ChatOpenAI(**options)  # retries are the graph's business: a second layer would multiply them
