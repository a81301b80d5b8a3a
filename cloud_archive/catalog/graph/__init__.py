"""Read a ComfyUI graph: what was asked for, with which models and settings."""
