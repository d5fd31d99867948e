"""Errors for users: each message is one sentence that says what was found and what to do."""


class MdetrError(Exception):
    """Base of all errors of this package; the command line prints it without a traceback and exits 1."""


class InvalidInputError(MdetrError, ValueError):
    """The caller's image, text or argument cannot be used as it is."""


class InvalidRecordError(MdetrError, ValueError):
    """A record of a data set breaks a rule of the schema.

    part: Of the record, that breaks it: "image", "box", "text" or "span"; "entry" for all else.
    """

    def __init__(self, message: str, part: str = "entry") -> None:
        super().__init__(message)
        self.part = part


class RecipeError(MdetrError, ValueError):
    """A recipe has an unknown key, a missing file or a value of the wrong kind."""


class CheckpointError(MdetrError):
    """A model cannot be found, or its files are damaged or foreign."""


class MissingDependencyError(MdetrError, ImportError):
    """An optional part of the installation is needed here."""


class TrainingError(MdetrError, RuntimeError):
    """Training stopped: the message says why and what was kept."""
