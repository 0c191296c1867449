"""Claim: generating with an ablation by hooks costs at most 1.10 of generating without it."""

from typing import Any

import torch

from abliterate.capture.chat import Chat
from abliterate.capture.forward import batch_of
from abliterate.capture.prompts import Label, load_prompts
from abliterate.directions.direction import Direction, Provenance
from abliterate.directions.estimators import random_vector
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import edited
from benchmarks.common import interleave, ratio, report, subject

NEW_TOKENS = 48


def main() -> None:
    """Measure and print."""
    model = subject(__doc__ or "")
    anatomy = model.anatomy
    provenance = Provenance(
        model.source, model.revision, model.config_hash, anatomy.width, anatomy.layers, "", "", "random"
    )
    vector = random_vector(torch.ones(anatomy.width), seed=0)
    edit = Ablate(Direction.from_vector(vector, position=-1, layer=0, provenance=provenance))
    sequences = Chat(model.tokenizer).encode(load_prompts("builtin", Label.ANSWERED).take(None, 8))

    def generate(rows: int) -> None:
        batch = batch_of(model, sequences[:rows])
        generator: Any = model.model
        with torch.inference_mode():
            generator.generate(
                input_ids=batch.ids,
                attention_mask=batch.mask,
                min_new_tokens=NEW_TOKENS,  # the same length whatever is said
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=model.tokenizer.pad_token_id,
            )

    def hooked(rows: int) -> None:
        with edited(model, edit):
            generate(rows)

    batched = interleave(5, lambda: generate(8), lambda: hooked(8))
    single = interleave(5, lambda: generate(1), lambda: hooked(1))
    report(
        {
            "benchmark": "hooks",
            "ratio": round(ratio(batched[1], batched[0]), 4),
            "ratio_batch_1": round(ratio(single[1], single[0]), 4),
            "writers": len(anatomy.writers),
            "new_tokens": NEW_TOKENS,
            "seconds_plain": [round(s, 3) for s in batched[0]],
            "seconds_hooked": [round(s, 3) for s in batched[1]],
            "limit": 1.10,
        }
    )


if __name__ == "__main__":
    main()
