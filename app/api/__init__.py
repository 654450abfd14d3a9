"""The HTTP resources: each view reads a request, calls the engine, shapes an answer."""
