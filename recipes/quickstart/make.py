"""Write the training text of the quickstart from the hand-written parts.

    python3 make.py            write the files beside this script, and check them
    python3 make.py --check    only check the files that are there

The same parts always give the same bytes. The script exits with an error when a
promise of the README does not hold.
"""

import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from parts.engine import Context, join, read_blocks, sentences  # noqa: E402
from parts.talk import CHATS, REJECTED, all_facts  # noqa: E402
from parts.talk import rows as rows_of  # noqa: E402

SEED = 20
READER_BYTES = {"heldout": 27_000, "train": 345_000}
CHAT_ROWS = {"heldout": {"fact": 56, "chat": 42}, "train": {"fact": 900, "chat": 620}}
PAIR_ROWS = {"heldout": 62, "train": 620}
STORIES = read_blocks("stories.txt", "== ")
HAND = [x.strip() for x in (HERE / "parts" / "texts.txt").read_text(encoding="utf-8").split("\n\n")
        if x.strip() and not x.startswith("#")]
PROMPTS = (HERE / "prompts.txt").read_text(encoding="utf-8").split("\n")[:-1]
# A short instruction may stand in both parts; a longer one is a sentence and may not.
SYSTEM_SHORT = ["Antwoord beleefd.", "Antwoord kort.", "Spreek alleen Nederlands.", "Wees vriendelijk."]
SYSTEM_LONG = ["Je bent een vriendelijke hulp die korte antwoorden geeft.",
               "Geef antwoord in goed en eenvoudig Nederlands.",
               "Je helpt mensen met vragen over taal en over gewone dingen."]
# A courtesy must suit what was asked, so the first word of the question chooses it.
REQUESTS = {"Zet", "Maak", "Noem", "Leg", "Reken", "Kun", "Wil", "Geef", "Vul", "Tel", "Schrijf", "Help",
            "Vertel", "Bedenk", "Gebruik"}
ASKING = {"Wat", "Welk", "Welke", "Wie", "Hoe", "Hoeveel", "Waar", "Waarom"}
WILLING = ["Natuurlijk!", "Graag!", "Zeker!", "Met plezier.", "Dat kan!"]
PRAISING = ["Goede vraag!", "Leuke vraag!", "Mooie vraag!"]
AFTER = ["Vraag gerust verder.", "Succes ermee!", "Fijne dag nog!", "Veel succes!"]


def texts_of(row):
    """Every text in a row, whatever its shape."""
    if "text" in row:
        return [row["text"]]
    if "messages" in row:
        return [m["content"] for m in row["messages"]]
    return [row["prompt"], row["chosen"], row["rejected"]]


def questions_of(row):
    """What the user asks in a row."""
    if "prompt" in row:
        return [row["prompt"]]
    return [m["content"] for m in row.get("messages", []) if m["role"] == "user"]


class Shelf:
    """Collects rows, and refuses those that repeat or that touch the held-out text."""

    def __init__(self):
        self.kept_apart = set()
        self.kept_questions = set()
        self.seen = set()

    def close_heldout(self, rows):
        """From here on, refuse every sentence and question of these rows."""
        for row in rows:
            for text in texts_of(row):
                self.kept_apart |= sentences(text)
            self.kept_questions |= {q.lower() for q in questions_of(row)}

    def accepts(self, row):
        key = json.dumps(row, ensure_ascii=False)
        texts = texts_of(row)
        if key in self.seen:
            return False
        if any(p.lower() in t.lower() for p in PROMPTS for t in texts):
            return False
        if any(q.lower() in self.kept_questions for q in questions_of(row)):
            return False
        if any(sentences(t) & self.kept_apart for t in texts):
            return False
        self.seen.add(key)
        return True

    def line(self, context, template):
        """Fill a line, trying again while the result is a held-out sentence."""
        for _ in range(25):
            text = context.expand(template)
            if not sentences(text) & self.kept_apart:
                return text
        return None


def make_reader(rng, shelf, part):
    rows, size = [], 0
    # The hand-written texts stay whole; every twelfth one is held out.
    for i, text in enumerate(HAND):
        if (i % 12 == 5) == (part == "heldout"):
            row = {"text": " ".join(text.split())}
            if shelf.accepts(row):
                rows.append(row)
                size += len(row["text"].encode())
    names, used = list(STORIES), 0
    while size < READER_BYTES[part]:
        # Every story is told once before one is told again.
        if used % len(names) == 0:
            rng.shuffle(names)
        name = names[used % len(names)]
        used += 1
        for _ in range(20):
            context = Context(rng)
            lines = [shelf.line(context, x) for x in STORIES[name]]
            if None in lines:
                continue
            row = {"text": join(lines)}
            if 400 <= len(row["text"]) <= 1500 and shelf.accepts(row):
                rows.append(row)
                size += len(row["text"].encode())
                break
    rng.shuffle(rows)
    return rows


