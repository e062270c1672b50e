"""A run that cannot be lost: what is saved and when, how it is picked up again, and who may stop it."""
