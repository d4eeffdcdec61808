// Camera, and two renderers with the same interface: WebGL, and a z-buffer in plain JavaScript for browsers without it.
// Positions are normalised: centred, at most 1 from the centre, y up. A point is drawn as a small shaded ball.
const FIELD_OF_VIEW = (32 * Math.PI) / 180, MIN_PIXELS = 1.6, FOG = 0.34;

class Camera {
  constructor() { this.reset(); }
  // Looks at the middle of the points, which far strays do not move.
  aim(xyz) {
    const step = 3 * Math.max(1, Math.ceil(xyz.length / 24000));
    this.target = [0, 1, 2].map((axis) => {
      const values = [];
      for (let i = axis; i < xyz.length; i += step) values.push(xyz[i]);
      values.sort((a, b) => a - b);
      return (values[Math.floor(0.02 * (values.length - 1))] + values[Math.ceil(0.98 * (values.length - 1))]) / 2;
    });
  }
  reset() { this.yaw = 0.62; this.pitch = 0.36; this.distance = 4.0; this.target = [0, 0, 0]; }
  // Screen frame for a canvas of w x h pixels: eye, axes and focal length in pixels.
  frame(w, h) {
    const cy = Math.cos(this.yaw), sy = Math.sin(this.yaw), cp = Math.cos(this.pitch), sp = Math.sin(this.pitch);
    const back = [cp * sy, sp, cp * cy], right = [cy, 0, -sy], up = [-sp * sy, cp, -sp * cy];
    const eye = this.target.map((t, i) => t + this.distance * back[i]);
    return { w, h, eye, right, up, back, focal: Math.min(w, h) / 2 / Math.tan(FIELD_OF_VIEW / 2), near: 0.02, far: this.distance + 6,
             fogStart: this.distance - 1, distance: this.distance };
  }
  orbit(dx, dy) {
    this.yaw -= dx * 0.0075;
    this.pitch = Math.max(-1.5697, Math.min(1.5697, this.pitch + dy * 0.0075));
  }
  // Distance from which the points lie inside the middle 88 % of a w x h canvas; a few far strays may lie outside.
  fit(xyz, w, h) {
    const f = this.frame(w, h), step = 3 * Math.max(1, Math.ceil(xyz.length / 24000));
    const needed = [];
    for (let i = 0; i < xyz.length; i += step) {
      const dot = (axis) => [0, 1, 2].reduce((s, a) => s + (xyz[i + a] - this.target[a]) * axis[a], 0);
      needed.push(dot(f.back) + (f.focal / 0.44) * Math.max(Math.abs(dot(f.right)) / w, Math.abs(dot(f.up)) / h));
    }
    needed.sort((a, b) => a - b);
    const most = needed[Math.floor(0.98 * (needed.length - 1))], all = needed[needed.length - 1];
    this.distance = Math.max(0.4, all > 1.45 * most ? 1.1 * most : all);
  }
  zoom(factor) { this.distance = Math.max(0.06, Math.min(60, this.distance * factor)); }
  pan(dx, dy, w, h) {
    const f = this.frame(w, h), k = this.distance / f.focal;
    for (let i = 0; i < 3; i++) this.target[i] += k * (dy * f.up[i] - dx * f.right[i]);
  }
}

// [x, y, depth] in pixels of the canvas; depth <= 0 is behind the eye.
function project(f, x, y, z) {
  const a = x - f.eye[0], b = y - f.eye[1], c = z - f.eye[2];
  const depth = -(a * f.back[0] + b * f.back[1] + c * f.back[2]), k = f.focal / depth;
  return [f.w / 2 + k * (a * f.right[0] + b * f.right[1] + c * f.right[2]), f.h / 2 - k * (a * f.up[0] + b * f.up[1] + c * f.up[2]), depth];
}

