"""Exceptions that rtden raises.

Each carries one sentence that says what is wrong and what to do about it. The command line prints
it and exits with code 2; library code never prints or exits.
"""


class RtdenError(Exception):
    """Base of every error that a caller of rtden may want to catch."""


class SettingsError(RtdenError, ValueError):
    """A setting is outside its range."""


class InputError(RtdenError, ValueError):
    """An array or a combination of arguments cannot be processed."""


class ModelError(RtdenError):
    """A model file, its sidecar or the TFLite runtime cannot be used."""


class AudioFileError(RtdenError):
    """An audio file cannot be read or written."""


class DamagedFileError(AudioFileError):
    """An audio file ends early, or is damaged inside."""


class DeviceError(RtdenError):
    """A sound device cannot be found or opened."""


class MissingPackageError(RtdenError, ImportError):
    """An optional package that this function needs is not installed."""


class TrainingError(RtdenError):
    """A training run cannot start, continue or deliver its result."""


class ServiceError(RtdenError):
    """The system's service manager fails."""


class ControlError(RtdenError):
    """No live stream answers, or it refuses the request."""
