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

  /** The lowest level that hides at most `percent` of all points. */
  levelHiding(percent) {
    let hidden = 0, level = 0;
    while (level < 255 && hidden + this.histogram[level] <= this.total * percent / 100) hidden += this.histogram[level++];
    return level;
  }

  /** Level -> confidence. */
  confidenceOf(level) { return Math.exp(level / 255 * Math.log(Math.max(1, this.meta.confidence.highest))); }

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
    const { c2w, k } = this.meta.cameras[frame], [height, width] = this.meta.size;
    const corners = [[0, 0], [width, 0], [0, height], [width, height]].map(([u, v]) => {
      const ray = [(u - k[2]) / k[0] * reach, (v - k[3]) / k[1] * reach, reach];
      return [0, 1, 2].map((i) => c2w[i * 4] * ray[0] + c2w[i * 4 + 1] * ray[1] + c2w[i * 4 + 2] * ray[2] + c2w[i * 4 + 3]);
    });
    return [[c2w[3], c2w[7], c2w[11]], ...corners];
  }

  /** Segments of all frusta and of the path through them; `current` is drawn bright. */
  cameraLines(frames, current, reach) {
    const segments = [];
    const line = (a, b, color, other = color) => segments.push(...a, ...b, ...color, ...other, 0, 0);
    const shade = (frame) => colorOf(this.meta.colorMaps.viridis, 0.2 + 0.75 * frame / Math.max(1, this.meta.cameras.length - 1));
    frames.forEach((frame, n) => {
      const [o, a, b, c, d] = this.frustum(frame, frame === current ? reach * 1.02 : reach);
      const color = frame === current ? [1, 0.76, 0.32] : shade(frame).map((v) => v * 0.7);
      for (const [from, to] of [[o, a], [o, b], [o, c], [o, d], [a, b], [b, d], [d, c], [c, a]]) line(from, to, color);
      if (n) line(this.frustum(frames[n - 1], reach)[0], o, shade(frames[n - 1]), shade(frame));
    });
    return segments;
  }

  /** Frames whose picture can be drawn without one lying in another: the current one first. */
  apart(frames, current, reach) {
    const kept = [];
    for (const frame of [current, ...frames.filter((f) => f !== current)]) {
      const here = this.frustum(frame, reach);
      const middle = (f) => [0, 1, 2].map((i) => (f[1][i] + f[4][i]) / 2);
      const far = kept.every(({ corners }) => Math.hypot(...middle(corners).map((v, i) => v - middle(here)[i])) > 1.1 * Math.hypot(...here[1].map((v, i) => v - here[2][i])));
      if (far) kept.push({ frame, corners: here });
    }
    return kept;
  }
}
