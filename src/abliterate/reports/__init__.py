"""Stage 8, what we say: the record of a run, and the plots, page and model card made from it alone."""
