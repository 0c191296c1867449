"""Stage 2, what the model does: prompts, chat format, completions, and moments of its residual stream."""
