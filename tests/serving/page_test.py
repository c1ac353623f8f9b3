"""The page of the service: its file, and (slow) what it does in a browser."""

import asyncio
import re
import threading
import time
import urllib.parse

import browser as browsers
import page_service
import pytest
import service_calls
import uvicorn
from page_service import MODELS, Reply

from toolkit.serving.service import app, refusals, security, server

PAGE = page_service.PAGE.read_text("utf-8")
NAMES = [model["id"] for model in MODELS]
SEND, CANCEL, SAMPLE = ".send", ".cancel", ".sample"
STATUS, ERROR, LIST_ERROR, KEY_ERROR = ".status", "#view .error", "#list .error", "#key .error"
PREDICT = "/v1/models/{}:predict"
ATTACK = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
# Characters that are one each for the service, and two, or several, for a browser.
ASTRAL = "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U00010348 e\u0301 \U0001f600"

# ---- The file -----------------------------------------------------------------------------------


def test_it_is_one_file_with_one_style_and_one_script():
  assert re.findall("<(style|script)[^>]*>", PAGE) == ["style", "script"]
  assert not re.findall("<(?:style|script) ", PAGE)  # attributes could name another file
  assert not re.findall("<(link|iframe|object|embed|img|base|audio|video)[ >]", PAGE)


def test_it_names_no_other_host():
  assert not re.search(r"https?:|wss?:|@import|url\(|[\"'`]//|data:[a-z]", PAGE)
  assert not re.search(r"<[^>]*\b(src|href|action|srcset)=", PAGE)


def test_it_has_no_code_or_style_in_attributes():
  tags = re.findall(r"<[a-z][^>]*>", PAGE)
  assert len(tags) > 50
  assert not [tag for tag in tags if re.search(r"\s(on[a-z]+|style)\s*=", tag)]
  assert "javascript:" not in PAGE and '"style"' not in PAGE


def test_what_is_shown_is_set_as_text():
  sinks = "innerHTML|outerHTML|insertAdjacentHTML|setHTML|document.write|DOMParser|srcdoc"
  code = r"createContextualFragment|\beval\(|new Function|set(Timeout|Interval)\(\s*[\"'`]"
  assert not re.search(f"{sinks}|{code}", PAGE)


def test_it_keeps_nothing_but_the_key_and_that_in_the_tab():
  assert not re.search("cookie|localStorage|indexedDB|serviceWorker|caches", PAGE)
  assert set(re.findall(r"sessionStorage\.\w+\((\w+)", PAGE)) == {"KEY"}


def test_each_task_has_a_form():
  tasks = {model["task"] for model in MODELS}
  assert set(re.findall(r"^TASKS\.(\w+) = ", PAGE, re.M)) == tasks
  assert set(re.findall(r'id="of-(\w+)"', PAGE)) == tasks
  assert len(re.findall(r"^  sample: {", PAGE, re.M)) == len(tasks)


# ---- In a browser -------------------------------------------------------------------------------

slow = pytest.mark.slow


@pytest.fixture(name="chromium", scope="module")
def _chromium():
  if lacking := browsers.missing():
    pytest.skip(lacking)
  with browsers.Browser() as browser:
    yield browser


@pytest.fixture(name="service")
def _service():
  with page_service.Service() as service:
    yield service


@pytest.fixture(name="page")
def _page(chromium, service):
  """The browser; in the end nothing may have come from another host, run, or been refused."""
  chromium.emulate(1000, 800)
  chromium.open("about:blank")
  chromium.console(), chromium.requested()
  yield chromium
  assert chromium.run("return window.hacked") is None
  messages = [line for line in chromium.console() if "Failed to load resource" not in line]
  assert not messages
  hosts = {urllib.parse.urlsplit(url).netloc for url in chromium.requested()}
  assert hosts - {""} == {urllib.parse.urlsplit(service.url).netloc}


def show(page, service, name):
  page.open(service.url + "#" + urllib.parse.quote(name))
  page.wait("document.querySelector('#view h2, #list .error:not(:empty), #key:not([hidden])')")


def done(page):
  """Waits for a result; returns its line."""
  page.wait("document.querySelector('.status.done') || document.querySelector('.error > *')")
  errors = [text for text in page.texts(".error") if text]
  assert not errors
  return page.text(STATUS)


