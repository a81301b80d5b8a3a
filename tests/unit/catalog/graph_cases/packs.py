"""Graphs of common packs' own samplers, pipes, detailers and encoders."""

from __future__ import annotations

from tests.unit.catalog.graphs import (
    BLUR,
    FOX,
    MODEL,
    SEED,
    Case,
    base,
    encoded,
    link,
    node,
    sampler,
    text_from,
)

PACKS = [
    Case(
        "Efficiency",
        {
            "loader": node(
                "Efficient Loader",
                ckpt_name=MODEL,
                vae_name="Baked VAE",
                clip_skip=-1,
                lora_name="None",
                lora_model_strength=1.0,
                lora_clip_strength=1.0,
                positive=FOX,
                negative=BLUR,
                token_normalization="none",
                weight_interpretation="comfy",
                empty_latent_width=832,
                empty_latent_height=1216,
                batch_size=1,
                lora_stack=link("stack"),
            ),
            "stack": node(
                "LoRA Stacker",
                input_mode="simple",
                lora_count=1,
                lora_name_1="fur.safetensors",
                lora_wt_1=0.6,
                model_str_1=1.0,
                clip_str_1=1.0,
                lora_name_2="off.safetensors",
                lora_wt_2=1.0,
            ),
            "ks": node(
                "KSampler (Efficient)",
                seed=SEED,
                steps=20,
                cfg=7.0,
                sampler_name="euler",
                scheduler="karras",
                denoise=1.0,
                preview_method="auto",
                vae_decode="true",
                model=link("loader", 0),
                positive=link("loader", 1),
                negative=link("loader", 2),
                latent_image=link("loader", 3),
                optional_vae=link("loader", 4),
            ),
            "save": node("SaveImage", filename_prefix="fox", images=link("ks", 5)),
        },
        more={
            "negative_prompt": BLUR,
            "loras": (("fur.safetensors", 0.6),),
            "models": (MODEL,),
        },
    ),
    Case(
        "easy-use pipe",
        {
            "loader": node(
                "easy fullLoader",
                ckpt_name=MODEL,
                vae_name="Baked VAE",
                lora_name="None",
                positive=link("text"),
                negative=BLUR,
                resolution="832 x 1216",
                empty_latent_width=832,
                empty_latent_height=1216,
            ),
            "text": node("easy positive", positive=FOX),
            "pre": node(
                "easy preSampling",
                pipe=link("loader"),
                steps=20,
                cfg=7.0,
                sampler_name="euler",
                scheduler="karras",
                denoise=1.0,
                seed=SEED,
            ),
            "ks": node(
                "easy kSampler",
                pipe=link("pre"),
                model=link("loader", 1),
                image_output="Save",
                save_prefix="fox",
                link_id=0,
            ),
        },
        more={"steps": 20, "sampler": "euler", "negative_prompt": BLUR},
    ),
    Case(
        "easy-use LoRA stack",
        {
            "stack": node(
                "easy loraStack",
                toggle=True,
                mode="simple",
                num_loras=1,
                lora_1_name="fur.safetensors",
                lora_1_strength=0.7,
                lora_2_name="off.safetensors",
                lora_2_strength=1.0,
            ),
            "loader": node(
                "easy a1111Loader",
                ckpt_name=MODEL,
                positive=FOX,
                negative=BLUR,
                optional_lora_stack=link("stack"),
            ),
            "ks": node(
                "easy fullkSampler",
                pipe=link("loader"),
                steps=20,
                cfg=7.0,
                sampler_name="euler",
                scheduler="karras",
                denoise=1.0,
                seed=SEED,
                image_output="Preview",
            ),
            "save": node("SaveImage", filename_prefix="fox", images=link("ks", 1)),
        },
        more={"loras": (("fur.safetensors", 0.7),)},
    ),
    Case(
        "Impact basic pipe",
        base(
            pipe=node(
                "ToBasicPipe",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                vae=link("ckpt", 2),
                positive=link("pos"),
                negative=link("neg"),
            ),
            sampler=node(
                "ImpactKSamplerBasicPipe",
                basic_pipe=link("pipe"),
                seed=SEED,
                steps=20,
                cfg=7.0,
                sampler_name="euler",
                scheduler="karras",
                latent_image=link("latent"),
                denoise=1.0,
            ),
            decode=node("VAEDecode", samples=link("sampler", 1), vae=link("sampler", 2)),
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "Impact pipe taken apart",
        base(
            pipe=node(
                "ToBasicPipe",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                vae=link("ckpt", 2),
                positive=link("pos"),
                negative=link("neg"),
            ),
            apart=node("FromBasicPipe", basic_pipe=link("pipe")),
            sampler=sampler(model=link("apart", 0), positive=link("apart", 3), negative=link("apart", 4)),
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "FaceDetailer",
        base(
            face=node(
                "FaceDetailer",
                image=link("decode"),
                model=link("ckpt"),
                clip=link("ckpt", 1),
                vae=link("ckpt", 2),
                positive=link("fpos"),
                negative=link("neg"),
                bbox_detector=link("det"),
                seed=9,
                steps=20,
                cfg=8.0,
                sampler_name="euler",
                scheduler="normal",
                denoise=0.5,
                wildcard="",
                guide_size=512,
            ),
            fpos=encoded("a detailed face"),
            det=node("UltralyticsDetectorProvider", model_name="bbox/face_yolov8m.pt"),
            save=node("SaveImage", filename_prefix="fox", images=link("face")),
        ),
        more={"models": (MODEL,)},
    ),
    Case(
        "Ultimate SD Upscale",
        base(
            up=node(
                "UltimateSDUpscale",
                image=link("decode"),
                model=link("ckpt"),
                positive=link("pos"),
                negative=link("neg"),
                vae=link("ckpt", 2),
                upscale_model=link("um"),
                upscale_by=2.0,
                seed=9,
                steps=20,
                cfg=8.0,
                sampler_name="euler",
                scheduler="normal",
                denoise=0.2,
            ),
            um=node("UpscaleModelLoader", model_name="4x_sharp.pth"),
            save=node("SaveImage", filename_prefix="fox", images=link("up")),
        ),
    ),
    Case(
        "rgthree context",
        base(
            ctx=node(
                "Context Big (rgthree)",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                vae=link("ckpt", 2),
                positive=link("pos"),
                negative=link("neg"),
                seed=link("n"),
                steps=20,
            ),
            n=node("Seed (rgthree)", seed=SEED),
            again=node("Context (rgthree)", base_ctx=link("ctx")),
            sampler=sampler(
                model=link("again", 1),
                positive=link("again", 4),
                negative=link("again", 5),
                seed=link("again", 8),
            ),
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "ids of a subgraph",
        {
            key.replace("pos", "12:5:3"): {
                **value,
                "inputs": {
                    name: (["12:5:3", item[1]] if isinstance(item, list) and item[0] == "pos" else item)
                    for name, item in value["inputs"].items()
                },
            }
            for key, value in base().items()
        },
    ),
    Case(
        "ttN pipe",
        {
            "load": node(
                "ttN pipeLoader_v2", ckpt_name=MODEL, vae_name="Baked VAE", positive=FOX, negative=BLUR
            ),
            "ks": node(
                "ttN pipeKSampler_v2", pipe=link("load"), steps=20, cfg=7.0, seed=SEED, save_prefix="fox"
            ),
        },
        more={"negative_prompt": BLUR, "models": (MODEL,)},
    ),
    Case(
        "Swarm",
        base(
            sampler=node(
                "SwarmKSampler",
                model=link("ckpt"),
                noise_seed=SEED,
                steps=20,
                cfg=7.0,
                start_at_step=0,
                add_noise="enable",
                positive=link("pos"),
                negative=link("neg"),
                latent_image=link("latent"),
            )
        ),
    ),
    Case(
        "text of an area",
        base(pos=node("ConditioningSetArea", conditioning=link("p"), width=64), p=encoded(FOX)),
    ),
    Case("encoder of a pack", base(pos=node("BNK_CLIPTextEncodeAdvanced", clip=link("ckpt", 1), text=FOX))),
    Case(
        "dynamic prompt",
        text_from(text=node("DPRandomGenerator", text="a {red|blue} fox")),
        prompt="a {red|blue} fox",
    ),
    Case(
        "component with a prompt of another name",
        base(
            pipe=node("## make-pipe", ckpt_name=MODEL, linguistic_positive=FOX, terms="film", negative=BLUR),
            sampler=node(
                "ksample-dec",
                seed=SEED,
                steps=20,
                cfg=7.0,
                basic_pipe=link("pipe"),
                latent_image=link("latent"),
            ),
        ),
        more={"negative_prompt": BLUR},
    ),
]
