// One story: its chapters' panels as they are drawn, its pages as they are composed, and what a person may do with it.
import {get, post} from './connection.js';
import {blobUrl, count, isOver, jobMood, jobWord, seconds, stateWord, taskMood, when} from './format.js';
import {sheetFor} from './panel.js';
import {may, store} from './store.js';
import {actionButton, announce, carefulButton, h, Keyed, progressBar, setAttribute, setText, show, toast} from './view.js';

// What does not change of a story: chapters, captions, prompts, settings. Asked for once a visit.
async function readStory(jobId) {
  const outputs = await get(`/api/jobs/${encodeURIComponent(jobId)}/outputs`);
  return JSON.parse(outputs.metadata_json);
}

function picture(alt) {
  const image = h('img', {alt, loading: 'lazy', decoding: 'async', hidden: true});
  return {
    image,
    update(blob) {
      if (blob) setAttribute(image, 'src', blobUrl(blob));
      show(image, Boolean(blob));
    },
  };
}

// What a task that is not done says in its place.
function stateLine(task) {
  if (!task) return '';
  if (task.state === 'TASK_GRANTED') {
    if (task.steps) return `step ${task.step ?? 0} of ${task.steps}`;
    return task.node ? `next on ${task.node}` : 'drawing';
  }
  return stateWord(task.state);
}

// A panel or a page in the grid.
function tile(jobId, kind, number, label) {
  const {image, update: updateImage} = picture('');
  const line = h('span', {class: 'tile-state'});
  const steps = h('span', {class: 'tile-steps'});
  const caption = h('span', {class: 'tile-caption'});
  if (kind === 'page') {
    image.addEventListener('load', () => { image.parentElement.style.aspectRatio = `${image.naturalWidth} / ${image.naturalHeight}`; });
  }
  const link = h('a', {class: 'tile', href: `#/jobs/${encodeURIComponent(jobId)}/${kind}/${number}`},
    h('span', {class: 'tile-picture'}, image, line, steps), caption);
  let drawn = null;
  let shown = [];
  return {
    element: h('li', {}, link),
    update(key, story) {
      const task = store.tasks.get(`${kind === 'page' ? 'page' : 'frame'}/${number}`);
      if (drawn !== null && task === shown[0] && story === shown[1]) return;  // as most are, of thousands
      shown = [task, story];
      const blob = kind === 'page' ? task?.page?.png : task?.frame?.image;
      updateImage(blob);
      const mood = taskMood(task);
      setAttribute(link, 'data-mood', mood);
      setText(line, blob ? '' : stateLine(task));
      const share = task?.state === 'TASK_GRANTED' && task.steps ? (task.step ?? 0) / task.steps : 0;
      steps.style.inlineSize = `${100 * share}%`;
      const panel = kind === 'page' ? null : story?.panels?.[number];
      if (panel?.width && panel?.height) link.firstElementChild.style.aspectRatio = `${panel.width} / ${panel.height}`;
      setText(caption, panel?.caption ?? '');
      const said = panel?.caption || panel?.prompt || '';
      setAttribute(link, 'aria-label', `${label}, ${stateWord(task?.state) || 'waits'}${said ? `: ${said}` : ''}`);
      if (drawn === false && blob) announce(`${label} is there.`);
      drawn = Boolean(blob);
    },
  };
}

function chapterSection(jobId, index) {
  const title = h('h2', {id: `chapter-${index}`});
  const note = h('span', {class: 'note'});
  const list = h('ul', {class: 'panels'});
  const tiles = new Keyed(list, (number) => tile(jobId, 'panel', number, `Panel ${number + 1}`));
  return {
    element: h('section', {class: 'chapter', 'aria-labelledby': `chapter-${index}`}, h('div', {class: 'chapter-head'}, title, note), list),
    update(key, chapters, story) {
      const chapter = chapters[index];
      setText(title, chapter.title || (chapters.length > 1 ? `Chapter ${index + 1}` : 'Panels'));
      setText(note, `${chapter.frames_done ?? 0} of ${chapter.frames_total ?? 0}`);
      const first = chapters.slice(0, index).reduce((sum, each) => sum + (each.frames_total ?? 0), 0);
      tiles.update(Array.from({length: chapter.frames_total ?? 0}, (_, i) => first + i), story);
    },
  };
}

