//! `adapt bench` through the real binary, and what it and plans remember of the machine.

use crate::workshop::{Ran, Workshop};
use serde_json::Value;

/// Of a Llama of a few thousand parameters.
const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 97, "hidden_size": 32, "intermediate_size": 64,
"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
"tie_word_embeddings": true}"#;

fn lines(ran: &Ran) -> Vec<Value> {
    let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    ran.stdout.lines().map(line).collect()
}

/// Asserts that fields are numbers above zero.
fn assert_measured(line: &Value, fields: &[&str]) {
    for field in fields {
        assert!(line[field].as_f64().is_some_and(|number| number > 0.0), "{field} of {line}");
    }
}

fn assert_machine(line: &Value) {
    assert_eq!(line["bench"], "machine");
    assert_measured(line, &["threads", "copy_gb_per_s", "read_gb_per_s"]);
    if cfg!(target_arch = "x86_64") {
        assert_measured(line, &["peak_f32_gflops", "peak_bf16_gflops"]);
    }
}

#[test]
fn products_are_json_lines_beside_the_peak() {
    let shop = Workshop::new();
    let lines = lines(&shop.ok(&["bench", "products", "--quick"]));
    assert_machine(&lines[0]);
    let of = |product: &str, precision: &str| {
        let is_it = |line: &&Value| line["product"] == product && line["precision"] == precision;
        let found: Vec<&Value> = lines.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{product} {precision}");
        found[0]
    };
    for product in ["forward", "grad-x", "grad-w", "head"] {
        for precision in ["f32", "bf16"] {
            let line = of(product, precision);
            assert_measured(line, &["tokens", "inputs", "outputs", "best_s", "median_s", "gflops"]);
            assert!(line["best_s"].as_f64() <= line["median_s"].as_f64(), "{line}");
            let peak = lines[0][format!("peak_{precision}_gflops")].as_f64();
            let share = peak.map(|peak| line["gflops"].as_f64().unwrap() / peak);
            assert_eq!(line["share_of_peak"].as_f64().is_some(), share.is_some());
            assert!(share.is_none_or(|share| (line["share_of_peak"].as_f64().unwrap() - share).abs() < 1e-9));
        }
    }
    assert_eq!(lines.len(), 9);
}

#[test]
fn a_training_step_is_measured_beside_what_is_predicted() {
    let shop = Workshop::new();
    shop.write("config.json", CONFIG);
    let whole =
        ["bench", "train", "--model-config", "config.json", "--seq", "16", "--batch", "3", "--steps", "2"];
    let measured = |more: &[&str]| {
        let found = lines(&shop.ok(&[&whole[..], more].concat()));
        assert_machine(&found[0]);
        assert_eq!(found.len(), 2);
        let fields = ["median_s", "tokens_per_s", "gflops", "predicted_s", "predicted_bytes", "loss"];
        assert_measured(&found[1], &fields);
        if cfg!(target_os = "linux") {
            assert_measured(&found[1], &["peak_rss_anon_bytes"]);
        }
        found[1].clone()
    };
    let full = measured(&[]);
    assert_eq!(full["parameters"], full["trained_parameters"]);
    // Random weights know nothing: the loss is that of guessing among 97 ids.
    assert!((full["loss"].as_f64().unwrap() - 97f64.ln()).abs() < 0.3, "{full}");
    let narrow = measured(&["--precision", "bf16"]);
    assert_eq!(narrow["precision"], "bf16");
    assert!((narrow["loss"].as_f64().unwrap() / full["loss"].as_f64().unwrap() - 1.0).abs() < 0.01);
    // Norms of three layers and the end, and all else of a layer: q, k, v, o and the MLP.
    let part = measured(&["--train", "norms,last"]);
    assert_eq!(part["trained_parameters"], 7 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32);
    shop.run(&[&whole[..], &["--train", "norm,lest"]].concat()).failed_with(&["`lest`"]);
}

#[test]
fn decoding_is_measured_token_by_token() {
    let shop = Workshop::new();
    shop.write("config.json", CONFIG);
    let few = [
        "bench",
        "decode",
        "--model-config",
        "config.json",
        "--tokens",
        "9",
        "--prompt",
        "5",
        "--steps",
        "1",
    ];
    let found = lines(&shop.ok(&few));
    assert_machine(&found[0]);
    assert_eq!((found[1]["bench"].as_str(), found[1]["tokens"].as_u64()), (Some("decode"), Some(9)));
    assert_measured(&found[1], &["tokens_per_s", "tokens_per_s_after_prompt", "share_of_bandwidth"]);
    let left = std::fs::read_dir(shop.path("cache")).into_iter().flatten().flatten();
    let scratch: Vec<_> =
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".bench")).collect();
    assert!(scratch.is_empty(), "random weights are removed: {scratch:?}");
    shop.run(&["bench", "decode", "--model-config", "config.json"]).failed_with(&["64 positions"]);
}

#[test]
fn a_machine_is_measured_once_and_never_by_a_check() {
    let shop = Workshop::new();
    let remembered = || std::fs::read_to_string(shop.path("cache/machine.json")).ok();
    shop.ok(&["check", "tiny.kdl"]);
    assert_eq!(remembered(), None);
    assert!(shop.ok(&["doctor"]).stdout.contains("not measured yet"));
    shop.ok(&["plan", "tiny.kdl"]);
    let first = remembered().expect("a plan measures");
    assert!(shop.ok(&["doctor"]).stdout.contains("GFLOP/s"));
    let plan = || shop.ok(&["plan", "tiny.kdl", "--format", "json"]).stdout;
    let before = plan();
    assert_eq!(remembered().as_ref(), Some(&first), "measured once");
    // What is measured moves the printed time and nothing that decides.
    let mut slow: Value = serde_json::from_str(&first).unwrap();
    for rate in ["attention", "bytes"] {
        slow["rates"][rate] = serde_json::json!(1e6);
    }
    shop.write("cache/machine.json", &slow.to_string());
    let without_times = |text: &str| {
        let mut plan: Value = serde_json::from_str(text).unwrap();
        let mut seconds = 0.0;
        for task in plan["tasks"].as_array_mut().unwrap() {
            let figures = task["figures"].as_object_mut().unwrap();
            let time = figures.remove("seconds");
            seconds += time.and_then(|time| time["value"].as_f64()).unwrap_or(0.0);
        }
        (plan, seconds)
    };
    let ((plan_before, fast), (plan_after, slow)) = (without_times(&before), without_times(&plan()));
    assert_eq!(plan_before, plan_after);
    assert!(slow > 2.0 * fast && fast > 0.0, "{fast} and {slow} seconds");
    let slowed = remembered();
    shop.ok(&["doctor", "--probe"]);
    assert_ne!(remembered(), slowed, "measured again");
}
