"""The dialects, one class each, with the address where the behaviour was found.

Addresses of issue threads and providers' pages were looked up in November 2026; where only a third party's
report was found, the docstring says so.
"""

from __future__ import annotations

import re
import time

from multidict import CIMultiDict

from tests.quirks.object_facts import NoMetadata, RandomEtags
from tests.quirks.pages import HtmlEverywhere, HtmlWithEtag, PageForWrites, RedirectToTls, SeeOther
from tests.quirks.server import WRITES, Answer, Forward, Profile, Request, counted_key, error
from tests.quirks.signatures import OtherRegion, UntoldRegion, WrongClock
from tests.quirks.spoilt_answers import HangingAnswer, HtmlErrorPage, TruncatedAnswer, WrongLength
from tests.quirks.whole_stores import Ceph, S3rver, Swift

_CREATES = frozenset({"PutObject", "CompleteMultipartUpload"})


def _checksum_headers(request: Request) -> list[str]:
    return [
        name
        for name in request.headers
        if name.lower().startswith(("x-amz-checksum-", "x-amz-sdk-checksum"))
        or name.lower() == "x-amz-trailer"
    ]


class BackblazeChecksums(Profile):
    """Refuses every checksum header of newer SDKs: 400 InvalidArgument, "Unsupported header … received".

    https://github.com/boto/s3transfer/issues/327 (the answer's very words) and
    https://backblaze.com/docs/cloud-storage-use-the-aws-sdk-for-python-with-backblaze-b2 (the list of headers).
    Content-MD5 is accepted and verified.
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if found := _checksum_headers(request):
            return error(
                400,
                "InvalidArgument",
                f"Unsupported header '{found[0]}' received for this API call.",
            )
        return await forward(request)


class BackblazeConditionals(Profile):
    """Answers 501 NotImplemented to a conditional write.

    https://github.com/sathinduga/obsidian-s3-sync-and-backup/issues/78 (a report; Backblaze's own pages do not
    name the header).
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation in _CREATES and "If-None-Match" in request.headers:
            return error(
                501,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
                Header="If-None-Match",
            )
        return await forward(request)


class Backblaze(BackblazeConditionals):
    """B2 as a whole: no checksum headers, no conditional writes. Sources: the two classes above."""

    async def handle(self, request: Request, forward: Forward) -> Answer:
        refusal = BackblazeChecksums()

        async def onward(checked: Request) -> Answer:
            return await refusal.handle(checked, forward)

        return await super().handle(request, onward)


class BackblazeCaps(Backblaze):
    """B2 whose account has reached a cap: 403 AccessDenied with a message, to the requests that the cap is about.

    The messages: https://github.com/restic/restic/issues/3582, https://github.com/alangrainger/share-note/issues/63;
    which requests count: https://www.backblaze.com/b2/b2-transactions-price.html (uploads don't).

    Args:
        cap: what the message calls it.
    """

    def __init__(self, cap: str = "storage") -> None:
        self.cap = cap
        self.reached = True

    async def handle(self, request: Request, forward: Forward) -> Answer:
        writes = self.cap == "storage"
        concerned = WRITES if writes else frozenset({"HeadObject", "GetObject"})
        if self.reached and request.operation in concerned:
            text = f"Cannot {'upload files' if writes else 'download file'}, {self.cap} cap exceeded."
            return _denied(request, f"{text} See the Caps &amp; Alerts page to increase your cap.")
        return await super().handle(request, forward)


class GoogleChecksums(Profile):
    """Answers SDK checksums with 403 SignatureDoesNotMatch "Invalid argument." and ignores If-None-Match.

    https://github.com/EnterpriseDB/barman/issues/1112 and https://github.com/henrysher/duplicity/issues/34 (the
    refusal of what boto3 sends by default: aws-chunked with a trailer over TLS, a checksum header otherwise);
    https://cloud.google.com/storage/docs/request-preconditions (If-None-Match is for reading only; creating wants
    x-goog-if-generation-match: 0). That header beside x-amz-* ones is refused with 400 ExcessHeaderValues,
    according to the live tests that https://github.com/vdavid/cmdr writes down.

    Args:
        own_header: whether a SHA-256 that the client computed itself is refused too.
    """

    def __init__(self, *, own_header: bool = True) -> None:
        self.own_header = own_header

    async def handle(self, request: Request, forward: Forward) -> Answer:
        chunked = "aws-chunked" in request.headers.get("Content-Encoding", "")
        found = _checksum_headers(request)
        own = [name.lower() for name in found] == ["x-amz-checksum-sha256"]
        if request.operation in WRITES and (chunked or (found and (self.own_header or not own))):
            return error(403, "SignatureDoesNotMatch", "Invalid argument.")
        if "x-goog-if-generation-match" in request.headers:
            if any(name.lower().startswith("x-amz-") for name in request.headers):
                return error(400, "ExcessHeaderValues", "Mixed x-amz and x-goog headers.")
            request.headers["If-None-Match"] = "*"
        elif request.operation in _CREATES:
            request.headers.popall("If-None-Match", None)
        return await forward(request)


