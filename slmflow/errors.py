"""Errors with a message for the user."""


class UserError(Exception):
    """A fault the user can fix: the message says what, which value, and what to do.

    Shown without a traceback. `exit_code` becomes the exit status of the step.
    """

    exit_code = 1

    def __init__(self, message: str, *, shown: bool = False) -> None:
        """shown: whether a nested step has already printed the message."""
        super().__init__(message)
        self.shown = shown


class BadArguments(UserError):
    """An invalid value on the command line or in the config."""

    exit_code = 2
