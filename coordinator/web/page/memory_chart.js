// Memory of one device over the last hour: what the farm holds and what others hold, stacked, the plan's peak as a
// line, up to what the device has in all.
import {get} from './connection.js';
import {bytes, clockTime} from './format.js';
import {changed} from './store.js';
import {setAttribute, setText} from './view.js';

const WIDTH = 600;
const HEIGHT = 120;
const MIB = 1024 * 1024;
const SVG = 'http://www.w3.org/2000/svg';

function svg(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Samples of all devices of a node, kept fresh: what the coordinator remembers, then what comes.
export class NodeMemory {
  constructor(nodeId) {
    this.nodeId = nodeId;
    this.devices = new Map();  // index -> [[unix seconds, farm, others, free, planned], ...] in MiB
    this.sampleMs = 10_000;
    get(`/api/nodes/${encodeURIComponent(nodeId)}/memory`).then(({sample_ms: sampleMs, devices}) => {
      this.sampleMs = sampleMs;
      for (const {index, samples} of devices) {
        const since = this.devices.get(index) ?? [];
        const last = samples.at(-1)?.[0] ?? 0;
        this.devices.set(index, [...samples, ...since.filter(([second]) => second > last)]);
      }
      changed('nodes');
    }, () => {});  // the curve then begins now
  }
  add(node) {
    const now = Math.floor(Date.now() / 1000);
    for (const device of node.devices ?? []) {
      const index = device.report?.index ?? 0;
      const samples = this.devices.get(index) ?? [];
      const memory = device.memory ?? {};
      const sample = [now, ...[memory.farm_bytes, memory.others_bytes, memory.free_bytes, device.planned_bytes]
        .map((value) => Math.round(Number(value ?? 0) / MIB))];
      // The newest one moves along until it is old enough to stay.
      if (samples.length > 1 && now - samples.at(-2)[0] < this.sampleMs / 1000) samples[samples.length - 1] = sample;
      else samples.push(sample);
      while (samples.length && now - samples[0][0] > 3600) samples.shift();
      this.devices.set(index, samples);
    }
  }
}

export function memoryChart() {
  const others = svg('path', {class: 'chart-others'});
  const farm = svg('path', {class: 'chart-farm'});
  const planned = svg('path', {class: 'chart-planned'});
  const picture = svg('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', class: 'chart'});
  picture.append(others, farm, planned);
  const from = document.createElement('span');
  const to = document.createElement('span');
  const axis = document.createElement('div');
  axis.className = 'chart-axis';
  axis.setAttribute('aria-hidden', 'true');
  axis.append(from, to);
  const element = document.createElement('figure');
  element.append(picture, axis);
  return {
    element,
    update(samples, totalBytes) {
      element.hidden = samples.length < 2;
      if (element.hidden) return;
      const total = Number(totalBytes) / MIB || Math.max(...samples.map(([, ...parts]) => parts[0] + parts[1] + parts[2]));
      const first = samples[0][0];
      const span = Math.max(1, samples.at(-1)[0] - first);
      const x = (second) => ((second - first) / span) * WIDTH;
      const y = (mib) => HEIGHT - Math.min(1, mib / total) * HEIGHT;
      const points = (value) => samples.map((sample) => `${x(sample[0]).toFixed(1)},${y(value(sample)).toFixed(1)}`);
      const area = (top, bottom) => `M${points(top).join('L')}L${points(bottom).reverse().join('L')}Z`;
      farm.setAttribute('d', area(([, mine]) => mine, () => 0));
      others.setAttribute('d', area(([, mine, theirs]) => mine + theirs, ([, mine]) => mine));
      // A line where something is planned, a gap where nothing is.
      const line = points((sample) => sample[4]).map((point, i) => (samples[i][4] ? `${samples[i - 1]?.[4] ? 'L' : 'M'}${point}` : ''));
      planned.setAttribute('d', line.join(''));
      const last = samples.at(-1);
      setText(from, clockTime(first * 1000));
      setText(to, 'now');
      setAttribute(picture, 'aria-label',
        `Memory since ${clockTime(first * 1000)}: now ${bytes(last[1] * MIB)} farm, ${bytes(last[2] * MIB)} others, ` +
        `${bytes(last[3] * MIB)} free of ${bytes(total * MIB)}`);
    },
  };
}
