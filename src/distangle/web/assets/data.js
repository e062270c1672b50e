// Ask the server; keep what does not change while the page is open.

const answers = new Map();

export class ServerError extends Error {
  constructor(message, next, status) {
    super(message);
    this.next = next;
    this.status = status;
  }
}

/** Fetch one address of the server; an error says what and what to do next. */
export async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new ServerError("The viewer does not answer.", "Look in the terminal where `distangle view` runs; start it again if it has ended.", 0);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new ServerError(body.error ?? `The viewer answered ${response.status}.`, body.next_step ?? "", response.status);
  }
  return response;
}

/** Fetch JSON, once per address. */
export function json(path) {
  if (!answers.has(path)) {
    const answer = ask(path).then((response) => response.json());
    answers.set(path, answer);
    answer.catch(() => answers.delete(path));
  }
  return answers.get(path);
}

/** A column of a table: numbers, or codes into a list of texts. */
export class Column {
  constructor(name, raw) {
    this.name = name;
    this.kind = raw.kind;
    if (raw.kind === "number") {
      const { values } = raw;
      this.values = new Float64Array(values.length);
      for (let i = 0; i < values.length; i++) this.values[i] = values[i] === null ? NaN : values[i];
    } else {
      this.levels = raw.levels;
      this.codes = Int32Array.from(raw.codes);
    }
  }

  get length() {
    return (this.values ?? this.codes).length;
  }

  at(row) {
    if (this.kind === "number") return Number.isNaN(this.values[row]) ? null : this.values[row];
    return this.codes[row] < 0 ? null : this.levels[this.codes[row]];
  }

  /** The column at other rows, in another order. */
  take(rows) {
    const taker = (source, make) => {
      const out = new make(rows.length);
      for (let i = 0; i < rows.length; i++) out[i] = rows[i] < 0 ? (make === Int32Array ? -1 : NaN) : source[rows[i]];
      return out;
    };
    const copy = Object.create(Column.prototype);
    copy.name = this.name;
    copy.kind = this.kind;
    if (this.kind === "number") copy.values = taker(this.values, Float64Array);
    else {
      copy.levels = this.levels;
      copy.codes = taker(this.codes, Int32Array);
    }
    return copy;
  }

  /** Smallest and largest number, [0, 1] for an empty column. */
  range() {
    let low = Infinity;
    let high = -Infinity;
    const { values } = this;
    for (let i = 0; i < values.length; i++) {
      if (values[i] < low) low = values[i];
      if (values[i] > high) high = values[i];
    }
    return low <= high ? [low, high] : [0, 1];
  }

  /** How often each text occurs. */
  counts() {
    const counts = new Int32Array(this.levels.length);
    for (let i = 0; i < this.codes.length; i++) if (this.codes[i] >= 0) counts[this.codes[i]]++;
    return counts;
  }
}

/** A columnar table. */
export class Table {
  constructor(raw) {
    this.n = raw.n;
    this.columns = new Map(Object.entries(raw.columns).map(([name, column]) => [name, new Column(name, column)]));
  }

  get(name) {
    return this.columns.get(name);
  }

  at(name, row) {
    return this.columns.get(name)?.at(row) ?? null;
  }

  get names() {
    return [...this.columns.keys()];
  }
}

const tables = new Map();

/** Fetch a columnar table, once. */
export function table(path, part) {
  const key = `${path} ${part ?? ""}`;
  if (!tables.has(key)) {
    const answer = json(path).then((raw) => new Table(part ? raw[part] : raw));
    tables.set(key, answer);
    answer.catch(() => tables.delete(key));
  }
  return tables.get(key);
}

export const summary = () => json("/api/summary");
export const plates = async () => (await json("/api/plates")).plates;
export const wells = () => table("/api/plates", "wells");
export const sites = () => table("/api/sites");
export const perturbations = () => table("/api/perturbations");

/** Fetch the points of the map: positions and the id of each. */
export async function points(of) {
  const response = await ask(`/api/points?of=${of}`);
  const buffer = await response.arrayBuffer();
  const n = Number(response.headers.get("X-Count"));
  return {
    n,
    of: response.headers.get("X-Of") ?? of,
    method: response.headers.get("X-Method") ?? "",
    xy: new Float32Array(buffer, 0, 2 * n),
    ids: new Uint32Array(buffer, 8 * n, n),
  };
}

const YES_NO = new Set(["correct", "explained", "transductive"]);

/** Whether a column of numbers says yes (1) or no (0). */
export function isYesNo(name) {
  return YES_NO.has(name);
}

/** One byte per level of a text column: 1 where it is the text, or, where none is, holds it. */
export function levelsThatFit(column, text) {
  const wanted = text.trim().toLowerCase();
  const same = Uint8Array.from(column.levels, (level) => (level.toLowerCase() === wanted ? 1 : 0));
  return same.includes(1) ? same : Uint8Array.from(column.levels, (level) => (level.toLowerCase().includes(wanted) ? 1 : 0));
}

const PLAIN = {
  negative_control: "negative control",
  positive_control: "positive control",
  treatment: "treatment",
};

/** The word of the field for a role. */
export function plainRole(role) {
  return PLAIN[role] ?? role ?? "";
}

const LABELS = {
  plate: "plate", experiment: "experiment", role: "kind of well", perturbation: "perturbation", name: "well",
  n_sites: "number of images", correct: "prediction right", probability: "probability of the true perturbation",
  fold: "fold", number: "image", row: "row", column: "column", well: "well",
};

/** A short label of a column. */
export function label(name, summaryColumns) {
  return summaryColumns?.find((column) => column.name === name)?.label ?? LABELS[name] ?? name.replaceAll("_", " ");
}
