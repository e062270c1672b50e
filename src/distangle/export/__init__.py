"""Write profiles and networks as files of other programs."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distangle.export.anndata_files import write_h5ad
    from distangle.export.network import NetworkExport, export_network
    from distangle.export.pycytominer_files import write_plates
    from distangle.export.sources import ProfileSource, read_source

__all__ = ["NetworkExport", "ProfileSource", "export_network", "read_source", "write_h5ad", "write_plates"]

# Loaded lazily: profiles are exported without torch.
_MODULES = {
    "NetworkExport": "network",
    "ProfileSource": "sources",
    "export_network": "network",
    "read_source": "sources",
    "write_h5ad": "anndata_files",
    "write_plates": "pycytominer_files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
