"""A 1x1 convolution as a weighted average of channels: Eq. (14)."""

import numpy as np
from jaxtyping import Float

from distangle.explain.filters.layers import Filters


def averaged_channels(
    maps: Float[np.ndarray, "site input height width"], filters: Filters
) -> Float[np.ndarray, "site filter height width"]:
    r"""Apply 1x1 filters to maps: the weighted sum of channels at every place.

    $$ I_{out,k} = w_{1,k} I_{in,1} + w_{2,k} I_{in,2} + \dots + w_{C_{in},k} I_{in,C_{in}} $$

    Source: Eq. (14)
    Departs: the text calls it a weighted average; the weights have either sign and do not sum to 1. The channels are
        not those of the layer's input: a norm and a ReLU come first, which the printed reading of Fig. 10 leaves out.

    Args:
        maps: I_in, what reaches the convolution.
        filters: w, one filter a row.
    """
    return np.asarray(np.einsum("ki,sihw->skhw", filters, maps))
