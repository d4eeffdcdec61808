// Mouse, touch and keyboard of the viewer, and its entry point.
Viewer.prototype.listen = function listen() {
  const { stage, camera } = this, pointers = new Map();
  const place = (e) => { const box = stage.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
  const onScene = (e) => !e.target.closest(".plv-legend, .plv-help");
  let waiting = false;
  stage.addEventListener("pointerdown", (e) => {
    if (!onScene(e)) return;
    stage.focus({ preventScroll: true });
    stage.setPointerCapture(e.pointerId);
    pointers.set(e.pointerId, place(e));
    this.spin = false; this.tip.hidden = true;
  });
  stage.addEventListener("pointermove", (e) => {
    const now = place(e), before = pointers.get(e.pointerId);
    if (!before) {
      if (waiting || !onScene(e) || e.pointerType === "touch") return;
      waiting = true;
      setTimeout(() => { waiting = false; if (!pointers.size) this.hover(...now); }, 50);
      return;
    }
    const dx = now[0] - before[0], dy = now[1] - before[1];
    if (pointers.size >= 2) {
      const other = [...pointers].find(([id]) => id !== e.pointerId)[1];
      const span = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      camera.zoom(span(before) / span(now));
      camera.pan(dx / 2, dy / 2, stage.clientWidth, stage.clientHeight);
    } else if (e.shiftKey || e.buttons & 6) camera.pan(dx, dy, stage.clientWidth, stage.clientHeight);
    else camera.orbit(dx, dy);
    pointers.set(e.pointerId, now);
    this.draw(true);
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) stage.addEventListener(kind, (e) => { if (pointers.delete(e.pointerId)) this.draw(); });
  stage.addEventListener("pointerleave", () => { this.tip.hidden = true; });
  stage.addEventListener("contextmenu", (e) => { if (onScene(e)) e.preventDefault(); });
  stage.addEventListener("dblclick", (e) => {
    const i = onScene(e) ? this.pick(...place(e)) : -1;
    if (i >= 0) { camera.target = Array.from(this.positions.subarray(3 * i, 3 * i + 3)); this.touched = true; this.draw(); }
  });
  stage.addEventListener("wheel", (e) => {
    // Inside a longer page the wheel belongs to the page until the viewer has been clicked.
    if (!onScene(e) || (!this.options.standalone && document.activeElement !== stage)) return;
    e.preventDefault();
    camera.zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaMode === 1 ? e.deltaY * 16 : e.deltaY)) * 0.0022));
    this.draw(true);
  }, { passive: false });
  (this.options.standalone ? document : stage).addEventListener("keydown", (e) => this.key(e));
};

Viewer.prototype.key = function key(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("select, input")) return;
  if (e.key === " " && e.target.closest("button")) return;
  const turn = (dx, dy) => { this.camera.orbit(dx, dy); this.draw(true); };
  const zoom = (factor) => { this.camera.zoom(factor); this.draw(true); };
  const cycle = (list, current) => list[(list.indexOf(current) + 1) % list.length];
  const actions = {
    ArrowLeft: () => turn(16, 0), ArrowRight: () => turn(-16, 0), ArrowUp: () => turn(0, 16), ArrowDown: () => turn(0, -16),
    "+": () => zoom(0.88), "=": () => zoom(0.88), "-": () => zoom(1.136), "[": () => this.resize(-0.25), "]": () => this.resize(0.25),
    c: () => this.setMode(cycle(this.cloud.modes, this.mode)), u: () => this.setUp(cycle(["x", "y", "z"], this.up)),
    b: () => this.setDark(!this.dark), g: () => this.toggleGrid(), " ": () => this.toggleSpin(), r: () => this.reset(), s: () => this.save(),
    n: () => this.step(1), p: () => this.step(-1), "?": () => this.toggleHelp(), Escape: () => { this.help.hidden = true; },
  };
  const action = actions[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  if (action) { e.preventDefault(); action(); }
};

const PointliftViewer = {
  // Options of the page's address: #renderer=2d forces the 2D canvas, #cloud=1, #mode=height and #background=dark choose a start.
  mount(host, data, standalone, camera) {
    const address = standalone ? Object.fromEntries(new URLSearchParams(location.hash.slice(1))) : {};
    return new Viewer(host, data, { ...address, cloud: Number(address.cloud) || 0, standalone, camera });
  },
  // Viewers side by side in one .plv-row share a camera.
  mountAll(standalone) {
    const cameras = new Map(), rows = new Map();
    for (const source of document.querySelectorAll("script.plv-data")) {
      const host = source.previousElementSibling, row = host.closest(".plv-row");
      if (row && !cameras.has(row)) { cameras.set(row, new Camera()); rows.set(row, []); }
      try {
        const viewer = PointliftViewer.mount(host, JSON.parse(source.textContent), standalone, cameras.get(row));
        if (row) rows.get(row).push(viewer);
      } catch (error) {
        host.replaceChildren(element("p", { class: "plv-failed" }, `The 3D view could not start in this browser: ${error.message}`));
      }
    }
    for (const viewers of rows.values()) for (const viewer of viewers) viewer.linked = viewers.filter((other) => other !== viewer);
  },
};
