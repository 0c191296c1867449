"""Stage 1, what the model is: loading, its blocks, and the modules that write to its residual stream."""
