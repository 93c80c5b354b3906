'use strict';
// The frame panel: draws what the server tells, and says where the pointer is and which keys are pressed. Keys are
// heard in the whole window, before viser, which turns the view with arrows; so is the pointer among the points.
const VIEWS = ['video', 'depth', 'motion'];
const $ = (id) => document.getElementById(id);
const canvas = $('canvas'), ink = canvas.getContext('2d');
const outer = window.parent;
let state = null, socket = null, shown = null, hover = null, waiting = 500, left = false;
const pictures = new Map();

for (const view of VIEWS) {
  const button = document.createElement('button');
  button.textContent = view[0].toUpperCase() + view.slice(1);
  button.dataset.view = view;
  button.addEventListener('click', () => say({ what: 'view', name: view }));
  $('views').append(button);
}

function say(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// The same as long as the tab is open, so that its page, loaded or connected again, goes on where it was.
function tab() {
  let name = outer.vdpmTab;
  try { name = name || sessionStorage.getItem('vdpm-tab'); } catch { /* the browser keeps nothing */ }
  if (!name) {
    name = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  }
  outer.vdpmTab = name;
  try { sessionStorage.setItem('vdpm-tab', name); } catch { /* likewise */ }
  return name;
}

function connect() {
  socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/vdpm/frame/socket' + location.search);
  socket.onopen = () => say({ what: 'tab', name: tab(), xy: [outer.innerWidth, outer.innerHeight] });
  socket.onmessage = (event) => { waiting = 500; state = JSON.parse(event.data); update(); };
  socket.onclose = () => {
    if (!left) setTimeout(connect, waiting = Math.min(2 * waiting, 8000));
  };
}

// A picture stays until the next one is there, so that nothing flickers while it plays.
function picture(url) {
  if (!pictures.has(url)) {
    const image = new Image();
    image.src = url;
    pictures.set(url, image.decode().then(() => image, () => null));
    if (pictures.size > 96) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(url);
}

async function update() {
  if (!state || state.frame === undefined) return;
  const url = `/vdpm/frame/${state.frame}-${state.view}.jpg`;
  for (const button of $('views').children) {
    button.setAttribute('aria-pressed', String(button.dataset.view === state.view));
  }
  const caption = [document.createElement('span'), document.createElement('span')];
  caption[0].textContent = `frame ${state.frame} of ${state.frames}`;
  caption[1].textContent = `${state.seconds.toFixed(2)} s`;
  $('caption').replaceChildren(...caption);
  $('done').style.width = `${100 * state.row / Math.max(1, state.rows - 1)}%`;
  $('note').textContent = state.note;
  canvas.setAttribute('aria-label', `${state.view} of frame ${state.frame}`);
  const image = await picture(url);
  if (url !== `/vdpm/frame/${state.frame}-${state.view}.jpg`) return;
  shown = image;
  $('missing').hidden = image !== null;
  $('missing').textContent = image ? '' : `the result keeps no ${state.view} of this frame`;
  draw();
}

function draw() {
  if (!state || !state.box) return;
  const [x0, y0, x1, y1] = state.box, across = x1 - x0, down = y1 - y0;
  const wide = Math.max(2, Math.round($('picture').clientWidth * (window.devicePixelRatio || 1)));
  canvas.width = wide;
  canvas.height = Math.round(wide * down / across);
  canvas.style.aspectRatio = `${across} / ${down}`;
  if (shown) ink.drawImage(shown, 0, 0, canvas.width, canvas.height);
  const zoom = canvas.width / across, at = ([x, y]) => [(x - x0) * zoom, (y - y0) * zoom];
  const unit = Math.max(1, canvas.width / 360);
  if (state.way.length) {
    for (const [color, width] of [['#000a', 4], ['#ffd54a', 2]]) {
      ink.strokeStyle = color;
      ink.lineWidth = width * unit;
      for (let n = 1; n < state.way.length; n++) {
        ink.setLineDash(state.way[n][2] ? [] : [3 * unit, 3 * unit]);
        ink.beginPath();
        ink.moveTo(...at(state.way[n - 1]));
        ink.lineTo(...at(state.way[n]));
        ink.stroke();
      }
    }
    ink.setLineDash([]);
  }
  if (state.dot) mark(at(state.dot), state.dot[2] ? '#ffd54a' : null, 5 * unit, unit);
  if (hover) mark(at(hover), null, 7 * unit, unit);
  else if (state.pointed) mark(at(state.pointed), null, (state.pointed[2] ? 7 : 4) * unit, unit);
  fit();
}

function mark([x, y], fill, radius, unit) {
  ink.beginPath();
  ink.arc(x, y, radius, 0, 2 * Math.PI);
  if (fill) { ink.fillStyle = fill; ink.fill(); }
  ink.strokeStyle = '#000';
  ink.lineWidth = 3 * unit;
  ink.stroke();
  ink.strokeStyle = fill ? '#fff' : '#ffd54a';
  ink.lineWidth = 1.5 * unit;
  ink.stroke();
}

function fit() {
  const height = document.body.scrollHeight;
  if (window.frameElement && window.frameElement.style.height !== `${height}px`) {
    window.frameElement.style.height = `${height}px`;
  }
}

function place(event) {
  const box = canvas.getBoundingClientRect(), [x0, y0, x1, y1] = state.box;
  const x = x0 + (event.clientX - box.left) / box.width * (x1 - x0);
  const y = y0 + (event.clientY - box.top) / box.height * (y1 - y0);
  return [Math.min(Math.max(x, x0), x1 - 0.01), Math.min(Math.max(y, y0), y1 - 0.01)];
}

// At most one message in so many milliseconds, the last one for certain.
function calmly(message, pause) {
  let pending = false;
  return () => {
    if (pending) return;
    pending = true;
    setTimeout(() => { pending = false; say(message()); }, pause);
  };
}

const sayHover = calmly(() => ({ what: 'hover', xy: hover }), 50);
canvas.addEventListener('pointermove', (event) => {
  if (!state || !state.box) return;
  hover = place(event);
  draw();
  sayHover();
});
canvas.addEventListener('pointerleave', () => { hover = null; sayHover(); draw(); });
canvas.addEventListener('click', (event) => { if (state && state.box) say({ what: 'pick', xy: place(event) }); });

// Where the pointer is among the points, which viser draws on a canvas of the window around this frame.
let among = null;
const sayAmong = calmly(() => ({ what: 'point', xy: among }), 80);
function onPoint(event) {
  const before = among, box = event.target.tagName === 'CANVAS' && !event.buttons && event.type !== 'pointerout'
    ? event.target.getBoundingClientRect() : null;
  const xy = box && [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  among = xy && xy.every((part) => part >= 0 && part < 1) ? xy : null;
  if (among || before) sayAmong();
}

function onKey(event) {
  if (!state || event.ctrlKey || event.metaKey || event.altKey) return;
  const focused = event.target.ownerDocument ? event.target : null;
  const kind = focused && focused.tagName === 'INPUT' ? focused.type : '';
  const name = event.key === ' ' ? 'space' : event.key.toLowerCase();
  // A list of choices keeps the focus after it has closed; only while it is open its keys are its own.
  const chooses = focused && focused.getAttribute && focused.getAttribute('aria-haspopup') === 'listbox';
  const writes = focused && (chooses ? focused.getAttribute('aria-expanded') === 'true' : focused.isContentEditable
    || (kind && !['checkbox', 'radio', 'range', 'button'].includes(kind)) || focused.tagName === 'TEXTAREA');
  if (writes || !state.keys.includes(name)) return;
  // Space and arrows on a focused button or slider would act twice.
  if (focused && focused.blur && focused !== document.body) focused.blur();
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!event.repeat || name.startsWith('arrow')) say({ what: 'key', name });
}

window.addEventListener('keydown', onKey, true);
if (outer !== window) {
  outer.addEventListener('keydown', onKey, true);
  outer.addEventListener('pointermove', onPoint, true);
  outer.addEventListener('pointerout', onPoint, true);
}
window.addEventListener('pagehide', () => {
  left = true;
  outer.removeEventListener('keydown', onKey, true);
  outer.removeEventListener('pointermove', onPoint, true);
  outer.removeEventListener('pointerout', onPoint, true);
  socket.close();
});
new ResizeObserver(draw).observe($('picture'));
connect();
