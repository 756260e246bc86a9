"""Every error that reenact raises on purpose.

    ReenactError                    found, expected, cure: printed as it is, without a traceback
    ├── UsageError                  the person asked for something impossible (exit code 2)
    │   ├── ConfigError             a key or value of the configuration
    │   └── PortraitError           a portrait that cannot be used
    ├── SourceError                 the driving picture
    │   ├── SourceMissing           there is no such camera or file
    │   ├── SourceLost              it was there and went away; a live source is opened again
    │   └── SourceEnded             a file has no more frames; not a failure
    ├── TrackerError                face tracking cannot start
    ├── GeneratorError              a generator cannot make pictures
    │   └── BackendError            what runs its networks cannot be had, or fails
    └── SinkError                   the result has nowhere to go
        ├── SinkMissing             there is no such device
        └── SinkLost                it was there and went away

Anything else that escapes is a bug of ours, and shows its traceback.
"""


class ReenactError(Exception):
    """An error for the person who runs the program.

    ``str(error)`` is one line: what was found, what was expected. ``cure`` is what to do about it, often a command.
    """

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message)
        self.cure = cure


class UsageError(ReenactError):
    """What was asked for cannot be done."""


class ConfigError(UsageError):
    """A key or a value of the configuration is wrong."""


class PortraitError(UsageError):
    """A portrait cannot be used: unreadable, without a face, or with one that is too small or in profile."""


class SourceError(ReenactError):
    """The driving picture cannot be had."""


class SourceMissing(SourceError):
    """There is no such camera or file, or it cannot be opened."""


class SourceLost(SourceError):
    """A source that worked stopped working."""


class SourceEnded(SourceError):
    """A source has no more frames."""


class TrackerError(ReenactError):
    """The face tracker cannot start."""


class GeneratorError(ReenactError):
    """A generator cannot make pictures."""


class BackendError(GeneratorError):
    """What runs a generator's networks cannot be had, answers wrongly, or fails."""


class SinkError(ReenactError):
    """The result cannot be delivered."""


class SinkMissing(SinkError):
    """There is no such device, or it cannot be opened."""


class SinkLost(SinkError):
    """A sink that worked stopped working."""
