// One panel or page beside its story: the picture, what it was drawn from, how its device draws it, and why it is
// where it is.
import {get, post} from './connection.js';
import {blobUrl, bytes, clockTime, seconds, stateWord, taskMood} from './format.js';
import {may, store} from './store.js';
import {actionButton, announce, h, setAttribute, setText, show} from './view.js';

// A panel that is under way is asked about again so often.
const EXPLAIN_MS = 4000;

function facts(pairs) {
  return pairs.filter(([, value]) => value !== undefined && value !== null && value !== '')
    .flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))]);
}

const dtypeWords = {FP32: '32-bit floats', FP16: '16-bit floats', BF16: 'bfloat16'};

// A MemoryPlan in words.
function planFacts(explanation) {
  const plan = explanation.plan;
  const where = `${explanation.plan_node ?? ''}, device ${explanation.plan_device ?? 0}`;
  const bank = {BANK_DEVICE: 'whole in memory', BANK_STREAMED: `from files, ${plan.ring_layers ?? 0} layers ahead`}[plan.bank];
  return facts([
    ['For', where],
    ['Number format', dtypeWords[(plan.dtype ?? '').replace('DTYPE_', '')] ?? plan.dtype],
    ['Weights', `${plan.weights === 'STREAMED' ? 'read block by block' : 'stay in memory'}${plan.int8_weights ? ', as int8' : ''}`],
    ['Text encoders', plan.text_encoders_in_phases ? 'loaded for the prompts, then released' : 'stay in memory'],
    ['Pictures in a call', plan.batch],
    ['Guidance', plan.guidance_batched ? 'both halves at once' : 'one half after the other'],
    ['Attention', plan.attention_chunk ? `${plan.attention_chunk} queries at a time` : 'whole'],
    ['VAE', plan.vae_tile ? `in tiles of ${plan.vae_tile}` : 'whole'],
    ['Identity', bank],
    ['Peak of memory', plan.predicted_peak_bytes ? `${bytes(plan.predicted_peak_bytes)} predicted` : ''],
    ['Time', plan.predicted_seconds ? `${seconds(plan.predicted_seconds)} predicted, the whole group` : ''],
  ]);
}

function candidateTable(candidates) {
  if (!candidates.length) return null;
  const row = (candidate) => h('tr', {},
    h('th', {scope: 'row'}, `${candidate.node} ${candidate.device ?? 0}`),
    h('td', {}, candidate.task_s ? seconds(candidate.finish_s ?? 0) : '–'),
    h('td', {}, candidate.refusal ?? ''));
  return h('table', {},
    h('caption', {}, 'Machines that could draw it'),
    h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, 'Machine'), h('th', {scope: 'col'}, 'Done in'), h('th', {scope: 'col'}, 'Why not'))),
    h('tbody', {}, candidates.slice(0, 12).map(row)));
}

function settingsFacts(story, panel) {
  const settings = story.settings;
  const freeu = settings.freeu === 'off' ? 'off' : 'on';
  return facts([
    ['Seed', panel.seed], ['Size', `${panel.width} × ${panel.height}`], ['Steps', settings.steps],
    ['Guidance', settings.guidance_scale], ['Scheduler', settings.scheduler], ['Consistency', settings.consistency],
    ['Identity pictures', settings.id_length], ['FreeU', freeu], ['Negative prompt', settings.negative_prompt],
    ['Model', story.model.name],
  ]);
}

function resultFacts(task) {
  const frame = task?.frame;
  return facts([
    ['Drawn by', task?.node ? `${task.node}, device ${task.device ?? 0}` : ''],
    ['Finished', frame?.finished_unix_ms ? clockTime(frame.finished_unix_ms) : ''],
    ['Drawing took', frame?.render_ms ? seconds(Number(frame.render_ms) / 1000) : ''],
    ['Composing took', task?.page?.compose_ms ? seconds(Number(task.page.compose_ms) / 1000) : ''],
    ['Peak of memory', frame?.peak_bytes ? bytes(frame.peak_bytes) : ''],
    ['Attempts', task?.attempts > 1 ? task.attempts : ''],
  ]);
}

