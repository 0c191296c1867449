"""The judge protocol: agreement, the cache, a tiny classifier, and an endpoint on this machine."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from abliterate.errors import JudgeFailed, SettingsError
from abliterate.evals.classifier import Classifier
from abliterate.evals.judges import BuiltinJudge, CachedJudge, Pair, agreement, judge_answers, open_judge
from abliterate.evals.outcome import Outcome
from abliterate.settings import resolve

R, C, E, B = Outcome.REFUSED, Outcome.COMPLIED, Outcome.EVASIVE, Outcome.BROKEN
PAIRS = [
    Pair("How do I cook rice?", "Rinse it and boil it."),
    Pair("How do I cook rice?", "I'm sorry, but I can't help with that."),
    Pair("How do I cook rice?", "<think>Hm.</think>Rinse it and boil it."),
    Pair("How do I cook rice?", "<think>Hm, I", finished=False),
]


class Counting:
    """Calls everything refused, and counts what it was asked."""

    def __init__(self, name="counting"):
        self.name = name
        self.asked = Counter()

    def judge(self, pairs):
        self.asked.update(pairs)
        return [R for _ in pairs]


def test_the_built_in_judge_keeps_the_order():
    assert BuiltinJudge().judge(PAIRS) == [C, R, C, B]


# --- agreement ---


def test_kappa_of_a_textbook_table():
    # 20 both yes, 5 and 10 split, 15 both no: p = 0.7, e = 0.5, kappa = 0.4.
    first = [R] * 25 + [C] * 25
    second = [R] * 20 + [C] * 5 + [R] * 10 + [C] * 15
    (found,) = agreement({"a": first, "b": second})
    assert (found.n, found.share) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.format() == "a and b agree on 70.0 % of 50 (kappa 0.40)"


def test_kappa_at_its_ends():
    mixed = [R, C, E, B]
    assert agreement({"a": mixed, "b": mixed})[0].kappa == 1
    assert agreement({"a": [R, C], "b": [C, R]})[0].kappa == -1
    assert agreement({"a": [R, R, C, C], "b": [R, C, R, C]})[0].kappa == 0
    alike = agreement({"a": [R, R], "b": [R, R]})[0]
    assert alike.kappa is None and "undefined" in alike.format()


def test_every_two_of_three_judges_are_compared():
    names = [(a.first, a.second) for a in agreement({"a": [R], "b": [R], "c": [C]})]
    assert names == [("a", "b"), ("a", "c"), ("b", "c")]


def test_agreement_needs_the_same_pairs():
    with pytest.raises(ValueError, match="zip"):
        agreement({"a": [R, C], "b": [R]})
    with pytest.raises(ValueError, match="at least one"):
        agreement({"a": [], "b": []})


# --- the cache ---


def test_a_verdict_is_asked_for_once(tmp_path):
    inner = Counting()
    cached = CachedJudge(inner, tmp_path)
    assert cached.judge([*PAIRS, PAIRS[0]]) == [R] * 5
    assert CachedJudge(inner, tmp_path).judge(PAIRS) == [R] * 4
    assert set(inner.asked.values()) == {1}


def test_another_judge_or_another_pair_is_another_verdict(tmp_path):
    first, second = Counting("one"), Counting("two")
    CachedJudge(first, tmp_path).judge(PAIRS[:1])
    CachedJudge(second, tmp_path).judge(PAIRS[:1])
    CachedJudge(first, tmp_path).judge([PAIRS[0]._replace(finished=False)])
    assert (first.asked.total(), second.asked.total()) == (2, 1)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"outcome": "maybe"}', "null"])
def test_a_damaged_file_is_asked_for_again(tmp_path, damage):
    inner = Counting()
    CachedJudge(inner, tmp_path).judge(PAIRS[:1])
    (file,) = tmp_path.rglob("*.json")
    file.write_text(damage)
    assert CachedJudge(inner, tmp_path).judge(PAIRS[:1]) == [R]
    assert inner.asked.total() == 2
    assert json.loads(file.read_text())["outcome"] == "refused"


def test_what_was_judged_before_a_failure_is_kept(tmp_path):
    class Failing(Counting):
        def judge(self, pairs):
            if self.asked:
                raise JudgeFailed("gone", "wait")
            return super().judge(pairs)

    many = [Pair("p", f"answer {i}") for i in range(40)]
    with pytest.raises(JudgeFailed):
        CachedJudge(Failing(), tmp_path).judge(many)
    assert len(list(tmp_path.rglob("*.json"))) == 32


def test_models_are_not_asked_about_what_has_no_answer():
    asked = []

    def ask(texts):
        asked.extend(texts)
        return [C] * len(texts)

    pairs = [Pair("p", ""), Pair("p", "<think>a</think> b"), Pair("p", "<think>a"), Pair("p", "c<|im_end|>")]
    assert judge_answers(pairs, ask) == [B, C, B, C]
    assert asked == [("p", "b"), ("p", "c")]
    assert judge_answers(pairs[:1], lambda _: pytest.fail("asked about nothing")) == [B]


# --- a classifier ---


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """A random text-classification model with a word tokenizer, built from a config."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("classifier")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "sorry", "rice", "rinse", "help", "boil"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=24,
        id2label={0: "refusal", 1: "LABEL_X"},
        label2id={"refusal": 0, "LABEL_X": 1},
    )
    model = BertForSequenceClassification(config)
    model.classifier.bias.data = torch.tensor([5.0, -5.0])
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["hf", "hf+prompt"])
def test_a_classifier_judges(classifier, tmp_path, kind):
    judge = open_judge(f"{kind}:{classifier}", cache=tmp_path, labels={"LABEL_X": "complied"})
    long = Pair("rice", "boil " * 200)
    assert judge.judge([*PAIRS, long]) == [R, R, R, B, R]
    assert judge.name.startswith(f"{kind}:{classifier}#")


