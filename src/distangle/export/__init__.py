"""Write profiles, explained sites and networks as files of other programs."""

from typing import TYPE_CHECKING

from distangle.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from distangle.export.anndata_files import write_h5ad
    from distangle.export.explained_sites import SiteExport, write_explained_sites
    from distangle.export.network import NetworkExport, export_network
    from distangle.export.pycytominer_files import write_plates
    from distangle.export.sources import ProfileSource, read_source

__all__ = [
    "NetworkExport",
    "ProfileSource",
    "SiteExport",
    "export_network",
    "read_source",
    "write_explained_sites",
    "write_h5ad",
    "write_plates",
]

# Loaded lazily: profiles are exported without torch.
_MODULES = {
    "NetworkExport": "network",
    "ProfileSource": "sources",
    "SiteExport": "explained_sites",
    "export_network": "network",
    "read_source": "sources",
    "write_explained_sites": "explained_sites",
    "write_h5ad": "anndata_files",
    "write_plates": "pycytominer_files",
}

__getattr__ = lazy_names(__name__, _MODULES)