class SilentOverwrite(Profile):
    """Accepts If-None-Match, answers 200 and overwrites.

    https://github.com/pithings/mountx/issues/19, https://github.com/stackshy/cloudemu/pull/657 (servers that
    dropped the header); Google does so too, see `GoogleChecksums`.

    Args:
        operations: those on which the header is ignored. Only CompleteMultipartUpload is a dialect of its own:
            Spaces and Hetzner enforce it on PutObject alone (live tests in https://github.com/vdavid/cmdr).
    """

    def __init__(self, operations: frozenset[str] = _CREATES) -> None:
        self.operations = operations

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation in self.operations:
            request.headers.popall("If-None-Match", None)
        return await forward(request)


class StrictOnPutOnly(SilentOverwrite):
    """Enforces If-None-Match on PutObject, ignores it on CompleteMultipartUpload: DigitalOcean Spaces, Hetzner.

    Live tests in https://github.com/vdavid/cmdr.
    """

    def __init__(self) -> None:
        super().__init__(frozenset({"CompleteMultipartUpload"}))


class AlibabaOverwrite(Profile):
    """Ignores If-None-Match; `x-oss-forbid-overwrite: true` answers 409 FileAlreadyExists.

    https://help.aliyun.com/en/oss/user-guide/0026-00000002
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation not in _CREATES:
            return await forward(request)
        request.headers.popall("If-None-Match", None)
        if request.headers.popall("x-oss-forbid-overwrite", ["false"])[0].lower() == "true":
            request.headers["If-None-Match"] = "*"
        answer = await forward(request)
        if answer.status == 412:
            return error(409, "FileAlreadyExists", "The object you specified already exists.")
        return answer


class MissingIsForbidden(Profile):
    """403 for a missing key, because the key may not list the bucket; listing is denied.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html, quoted in
    https://docs.aws.amazon.com/sdk-for-kotlin/api/latest/s3/aws.sdk.kotlin.services.s3/head-object.html

    Args:
        can_read: False denies HEAD and GET of present objects too, as for a key that may only write.
    """

    def __init__(self, *, can_read: bool = True) -> None:
        self.can_read = can_read

    async def handle(self, request: Request, forward: Forward) -> Answer:
        reads = request.operation in ("HeadObject", "GetObject")
        if request.operation in ("ListObjects", "HeadBucket", "ListMultipartUploads") or (
            reads and not self.can_read
        ):
            return _denied(request)
        answer = await forward(request)
        return _denied(request) if reads and answer.status == 404 else answer


def _denied(request: Request, message: str = "Access Denied") -> Answer:
    answer = error(403, "AccessDenied", message)
    return Answer(403) if request.method == "HEAD" else answer


class EqualParts(Profile):
    """Every part but the last must have the same length: 400 InvalidPart at CompleteMultipartUpload.

    https://github.com/apache/opendal/issues/2904 (code, status and message),
    https://developers.cloudflare.com/r2/objects/multipart-objects/#limitations as quoted in
    https://github.com/risingwavelabs/risingwave/issues/21637 (the last may not be larger).
    """

    def __init__(self) -> None:
        self.sizes: dict[str, dict[int, int]] = {}

    async def handle(self, request: Request, forward: Forward) -> Answer:
        upload = request.query.get("uploadId", "")
        if request.operation == "CompleteMultipartUpload":
            sizes = self.sizes.get(upload, {})
            numbers = [int(found) for found in re.findall(rb"<PartNumber>(\d+)<", request.body)]
            lengths = [sizes.get(number, 0) for number in sorted(numbers)]
            if len({*lengths[:-1]}) > 1 or (len(lengths) > 1 and lengths[-1] > lengths[0]):
                text = "All non-trailing parts must have the same length."
                return error(400, "InvalidPart", text)
        answer = await forward(request)
        if request.operation == "UploadPart" and answer.status == 200:
            number = int(request.query["partNumber"])
            self.sizes.setdefault(upload, {})[number] = len(request.body)
        return answer


class FewParts(Profile):
    """At most 1,000 parts: a higher number is refused with 400 InvalidArgument.

    https://www.scaleway.com/en/docs/object-storage/api-cli/multipart-uploads/ ("1 to 1000 parts per object");
    the code is AWS's own for a part number out of range.

    Args:
        most: the highest part number; small in tests, so that nobody has to send 5 GB.
    """

    def __init__(self, most: int = 1000) -> None:
        self.most = most

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation == "UploadPart" and int(request.query["partNumber"]) > self.most:
            text = f"Part number must be an integer between 1 and {self.most}, inclusive"
            return error(400, "InvalidArgument", text, ArgumentName="partNumber")
        return await forward(request)


class WasabiThrottle(Profile):
    """Throttles with HTTP 400 RequestRateLimitExceeded, every `every`-th write.

    The code and its message: https://docs.wasabi.com/apidocs/rest-api-introduction (its table of errors; the status
    400 could not be confirmed there).
    """

    def __init__(self, every: int = 3) -> None:
        self.every = every
        self.seen = 0

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation in WRITES:
            self.seen += 1
            if self.seen % self.every == 0:
                text = "Your account exceeded the limit for PUT requests"
                return error(400, "RequestRateLimitExceeded", text)
        return await forward(request)


class ConditionalRace(Profile):
    """409 ConditionalRequestConflict on a create-only write: try again; a Complete needs a new upload.

    https://docs.aws.amazon.com/sdk-for-kotlin/api/latest/s3/aws.sdk.kotlin.services.s3.model/-complete-multipart-upload-request/if-none-match.html

    Args:
        times: how many conflicts each key and operation meets; a conflicting Complete ends its upload.
    """

    def __init__(self, times: int = 1) -> None:
        self.times = times
        self.met: dict[tuple[str, str], int] = {}

    async def handle(self, request: Request, forward: Forward) -> Answer:
        name = (request.operation, counted_key(request.key))
        conditional = request.operation in _CREATES and "If-None-Match" in request.headers
        if conditional and self.met.get(name, 0) < self.times:
            self.met[name] = self.met.get(name, 0) + 1
            if request.operation == "CompleteMultipartUpload":
                await forward(_abort_of(request))
            text = "The conditional request cannot succeed due to a conflicting operation."
            return error(409, "ConditionalRequestConflict", text, Key=request.key)
        return await forward(request)


def _abort_of(request: Request) -> Request:
    names = ("AbortMultipartUpload", request.bucket, request.key)
    return Request(*names, "DELETE", request.target, CIMultiDict(), b"")


class OneWritePerSecond(Profile):
    """More than one write a second to one key: 429.

    https://developers.cloudflare.com/r2/platform/limits (footnote 5).
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.last: dict[str, float] = {}

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation in _CREATES:
            now = time.monotonic()
            if now - self.last.get(request.key, -self.seconds) < self.seconds:
                text = "Reduce your concurrent request rate for the same object."
                return error(429, "TooManyRequests", text)
            self.last[request.key] = now
        return await forward(request)


