// All that the page knows of the farm: ClientService's messages as they came, by id. Views read it and are told when
// it changes; nothing else writes to it than connection.js.

export const store = {
  me: null,            // {role, version, expires_unix_ms}
  trouble: '',         // why the farm does not answer
  connected: false,    // the event stream is open
  nodes: new Map(),    // NodeStatus by node_id, in the farm's order
  jobs: new Map(),     // JobStatus by job_id, newest first
  moreJobs: false,     // there are older ones
  loaded: {nodes: false, jobs: false},
  job: null,           // JobStatus of the job that is looked at, without tasks
  tasks: new Map(),    // its TaskStatus by "frame/12"
  jobTrouble: '',      // why it can't be followed
};

const listeners = new Set();

// `listener` gets the names of what changed: 'me', 'farm', 'nodes', 'jobs', 'job'. Returns how to stop.
export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

let waiting = null;

// Views draw once a frame, however many events came.
export function changed(what) {
  if (waiting) return waiting.add(what);
  waiting = new Set([what]);
  requestAnimationFrame(() => {
    const all = waiting;
    waiting = null;
    for (const listener of [...listeners]) listener(all);
  });
}

const kinds = {TASK_IDENTITY: 'identity', TASK_FRAME: 'frame', TASK_PAGE: 'page'};

export function taskKey(task) {
  return `${kinds[task.kind]}/${task.number ?? 0}`;
}

// The new order of a list, with what changed of it.
export function takeList(known, {order, changed: entries}, keyOf) {
  const fresh = new Map(entries.map((entry) => [keyOf(entry), entry]));
  return new Map(order.map((key) => [key, fresh.get(key) ?? known.get(key)]).filter(([, entry]) => entry));
}

export function takeJob(status) {
  if (store.job?.job_id !== status.job_id) store.tasks = new Map();
  for (const task of status.tasks ?? []) store.tasks.set(taskKey(task.task), task);
  delete status.tasks;
  store.job = status;
  store.jobTrouble = '';
}

export function forgetJob() {
  store.job = null;
  store.tasks = new Map();
  store.jobTrouble = '';
}

export function may(role) {
  const ranks = ['viewer', 'submitter', 'admin'];
  return ranks.indexOf(store.me?.role) >= ranks.indexOf(role);
}
