// Turns the code behind the # of a link from `storyctl web` into a session, and takes it out of the address bar.
const code = location.hash.slice(1);
const what = document.getElementById('what');

async function logIn() {
  history.replaceState(null, '', '/login');
  what.textContent = 'Logging in …';
  const answer = await fetch('/api/login', {
    method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({code}),
  });
  if (answer.ok) return location.replace('/');
  const {error} = await answer.json();
  what.textContent = error;
}

// Places within the page begin with a slash.
if (/^[0-9a-f]{16,}$/.test(code)) {
  logIn().catch(() => {
    what.textContent = 'The coordinator does not answer. Is it running? Then, on the farm’s machine, run';
  });
}