// A line of the coordinator's log about this task: when, what, where, why.
function logLine(line) {
  const fields = Object.fromEntries((line.fields ?? []).map(({name, value}) => [name, value]));
  const words = [line.event, fields.node ? `on ${fields.node}` : '', fields.why ? `: ${fields.why}` : ''].filter(Boolean).join(' ').replace(' :', ':');
  return h('li', {'data-level': line.level}, h('time', {}, clockTime(line.unix_ms)), ' ', words);
}

export function sheetFor(jobId) {
  const place = document.getElementById('sheet-place');
  const job = `#/jobs/${encodeURIComponent(jobId)}`;
  const title = h('h2', {tabindex: '-1', id: 'sheet-title'});
  const state = h('span', {class: 'state'});
  const image = h('img', {alt: '', hidden: true});
  const waiting = h('p', {class: 'sheet-waiting'});
  const caption = h('p', {class: 'sheet-caption'});
  const prompt = h('p', {class: 'prompt'});
  const problem = h('p', {class: 'problem'});
  const warnings = h('ul', {class: 'reasons'});
  const retry = actionButton('Draw it again', async () => {
    await post(`/api/jobs/${encodeURIComponent(jobId)}/${shown.kind}/${shown.number}/retry`);
    announce('It is drawn again.');
  }, {class: 'main'});
  const log = h('ol', {class: 'log'});
  const result = h('dl');
  const why = h('div', {class: 'sentences'});
  const candidates = h('div', {class: 'table-place'});
  const plan = h('dl');
  const settings = h('dl');
  const part = (name, ...content) => h('section', {}, h('h3', {}, name), ...content);
  const promptPart = part('Prompt', prompt);
  const planPart = part('Plan', plan);
  const settingsPart = part('Settings', settings);
  const whyPart = part('History', result, why, candidates, log);
  const previous = h('a', {class: 'button', 'aria-label': 'Previous'}, '←');
  const next = h('a', {class: 'button', 'aria-label': 'Next'}, '→');
  const close = h('a', {class: 'button', href: job, 'aria-label': 'Close'}, '✕');
  const sheet = h('aside', {class: 'sheet', role: 'dialog', 'aria-labelledby': 'sheet-title'},
    h('div', {class: 'sheet-head'}, title, state, h('span', {class: 'grow'}), previous, next, close),
    h('div', {class: 'sheet-picture'}, image, waiting), caption, problem, retry, warnings, promptPart, whyPart, planPart, settingsPart);

  let shown = null;  // {kind, number}
  let explained = '';
  let timer = null;

  async function explain() {
    clearTimeout(timer);
    if (!shown) return;
    const {kind, number} = shown;
    const key = `${kind}/${number}`;
    try {
      const told = await get(`/api/jobs/${encodeURIComponent(jobId)}/${kind}/${number}/explain`);
      if (!shown || `${shown.kind}/${shown.number}` !== key) return;
      why.replaceChildren(...(told.sentences ?? []).map((sentence) => h('p', {}, sentence)));
      candidates.replaceChildren(...[candidateTable(told.candidates ?? [])].filter(Boolean));
      plan.replaceChildren(...(told.plan ? planFacts(told) : []));
      show(planPart, Boolean(told.plan));
      const history = await get(`/api/jobs/${encodeURIComponent(jobId)}/${kind}/${number}/log`);
      if (!shown || `${shown.kind}/${shown.number}` !== key) return;
      log.replaceChildren(...(history.lines ?? []).map(logLine));
    } catch (error) {
      if (!shown || `${shown.kind}/${shown.number}` !== key) return;
      why.replaceChildren(h('p', {}, error.message));
      candidates.replaceChildren();
      show(planPart, false);
    }
    const task = store.tasks.get(key);
    if (['TASK_BLOCKED', 'TASK_READY', 'TASK_GRANTED'].includes(task?.state)) timer = setTimeout(explain, EXPLAIN_MS);
  }

  function linkTo(link, kind, number, there) {
    show(link, there);
    setAttribute(link, 'href', `${job}/${kind === 'page' ? 'page' : 'panel'}/${number}`);
  }

  function keys(event) {
    if (!shown || event.target.matches('input, textarea, select')) return;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === 'Escape') location.hash = job;
    else if (event.key === 'ArrowLeft' && !previous.hidden) location.hash = previous.hash;
    else if (event.key === 'ArrowRight' && !next.hidden) location.hash = next.hash;
    else return;
    event.preventDefault();
  }
  document.addEventListener('keydown', keys);

  function hide() {
    clearTimeout(timer);
    if (!shown) return;
    const from = document.querySelector(`a.tile[href="${job}/${shown.kind === 'page' ? 'page' : 'panel'}/${shown.number}"]`);
    shown = null;
    explained = '';
    sheet.remove();
    document.body.classList.remove('with-sheet');
    from?.focus({preventScroll: true});
  }

  function draw(story, status) {
    const {kind, number} = shown;
    const task = store.tasks.get(`${kind}/${number}`);
    const panel = kind === 'frame' ? story?.panels?.[number] : null;
    const total = kind === 'frame' ? status.frames_total ?? 0 : Math.max(0, (status.pages_total ?? 1) - 1);
    setText(title, `${kind === 'frame' ? 'Panel' : 'Page'} ${number + 1}`);
    setText(state, stateWord(task?.state));
    setAttribute(state, 'data-mood', taskMood(task));
    linkTo(previous, kind, number - 1, number > 0);
    linkTo(next, kind, number + 1, number + 1 < total);
    const blob = kind === 'frame' ? task?.frame?.image : task?.page?.png;
    if (blob) setAttribute(image, 'src', blobUrl(blob));
    setAttribute(image, 'alt', panel?.caption || panel?.prompt || `${kind === 'frame' ? 'Panel' : 'Page'} ${number + 1}`);
    show(image, Boolean(blob));
    setText(waiting, task?.steps ? `step ${task.step ?? 0} of ${task.steps}` : stateWord(task?.state) || 'not drawn yet');
    show(waiting, !blob);
    setText(caption, panel?.caption ?? '');
    setText(prompt, panel?.prompt ?? '');
    show(promptPart, Boolean(panel?.prompt));
    setText(problem, task?.state === 'TASK_FAILED' || task?.attempts > 1 ? task?.message ?? '' : '');
    show(problem, problem.textContent !== '');
    show(retry, may('submitter') && task?.state === 'TASK_FAILED');
    warnings.replaceChildren(...(task?.frame?.warnings ?? []).map((warning) => h('li', {}, warning)));
    show(warnings, warnings.childElementCount > 0);
    result.replaceChildren(...resultFacts(task));
    settings.replaceChildren(...(panel ? settingsFacts(story, panel) : []));
    show(settingsPart, settings.childElementCount > 0);
    const now = `${kind}/${number}/${task?.state}/${task?.node ?? ''}/${task?.attempts ?? 0}`;
    if (now !== explained) {
      explained = now;
      explain();
    }
  }

  return {
    update(story, status, where) {
      if (where) {
        if (!where.kind) return hide();
        const kind = where.kind === 'page' ? 'page' : 'frame';
        const moved = shown?.kind !== kind || shown?.number !== where.number;
        shown = {kind, number: where.number};
        if (!sheet.isConnected) {
          place.append(sheet);
          document.body.classList.add('with-sheet');
        }
        if (moved) {
          plan.replaceChildren();
          show(planPart, false);
          why.replaceChildren();
          candidates.replaceChildren();
          log.replaceChildren();
          image.removeAttribute('src');
          sheet.scrollTop = 0;
          title.focus({preventScroll: true});
        }
      }
      if (shown) draw(story, status);
    },
    close() {
      document.removeEventListener('keydown', keys);
      hide();
    },
  };
}
