"""Prompt sources: every format, every mistake with its line, and the three-way split."""

import csv
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.capture.prompts import BUILTIN, Label, PromptSet, Split, load_prompts, split_of
from abliterate.errors import MissingExtra, PromptsError

REFUSED, ANSWERED = Label.REFUSED, Label.ANSWERED
AWKWARD = "Why is “it” so,\nand not \u2028 so?\x85"  # a comma, quotes, and four kinds of line break


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), path)
    return str(path)


# --- what is read


def test_text_is_one_prompt_a_line(tmp_path):
    for name in ("p.txt", "prompts"):
        source = write(tmp_path / name, "  One?  \n\nTwo?\r\nOne?\n")
        assert load_prompts(source, ANSWERED) == PromptSet(ANSWERED, source, ("One?", "Two?"))


def test_a_byte_order_mark_is_no_part_of_the_first_prompt(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfOne?\n")
    assert load_prompts(str(tmp_path / "p.txt"), ANSWERED).texts == ("One?",)


@pytest.mark.parametrize("key", ["prompt", "instruction", "text", "question", "goal", "behavior", "query", "input"])
def test_jsonl_takes_any_usual_column(tmp_path, key):
    source = write(tmp_path / "p.jsonl", lines({key: " One? ", "id": 1}, "Two?"))
    assert load_prompts(source, ANSWERED).texts == ("One?", "Two?")


def test_labelled_rows_give_their_label_only(tmp_path):
    rows = [
        {"prompt": "A?", "label": "refused"},
        {"prompt": "B?", "label": "answered"},
        {"prompt": "C?", "label": None},
    ]
    source = write(tmp_path / "p.jsonl", lines(*rows))
    assert load_prompts(source, REFUSED).texts == ("A?", "C?")
    assert load_prompts(source, ANSWERED).texts == ("B?", "C?")


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_csv(tmp_path, suffix, delimiter):
    with (tmp_path / f"p.{suffix}").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(
            [("id", "prompt", "label"), (1, 'Say "one", two\nthree?', "refused"), (2, "B?", "answered")]
        )
    assert load_prompts(str(tmp_path / f"p.{suffix}"), REFUSED).texts == ('Say "one", two\nthree?',)


def test_a_suffix_may_be_in_capitals(tmp_path):
    assert load_prompts(write(tmp_path / "p.JSONL", lines({"prompt": "A?"})), ANSWERED).texts == ("A?",)
    assert load_prompts(parquet(tmp_path / "p.Parquet", prompt=["A?"]), ANSWERED).texts == ("A?",)


def test_parquet(tmp_path):
    source = parquet(tmp_path / "p.parquet", prompt=["A?", "B?", "C?"], label=["refused", "answered", "refused"])
    assert load_prompts(source, REFUSED).texts == ("A?", "C?")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_prompt_is_read_as_it_was_written(tmp_path, kind):
    """Line breaks of Unicode are no line breaks of the file."""
    path = tmp_path / f"p.{kind}"
    if kind == "jsonl":
        write(path, lines({"prompt": AWKWARD}))
    elif kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("prompt",), (AWKWARD,)])
    else:
        parquet(path, prompt=[AWKWARD])
    assert load_prompts(str(path), ANSWERED).texts == (AWKWARD.strip(),)


