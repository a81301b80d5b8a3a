/** The types that the modules of panel and gallery exchange. */

import type { StatusClient } from "./status_client.js";

export interface ActiveFile {
  file_name: string;
  path?: string;
  size_bytes: number;
  sent_bytes: number;
  s3_key: string;
}

export interface WaitingFile {
  file_name: string;
  path?: string;
  size_bytes: number;
  reason: string;
}

export interface RecentUpload {
  file_name: string;
  path?: string;
  s3_key: string;
  upload_time: string;
  size_bytes: number;
  /** The file's id in the library; null where there is none. */
  asset_id?: string | null;
}

/** The answer of `GET /cloud-sync/status`. */
export interface Status {
  running: boolean;
  /** Empty: no engine answers, so the counts are 0 whatever is archived. */
  session_id: string;
  state: string;
  uploaded_files: number;
  already_archived_files: number;
  failed_files: number;
  retrying_files: number;
  pending_files: number;
  unsent_bytes: number;
  archived_files: number;
  skipped_files: number;
  baseline_files: number;
  errors: string[];
  recent_uploads: RecentUpload[];
  safe_to_stop: boolean;
  connection_verified: boolean;
  active: ActiveFile[];
  waiting: WaitingFile[];
  rate_bytes_per_second: number;
  seconds_left: number | null;
  destination: { endpoint: string; bucket: string; prefix: string };
  watched_directory: string;
  watching: string;
  keeps_local_files: boolean;
  overwrite_risk: "" | "large_files" | "all_files";
  version: string;
}

/** One row of `GET /cloud-sync/files`. */
export interface FileRow {
  id: number | null;
  path: string;
  state: string;
  size_bytes: number;
  s3_key: string | null;
  uploaded_at: string | null;
  next_try_at: string | null;
  attempts: number;
  cause: string | null;
  cure: string | null;
  reason?: string;
}

export interface CheckStep {
  name: string;
  ok: boolean | null;
  cause: string;
  cure: string;
}

export interface Slot {
  start: Date;
  files: number;
  bytes: number;
}

/** Text in the user's language. */
export type Translator = ((key: string, values?: Record<string, unknown>) => string) & {
  /** The language tag for dates and numbers. */
  locale: string;
  /** Translate the known sentences in a text of the server. */
  server: (text: string) => string;
};

/** What the client knows at one moment. */
export interface View {
  status: Status | null;
  reachable: boolean;
}

/** What every section of the panel gets. */
export interface Context {
  t: Translator;
  client: StatusClient;
  /** Send an action and show its result; resolves with whether it succeeded. */
  act: (name: string, body?: object) => Promise<boolean>;
  /** Copy text to the clipboard, and show whether that succeeded. */
  copy: (text: string) => Promise<void>;
  /** The path of a request for the picture of a local file, or null. */
  picture: (path: string) => string | null;
  list: (state: string) => void;
}

export interface Section {
  element: HTMLElement;
  update: (view: View) => void;
  /** Called once a second while the page is visible. */
  tick?: () => void;
  disconnect?: () => void;
}

/** One row of a list that `keyed` maintains. */
export interface Row<T> {
  node: HTMLElement;
  update: (item: T) => void;
  tick?: () => void;
  /** Called after the row was removed from the list. */
  end?: () => void;
}

/** One archived object and how it was made: `GET /cloud-sync/assets/{id}`. */
export interface Asset {
  id: string;
  name: string;
  key: string;
  path: string;
  size: number;
  mime_type: string | null;
  sha256: string | null;
  created_at: string;
  machine: string | null;
  session_id: string | null;
  job_id: string | null;
  preview_url: string;
  width: number | null;
  height: number | null;
  duration_seconds: number | null;
  metadata: {
    prompt: string | null;
    negative_prompt: string | null;
    models: string[];
    loras: { name: string; strength: number | null }[];
    /** Text where the number is too large for a browser. */
    seed: number | string | null;
    sampler: string | null;
    scheduler: string | null;
    steps: number | null;
    cfg: number | null;
    source: string | null;
    confidence: string | null;
  };
  has_workflow: boolean;
  has_prompt: boolean;
  tags: string[];
  favorite: boolean;
  rating: number;
  note: string;
  hidden: boolean;
}

export interface AssetPage {
  assets: Asset[];
  total: number;
  has_more: boolean;
  next_cursor: string | null;
}

/** A name, such as a model or a day, and how many files have it. */
export interface NamedCount {
  name: string;
  count: number;
}

/** The topmost asset in view, by its day as it was counted, and its place within that day, from 0. */
export interface Place {
  day: NamedCount;
  place: number;
  /** How far the asset's tile begins below the upper edge, in pixels. */
  offset: number;
}

/** In pixels. */
export interface TileBox {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The layout of one day. A place is a tile's number within its day, from 0. */
export interface DayLayout {
  height: number;
  position: (place: number) => TileBox;
  /** The places between two heights: `[first, end)`. */
  between: (from: number, to: number) => [first: number, end: number];
  /** The place above (-1) or below (1); undefined where the day ends. */
  neighbour: (place: number, step: 1 | -1) => number | undefined;
  /** The place `x` pixels from the left in the first or the last row. */
  edge: (x: number, last: boolean) => number;
}

/** The answer of `GET /cloud-sync/facets`: days newest first, all others the most frequent first. */
export interface Facets {
  models: NamedCount[];
  loras: NamedCount[];
  samplers: NamedCount[];
  machines: NamedCount[];
  types: NamedCount[];
  tags: NamedCount[];
  days: NamedCount[];
  /** Files that are not read yet, so that only their names are found. */
  unread?: number;
  /** While other machines' files are loaded: how many are searched, and about how many there are. */
  loading?: { searched: number; total: number } | null;
  /** Why other machines' files can't be read. */
  trouble?: string | null;
}

/** The facets that are lists of names with counts. */
export type FacetName = Exclude<keyof Facets, "unread" | "loading" | "trouble">;

/** One link of a share, and when it ends. */
export interface SharedLink {
  name: string;
  url: string;
  expires_at: string;
}

/** The answer of `POST /cloud-sync/share`. */
export interface ShareAnswer {
  /** The id that `cloud-archive unshare` takes; null: only links were made, and nothing can be deleted. */
  share: string | null;
  album: { title: string; url: string; expires_at: string } | null;
  links: SharedLink[];
  errors: { name: string; message: string }[];
  warnings: string[];
}

/** What ComfyUI's canvas can do with an asset. */
export interface CanvasActions {
  openWorkflow: (asset: Asset) => Promise<void>;
  useAsInput: (asset: Asset) => Promise<string>;
}

/** What every part of the gallery gets. */
export interface GalleryContext {
  t: Translator;
  client: StatusClient;
  /** Null on the pages of dashboard.js. */
  canvas: CanvasActions | null;
  /** The name of a day such as "2026-11-25": "Today", "Wed, 25 November 2026", or in brief "Wed, 25 Nov". */
  dayName: (day: string, brief?: boolean) => string;
  /** Such as "Nov 2026". */
  monthName: (day: string) => string;
  moment: (time: string) => string;
  number: (value: number) => string;
  isBlurred: (asset: Asset) => boolean;
  copy: (text: string) => Promise<void>;
  /** Show a sentence for a while. */
  say: (text: string, tone: "good" | "bad") => void;
  share: (assets: Asset[]) => void;
  /** Save edits. Resolves with the saved assets, or with null after the user was told why one failed. */
  edit: (assets: Asset[], changesOf: Partial<Asset> | ((asset: Asset) => Partial<Asset>)) => Promise<Asset[] | null>;
}
