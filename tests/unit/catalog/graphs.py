"""Builders for graphs in API format, and the facts that reading one must give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FOX, BLUR, MODEL, SEED = "a red fox in the snow", "blurry, text", "fox_v1.safetensors", 123456789


@dataclass(frozen=True)
class Case:
    """A graph in API format, and what is right; None in `prompt`: it can't be known from the graph."""

    name: str
    graph: dict[str, Any]
    prompt: str | None = FOX
    model: str | None = MODEL
    seed: int | None = SEED
    more: dict[str, Any] = field(default_factory=dict)
    output_node: str | None = None
    file_name: str | None = None


def node(kind: str, title: str = "", /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def link(name: str, slot: int = 0) -> list[Any]:
    return [name, slot]


def encoded(text: Any) -> dict[str, Any]:
    return node("CLIPTextEncode", clip=link("ckpt", 1), text=text)


def sampler(**changed: Any) -> dict[str, Any]:
    inputs = {
        "seed": SEED,
        "steps": 20,
        "cfg": 7.0,
        "sampler_name": "euler",
        "scheduler": "karras",
        "denoise": 1.0,
        "model": link("ckpt"),
        "positive": link("pos"),
        "negative": link("neg"),
        "latent_image": link("latent"),
    }
    return node("KSampler", **{**inputs, **changed})


def base(**changed: Any) -> dict[str, Any]:
    """The default text-to-image graph with nodes replaced or added by name."""
    graph = {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name=MODEL),
        "latent": node("EmptyLatentImage", width=832, height=1216, batch_size=1),
        "pos": encoded(FOX),
        "neg": encoded(BLUR),
        "sampler": sampler(),
        "decode": node("VAEDecode", samples=link("sampler"), vae=link("ckpt", 2)),
        "save": node("SaveImage", filename_prefix="fox", images=link("decode")),
    }
    return {**graph, **changed}


def text_from(**nodes: Any) -> dict[str, Any]:
    """The default graph whose positive prompt comes from the node `text`."""
    return base(pos=encoded(link("text")), **nodes)


def guided(guider: dict[str, Any], **nodes: Any) -> dict[str, Any]:
    graph = {
        "unet": node("UNETLoader", unet_name=MODEL, weight_dtype="default"),
        "clip": node(
            "DualCLIPLoader", clip_name1="t5xxl.safetensors", clip_name2="clip_l.safetensors", type="flux"
        ),
        "vae": node("VAELoader", vae_name="ae.safetensors"),
        "pos": node("CLIPTextEncode", clip=link("clip"), text=FOX),
        "neg": node("CLIPTextEncode", clip=link("clip"), text=BLUR),
        "noise": node("RandomNoise", noise_seed=SEED),
        "guider": guider,
        "select": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", scheduler="simple", steps=28, denoise=1.0, model=link("unet")),
        "latent": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
        "sampler": node(
            "SamplerCustomAdvanced",
            noise=link("noise"),
            guider=link("guider"),
            sampler=link("select"),
            sigmas=link("sigmas"),
            latent_image=link("latent"),
        ),
        "decode": node("VAEDecode", samples=link("sampler"), vae=link("vae")),
        "save": node("SaveImage", filename_prefix="flux", images=link("decode")),
    }
    return {**graph, **nodes}


def advanced(**changed: Any) -> dict[str, Any]:
    inputs = {
        "add_noise": "enable",
        "noise_seed": SEED,
        "steps": 30,
        "cfg": 6.5,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "start_at_step": 0,
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
        "model": link("ckpt"),
        "positive": link("pos"),
        "negative": link("neg"),
        "latent_image": link("latent"),
    }
    return node("KSamplerAdvanced", **{**inputs, **changed})


def second_pass(**changed: Any) -> dict[str, Any]:
    return sampler(**{"seed": 1, "steps": 10, "denoise": 0.5, "latent_image": link("upscale"), **changed})
