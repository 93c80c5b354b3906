const byId = (id) => document.getElementById(id);

/** Shows which one of a group of buttons holds. */
function press(group, value) {
  for (const button of byId(group).children) {
    const on = button.dataset.value === value;
    button.classList.toggle('on', on);
    if (button.dataset.value !== 'reset' && button.getAttribute('aria-pressed') !== String(on)) button.setAttribute('aria-pressed', on);
  }
}

class Page {
  constructor(meta, scene, images) {
    this.meta = meta;
    this.scene = scene;
    this.images = images;
    this.canvas = byId('canvas');
    this.drawing = new Drawing(this.canvas, meta, scene.sets);
    this.first = scene.seconds[0];
    this.last = scene.seconds.at(-1);
    this.reach = 0.09 * meta.reach;
    this.viewer = new Viewer(this.canvas, scene, this.reach);
    this.pictures = [];
    this.state = {
      seconds: this.first, playing: false, speed: 1, loop: true, follow: false,
      motion: 'all', source: 'all', hide: meta.confidence.hide, size: 1, mode: 0,
      trails: 'off', length: scene.seconds.length - 1, cameras: true, video: true,
    };
    this.fill();
    this.connect();
    this.filterChanged();
    new ResizeObserver(() => { this.resize(); this.render(); }).observe(byId('stage'));
    this.resize();
    this.viewer.reset();
    this.render();
  }

  /** What the filters let through, for counting and drawing. */
  filter() {
    const { motion, source } = this.state, { sources } = this.meta;
    const frame = source === 'shown' ? this.scene.nearest(this.state.seconds) : Number(source);
    return {
      kinds: motion === 'all' ? ['still', 'moving'] : [motion],
      level: this.scene.levelHiding(this.state.hide),
      only: source === 'all' ? -1 : sources.indexOf(this.sourceNear(frame)),
    };
  }

  /** The frame with points of its own that is nearest to a frame. */
  sourceNear(frame) {
    return this.meta.sources.reduce((best, f) => Math.abs(f - frame) < Math.abs(best - frame) ? f : best);
  }

  resize() {
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
  }

