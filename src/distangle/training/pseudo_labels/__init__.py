"""Give pseudo labels to unlabelled wells."""
