"""`growmas watch`: a browser of runs in the terminal, live or recorded.

`board` computes what is shown; the other modules show it with Textual, which the extra `tui`
brings. Nothing here imports torch.
"""
