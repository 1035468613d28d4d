"""One family of errors. Every message says what, where, got against expected, and what to do.

    ForetellError
    ├── ConfigError       a setting is impossible or contradicts another
    ├── DataError         a file, a folder or a store cannot be used
    ├── ShapeError        an array does not have the axes it should
    ├── CheckpointError   a model or run folder is missing something or was altered
    ├── CalibrationError  the promise asked for cannot be made from this footage
    └── PlanError         no plan can be made, or none may be carried out

The user's fault is one of these; our own fault is an ``assert``.
"""


class ForetellError(Exception):
    """Root of all errors that foretell raises on purpose."""


class ConfigError(ForetellError):
    """A setting is impossible or contradicts another."""


class DataError(ForetellError):
    """A file, a folder or a store cannot be used."""


class ShapeError(ForetellError):
    """An array does not have the axes it should."""


class CheckpointError(ForetellError):
    """A model or run folder is missing something or was altered."""


class CalibrationError(ForetellError):
    """The promise asked for cannot be made from this footage."""


class PlanError(ForetellError):
    """No plan can be made, or none may be carried out."""
