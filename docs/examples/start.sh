#!/bin/bash
# ComfyUI with the archive beside it. When the pod is stopped (SIGTERM), this script ends ComfyUI and waits until its
# files are archived. Exit status 0: it is safe to stop.
cloud-archive watch --log-file cloud-archive.log &
python main.py --listen 0.0.0.0 --output-directory "$COMFYUI_OUTPUT_DIR" &
comfyui=$!
trap 'kill "$comfyui"' TERM
wait "$comfyui" # until ComfyUI ends, or the signal comes
wait "$comfyui" # after a signal: until ComfyUI has ended
cloud-archive flush --timeout 300
