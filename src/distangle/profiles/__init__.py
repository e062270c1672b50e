"""Turn embeddings into profiles, hits and measures of batch effects; no torch."""
