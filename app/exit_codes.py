"""The exit codes of the ``runyard`` command, so that a script can tell what happened."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    #: Done, and nothing is left running.
    OK = 0
    #: Something went wrong that has no code of its own.
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
