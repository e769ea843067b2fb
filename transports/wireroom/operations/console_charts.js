// What the console draws: lines over time, columns, and small lines; all SVG made by script.

const NAMESPACE = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, text = "") {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
}

/** A round number that is not less: 1, 2 or 5 times a power of ten. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= value * 0.999);
}

const path = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Lines over time, with a legend that tells the newest values, or those under the pointer. */
export class TimeChart {
  #root;
  #series;
  #format;
  #legend;
  #drawing;
  #points = [];
  #at = null; // where the pointer is, from 0 to 1

  /** `series`: [{name, kind ("in" or "out"), of(past)}]. */
  constructor(root, series, format) {
    this.#root = root;
    this.#series = series;
    this.#format = format;
    this.#legend = document.createElement("div");
    this.#legend.className = "legend";
    this.#drawing = svg("svg", { role: "img" });
    root.append(this.#legend, this.#drawing);
    new ResizeObserver(() => this.#draw()).observe(root);
    this.#drawing.addEventListener("pointermove", (event) => {
      const { left, width } = this.#drawing.getBoundingClientRect();
      this.#at = (event.clientX - left - LEFT) / (width - LEFT);
      this.#draw();
    });
    this.#drawing.addEventListener("pointerleave", () => {
      this.#at = null;
      this.#draw();
    });
  }

  /** `points`: as they came, the oldest first. */
  show(points, spanS) {
    this.#points = points;
    this.spanS = spanS;
    this.#draw();
  }

  #draw() {
    const points = this.#points;
    const width = this.#root.clientWidth;
    if (width === 0 || points.length === 0) return;
    const values = this.#series.map(({ of }) => points.map(of));
    const top = roundUp(Math.max(...values.flat()));
    const [newest, plotWidth] = [points.at(-1).time, width - LEFT];
    const x = (time) => LEFT + plotWidth * Math.max(0, 1 - (newest - time) / this.spanS);
    const y = (value) => TOP + PLOT * (1 - value / top);
    const parts = [];
    for (const part of [0, 0.5, 1]) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width, y1: y(top * part), y2: y(top * part) }));
      const at = { class: "axis", x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" };
      parts.push(svg("text", at, this.#format(top * part)));
    }
    for (let minutes = 0; minutes * 60 <= this.spanS; minutes++) {
      const anchor = minutes === 0 ? "end" : "middle";
      const at = { class: "axis", x: x(newest - minutes * 60), y: TOP + PLOT + 16, "text-anchor": anchor };
      parts.push(svg("text", at, minutes ? `−${minutes} min` : "now"));
    }
    this.#series.forEach(({ kind }, index) => {
      const line = points.map((point, n) => [x(point.time), y(values[index][n])]);
      const base = [[line.at(-1)[0], y(0)], [line[0][0], y(0)]];
      parts.push(svg("path", { class: `area ${kind}`, d: `${path([...line, ...base])}Z` }));
      parts.push(svg("path", { class: `line ${kind}`, d: path(line) }));
    });
    const shown = this.#shown(newest);
    if (this.#at !== null) {
      const at = x(points[shown].time);
      parts.push(svg("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: TOP + PLOT }));
    }
    this.#drawing.setAttribute("viewBox", `0 0 ${width} ${TOP + PLOT + 22}`);
    this.#drawing.setAttribute("height", TOP + PLOT + 22);
    this.#drawing.replaceChildren(...parts);
    this.#tell(shown, values, newest);
  }

  #shown(newest) {
    if (this.#at === null) return this.#points.length - 1;
    const wanted = newest - this.spanS * (1 - this.#at);
    const distances = this.#points.map(({ time }) => Math.abs(time - wanted));
    return distances.indexOf(Math.min(...distances));
  }

  #tell(shown, values, newest) {
    const items = this.#series.map(({ name, kind }, index) => {
      const item = document.createElement("span");
      const key = document.createElement("span");
      key.className = `key ${kind}`;
      const value = document.createElement("b");
      value.textContent = this.#format(values[index][shown]);
      item.append(key, `${name} `, value);
      return item;
    });
    if (this.#at !== null) {
      const when = document.createElement("span");
      when.textContent = `${Math.round(newest - this.#points[shown].time)} s ago`;
      items.push(when);
    }
    this.#legend.replaceChildren(...items);
    this.#drawing.setAttribute("aria-label", items.map((item) => item.textContent).join(", "));
  }
}

const LEFT = 44;
const TOP = 10;
const PLOT = 130;

/** A line of the last values, without axes. */
export function sparkline(values, kind) {
  const [width, height] = [160, 30];
  const top = Math.max(...values, 1e-9);
  const points = values.map((value, index) => [
    (width * index) / Math.max(1, values.length - 1),
    height - 2 - (height - 4) * (value / top),
  ]);
  const drawing = svg("svg", {
    viewBox: `0 0 ${width} ${height}`, height, preserveAspectRatio: "none", "aria-hidden": "true",
  });
  const line = svg("path", { class: `line ${kind}`, d: path(points), "vector-effect": "non-scaling-stroke" });
  const area = svg("path", { class: `area ${kind}`, d: `${path([...points, [width, height], [0, height]])}Z` });
  drawing.append(area, line);
  return drawing;
}

/** Columns side by side: `columns` are [{label, count, title, isFar}]; every other label is left out if it is narrow. */
export function columnChart(root, columns, label) {
  const width = root.clientWidth;
  if (width === 0) return;
  const most = Math.max(1, ...columns.map(({ count }) => count));
  const step = width / columns.length;
  const every = Math.ceil(46 / step);
  const drawing = svg("svg", { role: "img", "aria-label": label, viewBox: `0 0 ${width} 166`, height: 166 });
  columns.forEach(({ label: text, count, title, isFar }, index) => {
    // By its root, so that what is rare can be seen beside what is frequent.
    const height = count === 0 ? 0 : Math.max(2, 136 * Math.sqrt(count / most));
    const column = svg("rect", {
      class: isFar ? "column far" : "column",
      x: index * step + 1, y: 142 - height, width: Math.max(1, step - 2), height, rx: 2,
    });
    column.append(svg("title", {}, title));
    drawing.append(column);
    if (index % every === 0) {
      const at = { class: "axis", x: index * step + step / 2, y: 160, "text-anchor": index ? "middle" : "start" };
      drawing.append(svg("text", index ? at : { ...at, x: 1 }, text));
    }
  });
  drawing.append(svg("line", { class: "grid", x1: 0, x2: width, y1: 142.5, y2: 142.5 }));
  root.replaceChildren(drawing);
}
