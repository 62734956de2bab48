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
    // Neither recomputation nor the size of a micro-step changes what is computed.
    let again = measured(&["--recompute", "block", "--micro", "1"]);
    assert_eq!((again["recomputed"].as_u64(), again["micro"].as_u64()), (Some(3), Some(1)));
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    assert!((loss(&again) - loss(&full)).abs() < 1e-5 * loss(&full), "{again}");
    let cheap = measured(&["--recompute", "cheap"]);
    assert!(cheap["predicted_bytes"].as_u64() < full["predicted_bytes"].as_u64(), "{cheap}");
    // Norms of three layers and the end, and all else of a layer: q, k, v, o and the MLP.
    let part = measured(&["--train", "norms,last"]);
    assert_eq!(part["trained_parameters"], 7 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32);
    let lines = measured(&["--train", "norm input_layernorm post_attention_layernorm,layers 2..3"]);
    assert_eq!(lines["trained_parameters"], part["trained_parameters"]);
    shop.run(&[&whole[..], &["--train", "norm,lest"]].concat()).failed_with(&["`lest`"]);
    for nothing in ["", " ", "norms,"] {
        shop.run(&[&whole[..], &["--train", nothing]].concat()).failed_with(&["`--train` names nothing"]);
    }
}

#[test]
fn a_limit_of_memory_decides_what_is_computed_again() {
    let shop = Workshop::new();
    shop.write("config.json", CONFIG);
    let whole = [
        "bench",
        "train",
        "--model-config",
        "config.json",
        "--seq",
        "64",
        "--batch",
        "4",
        "--micro",
        "4",
        "--steps",
        "1",
    ];
    let ran = |more: &[&str]| shop.run(&[&whole[..], more].concat());
    let decided = |more: &[&str]| {
        let ran = ran(more);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let line = lines(&ran)[1].clone();
        let number = |field: &str| line[field].as_u64().unwrap_or_else(|| panic!("{field} of {line}"));
        let levels = [number("recomputed"), number("recomputed_blocks")];
        (number("micro"), levels, number("predicted_bytes"), line["loss"].as_f64().unwrap())
    };
    let (_, none, whole, loss) = decided(&[]);
    let (_, every, least, _) = decided(&["--recompute", "block"]);
    assert_eq!((none, every), ([0, 0], [3, 3]));
    // Between both lies a mixture, of the same loss.
    let limit = least + (whole - least) / 8;
    let (micro, [recomputed, blocks], bytes, again) = decided(&["--memory", &format!("{limit}B")]);
    assert_eq!((micro, recomputed), (4, 3));
    assert!((1..3).contains(&blocks) && bytes <= limit, "{blocks} blocks, {bytes} bytes of {limit}");
    assert!((again - loss).abs() < 1e-5 * loss);
    ran(&["--memory", "1MiB"]).failed_with(&["this needs ", "1.0 MiB may be used"]);
    assert_eq!(ran(&["--memory", "8 cows"]).code, Some(2));
}

#[test]
fn pairs_are_measured_with_their_reference_pass() {
    let shop = Workshop::new();
    shop.write("config.json", CONFIG);
    let whole =
        ["bench", "train", "--model-config", "config.json", "--seq", "24", "--pairs", "3", "--steps", "2"];
    let measured = |more: &[&str]| lines(&shop.ok(&[&whole[..], more].concat()))[1].clone();
    let shared = measured(&["--prompt-tokens", "18"]);
    assert_measured(&shared, &["reference_s", "predicted_s", "peak_rss_bytes", "gflops", "loss"]);
    assert_eq!(
        (shared["prompts_shared"].as_bool(), shared["prompt_tokens"].as_u64()),
        (Some(true), Some(18))
    );
    // Both rows of three pairs count in full, whatever is computed of them.
    let tokens = |line: &Value| line["tokens_per_s"].as_f64().unwrap() * line["median_s"].as_f64().unwrap();
    assert!((tokens(&shared) - 2.0 * 3.0 * 24.0).abs() < 1e-6, "{shared}");
    let separate = measured(&["--prompt-tokens", "18", "--whole-rows"]);
    assert!((tokens(&separate) - 2.0 * 3.0 * 24.0).abs() < 1e-6, "{separate}");
    // Sharing computes less of the same: operations and memory go down, the loss stays.
    let flops = |line: &Value| line["gflops"].as_f64().unwrap() * line["median_s"].as_f64().unwrap();
    assert!(flops(&shared) < 0.75 * flops(&separate), "{shared} {separate}");
    assert!(shared["predicted_bytes"].as_u64() < separate["predicted_bytes"].as_u64());
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    assert!((loss(&shared) - loss(&separate)).abs() < 1e-5, "{shared} {separate}");
    // A policy that has moved by four small steps is still close to its reference.
    assert!((loss(&shared) - 2f64.ln()).abs() < 0.01 && loss(&shared) != 2f64.ln(), "{shared}");
    assert_eq!(measured(&[])["prompt_tokens"], 12, "half of a row");
    shop.run(&[&whole[..], &["--prompt-tokens", "24"]].concat()).failed_with(&["24 tokens", "no room"]);
    let without_pairs = shop.run(&["bench", "train", "--model-config", "config.json", "--whole-rows"]);
    assert_eq!(without_pairs.code, Some(2), "{}", without_pairs.stderr);
}

