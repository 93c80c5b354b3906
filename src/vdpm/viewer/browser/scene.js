/** The result: its points at any moment, which of them are shown, trails and cameras. Draws nothing. */
class Scene {
  constructor(meta, bytes) {
    this.meta = meta;
    const times = Math.max(1, meta.times.length);
    this.sets = [unpackPoints(meta.still, bytes, 'still', 1), unpackPoints(meta.moving, bytes, 'moving', times)];
    // A result that keeps no times shows each frame at its own.
    this.frames = meta.times.length ? meta.times : meta.sources;
    this.seconds = this.frames.map((frame) => meta.timestamps[frame]);
    this.histogram = new Float64Array(256);
    for (const set of this.sets) for (const level of set.level) this.histogram[level]++;
    this.total = this.sets[0].count + this.sets[1].count;
  }

  /** Seconds -> {before, mix}: the time before, and how far on the way to the next one. */
  moment(seconds) {
    const s = this.seconds;
    let before = 0;
    while (before + 2 < s.length && s[before + 1] <= seconds) before++;
    if (s.length < 2) return { before: 0, mix: 0 };
    const mix = (seconds - s[before]) / Math.max(1e-9, s[before + 1] - s[before]);
    return { before, mix: Math.min(1, Math.max(0, mix)) };
  }

  /** The frame nearest in time. */
  nearest(seconds) {
    const { before, mix } = this.moment(seconds);
    return this.frames[Math.min(this.frames.length - 1, before + (mix >= 0.5 ? 1 : 0))];
  }

  /** The level below which about `percent` of all points lie; a level whose middle is within them goes whole. */
  levelHiding(percent) {
    let hidden = 0, level = 0;
    if (percent > 0)
      while (level < 255 && hidden + this.histogram[level] / 2 <= this.total * percent / 100) hidden += this.histogram[level++];
    return level;
  }

  /** Level -> confidence. */
  confidenceOf(level) { return this.meta.confidence.levels[level]; }

  /** Calls `visit(set, index)` for each point that passes the filters. */
  eachShown({ kinds, level, only }, visit) {
    for (const set of this.sets) {
      if (!kinds.includes(set.kind)) continue;
      for (let p = 0; p < set.count; p++)
        if (set.level[p] >= level && (only < 0 || set.source[p] === only)) visit(set, p);
    }
  }

  count(filter) {
    let count = 0;
    this.eachShown(filter, () => count++);
    return count;
  }

  /** World position of a point at a moment. */
  position(set, p, { before, mix }) {
    const { low, step } = this.meta.grid, last = set.times - 1;
    const a = (Math.min(before, last) * set.count + p) * 4, b = (Math.min(before + 1, last) * set.count + p) * 4;
    return low.map((base, c) => base + step * (set.positions[a + c] * (1 - mix) + set.positions[b + c] * mix));
  }

  /** Segments of at most `most` trails of moving points that pass the filters, colours by time or speed. */
  trails(filter, by, most) {
    const { meta } = this, set = this.sets[1], chosen = [], segments = [];
    if (this.seconds.length < 2) return segments;
    this.eachShown({ ...filter, kinds: ['moving'] }, (_, p) => chosen.push(p));
    const span = this.seconds.at(-1) - this.seconds[0];
    const count = Math.min(most, chosen.length);
    for (let n = 0; n < count; n++) {
      const p = chosen[Math.floor((n + 0.5) * chosen.length / count)];
      for (let k = 0; k + 1 < this.seconds.length; k++) {
        const from = this.position(set, p, { before: k, mix: 0 }), to = this.position(set, p, { before: k + 1, mix: 0 });
        const start = this.seconds[k], end = this.seconds[k + 1];
        const speed = Math.hypot(...from.map((v, c) => to[c] - v)) / Math.max(1e-9, end - start);
        const ends = [start, end].map((s) => by === 'speed'
          ? colorOf(meta.colorMaps.inferno, 0.3 + 0.65 * Math.min(1, speed / meta.fullSpeed))
          : colorOf(meta.colorMaps.viridis, 0.12 + 0.88 * (s - this.seconds[0]) / Math.max(1e-9, span)));
        segments.push(...from, ...to, ...ends[0], ...ends[1], start, end);
      }
    }
    return segments;
  }

  /** Centre and four corners of a camera's picture in the world: left top, right top, left bottom, right bottom. */
  frustum(frame, reach) {
    const { c2w, k } = this.meta.cameras[frame], [left, top, right, bottom] = this.meta.box;
    const corners = [[left, top], [right, top], [left, bottom], [right, bottom]].map(([u, v]) => {
      const ray = [(u - k[2]) / k[0] * reach, (v - k[3]) / k[1] * reach, reach];
      return [0, 1, 2].map((i) => c2w[i * 4] * ray[0] + c2w[i * 4 + 1] * ray[1] + c2w[i * 4 + 2] * ray[2] + c2w[i * 4 + 3]);
    });
    return [[c2w[3], c2w[7], c2w[11]], ...corners];
  }

  /** Segments of the path through all cameras, and of the frusta of `frames`; `current` is drawn bright. */
  cameraLines(frames, current, reach) {
    const segments = [];
    const line = (a, b, color, other = color) => segments.push(...a, ...b, ...color, ...other, 0, 0);
    const shade = (frame) => colorOf(this.meta.colorMaps.viridis, 0.2 + 0.75 * frame / Math.max(1, this.meta.cameras.length - 1));
    for (const frame of frames) {
      const [o, a, b, c, d] = this.frustum(frame, frame === current ? reach * 1.01 : reach);
      const color = frame === current ? [1, 0.76, 0.32] : shade(frame).map((v) => v * 0.8);
      for (const [from, to] of [[o, a], [o, b], [o, c], [o, d], [a, b], [b, d], [d, c], [c, a]]) line(from, to, color);
    }
    const { sources } = this.meta;
    for (let n = 1; n < sources.length; n++)
      line(this.frustum(sources[n - 1], reach)[0], this.frustum(sources[n], reach)[0], shade(sources[n - 1]), shade(sources[n]));
    return segments;
  }

  /** Cameras that can be drawn without one lying in another or before the eye: the current one first. */
  apart(current, reach, eye) {
    const distance = (a, b) => Math.hypot(...a.map((v, i) => v - b[i]));
    const middle = (f) => [0, 1, 2].map((i) => (f[1][i] + f[4][i]) / 2);
    const kept = [];
    for (const frame of [current, ...this.meta.sources.filter((f) => f !== current)]) {
      const corners = this.frustum(frame, reach), wide = distance(corners[1], corners[2]);
      if (distance(eye, corners[0]) < 2 * reach) continue;
      const far = kept.every((other) => distance(middle(other.corners), middle(corners)) > 0.9 * wide);
      if (far) kept.push({ frame, corners });
    }
    return kept;
  }
}
