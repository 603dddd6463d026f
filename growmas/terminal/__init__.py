"""Printed tables and drawings of histories and runs; they read records, never live networks."""
