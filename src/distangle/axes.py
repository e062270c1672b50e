"""Define the names of all array axes."""

from jaxtyping import Float, Int
from torch import Tensor

Images = Float[Tensor, "site channel height width"]
CellTypes = Float[Tensor, "site cell_type"]
FeatureMaps = Float[Tensor, "site feature height width"]
Pooled = Float[Tensor, "site feature"]
References = Float[Tensor, "site reference"]
Embeddings = Float[Tensor, "site embedding"]
Logits = Float[Tensor, "site perturbation"]
Cosines = Float[Tensor, "site perturbation"]
Labels = Int[Tensor, " site"]
SoftLabels = Float[Tensor, "site perturbation"]
Maps = Float[Tensor, "site height width"]
ChannelScores = Float[Tensor, "site channel"]
Scalar = Float[Tensor, ""]
