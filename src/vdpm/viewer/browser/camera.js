/** Lowest and highest of all but a few of each group of `many`, and of all `few`. */
function extent(many, few) {
  const low = [...few], high = [...few];
  for (const group of many) {
    group.sort((a, b) => a - b);
    const at = (share) => group[Math.min(group.length - 1, Math.floor(share * group.length))];
    low.push(at(0.02));
    high.push(at(0.98));
  }
  return [Math.min(...low), Math.max(...high)];
}

/** Where the page looks from: an orbit about a pivot, or one of the result's cameras. */
class Viewer {
  constructor(canvas, scene, frustumReach) {
    this.canvas = canvas;
    this.scene = scene;
    this.frustumReach = frustumReach;
    this.stand = null;
    this.reset();
  }

  /** The reference camera swung a little to the right and up about the middle of the scene, and back until most points
   *  of each frame and the first and last cameras are in view. Of all frames together they would not be enough: where the
   *  camera pans, what one frame alone sees is few of them, and broad. */
  reset() {
    const { pivot } = this.scene.meta;
    const reach = Math.hypot(...pivot.map((v, i) => v - this.scene.meta.home[i]));
    this.stand = null;
    this.orbit = { pivot: [...pivot], yaw: -0.33, pitch: 0.22, distance: reach };
    const groups = this.spread();
    this.places = groups.flat();
    const { sources } = this.scene.meta;
    const cameras = [sources[0], sources.at(-1)].flatMap((frame) => this.scene.frustum(frame, this.frustumReach));
    for (this.orbit.distance *= 0.8; this.orbit.distance < 4 * reach; this.orbit.distance *= 1.06) {
      this.orbit.pivot = [...pivot];
      let fitting = null;
      for (let round = 0; round < 12; round++) {
        const view = this.view();
        const [ends, ...seen] = [cameras, ...groups].map((group) => group.map((place) => projectPoint(view, ...place)));
        // A camera just before the eye is not drawn.
        const nearest = Math.min(...ends.map(([, , z]) => z));
        if (nearest < Math.max(20 * view.near, 2 * this.frustumReach)) break;
        const front = seen.map((group) => group.filter(([, , z]) => z > view.near)).filter((group) => group.length);
        const [x, y] = [0, 1].map((axis) => extent(front.map((group) => group.map((p) => p[axis])), ends.map((p) => p[axis])));
        const [right, down] = [(view.width - x[0] - x[1]) / 2, (1.06 * view.height - y[0] - y[1]) / 2];
        if (x[0] > 0.02 * view.width && x[1] < 0.98 * view.width && y[0] > 0.09 * view.height && y[1] < 0.97 * view.height) {
          fitting = [...this.orbit.pivot];
          if (Math.abs(right) < 0.03 * view.width && Math.abs(down) < 0.03 * view.height) return;
        }
        // The middle moves by the mean of what is near, which moves more than the pivot, and what is far.
        const gain = (1 + this.orbit.distance / nearest) / 2;
        this.move(right / gain, down / gain);
      }
      if (fitting) {
        this.orbit.pivot = fitting;
        return;
      }
    }
  }

  /** About 60 places of each of up to nine frames, spread over the clip. */
  spread() {
    const shown = new Map();
    this.scene.eachShown({ kinds: ['still', 'moving'], level: this.scene.levelHiding(20), only: -1 }, (set, p) => {
      if (!shown.has(set.source[p])) shown.set(set.source[p], []);
      shown.get(set.source[p]).push([set, p]);
    });
    const rows = [...shown.keys()].sort((a, b) => a - b), apart = Math.max(1, (rows.length - 1) / 8);
    const groups = [];
    for (let n = 0; n < rows.length; n += apart) {
      const points = shown.get(rows[Math.round(n)]), every = Math.max(1, Math.floor(points.length / 60));
      const some = points.filter((_, k) => k % every === 0);
      groups.push(some.map(([set, p]) => this.scene.position(set, p, { before: 0, mix: 0 })));
    }
    return groups;
  }

  /** Between which depths most points in view lie. */
  depths(view) {
    const seen = this.places.map((place) => projectPoint(view, ...place)).filter(([x, y, z]) =>
      z > view.near && x > -view.width && x < 2 * view.width && y > -view.height && y < 2 * view.height);
    const z = seen.map((p) => p[2]).sort((a, b) => a - b), at = (share) => z[Math.floor(share * (z.length - 1))];
    return z.length ? [at(0.03), Math.max(at(0.97), 1.05 * at(0.03))] : [view.near, view.far];
  }

