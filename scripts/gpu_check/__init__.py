"""The stages of gpu-check: see that script."""
