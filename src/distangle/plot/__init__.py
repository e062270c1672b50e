"""Draw results of a run as matplotlib figures, for notebooks."""

from typing import TYPE_CHECKING

from distangle.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from distangle.plot.plate_maps import plate
    from distangle.plot.profile_maps import profile_map, trade_off
    from distangle.plot.run_charts import channels, confusion, training
    from distangle.plot.site_pictures import site

__all__ = ["channels", "confusion", "plate", "profile_map", "site", "trade_off", "training"]

# Loaded lazily: matplotlib is loaded by the first figure. No module has the name of a function.
_MODULES = {
    "channels": "run_charts",
    "confusion": "run_charts",
    "plate": "plate_maps",
    "profile_map": "profile_maps",
    "site": "site_pictures",
    "trade_off": "profile_maps",
    "training": "run_charts",
}

__getattr__ = lazy_names(__name__, _MODULES)
