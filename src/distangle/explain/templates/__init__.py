"""How the templates of both heads and the embeddings lie in their full space, and maps of them beside those numbers."""
