"""Profiles of whole stores, as real ones answered: Ceph RGW 16.2, OpenStack Swift 2.30's s3api, npm's s3rver 3.7."""

from __future__ import annotations

import re

from multidict import CIMultiDict

from tests.quirks.server import Answer, Forward, Profile, Request, error


class Ceph(Profile):
    """Answers CompleteMultipartUpload with 200 and an empty ETag, and ignores If-None-Match there.

    Seen on Ceph RGW 16.2 (https://packages.debian.org/bookworm/radosgw). PutObject honours If-None-Match.
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation != "CompleteMultipartUpload":
            return await forward(request)
        request.headers.popall("If-None-Match", None)
        answer = await forward(request)
        answer.body = re.sub(rb"<ETag>.*?</ETag>", b"<ETag></ETag>", answer.body)
        return answer


class Swift(Profile):
    """Refuses a conditional PutObject with 501; CompleteMultipartUpload honours the condition with 412.

    It compares before it writes, so two completed in the same moment may both succeed; SeaweedFS behind does the same.

    Seen on OpenStack Swift 2.30's s3api (https://packages.debian.org/bookworm/swift-proxy, tempauth). A wrong region is
    400 AuthorizationHeaderMalformed, which a HEAD answers without a body. A key that may not delete gets a false 204.

    Args:
        region: the one that requests must be signed for; None: any.
        names_region: whether the refusal has a field for the right region; else only its message names it.
        secret_is_right: False refuses every signature, that of a HEAD without a body.
        may_delete: False deletes nothing and still answers 204.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        names_region: bool = True,
        secret_is_right: bool = True,
        may_delete: bool = True,
    ) -> None:
        self.region = region
        self.names_region = names_region
        self.secret_is_right = secret_is_right
        self.may_delete = may_delete

    async def handle(self, request: Request, forward: Forward) -> Answer:
        signed = request.headers.get("Authorization", "")
        if self.region is not None and f"/{self.region}/s3/" not in signed:
            if request.method == "HEAD":
                return Answer(400)
            text = f"The authorization header is malformed; the region is wrong; expecting '{self.region}'"
            field = {"Region": self.region} if self.names_region else {}
            return error(400, "AuthorizationHeaderMalformed", text, **field)
        if not self.secret_is_right:
            text = "The request signature we calculated does not match the signature you provided."
            return Answer(403) if request.method == "HEAD" else error(403, "SignatureDoesNotMatch", text)
        if request.operation == "PutObject" and "If-None-Match" in request.headers:
            text = "A header you provided implies functionality that is not implemented."
            return error(501, "NotImplemented", text)
        if not self.may_delete and request.operation == "DeleteObject":
            return Answer(204)
        if not self.may_delete and request.operation == "DeleteObjects":
            headers = CIMultiDict({"Content-Type": "application/xml"})
            return Answer(200, headers, b'<?xml version="1.0"?><DeleteResult></DeleteResult>')
        return await forward(request)


class S3rver(Profile):
    """Knows no condition and no ListParts; answers 500 to a batch of deletions whose keys are gone.

    Seen on s3rver 3.7 (https://www.npmjs.com/package/s3rver).
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "ListParts":
            return error(405, "MethodNotAllowed", "The specified method is not allowed.")
        request.headers.popall("If-None-Match", None)
        answer = await forward(request)
        if request.operation == "DeleteObjects":
            return error(500, "InternalError", "We encountered an internal error. Please try again.")
        return answer
