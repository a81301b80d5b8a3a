"""Modules of the library, without its page."""

from __future__ import annotations

import json

from playwright.sync_api import Page

from tests.browser.pages import open_dashboard
from tests.browser.stage import Scene


def test_a_tag_for_many_files_is_saved_four_at_a_time_and_failures_are_counted(
    page: Page, dashboard: Scene
) -> None:
    open_dashboard(page, dashboard.address)
    most, said = page.evaluate(
        """async () => {
          const { galleryContext } = await import("/gallery/context.js");
          const { SelectionBar } = await import("/gallery/selection_bar.js");
          const { translator } = await import("/strings.js");
          const pause = () => new Promise((done) => setTimeout(done));
          let open = 0, most = 0, ended = 0;
          const said = [];
          const post = async (path) => {
            most = Math.max(most, ++open);
            await pause();
            open -= 1;
            ended += 1;
            if (/\\/[35]$/.test(path)) throw new Error("no room");
            return {};
          };
          const ends = { say: (text) => said.push(text), edited: () => {}, share: () => {} };
          const context = galleryContext({ get: async () => ({ tags: [] }), post }, translator("en"), null, {}, ends);
          const assets = Array.from({ length: 12 }, (_, id) => ({ id: `${id}`, tags: [] }));
          const bar = new SelectionBar(context, () => assets, { compare: () => {}, clear: () => {} });
          const field = bar.element.querySelector("input");
          field.value = "fox";
          field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
          while (ended < 12) await pause();
          await pause();
          return [most, said];
        }"""
    )
    assert most == 4
    assert said == ["2 of 12 files were not changed: no room"]


def test_a_search_that_is_too_long_for_an_address_is_sent_as_json(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    short, long = page.evaluate(
        """async () => {
          const { StatusClient } = await import("/status_client.js");
          const calls = [];
          const fetch = async (path, { method = "GET", body = null }) => {
            calls.push([method, path.length > 100 ? "long" : path, body && JSON.parse(body).q.length]);
            return new Response('{"assets": []}');
          };
          const client = new StatusClient({ fetch });
          const answers = [
            await client.get("/cloud-sync/assets", { q: "fox", after: null }),
            await client.get("/cloud-sync/assets", { q: "狐".repeat(4000), limit: 20, after: null }),
          ];
          return calls.map((call, number) => [...call, answers[number].assets.length]);
        }"""
    )
    assert short == ["GET", "/cloud-sync/assets?q=fox", None, 0]
    assert long == ["POST", "/cloud-sync/assets", 4000, 0]


def test_a_quote_in_a_name_is_searched_for(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    found = page.evaluate(
        """async () => {
          const { hasTerm, term, toggleTerm } = await import("/gallery/query.js");
          const part = term("machine", 'fo"x 1');
          const query = toggleTerm("red", part);
          return [query, hasTerm(query, part), toggleTerm(query, part)];
        }"""
    )
    assert found == ['red machine:"fo""x 1"', True, "red"]


def test_a_name_that_begins_like_the_rest_of_an_address_is_quoted(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    found = page.evaluate(
        """async () => {
          const { term } = await import("/gallery/query.js");
          return [term("model", "//nas/fox.safetensors"), term("model", "flux//fox.safetensors")];
        }"""
    )
    assert found == ['model:"//nas/fox.safetensors"', "model:flux//fox.safetensors"]


def test_a_wanted_page_that_its_day_no_longer_has_is_asked_for_once(page: Page, dashboard: Scene) -> None:
    """In a worker, because a page that asks without end answers no test either."""
    open_dashboard(page, dashboard.address)
    page.evaluate(
        """() => {
          const code = `
            import { Pages } from "${location.origin}/gallery/pages.js";
            let asked = 0;
            const fetch = async () => {
              asked += 1;
              return { assets: [], total: 90, next_cursor: null };
            };
            new Pages(fetch, () => {}, () => {}).want([{ day: { name: "2026-11-25" }, place: 150 }]);
            setTimeout(() => postMessage(asked));`;
          const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
          const worker = new Worker(url, { type: "module" });
          worker.onmessage = ({ data }) => {
            window.asked = data;
            worker.terminate();
          };
        }"""
    )
    page.wait_for_function("window.asked === 1")


def test_later_pages_are_requested_again_once_an_earlier_one_ends_elsewhere(
    page: Page, dashboard: Scene
) -> None:
    open_dashboard(page, dashboard.address)
    asked = page.evaluate(
        """async () => {
          const { Pages } = await import("/gallery/pages.js");
          const asked = [], open = [];
          const fetch = (day, after) => new Promise((resolve) => {
            asked.push(after);
            open.push((next) => resolve({ assets: [], total: 250, next_cursor: next }));
          });
          const answer = async (...nexts) => {
            for (const next of nexts) {
              open.shift()(next);
              await new Promise((done) => setTimeout(done));
            }
          };
          const pages = new Pages(fetch, () => {}, () => {});
          const places = [0, 100, 200].map((place) => ({ day: { name: "2026-11-25" }, place }));
          const load = async (...nexts) => {
            for (const [page, next] of nexts.entries()) {
              pages.want([places[page]]);
              if (open.length) await answer(next);
            }
          };
          await load("old 1", "old 2", null);
          pages.expire();
          pages.want(places);
          open.reverse(); // the answer of the first page comes last
          await answer(null, "old 2", "new 1");
          await load(null, "new 2", null);
          pages.want(places);
          return asked;
        }"""
    )
    assert asked == ["", "old 1", "old 2", "", "old 1", "old 2", "new 1", "new 2"]


def test_a_file_that_takes_longer_than_a_minute_still_becomes_an_input(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    said = page.evaluate(
        """async () => {
          const { canvasActions } = await import("/canvas_actions.js");
          const { StatusClient } = await import("/status_client.js");
          const timeout = AbortSignal.timeout;
          AbortSignal.timeout = (ms) => (ms > 60_000 ? timeout.call(AbortSignal, ms) : AbortSignal.abort());
          const fetch = async (path, { signal }) => {
            signal.throwIfAborted(); // a minute has passed
            return new Response('{"name": "long.mp4", "subfolder": ""}');
          };
          try {
            const actions = canvasActions({}, new StatusClient({ fetch }), () => "en");
            return await actions.useAsInput({ id: "an-id" }).catch(String);
          } finally {
            AbortSignal.timeout = timeout;
          }
        }"""
    )
    assert said == "In ComfyUI's input directory: long.mp4"


def test_a_seed_is_text_only_where_a_number_would_lose_digits(page: Page, dashboard: Scene) -> None:
    open_dashboard(page, dashboard.address)
    seeds = page.evaluate(
        """async (answers) => {
          const { StatusClient } = await import("/status_client.js");
          const client = new StatusClient({ fetch: async () => new Response(answers.shift()) });
          return [(await client.get("/a")).seed, (await client.get("/a")).seed];
        }""",
        [json.dumps({"seed": number}) for number in (1125899906842624, 2**64 - 1)],
    )
    assert seeds == [1125899906842624, "18446744073709551615"]
