"""Endpoints that are not S3 stores, at all or for some requests: web pages and redirects."""

from __future__ import annotations

from multidict import CIMultiDict

from tests.quirks.server import Answer, Forward, Profile, Request


class HtmlEverywhere(Profile):
    """The endpoint is a web console: 200 and HTML for everything, to writes as well.

    https://github.com/treeverse/lakeFS/issues/1574 (boto3 pointed at a web page).
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        page = b"<!DOCTYPE html>\n<html><head><title>Console</title></head><body></body></html>"
        return Answer(200, CIMultiDict({"Content-Type": "text/html"}), page)


class HtmlWithEtag(HtmlEverywhere):
    """The same from a static server, whose pages have an ETag and a time, as objects do; it takes no writes.

    https://nginx.org/en/docs/http/ngx_http_core_module.html (`etag` is on by default) and its `try_files`, which many
    consoles use to answer every path with one page.
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        answer = await super().handle(request, forward)
        if request.method not in ("GET", "HEAD"):
            answer.status = 405
            return answer
        answer.headers["ETag"] = '"65f1c2d3-1a2"'
        answer.headers["Last-Modified"] = "Tue, 21 Oct 2025 07:28:00 GMT"
        answer.headers["Content-Length"] = str(len(answer.body))
        return answer


class PageForWrites(Profile):
    """A proxy answers every PUT with 200 and a page of its own that has an ETag, and the store gets nothing.

    Captive portals and filters do so; https://expressjs.com/en/api.html#etag.options.table (an ETag for every answer).
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.method != "PUT":
            return await forward(request)
        headers = CIMultiDict({"Content-Type": "text/html; charset=utf-8", "ETag": 'W/"1a2-page"'})
        return Answer(200, headers, b"<html><body>This page was blocked.</body></html>")


class SeeOther(Profile):
    """Something on the way answers every PUT with 303 to another host: a gateway that wants a login.

    RFC 9110, section 15.4.4.
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        if request.method != "PUT":
            return await forward(request)
        return Answer(303, CIMultiDict({"Location": "http://login.example/"}))


class RedirectToTls(Profile):
    """A web server on the plain port sends everything on to https, as nginx and Caddy are often set up to.

    RFC 9110, section 15.4.2; https://github.com/rustfs/rustfs/issues/5849 (an S3 client before a redirect of nginx).
    """

    async def handle(self, request: Request, forward: Forward) -> Answer:
        page = b"<html><head><title>301 Moved Permanently</title></head><body>nginx</body></html>"
        where = f"https://store.example{request.target}"
        return Answer(301, CIMultiDict({"Content-Type": "text/html", "Location": where}), page)
