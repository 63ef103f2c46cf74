// Speaks with the coordinator: one event stream for what changes, requests for the rest.
import {changed, forgetJob, store, takeJob, takeList} from './store.js';

// A page that nobody sees for so long lets its connection go: a browser has six for all its windows.
const HIDDEN_MS = 60_000;
const AGAIN_MS = 3_000;

let stream = null;
let followed = '';
let again = null;
let hidden = null;

export class FarmError extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

async function answerOf(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401) location.reload();  // which shows how to log in
  throw new FarmError(body.error ?? `The coordinator answered ${response.status}.`, response.status);
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new FarmError('The coordinator does not answer. The page tries again by itself.', 0);
  }
  return answerOf(response);
}

export const get = (path) => ask(path);
export const post = (path, body = {}) =>
  ask(path, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)});

function setConnected(connected) {
  if (store.connected === connected) return;
  store.connected = connected;
  changed('farm');
}

function listen(name, take) {
  stream.addEventListener(name, (event) => take(JSON.parse(event.data)));
}

function open() {
  clearTimeout(again);
  stream?.close();
  stream = new EventSource(followed ? `/api/events?job=${encodeURIComponent(followed)}` : '/api/events');
  stream.onopen = () => setConnected(true);
  stream.onerror = () => {
    setConnected(false);
    if (stream.readyState !== EventSource.CLOSED) return;  // it connects again by itself
    again = setTimeout(() => get('/api/me').then(open, open), AGAIN_MS);
  };
  listen('farm', ({trouble}) => {
    store.trouble = trouble;
    changed('farm');
  });
  listen('nodes', (list) => {
    store.nodes = takeList(store.nodes, list, (node) => node.node_id);
    store.loaded.nodes = true;
    changed('nodes');
  });
  listen('jobs', (list) => {
    store.jobs = takeList(store.jobs, list, (job) => job.job_id);
    store.moreJobs = list.more;
    store.loaded.jobs = true;
    changed('jobs');
  });
  listen('job', (status) => {
    if (status.job_id !== followed) return;
    takeJob(status);
    changed('job');
  });
  listen('gone', ({job_id: job, trouble}) => {
    if (job !== followed) return;
    store.jobTrouble = trouble;
    changed('job');
  });
}

// Follows one job beside the lists; '' for none.
export function follow(job) {
  if (stream && followed === job) return;
  if (followed !== job) forgetJob();
  followed = job;
  open();
}

document.addEventListener('visibilitychange', () => {
  clearTimeout(hidden);
  if (document.hidden) {
    hidden = setTimeout(() => {
      stream?.close();
      stream = null;
      setConnected(false);
    }, HIDDEN_MS);
  } else if (!stream) {
    open();
  }
});
