"""Graphs whose nodes give several values, or take a finished picture further."""

from __future__ import annotations

from tests.unit.catalog.graphs import BLUR, FOX, MODEL, SEED, Case, base, link, node, sampler

WIRINGS = [
    Case(
        "InstantID, whose outputs are model, positive and negative",
        base(
            face=node("ApplyInstantID", model=link("ckpt"), positive=link("pos"), negative=link("neg")),
            sampler=sampler(model=link("face"), positive=link("face", 1), negative=link("face", 2)),
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "encoder of both sides whose positive one is called prompt",
        base(
            pos=node("TextEncodeMageFlowEdit", clip=link("ckpt", 1), prompt=FOX, negative_prompt=BLUR),
            sampler=sampler(negative=link("pos", 1)),
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "XLabs",
        base(
            sampler=node(
                "XlabsSampler",
                model=link("ckpt"),
                conditioning=link("pos"),
                neg_conditioning=link("neg"),
                latent_image=link("latent"),
                noise_seed=SEED,
                steps=20,
            )
        ),
        more={"negative_prompt": BLUR},
    ),
    Case(
        "settings that one node holds (Image Saver)",
        base(
            all=node(
                "Input Parameters (Image Saver)",
                seed=SEED,
                steps=20,
                cfg=7.0,
                sampler="euler",
                scheduler="karras",
                denoise=1.0,
            ),
            name=node("Checkpoint Selector (Image Saver)", ckpt_name=MODEL),
            ckpt=node("CheckpointLoaderSimple", ckpt_name=link("name")),
            sampler=sampler(
                seed=link("all"),
                steps=link("all", 1),
                cfg=link("all", 2),
                sampler_name=link("all", 3),
                scheduler=link("all", 4),
                denoise=link("all", 5),
            ),
        ),
        more={"steps": 20, "cfg": 7.0, "sampler": "euler", "scheduler": "karras", "denoise": 1.0},
    ),
    Case(
        "settings that one node holds (rgthree)",
        base(
            all=node(
                "KSampler Config (rgthree)",
                steps_total=20,
                refiner_step=18,
                cfg=7.0,
                sampler_name="euler",
                scheduler="karras",
            ),
            any=node("Any Switch (rgthree)", any_02=link("all", 2)),
            sampler=sampler(
                steps=link("all"),
                cfg=link("any"),
                sampler_name=link("all", 3),
                scheduler=link("all", 4),
            ),
        ),
        more={"steps": 20, "cfg": 7.0, "sampler": "euler", "scheduler": "karras"},
    ),
    Case(
        "RES4LYF samplers in a row",
        base(
            last=node(
                "ClownsharkChainsampler_Beta",
                sampler_name="res_3s",
                steps_to_run=-1,
                cfg=1.0,
                sampler_mode="resample",
                model=link("ckpt"),
                positive=link("pos"),
                negative=link("neg"),
                latent_image=link("sampler"),
            ),
            decode=node("VAEDecode", samples=link("last"), vae=link("ckpt", 2)),
        ),
        more={"negative_prompt": BLUR, "sampler": "euler", "steps": 20},
    ),
    Case(
        "loader that says with a dot that it takes the checkpoint's own parts",
        base(
            ckpt=node(
                "FluxLoader",
                model_name=MODEL,
                clip_name1=".use_ckpt_clip",
                clip_name2_opt=".none",
                vae_name=".use_ckpt_vae",
            )
        ),
        more={"models": (MODEL,)},
    ),
    Case(
        "the word that segments the finished picture",
        base(
            cut=node("GroundingDinoSAMSegment (segment anything)", prompt="face", image=link("decode")),
            save=node("SaveImage", filename_prefix="fox", images=link("cut")),
        ),
    ),
]
