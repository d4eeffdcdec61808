// The viewer's controls. PointliftViewer.mount(element, data) fills an element; data comes from pointlift.report.viewer.
const MODE_NAMES = { label: "labels", rgb: "colour", scalar: "value", height: "height", plain: "plain" };
const PAPER = { light: [250, 251, 252], dark: [22, 25, 30] };
const HELP = [
  ["drag", "orbit"], ["wheel, pinch, + −", "zoom"], ["right drag, shift drag, two fingers", "pan"], ["arrow keys", "orbit"],
  ["double click", "centre on a point"], ["hover", "coordinates, label and value"], ["[ ]", "point size"], ["C", "next colouring"],
  ["U", "next up axis"], ["B", "background"], ["G", "floor grid"], ["space", "turn by itself"], ["N P", "next, previous cloud"],
  ["R", "reset the view"], ["S", "save as PNG"], ["?", "this help"],
];
// Axes of the cloud seen in the y-up frame of the renderers, per up axis: rows are where x, y and z of the cloud point to.
const UP_FRAMES = {
  y: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  z: [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
  x: [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
};

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

function decodeCloud(source) {
  if (source.decoded) return source.decoded;
  const floats = (t) => (t ? new Float32Array(bytesOf(t).buffer) : null), ints = (t) => (t ? new Int32Array(bytesOf(t).buffer) : null);
  const cloud = { ...source, xyz: floats(source.xyz), rgb: source.rgb ? bytesOf(source.rgb) : null, labels: ints(source.labels), scalar: floats(source.scalar) };
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (let i = 0; i < cloud.xyz.length; i++) { const a = i % 3, v = cloud.xyz[i]; if (v < low[a]) low[a] = v; if (v > high[a]) high[a] = v; }
  cloud.center = low.map((v, a) => (v + high[a]) / 2);
  let square = 0;
  for (let i = 0; i < cloud.count; i++) square = Math.max(square, [0, 1, 2].reduce((s, a) => s + (cloud.xyz[3 * i + a] - cloud.center[a]) ** 2, 0));
  cloud.radius = Math.sqrt(square) || 1;
  const height = !(cloud.scalar && cloud.scalarName === "height");  // else two buttons of one name
  cloud.modes = [cloud.labels && "label", cloud.rgb && "rgb", cloud.scalar && "scalar", height && "height", "plain"].filter(Boolean);
  source.decoded = cloud;
  return cloud;
}

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

class Viewer {
  constructor(host, data, options) {
    this.host = host; this.data = data; this.options = options;
    this.camera = options.camera || new Camera();
    this.linked = [];  // viewers that share the camera, and show the cloud of the same number
    this.up = data.upAxis; this.size = 1; this.index = 0; this.mode = null; this.hidden = new Set(); this.grid = true; this.spin = false;
    this.dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    this.build();
    this.chooseRenderer(options.renderer);
    this.listen();
    this.setDark(options.background ? options.background === "dark" : this.dark);
    this.show(Math.min(data.clouds.length - 1, options.cloud || 0), options.mode);
    // Drawn at once, before this frame is painted: a frame later the old picture would show stretched.
    new ResizeObserver(() => { this.frameUnlessMoved(); this.drawNow(); }).observe(this.stage);
  }

  build() {
    const button = (title, text, action) => element("button", { type: "button", title, "aria-label": title, onclick: action }, text);
    this.select = element("select", { title: "cloud (N, P)", onchange: () => this.show(this.select.selectedIndex) },
      ...this.data.clouds.map((c) => element("option", {}, c.name)));
    this.modes = element("span", { class: "plv-modes", role: "group", "aria-label": "colouring (C)" });
    this.upSelect = element("select", { title: "up axis (U)", onchange: () => this.setUp(this.upSelect.value) },
      ...["x", "y", "z"].map((a) => element("option", { value: a }, `${a} up`)));
    this.slider = element("input", { type: "range", min: "-2", max: "2", step: "0.05", value: "0", title: "point size ([ and ])", "aria-label": "point size",
      oninput: () => { this.size = 2 ** +this.slider.value; this.draw(); } });
    const many = this.data.clouds.length > 1;
    this.bar = element("div", { class: "plv-bar" },
      element("span", { class: "plv-group" }, ...(many ? [button("previous cloud (P)", "‹", () => this.step(-1)), this.select, button("next cloud (N)", "›", () => this.step(1))]
        : [element("b", {}, this.data.clouds[0].name)])),
      this.modes, element("span", { class: "plv-group" }, this.upSelect, element("label", {}, "size ", this.slider)),
      element("span", { class: "plv-group plv-end" }, button("light or dark background (B)", "◐", () => this.setDark(!this.dark)),
        button("floor grid (G)", "▦", () => this.toggleGrid()), button("turn by itself (space)", "↻", () => this.toggleSpin()),
        button("save as PNG (S)", "⤓", () => this.save()), button("reset the view (R)", "⌂", () => this.reset()), button("help (?)", "?", () => this.toggleHelp())));
    this.floor = element("canvas", { class: "plv-layer" });
    this.canvas = element("canvas", { class: "plv-layer" });
    this.axes = element("canvas", { class: "plv-axes", width: 144, height: 144 });
    this.legend = element("div", { class: "plv-legend" });
    this.notice = element("div", { class: "plv-notice" });
    this.tip = element("div", { class: "plv-tip", hidden: true });
    this.help = element("div", { class: "plv-help", hidden: true }, element("table", {}, ...HELP.map(([k, v]) => element("tr", {}, element("th", {}, k), element("td", {}, v)))));
    this.stage = element("div", { class: "plv-stage", tabindex: "0", role: "application", "aria-label": `3D view: ${this.data.title}` },
      this.floor, this.canvas, this.axes, this.legend, this.notice, this.tip, this.help);
    this.caption = element("div", { class: "plv-caption" });
    this.host.classList.add("plv");
    this.host.replaceChildren(this.bar, this.stage, this.caption);
  }

  chooseRenderer(wanted) {
    this.degraded = "";
    if (wanted !== "2d") {
      try { this.renderer = new WebGLRenderer(this.canvas); } catch (error) { this.degraded = "This browser offers no WebGL: drawn on the processor, large clouds turn more slowly."; }
    }
    if (!this.renderer) this.useSoftware();
    else this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.degraded = "The browser took WebGL away: drawn on the processor from here on.";
      this.useSoftware(); this.show(this.index, this.mode, true);
    });
  }

  useSoftware() {
    const fresh = element("canvas", { class: "plv-layer" });
    this.canvas.replaceWith(fresh);
    this.canvas = fresh;
    this.renderer = new SoftwareRenderer(fresh);
  }

  show(index, mode, keepView) {
    this.index = index; this.select.selectedIndex = index;
    this.cloud = decodeCloud(this.data.clouds[index]);
    this.hidden.clear();
    this.caption.textContent = this.cloud.caption; this.caption.hidden = !this.cloud.caption;
    const number = (n) => n.toLocaleString("en"), points = (n) => `${number(n)} ${n === 1 ? "point" : "points"}`, lines = [];
    const { count, total, dropped } = this.cloud;
    lines.push(count < total ? `${number(count)} of ${number(total)} points shown (random subset)` : points(total));
    if (dropped) lines.push(`${points(dropped)} with NaN or infinite coordinates left out`);
    if (this.degraded) lines.push(this.degraded);
    this.notice.replaceChildren(...lines.map((line) => element("div", {}, line)));
    this.modes.replaceChildren(...this.cloud.modes.map((m) => element("button", { type: "button", "data-mode": m, onclick: () => this.setMode(m) }, m === "scalar" ? this.cloud.scalarName || "value" : MODE_NAMES[m])));
    this.mode = this.cloud.modes.includes(mode) ? mode : this.cloud.modes.includes(this.mode) ? this.mode : this.cloud.modes[0];
    this.setUp(this.up, keepView);
    for (const other of this.linked) if (other.index !== index && index < other.data.clouds.length) other.show(index, other.mode, keepView);
  }
  step(by) { const n = this.data.clouds.length; this.show((this.index + by + n) % n, this.mode); }

  setUp(axis) {
    this.up = axis; this.upSelect.value = axis;
    const frame = UP_FRAMES[axis], { xyz, center, radius, count } = this.cloud, out = new Float32Array(3 * count);
    let half = 0;
    for (let i = 0; i < count; i++) {
      for (let a = 0; a < 3; a++) { const v = (xyz[3 * i + a] - center[a]) / radius; for (let b = 0; b < 3; b++) out[3 * i + b] += v * frame[a][b]; }
      half = Math.max(half, Math.abs(out[3 * i]), Math.abs(out[3 * i + 2]));
    }
    this.positions = out;
    this.floorPlane = { height: valueRange(out.filter((_, i) => i % 3 === 1))[0], half };
    this.renderer.setPositions(out);
    this.frameUnlessMoved();
    this.setMode(this.mode);
  }

  setMode(mode) {
    this.mode = mode;
    for (const b of this.modes.children) b.setAttribute("aria-pressed", String(b.dataset.mode === mode));
    const { cloud } = this, axis = "xyz".indexOf(this.up);
    this.values = mode === "scalar" ? cloud.scalar : mode === "height" ? cloud.xyz.filter((_, i) => i % 3 === axis) : null;
    this.range = valueRange(this.values || []);
    this.paint();
    this.buildLegend();
  }
  paint() { this.renderer.setColors(colorize(this.cloud, this.mode, this.hidden, this.values, this.range)); this.draw(); }
  labelName(label) { return label < 0 ? "unlabelled" : this.cloud.labelNames[label] ?? `label ${label}`; }

  buildLegend() {
    const { cloud, legend } = this;
    legend.replaceChildren();
    legend.hidden = !["label", "scalar", "height"].includes(this.mode);
    if (this.mode === "label") {
      const counts = new Map();
      for (const l of cloud.labels) counts.set(l, (counts.get(l) || 0) + 1);
      for (const label of [...counts.keys()].sort((a, b) => a - b)) {
        legend.append(element("button", { type: "button", title: "click to hide or show, double click for this one alone", "aria-pressed": String(!this.hidden.has(label)),
          onclick: (e) => { this.hidden.has(label) ? this.hidden.delete(label) : this.hidden.add(label); this.syncLegend(); e.currentTarget.blur(); },
          ondblclick: () => { this.hidden = new Set([...counts.keys()].filter((l) => l !== label)); this.syncLegend(); }, "data-label": label },
          element("i", { style: `background:${cssColor(labelColor(label))}` }), element("span", {}, this.labelName(label)), element("small", {}, counts.get(label).toLocaleString("en"))));
      }
    } else if (!legend.hidden) {
      const shift = this.mode === "height" ? cloud.origin["xyz".indexOf(this.up)] : 0;
      const span = this.range[1] - this.range[0], tick = (t) => { const v = shift + this.range[0] + t * span; return shortNumber(Math.abs(v) < 1e-5 * span ? 0 : v); };
      const bound = (t) => (this.range.cut && t !== 0.5 ? (t ? "≥ " : "≤ ") : "");
      const finite = this.range[0] <= this.range[1];
      legend.append(element("div", { class: "plv-ramp" }, element("i", { style: `background:${rampGradient()}` }),
        element("span", {}, ...(finite ? [1, 0.5, 0] : []).map((t) => element("small", {}, bound(t) + tick(t))))),
        element("small", {}, this.mode === "height" ? `height (${this.up})` : cloud.scalarName || "value"));
    }
  }
  syncLegend() {
    for (const b of this.legend.querySelectorAll("[data-label]")) b.setAttribute("aria-pressed", String(!this.hidden.has(+b.dataset.label)));
    this.paint();
  }

  setDark(dark) { this.dark = dark; this.host.classList.toggle("plv-dark", dark); if (this.cloud) this.draw(); }
  toggleGrid() { this.grid = !this.grid; this.draw(); }
  toggleHelp() { this.help.hidden = !this.help.hidden; }
  // The cloud fills the stage until the user takes the camera over.
  frameUnlessMoved() {
    if (this.touched || !this.stage.clientWidth) return;
    this.camera.aim(this.positions);
    this.camera.fit(this.positions, this.stage.clientWidth, this.stage.clientHeight);
  }
  reset() { this.camera.reset(); this.touched = false; this.frameUnlessMoved(); this.spin = false; this.size = 1; this.slider.value = "0"; this.draw(); }
  toggleSpin() {
    this.spin = !this.spin;
    let last = performance.now();
    const turn = (now) => { if (!this.spin) return; this.camera.yaw += (now - last) * 0.0006; last = now; this.draw(true); requestAnimationFrame(turn); };
    requestAnimationFrame(turn);
  }
  resize(slider) { this.slider.value = String(+this.slider.value + slider); this.size = 2 ** +this.slider.value; this.draw(); }

  draw(moving, following) {
    this.touched ||= Boolean(moving);
    if (!following) for (const other of this.linked) other.draw(moving, true);
    this.moving = Boolean(moving);
    clearTimeout(this.settle);
    if (moving) this.settle = setTimeout(() => this.draw(), 160);
    if (!this.pending) { this.pending = true; requestAnimationFrame(() => { this.pending = false; this.drawNow(); }); }
  }
  drawNow() {
    const w = this.stage.clientWidth, h = this.stage.clientHeight, ratio = this.renderer.pixelRatio(this.moving);
    if (!w || !h) return;
    const dpr = window.devicePixelRatio || 1;
    for (const [canvas, k] of [[this.canvas, ratio], [this.floor, dpr]]) {
      const [cw, ch] = [Math.round(w * k), Math.round(h * k)];
      if (canvas.width !== cw || canvas.height !== ch) { canvas.width = cw; canvas.height = ch; }
    }
    const size = 0.68 * this.size * Math.max(this.cloud.count, 60) ** -0.42;
    this.renderer.draw(this.camera, { size, ratio, paper: PAPER[this.dark ? "dark" : "light"] }, this.moving);
    const floor = this.floor.getContext("2d");
    if (this.grid) drawFloor(floor, this.camera, this.floorPlane, this.dark, dpr); else floor.clearRect(0, 0, this.floor.width, this.floor.height);
    drawAxes(this.axes.getContext("2d"), this.camera, UP_FRAMES[this.up], this.dark);
  }

  save() {
    const out = element("canvas", { width: this.canvas.width, height: this.canvas.height }), context = out.getContext("2d");
    context.fillStyle = cssColor(PAPER[this.dark ? "dark" : "light"]);
    context.fillRect(0, 0, out.width, out.height);
    for (const layer of [this.floor, this.canvas]) context.drawImage(layer, 0, 0, out.width, out.height);
    out.toBlob((blob) => {
      const link = element("a", { href: URL.createObjectURL(blob), download: `${this.cloud.name.replace(/[^\p{L}\p{N}._-]+/gu, "_") || "cloud"}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  // Index of the nearest point to the eye among those drawn under the pointer, -1 for none.
  pick(px, py) {
    const f = this.camera.frame(this.stage.clientWidth, this.stage.clientHeight), reach = 9, p = this.positions;
    let best = -1, bestScore = Infinity;
    for (let i = 0; i < this.cloud.count; i++) {
      if (this.mode === "label" && this.hidden.has(this.cloud.labels[i])) continue;
      const [x, y, depth] = project(f, p[3 * i], p[3 * i + 1], p[3 * i + 2]);
      const away = Math.hypot(x - px, y - py);
      if (depth > f.near && away < reach && depth + away * 0.01 < bestScore) { best = i; bestScore = depth + away * 0.01; }
    }
    return best;
  }
  hover(px, py) {
    const i = this.pick(px, py), { cloud, tip } = this;
    tip.hidden = i < 0;
    if (i < 0) return;
    const at = [0, 1, 2].map((a) => shortNumber(cloud.xyz[3 * i + a] + cloud.origin[a]));
    const parts = [cloud.labels && this.labelName(cloud.labels[i]), `(${at.join(", ")})`, cloud.scalar && `${cloud.scalarName || "value"} ${shortNumber(cloud.scalar[i])}`];
    tip.textContent = parts.filter(Boolean).join("  ·  ");
    tip.style.left = `${Math.min(px + 14, this.stage.clientWidth - tip.offsetWidth - 6)}px`;
    tip.style.top = `${Math.max(6, py - 34)}px`;
  }
}
