"""Ludora teaches language models to act, by training LoRA adapters. See README.md."""

import os

__version__ = "0.1.0"
__all__ = ["__version__"]

# oneDNN, torch's library for CPUs, keeps what it prepared for the last 1,024 shapes of a product, and holds memory by it that
# comes to gigabytes where rows have all lengths. Read once, at the first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "200")