def failed(page, selector=ERROR):
  return page.wait("document.querySelector(arguments[0]).textContent", selector)


def bars(page, within=".output"):
  """Dict of the names of bars -> (what is written behind them, their share of the width)."""
  script = """return [...document.querySelectorAll(arguments[0] + " .bar")].map((bar) => [
    bar.querySelector(".name").textContent, bar.querySelector(".share").textContent,
    bar.querySelector(".fill").getBoundingClientRect().width /
      bar.querySelector(".track").getBoundingClientRect().width])"""
  found = page.run(script, within)
  return {name: (text.replace("\u00a0", " "), round(width, 2)) for name, text, width in found}


def marks(page):
  """List of (words, tag, offset in UTF-16 units of the words in the text) of the marks."""
  script = """const box = document.querySelector(".text"), found = [];
    let place = 0;
    for (const node of box.childNodes) {
      const words = node.firstChild.data, tag = node.querySelector(".tag");
      if (node.tagName === "MARK") found.push([words, tag ? tag.textContent.trim() : "", place]);
      place += words.length;
    }
    return found"""
  return [tuple(mark) for mark in page.run(script)]


def units(text):
  """Length of a text in UTF-16 units."""
  return len(text.encode("utf-16-le")) // 2


@slow
def test_questions_are_answered_in_the_paragraph(page, service):
  show(page, service, "questions")
  context = f"{ASTRAL} In 1901 Ann Lee \U0001f382 came."
  page.write("[name=context]", context)
  page.write("[name=questions]", "find Ann Lee")
  page.click(SEND)
  assert done(page) == "\u201cAnn Lee\u201d (93.1\u00a0%)"
  assert marks(page) == [("Ann Lee", "", units(f"{ASTRAL} In 1901 "))]
  sent = {"instances": [{"question": "find Ann Lee", "context": context}]}
  assert service.requests[-1].body == sent


@slow
def test_several_questions_share_a_paragraph(page, service):
  show(page, service, "questions")
  page.write("[name=context]", f"{ASTRAL} the red old barn {ASTRAL}")
  page.write("[name=questions]", " find red old \n\nfind old barn\nfind the moon\n")
  page.click(SEND)
  assert done(page) == "2 of 3\u00a0questions have an answer."
  start = units(f"{ASTRAL} the ")
  overlapping = [("red ", "", start), ("old", "1", start + 4), (" barn", "2", start + 7)]
  assert marks(page) == overlapping
  assert page.texts(".answers bdi") == ["find red old", "find old barn", "find the moon"]
  assert page.texts(".answers .share")[2] == "81.0\u00a0%"
  assert page.texts(".answers .name")[2] == "No answer"
  page.click(".answers li:nth-child(2) button")
  assert page.run("return document.activeElement.firstChild.data") == "old"


@slow
def test_no_answer_and_several_parts_are_said(page, service):
  show(page, service, "questions")
  page.write("[name=context]", "word " * 500)
  page.write("[name=questions]", "find nothing")
  page.click(SEND)
  assert done(page) == "No answer in this paragraph."
  assert not marks(page)
  (note,) = page.texts(".note")
  assert "longer than the model reads at once" in note and "3\u00a0parts" in note


@slow
def test_an_answer_far_down_is_scrolled_to(page, service):
  show(page, service, "questions")
  page.write("[name=context]", f"{'A long way to go. ' * 500} Here it is. {'On and on. ' * 500}")
  page.write("[name=questions]", "find Here it is")
  page.click(SEND)
  done(page)
  inside = """(() => {
    const box = document.querySelector(".text").getBoundingClientRect();
    const mark = document.querySelector("mark").getBoundingClientRect();
    return box.top < mark.top && mark.bottom < box.bottom})()"""
  assert page.run(f"return {inside}")


@slow
def test_a_class_has_bars(page, service):
  show(page, service, "reviews")
  assert "2\u00a0classes" in page.text(".does")
  page.write("[name=text]", "Cold soup.")
  page.click(SEND)
  assert done(page) == "negative (73.0\u00a0%)"
  assert bars(page) == {"negative": ("73.0 %", 0.73), "positive": ("27.0 %", 0.27)}
  assert page.texts(".chosen .name") == ["negative"]
  assert service.requests[-1].body == {"instances": [{"text": "Cold soup."}]}
  assert not page.texts(".note")


