"""Engines of sweeps: this machine, Ray, or a Slurm cluster."""
