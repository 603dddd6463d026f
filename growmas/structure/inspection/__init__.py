"""Look at units and plans; nothing is changed."""
