"""Ludora teaches language models to act, by training LoRA adapters. See README.md."""

import os

__version__ = "0.1.0"
__all__ = ["__version__"]

# oneDNN, torch's library for CPUs, keeps what it prepared for the last 1,024 shapes of a product; where rows have all
# lengths, that keeps gigabytes from being given back. It is read once, at the first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "200")
