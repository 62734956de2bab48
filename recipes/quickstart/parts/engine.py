"""The small template language in which the stories and the conversations are written.

(a|b) chooses one of the phrases, {x} fills a slot, and <x> inserts a shared phrase.
A slot keeps its value inside one row, so that people and places stay consistent.
A noun slot takes a form after a colon, which lets the article agree with the noun:
{dier:een}, {dier:de}, {dier:mv}, and {dier:een+kleur} with an agreeing adjective.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent


def read_blocks(name, opening):
    """Read a parts file as lists of lines, one list for each heading."""
    blocks, current = {}, None
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith(opening):
            current = line.strip("[]= ")
            assert current not in blocks, f"{name}: {current} occurs twice"
            blocks[current] = []
        else:
            blocks[current].append(line)
    return blocks


NOUNS = {k: [tuple(x.split()) for x in v] for k, v in read_blocks("nouns.txt", "[").items()}
WORDS = {k: [tuple(x.split("|")) for x in v] for k, v in read_blocks("words.txt", "[").items()}
MACROS = read_blocks("macros.txt", "[")
ANIMALS = {"dier", "wild", "vogel", "pluis", "klein"}

# A compound takes a linking form that no simple rule predicts.
COMPOUND = {
    "peer": "peren", "banaan": "bananen", "pruim": "pruimen", "kers": "kersen",
    "aardbei": "aardbeien", "druif": "druiven", "framboos": "frambozen", "braam": "bramen",
    "ui": "uien", "tomaat": "tomaten", "boon": "bonen", "biet": "bieten",
}


class Context:
    """The slot values of one row."""

    def __init__(self, rng):
        self.rng = rng
        self.values = {}
        self.people()

    def people(self):
        rng, v = self.rng, self.values
        boys = [x[0] for x in WORDS["jongen"]]
        girls = [x[0] for x in WORDS["meisje"]]
        names = [(n, "m") for n in boys] + [(n, "v") for n in girls]
        first, second, third = rng.sample(names, 3)
        v["M1"], v["M2"] = rng.sample(girls, 2)
        family = rng.choice(WORDS["familie"])
        trade = rng.choice(WORDS["beroep"])
        for key, low, (name, sex) in (("P", "", first), ("Q", "q", second),
                                      ("Q2", "q2", third), ("F", "f", family),
                                      ("B", "b", trade[:2])):
            v[key] = name
            subject, own, obj = ("hij", "zijn", "hem") if sex == "m" else ("ze", "haar", "haar")
            v["p" if key == "P" else low] = subject
            v["z" + low], v["h" + low] = own, obj
        v["dek"] = "jongen" if first[1] == "m" else "meisje"
        v["B:doet"] = trade[2]
        title = {"m": "meneer", "v": "mevrouw"}
        surnames = rng.sample(WORDS["achternaam"], 2)
        v["volwassen"] = f"{title[trade[1]]} {surnames[0][0]}"
        v["volwassen2"] = f"{rng.choice(['meneer', 'mevrouw'])} {surnames[1][0]}"

    def value(self, key):
        """Draw a value for a slot once; numbered slots of one kind differ."""
        if key not in self.values:
            kind = key.rstrip("0123456789")
            pool = NOUNS.get(kind) or WORDS[kind]
            taken = [v for k, v in self.values.items() if k.rstrip("0123456789") == kind]
            free = [x for x in pool if x not in taken]
            # A season or colour list is short, so a used value may come back.
            self.values[key] = self.rng.choice(free or pool)
            # A school day is the day of the story, also for the shared phrases.
            if key == "schooldag":
                self.values.setdefault("dag", self.values[key])
        return self.values[key]

    def slot(self, text):
        capital = text.endswith("^")
        out = self.plain_slot(text.rstrip("^"))
        return out[0].upper() + out[1:] if capital else out

    def plain_slot(self, text):
        if text in self.values and isinstance(self.values[text], str):
            return self.values[text]
        key, _, form = text.partition(":")
        form, _, adjective = form.partition("+")
        kind = key.rstrip("0123456789")
        value = self.value(key)
        if kind in NOUNS:
            return self.noun(kind, value, form or "n", adjective)
        if kind == "plek":
            preposition, article, noun = value
            if form == "in":
                return f"{preposition} {article} {noun}"
            return f"naar {article} {noun}" if form == "naar" else f"{article} {noun}"
        if form == "e":
            return value[1]
        if form == "na":
            days = [x[0] for x in WORDS["dag"]]
            return days[(days.index(value[0]) + 1) % 7]
        return value[0]

    def noun(self, kind, value, form, adjective):
        article, singular, plural, small = value
        neuter = article == "het"
        middle = ""
        if adjective:
            if kind in ANIMALS and adjective.startswith("kleur"):
                adjective = "dier" + adjective
            bare, inflected = self.value(adjective)
            # Only an indefinite neuter singular leaves the adjective without its ending.
            middle = (bare if form == "een" and neuter else inflected) + " "
        forms = {
            "n": singular, "mv": middle + plural, "kl": small,
            "een": f"een {middle}{singular}", "de": f"{article} {middle}{singular}",
            "die": ("dat " if neuter else "die ") + singular,
            "deze": ("dit " if neuter else "deze ") + singular,
            "hij": "het" if neuter else "hij", "hem": "het" if neuter else "hem",
            "rel": "dat" if neuter else "die", "sam": COMPOUND.get(singular, singular),
        }
        return forms[form]

    def expand(self, text):
        """Fill one line of a template."""
        for _ in range(60):
            choice = re.search(r"\(([^()]*)\)", text)
            phrase = re.search(r"<([^<>]+)>", text)
            if choice:
                text = text[:choice.start()] + self.rng.choice(choice[1].split("|")) + text[choice.end():]
            elif phrase:
                text = text[:phrase.start()] + self.rng.choice(self.macro(phrase[1])) + text[phrase.end():]
            else:
                break
        text = re.sub(r"\{([^{}]+)\}", lambda m: self.slot(m[1]), text)
        return capitals(re.sub(r" +", " ", text).strip())

    def macro(self, name):
        if name == "weer":
            name = "weer-" + self.value("seizoen")[0]
        if name == "weernu-kies":
            name = "weernu-" + self.value("seizoen")[0]
        return MACROS[name]


def capitals(text):
    """Give every sentence, and every quotation that starts one, its capital."""
    def up(match):
        return match[1] + match[2].upper()
    text = re.sub(r"^('s )([a-zé])", up, text)
    if not text.startswith("'s "):
        text = re.sub(r"^('?)([a-zé])", up, text)
    text = re.sub(r"([.!?:-] ')([a-zé])", up, text)
    text = re.sub(r"([.!?] |(?<=\w) - )([a-zé])", up, text)
    return text


def join(lines):
    """Put the lines of a text together; a greeting and a signature get their own line."""
    out = ""
    for line in lines:
        own = out.endswith(",") or not line.rstrip("'").endswith((".", "!", "?", ","))
        out += ("\n" if own else " ") + line if out else line
    return out


def sentences(text):
    """The sentences of more than three words, in the form in which they are compared."""
    found = set()
    for part in re.split(r"[.!?\n]", text):
        # The bare form drops quotation marks, so that they cannot hide a repeated sentence.
        for form in (part.strip().lower(), part.strip(" '\"-,:;").lower()):
            if len(form.split()) > 3:
                found.add(form)
    return found
