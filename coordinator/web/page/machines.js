// The machines: what each draws, whose its memory is, now and over the last hour.
import {post} from './connection.js';
import {bytes, count, planInShort, seconds} from './format.js';
import {memoryChart, NodeMemory} from './memory_chart.js';
import {changed, may, store} from './store.js';
import {actionButton, announce, carefulButton, h, Keyed, setAttribute, setText, show} from './view.js';

const backendWords = {CPU: 'Processor', CUDA: 'CUDA', MPS: 'Metal'};
// Curves go on also where nothing changes.
const CURVE_MS = 10_000;

function memoryBar() {
  const parts = ['farm', 'others', 'free'].map((use) => h('span', {class: `memory-${use}`}));
  const planned = h('span', {class: 'memory-planned', hidden: true});
  const bar = h('div', {class: 'memory-bar', role: 'img'}, ...parts, planned);
  const words = h('p', {class: 'note legend'});
  return {
    element: h('div', {}, bar, words),
    update(device) {
      const memory = device.memory ?? {};
      const values = [memory.farm_bytes, memory.others_bytes, memory.free_bytes].map((value) => Number(value ?? 0));
      const total = Number(device.report?.total_bytes ?? 0) || values[0] + values[1] + values[2] || 1;
      values.forEach((value, index) => { parts[index].style.inlineSize = `${Math.min(100, (100 * value) / total)}%`; });
      const plan = Number(device.planned_bytes ?? 0);
      show(planned, plan > 0);
      planned.style.inlineSize = `${Math.min(100, (100 * plan) / total)}%`;
      const said = [`farm ${bytes(values[0])}`, `others ${bytes(values[1])}`, `free ${bytes(values[2])}`];
      if (plan) said.push(`planned ${bytes(plan)}`);
      words.replaceChildren(...said.map((text) => h('span', {'data-use': text.split(' ')[0]}, text)), h('span', {}, `of ${bytes(total)}`));
      setAttribute(bar, 'aria-label', `Memory: ${said.join(', ')}, of ${bytes(total)}`);
    },
  };
}

// Where the farm's page shows a task, and how it is called there.
function taskLink(name) {
  const [job, kind, number] = name.split('/');
  const title = store.jobs.get(job)?.title || job;
  const word = {frame: 'panel', page: 'page', identity: 'character'}[kind];
  const place = kind === 'identity' ? '' : `/${kind === 'frame' ? 'panel' : 'page'}/${number}`;
  return {href: `#/jobs/${encodeURIComponent(job)}${place}`, text: `${word} ${Number(number) + 1} of ${title}`};
}

function devicePart(index) {
  const name = h('h3');
  const task = h('a');
  const step = h('span');
  const idle = h('span');
  const doing = h('p', {class: 'doing'}, task, step, idle);
  const plan = h('p', {class: 'note plan', title: 'How it draws this with the memory that it has'});
  const bar = memoryBar();
  const chart = memoryChart();
  return {
    element: h('div', {class: 'device'}, name, doing, plan, bar.element, chart.element),
    update(key, node, memory) {
      const device = (node.devices ?? []).find((each) => (each.report?.index ?? 0) === index);
      const report = device.report ?? {};
      setText(name, [backendWords[report.backend], report.name].filter(Boolean).join(' · '));
      show(task, Boolean(device.task));
      show(step, Boolean(device.task));
      if (device.task) {
        const {href, text} = taskLink(device.task);
        setAttribute(task, 'href', href);
        setText(task, text);
        const more = device.queued ? `, then ${device.queued} more` : '';
        setText(step, device.steps ? ` step ${device.step ?? 0} of ${device.steps}${more}` : more);
      }
      const queued = device.queued ? `fetches what it needs for ${count(device.queued, 'task', 'tasks')}` : 'idle';
      setText(idle, device.task ? '' : queued);
      const done = device.frames_done ? ` · ${count(device.frames_done, 'panel', 'panels')} drawn` : '';
      const pace = device.frames_per_minute ? ` · ${device.frames_per_minute.toFixed(1)} a minute` : '';
      if (!device.task) setText(idle, `${queued}${done}`);
      else if (pace) setText(idle, pace);
      setText(plan, device.plan ? planInShort(device.plan) : '');
      show(plan, Boolean(device.plan));
      bar.update(device);
      chart.update(memory.devices.get(index) ?? [], report.total_bytes);
    },
  };
}

