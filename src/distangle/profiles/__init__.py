"""Turn embeddings and features into profiles, hits, neighbors and measures of batch effects; no torch."""