  fill() {
    const { meta, scene } = this, [left, top, right, bottom] = meta.box;
    document.body.style.setProperty('--aspect', (right - left) / (bottom - top));
    byId('name').textContent = meta.name;
    const count = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;
    byId('facts').textContent = `${count(meta.cameras.length, 'frame')} · ${meta.size[1]} × ${meta.size[0]} pixels · ${meta.model}`;
    const source = byId('source');
    source.append(new Option('all frames, fused', 'all'), new Option('the frame shown', 'shown'));
    for (const frame of meta.sources) source.append(new Option(`frame ${frame} · ${meta.timestamps[frame].toFixed(2)} s`, frame));
    byId('scrub').min = this.first;
    byId('scrub').max = this.last;
    byId('length').max = Math.max(1, scene.seconds.length - 1);
    byId('length').value = this.state.length;
    byId('hide').value = this.state.hide;
    // A clip of under three seconds begins slower.
    const speeds = [...byId('speed').options].map((option) => Number(option.value)).filter((speed) => speed <= 1);
    this.state.speed = speeds.findLast((speed) => (this.last - this.first) / speed >= 3) ?? speeds[0];
    byId('speed').value = this.state.speed;
    for (const id of ['play', 'scrub', 'loop', 'speed']) byId(id).disabled = scene.seconds.length < 2;
    for (const button of byId('motion').children) button.disabled = button.dataset.value !== 'all' && !scene.sets[1].count;
    byId('trails').disabled = !scene.sets[1].count;
    const list = byId('conventions');
    for (const [term, meaning] of meta.conventions) {
      for (const [tag, text] of [['dt', term], ['dd', meaning]]) list.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
  }

  connect() {
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    const set = (name, value) => { this.state[name] = value; this.filterChanged(); this.render(); };
    on('source', 'change', (e) => set('source', e.target.value));
    on('color', 'change', (e) => set('mode', Number(e.target.value)));
    on('hide', 'input', (e) => set('hide', Number(e.target.value)));
    on('size', 'input', (e) => set('size', Number(e.target.value)));
    on('trails', 'change', (e) => set('trails', e.target.value));
    on('length', 'input', (e) => set('length', Number(e.target.value)));
    on('cameras', 'change', (e) => set('cameras', e.target.checked));
    on('video', 'change', (e) => set('video', e.target.checked));
    on('motion', 'click', (e) => e.target.dataset.value && set('motion', e.target.dataset.value));
    on('view', 'click', (e) => this.look(e.target.dataset.value));
    on('play', 'click', () => this.play(!this.state.playing));
    on('loop', 'click', () => this.setLoop(!this.state.loop));
    on('speed', 'change', (e) => { this.state.speed = Number(e.target.value); });
    on('scrub', 'input', (e) => { this.play(false); this.seek(Number(e.target.value)); });
    on('more', 'click', () => byId('more').setAttribute('aria-expanded', byId('panel').classList.toggle('open')));
    listen(this.canvas, this.viewer, {
      changed: () => { this.state.follow = false; this.render(); },
      clicked: (x, y) => { const frame = this.cameraAt(x, y); if (frame !== null) this.standIn(frame); },
      hovered: (x, y) => this.canvas.classList.toggle('aimed', this.cameraAt(x, y) !== null),
    });
    document.addEventListener('keydown', (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typed = event.target;
    if (typed instanceof HTMLSelectElement) return;
    if (typed instanceof HTMLInputElement && typed.id !== 'scrub' && event.key.startsWith('Arrow')) return;
    if (event.key === ' ' && (typed instanceof HTMLButtonElement || typed.tagName === 'SUMMARY' || typed.type === 'checkbox') && typed.id !== 'play') return;
    const press = (id) => byId(id).click();
    const next = (id, by) => {
      const select = byId(id);
      select.selectedIndex = Math.max(0, Math.min(select.length - 1, select.selectedIndex + by));
      select.dispatchEvent(new Event('change'));
    };
    const keys = {
      ' ': () => this.play(!this.state.playing),
      ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1),
      Home: () => this.seek(this.first), End: () => this.seek(this.last),
      '+': () => next('speed', 1), '=': () => next('speed', 1), '-': () => next('speed', -1),
      l: () => this.setLoop(!this.state.loop), c: () => this.look(this.viewer.stand === null ? 'camera' : 'orbit'),
      r: () => this.look('reset'), f: () => press('cameras'), v: () => press('video'),
      t: () => { const s = byId('trails'); s.selectedIndex = (s.selectedIndex + 1) % s.length; s.dispatchEvent(new Event('change')); },
      m: () => { const all = [...byId('motion').children]; all[(all.findIndex((b) => b.dataset.value === this.state.motion) + 1) % all.length].click(); },
    };
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  look(how) {
    if (how === 'reset') { this.state.follow = false; this.viewer.reset(); }
    if (how === 'orbit') { this.state.follow = false; this.viewer.leave(); }
    if (how === 'camera') { this.state.follow = true; this.viewer.stand = this.scene.nearest(this.state.seconds); }
    this.render();
  }

  /** Looks through the camera of a frame, and goes to its time where that is kept. */
  standIn(frame) {
    this.state.follow = false;
    this.viewer.stand = frame;
    if (this.scene.frames.includes(frame) && !this.state.playing) this.state.seconds = this.meta.timestamps[frame];
    this.render();
  }

  play(playing) {
    if (this.scene.seconds.length < 2) return;
    this.state.playing = playing;
    byId('play-shape').setAttribute('d', playing ? 'M3 2h4v12H3zM9 2h4v12H9z' : 'M4 2v12l10-6z');
    byId('play').setAttribute('aria-label', playing ? 'Pause' : 'Play');
    if (!playing) return;
    if (this.state.seconds >= this.last) this.state.seconds = this.first;
    let before = null;
    const tick = (now) => {
      if (!this.state.playing) return;
      // A page that was in the background goes on where it was.
      const passed = before === null ? 0 : Math.min(0.25, (now - before) / 1000);
      before = now;
      let to = this.state.seconds + passed * this.state.speed;
      if (to >= this.last) {
        if (this.state.loop) to = to - this.last > 0.001 && this.state.seconds >= this.last ? this.first : this.last;
        else { to = this.last; this.play(false); }
      }
      this.seek(to);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  setLoop(loop) {
    this.state.loop = loop;
    byId('loop').classList.toggle('on', loop);
    byId('loop').setAttribute('aria-pressed', loop);
  }

  step(by) {
    this.play(false);
    const at = this.scene.frames.indexOf(this.scene.nearest(this.state.seconds)) + by;
    this.seek(this.scene.seconds[Math.max(0, Math.min(this.scene.seconds.length - 1, at))]);
  }

  seek(seconds) {
    this.state.seconds = Math.max(this.first, Math.min(this.last, seconds));
    if (this.state.follow) this.viewer.stand = this.scene.nearest(this.state.seconds);
    this.render();
  }

  /** The frame of the camera whose picture is at a place of the canvas, the nearest of several; null for none. */
  cameraAt(x, y) {
    if (!this.state.cameras) return null;
    const view = this.viewer.view();
    let found = null, nearest = Infinity;
    for (const { frame, corners: places } of this.pictures) {
      const corners = places.slice(1).map((p) => projectPoint(view, ...p));
      if (corners.some(([, , z]) => z <= 0)) continue;
      const [a, b, c, d] = corners, sides = [[a, b], [b, d], [d, c], [c, a]].map(([p, q]) => (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]));
      const middle = (a[2] + d[2]) / 2;
      if ((sides.every((s) => s >= 0) || sides.every((s) => s <= 0)) && middle < nearest) { found = frame; nearest = middle; }
    }
    return found;
  }

  filterChanged() {
    const { state, scene } = this;
    const level = scene.levelHiding(state.hide);
    byId('sure').textContent = `${state.hide} % · < ${scene.confidenceOf(level).toFixed(2)}`;
    byId('length-row').hidden = state.trails === 'off';
    byId('length-text').textContent = state.length === scene.seconds.length - 1 ? 'all' : `${state.length} frame${state.length === 1 ? '' : 's'}`;
    press('motion', state.motion);
    byId('inset').hidden = !state.video;
    document.body.classList.toggle('pictured', state.video);
    for (const [id, value] of [['source', state.source], ['color', state.mode], ['hide', state.hide], ['trails', state.trails]]) byId(id).value = value;
    byId('cameras').checked = state.cameras;
    this.trailsStale = true;
    this.counted = null;
  }

  render() {
    this.stale = true;
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.draw(); });
  }

  draw() {
    this.stale = false;
    const { state, scene, meta, viewer } = this, filter = this.filter(), view = viewer.view();
    const frame = scene.nearest(state.seconds), moment = scene.moment(state.seconds);
    if (this.trailsStale || this.trailsOf !== filter.only) {
      if (state.trails !== 'off') this.drawing.setLines(this.drawing.trails, scene.trails(filter, state.trails, 350));
      this.trailsStale = false;
      this.trailsOf = filter.only;
    }
    const gap = (this.last - this.first) / Math.max(1, scene.seconds.length - 1);
    const center = [view.c2w[3], view.c2w[7], view.c2w[11]];
    const [near, far] = state.mode === 1 ? viewer.depths(view) : [1, 2];
    const lit = this.sourceNear(frame);
    this.pictures = state.cameras ? scene.apart(lit, this.reach, center) : [];
    const lines = state.cameras ? scene.cameraLines(this.pictures.map((picture) => picture.frame), lit, this.reach) : [];
    this.drawing.setLines(this.drawing.frusta, lines);
    this.drawing.draw(view, {
      ...filter, ...moment, mode: state.mode, now: state.seconds, length: Math.max(1e-6, gap * state.length * 1.25),
      near, far, cameras: state.cameras,
      pictures: this.pictures, trails: state.trails !== 'off', size: state.size * (filter.only < 0 && meta.sources.length > 3 ? 0.65 : 1.15),
      speedScale: 1 / Math.max(1e-9, meta.fullSpeed * (gap || 1)),
    });
    this.tell(filter, frame);
  }

  tell(filter, frame) {
    const { state, scene, viewer } = this;
    byId('scrub').value = state.seconds;
    byId('clock').textContent = `${state.seconds.toFixed(2)} / ${this.last.toFixed(2)} s`;
    byId('caption').textContent = `frame ${frame} · ${this.meta.timestamps[frame].toFixed(2)} s`;
    if (this.pictured !== frame) { byId('frame').src = this.images[frame]; this.pictured = frame; }
    const key = JSON.stringify(filter);
    if (this.counted !== key) {
      byId('count').textContent = `${scene.count(filter).toLocaleString('en')} of ${scene.total.toLocaleString('en')} points shown`;
      this.counted = key;
    }
    const how = viewer.stand === null ? 'orbit' : 'camera';
    press('view', how);
  }
}

async function load(page) {
  await Promise.all(page.meta.sources.map(async (frame) => {
    const image = new Image();
    image.src = page.images[frame];
    await image.decode();
    page.drawing.addPicture(frame, image);
  }));
  page.render();
}

/** What tests ask and set; numbers only. */
function interfaceOf(page, started) {
  const { scene, state } = page;
  return {
    readyMs: performance.now() - started,
    frames: scene.frames, seconds: scene.seconds, sources: page.meta.sources,
    time: () => state.seconds,
    playing: () => state.playing,
    seek: (seconds) => { page.play(false); page.seek(seconds); page.draw(); return state.seconds; },
    hide: (percent) => { state.hide = percent; page.filterChanged(); page.draw(); return scene.levelHiding(percent); },
    show: ({ motion = state.motion, source = state.source, cameras = state.cameras, trails = state.trails, color = state.mode }) => {
      Object.assign(state, { motion, source: String(source), cameras, trails, mode: color });
      page.filterChanged();
      page.draw();
    },
    standIn: (frame) => { page.standIn(frame); page.draw(); },
    standing: () => page.viewer.stand,
    count: () => scene.count(page.filter()),
    /** Mean pixel, in the image of a frame's camera, of all shown points before it, and their number. */
    centroid: (frame) => {
      const { c2w, k } = page.meta.cameras[frame], moment = scene.moment(state.seconds);
      const view = { w2c: inverseRigid(c2w), fx: k[0], fy: k[1], cx: k[2], cy: k[3] };
      let count = 0, sumX = 0, sumY = 0;
      scene.eachShown(page.filter(), (set, p) => {
        const [x, y, z] = projectPoint(view, ...scene.position(set, p, moment));
        if (z > 1e-3) { count++; sumX += x; sumY += y; }
      });
      return { x: sumX / count, y: sumY / count, count };
    },
    /** Where a frame's camera is on the canvas, in CSS pixels. */
    cameraPlace: (frame) => {
      const corners = scene.frustum(frame, page.reach).slice(1), view = page.viewer.view();
      return projectPoint(view, ...[0, 1, 2].map((i) => (corners[0][i] + corners[3][i]) / 2)).slice(0, 2);
    },
    /** The canvas as drawn now, a PNG as data URL. */
    picture: () => { page.draw(); return page.canvas.toDataURL(); },
    error: () => page.drawing.gl.getError(),
  };
}

async function start() {
  const started = performance.now(), message = byId('message');
  try {
    if (typeof DecompressionStream === 'undefined') throw new Error('this browser cannot inflate data (DecompressionStream); use one from 2023 or later');
    const meta = JSON.parse(byId('meta').textContent);
    const inflated = await inflate(byId('data').textContent);
    const scene = new Scene(meta, inflated);
    const images = JSON.parse(byId('images').textContent);
    for (const frame of Object.keys(images)) images[frame] = `data:image/jpeg;base64,${images[frame]}`;
    const page = new Page(meta, scene, images);
    page.draw();
    message.hidden = true;
    await load(page);
    window.vdpm = Object.freeze(interfaceOf(page, started));
  } catch (error) {
    message.hidden = false;
    message.classList.add('failed');
    message.textContent = `This page cannot be shown: ${error.message}`;
  }
}

start();