@slow
def test_pairs_and_truncation(page, service):
  show(page, service, "reviews")
  page.click("summary")
  page.write("[name=text]", "word " * 200)
  page.write("[name=text_b]", "Cold soup.")
  page.click(SEND)
  done(page)
  sent = {"text": "word " * 200, "text_b": "Cold soup."}
  assert service.requests[-1].body == {"instances": [sent]}
  (note,) = page.texts(".note")
  assert "128 word pieces" in note and "left out" in note


@slow
def test_several_labels_and_a_number(page, service):
  show(page, service, "topics")
  page.click(SAMPLE)
  assert done(page) == "food, service, room"
  assert page.texts(".chosen .name") == ["food", "service", "room"]
  assert bars(page)["price"] == ("< 0.1 %", 0)
  reply = {"labels": [], "probabilities": {"food": 0.1}, "truncated": False}
  service.replies[PREDICT.format("topics")] = [Reply(body={"predictions": [reply]})]
  page.click(SEND)
  page.wait("document.querySelector('.status').textContent === 'No label fits.'")
  show(page, service, "stars")
  page.click(SAMPLE)
  assert done(page) == "3.142"


@slow
def test_many_classes_are_shown_bit_by_bit(page, service):
  shares = {f"class {number}": 1 / 30 for number in range(30)}
  reply = {"label": "class 0", "probabilities": shares, "truncated": False}
  service.replies[PREDICT.format("reviews")] = [Reply(body={"predictions": [reply]})]
  show(page, service, "reviews")
  page.click(SAMPLE)
  done(page)
  assert len(bars(page)) == 12
  page.click(".output .link")
  assert len(bars(page)) == 24
  assert page.text(".output .link") == "Show 6 more of 6"
  assert "class 12" in page.run("return document.activeElement.textContent")


@slow
def test_entities_are_marked_with_their_types(page, service):
  show(page, service, "names")
  page.write("[name=text]", f"{ASTRAL} Ada Brandt \U0001f600 left\nLisbon")
  page.click(SEND)
  assert done(page) == "2\u00a0entities"
  start = units(f"{ASTRAL} ")
  assert marks(page) == [("Ada Brandt", "PER", start), ("Lisbon", "LOC", start + 10 + 9)]
  assert page.texts(".legend li") == ["LOC 1", "PER 1"]
  colours = "return [...document.querySelectorAll('mark')].map((m) => m.className)"
  legend_first = page.run(colours)
  assert len(set(legend_first[:2])) == 2 and legend_first[:2] == legend_first[:1:-1]
  page.write("[name=text]", "nobody")
  page.click(SEND)
  page.wait("document.querySelector('.status').textContent === 'No entities.'")


@slow
def test_words_have_tags(page, service):
  show(page, service, "words")
  page.write("[name=text]", "See the cats")
  page.click(SEND)
  assert done(page) == "3\u00a0words"
  assert page.texts(".words .word") == ["See", "the", "cats"]
  assert page.texts(".words .tag") == ["NOUN", "NOUN", "VERB"]


@slow
def test_the_best_choice_comes_first(page, service):
  show(page, service, "stories")
  page.write("[name=question]", "When?")
  page.write("[name=choices]", "now\nlater\nlater\n")
  page.click(SEND)
  assert done(page) == "later (33.3\u00a0%)"
  sent = {"choices": ["now", "later", "later"], "question": "When?"}
  assert service.requests[-1].body == {"instances": [sent]}
  assert page.texts(".bars .share") == ["50.0\u00a0%", "33.3\u00a0%", "16.7\u00a0%"]


@slow
def test_masked_words_are_filled(page, service):
  show(page, service, "masks")
  page.write("[name=text]", f"{ASTRAL} the  is")
  place = units(f"{ASTRAL} the ")
  page.run("document.querySelector('[name=text]').setSelectionRange(...arguments)", place, place)
  page.click(".insert")
  page.click(SEND)
  assert done(page) == "lamp (41.0\u00a0%)"
  assert service.requests[-1].body == {"instances": [f"{ASTRAL} the [MASK] is"]}
  assert marks(page) == [("lamp", "", place)]
  assert bars(page)["##s"] == ("5.0 %", 0.05)


