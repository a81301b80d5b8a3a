"""Bodies to the store past the SDK, which costs several times the rest of a small upload.

The SDK sends the first body. Once the store has taken that, its request shows what there is to know (address, region,
style), and the following PutObject and UploadPart requests are signed and sent here, over the same HTTP library. Any
answer that is not plain success or "the key is taken" sends the next body through the SDK again, which knows every
detour (redirects to another region, a question before a large body, credentials to renew).

Signatures are AWS Signature Version 4: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
The body's SHA-256, which is known already, is signed on plain HTTP and on TLS alike.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    import urllib3

    from .client import MeteredBody

# Answers that the SDK should see: redirects, and refusals that it may know a way around.
SDK_STATUSES = frozenset({301, 302, 303, 307, 308, 400, 401, 403, 501})
MAX_REFUSAL_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a listing of a thousand long keys, each sign of them escaped, has 10 MB
PIECE_BYTES = 64 * 1024
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/\d{8}/([^/,]+)/s3/aws4_request,")
_PARAMETERS = {
    "ContentType": "content-type",
    "IfNoneMatch": "if-none-match",
    "StorageClass": "x-amz-storage-class",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "content-md5",
}


class Keys(NamedTuple):
    """What signs a request."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None

    def __repr__(self) -> str:
        return "Keys(***)"


