"""The domain: runs, leases, slices, checkpoints. Knows LangGraph and Redis; never Flask, Celery or a concrete graph."""

import os

# State in a shared store is a code-execution surface unless LangGraph's msgpack decoder is told to build only
# the types a graph declares. LangGraph reads this once, at import, so it has to be set before the first import.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
