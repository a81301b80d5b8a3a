// @ts-check
/** The first run: which settings are missing, and a recipe to copy. It sets nothing. */

import { button, el, setText } from "./dom.js";

/** @typedef {import("../types.d.ts").Context} Context */
/** @typedef {import("../types.d.ts").Translator} Translator */
/** @typedef {import("../types.d.ts").View} View */

/**
 * Endpoints as the providers document them:
 * https://docs.aws.amazon.com/general/latest/gr/s3.html
 * https://developers.cloudflare.com/r2/api/s3/api/
 * https://min.io/docs/minio/linux/reference/minio-server/minio-server.html
 *
 * @type {Record<string, {name: string|null, extra: Record<string, string>}>}
 */
const STORES = {
  aws: { name: "AWS", extra: { S3_REGION: "us-east-1" } },
  r2: { name: "R2", extra: { S3_ENDPOINT_URL: "https://<{account}>.r2.cloudflarestorage.com", S3_REGION: "auto" } },
  minio: { name: "MinIO", extra: { S3_ENDPOINT_URL: "http://localhost:9000" } },
  other: { name: null, extra: { S3_ENDPOINT_URL: "https://s3.example.com", S3_REGION: "us-east-1" } },
};

/** @type {Record<string, {name: string, line: (key: string, value: string) => string}>} */
const SHELLS = {
  unix: { name: "Linux, macOS", line: (key, value) => `export ${key}='${value}'` },
  windows: { name: "Windows", line: (key, value) => `set "${key}=${value}"` },
  env: { name: ".env, Docker", line: (key, value) => `${key}=${value}` },
};

const MISSING = /^(\w+) is not set\b/;

/**
 * Return the settings for one store, in one shell's form.
 *
 * @param {string} store
 * @param {string} shell
 * @param {Translator} t
 */
function settingsText(store, shell, t) {
  const values = {
    S3_ACCESS_KEY_ID: `<${t("setup.key")}>`,
    S3_SECRET_ACCESS_KEY: `<${t("setup.secret")}>`,
    S3_BUCKET: `<${t("setup.bucket")}>`,
    ...STORES[store].extra,
  };
  return Object.entries(values)
    .map(([key, value]) => SHELLS[shell].line(key, value.replace("{account}", t("setup.account"))))
    .join("\n");
}

export class FirstRun {
  #context;
  #store = "aws";
  #shell = /Windows/.test(navigator.userAgent) ? "windows" : "unix";
  #text = el("code");
  #missing = el("p", { class: "missing" });
  #problems = el("ul", { class: "warn small" });
  /** @type {(() => void)[]} each shows whether its button is the chosen one */
  #choices = [];

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    const { t } = context;
    const copy = button(t("setup.copy"), { icon: "copy", kind: "primary", onclick: () => context.copy(this.#text.textContent ?? "") });
    this.element = el(
      "section",
      { "aria-labelledby": "setup-title", class: "wide", hidden: true },
      el("div", { class: "title" }, el("h3", { id: "setup-title", text: t("setup.title") })),
      el(
        "div",
        { class: "setup card" },
        el("p", { text: t("setup.what") }),
        this.#missing,
        this.#problems,
        el("p", { class: "small quiet", text: t("setup.intro") }),
        this.#choice("setup.store", STORES, () => this.#store, (name) => { this.#store = name; }),
        this.#choice("setup.shell", SHELLS, () => this.#shell, (name) => { this.#shell = name; }),
        el("pre", { tabindex: 0, role: "group", "aria-labelledby": "setup-title" }, this.#text),
        el("div", {}, copy),
        el("p", { class: "small quiet", text: t("setup.note") }),
      ),
    );
    this.#draw();
  }

  /** @param {View} view */
  update({ status }) {
    this.element.hidden = status?.state !== "not_configured";
    if (!status || this.element.hidden) return;
    const errors = [...new Set(status.errors ?? [])];
    const names = errors.map((text) => MISSING.exec(text)?.[1]).filter(Boolean);
    setText(this.#missing, names.length ? this.#context.t("setup.missing", { names: names.join(", ") }) : "");
    this.#missing.hidden = !names.length;
    const others = errors.filter((text) => !MISSING.test(text)).map(this.#context.t.server);
    this.#problems.hidden = !others.length;
    if (others.join("\n") !== [...this.#problems.children].map((item) => item.textContent).join("\n")) {
      this.#problems.replaceChildren(...others.map((text) => el("li", { text })));
    }
  }

  /**
   * @param {string} label
   * @param {Record<string, {name: string|null}>} table
   * @param {() => string} current
   * @param {(name: string) => void} choose
   */
  #choice(label, table, current, choose) {
    const { t } = this.#context;
    const group = el("div", { class: "choice", role: "group", "aria-label": t(label) });
    for (const [name, { name: text }] of Object.entries(table)) {
      const node = button(text ?? t("setup.other"), { onclick: () => {
        choose(name);
        this.#draw();
      } });
      this.#choices.push(() => node.setAttribute("aria-pressed", String(current() === name)));
      group.append(node);
    }
    return el("div", { class: "row" }, el("span", { class: "small quiet", text: t(label) }), group);
  }

  #draw() {
    for (const showPressed of this.#choices) showPressed();
    setText(this.#text, settingsText(this.#store, this.#shell, this.#context.t));
  }
}
