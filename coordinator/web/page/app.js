// The page's frame: which view shows, what the header says, and that a refresh comes back to the same place.
//   #/                      stories: the queue, and what is done
//   #/jobs/J                one story: its panels and pages as they come
//   #/jobs/J/panel/12       and one panel of it (or page/3) beside that
//   #/machines              machines and their memory
import {follow, get, post} from './connection.js';
import {jobView} from './job.js';
import {jobsView} from './jobs.js';
import {machinesView} from './machines.js';
import {store, subscribe} from './store.js';
import {setAttribute, setText, show, toast} from './view.js';

const main = document.getElementById('main');
let view = null;  // {key, element, title(), update(changed, place), close?()}

function placeOf(hash) {
  const words = hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  if (words[0] === 'machines') return {view: 'machines', key: 'machines'};
  if (words[0] === 'jobs' && words[1]) {
    return {view: 'job', key: `jobs/${words[1]}`, job: words[1], kind: words[2] ?? '', number: Number(words[3] ?? 0)};
  }
  return {view: 'stories', key: 'stories'};
}

const views = {
  stories: () => jobsView(),
  machines: () => machinesView(),
  job: (place) => jobView(place.job),
};

function keepScroll() {
  if (view) sessionStorage.setItem(`scroll ${view.key}`, String(scrollY));
}

// What a view shows comes from the farm: it is as tall as it was once that is there.
function restoreScroll(key) {
  const target = Number(sessionStorage.getItem(`scroll ${key}`) ?? 0);
  if (!target) return scrollTo(0, 0);
  const until = performance.now() + 3000;
  const step = () => {
    if (view?.key !== key) return;
    scrollTo(0, target);
    if (Math.abs(scrollY - target) > 2 && performance.now() < until) requestAnimationFrame(step);
  };
  step();
}

function go(first) {
  const place = placeOf(location.hash);
  const another = view?.key !== place.key;
  if (another) {
    if (!first) keepScroll();
    view?.close?.();
    view = {key: place.key, ...views[place.view](place)};
    main.replaceChildren(view.element);
    follow(place.job ?? '');
  }
  view.update(new Set(['me', 'farm', 'nodes', 'jobs', 'job', 'place']), place);
  document.title = `${view.title()} · storyfarm`;
  for (const link of document.querySelectorAll('nav a')) {
    const current = link.dataset.view === (place.view === 'job' ? 'stories' : place.view);
    setAttribute(link, 'aria-current', current ? 'page' : null);
  }
  if (another) {
    if (!first && !place.kind) main.focus({preventScroll: true});
    restoreScroll(place.key);
  }
}

function updateHeader() {
  const state = document.getElementById('link-state');
  setAttribute(state, 'data-state', store.connected ? 'live' : 'away');
  setText(state, store.connected ? 'live' : 'connecting');
  setText(document.getElementById('role'), store.me?.role ?? '');
  const trouble = document.getElementById('trouble');
  setText(trouble, store.trouble);
  show(trouble, store.trouble !== '');
}

subscribe((changed) => {
  updateHeader();
  if (!view) return;
  view.update(changed, placeOf(location.hash));
  document.title = `${view.title()} · storyfarm`;
});

document.getElementById('logout').addEventListener('click', () => {
  post('/api/logout').then(() => location.reload(), (error) => toast(error.message));
});
addEventListener('hashchange', () => go(false));
addEventListener('pagehide', keepScroll);
history.scrollRestoration = 'manual';

async function start() {
  for (;;) {
    try {
      store.me = await get('/api/me');
      break;
    } catch (error) {
      store.trouble = error.message;
      updateHeader();
      await new Promise((resolve) => { setTimeout(resolve, 2000); });
    }
  }
  store.trouble = '';
  updateHeader();
  go(true);
}
start();
