// Numbers and states as a person reads them.

const stateWords = {
  JOB_QUEUED: 'waits', JOB_RUNNING: 'drawing', JOB_DONE: 'done', JOB_FAILED: 'done, with gaps',
  JOB_CANCELLED: 'cancelled',
  TASK_BLOCKED: 'waits', TASK_READY: 'ready', TASK_GRANTED: 'drawing', TASK_DONE: 'done', TASK_FAILED: 'failed',
  TASK_CANCELLED: 'cancelled',
};

export const stateWord = (state) => stateWords[state] ?? '';

export const isOver = (job) => ['JOB_DONE', 'JOB_FAILED', 'JOB_CANCELLED'].includes(job.state);

export function jobWord(job) {
  if (job.paused && !isOver(job)) return 'paused';
  return stateWord(job.state);
}

// A name for CSS: how it looks.
export function jobMood(job) {
  if (job.paused && !isOver(job)) return 'paused';
  return {JOB_QUEUED: 'waiting', JOB_RUNNING: 'running', JOB_DONE: 'done', JOB_FAILED: 'failed',
          JOB_CANCELLED: 'cancelled'}[job.state] ?? 'waiting';
}

export function taskMood(task) {
  return {TASK_GRANTED: 'running', TASK_DONE: 'done', TASK_FAILED: 'failed', TASK_CANCELLED: 'cancelled'}[task?.state] ??
    'waiting';
}

export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 90) return `${Math.round(value)} s`;
  if (value < 90 * 60) return `${Math.round(value / 60)} min`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

// Decimal, as disks and storyctl count.
export function bytes(value) {
  const number = Number(value ?? 0);
  for (const [unit, size] of [['TB', 1e12], ['GB', 1e9], ['MB', 1e6], ['kB', 1e3]]) {
    if (number >= size) return `${(number / size).toFixed(number < 10 * size ? 1 : 0)} ${unit}`;
  }
  return `${number} B`;
}

// A MemoryPlan in one line, without what every plan has.
export function planInShort(plan) {
  const format = (plan.dtype ?? '').replace('DTYPE_', '').toLowerCase();
  const kind = plan.int8_weights ? ' int8' : '';
  return [
    format,
    plan.weights === 'STREAMED' ? `${bytes(plan.resident_weight_bytes)} of the UNet’s${kind} weights stay` : `all${kind} weights stay`,
    plan.lock_step ? 'in lock step' : plan.batch > 1 ? `${plan.batch} in a call` : '',
    plan.guidance_batched ? '' : 'guidance in turn',
    plan.attention_chunk ? `attention in ${plan.attention_chunk}s` : '',
    plan.vae_tile ? `VAE in tiles of ${plan.vae_tile}` : '',
    plan.text_encoders_in_phases ? 'text encoders come and go' : '',
    plan.bank === 'BANK_DEVICE' ? 'identity in memory' : '',
  ].filter(Boolean).join(', ');
}

const clock = new Intl.DateTimeFormat(undefined, {hour: '2-digit', minute: '2-digit'});
const day = new Intl.DateTimeFormat(undefined, {day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit'});

export function when(unixMs) {
  const date = new Date(Number(unixMs));
  const today = new Date();
  return date.toDateString() === today.toDateString() ? `today ${clock.format(date)}` : day.format(date);
}

export const clockTime = (unixMs) => clock.format(new Date(Number(unixMs)));

export const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

// Bytes in protobuf's JSON are base64; files are asked for by hex.
export function hexOf(base64) {
  return Array.from(atob(base64), (char) => char.charCodeAt(0).toString(16).padStart(2, '0')).join('');
}

export const blobUrl = (blob, save) =>
  `/api/blobs/${hexOf(blob.digest)}${save ? `?save=${encodeURIComponent(save)}` : ''}`;