const ROUND: [&str; 10] =
    ["bench", "train", "--model-config", "config.json", "--seq", "8", "--batch", "1", "--steps", "1"];

#[test]
#[cfg(unix)]
fn rounds_compare_medians_with_a_peer_in_turns() {
    let shop = Workshop::new();
    shop.write("config.json", CONFIG);
    // Each call takes the next speed.
    shop.write("speeds", "10\n30\n20\n");
    let peer = r#"echo no json; read -r speed < speeds; sed -i 1d speeds
        echo "{\"tokens_per_s\": $speed, \"peak_rss_MiB\": 64}""#;
    let ran = shop.ok(&[&ROUND[..], &["--rounds", "3", "--peer", peer]].concat());
    let found = lines(&ran);
    let rounds: Vec<&Value> = found.iter().filter(|line| line["bench"] == "round").collect();
    let turns: Vec<bool> = rounds.iter().map(|line| line["program"] == "adapt").collect();
    assert_eq!(turns, [true, false, true, false, true, false]);
    let speeds = |ours: bool| -> Vec<f64> {
        let of = rounds.iter().filter(|line| (line["program"] == "adapt") == ours);
        of.map(|line| line["tokens_per_s"].as_f64().unwrap()).collect()
    };
    assert_eq!(speeds(false), [10.0, 30.0, 20.0]);
    for line in rounds.iter().filter(|line| line["program"] == "adapt") {
        let kinds: Vec<&Value> =
            line["lines"].as_array().unwrap().iter().map(|line| &line["bench"]).collect();
        assert_eq!(kinds, ["machine", "train"]);
    }
    let line = &found[6];
    let speed = &line["tokens_per_s"];
    assert_eq!(speed["peer"], serde_json::json!({ "median": 20.0, "min": 10.0, "max": 30.0 }));
    let mut ours = speeds(true);
    ours.sort_by(f64::total_cmp);
    assert_eq!(speed["adapt"], serde_json::json!({ "median": ours[1], "min": ours[0], "max": ours[2] }));
    assert_eq!(speed["ratio"].as_f64(), Some(ours[1] / 20.0));
    let memory = &line["peak_rss_bytes"];
    assert_eq!(memory["peer"]["median"].as_f64(), Some((64u64 << 20) as f64));
    assert_eq!((line["work"]["seq"].as_u64(), line["work"]["bench"].as_str()), (Some(8), Some("train")));
    if cfg!(target_os = "linux") {
        let ours = memory["adapt"]["median"].as_f64().unwrap();
        assert_eq!(memory["ratio"].as_f64(), Some(ours / (64u64 << 20) as f64));
        assert!(rounds.iter().all(|line| line["load"].is_number()));
        let is_busy = line["busy"].as_bool().unwrap();
        assert_eq!(ran.stderr.contains("the machine was busy"), is_busy, "{}", ran.stderr);
    }
    assert_eq!(found.len(), 7);
}

