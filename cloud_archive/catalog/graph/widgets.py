"""Names for the widget values of a UI workflow, which stores them as a list."""

from __future__ import annotations

import re
from typing import Any

from .nodes import MAX_NAME_CHARACTERS, MODEL_FILE

_MAX_WIDGETS = 256
OWN_INPUTS = "-1"  # see shown_widgets
_SIZE = re.compile(r"\S+ x \S+$")  # such as `1024 x 1024`
_ENCODED = re.compile(r"data:[^\s,]*,\S*$|[A-Za-z0-9+/_-]{100,}=*$")  # such as a picture in base64
_CONTROL_WORDS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")

_KSAMPLER = "seed * steps cfg sampler_name scheduler denoise"
# `*` is the value that the frontend adds behind a seed.
_ORDER: dict[str, str] = {
    "KSampler": _KSAMPLER,
    "KSamplerAdvanced": "add_noise noise_seed * steps cfg sampler_name scheduler start_at_step end_at_step "
    "return_with_leftover_noise",
    "SamplerCustom": "add_noise noise_seed * cfg",
    "KSampler (Efficient)": f"{_KSAMPLER} preview_method vae_decode",
    "KSampler Adv. (Efficient)": "add_noise noise_seed * steps cfg sampler_name scheduler start_at_step end_at_step "
    "return_with_leftover_noise preview_method vae_decode",
    "Efficient Loader": "ckpt_name vae_name clip_skip lora_name lora_model_strength lora_clip_strength positive "
    "negative token_normalization weight_interpretation empty_latent_width empty_latent_height batch_size",
    "FaceDetailer": "guide_size guide_size_for max_size seed * steps cfg sampler_name scheduler denoise feather "
    "noise_mask force_inpaint bbox_threshold bbox_dilation bbox_crop_factor sam_detection_hint sam_dilation "
    "sam_threshold sam_bbox_expansion sam_mask_hint_threshold sam_mask_hint_use_negative drop_size wildcard cycle",
    "UltimateSDUpscale": f"upscale_by {_KSAMPLER} mode_type tile_width tile_height mask_blur tile_padding",
    "CheckpointLoaderSimple": "ckpt_name",
    "CheckpointLoader": "config_name ckpt_name",
    "ImageOnlyCheckpointLoader": "ckpt_name",
    "unCLIPCheckpointLoader": "ckpt_name",
    "UNETLoader": "unet_name weight_dtype",
    "UnetLoaderGGUF": "unet_name",
    "CLIPLoader": "clip_name type device",
    "CLIPLoaderGGUF": "clip_name type",
    "DualCLIPLoader": "clip_name1 clip_name2 type device",
    "DualCLIPLoaderGGUF": "clip_name1 clip_name2 type",
    "TripleCLIPLoader": "clip_name1 clip_name2 clip_name3",
    "QuadrupleCLIPLoader": "clip_name1 clip_name2 clip_name3 clip_name4",
    "VAELoader": "vae_name",
    "LoraLoader": "lora_name strength_model strength_clip",
    "LoraLoaderModelOnly": "lora_name strength_model",
    "LoraLoader|pysssss": "lora_name strength_model strength_clip",
    "ControlNetLoader": "control_net_name",
    "UpscaleModelLoader": "model_name",
    "CLIPVisionLoader": "clip_name",
    "StyleModelLoader": "style_model_name",
    "CLIPTextEncode": "text",
    "CLIPTextEncodeSDXL": "width height crop_w crop_h target_width target_height text_g text_l",
    "CLIPTextEncodeSDXLRefiner": "ascore width height text",
    "CLIPTextEncodeFlux": "clip_l t5xxl guidance",
    "CLIPTextEncodeSD3": "clip_l clip_g t5xxl empty_padding",
    "CLIPTextEncodeHunyuanDiT": "bert mt5xl",
    "TextEncodeQwenImageEdit": "prompt",
    "TextEncodeQwenImageEditPlus": "prompt",
    "TextGenerate": "prompt max_length sampling_mode",
    "TextEncodeAceStepAudio": "tags lyrics lyrics_strength",
    "EmptyLatentImage": "width height batch_size",
    "EmptySD3LatentImage": "width height batch_size",
    "EmptyFlux2LatentImage": "width height batch_size",
    "EmptyHunyuanLatentVideo": "width height length batch_size",
    "EmptyLTXVLatentVideo": "width height length batch_size",
    "WanImageToVideo": "width height length batch_size",
    "BasicScheduler": "scheduler steps denoise",
    "KSamplerSelect": "sampler_name",
    "RandomNoise": "noise_seed *",
    "CFGGuider": "cfg",
    "FluxGuidance": "guidance",
    "Flux2Scheduler": "steps width height",
    "ManualSigmas": "sigmas",
    "LTXVScheduler": "steps max_shift base_shift stretch terminal",
    "LTXVConditioning": "frame_rate",
    "LoadImage": "image upload",
    "LoadImageMask": "image channel upload",
    "LoadImageOutput": "image",
    "LoadVideo": "file",
    "LoadAudio": "audio",
    "SaveImage": "filename_prefix",
    "SaveVideo": "filename_prefix format codec",
    "SaveAnimatedWEBP": "filename_prefix fps lossless quality method",
    "PrimitiveInt": "value *",
    "PrimitiveFloat": "value",
    "PrimitiveString": "value",
    "PrimitiveStringMultiline": "value",
    "PrimitiveBoolean": "value",
    "StringConcatenate": "string_a string_b delimiter",
    "StringReplace": "string find replace",
    "ComfySwitchNode": "switch",
    "ImpactSwitch": "select sel_mode",
    "ImpactWildcardProcessor": "wildcard_text populated_text mode seed *",
    "ImpactWildcardEncode": "wildcard_text populated_text mode lora_name wildcard_name seed *",
    "Seed (rgthree)": "seed",
    "ShowText|pysssss": "text_0",
    "Text Multiline": "text",
    "Text Concatenate": "delimiter clean_whitespace",
    "easy positive": "positive",
    "easy negative": "negative",
    "easy seed": "seed *",
    "CR LoRA Stack": " ".join(
        f"switch_{number} lora_name_{number} model_weight_{number} clip_weight_{number}"
        for number in (1, 2, 3)
    ),
    "SDXLPromptStyler": "text_positive text_negative style log_prompt",
    "WanVideoTextEncode": "positive_prompt negative_prompt force_offload",
    "OpenAIDalle3": "prompt seed * quality style size",
    "FluxProUltraImageNode": "prompt prompt_upsampling seed * aspect_ratio raw image_prompt_strength",
}


