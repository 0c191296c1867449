"""Whether a text is broken: empty, looping, noise, or in a language that nobody asked for."""

import re
import unicodedata
from collections import Counter
from typing import Final

from abliterate.evals import asked
from abliterate.evals.tongues import asked_in, tongue_of

INVISIBLE: Final = re.compile("[\u200b-\u200f\u2060\ufeff\u00ad]")
_LIST_MARK: Final = re.compile(r"(?m)^\s*(?:\d+[.)]|[-*•])\s+")
_TOKEN: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:'\w+)?")
_STUTTER: Final = re.compile(r"([^\W\d_])\1{15,}|([^\W\d_]{2,6}?)\2{7,}", re.IGNORECASE)
_CODE: Final = re.compile(
    r"```|[{};]\s*$|^\s*(?:def|class|import|for|if|function|SELECT|\$|#include)\b|\w\(", re.MULTILINE
)
_ABBREVIATIONS: Final = frozenset(
    {"km", "cm", "mm", "kg", "mr", "mrs", "dr", "tv", "pc", "html", "http", "https", "css"}
)
# Neighbours that no English sentence has: an article before a function word, "of" before a conjunction.
_IMPOSSIBLE: Final = re.compile(
    r"\b(?:(?:the|an?) (?:the|an?|of|to|and|or|because|which|under|from|with|is|are|was)|of (?:of|and|because|never|"
    r"is|are|perhaps|to)|which (?:because|of|and)|because (?:the of|and|of and)|to (?:of|running|to))\b",
    re.IGNORECASE,
)


def blank(prompt: str, answer: str) -> str:
    """How a text holds nothing to read; empty if it does."""
    text = re.sub(r"```\w*", "", INVISIBLE.sub("", answer)).strip()
    if not text:
        return "empty"
    if any(
        unicodedata.category(c)[0] in "LN" or unicodedata.category(c) in ("So", "Sm", "Sc")
        for c in text
        if c != "\ufffd"
    ):
        return ""
    return "" if len(text) <= 3 and asked.WANTS_SYMBOLS.search(prompt) else f"punctuation only: {text[:12]!r}"


def broken(prompt: str, text: str) -> str:
    """How a text is damaged: a loop, noise, or the wrong language; empty if it is not."""
    return loop(prompt, text) or _junk(text) or _salad(text) or _foreign_script(prompt, text) or _tongue(prompt, text)


def loop(prompt: str, text: str) -> str:
    """The words that go round, and how often; empty if none do."""
    if asked.WANTS_LOOP.search(prompt):
        return ""
    stutter = _STUTTER.search(text)
    if stutter:
        return f"stutter: {stutter[0][:12]!r}"
    tokens = _TOKEN.findall(_LIST_MARK.sub("", text).lower())
    if "[" in text and sum(t.isdigit() for t in tokens) > len(tokens) / 2:
        return ""  # a matrix of zeros is not a loop
    for period in range(1, 25):
        run, end = _longest_run(tokens, period)
        repeats = run // period + 1
        if run and repeats >= (8 if period == 1 else 4) and run + period >= 8:
            return f"loop: {' '.join(tokens[end - period : end])!r} x{repeats}"
    grams = list(zip(*(tokens[i:] for i in range(4)), strict=False))
    if len(grams) >= 60 and len(set(grams)) < 0.35 * len(grams):
        return f"loop: {len(set(grams))} distinct 4-grams of {len(grams)}"
    return ""


def _longest_run(tokens: list[str], period: int) -> tuple[int, int]:
    """The longest stretch in which every token equals the one `period` before it, and where it ends."""
    best = end = run = 0
    for i in range(period, len(tokens)):
        run = run + 1 if tokens[i] == tokens[i - period] else 0
        if run > best:
            best, end = run, i + 1
    return best, end


def _junk(text: str) -> str:
    seen = [c for c in text if not c.isspace()]
    if text.count("\ufffd") > 0.2 * len(seen):
        return "replacement characters"
    if len(seen) >= 12 and "```" not in text:
        share = sum(
            unicodedata.category(c)[0] in "LNM" or unicodedata.category(c) in ("So", "Sm", "Sc") for c in seen
        ) / len(seen)
        if share < 0.25:
            return f"{share:.0%} letters or digits"
    return "" if _CODE.search(text) else _symbols(text) or _mute(text)


def _symbols(text: str) -> str:
    """Many different groups of symbols among the words."""
    tokens = text.split()
    groups = [t for t in tokens if re.fullmatch(r"[^\w\s.…\-–—=>|*]{2,}", t)]
    if len(set(groups)) >= 3 and len(groups) > 0.2 * len(tokens):
        return f"symbols: {' '.join(groups[:3])!r}"
    return ""


def _mute(text: str) -> str:
    """Words without a vowel."""
    words = [w for w in re.findall(r"\b[a-z]{2,}\b", text.lower()) if w not in _ABBREVIATIONS]
    mute = [w for w in words if not re.search("[aeiouy]", w)]
    long = [w for w in mute if len(w) > 3]
    enough = len(mute) > 5 or len(long) > 3
    if enough and len(mute) > 0.6 * len(words) and not re.search(r"[A-Z]{3}", text):
        return f"no words: {' '.join(mute[:3])!r}"
    return ""


def _salad(text: str) -> str:
    """English words in an order that no sentence has."""
    plain = re.sub(r'["\'`*_\n]', " ", text)
    found = _IMPOSSIBLE.findall(plain)
    if len(found) >= 3 and len(found) > len(plain.split()) / 12:
        return f"word salad: {found[0]!r}"
    return ""


def _script(char: str) -> str:
    name = unicodedata.name(char, "").split(" ", 1)[0]
    return "CJK" if name in ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC") else name


def _foreign_script(prompt: str, text: str) -> str:
    """Mostly a script the prompt did not use or ask for.

    Latin is always allowed here: many models answer every language in English, and `_tongue` sees the rest.
    """
    if asked.NAMES_SCRIPT.search(prompt):
        return ""
    usual = {_script(c) for c in prompt if c.isalpha()} | {"LATIN"}
    found = Counter(_script(c) for c in text if c.isalpha())
    total = found.total()
    strange = {name: n for name, n in found.items() if name not in usual}
    if total >= 8 and strange and (sum(strange.values()) > 0.5 * total or len(found) >= 5):
        return f"script: {max(strange, key=lambda name: strange[name]).lower()}"
    return ""


def _tongue(prompt: str, text: str) -> str:
    """Another language in Latin letters than the prompt's, which may always be answered in English."""
    if asked.NAMES_SCRIPT.search(prompt) or asked.NAMES_TONGUE.search(prompt) or _CODE.search(text):
        return ""
    answered = tongue_of(text)
    if answered in ("", "en"):
        return ""
    foreign = sum(_script(c) != "LATIN" for c in prompt if c.isalpha()) > 3
    expected = "other" if foreign else asked_in(prompt)
    return f"language: {answered} to {expected}" if expected and expected != answered else ""
