"""Graphs that make a video with nodes of common packs."""

from __future__ import annotations

from tests.unit.catalog.graphs import BLUR, FOX, MODEL, SEED, Case, base, link, node, sampler

VIDEOS = [
    Case(
        "AnimateDiff",
        base(
            ad=node(
                "ADE_AnimateDiffLoaderGen1",
                model=link("ckpt"),
                model_name="mm_sd_v15.ckpt",
                beta_schedule="autoselect",
            ),
            sampler=sampler(model=link("ad")),
            save=node(
                "VHS_VideoCombine",
                images=link("decode"),
                frame_rate=8,
                loop_count=0,
                filename_prefix="fox",
                format="video/h264-mp4",
                save_output=True,
            ),
        ),
        more={"models": (MODEL,)},
    ),
    Case(
        "Wan video wrapper",
        {
            "load": node("WanVideoModelLoader", model=MODEL, base_precision="bf16", lora=link("lora")),
            "lora": node("WanVideoLoraSelect", lora="fur.safetensors", strength=0.9),
            "t5": node("LoadWanVideoT5TextEncoder", model_name="umt5.safetensors", precision="bf16"),
            "text": node(
                "WanVideoTextEncode",
                positive_prompt=FOX,
                negative_prompt=BLUR,
                force_offload=True,
                t5=link("t5"),
            ),
            "embeds": node("WanVideoEmptyEmbeds", width=832, height=480, num_frames=81),
            "ks": node(
                "WanVideoSampler",
                model=link("load"),
                image_embeds=link("embeds"),
                text_embeds=link("text"),
                steps=30,
                cfg=6.0,
                shift=5.0,
                seed=SEED,
                scheduler="unipc",
                force_offload=True,
            ),
            "decode": node("WanVideoDecode", vae=link("vae"), samples=link("ks")),
            "vae": node("WanVideoVAELoader", model_name="wan_vae.safetensors"),
            "save": node(
                "VHS_VideoCombine", images=link("decode"), filename_prefix="wan", format="video/h264-mp4"
            ),
        },
        more={
            "negative_prompt": BLUR,
            "steps": 30,
            "scheduler": "unipc",
            "loras": (("fur.safetensors", 0.9),),
        },
    ),
    Case(
        "Hunyuan video wrapper",
        {
            "load": node("HyVideoModelLoader", model=MODEL),
            "text": node("HyVideoTextEncode", prompt=FOX, text_encoders=link("te")),
            "te": node(
                "DownloadAndLoadHyVideoTextEncoder", llm_model="Kijai/llava", clip_model="openai/clip"
            ),
            "ks": node(
                "HyVideoSampler",
                model=link("load"),
                hyvid_embeds=link("text"),
                width=960,
                height=544,
                num_frames=97,
                steps=30,
                embedded_guidance_scale=6.0,
                flow_shift=9.0,
                seed=SEED,
            ),
            "decode": node("HyVideoDecode", vae=link("vae"), samples=link("ks")),
            "vae": node("HyVideoVAELoader", model_name="hy_vae.safetensors"),
            "save": node(
                "VHS_VideoCombine", images=link("decode"), filename_prefix="hy", format="video/h264-mp4"
            ),
        },
        more={"steps": 30, "negative_prompt": None},
    ),
    Case(
        "Wan video wrapper with an encoder that loads its own model",
        {
            "load": node("WanVideoModelLoader", model=MODEL),
            "set": node("WanVideoSetBlockSwap", model=link("load")),
            "text": node(
                "WanVideoTextEncodeCached",
                model_name="umt5.safetensors",
                positive_prompt=FOX,
                negative_prompt=BLUR,
            ),
            "ks": node(
                "WanVideoSampler",
                model=link("set"),
                text_embeds=link("text"),
                seed=SEED,
                steps=30,
                scheduler="unipc",
            ),
            "save": node("VHS_VideoCombine", images=link("ks"), filename_prefix="fox"),
        },
        more={"negative_prompt": BLUR, "models": (MODEL, "umt5.safetensors")},
    ),
    Case(
        "Wan video wrapper with the negative text in its NAG",
        {
            "load": node("WanVideoModelLoader", model=MODEL),
            "pos": node("WanVideoTextEncodeSingle", prompt=FOX),
            "neg": node("WanVideoTextEncodeSingle", prompt=BLUR),
            "nag": node(
                "WanVideoApplyNAG",
                nag_scale=11,
                original_text_embeds=link("pos"),
                nag_text_embeds=link("neg"),
            ),
            "ks": node(
                "WanVideoSampler",
                model=link("load"),
                text_embeds=link("nag"),
                seed=SEED,
                steps=30,
                scheduler="unipc",
            ),
            "save": node("VHS_VideoCombine", images=link("ks"), filename_prefix="fox"),
        },
        more={"negative_prompt": BLUR},
    ),
    Case(
        "Wan video wrapper with an encoder of both sides before its NAG, which takes its positive one",
        {
            "load": node("WanVideoModelLoader", model=MODEL),
            "pos": node("WanVideoTextEncode", positive_prompt=FOX, negative_prompt=""),
            "neg": node("WanVideoTextEncode", positive_prompt=BLUR, negative_prompt=""),
            "nag": node("WanVideoApplyNAG", original_text_embeds=link("pos"), nag_text_embeds=link("neg")),
            "ks": node("WanVideoSampler", model=link("load"), text_embeds=link("nag"), seed=SEED),
            "save": node("VHS_VideoCombine", images=link("ks"), filename_prefix="fox"),
        },
        more={"negative_prompt": BLUR},
    ),
    Case(
        "audio added to a video",
        base(
            sound=node("MMAudioSampler", images=link("decode"), steps=25, cfg=4.5, seed=3, prompt="wind"),
            save=node("VHS_VideoCombine", audio=link("sound"), images=link("decode"), filename_prefix="fox"),
        ),
    ),
    Case(
        "upscaled video",
        {
            "video": node("VHS_LoadVideo", video="in.mp4"),
            "up": node("ImageUpscaleWithModel", image=link("video"), upscale_model=link("model")),
            "model": node("UpscaleModelLoader", model_name="4x.pth"),
            "save": node("VHS_VideoCombine", images=link("up"), filename_prefix="fox"),
        },
        prompt=None,
        model=None,
        seed=None,
    ),
]