class WriteOnly(MissingIsForbidden):
    """A key that may PutObject and nothing else, not even give up its own uploads.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html (a policy may deny the initiator, too).
    """

    def __init__(self) -> None:
        super().__init__(can_read=False)

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.operation in ("AbortMultipartUpload", "ListParts"):
            return _denied(request)
        return await super().handle(request, forward)


PROFILES: dict[str, type[Profile]] = {
    "plain": Profile,
    "b2": Backblaze,
    "b2 checksums": BackblazeChecksums,
    "501 on conditionals": BackblazeConditionals,
    "gcs": GoogleChecksums,
    "silent overwrite": SilentOverwrite,
    "spaces, hetzner": StrictOnPutOnly,
    "oss": AlibabaOverwrite,
    "403 for missing": MissingIsForbidden,
    "equal parts": EqualParts,
    "few parts": FewParts,
    "400 throttle": WasabiThrottle,
    "409 race": ConditionalRace,
    "one write a second": OneWritePerSecond,
    "random etags": RandomEtags,
    "no metadata": NoMetadata,
    "wrong clock": WrongClock,
    "other region": OtherRegion,
    "untold region": UntoldRegion,
    "truncated": TruncatedAnswer,
    "hanging": HangingAnswer,
    "html 502": HtmlErrorPage,
    "html everywhere": HtmlEverywhere,
    "html with etag": HtmlWithEtag,
    "page for writes": PageForWrites,
    "303 for writes": SeeOther,
    "wrong length": WrongLength,
    "redirect to https": RedirectToTls,
    "ceph": Ceph,
    "swift": Swift,
    "s3rver": S3rver,
}
"""Every dialect by the name that tests print; each can be made without arguments."""

FAILS = {
    "wrong clock": ("clock", "seconds behind the store's"),
    "untold region": ("bucket", "S3_REGION"),
    "html everywhere": ("connection", "S3_ENDPOINT_URL"),
    "html with etag": ("connection", "S3_ENDPOINT_URL"),
    "page for writes": ("write", "not as an S3 store does"),
    "303 for writes": ("write", "only redirects to http://login.example"),
    "redirect to https": ("connection", "S3_ENDPOINT_URL=https://store.example "),
}
"""Dialects in which nothing can be archived: the step of the check that fails, and a part of its cause or cure."""