def message(role, content):
    return {"role": role, "content": content}


def exchange(question, answer):
    return [message("user", question), message("assistant", answer)]


def courteous(rng, question, answer, often=0.3):
    """Sometimes open or close an answer with a short courtesy."""
    draw = rng.random()
    first = question.split()[0].rstrip(":,")
    before = WILLING if first in REQUESTS else PRAISING if first in ASKING else None
    if answer.startswith(("Natuurlijk", "Ja", "Graag", "Dag", "Nee", "Goed", "Wat een")):
        before = None
    if draw < often * 0.7 and before:
        return f"{rng.choice(before)} {answer}"
    return f"{answer} {rng.choice(AFTER)}" if draw < often else answer


def told(rng, shelf, name, first_only):
    """One conversation, as a list of question and answer texts.

    A fixed follow-up question must not be held out, since it could then not be
    trained on at all; the caller asks for the first exchange only in that case.
    """
    context = Context(rng)
    lines = CHATS[name]
    count = len(lines) if len(lines) > 2 and not first_only and rng.random() < 0.7 else 2
    texts = [shelf.line(context, x[3:]) for x in lines[:count]]
    return None if None in texts else texts


def whole_questions(part):
    """The questions written out in full; every tenth one is held out."""
    out = []
    for i, line in enumerate(rows_of("plain.txt")):
        if (i % 10 == 4) == (part == "heldout"):
            out.append(line.split(" = "))
    return out


def make_chat(rng, shelf, part, facts):
    rows = []
    kinds = sorted({f["kind"] for f in facts})
    names = list(CHATS)

    def add(messages):
        draw = rng.random()
        if draw < 0.06 or part == "train" and draw < 0.09:
            pool = SYSTEM_SHORT if draw < 0.06 else SYSTEM_LONG
            messages = [message("system", rng.choice(pool))] + messages
        row = {"messages": messages}
        if shelf.accepts(row):
            rows.append(row)
            return True
        return False

    for question, answer in whole_questions(part):
        add(exchange(question, answer))
    made = 0
    while made < CHAT_ROWS[part]["fact"]:
        kind = kinds[made % len(kinds)] if rng.random() < 0.6 else rng.choice(facts)["kind"]
        pool = [f for f in facts if f["kind"] == kind]
        turns = 2 if rng.random() < 0.18 else 1
        messages = []
        for item in rng.sample(pool, turns):
            question = rng.choice(item["q"])
            messages += exchange(question, courteous(rng, question, rng.choice(item["a"]), 0.2))
        made += add(messages)
    made = tries = 0
    while made < CHAT_ROWS[part]["chat"]:
        name = names[tries % len(names)]
        tries += 1
        fixed = any("{" not in x for x in CHATS[name][2:])
        texts = told(rng, shelf, name, part == "heldout" and fixed)
        if texts:
            messages = []
            for q, a in zip(texts[::2], texts[1::2]):
                messages += exchange(q, courteous(rng, q, a, 0.12))
            made += add(messages)
    rng.shuffle(rows)
    return rows


def worse(rng, shelf, kind, item, context):
    """An answer of one of the worse kinds."""
    question, key = item["question"], item["key"]
    if kind == "wrong":
        return rng.choice(item["wrong"])
    if kind == "word":
        return key[0].upper() + key[1:] + "." if key and rng.random() < 0.5 else None
    if kind == "repeat":
        if rng.random() < 0.4:
            return f"{question} {question}"
        return " ".join([key or question.split()[0].lower()] * rng.randint(3, 9)) + "."
    if kind == "echo":
        # Saying the right thing over and over is worse than saying it once.
        return " ".join([item["answer"]] * rng.randint(2, 3))
    return shelf.line(context, rng.choice(REJECTED[kind]))


def make_pairs(rng, shelf, part, facts):
    rows = []
    kinds = ["rude", "evasive", "wrong", "offtopic", "english", "rude", "evasive", "short", "word",
             "repeat", "echo", "wrong"]
    by_kind = {}
    for f in facts:
        by_kind.setdefault(f["kind"], []).append(f)
    names = list(CHATS)
    while len(rows) < PAIR_ROWS[part]:
        context = Context(rng)
        if rng.random() < 0.5:
            source = rng.choice(by_kind[rng.choice(sorted(by_kind))])
            item = {"question": rng.choice(source["q"]), "answer": rng.choice(source["a"]),
                    "key": source["key"], "wrong": source["wrong"]}
            context.values["T"] = source["topic"]
        else:
            name = rng.choice(names)
            texts = told(rng, shelf, name, True)
            other = told(rng, shelf, rng.choice([n for n in names if n != name]), True)
            if not texts or not other:
                continue
            item = {"question": texts[0], "answer": texts[1], "key": "", "wrong": [other[1]]}
            context.values["T"] = name
        rejected = worse(rng, shelf, rng.choice(kinds), item, context)
        chosen = courteous(rng, item["question"], item["answer"], 0.5)
        if rejected is None or rejected == chosen:
            continue
        row = {"prompt": item["question"], "chosen": chosen, "rejected": rejected}
        if shelf.accepts(row):
            rows.append(row)
    return rows


