//! What `check` says of what lies around a recipe: models, hardware.

use crate::support::parity;
use crate::workshop::Workshop;

/// A workshop with the model of the references in `base`, with its tokenizer but without a chat template.
fn with_model() -> Workshop {
    let shop = Workshop::new();
    std::fs::create_dir(shop.path("base")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(parity("llama").join(file), shop.path("base").join(file)).unwrap();
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(parity("tokenizer").join(file), shop.path("base").join(file)).unwrap();
    }
    shop
}

const FROM_OWN: &str = r#"adapt 1
model base "base"
dataset talks "chat/train.jsonl" { rows chat }
sft own { model base; data talks; precision f32; sequence 64; batch 2; steps 2; optimizer adamw lr=1e-4; }
"#;

const TEMPLATE: &str = "{% for m in messages %}{{ m['content'] }}{% endfor %}";

#[test]
fn a_local_model_brings_its_own_template() {
    let shop = with_model();
    shop.write("own.kdl", FROM_OWN);
    let check = || shop.run(&["check", "own.kdl", "--format", "concise"]);
    let settings = shop.read("base/tokenizer_config.json");
    let mut without: serde_json::Value = serde_json::from_str(&settings).unwrap();
    shop.write("base/tokenizer_config.json", &without.to_string());
    assert!(check().stdout.contains("error[missing-template]"), "{}", check().stdout);

    shop.write("base/chat_template.jinja", TEMPLATE);
    assert_eq!(check().code, Some(0), "{}", check().stdout);
    std::fs::remove_file(shop.path("base/chat_template.jinja")).unwrap();
    for template in [
        serde_json::json!(TEMPLATE),
        serde_json::json!([{ "name": "tools", "template": "t" }, { "name": "default", "template": TEMPLATE }]),
    ] {
        without["chat_template"] = template;
        shop.write("base/tokenizer_config.json", &without.to_string());
        assert_eq!(check().code, Some(0), "{}", check().stdout);
    }
}

