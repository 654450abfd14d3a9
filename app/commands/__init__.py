"""The commands of ``runyard``, one idea a file. Loaded when they are called (see ``cli.py``)."""
