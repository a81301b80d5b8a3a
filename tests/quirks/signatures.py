"""Stores that refuse a signature: for its time, or for its region."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

from tests.quirks.server import Answer, Forward, Profile, Request, error


class WrongClock(Profile):
    """The client's clock is off: 403 RequestTimeTooSkewed, with the server's own time in Date and ServerTime.

    https://github.com/crytic/cloudexec/issues/48 (code and status), https://pastebin.com/8HJpUdsv (the document: 15
    minutes are allowed).

    Args:
        ahead_seconds: how far the server's clock is ahead of the client's; below 900 only Date is off.
    """

    def __init__(self, ahead_seconds: float = 3600) -> None:
        self.ahead_seconds = ahead_seconds

    async def handle(self, request: Request, forward: Forward) -> Answer:
        now = datetime.now(timezone.utc) + timedelta(seconds=self.ahead_seconds)
        if abs(self.ahead_seconds) < 900:
            answer = await forward(request)
        elif request.method == "HEAD":
            answer = Answer(403)
        else:
            answer = error(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                RequestTime=request.headers.get("X-Amz-Date", ""),
                ServerTime=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                MaxAllowedSkewMilliseconds="900000",
            )
        answer.headers["Date"] = format_datetime(now, usegmt=True)
        return answer


class OtherRegion(Profile):
    """The bucket is elsewhere: 301 PermanentRedirect with x-amz-bucket-region, until signed for that region.

    https://github.com/bradleyg/django-s3direct/issues/90 (the document),
    https://github.com/aws/aws-cli/pull/968 (the cure). boto3 signs again for the region that the answer names.

    Args:
        names_region: False leaves the region out of the answer, as some servers do.
    """

    def __init__(self, region: str = "eu-central-1", *, names_region: bool = True) -> None:
        self.region = region
        self.names_region = names_region

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if f"/{self.region}/s3/" in request.headers.get("Authorization", ""):
            return await forward(request)
        answer = error(
            301,
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified endpoint. "
            "Please send all future requests to this endpoint.",
            Endpoint=f"{request.bucket}.s3.{self.region}.amazonaws.com",
            Bucket=request.bucket,
        )
        if self.names_region:
            answer.headers["x-amz-bucket-region"] = self.region
        else:
            answer.body = re.sub(rb"<Endpoint>.*</Endpoint>", b"", answer.body)
        return answer


class UntoldRegion(OtherRegion):
    """As `OtherRegion`, but the answer does not say which region it is. Sources: the classes above."""

    def __init__(self) -> None:
        super().__init__(names_region=False)
