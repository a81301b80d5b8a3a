"""Environments for tests of the settings, and the settings or the refusal that they give."""

from __future__ import annotations

import pytest

from cloud_archive.config.settings import Settings, load_settings
from cloud_archive.errors import SettingsError

SECRET = "wJalr/XUtn+FEMI%K7MD&NG=bPxRfi"
TOKEN = "IQoJb3Jp/Z2luX2Vj+token"
ACCESS_KEY = "AKIAPLANTEDKEY01"
REQUIRED = {
    "S3_ACCESS_KEY_ID": ACCESS_KEY,
    "S3_SECRET_ACCESS_KEY": SECRET,
    "S3_BUCKET": "outputs",
}
TABLE = (
    "S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY S3_BUCKET S3_REGION S3_PREFIX S3_ENDPOINT_URL "
    "S3_ENABLE_CONFLICT_RENAME S3_SESSION_TOKEN S3_CREDENTIALS S3_ADDRESSING_STYLE S3_CHECKSUM "
    "S3_STORAGE_CLASS S3_SERVER_SIDE_ENCRYPTION S3_SSE_KMS_KEY_ID S3_CA_BUNDLE CLOUD_ARCHIVE_AUTOSTART "
    "CLOUD_ARCHIVE_WORKERS CLOUD_ARCHIVE_MAX_BANDWIDTH CLOUD_ARCHIVE_INCLUDE CLOUD_ARCHIVE_EXCLUDE "
    "CLOUD_ARCHIVE_WATCH CLOUD_ARCHIVE_SETTLE_SECONDS CLOUD_ARCHIVE_RESCAN_SECONDS CLOUD_ARCHIVE_BACKFILL "
    "CLOUD_ARCHIVE_DELETE_LOCAL_AFTER CLOUD_ARCHIVE_MIN_FREE_DISK CLOUD_ARCHIVE_STATE_DIR R2_ENDPOINT "
    "R2_BUCKET R2_ACCESS_KEY_ID R2_ACCESS_KEY R2_SECRET_ACCESS_KEY R2_SECRET_KEY COMFYUI_OUTPUT_DIR "
    "ENABLE_R2_SYNC CLOUD_ARCHIVE_CATALOG CLOUD_ARCHIVE_GALLERY CLOUD_ARCHIVE_MACHINE_NAME RUNPOD_POD_ID "
    "CLOUD_ARCHIVE_WEBHOOK_URL CLOUD_ARCHIVE_WEBHOOK_SECRET CLOUD_ARCHIVE_SERVE_TOKEN"
)
VARIABLES = tuple(TABLE.split())


def load(**variables: str) -> Settings:
    return load_settings({**REQUIRED, **variables})


def refusal(**variables: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    return caught.value


def only_problem(**variables: str) -> str:
    error = refusal(**variables)
    assert len(error.problems) == 1, str(error)
    assert error.problems[0].variable in variables
    return str(error)
