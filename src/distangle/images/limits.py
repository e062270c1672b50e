"""What no image of a microscope exceeds."""

MAX_PIXELS = 64 * 1024 * 1024  # per plane, read from the header before anything is decoded
