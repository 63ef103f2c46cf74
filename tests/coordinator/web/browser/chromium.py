"""Headless Chromium, driven over its DevTools protocol through a pipe: nothing but Python and the browser is needed."""
import base64
import json
import os
import queue
import shutil
import subprocess
import threading
import time

PATIENCE_S = 240  # two busy cores, on which a story of twelve panels is drawn; most of it is there in tenths of a second

NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome",
         "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]


def find_browser():
    """The path of a Chromium, or None."""
    named = os.environ.get("STORYFARM_CHROMIUM")
    return next((found for name in ([named] if named else NAMES) if (found := shutil.which(name))), None)


class Browser:
    def __init__(self, program, profile):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def plug():  # the protocol's ends are 3 and 4
            for end, number in ((to_browser, 13), (from_browser, 14)):
                os.dup2(end, number)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self._process = subprocess.Popen(
            [program, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run",
             "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--hide-scrollbars", "about:blank"],
            close_fds=False, preexec_fn=plug, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self._number = 0
        self._answers = {}
        self._arrived = threading.Condition()
        self._pages = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        rest = b""
        while chunk := os.read(self._read, 1 << 20):
            *messages, rest = (rest + chunk).split(b"\0")
            for text in messages:
                message = json.loads(text)
                with self._arrived:
                    if "id" in message:
                        self._answers[message["id"]] = message
                    elif page := self._pages.get(message.get("sessionId")):
                        page.take(message["method"], message["params"])
                    self._arrived.notify_all()

    def call(self, method, session=None, **parameters):
        with self._arrived:
            self._number += 1
            number = self._number
            message = {"id": number, "method": method, "params": parameters}
            if session:
                message["sessionId"] = session
            os.write(self._write, json.dumps(message).encode() + b"\0")
            if not self._arrived.wait_for(lambda: number in self._answers, PATIENCE_S):
                raise TimeoutError(f"{method} was not answered")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, width=1280, height=900, dark=False, phone=False):
        """A page with cookies of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        with self._arrived:
            self._pages[session] = page
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            page.call(f"{domain}.enable")
        page.resize(width, height, phone)
        page.set_dark(dark)
        return page

    def close(self):
        try:
            self.call("Browser.close")
        except (OSError, RuntimeError, TimeoutError):
            self._process.kill()
        self._process.wait()


class Page:
    def __init__(self, browser, session):
        self._browser = browser
        self._session = session
        self.errors = []    # what the console and the log complained of
        self.requests = []  # addresses
        self._loaded = queue.Queue()

    def take(self, method, parameters):
        if method == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"].get("exception", {}).get("description", "an exception"))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.errors.append(str([argument.get("value") for argument in parameters["args"]]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded.put(True)

    def call(self, method, **parameters):
        return self._browser.call(method, session=self._session, **parameters)

    def resize(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
                  mobile=phone)

    def set_dark(self, dark):
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                            {"name": "prefers-reduced-motion", "value": "reduce"}])

    def goto(self, url):
        while not self._loaded.empty():
            self._loaded.get()
        self.call("Page.navigate", url=url)
        self._loaded.get(timeout=PATIENCE_S)

    def reload(self):
        while not self._loaded.empty():
            self._loaded.get()
        self.call("Page.reload")
        self._loaded.get(timeout=PATIENCE_S)

    def run(self, script):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {result['exceptionDetails'].get('exception', {}).get('description')}")
        return result["result"].get("value")

    def wait(self, script, what=None):
        """Until the expression is true, or an element."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                if self.run(f"Boolean({script})"):
                    return
            except RuntimeError:  # the page is changing under it
                pass
            time.sleep(0.05)
        raise AssertionError(f"waited in vain for {what or script}; the page says:\n{self.run('document.body.innerText')}")

    def press(self, key):
        codes = {"Enter": (13, "\r"), "Escape": (27, ""), "ArrowRight": (39, ""), "ArrowLeft": (37, ""), "Tab": (9, "")}
        code, text = codes[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      **({"text": text} if text and kind == "keyDown" else {}))

    def click(self, script):
        """Clicks the middle of the element that the expression gives."""
        box = self.run(f"(() => {{ const e = {script}; e.scrollIntoView({{block: 'center'}});"
                       " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def accessible(self):
        """(role, name) of all that a screen reader meets."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes
                if not node.get("ignored") and "role" in node]

    def screenshot(self, path, full=False):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