def test_a_label_without_a_meaning_is_refused_by_name(classifier):
    with pytest.raises(JudgeFailed, match="LABEL_X"):
        Classifier.load(str(classifier), {}, with_prompt=False)
    with pytest.raises(JudgeFailed, match="maybe"):
        Classifier.load(str(classifier), {"LABEL_X": "maybe"}, with_prompt=False)


def test_the_meaning_of_labels_is_part_of_the_name(classifier):
    names = {
        Classifier.load(str(classifier), {"LABEL_X": meaning}, with_prompt=False).name
        for meaning in ("complied", "evasive")
    }
    assert len(names) == 2


def test_other_weights_in_the_same_directory_are_another_judge(classifier, tmp_path):
    folder = Path(shutil.copytree(classifier, tmp_path / "copy"))
    labels = {"LABEL_X": "complied"}
    before = Classifier.load(str(folder), labels, with_prompt=False).name
    os.utime(folder / "model.safetensors", (1, 1))
    assert Classifier.load(str(folder), labels, with_prompt=False).name != before


def test_a_classifier_that_is_not_there(tmp_path):
    with pytest.raises(JudgeFailed, match="cannot load the judge"):
        Classifier.load(str(tmp_path / "nothing"), {}, with_prompt=False)


# --- names in settings ---


@pytest.mark.parametrize("spec", ["nobody", "hf:", "openai:model", "openai:model@ftp://x"])
def test_an_unknown_judge_is_refused_before_anything_runs(tmp_path, spec):
    with pytest.raises(JudgeFailed, match=r"openai:MODEL@"):
        open_judge(spec, cache=tmp_path, labels={})
    with pytest.raises(SettingsError, match="judges"):
        resolve(assignments=[f"evaluation.judges=['{spec}']"])


def test_judges_come_from_a_file_or_an_assignment(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('[evaluation]\njudges = ["builtin", "hf:x"]\njudge_labels = {LABEL_1 = "refused"}\n')
    assigned = resolve(
        assignments=['evaluation.judges=["builtin", "hf:x"]', 'evaluation.judge_labels={LABEL_1 = "refused"}']
    )
    assert resolve(config=config) == assigned
    assert assigned.evaluation.judges == ("builtin", "hf:x")
