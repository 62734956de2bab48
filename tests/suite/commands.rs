//! Each command through the real binary: what it prints, where, and how it ends.

use crate::workshop::{Ran, Workshop};
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

/// Three mistakes and a warning; the label of the second lies behind non-ASCII characters.
const BROKEN: &str = r#"adapt 1

modle extra "x"
model base "base"
dataset words "reader" { rows text }
cpt kléin { model base; data words; precision f32; batch 4; epochs 1; steps 3; optimizer adamw lr=1e-3 }
"#;

fn broken() -> Workshop {
    let shop = Workshop::new();
    shop.write("a b/bröken.kdl", BROKEN);
    shop
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", ran.stdout))
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

/// Checks what the standard asks of a log, as far as it is written here.
fn assert_sarif(log: &Value) {
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "adapt");
    let (rules, artifacts) = (list(&driver["rules"]), list(&run["artifacts"]));
    for rule in rules {
        assert!(rule["shortDescription"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        assert!(rule["help"]["text"].as_str().unwrap().contains("Why it matters"), "{rule}");
    }
    let place = |location: &Value| {
        let (artifact, region) =
            (&location["physicalLocation"]["artifactLocation"], &location["physicalLocation"]["region"]);
        let known = &artifacts[artifact["index"].as_u64().unwrap() as usize]["location"];
        assert_eq!(known["uri"], artifact["uri"]);
        assert_region(region);
    };
    for result in list(&run["results"]) {
        let rule = &rules[result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(["error", "warning"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].is_string());
        assert_eq!(list(&result["locations"]).len(), 1);
        list(&result["locations"]).iter().for_each(place);
        for related in result["relatedLocations"].as_array().into_iter().flatten() {
            assert!(related["id"].is_u64() && related["message"]["text"].is_string());
            place(related);
        }
        for fix in result["fixes"].as_array().into_iter().flatten() {
            assert!(fix["description"]["text"].is_string());
            for change in list(&fix["artifactChanges"]) {
                assert!(change["artifactLocation"]["uri"].is_string());
                for replacement in list(&change["replacements"]) {
                    assert_region(&replacement["deletedRegion"]);
                    assert!(replacement["insertedContent"]["text"].is_string());
                }
            }
        }
    }
}

fn assert_region(region: &Value) {
    for key in ["startLine", "startColumn", "endLine", "endColumn"] {
        assert!(region[key].as_u64().is_some_and(|number| number >= 1), "{key} of {region}");
    }
    assert!(region["byteOffset"].is_u64() && region["byteLength"].is_u64(), "{region}");
}

fn result<'a>(log: &'a Value, code: &str) -> &'a Value {
    let mut results = list(&log["runs"][0]["results"]).iter();
    results.find(|result| result["ruleId"] == code).unwrap_or_else(|| panic!("no {code}"))
}

#[test]
fn sarif_holds_rules_regions_and_fixes() {
    let shop = broken();
    let ran = shop.run(&["check", "a b/bröken.kdl", "--format", "sarif"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let log = json(&ran);
    assert_sarif(&log);

    let unknown = result(&log, "unknown-node");
    let place = &unknown["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a%20b/br%C3%B6ken.kdl");
    assert_eq!((&place["region"]["startLine"], &place["region"]["endColumn"]), (&3.into(), &6.into()));
    let replacement = &unknown["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(replacement["insertedContent"]["text"], "model");
    assert_eq!(replacement["deletedRegion"]["byteOffset"], 9);

    // Columns count characters, offsets bytes; the other budget is a related place.
    let budgets = result(&log, "two-budgets");
    let line = BROKEN.lines().nth(5).unwrap();
    let column = line.find("steps").map(|at| line[..at].chars().count() + 1);
    let region = &budgets["locations"][0]["physicalLocation"]["region"];
    assert_eq!(region["startColumn"].as_u64().map(|column| column as usize), column);
    assert_eq!(region["byteOffset"].as_u64().map(|at| at as usize), BROKEN.find("steps"));
    assert_eq!(region["byteLength"], 5);
    assert_eq!(budgets["relatedLocations"][0]["message"]["text"], "the first");
}

#[test]
fn several_recipes_make_one_sarif_log() {
    let shop = broken();
    shop.write("other.kdl", "adapt 1\nmodle x \"y\"\n");
    let log = json(&shop.run(&["check", "a b/bröken.kdl", "other.kdl", "tiny.kdl", "--format", "sarif"]));
    assert_sarif(&log);
    assert_eq!(list(&log["runs"]).len(), 1);
    let results = list(&log["runs"][0]["results"]);
    let files: Vec<&str> = results
        .iter()
        .filter(|result| result["ruleId"] == "unknown-node")
        .map(|result| result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap())
        .collect();
    assert_eq!(files, ["a%20b/br%C3%B6ken.kdl", "other.kdl"]);
    let rules = list(&log["runs"][0]["tool"]["driver"]["rules"]);
    assert_eq!(rules.iter().filter(|rule| rule["id"] == "unknown-node").count(), 1);
}

#[test]
fn a_set_value_is_placed_at_what_it_replaces_and_named() {
    let shop = Workshop::new();
    let sets = ["--set", "chat.batch=many", "--set", "chat.nothing=1"];
    let log = json(&shop.run(&[&["check", "tiny.kdl", "--format", "sarif"], &sets[..]].concat()));
    assert_sarif(&log);
    let wrong = result(&log, "wrong-type");
    let recipe = shop.read("tiny.kdl");
    let line = recipe[..recipe.find("sft chat").unwrap()].lines().count() + 5;
    assert_eq!(wrong["locations"][0]["physicalLocation"]["region"]["startLine"], line);
    assert_eq!(wrong["locations"][0]["logicalLocations"][0]["name"], "--set chat.batch=many");
    assert!(wrong.get("fixes").is_none());
    let unknown = result(&log, "unknown-path");
    assert_eq!(unknown["locations"][0]["physicalLocation"]["region"]["startLine"], 1);
    assert_eq!(unknown["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "--set/1");

    let ran = shop.run(&[&["check", "tiny.kdl", "--format", "github"], &sets[..]].concat());
    assert_eq!(ran.code, Some(1));
    let of_set = ran.stdout.lines().find(|line| line.contains("wrong-type")).unwrap();
    assert!(of_set.starts_with(&format!("::error file=tiny.kdl,line={line},")), "{of_set}");
    assert!(of_set.contains("%0Ain --set chat.batch=many%0A"), "{of_set}");
}

#[test]
fn annotations_are_one_line_each_and_escaped() {
    let shop = Workshop::new();
    shop.write("a,b:c.kdl", "adapt 1\nmodle x \"y\"\nmodel m \"base\"\n");
    let ran = shop.run(&["check", "a,b:c.kdl", "--format", "github"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(
        lines[0],
        "::error file=a%2Cb%3Ac.kdl,line=2,endLine=2,col=1,endColumn=6,title=unknown-node::unknown node `modle`%0Ahelp: did you mean `model`?"
    );
    assert!(lines.iter().any(|line| line.starts_with("::warning file=a%2Cb%3Ac.kdl,line=3,")), "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("::")), "{lines:?}");
}

#[test]
fn an_annotation_over_several_lines_has_no_columns_and_standard_input_no_file() {
    let shop = Workshop::new();
    let text = "adapt 1\ngenerate g { model m; prompt \"\"\"\n    a\n    \"\"\" }\nmodel m \"\"\"\n    no\n    where\n    \"\"\"\n";
    let ran = with_input(&shop, &["check", "-", "--format", "github"], text);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let missing = ran.stdout.lines().find(|line| line.starts_with("::error line=5,endLine=8,title="));
    assert!(missing.is_some(), "{}", ran.stdout);
    assert!(!ran.stdout.contains("file="), "{}", ran.stdout);
}

fn with_input(shop: &Workshop, args: &[&str], input: &str) -> Ran {
    let mut command = shop.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Ran::of(child.wait_with_output().unwrap())
}

#[test]
fn exit_codes_tell_mistakes_from_wrong_use() {
    let shop = broken();
    let code = |args: &[&str]| shop.run(args).code;
    assert_eq!(code(&["check", "tiny.kdl"]), Some(0));
    assert_eq!(code(&["check", "a b/bröken.kdl", "tiny.kdl"]), Some(1));
    assert_eq!(code(&["check", "tiny.kdl", "missing.kdl"]), Some(2));
    assert_eq!(code(&["check", "reader"]), Some(2), "a folder is no recipe");
    assert_eq!(code(&["check"]), Some(2));
    assert_eq!(code(&["check", "-", "-"]), Some(2));
    assert_eq!(code(&["check", "tiny.kdl", "--set", "lr"]), Some(2));
    assert_eq!(code(&["check", "tiny.kdl", "--format", "yaml"]), Some(2));
    for command in ["plan", "show", "run"] {
        assert_eq!(code(&[command, "missing.kdl"]), Some(2), "{command}");
        assert_eq!(code(&[command, "a b/bröken.kdl"]), Some(1), "{command}");
    }
    assert_eq!(code(&["check", "-q", "-v", "tiny.kdl"]), Some(2));
    let ran = with_input(&shop, &["check", "-"], &shop.read("tiny.kdl"));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn several_recipes_give_one_object_and_a_line_each() {
    let shop = broken();
    shop.write("other.kdl", &shop.read("tiny.kdl"));
    let ran = shop.ok(&["check", "tiny.kdl", "other.kdl"]);
    for recipe in ["tiny.kdl: no errors", "other.kdl: no errors"] {
        assert!(ran.stdout.contains(recipe), "{}", ran.stdout);
    }
    let found = json(&shop.run(&["check", "a b/bröken.kdl", "other.kdl", "--format", "json"]));
    assert_eq!(found["errors"].as_u64().map(|errors| errors as usize), Some(errors_of(&found)));
    assert!(found["errors"].as_u64() >= Some(2));
}

fn errors_of(found: &Value) -> usize {
    list(&found["diagnostics"]).iter().filter(|found| found["severity"] == "error").count()
}

#[test]
fn every_command_is_quiet_or_talkative_when_asked() {
    let shop = Workshop::new();
    assert_eq!(shop.ok(&["check", "-q", "tiny.kdl"]).stdout, "");
    let talkative = shop.ok(&["check", "-v", "tiny.kdl"]);
    assert!(talkative.stderr.contains("reads the first rows of reader"), "{}", talkative.stderr);
    assert_eq!(talkative.stdout, shop.ok(&["check", "tiny.kdl"]).stdout);

    shop.edit("adapt 1\n", "adapt 1\nparam unused 1\n");
    assert!(shop.ok(&["show", "tiny.kdl"]).stderr.contains("unused"));
    assert_eq!(shop.ok(&["show", "-q", "tiny.kdl"]).stderr, "");
    assert_eq!(shop.ok(&["plan", "-q", "tiny.kdl"]).stderr, "");
    for args in
        [&["explain", "sft"][..], &["schema"], &["doctor"], &["new", "--list"], &["completions", "bash"]]
    {
        let plain = shop.ok(args);
        assert_eq!(shop.ok(&[args, &["-q", "--color", "never"]].concat()).stdout, plain.stdout, "{args:?}");
    }
}

/// As in `adapt … | head`: not an end with a panic, and a mistake is still told by the exit code.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let shop = broken();
    shop.write(
        "config.yml",
        "base_model: base\nlearning_rate: 1e-4\ndatasets:\n  - path: reader\n    type: completion\n",
    );
    let cases: [(&[&str], i32); 13] = [
        (&["explain"], 0),
        (&["schema"], 0),
        (&["new", "--list"], 0),
        (&["completions", "bash"], 0),
        (&["check", "tiny.kdl"], 0),
        (&["check", "a b/bröken.kdl"], 1),
        (&["plan", "tiny.kdl"], 0),
        (&["show", "tiny.kdl"], 0),
        (&["fmt", "--check", "tiny.kdl"], 0),
        (&["import", "config.yml"], 0),
        (&["run", "a b/bröken.kdl"], 1),
        (&["run", "not-there.kdl"], 2),
        (&["generate", "not-there", "--prompt", "x"], 1),
    ];
    for (args, code) in cases {
        assert_eq!(shop.ignored(args), Some(code), "{args:?}");
    }
}

#[test]
fn colour_follows_the_flag_and_the_environment() {
    let shop = broken();
    let args = ["check", "a b/bröken.kdl"];
    let always = shop.run(&[&args[..], &["--color", "always"]].concat());
    assert!(always.stdout.contains("\u{1b}["), "{}", always.stdout);
    for flag in ["auto", "never"] {
        assert!(!shop.run(&[&args[..], &["--color", flag]].concat()).stdout.contains("\u{1b}["), "{flag}");
    }
}

#[test]
fn explain_knows_codes_and_the_language() {
    let shop = Workshop::new();
    let cases = [
        ("unknown-option", &["# unknown-option", "Why it matters"][..]),
        ("sft", &["sft NAME", "gives", "a model", "optimizer", "required", "loss-on"]),
        ("sft.optimizer", &["lr=", "number > 0, ≤ 10", "adamw", "weight-decay="]),
        ("sft.optimizer.lr", &["a number", "above 0, at most 10", "cpt.optimizer.lr"]),
        ("dataset.holdout.amount", &["a share such as", "it must be written", "counts rows"]),
        ("dataset.rows", &["messages=", "With `chat`.", "preference"]),
        ("schedule.warmup", &["cpt.schedule.warmup", "a number without a unit counts steps"]),
        ("std:chatml", &["<|im_start|>", "runs in this version"]),
        ("std:h100-80", &["80 GiB", "TFLOP/s"]),
        ("new:llama", &["hidden_size", "a whole number"]),
    ];
    for (path, words) in cases {
        let ran = shop.ok(&["explain", path]);
        for word in words {
            assert!(ran.stdout.contains(word), "{path}: no `{word}` in:\n{}", ran.stdout);
        }
    }
    let all = shop.ok(&["explain"]).stdout;
    assert!(all.contains("unknown-option") && all.contains("Continued pretraining"), "{all}");
    for (path, near) in [("sft.optimzer", "`sft.optimizer`"), ("unknown-optio", "`unknown-option`")] {
        let ran = shop.run(&["explain", path]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
        assert!(ran.stderr.contains(near), "{}", ran.stderr);
    }
    let ambiguous = shop.run(&["explain", "seed"]);
    assert_eq!(ambiguous.code, Some(2));
    assert!(ambiguous.stderr.contains("`dataset.shuffle.seed`"), "{}", ambiguous.stderr);
}

#[test]
fn every_code_has_an_example_that_fails_and_one_that_passes() {
    let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/diagnostics");
    for page in std::fs::read_dir(pages).unwrap().flatten() {
        let text = std::fs::read_to_string(page.path()).unwrap();
        for word in ["\nFails", "\nPasses"] {
            let example = text.split(word).nth(1);
            assert!(example.is_some_and(|rest| rest.contains("```")), "{:?}: {word:?}", page.file_name());
        }
    }
}

#[test]
fn the_schema_is_json_with_a_version() {
    let shop = Workshop::new();
    let schema = json(&shop.ok(&["schema"]));
    assert_eq!(schema["version"], 1);
    for part in ["nodes", "row_types", "library", "architectures", "diagnostics"] {
        assert!(!list(&schema[part]).is_empty(), "{part}");
    }
    assert_eq!(shop.ok(&["schema", "--format", "json"]).stdout, shop.ok(&["schema"]).stdout);
    assert_eq!(shop.run(&["schema", "--format", "xml"]).code, Some(2));
}

#[test]
fn new_writes_a_recipe_that_checks_and_never_writes_over() {
    let shop = Workshop::new();
    let ran = shop.ok(&["new", "work/dutch", "--from", "quickstart"]);
    assert_eq!(ran.stdout.trim(), "work/dutch/dutch.kdl");
    shop.ok(&["check", "work/dutch/dutch.kdl"]);

    let before = shop.read("work/dutch/dutch.kdl");
    assert!(before.contains("// Run it:  adapt run work/dutch/dutch.kdl\n"), "{before}");
    for name in ["work/dutch", "work/dutch.kdl", "reader"] {
        let again = shop.run(&["new", name, "--from", "quickstart"]);
        assert_eq!(again.code, Some(2), "{name}");
        assert!(again.stderr.contains("is there already"), "{}", again.stderr);
    }
    assert_eq!(shop.read("work/dutch/dutch.kdl"), before);
    assert!(!shop.path("reader/reader.kdl").exists());
}

#[test]
fn every_recipe_of_the_gallery_can_be_started_from() {
    let shop = Workshop::new();
    let listed = shop.ok(&["new", "--list"]).stdout;
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"quickstart"), "{listed}");
    for (index, name) in names.iter().enumerate() {
        let folder = format!("new{index}");
        let ran = shop.ok(&["new", &folder, "--from", name]);
        let recipe = ran.stdout.trim();
        // What lies outside the gallery is named; nothing else is missing.
        let text = shop.read(recipe);
        let commands = text.lines().filter_map(|line| line.split_once("adapt run "));
        for (_, command) in commands {
            assert!(command.starts_with(recipe), "{name}: adapt run {command}");
        }
        let checked = json(&shop.run(&["check", recipe, "--format", "json"]));
        let outside = list(&checked["diagnostics"]).iter().filter(|found| found["severity"] == "error");
        for found in outside {
            assert_eq!(found["code"], "missing-file", "{name}: {found}");
            assert!(ran.stderr.contains("does not come with it"), "{name}: {}", ran.stderr);
        }
    }
}

#[test]
fn new_asks_only_on_a_terminal() {
    let shop = Workshop::new();
    let ran = with_input(&shop, &["new", "dutch"], "1\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
    assert!(ran.stderr.contains("--from") && ran.stderr.contains("quickstart"), "{}", ran.stderr);
    assert!(!shop.path("dutch").exists());
    let ran = shop.run(&["new", "dutch", "--from", "quickstrat"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("did you mean `quickstart`?"), "{}", ran.stderr);
    assert_eq!(shop.run(&["new"]).code, Some(2));
}

#[test]
fn completions_exist_for_every_shell() {
    let shop = Workshop::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = shop.ok(&["completions", shell]).stdout;
        assert!(script.contains("adapt") && script.contains("explain"), "{shell}");
    }
    assert_eq!(shop.run(&["completions", "dos"]).code, Some(2));
}

#[test]
fn show_names_the_origin_of_every_value() {
    let shop = Workshop::new();
    shop.edit("adapt 1\n", "adapt 1\nparam peak 3e-3\n");
    shop.edit("lr=3e-3", "lr=$peak");
    let shown = shop.ok(&["show", "tiny.kdl", "--set", "chat.seed=7"]).stdout;
    for line in ["param peak, tiny.kdl:2", "// --set chat.seed=7", "// defaults, tiny.kdl:", "// default\n"] {
        assert!(shown.contains(line), "no `{line}` in:\n{shown}");
    }
    let json = json(&shop.ok(&["show", "tiny.kdl", "--set", "peak=1e-3", "--format", "json"]));
    let mut kinds = Vec::new();
    list(&json["nodes"]).iter().for_each(|node| origins(node, &mut kinds));
    for kind in ["default", "file", "std", "defaults", "set"] {
        assert!(kinds.iter().any(|found| found == kind), "no {kind} in {kinds:?}");
    }
}

/// Collects the kinds of origins; a place has a file and a line.
fn origins(node: &Value, kinds: &mut Vec<String>) {
    for value in list(&node["values"]) {
        let origin = &value["origin"];
        let kind = origin["kind"].as_str().unwrap();
        let is_placed = origin["file"].is_string() && origin["line"].as_u64() >= Some(1);
        assert_eq!(is_placed, !matches!(kind, "default" | "derived" | "set"), "{value}");
        kinds.push(kind.to_owned());
    }
    list(&node["children"]).iter().for_each(|child| origins(child, kinds));
}

#[test]
fn help_teaches_by_example() {
    let shop = Workshop::new();
    let help = shop.ok(&["--help"]).stdout;
    let section = help.split("Commands:").nth(1).and_then(|rest| rest.split("Options:").next()).unwrap();
    let commands: Vec<&str> = section.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        let help = shop.ok(&[command, "--help"]).stdout;
        assert!(help.contains("Example") && help.contains(&format!("adapt {command}")), "{command}:\n{help}");
    }
}

#[test]
fn a_lock_file_that_cannot_be_used_is_an_error_and_is_not_guessed_past() {
    let shop = Workshop::new();
    shop.write("far.kdl", "adapt 1\nmodel base \"hf:o/m\"\ngenerate g { model base; prompt \"x\" }\n");
    shop.write("adapt.lock", "{\"version\": 1, \"sources\": {");
    let broken = shop.run(&["check", "far.kdl", "--format", "concise"]);
    assert_eq!(broken.code, Some(1));
    assert!(broken.stdout.contains("error[broken-lock]: adapt.lock cannot be used"), "{}", broken.stdout);
    shop.write(
        "adapt.lock",
        "{\"version\": 1, \"sources\": {\"hf:o/m\": {\"kind\": \"model\", \"config\": {}}}}",
    );
    assert_eq!(shop.run(&["check", "far.kdl"]).code, Some(0));
}

#[test]
fn a_range_of_layers_in_one_text_with_its_word_is_told_what_to_write() {
    let shop = Workshop::new();
    let ran = shop.run(&["check", "tiny.kdl", "--set", "dutch.train=layers 0..1"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("write `train layers \"0..1\"` in the recipe"), "{}", ran.stdout);
}

#[test]
fn ops_are_printed_in_the_format_that_is_asked_for() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl", "--only", "data:dutch"]);
    let printed = |stage, format| shop.run(&["plan", "tiny.kdl", "--ops", stage, "--format", format]);
    let programs = |stage| {
        let module = json(&printed(stage, "json"));
        assert!(!list(&module["values"]).is_empty() && !list(&module["arenas"]).is_empty());
        list(&module["programs"]).iter().map(|program| program["name"].clone()).collect::<Vec<_>>()
    };
    assert!(programs("dutch").len() > 1);
    assert_eq!(programs("dutch.update"), ["update"]);
    assert!(printed("dutch.update", "text").stdout.contains("program update"));
    for drawing in ["dot", "mermaid"] {
        let ran = printed("dutch.update", drawing);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""));
        assert!(ran.stderr.contains("text or JSON"), "{}", ran.stderr);
    }
}

#[test]
fn a_dry_run_shows_the_tasks_that_would_run() {
    let shop = Workshop::new();
    let tasks = |more: &[&str]| {
        let shown = shop.ok(&[&["run", "tiny.kdl", "--dry-run"], more].concat()).stdout;
        ["dutch", "chat", "aligned"]
            .map(|stage| shown.lines().any(|line| line.trim_start().starts_with(stage)))
    };
    assert_eq!(tasks(&[]), [true, true, true]);
    assert_eq!(tasks(&["--only", "dutch"]), [true, false, false]);
    assert_eq!(tasks(&["--only", "chat"]), [true, true, false]);
    let ran = shop.run(&["run", "tiny.kdl", "--dry-run", "--only", "other"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn generate_does_not_point_into_a_recipe_that_nobody_wrote() {
    let shop = Workshop::new();
    let ran = shop.run(&["generate", "not-there", "--prompt", "x", "--temperature=-1"]);
    ran.failed_with(&["error[out-of-range]: ", "error[missing-file]: ", "\n  help: "]);
    assert!(!ran.stderr.contains("generate answer") && !ran.stderr.contains("-:"), "{}", ran.stderr);
    let ran = with_input(&shop, &["generate", "not-there"], &"x".repeat(2 << 20));
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("a prompt of 2097152 bytes"), "{}", ran.stderr);
}