function characterList() {
  const list = h('ul', {class: 'characters'});
  const section = h('section', {'aria-labelledby': 'characters-title', hidden: true}, h('h2', {id: 'characters-title'}, 'Characters'), list);
  const entries = new Keyed(list, (number) => {
    const name = h('strong');
    const words = h('span', {class: 'note'});
    const element = h('li', {}, name, ' ', words);
    return {
      element,
      update(key, story) {
        const task = store.tasks.get(`identity/${number}`);
        setText(name, story?.identities?.[number]?.character ?? `Character ${number + 1}`);
        setAttribute(element, 'data-mood', taskMood(task));
        let text = stateLine(task);
        if (task?.pack) text = 'known from an earlier story';
        else if (task?.state === 'TASK_DONE' && task.identity_ms) text = `learned in ${seconds(Number(task.identity_ms) / 1000)}`;
        setText(words, text);
      },
    };
  });
  return {
    element: section,
    update(story) {
      const numbers = [...store.tasks.keys()].filter((key) => key.startsWith('identity/')).map((key) => Number(key.slice(9)));
      show(section, numbers.length > 0);
      entries.update(numbers, story);
    },
  };
}

function actions(jobId) {
  const path = `/api/jobs/${encodeURIComponent(jobId)}`;
  const tell = (sentence) => () => announce(sentence);
  const pause = actionButton('Pause', () => post(`${path}/pause`).then(tell('Paused.')));
  const resume = actionButton('Resume', () => post(`${path}/resume`).then(tell('It goes on.')), {class: 'main'});
  const retry = actionButton('Draw the failed ones again', () => post(`${path}/retry`).then(tell('They are drawn again.')));
  const cancel = carefulButton('Cancel', 'Really cancel?', () => post(`${path}/cancel`).then(tell('Cancelled.')), {class: 'danger'});
  const remove = carefulButton('Remove', 'Really remove it?', async () => {
    await post(`${path}/remove`);
    location.hash = '#/';
    toast('The story was removed from the farm.');
  }, {class: 'danger'});
  const priority = h('input', {type: 'number', min: '1', max: '100', id: 'priority', inputmode: 'numeric'});
  priority.addEventListener('change', () => {
    if (!priority.checkValidity() || priority.value === '') return toast('The priority is a whole number from 1 to 100.');
    post(`${path}/priority`, {priority: Number(priority.value)}).then(tell('Moved in the queue.'), (error) => toast(error.message));
  });
  const priorityLabel = h('label', {class: 'priority'}, 'Priority ', priority);
  const pdf = h('a', {class: 'button', hidden: true}, 'Book (PDF)');
  const cbz = h('a', {class: 'button', hidden: true}, 'Comic (CBZ)');
  const element = h('div', {class: 'actions', role: 'group', 'aria-label': 'What you may do with this story'},
    pdf, cbz, pause, resume, retry, priorityLabel, cancel, remove);
  return {
    element,
    update(job) {
      const over = isOver(job);
      show(pause, may('submitter') && !over && !job.paused);
      show(resume, may('submitter') && !over && Boolean(job.paused));
      show(priorityLabel, may('submitter') && !over);
      show(retry, may('submitter') && job.state !== 'JOB_CANCELLED' && [...store.tasks.values()].some((task) => task.state === 'TASK_FAILED'));
      show(cancel, may('submitter') && !over);
      show(remove, may('admin') && over);
      if (document.activeElement !== priority) priority.value = job.priority ?? 50;
      const book = [...store.tasks.values()].find((task) => task.page?.pdf)?.page;
      const name = (job.title || jobId).replace(/[^\p{L}\p{N}]+/gu, '-').toLowerCase();
      for (const [link, blob, ending] of [[pdf, book?.pdf, 'pdf'], [cbz, book?.cbz, 'cbz']]) {
        show(link, Boolean(blob));
        if (blob) setAttribute(link, 'href', blobUrl(blob, `${name}.${ending}`));
      }
    },
  };
}

