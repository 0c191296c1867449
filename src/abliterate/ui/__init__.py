"""Stage 9, where people meet it: the command line. The only stage that prints."""
