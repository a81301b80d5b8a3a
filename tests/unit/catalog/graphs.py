"""Graphs of our own making, in the shapes that core and common node packs use, and what is true of each."""

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

TEXTS = [
    Case("primitive text", text_from(text=node("PrimitiveStringMultiline", value=FOX))),
    Case("text node of a pack", text_from(text=node("Text Multiline", text=FOX))),
    Case("string literal", text_from(text=node("String Literal", string=FOX))),
    Case(
        "core concatenation",
        text_from(
            text=node("StringConcatenate", string_a="a red fox", string_b=link("b"), delimiter=" "),
            b=node("PrimitiveString", value="in the snow"),
        ),
    ),
    Case(
        "WAS concatenation",
        text_from(
            text=node(
                "Text Concatenate",
                delimiter=", ",
                clean_whitespace="true",
                text_a=link("a"),
                text_b=link("b"),
            ),
            a=node("Text Multiline", text="a fox"),
            b=node("Text Multiline", text="snow"),
        ),
        prompt="a fox, snow",
    ),
    Case(
        "easy-use concatenation",
        text_from(text=node("easy promptConcat", prompt1="a fox", prompt2="snow", separator="\\n")),
        prompt="a fox\nsnow",
    ),
    Case(
        "KJ join",
        text_from(text=node("JoinStrings", string1="a fox", string2="snow", delimiter=" in ")),
        prompt="a fox in snow",
    ),
    Case(
        "core replacement",
        text_from(
            text=node("StringReplace", string="a red ANIMAL in the snow", find="ANIMAL", replace="fox")
        ),
    ),
    Case("trimmed text", text_from(text=node("StringTrim", string=f"  {FOX} ", mode="Both"))),
    Case(
        "shown text",
        text_from(
            text=node("ShowText|pysssss", text=link("src"), text_0="an older text"),
            src=node("PrimitiveString", value=FOX),
        ),
    ),
    Case(
        "Impact wildcards",
        text_from(
            text=node(
                "ImpactWildcardProcessor",
                wildcard_text="a {red|blue} fox",
                populated_text=FOX,
                mode="populate",
                seed=1,
            )
        ),
    ),
    Case(
        "Impact wildcard encode",
        base(
            pos=node(
                "ImpactWildcardEncode",
                model=link("ckpt"),
                clip=link("ckpt", 1),
                wildcard_text="a {red|blue} fox <lora:fur:0.7>",
                populated_text=f"{FOX} <lora:fur:0.7>",
                mode="populate",
                seed=1,
            ),
            sampler=sampler(model=link("pos"), positive=link("pos", 2)),
        ),
        prompt=f"{FOX} <lora:fur:0.7>",
        more={"loras": (("fur", 0.7),)},
    ),
    Case(
        "style selector",
        text_from(
            text=node(
                "SDXLPromptStyler", text_positive=FOX, text_negative=BLUR, style="none", log_prompt="No"
            )
        ),
    ),
    Case(
        "written by a language model",
        text_from(text=node("OllamaGenerate", prompt="describe a fox", model="llama3", seed=3)),
        prompt=None,
    ),
    Case(
        "captioned picture",
        text_from(
            text=node("Florence2Run", image=link("image"), text_input="", task="caption"),
            image=node("LoadImage", image="x.png"),
        ),
        prompt=None,
    ),
    Case("switch of texts", text_from(text=node("CR Text Input Switch", Input=2, text1="a cat", text2=FOX))),
    Case(
        "boolean switch",
        text_from(
            text=node("ComfySwitchNode", switch=False, on_false=link("a"), on_true=link("b")),
            a=node("PrimitiveString", value=FOX),
            b=node("PrimitiveString", value="a cat"),
        ),
    ),
    Case(
        "switch steered by a primitive",
        text_from(
            text=node("ImpactSwitch", select=link("n"), input1=link("a"), input2=link("b")),
            n=node("PrimitiveInt", value=2),
            a=node("PrimitiveString", value="a cat"),
            b=node("PrimitiveString", value=FOX),
        ),
    ),
    Case(
        "index switch",
        text_from(
            text=node("easy anythingIndexSwitch", index=0, value0=link("a"), value1=link("b")),
            a=node("PrimitiveString", value=FOX),
            b=node("PrimitiveString", value="a cat"),
        ),
    ),
    Case(
        "rgthree any switch",
        text_from(
            text=node("Any Switch (rgthree)", any_01=link("a"), any_02=link("b")),
            a=node("PrimitiveString", value=FOX),
            b=node("PrimitiveString", value="a cat"),
        ),
    ),
    Case("unknown text node", text_from(text=node("SomebodysBox", words=FOX))),
    Case(
        "text at random",
        text_from(text=node("RandomPromptLine", prompt="a cat\na fox\na dog", seed=4)),
        prompt=None,
    ),
]

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
        more={"steps": 30},
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
        "service: picture",
        {
            "api": node("OpenAIGPTImage1", prompt=FOX, seed=SEED, quality="low", size="auto", n=1),
            "save": node("SaveImage", filename_prefix="fox", images=link("api")),
        },
        model=None,
    ),
    Case(
        "service: video",
        {
            "api": node(
                "KlingImage2VideoNode",
                start_frame=link("image"),
                prompt=FOX,
                negative_prompt=BLUR,
                model_name="kling-v2-master",
                cfg_scale=0.8,
                mode="std",
                aspect_ratio="16:9",
                duration="5",
            ),
            "image": node("LoadImage", image="start.png"),
            "save": node("SaveVideo", filename_prefix="video/fox", video=link("api")),
        },
        model="kling-v2-master",
        seed=None,
        more={"negative_prompt": BLUR, "input_images": ("start.png",)},
    ),
    Case(
        "service: text from a node, named model",
        {
            "api": node("GeminiImage2Node", prompt=link("text"), model="gemini-3-pro-image", seed=SEED),
            "text": node("PrimitiveStringMultiline", value=FOX),
            "save": node("SaveImage", filename_prefix="fox", images=link("api")),
        },
        model="gemini-3-pro-image",
    ),
    Case(
        "service: nested inputs",
        {
            "api": node(
                "ByteDance2TextToVideoNode",
                **{"model": "seedance-2-0", "model.prompt": FOX, "model.duration": 5, "seed": SEED},
            ),
            "save": node("SaveVideo", filename_prefix="video/fox", video=link("api")),
        },
        model="seedance-2-0",
    ),
    Case(
        "service: speech",
        {
            "api": node("ElevenLabsTextToSpeech", text=FOX, voice=link("v"), model="eleven_v3", seed=SEED),
            "v": node("ElevenLabsVoiceSelector", voice="Rachel"),
            "save": node("SaveAudio", filename_prefix="audio/fox", audio=link("api")),
        },
        model="eleven_v3",
    ),
    Case(
        "service behind a sampler",
        base(
            api=node(
                "KlingImage2VideoNode",
                start_frame=link("decode"),
                prompt="the camera moves",
                model_name="kling-v2-master",
                seed=3,
            ),
            save=node("SaveVideo", filename_prefix="video/fox", video=link("api")),
        ),
        prompt="the camera moves",
        model="kling-v2-master",
        seed=3,
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
]

MORE_PACKS = [
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
        "LoRA from a tag",
        base(
            tag=node("LoraTagLoader", model=link("ckpt"), clip=link("ckpt", 1), text="<lora:fur:0.5>"),
            sampler=sampler(model=link("tag")),
        ),
        more={"loras": (("fur", 0.5),)},
    ),
    Case(
        "dynamic prompt",
        text_from(text=node("DPRandomGenerator", text="a {red|blue} fox")),
        prompt="a {red|blue} fox",
    ),
    Case(
        "sound added to a video",
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

CASES = [*CORE, *GUIDERS, *TEXTS, *PACKS, *MORE_PACKS]
