"""The error tree of naics-job and the exit codes of its contract.

NaicsJobError 70        any other permanent failure
|- ConfigError 78       a setting is unknown, missing, of the wrong type or out of range
|- DataError 65         an input file is missing, damaged or contradicts itself
|- CheckpointError 74   a checkpoint cannot be written, read or trusted
|  '- LeaseLostError    another run has taken over; trying again is no use
'- TransientError 75    storage or network trouble that a later try may not meet
"""

UNEXPECTED = 70  # exit code of a defect of ours


class NaicsJobError(Exception):
    """A failure raised on purpose: what is wrong, then what to do about it."""

    exit_code = UNEXPECTED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)  # args == (message,) keeps it picklable from a loader worker
        self.hint = hint

    def __reduce__(self) -> tuple[type["NaicsJobError"], tuple[str, str]]:
        return type(self), (str(self.args[0]), self.hint)

    def __str__(self) -> str:
        return f"{self.args[0]}\n  hint: {self.hint}" if self.hint else str(self.args[0])


class ConfigError(NaicsJobError):
    """A setting is unknown, missing, of the wrong type or out of range."""

    exit_code = 78


class DataError(NaicsJobError):
    """An input file is missing, damaged or contradicts itself."""

    exit_code = 65


class CheckpointError(NaicsJobError):
    """A checkpoint cannot be written, read or trusted."""

    exit_code = 74


class LeaseLostError(CheckpointError):
    """Another run has taken over the experiment; trying again is no use."""


class TransientError(NaicsJobError):
    """Storage or network trouble that a later try may not meet."""

    exit_code = 75
