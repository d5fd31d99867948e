"""Errors for users: each message is one sentence that states the problem and what to do."""


class MdetrError(Exception):
    """Base of all errors of this package; the command line prints it without a traceback and exits 1."""


class InvalidInputError(MdetrError, ValueError):
    """The caller's image, text or argument cannot be used as it is."""


class InvalidRecordError(MdetrError, ValueError):
    """A record of a data set breaks a rule of the schema.

    Args:
        message: The rule, and the value that breaks it.
        part: Part of the record that is invalid: "image", "box", "text" or "span"; "entry" for anything else.
    """

    def __init__(self, message: str, part: str = "entry") -> None:
        super().__init__(message)
        self.part = part


class RecipeError(MdetrError, ValueError):
    """A recipe has an unknown key, a missing file or a value of the wrong kind."""


class CheckpointError(MdetrError):
    """A model does not exist, or its files are damaged or not those of this package."""


class MissingDependencyError(MdetrError, ImportError):
    """An optional dependency is not installed."""


class TrainingError(MdetrError, RuntimeError):
    """Training stopped; the message says why, and what was saved."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, for a sentence of one's own; its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
