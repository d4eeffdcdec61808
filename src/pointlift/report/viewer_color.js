// Colours of the viewer: label palette, colour map for scalars, and the legend's numbers.
const LABEL_COLORS = [
  [47, 111, 222], [232, 116, 59], [25, 169, 121], [194, 59, 111], [141, 108, 209], [217, 165, 20], [19, 164, 180], [140, 86, 75],
  [106, 143, 47], [227, 119, 194], [100, 124, 160], [242, 167, 124], [124, 201, 168], [227, 155, 182], [185, 164, 230], [230, 204, 119],
  [132, 204, 212], [191, 154, 146], [170, 193, 124], [157, 180, 220],
];
const UNLABELLED = [150, 156, 164];

// Anchors of the viridis colour map, equally spaced.
const VIRIDIS = [
  [68, 1, 84], [71, 45, 123], [59, 82, 139], [44, 114, 142], [33, 145, 140], [40, 174, 128], [94, 201, 98], [173, 220, 48], [253, 231, 37],
];

function labelColor(label) {
  if (label < 0) return UNLABELLED;
  if (label < LABEL_COLORS.length) return LABEL_COLORS[label];
  const hue = (label * 137.50776) % 360, lightness = label % 2 ? 0.45 : 0.62, chroma = 0.62 * Math.min(lightness, 1 - lightness);
  return [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (lightness - chroma * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  });
}

function rampColor(t, out) {
  const x = Math.min(1, Math.max(0, t)) * (VIRIDIS.length - 1), i = Math.min(VIRIDIS.length - 2, Math.floor(x)), f = x - i;
  for (let c = 0; c < 3; c++) out[c] = VIRIDIS[i][c] + f * (VIRIDIS[i + 1][c] - VIRIDIS[i][c]);
  return out;
}

const cssColor = (rgb) => `rgb(${rgb[0]},${rgb[1]},${rgb[2]})`;
const rampGradient = () => `linear-gradient(to top, ${VIRIDIS.map(cssColor).join(",")})`;
const shortNumber = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3 ? v.toExponential(2) : String(+v.toPrecision(4)));

// Lowest and highest finite value; where a few strays would use up most of the colours, the 1st and 99th percentile instead.
function valueRange(values) {
  const finite = Float32Array.from(values).filter(Number.isFinite).sort();
  if (!finite.length) return [Infinity, -Infinity];
  const at = (q) => finite[Math.round(q * (finite.length - 1))], cut = at(0.99) > at(0.01) && at(0.99) - at(0.01) < 0.6 * (at(1) - at(0));
  return Object.assign(cut ? [at(0.01), at(0.99)] : [at(0), at(1)], { cut });
}

// Bytes RGBA of every point; alpha 0 hides it. `values` are heights or scalars, `range` their [low, high].
function colorize(cloud, mode, hidden, values, range) {
  const n = cloud.count, rgba = new Uint8Array(4 * n), color = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    let rgb = LABEL_COLORS[0];
    if (mode === "rgb") rgb = [cloud.rgb[3 * i], cloud.rgb[3 * i + 1], cloud.rgb[3 * i + 2]];
    else if (mode === "label") rgb = labelColor(cloud.labels[i]);
    else if (values) rgb = Number.isFinite(values[i]) ? rampColor((values[i] - range[0]) / (range[1] - range[0] || 1), color) : UNLABELLED;
    rgba[4 * i] = rgb[0]; rgba[4 * i + 1] = rgb[1]; rgba[4 * i + 2] = rgb[2];
    rgba[4 * i + 3] = mode === "label" && hidden.has(cloud.labels[i]) ? 0 : 255;
  }
  return rgba;
}