#[test]
fn what_cannot_fit_is_told_before_anything_runs() {
    let shop = Workshop::new();
    for command in ["check", "plan", "run"] {
        let ran = shop.run(&[command, "tiny.kdl", "--memory", "8MiB"]);
        assert_eq!(ran.code, Some(1), "{command}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("exceeds-memory") && said.contains("8.0 MiB may be used"), "{command}: {said}");
        assert!(!shop.path("runs").exists(), "{command}");
    }
    // With a little more it depends on the rows, which are not prepared.
    let check = |kib: u64| shop.run(&["check", "tiny.kdl", "--memory", &format!("{kib}KiB")]);
    let little = (32..48).map(|quarter| check(256 * quarter)).find(|ran| ran.code == Some(0));
    let little = little.expect("enough").stdout;
    assert!(little.contains("may need ~") && little.contains(" may be used"), "{little}");
}

#[test]
fn a_recipe_is_held_against_the_hardware_that_is_named() {
    let shop = Workshop::new();
    let full = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/zephyr-7b-beta/full.kdl");
    // Nobody named a limit: the figure is printed.
    assert!(shop.ok(&["check", full]).stdout.contains("GiB of memory"));
    for hardware in [["--on", "h100-80"], ["--memory", "16GiB"]] {
        let ran = shop.run(&[&["check", full, "--format", "concise"][..], &hardware].concat());
        assert_eq!(ran.code, Some(1), "{}", ran.stdout);
        assert!(
            ran.stdout.contains("error[exceeds-memory]: stage `chat` needs at least ~"),
            "{}",
            ran.stdout
        );
    }
    let more = shop.ok(&["check", full, "--on", "8xh100-80"]).stdout;
    assert!(more.contains("of memory on each"), "{more}");
    let tiny = shop.ok(&["check", "tiny.kdl", "--on", "h100-80"]).stdout;
    assert!(tiny.contains("on h100-80"), "{tiny}");
    // Cores share the memory of their machine.
    let cores = shop.ok(&["check", "tiny.kdl", "--on", "4xcpu-avx2"]).stdout;
    assert!(cores.contains("on 4 × cpu-avx2") && !cores.contains("on each"), "{cores}");
    // A plan names the hardware too.
    let plan = shop.ok(&["plan", "tiny.kdl", "--on", "2xh100-80"]).stdout;
    assert!(plan.contains(" on 2 × h100-80\n") && plan.contains("2, each with everything"), "{plan}");
    assert!(plan.contains(" per device\n") && !plan.contains("this machine"), "{plan}");
}

/// Each stage and dataset has options whose defaults have nothing to act on here.
const IDLE: &str = r#"
dataset ids "ids.jsonl" { rows tokens; }
dataset answers "answers.jsonl" { rows instruction output=reply; holdout 1; }
defaults { precision f32; sequence 64; batch 2; steps 2; optimizer adamw lr=1e-4; }
defaults sft { template std:alpaca; loss-on last; }
cpt words { model base; data texts; evaluate none; }
sft a { model words; data talks; }
sft b { model words; data ids; }
sft c { model a; data answers; }
merge joined { method slerp t=0.5; base a; from c; }
export out { model joined; to "out"; format safetensors; }
"#;

#[test]
fn what_is_shown_is_a_recipe_without_errors() {
    let shop = with_model();
    shop.write("ids.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, 2]}\n");
    shop.write("answers.jsonl", &"{\"instruction\": \"a\", \"reply\": \"b\"}\n".repeat(3));
    let declared = "adapt 1\nmodel base \"base\"\ndataset texts \"reader/train.jsonl\" { rows text; }\n\
                    dataset talks \"chat/train.jsonl\" { rows chat; }\n";
    shop.write("idle.kdl", &format!("{declared}{IDLE}"));
    shop.ok(&["check", "idle.kdl"]);
    let shown = shop.ok(&["show", "idle.kdl"]).stdout;
    shop.write("shown.kdl", &shown);
    let errors = shop.run(&["check", "shown.kdl", "--format", "concise"]);
    assert_eq!(errors.code, Some(0), "{}\n{shown}", errors.stdout);
    // What is in effect stands there, defaults and what `defaults` gives included.
    for line in ["rows chat messages=\"messages\"", "output=\"reply\"", "seed 42", "loss-on last", "t=0.5"] {
        assert!(shown.contains(line), "no `{line}` in:\n{shown}");
    }
    assert!(shown.contains("evaluate none ") && !shown.contains("evaluate none every"), "{shown}");
    // It says the same when it is shown again.
    let again = shop.ok(&["show", "shown.kdl"]).stdout;
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" // ").next().unwrap_or(line).trim().to_owned()).collect()
    };
    assert_eq!(values(&shown), values(&again));
}

const JOINED: &str = r#"adapt 1
model base "base"
dataset texts "reader/train.jsonl" { rows text; }
tokenizer words { train bpe vocab=600 on=texts; }
extend-tokenizer more { model base; tokenizer words; init shared-mean; }
cpt on { model more; data texts; precision f32; sequence 64; batch 2; steps 2; optimizer adamw lr=1e-4; }
"#;

#[test]
fn figures_that_nobody_knows_are_called_unknown_and_why() {
    let shop = with_model();
    shop.write("joined.kdl", JOINED);
    let why = "note: parameters and memory of `on` are unknown: `more` joins the tokens of two tokenizers";
    let checked = shop.ok(&["check", "joined.kdl"]).stdout;
    assert!(checked.contains(why), "{checked}");
    let planned = shop.ok(&["plan", "joined.kdl"]);
    assert!(planned.stderr.contains(why), "{}", planned.stderr);
    let details = planned.stdout.rsplit("\n  on\n").next().unwrap();
    assert!(details.contains("parameters  unknown") && details.contains("memory      unknown"), "{details}");
}

#[test]
fn an_architecture_that_is_mistyped_is_guessed() {
    let shop = Workshop::new();
    shop.edit("new:llama", "new:lama");
    let said = shop.run(&["check", "tiny.kdl"]).stdout;
    assert!(
        said.contains("unsupported-architecture") && said.contains("did you mean `new:llama`?"),
        "{said}"
    );
}

#[test]
fn unknown_hardware_is_wrong_use_and_names_what_there_is() {
    let shop = Workshop::new();
    for (name, said) in [
        ("banana", "no hardware is called `banana`; there is "),
        ("h100-8", "no hardware is called `h100-8`; did you mean `h100-80`? there is "),
    ] {
        let ran = shop.run(&["check", "tiny.kdl", "--on", name]);
        assert_eq!(ran.code, Some(2));
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}
