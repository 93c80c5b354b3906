const byId = (id) => document.getElementById(id);
const HURRIED = 600, CALM = 4000;
const ENDED = ['done', 'failed', 'cancelled'];

/** The key stands behind the # of the address that the terminal printed, which no browser sends anywhere. */
function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get('key');
  if (given) {
    sessionStorage.setItem('key', given);
    history.replaceState(null, '', location.pathname);
  }
  return sessionStorage.getItem('key') ?? '';
}

const count = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;
const narrow = () => window.innerWidth < 960;

function duration(seconds) {
  const space = '\u00a0', whole = Math.round(seconds);
  if (seconds < 90) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))}${space}s`;
  return `${Math.floor(whole / 60)}${space}min${whole % 60 ? `${space}${whole % 60}${space}s` : ''}`;
}

class App {
  constructor() {
    this.key = takeKey();
    this.shown = null;
    this.rows = new Map();
    this.uploads = new Map();
    this.states = new Map();
    this.limits = null;
    this.timer = 0;
    this.connect();
    this.refresh();
  }

  connect() {
    const drop = byId('drop'), file = byId('file');
    file.addEventListener('change', () => { this.take([...file.files]); file.value = ''; });
    for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
      document.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle('over', name === 'dragenter' || name === 'dragover');
        if (name === 'drop') this.take([...event.dataTransfer.files]);
      });
    }
    byId('new').addEventListener('submit', (event) => event.preventDefault());
    byId('frames').addEventListener('input', () => { byId('frames-text').value = byId('frames').value; });
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.refresh(); });
    window.addEventListener('hashchange', () => { this.key = takeKey(); this.refresh(); });
  }

  complain(text) {
    byId('error').textContent = text;
    byId('error').hidden = !text;
  }

  /** Sends files one after the other: each keeps a place in the queue from its first byte. */
  async take(files) {
    this.complain('');
    for (const file of files) {
      if (this.limits && file.size > this.limits.bytes) {
        this.complain(`${file.name}: ${(file.size / 1e6).toFixed(0)} MB, and this app takes ${(this.limits.bytes / 1e6).toFixed(0)} MB at most`);
        continue;
      }
      const failed = await this.send(file);
      if (failed) this.complain(failed);
    }
  }

  /** Uploads one file; resolves to what went wrong, or nothing. */
  send(file) {
    const query = new URLSearchParams({ frames: byId('frames').value });
    for (const name of ['start', 'end']) if (byId(name).value) query.set(name, byId(name).value);
    const request = new XMLHttpRequest(), upload = { name: file.name, sent: 0, size: file.size, abort: () => request.abort() };
    const mark = Symbol(file.name);
    this.uploads.set(mark, upload);
    return new Promise((resolve) => {
      const end = (failed) => { this.uploads.delete(mark); this.refresh(); resolve(failed); };
      request.open('POST', `/api/jobs?${query}`);
      request.setRequestHeader('Content-Type', 'application/octet-stream');
      request.setRequestHeader('X-Vdpm-Key', this.key);
      request.setRequestHeader('X-Vdpm-Name', encodeURIComponent(file.name.slice(-200)));
      request.upload.addEventListener('progress', (event) => { upload.sent = event.loaded; this.draw(); });
      request.addEventListener('load', () => end(request.status === 201 ? '' : this.reason(request)));
      request.addEventListener('error', () => end(`${file.name}: the upload broke off; is vdpm app still running?`));
      request.addEventListener('abort', () => end(''));
      request.send(file);
      this.draw();
    });
  }

  reason(request) {
    try { return JSON.parse(request.responseText).error; } catch { return `the app answered ${request.status}`; }
  }

  async ask(method, path) {
    const answer = await fetch(path, { method, headers: { 'X-Vdpm-Key': this.key } });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error ?? `the app answered ${answer.status}`);
    return said;
  }

  async act(method, path) {
    this.complain('');
    try { await this.ask(method, path); } catch (error) { this.complain(error.message); }
    await this.refresh();
  }

  async refresh() {
    clearTimeout(this.timer);
    let pause = CALM;
    try {
      const state = await this.ask('GET', '/api/state');
      if (this.lost) { this.lost = false; this.complain(''); }
      if (!this.limits) this.begin(state);
      this.jobs = state.jobs;
      this.draw();
      if (state.jobs.some((job) => !ENDED.includes(job.state))) pause = HURRIED;
    } catch (error) {
      this.lost = true;
      this.complain(error instanceof TypeError ? 'vdpm app does not answer; start it again' : error.message);
    }
    clearTimeout(this.timer);
    if (!document.hidden) this.timer = setTimeout(() => this.refresh(), pause);
  }

  begin(state) {
    this.limits = state.limits;
    const { bytes, seconds, frames } = state.limits;
    byId('takes').textContent = `mp4, mov, webm, mkv, gif\nup to ${(bytes / 1e6).toFixed(0)} MB and ${duration(seconds)}`;
    byId('frames').max = byId('frames').value = byId('frames-text').value = frames;
    byId('about').textContent = `Video in, moving 3D points out · ${state.model.split('/').at(-1).replaceAll('-', '\u2011')}`;
    byId('promise').textContent = state.kept
      ? 'Nothing leaves this machine. Results stay in the folder that vdpm app was given.'
      : 'Nothing leaves this machine. When vdpm app ends, all videos and results are removed.';
  }

  draw() {
    const jobs = (this.jobs ?? []).filter((job) => job.state !== 'uploading').reverse(), list = byId('jobs');
    const uploads = [...this.uploads].reverse();
    const keys = [...uploads.map(([mark]) => mark), ...jobs.map((job) => job.id)];
    for (const [key, row] of this.rows) if (!keys.includes(key)) { row.remove(); this.rows.delete(key); }
    keys.forEach((key, place) => {
      if (!this.rows.has(key)) this.rows.set(key, byId('job').content.firstElementChild.cloneNode(true));
      if (list.children[place] !== this.rows.get(key)) list.insertBefore(this.rows.get(key), list.children[place] ?? null);
    });
    for (const [mark, upload] of uploads) this.drawUpload(this.rows.get(mark), upload);
    for (const job of jobs) this.drawJob(this.rows.get(job.id), job);
    byId('jobs-title').hidden = !keys.length;
    document.body.classList.toggle('compact', keys.length > 0);
    if (this.shown && !jobs.some((job) => job.id === this.shown)) this.look(null);
    const open = jobs.find((job) => job.id === this.shown);
    if (open) this.drawResult(open);
  }

  fill(row, title, line, share, acts) {
    const one = (query) => row.querySelector(query);
    const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };
    put(one('h3'), title);
    one('h3').title = title;
    put(one('.line'), line);
    one('.track').hidden = share === null;
    if (share !== null) {
      const percent = Math.round(100 * share);
      one('.track').setAttribute('aria-valuenow', percent);
      one('.track').setAttribute('aria-label', `${title}: ${line}`);
      one('.bar').style.width = `${percent}%`;
    }
    for (const name of ['open', 'cancel', 'remove']) {
      const button = one(`.${name}`);
      button.hidden = !acts[name];
      button.onclick = acts[name] ?? null;
      button.setAttribute('aria-label', `${button.textContent}: ${title}`);
    }
  }

  drawUpload(row, { name, sent, size, abort }) {
    this.fill(row, name, `uploading · ${(sent / 1e6).toFixed(1)} of ${(size / 1e6).toFixed(1)} MB`, size ? sent / size : 0, { cancel: abort });
  }

  drawJob(row, job) {
    const { id, state, label, facts } = job, ready = job.files.includes('scene.html');
    const lines = {
      waiting: () => job.ahead ? `waiting · ${count(job.ahead, 'video')} before it` : 'waiting',
      running: () => `${ready ? 'ready · ' : ''}${job.stage || 'starting'}${job.total > 1 ? ` · ${job.done} of ${job.total}` : ''} · ${duration(job.took)}`,
      done: () => job.error || `${count(facts.frames, 'frame')} over ${facts.span.toFixed(1)} s · took ${duration(job.took)}`,
      failed: () => job.error,
      cancelled: () => 'cancelled',
    };
    const ended = ENDED.includes(state);
    row.className = `${state === 'failed' ? 'failed' : job.error ? 'warned' : ''} ${id === this.shown ? 'shown' : ''}`;
    this.fill(row, label, lines[state](), ended ? null : job.progress, {
      open: ready && (id !== this.shown || narrow()) && (() => { this.look(job); this.scrollToResult(); }),
      cancel: !ended && !ready && (() => this.act('POST', `/api/jobs/${id}/cancel`)),
      remove: (ended || ready) && (() => this.act('DELETE', `/api/jobs/${id}`)),
    });
    const poster = row.querySelector('.poster');
    if (job.files.includes('poster.jpg') && !poster.hasAttribute('src')) poster.src = `/jobs/${id}/poster.jpg`;
    this.tell(job, ready ? 'ready' : state);
    if (ready && !this.shown) this.look(job);
  }

  /** For those who hear the page: what became of a video, once. */
  tell(job, now) {
    const before = this.states.get(job.id);
    this.states.set(job.id, now);
    if (before === now || now === 'waiting') return;
    const line = now === 'failed' ? job.error : now === 'ready' ? 'the result is ready' : now;
    // Most errors begin with the video's name.
    byId('said').textContent = line.startsWith(`${job.label}: `) ? line : `${job.label}: ${line}`;
  }

  look(job) {
    if (job && job.id === this.shown) return;
    this.shown = job?.id ?? null;
    byId('result').hidden = !job;
    document.body.classList.toggle('full', !!job);
    if (!job) { byId('scene').removeAttribute('src'); return; }
    byId('scene').src = `/jobs/${job.id}/scene.html`;
    byId('downloads').replaceChildren();
    this.draw();
  }

  /** Where the result lies below the list. */
  scrollToResult() {
    if (narrow()) byId('result').scrollIntoView({ block: 'start' });
    byId('scene').focus({ preventScroll: true });
  }

  drawResult(job) {
    const { facts } = job, known = facts.seconds ? ` · network ${duration(facts.seconds)} on ${facts.device.split(' ')[0]}` : '';
    const text = `${job.label} · ${count(facts.frames, 'frame')} of ${facts.size.join(' × ')} pixels · ${facts.model}${known}`;
    if (byId('facts').textContent !== text) byId('facts').textContent = text;
    byId('facts').title = facts.notes.join('; ');
    const kinds = [
      ['scene.html', 'scene.html', 'Page', 'one HTML file that plays offline'],
      ['scene.glb', 'scene.glb', 'GLB', 'moving points and camera for Blender, three.js, game engines'],
      ['points', 'points.zip', 'PLY', 'point clouds of all times, zipped'],
      ['result', 'result.zip', 'Result folder', 'everything, zipped: vdpm.load reads it'],
    ];
    const offered = kinds.filter(([held]) => job.files.includes(held));
    const links = byId('downloads');
    const waits = job.state === 'running' && offered.length < kinds.length;
    const wanted = `${offered.map(([held]) => held)} ${waits}`;
    if (links.dataset.for === `${job.id} ${wanted}` && links.childElementCount) return;
    links.dataset.for = `${job.id} ${wanted}`;
    const open = Object.assign(document.createElement('a'), { href: `/jobs/${job.id}/scene.html`, target: '_blank', rel: 'noopener', textContent: 'Open in a tab' });
    links.replaceChildren(open, ...offered.map(([, name, text, title]) =>
      Object.assign(document.createElement('a'), { href: `/jobs/${job.id}/${name}?save=1`, download: '', textContent: `↓ ${text}`, title })));
    if (waits) links.append(Object.assign(document.createElement('span'), { textContent: 'more in a moment …' }));
  }
}

window.app = new App();