def test_a_csv_field_may_hold_any_line_break_without_quotes(tmp_path):
    source = write(tmp_path / "p.csv", "prompt\nOne\u2028and a half?\nTwo?\n")
    assert load_prompts(source, ANSWERED).texts == ("One\u2028and a half?", "Two?")


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the datasets library: `hub(rows)` or `hub(error)`; remembers what was asked for."""
    asked = []

    def install(result):
        def load_dataset(name, split):
            asked.append((name, split))
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
        return asked

    return install


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("owner/name", ("owner/name", "train")),
        ("owner/name:test", ("owner/name", "test")),
        ("owner/my-set.v2:train[:400]", ("owner/my-set.v2", "train[:400]")),
        ("owner/name:train[10%:20%]", ("owner/name", "train[10%:20%]")),
    ],
)
def test_a_hub_slice(hub, source, asked):
    calls = hub([{"instruction": "A?"}, {"instruction": "B?"}])
    assert load_prompts(source, ANSWERED).texts == ("A?", "B?")
    assert calls == [asked]


# --- what is refused, and in which words


def refused(source, message, label=ANSWERED):
    with pytest.raises(PromptsError, match=message):
        load_prompts(str(source), label)


@pytest.mark.parametrize("source", ["nowhere.txt", "./owner/name", "/no/where", "", "a b/c"])
def test_no_such_file(source):
    refused(source, f"there is no prompt file {source}" if source else "is a directory")


def test_a_directory(tmp_path):
    refused(tmp_path, "is a directory")


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path / "p.txt", "One?")
    monkeypatch.setattr(Path, "read_bytes", denied)
    refused(tmp_path / "p.txt", r"cannot read .*p\.txt \(Permission denied\)")


def test_an_unknown_suffix(tmp_path):
    write(tmp_path / "p.docx", "One?")
    refused(tmp_path / "p.docx", r"unknown suffix \.docx")


@pytest.mark.parametrize(("name", "text"), [("p.txt", "\n \n"), ("p.jsonl", ""), ("p.csv", "prompt\n"), ("p.csv", "")])
def test_an_empty_file(tmp_path, name, text):
    write(tmp_path / name, text)
    refused(tmp_path / name, rf"{name} has no prompts labelled answered")


def test_a_file_of_the_other_label_only(tmp_path):
    write(tmp_path / "p.jsonl", lines({"prompt": "A?", "label": "refused"}))
    refused(tmp_path / "p.jsonl", "no prompts labelled answered")


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.csv", "p"])
def test_a_binary_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"prompt\nok\n\x89PNG\xff\n")
    refused(tmp_path / name, rf"{name}, line 3, is not UTF-8 text")
    (tmp_path / name).write_bytes(b"prompt\nOne?\0\n")
    refused(tmp_path / name, rf"{name}, line 2, is binary")


def test_a_parquet_file_that_is_none(tmp_path):
    pytest.importorskip("pyarrow")
    write(tmp_path / "p.parquet", "not at all")
    refused(tmp_path / "p.parquet", "is not a parquet file")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", r"p\.jsonl, line 3, is not JSON"),
        ("[" * 100_000, r"p\.jsonl, line 3, is not JSON"),
        ("1" * 5_000, r"p\.jsonl, line 3, is not JSON"),
        (r'{"prompt": "A\ud800?"}', r"p\.jsonl, line 3 has a prompt that is no text"),
        ("[1]", r"p\.jsonl, line 3, is neither an object nor a string"),
        ("3", r"p\.jsonl, line 3, is neither"),
        ('{"id": 1}', r"p\.jsonl, line 3 has no prompt"),
        ('{"prompt": " "}', r"p\.jsonl, line 3 has an empty prompt"),
        ('" "', r"p\.jsonl, line 3 has an empty prompt"),
        ('{"prompt": null}', r"p\.jsonl, line 3 has an empty prompt"),
        ('{"prompt": ["A?"]}', r"p\.jsonl, line 3 has an empty prompt"),
        ('{"prompt": "A?", "label": "harmful"}', r"p\.jsonl, line 3 has the label 'harmful'"),
        ('{"prompt": "A?", "label": 0}', r"p\.jsonl, line 3 has the label 0"),
        ('{"prompt": "A?", "label": ["refused"]}', r"p\.jsonl, line 3 has the label \['refused'\]"),
    ],
)
def test_a_broken_row_is_named_by_its_line(tmp_path, row, message):
    write(tmp_path / "p.jsonl", '{"prompt": "A?"}\n\n' + row + "\n")
    refused(tmp_path / "p.jsonl", message)


def test_a_broken_row_of_a_csv_is_named_by_its_line(tmp_path):
    write(tmp_path / "p.csv", 'prompt,label\n"two\nlines?",refused\nB?,perhaps\n')
    refused(tmp_path / "p.csv", r"p\.csv, line 4 has the label 'perhaps'")
    write(tmp_path / "p.csv", "prompt,label\nA?\n,answered\n")
    refused(tmp_path / "p.csv", r"p\.csv, line 3 has an empty prompt")
    write(tmp_path / "p.csv", "id,name\n1,x\n")
    refused(tmp_path / "p.csv", r"p\.csv, line 2 has no prompt")


def test_a_csv_prompt_is_not_cut_at_a_comma_without_quotes(tmp_path):
    write(tmp_path / "p.csv", "prompt\nA?\nPlease, name a colour.\n")
    refused(tmp_path / "p.csv", r"p\.csv, line 3 has more fields than the header")


def test_a_csv_field_that_is_too_long(tmp_path):
    write(tmp_path / "p.csv", "prompt\nA?\n" + "x" * 200_000 + "\n")
    refused(tmp_path / "p.csv", r"p\.csv, line 3")


def test_a_broken_row_of_a_parquet_file_is_named_by_its_number(tmp_path):
    refused(
        parquet(tmp_path / "p.parquet", prompt=["A?", "B?"], label=["answered", "x"]),
        r"p\.parquet, row 2 has the label",
    )


@pytest.mark.parametrize(
    "error", [ConnectionError("no route\nto host"), FileNotFoundError("x"), ValueError("bad split")]
)
def test_a_hub_slice_that_cannot_be_fetched(hub, error):
    hub(error)
    refused(
        "owner/name:train[:4]",
        rf"owner/name:train\[:4\] is neither .* could be fetched \({str(error).splitlines()[0]}\)",
    )


def test_a_hub_row_without_prompt_is_named_by_its_number(hub):
    hub([{"text": "A?"}, {"sentence": "B?"}])
    refused("owner/name", "owner/name, row 2 has no prompt")


@pytest.mark.parametrize(("library", "source"), [("datasets", "owner/name"), ("pyarrow", "p.parquet")])
def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch, library, source):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "p.parquet", "")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"{library}.*abliterate\[data\]"):
        load_prompts(source, ANSWERED)


# --- the split

texts = st.text(min_size=1).filter(str.strip)


@given(texts)
def test_a_split_depends_on_the_text_alone(text):
    assert split_of(text) is split_of(f"  {text}\n")
    fraction = int(hashlib.sha256(text.strip().encode()).hexdigest()[:16], 16) / 2**64
    assert split_of(text) is (Split.FIT if fraction < 0.5 else Split.SELECT if fraction < 0.65 else Split.REPORT)


@given(st.lists(texts.map(str.strip), unique=True, max_size=30), st.lists(texts.map(str.strip), max_size=30))
def test_the_splits_share_nothing_lose_nothing_and_do_not_move(ours, others):
    prompts = PromptSet(REFUSED, "s", tuple(ours))
    taken = [text for split in Split for text in prompts.take(split)]
    assert sorted(taken) == sorted(ours)
    wider = PromptSet(REFUSED, "s", tuple(dict.fromkeys([*others, *ours])))
    for split in Split:
        assert set(prompts.take(split)) <= set(wider.take(split))


def test_the_splits_of_three_prompts_never_change():
    """Pinned: a new release must not report on what an old one fitted to."""
    pinned = {"a": Split.REPORT, "Name a colour.": Split.FIT, "prompt 5": Split.SELECT}
    assert {text: split_of(text) for text in pinned} == pinned


def test_the_splits_have_their_shares():
    """50, 15 and 35 per cent of 20000: within four standard deviations."""
    prompts = PromptSet(REFUSED, "s", tuple(f"prompt {n}" for n in range(20_000)))
    for split, share in zip(Split, (0.50, 0.15, 0.35), strict=True):
        assert abs(len(prompts.take(split)) - 20_000 * share) < 4 * (20_000 * share * (1 - share)) ** 0.5


def test_a_limit_takes_the_same_prompts_whatever_the_order():
    numbered = tuple(f"prompt {n}" for n in range(50))
    forward, backward = PromptSet(REFUSED, "s", numbered), PromptSet(REFUSED, "s", numbered[::-1])
    assert forward.take(Split.FIT, 5) == backward.take(Split.FIT, 5) == forward.take(Split.FIT)[:5]
    assert forward.hash == backward.hash
    assert len(forward.take(limit=7)) == 7


def test_a_hash_tells_labels_and_texts_apart():
    hashes = {PromptSet(label, "s", t).hash for label in Label for t in (("a", "b"), ("ab",), ("a",))}
    assert len(hashes) == 6
    assert PromptSet(REFUSED, "here", ("a",)).hash == PromptSet(REFUSED, "there", ("a",)).hash


# --- what comes with the tool


@pytest.mark.parametrize("label", Label)
def test_the_builtin_sets_are_large_enough_in_every_split(label):
    prompts = load_prompts(BUILTIN, label)
    assert len(prompts.texts) >= 200
    for split, least in zip(Split, (90, 24, 60), strict=True):
        assert len(prompts.take(split)) >= least


def test_the_builtin_sets_have_no_duplicates_within_or_across_labels():
    def plain(text):
        return "".join(letter for letter in text.casefold() if letter.isalnum())

    both = [plain(text) for label in Label for text in load_prompts(BUILTIN, label).texts]
    assert len(set(both)) == len(both)
