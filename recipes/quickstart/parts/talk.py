"""Questions with a known answer, built from the word lists."""

from parts.engine import HERE, NOUNS, WORDS, read_blocks

UNITS = ["nul", "een", "twee", "drie", "vier", "vijf", "zes", "zeven", "acht", "negen", "tien",
         "elf", "twaalf", "dertien", "veertien", "vijftien", "zestien", "zeventien", "achttien",
         "negentien"]
TENS = ["", "", "twintig", "dertig", "veertig", "vijftig", "zestig", "zeventig", "tachtig",
        "negentig"]
# These verbs make a whole sentence without an object.
ALONE = ["lopen", "zwemmen", "lezen", "schrijven", "slapen", "zingen", "springen", "spelen",
         "werken", "koken", "fietsen", "wandelen", "lachen", "tekenen", "dansen", "leren", "eten",
         "drinken", "helpen", "bakken"]
# For each pair of opposites, a thing that can be either.
DESCRIBED = {
    "groot": "hond", "warm": "jas", "oud": "man", "hoog": "toren", "lang": "weg", "dik": "trui",
    "snel": "trein", "hard": "koek", "licht": "kamer", "nat": "vloer", "vol": "tas",
    "rijk": "koning", "sterk": "beer", "schoon": "keuken", "duur": "bril", "blij": "vrouw",
    "lief": "kat", "dapper": "jongen", "breed": "rivier", "diep": "sloot", "recht": "lijn",
    "zoet": "pruim", "makkelijk": "vraag", "gezond": "buurman", "stil": "straat", "slim": "vos",
    "mooi": "tekening", "scherp": "schaar", "zwaar": "doos", "goed": "zin", "druk": "markt",
    "beleefd": "gast", "veilig": "brug", "netjes": "brief", "rijp": "peer",
}


def number(n):
    """Write a number below one hundred in words."""
    if n < 20:
        return UNITS[n]
    ten, unit = divmod(n, 10)
    if not unit:
        return TENS[ten]
    # After a final e the joining word takes a diaeresis.
    joint = "ën" if UNITS[unit].endswith("e") else "en"
    return UNITS[unit] + joint + TENS[ten]


def rows(name):
    """The lines of a parts file without its comments."""
    text = (HERE / name).read_text(encoding="utf-8")
    return [x for x in text.splitlines() if x and not x.startswith("#")]


def unique_nouns():
    """Every noun once, with the group in which it was first listed."""
    seen = {}
    for kind, nouns in NOUNS.items():
        for noun in nouns:
            seen.setdefault(noun[1], (kind, noun))
    return list(seen.values())


def fact(kind, topic, questions, answers, key, wrong):
    """One question with its answers; wrong holds the same answers with an error."""
    return {"kind": kind, "topic": topic, "q": questions, "a": answers, "key": key, "wrong": wrong}


def noun_facts(rng):
    out = []
    nouns = unique_nouns()
    for _, (article, one, many, small) in nouns:
        topic = f"het woord {one}"
        bad = next(b for b in (one + "en", one + "s", one + "eren") if b != many)
        out.append(fact("meervoud", topic,
                        [f"Wat is het meervoud van {one}?", f"Zet het woord {one} in het meervoud.",
                         f"Zet in het meervoud: {article} {one}.", f"Eén {one}, twee …?",
                         f"Hoe zeg je {one} in het meervoud?"],
                        [f"Het meervoud van {one} is {many}.", f"In het meervoud zeg je {many}.",
                         f"Eén {one}, twee {many}.", f"Het meervoud is de {many}."],
                        many, [f"Het meervoud van {one} is {bad}.", f"In het meervoud zeg je {bad}."]))
        other = "het" if article == "de" else "de"
        out.append(fact("lidwoord", topic,
                        [f"Is het de {one} of het {one}?", f"Welk lidwoord hoort bij {one}?",
                         f"Zeg je de of het bij {one}?"],
                        [f"Het is {article} {one}.", f"Bij {one} hoort het lidwoord {article}.",
                         f"Je zegt {article} {one}."],
                        article, [f"Het is {other} {one}.", f"Bij {one} hoort het lidwoord {other}."]))
        if small != one:
            out.append(fact("verkleinwoord", topic,
                            [f"Wat is het verkleinwoord van {one}?", f"Hoe noem je een kleine {one}?"
                             if article == "de" else f"Hoe noem je een klein {one}?",
                             f"Geef het verkleinwoord van {one}."],
                            [f"Het verkleinwoord van {one} is {small}.",
                             f"Dat noem je een {small}.", f"Dan zeg je het {small}."],
                            small, [f"Het verkleinwoord van {one} is groot {one}.",
                                    f"Dat noem je een {rng.choice(nouns)[1][3]}."]))
    return out


