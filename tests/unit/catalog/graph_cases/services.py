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
        "service: a prompt for each shot",
        {
            "api": node(
                "KlingVideoNode",
                **{
                    "multi_shot": "2 storyboards",
                    "multi_shot.storyboard_1_prompt": FOX,
                    "multi_shot.storyboard_1_duration": 4,
                    "multi_shot.storyboard_2_prompt": link("second"),
                    "multi_shot.storyboard_2_duration": 4,
                    "prompt": "not used beside shots",
                    "model": "kling-v3",
                    "seed": SEED,
                },
            ),
            "second": node("PrimitiveStringMultiline", value="the fox jumps"),
            "save": node("SaveVideo", filename_prefix="video/fox", video=link("api")),
        },
        prompt=f"{FOX}\nthe fox jumps",
        model="kling-v3",
        more={"confidence": "high"},
    ),
    Case(
        "service: dialogue",
        {
            "api": node(
                "ElevenLabsTextToDialogue",
                **{
                    "inputs": "2",
                    "inputs.text1": FOX,
                    "inputs.voice1": link("v"),
                    "inputs.text2": "where?",
                    "inputs.voice2": link("v"),
                    "model": "eleven_v3",
                    "seed": SEED,
                },
            ),
            "v": node("ElevenLabsVoiceSelector", voice="Rachel"),
            "save": node("SaveAudio", filename_prefix="audio/fox", audio=link("api")),
        },
        prompt=f"{FOX}\nwhere?",
        model="eleven_v3",
        more={"confidence": "high"},
    ),
    Case(
        "service: music for a video",
        {
            "video": node("LoadVideo", file="in.mp4"),
            "parts": node("GetVideoComponents", video=link("video")),
            "api": node("SoniloVideoToMusic", video=link("video"), prompt=FOX, seed=SEED),
            "create": node("CreateVideo", images=link("parts"), audio=link("api")),
            "save": node("SaveVideo", filename_prefix="video/fox", video=link("create")),
        },
        model=None,
    ),
    *(
        Case(
            f"service: {name} of {kind}",
            {
                "image": node("LoadImage", image="x.png"),
                "api": node(kind, image=link("image"), seed=SEED, **{name: FOX}),
                "save": node("SaveImage", filename_prefix="fox", images=link("api")),
            },
            model=None,
            more={"confidence": "high"},
        )
        for kind, name in (
            ("BriaReplaceObject", "instruction"),
            ("ReveImageEditNode", "edit_instruction"),
            ("MeshyImageToModelNode", "texture_prompt"),
            ("MeshyTextureNode", "text_style_prompt"),
            ("KlingLipSyncTextToVideoNode", "text"),
            ("ViduMultiFrameVideoNode", "frames.prompt1"),
            ("TripoEditMultiviewNode", "front_prompt"),
        )
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
