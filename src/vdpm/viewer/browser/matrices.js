// Cameras are OpenCV's: x right, y down, z forward. Matrices are 4 x 4, row by row.

/** Camera to world -> world to camera. */
function inverseRigid(m) {
  const out = new Float64Array(16);
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) out[i * 4 + j] = m[j * 4 + i];
    out[i * 4 + 3] = -(m[i] * m[3] + m[4 + i] * m[7] + m[8 + i] * m[11]);
  }
  out[15] = 1;
  return out;
}

function product(a, b) {
  const out = new Float64Array(16);
  for (let i = 0; i < 4; i++)
    for (let j = 0; j < 4; j++)
      for (let k = 0; k < 4; k++) out[i * 4 + j] += a[i * 4 + k] * b[k * 4 + j];
  return out;
}

/** A point of the camera -> clip space, for a picture of width x height; pixel centres at +0.5. */
function clipFromCamera({ fx, fy, cx, cy }, width, height, near, far) {
  return new Float64Array([
    2 * fx / width, 0, 2 * cx / width - 1, 0,
    0, -2 * fy / height, 1 - 2 * cy / height, 0,
    0, 0, (far + near) / (far - near), -2 * far * near / (far - near),
    0, 0, 1, 0,
  ]);
}

/** The camera at `distance` from `pivot`; yaw turns it to its right, pitch down. Returns camera to world. */
function orbitPose({ pivot, yaw, pitch, distance }) {
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  const right = [cy, 0, -sy], down = [-sy * sp, cp, -cy * sp], forward = [sy * cp, sp, cy * cp];
  const m = new Float64Array(16);
  for (let i = 0; i < 3; i++) {
    m[i * 4] = right[i];
    m[i * 4 + 1] = down[i];
    m[i * 4 + 2] = forward[i];
    m[i * 4 + 3] = pivot[i] - distance * forward[i];
  }
  m[15] = 1;
  return m;
}

/** World -> [x, y, z]: pixels of the view and depth. */
function projectPoint(view, x, y, z) {
  const m = view.w2c;
  const a = m[0] * x + m[1] * y + m[2] * z + m[3];
  const b = m[4] * x + m[5] * y + m[6] * z + m[7];
  const c = m[8] * x + m[9] * y + m[10] * z + m[11];
  return [view.fx * a / c + view.cx, view.fy * b / c + view.cy, c];
}

/** A polynomial of the colour maps of vdpm.export.colors at t in [0, 1] -> [r, g, b] in [0, 1]. */
function colorOf(map, t) {
  const rgb = [0, 0, 0];
  for (let k = map.length - 1; k >= 0; k--)
    for (let c = 0; c < 3; c++) rgb[c] = rgb[c] * t + map[k][c];
  return rgb.map((v) => Math.min(1, Math.max(0, v)));
}