def adjective_facts(rng):
    pairs = [x.split() for x in rows("opposites.txt")]
    out = []
    for first, second, *_ in pairs:
        for a, b in ((first, second), (second, first)):
            bad = rng.choice([p[1] for p in pairs if p[0] not in (a, b) and p[1] not in (a, b)])
            out.append(fact("tegendeel", f"het woord {a}",
                            [f"Wat is het tegenovergestelde van {a}?", f"Wat is het omgekeerde van {a}?",
                             f"Noem het tegendeel van {a}.", f"Welk woord is het tegendeel van {a}?"],
                            [f"Het tegenovergestelde van {a} is {b}.", f"Het omgekeerde van {a} is {b}.",
                             f"Het tegendeel van {a} is {b}."],
                            b, [f"Het tegenovergestelde van {a} is {bad}.",
                                f"Het tegendeel van {a} is {bad}."]))
    for first, second, long, other in pairs:
        for word, form, bad in ((first, long, other), (second, other, long)):
            if first in DESCRIBED and word != form:
                noun = DESCRIBED[first]
                out.append(fact("vergroten", f"het woord {word}",
                                [f"Vul in: de {noun} is {word}, dus het is een …",
                                 f"De {noun} is {word}. Wat voor {noun} is het?"],
                                [f"Het is een {form} {noun}.", f"Dan is het een {form} {noun}."],
                                form, [f"Het is een {bad} {noun}."]))
    return out


def verb_facts():
    out = []
    verbs = [x.split() for x in rows("verbs.txt")]
    for i, (verb, now, past, helper, done) in enumerate(verbs):
        wrong = verbs[(i + 7) % len(verbs)]
        topic = f"het werkwoord {verb}"
        out.append(fact("verleden", topic,
                        [f"Wat is de verleden tijd van {verb}?", f"Vandaag {now} hij, gisteren …?",
                         f"Zet in de verleden tijd: hij {now}."],
                        [f"De verleden tijd van {verb} is {past}.", f"Gisteren {past} hij.",
                         f"In de verleden tijd zeg je: hij {past}."],
                        past, [f"De verleden tijd van {verb} is {wrong[2]}.",
                               f"In de verleden tijd zeg je: hij {wrong[2]}."]))
        out.append(fact("voltooid", topic,
                        [f"Wat is het voltooid deelwoord van {verb}?", f"Zet in de voltooide tijd: zij {now}."],
                        [f"Het voltooid deelwoord van {verb} is {done}.", f"In de voltooide tijd is het: zij {helper} {done}."],
                        done, [f"Het voltooid deelwoord van {verb} is {wrong[4]}."]))
        out.append(fact("vervoeging", topic,
                        [f"Wat is de hij-vorm van {verb}?", f"Ik, jij, hij: wat hoort er bij {verb} na hij?"],
                        [f"De hij-vorm van {verb} is: hij {now}.", f"Je zegt: hij {now}."],
                        now, [f"De hij-vorm van {verb} is: hij {verb}."]))
    return out


def sum_facts(rng):
    out, seen = [], set()
    while len(out) < 260:
        word = rng.choice(["plus", "min", "keer"])
        a, b = (rng.randint(2, 9), rng.randint(2, 9)) if word == "keer" else (rng.randint(1, 40), rng.randint(1, 20))
        if word == "min" and b >= a or (word, a, b) in seen:
            continue
        seen.add((word, a, b))
        n = {"plus": a + b, "min": a - b, "keer": a * b}[word]
        x = f"{number(a)} {word} {number(b)}"
        bad = number(n + rng.randint(1, 9))
        out.append(fact("rekenen", f"de som {x}",
                        [f"Hoeveel is {x}?", f"Wat is {x}?", f"Reken uit: {x}."],
                        [f"{x.capitalize()} is {number(n)}.", f"De uitkomst van {x} is {number(n)}.",
                         f"{x.capitalize()} is samen {number(n)}." if word == "plus" else f"Als je rekent, is {x} gelijk aan {number(n)}."],
                        number(n), [f"{x.capitalize()} is {bad}.", f"De uitkomst van {x} is {bad}."]))
    for n in range(3, 60):
        out.append(fact("tellen", f"het getal {number(n)}",
                        [f"Welk getal komt na {number(n)}?", f"Tel verder: {number(n - 2)}, {number(n - 1)}, {number(n)}, …"],
                        [f"Na {number(n)} komt {number(n + 1)}.", f"Het volgende getal na {number(n)} is {number(n + 1)}."],
                        number(n + 1), [f"Na {number(n)} komt {number(n - 2)}."]))
    return out


