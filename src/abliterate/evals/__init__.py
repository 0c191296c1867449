"""What an edit changed in what the model says, and how sure we can be of it."""
