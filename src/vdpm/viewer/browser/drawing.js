/** Puts points, trails and cameras on the canvas; knows nothing of controls. */
class Drawing {
  constructor(canvas, meta, sets) {
    const gl = canvas.getContext('webgl2', { antialias: false, alpha: false, preserveDrawingBuffer: false });
    if (!gl) throw new Error('this browser offers no WebGL 2, which the page draws with; try another browser or another machine');
    this.gl = gl;
    this.meta = meta;
    this.points = compile(gl, POINT_VERTEX, POINT_FRAGMENT, ['aBefore', 'aAfter', 'aColor', 'aLevel', 'aSource']);
    this.lines = compile(gl, LINE_VERTEX, LINE_FRAGMENT, ['aFrom', 'aTo', 'aColorFrom', 'aColorTo', 'aTimes']);
    this.pictures = compile(gl, PICTURE_VERTEX, PICTURE_FRAGMENT, []);
    this.sets = sets.map((set) => this.upload(set));
    this.trails = { buffer: gl.createBuffer(), count: 0 };
    this.frusta = { buffer: gl.createBuffer(), count: 0 };
    this.textures = [];
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0.071, 0.075, 0.082, 1);
    const { program, at } = this.points;
    gl.useProgram(program);
    gl.uniform3fv(at.uLow, meta.grid.low);
    gl.uniform1f(at.uStep, meta.grid.step);
    gl.uniform3fv(at.uInferno, meta.colorMaps.inferno.flat());
    gl.uniform3fv(at.uViridis, meta.colorMaps.viridis.flat());
    gl.uniform4fv(at.uCameras, meta.sources.flatMap((frame) => {
      const c = meta.cameras[frame];
      return [c.c2w[3], c.c2w[7], c.c2w[11], 1 / c.k[0]];
    }));
    gl.uniform1f(at.uCount, meta.sources.length);
  }

  upload(set) {
    const { gl } = this, buffers = {};
    for (const name of ['positions', 'colors', 'level', 'source']) {
      buffers[name] = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, set[name], gl.STATIC_DRAW);
    }
    return { set, buffers };
  }

  /** A small picture of each frame, drawn in its camera. */
  addPicture(frame, image) {
    const { gl } = this, texture = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    this.textures[frame] = texture;
  }

  /** Segments, 14 numbers each: from, to, their colours, their times. */
  setLines(lines, segments) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, lines.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(segments), gl.DYNAMIC_DRAW);
    lines.count = segments.length / 14;
  }

  draw(view, state) {
    const { gl } = this, { width, height } = gl.canvas;
    const clip = product(clipFromCamera(view, view.width, view.height, view.near, view.far), view.w2c);
    gl.viewport(0, 0, width, height);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    this.drawPoints(view, state, clip);
    if (state.cameras) this.drawPictures(clip, state.pictures);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    const ratio = width / view.width;
    if (state.cameras) this.drawLines(this.frusta, clip, { now: 0, length: 1, width: 1.3 * ratio, opacity: 1 });
    if (state.trails) this.drawLines(this.trails, clip, { now: state.now, length: state.length, width: 1.7 * ratio, opacity: 0.95 });
    gl.disable(gl.BLEND);
  }

  drawPoints(view, state, clip) {
    const { gl } = this, { program, at } = this.points, ratio = gl.canvas.width / view.width;
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.uClip, true, clip);
    gl.uniform1f(at.uLevel, state.level);
    gl.uniform1f(at.uOnly, state.only);
    gl.uniform1i(at.uMode, state.mode);
    gl.uniform1f(at.uSpeed, state.speedScale);
    gl.uniform3f(at.uNear, state.near, state.far, Math.min(1.2 * ratio, 2));
    gl.uniform1f(at.uLargest, 28 * ratio);
    for (const { set, buffers } of this.sets) {
      if (!set.count || !state.kinds.includes(set.kind)) continue;
      const after = Math.min(state.before + 1, set.times - 1), before = Math.min(state.before, set.times - 1);
      const rows = [[0, buffers.positions, 3, gl.UNSIGNED_SHORT, false, 8, before * set.count * 8],
        [1, buffers.positions, 3, gl.UNSIGNED_SHORT, false, 8, after * set.count * 8],
        [2, buffers.colors, 3, gl.UNSIGNED_BYTE, true, 3, 0], [3, buffers.level, 1, gl.UNSIGNED_BYTE, false, 1, 0],
        [4, buffers.source, 1, gl.UNSIGNED_BYTE, false, 1, 0]];
      for (const [index, buffer, size, type, normalized, stride, offset] of rows) {
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
        gl.enableVertexAttribArray(index);
        gl.vertexAttribDivisor(index, 0);
        gl.vertexAttribPointer(index, size, type, normalized, stride, offset);
      }
      gl.uniform1f(at.uMix, after > before ? state.mix : 0);
      gl.uniform1f(at.uMoving, set.kind === 'moving' ? 1 : 0);
      gl.uniform1f(at.uSize, state.size * set.spacing * view.fx * ratio);
      gl.drawArrays(gl.POINTS, 0, set.count);
    }
  }

  drawLines(lines, clip, { now, length, width, opacity }) {
    if (!lines.count) return;
    const { gl } = this, { program, at } = this.lines;
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.uClip, true, clip);
    gl.uniform2f(at.uViewport, gl.canvas.width, gl.canvas.height);
    gl.uniform1f(at.uWidth, width);
    gl.uniform1f(at.uNow, now);
    gl.uniform1f(at.uLength, length);
    gl.uniform1f(at.uOpacity, opacity);
    gl.bindBuffer(gl.ARRAY_BUFFER, lines.buffer);
    [3, 3, 3, 3, 2].reduce((offset, size, index) => {
      gl.enableVertexAttribArray(index);
      gl.vertexAttribDivisor(index, 1);
      gl.vertexAttribPointer(index, size, gl.FLOAT, false, 56, offset);
      return offset + size * 4;
    }, 0);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, lines.count);
  }

  drawPictures(clip, pictures) {
    const { gl } = this, { program, at } = this.pictures;
    for (let k = 0; k < 5; k++) gl.disableVertexAttribArray(k);
    gl.useProgram(program);
    gl.uniformMatrix4fv(at.uClip, true, clip);
    for (const { frame, corners } of pictures) {
      if (!this.textures[frame]) continue;
      gl.bindTexture(gl.TEXTURE_2D, this.textures[frame]);
      gl.uniform3fv(at.uCorners, corners.slice(1).flat());
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
  }
}