// As storyctl worker list says them.
function limitsInWords(limits = {}) {
  const words = [];
  if (limits.memory_bytes) words.push(`at most ${bytes(limits.memory_bytes)} of each device`);
  if (limits.devices) words.push(`${limits.devices.join(', ')} alone`);
  if (limits.hours) words.push(limits.hours);
  if (limits.mains_only) words.push('on mains power');
  if (limits.idle_minutes) words.push(`when nobody used it for ${limits.idle_minutes} min`);
  return words.join('; ');
}

function machine(nodeId) {
  const memory = new NodeMemory(nodeId);
  const path = `/api/nodes/${encodeURIComponent(nodeId)}`;
  const name = h('h2');
  const state = h('span', {class: 'state'});
  const note = h('p', {class: 'why'});
  const limits = h('p', {class: 'note'});
  const devices = h('div');
  const parts = new Keyed(devices, devicePart);
  const nameOf = () => store.nodes.get(nodeId)?.name ?? 'The machine';
  const drain = carefulButton('Take out', 'It finishes what it draws. Take it out?',
    () => post(`${path}/drain`).then(() => announce(`${nameOf()} gets nothing more.`)));
  const undrain = actionButton('Give back', () => post(`${path}/undrain`).then(() => announce(`${nameOf()} may work again.`)), {class: 'main'});
  const element = h('li', {class: 'card machine'}, h('div', {class: 'card-head'}, name, state, h('span', {class: 'grow'}), drain, undrain), note, limits, devices);
  return {
    element,
    update() {
      const node = store.nodes.get(nodeId);
      memory.add(node);
      setText(name, node.name);
      const busy = (node.devices ?? []).some((device) => device.task);
      let word = busy ? 'drawing' : 'ready';
      let mood = busy ? 'running' : 'done';
      if (node.resting) [word, mood] = ['rests', 'paused'];
      if (node.leaving) [word, mood] = ['leaving', 'paused'];
      if (node.drained) [word, mood] = ['taken out', 'paused'];
      if (!node.connected) [word, mood] = ['away', 'cancelled'];
      setText(state, word);
      setAttribute(state, 'data-mood', mood);
      setAttribute(element, 'data-away', !node.connected);
      const heard = Number(node.last_heard_ms ?? 0) / 1000;
      const away = node.note || `Last heard of ${seconds(heard)} ago.`;
      const why = node.connected ? node.note || node.resting || '' : away;
      setText(note, why);
      show(note, why !== '');
      setText(limits, `Limited: ${limitsInWords(node.limits)}`);
      show(limits, Boolean(node.limits));
      show(drain, may('admin') && !node.drained && Boolean(node.connected));
      show(undrain, may('admin') && Boolean(node.drained));
      parts.update((node.devices ?? []).map((device) => device.report?.index ?? 0), node, memory);
    },
  };
}

export function machinesView() {
  const list = h('ul', {class: 'cards machines'});
  const summary = h('p', {class: 'summary'});
  const empty = h('div', {class: 'empty', hidden: true},
    h('p', {class: 'empty-title'}, 'No machines yet.'),
    h('p', {}, 'Start one on each machine that should draw:'),
    h('pre', {}, h('code', {}, 'storyfarm-worker')));
  const element = h('div', {class: 'view'}, h('h1', {}, 'Machines'), summary, list, empty);
  const machines = new Keyed(list, machine);
  const timer = setInterval(() => changed('nodes'), CURVE_MS);
  return {
    element,
    title: () => 'Machines',
    close: () => clearInterval(timer),
    update(what) {
      if (!['nodes', 'me', 'jobs'].some((name) => what.has(name))) return;
      const nodes = [...store.nodes.values()];
      // Those that are here first; by name, so that none jumps about.
      nodes.sort((a, b) => Number(b.connected ?? false) - Number(a.connected ?? false) || (a.name ?? '').localeCompare(b.name ?? ''));
      machines.update(nodes.map((node) => node.node_id));
      show(empty, store.loaded.nodes && nodes.length === 0);
      const here = nodes.filter((node) => node.connected).length;
      const busy = nodes.filter((node) => (node.devices ?? []).some((device) => device.task)).length;
      setText(summary, store.loaded.nodes ? `${here} here, ${busy} drawing.` : 'Asking the farm …');
    },
  };
}
