"""Optimizers and copies of the model follow an edit."""
