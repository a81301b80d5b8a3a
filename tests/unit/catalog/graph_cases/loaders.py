"""Graphs that load models and LoRAs with nodes of common packs."""

from __future__ import annotations

from tests.unit.catalog.graphs import BLUR, FOX, MODEL, SEED, Case, base, encoded, link, node, sampler

LOADERS = [
    Case(
        "LoRA Manager",
        base(
            ckpt=node("Checkpoint Loader (LoraManager)", ckpt_name=MODEL),
            lora=node(
                "Lora Loader (LoraManager)",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                text="<lora:fur:0.50>",
                loras={"__value__": [{"name": "fur", "strength": "0.50", "active": True}]},
            ),
            sampler=sampler(model=link("lora")),
        ),
        more={"models": (MODEL,), "loras": (("fur", 0.5),)},
    ),
    Case(
        "model that is a folder",
        base(
            unet=node("NunchakuFluxDiTLoader", model_path="svdq-int4-flux.1-dev", device_id=0),
            sampler=sampler(model=link("unet")),
        ),
        model="svdq-int4-flux.1-dev",
    ),
    Case(
        "rgthree power LoRA loader",
        base(
            power=node(
                "Power Lora Loader (rgthree)",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                PowerLoraLoaderHeaderWidget={"type": "PowerLoraLoaderHeaderWidget"},
                lora_1={"on": True, "lora": "snow.safetensors", "strength": 0.8},
                lora_2={"on": False, "lora": "off.safetensors", "strength": 1.0},
            ),
            sampler=sampler(model=link("power")),
        ),
        more={"loras": (("snow.safetensors", 0.8),)},
    ),
    Case(
        "CR LoRA stack",
        base(
            stack=node(
                "CR LoRA Stack",
                switch_1="On",
                lora_name_1="snow.safetensors",
                model_weight_1=0.8,
                clip_weight_1=1.0,
                switch_2="Off",
                lora_name_2="off.safetensors",
                model_weight_2=1.0,
                clip_weight_2=1.0,
                switch_3="Off",
                lora_name_3="None",
            ),
            apply=node(
                "CR Apply LoRA Stack", model=link("ckpt"), clip=link("ckpt", 1), lora_stack=link("stack")
            ),
            sampler=sampler(model=link("apply")),
        ),
        more={"loras": (("snow.safetensors", 0.8),)},
    ),
    Case(
        "LoRA manager",
        base(
            manager=node(
                "Lora Loader (LoraManager)",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                text="",
                loras={
                    "__value__": [
                        {"name": "snow", "strength": 0.8, "active": True},
                        {"name": "off", "strength": 1.0, "active": False},
                    ]
                },
            ),
            sampler=sampler(model=link("manager")),
        ),
        more={"loras": (("snow", 0.8),)},
    ),
    Case(
        "LoRA behind a switch that is off",
        base(
            lora=node(
                "LoraLoaderModelOnly", model=link("ckpt"), lora_name="off.safetensors", strength_model=1.0
            ),
            switch=node("ComfySwitchNode", switch=False, on_false=link("ckpt"), on_true=link("lora")),
            sampler=sampler(model=link("switch")),
        ),
        more={"loras": ()},
    ),
    Case(
        "IPAdapter",
        base(
            ip=node(
                "IPAdapterAdvanced",
                model=link("ckpt"),
                ipadapter=link("ipl"),
                image=link("image"),
                weight=1.0,
            ),
            ipl=node("IPAdapterModelLoader", ipadapter_file="ip.safetensors"),
            image=node("LoadImage", image="ref.png"),
            sampler=sampler(model=link("ip")),
        ),
        more={"models": (MODEL,)},
    ),
    Case(
        "GGUF",
        base(
            unet=node("UnetLoaderGGUF", unet_name="flux-Q4_K_S.gguf"),
            sampler=sampler(model=link("unet")),
            ckpt=node("DualCLIPLoaderGGUF", clip_name1="a.gguf", clip_name2="b.safetensors", type="flux"),
        ),
        model="flux-Q4_K_S.gguf",
    ),
    Case(
        "switch of models",
        base(
            other=node("CheckpointLoaderSimple", ckpt_name="other.safetensors"),
            switch=node("ImpactSwitch", select=1, input1=link("ckpt"), input2=link("other")),
            sampler=sampler(model=link("switch")),
        ),
        more={"models": (MODEL,)},
    ),
    Case(
        "LoRA from a tag",
        base(
            tag=node("LoraTagLoader", model=link("ckpt"), clip=link("ckpt", 1), text="<lora:fur:0.5>"),
            sampler=sampler(model=link("tag")),
        ),
        more={"loras": (("fur", 0.5),)},
    ),
    Case(
        "LoRA from a tag in a linked text",
        base(
            tag=node("LoraTagLoader", model=link("ckpt"), clip=link("ckpt", 1), text=link("text")),
            text=node("Text Multiline", text=f"{FOX} <lora:fur:0.5>"),
            sampler=sampler(model=link("tag")),
        ),
        more={"loras": (("fur", 0.5),)},
    ),
    Case(
        "LoRA from a tag in a prompt with a model",
        base(
            pos=node(
                "Power Prompt (rgthree)",
                prompt="a fox <lora:fur:0.5>",
                opt_model=link("ckpt"),
                opt_clip=link("ckpt", 1),
            ),
            sampler=sampler(model=link("pos", 1)),
        ),
        prompt="a fox <lora:fur:0.5>",
        more={"loras": (("fur", 0.5),)},
    ),
    Case(
        "LoRA from a tag in a loader's linked prompt",
        base(
            loader=node(
                "easy a1111Loader",
                ckpt_name=MODEL,
                lora_name="None",
                positive=link("text"),
                negative=f"{BLUR} <lora:plain:-1>",
            ),
            text=node("easy positive", positive="a fox <lora:fur:0.5>"),
            sampler=node("easy fullkSampler", pipe=link("loader"), seed=SEED, steps=20, cfg=7.0, denoise=1.0),
        ),
        prompt="a fox <lora:fur:0.5>",
        more={"loras": (("plain", -1.0), ("fur", 0.5))},
    ),
    Case(
        "tag in a text of a loader that ignores it",
        base(
            loader=node(
                "Efficient Loader",
                ckpt_name=MODEL,
                lora_name="None",
                positive="a fox <lora:fur:0.5>",
                negative=BLUR,
            ),
            sampler=node(
                "KSampler (Efficient)",
                model=link("loader"),
                positive=link("loader", 1),
                negative=link("loader", 2),
                latent_image=link("loader", 3),
                seed=SEED,
                steps=20,
                cfg=7.0,
            ),
        ),
        prompt="a fox <lora:fur:0.5>",
        more={"negative_prompt": BLUR, "loras": ()},
    ),
    Case(
        "tag in a text that is only encoded",
        base(pos=encoded("a fox <lora:fur:0.5>")),
        prompt="a fox <lora:fur:0.5>",
        more={"loras": ()},
    ),
]
