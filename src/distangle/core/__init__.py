"""Files, processes and statistics that every package needs: no science, and no import of other packages."""