  /** Pose, focal lengths and centre in CSS pixels of the canvas. */
  view() {
    const width = Math.max(1, this.canvas.clientWidth), height = Math.max(1, this.canvas.clientHeight);
    const reach = this.scene.meta.reach;
    const common = { width, height, near: reach * 2e-3, far: reach * 60 };
    if (this.stand !== null) {
      const { c2w, k } = this.scene.meta.cameras[this.stand], [rows, columns] = this.scene.meta.size;
      const zoom = Math.min(width / columns, height / rows);
      return { ...common, w2c: inverseRigid(c2w), c2w, fx: k[0] * zoom, fy: k[1] * zoom,
        cx: width / 2 + (k[2] - columns / 2) * zoom, cy: height / 2 + (k[3] - rows / 2) * zoom };
    }
    const c2w = orbitPose(this.orbit);
    const f = Math.min(width / 1.15, height / 0.93);
    return { ...common, w2c: inverseRigid(c2w), c2w, fx: f, fy: f, cx: width / 2, cy: height / 2 };
  }

  /** Goes on in an orbit from the camera that one stands in. */
  leave() {
    if (this.stand === null) return;
    const { c2w } = this.scene.meta.cameras[this.stand];
    const forward = [c2w[2], c2w[6], c2w[10]], center = [c2w[3], c2w[7], c2w[11]];
    const toPivot = this.scene.meta.pivot.map((v, i) => v - center[i]);
    const distance = Math.max(0.2 * this.scene.meta.reach, toPivot.reduce((sum, v, i) => sum + v * forward[i], 0));
    this.orbit = {
      pivot: center.map((v, i) => v + distance * forward[i]), distance,
      yaw: Math.atan2(forward[0], forward[2]), pitch: Math.asin(Math.max(-1, Math.min(1, forward[1]))),
    };
    this.stand = null;
  }

  turn(dx, dy) {
    this.orbit.yaw += dx * 0.006;
    this.orbit.pitch = Math.max(-1.5, Math.min(1.5, this.orbit.pitch + dy * 0.006));
  }

  move(dx, dy) {
    const { c2w, fx } = this.view(), scale = this.orbit.distance / fx;
    for (let i = 0; i < 3; i++) this.orbit.pivot[i] -= (c2w[i * 4] * dx + c2w[i * 4 + 1] * dy) * scale;
  }

  approach(factor) {
    const { reach } = this.scene.meta;
    this.orbit.distance = Math.max(0.02 * reach, Math.min(20 * reach, this.orbit.distance * factor));
  }
}

/** Pointers and wheel on the canvas. `changed()` after each move; `clicked(x, y)` for a tap; `hovered(x, y)`. */
function listen(canvas, viewer, { changed, clicked, hovered }) {
  const pointers = new Map();
  let travelled = 0;
  const pair = () => {
    const [a, b] = [...pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, span: Math.hypot(a.x - b.x, a.y - b.y) };
  };
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!pointers.size) travelled = 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    canvas.focus({ preventScroll: true });
  });
  canvas.addEventListener('pointermove', (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return hovered(event.offsetX, event.offsetY);
    const dx = event.clientX - last.x, dy = event.clientY - last.y;
    travelled += Math.abs(dx) + Math.abs(dy);
    const before = pointers.size > 1 ? pair() : null;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (travelled < 5) return;
    viewer.leave();
    canvas.classList.add('held');
    if (before) {
      const now = pair();
      viewer.move(now.x - before.x, now.y - before.y);
      if (now.span > 1 && before.span > 1) viewer.approach(before.span / now.span);
    } else if (event.buttons & 2 || event.buttons & 4 || event.shiftKey) viewer.move(dx, dy);
    else viewer.turn(dx, dy);
    changed();
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    canvas.classList.remove('held');
    if (event.type === 'pointerup' && travelled < 5 && event.button === 0 && !pointers.size) clicked(event.offsetX, event.offsetY);
  };
  canvas.addEventListener('pointerup', end);
  canvas.addEventListener('pointercancel', end);
  canvas.addEventListener('contextmenu', (event) => event.preventDefault());
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    viewer.leave();
    viewer.approach(Math.exp(Math.max(-80, Math.min(80, event.deltaY * (event.deltaMode ? 20 : 1))) * 0.002));
    changed();
  }, { passive: false });
}