def node_type(node: dict[str, Any]) -> str:
    """Return the type of a UI node, up to MAX_NAME_CHARACTERS of it; empty: it has none."""
    kind = node.get("type")
    return kind[:MAX_NAME_CHARACTERS] if isinstance(kind, str) else ""


def named_widgets(node: dict[str, Any]) -> dict[str, Any]:
    """Return the widget values of a UI node by name.

    The names come from the node's inputs (newer frontends list every widget there), else from the table of common
    nodes, else from the values: model files, seeds, texts.
    """
    values = node.get("widgets_values")
    kind = node_type(node)
    if isinstance(values, dict):
        return {str(name): value for name, value in values.items() if name != "videopreview"}
    if not isinstance(values, list):
        return {}
    values = values[:_MAX_WIDGETS]
    if kind.startswith("Power Lora Loader"):
        entries = [value for value in values if isinstance(value, dict) and "lora" in value]
        return {f"lora_{number}": entry for number, entry in enumerate(entries, 1)}
    named = _from_inputs(node, values) or _from_table(kind, values)
    return named if named is not None else _from_values(kind, values)


def shown_widgets(instance: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Return (id of the node inside, or OWN_INPUTS; name; value) of the widgets that a subgraph's instance shows."""
    properties, values = instance.get("properties"), instance.get("widgets_values")
    places = properties.get("proxyWidgets") if isinstance(properties, dict) else None
    if not isinstance(places, list) or not isinstance(values, list) or len(places) != len(values):
        return []
    return [
        (str(place[0]), place[1], value)
        for place, value in zip(places[:_MAX_WIDGETS], values, strict=False)
        if isinstance(place, list)
        and len(place) >= 2
        and isinstance(place[0], str | int)
        and isinstance(place[1], str)
        and value is not None
    ]


def names_are_known(node: dict[str, Any]) -> bool:
    """Return whether the names of a UI node's widgets are known rather than guessed from their values."""
    values = node.get("widgets_values")
    return not isinstance(values, list) or node_type(node) in _ORDER or _from_inputs(node, values) is not None


def widget_names(node: dict[str, Any]) -> list[str]:
    """Return the names of the inputs of a UI node that are widgets."""
    names = []
    inputs = node.get("inputs")
    for item in inputs if isinstance(inputs, list) else ():
        widget = item.get("widget") if isinstance(item, dict) else None
        if isinstance(widget, dict) and isinstance(widget.get("name"), str):
            names.append(widget["name"])
    return names


def _from_inputs(node: dict[str, Any], values: list[Any]) -> dict[str, Any] | None:
    names = widget_names(node)
    plain = _without_controls(values)
    # Older frontends list only the widgets that were turned into inputs.
    return dict(zip(names, plain, strict=True)) if names and len(names) == len(plain) else None


def _without_controls(values: list[Any]) -> list[Any]:
    return [
        value
        for position, value in enumerate(values)
        if not (position and _is_control(value) and _is_number(values[position - 1]))
    ]


def _from_table(kind: str, values: list[Any]) -> dict[str, Any] | None:
    if kind not in _ORDER:
        return None
    named: dict[str, Any] = {}
    position = 0
    for name in _ORDER[kind].split():
        if position >= len(values):
            break
        if name == "*":
            # The first frontends stored true or false here, and Efficiency nodes store null.
            position += _is_control(values[position]) or isinstance(values[position], bool | None)
            continue
        named[name] = values[position]
        position += 1
    return named


def _from_values(kind: str, values: list[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        named[name if name not in named else f"{name}_{len(named) + 1}"] = value

    for position, value in enumerate(values):
        following = values[position + 1] if position + 1 < len(values) else None
        if isinstance(value, str) and MODEL_FILE.search(value):
            add("lora_name" if "lora" in kind.lower() else "model_name", value)
        elif isinstance(value, str) and _may_be_prompt(value):
            add("prompt", value)
        elif _is_number(value) and _is_control(following):
            add("seed", value)
        elif position and _is_control(value) and _is_number(values[position - 1]):
            continue
        else:
            add("value" if len(values) == 1 else f"widget_{position}", value)
    return named


def _may_be_prompt(value: str) -> bool:
    is_long = len(value) > 40 or value.count(" ") > 1
    return is_long and not _SIZE.match(value) and not _ENCODED.match(value)


def _is_control(value: Any) -> bool:
    return isinstance(value, str) and value in _CONTROL_WORDS


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
