"""Words and numbers as the page and the card write them, and the templates that use these as filters.

A page is meant to be passed on, so absolute paths are cut to their last part; `record.json` holds them in full.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Final

from jinja2 import Environment, StrictUndefined, Template

from abliterate.evals.statistics import Difference, Mean, Rate
from abliterate.reports.record import RunRecord, Variant

__all__ = [
    "VARIANTS",
    "fixed",
    "format_mean",
    "format_rate",
    "minus",
    "model_name",
    "percent",
    "portable_settings",
    "portable_source",
    "read_template",
    "small",
    "template",
]

VARIANTS: Final[dict[Variant, str]] = {
    "unedited": "unedited",
    "edited": "edited",
    "random": "random direction",
    "shuffled": "shuffled labels",
}
_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_OPEN_CHARACTERS: Final = 400


def model_name(record: RunRecord) -> str:
    """The hub id of the model, or the name of its directory."""
    if record.model.revision != "local":
        return record.model.source
    return _last_part(record.model.source) or "model"


def portable_source(source: str) -> str:
    """A source of a model or of prompts without the directories above it, which are nobody else's business."""
    return _last_part(source) if _is_absolute(source) else source


def portable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted key, without the cache and with file names instead of absolute paths."""
    flat: dict[str, Any] = {}
    for section, values in settings.items():
        inner = values if isinstance(values, Mapping) else {"": values}
        flat |= {f"{section}.{key}".rstrip("."): value for key, value in inner.items()}
    flat.pop("cache", None)
    return {
        # A system prompt may begin with a slash and is no path for that.
        key: portable_source(value) if isinstance(value, str) and key != "model.system_prompt" else value
        for key, value in flat.items()
    }


def format_rate(rate: Rate) -> str:
    """Like `2 of 117 (1.7 % [0.5, 6.0])`."""
    return f"{rate.count} of {rate.n} ({percent(rate)})"


def format_mean(mean: Mean) -> str:
    """Like `0.031 [0.024, 0.040]`, with more decimals where three would show nothing."""
    decimals = 3 if mean.mean >= 0.01 or mean.mean == 0 else 5
    return f"{mean.mean:.{decimals}f} [{mean.low:.{decimals}f}, {mean.high:.{decimals}f}]"


def template(name: str) -> Template:
    """A template of this package, with the formats that all of them use as filters; HTML is escaped."""
    return _environment(html=name.endswith(".html.j2")).from_string(read_template(name))


def percent(rate: Rate) -> str:
    """Like `1.7 % [0.5, 6.0]`."""
    if not rate.n:
        return "no data"
    return f"{100 * rate.rate:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _interval(rate: Rate) -> str:
    return f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]\u00a0%".replace(", ", ",\u00a0")


def _difference(d: Difference) -> str:
    """Like `0.031 [0.024, 0.040]`, signed."""
    return minus(f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")


def _points(d: Difference) -> str:
    """A difference of shares in percentage points."""
    return minus(f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]")


def _share(rate: Rate) -> str:
    return f"{100 * rate.rate:.1f}\u00a0%" if rate.n else "no data"


def minus(number: object) -> str:
    """A number with a proper minus."""
    return str(number).replace("-", "−")


def fixed(value: float | None, decimals: int = 2) -> str:
    """A number for a table; a dash for what was not measured."""
    if value is None or value != value:
        return "–"
    return minus(f"{value:.{decimals}f}")


def small(value: float) -> str:
    """Two figures, like 0.62 or 2.3 × 10⁻⁴."""
    if value == 0 or value != value or value >= 0.001:
        return f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def _opening(text: str) -> str:
    """As much of a completion as stands open on the page."""
    return text if len(text) <= _OPEN_CHARACTERS else text[:_OPEN_CHARACTERS].rstrip()


def _rest(text: str) -> str:
    """What `_opening` leaves."""
    return text[len(_opening(text)) :]


def _setting(value: object) -> str:
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _date(created: str) -> str:
    return created.replace("T", " ").replace("+00:00", " UTC")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _bound(text: str) -> str:
    """Keep a number with its unit and its interval in one line."""
    text = re.sub(r"\[[\d., ]+\]", lambda match: match[0].replace(" ", "\u00a0"), text)
    return text.replace(" %", "\u00a0%").replace(" [", "\u00a0[")


def _markdown(text: str) -> str:
    """Text for a paragraph of Markdown in which nothing is markup."""
    return re.sub(r"([\\`*_<>|#&])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text for a code span of Markdown, in a table too."""
    return re.sub(r"[`|\s]+", " ", text)


def _is_absolute(path: str) -> bool:
    return path.startswith("~") or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _last_part(path: str) -> str:
    return PureWindowsPath(path).name  # reads both kinds of separators


def read_template(name: str) -> str:
    """The text of a file in the folder of templates."""
    return (resources.files("abliterate") / "reports" / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment(*, html: bool) -> Environment:
    environment = Environment(
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "bound": _bound,
        "code": _code,
        "date": _date,
        "difference": _difference,
        "duration": _duration,
        "fixed": fixed,
        "interval": _interval,
        "md": _markdown,
        "mean": format_mean,
        "minus": minus,
        "opening": _opening,
        "percent": percent,
        "points": _points,
        "rate": format_rate,
        "rest": _rest,
        "setting": _setting,
        "share": _share,
        "small": small,
        "thousands": _thousands,
    }
    return environment
