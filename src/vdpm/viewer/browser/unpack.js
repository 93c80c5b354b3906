// The other half of vdpm.viewer.packing.

async function inflate(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Positions on the grid, [times, points, 4] with a fourth of no meaning: a graphics card reads 8 bytes at once best. */
function unpackPositions(packed, times, points) {
  const out = new Uint16Array(times * points * 4), half = packed.length / 2;
  let at = 0;
  for (let t = 0; t < times; t++)
    for (let c = 0; c < 3; c++) {
      const row = t * points * 4 + c, before = row - points * 4;
      let sum = 0;
      for (let p = 0; p < points; p++, at++) {
        const folded = packed[at] | packed[half + at] << 8;
        sum += folded >>> 1 ^ -(folded & 1);
        out[row + p * 4] = sum + (t ? out[before + p * 4] : 0);
      }
    }
  return out;
}

/** [points, channels] of bytes. */
function unpackBytes(packed, channels) {
  const points = packed.length / channels, out = new Uint8Array(packed.length);
  let at = 0;
  for (let c = 0; c < channels; c++)
    for (let p = 0, sum = 0; p < points; p++) out[p * channels + c] = sum = sum + packed[at++] & 255;
  return out;
}

/** Points of one kind: `positions` [times, points, 4], `colors`, `level` of confidence, `source` as a row of the frames. */
function unpackPoints(part, bytes, kind, numTimes) {
  const count = part.runs.reduce((a, b) => a + b, 0);
  const of = (name) => bytes.subarray(...part.places[name]);
  const source = new Uint8Array(count);
  let at = 0;
  part.runs.forEach((run, row) => source.fill(row, at, at += run));
  return {
    kind, count, source, times: numTimes, spacing: part.spacing,
    positions: unpackPositions(of('positions'), numTimes, count),
    colors: unpackBytes(of('colors'), 3),
    level: unpackBytes(of('confidence'), 1),
  };
}
