"""The network as of an earlier task: other tensors are read while it runs."""
