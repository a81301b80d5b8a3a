"""Graphs that call a service which is paid for by the call."""

from __future__ import annotations

from tests.unit.catalog.graphs import BLUR, FOX, SEED, Case, base, link, node

SERVICES = [
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
]
