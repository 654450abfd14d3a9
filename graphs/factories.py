"""From what a graph's attribute holds to a graph that can run.

LangGraph lets the attribute be a compiled graph, an uncompiled builder, an entrypoint of the functional API, or a
factory: a function, coroutine function or context manager that takes nothing, the run's config, a `ServerRuntime`,
or both.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore, Op, Result
from langgraph_sdk.runtime import AccessContext, ServerRuntime, _ExecutionRuntime, _ReadRuntime

Graph = Pregel[Any, Any, Any, Any]
Runtime = ServerRuntime[Any]
Need = Literal["config", "runtime"]


@dataclass(frozen=True, slots=True)
class Factory:
    """A callable that makes a graph, and what to hand to each of its parameters."""

    make: Callable[..., Any]
    positional: tuple[Need, ...]
    named: dict[str, Need]

    @property
    def per_run(self) -> bool:
        """Whether the graph depends on the run, so that it must not be kept."""
        return bool(self.positional or self.named)

    def __call__(self, config: RunnableConfig | None, runtime: Runtime | None) -> Any:
        given: dict[Need, Any] = {"config": {"configurable": {}, **(config or {})}}
        given["runtime"] = runtime or server_runtime("assistants.read" if config is None else "threads.create_run")
        arguments = {name: given[need] for name, need in self.named.items()}
        return self.make(*(given[need] for need in self.positional), **arguments)


def as_target(value: object, name: str) -> Graph | Factory:
    """A graph that is ready, or the factory that makes it. Raises TypeError for anything else."""
    if isinstance(value, Pregel | StateGraph):
        return as_graph(value, name)
    if callable(value):
        return _factory(value)
    raise TypeError(f"it is {_kind(value)}; a graph, a graph builder or a function that returns one is needed")


def as_graph(value: object, name: str) -> Graph:
    """A compiled graph from a compiled one or from its builder. Raises TypeError for anything else."""
    if isinstance(value, StateGraph):
        return cast(Graph, value.compile(name=name))
    if isinstance(value, Pregel):
        return value
    raise TypeError(f"the factory made {_kind(value)}; a graph or a graph builder is needed")


def needs_loop(value: object) -> bool:
    """Whether only an event loop can turn a factory's result into a graph."""
    return inspect.isawaitable(value) or isinstance(value, AbstractAsyncContextManager)


def settle(value: Any, name: str, open_managers: ExitStack) -> Graph:
    """A factory's result as a graph; a context manager is entered and left to `open_managers`."""
    return as_graph(open_managers.enter_context(value) if _is_manager(value) else value, name)


async def asettle(value: Any, name: str, open_managers: AsyncExitStack) -> Graph:
    """Like `settle`, and also for coroutines and async context managers."""
    if inspect.isawaitable(value):
        value = await _stays(value)
    if isinstance(value, AbstractAsyncContextManager):
        value = await open_managers.enter_async_context(value)
    elif _is_manager(value):
        value = open_managers.enter_context(value)
    return as_graph(value, name)


async def _stays(made: Awaitable[Any]) -> Any:
    try:
        return await made
    except SystemExit as error:  # it would end the event loop, and with it everybody else's work
        raise RuntimeError(f"the factory called sys.exit({error.code!r})") from error


def _is_manager(value: object) -> bool:
    return hasattr(value, "__enter__") and hasattr(value, "__exit__")


def _factory(make: Callable[..., Any]) -> Factory:
    needs = {parameter: need for parameter in _parameters(make) if (need := _need(parameter))}
    positional_only = inspect.Parameter.POSITIONAL_ONLY
    return Factory(
        make=make,
        positional=tuple(need for parameter, need in needs.items() if parameter.kind is positional_only),
        named={parameter.name: need for parameter, need in needs.items() if parameter.kind is not positional_only},
    )


def _parameters(make: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    try:
        signature = inspect.signature(make, eval_str=True)
    except NameError:  # an annotation imported for type checkers only: its text will do
        signature = inspect.signature(make)
    except ValueError:  # a built-in without a signature
        return []
    return signature.parameters.values()


def _need(parameter: inspect.Parameter) -> Need | None:
    """What a parameter wants, by its annotation, else by its name; None when its own default serves."""
    annotation = str(parameter.annotation)
    if "ServerRuntime" in annotation or parameter.name == "runtime":
        return "runtime"
    if "RunnableConfig" in annotation or parameter.name == "config":
        return "config"
    if parameter.default is not parameter.empty or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    if annotation.startswith(("<class 'inspect._empty'>", "<class 'dict'>", "dict[", "typing.Any")):
        return "config"  # LangGraph's oldest form: one argument of any name
    raise TypeError(
        f"the factory's parameter {parameter.name!r} is neither a RunnableConfig nor a ServerRuntime and has no default"
    )


def server_runtime(
    access: AccessContext, *, store: BaseStore | None = None, user: Any = None, context: Any = None
) -> Runtime:
    """The `ServerRuntime` a factory may ask for. Without a store, using the store inside the factory is an error."""
    store = store or NoStore()
    if access == "threads.create_run":
        return _ExecutionRuntime(access_context=access, user=user, store=store, context=context)
    return _ReadRuntime(access_context=access, user=user, store=store)


class NoStore(BaseStore):
    """Stands where a store was not given. Refuses, because a store that forgets what it was told would be worse."""

    def batch(self, ops: Iterable[Op]) -> list[Result]:  # noqa: ARG002
        self._refuse()

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:  # noqa: ARG002
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeError("no store was given to this graph factory; use the store inside the nodes")


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
