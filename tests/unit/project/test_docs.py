"""The documentation names what exists: variables, files, headings, rights; and its JSON can be pasted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cloud_archive.archive.status import State, Status
from cloud_archive.config.settings import VARIABLES, load_settings
from cloud_archive.errors import SettingsError
from cloud_archive.store.translate import _RIGHTS
from tests.unit.project.sources import python_files

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = frozenset(name for variable in VARIABLES.values() for name in variable.names)
NOT_SETTINGS = frozenset({"CLOUD_ARCHIVE_REQUIRE_ALL"})  # of the tests
PROVIDERS = (
    "AWS S3",
    "Cloudflare R2",
    "MinIO",
    "SeaweedFS",
    "Wasabi",
    "Backblaze B2",
    "DigitalOcean Spaces",
    "Scaleway",
    "Google Cloud Storage",
)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them: lower case, punctuation dropped, blanks as hyphens."""
    plain = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?) *$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_variable_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"\b(?:S3|R2|CLOUD_ARCHIVE)_[A-Z0-9_]*[A-Z0-9]\b", text_of(page)))
    assert named - NAMES - NOT_SETTINGS == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    broken = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_reference_is_defined(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    used = set(re.findall(r"\]\[([^\]]+)\]", text))
    assert used - set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE)) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_json_block_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "jsonl"):
        assert all(isinstance(json.loads(line), dict) for line in block.splitlines())


def statements() -> list[dict[str, object]]:
    policies = [json.loads(block) for block in blocks(ROOT / "docs" / "permissions.md", "json")]
    return [statement for policy in policies for statement in policy.get("Statement", [])]


def test_the_policies_allow_what_exists_where_it_applies() -> None:
    """Rights to the bucket name the bucket, rights to objects the objects below the prefix."""
    of_the_bucket = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}
    of_objects = {"s3:PutObject"} | {right for _, right in _RIGHTS.values()} - of_the_bucket
    assert len(statements()) >= 6
    for statement in statements():
        assert statement["Effect"] == "Allow"
        actions, resources = statement["Action"], statement["Resource"]
        assert isinstance(actions, list)
        for resource in resources if isinstance(resources, list) else [resources]:
            if resource == "arn:aws:s3:::BUCKET":
                assert set(actions) <= of_the_bucket
            else:
                assert resource == "arn:aws:s3:::BUCKET/comfyui-outputs/*"
                assert set(actions) <= of_objects - {"s3:DeleteObject"}


def test_the_smallest_policy_is_put_alone() -> None:
    smallest = [statement for statement in statements() if statement["Action"] == ["s3:PutObject"]]
    assert len(smallest) == 2, "one for AWS, one for MinIO"


def test_every_right_that_an_error_names_is_explained() -> None:
    text = text_of(ROOT / "docs" / "permissions.md")
    assert [right for _, right in _RIGHTS.values() if f"`{right}`" not in text] == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_has_a_guide_whose_variables_load(provider: str) -> None:
    text = text_of(ROOT / "docs" / "providers.md")
    section = re.search(rf"^## {provider}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    (block,) = re.findall(r"^```sh\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    environ = dict(re.findall(r"\b([A-Z0-9_]+)=(\S+)", re.sub(r"#.*", "", block)))
    assert {"S3_BUCKET", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"} <= set(environ)
    environ |= {"S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret"}  # stand as … there
    loaded = load_settings(environ)
    assert loaded.is_aws is (provider == "AWS S3")
    assert "https://" in section[1], "where it was found"


def test_the_guides_lead_to_an_error_where_a_variable_is_left_out() -> None:
    with pytest.raises(SettingsError):
        load_settings({"S3_BUCKET": "my-outputs"})


def test_every_field_of_the_status_is_explained() -> None:
    text = text_of(ROOT / "docs" / "http.md")
    section = text.partition("## The status\n")[2]
    fields = Status(running=True, session_id="s", state=State.IDLE).to_json()
    assert [name for name in fields if f"`{name}`" not in section] == []


@pytest.mark.parametrize(("page", "least"), [("reliability.md", 20), ("security.md", 15)])
def test_every_test_that_a_page_names_exists(page: str, least: int) -> None:
    text = text_of(ROOT / "docs" / page)
    sources = [path.read_text(encoding="utf-8") for path in python_files() if path.name.startswith("test_")]
    written = set(re.findall(r"^ *(?:async )?def (test_\w+)\(", "\n".join(sources), re.MULTILINE))
    named = set(re.findall(r"`(test_[^`]+)`", text))
    assert len(named) > least
    assert named - written == set()
    files = set(re.findall(r"`(tests/[^`]+)`", text))
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_reporting_is_private_and_the_threat_model_is_linked() -> None:
    text = text_of(ROOT / "SECURITY.md")
    assert "/security/advisories/new" in text
    assert "docs/security.md" in text
