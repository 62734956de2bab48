//! The memory that is predicted is the memory that is used.

use crate::workshop::Workshop;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Returns the anonymous resident memory of a process, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Runs a command that must succeed; returns the most anonymous memory that it had.
fn most_resident(shop: &Workshop, args: &[&str]) -> u64 {
    let mut child = shop.start(args);
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        most = most.max(resident(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    most
}

fn sum(parts: &Value) -> u64 {
    parts.as_array().unwrap().iter().map(|part| part[1].as_u64().unwrap()).sum()
}

/// Returns the folder below that holds a file.
fn holding(folder: &Path, file: &str) -> Option<PathBuf> {
    if folder.join(file).is_file() {
        return Some(folder.to_owned());
    }
    let inside = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    inside.map(|entry| entry.path()).filter(|path| path.is_dir()).find_map(|path| holding(&path, file))
}

/// A stage with evaluations, samples and a checkpoint, of few tokens and many parameters, so that it is soon over.
fn shop() -> Workshop {
    let shop = Workshop::new();
    for (from, to) in [
        ("hidden_size 32", "hidden_size 640"),
        ("intermediate_size 64", "intermediate_size 1760"),
        ("num_hidden_layers 2", "num_hidden_layers 8"),
        ("batch 4", "batch 2"),
        ("steps 8", "steps 2"),
        ("checkpoint every=\"1 steps\" keep=2", "checkpoint every=\"1 steps\" keep=1"),
        ("sample every=\"4 steps\"", "evaluate every=\"1 steps\"\n    sample every=\"1 steps\""),
    ] {
        shop.edit(from, to);
    }
    shop
}

#[test]
fn predicted_memory_is_within_two_percent_of_what_a_stage_uses() {
    let shop = shop();
    for precision in ["f32", "bf16"] {
        let run = ["tiny.kdl", "--set", &format!("dutch.precision={precision}"), "--name", precision];
        let most = most_resident(&shop, &[&["run"], &run[..], &["--only", "dutch"]].concat());
        let metrics = shop.metrics(&format!("runs/tiny-{precision}"), "dutch");
        let of = |field: &str| metrics.iter().filter(|line| line.get(field).is_some()).count();
        assert!(of("sample") >= 3 && of("bits_per_byte") >= 3, "{metrics:?}");
        let plan: Value =
            serde_json::from_str(&shop.ok(&[&["plan"], &run[..], &["--format", "json"]].concat()).stdout)
                .unwrap();
        let task = plan["tasks"].as_array().unwrap().iter().find(|task| task["name"] == "dutch").unwrap();
        let predicted = sum(&task["figures"]["memory"]);
        assert!(predicted >= 500 << 20, "the stage is too small to measure: {predicted} bytes");
        let ratio = most as f64 / predicted as f64;
        let found = format!("{precision}: predicted {} MiB, used {} MiB", predicted >> 20, most >> 20);
        println!("{found}, {ratio:.4}");
        assert!((0.98..=1.02).contains(&ratio), "{found}");
    }
}

#[test]
fn a_plan_lists_what_adds_up_and_beside_it_what_is_mapped() {
    let shop = Workshop::new();
    shop.ok(&["run", "tiny.kdl", "--only", "dutch"]);
    let plan: Value =
        serde_json::from_str(&shop.ok(&["plan", "tiny.kdl", "--format", "json"]).stdout).unwrap();
    let task = plan["tasks"].as_array().unwrap().iter().find(|task| task["name"] == "dutch").unwrap();
    let figures = &task["figures"];
    let rows = holding(&shop.path("cache"), "train.tokens").expect("prepared rows are in the cache");
    let files =
        ["tokens", "mask", "index"].map(|kind| ["train", "eval"].map(|side| format!("{side}.{kind}")));
    let bytes = |name: &String| std::fs::metadata(rows.join(name)).map_or(0, |data| data.len());
    assert_eq!(sum(&figures["mapped"]), files.iter().flatten().map(bytes).sum::<u64>());

    let text = shop.ok(&["plan", "tiny.kdl"]).stdout;
    let of_stage = text.split("\n  dutch\n").nth(1).expect("the stage has figures");
    let line =
        of_stage.lines().find(|line| line.trim_start().starts_with("memory ")).expect("memory is known");
    let (parts, whole) =
        line.trim_start().trim_start_matches("memory").split_once("; together ").expect("a sum");
    let mebibytes = |size: &str| {
        let mut words = size.split_whitespace().rev();
        let (unit, number) = (words.next().unwrap(), words.next().unwrap().parse::<f64>().unwrap());
        number
            * match unit {
                "B" => 1.0 / 1048576.0,
                "KiB" => 1.0 / 1024.0,
                "MiB" => 1.0,
                other => panic!("{other} in {line}"),
            }
    };
    let added: f64 = parts.split(", ").map(mebibytes).sum();
    // Each is rounded to a tenth.
    assert!((added - mebibytes(whole)).abs() < 0.5, "{line}");
    assert!(text.lines().any(|row| row.trim_start().starts_with("dutch ") && row.contains(whole)), "{text}");
    for item in ["weights", "optimizer", "tokenizer", "rows", "plan", "threads", "process"] {
        assert!(parts.contains(&format!("{item} ")), "no {item} in {line}");
    }
}