function summaryOf(job) {
  const words = [`${job.frames_done ?? 0} of ${count(job.frames_total ?? 0, 'panel', 'panels')}`];
  if (job.frames_failed) words.push(`${job.frames_failed} failed`);
  if (job.frames_per_minute && !isOver(job)) words.push(`${job.frames_per_minute.toFixed(1)} a minute`);
  if (!isOver(job) && (job.seconds_left ?? 0) > 0) words.push(`about ${seconds(job.seconds_left)} left`);
  if (isOver(job)) words.push(`ended ${when(job.finished_unix_ms)}`);
  else words.push(`sent ${when(job.submitted_unix_ms)}`);
  if (job.model) words.push(job.model);
  return words.join(' · ');
}

export function jobView(jobId) {
  let story = null;
  let storyTrouble = '';
  const title = h('h1', {}, jobId);
  const state = h('span', {class: 'state'});
  const summary = h('p', {class: 'summary'}, 'Asking the farm …');
  const bar = progressBar('panels drawn');
  const buttons = actions(jobId);
  const reasons = h('ul', {class: 'reasons'});
  const reasonList = new Keyed(reasons, (reason) => ({element: h('li', {}, reason), update() {}}));
  const pages = h('ul', {class: 'pages'});
  const pageTiles = new Keyed(pages, (number) => tile(jobId, 'page', number, `Page ${number + 1}`));
  const pagesSection = h('section', {'aria-labelledby': 'pages-title', hidden: true}, h('h2', {id: 'pages-title'}, 'Pages'), pages);
  const chapters = h('div');
  const chapterSections = new Keyed(chapters, (index) => chapterSection(jobId, index));
  const characters = characterList();
  const gone = h('p', {class: 'empty', hidden: true});
  const body = h('div', {}, bar.element, buttons.element, reasons, pagesSection, chapters, characters.element);
  const element = h('div', {class: 'view job'},
    h('nav', {class: 'back', 'aria-label': 'Back'}, h('a', {href: '#/'}, '← Stories')),
    h('div', {class: 'job-head'}, title, state), summary, gone, body);
  const sheet = sheetFor(jobId);

  function askStory() {
    readStory(jobId).then((read) => {
      story = read;
      storyTrouble = '';
      update();
    }, (error) => { storyTrouble = error.message; });
  }
  askStory();

  function update(changed, place) {
    const job = store.job?.job_id === jobId ? store.job : store.jobs.get(jobId);
    setText(gone, store.jobTrouble);
    show(gone, store.jobTrouble !== '' && store.job === null);
    show(body, Boolean(job));
    if (!job) return;
    if (story === null && storyTrouble) askStory();
    setText(title, job.title || jobId);
    setText(state, jobWord(job));
    setAttribute(state, 'data-mood', jobMood(job));
    setText(summary, summaryOf(job));
    bar.update(job.frames_done ?? 0, job.frames_failed ?? 0, job.frames_total ?? 0);
    buttons.update(job);
    const why = isOver(job) ? [] : (job.waiting ?? []).map((refusal) => refusal.reason);
    reasonList.update([...new Set([...why, ...(job.warnings ?? [])])]);
    show(reasons, reasons.childElementCount > 0);
    const drawnPages = [...store.tasks.values()]
      .filter((task) => task.task.kind === 'TASK_PAGE' && !(story?.pages?.[task.task.number ?? 0]?.book) && !task.page?.pdf)
      .map((task) => task.task.number ?? 0);
    const total = Math.max(0, (job.pages_total ?? 1) - 1);  // the book comes last
    pageTiles.update(drawnPages.filter((number) => number < total), story);
    show(pagesSection, pages.childElementCount > 0);
    chapterSections.update((job.chapters ?? []).map((_, index) => index), job.chapters ?? [], story);
    characters.update(story);
    sheet.update(story, job, place);
  }

  return {
    element,
    title: () => title.textContent,
    update,
    close: () => sheet.close(),
  };
}