def build():
    shelf = Shelf()
    facts = all_facts(random.Random(SEED), lambda rng=random.Random(SEED + 1): Context(rng))
    files = {}
    # The held-out rows are drawn first; the training rows then avoid their sentences.
    for offset, part in ((100, "heldout"), (200, "train")):
        files[f"reader/{part}"] = make_reader(random.Random(SEED + offset), shelf, part)
        files[f"chat/{part}"] = make_chat(random.Random(SEED + offset + 1), shelf, part, facts)
        files[f"pairs/{part}"] = make_pairs(random.Random(SEED + offset + 2), shelf, part, facts)
        if part == "heldout":
            shelf.close_heldout([row for rows in files.values() for row in rows])
    return files


def exchanges(rows):
    return sum(m["role"] == "user" for row in rows for m in row["messages"])


def text_bytes(rows):
    return sum(len(row["text"].encode()) for row in rows)


def check(files):
    """The promises that do not hold, as a list of sentences."""
    faults = []

    def need(holds, text):
        if not holds:
            faults.append(text)

    need(text_bytes(files["reader/train"]) >= 330_000, "the reader is too small to train on")
    need(25_000 <= text_bytes(files["reader/heldout"]) <= 30_500, "the held-out reader has the wrong size")
    need(all(380 <= len(r["text"]) <= 1600 for p in ("train", "heldout") for r in files[f"reader/{p}"]),
         "a reader row has the wrong length")
    need(exchanges(files["chat/train"]) >= 1600, "there are too few exchanges to train on")
    need(100 <= exchanges(files["chat/heldout"]) <= 140, "the held-out chat has the wrong size")
    need(len(files["pairs/train"]) >= 550, "there are too few pairs to train on")
    need(55 <= len(files["pairs/heldout"]) <= 70, "the held-out pairs have the wrong number")

    train = [row for name, rows in files.items() if name.endswith("train") for row in rows]
    heldout = [row for name, rows in files.items() if name.endswith("heldout") for row in rows]
    train_sentences = set().union(*(sentences(t) for row in train for t in texts_of(row)))
    heldout_sentences = set().union(*(sentences(t) for row in heldout for t in texts_of(row)))
    for sentence in sorted(train_sentences & heldout_sentences):
        need(False, f"a sentence is in train and in heldout: {sentence}")
    train_text = "\n".join(t.lower() for row in train for t in texts_of(row))
    for row in heldout:
        for question in questions_of(row):
            need(question.lower() not in train_text, f"a held-out question is in train: {question}")
    keys = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in train + heldout]
    need(len(keys) == len(set(keys)), "a row occurs twice")
    need(3 <= len(PROMPTS) <= 4, "there must be three or four demo prompts")
    for prompt in PROMPTS:
        for row in train + heldout:
            need(not any(prompt.lower() in t.lower() for t in texts_of(row)), f"a demo prompt is in a row: {prompt}")
    for row in train + heldout:
        for text in texts_of(row):
            # A left-over mark of the template language shows a mistake in the parts.
            need(not set(text) & set("{}<>|()"), f"a template mark is left in: {text[:80]}")
    return faults


def main():
    names = [f"{kind}/{part}" for kind in ("reader", "chat", "pairs") for part in ("train", "heldout")]
    if "--check" not in sys.argv:
        built = build()
        for name in names:
            path = HERE / f"{name}.jsonl"
            path.parent.mkdir(exist_ok=True)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in built[name]]
            path.write_bytes("".join(lines).encode())
    # The check reads the files back, so that it judges what is on disk.
    files = {name: [json.loads(x) for x in (HERE / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") if x]
             for name in names}
    faults = check(files)
    for fault in faults:
        print("error:", fault, file=sys.stderr)
    for name in names:
        rows, size = files[name], (HERE / f"{name}.jsonl").stat().st_size
        extra = f", {text_bytes(rows)} bytes of text" if "reader" in name else ""
        extra = f", {exchanges(rows)} exchanges" if "chat" in name else extra
        print(f"{name}.jsonl: {len(rows)} rows, {size} bytes{extra}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
