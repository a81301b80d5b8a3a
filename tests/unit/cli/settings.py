"""The settings of commands that need a bucket and never contact it."""

from __future__ import annotations

SETTINGS = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "secret-of-this-test"}
