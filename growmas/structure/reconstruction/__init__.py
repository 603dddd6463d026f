"""Fold what removed units did into the layers that read them."""