const VERTEX = `
attribute vec3 position; attribute vec4 color;
uniform vec3 eye, right, up, back; uniform vec2 scale; uniform float focal, near, far, size, minSize, fogStart;
varying vec3 tint; varying float fog;
void main() {
  vec3 d = position - eye; float depth = -dot(d, back);
  gl_Position = vec4(scale.x * dot(d, right), scale.y * dot(d, up), ((far + near) * depth - 2.0 * far * near) / (far - near), depth);
  if (color.a < 0.5) gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = clamp(size * focal / max(depth, near), minSize, 160.0);
  tint = color.rgb; fog = clamp((depth - fogStart) * 0.5, 0.0, 1.0);
}`;
const FRAGMENT = `
precision mediump float; varying vec3 tint; varying float fog; uniform vec3 paper; uniform float fogAmount;
void main() {
  vec2 p = 2.0 * gl_PointCoord - 1.0; float r = dot(p, p);
  if (r > 1.0) discard;
  float shade = 0.62 + 0.38 * sqrt(1.0 - r);
  gl_FragColor = vec4(mix(tint * shade, paper, fog * fogAmount), 1.0);
}`;

class WebGLRenderer {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl", { antialias: false, alpha: true, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("WebGL is not available");
    this.name = "WebGL";
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source); gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader) || "shader refused");
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "program refused");
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST); gl.clearColor(0, 0, 0, 0);
    this.at = (name) => gl.getUniformLocation(program, name);
    this.buffers = ["position", "color"].map((name) => [gl.createBuffer(), gl.getAttribLocation(program, name)]);
  }
  upload(index, data, size, type, normalized) {
    const gl = this.gl, [buffer, location] = this.buffers[index];
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer); gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(location); gl.vertexAttribPointer(location, size, type, normalized, 0, 0);
  }
  setPositions(xyz) { this.count = xyz.length / 3; this.upload(0, xyz, 3, this.gl.FLOAT, false); }
  setColors(rgba) { this.upload(1, rgba, 4, this.gl.UNSIGNED_BYTE, true); }
  pixelRatio() { return Math.max(2, window.devicePixelRatio || 1); }
  draw(camera, look) {
    const gl = this.gl, f = camera.frame(this.canvas.width, this.canvas.height);
    gl.viewport(0, 0, f.w, f.h); gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    for (const name of ["eye", "right", "up", "back"]) gl.uniform3fv(this.at(name), f[name]);
    for (const name of ["focal", "near", "far", "fogStart"]) gl.uniform1f(this.at(name), f[name]);
    gl.uniform2f(this.at("scale"), (2 * f.focal) / f.w, (2 * f.focal) / f.h);
    gl.uniform1f(this.at("size"), look.size); gl.uniform1f(this.at("minSize"), MIN_PIXELS * look.ratio);
    gl.uniform3fv(this.at("paper"), look.paper.map((c) => c / 255)); gl.uniform1f(this.at("fogAmount"), FOG);
    gl.drawArrays(gl.POINTS, 0, this.count);
  }
}

