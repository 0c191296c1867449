"""Claim: capturing the residual stream of 256 prompts costs at most 1.10 of a bare forward pass of the same batches."""

from abliterate.capture.batching import run_batched
from abliterate.capture.chat import Chat
from abliterate.capture.collect import collect
from abliterate.capture.forward import batch_of, run_decoder
from abliterate.capture.prompts import Label, load_prompts
from benchmarks.common import interleave, peak_rss, ratio, report, subject


def main() -> None:
    """Measure and print."""
    model = subject(__doc__ or "")
    chat = Chat(model.tokenizer)
    texts = [text for label in Label for text in load_prompts("builtin", label).take(None, 128)]
    sequences = chat.encode(texts)

    def bare() -> None:
        def work(rows: list[int]) -> list[None]:
            run_decoder(model, batch_of(model, [sequences[i] for i in rows]))
            return [None] * len(rows)

        run_batched(sequences, work, device=model.model.device, title="bare")

    def captured() -> None:
        collect(model, sequences, chat.positions)

    seconds = interleave(3, bare, captured)
    peaks = [(peak_rss(captured), peak_rss(bare)) for _ in range(3)]
    report(
        {
            "benchmark": "capture",
            "ratio": round(ratio(seconds[1], seconds[0]), 4),
            "peak_rss_ratio": _peak_ratio(peaks),
            "prompts": len(sequences),
            "seconds_bare": [round(s, 3) for s in seconds[0]],
            "seconds_captured": [round(s, 3) for s in seconds[1]],
            "peak_bytes": peaks,
            "limit": 1.10,
        }
    )


def _peak_ratio(peaks: list[tuple[int | None, int | None]]) -> float | None:
    """Median over rounds: the allocator gives memory back when it likes, so that one round tells little."""
    known = [(captured, bare) for captured, bare in peaks if captured and bare]
    return round(ratio([c for c, _ in known], [b for _, b in known]), 4) if known else None


if __name__ == "__main__":
    main()
