"""Prompts with a label, from the built-in sets, files or hub data sets, split three ways by hash.

A prompt's split depends on its text alone, so it is the same in every run, whatever else is in the file: a number
that chose a strength is never the number that is reported.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from abliterate.errors import MissingExtra, PromptsError
from abliterate.files import digest

BUILTIN = "builtin"
TEXT_KEYS = ("prompt", "instruction", "text", "question", "goal", "behavior", "query", "input")
HUB_SLICE = re.compile(r"^(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.-]+(\[[^\]]*\])?))?$")


class Label(StrEnum):
    """What a safety-trained model is expected to do with a prompt."""

    REFUSED = "refused"
    ANSWERED = "answered"


class Split(StrEnum):
    """What a prompt may be used for."""

    FIT = "fit"
    SELECT = "select"
    REPORT = "report"


# Half of the prompts estimate, the rest choose (15 %) or are reported on (35 %).
SPLIT_BOUNDS = ((0.50, Split.FIT), (0.65, Split.SELECT), (1.0, Split.REPORT))


def split_of(text: str) -> Split:
    """The split of a prompt: the first 64 bits of the SHA-256 of its text, as a fraction of the whole range."""
    fraction = int.from_bytes(_hash(text)[:8], "big") / 2**64
    return next(split for bound, split in SPLIT_BOUNDS if fraction < bound)


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one label, without duplicates.

    Attributes:
        label: what a safety-trained model is expected to do with them.
        source: where they came from, for the record.
        texts: in the order of the source.
    """

    label: Label
    source: str
    texts: tuple[str, ...]

    def take(self, split: Split | None = None, limit: int | None = None) -> list[str]:
        """The texts of one split (None: all), at most `limit` of them: the first by hash, which favours none."""
        texts = [text for text in self.texts if split is None or split_of(text) is split]
        return sorted(texts, key=_hash)[:limit]

    @property
    def hash(self) -> str:
        """SHA-256 of the labelled texts, whatever their order."""
        return digest([self.label, sorted(self.texts)])


def load_prompts(source: str, label: Label) -> PromptSet:
    """Load the prompts of one label from a source.

    Args:
        source: `builtin`, a .txt / .jsonl / .csv / .parquet file, or a hub data set `owner/name:split[slice]`. Where
            rows carry a label, only those of this label are taken.
        label: what the prompts are expected to get.

    Raises:
        PromptsError: the source is missing, empty, unreadable or mislabelled; with the line.
        MissingExtra: a parquet file or hub data set without the `data` extra installed.
    """
    texts = tuple(dict.fromkeys(_texts(source, label)))
    return PromptSet(label, source, texts)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode()).digest()


def _texts(source: str, label: Label) -> list[str]:
    rows = builtin_rows(label) if source == BUILTIN else read_rows(source)
    texts = [text for where, row in rows if (text := _text_of(row, where, label)) is not None]
    if not texts:
        raise PromptsError(f"{source} has no prompts labelled {label}", "check the file and its labels")
    return texts


Row = tuple[str, dict[str, Any] | str]  # where it stands, for messages, and what stands there


def builtin_rows(name: str) -> Iterable[Row]:
    """The rows of a built-in set: `refused`, `answered` or `borderline`."""
    file = resources.files("abliterate") / "assets" / "prompts" / f"{name}.jsonl"
    return _jsonl(file.read_text(encoding="utf-8"), f"builtin {name}")


def read_rows(source: str) -> Iterable[Row]:
    """The rows of a file or hub data set, with where each stands.

    Raises:
        PromptsError, MissingExtra: as `load_prompts`.
    """
    if Path(source).expanduser().exists():
        return _file_rows(Path(source).expanduser())
    if HUB_SLICE.match(source) and not source.startswith("."):
        return _hub_rows(source)
    raise PromptsError(
        f"there is no prompt file {source}",
        "pass a .txt, .jsonl, .csv or .parquet file, or a hub data set like owner/name:train[:400]",
    )


def text_of(row: dict[str, Any] | str, where: str) -> str:
    """The prompt in a row, whatever its label.

    Raises:
        PromptsError: there is none.
    """
    if isinstance(row, str):
        return _checked(row, where)
    key = next((key for key in TEXT_KEYS if key in row), None)
    if key is None:
        raise PromptsError(f"{where} has no prompt", f"name the column one of {', '.join(TEXT_KEYS)}")
    return _checked(row[key], where)


def _text_of(row: dict[str, Any] | str, where: str, label: Label) -> str | None:
    """The prompt in a row; None when the row carries the other label."""
    text = text_of(row, where)
    if isinstance(row, str) or row.get("label") is None:
        return text
    if row["label"] not in list(Label):
        raise PromptsError(
            f"{where} has the label {row['label']!r}", "labels are `refused` and `answered`; correct the row"
        )
    return text if row["label"] == label else None


def _checked(text: object, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise PromptsError(f"{where} has an empty prompt", "remove the row or fill it in")
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # JSON may escape half of a surrogate pair
        raise PromptsError(f"{where} has a prompt that is no text (half of a character)", "correct the row")
    return text.strip()


def _file_rows(path: Path) -> Iterable[Row]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except IsADirectoryError as error:
        raise PromptsError(f"{path} is a directory", "pass a prompt file") from error
    except OSError as error:
        raise PromptsError(f"cannot read {path} ({error.strerror})", "check the file and its permissions") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise PromptsError(
            f"{path}, line {line}, is not UTF-8 text", "pass a text, jsonl, csv or parquet file"
        ) from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise PromptsError(f"{path}, line {line}, is binary", "pass a text, jsonl, csv or parquet file")
    if suffix in {".jsonl", ".ndjson"}:
        return _jsonl(text, str(path))
    if suffix in {".csv", ".tsv"}:
        return _csv(text, path)
    if suffix in {".txt", ""}:
        return ((f"{path}, line {n}", line) for n, line in enumerate(text.splitlines(), 1) if line.strip())
    raise PromptsError(f"{path} has the unknown suffix {path.suffix}", "use .txt, .jsonl, .csv or .parquet")


def _jsonl(text: str, name: str) -> Iterable[Row]:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028 inside a string
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # too long a number, too deep a nesting
            reason = getattr(error, "msg", str(error))
            raise PromptsError(f"{where}, is not JSON ({reason})", "one JSON object a line") from error
        if not isinstance(row, dict | str):
            raise PromptsError(f"{where}, is neither an object nor a string", "one JSON object a line")
        yield where, row


def _csv(text: str, path: Path) -> Iterable[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if reader.restkey in row:
                raise PromptsError(
                    f"{where} has more fields than the header", "put prompts that hold a comma in double quotes"
                )
            yield where, dict(row)
    except csv.Error as error:
        line = reader.reader.line_num
        raise PromptsError(f"{path}, line {line}, is not readable as csv ({error})", "correct the row") from error


def _parquet(path: Path) -> Iterable[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading parquet needs pyarrow", 'pip install "abliterate[data]"') from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise PromptsError(f"{path} is not a parquet file ({error})", "check the file") from error
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row


def _hub_rows(source: str) -> Iterable[Row]:
    match = HUB_SLICE.match(source)
    name, split = (match["name"], match["split"] or "train") if match else (source, "train")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("hub data sets need the datasets library", 'pip install "abliterate[data]"') from error
    try:
        rows = datasets.load_dataset(name, split=split)
    except Exception as error:  # whatever the hub client raises, the remedy is the same
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise PromptsError(
            f"{source} is neither a file here nor a data set that could be fetched ({reason})",
            "check the id, the split and the network, or pass a local file",
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"{source}, row {number}", row
