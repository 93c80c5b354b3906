const POINT_VERTEX = `#version 300 es
precision highp float;
in vec3 aBefore, aAfter;
in vec3 aColor;
in float aLevel, aSource;
uniform mat4 uClip;
uniform vec3 uLow, uNear;
uniform float uStep, uMix, uLevel, uOnly, uSize, uLargest, uSpeed, uMoving, uCount;
uniform int uMode;
uniform vec4 uCameras[64];
uniform vec3 uInferno[7], uViridis[7];
out vec3 vColor;
vec3 inferno(float t) { vec3 c = uInferno[6]; for (int k = 5; k >= 0; k--) c = c * t + uInferno[k]; return c; }
vec3 viridis(float t) { vec3 c = uViridis[6]; for (int k = 5; k >= 0; k--) c = c * t + uViridis[k]; return c; }
void main() {
  if (aLevel < uLevel || (uOnly >= 0.0 && abs(aSource - uOnly) > 0.5)) { gl_Position = vec4(2, 2, 2, 1); gl_PointSize = 0.0; return; }
  vec3 world = uLow + mix(aBefore, aAfter, uMix) * uStep;
  gl_Position = uClip * vec4(world, 1);
  vec4 camera = uCameras[int(aSource + 0.5)];
  float side = distance(world, camera.xyz) * camera.w;
  gl_PointSize = clamp(uSize * side / max(gl_Position.w, 1e-6), uNear.z, uLargest);
  vColor = aColor;
  if (uMode == 1) vColor = inferno(clamp(1.0 - log(gl_Position.w / uNear.x) / log(uNear.y / uNear.x), 0.03, 1.0));
  if (uMode == 2) {
    float speed = uMoving * distance(aBefore, aAfter) * uStep * uSpeed;
    float grey = dot(aColor, vec3(0.299, 0.587, 0.114));
    vColor = mix(vec3(grey * 0.4 + 0.03), inferno(clamp(speed, 0.0, 1.0) * 0.75 + 0.22), uMoving);
  }
  if (uMode == 3) vColor = viridis(aLevel / 255.0);
  if (uMode == 4) vColor = mix(viridis(aSource / max(uCount - 1.0, 1.0)), aColor, 0.25);
}`;

const POINT_FRAGMENT = `#version 300 es
precision mediump float;
in vec3 vColor;
out vec4 color;
void main() {
  vec2 from = gl_PointCoord - 0.5;
  if (dot(from, from) > 0.28) discard;
  color = vec4(vColor, 1);
}`;

// A line is a strip of two triangles across the screen: WebGL draws lines one pixel wide only.
const LINE_VERTEX = `#version 300 es
precision highp float;
in vec3 aFrom, aTo, aColorFrom, aColorTo;
in vec2 aTimes;
uniform mat4 uClip;
uniform vec2 uViewport;
uniform float uWidth;
out vec3 vColor;
out float vTime, vAcross;
void main() {
  vec4 a = uClip * vec4(aFrom, 1), b = uClip * vec4(aTo, 1);
  const float near = 1e-3;
  if (a.w < near && b.w < near) { gl_Position = vec4(2, 2, 2, 1); return; }
  vec4 p = a, q = b;
  if (p.w < near) p = mix(a, b, (near - a.w) / (b.w - a.w));
  if (q.w < near) q = mix(b, a, (near - b.w) / (a.w - b.w));
  vec2 along = (q.xy / q.w - p.xy / p.w) * uViewport;
  float len = length(along);
  vec2 across = len > 1e-4 ? vec2(-along.y, along.x) / len : vec2(0, 1);
  float end = float(gl_VertexID & 1), side = float(gl_VertexID >> 1) * 2.0 - 1.0;
  vec4 at = end > 0.5 ? q : p;
  gl_Position = vec4(at.xy + across * side * (uWidth + 1.0) / uViewport * at.w, at.z - 2e-4 * at.w, at.w);
  vAcross = side * (uWidth + 1.0) / 2.0;
  vColor = mix(aColorFrom, aColorTo, end);
  vTime = mix(aTimes.x, aTimes.y, end);
}`;

const LINE_FRAGMENT = `#version 300 es
precision highp float;
in vec3 vColor;
in float vTime, vAcross;
uniform float uNow, uLength, uOpacity, uWidth;
out vec4 color;
void main() {
  if (vTime > uNow || vTime < uNow - uLength) discard;
  // Soft edges half a pixel wide: smoothing the whole canvas would take twice as long without a graphics card.
  float inside = clamp(uWidth / 2.0 + 0.5 - abs(vAcross), 0.0, 1.0);
  color = vec4(vColor, inside * uOpacity * (1.0 - 0.8 * (uNow - vTime) / uLength));
}`;

const PICTURE_VERTEX = `#version 300 es
precision highp float;
uniform mat4 uClip;
uniform vec3 uCorners[4];
out vec2 vAt;
void main() {
  vAt = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  gl_Position = uClip * vec4(uCorners[gl_VertexID], 1);
}`;

const PICTURE_FRAGMENT = `#version 300 es
precision mediump float;
in vec2 vAt;
uniform sampler2D uPicture;
out vec4 color;
void main() { color = vec4(texture(uPicture, vAt).rgb, 1); }`;

function compile(gl, vertex, fragment, attributes) {
  const program = gl.createProgram();
  for (const [type, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  attributes.forEach((name, index) => gl.bindAttribLocation(program, index, name));
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || 'no shader');
  const at = {};
  const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS);
  for (let k = 0; k < count; k++) {
    const name = gl.getActiveUniform(program, k).name.replace('[0]', '');
    at[name] = gl.getUniformLocation(program, name);
  }
  return { program, at };
}