@slow
def test_sentences_are_compared(page, service):
  show(page, service, "vectors")
  page.write("[name=sentences]", "tttt\nraaa\n\n tttt \nrrrr")
  page.click(SEND)
  assert done(page) == "Most alike: 1 and 3 (1.00)"
  assert service.requests[-1].body == {"instances": ["tttt", "raaa", "tttt", "rrrr"]}
  table = page.run(
    "return [...document.querySelectorAll('tr')].map((r) => [...r.cells].map((c) => c.textContent))"
  )
  assert table[0] == ["", "1", "2", "3", "4"]
  a, b = page_service.answer("vectors", "tttt"), page_service.answer("vectors", "raaa")
  length = (sum(x * x for x in a) * sum(x * x for x in b)) ** 0.5
  cosine = sum(x * y for x, y in zip(a, b)) / length
  assert table[1] == ["1", "1.00", f"{cosine:.2f}", "1.00", table[4][1]]
  assert not page.texts(".note")


@slow
def test_cut_sentences_are_named(page, service):
  vectors = [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]
  reply = {"predictions": vectors, "truncated": [0, 2]}
  service.replies[PREDICT.format("vectors")] = [Reply(body=reply)]
  show(page, service, "vectors")
  page.write("[name=sentences]", "a\nb\nc")
  page.click(SEND)
  assert done(page) == "Most alike: 1 and 2 (\u22121.00)"
  (note,) = page.texts(".note")
  assert "128 word pieces" in note and "Sentences 1, 3 are" in note
  assert page.texts("tr:nth-child(3) td")[2] == "?"  # a vector of zeros


@slow
@pytest.mark.parametrize("name", NAMES)
def test_a_sample_can_be_tried_at_once(page, service, name):
  show(page, service, name)
  page.click(SAMPLE)
  assert done(page)
  assert not page.run("return document.querySelector('.clear').hidden")
  page.click(".clear")
  assert page.run("return [...document.querySelectorAll('textarea')].every((f) => !f.value)")
  assert not page.run("return document.querySelector('.sample').hidden")


class Served:
  """The service itself, over made-up models. It is a context manager."""

  def __init__(self, key):
    listener = server.bind("127.0.0.1", 0)
    access = app.Access(security.Keys([key]))
    service = service_calls.Service(access=access, limits=refusals.Limits())
    config = uvicorn.Config(service.app, lifespan="off", log_config=None)
    self._server = uvicorn.Server(config)
    self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([listener])))
    self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

  def __enter__(self):
    self._thread.start()
    while not self._server.started:
      assert self._thread.is_alive()
      time.sleep(0.02)
    return self

  def __exit__(self, *_):
    self._server.should_exit = True
    self._thread.join()


@slow
def test_the_service_itself_answers_its_page(chromium):
  names = list(service_calls.all_predictors())
  with Served("key-of-the-service") as served:
    show(chromium, served, "")
    chromium.type("key-of-the-service")
    chromium.press("Enter")
    chromium.wait("document.querySelector('#view h2')")
    assert chromium.texts("nav bdi") == names
    found = {}
    for name in names:
      show(chromium, served, name)
      chromium.click(SAMPLE)
      found[name] = done(chromium).replace("\u00a0", " ")
    assert found == {
      "reviews": "bad (75.0 %)",
      "squad": "3 of 3 questions have an answer.",
      "ner": "No entities.",
      "choice": "He bought a ticket to the moon. (40.3 %)",
      "masks": "dog, dog",
      "encoder": "Most alike: 1 and 3 (1.00)",
    }
    show(chromium, served, "squad")
    chromium.run("document.querySelector('[name=context]').value = 'x'.repeat(100001)")
    chromium.write("[name=questions]", "Who?")
    chromium.click(SEND)
    assert "(413)" in failed(chromium) and "the limit is 100000" in failed(chromium)
    messages = [line for line in chromium.console() if "Failed to load resource" not in line]
    assert not messages


# ---- Texts that are no text ---------------------------------------------------------------------


