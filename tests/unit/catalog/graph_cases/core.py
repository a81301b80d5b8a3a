"""Graphs of ComfyUI's own nodes around `KSampler`."""

from __future__ import annotations

from tests.unit.catalog.graphs import (
    BLUR,
    FOX,
    MODEL,
    SEED,
    Case,
    advanced,
    base,
    encoded,
    link,
    node,
    sampler,
    second_pass,
)

CORE = [
    Case(
        "text to image",
        base(),
        more={
            "negative_prompt": BLUR,
            "steps": 20,
            "cfg": 7.0,
            "sampler": "euler",
            "scheduler": "karras",
        },
    ),
    Case("seed of 64 bits", base(sampler=sampler(seed=2**64 - 1)), seed=2**64 - 1),
    Case("seed from a primitive", base(sampler=sampler(seed=link("n")), n=node("PrimitiveInt", value=SEED))),
    Case(
        "seed through a reroute",
        base(
            sampler=sampler(seed=link("r")),
            r=node("Reroute", **{"": link("n")}),
            n=node("Seed (rgthree)", seed=SEED),
        ),
    ),
    Case(
        "seed from a calculation",
        base(sampler=sampler(seed=link("n")), n=node("SimpleMath+", value="a*b", a=3, b=4)),
        seed=None,
    ),
    Case("seed at random", base(sampler=sampler(seed=-1)), seed=None),
    Case(
        "image to image",
        base(
            latent=node("VAEEncode", pixels=link("image"), vae=link("ckpt", 2)),
            image=node("LoadImage", image="cat.png"),
            sampler=sampler(denoise=0.6),
        ),
        more={"denoise": 0.6, "input_images": ("cat.png",)},
    ),
    Case(
        "two passes",
        base(
            upscale=node("LatentUpscaleBy", samples=link("sampler"), scale_by=1.5),
            second=second_pass(),
            decode=node("VAEDecode", samples=link("second"), vae=link("ckpt", 2)),
        ),
        more={"steps": 20},
    ),
    Case(
        "upscaled by a model",
        base(
            up=node("ImageUpscaleWithModel", upscale_model=link("um"), image=link("decode")),
            um=node("UpscaleModelLoader", model_name="4x_sharp.pth"),
            save=node("SaveImage", filename_prefix="fox", images=link("up")),
        ),
        more={"models": (MODEL,)},
    ),
    Case(
        "SDXL with refiner",
        base(
            pos=node(
                "CLIPTextEncodeSDXL", clip=link("ckpt", 1), width=1024, height=1024, text_g=FOX, text_l=FOX
            ),
            sampler=advanced(end_at_step=20, return_with_leftover_noise="enable"),
            ref=node("CheckpointLoaderSimple", ckpt_name="refiner.safetensors"),
            rpos=node(
                "CLIPTextEncodeSDXLRefiner",
                clip=link("ref", 1),
                ascore=6.0,
                width=1024,
                height=1024,
                text=FOX,
            ),
            refine=advanced(
                add_noise="disable",
                noise_seed=0,
                start_at_step=20,
                model=link("ref"),
                positive=link("rpos"),
                latent_image=link("sampler"),
            ),
            decode=node("VAEDecode", samples=link("refine"), vae=link("ref", 2)),
        ),
        more={"models": (MODEL, "refiner.safetensors"), "steps": 30, "cfg": 6.5},
    ),
    Case(
        "Wan with two models",
        base(
            ckpt=node("CLIPLoader", clip_name="umt5.safetensors", type="wan"),
            high=node("UNETLoader", unet_name=MODEL),
            low=node("UNETLoader", unet_name="wan_low.safetensors"),
            shift=node("ModelSamplingSD3", model=link("high"), shift=8.0),
            latent=node("EmptyHunyuanLatentVideo", width=832, height=480, length=81, batch_size=1),
            sampler=advanced(model=link("shift"), end_at_step=10, return_with_leftover_noise="enable"),
            second=advanced(
                model=link("low"),
                add_noise="disable",
                noise_seed=0,
                start_at_step=10,
                latent_image=link("sampler"),
            ),
            decode=node("VAEDecode", samples=link("second"), vae=link("vae")),
            vae=node("VAELoader", vae_name="wan_vae.safetensors"),
            video=node("CreateVideo", images=link("decode"), fps=16),
            save=node("SaveVideo", filename_prefix="video/fox", video=link("video"), format="auto"),
        ),
        more={"models": (MODEL, "wan_low.safetensors", "wan_vae.safetensors", "umt5.safetensors")},
    ),
    Case(
        "image to video",
        base(
            i2v=node(
                "WanImageToVideo",
                positive=link("pos"),
                negative=link("neg"),
                vae=link("ckpt", 2),
                width=832,
                height=480,
                length=81,
                start_image=link("image"),
            ),
            image=node("LoadImage", image="start.jpg"),
            sampler=sampler(positive=link("i2v", 0), negative=link("i2v", 1), latent_image=link("i2v", 2)),
        ),
        more={"negative_prompt": BLUR, "input_images": ("start.jpg",)},
    ),
    Case(
        "ControlNet",
        base(
            cn=node(
                "ControlNetApplyAdvanced",
                positive=link("pos"),
                negative=link("neg"),
                control_net=link("cnl"),
                image=link("image"),
                strength=0.8,
            ),
            cnl=node("ControlNetLoader", control_net_name="canny.safetensors"),
            image=node("LoadImage", image="edges.png"),
            sampler=sampler(positive=link("cn", 0), negative=link("cn", 1)),
        ),
        more={"models": (MODEL,), "negative_prompt": BLUR},
    ),
    Case(
        "ControlNet, old node",
        base(
            cn=node(
                "ControlNetApply",
                conditioning=link("pos"),
                control_net=link("cnl"),
                image=link("image"),
                strength=0.8,
            ),
            cnl=node("ControlNetLoader", control_net_name="canny.safetensors"),
            image=node("LoadImage", image="edges.png"),
            sampler=sampler(positive=link("cn")),
        ),
    ),
    Case(
        "inpainting",
        base(
            inp=node(
                "InpaintModelConditioning",
                positive=link("pos"),
                negative=link("neg"),
                vae=link("ckpt", 2),
                pixels=link("image"),
                mask=link("image", 1),
            ),
            image=node("LoadImage", image="hole.png"),
            sampler=sampler(positive=link("inp", 0), negative=link("inp", 1), latent_image=link("inp", 2)),
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "combined conditioning",
        base(
            pos=node("ConditioningCombine", conditioning_1=link("a"), conditioning_2=link("b")),
            a=encoded("a fox"),
            b=encoded("snow"),
        ),
        prompt="a fox, snow",
    ),
    Case(
        "zeroed negative",
        base(neg=node("ConditioningZeroOut", conditioning=link("pos"))),
        more={"negative_prompt": ""},
    ),
    Case("text from a note with NaN beside", base(extra=node("Something", value=float("nan")))),
    Case(
        "LoRAs in a row",
        base(
            l1=node(
                "LoraLoader",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                lora_name="snow.safetensors",
                strength_model=0.8,
                strength_clip=1.0,
            ),
            l2=node("LoraLoaderModelOnly", model=link("l1"), lora_name="fur.safetensors", strength_model=0.5),
            off=node("LoraLoaderModelOnly", model=link("l2"), lora_name="off.safetensors", strength_model=0),
            sampler=sampler(model=link("off")),
        ),
        more={"loras": (("snow.safetensors", 0.8), ("fur.safetensors", 0.5))},
    ),
    Case(
        "merged models",
        base(
            other=node("CheckpointLoaderSimple", ckpt_name="other.safetensors"),
            merge=node("ModelMergeSimple", model1=link("ckpt"), model2=link("other"), ratio=0.5),
            sampler=sampler(model=link("merge")),
        ),
        more={"models": (MODEL, "other.safetensors")},
    ),
    Case(
        "output chosen by its node",
        base(
            pos2=encoded("a blue cat"),
            sampler2=sampler(positive=link("pos2"), seed=5),
            decode2=node("VAEDecode", samples=link("sampler2"), vae=link("ckpt", 2)),
            save2=node("SaveImage", filename_prefix="cat", images=link("decode2")),
        ),
        output_node="save2",
        prompt="a blue cat",
        seed=5,
    ),
    Case(
        "output chosen by its prefix",
        base(
            pos2=encoded("a blue cat"),
            sampler2=sampler(positive=link("pos2"), seed=5),
            decode2=node("VAEDecode", samples=link("sampler2"), vae=link("ckpt", 2)),
            save2=node("SaveImage", filename_prefix="%date:yyyy%/cat", images=link("decode2")),
        ),
        file_name="cat_00001_.png",
        prompt="a blue cat",
        seed=5,
    ),
    Case(
        "preview beside",
        base(
            pos2=encoded("a blue cat"),
            sampler2=sampler(positive=link("pos2"), seed=5),
            decode2=node("VAEDecode", samples=link("sampler2"), vae=link("ckpt", 2)),
            show=node("PreviewImage", images=link("decode2")),
        ),
    ),
    Case(
        "latent saved", base(save=node("SaveLatent", filename_prefix="latents/fox", samples=link("sampler")))
    ),
    Case(
        "animated WebP",
        base(
            save=node("SaveAnimatedWEBP", filename_prefix="fox", images=link("decode"), fps=6, lossless=True)
        ),
    ),
]
