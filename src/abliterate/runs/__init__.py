"""All stages in order: the pipeline, what lets it resume, and the embedded demonstration model."""
