"""Followers: optimizers, copies of the model and other objects that every edit re-indexes too.

- `followers`: `Follower`, the protocol; `check_followers`, `follow`
- `optimizers`: `follow_optimizer`, new parameters and re-indexed state
- `copies`: `follow_copy`, for moving averages and other copies of the model
- `warmup`: `Warmup`, the first updates of fresh entries under Adam
- `young`: the young rows and columns that it corrects
"""