class AnswerError(Exception):
    """An answer that is no success, in the shape of botocore's `ClientError`."""

    def __init__(self, response: dict[str, Any]) -> None:
        super().__init__(str(response["Error"].get("Code")))
        self.response = response
        self.status: int = response["ResponseMetadata"]["HTTPStatusCode"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the store is, as a request of the SDK showed it.

    Attributes:
        base: the URL's path before the key, with its last slash.
    """

    scheme: str
    host: str
    base: str
    region: str

    @classmethod
    def of(cls, url: str, authorization: str, key: str) -> Address | None:
        """From a request for `key`; None where it is signed or addressed in a way that is not known here."""
        signed = _CREDENTIAL.match(authorization)
        parts = urlsplit(url)
        path = quote(key, safe="/-_.~")
        if signed is None or parts.scheme not in ("http", "https") or not parts.path.endswith(f"/{path}"):
            return None
        return cls(parts.scheme, parts.netloc, parts.path[: -len(path)], signed[1])


class Signer:
    """Signature Version 4 for S3; the key for the day is derived once."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def sign(
        self, method: str, path: str, query: str, headers: dict[str, str], sha256: str, keys: Keys, now: float
    ) -> None:
        """Add `x-amz-date`, `x-amz-content-sha256`, the token and `authorization` to `headers`.

        Args:
            path, query: percent-encoded; the query's names in their order.
            headers: lower-case names, all to be signed, `host` among them.
            sha256: of the body, hexadecimal.
            now: seconds since 1970.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        day = moment[:8]
        headers["x-amz-date"] = moment
        headers["x-amz-content-sha256"] = sha256
        if keys.session_token:
            headers["x-amz-security-token"] = keys.session_token
        names = sorted(headers)
        signed = ";".join(names)
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{sha256}"
        scope = f"{day}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.new(
            self._key(keys.secret_access_key, day), text.encode(), hashlib.sha256
        ).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, SignedHeaders={signed},"
            f" Signature={signature}"
        )

    def _key(self, secret: str, day: str) -> bytes:
        known_secret, known_day, key = self._derived
        if known_secret == secret and known_day == day:
            return key
        key = f"AWS4{secret}".encode()
        for part in (day, self._region, "s3", "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        self._derived = (secret, day, key)
        return key


class SignedPut:
    """Sends bodies to one bucket; safe to use from any thread.

    Args:
        address: see `Address.of`.
        keys: asked for each request, so that renewed credentials are used.
        connections: kept open at the most.
        verify: the file of certificate authorities for https.
        connect_seconds, read_seconds: timeouts of one request.
    """

    def __init__(
        self,
        address: Address,
        keys: Callable[[], Keys],
        *,
        connections: int,
        verify: str | None,
        user_agent: str,
        connect_seconds: float,
        read_seconds: float,
    ) -> None:
        self.address = address
        self._keys = keys
        self._user_agent = user_agent
        self._signer = Signer(address.region)
        self._pool = _pool(address, connections, verify, connect_seconds, read_seconds)

    def send(
        self, key: str, body: bytes | MeteredBody, size_bytes: int, sha256: str, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One PutObject or UploadPart, with boto3's parameters; what boto3 would return.

        Raises:
            AnswerError: the store refused.
            urllib3.exceptions.HTTPError: no answer came.
        """
        path = self.address.base + quote(key, safe="/-_.~")
        query = ""
        if "UploadId" in parameters:
            upload_id = quote(parameters["UploadId"], safe="-_.~")
            query = f"partNumber={parameters['PartNumber']}&uploadId={upload_id}"
        headers = {"host": self.address.host}
        for name, header in _PARAMETERS.items():
            if name in parameters:
                headers[header] = parameters[name]
        for name, value in parameters.get("Metadata", {}).items():
            headers[f"x-amz-meta-{name.lower()}"] = value
        self._signer.sign("PUT", path, query, headers, sha256, self._keys(), time.time())
        headers["content-length"] = str(size_bytes)
        headers["user-agent"] = self._user_agent
        answer = self._pool.urlopen(
            "PUT",
            f"{path}?{query}" if query else path,
            body=cast(Any, body),
            headers=headers,
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        return _understood(answer.status, answer.headers, read_bounded(answer))

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.close()


def _pool(
    address: Address, connections: int, verify: str | None, connect_seconds: float, read_seconds: float
) -> urllib3.HTTPConnectionPool:
    import urllib3

    parts = urlsplit(f"{address.scheme}://{address.host}")
    options: dict[str, Any] = {
        "port": parts.port,
        "maxsize": connections,
        "timeout": urllib3.Timeout(connect=connect_seconds, read=read_seconds),
        "socket_options": [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        ],
    }
    host = parts.hostname or ""
    if address.scheme == "http":
        return urllib3.HTTPConnectionPool(host, **options)
    from botocore.httpsession import create_urllib3_context

    return urllib3.HTTPSConnectionPool(
        host, cert_reqs="CERT_REQUIRED", ca_certs=verify, ssl_context=create_urllib3_context(), **options
    )


def read_bounded(answer: urllib3.BaseHTTPResponse) -> bytes:
    """Read an answer's body, but of a refusal no more than its message needs.

    Raises:
        urllib3.exceptions.ProtocolError: the answer is no refusal, and longer than any document of S3.
    """
    import urllib3

    is_refusal = answer.status >= 300
    left = MAX_REFUSAL_BYTES if is_refusal else MAX_ANSWER_BYTES
    pieces: list[bytes] = []
    for piece in answer.stream(PIECE_BYTES, decode_content=False):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            answer.close()  # with the connection, on which the rest would still come
            if not is_refusal:
                raise urllib3.exceptions.ProtocolError("The answer does not end.")
            break
    else:
        answer.release_conn()
    return b"".join(pieces)


def _understood(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    found = {name.lower(): value for name, value in headers.items()}
    answer: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": found}}
    if 200 <= status < 300:
        for name, header in (("ETag", "etag"), ("ChecksumSHA256", "x-amz-checksum-sha256")):
            if header in found:
                answer[name] = found[header]
        return answer
    answer["Error"] = _error(body) or {"Code": str(status), "Message": ""}
    raise AnswerError(answer)


def _error(body: bytes) -> dict[str, str]:
    """The fields of S3's error document; empty where it is none.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    if b"<!" in body:  # a page, or a document with entities
        return {}
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - no document type, hence no entities
    except (ElementTree.ParseError, ValueError):
        return {}
    if root.tag.rpartition("}")[2] != "Error":
        return {}
    return {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in root}
