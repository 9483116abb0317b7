"""Every exception a user can meet, each with a message that names the culprit and the remedy."""


class HyqError(Exception):
    """Base of all errors that hyq_tvm raises on bad input."""


class ConfigError(HyqError, ValueError):
    """An option has a value that is not one of its choices."""


class UnsupportedModelError(HyqError):
    """A model holds operators or shapes that cannot be handled; all of them are listed."""


class CalibrationError(HyqError, ValueError):
    """Calibration data is empty, not finite, or of the wrong shape or dtype."""


class PlanError(HyqError, ValueError):
    """A plan file is damaged, of another version, or was made for another model."""


class TargetError(HyqError, ValueError):
    """A target is unknown, or this machine cannot build for it."""


class FloatComputationError(HyqError):
    """A compiled module would compute in float where integers were promised."""


class AccumulatorOverflowError(HyqError):
    """The worst case of an integer intermediate does not fit its width."""


class ArtifactError(HyqError):
    """A saved executable is missing, truncated, foreign or does not match its checksum."""


class InputError(HyqError, ValueError):
    """An array handed to an executable has the wrong shape or dtype, or is not finite."""


class TuningError(HyqError):
    """Tuning cannot run or its records cannot be read."""


class DeviceProgramError(HyqError, ValueError):
    """An accelerator program is damaged, illegal or made for another device."""


class DeviceError(HyqError, RuntimeError):
    """A GPU is out of memory or failed while it ran."""
