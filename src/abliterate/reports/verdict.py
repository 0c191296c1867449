"""What a run found, in plain sentences; of what the record does not hold they say that, or nothing."""

from abliterate.directions.select import Candidate
from abliterate.edits.proof import Proof
from abliterate.evals.statistics import Rate
from abliterate.reports.formats import fixed, format_mean, format_rate, minus, model_name, percent, small
from abliterate.reports.record import RunRecord, Scores

__all__ = ["chosen_candidate", "verdict"]


def verdict(record: RunRecord) -> list[str]:
    """What the run found, in plain sentences; of what the record does not hold it says that, or nothing."""
    name = model_name(record)
    before, after = record.of("unedited"), record.of("edited")
    if after is not None:
        sentences = _verdict_edited(name, record, before, after)
    elif before is not None:
        sentences = _verdict_unedited(name, before)
    else:
        sentences = _verdict_unmeasured(name, record)
    return sentences + _verdict_proof(record.proof)


def chosen_candidate(record: RunRecord) -> Candidate | None:
    """The row of the table that was chosen, if the record holds it."""
    place = record.chosen and (record.chosen.position, record.chosen.layer)
    return next((c for c in record.candidates if (c.position, c.layer) == place), None)


def _verdict_edited(name: str, record: RunRecord, before: Scores | None, after: Scores) -> list[str]:
    strength = "" if record.strength in (None, 1.0) else f" at strength {record.strength:g}"
    refused, answered = after.refused, after.answered
    sentences = [
        f"Edited{strength}, {name} refuses {format_rate(refused.refused)} of the prompts it was expected to refuse"
        + _from(before.refused.refused if before else None)
        + f", and complies with {refused.complied.count}"
        + (f", from {before.refused.complied.count}." if before else ".")
    ]
    if before is not None and _overlap(before.refused.refused, refused.refused):
        sentences.append("The two intervals overlap: these prompts do not settle whether the edit changed that rate.")
    sentences += _verdict_control(record.of("random"), before)
    sentences.append(
        f"Of the prompts it was expected to answer it refuses {format_rate(answered.refused)}"
        f"{_from(before.answered.refused if before else None)}."
    )
    return [*sentences, *_verdict_drift(record), _verdict_broken(before, after)]


def _verdict_control(control: Scores | None, before: Scores | None) -> list[str]:
    if control is None:
        return []
    refused = control.refused.refused
    sentences = [
        f"A random direction of the same size, removed in the same way, leaves {format_rate(refused)} refused."
    ]
    if before is not None and refused.high < before.refused.refused.low:
        sentences.append("That is fewer than before too, so part of the effect does not come from this direction.")
    return sentences


def _verdict_broken(before: Scores | None, after: Scores) -> str:
    def broken(scores: Scores) -> int:
        return scores.refused.broken.count + scores.answered.broken.count

    total = after.refused.n + after.answered.n
    since = f", from {broken(before)}" if before is not None else ""
    verb = "is" if broken(after) == 1 else "are"
    return f"{broken(after)} of all {total} completions {verb} broken (empty, looping or unreadable){since}."


def _verdict_drift(record: RunRecord) -> list[str]:
    edited = record.of("edited")
    if edited is None or edited.drift is None:
        return ["How far the edit moves those answers was not measured."]
    sentence = (
        f"On these the edit moves the first token by a KL of {format_mean(edited.drift.first_token)} nats"
        f" and whole completions by {format_mean(edited.drift.completion)} nats a token"
    )
    control = record.of("random")
    if control is not None and control.drift is not None:
        sentence += (
            f"; the random direction by {format_mean(control.drift.first_token)}"
            f" and {format_mean(control.drift.completion)}"
        )
    return [sentence + "."]


def _verdict_unedited(name: str, scores: Scores) -> list[str]:
    refused, answered = scores.refused, scores.answered
    return [
        f"Unedited, {name} refuses {format_rate(refused.refused)} of the prompts it was expected to refuse,"
        f" and complies with {refused.complied.count}.",
        f"Of the prompts it was expected to answer it refuses {format_rate(answered.refused)}.",
        "No edit was measured.",
    ]


def _verdict_unmeasured(name: str, record: RunRecord) -> list[str]:
    chosen, selected = record.chosen, chosen_candidate(record)
    if chosen is None:
        return [f"This record of {name} holds neither a direction nor scores."]
    place = f"position {minus(chosen.position)}, at the input of layer {chosen.layer} of {record.model.layers}"
    if record.proof is not None:
        strength = "" if record.strength is None else f" with strength {record.strength:g}"
        sentences = [f"The refusal direction of {name} ({place}) was ablated from the weights{strength}."]
    else:
        sentences = [f"A refusal direction of {name} was found at {place}."]
    if selected is not None and None not in (selected.bypass, selected.induce, selected.kl):
        sentences.append(
            f"On the prompts it was selected with, removing it brings the refusal score to {fixed(selected.bypass)}"
            f" log-odds, adding it brings that of answered prompts to {fixed(selected.induce)},"
            f" and removing it moves their first token by a KL of {fixed(selected.kl, 3)} nats."
        )
    return [*sentences, "What the edit does to refusals and answers on held-out prompts was not measured in this run."]


def _verdict_proof(proof: Proof | None) -> list[str]:
    if proof is None:
        return []
    return [
        "The edited checkpoint was reloaded from disk and does what the edit says:"
        f" at most {small(proof.component)} of the stream lies along the direction,"
        f" from {small(proof.component_unedited)}, and its logits are within {100 * proof.logit_difference:.2g} % of"
        f" the hooked model’s (allowed: {100 * proof.logit_tolerance:.2g} %)."
    ]


def _from(rate: Rate | None) -> str:
    return "" if rate is None else f", from {rate.count} ({percent(rate)})"


def _overlap(one: Rate, other: Rate) -> bool:
    return one.low <= other.high and other.low <= one.high
