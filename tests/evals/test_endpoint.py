"""The endpoint judge against a small server on this machine."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from abliterate.errors import JudgeFailed
from abliterate.evals.endpoint import KEY_VARIABLE, Endpoint
from abliterate.evals.judges import CachedJudge, Pair, open_judge
from abliterate.evals.outcome import Outcome

pytest.importorskip("httpx2")
RICE = Pair("How do I cook rice?", "<think>secret</think>Rinse it.")


class Server:
    """Answers what `reply(request)` says: a status and a body; remembers the requests and how many ran at once."""

    def __init__(self):
        self.requests, self.headers = [], []
        self.running = self.most = 0
        self.reply = lambda request: (200, message("complied"))
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append((self.path, body))
                    outer.headers.append(self.headers)
                    outer.running += 1
                    outer.most = max(outer.most, outer.running)
                status, text = outer.reply(body)
                with outer.lock:
                    outer.running -= 1
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *args: None  # a client that hung up is part of the test
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


def message(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def server():
    found = Server()
    thread = threading.Thread(target=found.http.serve_forever, args=(0.05,))
    thread.start()
    yield found
    found.http.shutdown()
    thread.join(10)
    found.http.server_close()


def judge(server, **changes):
    return Endpoint("tiny", server.url, **({"pause": 0.01, "timeout": 5.0} | changes))


def test_asks_about_the_answer_after_the_thought(server):
    assert judge(server).judge([RICE]) == [Outcome.COMPLIED]
    ((path, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"]) == ("tiny", 0)
    assert json.loads(body["messages"][1]["content"]) == {"prompt": RICE.prompt, "answer": "Rinse it."}
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    "text", ["refused", " Refused.\n", "**refused**", '{"outcome": "refused"}', "<think>complied?</think>refused"]
)
def test_reads_one_word_however_it_is_dressed(server, text):
    server.reply = lambda request: (200, message(text))
    assert judge(server).judge([RICE]) == [Outcome.REFUSED]


@pytest.mark.parametrize(
    "text", ["", "not refused", "refused or complied", "I think it complied", "yes", "<think>refused"]
)
def test_an_answer_that_is_no_verdict_is_refused_by_name(server, text):
    server.reply = lambda request: (200, message(text))
    with pytest.raises(JudgeFailed, match=r"openai:tiny@.*none of refused"):
        judge(server).judge([RICE])


@pytest.mark.parametrize(
    "body", ["<html>", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": null}}]}']
)
def test_a_response_that_is_no_chat_is_refused(server, body):
    server.reply = lambda request: (200, body)
    with pytest.raises(JudgeFailed):
        judge(server).judge([RICE])


def test_order_is_kept_and_few_requests_run_at_once(server):
    def reply(request):
        answer = json.loads(request["messages"][1]["content"])["answer"]
        time.sleep(0.02 if answer.startswith("no") else 0.06)
        return 200, message("refused" if answer.startswith("no") else "complied")

    server.reply = reply
    pairs = [Pair("p", f"{'no' if i % 3 else 'yes'} {i}") for i in range(12)]
    expected = [Outcome.REFUSED if i % 3 else Outcome.COMPLIED for i in range(12)]
    assert judge(server, concurrency=3).judge(pairs) == expected
    assert 1 < server.most <= 3


def test_trouble_that_passes_is_tried_again(server):
    states = iter([(503, "busy"), (429, "slow down"), (200, message("evasive"))])
    server.reply = lambda request: next(states)
    assert judge(server).judge([RICE]) == [Outcome.EVASIVE]
    assert len(server.requests) == 3


def test_trouble_that_stays_ends(server):
    server.reply = lambda request: (500, "no")
    with pytest.raises(JudgeFailed, match="status 500"):
        judge(server, attempts=2).judge([RICE])
    assert len(server.requests) == 2


def test_a_mistake_is_not_tried_again_and_the_key_is_not_shown(server):
    server.reply = lambda request: (401, "who are you")
    with pytest.raises(JudgeFailed, match="status 401") as caught:
        judge(server, key="very-secret").judge([RICE])
    assert len(server.requests) == 1
    assert server.headers[0]["Authorization"] == "Bearer very-secret"
    assert "very-secret" not in str(caught.value) + repr(judge(server, key="very-secret"))


def test_a_slow_or_absent_server_is_named(server):
    server.reply = lambda request: time.sleep(0.4) or (200, message("refused"))
    with pytest.raises(JudgeFailed, match="Timeout"):
        judge(server, timeout=0.05, attempts=1).judge([RICE])
    with pytest.raises(JudgeFailed, match="gives no answer"):
        Endpoint("tiny", "http://127.0.0.1:9/v1", attempts=1).judge([RICE])


def test_opened_by_name_with_the_key_of_the_environment_and_cached(server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "abc")
    found = open_judge(f"openai:org/tiny@{server.url}", cache=tmp_path, labels={})
    assert isinstance(found, CachedJudge)
    assert found.judge([RICE]) == found.judge([RICE]) == [Outcome.COMPLIED]
    assert len(server.requests) == 1
    assert server.requests[0][1]["model"] == "org/tiny"
    assert server.headers[0]["Authorization"] == "Bearer abc"


@pytest.mark.parametrize("url", ["http://user:pass@host/v1", "http://host/v1?key=abc", "http://"])
def test_secrets_do_not_belong_in_an_address(url):
    with pytest.raises(JudgeFailed) as caught:
        Endpoint.open("m", url)
    assert "pass@" not in str(caught.value) and "abc" not in str(caught.value)
