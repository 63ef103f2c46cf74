// The stories: what is in the queue, in the order in which the farm serves it, and what is done.
import {get} from './connection.js';
import {blobUrl, count, isOver, jobMood, jobWord, seconds, when} from './format.js';
import {store} from './store.js';
import {h, Keyed, progressBar, setAttribute, setText, show} from './view.js';

const THUMBNAILS = 5;
// A card's pictures are asked for again at most this often while its story is drawn.
const THUMBNAILS_MS = 5000;
// Of a larger story one asks for no pictures here: its status alone is megabytes.
const THUMBNAILS_PANELS = 2000;

// The newest pictures of a job, for its card; asked for once the card is in sight.
function thumbnailStrip(jobId) {
  const element = h('div', {class: 'strip', 'aria-hidden': 'true'});
  const pictures = new Keyed(element, (url) => {
    const image = h('img', {src: url, alt: '', loading: 'lazy', decoding: 'async'});
    return {element: image, update() {}};
  });
  let shownFor = -1;
  let askedMs = 0;
  let timer = null;
  let inSight = false;
  let newest = null;
  function refresh() {
    const done = newest?.frames_done ?? 0;
    if (!inSight || done === shownFor || done === 0 || (newest.frames_total ?? 0) > THUMBNAILS_PANELS) return;
    shownFor = done;
    clearTimeout(timer);
    const wait = Math.max(0, askedMs + THUMBNAILS_MS - Date.now());
    timer = setTimeout(() => ask().catch(() => { shownFor = -1; }), wait);
  }
  async function ask() {
    askedMs = Date.now();
    const status = await get(`/api/jobs/${encodeURIComponent(jobId)}`);
    const frames = (status.tasks ?? []).filter((task) => task.frame?.image);
    frames.sort((a, b) => Number(b.frame.finished_unix_ms ?? 0) - Number(a.frame.finished_unix_ms ?? 0));
    pictures.update(frames.slice(0, THUMBNAILS).map((task) => blobUrl(task.frame.image)));
  }
  return {
    element,
    watch(card) {
      new IntersectionObserver((entries) => {
        inSight = entries.at(-1).isIntersecting;
        refresh();
      }, {rootMargin: '200px'}).observe(card);
    },
    update(job) {
      newest = job;
      refresh();
    },
  };
}

function jobCard(jobId) {
  const title = h('a', {class: 'card-title', href: `#/jobs/${encodeURIComponent(jobId)}`});
  const state = h('span', {class: 'state'});
  const note = h('p', {class: 'note'});
  const why = h('p', {class: 'why'});
  const bar = progressBar('panels drawn');
  const strip = thumbnailStrip(jobId);
  const element = h('li', {class: 'card'}, h('div', {class: 'card-head'}, title, state), strip.element, bar.element, note, why);
  strip.watch(element);
  return {
    element,
    update(key, position) {
      const job = store.jobs.get(jobId);
      setText(title, job.title || jobId);
      setText(state, jobWord(job));
      setAttribute(state, 'data-mood', jobMood(job));
      bar.update(job.frames_done ?? 0, job.frames_failed ?? 0, job.frames_total ?? 0);
      strip.update(job);
      const words = [`${job.frames_done ?? 0} of ${count(job.frames_total ?? 0, 'panel', 'panels')}`];
      if (job.frames_failed) words.push(`${job.frames_failed} failed`);
      const place = position.get(jobId);
      if (isOver(job)) {
        words.push(when(job.finished_unix_ms));
      } else {
        if (place > 1) words.push(`number ${place} in the queue`);
        if ((job.seconds_left ?? 0) > 0) words.push(`about ${seconds(job.seconds_left)} left`);
        if (job.priority !== 50) words.push(`priority ${job.priority}`);
      }
      words.push(job.model ?? '');
      setText(note, words.filter(Boolean).join(' · '));
      const waiting = isOver(job) ? '' : job.waiting?.[0]?.reason ?? '';
      setText(why, waiting);
      show(why, waiting !== '');
    },
  };
}

// Live jobs as the farm serves them: higher priority first, then who came first.
function inQueueOrder(jobs) {
  return jobs.sort((a, b) => (b.priority ?? 0) - (a.priority ?? 0) ||
                             Number(a.submitted_unix_ms) - Number(b.submitted_unix_ms));
}

export function jobsView() {
  const queueList = h('ul', {class: 'cards'});
  const doneList = h('ul', {class: 'cards done'});
  const summary = h('p', {class: 'summary'});
  const queueSection = h('section', {'aria-labelledby': 'queue-title'}, h('h2', {id: 'queue-title'}, 'In the queue'), queueList);
  const doneSection = h('section', {'aria-labelledby': 'done-title'}, h('h2', {id: 'done-title'}, 'On the shelf'), doneList);
  const older = h('p', {class: 'note', hidden: true}, 'Older stories: ', h('code', {}, 'storyctl jobs --limit 1000'));
  const empty = h('div', {class: 'empty', hidden: true},
    h('p', {class: 'empty-title'}, 'No stories yet.'),
    h('p', {}, 'Send one from a terminal; it appears here as it is drawn:'),
    h('pre', {}, h('code', {}, 'storyctl submit story.yaml --model demo')));
  const element = h('div', {class: 'view'}, h('h1', {}, 'Stories'), summary, queueSection, doneSection, older, empty);
  const queue = new Keyed(queueList, jobCard);
  const done = new Keyed(doneList, jobCard);
  return {
    element,
    title: () => 'Stories',
    update() {
      const all = [...store.jobs.values()];
      const live = inQueueOrder(all.filter((job) => !isOver(job)));
      const ended = all.filter(isOver);
      const position = new Map(live.map((job, index) => [job.job_id, index + 1]));
      queue.update(live.map((job) => job.job_id), position);
      done.update(ended.map((job) => job.job_id), position);
      show(queueSection, live.length > 0);
      show(doneSection, ended.length > 0);
      show(older, store.moreJobs);
      show(empty, store.loaded.jobs && all.length === 0);
      const left = live.reduce((sum, job) => sum + (job.frames_total ?? 0) - (job.frames_done ?? 0) - (job.frames_failed ?? 0), 0);
      const machines = [...store.nodes.values()].filter((node) => node.connected).length;
      if (!store.loaded.jobs) setText(summary, 'Asking the farm …');
      else if (live.length === 0) setText(summary, `Nothing to draw. ${count(machines, 'machine is', 'machines are')} here.`);
      else setText(summary, `${count(left, 'panel', 'panels')} to draw on ${count(machines, 'machine', 'machines')}.`);
    },
  };
}
