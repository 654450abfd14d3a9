"""The exit codes of the ``runyard`` command, so that a script can tell what happened."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    #: Done, and nothing is left running.
    OK = 0
    #: The run failed, a check of ``doctor`` failed, or something went wrong that has no code of its own.
    FAILED = 1
    #: The command line is wrong (click's own code).
    USAGE = 2
    #: Another program listens on this host and port; often another ``runyard up``.
    PORT_IN_USE = 3
    #: Another store runs on this data directory.
    DATA_DIR_IN_USE = 4
    #: A setting is missing or wrong, or the machine lacks something; the message names it.
    CONFIG = 5
    #: The processes were started and did not become ready; all of them have been stopped.
    NOT_READY = 6
    #: There is no such graph, run or thread.
    NOT_FOUND = 7
    #: The store cannot be reached; nothing is known about what was asked for.
    UNAVAILABLE = 8
    #: The run did its part and waits for a person or at a breakpoint: ``runyard resume`` goes on.
    PAUSED = 9
    #: The run had not ended when ``--timeout`` was over; it goes on.
    TIMEOUT = 10
    #: The run was cancelled before it came to its end.
    CANCELLED = 11
    #: The run or thread is not in a state that allows this, e.g. cancelling a run that has ended.
    CONFLICT = 12
    #: Ctrl-C at the command; a run that was being watched goes on (128 + SIGINT, as shells have it).
    STOPPED_BY_USER = 130