class SoftwareRenderer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.name = "2D canvas";
    this.stamps = new Map();
    this.cost = 0;
  }
  setPositions(xyz) { this.xyz = xyz; this.cost = 0; }
  setColors(rgba) { this.rgba = rgba; }
  pixelRatio(moving) { return moving ? 1 : Math.min(2, Math.max(1.5, window.devicePixelRatio || 1)); }
  // Pixels of a ball of a whole diameter: dx, dy and shade in flat triples.
  stamp(diameter) {
    if (!this.stamps.has(diameter)) {
      const list = [], r = diameter / 2;
      for (let y = 0; y < diameter; y++) for (let x = 0; x < diameter; x++) {
        const q = ((x + 0.5 - r) ** 2 + (y + 0.5 - r) ** 2) / (r * r);
        if (q <= 1 || diameter === 1) list.push(x - (diameter >> 1), y - (diameter >> 1), 0.62 + 0.38 * Math.sqrt(Math.max(0, 1 - q)));
      }
      this.stamps.set(diameter, Float32Array.from(list));
    }
    return this.stamps.get(diameter);
  }
  draw(camera, look, moving) {
    const started = performance.now(), { width: w, height: h } = this.canvas, f = camera.frame(w, h);
    if (!this.image || this.image.width !== w || this.image.height !== h) {
      this.image = this.context.createImageData(w, h);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.depth = new Float32Array(w * h);
    }
    this.pixels.fill(0); this.depth.fill(Infinity);
    const step = moving && this.cost > 45 ? Math.ceil(this.cost / 45) : 1;
    for (let i = 0; i < this.xyz.length / 3; i += step) if (this.rgba[4 * i + 3]) this.splat(f, look, i);
    this.context.putImageData(this.image, 0, 0);
    if (step === 1) this.cost = performance.now() - started;
  }
  splat(f, look, i) {
    const { w, h } = f, [sx, sy, depth] = project(f, this.xyz[3 * i], this.xyz[3 * i + 1], this.xyz[3 * i + 2]);
    if (depth < f.near) return;
    const diameter = Math.max(1, Math.min(120, Math.round(Math.max(MIN_PIXELS * look.ratio, (look.size * f.focal) / depth))));
    if (sx < -diameter || sy < -diameter || sx > w + diameter || sy > h + diameter) return;
    const fog = FOG * Math.max(0, Math.min(1, (depth - f.fogStart) * 0.5)), keep = 1 - fog;
    const r = this.rgba[4 * i] * keep, g = this.rgba[4 * i + 1] * keep, b = this.rgba[4 * i + 2] * keep;
    const fr = look.paper[0] * fog, fg = look.paper[1] * fog, fb = look.paper[2] * fog;
    const stamp = this.stamp(diameter), x0 = Math.round(sx), y0 = Math.round(sy);
    for (let k = 0; k < stamp.length; k += 3) {
      const x = x0 + stamp[k], y = y0 + stamp[k + 1];
      if (x < 0 || y < 0 || x >= w || y >= h) continue;
      const at = y * w + x;
      if (depth >= this.depth[at]) continue;
      const s = stamp[k + 2];
      this.depth[at] = depth;
      this.pixels[at] = 0xff000000 | ((b * s + fb) << 16) | ((g * s + fg) << 8) | (r * s + fr);
    }
  }
}

// Floor grid below the points and the little axes in the corner, on ordinary 2D canvases.
function drawFloor(context, camera, floor, dark, ratio) {
  const { width, height } = context.canvas, f = camera.frame(width, height), steps = 6, reach = 1.12 * floor.half;
  context.clearRect(0, 0, width, height);
  if (camera.pitch < -0.02) return;
  context.strokeStyle = dark ? "rgba(255,255,255,.13)" : "rgba(31,41,51,.12)";
  context.lineWidth = ratio;
  context.beginPath();
  for (let i = -steps; i <= steps; i++) for (const flip of [false, true]) {
    const u = (reach * i) / steps;
    const [a, b] = [-reach, reach].map((v) => (flip ? project(f, v, floor.height, u) : project(f, u, floor.height, v)));
    if (a[2] > f.near && b[2] > f.near) { context.moveTo(a[0], a[1]); context.lineTo(b[0], b[1]); }
  }
  context.stroke();
}

function drawAxes(context, camera, axes, dark) {
  const size = context.canvas.width, middle = size / 2, f = camera.frame(size, size);
  context.clearRect(0, 0, size, size);
  context.lineWidth = size / 30; context.lineCap = "round";
  context.font = `600 ${Math.round(size / 6.2)}px system-ui, sans-serif`; context.textAlign = "center"; context.textBaseline = "middle";
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const drawn = axes.map((axis, i) => ({ name: "xyz"[i], color: ["#e05252", "#3aa657", "#4a7de8"][i], x: dot(axis, f.right), y: -dot(axis, f.up), z: dot(axis, f.back) }));
  for (const a of drawn.sort((p, q) => p.z - q.z)) {
    const k = size * 0.31;
    context.globalAlpha = a.z < -0.1 ? 0.5 : 1;
    context.strokeStyle = a.color;
    context.beginPath(); context.moveTo(middle, middle); context.lineTo(middle + k * a.x, middle + k * a.y); context.stroke();
    context.fillStyle = dark ? "#e6e9ee" : "#1f2933";
    context.fillText(a.name, middle + 1.32 * k * a.x, middle + 1.32 * k * a.y);
  }
  context.globalAlpha = 1;
}