def calendar_facts():
    out = []
    for kind, many, item in (("dag", 7, "dag"), ("maand", 12, "maand")):
        names = [x[0] for x in WORDS[kind]]
        for i, name in enumerate(names):
            after, before, bad = names[(i + 1) % many], names[i - 1], names[(i + 3) % many]
            out.append(fact("kalender", f"de {item} {name}",
                            [f"Welke {item} komt na {name}?", f"Wat is de {item} na {name}?", f"Noem de {item} die op {name} volgt."],
                            [f"Na {name} komt {after}.", f"De {item} na {name} is {after}.", f"Op {name} volgt de {item} {after}."],
                            after, [f"Na {name} komt {bad}.", f"De {item} na {name} is {bad}."]))
            out.append(fact("kalender", f"de {item} {name}",
                            [f"Welke {item} komt voor {name}?", f"Wat is de {item} voor {name}?", f"Welke {item} gaat aan {name} vooraf?"],
                            [f"Voor {name} komt {before}.", f"De {item} voor {name} is {before}.", f"Aan {name} gaat de {item} {before} vooraf."],
                            before, [f"Voor {name} komt {bad}.", f"De {item} voor {name} is {bad}."]))
            if kind == "dag":
                out.append(fact("kalender", f"de dag {name}",
                                [f"Vandaag is het {name}. Welke dag is het morgen?", f"Als het vandaag {name} is, wat is het dan morgen?"],
                                [f"Als het vandaag {name} is, is het morgen {after}.", f"Dan is het morgen {after}."],
                                after, [f"Als het vandaag {name} is, is het morgen {bad}."]))
                out.append(fact("kalender", f"de dag {name}",
                                [f"Vandaag is het {name}. Welke dag was het gisteren?", f"Als het vandaag {name} is, wat was het dan gisteren?"],
                                [f"Als het vandaag {name} is, was het gisteren {before}.", f"Dan was het gisteren {before}."],
                                before, [f"Als het vandaag {name} is, was het gisteren {bad}."]))
    order = ["eerste", "tweede", "derde", "vierde", "vijfde", "zesde", "zevende", "achtste",
             "negende", "tiende", "elfde", "twaalfde"]
    months = [x[0] for x in WORDS["maand"]]
    for i, name in enumerate(months):
        out.append(fact("kalender", f"de {order[i]} maand",
                        [f"Wat is de {order[i]} maand van het jaar?", f"Noem de {order[i]} maand."],
                        [f"De {order[i]} maand van het jaar is {name}.", f"De {order[i]} maand is {name}."],
                        name, [f"De {order[i]} maand is {months[(i + 5) % 12]}."]))
    return out


