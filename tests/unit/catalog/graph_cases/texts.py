"""Graphs whose prompt comes from text nodes: joined, replaced, switched or made at random."""

from __future__ import annotations

from tests.unit.catalog.graphs import BLUR, FOX, Case, base, link, node, sampler, text_from

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
        "WAS concatenation of the first versions",
        text_from(
            text=node(
                "Text Concatenate", text_a="a red fox ", text_b="in the snow", linebreak_addition="false"
            )
        ),
    ),
    Case(
        "WAS concatenation of the first versions, in two lines",
        text_from(text=node("Text Concatenate", text_a="a fox", text_b="snow", linebreak_addition="true")),
        prompt="a fox\nsnow",
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
    Case(
        "Comfyroll replacements",
        text_from(
            text=node(
                "CR Text Replace",
                text="a red ANIMAL in the PLACE",
                find1="ANIMAL",
                replace1="fox",
                find2="PLACE",
                replace2="snow",
                find3="",
                replace3="",
            )
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
        "text shown by a node of easy-use",
        text_from(
            text=node("easy showAnything", anything=link("src"), text="an older text"),
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
        "advanced style selector",
        base(
            styles=node(
                "SDXLPromptStylerAdvanced",
                text_positive_g=FOX,
                text_positive_l="soft light",
                text_negative=BLUR,
                style="base",
                negative_prompt_to="Both",
                log_prompt="No",
            ),
            pos=node(
                "CLIPTextEncodeSDXL", clip=link("ckpt", 1), text_g=link("styles"), text_l=link("styles", 1)
            ),
            neg=node(
                "CLIPTextEncodeSDXL", clip=link("ckpt", 1), text_g=link("styles", 3), text_l=link("styles", 4)
            ),
        ),
        prompt=f"{FOX}\nsoft light",
        more={"negative_prompt": BLUR},
    ),
    Case(
        "written by a language model",
        text_from(text=node("OllamaGenerate", prompt="describe a fox", model="llama3", seed=3)),
        prompt="describe a fox",
        more={"confidence": "low"},
    ),
    Case(
        "extended by a language model in ComfyUI",
        text_from(
            text=node("TextGenerate", clip=link("ckpt", 1), prompt=link("idea"), system_prompt="Extend it."),
            idea=node("PrimitiveStringMultiline", value=FOX),
        ),
        more={"confidence": "low"},
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
