"""Save, resume and lock a training."""
