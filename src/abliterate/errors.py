"""Every error a user can meet, drawn as a tree.

    AbliterateError
    ├── UserError                 exit code 2, one line, no traceback
    │   ├── SettingsError         an unknown key or a value out of range
    │   ├── ModelNotFound         no such directory or hub id, or no weights in it
    │   ├── UnsupportedModel      something writes to the residual stream that is not understood
    │   ├── MissingChatTemplate   the tokenizer cannot format a chat
    │   ├── PromptsError          a prompt file or data set is empty, broken or mislabelled
    │   ├── ContrastTooSmall      the model refuses, or answers, too few of the prompts
    │   ├── NoDirectionFound      no candidate direction passes the thresholds
    │   ├── DirectionMismatch     a direction made for another model
    │   ├── ArtifactError         a file that is not what it should be
    │   ├── OutputExists          an existing result would be overwritten
    │   ├── JudgeFailed           a judge of completions cannot be had, or answers what is no outcome
    │   ├── NotEnoughSpace        the disk cannot hold the result
    │   └── MissingExtra          an optional dependency is not installed
    └── VerificationFailed        exit code 3, nothing is left that looks finished

Whatever is not an `AbliterateError` is a bug and keeps its traceback (exit code 1). Every message names its
remedy: a `UserError` takes what is wrong and what to do as two arguments, so that neither can be forgotten.
"""


class AbliterateError(Exception):
    """The root of the tree."""


class UserError(AbliterateError):
    """A mistake that the user can mend.

    Args:
        problem: what is wrong, with the name of the thing at fault.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}: {remedy}")


class SettingsError(UserError):
    """An unknown settings key, or a value out of range."""


class ModelNotFound(UserError):
    """No such directory or hub id, or a directory without weights."""


class UnsupportedModel(UserError):
    """Something writes to the residual stream that is not understood."""


class MissingChatTemplate(UserError):
    """The tokenizer has no chat template."""


class PromptsError(UserError):
    """A prompt source is empty, unreadable or mislabelled."""


class ContrastTooSmall(UserError):
    """The model itself refuses, or answers, too few of the prompts to form a contrast."""


class NoDirectionFound(UserError):
    """No candidate direction passes the selection thresholds."""


class DirectionMismatch(UserError):
    """A direction that was made for another model."""


class ArtifactError(UserError):
    """A saved artifact that is missing, damaged or of another schema version."""


class OutputExists(UserError):
    """The output is there already and `--force` was not given."""


class JudgeFailed(UserError):
    """A judge of completions that cannot be had, or whose answer is no outcome."""


class NotEnoughSpace(UserError):
    """The disk cannot hold what is about to be written."""


class MissingExtra(UserError):
    """A feature whose optional dependency is not installed."""


class VerificationFailed(AbliterateError):
    """The edited model that was written does not do what the edit says."""
