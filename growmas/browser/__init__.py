"""The browser of runs in the terminal, live or recorded: `growmas watch`.

`board` computes the contents; the other modules show them with Textual, which the extra `tui`
installs. Nothing here imports torch.
"""
