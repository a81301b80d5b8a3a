"""Readers of what ComfyUI and its node packs write into files, one module per format."""
