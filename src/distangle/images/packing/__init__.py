"""Pack images: one lossless file with a checksum per image."""
