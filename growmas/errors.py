"""Errors and warnings that growmas raises.

Every message names the parameter, layer, group or config key, says what was expected and what was
given, and how to correct it. The command line prints the message alone and exits with code 2.
"""


class GrowmasError(Exception):
    """Base class of all errors for mistakes that a user can correct.

    Attributes:
        key: Keys that lead to the setting to correct, below the part of a config that was being
            built, such as ("label",) of a source; empty where no setting is to blame.
        located: True if the message names the file, the line and the key.
    """

    located = False

    def __init__(self, *message: object, key: tuple[str | int, ...] = ()) -> None:
        super().__init__(*message)
        self.key = key


class ConfigError(GrowmasError):
    """A config file cannot be read or has mistakes, all of which are listed."""


class DataError(GrowmasError):
    """Data is missing, empty, of the wrong shape, or not finite."""


class ImportanceError(GrowmasError):
    """An importance cannot be measured for this model, function or output."""


class PenaltyError(GrowmasError):
    """Importance or anchors do not fit the model."""


class PlanError(GrowmasError):
    """A plan names unknown groups or units, or no longer fits the network."""


class PolicyError(GrowmasError, TypeError):
    """A policy class that sets no valid `moments`, or has no `propose`."""


class SurgeryError(GrowmasError):
    """An edit could not be applied; the network is exactly as it was before."""


class ContextError(GrowmasError):
    """A context has not seen a task yet, or settings or answers do not fit."""


class ShiftError(GrowmasError):
    """A loss is not a number, or settings or a state do not fit a shift detector."""


class HistoryError(GrowmasError):
    """A topology history cannot be read, or does not contain the task or unit asked for."""


class CheckpointError(GrowmasError):
    """A checkpoint cannot be written, read, or fitted to the model."""


class RunError(GrowmasError):
    """An experiment cannot start, or a directory is not a run."""


class GrowmasWarning(UserWarning):
    """Something runs but probably does not do what was meant; the message says why."""