#[test]
#[cfg(unix)]
fn rounds_end_with_a_peer_that_fails_or_says_nothing() {
    let shop = Workshop::new();
    shop.write("config.json", CONFIG);
    let with = |peer: &str| shop.run(&[&ROUND[..], &["--rounds", "1", "--peer", peer]].concat());
    with(r#"echo '{"tokens_per_s": 1}'; exit 3"#).failed_with(&["`echo", "exit 3", "status: 3"]);
    with("echo 12 tokens_per_s").failed_with(&["no JSON line with `tokens_per_s`"]);
    with(r#"echo '{"tokens_per_s": 0}'"#).failed_with(&["no JSON line with `tokens_per_s`"]);
    with("there-is-no-such-program").failed_with(&["`there-is-no-such-program` failed"]);
    // What fails in a round of our own is said by that round.
    let mut wrong = ROUND;
    wrong[5] = "9999";
    shop.run(&[&wrong[..], &["--rounds", "1"]].concat()).failed_with(&["64 positions", "`adapt` failed"]);
}

#[test]
fn costs_of_a_token_stand_beside_its_operations() {
    let shop = Workshop::new();
    shop.write("config.json", CONFIG);
    let found = lines(&shop.ok(&["bench", "scaling", "--model-config", "config.json", "--quick"]));
    let over = |what: &str| -> Vec<&Value> { found.iter().filter(|line| line["over"] == what).collect() };
    let (tokens, lengths) = (over("tokens"), over("sequence"));
    let sizes = |lines: &[&Value], field: &str| -> Vec<u64> {
        lines[..3].iter().map(|line| line[field].as_u64().unwrap()).collect()
    };
    assert_eq!((sizes(&tokens, "tokens"), sizes(&tokens, "seq")), (vec![64, 128, 256], vec![32; 3]));
    // The model knows 64 positions.
    assert_eq!((sizes(&lengths, "seq"), sizes(&lengths, "tokens")), (vec![32, 64, 128], vec![128; 3]));
    for lines in [tokens, lengths.clone()] {
        let number = |line: &Value, field: &str| line[field].as_f64().unwrap();
        for line in &lines[..3] {
            assert_measured(line, &["us_per_token", "predicted_s", "attention_share", "excess"]);
            let cost = number(line, "us_per_token") / number(lines[0], "us_per_token");
            assert!((number(line, "cost_ratio") / cost - 1.0).abs() < 1e-9, "{line}");
            assert!(
                (number(line, "excess") * number(line, "flops_ratio") / cost - 1.0).abs() < 1e-9,
                "{line}"
            );
        }
        assert_eq!(lines.len(), 4);
        assert!(number(lines[3], "most_over_least") >= 1.0, "{}", lines[3]);
    }
    // Longer rows add operations of attention and no others.
    let of = |line: &Value, field: &str| line[field].as_f64().unwrap();
    let attention = |line: &Value| of(line, "mflop_per_token") * of(line, "attention_share");
    let [short, long] = [lengths[0], lengths[2]];
    assert!((attention(long) / attention(short) - 4.0).abs() < 1e-9, "{short} {long}");
    let others = |line: &Value| of(line, "mflop_per_token") - attention(line);
    assert!((others(long) / others(short) - 1.0).abs() < 0.02, "{short} {long}");
}

#[test]
fn the_start_of_a_run_is_measured() {
    let shop = Workshop::new();
    shop.write("config.json", &CONFIG.replace("97", "300"));
    let few = ["--seq", "16", "--batch", "2", "--steps", "3", "--rounds", "2"];
    let begun = std::time::Instant::now();
    let found =
        lines(&shop.ok(&[&["bench", "start", "--model-config", "config.json"][..], &few[..]].concat()));
    let passed = begun.elapsed().as_secs_f64();
    assert_machine(&found[0]);
    let runs = &found[1..3];
    for line in runs {
        assert_measured(line, &["to_first_forward_s", "first_step_s", "later_step_s", "first_over_later"]);
    }
    let sum: f64 = runs.iter().map(|line| line["to_first_forward_s"].as_f64().unwrap()).sum();
    assert!(sum < passed, "{sum} of {passed} seconds");
    assert_eq!(found[3]["bench"], "start-summary");
    assert_measured(&found[3]["to_first_forward_s"], &["median", "min", "max"]);
    assert_no_scratch(&shop);
    // The config of the other tests has fewer ids than there are bytes.
    shop.write("config.json", CONFIG);
    shop.run(&["bench", "start", "--model-config", "config.json"]).failed_with(&["97 ids"]);
    assert_no_scratch(&shop);
}

fn assert_no_scratch(shop: &Workshop) {
    let left = std::fs::read_dir(shop.path("cache")).into_iter().flatten().flatten();
    let scratch: Vec<_> =
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".bench")).collect();
    assert!(scratch.is_empty(), "what is random is removed: {scratch:?}");
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
    assert_no_scratch(&shop);
    shop.run(&["bench", "decode", "--model-config", "config.json"]).failed_with(&["64 positions"]);
    shop.write("config.json", &CONFIG.replace("32", "33"));
    shop.run(&few).failed_with(&["config.json: `hidden_size`"]);
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
    let slowed_down = |text: &str| {
        let mut slow: Value = serde_json::from_str(text).unwrap();
        for rate in ["attention", "bytes"] {
            slow["rates"][rate] = serde_json::json!(1e6);
        }
        slow.to_string()
    };
    shop.write("cache/machine.json", &slowed_down(&first));
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
    // Another number of threads is another measurement, with a memory of its own.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 1;
    let told = threads.to_string();
    let of_others = |command: &str, more: &[&str]| {
        shop.ok(&[&[command, "tiny.kdl", "--threads", &told], more].concat()).stdout
    };
    let as_json = || without_times(&of_others("plan", &["--format", "json"]));
    let (planned, others) = as_json();
    assert!(others < slow, "{others} and {slow} seconds");
    let name = format!("cache/machine-{threads}-threads.json");
    shop.write(&name, &slowed_down(&shop.read(&name)));
    let (planned_again, slowed) = as_json();
    assert!(slowed > 2.0 * others && planned == planned_again, "{others} and {slowed} seconds");
    // What the threads of a run take is counted, and a run that is told so many plans with them.
    assert_ne!(planned, plan_before);
    assert_eq!(of_others("plan", &[]), of_others("run", &["--dry-run"]));
    let slowed = remembered();
    shop.ok(&["doctor", "--probe"]);
    assert_ne!(remembered(), slowed, "measured again");
}