@slow
def test_markup_is_shown_as_text(page, service):
  labels = {ATTACK: 0.9, "</style><b>": 0.1}
  reply = {"label": ATTACK, "probabilities": labels, "truncated": False}
  name = f"re{ATTACK}"
  service.models.append(page_service.model(name, "classifier", kind=ATTACK, engine=ATTACK))
  service.models.append(page_service.model("odd", ATTACK))
  service.replies[PREDICT.format(name)] = [
    Reply(body={"predictions": [reply]}),
    Reply(400, {"error": ATTACK}),
  ]
  show(page, service, name)
  assert page.text("#view h2") == name
  page.write("[name=text]", ATTACK)
  page.click(SEND)
  assert ATTACK in done(page)
  assert set(bars(page)) == set(labels)
  page.click(SEND)
  assert ATTACK in failed(page)
  for name in ("names", "questions", "masks", "odd"):
    show(page, service, name)
    if name == "odd":
      assert ATTACK in page.text(".does")
      continue
    fields = {"names": ["text"], "questions": ["context", "questions"], "masks": ["text"]}[name]
    for field in fields:
      page.write(f"[name={field}]", f"find <b>{ATTACK}</b> [MASK]")
    page.click(SEND)
    done(page)
    assert ATTACK.split(" ", 1)[1] in page.text(".text")
  assert page.run("return document.querySelectorAll('img, b, i, script').length") == 1


@slow
def test_names_of_models_are_kept_in_the_address(page, service):
  name = "a b/%#\U0001f600"
  service.models.append(page_service.model(name, "tags"))
  show(page, service, name)
  assert page.text("#view h2") == name
  assert page.texts("nav [aria-current] bdi") == [name]
  page.click("nav a[data-model=questions]")
  page.wait("document.querySelector('#view h2').textContent === 'questions'")
  page.write("[name=context]", "kept")
  page.run("history.back()")
  page.wait("document.querySelector('#view h2').textContent === arguments[0]", name)
  page.run("history.forward()")
  page.wait("document.querySelector('#view h2').textContent === 'questions'")
  assert page.run("return document.querySelector('[name=context]').value") == "kept"
  page.reload()
  page.wait("document.querySelector('#view h2')")
  assert page.text("#view h2") == "questions" and "questions" in page.run("return document.title")
  for address in ("nobody", "%"):
    page.open(f"{service.url}#{address}")
    page.wait("document.querySelector('#view h2')")
    assert page.text("#view h2") == "reviews"
    assert "There is no model" in page.text("#list [role=status]")


