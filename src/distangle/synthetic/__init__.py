"""A screen with a planted truth: cells that look like cells, effects whose stain and place are known."""