def world_facts(rng):
    out = []
    animals = [x.split() for x in rows("sounds.txt")]
    for i, (article, animal, sound) in enumerate(animals):
        wrong = next(a for a in animals[i + 3:] + animals if a[2] != sound)
        out.append(fact("geluid", f"{article} {animal}",
                        [f"Wat doet {article} {animal}?", f"Welk geluid maakt {article} {animal}?", f"Hoe klinkt {article} {animal}?"],
                        [f"{article.capitalize()} {animal} {sound}.", f"Een {animal} {sound}.", f"Het geluid hoor je goed: {article} {animal} {sound}."],
                        sound, [f"{article.capitalize()} {animal} {wrong[2]}.", f"Een {animal} {wrong[2]} meestal."]))
        out.append(fact("geluid", f"een dier dat {sound}",
                        [f"Welk dier {sound}, {article} {animal} of {wrong[0]} {wrong[1]}?", f"Wie {sound} er, {wrong[0]} {wrong[1]} of {article} {animal}?"],
                        [f"Dat is {article} {animal}, want {article} {animal} {sound}.", f"{article.capitalize()} {animal} {sound}, en {wrong[0]} {wrong[1]} {wrong[2]}."],
                        animal, [f"Dat is {wrong[0]} {wrong[1]}, want {wrong[0]} {wrong[1]} {sound}."]))
    colours = [x[0] for x in WORDS["kleur"]]
    for line in rows("colours.txt"):
        thing, colour = line.split("|")
        bad = rng.choice([c for c in colours if c != colour])
        out.append(fact("kleur", f"de kleur van {thing}",
                        [f"Welke kleur heeft {thing}?", f"Wat is de kleur van {thing}?", f"Noem de kleur van {thing}."],
                        [f"{thing.capitalize()} is {colour}.", f"De kleur van {thing} is {colour}.", f"Meestal is {thing} {colour}."],
                        colour, [f"{thing.capitalize()} is {bad}.", f"De kleur van {thing} is {bad}."]))
    defs = [x.split(" = ") for x in rows("defs.txt")]
    for i, (what, text) in enumerate(defs):
        wrong = defs[(i + 31) % len(defs)][1]
        asks = "Wie of wat" if text.startswith("iemand") else "Wat"
        out.append(fact("betekenis", f"het woord {what.split(' ', 1)[1]}",
                        [f"{asks} is {what}?", f"Wat betekent het woord {what.split(' ', 1)[1]}?", f"Leg uit wat {what} is.", f"Kun je uitleggen wat {what} is?"],
                        [f"{what.capitalize()} is {text}.", f"Dat is {text}.", f"Met {what} bedoelen we {text}."],
                        what.split(" ", 1)[1], [f"{what.capitalize()} is {wrong}.", f"Dat is {wrong}."]))
        out.append(fact("raden", "dat raadsel",
                        [f"Hoe noem je {text}?", f"Welk woord past bij: {text}?"],
                        [f"Dat noem je {what}.", f"Dat is {what}.", f"Het goede woord is {what.split(' ', 1)[1]}."],
                        what, [f"Dat noem je {defs[(i + 17) % len(defs)][0]}."]))
    return out


def sentence_facts(context):
    """Requests for a sentence with a word; the context gives the rest of the sentence."""
    out = []
    live = {"dier", "wild", "vogel", "watervogel"}
    thing = {"ding", "gereedschap", "kleren", "doek", "tafel", "fruit", "groente", "muziek", "bloem"}
    for kind, (article, one, many, _) in unique_nouns():
        c = context()
        if kind in live:
            answers = [f"{article} {one} (slaapt|rust) {{plek:in}}.", f"{{P}} ziet een {one} {{plek:in}}.",
                       f"er lopen {{getal}} {many} {{plek:in}}." if "vogel" not in kind else f"er vliegen {{getal}} {many} over {{plek:de}}."]
        elif kind in thing:
            answers = [f"{{P}} legt {article} {one} op {{meubel:de}}.", f"{article} {one} ligt {{plek:in}}.",
                       f"{{F}} koopt een {one} in {{dorp}}."]
        elif kind == "voertuig":
            answers = [f"{article} {one} staat {{plek:in}}.", f"{{P}} tekent een {one} in {{z}} schrift."]
        else:
            continue
        answers = [c.expand(a) for a in answers]
        out.append(fact("zin", f"het woord {one}",
                        [f"Maak een zin met het woord {one}.", f"Maak een zin met {one}.", f"Schrijf een zin over {article} {one}."],
                        answers, one, [f"Zin {one} maken ik de met.", f"{one.capitalize()} {one} het de {one}."]))
    for verb, now, past, helper, done in (x.split() for x in rows("verbs.txt")):
        if verb not in ALONE:
            continue
        c = context()
        answers = [c.expand(a) for a in (f"{{P}} {now} (graag|vaak) op {{dag}}.", f"elke {{moment}} {now} {{Q}} met {{F}}.",
                                         f"gisteren {past} {{Q}} met {{F}}.")]
        out.append(fact("zin", f"het werkwoord {verb}",
                        [f"Maak een zin met het werkwoord {verb}.", f"Gebruik {verb} in een zin."],
                        answers, verb, [f"{verb.capitalize()} ik jij {now} de.", f"De {verb} is een mooi {past}."]))
    return out


def all_facts(rng, context):
    return (noun_facts(rng) + adjective_facts(rng) + verb_facts() + sum_facts(rng)
            + calendar_facts() + world_facts(rng) + sentence_facts(context))


CHATS = read_blocks("chats.txt", "==")
REJECTED = read_blocks("rejected.txt", "[")