@slow
@pytest.mark.parametrize(
  "unit", ["A \U0001f600 went on. ", "\U0001f600x"], ids=["words", "no space"]
)
def test_long_texts(page, service, unit):
  text = (unit * (100_000 // len(unit)))[:99_990] + "Lisbon End"
  for name in ("names", "questions"):
    show(page, service, name)
    field = {"names": "text", "questions": "context"}[name]
    page.run("document.querySelector(arguments[0]).value = arguments[1]", f"[name={field}]", text)
    if name == "questions":
      page.write("[name=questions]", "find Lisbon")
    page.click(SEND)
    done(page)
    assert marks(page)[-1][::2] == ("Lisbon", units(text[:-10]))
    assert service.requests[-1].body["instances"][0] in (
      text,
      {"question": "find Lisbon", "context": text},
    )


@slow
def test_very_many_entities_are_marked_bit_by_bit(page, service):
  show(page, service, "names")
  text = "Tom ran. Oslo slept. " * 500
  page.run("document.querySelector('[name=text]').value = arguments[0]", text)
  page.click(SEND)
  assert done(page) == "1,000\u00a0entities"
  assert len(marks(page)) == 500
  page.click(".output .link")
  assert len(marks(page)) == 1000
  assert [words for words, *_ in marks(page)] == ["Tom", "Oslo"] * 500
  assert not page.run("return document.querySelector('.output .link:not([hidden])')")
  assert page.run("return document.querySelector('.text').textContent") == text.replace(
    "Tom", "Tom PER"
  ).replace("Oslo", "Oslo LOC")


# ---- Errors -------------------------------------------------------------------------------------


@slow
@pytest.mark.parametrize(
  ("reply", "expected"),
  [
    (Reply(400, {"error": "instances[0]: the text is empty"}), "(400). instances[0]: the text is"),
    (Reply(404, {"error": {"message": "there is no model x"}}), "(404). there is no model x"),
    (Reply(413, {"error": "at most 1 MB"}), "did not accept the request (413). at most 1 MB"),
    (Reply(500, {"error": "out of memory"}), "The service could not answer (500). out of memory"),
    (Reply(502, "<html>Bad gateway</html>"), "The service could not answer (502)."),
    (Reply(429, {"error": "the queue is full"}), "is busy. Try again in a moment. the queue is"),
    (Reply(200, "<html>"), "not JSON"),
    (Reply(200, {"predictions": []}), "unknown form"),
    (Reply(200, {"predictions": [7]}), "unknown form"),
    (Reply(200, "null"), "unknown form"),
  ],
)
def test_errors_are_told(page, service, reply, expected):
  show(page, service, "reviews")
  page.write("[name=text]", "Cold soup.")
  service.replies[PREDICT.format("reviews")] = [reply]
  page.click(SEND)
  assert expected in failed(page)
  if reply.status == 200:
    page.console()  # has the error for developers
  page.click(SEND)  # the text is still there
  assert done(page)


@slow
def test_the_service_cannot_be_reached(page, service):
  show(page, service, "reviews")
  page.write("[name=text]", "Cold soup.")
  service.stop()
  page.click(SEND)
  assert "cannot be reached" in failed(page)
  service.start()
  page.click(SEND)
  assert done(page)


@slow
def test_the_list_can_be_asked_for_again(page, service):
  service.replies["/v1/models"] = [Reply(503, {"error": "models are loading"})]
  show(page, service, "")
  assert "models are loading" in failed(page, LIST_ERROR)
  page.click(".again")
  page.wait("document.querySelector('#view h2')")
  assert not page.text(LIST_ERROR)
  service.models = []
  page.reload()
  page.wait("document.querySelector('#list').textContent.includes('has no models')")


@slow
def test_a_busy_service_is_asked_again_when_it_wants_to(page, service):
  path = PREDICT.format("reviews")
  busy = [
    Reply(429, {"error": "the queue is full"}, {"Retry-After": seconds})
    for seconds in ("1000", "1")
  ]
  for wait, reply in zip(("1,000\u00a0seconds", "1\u00a0second"), busy):
    service.replies[path] = [reply]
    show(page, service, "reviews")
    page.write("[name=text]", "Cold soup.")
    page.click(SEND)
    assert f"Try again in {wait}." in failed(page)
    if reply is busy[0]:
      sent = len(service.requests)
      page.click(SEND)
      page.wait("document.querySelector('.status').textContent.includes('asks to wait')")
      assert len(service.requests) == sent
  page.wait("document.querySelector('.status').textContent === 'You can try again now.'")
  page.click(SEND)
  assert done(page)


@slow
def test_answers_before_an_error_are_shown(page, service):
  show(page, service, "questions")
  answer = page_service.answer("questions", {"question": "find old", "context": "the old hat"})
  service.replies[PREDICT.format("questions")] = [
    Reply(body={"predictions": [answer]}),
    Reply(500, {"error": "out of memory"}),
  ]
  page.write("[name=context]", "the old hat")
  page.write("[name=questions]", "find old\nfind hat")
  page.click(SEND)
  assert "out of memory" in failed(page)
  assert [words for words, *_ in marks(page)] == ["old"]
  assert len(service.requests) == 3


@slow
@pytest.mark.parametrize(
  ("name", "texts", "expected"),
  [
    ("reviews", {"text": "  \n"}, "Write a text"),
    ("questions", {"context": "", "questions": "Who?"}, "Write a paragraph"),
    ("questions", {"context": "He.", "questions": " \n "}, "Write a question"),
    ("questions", {"context": "He.", "questions": "Who?\n" * 51}, "At most 50 questions"),
    ("stories", {"question": "Who?", "choices": "one"}, "two choices"),
    ("stories", {"choices": "one\ntwo"}, "a text or a question"),
    ("masks", {"text": "no mask"}, "[MASK]"),
    ("vectors", {"sentences": "one"}, "two sentences"),
    ("vectors", {"sentences": "one\n" * 31}, "At most 30 sentences"),
  ],
)
def test_what_is_missing_is_told_at_its_field(page, service, name, texts, expected):
  show(page, service, name)
  sent = len(service.requests)
  for field, text in texts.items():
    page.write(f"[name={field}]", text)
  page.click(SEND)
  assert expected in failed(page)
  assert page.run("return document.activeElement.getAttribute('aria-invalid')") == "true"
  page.type("x")
  assert not page.texts("[aria-invalid]")
  assert len(service.requests) == sent


@slow
def test_a_request_can_be_cancelled_and_is_not_sent_twice(page, service):
  show(page, service, "reviews")
  path = PREDICT.format("reviews")
  service.replies[path] = [Reply(delay=60), Reply(delay=60)]
  page.write("[name=text]", "Cold soup.")
  page.press("Control+Enter", "Control+Enter")
  page.click(SEND)
  page.wait("!document.querySelector('.cancel').hidden")
  assert [request.path for request in service.requests].count(path) == 1
  assert "Working" in page.text(STATUS)
  page.click(CANCEL)
  page.wait("document.querySelector('.status').textContent === 'Cancelled.'")
  assert page.run("return document.activeElement.className") == "first send"
  page.click(SEND)
  page.wait("document.querySelector('.send').ariaDisabled === 'true'")
  page.click("nav a[data-model=stars]")  # cancels, too
  page.click(SAMPLE)
  assert done(page) == "3.142"
  page.click("nav a[data-model=reviews]")
  page.wait("document.querySelector('.status').textContent === 'Cancelled.'")


# ---- The API key --------------------------------------------------------------------------------


@slow
def test_the_key_is_asked_for_and_kept_in_the_tab(page, service):
  service.key = "k3y-of-all"
  show(page, service, "reviews")
  assert page.run("return document.activeElement.name") == "key"
  assert not page.text(KEY_ERROR)
  page.type("wrong")
  page.press("Enter")
  assert "did not accept" in failed(page, KEY_ERROR)
  page.type("gr\u00fcn")
  page.press("Enter")
  page.wait("document.querySelector('#key .error').textContent.includes('ASCII')")
  page.write("[name=key]", service.key)
  page.press("Enter")
  page.wait("document.querySelector('#view h2')")
  page.reload()
  page.wait("document.querySelector('#view h2')")
  assert page.run("return document.querySelector('#key').hidden")
  page.click(SAMPLE)
  done(page)
  assert service.requests[-1].headers["authorization"] == "Bearer k3y-of-all"
  kept = "return [document.cookie, localStorage.length, JSON.stringify(sessionStorage)]"
  assert page.run(kept) == ["", 0, '{"api_key":"k3y-of-all"}']
  assert service.key not in page.run("return document.documentElement.outerHTML + location.href")
  page.click("#has-key button")
  assert page.run(kept)[-1] == "{}"
  page.click(SEND)
  page.wait("document.activeElement.name === 'key'")
  page.type(service.key)
  page.press("Enter")
  page.wait("document.activeElement.className === 'first send'")
  page.press("Enter")
  assert done(page)


# ---- Keyboard, screen reader, small screens -----------------------------------------------------

FOCUS = """const e = document.activeElement, style = getComputedStyle(e);
return [e.name || e.dataset.model || e.textContent, style.outlineStyle, style.outlineWidth]"""


@slow
def test_the_keyboard_is_enough(page, service):
  show(page, service, "questions")

  def tab_to(name):
    for _ in range(30):
      page.press("Tab")
      found, style, width = page.run(FOCUS)
      assert (style, width) == ("solid", "3px"), found
      if found == name:
        return
    raise AssertionError(name)

  tab_to("questions")  # the model
  tab_to("context")
  page.type("The old hat is here.")
  page.press("Tab")
  page.type("find old hat")
  tab_to("Answer")
  page.press("Enter")
  assert done(page).startswith("\u201cold hat\u201d")
  assert page.run("return document.activeElement.textContent") == "Answer"
  tab_to("Clear")
  page.press("Space")
  assert page.run("return document.activeElement.name") == "context"
  page.press("Shift+Tab")
  page.press("Enter")  # the last model
  page.wait("document.querySelector('#view h2').textContent === 'vectors'")


@slow
@pytest.mark.parametrize("name", NAMES)
def test_a_screen_reader_finds_names_and_results(page, service, name):
  show(page, service, name)
  page.click(SAMPLE)
  done(page)
  nodes = page.devtools("Accessibility.getFullAXTree")["nodes"]
  shown = [node for node in nodes if not node["ignored"]]
  roles = {}
  for node in shown:
    role = node["role"]["value"]
    roles.setdefault(role, []).append(node.get("name", {}).get("value", ""))
  for role in ("textbox", "button", "link", "navigation", "region", "table"):
    assert all(roles.get(role, [])), role
  assert roles["textbox"] and len(roles["status"]) >= 1 and "main" in roles
  assert len(page.texts("h1")) == len(page.texts("#view h2")) == 1
  labels = page.run("return [...document.querySelectorAll('textarea')].map((f) => f.labels.length)")
  assert set(labels) == {1}
  assert page.run("return document.querySelector('.status').getAttribute('role')") == "status"
  assert page.run("return document.querySelector('#view .error').getAttribute('role')") == "alert"
  identifiers = page.run("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
  assert len(identifiers) == len(set(identifiers))


@slow
@pytest.mark.parametrize("name", NAMES)
def test_a_phone_is_wide_enough(page, service, name):
  page.emulate(320, 640)
  show(page, service, name)
  width = "return [document.documentElement.scrollWidth, innerWidth]"
  assert page.run(width) == [320, 320]
  page.click(SAMPLE)
  done(page)
  assert page.run(width) == [320, 320]
  long = "x" * 300
  fields = "return [...document.querySelectorAll('textarea')].map((f) => f.name)"
  page.run("document.querySelector('details')?.setAttribute('open', '')")
  for field in page.run(fields):
    lines = "\n".join(f"find {long}{number}" for number in range(30))
    page.write(f"[name={field}]", f"[MASK] {lines}")
  page.click(SEND)
  done(page)
  assert page.run(width) == [320, 320]
  service.replies[PREDICT.format(name)] = [Reply(400, {"error": long})]
  page.click(SEND)
  failed(page)
  assert page.run(width) == [320, 320]
  small = """return [...document.querySelectorAll("#view form button, nav a, textarea")].filter(
    (e) => e.getClientRects().length && e.getBoundingClientRect().height < 43.9).length"""
  assert page.run(small) == 0


CONTRAST = """
const parse = (colour) => {
  const found = colour.match(/[\\d.]+/g).map(Number);
  return [...found.slice(0, 3), found.length > 3 ? found[3] : 1];
};
const over = (top, below) =>
  [...[0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])), 1];
const behind = (element) => {
  if (!element) return [255, 255, 255, 1];
  const own = parse(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, behind(element.parentElement));
};
const light = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((c) => {
    c /= 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => {
  const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
  const below = behind(element);
  found.push([ratio(over(parse(getComputedStyle(element).color), below), below),
    walker.currentNode.data.trim().slice(0, 30)]);
}
for (const element of document.querySelectorAll("textarea, input, #view button")) {
  if (!element.getClientRects().length || element.className.includes("link")) continue;
  const border = parse(getComputedStyle(element).borderTopColor);
  const enough = 1.5 * ratio(border, behind(element.parentElement)); // 3 is enough
  found.push([enough, "border of " + (element.name || element.textContent)]);
}
return found
"""


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [*NAMES, "types", "error", "key"])
def test_contrast_is_enough(page, service, scheme, name):
  page.emulate(1000, 800, scheme)
  if name == "types":
    reply = {
      "entities": [
        {"text": "x", "type": f"T{i}", "start_char": 2 * i, "end_char": 2 * i + 1} for i in range(9)
      ],
      "words": [],
      "tags": [],
      "windows": 9,
    }
    service.replies[PREDICT.format("names")] = [Reply(body={"predictions": [reply]})]
  service.key = "a key" if name == "key" else ""
  show(page, service, {"types": "names", "error": "reviews"}.get(name, name))
  if name == "error":
    service.replies[PREDICT.format("reviews")] = [
      Reply(429, {"error": "the queue is full"}, {"Retry-After": "50"})
    ]
  if name != "key":
    page.click(SAMPLE)
    failed(page) if name == "error" else done(page)
  found = page.run(CONTRAST)
  assert len(found) > 5
  assert not [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5]
