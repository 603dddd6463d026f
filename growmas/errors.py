"""The few kinds of error growmas raises.

Every message names the thing (parameter, layer, group, config key), says what was expected and
what came, and how to mend it. The command line prints the message alone and exits with code 2.
"""


class GrowmasError(Exception):
    """Anything a user can mend: catch this to catch all of growmas."""


class ConfigError(GrowmasError):
    """A config file that cannot be read or has mistakes; all of them are listed at once."""


class DataError(GrowmasError):
    """Data that is missing, empty, of the wrong shape, or not finite."""


class ImportanceError(GrowmasError):
    """An importance that cannot be measured for this model, function or output."""


class PenaltyError(GrowmasError):
    """A penalty whose importance or anchors do not fit the model."""


class PlanError(GrowmasError):
    """A plan that names unknown groups or units, or that no longer fits the network."""


class PolicyError(GrowmasError, TypeError):
    """A policy class that sets no valid `moments`, or has no `propose`."""


class SurgeryError(GrowmasError):
    """An edit that could not be applied; the network is exactly as it was before."""


class ContextError(GrowmasError):
    """A context asked before it has seen a task, or with settings or answers that do not fit."""


class ShiftError(GrowmasError):
    """A loss that is no number, or a detector with settings or a state that do not fit."""


class HistoryError(GrowmasError):
    """A topology history that cannot be read, or that lacks the task or unit asked for."""


class CheckpointError(GrowmasError):
    """A checkpoint that cannot be written, read, or fitted to the model."""


class RunError(GrowmasError):
    """An experiment that cannot start: its directory exists, or is not a run."""


class GrowmasWarning(UserWarning):
    """Something that runs but is unlikely to do what was meant; says the cause and the remedy."""
