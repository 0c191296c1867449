"""Stage 4, what we change: edits, as hooks at inference or written into the weights, and the proof that they agree."""
