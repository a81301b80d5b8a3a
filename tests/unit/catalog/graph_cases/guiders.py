"""Graphs whose sampler takes a guider or has other encoders: Flux, LTX, SD3, Qwen, music."""

from __future__ import annotations

from tests.unit.catalog.graphs import BLUR, FOX, MODEL, SEED, Case, base, guided, link, node, sampler

GUIDERS = [
    Case(
        "Flux",
        guided(
            node("BasicGuider", model=link("unet"), conditioning=link("fg")),
            fg=node("FluxGuidance", conditioning=link("pos"), guidance=3.5),
        ),
        more={
            "steps": 28,
            "sampler": "euler",
            "scheduler": "simple",
            "models": (MODEL, "ae.safetensors", "t5xxl.safetensors", "clip_l.safetensors"),
        },
    ),
    Case(
        "Flux with two texts",
        guided(
            node("BasicGuider", model=link("unet"), conditioning=link("two")),
            two=node("CLIPTextEncodeFlux", clip=link("clip"), clip_l="fox, snow", t5xxl=FOX, guidance=3.5),
        ),
        prompt=FOX + "\nfox, snow",
    ),
    Case(
        "CFG guider",
        guided(node("CFGGuider", model=link("unet"), positive=link("pos"), negative=link("neg"), cfg=3.0)),
        more={"cfg": 3.0, "negative_prompt": BLUR},
    ),
    Case(
        "dual CFG guider",
        guided(
            node(
                "DualCFGGuider",
                model=link("unet"),
                cond1=link("pos"),
                cond2=link("pos"),
                negative=link("neg"),
                cfg_conds=4.0,
                cfg_cond2_negative=2.0,
            )
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "Flux with patches and LoRA",
        guided(
            node("BasicGuider", model=link("ms"), conditioning=link("pos")),
            lora=node(
                "LoraLoaderModelOnly", model=link("unet"), lora_name="fur.safetensors", strength_model=0.9
            ),
            ms=node(
                "ModelSamplingFlux",
                model=link("lora"),
                max_shift=1.15,
                base_shift=0.5,
                width=1024,
                height=768,
            ),
        ),
        more={"loras": (("fur.safetensors", 0.9),)},
    ),
    Case(
        "Kontext with a reference",
        guided(
            node("BasicGuider", model=link("unet"), conditioning=link("ref")),
            ref=node("ReferenceLatent", conditioning=link("pos"), latent=link("enc")),
            enc=node("VAEEncode", pixels=link("image"), vae=link("vae")),
            image=node("LoadImage", image="subject.png"),
        ),
        more={"input_images": ("subject.png",)},
    ),
    Case(
        "split sigmas",
        guided(
            node("CFGGuider", model=link("unet"), positive=link("pos"), negative=link("neg"), cfg=1.0),
            split=node("SplitSigmas", sigmas=link("sigmas"), step=10),
            first=node(
                "SamplerCustomAdvanced",
                noise=link("noise"),
                guider=link("guider"),
                sampler=link("select"),
                sigmas=link("split", 0),
                latent_image=link("latent"),
            ),
            none=node("DisableNoise"),
            sampler=node(
                "SamplerCustomAdvanced",
                noise=link("none"),
                guider=link("guider"),
                sampler=link("select"),
                sigmas=link("split", 1),
                latent_image=link("first"),
            ),
        ),
        more={"steps": 28},
    ),
    Case(
        "LTX in two stages",
        guided(
            node(
                "CFGGuider", model=link("unet"), positive=link("cond", 0), negative=link("cond", 1), cfg=4.0
            ),
            cond=node("LTXVConditioning", positive=link("pos"), negative=link("neg"), frame_rate=25),
            first=node(
                "SamplerCustomAdvanced",
                noise=link("noise"),
                guider=link("guider"),
                sampler=link("select"),
                sigmas=link("ltx"),
                latent_image=link("latent"),
            ),
            ltx=node(
                "LTXVScheduler",
                steps=20,
                max_shift=2.05,
                base_shift=0.95,
                stretch=True,
                terminal=0.1,
                latent=link("latent"),
            ),
            latent=node("EmptyLTXVLatentVideo", width=768, height=512, length=97, batch_size=1),
            up=node(
                "LTXVLatentUpsampler", samples=link("first", 1), upscale_model=link("um"), vae=link("vae")
            ),
            um=node("LatentUpscaleModelLoader", model_name="ltx_up.safetensors"),
            manual=node("ManualSigmas", sigmas="0.909, 0.725, 0.42, 0.0"),
            noise2=node("RandomNoise", noise_seed=7),
            sampler=node(
                "SamplerCustomAdvanced",
                noise=link("noise2"),
                guider=link("guider"),
                sampler=link("select"),
                sigmas=link("manual"),
                latent_image=link("up"),
            ),
        ),
        more={"steps": 20, "negative_prompt": BLUR, "cfg": 4.0},
    ),
    Case(
        "noise levels written out",
        guided(
            node("CFGGuider", model=link("unet"), positive=link("pos"), negative=link("neg"), cfg=4.0),
            sigmas=node("ManualSigmas", sigmas="1., 0.9781; .845 0.41\n0.0"),
        ),
        more={"steps": 4},
    ),
    Case(
        "SamplerCustom",
        base(
            sampler=node(
                "SamplerCustom",
                model=link("ckpt"),
                add_noise=True,
                noise_seed=SEED,
                cfg=5.0,
                positive=link("pos"),
                negative=link("neg"),
                sampler=link("ks"),
                sigmas=link("sg"),
                latent_image=link("latent"),
            ),
            ks=node("SamplerEulerAncestral", eta=1.0, s_noise=1.0),
            sg=node("KarrasScheduler", steps=25, sigma_max=14.6, sigma_min=0.03, rho=7.0),
        ),
        more={"sampler": "euler_ancestral", "scheduler": "karras", "steps": 25, "cfg": 5.0},
    ),
    Case(
        "SD3 with three texts",
        base(
            ckpt=node("CheckpointLoaderSimple", ckpt_name=MODEL),
            pos=node(
                "CLIPTextEncodeSD3",
                clip=link("ckpt", 1),
                clip_l=FOX,
                clip_g=FOX,
                t5xxl=FOX,
                empty_padding="none",
            ),
            ms=node("ModelSamplingSD3", model=link("ckpt"), shift=3.0),
            sampler=sampler(model=link("ms")),
        ),
    ),
    Case(
        "Qwen image edit",
        base(
            ckpt=node("CLIPLoader", clip_name="qwen_vl.safetensors", type="qwen_image"),
            unet=node("UNETLoader", unet_name=MODEL),
            pos=node(
                "TextEncodeQwenImageEditPlus",
                clip=link("ckpt"),
                vae=link("vae"),
                image1=link("image"),
                prompt=FOX,
            ),
            neg=node(
                "TextEncodeQwenImageEditPlus",
                clip=link("ckpt"),
                vae=link("vae"),
                image1=link("image"),
                prompt="",
            ),
            vae=node("VAELoader", vae_name="qwen_vae.safetensors"),
            image=node("LoadImage", image="input.png"),
            cfgnorm=node("CFGNorm", model=link("unet"), strength=1.0),
            latent=node("VAEEncode", pixels=link("image"), vae=link("vae")),
            sampler=sampler(model=link("cfgnorm")),
        ),
        more={"negative_prompt": "", "input_images": ("input.png",)},
    ),
    Case(
        "ACE music",
        base(
            pos=node(
                "TextEncodeAceStepAudio",
                clip=link("ckpt", 1),
                tags="folk, guitar",
                lyrics="[verse]\nthe fox runs",
                lyrics_strength=1.0,
            ),
            latent=node("EmptyAceStepLatentAudio", seconds=120, batch_size=1),
            decode=node("VAEDecodeAudio", samples=link("sampler"), vae=link("ckpt", 2)),
            save=node("SaveAudioMP3", filename_prefix="audio/fox", audio=link("decode"), quality="V0"),
        ),
        prompt="folk, guitar\n[verse]\nthe fox runs",
    ),
]
