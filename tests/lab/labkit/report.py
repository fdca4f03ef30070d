"""What people and test.sh see: lines while it runs, a summary, a JUnit file, folders of artefacts."""
import pathlib
import sys
import threading
import xml.etree.ElementTree as xml

TAIL = 60


class Report:
    def __init__(self, verbose):
        self.verbose, self.lock = verbose, threading.Lock()
        self.outcomes = []  # a list for each boot, growing while it runs

    def show(self, text, outcome=None):
        """Called while it runs: a line of the lab, output of a case, or (no text) the end of one."""
        with self.lock:
            self._show(text, outcome)

    def _show(self, text, outcome):
        if outcome is None:
            print(text, flush=True)
        elif text:
            if self.verbose:
                self._lines(outcome, text)
        else:
            if self.verbose and outcome.partial:
                self._lines(outcome, "\n")
            why = f": {outcome.why}" if outcome.why else \
                f": exit code {outcome.code}" if outcome.state == "failed" else ""
            print(f"{outcome.state}: {outcome.name} ({outcome.seconds:.0f} s){why}", flush=True)
            if outcome.state == "failed":
                tail = getattr(outcome, "console", "").splitlines()[-TAIL:]
                if not self.verbose:
                    tail += "".join(outcome.output).splitlines()[-TAIL:]
                print("\n".join("  " + line for line in tail), flush=True)

    @staticmethod
    def _lines(outcome, text):
        *whole, outcome.partial = (outcome.partial + text).split("\n")
        sys.stdout.write("".join(f"{outcome.name}| {line}\n" for line in whole))
        sys.stdout.flush()

    def _all(self):
        return [outcome for outcomes in self.outcomes for outcome in outcomes]

    def keep(self, folder):
        """One folder for each case and kernel, with output.txt and what the case left."""
        for outcome in self._all():
            place = pathlib.Path(folder) / outcome.name.replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            (place / "output.txt").write_text("".join(outcome.output))
            if getattr(outcome, "console", ""):
                (place / "console.txt").write_text(outcome.console)
            for name, data in outcome.files.items():
                path = pathlib.PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts:
                    continue
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(data)

    def tests(self):
        """Every result as (case, test, state, words); tests inside a pytest case count one by one."""
        for outcome in self._all():
            inner = self._inner(outcome)
            if inner:
                yield from inner
            if not inner or (outcome.state == "failed" and all(it[2] != "failed" for it in inner)):
                yield outcome.name, outcome.case.name, outcome.state, \
                    outcome.why or "".join(outcome.output)[-2000:]

    @staticmethod
    def _inner(outcome):
        try:
            tree = xml.fromstring(bytes(outcome.files["junit.xml"]))
        except (KeyError, xml.ParseError):
            return []
        found = []
        for it in tree.iter("testcase"):
            bad = it.find("failure") if it.find("failure") is not None else it.find("error")
            state = "failed" if bad is not None else "skipped" if it.find("skipped") is not None \
                else "passed"
            module = it.get("classname", "").rsplit(".", 1)[-1]
            found.append((outcome.name, f"{module}: {it.get('name')}", state,
                          (bad.text or "") if bad is not None else ""))
        return found

    def write_junit(self, path):
        suite = xml.Element("testsuite", name="lab")
        for case, test, state, words in self.tests():
            element = xml.SubElement(suite, "testcase", classname=case, name=test)
            if state != "passed":
                detail = xml.SubElement(element, "failure" if state == "failed" else "skipped")
                detail.text = "".join(c for c in words if c.isprintable() or c in "\n\t")
        xml.ElementTree(suite).write(path, encoding="unicode")

    def summary(self):
        """Prints the last line; gives the exit code."""
        count = {"passed": 0, "failed": 0, "skipped": 0}
        for _, _, state, _ in self.tests():
            count[state] += 1
        print(", ".join(f"{number} {state}" for state, number in count.items()), flush=True)
        return 1 if count["failed"] else 0
