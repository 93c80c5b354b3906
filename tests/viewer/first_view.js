// Where the page's script stands at first: node first_view.js WIDTH HEIGHT < page.html
// Prints, for each source, the share of its points that lie left, right, above and below of the view.
const text = require('fs').readFileSync(0, 'utf8');
const [width, height] = process.argv.slice(2).map(Number);
const element = (id) => {
  const begin = text.indexOf('>', text.indexOf(`<script`, text.search(new RegExp(`<script [^>]*id="${id}"`)))) + 1;
  return text.slice(begin, text.indexOf('</script>', begin));
};
const script = text.slice(text.lastIndexOf('<script>') + 8, text.lastIndexOf('</script>')).replace(/start\(\);\s*$/, '');
const names = '{ inflate, Scene, Viewer, projectPoint }';
const { inflate, Scene, Viewer, projectPoint } = new Function(`${script}; return ${names};`)();

async function main() {
  const meta = JSON.parse(element('meta'));
  const scene = new Scene(meta, await inflate(element('data')));
  const view = new Viewer({ clientWidth: width, clientHeight: height }, scene, 0.09 * meta.reach).view();
  const shares = meta.sources.map(() => [0, 0, 0, 0, 0]);
  scene.eachShown({ kinds: ['still', 'moving'], level: 0, only: -1 }, (set, p) => {
    const [x, y] = projectPoint(view, ...scene.position(set, p, { before: 0, mix: 0 }));
    [x < 0, x > width, y < 0, y > height, true].forEach((holds, n) => { shares[set.source[p]][n] += holds; });
  });
  console.log(JSON.stringify(shares.map(([left, right, above, below, all]) => [left, right, above, below].map((n) => n / all))));
}

main();
