"""Where a checkpoint is: a folder, a file or a Hub id; which files hold the weights, which go along."""

from bertconv.source.checkpoint_folder import SourceOptions
from bertconv.source.local import Source, open_source
from bertconv.source.weights import Weights

__all__ = ["Source", "SourceOptions", "Weights", "open_source"]
