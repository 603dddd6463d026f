"""Integrations: one thin module for each outside tool, imported only when it is used."""
